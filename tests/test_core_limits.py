"""The same network on one core, on a few, on more than a hundred: the mapping changes, no spike does."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim import api
from neurosim.network import Network

PIXELS = np.random.default_rng(3).integers(0, 256, (2, 8, 8), dtype=np.uint8)


@cache
def network() -> Network:
    """Convolutions, a residual of currents, a linear readout; 1,024 neurons on the chip."""
    rng = np.random.default_rng(2)
    net = Network("limits", steps=2)
    x = net.input("image", (1, 8, 8), scale=255.0)
    x = net.lif("encode", net.conv2d("conv0", x, rng.normal(0.3, 1, (4, 1, 3, 3)), padding=1))
    stream = net.conv2d("conv1", x, rng.normal(0.05, 0.5, (8, 4, 3, 3)), padding=1)
    x = net.lif("lif1", stream)
    stream = net.add("residual", stream, net.conv2d("conv2", x, rng.normal(0.05, 0.4, (8, 8, 1, 1))))
    x = net.lif("lif2", stream)
    net.output(net.linear("head", net.flatten("flat", x), rng.normal(0, 0.2, (5, 512))))
    return net


@cache
def on_one_core() -> dict[str, np.ndarray]:
    run = api.simulate(api.build(network(), "async-mesh", overrides=["memory.cores=1"]), PIXELS)
    assert set(run.program.slice_core.tolist()) == {0}
    return {name: run.spikes(name) for name in ("lif1", "lif2")} | {"scores": run.readout}


@given(neurons=st.integers(8, 1100), cores=st.sampled_from([1, 3, 16, 150]), flow=st.sampled_from(["link", "end_to_end"]))
@settings(max_examples=12)
def test_any_mapping_fires_the_same_spikes(neurons: int, cores: int, flow: str) -> None:
    if cores * neurons < 1100 * 2:  # boxes rarely fill their cores: keep to chips that certainly hold the network
        neurons = max(neurons, -(-2200 // cores))
    overrides = [f"memory.neurons={neurons}", f"memory.cores={cores}", "noc.width=15", "noc.height=10", f'noc.flow="{flow}"']
    run = api.simulate(api.build(network(), "async-mesh", overrides=overrides, audit=False), PIXELS)
    for name, expected in on_one_core().items():
        np.testing.assert_array_equal(run.readout if name == "scores" else run.spikes(name), expected)


def test_more_than_a_hundred_cores() -> None:
    run = api.simulate(
        api.build(network(), "async-mesh", overrides=["memory.neurons=10", "memory.cores=150", "noc.width=15", "noc.height=10"]), PIXELS
    )
    assert len(set(run.program.slice_core.tolist())) > 100
    for name, expected in on_one_core().items():
        np.testing.assert_array_equal(run.readout if name == "scores" else run.spikes(name), expected)
