"""Populations with extra ops: which op, its shape and rule, and projections into each of its cells (docs/machine.md, section 12)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from neurosim.chip import Chip
from neurosim.graph import Population, Projection, Shape, pass_rule
from neurosim.ops import Coincidence, Gate, MaxPool, Op, OrPool, pooled
from tests.conformance.maps import delays, maps, rules

OPS = ("or_pool", "gate", "max_pool", "coincidence")
PASSING = ("or_pool", "gate")
"""Ops whose neurons pass spikes on: their own cells hold counts."""


@st.composite
def op_layers(
    draw: st.DrawFn, kind: str, name: str, earlier: Sequence[Population], sync: str, chip: Chip, scale: int, weights: np.random.Generator
) -> tuple[Population, list[Projection]]:
    """A population with the op ``kind`` and the projections into its cells, each operand from one or two sources of ``earlier``, seldom none."""
    source = draw(st.sampled_from(earlier))
    projections: list[Projection] = []
    op: Op
    if kind in PASSING:
        linear = draw(maps(source.shape, None, scale, weights, counts=True))
        shape = linear.out_shape(source.shape)
        projections.append(Projection(source.name, name, linear, draw(delays()), layers=(name,)))
        rule = pass_rule(draw(st.sampled_from([1, 1, 2, 4])))
        op = OrPool()
        if kind == "gate":
            groups = draw(st.tuples(*(st.sampled_from([g for g in range(1, n + 1) if n % g == 0]) for n in shape)))
            op = Gate(groups, draw(st.integers(1, 3)), inverted=draw(st.booleans()), latched=draw(st.booleans()))
    elif kind == "max_pool":
        linear = draw(maps(source.shape, None, scale, weights))
        before = linear.out_shape(source.shape)
        projections.append(Projection(source.name, name, linear, draw(delays()), draw(st.integers(0, 1)), layers=(name,), operand="window"))
        padding = draw(st.tuples(*(st.integers(0, 1) for _ in before[1:])))
        kernel = tuple(draw(st.integers(max(1, 2 * pad), max(2 * pad, min(3, side)))) for side, pad in zip(before[1:], padding, strict=True))
        op = MaxPool(before, (kernel[0], kernel[1]), draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), padding)
        shape = pooled(before, op.kernel, op.stride, op.padding)
        rule = draw(rules(shape, sync, chip, scale, weights))
    else:
        shape, heads = draw(_heads(source.shape))
        op = Coincidence(heads, shift=draw(st.integers(0, 2)))
        rule = draw(rules(shape, sync, chip, scale, weights))
    population = Population(name, shape, "spiking", rule, scale=np.ones(shape[0]), op=op)
    for operand in op.operands(shape):
        if operand != "window" and draw(st.integers(0, 11)) < 11:
            projections.append(draw(into(population, operand, earlier, scale, weights)))
    for _ in range(draw(st.integers(0, 2))):
        operand = draw(st.sampled_from(["", *op.operands(shape)]))
        projections.append(draw(into(population, operand, earlier, scale, weights)))
    return population, projections


@st.composite
def _heads(draw: st.DrawFn, source: Shape) -> tuple[Shape, int]:
    """Shape and heads of a coincidence: small, so that a head fits a core, or its source's, which can then be q, k or v as it is."""
    if draw(st.booleans()):
        return source, draw(st.sampled_from([h for h in (1, 2, 3) if source[0] % h == 0]))
    heads, tokens = draw(st.integers(1, 3)), draw(st.sampled_from([(1, 1), (1, 2), (2, 2), (3, 1)]))
    return (heads * draw(st.integers(1, 3)), *tokens), heads


@st.composite
def into(
    draw: st.DrawFn,
    target: Population,
    operand: str,
    sources: Sequence[Population],
    scale: int,
    weights: np.random.Generator,
    delay: int | None = None,
) -> Projection:
    """A projection from one of ``sources`` into all cells of an operand (or its neurons' own), or into all but the first channel of them."""
    cells: Shape = target.shape if operand == "" or target.op is None else target.op.operands(target.shape)[operand]
    first = 1 if cells[0] > 1 and draw(st.integers(0, 4)) == 4 else 0
    source = draw(st.sampled_from(sources))
    linear = draw(maps(source.shape, (cells[0] - first, *cells[1:]), scale, weights, counts=takes_counts(target, operand)))
    return Projection(source.name, target.name, linear, draw(delays()) if delay is None else delay, 0, first, layers=(target.name,), operand=operand)


def takes_counts(target: Population, operand: str) -> bool:
    """Whether cells add up spikes: neurons' own of or_pool and gate, masks, k, v and q."""
    if target.op is None:
        return False
    return target.op.name in PASSING if operand == "" else operand != "window"
