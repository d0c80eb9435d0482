"""Windows of the free discipline, against timings worked out by hand (figures: ``networks.TIMES``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurosim.engine.events import ROW_SERVICE, Engine, Options
from neurosim.engine.reference import run_reference
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import Deadlock, RunError
from neurosim.graph import Dense, Graph, Projection
from neurosim.program import Program
from tests.engine.networks import ENGINES, chain, dense, mapped, population, puts, services, spikes

RECORD = Options(record=True, state=True, max_time_ps=10**6)


def loop() -> Program:
    """in -> a, a -> a: one spike goes round for ever, in 39 ps."""
    graph = Graph("loop", 1, (population("in", 1, "input"), population("a")), (dense("in", "a", 5), dense("a", "a", 5)))
    return mapped(graph, [0], "free", mesh=(1, 1))


@pytest.mark.parametrize("run", ENGINES)
def test_no_service_begins_after_the_window(run: Engine) -> None:
    program = loop()
    # core 11..31, fire at 31; axon-out 33, sender 33..39; router 40..48; core 50..70, 89..109, its item in axon-out at 111
    result = run(program, [spikes(program, [(0, 0)])], replace(RECORD, window_ps=110))
    assert services(program, result, "core 0") == [(11, 31), (50, 70), (89, 109)]
    assert services(program, result, "core 0 sender") == [(33, 39), (72, 78)]
    assert (result.sample["cut"].tolist(), result.completion_ps.tolist(), result.sample["spikes"].tolist()) == ([1], [109], [3])
    # one later the sender begins, at the end of the window, and still puts after it
    result = run(program, [spikes(program, [(0, 0)])], replace(RECORD, window_ps=111))
    assert services(program, result, "core 0 sender") == [(33, 39), (72, 78), (111, 117)]
    twice = run(program, [spikes(program, [(0, 0)])] * 2, replace(RECORD, window_ps=111))
    assert (twice.sample["cut"].tolist(), twice.completion_ps.tolist(), twice.window_ps) == ([1, 1], [117, 117], 234)


@pytest.mark.parametrize("run", ENGINES)
def test_a_sample_that_ends_by_itself_is_not_cut(run: Engine) -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1], "free")
    stimuli = [spikes(program, [(0, 0)])]
    whole = run(program, stimuli, RECORD)
    same = run(program, stimuli, replace(RECORD, window_ps=71))  # core 1 is served from 71 on
    assert services(program, same, "core 1") == [(71, 84)]
    assert np.array_equal(same.trace, whole.trace)
    assert (same.sample["cut"].tolist(), same.completion_ps.tolist()) == ([0], [84])
    cut = run(program, stimuli, replace(RECORD, window_ps=70))
    assert (cut.sample["cut"].tolist(), cut.completion_ps.tolist(), cut.scores.tolist()) == ([1], [69], [[0]])
    # a port with something left
    late = spikes(program, [(0, 0)])
    late.due_ps[0] = 20
    left = run(program, [late], replace(RECORD, window_ps=19))
    assert (left.sample["cut"].tolist(), left.completion_ps.tolist(), left.sample["injected_spikes"].tolist()) == ([1], [0], [0])
    assert len(left.trace) == 0


@pytest.mark.parametrize("run", ENGINES)
def test_a_deadlock_within_a_window_is_a_cut_with_open_services(run: Engine) -> None:
    network: dict[str, Any] = {"sizes": [8, 8, 8, 8, 1], "weights": [5] * 4, "cores": [2, 1, 3, 0], "sync": "free", "mesh": (4, 1)}
    program = chain(**network, noc__ports=[2])
    stimulus = spikes(program, [(0, k) for k in range(8)])
    with pytest.raises(Deadlock) as caught:
        run(program, [stimulus], RECORD)
    result = run(program, [stimulus], replace(RECORD, window_ps=10**6))
    assert result.sample["cut"].tolist() == [1]
    opened = result.trace[result.trace["end"] == -1]
    assert len(opened) >= 10
    assert caught.value.time_ps == result.trace["time"].max()
    # of a service left open what its start and its puts count is counted, not what its end counts
    ended = result.trace[(result.trace["kind"] == ROW_SERVICE) & (result.trace["end"] >= 0)]
    assert result.server["services"].sum() == len(ended)
    hops = program.server_kind[ended["server"]] == 4
    assert result.sample["hops"].tolist() == [int(hops.sum())]
    packets = result.trace[(result.trace["kind"] == ROW_SERVICE) & (program.server_kind[result.trace["server"]] == 1)]
    assert result.core["spike_packets"].sum() == len(packets)
    assert result.sample["synops"].tolist() == [int(packets["synops"].sum())]


def counting() -> Program:
    """in -> a with weight 3 and threshold 5, so that every second spike fires; a -> class 1 of a readout on the other core."""
    to_one = Projection("a", "out", Dense(np.array([[0], [1]]), (2, 1, 1)))
    graph = Graph("counting", 1, (population("in", 1, "input"), population("a"), population("out", 2, "readout")), (dense("in", "a", 3), to_one))
    return mapped(graph, [0, 1], "free")


@pytest.mark.parametrize("run", ENGINES)
def test_streamed_windows_keep_the_state(run: Engine) -> None:
    program = counting()
    one, none = spikes(program, [(0, 0)]), spikes(program, [])
    result = run(program, [one, one, none, one], replace(RECORD, streamed=True, window_ps=100))
    # every sample's spike is due at n * 100: port, router 1..9, core 0 at 11. Sample 0: v = 3. Sample 1: v = 6 fires: 111 + 20 = 131,
    # sender 133..139, east 140..160, local 161..169, core 1 for two synapses 171..187. Sample 3: v = 3 again
    assert services(program, result, "port 0") == [(0, 0), (100, 100), (300, 300)]
    assert services(program, result, "core 0") == [(11, 24), (111, 131), (311, 324)]
    assert services(program, result, "core 1") == [(171, 187)]
    # a service at 100 belongs to the window that ends there, and so its end; injected_spikes to the stimulus
    assert result.start_ps.tolist() == [0, 100, 200, 300]
    assert result.completion_ps.tolist() == [100, 187, 300, 324]
    assert result.sample["injected_spikes"].tolist() == [1, 1, 0, 1]
    assert result.sample["hops"].tolist() == [1, 3, 0, 1]
    assert result.sample["synops"].tolist() == [1, 3, 0, 1]
    assert (result.sample["spikes"].tolist(), result.sample["packets"].tolist()) == ([0, 1, 0, 0], [0, 1, 0, 0])
    assert result.spikes.tolist() == [(1, 0, 0, 0, 131, 1)]
    # the argmax moves to class 1 with the service at 171, which also has the first synapses into the readout, and stays there
    assert result.scores.tolist() == [[0, 0], [0, 1], [0, 1], [0, 1]]
    assert result.decision_ps.tolist() == [0, 187, 200, 300]
    assert result.first_spike_ps.tolist() == [-1, 171, -1, -1]
    assert result.sample["cut"].tolist() == [0, 0, 0, 0]
    assert (result.window_ps, set(result.trace["sample"].tolist()), set(result.trace["step"].tolist())) == (324, {0}, {0})
    assert result.state_v.tolist() == [[3, 0, 1]]


@pytest.mark.parametrize("run", ENGINES)
def test_what_is_left_of_a_window_goes_on_in_the_next(run: Engine) -> None:
    program = loop()
    result = run(program, [spikes(program, [(0, 0)]), spikes(program, [])], replace(RECORD, streamed=True, window_ps=60, first_sample=7))
    # fires 31, 70, 109; the service of the third began at 89, and its item is not served any more at 111 <= 120, but is: sender 111..117
    assert puts(result, 1) == [(31, 31, 0), (70, 70, 0), (109, 109, 0)]
    assert services(program, result, "core 0 sender") == [(33, 39), (72, 78), (111, 117)]
    assert services(program, result, "router (0, 0) core 0") == [(1, 9), (40, 48), (79, 87), (118, 126)]
    # services that began in window 0: two of the core (11, 50), one of the sender; in window 1: one of the core (89), two of the sender
    assert result.spikes[["sample", "time"]].tolist() == [(7, 31), (7, 70), (8, 109)]
    assert (result.sample["packets"].tolist(), result.sample["hops"].tolist()) == ([1, 2], [2, 2])
    assert (result.completion_ps.tolist(), result.sample["cut"].tolist(), result.window_ps) == ([70, 126], [0, 1], 126)


def test_loops_and_streams_need_a_window() -> None:
    program = loop()
    stimuli = [spikes(program, [(0, 0)])]
    with pytest.raises(RunError, match="population a feeds itself"):
        simulate_stimuli(program, stimuli, engine="reference")
    for streamed in (False, True):
        assert simulate_stimuli(program, stimuli, engine="reference", streamed=streamed, window_ps=50).sample["cut"].tolist() == [1]


@pytest.mark.parametrize("seed", [1, 2])
def test_shuffled_instants_change_nothing(seed: int) -> None:
    program = loop()
    for streamed in (False, True):
        options = replace(RECORD, streamed=streamed, window_ps=300, jitter=20000)
        plain, shuffled = (run_reference(program, [spikes(program, [(0, 0)])] * 2, options, shuffle_seed=k) for k in (None, seed))
        assert np.array_equal(plain.trace, shuffled.trace)
        assert plain.completion_ps.tolist() == shuffled.completion_ps.tolist()
