"""Options that say how a file or a module is read reach the reader, and what was chosen is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

MODULE = """
import torch
from torch import nn
from neurosim import register_neuron
from tests.frontends.torch import models as tm

register_neuron(tm.FoldedLIF, tm.rule_folded)


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), tm.FoldedLIF(1), nn.Flatten(), nn.Linear(32, 3))
"""


def test_spikes_per_step_of_a_nir_file(neurosim: Callable[..., Result], folder: Path) -> None:
    nir = pytest.importorskip("nir")
    nodes = {
        "in": nir.Input({"input": np.array([2])}), "fc": nir.Linear(np.ones((3, 2))), "n": nir.IF(r=np.ones(3), v_threshold=np.ones(3)),
        "out": nir.Output({"output": np.array([3])}),
    }  # fmt: skip
    nir.write(str(folder / "many.nir"), nir.NIRGraph(nodes, [("in", "fc"), ("fc", "n"), ("n", "out")]))
    for more, told, runs in (((), "at most one spike per step", 0), (("--nir-max-spikes", "4"), "up to 4 spikes per step", 1)):
        result = neurosim("check", "many.nir", "--chip", "async-mesh", "--nir-reset", "subtract", *more)
        assert told in result.output
        assert result.exit_code == runs, result.output  # async-mesh sends one spike per neuron and step
    assert neurosim("check", "many.nir", "--nir-max-spikes", "256").exit_code == 2


@pytest.mark.torch
def test_events_images_and_pixels_of_a_module(neurosim: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from neurosim.frontends.torch import neurons as torch_neurons

    monkeypatch.setattr(torch_neurons, "_REGISTERED", {})
    (folder / "module_of_options.py").write_text(MODULE)
    for options, told in ((("--spikes",), "spikes_input"), (("--image",), "(pixel / 255), uint8"), (("--dtype", "int8"), "(pixel / 255), int8")):
        result = neurosim("check", "module_of_options.py:make", "--input-shape", "1,6,6", *options)
        assert result.exit_code == 0, result.output
        assert told in result.output
