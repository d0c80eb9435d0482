"""Audit: slice offsets of the barrier discipline are the least that serve every delay, and banks hold the chip delays.

Offsets are checked as a solution, not solved again: none is too small for any entry, and each above 0 is held up by a chain of entries without slack
that begins at offset 0.
"""

from __future__ import annotations

import numpy as np

from neurosim.errors import AuditError
from neurosim.graph import Graph
from neurosim.program import E_DELAY, E_REGION, R_BANKS, Program


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_offsets(program: Program, graph: Graph) -> None:
    """Raise AuditError for a wrong offset, chip delay, or number of banks."""
    if len(program.slice_offset) != program.slices:
        _fail(f"array slice_offset has {len(program.slice_offset)} rows, not {program.slices}")
    if program.sync != "barrier":
        if np.any(program.slice_offset):
            q = int(np.flatnonzero(program.slice_offset)[0])
            _fail(f"slice {q} has offset {program.slice_offset[q]} in sync {program.sync}, which has none (0)")
        return
    arcs = _arcs(program, graph)
    _check_delays(program, arcs)
    _check_least(program, graph, arcs)


def _arcs(program: Program, graph: Graph) -> list[tuple[int, int, int]]:
    """(source slice or -1 for ports and currents, target slice, delay), each once."""
    route = np.repeat(np.arange(len(program.route_core)), np.diff(program.entry_ptr))
    owner = np.repeat(np.arange(len(program.source_population)), np.diff(program.route_ptr))[route]
    table = np.stack(
        [np.where(owner < program.slices, owner, -1), program.region_slice[program.entry[:, E_REGION]], program.entry[:, E_DELAY]], axis=1
    )
    arcs = {(s, q, d) for s, q, d in np.unique(table, axis=0).tolist()}
    analog = {p.name for p in graph.populations if p.kind == "analog"}
    fed = {p.target for p in graph.projections if p.source in analog}
    arcs |= {(-1, q, 0) for q in range(program.slices) if graph.populations[int(program.slice_population[q])].name in fed}
    return sorted(arcs)


def _check_delays(program: Program, arcs: list[tuple[int, int, int]]) -> None:
    most = program.chip.capabilities.max_delay
    for s, q, d in arcs:
        source = int(program.slice_offset[s]) if s >= 0 else 0
        delay = int(program.slice_offset[q]) - source - 1 + d
        where = f"slice {s}" if s >= 0 else "the port"
        if not 0 <= delay <= most:
            _fail(f"offset {program.slice_offset[q]} of slice {q} leaves a chip delay of {delay} from {where} (delay {d}), the chip has 0 to {most}")
        if program.slice_rule[q, R_BANKS] < 2 + delay:
            _fail(f"slice {q} has {program.slice_rule[q, R_BANKS]} banks, the chip delay of {delay} from {where} needs {2 + delay}")


def _check_least(program: Program, graph: Graph, arcs: list[tuple[int, int, int]]) -> None:
    offsets: dict[int, int] = {}
    for q in range(program.slices):
        number, offset = int(program.slice_population[q]), int(program.slice_offset[q])
        if offset < 0 or offsets.setdefault(number, offset) != offset:
            _fail(f"slice {q} of {graph.populations[number].name} has offset {offset}, another slice of it {offsets[number]}")
    tight: dict[int, set[int]] = {}
    for s, q, d in arcs:
        source, target = (int(program.slice_population[s]) if s >= 0 else -1), int(program.slice_population[q])
        if offsets.get(source, 0) + 1 - d == offsets[target]:
            tight.setdefault(source, set()).add(target)
    numbers = {population.name: k for k, population in enumerate(graph.populations)}
    for p in graph.projections:  # one whose map reaches nothing has no route, but counts
        target = numbers[p.target]
        if target in offsets and offsets.get(numbers[p.source], 0) + 1 - p.delay == offsets[target]:
            tight.setdefault(numbers[p.source] if numbers[p.source] in offsets else -1, set()).add(target)
    held = {number for number, offset in offsets.items() if offset == 0} | {-1}
    waiting = list(held)
    while waiting:
        found = tight.get(waiting.pop(), set()) - held
        held |= found
        waiting += found
    for number, offset in offsets.items():
        if number not in held:
            _fail(f"population {graph.populations[number].name} has offset {offset}, a smaller one would do")
