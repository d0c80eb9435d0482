from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from numpy.typing import NDArray

from neurosim.chip import load_chip
from neurosim.compiler.lower.network import lower
from neurosim.compiler.matrices import matrix_of
from neurosim.compiler.quantize import adapt
from neurosim.compiler.quantize.ranges import membrane_bound, over_channels, span
from neurosim.compiler.quantize.scales import quantize
from neurosim.compiler.quantize.sums import reach
from neurosim.golden import run_graph
from neurosim.graph import Dense, Graph, Sparse
from neurosim.network import Network
from tests.networks import drawn_networks, dyadic, residual_net


@settings(max_examples=int(os.environ.get("NEUROSIM_EXAMPLES", "40")))
@given(drawn_networks())
def test_ideal_chip_is_the_twin_of_the_float_model(case: tuple[Network, NDArray[Any]]) -> None:
    """Dyadic weights are exact in fixed point; a decay may round by one unit of 2**-28, which the drawn thresholds cannot see except at ties."""
    net, data = case
    graph, chip = lower(net), load_chip("ideal")
    integer, _ = quantize(graph, chip)
    real, found = run_graph(graph, data), run_graph(integer, data, chip)
    exact = all(p.rule is None or p.rule.decay == 4096 for p in graph.populations) or net.steps == 1
    for name, spikes in real.spikes.items():
        if exact:
            np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)
    if exact:
        scale = integer.populations[-1].scale
        assert scale is not None
        np.testing.assert_allclose(found.scores * scale, real.scores, rtol=0, atol=1e-6)
    assert not sum(found.saturations.values())


@settings(max_examples=20)
@given(drawn_networks())
def test_words_of_the_chip_hold_every_number(case: tuple[Network, NDArray[Any]]) -> None:
    net, data = case
    for name in ("async-mesh", "tiny"):
        chip = load_chip(name)
        integer, precision = quantize(lower(net), chip)
        a = chip.arithmetic
        for p in integer.projections:
            source = integer.population(p.source)
            if source.kind == "analog":
                continue
            assert np.abs(p.map.weight).max(initial=0) <= 2 ** (a.weight_bits - 1) - 1
            assert 0 <= p.shift <= a.max_shift
        for population in integer.populations:
            if population.rule is None or population.host:
                continue
            rule = population.rule
            for value in (rule.threshold, rule.bias, rule.floor, rule.reset_by, rule.v_init):
                assert value is None or np.abs(value).max() < 2 ** (a.state_bits - 1)
            up, down = np.zeros(population.shape), np.zeros(population.shape)
            for p in integer.into(population.name):
                most, least = span(p, integer.population(p.source), (0, 255))
                channels = slice(p.channel_offset, p.channel_offset + len(most))
                factor = 2.0 ** (p.shift - p.fraction_bits)
                up[channels] += most * factor
                down[channels] += least * factor
            assert max(up.max(), -down.min()) < 2 ** (a.acc_bits - 1)
        assert len(precision) == len(integer.projections)
        assert run_graph(integer, data, chip).scores.dtype == np.int64


def test_eight_bits_keep_the_signal() -> None:
    net = residual_net(steps=2)
    chip = load_chip("async-mesh")
    graph = lower(net)
    integer, precision = quantize(graph, chip)
    hidden = [p.snr_db for p in precision if p.target != "head"]
    assert min(hidden) > 30
    assert all(p.snr_db > 150 or math.isinf(p.snr_db) for p in precision if p.source == "image")
    data = np.random.default_rng(0).integers(0, 256, (40, 2, 8, 8), dtype=np.uint8)
    real, found = run_graph(graph, data), run_graph(integer, data, chip)
    changed = np.mean([np.mean(real.spikes[k] != found.spikes[k]) for k in real.spikes])
    assert changed < 0.02
    rough, _ = quantize(graph, load_chip("async-mesh", ["arithmetic.weight_bits=3"]))
    assert np.mean([np.mean(real.spikes[k] != run_graph(rough, data, chip).spikes[k]) for k in real.spikes]) > changed


def test_scales_are_shared_where_weights_are() -> None:
    graph = lower(residual_net())
    per_channel, _ = quantize(graph, load_chip("async-mesh"))
    scale = per_channel.population("mix.lif3").scale
    assert scale is not None
    assert len(set(scale[:4])) == 1
    assert len(set(scale[4:])) == 1
    readout = per_channel.population("head").scale
    assert readout is not None
    assert len(set(readout)) == 1
    other = per_channel.population("mix.lif2").scale
    assert other is not None
    assert len(set(other)) > 1
    shared, _ = quantize(graph, load_chip("async-mesh", ["capabilities.neuron.per_channel_threshold=false"]))
    for population in shared.populations:
        assert population.scale is None or len(set(population.scale)) == 1
    decoded = per_channel.population("mix.lif2")
    assert decoded.rule is not None
    np.testing.assert_allclose(np.asarray(decoded.rule.threshold).ravel() * other, 1.0, rtol=0.05)


def test_bounds_hold_for_the_worst_input() -> None:
    """The proven bound is reached by the input that sets exactly the positive weights."""
    net = Network("bound", steps=3)
    weight = np.array([[1.0, 0.5, -0.25, 0.75, -0.5, 2.0], [-1.0, -0.5, 0.25, -0.75, 0.5, -2.0]])
    x = net.spikes_input("in", (6, 1, 1))
    net.output(net.linear("head", x, weight, [0.5, -0.5]))
    graph = lower(net)
    data = np.zeros((1, 3, 6, 1, 1), np.uint8)
    data[0, :, weight[0] > 0] = 1
    scores = run_graph(graph, data).scores
    bound = membrane_bound(graph.population("head"), reach(graph, graph.population("head"), (0, 255)), 3)
    np.testing.assert_allclose([scores[0, 0], -scores[0, 1]], bound.ravel())
    # what a sample begins with adds to it: a membrane that keeps all of it, one that fires in its first step, one held by a floor
    begins = graph.with_(
        populations=tuple(replace(p, rule=p.rule and replace(p.rule, v_init=np.array([[[7.0]], [[-7.0]]]))) for p in graph.populations)
    )
    scores = run_graph(begins, data).scores
    np.testing.assert_allclose([scores[0, 0], -scores[0, 1]], _bound(begins, "head", 3))
    for more, first, most in (({}, 9.0, 9.0 + 0.5), ({"floor": -1.0}, -9.0, 9.0 + 0.25), ({"reset": "subtract"}, 3.0, 3.0 + 2 * 0.5)):
        net = Network("start", steps=2)
        x = net.linear("w", net.spikes_input("in", (2, 1, 1)), np.array([[0.5, -0.25]]))
        net.output(net.lif("lif", x, decay=1.0, v_init=first, **more))
        np.testing.assert_allclose(_bound(lower(net), "lif", 2), [most])


def _bound(graph: Graph, name: str, steps: int) -> NDArray[np.float64]:
    population = graph.population(name)
    return membrane_bound(population, reach(graph, population, (0, 255)), steps).ravel()


def test_a_start_too_large_for_the_words_coarsens_them() -> None:
    """Quantised like a threshold: in units of the scale, which grows until the start fits the state."""
    net = Network("start", steps=2)
    x = net.linear("w", net.spikes_input("in", (2, 1, 1)), np.array([[0.37, -0.25]]))
    net.output(net.lif("lif", x, decay=0.75, v_init=1000.0))
    integer, _ = quantize(lower(net), load_chip("async-mesh", ["arithmetic.state_bits=12"]))
    population = integer.population("lif")
    assert population.rule is not None
    assert population.scale is not None
    start = int(np.max(population.rule.v_init))  # type: ignore[arg-type]
    assert 1024 < start <= 2047
    np.testing.assert_allclose(start * population.scale, 1000.0, rtol=1e-3)


def test_narrow_words_are_reported() -> None:
    rng = np.random.default_rng(0)
    net = Network("narrow", steps=4)
    x = net.spikes_input("in", (64, 4, 4))
    y = net.lif("lif", net.conv2d("conv", x, dyadic(rng, 8, 64, 3, 3), padding=1), decay=1.0)
    net.output(net.mean("head", y))
    graph = lower(net)
    chip = load_chip("async-mesh", ["arithmetic.state_bits=10", "arithmetic.acc_bits=12"])
    integer, _ = quantize(graph, chip)
    assert any("may saturate" in w for w in integer.warnings)
    assert any("banks" in w for w in integer.warnings)
    data = rng.integers(0, 2, (4, 4, 64, 4, 4), dtype=np.uint8)
    assert sum(run_graph(integer, data, chip).saturations.values()) > 0


def test_sparse_maps_become_dense_where_the_chip_has_no_sparse() -> None:
    net = Network("sparse")
    x = net.spikes_input("in", (2, 4, 4))
    net.output(net.mean("head", net.lif("lif", net.reshape("turn", x, (8, 2, 2)))))
    graph = lower(net)
    assert isinstance(graph.into("lif")[0].map, Sparse)
    dense, _ = quantize(graph, load_chip("async-mesh"))
    sparse, _ = quantize(graph, load_chip("ideal"))
    assert isinstance(dense.into("lif")[0].map, Dense)
    assert isinstance(sparse.into("lif")[0].map, Sparse)
    data = np.random.default_rng(0).integers(0, 2, (3, 1, 2, 4, 4), dtype=np.uint8)
    np.testing.assert_array_equal(
        run_graph(dense, data, load_chip("async-mesh")).spikes["lif"], run_graph(sparse, data, load_chip("ideal")).spikes["lif"]
    )
    per_channel = over_channels(graph.into("lif")[0].map, np.ones(32), 8, np.add)
    np.testing.assert_array_equal(per_channel, np.full(8, 4.0))


def test_windows_that_a_chip_lacks_become_sparse_where_it_has_sparse() -> None:
    """The wrapped part of a convolution along the tokens looks a whole row of the map aside."""
    net = Network("wide")
    x = net.spikes_input("in", (2, 4, 9))
    weight = np.random.default_rng(0).normal(size=(3, 2, 2, 2))
    net.output(net.mean("head", net.lif("lif", net.conv2d("wrap", x, weight, padding=(1, 8), dilation=(2, 16)))))
    graph = lower(net)
    wide, (sparse,) = graph.into("lif")[0].map, adapt(graph, load_chip("async-mesh-plus")).into("lif")
    assert isinstance(sparse.map, Sparse)
    assert np.all(sparse.map.weight != 0)
    np.testing.assert_array_equal(matrix_of(sparse.map, (2, 4, 9)), matrix_of(wide, (2, 4, 9)))
    assert adapt(graph, load_chip("async-mesh")).into("lif")[0].map is wide
    assert adapt(graph, load_chip("ideal")).into("lif")[0].map is wide
