"""Proof that a Program computes its Graph: everything is derived again from the Program's arrays and compared, with no code of the passes it checks.

In order: structure (sizes, ranges), coverage (each neuron exactly once), neuron rules, ops and their regions, sources, reach (routes, boxes, entries,
sync pairs: exactly those that the geometry asks for), synapses (weight, shift, delay, target of all, or of a million drawn ones), limits (memory,
banks, overflow, fan-in), offsets of the barrier, fabric (channels, timing, every route walked over the next hops), the rest state of settle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import NO_FLOOR
from neurosim.compiler.audit.fabric import check_fabric
from neurosim.compiler.audit.limits import check_limits
from neurosim.compiler.audit.offsets import check_offsets
from neurosim.compiler.audit.ops import check_ops
from neurosim.compiler.audit.reach import check_reach
from neurosim.compiler.audit.rest import check_rest
from neurosim.compiler.audit.synapses import check_synapses
from neurosim.errors import AuditError
from neurosim.graph import Graph, Population
from neurosim.program import E_MAP, E_PROJECTION, E_REGION, ENTRY_COLUMNS, M_SPARSE, R_BANKS, Program

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class AuditReport:
    """What was compared: synapses (of all ``synapses_in_all``), routes walked, neurons covered."""

    synapses: int
    synapses_in_all: int
    routes: int
    neurons: int


def audit(program: Program, graph: Graph, *, synapses: int = 1_000_000, seed: int = 0) -> AuditReport:
    """Compare a Program with the integer Graph that it was compiled from.

    At most about ``synapses`` synapses are compared one by one; ``seed`` draws them where there are more.
    Raises AuditError naming the first difference.
    """
    _structure(program, graph)
    _coverage(program, graph)
    _rules(program, graph)
    check_ops(program, graph)
    _sources(program, graph)
    check_reach(program, graph)
    compared, in_all = check_synapses(program, graph, synapses, seed)
    check_limits(program, graph)
    check_offsets(program, graph)
    check_fabric(program)
    check_rest(program, graph)
    return AuditReport(compared, in_all, len(program.route_core), int(program.neuron_ptr[-1]))


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def _structure(program: Program, graph: Graph) -> None:
    """Sizes and ranges, so that nothing below can index outside."""
    slices, neurons = program.slices, int(program.neuron_ptr[-1])
    sources, routes, entries = len(program.source_population), len(program.route_core), len(program.entry)
    lengths = {
        "slice_population": slices, "slice_box": slices, "slice_rule": slices, "neuron_ptr": slices + 1, "threshold": neurons, "bias": neurons,
        "floor": neurons, "reset_by": neurons, "v_init": neurons, "source_box": sources, "source_shape": sources, "source_port": sources,
        "route_ptr": sources + 1, "route_box": routes, "entry_ptr": routes + 1,
    }  # fmt: skip
    for name, length in lengths.items():
        if len(getattr(program, name)) != length:
            _fail(f"array {name} has {len(getattr(program, name))} rows, not {length}")
    for name, last in (("neuron_ptr", neurons), ("route_ptr", routes), ("entry_ptr", entries)):
        pointer = getattr(program, name)
        if pointer[0] != 0 or pointer[-1] != last or np.any(np.diff(pointer) < 0):
            _fail(f"{name} does not ascend from 0 to {last}")
    if program.entry.shape[1:] != (len(ENTRY_COLUMNS),):
        _fail(f"entries have shape {program.entry.shape}")
    names = [p["name"] for p in program.meta["populations"]]
    if names != [p.name for p in graph.populations]:
        _fail("the populations of the Program are not those of the graph")
    if program.steps != graph.steps:
        _fail(f"the Program has {program.steps} steps, the graph {graph.steps}")
    ranges = (
        ("slice_core", program.slice_core, program.cores),
        ("route_core", program.route_core, program.cores),
        ("region_slice", program.region_slice, slices),
        ("entry region", program.entry[:, E_REGION], program.regions),
        ("entry projection", program.entry[:, E_PROJECTION], len(graph.projections)),
        ("entry map", program.entry[:, E_MAP], M_SPARSE + 1),
        ("slice_population", program.slice_population, len(names)),
    )
    for name, values, limit in ranges:
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            _fail(f"{name} holds {values.min()} to {values.max()}, outside 0 to {limit - 1}")


def _on_chip(population: Population) -> bool:
    return population.kind == "readout" or (population.kind == "spiking" and not population.host)


def _coverage(program: Program, graph: Graph) -> None:
    """Each neuron of a population on the chip lies in exactly one slice, no other population has slices."""
    counts = [np.zeros(p.shape, np.int64) for p in graph.populations]
    for q in range(program.slices):
        number, (c0, c1, y0, y1, x0, x1) = int(program.slice_population[q]), program.slice_box[q].tolist()
        shape = graph.populations[number].shape
        if not (0 <= c0 < c1 <= shape[0] and 0 <= y0 < y1 <= shape[1] and 0 <= x0 < x1 <= shape[2]):
            _fail(f"slice {q} has box {(c0, c1, y0, y1, x0, x1)}, population {graph.populations[number].name} has shape {shape}")
        counts[number][c0:c1, y0:y1, x0:x1] += 1
        size = (c1 - c0) * (y1 - y0) * (x1 - x0)
        if program.neuron_ptr[q + 1] - program.neuron_ptr[q] != size:
            _fail(f"slice {q} has {program.neuron_ptr[q + 1] - program.neuron_ptr[q]} neurons, its box holds {size}")
    for population, count in zip(graph.populations, counts, strict=True):
        expected = 1 if _on_chip(population) else 0
        if np.any(count != expected):
            c, y, x = np.argwhere(count != expected)[0].tolist()
            _fail(f"neuron {(c, y, x)} of population {population.name} lies in {count[c, y, x]} slices, not in {expected}")


def _rules(program: Program, graph: Graph) -> None:
    """Decays, test, reset of every slice; threshold, bias, floor, reset_by and v_init of every neuron."""
    for q in range(program.slices):
        population = graph.populations[int(program.slice_population[q])]
        rule, readout = population.rule, population.kind == "readout"
        kept = 4096 if rule is None else rule.decay
        current = -1 if rule is None or rule.decay_current is None else 4096 - rule.decay_current
        strict, subtract = (0, 0) if rule is None else (int(rule.strict), int(rule.reset == "subtract"))
        wanted = (4096 - kept, current, strict, subtract, int(readout) + bool(population.part_of), 1 if rule is None else rule.max_spikes)
        found = tuple(np.delete(program.slice_rule[q], R_BANKS).tolist())
        if found != wanted:
            _fail(f"slice {q} of {population.name}: rule (decay_v, decay_i, strict, reset, readout, max_spikes) is {found}, the graph says {wanted}")
        c0, c1, y0, y1, x0, x1 = program.slice_box[q].tolist()
        zero: NDArray[np.generic] = np.zeros(1, np.int64)
        threshold = zero if rule is None or readout else rule.threshold
        arrays = {
            "threshold": threshold,
            "bias": zero if rule is None else rule.bias,
            "floor": np.full(1, NO_FLOOR) if rule is None or rule.floor is None else rule.floor,
            "reset_by": threshold if rule is None or rule.reset_by is None or readout else rule.reset_by,
            "v_init": zero if rule is None or rule.v_init is None else rule.v_init,
        }
        for name, value in arrays.items():
            part = np.moveaxis(np.broadcast_to(value, population.shape)[c0:c1, y0:y1, x0:x1], 0, 2).reshape(-1)
            held = getattr(program, name)[program.neuron_ptr[q] : program.neuron_ptr[q + 1]]
            if np.any(held != part):
                k = int(np.argmax(held != part))
                _fail(f"slice {q} of {population.name}: {name} of neuron {k} is {held[k]}, the graph says {part[k]}")


def _sources(program: Program, graph: Graph) -> None:
    """Slices first, then the boxes of the populations that enter through ports (each tiled once, ascending), then the control source."""
    read = {p.source for p in graph.projections if _on_chip(graph.population(p.target))}
    entering = [k for k, p in enumerate(graph.populations) if p.name in read and p.kind != "analog" and not _on_chip(p)]
    found = program.source_population.tolist()
    outside = found[program.slices : -1]
    if found[: program.slices] != program.slice_population.tolist() or found[-1] != -1 or outside != sorted(outside) or set(outside) != set(entering):
        _fail(f"sources are of populations {found}, the slices say {program.slice_population.tolist()} and from outside enter {entering}")
    ports = program.source_port.tolist()
    most = len(program.port_router)
    if ports[: program.slices] != [-1] * program.slices or ports[-1] != 0 or not all(0 <= port < most for port in ports[program.slices :]):
        _fail(f"sources have ports {ports}: slices have none (-1), the others one of {most}, the control source port 0")
    count = {k: np.zeros(graph.populations[k].shape, np.int64) for k in entering}
    for s, number in enumerate(found):
        shape = graph.populations[number].shape if number >= 0 else (0, 0, 0)
        box = program.source_box[s].tolist()
        c0, c1, y0, y1, x0, x1 = box
        if s >= program.slices and number >= 0:
            inside = 0 <= c0 < c1 <= shape[0] and 0 <= y0 < y1 <= shape[1] and 0 <= x0 < x1 <= shape[2]
            if inside:
                count[number][c0:c1, y0:y1, x0:x1] += 1
        else:
            inside = box == (program.slice_box[s].tolist() if s < program.slices else [0] * 6)
        if program.source_shape[s].tolist() != list(shape) or not inside:
            _fail(f"source {s} has shape {program.source_shape[s].tolist()} and box {box}, which do not fit {list(shape)}")
    for number, times in count.items():
        if np.any(times != 1):
            c, y, x = np.argwhere(times != 1)[0].tolist()
            _fail(f"neuron {(c, y, x)} of population {graph.populations[number].name} enters through {times[c, y, x]} port sources, not through 1")
