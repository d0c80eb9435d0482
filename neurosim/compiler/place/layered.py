"""Chips whose cores hold one layer each (Speck): what a layer is to such a core, the words that it takes, and which core it goes to.

A core pools the spikes that it sends, so a projection is seen as sum-pool, then convolution: the largest pooling that the chip has and that the map
contains as a factor costs no weights. A dense layer is a convolution with a kernel as large as its input map. Layers are matched to cores by memory
alone: a maximum matching, so a layer is refused only when no assignment of all layers exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.compiler.place.geometry import Box, whole
from neurosim.compiler.place.mapping import chip_projections, on_chip
from neurosim.graph import Conv2d, Dense, Graph, Population, Projection, Shape, SumPool

Pair = tuple[int, int]
WORDS: tuple[Literal["kernel_words", "neuron_words"], ...] = ("kernel_words", "neuron_words")


@dataclass(frozen=True)
class LayerForm:
    """One projection as a core runs it. ``source``: map that the kernel reads, after pooling; ``out``: map that it writes."""

    pool: int
    channels: int
    features: int
    kernel: Pair
    stride: Pair
    padding: Pair
    source: Pair
    out: Pair

    @property
    def geometry(self) -> tuple[Pair, Pair, Pair]:
        """What all projections into one core must share."""
        return self.kernel, self.stride, self.padding


def pools_of(chip: Chip) -> tuple[int, ...]:
    """The sum-pools that the chip has, 1 (none) among them, largest first."""
    limits = chip.capabilities.ops.get("sum_pool")
    given = () if limits is None else limits.kernels or tuple(range(1, (limits.kernel or 1) + 1))
    return tuple(sorted({1, *given}, reverse=True))


def layer_form(p: Projection, source: Shape, pools: Sequence[int]) -> LayerForm | None:
    """The projection as sum-pool and convolution; None for a map that is neither, nor dense onto single pixels."""
    m, (channels, height, width) = p.map, source
    out = m.out_shape(source)
    for pool in pools:
        if height % pool or width % pool:
            continue
        pooled = (height // pool, width // pool)
        if isinstance(m, Dense) and out[1:] == (1, 1) and _constant(m.weight.reshape(out[0], *source), pool):
            return LayerForm(pool, channels, out[0], pooled, (1, 1), (0, 0), pooled, (1, 1))
        if isinstance(m, SumPool) and m.padding == (0, 0) and m.kernel == m.stride == (pool, pool):
            return LayerForm(pool, channels, channels, (1, 1), (1, 1), (0, 0), pooled, out[1:])
        if isinstance(m, Conv2d) and m.pool is None:
            sizes = (*m.weight.shape[2:], *m.stride, *m.padding)
            if all(size % pool == 0 for size in sizes) and (pool == 1 or m.dilation == (1, 1)) and _constant(m.weight, pool):
                ky, kx, sy, sx, py, px = (size // pool for size in sizes)
                return LayerForm(pool, channels, out[0], (ky, kx), (sy, sx), (py, px), pooled, out[1:])
    return None


def _constant(weight: NDArray[Any], pool: int) -> bool:
    """Whether all weights of every pool x pool block of the last two axes are equal."""
    if pool == 1:
        return True
    first = weight[..., ::pool, ::pool]
    return all(np.array_equal(weight[..., y::pool, x::pool], first) for y in range(pool) for x in range(pool))


@dataclass(frozen=True)
class Part:
    """A population, or a box of its channels, with the words that it asks of a core."""

    population: int
    box: Box
    kernel_words: int
    neuron_words: int


@dataclass(frozen=True)
class Misfit:
    """Why the layers do not fit the cores: the population to name, what it needs, what there is."""

    population: str
    value: Any
    limit: Any
    reason: str
    remedy: str


class LayerModel:
    """What the populations of a graph ask of the cores of such a chip, and which core each goes to."""

    def __init__(self, graph: Graph, chip: Chip) -> None:
        self.graph, self.chip = graph, chip
        self.forms: dict[str, list[LayerForm | None]] = {p.name: [] for p in graph.populations}
        pools = pools_of(chip)
        for k in chip_projections(graph):
            p = graph.projections[k]
            self.forms[p.target].append(layer_form(p, graph.population(p.source).shape, pools))

    def part(self, population: int, box: Box) -> Part:
        """What a box of a population takes; a readout on a core of its own kind takes no kernel."""
        node = self.graph.populations[population]
        rounded = self.chip.memory.rounding == "power_of_two"

        def up(n: int) -> int:
            return 1 << max(0, n - 1).bit_length() if rounded else n

        features, kernel = box[1] - box[0], 0
        if not self._counts_only(node):
            for form in self.forms[node.name]:
                assert form is not None, "supports refuses maps that are no layers"
                kernel += form.channels * up(form.kernel[0] * form.kernel[1]) * up(features)
        return Part(population, box, kernel, features * up(box[3] - box[2]) * up(box[5] - box[4]))

    def cores_for(self, part: Part) -> list[int]:
        """Cores that are alive, of the right kind and large enough, ascending."""
        memory, result = self.chip.memory, []
        for c in self._kind(self.graph.populations[part.population]):
            kernel, neurons = memory.words_of("kernel_words", c), memory.words_of("neuron_words", c)
            if (kernel is None or part.kernel_words <= kernel) and (neurons is None or part.neuron_words <= neurons):
                result.append(c)
        return result

    def match(self) -> list[tuple[Part, int]] | Misfit:
        """Every part with its core, in Program order, or why there is no such assignment."""
        parts: list[Part] = []
        for k, node in enumerate(self.graph.populations):
            if on_chip(node):
                if node.op is not None:
                    reason = f"{self.chip.name}: what a core with one layer holds (memory.layer_per_core)"
                    remedy = "rewrite it into neurons, or use a chip whose cores hold anything"
                    return Misfit(node.name, node.op.name, "one kernel and its neurons", reason, remedy)
                cut = self._cut(k)
                if cut is None:
                    return self._too_large(self.part(k, whole(node.shape)))
                parts += cut
        core: dict[int, int] = {}  # core -> number of the part on it
        for number in range(len(parts)):
            seen: set[int] = set()
            if not self._augment(parts, number, core, seen):
                return self._too_many(parts, number, seen, core)
        home = {number: c for c, number in core.items()}
        return [(part, home[number]) for number, part in enumerate(parts)]

    def _counts_only(self, node: Population) -> bool:
        return node.kind == "readout" and bool(self.chip.memory.readout_cores)

    def _kind(self, node: Population) -> list[int]:
        """Cores that are alive and of the kind that the population wants."""
        memory = self.chip.memory
        mine = [c for c in range(memory.cores) if not memory.readout_cores or (node.kind == "readout") == (c in memory.readout_cores)]
        return [c for c in mine if c not in memory.dead_cores]

    def _augment(self, parts: list[Part], number: int, core: dict[int, int], seen: set[int]) -> bool:
        """Find a core for a part, moving others if need be."""
        for c in self.cores_for(parts[number]):
            if c not in seen:
                seen.add(c)
                if c not in core or self._augment(parts, core[c], core, seen):
                    core[c] = number
                    return True
        return False

    def _cut(self, population: int) -> list[Part] | None:
        """The population in as few parts by channels as have cores that could hold them; one part where the chip does not split."""
        channels, height, width = self.graph.populations[population].shape
        for n in range(1, (channels if self.chip.memory.split == "channels" else 1) + 1):
            bounds = pairwise(i * channels // n for i in range(n + 1))
            parts = [self.part(population, (a, b, 0, height, 0, width)) for a, b in bounds]
            if all(self.cores_for(part) for part in parts):
                return parts
        return None

    def _too_large(self, part: Part) -> Misfit:
        node, memory, name = self.graph.populations[part.population], self.chip.memory, self.chip.name
        remedy = "use fewer channels or a smaller map"
        if memory.split == "none" and self.cores_for(self.part(part.population, (0, 1, *whole(node.shape)[2:]))):
            remedy += ", or cut it by channels (--split channels)"
        formula = "; kernel size, features, height and width count as the next power of two" if memory.rounding == "power_of_two" else ""
        kernels, neurons = (max((words for c in self._kind(node) if (words := memory.words_of(what, c)) is not None), default=None) for what in WORDS)
        for what, words, limit in (("kernel_words", part.kernel_words, kernels), ("neuron_words", part.neuron_words, neurons)):
            if limit is not None and words > limit:
                return Misfit(node.name, words, limit, f"{name}: {what.replace('_', ' ')} of the largest core (memory.{what}){formula}", remedy)
        return Misfit(
            node.name, f"{part.kernel_words} kernel words, {part.neuron_words} neuron words", "no core with both",
            f"{name}: room for its kernel and its neurons on one core (memory.kernel_words, memory.neuron_words){formula}", remedy,
        )  # fmt: skip

    def _too_many(self, parts: list[Part], number: int, seen: set[int], core: dict[int, int]) -> Misfit:
        """More parts than cores: those of the failed search want the same cores."""
        nodes = [self.graph.populations[part.population] for part in parts]
        node, name = nodes[number], self.chip.name
        cores = self._kind(node)
        same = sum(self._counts_only(other) == self._counts_only(node) for other in nodes)
        if same > len(cores):
            kind, remedy = ("readouts", "use one output") if self._counts_only(node) else ("layers", "use fewer layers or a chip with more cores")
            return Misfit(node.name, same, len(cores), f"{name}: {kind} (and parts of them), one per core (memory.cores)", remedy)
        rivals = sorted({core[c] for c in seen if c in core} | {number})
        names = ", ".join(dict.fromkeys(nodes[k].name for k in rivals))
        return Misfit(
            node.name, f"{len(rivals)} layers ({names})", f"{len(seen)} cores ({', '.join(map(str, sorted(seen)))})",
            f"{name}: cores large enough for them (memory.kernel_words, memory.neuron_words)", "use fewer channels or smaller maps in one of them",
        )  # fmt: skip
