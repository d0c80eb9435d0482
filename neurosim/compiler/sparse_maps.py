"""Linear maps, and chains of them, as sparse maps, synapse by synapse, where a matrix of sources times targets would be too large to write out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.matrices import merged_synapses
from neurosim.graph import Conv2d, Dense, LinearMap, Pooling, Shape, Sparse, SumPool, TokenMix, stable_order

I64 = NDArray[np.int64]
SPARSE_LIMIT = 2**23
"""Most synapses of a map that is written out like this, its intermediate ones included."""


@dataclass(frozen=True)
class Synapses:
    """Synapse k leads from flat index ``source[k]`` to ``target[k]`` with ``weight[k]``; several of one pair add up."""

    source: I64
    target: I64
    weight: NDArray[Any]


def count(m: LinearMap, shape: Shape) -> int:
    """An upper bound of the synapses of a map on an input of ``shape``."""
    _, height, width = m.out_shape(shape)
    match m:
        case Conv2d():
            seen = [_seen(shape[k + 1], out, m, k) for k, out in enumerate((height, width))]
            return int((np.count_nonzero(m.weight, axis=(0, 1)) * np.outer(*seen)).sum())
        case SumPool():
            return m.weight.size * m.kernel[0] * m.kernel[1] * height * width
        case TokenMix():
            return shape[0] * height * width * height * width
        case Dense() | Sparse():
            return int(np.count_nonzero(m.weight))


def _seen(size: int, outputs: int, m: Conv2d, axis: int) -> I64:
    """Along one axis of a convolution: by tap, how many pairs there are of an output and a pixel that it sees there."""
    taps = np.arange(m.weight.shape[2 + axis])[:, None] * m.dilation[axis] + np.arange(outputs) * m.stride[axis] - m.padding[axis]
    times = np.ones(size, np.int64) if m.pool is None else m.pool.counts()[axis]
    return np.asarray(np.where((taps >= 0) & (taps < len(times)), times[np.clip(taps, 0, len(times) - 1)], 0).sum(axis=1))


def synapses(m: LinearMap, shape: Shape) -> Synapses:
    """All synapses of a map that are not 0, in no order."""
    match m:
        case Conv2d() if m.pool is not None:
            pooled, inner = m.pooled(shape), replace(m, pool=None)
            both = joined(_pooling(m.pool, shape), synapses(inner, pooled), math.prod(pooled))
            assert both is not None, "count was within the limit"
            found = both
        case Conv2d():
            found = _window(m.weight, m.groups, (m.stride, m.padding, m.dilation), m.out_shape(shape), shape)
        case SumPool():
            weight = np.broadcast_to(m.weight[:, None, None, None], (len(m.weight), 1, *m.kernel))
            found = _window(weight, len(m.weight), (m.stride, m.padding, (1, 1)), m.out_shape(shape), shape)
        case Dense():
            target, source = np.nonzero(m.weight)
            found = Synapses(source, target, m.weight[target, source])
        case TokenMix():
            heads, after, before = m.weight.shape
            channel = np.arange(shape[0])[:, None, None]
            weight = np.repeat(m.weight, shape[0] // heads, axis=0)
            source = np.broadcast_to(channel * before + np.arange(before), weight.shape)
            target = np.broadcast_to(channel * after + np.arange(after)[:, None], weight.shape)
            found = Synapses(source.ravel(), target.ravel(), weight.ravel())
        case Sparse():
            found = Synapses(m.origin, m.targets, m.weight)
    kept = found.weight != 0
    return Synapses(found.source[kept], found.target[kept], found.weight[kept])


def _pooling(pool: Pooling, shape: Shape) -> Synapses:
    pixels = np.where((pool.rows[:, None] >= 0) & (pool.columns >= 0), pool.rows[:, None] * (pool.columns.max() + 1) + pool.columns, -1).ravel()
    source = np.flatnonzero(np.tile(pixels >= 0, shape[0]))
    target = source // len(pixels) * math.prod(pool.out_shape(shape)[1:]) + pixels[source % len(pixels)]
    return Synapses(source, target, np.ones(len(source)))


Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def _window(weight: NDArray[Any], groups: int, geometry: Geometry, after: Shape, before: Shape) -> Synapses:
    (stride, padding, dilation), (out, inputs) = geometry, weight.shape[:2]
    channels = np.arange(out)[:, None] // (out // groups) * inputs + np.arange(inputs)  # [out, inputs]: source channel
    parts: list[tuple[I64, I64, NDArray[Any]]] = []
    for ky in range(weight.shape[2]):
        for kx in range(weight.shape[3]):
            y = np.arange(after[1]) * stride[0] + ky * dilation[0] - padding[0]
            x = np.arange(after[2]) * stride[1] + kx * dilation[1] - padding[1]
            rows, columns = np.flatnonzero((y >= 0) & (y < before[1])), np.flatnonzero((x >= 0) & (x < before[2]))
            seen = (y[rows][:, None] * before[2] + x[columns]).ravel()
            pixel = (rows[:, None] * after[2] + columns).ravel()
            whole = (out, inputs, len(seen))
            source = np.broadcast_to(channels[:, :, None] * (before[1] * before[2]) + seen, whole)
            target = np.broadcast_to(np.arange(out)[:, None, None] * (after[1] * after[2]) + pixel, whole)
            parts.append((source.ravel(), target.ravel(), np.broadcast_to(weight[:, :, ky, kx, None], whole).ravel()))
    source, target, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Synapses(source, target, values)


def joined(a: Synapses, b: Synapses, middle: int) -> Synapses | None:
    """b after a; ``middle``: values between them. None where that takes more than SPARSE_LIMIT synapses on the way."""
    order = stable_order(b.source, middle)
    first = np.concatenate([[0], np.cumsum(np.bincount(b.source, minlength=middle))])
    fan = np.diff(first)[a.target]
    if int(fan.sum()) > SPARSE_LIMIT:
        return None
    ends = np.cumsum(fan)
    follower = order[np.repeat(first[a.target] - (ends - fan), fan) + np.arange(int(ends[-1]) if len(ends) else 0)]
    return Synapses(np.repeat(a.source, fan), b.target[follower], np.repeat(a.weight, fan) * b.weight[follower])


def sparse_map(parts: Sequence[tuple[LinearMap, Shape]], source: Shape, shape: Shape) -> Sparse | None:
    """One sparse map for maps one after the other, each with the shape of its input; None above SPARSE_LIMIT synapses. ``shape``: of the output."""
    if not parts or any(count(m, before) > SPARSE_LIMIT for m, before in parts):
        return None
    total = synapses(*parts[0])
    for m, before in parts[1:]:
        more = joined(total, synapses(m, before), math.prod(before))
        if more is None:
            return None
        total = more
    size = math.prod(shape)
    origin, targets, weight = merged_synapses(total.source, total.target, total.weight, size)
    rows = np.bincount(origin, minlength=math.prod(source))
    return Sparse(np.concatenate([[0], np.cumsum(rows)]).astype(np.int64), targets, weight, shape)
