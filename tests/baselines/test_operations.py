"""NeuroBench's counts of a run, against the definition applied to the network as trained, layer by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim import api
from neurosim.baselines.fan_out import fan_out
from neurosim.engine.synapses import decode
from neurosim.golden.network import linear_layer, run_network
from neurosim.host import event_options
from neurosim.network import Network
from neurosim.program import E_PROJECTION, Program
from tests.networks import drawn_networks, residual_net
from tests.op_networks import op_networks

CONNECTIONS = ("conv2d", "linear", "token_mix")


def metrics(net: Network, data: np.ndarray, chip: str = "ideal", sync: str | None = None, **options: Any) -> dict[str, Any]:
    run = api.simulate(api.build(net, chip, sync, audit=False), data, engine="reference", **options)
    found: dict[str, Any] = run.summary()["neurobench"]
    return found


def by_definition(net: Network, data: np.ndarray) -> tuple[float, float]:
    """(MACs, ACs) per sample as NeuroBench's harness finds them: non-zeros of inputs and weights set to 1, every layer's forward pass once more."""
    layers = [layer for layer in net.layers.values() if layer.op in CONNECTIONS]
    values = run_network(net, data, values={layer.inputs[0] for layer in layers}).values
    macs = acs = 0.0
    constant = net.constant_layers()
    for layer in layers:
        x = values[layer.inputs[0]][:, :1] if layer.name in constant else values[layer.inputs[0]]
        binary = replace(layer, params={**layer.params, "weight": (layer.params["weight"] != 0).astype(float)})
        met = float(linear_layer(binary, [(x != 0).astype(float).reshape(-1, *x.shape[2:])], bias=False).sum())
        if np.isin(x, (-1, 0, 1)).all():
            acs += met
        else:
            macs += met
    return macs / len(data), acs / len(data)


def four_to_three(spikes: list[int], chip: str = "loihi2-like") -> dict[str, Any]:
    net = Network("four to three")
    weight = np.array([[1.0, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    net.output(net.lif("lif", net.linear("fc", net.spikes_input("in", (4, 1, 1)), weight), decay=0.0, threshold=2.0))
    return metrics(net, np.array(spikes, np.uint8).reshape(1, 1, 4, 1, 1), chip, events=event_options(bin="count"))


def test_a_graded_spike_is_multiplied_and_a_binary_one_is_added() -> None:
    graded = four_to_three([15, 0, 0, 0])
    assert (graded["effective_macs"], graded["effective_acs"], graded["dense"]) == (3, 0, 12)
    binary = four_to_three([1, 1, 0, 0])  # both fire all three neurons or two: the readout's identity counts nothing
    assert (binary["effective_macs"], binary["effective_acs"]) == (0, 5)
    assert binary["connection_sparsity"] == 2 / 12
    assert binary["activation_sparsity"] == pytest.approx(1 / 3)  # two of the three reach 2
    # the chip sends no values: two packets of one, which are one value of the layer's input
    assert four_to_three([2, 0, 0, 0], "async-mesh")["effective_macs"] == 3


@pytest.mark.parametrize("steps", [1, 2])
def test_a_network_with_copied_and_folded_layers_counts_each_layer_once(steps: int) -> None:
    net = residual_net(3, steps)  # conv2 is copied into three readers and the head, whose mean is folded; the shortcut is the host's
    data = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 8), dtype=np.uint8)
    data[:, 0] = np.where(data[:, 0] < 100, 128, data[:, 0])  # normalises to zero
    found = metrics(net, data)
    assert (found["effective_macs"], found["effective_acs"]) == pytest.approx(by_definition(net, data))
    assert found["dense"] > found["effective_macs"] + found["effective_acs"]


def test_a_sum_of_spikes_is_multiplied_where_two_meet() -> None:
    rng = np.random.default_rng(1)
    net = Network("sum", steps=2)
    x = net.spikes_input("in", (3, 4, 4))
    a, b = (net.lif(n, net.conv2d(f"{n}.conv", x, rng.normal(size=(4, 3, 3, 3)), padding=1), decay=0.5, threshold=0.5) for n in "ab")
    y = net.lif("c", net.conv2d("c.conv", net.add("add", a, b), rng.normal(size=(4, 4, 1, 1))), threshold=0.5)
    net.output(net.linear("head", net.flatten("flat", y), np.ones((2, 64))))
    data = rng.integers(0, 2, (4, 2, 3, 4, 4), dtype=np.uint8)
    found = metrics(net, data)
    expected = by_definition(net, data)
    assert (found["effective_macs"], found["effective_acs"]) == expected
    assert min(expected) > 0


def test_free_running_has_no_steps_and_its_sparsity_stays_a_share() -> None:
    rng = np.random.default_rng(2)
    net = Network("free", integers="floor")
    x = net.spikes_input("in", (1, 4, 4))
    y = net.lif("lif", net.conv2d("conv", x, np.ones((2, 1, 3, 3)), padding=1), decay=1.0, threshold=1.0, reset="subtract")
    net.output(
        net.lif(
            "out", net.linear("fc", net.flatten("flat", y), rng.integers(-2, 3, (3, 32)).astype(float)), decay=1.0, threshold=1.0, reset="subtract"
        )
    )
    data = np.ones((2, 1, 1, 4, 4), np.uint8)
    program = api.build(net, "speck2f-like")
    run = api.simulate(program, data, engine="reference")
    found = run.summary()["neurobench"]
    fires = run.spikes("lif")
    assert fires.max() > 1
    active = [np.count_nonzero(run.spikes(name)) for name in ("lif", "out")]
    assert found["activation_sparsity"] == 1 - sum(active) / (2 * 35)
    weight = net.layers["fc"].params["weight"]
    first = 2 * 2 * (4 * 4 + 8 * 6 + 4 * 9)  # corners, edges, inner pixels of a 3x3 kernel, two channels, two samples
    assert found["effective_acs"] * 2 == first + (fires.sum(axis=(0, 1)).ravel() * (weight != 0).sum(axis=0)).sum()
    assert found["membrane_updates"] * 2 == run.result.core["synops"].sum()
    bare = api.simulate(program, data, engine="reference", spikes=False).summary()["neurobench"]
    assert (bare["effective_acs"], bare["activation_sparsity"]) == (None, None)


def brute_force(program: Program, projection: int) -> np.ndarray:
    """Non-zero synapses neuron by neuron, by the reference engine's decoder."""
    index = program.population_index(str(program.meta["projections"][projection]["source"]))
    total = np.zeros(program.meta["populations"][index]["shape"], np.int64)
    for s in np.flatnonzero(program.source_population == index).tolist():
        c0, c1, y0, y1, x0, x1 = program.source_box[s].tolist()
        for address in range((c1 - c0) * (y1 - y0) * (x1 - x0)):
            pixel, c = divmod(address, c1 - c0)
            y, x = divmod(pixel, x1 - x0)
            for route in range(program.route_ptr[s], program.route_ptr[s + 1]):
                entries = range(program.entry_ptr[route], program.entry_ptr[route + 1])
                for e, synapses in zip(entries, decode(program, route, s, address, skip_zero=True), strict=True):
                    if program.entry[e, E_PROJECTION] == projection:
                        total[c + c0, y + y0, x + x0] += len(synapses.targets)
    return total


@settings(max_examples=6)
@given(st.one_of(drawn_networks(), op_networks()))
def test_fan_out_is_what_the_engines_decoder_finds(drawn: tuple[Network, np.ndarray]) -> None:
    program = api.build(drawn[0], "ideal", "wavefront", ["memory.neurons=48", "memory.cores=1024", "noc.width=32", "noc.height=32"], audit=False)
    shared = {str(p["source"]) for p in program.meta["projections"]}
    assert shared
    for k, projection in enumerate(program.meta["projections"]):
        kind = next(p["kind"] for p in program.meta["populations"] if p["name"] == projection["source"])
        if kind != "analog":
            np.testing.assert_array_equal(fan_out(program, k), brute_force(program, k))


@settings(max_examples=8)
@given(op_networks())
def test_counts_stay_within_the_dense_ones(drawn: tuple[Network, np.ndarray]) -> None:
    net, data = drawn
    found = metrics(net, data)
    assert 0 <= found["effective_macs"] + found["effective_acs"] <= found["dense"]
    assert 0 <= found["activation_sparsity"] <= 1
