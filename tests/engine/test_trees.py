"""Multicast trees, several cores per router, several ports, against timings worked out by hand (figures: ``networks.TIMES``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.engine.events import MARKER, ROW_SERVICE, SPIKE, Engine, Options, Stimulus
from neurosim.engine.reference import run_reference
from neurosim.errors import Deadlock
from neurosim.graph import Graph
from neurosim.program import Program
from tests.engine.networks import ENGINES, dense, mapped, population, puts, server_number, services, spikes

RECORD = Options(record=True, state=True)
TREE: dict[str, Any] = {"noc__multicast": '"tree"', "noc__cores_per_router": 2, "memory__cores": 4}


def fan(sync: str, neurons: int = 1, **chip: Any) -> Program:
    """in -> a on core 0 -> b, c, d (silent) on cores 1, 2, 3; cores 0 and 1 sit on router 0, cores 2 and 3 on router 1."""
    silent = [population(name) for name in "bcd"]
    graph = Graph(
        "fan", 1, (population("in", 1, "input"), population("a", neurons), *silent),
        (dense("in", "a", 5, (1, neurons)), *(dense("a", name, 1, (neurons, 1)) for name in "bcd")),
    )  # fmt: skip
    return mapped(graph, [0, 1, 2, 3], sync, **TREE | chip)


@pytest.mark.parametrize("run", ENGINES)
def test_copies_branch_where_their_ways_part(run: Engine) -> None:
    program = fan("free", 3, noc__fifo=1)
    result = run(program, [spikes(program, [(0, 0)])], RECORD)
    # core 0 at 11: fires ready 20, 23, 26 after it, t_put = 4 apart: 31, 35, 39. One packet each, 6 after the sender's start
    assert puts(result, server_number(program, "core 0")) == [(31, 31, 0), (35, 35, 0), (39, 39, 0)]
    # packet 1 is at router 0 from 40: both outputs that it needs are free, so its slot is free at once (credit at 41)
    # packet 2, there from 46, copies to core 1 at 48, east at 60, which takes it: the third, ready at 51, has the slot of its FIFO at 61 only
    assert puts(result, server_number(program, "core 0 sender")) == [(39, 39, 0), (45, 45, 0), (61, 51, 10)]
    assert services(program, result, "core 0 sender") == [(33, 39), (39, 45), (45, 61)]
    assert services(program, result, "router (0, 0) core 1") == [(40, 48), (48, 56), (62, 70)]
    assert services(program, result, "router (0, 0) east") == [(40, 60), (60, 80), (80, 100)]
    for core in (2, 3):
        assert services(program, result, f"router (1, 0) core {core}") == [(61, 69), (81, 89), (101, 109)]
        assert services(program, result, f"core {core}") == [(71, 84), (91, 104), (111, 124)]
    assert services(program, result, "core 1") == [(50, 63), (63, 76), (76, 89)]
    assert (result.sample["packets"].tolist(), result.core["packets_sent"].tolist()) == ([3], [3, 0, 0, 0])
    assert result.sample["hops"].tolist() == [1 + 3 * 4]
    # dest: the lowest core that a copy serves; -1 on a sender's service
    sent = result.trace[result.trace["server"] == server_number(program, "core 0 sender")]
    assert {(int(row["kind"] == ROW_SERVICE), int(row["dest"])) for row in sent} == {(1, -1), (0, 1)}
    for name, dest in (("router (0, 0) core 1", 1), ("router (0, 0) east", 2), ("router (1, 0) core 3", 3), ("core 2", 2)):
        assert set(result.trace["dest"][result.trace["server"] == server_number(program, name)].tolist()) == {dest}
    assert result.state_v.tolist() == [[0, 0, 0, 3, 3, 3]]


@pytest.mark.parametrize("run", ENGINES)
def test_a_put_needs_the_windows_of_all_destinations(run: Engine) -> None:
    program = fan("free", 2, noc__flow='"end_to_end"')
    result = run(program, [spikes(program, [(0, 0)])], RECORD)
    # as above; core 1 takes packet 1 at 50, cores 2 and 3 at 71: their credits are back at 59 and 80
    assert puts(result, server_number(program, "core 0 sender")) == [(39, 39, 0), (80, 45, 35)]
    assert services(program, result, "core 3") == [(71, 84), (112, 125)]


@pytest.mark.parametrize("run", ENGINES)
def test_a_head_waits_for_each_of_its_outputs_and_older_heads_go_first(run: Engine) -> None:
    # the port's second packet, for cores 0 and 2, meets the first, for both, at the outputs of router 0
    graph = Graph(
        "port", 1, (population("in", 2, "input"), population("a"), population("b")), (dense("in", "a", 1, (2, 1)), dense("in", "b", 1, (2, 1)))
    )
    program = mapped(graph, [0, 2], "wavefront", **TREE)
    result = run(program, [spikes(program, [(0, 0), (0, 1)])], RECORD)
    # one service each for two spikes and the marker, all of them to both cores
    assert services(program, result, "port 0") == [(0, 0), (5, 5), (10, 10)]
    assert result.sample["injected_spikes"].tolist() == [2]
    # local copies need 8, those over the link 20: the second packet copies to core 0 at 9 but leaves its queue with its copy to the east at 21
    assert services(program, result, "router (0, 0) core 0") == [(1, 9), (9, 17), (21, 29)]
    assert services(program, result, "router (0, 0) east") == [(1, 21), (21, 41), (41, 61)]
    # FIFO of two: packet 2 and the marker wait there from 6 and 11 on
    assert result.channel["high_water"][program.server_channel[0]] == 2
    assert services(program, result, "router (1, 0) core 2") == [(22, 30), (42, 50), (62, 70)]
    assert result.state_v.tolist() == [[2, 2]]


@pytest.mark.parametrize("run", ENGINES)
def test_trees_change_times_and_not_the_function(run: Engine) -> None:
    for sync in ("wavefront", "barrier"):
        tree, unicast = (run(program, [spikes(program, [(0, 0)])], RECORD) for program in (fan(sync, 3), fan(sync, 3, noc__multicast='"unicast"')))
        assert tree.state_v.tolist() == unicast.state_v.tolist() == [[0, 0, 0, 3, 3, 3]]
        markers = 1 if sync == "wavefront" else 0
        assert tree.core["packets_sent"][0] == 3 + markers
        assert unicast.core["packets_sent"][0] == 3 * (3 + markers)
        assert tree.core["marker_packets"].tolist() == [markers] * 4


def two_ports(steps: int, banks: int) -> Program:
    """x through port 0 at router 0, y through port 1 at router 1, both -> a on core 0; weights 3, so that it takes both to fire."""
    graph = Graph(
        "two ports", steps, (population("x", 1, "input"), population("y", 1, "input"), population("a")), (dense("x", "a", 3), dense("y", "a", 3))
    )
    return mapped(graph, [0], "wavefront", banks=banks, ports={"y": 1}, noc__ports=[0, 1])


@pytest.mark.parametrize("run", ENGINES)
def test_two_ports_inject_at_their_own_routers_and_pace(run: Engine) -> None:
    program = two_ports(2, 1)
    x, y = program.slices, program.slices + 1
    kinds = (np.int64, np.int32, np.uint8, np.int32, np.int32, np.int64)
    columns = [[0] * 4, [0, 0, 1, 1], [SPIKE] * 4, [x, y, x, y], [0] * 4, [1] * 4]
    stimulus = Stimulus(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))
    result = run(program, [stimulus], RECORD)
    # each port: its spike, then the marker of its own source. One bank: step 1 once the end of step 0 is heard, 91 + 9
    assert services(program, result, "port 0") == [(0, 0), (5, 5), (100, 100), (105, 105)]
    assert services(program, result, "port 1") == [(0, 0), (5, 5), (100, 100), (105, 105)]
    # port 1's two come over the link: 1..21 and 21..41; at core 0's output after port 0's
    assert services(program, result, "router (1, 0) west")[:2] == [(1, 21), (21, 41)]
    assert services(program, result, "router (0, 0) core 0")[:4] == [(1, 9), (9, 17), (22, 30), (42, 50)]
    assert services(program, result, "core 0 synapse")[:4] == [(11, 24), (24, 34), (34, 47), (52, 62)]
    # the second marker, served until 62, completes the bank: 62 + 11; 2 + 5 + 7, then the marker
    assert services(program, result, "core 0 soma") == [(73, 91), (173, 191)]
    assert result.trace["server"][result.trace["item"] == MARKER].min() == 0
    assert result.spikes["time"].tolist() == [87, 187]
    assert result.sample["injected_spikes"].tolist() == [4]
    assert program.server_kind[:5].tolist() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sync", ["free", "wavefront", "barrier"])
def test_shuffled_instants_change_nothing(sync: str, seed: int) -> None:
    program = fan(sync, 3, noc__fifo=1, noc__axon_in=1)
    stimuli = [spikes(program, [(0, 0)])]
    plain, shuffled = run_reference(program, stimuli, RECORD), run_reference(program, stimuli, RECORD, shuffle_seed=seed)
    assert np.array_equal(plain.trace, shuffled.trace)


@pytest.mark.parametrize("run", ENGINES)
def test_a_deadlock_of_trees_is_named(run: Engine) -> None:
    # four routers in a ring, FIFOs of one; every core sends one packet per spike for the next core and the one after it, all at S_1
    names = [f"a{k}" for k in range(4)]
    around = [dense(name, names[(k + way) % 4], 1, (6, 6), 1) for k, name in enumerate(names) for way in (1, 2)]
    graph = Graph(
        "ring", 3, (population("in", 1, "input"), *(population(name, 6) for name in names)),
        (*(dense("in", name, 9, (1, 6), 1) for name in names), *around),
    )  # fmt: skip
    ring: dict[str, Any] = {"noc__topology": '"ring"', "noc__fifo": 1, "noc__multicast": '"tree"', "memory__cores": 4}
    program = mapped(graph, [0, 1, 2, 3], "barrier", mesh=(4, 1), **ring)
    stimulus = spikes(program, [(0, 0)])
    with pytest.raises(Deadlock) as caught:
        run(program, [stimulus], RECORD)
    # every FIFO holds a packet whose copy for its own core is made and whose copy for the next waits for the next link
    assert caught.value.cycle == tuple(
        name for k in range(4) for name in (f"router {k} to router {(k + 1) % 4}", f"link router {k} to router {(k + 1) % 4}")
    )
    with pytest.raises(Deadlock) as shuffled:
        run_reference(program, [stimulus], RECORD, shuffle_seed=1)
    assert str(shuffled.value) == str(caught.value)


@pytest.mark.parametrize("run", ENGINES)
def test_a_deadlock_over_windows_of_trees_is_named(run: Engine) -> None:
    # three cores that all feed the two others, axon-out of one item, windows of one packet: each sender waits for the lowest core that it lacks
    names = "abc"
    around = [dense(source, target, 9, (6, 6)) for source in names for target in names if source != target]
    graph = Graph("all", 1, (population("in", 1, "input"), *(population(name, 6) for name in names)), (dense("in", "a", 9, (1, 6)), *around))
    program = mapped(graph, [0, 1, 2], "free", mesh=(3, 1), noc__multicast='"tree"', noc__flow='"end_to_end"', noc__axon_out=1)
    with pytest.raises(Deadlock) as caught:
        run(program, [spikes(program, [(0, 0)])], RECORD)
    assert caught.value.cycle == (
        "core 0", "axon-out of core 0", "core 0 sender", "a window credit of core 1",
        "core 1", "axon-out of core 1", "core 1 sender", "a window credit of core 0",
    )  # fmt: skip
