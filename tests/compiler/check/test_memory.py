"""``check`` foresees what does not fit the cores, with the override that would hold it."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.check import check
from neurosim.compiler.pipeline import compile_network
from neurosim.errors import DoesNotFit
from neurosim.network import Network


def wide(layers: int) -> Network:
    net = Network("wide")
    x = net.spikes_input("in", (64, 1, 1))
    for k in range(layers):
        x = net.lif(f"lif{k}", net.linear(f"fc{k}", x, np.random.default_rng(k).normal(0, 1, (64, 64))))
    net.output(net.linear("head", x, np.ones((3, 64))))
    return net


@pytest.mark.parametrize(("overrides", "layers", "row"), [
    (["memory.bytes.value=60"], 1, ("lif0", "memory", 60)),
    (["memory.axons=50"], 1, ("lif0", "memory", 50)),
    (["memory.bytes.value=3000"], 4, ("wide", "memory", 4)),
])  # fmt: skip
def test_what_does_not_fit_is_a_row_and_its_remedy_holds_it(overrides: list[str], layers: int, row: tuple[str, str, int]) -> None:
    net, chip = wide(layers), load_chip("tiny", overrides)
    with pytest.raises(DoesNotFit):
        compile_network(net, chip, "wavefront")
    (found,) = [r for r in check(net, chip) if r.status == "refused"]
    assert (found.layer, found.op, found.limit) == row
    flags = [word for word in shlex.split(found.remedy) if word != "--set"]
    larger = load_chip("tiny", [*overrides, *(flag.replace("memory.bytes=", "memory.bytes.value=") for flag in flags)])
    assert all(r.status != "refused" or r.value > found.value for r in check(net, larger))
