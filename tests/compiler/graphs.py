"""Integer graphs for the tests of the compiler's back."""

from __future__ import annotations

import numpy as np

from neurosim.chip import Chip, load_chip
from neurosim.graph import Conv2d, Dense, Graph, LinearMap, NeuronRule, Population, Projection, Shape, Sparse, SumPool, TokenMix, windows_of

OPS = ("conv", "grouped", "depthwise", "strided", "dilated", "pooled", "dense", "mix", "pool", "identity", "sparse")


def draw_map(draw: np.random.Generator, op: str, shape: Shape, span: int = 7) -> LinearMap:
    """A map of a kind of ``OPS`` for a source shape, with weights in [-span, span], zeros among them."""

    def weights(*size: int) -> np.ndarray:
        return draw.integers(-span, span + 1, size)

    c, h, w = shape
    groups = int(draw.choice([g for g in range(1, c + 1) if c % g == 0]))
    if op == "conv":
        return Conv2d(weights(int(draw.integers(1, 6)), c, min(3, h), min(3, w)), padding=(1, 1))
    if op == "grouped":
        return Conv2d(weights(groups * int(draw.integers(1, 4)), c // groups, 1, 1), groups=groups)
    if op == "depthwise":
        return Conv2d(weights(c, 1, min(3, h), min(2, w)), padding=(1, 0), groups=c)
    if op == "strided":
        return Conv2d(weights(3, c, 2, 1), stride=(2, 3), padding=(1, 0))
    if op == "dilated":
        return Conv2d(weights(2, c, 2, 2), padding=(2, 1), dilation=(2, 2))
    if op == "pooled":
        pool = (int(draw.integers(1, h + 1)), int(draw.integers(1, w + 1)))
        return Conv2d(weights(3, c, min(2, h // pool[0]), 1), padding=(1, 0), pool=windows_of(shape, pool))
    if op == "dense":
        out = (int(draw.integers(1, 5)), int(draw.integers(1, 3)), int(draw.integers(1, 3)))
        return Dense(weights(int(np.prod(out)), c * h * w), out)
    if op == "mix":
        return TokenMix(weights(groups, h * w, h * w))
    if op == "pool":
        return SumPool(weights(c), (2, 2), (2, 2), (1, 1))
    if op == "identity":
        return SumPool(weights(c))
    counts = draw.integers(0, 4, c * h * w)
    out = (int(draw.integers(1, 5)), 2, 2)
    total = int(counts.sum())
    return Sparse(np.concatenate([[0], np.cumsum(counts)]), draw.integers(0, int(np.prod(out)), total), weights(total), out)


def draw_graph(seed: int, ops: list[str], steps: int = 2, delays: bool = True, loops: bool = False) -> Graph:
    """A chain of populations by the given ops with skips wherever shapes allow one, a host part, and a readout; ``loops``: some feed themselves."""
    draw, starts = np.random.default_rng(seed), np.random.default_rng([seed, 1])

    def rule(shape: Shape) -> NeuronRule:
        return NeuronRule(
            threshold=draw.integers(5, 40, (shape[0], 1, 1)),
            bias=draw.integers(-2, 3, shape if draw.random() < 0.5 else (shape[0], 1, 1)),
            decay=int(draw.choice([2048, 4096])),
            reset="subtract" if draw.random() < 0.5 else "zero",
            floor=np.full((1, 1, 1), -50) if draw.random() < 0.5 else None,
            strict=bool(draw.random() < 0.5),
            v_init=starts.integers(-20, 60, shape) * (starts.random(shape) < 0.5) if starts.random() < 0.5 else None,
        )

    shape: Shape = (int(draw.integers(1, 5)), int(draw.integers(3, 7)), int(draw.integers(3, 7)))
    image = Population("image", (1, *shape[1:]), "analog")
    first = Population("p0", shape, "spiking", rule(shape), host=True) if draw.random() < 0.5 else Population("p0", shape, "input")
    populations, projections = [image, first], []
    if first.host:
        projections.append(Projection("image", "p0", Conv2d(draw.integers(-7, 8, (shape[0], 1, 1, 1)))))
    for k, op in enumerate([*ops, "dense"], start=1):
        before = populations[-1]
        linear = draw_map(draw, op, before.shape)
        shape = linear.out_shape(before.shape)
        name, last = f"p{k}", k == len(ops) + 1
        offset = int(draw.integers(0, 3)) if op != "dense" else 0
        full = (shape[0] + offset, *shape[1:])
        populations.append(Population(name, full, "readout" if last else "spiking", rule(full)))
        delay = int(draw.integers(0, 2)) if delays else 0
        into = [Projection(before.name, name, linear, delay=delay, shift=int(draw.integers(0, 3)), channel_offset=offset)]
        for earlier in populations[1:-2]:
            if earlier.shape == full and draw.random() < 0.6:
                into.append(Projection(earlier.name, name, SumPool(draw.integers(-7, 8, full[0]))))
        if image.shape[1:] == full[1:] and draw.random() < 0.3:
            into.append(Projection("image", name, Conv2d(draw.integers(-7, 8, (full[0], 1, 1, 1)))))
        projections += into
    if loops:
        own = [p for p in populations if p.kind == "spiking" and not p.host and draw.random() < 0.6]
        projections += [Projection(p.name, p.name, SumPool(draw.integers(-7, 8, p.shape[0])), delay=int(draw.integers(1, 3))) for p in own]
        order = {p.name: k for k, p in enumerate(populations)}
        projections.sort(key=lambda p: order[p.target])
    graph = Graph("drawn", steps, tuple(populations), tuple(projections), class_names=tuple("abc"))
    graph.verify()
    return graph


def stmixer_like(steps: int = 1, channels: int = 64, depth: int = 2) -> Graph:
    """The populations and maps of STMixer for 28 x 28 images with drawn weights: residual stream of currents, host encoding, composed head."""
    draw = np.random.default_rng(1)

    def w(*size: int) -> np.ndarray:
        return draw.integers(-127, 128, size)

    c = channels
    rule = NeuronRule(np.full((1, 1, 1), 1000), np.zeros((1, 1, 1), np.int64), decay=2048)
    populations = [Population("image", (1, 28, 28), "analog"), Population("l1", (c // 8, 28, 28), "spiking", rule, host=True)]
    projections = [Projection("image", "l1", Conv2d(w(c // 8, 1, 3, 3), padding=(1, 1)))]
    for name, source, shape, stride in (("l2", "l1", (c // 4, 28, 28), 1), ("l3", "l2", (c // 2, 28, 28), 1), ("l4", "l3", (c, 14, 14), 2)):
        before = next(p for p in populations if p.name == source)
        populations.append(Population(name, shape, "spiking", rule))
        projections.append(Projection(source, name, Conv2d(w(shape[0], before.shape[0], 3, 3), (stride, stride), (1, 1))))
    writers = [
        ("image", lambda: Conv2d(w(c // 8, 1, 4, 4), (4, 4)), 0),
        ("l4", lambda: Conv2d(w(c - c // 8, c, 3, 3), (2, 2), (1, 1)), c // 8),
    ]

    def reader(name: str) -> None:
        populations.append(Population(name, (c, 7, 7), "spiking", rule))
        projections.extend(Projection(source, name, make(), channel_offset=offset) for source, make, offset in writers)

    for block in range(depth):
        n = f"blocks.{block}."
        reader(n + "mix1")
        populations.extend(Population(n + name, (c, 7, 7), "spiking", rule) for name in ("mix2", "mix3"))
        projections.append(Projection(n + "mix1", n + "mix2", Conv2d(w(c, c, 1, 1))))
        projections.append(Projection(n + "mix2", n + "mix3", TokenMix(w(4, 49, 49))))
        writers.append((n + "mix3", lambda: Conv2d(w(c, c, 1, 1)), 0))
        reader(n + "ffn1")
        populations.append(Population(n + "ffn2", (4 * c, 7, 7), "spiking", rule))
        projections.append(Projection(n + "ffn1", n + "ffn2", Conv2d(w(4 * c, c, 1, 1))))
        writers.append((n + "ffn2", lambda: Conv2d(w(c, 4 * c, 1, 1)), 0))
    populations.append(Population("head", (10, 1, 1), "readout"))
    size = {p.name: p.size for p in populations}
    projections.extend(Projection(source, "head", Dense(w(10, size[source]), (10, 1, 1))) for source, _, _ in writers)
    graph = Graph("stmixer-like", steps, tuple(populations), tuple(projections))
    graph.verify()
    return graph


def chip_of(neurons: int = 4096, bytes_: int = 1 << 20, side: int = 4, flow: str = "link", *more: str) -> Chip:
    """A square mesh derived from ``tiny`` with everything the drawn graphs need."""
    return load_chip(
        "tiny",
        [
            f"memory.neurons={neurons}", f"memory.bytes={bytes_}", f"memory.cores={side * side}", f"noc.width={side}", f"noc.height={side}",
            f"noc.flow={flow}", "memory.route_entries=65536", "capabilities.max_delay=2", "capabilities.banks=6", *more,
        ],
    )  # fmt: skip
