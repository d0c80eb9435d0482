"""Speck's integers beside sinabs' own ``discretize``: the same factor, weights, thresholds and clamps, bit for bit."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from neurosim.chip import load_chip  # noqa: E402
from neurosim.compiler.quantize.toolchain import common_factor, whole  # noqa: E402
from neurosim.graph import NeuronRule  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def discretize() -> Any:
    """sinabs' module by its file: its package wants the chip's driver."""
    sinabs = pytest.importorskip("sinabs")
    path = Path(sinabs.__file__).parent / "backend" / "dynapcnn" / "discretize.py"
    spec = importlib.util.spec_from_file_location("sinabs_discretize", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("bias", [False, True])
def test_random_layers_come_out_alike(bias: bool) -> None:
    theirs, chip = discretize(), load_chip("speck2f-like")
    import sinabs.layers as sl

    rng = np.random.default_rng(4)
    for case in range(200):
        torch.manual_seed(case)
        conv = nn.Conv2d(3, 5, 3, bias=bias)
        with torch.no_grad():
            conv.weight *= float(rng.choice([0.001, 0.1, 1.0, 30.0]))
            conv.weight += float(rng.choice([0.0, 0.05, -0.05]))
        threshold, floor = float(rng.choice([0.5, 1.0, 3.0])), -float(rng.choice([0.25, 1.0, 40.0]))
        weights = conv.weight.detach().numpy().copy()
        offsets = conv.bias.detach().numpy().reshape(-1, 1, 1).copy() if bias else np.zeros((1, 1, 1))
        factor = common_factor(NeuronRule(np.full((1, 1, 1), threshold), offsets, floor=np.full((1, 1, 1), floor)), [weights], chip)
        assert factor is not None
        done, spiking = theirs.discretize_conv_spike(conv, sl.IAF(spike_threshold=torch.tensor(threshold), min_v_mem=torch.tensor(floor)))
        np.testing.assert_array_equal(whole(weights, factor), done.weight.detach().numpy())
        assert (whole(threshold, factor), whole(floor, factor)) == (int(spiking.spike_threshold), int(spiking.min_v_mem))
        if bias:
            np.testing.assert_array_equal(whole(offsets.ravel(), factor), done.bias.detach().numpy())
