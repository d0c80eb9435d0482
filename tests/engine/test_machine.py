"""The machine against timings worked out by hand from docs/machine.md (figures: ``networks.TIMES``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.engine.deadlock import Stuck, diagnose
from neurosim.engine.events import CURRENT, MARKER, ROW_PUT, ROW_SERVICE, SPIKE, STEP, Options, Stimulus
from neurosim.engine.reference import Item, Machine, Probe, Synapse, run_reference
from neurosim.engine.reference.plan import Plan
from neurosim.engine.reference.record import Recorder
from neurosim.errors import DataError, Deadlock, Livelock, RunError
from neurosim.graph import Graph, Population, Projection, SumPool
from tests.engine.networks import Rows, chain, puts, rule, services, spikes

RECORD = Options(record=True, state=True)


def test_two_core_chain_two_steps_one_bank() -> None:
    # in (2) -> p0 (2, core 0) -> p1 (readout, core 1); both inputs spike in both steps; one bank per slice, so that the wires pace everything
    program = chain([2, 2, 1], [5, 1], [0, 1], steps=2, banks=1)
    result = run_reference(program, [spikes(program, [(0, 0), (0, 1), (1, 0), (1, 1)])], RECORD)
    # step 0: spike, spike, marker of the input, t_port apart. Step 1 once p0's step 0, which ends at 96, is heard at 96 + 9
    assert services(program, result, "port 0") == [(t, t) for t in (0, 5, 10, 105, 110, 115)]
    # forward 1, then 8 per hop, one at a time
    assert services(program, result, "router (0, 0) core 0") == [(1, 9), (9, 17), (17, 25), (106, 114), (114, 122), (122, 130)]
    # axon forward 2; two synapses: 10 + 2 * 3; a marker: 10
    assert services(program, result, "core 0 synapse") == [(11, 27), (27, 43), (43, 53), (116, 132), (132, 148), (148, 158)]
    # seen 11 after 53; two neurons of 2 + 5 + 7 = 28; the marker's nominal time is 28 too, put 4 after the second spike.
    # Step 1 is complete at 158 + 11 = 169 but p1 has one bank, and its step 0 ends at 186, heard at 195
    assert services(program, result, "core 0 soma") == [(64, 96), (195, 227)]
    assert puts(result, 2) == [(78, 78, 0), (92, 92, 0), (96, 96, 0), (209, 209, 0), (223, 223, 0), (227, 227, 0)]
    assert result.server["held_ps"][2] == 195 - 169
    assert services(program, result, "core 0 sender")[:3] == [(80, 86), (94, 100), (100, 106)]
    assert services(program, result, "router (0, 0) east")[:3] == [(87, 107), (107, 127), (127, 147)]
    assert services(program, result, "router (1, 0) core 1")[:3] == [(108, 116), (128, 136), (148, 156)]
    assert services(program, result, "core 1 synapse")[:3] == [(118, 131), (138, 151), (158, 168)]
    # 168 + 11; one neuron of 2 + 5 that never fires; its marker ends the step; the sender has nobody to send it to
    assert services(program, result, "core 1 soma")[0] == (179, 186)
    assert services(program, result, "core 1 sender")[0] == (188, 189)
    # step 1 lags by 195 - 64 = 131 from p0's soma on
    assert services(program, result, "core 1 soma")[1] == (310, 317)
    assert result.decision_ps.tolist() == [417]
    assert result.first_spike_ps.tolist() == [118]
    assert result.completion_ps.tolist() == [320]  # 317 + axon forward 2 + 1
    assert result.scores.tolist() == [[4]]
    assert result.spikes["time"].tolist() == [78, 92, 209, 223]


def test_rows_say_what_caused_them() -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1])
    trace = run_reference(program, [spikes(program, [(0, 0)])], RECORD).trace

    def row(server: int, n: int, kind: int = ROW_SERVICE) -> Any:
        return trace[(trace["server"] == server) & (trace["index"] == n) & (trace["kind"] == kind)][0]

    step = row(2, 0)
    assert (step["item"], step["slice"], step["address"], step["origin"], step["dest"]) == (STEP, 0, -1, -1, -1)
    assert (step["cause_server"], step["cause_service"]) == (1, 1)  # the synapse service of the marker
    fired = row(2, 0, ROW_PUT)
    assert (fired["item"], fired["origin"], fired["cause_server"], fired["cause_service"], fired["dest"]) == (SPIKE, 0, 2, 0, -1)
    sent = row(3, 0, ROW_PUT)
    assert (sent["item"], sent["origin"], sent["cause_server"], sent["cause_service"], sent["dest"]) == (SPIKE, 0, 3, 0, 1)
    arrived = row(4, 0)
    assert (arrived["item"], arrived["origin"], arrived["dest"], arrived["synops"]) == (SPIKE, 0, 1, 1)
    hop = trace[trace["server"] == arrived["cause_server"]][0]
    assert program.server_owner[hop["server"]] == 1
    assert row(4, 1)["item"] == MARKER


def test_put_rule_with_a_blocked_writer() -> None:
    # p0 has 3 neurons that all fire; axon-out holds one item and the sender takes 50 per packet
    program = chain([1, 3, 1], [5, 1], [0, 1], noc__axon_out=1, timing__send=50)
    result = run_reference(program, [spikes(program, [(0, 0)])], RECORD)
    # port 0 and 5; hops end at 9 and 17; synapse 11 + 10 + 3 * 3 = 30, marker until 40; soma at 51, spikes at 65, 79, 93, marker at 93
    # put 65: taken at 67, credit at 69. put 79: arrives 81, taken when the sender ends at 117, credit at 119
    # third: w = q = 93, p = 119, shift 26; arrives 121, taken at 167, credit 169. marker: w = 51 + 42 + 26 = 119, q = 119 + 4, p = 169
    assert puts(result, 2) == [(65, 65, 0), (79, 79, 0), (119, 93, 26), (169, 123, 46)]
    assert services(program, result, "core 0 soma") == [(51, 169)]
    assert result.server["blocked_ps"][2] == 72
    assert result.server["busy_ps"][2] == 169 - 51 - 72
    assert services(program, result, "core 0 sender") == [(67, 117), (117, 167), (167, 217), (217, 267)]
    assert result.channel["high_water"][program.server_channel[2]] == 1


def test_free_lanes_group_fires_and_t_put_spaces_them() -> None:
    # one packet, three synapses on two lanes: groups end at 13, 13, 16; fires 7 later at 20, 20, 23
    program = chain([1, 3, 1], [5, 1], [0, 1], "free", arithmetic__lanes=2)
    result = run_reference(program, [spikes(program, [(0, 0)])], RECORD)
    # start 11. p = 31; w = 31, q = p = 35, shift 4; w = 11 + 23 + 4 = 38, q = 39 = p, shift 5; end = max(11 + 16 + 5, 39)
    assert puts(result, 1) == [(31, 31, 0), (35, 35, 0), (39, 39, 0)]
    assert services(program, result, "core 0") == [(11, 39)]
    assert result.scores.tolist() == [[3]]
    # a single class never changes the argmax
    assert result.decision_ps.tolist() == [0]


def test_free_start_item_bias_and_leak_by_local_time() -> None:
    # bias 2 over T = 3 steps: v = 6 at time 0, m * 5 per neuron, threshold 5: neurons 0 and 1 fire at 5 + 7 and 10 + 7, reset by subtraction to 1
    biased = rule(5, bias=2, reset="subtract", decay=2048)
    program = chain([1, 2, 1], [4, 1], [0, 1], "free", steps=3, rules={0: biased})
    stimulus = spikes(program, [(0, 0)])
    stimulus.due_ps[:] = 120  # port at 120, core at 131: floor(131 / 50) = 2 leaks: 1 -> 0 -> 0, + 4 = 4 < 5
    result = run_reference(program, [stimulus], RECORD)
    assert services(program, result, "core 0") == [(0, 17), (131, 147)]
    assert puts(result, 1) == [(12, 12, 0), (17, 17, 0)]
    assert result.state_v.tolist() == [[4, 4, 2]]
    assert result.core["accesses"].tolist() == [2, 0]


def test_several_spikes_per_update() -> None:
    program = chain([1, 1, 1], [17, 1], [0, 1], "free", rules={0: rule(5, reset="subtract")}, arithmetic__spikes_per_update=2)
    result = run_reference(program, [spikes(program, [(0, 0)])], RECORD)
    assert puts(result, 1) == [(31, 31, 0), (35, 35, 0)]  # 17 - 5 - 5: what remains above the threshold waits for the next synapse
    assert result.state_v.tolist() == [[7, 2]]


def test_router_ties_go_to_the_lower_input_and_older_requests_go_first() -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1], "free", mesh=(3, 1))
    plan = Plan(program, False, 1)
    record = Recorder(plan, RECORD, 1, None, ())
    machine = Machine(plan, RECORD, record, [spikes(program, [])], 0, None, {})
    local, link = machine.routers[1].inputs[:2]  # inputs of router 1: core 1, link from router 0, link from router 2

    def packet(value: int) -> Item:
        return Item(CURRENT, 1, 0, value, 0, 1, -1, (-1, -1))

    link.put(packet(2), -1)
    link.put(packet(3), -1)
    local.put(packet(1), -1)
    machine.kernel.post(5, machine.routers[1].inputs[2].put, packet(4), 5)
    machine.run()
    hops = [row for row in record.rows if row[3] == ROW_SERVICE and program.server_owner[row[2]] == 1 and program.server_kind[row[2]] == 4]
    # 1 and 2 both request at 0, the local input is the lower. At 8 the request of 2 is the oldest; 3 becomes head then, so 4 (head since 6) precedes
    assert [(row[1], row[10]) for row in hops] == [(0, 1), (8, 2), (16, 4), (24, 3)]


def test_end_to_end_window_is_back_t_wire_after_the_take() -> None:
    # two inputs, window 1: the second packet to core 0 waits until the first is taken at 11, and t_wire = 9 more
    program = chain([2, 1, 1], [5, 1], [0, 1], "free", noc__flow='"end_to_end"', timing__port=1)
    result = run_reference(program, [spikes(program, [(0, 0), (0, 1)])], RECORD)
    assert services(program, result, "port 0") == [(0, 0), (1, 20)]
    assert result.server["blocked_ps"][0] == 19


def test_currents_enter_the_bank_of_their_step_and_touch() -> None:
    image = Population("image", (2, 1, 1), "analog")
    layer = Population("layer", (2, 1, 1), "spiking", rule(5), scale=np.ones(2))
    graph = Graph("currents", 2, (image, layer), (Projection("image", "layer", SumPool(np.ones(2, np.int64))),))
    program = assemble(graph, load_chip("tiny"), "wavefront", Mapping((Slice(1, (0, 2, 0, 1, 0, 1)),), (0,), (2,)))
    columns = [[0, 0, 0], [0, 0, 1], [CURRENT] * 3, [0] * 3, [0, 1, 1], [5, 0, 4]]
    kinds = (np.int64, np.int32, np.uint8, np.int32, np.int32, np.int64)
    stimulus = Stimulus(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))
    result = run_reference(program, [stimulus], RECORD)
    assert result.spikes[["step", "address"]].tolist() == [(0, 0)]
    assert result.state_v.tolist() == [[0, 4]]
    assert result.core["updates"].tolist()[0] == 3  # step 0: both, one of them by a current of 0; step 1: neuron 1
    assert result.core["current_writes"].tolist()[0] == 3
    assert result.core["synops"].sum() == 0


def test_link_flow_in_free_deadlocks_by_name_and_end_to_end_does_not() -> None:
    # 4 x 1 mesh; layers on cores 2, 1, 3, 0, an acyclic core graph. p0 -> p1 goes west over (2 -> 1), p1 -> p2 east, p2 -> p3 west over
    # the same link: p2's packets wait behind p0's for the axon-in of p1, which waits for its own packets to p2
    network: dict[str, Any] = {"sizes": [8, 8, 8, 8, 1], "weights": [5] * 4, "cores": [2, 1, 3, 0], "sync": "free", "mesh": (4, 1)}
    program = chain(**network, noc__ports=[2])
    stimulus = spikes(program, [(0, k) for k in range(8)])
    sink = Rows()
    with pytest.raises(Deadlock) as caught:
        run_reference(program, [stimulus], RECORD, sink=sink)
    assert caught.value.cycle == (
        "core 1", "axon-out of core 1",
        "core 1 sender", "input of router (1, 0) from core 1",
        "router (1, 0) east", "link router (1, 0) east",
        "router (2, 0) east", "link router (2, 0) east",
        "router (3, 0) core 3", "axon-in of core 3",
        "core 3", "axon-out of core 3",
        "core 3 sender", "input of router (3, 0) from core 3",
        "router (3, 0) west", "link router (3, 0) west",
        "router (2, 0) west", "link router (2, 0) west",
        "router (1, 0) core 1", "axon-in of core 1",
    )  # fmt: skip
    opened = sink.all[sink.all["end"] == -1]
    assert len(opened) >= 10
    assert caught.value.time_ps == sink.all["time"].max()
    assert "core 1 sender waits for input of router (1, 0) from core 1" in str(caught.value)
    assert run_reference(chain(**network, noc__flow='"end_to_end"'), [stimulus], RECORD).scores.shape == (1, 1)


def test_a_missing_marker_is_named() -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1])
    error = diagnose(program, Stuck(time_ps=7, sample=2, next_step={1: 0}))
    assert error.cycle == ("slice 1 (step 0)", "nothing that is known")
    error = diagnose(program, Stuck(time_ps=7, sample=2, next_step={0: 0, 1: 0}, port_steps={0: 0}))
    assert error.cycle == ("slice 0 (step 0)", "the marker of source 2, step 0", "port 0", "nothing that is known")
    assert (error.time_ps, error.sample) == (7, 2)


def test_limits_and_refusals() -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1])
    stimulus = spikes(program, [(0, 0)])
    end = int(run_reference(program, [stimulus], RECORD).completion_ps[0])
    run_reference(program, [stimulus], Options(max_time_ps=end))
    with pytest.raises(Livelock, match="max_time_ps"):
        run_reference(program, [stimulus], Options(max_time_ps=end - 1))
    with pytest.raises(DataError, match=r"steps must ascend within 0\.\.0, got 1\.\.1"):
        run_reference(program, [spikes(program, [(1, 0)])], RECORD)
    changes: tuple[tuple[str, Any, str], ...] = (
        ("address", stimulus.address + 1, "address 1 does not exist"),
        ("slice", stimulus.slice * 0, "slice 0, address 0"),
        ("marker_due_ps", np.zeros(2, np.int64), "marker_due_ps has shape"),
        ("value", np.ones(2, np.int64), "lengths 1, 1, 1, 1, 1, 2"),
    )
    for name, value, text in changes:
        with pytest.raises(DataError, match=text):
            run_reference(program, [stimulus, replace(stimulus, **{name: value})], RECORD)
    with pytest.raises(RunError, match="stream"):
        run_reference(chain([1, 1, 1], [5, 1], [0, 1], "free"), [stimulus], Options(streamed=True))


def test_streamed_samples_overlap_and_jitter_moves_times_not_spikes() -> None:
    program = chain([2, 2, 1], [5, 1], [0, 1], steps=2)
    stimuli = [spikes(program, [(0, 0), (1, 1)]), spikes(program, [(0, 1)]), spikes(program, [])]
    alone = run_reference(program, stimuli, RECORD)
    stream = run_reference(program, stimuli, Options(streamed=True, record=True))
    shaken = run_reference(program, stimuli, Options(streamed=True, record=True, jitter=20000, seed=3))
    for other in (stream, shaken):
        assert np.array_equal(other.scores, alone.scores)
        assert other.spikes[["sample", "step", "slice", "address"]].tolist() == alone.spikes[["sample", "step", "slice", "address"]].tolist()
    assert stream.start_ps[1] < stream.completion_ps[0]
    assert stream.window_ps < alone.window_ps
    assert shaken.window_ps != stream.window_ps


def test_a_slice_that_needs_no_marker_runs_far_ahead_of_its_upstream() -> None:
    # T = 2, delay 2: the readout (18 neurons, 36 ps a step) never waits for p0 (42, 84 ps a step), all silent; three samples streamed
    program = chain([1, 42, 18], [5, 1], [0, 1], steps=2, delays={1: 2})
    result = run_reference(program, [spikes(program, [])] * 3, Options(streamed=True, record=True))
    assert services(program, result, "core 1 soma") == [(t, t + 36) for t in range(0, 216, 36)]
    # p0: bank 0 seen at 21 + 11; step 1 at 116 needs the end of step 1 + 2 - 3 = 0 of the readout, heard at 36 + 9, though its step 3 still runs
    assert services(program, result, "core 0 soma")[:3] == [(32, 116), (116, 200), (200, 284)]


def test_probes_watch_and_stations_can_be_replaced() -> None:
    class Membranes(Probe):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int, list[int]]] = []
            self.services = self.puts = 0

        def step(self, station: Any, slice_: int, step: int, membranes: list[int]) -> None:
            self.seen.append((slice_, step, list(membranes)))

        def service(self, station: Any, server: Any, service: Any, end: int) -> None:
            self.services += 1

        def put(self, station: Any, server: Any, item: Any, ready: int, time: int) -> None:
            self.puts += 1

    class Slow(Synapse):
        def group_end(self, k: int) -> int:
            return super().group_end(k) + 1000

    program = chain([1, 1, 1], [5, 1], [0, 1])
    stimulus, probe = spikes(program, [(0, 0)]), Membranes()
    result = run_reference(program, [stimulus], RECORD, probes=[probe])
    assert probe.seen == [(0, 0, [0]), (1, 0, [1])]
    assert probe.services == int(result.server["services"].sum())
    assert probe.puts == int(result.channel["puts"].sum())
    # core 0: both wait 1000 longer; core 1: the marker, 20 behind its spike at the link, waited for nothing and now waits 1013 - 20 = 993
    slow = run_reference(program, [stimulus], RECORD, stations={"synapse": Slow})
    assert slow.completion_ps[0] == result.completion_ps[0] + 1000 + 993
