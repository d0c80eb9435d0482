"""The start membrane of a rule (docs/machine.md, sections 4, 5 and 8): worked out by hand, in both engines and the clock-driven models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurosim import api
from neurosim.chip import load_chip
from neurosim.engine.events import Engine, Options
from neurosim.engine.fast.tables.maps import is_narrow
from neurosim.golden import run_network
from neurosim.golden.graph import run_graph
from neurosim.graph import Graph, NeuronRule
from neurosim.host.section import run_host
from neurosim.network import Network
from tests.engine.networks import ENGINES, chain, dense, population, rule, services, spikes

STATE = Options(record=True, state=True, spikes=True)


def starting(at: Any, **more: Any) -> NeuronRule:
    return rule(v_init=np.asarray(at).reshape(-1, 1, 1), **more)


@pytest.mark.parametrize("bits", [24, 40])  # narrow and wide membranes
@pytest.mark.parametrize("run", ENGINES)
@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_every_sample_of_stepped_disciplines_begins_there(sync: str, run: Engine, bits: int) -> None:
    # threshold 5, half of the membrane kept: 12 -> 6 fires -> 0, stays there; 8 -> 4 -> 2 -> 1; -8 -> -4 -> -2 -> -1; readout: 7, then + 1 per spike
    first = starting([12, 8, -8], decay=2048)
    program = chain([1, 3, 1], [0, 1], [0, 1], sync, steps=3, rules={0: first, 1: starting([7])}, arithmetic__state_bits=bits)
    assert is_narrow(program) == (bits == 24)
    for streamed in (False, True):
        result = run(program, [spikes(program, [])] * 2, replace(STATE, streamed=streamed))
        fired = result.spikes[["sample", "step", "slice", "address"]].tolist()
        assert fired == [(0, 0, 0, 0), (1, 0, 0, 0)]
        assert result.scores.tolist() == [[8], [8]]
        assert result.state_v[-1].tolist() == [0, 1, -1, 8]


@pytest.mark.parametrize("run", ENGINES)
def test_who_begins_elsewhere_than_at_0_is_active_in_step_0(run: Engine) -> None:
    # [0, 3, -2] without leak: two of three neurons are updated in each of two steps, in the first already
    program = chain([1, 3, 1], [0, 1], [0, 1], steps=2, rules={0: starting([0, 3, -2])}, arithmetic__visit='"active"')
    result = run(program, [spikes(program, [])], STATE)
    assert result.core["updates"].tolist() == [4, 0]
    assert [end - start for start, end in services(program, result, "core 0 soma")] == [2 * (2 + 5)] * 2


@pytest.mark.parametrize("run", ENGINES)
def test_free_begins_at_time_0_and_leaks_from_there(run: Engine) -> None:
    # the input's spike (weight 0) is served from 11 on, before the first leak period of 50 ps: 5 fires; one due at 60 comes after it: 5 -> 2
    begins = starting([5], decay=2048)
    program = chain([1, 1, 1], [0, 1], [0, 1], "free", rules={0: begins})
    early, late = spikes(program, [(0, 0)]), spikes(program, [(0, 0)])
    late.due_ps[0] = 60
    result = run(program, [early], STATE)
    assert services(program, result, "core 0") == [(11, 31)]  # no start item before it; the fire at 10 + 3 + 7
    assert (result.state_v[0, 0], result.scores.tolist()) == (0, [[1]])
    result = run(program, [late], STATE)
    assert services(program, result, "core 0") == [(71, 84)]
    assert (result.state_v[0, 0], result.scores.tolist()) == (2, [[0]])


@pytest.mark.parametrize("run", ENGINES)
def test_free_tests_a_start_at_the_threshold_with_the_start_item_or_the_next_synapse(run: Engine) -> None:
    for first, core0, fires in (
        (starting([9]), [], 0),  # nothing comes: nothing tests it
        (starting([9], bias=-1, reset="subtract"), [(0, 12)], 1),  # start item of 5: 9 - 1 = 8, fires at 12, 3 are left
        (starting([5], bias=-1), [(0, 5)], 0),
    ):
        program = chain([1, 1, 1], [1, 1], [0, 1], "free", rules={0: first})
        result = run(program, [spikes(program, [])], STATE)
        assert services(program, result, "core 0") == core0
        assert result.sample["spikes"].tolist() == [fires]
    assert result.state_v[0].tolist() == [4, 0]


@pytest.mark.parametrize("run", ENGINES)
def test_free_decides_when_the_argmax_leaves_that_of_the_start(run: Engine) -> None:
    # the second class begins ahead; one spike lifts both and changes nothing, so it was decided at 0; with the floor at 0 a spike of -9 evens them
    program = chain([1, 1, 2], [5, 1], [0, 1], "free", rules={1: starting([1, 4])})
    result = run(program, [spikes(program, [(0, 0)])], STATE)
    assert (result.scores.tolist(), result.decision_ps.tolist()) == ([[2, 5]], [0])
    program = chain([1, 1, 2], [5, -9], [0, 1], "free", rules={1: starting([1, 4], floor=np.zeros((1, 1, 1), np.int64))})
    result = run(program, [spikes(program, [(0, 0)])], STATE)
    assert (result.scores.tolist(), result.decision_ps.tolist()) == ([[0, 0]], [services(program, result, "core 1")[0][1]])


@pytest.mark.parametrize("run", ENGINES)
def test_windows_of_a_streamed_free_run_begin_where_the_last_ended(run: Engine) -> None:
    program = chain([1, 1, 1], [0, 1], [0, 1], "free", rules={0: starting([7])})
    result = run(program, [spikes(program, [(0, 0)])] * 2, replace(STATE, streamed=True, window_ps=500))
    assert result.scores.tolist() == [[1], [1]]  # one fire in all, of the first window


def network(v_init: Any, **more: Any) -> Network:
    """Events -> two channels of two pixels with half their membrane kept, no input weight -> counted."""
    net = Network("start", 4)
    x = net.conv2d("zero", net.spikes_input("in", (1, 1, 2)), np.zeros((2, 1, 1, 1)))
    net.output(net.flatten("flat", net.lif("lif", x, decay=0.5, v_init=v_init, **more)))
    return net


@pytest.mark.parametrize(
    ("v_init", "wanted"),
    [
        (4.0, [[2, 2], [2, 2]]),  # 2, fires and subtracts: 1 -> 0.5; threshold 1
        ([4.0, 1.9], [[2, 2], [0, 0]]),
        (np.array([[[4.0, 0.0]], [[1.9, 2.0]]]), [[2, 0], [0, 1]]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chip", ["ideal", "async-mesh"])
def test_a_number_or_one_per_channel_or_per_neuron(v_init: Any, wanted: list[list[int]], chip: str) -> None:
    net = network(v_init, reset="subtract", reset_by=0.0)  # 4 -> 2, 1 | 1.9 -> 0.95 | 2 -> 1
    events = np.zeros((2, 4, 1, 1, 2), np.uint8)
    program = api.build(net, chip)
    run = api.simulate(program, events)
    for found in (run_network(net, events).spikes["lif"], run.spikes("lif")):
        assert found.sum(axis=1).reshape(2, 2, 2).tolist() == [wanted, wanted]


def test_an_integrator_and_a_network_with_shifted_potentials() -> None:
    """Rest -60, reset -70, start -50 beside threshold -40: 20 above the reset on the chip; li starts 5 above its rest."""
    net = Network("shift", 3)
    x = net.linear("in8", net.flatten("flat", net.spikes_input("in", (1, 1, 1))), np.array([[8.0]]))
    lif = net.lif("lif", x, decay=0.5, threshold=-40.0, v_rest=-60.0, v_reset=-70.0, v_init=-50.0)
    net.output(net.li("out", net.linear("w", lif, np.array([[1.0]])), decay=0.5, v_rest=-3.0, v_init=2.0))
    events = np.array([[1, 1, 1]], np.uint8).reshape(1, 3, 1, 1, 1)
    # -60 + 5 + 8 = -47, + 6.5 + 8 -> -45.5, 7.25 + 8 -> -44.75; without the start -57, -50.5, ...
    golden = run_network(net, events)
    assert golden.scores.tolist() == [[5 / 8]]
    made = api.compile_model(net, "ideal")
    scale = made.integer.population("out").scale
    assert scale is not None
    np.testing.assert_allclose(api.simulate(made.program, events).readout * scale, golden.scores, atol=1e-3)


def test_the_host_begins_there_too() -> None:
    net = Network("host", 3)
    x = net.conv2d("w", net.input("image", (1, 2, 2)), np.full((2, 1, 1, 1), 1 / 1024))
    lif = net.lif("enc", x, decay=0.5, v_init=[3.0, 1.0])
    net.output(net.linear("fc", net.flatten("flat", lif), np.ones((2, 8))))
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 2, 2), dtype=np.uint8)
    golden = run_network(net, images).spikes["enc"]
    assert golden.sum(axis=(0, 1, 3, 4)).tolist() == [12, 0]
    np.testing.assert_array_equal(run_host(api.build(net, "async-mesh"), images)[1]["enc"], golden)


def test_the_clock_driven_model_begins_every_sample_there() -> None:
    populations = (
        population("in", 1, "input"),
        population("p0", 3, neurons=starting([12, 8, -8], decay=2048)),
        population("out", 1, "readout", starting([7])),
    )
    graph = Graph("chain", 3, populations, (dense("in", "p0", 0, (1, 3)), dense("p0", "out", 1, (3, 1))))
    found = run_graph(graph, np.zeros((2, 3, 1, 1, 1), np.uint8), load_chip("tiny"), membranes=True, batch=1)
    assert found.scores.tolist() == [[8], [8]]
    assert found.membranes["p0"][:, :, 0, 0].tolist() == [[0, 1, -1]] * 2
    real = run_graph(graph, np.zeros((1, 3, 1, 1, 1), np.uint8), membranes=True)
    assert real.membranes["p0"][0, :, 0, 0].tolist() == [0, 1, -1]
