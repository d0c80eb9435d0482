"""Names of stations and channels on every topology, and the diagnosis from plain numbers.

Deadlocks that engines run into: test_machine, test_barrier, test_trees.
"""

from __future__ import annotations

import pytest

from neurosim.engine.deadlock import Stuck, channel_name, diagnose, server_name
from neurosim.graph import Graph
from neurosim.program import Program
from tests.engine.networks import chain, dense, mapped, population


def names(program: Program) -> list[str]:
    return [server_name(program, v) for v in range(len(program.server_kind))]


def test_names_on_grids_say_the_direction_also_round_the_torus() -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1], mesh=(3, 2), noc__topology='"torus"', noc__ports=[0, 5])
    found = names(program)
    assert found[:5] == ["port 0", "port 1", "core 0 synapse", "core 0 soma", "core 0 sender"]
    # outputs of router (0, 0): its core, then the neighbours 1, 2 (round the torus) and 3
    assert found[20:24] == ["router (0, 0) core 0", "router (0, 0) east", "router (0, 0) west", "router (0, 0) south"]
    assert found[-3:] == ["router (2, 1) north", "router (2, 1) east", "router (2, 1) west"]  # to routers 2, 3 (round the torus), 4
    assert channel_name(program, int(program.server_channel[21])) == "link router (0, 0) east"
    assert channel_name(program, int(program.server_channel[1])) == "input of router (2, 1) from port 1"
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("topology", ["ring", "star", "tree"])
def test_names_elsewhere_say_the_router(topology: str) -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1], mesh=(4, 1), noc__topology=f'"{topology}"', noc__cores_per_router=2, memory__cores=8)
    found = names(program)
    assert len(set(found)) == len(found)
    assert found[25:28] == ["router 0 core 0", "router 0 core 1", "router 0 to router 1"]
    assert channel_name(program, int(program.server_channel[27])) == "link router 0 to router 1"
    assert channel_name(program, int(program.server_channel[6])) == "input of router 0 from core 1"


def test_waits_for_several_ports_are_named() -> None:
    graph = Graph(
        "two ports", 2, (population("x", 1, "input"), population("y", 1, "input"), population("a")), (dense("x", "a", 3), dense("y", "a", 3))
    )
    program = mapped(graph, [0], "wavefront", ports={"y": 1}, noc__ports=[0, 1])
    # slice 0 lacks the marker of port 1 (source 2), which waits for nobody that is known
    error = diagnose(program, Stuck(time_ps=7, sample=0, next_step={0: 1}, port_steps={1: 1}))
    assert error.cycle == ("slice 0 (step 1)", "the marker of source 2, step 1", "port 1", "nothing that is known")
    # port 0 (source 1) is beyond the step that lacks a marker
    error = diagnose(program, Stuck(time_ps=7, sample=0, next_step={0: 0}, port_steps={0: 1, 1: 0}))
    assert error.cycle == ("slice 0 (step 0)", "the marker of source 2, step 0", "port 1", "nothing that is known")
    # no slice has steps left: the lowest port
    assert diagnose(program, Stuck(time_ps=7, sample=0, port_steps={0: 1, 1: 0})).cycle[0] == "port 0"


def test_a_chain_of_waits_for_windows_is_named() -> None:
    program = chain([1, 1, 1, 1], [5, 5, 1], [0, 2, 1], "free", mesh=(3, 1), noc__flow='"end_to_end"', noc__ports=[0, 1])
    # two ports: core c is server 2 + 3 c, its sender two after; the sender of core 0 waits for core 2, which waits for axon-out of its own
    axon_out = int(program.server_channel[8])
    error = diagnose(program, Stuck(time_ps=7, sample=3, windows={4: 2}, channels={8: axon_out}))
    assert error.cycle == ("core 0 sender", "a window credit of core 2", "core 2", "axon-out of core 2")
    assert "chain of 2" in str(error)
    assert "deepen noc.axon_out" in str(error)
