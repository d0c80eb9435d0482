"""Integer Graphs: linear maps, neuron rules, feed-forward and recurrent networks.

Structure (shapes, ops, depths) is drawn by hypothesis, so that a fault shrinks; the many weights come from one drawn seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from neurosim.chip import Chip
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection, Shape, Sparse, SumPool, TokenMix


@st.composite
def rules(draw: st.DrawFn, shape: Shape, sync: str, limit: int, scale: int, weights: np.random.Generator) -> NeuronRule:
    """A neuron rule in integers around ``scale``, per neuron, per channel or scalar; ``limit`` is the largest membrane of the chip."""
    form = draw(st.sampled_from([(1, 1, 1), (shape[0], 1, 1), shape]))
    top = min(draw(st.integers(1, 12)) * scale, limit)
    biased, floored, subtract = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    current = sync != "free" and draw(st.integers(0, 3)) == 0
    return NeuronRule(
        threshold=weights.integers(1, top + 1, form),
        bias=weights.integers(-2, 4, form) * scale if biased else np.zeros((1, 1, 1), np.int64),
        decay=4096 - draw(st.sampled_from([0, 0, 2048, 1024, 100, 4095])),
        reset="subtract" if subtract else "zero",
        reset_by=weights.integers(1, top + 1, form) if subtract and draw(st.booleans()) else None,
        floor=weights.integers(-6, 1, form) * scale if floored else None,
        strict=draw(st.booleans()),
        decay_current=4096 - draw(st.sampled_from([0, 2048, 700])) if current else None,
    )


def _signed(weights: np.random.Generator, shape: tuple[int, ...], gain: int) -> np.ndarray[Any, Any]:
    """Integer weights around ``gain``: some zero, some negative."""
    return weights.integers(-gain, gain + 2, shape) * (weights.random(shape) < 0.8)


@st.composite
def maps(draw: st.DrawFn, source: Shape, target: Shape | None, scale: int, weights: np.random.Generator) -> Any:
    """A linear map from ``source`` onto ``target``, or onto any small shape when it is None; weights around ``scale``."""
    gain = draw(st.integers(1, 7)) * scale
    channels, height, width = source
    kinds = ["dense", "sparse"]
    if target is None or target[1:] == source[1:]:
        kinds.append("pointwise")
    if target is None or target == source:
        kinds += ["identity", "token_mix"]
    if target is None:
        kinds += ["conv2d", "sum_pool"]
    kind = draw(st.sampled_from(kinds))
    out: Shape = target or (draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    if kind == "dense":
        return Dense(_signed(weights, (int(np.prod(out)), int(np.prod(source))), gain), out)
    if kind == "sparse":
        return _sparse(weights, source, out, gain)
    if kind == "pointwise":
        return Conv2d(_signed(weights, (out[0], channels, 1, 1), gain))
    if kind == "identity":
        return SumPool(weights.integers(1, gain + 2, channels))
    if kind == "token_mix":
        heads = draw(st.sampled_from([h for h in (1, 2, 3) if channels % h == 0]))
        tokens = height * width
        return TokenMix(_signed(weights, (heads, tokens, tokens), gain))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    kernel = tuple(draw(st.integers(1, min(3, side + 2 * pad))) for side, pad in zip(source[1:], padding, strict=True))
    if kind == "sum_pool":
        return SumPool(weights.integers(1, gain + 2, channels), (kernel[0], kernel[1]), stride, padding)
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    dilation = tuple(
        draw(st.integers(1, 2)) if 2 * (k - 1) + 1 <= side + 2 * pad else 1 for k, side, pad in zip(kernel, source[1:], padding, strict=True)
    )
    out_channels = groups * draw(st.sampled_from([1, 2, 5]))
    return Conv2d(_signed(weights, (out_channels, channels // groups, *kernel), gain), stride, padding, (dilation[0], dilation[1]), groups)


def _sparse(weights: np.random.Generator, source: Shape, out: Shape, gain: int) -> Sparse:
    size, targets = int(np.prod(source)), int(np.prod(out))
    rows = [np.flatnonzero(weights.random(targets) < 0.5) for _ in range(size)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Sparse(indptr, np.concatenate(rows).astype(np.int64), _signed(weights, (int(indptr[-1]),), gain), out)


@st.composite
def graphs(draw: st.DrawFn, sync: str, chip: Chip, plain: bool = False) -> Graph:
    """An integer Graph: one or two inputs, sometimes host currents, one to four spiking populations, mostly a readout, sometimes recurrence.

    ``plain``: one input of spikes and a readout, what the clock-driven model runs from events.
    """
    weights = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limit = 2 ** (chip.arithmetic.state_bits - 1) - 1
    scale = draw(st.sampled_from([1, 1, 1, 300] if chip.arithmetic.acc_bits < 48 else [1, 300, 70_000]))  # weights of one, two or four bytes
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
    populations = [Population(f"in{k}", draw(shapes), "input") for k in range(1 if plain else draw(st.integers(1, 2)))]
    projections: list[Projection] = []
    spiking = draw(st.integers(1, 4))
    readout = plain or draw(st.integers(0, 3)) > 0
    analog = not plain and draw(st.integers(0, 2)) == 0
    for k in range(spiking + readout):
        last = k == spiking
        name = "out" if last else f"layer{k}"
        source = draw(st.sampled_from([p for p in populations if p.kind in ("input", "spiking")][-3:]))
        target = (draw(st.integers(1, 4)), 1, 1) if last else None
        linear = draw(maps(source.shape, target, scale, weights))
        shape = linear.out_shape(source.shape)
        extra = draw(st.integers(0, 1)) if not last and shape[1:] == (1, 1) else 0  # channels that only later projections reach
        shape = (shape[0] + extra, *shape[1:])
        rule = draw(rules(shape, sync, limit, scale, weights))
        if last:
            rule = NeuronRule(threshold=np.ones((1, 1, 1), np.int64), bias=rule.bias, decay=rule.decay)
        populations.append(Population(name, shape, "readout" if last else "spiking", rule, scale=np.ones(shape[0])))
        projections.append(Projection(source.name, name, linear, draw(_delays()), draw(st.integers(0, 1)), layers=(name,)))
        for _ in range(draw(st.integers(0, 1 if last else 2))):
            other = draw(st.sampled_from([p for p in populations[:-1] if p.kind in ("input", "spiking")]))
            part = (shape[0] - extra, *shape[1:]) if draw(st.booleans()) else shape
            projections.append(
                Projection(other.name, name, draw(maps(other.shape, part, scale, weights)), draw(_delays()), 0, shape[0] - part[0], layers=(name,))
            )
        if analog and not last and draw(st.booleans()):
            image = Population(f"image{k}", shape, "analog")
            populations.insert(0, image)
            projections.append(Projection(image.name, name, SumPool(np.ones(shape[0], np.int64)), layers=(name,)))
    if draw(st.integers(0, 2)) == 2:
        projections = draw(_with_loops(sync, populations, projections, scale, weights))
    graph = Graph("drawn", draw(st.integers(1, 4)), tuple(populations), tuple(projections), class_names=())
    graph.verify()
    return graph


@st.composite
def _with_loops(
    draw: st.DrawFn, sync: str, populations: list[Population], projections: list[Projection], scale: int, weights: np.random.Generator
) -> list[Projection]:
    """Projections from a population to itself or to an earlier one, in Program order (by target)."""
    layers = [p for p in populations if p.kind == "spiking"]
    for _ in range(draw(st.integers(1, 2))):
        late = draw(st.integers(0, len(layers) - 1))
        early = draw(st.integers(0, late))
        # a barrier costs one step per hop, so a loop needs as much delay as hops
        delay = draw(st.integers(1, 2)) + (late - early if sync == "barrier" else 0)
        source, target = layers[late], layers[early]
        loop = Projection(source.name, target.name, draw(maps(source.shape, target.shape, scale, weights)), delay, layers=(target.name,))
        projections = [*projections, loop]
    order = {p.name: k for k, p in enumerate(populations)}
    return sorted(projections, key=lambda p: order[p.target])


def _delays() -> st.SearchStrategy[int]:
    return st.sampled_from([0, 0, 0, 1, 2])
