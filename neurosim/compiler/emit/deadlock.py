"""Static deadlock check (docs/machine.md section 9). Every cycle is a warning that names its members: sound, but loose.

With link flow the nodes are channels and the arcs the turns that routes use; in the free discipline also axon-in -> axon-out -> router input through
every core that takes packets in and sends some. With end-to-end flow in the free discipline the nodes are cores, the arcs the pairs (source core,
destination core). In the other disciplines no packet in axon-in waits for an output (stepped ones put nothing from a synapse, in settle a packet only
marks neurons as due), so for them only the turns of the routes count, whatever the flow.

Multicast trees: a copy that waits at a fork holds its input until every branch has its copy, so there is an arc from the input to every branch. A
tree is the union of the ways to its destinations, and those arcs are the turns of these ways.

A channel that drops makes no spike wait. Without markers (all but wavefront) only host currents then wait
for it, so only their routes have arcs into it.
"""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
import numpy as np

from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT, Program

MOST_CYCLES = 3
"""Cycles that are named one by one; of more only the number is given."""


def deadlock_warnings(program: Program) -> list[str]:
    """One warning per strongly connected part of the dependency graph, with its shortest cycle named; empty when deadlock is impossible."""
    warnings = _name(_channel_graph(program), "channels")
    if program.sync == "free" and program.chip.noc.flow == "end_to_end":
        warnings += _name(_core_graph(program), "cores")
    return warnings


def _core_graph(program: Program) -> nx.DiGraph:
    graph = nx.DiGraph()
    for s in range(program.slices):
        for core in program.route_core[program.route_ptr[s] : program.route_ptr[s + 1]].tolist():
            graph.add_edge(f"core {int(program.slice_core[s])}", f"core {core}")
    return graph


def _channel_graph(program: Program) -> nx.DiGraph:
    names = [_channel_name(program, k) for k in range(len(program.channel))]
    graph = nx.DiGraph()
    kinds, readers = program.channel[:, 0], program.channel[:, 2]
    axon_in = {int(readers[k]): int(k) for k in np.flatnonzero(kinds == C_AXON_IN)}
    axon_out = {int(readers[k]): int(k) for k in np.flatnonzero(kinds == C_AXON_OUT)}
    drops = [bool(flag) and program.sync != "wavefront" for flag in program.channel_drop]
    stations = program.ports + 3 * np.arange(program.cores)  # first server of every core
    seen: set[tuple[int, int]] = set()
    for s in range(len(program.source_population)):
        current = s == program.control_source
        writer = int(stations[program.slice_core[s]]) + 2 if s < program.slices else int(program.source_port[s])  # the core's sender or the port
        start = int(program.server_channel[writer])
        for core in program.route_core[program.route_ptr[s] : program.route_ptr[s + 1]].tolist():
            if (start, core) in seen and not current:
                continue
            seen.add((start, core))
            at = start
            while kinds[at] != C_AXON_IN:
                following = int(program.server_channel[program.next_server[readers[at], core]])
                if current or not drops[following]:
                    graph.add_edge(names[at], names[following])
                at = following
    if program.sync == "free" and program.chip.noc.flow == "link":
        for core in sorted({int(program.slice_core[s]) for s in range(program.slices) if program.route_ptr[s] < program.route_ptr[s + 1]}):
            way: list[int] = [axon_in[core], axon_out[core], int(program.server_channel[stations[core] + 2])]
            graph.add_edges_from((names[a], names[b]) for a, b in pairwise(way) if not drops[b])
    return graph


def _channel_name(program: Program, k: int) -> str:
    kind, writer, reader = program.channel[k, :3].tolist()
    owner = int(program.server_owner[writer])
    return {
        C_PORT: f"port {owner} to router {reader}",
        C_AXON_IN: f"axon-in of core {reader}",
        C_AXON_OUT: f"axon-out of core {reader}",
        C_INJECT: f"core {owner} to router {reader}",
        C_LINK: f"router {owner} to router {reader}",
    }[kind]


def _name(graph: nx.DiGraph, what: str) -> list[str]:
    parts = [part for part in nx.strongly_connected_components(graph) if len(part) > 1 or graph.has_edge(*(2 * tuple(part)))]
    parts.sort(key=min)
    warnings = []
    for part in parts[:MOST_CYCLES]:
        cycle = _shortest_cycle(graph.subgraph(part))
        size = f" (one of the cycles among {len(part)} {what})" if len(part) > len(cycle) else ""
        warnings.append(f"deadlock is possible: cycle of {what} {' -> '.join([*cycle, cycle[0]])}{size}")
    if len(parts) > MOST_CYCLES:
        warnings.append(f"deadlock is possible: {len(parts) - MOST_CYCLES} more groups of {what} with cycles")
    return warnings


def _shortest_cycle(graph: nx.DiGraph) -> list[str]:
    """A shortest cycle through the first node by name."""
    start = min(graph.nodes)
    if graph.has_edge(start, start):
        return [start]
    paths = nx.single_source_shortest_path(graph, start)
    back = min((node for node in graph.predecessors(start) if node in paths), key=lambda node: (len(paths[node]), node))
    return list(paths[back])
