"""Bounds of what a step adds up in a population's cells, and of the inputs that its op makes of them (docs/machine.md, section 12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.compiler.quantize.ranges import Reach, span
from neurosim.golden.settled import start_of
from neurosim.graph import Graph, Population, Projection
from neurosim.ops import REGISTER_BITS, Coincidence, Gate, MaxPool, OrPool, coincide, windows

Floats = NDArray[np.float64]
MOST_MEMBRANE = 2.0**61
"""Of a membrane in settle, whatever the chip's words: what engines add up in int64."""
Bound = tuple[Floats, Floats]
"""(greatest value, least value as a positive number) of every cell."""


@dataclass(frozen=True)
class Sum:
    """What adds up (in words), the greatest magnitude it can reach (less 1 below zero, where a word reaches further), and what its word holds."""

    what: str
    value: float
    limit: float

    @property
    def fits(self) -> bool:
        """Whether the word is wide enough."""
        return self.value <= self.limit


def counts_spikes(population: Population, operand: str) -> bool:
    """Whether cells hold sums of spikes, into which whole weights lead."""
    return isinstance(population.op, OrPool | Gate) or (isinstance(population.op, Coincidence) and bool(operand))


def cell_bounds(
    graph: Graph, population: Population, into: Iterable[Projection], pixels: tuple[int, int], events: int = 1, *, safe: bool = False
) -> dict[str, Bound]:
    """Bounds of the cells of each operand ("": the neurons' own) over all possible spikes and pixels, without the rule's bias.

    ``into``: real or integer. ``events``: most events of an input neuron in one step. ``safe``: currents count with either sign, and one more for
    their rounding.
    """
    shapes = {"": population.shape, **({} if population.op is None else population.op.operands(population.shape))}
    result = {operand: (np.zeros(shape), np.zeros(shape)) for operand, shape in shapes.items()}
    for p in into:
        source = graph.population(p.source)
        most, least = span(p, source, pixels, events)
        factor = 2.0 ** (p.shift - p.fraction_bits)
        up, down = result[p.operand]
        channels = slice(p.channel_offset, p.channel_offset + len(most))
        if safe and source.kind == "analog":
            most = np.maximum(np.abs(most), np.abs(least)) + 1 / factor
            least = -most
        up[channels] += most * factor
        down[channels] -= least * factor
    if population.window_bias is not None:
        up, down = result["window"]
        up += population.window_bias
        down -= population.window_bias
    return {operand: (np.maximum(up, 0), np.maximum(down, 0)) for operand, (up, down) in result.items()}


def input_bounds(population: Population, cells: dict[str, Bound], unit: float = 1.0) -> Bound:
    """Bounds of the neurons' inputs of a step; ``unit``: what one coincidence of q, k and v adds."""
    up, down = cells[""]
    op = population.op
    if isinstance(op, MaxPool):
        most, least = cells["window"]
        # the largest of several is at least any of them, so at least the one that can fall least
        return up + windows(most[None], op, population.shape)[0], down - windows(-least[None], op, population.shape)[0]
    if isinstance(op, Coincidence):
        return up + unit * most_coincidences(population, cells), down
    return up, down


def most_coincidences(population: Population, cells: dict[str, Bound]) -> Floats:
    """The most that q, k and v together can add to each neuron, (c, y, x)."""
    assert isinstance(population.op, Coincidence)
    q, k, v = (cells[name][0][None] for name in ("q", "k", "v"))
    return np.asarray(coincide(q, k, v, population.op.heads)[0])


def reach(graph: Graph, population: Population, pixels: tuple[int, int]) -> Reach:
    """Bounds over all possible spikes and pixels of a real population's input."""
    current = np.zeros(population.shape)
    into = graph.into(population.name)
    for p in into:
        source = graph.population(p.source)
        if source.kind == "analog" and not p.operand:
            most, least = span(p, source, pixels)
            current[p.channel_offset : p.channel_offset + len(most)] += np.maximum(np.abs(most), np.abs(least))
    op = population.op
    up, down = input_bounds(population, cell_bounds(graph, population, into, pixels), op.scale if isinstance(op, Coincidence) else 1.0)
    return Reach(up, down, current)


def bank_sums(
    graph: Graph, population: Population, into: Iterable[Projection], acc_bits: int, pixels: tuple[int, int], events: int = 1
) -> Iterator[Sum]:
    """Everything that a step adds up in a population of an integer graph, against its word: cells, tables, what neurons receive."""
    limit, register = 2.0 ** (acc_bits - 1) - 1, 2.0**REGISTER_BITS - 1
    cells = cell_bounds(graph, population, into, pixels, events, safe=True)
    op = population.op
    for operand, (up, down) in cells.items():
        value = _magnitude(up, down)
        if isinstance(op, Gate) and op.latched and operand:
            value *= graph.steps
        spikes = counts_spikes(population, operand) and operand != "mask"
        yield Sum(f"sums of its {operand or 'inputs'}", value, register if spikes else limit)
    if isinstance(op, Gate):
        yield Sum("the count of its gate", op.count, limit)
    if isinstance(op, Coincidence):
        k, v = cells["k"][0], cells["v"][0]
        heads = (op.heads, population.shape[0] // op.heads, -1)
        table = np.matmul(k.reshape(heads), v.reshape(heads).swapaxes(1, 2))
        yield Sum("the table of its coincidences", float(table.max(initial=0)), limit)
    if isinstance(op, MaxPool | Coincidence):
        up, down = input_bounds(population, cells, 2.0**op.shift if isinstance(op, Coincidence) else 1.0)
        yield Sum("what its neurons receive", _magnitude(up, down), limit)


def settle_sums(
    graph: Graph, population: Population, into: Iterable[Projection], chip: Chip, pixels: tuple[int, int], events: int = 1
) -> Iterator[Sum]:
    """As ``bank_sums`` for the discipline settle, and the membranes. What a source has told so far lies between 0 and its most, in any combination,
    so a membrane lies between start + bias + all that is negative and start + bias + all that is positive, projection by projection."""
    acc_bits, into = chip.arithmetic.acc_bits, list(into)
    yield from bank_sums(graph, population, into, acc_bits, pixels, events)
    up, down = _inputs(graph, population, into, pixels, events)
    start = start_of(population, chip).astype(np.float64)
    yield Sum("its membranes", _magnitude(up + start, down - start), min(2.0 ** (acc_bits - 1) - 1, MOST_MEMBRANE))


def input_range(graph: Graph, population: Population, into: Iterable[Projection], pixels: tuple[int, int], events: int = 1) -> float:
    """Greatest magnitude (less 1 below zero) of the input of a neuron of an integer graph, without start and bias."""
    return _magnitude(*_inputs(graph, population, into, pixels, events))


def _inputs(graph: Graph, population: Population, into: Iterable[Projection], pixels: tuple[int, int], events: int) -> Bound:
    cells = cell_bounds(graph, population, into, pixels, events, safe=True)
    op = population.op
    return input_bounds(population, cells, 2.0**op.shift if isinstance(op, Coincidence) else 1.0)


def _magnitude(up: Floats, down: Floats) -> float:
    return float(max(up.max(initial=0), down.max(initial=0) - 1))
