"""Populations -> slices: boxes (channels x rows x columns) that one core can hold.

A population is cut into a grid of near-equal boxes. Cutting space stores the weights of a convolution once per box, and what lies beside a border is
sent to both sides; cutting channels sends every incoming spike to every box. The grid taken is the cheapest of those that fit, where the cost of a
grid is

    duplicated weight bytes + packet bytes * duplicated packets + one eighth of a core's memory for every box

and a duplicated packet is one source neuron sending to one box more. With PACKET_BYTES a packet is a spike of 16 bytes, weighed with one spike in
eight neurons and steps: memory is what is scarce. Where cores are left over, DEAR_PACKETS are tried (place.cores): wide kernels are then cut by rows
and columns, 1 x 1 ones by pixels rather than by channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NoReturn

from neurosim.chip import Chip
from neurosim.compiler.place.balance import largest_chip_delays
from neurosim.compiler.place.geometry import Box, hull, reach, reach_all, volume, whole
from neurosim.compiler.place.mapping import Slice, chip_projections, largest_delay, on_chip
from neurosim.compiler.place.memory import ROUTE_BITS, MemoryModel
from neurosim.compiler.place.regions import head_size, operand_box
from neurosim.errors import DoesNotFit, UnsupportedLayer
from neurosim.graph import Dense, Graph, Population, Projection, Shape, Sparse, TokenMix
from neurosim.ops import Coincidence
from neurosim.program import is_stepped

PACKET_BYTES = 2
DEAR_PACKETS = (8, 16, 32, 128)
"""What a duplicated packet may cost where cores are left over."""
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Split:
    """How one population was cut: boxes along channels, rows and columns, and what that costs against one box."""

    population: str
    channels: int
    rows: int
    columns: int
    duplicated_weight_bytes: int
    duplicated_packets: int

    @property
    def kind(self) -> str:
        """none, channel, space or both."""
        space = self.rows * self.columns > 1
        if self.channels > 1:
            return "both" if space else "channel"
        return "space" if space else "none"


@dataclass(frozen=True)
class Partition:
    """Slices in Program order (population, then channels, rows, columns) and the split of every population on the chip."""

    slices: tuple[Slice, ...]
    splits: tuple[Split, ...]


def least_banks(graph: Graph, chip: Chip, sync: str) -> dict[str, int]:
    """Banks that every slice of each population on the chip gets; 1 in free and settle, which have none.

    Wavefront: 2 + the largest incoming delay, or what the chip has if that is at least 1 + the delay. Barrier: 2 + the largest chip delay.
    Raises UnsupportedLayer when the chip has fewer.
    """
    names = [p.name for p in graph.populations if on_chip(p)]
    if not is_stepped(sync):
        return dict.fromkeys(names, 1)
    most = chip.capabilities.banks
    delays = largest_chip_delays(graph) if sync == "barrier" else {name: largest_delay(graph, name) for name in names}
    result = {}
    for name, delay in delays.items():
        least = delay + (2 if sync == "barrier" else 1)
        if most < least:
            what = "chip delay" if sync == "barrier" else "delay"
            raise UnsupportedLayer(
                name,
                "delay",
                f"a {what} of {delay} steps needs {least} accumulation banks in sync {sync}",
                value=least,
                limit=most,
                remedy="shorten the delay or raise capabilities.banks",
            )
        result[name] = min(2 + delay, most)
    return result


def partition(graph: Graph, chip: Chip, sync: str, share: int = 1, packet_bytes: int = PACKET_BYTES) -> Partition:
    """Cut every population that is on the chip into boxes of at most 1 / ``share`` of a core, for cores that hold several; a head of a coincidence,
    which cannot be cut, may take up to a whole core. ``packet_bytes``: what a duplicated packet costs.

    Raises DoesNotFit when one channel at one pixel is already too large.
    """
    model = MemoryModel(graph, chip, sync)
    chosen = [k for k, p in enumerate(graph.populations) if on_chip(p)]
    reserve = dict.fromkeys(chosen, ROUTE_BITS)
    banks = least_banks(graph, chip, sync)
    grids: dict[int, Grid] = {}
    while len(grids) < len(chosen):
        for k in chosen:
            if k not in grids:
                grids[k] = _best_grid(model, k, banks[graph.populations[k].name], reserve[k], share, packet_bytes)
        # what is cut finer for its own routes gives its sources more of them; ends because room to keep free only grows
        for k, bits in _short_of_routes(model, grids, banks, reserve, share).items():
            reserve[k] = bits
            del grids[k]
    slices = tuple(Slice(k, box) for k in chosen for box in boxes_of(graph.populations[k], grids[k]))
    return Partition(slices, tuple(split_of(model, k, grids[k]) for k in chosen))


def boxes_of(population: Population, grid: Grid) -> list[Box]:
    """The boxes of a grid, by channels (whole heads of a coincidence), then rows, then columns."""
    units = (head_size(population), 1, 1)
    cuts = [
        [(i * (size // unit) // n * unit, (i + 1) * (size // unit) // n * unit) for i in range(n)]
        for size, n, unit in zip(population.shape, grid, units, strict=True)
    ]
    return [c + y + x for c in cuts[0] for y in cuts[1] for x in cuts[2]]


def _best_grid(model: MemoryModel, population: int, banks: int, reserve_bits: int, share: int, packet_bytes: int) -> Grid:
    node, memory = model.graph.populations[population], model.chip.memory

    def fits(box: Box) -> bool:
        if volume(box) * share > memory.neurons.value:
            return False
        if model.contents(population, box).bits(banks) + reserve_bits > 8 * memory.bytes.value // share:
            return False
        return memory.axons is None or _axons(model, population, box) * share <= memory.axons.value

    share = 1 if isinstance(node.op, Coincidence) and not fits(_largest(node, (node.op.heads, 1, 1))) else share
    best: tuple[float, Grid] | None = None
    per_box = memory.bytes.value / 8
    for rows, columns in _spatial(node, every=packet_bytes > PACKET_BYTES):
        for channels in _counts(node.shape[0] // head_size(node)):
            grid = (channels, rows, columns)
            if best is not None and (channels * rows * columns - 1) * per_box >= best[0]:
                break
            if not fits(_largest(node, grid)):
                continue
            weights, packets = _duplicates(model, population, grid)
            cost = weights + packet_bytes * packets + (channels * rows * columns - 1) * per_box
            if best is not None and cost >= best[0]:
                break
            if all(fits(box) for box in boxes_of(node, grid)):
                best = cost, grid
                break
    if best is None:
        _refuse(model, population, banks, reserve_bits)
    return best[1]


def class_load(graph: Graph, chip: Chip, sync: str, readout: Population, into: Sequence[Projection]) -> tuple[int, list[int], list[int]]:
    """Of the largest class of a readout: its bits without weights (state, banks, parameters, a route); per projection ``into`` it bits and axons."""
    model = MemoryModel(graph, chip, sync)
    number, banks = graph.populations.index(readout), least_banks(graph, chip, sync)[readout.name]
    boxes = boxes_of(readout, readout.shape)
    if not any(isinstance(p.map, Sparse) for p in into):
        boxes = boxes[:1]  # else classes differ
    contents = [model.contents(number, box) for box in boxes]
    fixed = max(c.bits(banks) - c.weights for c in contents) + ROUTE_BITS
    bits, axons = [], []
    for p in into:
        shape = graph.population(p.source).shape
        reached = [reach(p, shape, whole(shape), box) for box in boxes]
        bits.append(max(model.block_bits(p, shape, box) for box in boxes))
        axons.append(max((volume(box) for box in reached if box is not None), default=0))
    return fixed, bits, axons


def _axons(model: MemoryModel, population: int, box: Box) -> int:
    """Source neurons that a box listens to."""
    return sum(volume(reached) for reached in _heard(model, population, box))


def _heard(model: MemoryModel, population: int, box: Box) -> Iterator[Box]:
    """Per projection the box of the source neurons that reach the cells of a box."""
    node = model.graph.populations[population]
    for projection, shape in model.into[node.name]:
        reached = reach(projection, shape, whole(shape), operand_box(node, box, projection.operand))
        if reached is not None:
            yield reached


def _refuse(model: MemoryModel, population: int, banks: int, reserve_bits: int) -> NoReturn:
    node, memory = model.graph.populations[population], model.chip.memory
    least = boxes_of(node, (node.op.heads, 1, 1) if isinstance(node.op, Coincidence) else node.shape)
    neuron, part, cure = "one neuron", "one channel at one pixel", "narrower layers"
    if isinstance(node.op, Coincidence):
        neuron = part = f"one head ({head_size(node)} channels at all pixels, which stay on one core)"
        cure = "more heads, fewer pixels"
        if volume(least[0]) > memory.neurons.value:
            raise DoesNotFit(
                f"population {node.name} {node.shape}: even {part} has {volume(least[0])} neurons, a core of {model.chip.name} has "
                f"{memory.neurons.value} (memory.neurons); use {cure} or a chip with more neurons per core"
            )
    axons = max(_axons(model, population, box) for box in least)
    if memory.axons is not None and axons > memory.axons.value:
        raise DoesNotFit(
            f"population {node.name} {node.shape}: even {neuron} listens to {axons} others, a core of {model.chip.name} has {memory.axons.value} "
            "axons (memory.axons); use fewer input channels, a smaller kernel or a layer between",
            layer=node.name, what=f"axons that {neuron} listens to", value=axons, limit=memory.axons.value, remedy=f"--set memory.axons={axons}",
        )  # fmt: skip
    need = (max(model.contents(population, box).bits(banks) for box in least) + reserve_bits + 7) // 8
    raise DoesNotFit(
        f"population {node.name} {node.shape}: even {part} needs {need} bytes, a core of {model.chip.name} has "
        f"{memory.bytes.value} (memory.bytes); use {cure}, fewer weight bits or a chip with more memory per core (--set memory.bytes={need})",
        layer=node.name, what=f"bytes of {part} in a core's memory", value=need, limit=memory.bytes.value, remedy=f"--set memory.bytes={need}",
    )  # fmt: skip


def _counts(size: int) -> list[int]:
    """Numbers of parts that give distinct largest parts, ascending: 1 .. size."""
    return sorted({-(-size // -(-size // n)) for n in range(1, size + 1)})


def _spatial(population: Population, *, every: bool) -> Iterator[tuple[int, int]]:
    """Rows first; columns only where single rows are already too large, or with ``every`` in all combinations. A coincidence needs all its pixels in
    one place."""
    _, height, width = population.shape
    if isinstance(population.op, Coincidence):
        yield 1, 1
    elif every:
        yield from sorted(product(_counts(height), _counts(width)), key=lambda cut: (cut[0] * cut[1], cut))
    else:
        for rows in _counts(height):
            yield rows, 1
        for columns in _counts(width)[1:]:
            yield height, columns


def _largest(population: Population, grid: Grid) -> Box:
    units = (head_size(population), 1, 1)
    sides = [-(-size // unit // n) * unit for size, n, unit in zip(population.shape, grid, units, strict=True)]
    return 0, sides[0], 0, sides[1], 0, sides[2]


def _duplicates(model: MemoryModel, population: int, grid: Grid) -> tuple[int, int]:
    """(weight bytes, packets) beyond those of the uncut population."""
    node = model.graph.populations[population]
    everything = whole(node.shape)
    boxes: list[Box] | None = None
    bits = packets = 0
    for projection, shape in model.into[node.name]:
        if not projection.operand and not isinstance(projection.map, Sparse):
            more, sent = _separable(model, population, projection, shape, grid)
            bits, packets = bits + more, packets + sent
            continue
        boxes = boxes_of(node, grid) if boxes is None else boxes
        for sign, parts in ((1, boxes), (-1, [everything])):
            for box in parts:
                cells = operand_box(node, box, projection.operand)
                bits += sign * model.block_bits(projection, shape, cells)
                reached = reach(projection, shape, whole(shape), cells)
                packets += sign * (volume(reached) if reached is not None else 0)
    return max(0, bits) // 8, max(0, packets)


def _separable(model: MemoryModel, population: int, projection: Projection, shape: Shape, grid: Grid) -> tuple[int, int]:
    """(weight bits, packets) that a grid duplicates of a map whose reach is a product of axes: sums over boxes are products of sums over cuts."""
    node = model.graph.populations[population]
    spans, channel_bits = [], [0, 0]
    for axis, parts in enumerate(grid):
        found = []
        for k, n in enumerate((1, parts)):
            key = (id(projection), axis, n)
            if key not in model.cuts:
                extent = bits = 0
                for cut in boxes_of(node, (n if axis == 0 else 1, n if axis == 1 else 1, n if axis == 2 else 1)):
                    reached = reach(projection, shape, whole(shape), cut)
                    extent += 0 if reached is None else reached[2 * axis + 1] - reached[2 * axis]
                    bits += model.block_bits(projection, shape, cut) if axis == 0 else 0
                model.cuts[key] = extent, bits
            extent, bits = model.cuts[key]
            found.append(extent)
            if axis == 0:
                channel_bits[k] = bits
        spans.append(found)
    stored = 1 if isinstance(projection.map, Dense | TokenMix) else grid[1] * grid[2]  # a weight of its own for every pixel, or one for all
    before, after = (spans[0][k] * spans[1][k] * spans[2][k] for k in (0, 1))
    return channel_bits[1] * stored - channel_bits[0], after - before


def split_of(model: MemoryModel, population: int, grid: Grid) -> Split:
    """How a grid cuts a population, with what that duplicates."""
    weights, packets = _duplicates(model, population, grid)
    return Split(model.graph.populations[population].name, *grid, weights, packets)


def reached_boxes(graph: Graph, slices: tuple[Slice, ...], origins: list[tuple[int, Box]]) -> dict[tuple[int, int], Box]:
    """{(origin, slice): box of the origin's neurons that reach the slice}; origins are (population, box)."""
    of_population: dict[int, list[int]] = {}
    for s, (population, _) in enumerate(origins):
        of_population.setdefault(population, []).append(s)
    targets: dict[int, list[int]] = {}
    for q, piece in enumerate(slices):
        targets.setdefault(piece.population, []).append(q)
    index_of = {p.name: k for k, p in enumerate(graph.populations)}
    result: dict[tuple[int, int], Box] = {}
    for number in chip_projections(graph):
        projection = graph.projections[number]
        shape = graph.population(projection.source).shape
        for q in targets[index_of[projection.target]]:
            near = of_population.get(index_of[projection.source], [])
            cells = operand_box(graph.populations[slices[q].population], slices[q].box, projection.operand)
            for s, box in zip(near, reach_all(projection, shape, [origins[s][1] for s in near], cells), strict=True):
                if box is not None:
                    result[s, q] = hull(result[s, q], box) if (s, q) in result else box
    return result


def _short_of_routes(model: MemoryModel, grids: dict[int, Grid], banks: dict[str, int], reserve: dict[int, int], share: int) -> dict[int, int]:
    """Populations whose slices have no room for their routes, with the bits to keep free."""
    graph, memory = model.graph, model.chip.memory
    slices = tuple(Slice(k, box) for k in sorted(grids) for box in boxes_of(graph.populations[k], grids[k]))
    reached = Counter(s for s, _ in reached_boxes(graph, slices, [(piece.population, piece.box) for piece in slices]))
    short: dict[int, int] = {}
    for s, piece in enumerate(slices):
        k = piece.population
        routes = ROUTE_BITS * reached[s]
        held = model.contents(k, piece.box).bits(banks[graph.populations[k].name])
        if routes > reserve[k] and held + routes > 8 * memory.bytes.value // share:
            short[k] = max(short.get(k, 0), routes)
    return short
