"""What a slice and a core hold, in bits. The audit counts the same from the Program, on its own.

A slice holds, per neuron, its state (twice with a synaptic current) and, in the stepped disciplines, one word of ``acc_bits`` per bank (the cells
of extra ops are counted as docs/machine.md section 12 says); threshold, bias, floor, reset_by and v_init in words of ``state_bits``, one per
channel where they are constant over the slice's pixels and one per neuron where not; the weights of its entries. A core holds its slices, each
weight block once, and 64 bits per route of its slices. Words of a sparse map: 16 bits per target, 32 per row.

In settle a slice holds its cells, membranes of ``acc_bits`` among them, and the outputs last sent (SENT_BITS), both twice, for samples start from a
copy; per firing neuron a due bit and a place in the core's due list: its address and, where ``timing.settle`` is not 0, a time stamp. No banks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.compiler.matrices import merged
from neurosim.compiler.place.geometry import Box, covered_channels, volume
from neurosim.compiler.place.layered import LayerModel
from neurosim.compiler.place.mapping import Mapping, chip_projections
from neurosim.compiler.place.regions import operand_box, operand_boxes, regions_of, table_cells
from neurosim.graph import Conv2d, Dense, Graph, Population, Projection, Shape, Sparse, TokenMix
from neurosim.ops import REGISTER_BITS, Coincidence, Gate, OrPool
from neurosim.program import E_INDEX, E_PROJECTION, E_REGION, E_WEIGHT, is_stepped

ROUTE_BITS, TARGET_BITS, POINTER_BITS = 64, 16, 32
SENT_BITS, DUE_BITS, STAMP_BITS = 8, 1, 32
"""Settle: an output of up to 255 spikes, the due bit, the time at which a due neuron may speak."""


def alive_cores(chip: Chip) -> list[int]:
    """Cores of the chip that may hold slices, ascending."""
    return sorted(set(range(chip.memory.cores)) - set(chip.memory.dead_cores))


@dataclass(frozen=True)
class Contents:
    """Bits of one slice, without its routes."""

    neurons: int
    weights: int
    state: int
    bank: int
    """One accumulation bank."""
    parameters: int
    kept: int = 0
    """What is held beside the banks: sums of a latched gate; in free, which has no banks, the cells of the operands; in settle everything but
    weights and parameters."""

    def bits(self, banks: int) -> int:
        """All of it with a number of banks."""
        return self.weights + self.state + self.parameters + self.kept + banks * self.bank


class MemoryModel:
    """Contents of boxes of a graph's populations on a chip."""

    def __init__(self, graph: Graph, chip: Chip, sync: str) -> None:
        self.graph, self.chip, self.sync = graph, chip, sync
        self.into: dict[str, list[tuple[Projection, Shape]]] = {p.name: [] for p in graph.populations}
        self._fan_in: dict[int, NDArray[np.int64]] = {}
        self.cuts: dict[tuple[int, int, int], tuple[int, int]] = {}
        """(id of a projection, axis, parts): extent of the sources of all parts along the axis, bits of all parts (channels alone)."""
        for k in chip_projections(graph):
            projection = graph.projections[k]
            self.into[projection.target].append((projection, graph.population(projection.source).shape))

    def contents(self, population: int, box: Box) -> Contents:
        """Bits of the slice that holds ``box`` of a population."""
        node, words = self.graph.populations[population], self.chip.arithmetic
        neurons = volume(box)
        rule = node.rule
        states = 2 if rule is not None and rule.decay_current is not None else 1
        weights = sum(self.block_bits(projection, shape, operand_box(node, box, projection.operand)) for projection, shape in self.into[node.name])
        cells, kept = self._cell_bits(node, box)
        return Contents(
            neurons=neurons,
            weights=weights,
            state=0 if self.sync == "settle" else states * neurons * words.state_bits,
            bank=cells if is_stepped(self.sync) else 0,
            parameters=_parameter_words(node, box) * words.state_bits,
            kept=kept,
        )

    def _cell_bits(self, node: Population, box: Box) -> tuple[int, int]:
        """(bits of one bank, bits besides): cells that hold spikes are registers, all others words of ``acc_bits``."""
        word, op = self.chip.arithmetic.acc_bits, node.op
        own = volume(box) * (REGISTER_BITS if isinstance(op, OrPool | Gate) else word)
        operands = sum(volume(part) for part in operand_boxes(node, box).values()) * (REGISTER_BITS if isinstance(op, Coincidence) else word)
        operands += table_cells(node, box) * word
        if self.sync == "free":
            return 0, operands
        if self.sync == "settle":
            firing = volume(box) if node.kind == "spiking" else 0
            return 0, 2 * (own + operands + SENT_BITS * firing) + firing * self._due_bits()
        latched = isinstance(op, Gate) and op.latched
        return own + operands, volume(operand_box(node, box, "mask")) * word if latched else 0

    def _due_bits(self) -> int:
        """Of one neuron: the due bit and its place in the core's due list, which has room for all neurons of a full core."""
        address = (self.chip.memory.neurons.value - 1).bit_length()
        return DUE_BITS + address + (STAMP_BITS if self.chip.timing.settle.value else 0)

    def block_bits(self, projection: Projection, source: Shape, box: Box) -> int:
        """Bits of the weights (and index words) of one projection for a box of the cells that it fills."""
        low, high = covered_channels(projection, source, box)
        if low >= high:
            return 0
        if isinstance(projection.map, Sparse):
            hits = int(self._synapses_into(projection.map)[low:high, box[2] : box[3], box[4] : box[5]].sum())
            return hits * (self.chip.arithmetic.weight_bits + TARGET_BITS) + len(projection.map.indptr) * POINTER_BITS
        return _block_bits(projection, source, box, low, high, self.chip.arithmetic.weight_bits)

    def _synapses_into(self, linear: Sparse) -> NDArray[np.int64]:
        """Synapses into each target, (c, y, x), parallel ones being merged; counted once per map, for partitioning asks about many boxes."""
        found = self._fan_in.get(id(linear))
        if found is None:
            found = np.bincount(merged(linear).targets, minlength=int(np.prod(linear.shape))).reshape(linear.shape)
            self._fan_in[id(linear)] = found
        return found


def _block_bits(projection: Projection, source: Shape, box: Box, low: int, high: int, weight_bits: int) -> int:
    linear = projection.map
    pixels = (box[3] - box[2]) * (box[5] - box[4])
    if isinstance(linear, Conv2d):
        out, per_in, kernel_y, kernel_x = linear.weight.shape
        per_out = out // linear.groups
        first, last = low // per_out, (high - 1) // per_out + 1
        width = high - low if last - first == 1 else min(per_out, max(per_out - low % per_out, (high - 1) % per_out + 1))
        if last - first > 2:
            width = per_out
        table = 0 if linear.pool is None else (source[1] + source[2]) * TARGET_BITS
        return int(last - first) * int(per_in * kernel_y * kernel_x * width) * weight_bits + table
    if isinstance(linear, Dense):
        return int(np.prod(source)) * (high - low) * pixels * weight_bits
    if isinstance(linear, TokenMix):
        heads, tokens, _ = linear.weight.shape
        per_head = source[0] // heads
        return int((high - 1) // per_head + 1 - low // per_head) * int(tokens) * pixels * weight_bits
    return (box[1] - box[0]) * weight_bits  # a weight per channel


def _parameter_words(population: Population, box: Box) -> int:
    rule = population.rule
    if rule is None:
        return box[1] - box[0]  # the readout's bias
    values = [rule.bias]
    if rule.floor is not None:
        values.append(rule.floor)
    if population.kind == "spiking":
        values.append(rule.threshold)
        if rule.reset == "subtract":
            values.append(rule.threshold if rule.reset_by is None else rule.reset_by)
    if rule.v_init is not None:
        start = np.broadcast_to(np.asarray(rule.v_init), population.shape)
        if np.any(start[box[0] : box[1], box[2] : box[3], box[4] : box[5]]):  # a slice that starts at 0 needs no words for it
            values.append(rule.v_init)
    return sum(_words(np.broadcast_to(np.asarray(value), population.shape), box) for value in values)


def _words(full: NDArray[np.generic], box: Box) -> int:
    """One word per channel where the values do not depend on the pixel, else one per neuron."""
    if full.strides[1] == full.strides[2] == 0:
        return box[1] - box[0]
    part = full[box[0] : box[1], box[2] : box[3], box[4] : box[5]]
    return box[1] - box[0] if bool(np.all(part == part[:, :1, :1])) else volume(box)


def core_memory(
    graph: Graph, chip: Chip, sync: str, mapping: Mapping, entry: NDArray[np.int64], route_ptr: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """What every core with a slice holds: {core, slices, populations, neurons, bytes, weight_bytes, route_entries}, by core.

    Where cores hold one layer each also kernel_words and neuron_words.
    """
    model = MemoryModel(graph, chip, sync)
    regions = regions_of(graph, mapping.slices)
    layers = LayerModel(graph, chip) if chip.memory.layer_per_core else None
    shapes = [graph.population(p.source).shape for p in graph.projections]
    blocks: dict[int, dict[tuple[int, int], int]] = {}
    for row in np.unique(entry, axis=0):
        region, number = regions[int(row[E_REGION])], int(row[E_PROJECTION])
        bits = model.block_bits(graph.projections[number], shapes[number], region.box)
        blocks.setdefault(mapping.core[region.slice], {})[int(row[E_WEIGHT]), int(row[E_INDEX])] = bits
    rows: list[dict[str, Any]] = []
    for core in sorted(set(mapping.core)):
        held = [q for q, c in enumerate(mapping.core) if c == core]
        contents = [model.contents(mapping.slices[q].population, mapping.slices[q].box) for q in held]
        weights = sum(blocks.get(core, {}).values())
        routes = sum(int(route_ptr[q + 1] - route_ptr[q]) for q in held)
        bits = weights + ROUTE_BITS * routes + sum(c.bits(mapping.banks[q]) - c.weights for q, c in zip(held, contents, strict=True))
        rows.append({
            "core": core,
            "slices": held,
            "populations": list(dict.fromkeys(graph.populations[mapping.slices[q].population].name for q in held)),
            "neurons": sum(c.neurons for c in contents),
            "bytes": (bits + 7) // 8,
            "weight_bytes": (weights + 7) // 8,
            "route_entries": routes,
        })  # fmt: skip
        if layers is not None:
            parts = [layers.part(mapping.slices[q].population, mapping.slices[q].box) for q in held]
            rows[-1] |= {"kernel_words": sum(part.kernel_words for part in parts), "neuron_words": sum(part.neuron_words for part in parts)}
    return rows
