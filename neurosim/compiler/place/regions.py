"""The cells of slices: regions of the operands of extra ops (neurosim.ops), their boxes and their places in a bank (docs/machine.md section 12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.place.geometry import Box, volume, whole
from neurosim.compiler.place.mapping import Slice
from neurosim.errors import ModelError
from neurosim.graph import Graph, Population, Shape
from neurosim.ops import OPERANDS, Coincidence, Gate, MaxPool, OrPool
from neurosim.program import (
    OP_COINCIDENCE,
    OP_COLUMNS,
    OP_COUNT,
    OP_GATE,
    OP_HEAD,
    OP_INVERTED,
    OP_KH,
    OP_KIND,
    OP_KW,
    OP_LATCHED,
    OP_MAX,
    OP_OR,
    OP_PH,
    OP_PW,
    OP_SH,
    OP_SHIFT,
    OP_SW,
)

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Region:
    """Cells of one operand (its number in OPERANDS, 0 the neurons' own) of one slice: ``box`` of the operand's ``shape``, from cell ``first`` on."""

    slice: int
    operand: int
    box: Box
    shape: Shape
    first: int


def head_size(population: Population) -> int:
    """Channels that one core must hold together: d of a coincidence, else 1."""
    return population.shape[0] // population.op.heads if isinstance(population.op, Coincidence) else 1


def operand_box(population: Population, box: Box, operand: str) -> Box:
    """The cells of an operand that the neurons of a box of the population work on; the box itself for ''."""
    op = population.op
    if not operand or isinstance(op, Coincidence | OrPool) or op is None:
        return box
    if isinstance(op, Gate):
        sizes = [n // g for n, g in zip(population.shape, op.groups, strict=True)]
        low, high = (
            [bound // n for bound, n in zip(box[::2], sizes, strict=True)],
            [-(-bound // n) for bound, n in zip(box[1::2], sizes, strict=True)],
        )
        return low[0], high[0], low[1], high[1], low[2], high[2]
    rows = _windows(box[2], box[3], op.stride[0], op.kernel[0], op.padding[0], op.source[1])
    columns = _windows(box[4], box[5], op.stride[1], op.kernel[1], op.padding[1], op.source[2])
    return box[0], box[1], *rows, *columns


def _windows(low: int, high: int, stride: int, kernel: int, padding: int, size: int) -> tuple[int, int]:
    """Span of the source coordinates in the windows of outputs low..high-1, cut to the map."""
    return max(0, low * stride - padding), min(size, (high - 1) * stride - padding + kernel)


def operand_boxes(population: Population, box: Box) -> dict[str, Box]:
    """Box of every operand of a slice, by ascending number; empty without an op that has some."""
    names = {} if population.op is None else population.op.operands(population.shape)
    return {name: operand_box(population, box, name) for name in sorted(names, key=OPERANDS.index)}


def table_cells(population: Population, box: Box) -> int:
    """Cells of the table of a coincidence: one row of d per channel of the slice; else 0."""
    return (box[1] - box[0]) * head_size(population) if isinstance(population.op, Coincidence) else 0


def slice_cells(population: Population, box: Box) -> int:
    """Cells of one bank: the neurons' own, the operands', the table of a coincidence."""
    return volume(box) + sum(volume(part) for part in operand_boxes(population, box).values()) + table_cells(population, box)


def regions_of(graph: Graph, slices: Sequence[Slice]) -> list[Region]:
    """All regions in Program order: the slices' own, then those of operands by (slice, operand).

    Raises ModelError for a slice of a coincidence that is not of whole heads with all pixels.
    """
    result = [Region(q, 0, piece.box, graph.populations[piece.population].shape, 0) for q, piece in enumerate(slices)]
    for q, piece in enumerate(slices):
        population = graph.populations[piece.population]
        d, (c0, c1, *pixels) = head_size(population), piece.box
        if isinstance(population.op, Coincidence) and (c0 % d or c1 % d or tuple(pixels) != whole(population.shape)[2:]):
            raise ModelError(
                f"slice {piece.box} of {population.name} {population.shape} cuts a head of {d} channels, whose pixels stay together; map whole heads"
            )
        first = volume(piece.box)
        for name, box in operand_boxes(population, piece.box).items():
            assert population.op is not None
            result.append(Region(q, OPERANDS.index(name), box, population.op.operands(population.shape)[name], first))
            first += volume(box)
    return result


def region_numbers(regions: Sequence[Region]) -> dict[tuple[int, str], int]:
    """(slice, operand) -> number of the region."""
    return {(region.slice, OPERANDS[region.operand]): g for g, region in enumerate(regions)}


def region_arrays(graph: Graph, slices: Sequence[Slice]) -> dict[str, I64]:
    """The arrays ``region_*``, ``slice_op`` and ``slice_cells`` of a Program, by name."""
    regions = regions_of(graph, slices)
    populations = [graph.populations[piece.population] for piece in slices]
    return {
        "slice_op": np.array([op_row(population) for population in populations], np.int64).reshape(-1, OP_COLUMNS),
        "slice_cells": np.array([slice_cells(p, piece.box) for p, piece in zip(populations, slices, strict=True)], np.int64),
        "region_slice": np.array([region.slice for region in regions], np.int64),
        "region_operand": np.array([region.operand for region in regions], np.int64),
        "region_box": np.array([region.box for region in regions], np.int64).reshape(-1, 6),
        "region_shape": np.array([region.shape for region in regions], np.int64).reshape(-1, 3),
        "region_first": np.array([region.first for region in regions], np.int64),
    }


def op_row(population: Population) -> I64:
    """One row of ``slice_op``; zeros in the columns that the op does not know."""
    row = np.zeros(OP_COLUMNS, np.int64)
    match population.op:
        case OrPool():
            row[OP_KIND] = OP_OR
        case Gate() as gate:
            row[[OP_KIND, OP_COUNT, OP_INVERTED, OP_LATCHED]] = OP_GATE, gate.count, gate.inverted, gate.latched
        case MaxPool() as pool:
            row[OP_KIND] = OP_MAX
            row[[OP_KH, OP_KW, OP_SH, OP_SW, OP_PH, OP_PW]] = (*pool.kernel, *pool.stride, *pool.padding)
        case Coincidence() as op:
            row[[OP_KIND, OP_HEAD, OP_SHIFT]] = OP_COINCIDENCE, head_size(population), op.shift
    return row
