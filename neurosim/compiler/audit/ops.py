"""Audit: the ops of slices, their cells and the regions of these, derived neuron by neuron from the graph's ops."""

from __future__ import annotations

import itertools

import numpy as np

from neurosim.errors import AuditError
from neurosim.graph import Graph, Population
from neurosim.ops import OPERANDS, Coincidence, Gate, MaxPool, group_of
from neurosim.program import OP_COLUMNS, Program

KINDS = ("", "or_pool", "gate", "max_pool", "coincidence")
"""Names of ops in the order of the Program's OP_NONE, OP_OR, ..."""
Cells = dict[str, tuple[list[int], list[int]]]
"""{operand: (box, shape)}"""


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_ops(program: Program, graph: Graph) -> None:
    """Raise AuditError for a wrong op, region or number of cells of a slice."""
    slices, regions = program.slices, program.regions
    for name, shape in (
        ("slice_op", (slices, OP_COLUMNS)), ("slice_cells", (slices,)), ("region_operand", (regions,)), ("region_box", (regions, 6)),
        ("region_shape", (regions, 3)), ("region_first", (regions,)),
    ):  # fmt: skip
        if getattr(program, name).shape != shape:
            _fail(f"array {name} has shape {getattr(program, name).shape}, not {shape}")
    populations = [graph.populations[int(k)] for k in program.slice_population]
    cells = [_cells(population, program.slice_box[q].tolist()) for q, population in enumerate(populations)]
    own = [(q, 0, program.slice_box[q].tolist(), list(populations[q].shape), 0) for q in range(slices)]
    others = []
    for q, population in enumerate(populations):
        first = _volume(program.slice_box[q].tolist())
        for operand in OPERANDS:
            if operand in cells[q]:
                box, whole = cells[q][operand]
                others.append((q, OPERANDS.index(operand), box, whole, first))
                first += _volume(box)
        if isinstance(population.op, Coincidence):
            c0, c1 = program.slice_box[q, :2].tolist()
            first += (c1 - c0) * (population.shape[0] // population.op.heads)
        if program.slice_cells[q] != first:
            _fail(f"slice {q} of {population.name} has slice_cells {program.slice_cells[q]}, its op needs {first}")
        if program.slice_op[q].tolist() != _row(population):
            _fail(f"slice {q} of {population.name} has slice_op {program.slice_op[q].tolist()}, the graph says {_row(population)}")
    wanted = own + others
    columns = (program.region_slice, program.region_operand, program.region_box, program.region_shape, program.region_first)
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    if len(found) != len(wanted):
        _fail(f"there are {len(found)} regions, the ops of the slices need {len(wanted)}")
    for g, (have, want) in enumerate(zip(found, wanted, strict=True)):
        for what, a, b in zip(("slice", "operand", "box", "shape", "first"), have, want, strict=True):
            if a != b:
                _fail(f"region {g} has region_{what} {a}, slice {want[0]} of {populations[want[0]].name} asks for {b}")


def _volume(box: list[int]) -> int:
    return (box[1] - box[0]) * (box[3] - box[2]) * (box[5] - box[4])


def _row(population: Population) -> list[int]:
    """The columns of slice_op, from the op's own fields."""
    op = population.op
    row = {"kind": KINDS.index("" if op is None else op.name)}
    if isinstance(op, Gate):
        row |= {"count": op.count, "inverted": int(op.inverted), "latched": int(op.latched)}
    elif isinstance(op, Coincidence):
        row |= {"head": population.shape[0] // op.heads, "shift": op.shift}
    elif isinstance(op, MaxPool):
        for what, pair in (("k", op.kernel), ("s", op.stride), ("p", op.padding)):
            row |= {f"{what}h": pair[0], f"{what}w": pair[1]}
    return [row.get(name, 0) for name in ("kind", "count", "inverted", "latched", "head", "shift", "kh", "kw", "sh", "sw", "ph", "pw")]


def _cells(population: Population, box: list[int]) -> Cells:
    """The cells that the neurons of a box work on, and that of a coincidence in whole heads and with all pixels."""
    op, shape = population.op, population.shape
    neurons = np.ix_(*(np.arange(box[2 * k], box[2 * k + 1]) for k in range(3)))
    if isinstance(op, Gate):
        groups = np.unravel_index(np.unique(group_of(op, shape)[neurons]), op.groups)
        return {"mask": (_hull([axis.tolist() for axis in groups]), list(op.groups))}
    if isinstance(op, MaxPool):
        axes = [list(range(box[0], box[1]))]
        for k in (0, 1):
            taps = {o * op.stride[k] - op.padding[k] + t for o, t in itertools.product(range(box[2 + 2 * k], box[3 + 2 * k]), range(op.kernel[k]))}
            axes.append([at for at in taps if 0 <= at < op.source[1 + k]])
        return {"window": (_hull(axes), list(op.source))}
    if isinstance(op, Coincidence):
        d = shape[0] // op.heads
        if box[0] % d or box[1] % d or box[2:] != [0, shape[1], 0, shape[2]]:
            _fail(f"coincidence {population.name} {shape} has a slice {box}, which is not of whole heads of {d} channels with all pixels")
        return {operand: (box, list(shape)) for operand in ("k", "v", "q")}
    return {}


def _hull(axes: list[list[int]]) -> list[int]:
    return [bound for axis in axes for bound in (min(axis), max(axis) + 1)]
