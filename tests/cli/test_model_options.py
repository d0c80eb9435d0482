"""Options that say how a file or a module is read reach the reader, and what was chosen is printed."""

from __future__ import annotations

import json
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


TALKATIVE = """
import torch
from torch import nn
from tests.frontends.torch.published import LIFSpike


class Net(nn.Module):
    def __init__(self, mixing):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif, self.head, self.mixing = nn.Linear(6, 8), LIFSpike(T=2), nn.Linear(8, 3), mixing
        nn.init.uniform_(self.fc.weight, -1.0, 2.0)

    def forward(self, x):
        print("mean of the input:", x.mean(), f"{x.mean().item():.3f}", "%.2f" % float(x.max()))
        y = self.fc(x)
        y = self.lif(y.repeat_interleave(2, 0) if self.mixing else y.repeat(2, 1))
        return self.head(y.unflatten(0, (-1, 2)).mean(1) if self.mixing else y.unflatten(0, (2, -1)).mean(0))


def plain():
    print("built")
    return Net(False)


def mixing():
    return Net(True)
"""


@pytest.mark.torch
def test_modules_that_print_and_that_mix_their_batch(neurosim: Callable[..., Result], folder: Path) -> None:
    pytest.importorskip("torch")
    (folder / "talkative_module.py").write_text(TALKATIVE)
    result = neurosim("check", "talkative_module.py:plain", "--input-shape", "6", "--json")
    assert json.loads(result.stdout)["ok"], result.output
    assert "mean of the input" in result.stderr
    assert "built" in result.stderr
    refused = neurosim("check", "talkative_module.py:mixing", "--input-shape", "6")
    assert refused.exit_code == 2
    assert "or --batch-mixing ignore" in refused.stderr
    assert neurosim("check", "talkative_module.py:mixing", "--input-shape", "6", "--batch-mixing", "ignore").exit_code == 0
    assert "a module needs --input-shape," in neurosim("check", "talkative_module.py:plain").stderr


def test_options_of_load_are_told_as_flags() -> None:
    from neurosim.cli.options import _with_flags

    for text, told in (
        ("before every neuron, or batch_mixing='ignore'", "before every neuron, or --batch-mixing ignore"),
        ("choose another with output=", "choose another with --output-index"),
        ("load the trained weights (weights=), or train it", "load the trained weights (--weights), or train it"),
        ("check input_shape and input_axes (bchw)", "check --input-shape and --input-axes (bchw)"),
        ("give max_spikes=4", "give --nir-max-spikes 4"),
        ("move the bias, lif(bias=...), call make(mean=3) with spike_fn=MaxSpike(255)", None),
    ):
        assert _with_flags(text) == (text if told is None else told)
