"""Which neurons a linear map joins, from its geometry alone (a zero weight counts as a synapse). Boxes are (c0, c1, y0, y1, x0, x1), half open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.graph import Conv2d, Dense, LinearMap, Pooling, Projection, Shape, Sparse, SumPool, TokenMix

Box = tuple[int, int, int, int, int, int]
Span = tuple[int, int]


def whole(shape: Shape) -> Box:
    """The box of a whole population."""
    return 0, shape[0], 0, shape[1], 0, shape[2]


def volume(box: Box) -> int:
    """Number of neurons in a box."""
    return (box[1] - box[0]) * (box[3] - box[2]) * (box[5] - box[4])


def hull(a: Box, b: Box) -> Box:
    """The smallest box that contains both."""
    return min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3]), min(a[4], b[4]), max(a[5], b[5])


def covered_channels(projection: Projection, source: Shape, box: Box) -> Span:
    """The output channels of the map (counted from 0 at its own first one) that lie in a target box; empty when low >= high."""
    offset = projection.channel_offset
    return max(box[0] - offset, 0), min(box[1] - offset, projection.map.out_shape(source)[0])


def reach(projection: Projection, source: Shape, inside: Box, box: Box) -> Box | None:
    """Bounding box of the source neurons within ``inside`` that have a synapse into the target box; None when there are none."""
    return reach_all(projection, source, [inside], box)[0]


def reach_all(projection: Projection, source: Shape, insides: Sequence[Box], box: Box) -> list[Box | None]:
    """``reach`` for several source boxes that do not overlap; what lies before the target box is looked up once."""
    low, high = covered_channels(projection, source, box)
    if low >= high or not insides:
        return [None] * len(insides)
    linear = projection.map
    bounds = np.array(insides, np.int64)
    if isinstance(linear, Sparse):
        found, some = _sparse_hulls(linear, projection.channel_offset, source, bounds, box)
    else:
        channels, rows, columns = _window(linear, source, (low, high), box)
        axes = (np.arange(*channels), np.unique(rows), np.unique(columns))
        spans = [_within(axis, bounds[:, 2 * k], bounds[:, 2 * k + 1]) for k, axis in enumerate(axes)]
        found = np.stack([bound for first, last, _ in spans for bound in (first, last)], axis=1)
        some = spans[0][2] & spans[1][2] & spans[2][2]
    return [(row[0], row[1], row[2], row[3], row[4], row[5]) if hit else None for row, hit in zip(found.tolist(), some.tolist(), strict=True)]


def synapses(linear: LinearMap, source: Shape) -> int:
    """All synapses of a map, zero weights included, those into the padding excluded."""
    channels, height, width = linear.out_shape(source)
    if isinstance(linear, Conv2d):
        rows, columns = (
            _pairs(out, linear.stride[k], linear.weight.shape[2 + k], linear.dilation[k], linear.padding[k], source[1 + k], linear.pool, k)
            for k, out in enumerate((height, width))
        )
        return int(rows * columns * channels) * int(linear.weight.shape[1])
    if isinstance(linear, SumPool):
        rows = _pairs(height, linear.stride[0], linear.kernel[0], 1, linear.padding[0], source[1])
        columns = _pairs(width, linear.stride[1], linear.kernel[1], 1, linear.padding[1], source[2])
        return rows * columns * channels
    if isinstance(linear, TokenMix):
        return int(channels * (height * width) ** 2)
    return int(linear.weight.size)


def _window(
    linear: Conv2d | Dense | TokenMix | SumPool, source: Shape, channels: Span, box: Box
) -> tuple[Span, NDArray[np.int64], NDArray[np.int64]]:
    """Source channels (a span) and the source rows and columns (lists) that reach output channels ``channels`` at the pixels of the box."""
    every_row, every_column = np.arange(source[1]), np.arange(source[2])
    if isinstance(linear, Dense):
        return (0, source[0]), every_row, every_column
    if isinstance(linear, TokenMix):
        return channels, every_row, every_column
    if isinstance(linear, SumPool):
        rows = _taps(box[2], box[3], linear.stride[0], linear.kernel[0], 1, linear.padding[0])
        columns = _taps(box[4], box[5], linear.stride[1], linear.kernel[1], 1, linear.padding[1])
        return channels, rows, columns
    out, per_group, kernel_y, kernel_x = linear.weight.shape
    per_group_out = out // linear.groups
    first, last = channels[0] // per_group_out, (channels[1] - 1) // per_group_out + 1
    rows = _taps(box[2], box[3], linear.stride[0], kernel_y, linear.dilation[0], linear.padding[0])
    columns = _taps(box[4], box[5], linear.stride[1], kernel_x, linear.dilation[1], linear.padding[1])
    if linear.pool is not None:
        rows, columns = (np.flatnonzero(np.isin(seen, taps[taps >= 0])) for seen, taps in zip(linear.pool.axes, (rows, columns), strict=True))
    return (first * per_group, last * per_group), rows, columns


def _taps(low: int, high: int, stride: int, kernel: int, dilation: int, padding: int) -> NDArray[np.int64]:
    """Source coordinates that outputs low..high-1 look at along one axis, padding included."""
    return (np.arange(low, high)[:, None] * stride + np.arange(kernel)[None, :] * dilation - padding).ravel()


def _pairs(outputs: int, stride: int, kernel: int, dilation: int, padding: int, size: int, pool: Pooling | None = None, axis: int = 0) -> int:
    taps = _taps(0, outputs, stride, kernel, dilation, padding)
    if pool is None:
        return int(np.count_nonzero((taps >= 0) & (taps < size)))
    counts = pool.counts()[axis]
    return int(counts[taps[(taps >= 0) & (taps < len(counts))]].sum())


def _within(coordinates: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Per span low..high: first of the ascending coordinates inside, last + 1, whether there is any (else the two mean nothing)."""
    first, last = np.searchsorted(coordinates, low), np.searchsorted(coordinates, high) - 1
    some: NDArray[np.bool_] = first <= last
    if not len(coordinates):
        return low, low, some
    return coordinates[np.minimum(first, len(coordinates) - 1)], coordinates[np.maximum(last, 0)] + 1, some


def synapses_into(linear: Sparse, offset: int, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The synapses of a sparse map into a target box, whose channels count from ``offset`` of the map's own: (local index of the target, ascending;
    position in the map)."""
    channels, height, width = linear.shape
    c, y, x = np.arange(box[0], box[1]) - offset, np.arange(box[2], box[3]), np.arange(box[4], box[5])
    own = (c >= 0) & (c < channels)
    target = ((c[own] * height + y[:, None, None]) * width + x[:, None]).ravel()  # (y, x, c) as local indices count
    local = np.arange(len(c) * len(y) * len(x)).reshape(len(y), len(x), len(c))[..., own].ravel()
    pointer, order = linear.incoming
    first, count = pointer[target], pointer[target + 1] - pointer[target]
    ends = np.cumsum(count)
    place = np.repeat(first - (ends - count), count) + np.arange(int(ends[-1]) if len(ends) else 0)
    return np.repeat(local, count), order[place]


def _sparse_hulls(linear: Sparse, offset: int, source: Shape, insides: NDArray[np.int64], box: Box) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Per source box the hull of its neurons with a synapse into the target box, and whether there are any."""
    _, hits = synapses_into(linear, offset, box)
    reaching = np.zeros(int(np.prod(source)), np.bool_)
    reaching[linear.origin[hits]] = True
    origin = np.flatnonzero(reaching)
    owner = np.full(source, -1, np.int64)
    for k, (c0, c1, y0, y1, x0, x1) in enumerate(insides.tolist()):
        owner[c0:c1, y0:y1, x0:x1] = k
    owned = owner.ravel()[origin]
    origin, owned = origin[owned >= 0], owned[owned >= 0]
    hulls = np.empty((len(insides), 6), np.int64)
    hulls[:, 0::2], hulls[:, 1::2] = np.iinfo(np.int64).max, 0
    for k, axis in enumerate(np.unravel_index(origin, source)):
        np.minimum.at(hulls[:, 2 * k], owned, axis)
        np.maximum.at(hulls[:, 2 * k + 1], owned, axis + 1)
    return hulls, hulls[:, 1] > 0
