"""The barrier discipline, and recurrence with and without it, against timings worked out by hand (figures: ``networks.TIMES``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.engine.events import CURRENT, ROW_SERVICE, SPIKE, STEP, Engine, Options, Stimulus
from neurosim.engine.reference import run_reference
from neurosim.errors import Deadlock
from neurosim.graph import Graph, Projection, SumPool
from neurosim.program import Program
from tests.engine.networks import ENGINES, Rows, chain, dense, mapped, population, puts, services, spikes

RECORD = Options(record=True, state=True)


@pytest.mark.parametrize("run", ENGINES)
def test_two_core_chain_two_steps(run: Engine) -> None:
    # in (2) -> p0 (2, core 0) -> p1 (readout, core 1): offsets 1 and 2, four global steps; both inputs spike in both steps
    program = chain([2, 2, 1], [5, 1], [0, 1], "barrier", steps=2, banks=2)
    assert program.slice_offset.tolist() == [1, 2]
    result = run(program, [spikes(program, [(0, 0), (0, 1), (1, 0), (1, 1)])], RECORD)
    # S_0 = 0: only the port; two packets over a local hop of 8, two synapses each: 10 + 2 * 3. Q_0 = 43; two tiles: 60 more
    assert services(program, result, "core 0 synapse")[:2] == [(11, 27), (27, 43)]
    # S_1 = 103: p0 runs its step 0 while the port injects step 1; two neurons of 2 + 5 + 7, no marker: the step ends with its last put
    assert services(program, result, "port 0") == [(0, 0), (5, 5), (103, 103), (108, 108)]
    assert services(program, result, "core 0 soma") == [(103, 131), (250, 278)]
    assert puts(result, 2) == [(117, 117, 0), (131, 131, 0), (264, 264, 0), (278, 278, 0)]
    # second packet of p0: sender at 133, put 139, east 140..160 but the link is busy 126..146: 146..166, local 167..175, synapse 177..190 = Q_1
    assert services(program, result, "core 0 sender")[:2] == [(119, 125), (133, 139)]
    assert services(program, result, "router (0, 0) east")[:2] == [(126, 146), (146, 166)]
    assert services(program, result, "core 1 synapse")[:2] == [(157, 170), (177, 190)]
    # S_2 = 250: p0's step 1 and p1's step 0, one neuron of 2 + 5; everything lags by 147, so Q_2 = 190 + 147 and S_3 = 397
    assert services(program, result, "core 1 soma") == [(250, 257), (397, 404)]
    assert services(program, result, "core 1 synapse")[2:] == [(304, 317), (324, 337)]
    # no markers, no items of the readout in axon-out, no held time; the closing barrier does not count
    assert result.core["marker_packets"].sum() == 0
    assert services(program, result, "core 1 sender") == []
    assert result.server["held_ps"].sum() == 0
    assert (result.completion_ps.tolist(), result.decision_ps.tolist(), result.first_spike_ps.tolist()) == ([404], [504], [157])
    assert result.scores.tolist() == [[4]]
    steps = result.trace[result.trace["item"] == STEP]
    assert steps[["slice", "step", "cause_server", "cause_service"]].tolist() == [(0, 0, -1, -1), (0, 1, -1, -1), (1, 0, -1, -1), (1, 1, -1, -1)]


@pytest.mark.parametrize("run", ENGINES)
def test_streamed_samples_follow_without_a_gap(run: Engine) -> None:
    program = chain([2, 2, 1], [5, 1], [0, 1], "barrier", steps=2, banks=2)
    stimuli = [spikes(program, [(0, 0), (0, 1), (1, 0), (1, 1)]), spikes(program, [(1, 0)]), spikes(program, [])]
    result = run(program, stimuli, Options(streamed=True, record=True))
    alone = run(program, stimuli, RECORD)
    # sample 0 as alone. Sample 1 begins with global step 2 at 250, in which the port has nothing: Q_2 = 337. Its only spike comes at S_3 = 397 and is
    # served at 408..424; its start is that of its first port service
    assert result.start_ps.tolist()[:2] == [0, 397]
    assert services(program, result, "port 0") == [(0, 0), (5, 5), (103, 103), (108, 108), (397, 397)]
    # S_3 = 397: p0 runs sample 1's step 0 (silent, 2 * 2 ps: its membranes were reset), p1 sample 0's step 1 as alone
    assert services(program, result, "core 0 soma")[2] == (397, 401)
    assert result.completion_ps.tolist()[0] == 404
    # Q_3 = 424; S_4 = 484: p0's step 1 of sample 1, both neurons fire; as in S_1 to Q_1 their last synapse ends 87 later: Q_4 = 571, S_5 = 631.
    # Sample 2 has no service of a port: it starts with its first global step, at S_4
    assert services(program, result, "core 0 soma")[3] == (484, 512)
    assert services(program, result, "core 1 soma")[2:4] == [(484, 486), (631, 638)]
    assert result.start_ps.tolist()[2] == 484
    assert result.completion_ps.tolist()[1] == 638
    # S_6 = 638 + 60: p0's last step, silent, 2 * 2 ps, and p1's one but last; S_7 = 702 + 60
    assert services(program, result, "core 1 soma")[4:] == [(698, 700), (762, 764)]
    assert (result.completion_ps.tolist()[2], result.window_ps) == (764, 764)
    assert result.scores.tolist() == alone.scores.tolist() == [[4], [2], [0]]
    same = ["sample", "step", "slice", "address"]
    assert result.spikes[same].tolist() == alone.spikes[same].tolist()
    assert sorted(result.trace["step"][result.trace["item"] == SPIKE].tolist())[-1] == 3  # the source slice's own step: sample 1, step 1


@pytest.mark.parametrize("run", ENGINES)
def test_slices_of_a_core_take_turns_and_a_late_event_holds_the_barrier(run: Engine) -> None:
    # in -> p0 (2 neurons) -> p1 (readout, delay 1), all on one core of one tile; the spike of step 1 is due at 500 only
    program = chain([1, 2, 1], [5, 1], [0, 0], "barrier", steps=2, mesh=(1, 1), delays={1: 1}, arithmetic__visit='"active"')
    assert program.slice_offset.tolist() == [1, 1]  # the delay stands for the global step between the two
    stimulus = spikes(program, [(0, 0), (1, 0)])
    stimulus.due_ps[1] = 500
    result = run(program, [stimulus], RECORD)
    # S_0 = 0: synapse 11..27; S_1 = 27 + 50: p0 for 2 * 14, then p1, in which nothing is active: 1 ps, begun where p0 ended
    # its spikes of step 0 reach p1 at 110..123 and 124..137 for the next step, but the port's event keeps step 1 open: 500, synapse 511..527
    # S_2 = 577: p0 again, then p1 with one active neuron; p0's last spikes belong beyond the end of the sample: served, not added
    assert services(program, result, "core 0 soma") == [(77, 105), (105, 106), (577, 605), (605, 612)]
    assert services(program, result, "port 0") == [(0, 0), (500, 500)]
    assert services(program, result, "core 0 synapse") == [(11, 27), (110, 123), (124, 137), (511, 527), (610, 623), (624, 637)]
    assert result.scores.tolist() == [[2]]
    assert (result.core["synops"].tolist(), result.core["synops_dropped"].tolist(), result.core["accesses"].tolist()) == ([8], [2], [5])
    assert (result.completion_ps.tolist(), result.decision_ps.tolist()) == ([637], [712])


@pytest.mark.parametrize("run", ENGINES)
def test_currents_act_in_the_bank_of_their_step(run: Engine) -> None:
    graph = Graph(
        "currents", 2, (population("image", 2, "analog"), population("layer", 2)), (Projection("image", "layer", SumPool(np.ones(2, int))),)
    )
    program = mapped(graph, [0], "barrier", mesh=(1, 1))
    assert program.slice_offset.tolist() == [1]
    columns = [[0, 0, 0], [0, 0, 1], [CURRENT] * 3, [0] * 3, [0, 1, 1], [5, 0, 4]]
    kinds = (np.int64, np.int32, np.uint8, np.int32, np.int32, np.int64)
    result = run(program, [Stimulus(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))], RECORD)
    # a current is one state write of 10 + 3: 11..24, 24..37; S_1 = 87: the next step's, and the soma: neuron 0 fires, neuron 1 is touched by its 0
    assert services(program, result, "core 0 synapse") == [(11, 24), (24, 37), (98, 111)]
    assert services(program, result, "port 0") == [(0, 0), (5, 5), (87, 87)]
    # 2 + 5 + 7, then 2 + 5. S_2 = 111 + 50: neuron 0 is visited only, neuron 1 reaches 4
    assert services(program, result, "core 0 soma") == [(87, 108), (161, 170)]
    assert result.spikes[["step", "address", "time"]].tolist() == [(0, 0, 101)]
    assert services(program, result, "core 0 sender") == [(103, 104)]  # nobody to send it to
    assert result.state_v.tolist() == [[0, 4]]
    assert (result.sample["injected_currents"].tolist(), result.core["current_writes"].tolist(), result.completion_ps.tolist()) == ([3], [3], [170])


def loop(sync: str) -> Program:
    """in -> a, a -> a, both with delay 1 and a weight that fires; three steps."""
    graph = Graph("loop", 3, (population("in", 1, "input"), population("a")), (dense("in", "a", 5, delay=1), dense("a", "a", 5, delay=1)))
    return mapped(graph, [0], sync, mesh=(1, 1))


@pytest.mark.parametrize("run", ENGINES)
def test_recurrence_in_barrier(run: Engine) -> None:
    program = loop("barrier")
    assert program.slice_offset.tolist() == [0]
    result = run(program, [spikes(program, [(0, 0)])], RECORD)
    # step 0: an access of 2 beside the input, synapse 11..24; S_1 = 74: 2 + 5 + 7, fires at 88, back at the synapse 107..120; S_2 = 170 and again
    assert services(program, result, "core 0 soma") == [(0, 2), (74, 88), (170, 184)]
    assert services(program, result, "core 0 synapse") == [(11, 24), (107, 120), (203, 216)]
    assert result.spikes[["step", "time"]].tolist() == [(1, 88), (2, 184)]
    assert result.core["synops_dropped"].tolist() == [1]  # that of the last step
    assert result.scores.shape == (1, 0)
    assert (result.decision_ps.tolist(), result.first_spike_ps.tolist(), result.completion_ps.tolist()) == ([0], [-1], [216])


@pytest.mark.parametrize("run", ENGINES)
def test_recurrence_in_wavefront(run: Engine) -> None:
    program = loop("wavefront")
    result = run(program, [spikes(program, [(0, 0)])], RECORD)
    # bank 0 waits for no marker: (0, 2). The port may begin step 2 when step 2 + 1 - 3 ended at 2 and was heard at 11, t_port apart from 10: at 15
    assert services(program, result, "port 0") == [(0, 0), (5, 5), (10, 10), (15, 15)]
    # local hops: the port's spike, its markers of steps 0 and 1 (at 11 the lower input wins), the slice's own (asked at 11), the port's last (at 17)
    assert services(program, result, "router (0, 0) core 0")[:5] == [(1, 9), (9, 17), (17, 25), (25, 33), (33, 41)]
    # synapse: the spike for 13, then markers; bank 1 is complete with the slice's own marker of step 0
    assert services(program, result, "core 0 synapse")[:5] == [(11, 24), (24, 34), (34, 44), (44, 54), (54, 64)]
    # seen at 65: fires at 79, the marker 4 later. They are back at 98..111 and 111..121: step 2 at 132
    assert services(program, result, "core 0 soma") == [(0, 2), (65, 83), (132, 150)]
    assert puts(result, 2) == [(2, 2, 0), (79, 79, 0), (83, 83, 0), (146, 146, 0), (150, 150, 0)]
    assert result.completion_ps.tolist() == [188]
    assert result.spikes[["step", "time"]].tolist() == [(1, 79), (2, 146)]


@pytest.mark.parametrize("run", ENGINES)
def test_a_ring_deadlocks_in_barrier_and_is_named(run: Engine) -> None:
    # four routers in a ring, FIFOs of one; every core sends its spikes two links on (ascending, as both ways are equal), all at S_1
    inputs, names = population("in", 1, "input"), [f"a{k}" for k in range(4)]
    around = [dense(name, names[(k + 2) % 4], 1, (6, 6), 1) for k, name in enumerate(names)]
    graph = Graph("ring", 3, (inputs, *(population(name, 6) for name in names)), (*(dense("in", name, 9, (1, 6), 1) for name in names), *around))
    ring: dict[str, Any] = {"noc__topology": '"ring"', "noc__fifo": 1, "noc__axon_in": 1, "noc__axon_out": 1}
    program = mapped(graph, [0, 1, 2, 3], "barrier", mesh=(4, 1), **ring)
    stimulus, sink = spikes(program, [(0, 0)]), Rows()
    with pytest.raises(Deadlock) as caught:
        run(program, [stimulus], RECORD, sink=sink)
    assert caught.value.cycle == tuple(
        name for k in range(4) for name in (f"router {k} to router {(k + 1) % 4}", f"link router {k} to router {(k + 1) % 4}")
    )
    assert "deepen noc.fifo" in str(caught.value)
    assert caught.value.time_ps == sink.all["time"].max()
    assert (sink.all["end"] == -1).sum() >= 8
    with pytest.raises(Deadlock) as shuffled:
        run_reference(program, [stimulus], RECORD, shuffle_seed=1)
    assert str(shuffled.value) == str(caught.value)
    # on a mesh of the same size it ends
    line = mapped(graph, [0, 1, 2, 3], "barrier", mesh=(4, 1), **ring | {"noc__topology": '"mesh"'})
    assert run(line, [stimulus], RECORD).spikes["step"].tolist() == [1] * 24 + [2] * 24


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shuffled_instants_change_nothing(seed: int) -> None:
    program = chain([2, 2, 1], [5, 1], [0, 1], "barrier", steps=2, banks=2)
    stimuli = [spikes(program, [(0, 0), (0, 1), (1, 0), (1, 1)]), spikes(program, [(1, 0)])]
    for options in (RECORD, Options(record=True, streamed=True, jitter=9000, seed=3)):
        plain, shuffled = run_reference(program, stimuli, options), run_reference(program, stimuli, options, shuffle_seed=seed)
        assert np.array_equal(plain.trace, shuffled.trace)
        assert (plain.trace["kind"] == ROW_SERVICE).any()
