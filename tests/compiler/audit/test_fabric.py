"""Fabrics of every topology pass the audit; one number changed, and they do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from neurosim.chip import edges_of, load_chip
from neurosim.compiler.audit.fabric import check_fabric, check_routes
from neurosim.compiler.audit.program import audit
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.errors import AuditError, ModelError
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection
from neurosim.program import C_INJECT, C_LINK, Program

BETWEEN = ('timing.hop_chip="50 ns"', 'timing.chip_forward="7 ns"', 'timing.chip_ack="9 ns"', 'prices.hop_chip="1 nJ"')
RULE = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
GRAPH = Graph(
    "fork",
    2,
    (
        Population("in", (6, 1, 1), "input"),
        *(Population(name, (6, 1, 1), "spiking", RULE) for name in ("a", "b")),
        Population("out", (2, 1, 1), "readout"),
    ),
    (
        Projection("in", "a", Dense(np.ones((6, 6), np.int64), (6, 1, 1))),
        Projection("a", "b", Dense(np.ones((6, 6), np.int64), (6, 1, 1))),
        Projection("b", "out", Dense(np.ones((2, 6), np.int64), (2, 1, 1))),
    ),
)
HALVES = ((0, 3, 0, 1, 0, 1), (3, 6, 0, 1, 0, 1))
MAPPING = Mapping(
    tuple(Slice(k, box) for k in (1, 2) for box in HALVES) + (Slice(3, (0, 2, 0, 1, 0, 1)),),
    (0, 9, 5, 2, 7),
    (3,) * 5,
    ((0, HALVES[0], 1), (0, HALVES[1], 0)),
)


def _program(*overrides: str, sync: str = "wavefront", mapping: Mapping = MAPPING) -> Program:
    chip = load_chip("tiny", ["memory.cores=12", "noc.width=4", "noc.height=3", "noc.ports=[3, 8]", *overrides])
    if sync == "free":
        mapping = replace(mapping, banks=(1,) * len(mapping.banks))
    return assemble(GRAPH, chip, sync, mapping)


LATTICE = nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4))
PROGRAMS = {
    "mesh": _program("noc.flow=end_to_end"),
    "chips": _program("noc.chip_width=2", *BETWEEN),
    "clusters": _program("noc.width=3", "noc.height=1", "noc.cores_per_router=4", "noc.ports=[0, 0]", "noc.multicast=tree"),
    "torus": _program("noc.topology=torus", "noc.multicast=tree", sync="free"),
    "ring": _program("noc.topology=ring", "noc.overflow=drop"),
    "star": _program("noc.topology=star", "noc.axon_out_overflow=drop"),
    "tree": _program("noc.topology=tree", "noc.arity=3", "noc.multicast=tree"),
    "graph": _program("noc.topology=graph", f"noc.edges={json.dumps(edges_of(LATTICE))}"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_topology_passes(name: str) -> None:
    audit(PROGRAMS[name], GRAPH)


def _set(name: str, at: tuple[int, ...], change: Callable[[int], int]) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        array = getattr(program, name).copy()
        array[at] = change(int(array[at]))
        return replace(program, **{name: array})

    return damage


def _detour(router: int, core: int, other: int) -> Callable[[Program], Program]:
    """Send what is at ``router`` for ``core`` to the router ``other`` instead."""

    def damage(program: Program) -> Program:
        outputs = np.flatnonzero((program.server_kind == 4) & (program.server_owner == router) & (program.server_class > 0))
        server = next(v for v in outputs if program.channel[program.server_channel[v], 2] == other)
        return _set("next_server", (router, core), lambda _: int(server))(program)

    return damage


def _swap(kind: int, column: int) -> Callable[[Program], Program]:
    """Exchange two links' or cores' numbers at the reader that has several."""

    def damage(program: Program) -> Program:
        channel = program.channel.copy()
        of_kind = np.flatnonzero(channel[:, 0] == kind)
        reader = next(r for r in channel[of_kind, 2] if np.count_nonzero(channel[of_kind, 2] == r) > 1)
        a, b = of_kind[channel[of_kind, 2] == reader][:2]
        channel[[a, b], column] = channel[[b, a], column]
        return replace(program, channel=channel)

    return damage


def _last_link(column: int) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        link = int(np.flatnonzero(program.channel[:, 0] == C_LINK)[-1])
        return _set("channel", (link, column), lambda v: v + 1)(program)

    return damage


DAMAGES: dict[str, tuple[str, Callable[[Program], Program], str]] = {
    "y before x": ("mesh", _detour(0, 5, 4), "next hop at router 0 to core 5"),
    "away from the goal": ("mesh", _detour(5, 7, 4), "next hop at router 5 to core 7"),
    "a link for the own core": ("mesh", _detour(5, 5, 4), "next hop at router 5 to core 5"),
    "descending where both ways are equal": ("torus", _detour(0, 2, 3), "next hop at router 0 to core 2"),
    "the longer way round": ("ring", _detour(0, 1, 11), "next hop at router 0 to core 1"),
    "the other way of equal ones": ("ring", _detour(0, 6, 11), "next hop at router 0 to core 6"),
    "back to the parent": ("tree", _detour(1, 4, 0), "next hop at router 1 to core 4"),
    "not the lowest of the nearer": ("graph", _detour(0, 5, 4), "next hop at router 0 to core 5"),
    "output of another router": ("star", _set("next_server", (3, 5), lambda v: v - 9), "not one of the router's outputs"),
    "class of a link": ("chips", _set("server_class", (-1,), lambda v: v + 1), "class, t_hop and reader"),
    "time of a link between chips": ("chips", _last_link(5), "has forward"),
    "hop time": ("torus", _set("server_hop_ps", (-2,), lambda v: v - 1), "class, t_hop and reader"),
    "home of a core": ("clusters", _set("core_router", (4,), lambda v: 0), "cores sit on routers"),
    "home of a port": ("mesh", _set("port_router", (1,), lambda v: 7), "ports at"),
    "port of a source": ("mesh", _set("source_port", (5,), lambda v: 0), "depth|port"),
    "port that is not there": ("ring", _set("source_port", (6,), lambda v: 2), "sources have ports"),
    "box of a port source": ("ring", _set("source_box", (5, 1), lambda v: 2), "port sources|has box"),
    "inputs of links exchanged": ("ring", _swap(C_LINK, 3), "inputs of router"),
    "inputs of cores exchanged": ("clusters", _swap(C_INJECT, 3), "inputs of router"),
    "drop where it stalls": ("mesh", _set("channel_drop", (0,), lambda v: 1), "when it is full"),
    "stall where it drops": ("ring", _set("channel_drop", (0,), lambda v: 0), "when it is full"),
    "depth of a link": ("tree", _last_link(4), "has depth"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_caught(name: str) -> None:
    which, damage, words = DAMAGES[name]
    with pytest.raises(AuditError, match=words):
        audit(damage(PROGRAMS[which]), GRAPH)


FABRIC = (
    "server_kind", "server_owner", "server_hop_ps", "server_class", "server_channel", "channel", "channel_drop", "next_server", "port_router",
    "core_router",
)  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_number_of_a_fabric_can_change_unnoticed(name: str) -> None:
    draw = np.random.default_rng(0)
    for array in FABRIC:
        for _ in range(6):
            at = tuple(int(draw.integers(size)) for size in getattr(PROGRAMS[name], array).shape)
            step = int(draw.choice([-1000, -2, -1, 1, 2, 5, 1000]))
            with pytest.raises(AuditError):
                check_fabric(_set(array, at, lambda v, step=step: v + step)(PROGRAMS[name]))


@pytest.mark.parametrize("name", ["mesh", "tree"])
def test_packets_that_run_in_circles_are_caught_by_walking(name: str) -> None:
    """Two neighbours that send a packet back and forth; the walk alone must notice."""
    program = PROGRAMS[name]
    route = int(program.route_ptr[0])
    goal, start = int(program.route_core[route]), int(program.core_router[program.slice_core[0]])
    other = int(program.channel[program.server_channel[program.next_server[start, goal]], 2])
    check_routes(program)
    with pytest.raises(AuditError, match="does not arrive"):
        check_routes(_detour(other, goal, start)(program))


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        (((0, HALVES[0], 0),), "1 boxes of in .* do not tile it"),
        (((0, HALVES[0], 0), (0, HALVES[0], 1), (0, HALVES[1], 0)), "do not tile it"),
        (((1, (0, 6, 0, 1, 0, 1), 0),), "population a, which does not enter"),
        (((0, (0, 6, 0, 1, 0, 1), 2),), r"port 2, tiny has 2 \(noc.ports\)"),
    ],
)
def test_mistakes_in_ports(ports: tuple[tuple[int, tuple[int, ...], int], ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _program(mapping=replace(MAPPING, ports=ports))
