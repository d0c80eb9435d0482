"""Linear maps and neuron rules of drawn Graphs.

Structure (shapes, ops) is drawn by hypothesis, so that a fault shrinks; the many weights come from one drawn seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from neurosim.chip import Chip
from neurosim.graph import Conv2d, Dense, NeuronRule, Pooling, Shape, Sparse, SumPool, TokenMix

SPIKES = (1, 1, 2, 3, 4)
"""Most spikes per step of drawn neurons."""


def delays() -> st.SearchStrategy[int]:
    """Trained delays of projections, in steps."""
    return st.sampled_from([0, 0, 0, 1, 2])


@st.composite
def rules(draw: st.DrawFn, shape: Shape, sync: str, chip: Chip, scale: int, weights: np.random.Generator) -> NeuronRule:
    """A neuron rule in integers around ``scale``, per neuron, per channel or scalar, within the membranes of the chip."""
    limit = 2 ** (chip.arithmetic.state_bits - 1) - 1
    form = draw(st.sampled_from([(1, 1, 1), (shape[0], 1, 1), shape]))
    top = min(draw(st.integers(1, 12)) * scale, limit)
    biased, floored, subtract = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    current = sync != "free" and draw(st.integers(0, 3)) == 0
    threshold = weights.integers(1, top + 1, form)
    reset_by = weights.integers(1, top + 1, form) if subtract and draw(st.booleans()) else None
    v_init = np.clip(weights.integers(-top, 2 * top + 1, form), -limit, limit) if draw(st.integers(0, 2)) == 0 else None  # also above threshold
    most = draw(st.sampled_from(SPIKES))
    if reset_by is not None and np.any(reset_by > 2 * threshold):
        most = 1  # several resets could leave the membrane's word; graphs refuse it
    return NeuronRule(
        threshold=threshold,
        bias=weights.integers(-2, 4, form) * scale if biased else np.zeros((1, 1, 1), np.int64),
        decay=4096 - draw(st.sampled_from([0, 0, 2048, 1024, 100, 4095])),
        reset="subtract" if subtract else "zero",
        reset_by=reset_by,
        floor=weights.integers(-6, 1, form) * scale if floored else None,
        strict=draw(st.booleans()),
        decay_current=4096 - draw(st.sampled_from([0, 2048, 700])) if current else None,
        max_spikes=most,
        v_init=v_init,
    )


def _whole(weights: np.random.Generator, shape: tuple[int, ...], gain: int, fan_in: int = 0) -> np.ndarray[Any, Any]:
    """Integer weights around ``gain``, some zero, some negative; with a ``fan_in`` counts: 0, 1 or 2, about three synapses into each cell."""
    if fan_in:
        return weights.integers(1, 3, shape) * (weights.random(shape) < min(0.8, 3 / fan_in))
    return weights.integers(-gain, gain + 2, shape) * (weights.random(shape) < 0.8)


@st.composite
def maps(draw: st.DrawFn, source: Shape, target: Shape | None, scale: int, weights: np.random.Generator, counts: bool = False) -> Any:
    """A linear map from ``source`` onto ``target``, or onto any small shape when it is None; weights around ``scale``.

    ``counts``: the weights are small and at least 0, as those into cells that hold spikes.
    """
    gain = 1 if counts else draw(st.integers(1, 7)) * scale
    channels, height, width = source
    size = channels * height * width
    kinds = ["dense", "sparse"]
    if target is None or target[1:] == source[1:]:
        kinds.append("pointwise")
    if target is None or target == source:
        kinds += ["identity", "token_mix"]
    if target is None:
        kinds += ["conv2d", "pooled_conv2d", "sum_pool"]
    elif target[1:] == (1, 1):
        kinds.append("head")
    kind = draw(st.sampled_from(kinds))
    out: Shape = target or (draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    if kind == "dense":
        return Dense(_whole(weights, (int(np.prod(out)), size), gain, size * counts), out)
    if kind == "sparse":
        return _sparse(weights, source, out, gain, counts)
    if kind == "pointwise":
        return Conv2d(_whole(weights, (out[0], channels, 1, 1), gain, channels * counts))
    pool, times = None, 1
    if kind in ("pooled_conv2d", "head"):
        axes = [draw(st.lists(st.integers(-1, 2), min_size=side, max_size=side).map(_numbered)) for side in source[1:]]
        pool = Pooling(axes[0], axes[1])
        source, times = pool.out_shape(source), height * width
        kind = "conv2d" if kind == "pooled_conv2d" else kind
    if kind == "head":  # what a pooling leaves, through a dense layer
        return Conv2d(_whole(weights, (out[0], *source), gain, size * counts), pool=pool)
    if kind == "identity":
        return SumPool(weights.integers(1, gain + 2, channels))
    if kind == "token_mix":
        heads = draw(st.sampled_from([h for h in (1, 2, 3) if channels % h == 0]))
        tokens = height * width
        return TokenMix(_whole(weights, (heads, tokens, tokens), gain, tokens * counts))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    kernel = tuple(draw(st.integers(1, min(3, side + 2 * pad))) for side, pad in zip(source[1:], padding, strict=True))
    if kind == "sum_pool":
        return SumPool(weights.integers(1, gain + 2, channels), (kernel[0], kernel[1]), stride, padding)
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    dilation = tuple(
        draw(st.integers(1, 2)) if 2 * (k - 1) + 1 <= side + 2 * pad else 1 for k, side, pad in zip(kernel, source[1:], padding, strict=True)
    )
    shape = (groups * draw(st.sampled_from([1, 2, 5])), channels // groups, *kernel)
    fan_in = int(np.prod(shape[1:])) * times * counts
    return Conv2d(_whole(weights, shape, gain, fan_in), stride, padding, (dilation[0], dilation[1]), groups, pool)


def _numbered(places: list[int]) -> np.ndarray[Any, Any]:
    """Rows or columns of a pooling: any are added up, some not read, at least one is."""
    kinds = {kind: n for n, kind in enumerate(dict.fromkeys(kind for kind in places if kind >= 0))}
    return np.array([kinds.get(kind, -1) for kind in places] if kinds else [0] * len(places), np.int64)


def _sparse(weights: np.random.Generator, source: Shape, out: Shape, gain: int, counts: bool) -> Sparse:
    size, targets = int(np.prod(source)), int(np.prod(out))
    rows = [np.flatnonzero(weights.random(targets) < (min(0.5, 3 / size) if counts else 0.5)) for _ in range(size)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Sparse(indptr, np.concatenate(rows).astype(np.int64), _whole(weights, (int(indptr[-1]),), gain, int(counts)), out)
