"""Which neurons a linear map joins, from its geometry alone (a zero weight counts as a synapse). Boxes are (c0, c1, y0, y1, x0, x1), half open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neurosim.graph import Conv2d, Dense, LinearMap, Projection, Shape, Sparse, SumPool, TokenMix

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
    """``reach`` for several source boxes; the synapses into the target box are looked up once."""
    low, high = covered_channels(projection, source, box)
    if low >= high:
        return [None] * len(insides)
    linear = projection.map
    if isinstance(linear, Sparse):
        near = _sparse_origins(linear, projection.channel_offset, source, box)
        return [_hull_within(near, inside) for inside in insides]
    axes = _window(linear, source, (low, high), box)
    return [_cut_window(axes, inside) for inside in insides]


def _cut_window(axes: tuple[Span, NDArray[np.int64], NDArray[np.int64]], inside: Box) -> Box | None:
    channels, rows, columns = axes
    spans = (_cut(channels, (inside[0], inside[1])), _within(rows, (inside[2], inside[3])), _within(columns, (inside[4], inside[5])))
    if any(span[0] >= span[1] for span in spans):
        return None
    return spans[0] + spans[1] + spans[2]


def synapses(linear: LinearMap, source: Shape) -> int:
    """All synapses of a map, zero weights included, those into the padding excluded."""
    channels, height, width = linear.out_shape(source)
    if isinstance(linear, Conv2d):
        rows = _pairs(height, linear.stride[0], linear.weight.shape[2], linear.dilation[0], linear.padding[0], source[1])
        columns = _pairs(width, linear.stride[1], linear.weight.shape[3], linear.dilation[1], linear.padding[1], source[2])
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
    return (first * per_group, last * per_group), rows, columns


def _taps(low: int, high: int, stride: int, kernel: int, dilation: int, padding: int) -> NDArray[np.int64]:
    """Source coordinates that outputs low..high-1 look at along one axis, padding included."""
    return (np.arange(low, high)[:, None] * stride + np.arange(kernel)[None, :] * dilation - padding).ravel()


def _pairs(outputs: int, stride: int, kernel: int, dilation: int, padding: int, size: int) -> int:
    taps = _taps(0, outputs, stride, kernel, dilation, padding)
    return int(np.count_nonzero((taps >= 0) & (taps < size)))


def _cut(a: Span, b: Span) -> Span:
    return max(a[0], b[0]), min(a[1], b[1])


def _within(coordinates: NDArray[np.int64], span: Span) -> Span:
    inside = coordinates[(coordinates >= span[0]) & (coordinates < span[1])]
    return (int(inside.min()), int(inside.max()) + 1) if inside.size else (0, 0)


def _sparse_origins(linear: Sparse, offset: int, source: Shape, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(c, y, x) of the source neurons with a synapse into the target box, each once."""
    c, y, x = np.unravel_index(linear.targets, linear.shape)
    hits = np.flatnonzero(contains(box, c + offset, y, x))
    i, j, k = np.unravel_index(np.unique(np.searchsorted(linear.indptr, hits, side="right") - 1), source)
    return i, j, k


def _hull_within(near: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], inside: Box) -> Box | None:
    chosen = contains(inside, *near)
    if not chosen.any():
        return None
    i, j, k = (axis[chosen] for axis in near)
    return int(i.min()), int(i.max()) + 1, int(j.min()), int(j.max()) + 1, int(k.min()), int(k.max()) + 1


def contains(box: Box, c: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the neurons (c, y, x) lie in the box."""
    result: NDArray[np.bool_] = (c >= box[0]) & (c < box[1]) & (y >= box[2]) & (y < box[3]) & (x >= box[4]) & (x < box[5])
    return result
