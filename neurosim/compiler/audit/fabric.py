"""Audit: servers, channels and next hops are the chip's network, numbered and timed as docs/machine.md says, and every route leads to its core.

The links come from networkx's generators, the distances from a breadth-first search over them; next hops are judged by distance and tie.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.errors import AuditError
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT, Program

I64 = NDArray[np.int64]
PORT, SYNAPSE, SOMA, SENDER, OUTPUT = range(5)
ROUTERS_AT_A_TIME = 256
"""Rows of the table of next hops that are judged together, so that large chips need little memory."""


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_fabric(program: Program) -> None:
    """Raise AuditError for the first server, channel, next hop or route that is wrong."""
    graph = network(program.chip)
    _check_servers(program, graph)
    _check_channels(program, graph)
    _check_inputs(program)
    _check_next_hops(program, graph)
    check_routes(program)


def network(chip: Chip) -> nx.Graph:
    """Routers and links of the chip; edge attribute ``group``: class of the link."""
    noc = chip.noc
    if noc.topology in ("mesh", "torus"):
        grid = nx.grid_2d_graph(noc.height, noc.width, periodic=noc.topology == "torus")
        graph = nx.relabel_nodes(grid, {(y, x): y * noc.width + x for y, x in grid})
    elif noc.topology == "graph":
        graph = nx.Graph([edge[:2] for edge in noc.edges])
    elif noc.routers == 1:
        graph = nx.empty_graph(1)
    elif noc.topology == "ring":
        graph = nx.cycle_graph(noc.routers)
    elif noc.topology == "star":
        graph = nx.star_graph(noc.routers - 1)
    else:
        graph = nx.full_rary_tree(noc.arity, noc.routers)
    marked = {frozenset(edge[:2]) for edge in noc.edges if len(edge) == 3 and edge[2] == "chip"}
    for a, b in graph.edges:
        group = 1
        if noc.topology in ("mesh", "torus"):
            (ya, xa), (yb, xb) = divmod(a, noc.width), divmod(b, noc.width)
            group = 1 if ya == yb else 2
            if noc.chip_width is not None and xa // noc.chip_width != xb // noc.chip_width:
                group = 3
            if noc.chip_height is not None and ya // noc.chip_height != yb // noc.chip_height:
                group = 3
        graph.edges[a, b]["group"] = 3 if frozenset((a, b)) in marked else group
    return graph


def _check_servers(program: Program, graph: nx.Graph) -> None:
    """Numbers, owners, classes and service times of all servers; router outputs one by one against the network."""
    chip, cores = program.chip, program.cores
    if (cores, len(program.next_server)) != (chip.memory.cores, len(graph)) or program.port_router.tolist() != list(chip.noc.ports):
        _fail(
            f"the Program has {cores} cores, {len(program.next_server)} routers and ports at {program.port_router.tolist()}, "
            f"the chip {chip.memory.cores}, {len(graph)} and {list(chip.noc.ports)}"
        )
    homes = [core // chip.noc.cores_per_router for core in range(cores)]
    if program.core_router.tolist() != homes:
        _fail(
            f"cores sit on routers {program.core_router.tolist()[:8]} ..., with {chip.noc.cores_per_router} per router it should be {homes[:8]} ..."
        )
    time = chip.timing
    hops = [time.hop_local.value, time.hop_east_west.value, time.hop_north_south.value, time.hop_chip.value if time.hop_chip else 0]
    wanted = [(PORT, port, -1, 0, -1) for port in range(program.ports)]  # (kind, owner, class, t_hop, reader of an output)
    wanted += [(kind, core, -1, 0, -1) for core in range(cores) for kind in (SYNAPSE, SOMA, SENDER)]
    on: dict[int, list[int]] = {}
    for core, home in enumerate(homes):
        on.setdefault(home, []).append(core)
    for router in range(len(graph)):
        wanted += [(OUTPUT, router, 0, hops[0], core) for core in on.get(router, [])]
        near = sorted((other, graph.edges[router, other]["group"]) for other in graph[router])
        wanted += [(OUTPUT, router, group, hops[group], other) for other, group in near]
    columns = (program.server_kind, program.server_owner, program.server_class, program.server_hop_ps, program.server_channel)
    if {len(column) for column in columns} != {len(wanted)}:
        _fail(f"there are {[len(column) for column in columns]} kinds, owners, classes, times and channels of servers, the chip has {len(wanted)}")
    for v, row in enumerate(wanted):
        found = (*(int(column[v]) for column in columns[:4]), _reader(program, v) if row[0] == OUTPUT else -1)
        if found != row:
            _fail(f"server {v} has kind, owner, class, t_hop and reader {found}, the chip says {row}")


def _reader(program: Program, server: int) -> int:
    """The core or router that reads what a server puts; -1 for none."""
    k = int(program.server_channel[server])
    return int(program.channel[k, 2]) if 0 <= k < len(program.channel) else -1


def _check_channels(program: Program, graph: nx.Graph) -> None:
    """Every channel: written by its writer only, read where that leads, depth, latency, what it does when it is full."""
    noc, time = program.chip.noc, program.chip.timing
    idle = SYNAPSE if program.stepped else SOMA
    if np.any((program.server_channel == -1) != (program.server_kind == idle)) or len(program.channel_drop) != len(program.channel):
        _fail("a server that puts has no channel, or one that does not has one, or channels lack their overflow")
    kinds = {PORT: C_PORT, idle ^ SYNAPSE ^ SOMA: C_AXON_OUT, SENDER: C_INJECT}
    axon, link = (time.axon_forward.value, time.axon_ack.value), (time.forward.value, time.ack.value)
    pads = (time.port_forward.value, time.ack.value) if time.port_forward else link
    between = (time.chip_forward.value, time.chip_ack.value) if time.chip_forward and time.chip_ack else link
    windows = _window_depths(program)
    for k, (kind, writer, reader, _, depth, forward, ack) in enumerate(program.channel.tolist()):
        if not 0 <= writer < len(program.server_channel) or program.server_channel[writer] != k:
            _fail(f"channel {k} names server {writer} as its writer, which does not write it")
        what, owner, group = (int(column[writer]) for column in (program.server_kind, program.server_owner, program.server_class))
        if kind != (kinds[what] if what != OUTPUT else C_AXON_IN if group == 0 else C_LINK) or reader != _end(program, kind, owner, reader):
            _fail(f"channel {k} of kind {kind} leads from server {writer} (kind {what} of {owner}) to {reader}")
        latency = axon if kind in (C_AXON_IN, C_AXON_OUT) else pads if kind == C_PORT else between if group == 3 else link
        if (forward, ack) != latency:
            _fail(f"channel {k} has forward {forward} ps and ack {ack} ps, not the chip's {latency}")
        wanted = windows[reader] if kind == C_AXON_IN else noc.axon_out if kind == C_AXON_OUT else noc.fifo
        if depth != wanted:
            _fail(f"channel {k} has depth {depth}, not {wanted}")
        drops = (noc.axon_out_overflow if kind == C_AXON_OUT else noc.overflow) == "drop"
        if program.channel_drop[k] != int(drops):
            _fail(f"channel {k} of kind {kind} {'stalls' if drops else 'drops'} when it is full, the chip says otherwise")


def _end(program: Program, kind: int, owner: int, reader: int) -> int:
    """The reader that a channel of the owner must have; readers of router outputs are those that ``_check_servers`` has found right."""
    if kind == C_PORT:
        return int(program.port_router[owner])
    if kind == C_INJECT:
        return int(program.core_router[owner])
    return owner if kind == C_AXON_OUT else reader


def _window_depths(program: Program) -> list[int]:
    """Depth of axon-in of every core: under end-to-end flow one window per core and port with a route to it."""
    noc = program.chip.noc
    if noc.flow == "link":
        return [int(noc.axon_in)] * program.cores
    senders: list[set[tuple[str, int]]] = [set() for _ in range(program.cores)]
    for s, r in _owners(program):
        who = ("core", int(program.slice_core[s])) if s < program.slices else ("port", int(program.source_port[s]))
        senders[int(program.route_core[r])].add(who)
    return [max(1, int(noc.window) * len(found)) for found in senders]


def _owners(program: Program) -> list[tuple[int, int]]:
    """(source, route) of all routes."""
    return [(s, r) for s in range(len(program.source_population)) for r in range(int(program.route_ptr[s]), int(program.route_ptr[s + 1]))]


def _check_inputs(program: Program) -> None:
    """Inputs of a router: ports, local cores, links by source router, numbered from 0; of a core: axon-in and axon-out, one each."""
    rank = {C_PORT: 0, C_INJECT: 1, C_LINK: 2}
    inputs: dict[int, list[tuple[int, int, int]]] = {}
    axons: set[tuple[int, int]] = set()
    for k, (kind, writer, reader, number, *_) in enumerate(program.channel.tolist()):
        if kind in rank:
            inputs.setdefault(reader, []).append((rank[kind], int(program.server_owner[writer]), number))
            continue
        if number != 0 or (kind, reader) in axons:
            _fail(f"channel {k} is input {number} of core {reader}, or its second of kind {kind}")
        axons.add((kind, reader))
    for router, rows in inputs.items():
        if [number for *_, number in sorted(rows)] != list(range(len(rows))):
            _fail(f"the inputs of router {router} are (kind, source, number) {sorted(rows)}, not numbered by ports, cores, links")


def _check_next_hops(program: Program, graph: nx.Graph) -> None:
    """At the core's router into the core; elsewhere one link nearer, x before y, and the right one of two that are equally near."""
    distance = _distances(graph)
    for first in range(0, len(graph), ROUTERS_AT_A_TIME):
        _check_rows(program, graph, distance, np.arange(first, min(first + ROUTERS_AT_A_TIME, len(graph))))


def _distances(graph: nx.Graph) -> NDArray[np.int16]:
    """[routers, routers] links between any two, by breadth-first search from all of them at once, 8 goals per byte."""
    routers = len(graph)
    distance = np.zeros((routers, routers), np.int16)
    reached = np.packbits(np.eye(routers, dtype=np.bool_), axis=1)
    near = [sorted(graph[router]) for router in range(routers)]
    starts = np.cumsum([0] + [len(row) for row in near])[:-1]
    others = np.array([other for row in near for other in row], np.int64)
    while len(others) and (away := np.unpackbits(~reached, axis=1, count=routers)).any():
        distance += away
        reached = reached | np.bitwise_or.reduceat(reached[others], starts, axis=0)
    return distance


def _check_rows(program: Program, graph: nx.Graph, distance: NDArray[np.int16], rows: I64) -> None:
    """The next hops of some routers."""
    here, home = rows[:, None], program.core_router
    server = program.next_server[rows]
    inside = (server >= 0) & (server < len(program.server_kind))
    if not inside.all() or np.any(program.server_owner[server] != here) or np.any(program.server_class[server] < 0):
        _fail("a next hop is not one of the router's outputs")
    reader = program.channel[program.server_channel[server], 2]
    into_core = program.server_class[server] == 0
    wrong = (into_core != (here == home)) | (into_core & (reader != np.arange(program.cores)))
    there = np.where(into_core, here, reader)
    wrong |= ~into_core & (distance[there, home] != distance[here, home] - 1)
    wrong |= ~into_core & _against_ties(program.chip, graph, rows, there, home[None, :], distance)
    if wrong.any():
        row, core = np.argwhere(wrong)[0].tolist()
        where = f"{'core' if into_core[row, core] else 'router'} {reader[row, core]}"
        _fail(
            f"the next hop at router {rows[row]} to core {core} (router {home[core]}) leads to {where}, "
            f"the topology {program.chip.noc.topology} says otherwise"
        )


def _against_ties(chip: Chip, graph: nx.Graph, rows: I64, there: I64, home: I64, distance: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Hops that are one nearer but not the one that docs/machine.md fixes."""
    noc, here = chip.noc, rows[:, None]
    if noc.topology == "ring":
        return np.asarray((2 * distance[here, home].astype(np.int64) == len(graph)) & (there != (here + 1) % len(graph)))
    if noc.topology in ("mesh", "torus"):
        (y, x), (to_y, to_x), (goal_y, goal_x) = (np.divmod(router, noc.width) for router in (here, there, home))
        wrong = (x != goal_x) & (y != to_y)  # along y too early
        if noc.topology == "torus":
            wrong |= (to_x != x) & (2 * abs(goal_x - x) == noc.width) & (to_x != (x + 1) % noc.width)
            wrong |= (to_y != y) & (2 * abs(goal_y - y) == noc.height) & (to_y != (y + 1) % noc.height)
        return np.asarray(wrong)
    lower = np.zeros(there.shape, np.bool_)  # star and tree have one path
    if noc.topology == "graph":
        for row, router in enumerate(rows.tolist()):
            for other in graph[router]:
                lower[row] |= (distance[other, home[0]] < distance[router, home[0]]) & (other < there[row])
    return lower


def check_routes(program: Program) -> None:
    """Follow every packet over next_server and channels: each destination is reached once, at its own axon-in.

    One packet has one destination, or with multicast trees all of the source's; its copies then part where their outputs do.
    """
    tree = program.chip.noc.multicast == "tree"
    packets: dict[tuple[int, tuple[int, ...]], str] = {}
    for s in range(len(program.source_population)):
        cores = program.route_core[program.route_ptr[s] : program.route_ptr[s + 1]].tolist()
        start = int(program.core_router[program.slice_core[s]] if s < program.slices else program.port_router[program.source_port[s]])
        for goal in [tuple(cores)] if tree and cores else [(core,) for core in cores]:
            packets.setdefault((start, goal), f"source {s}")
    routers = len(program.next_server)
    for (start, goal), name in packets.items():
        copies, arrived = [(start, list(goal), 0)], []
        while copies:
            router, cores, links = copies.pop()
            if links > routers:
                _fail(f"a packet of {name} from router {start} to core {cores[0]} does not arrive")
            branches: dict[int, list[int]] = {}
            for core in cores:
                branches.setdefault(int(program.next_server[router, core]), []).append(core)
            for server, behind in branches.items():
                kind, _, reader, *_ = program.channel[program.server_channel[server]].tolist()
                if kind == C_LINK:
                    copies.append((reader, behind, links + 1))
                elif kind == C_AXON_IN and behind == [reader]:
                    arrived.append(reader)
                else:
                    _fail(f"a packet of {name} from router {start} for cores {behind} ends at core {reader}")
        if sorted(arrived) != sorted(goal):
            _fail(f"a packet of {name} from router {start} arrives at cores {sorted(arrived)}, not at {sorted(goal)}")
