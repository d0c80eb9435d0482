"""The weights of one projection for one destination box, in the channel-last layouts of ``neurosim.program``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.place import Box, covered_channels, synapses_into
from neurosim.graph import Conv2d, Dense, Projection, Shape, Sparse, SumPool, TokenMix, stable_order
from neurosim.program import (
    E_CIG,
    E_CO0,
    E_COG,
    E_DELAY,
    E_DH,
    E_DW,
    E_IC0,
    E_INDEX,
    E_KH,
    E_KW,
    E_MAP,
    E_PH,
    E_PW,
    E_SH,
    E_SHIFT,
    E_SW,
    E_WIDTH,
    ENTRY_COLUMNS,
    M_CONV,
    M_DENSE,
    M_MIX,
    M_POOL,
    M_SPARSE,
)

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Packed:
    """One block: ``row`` is an entry without slice, weight, projection and index offset; ``index`` (sparse: relative to its own
    beginning; rows and columns of a pooling) is empty for other maps, and E_INDEX then -1."""

    row: I64
    weights: I64
    index: I64


def pack(projection: Projection, source: Shape, box: Box) -> Packed | None:
    """The block of ``projection`` for the target box; None when the map has no output channel in it."""
    low, high = covered_channels(projection, source, box)
    if low >= high:
        return None
    row = np.zeros(len(ENTRY_COLUMNS), np.int64)
    row[E_SHIFT], row[E_DELAY], row[E_CO0] = projection.shift, projection.delay, projection.channel_offset
    row[[E_KH, E_KW, E_SH, E_SW, E_DH, E_DW]] = 1
    row[E_INDEX] = -1
    linear = projection.map
    index = np.zeros(0, np.int64)
    if isinstance(linear, Conv2d):
        weights = _conv(linear, low, high, row)
        if linear.pool is not None:
            row[E_INDEX], index = 0, np.concatenate(linear.pool.axes)
    elif isinstance(linear, Dense):
        weights = _dense(linear, source, low, high, box, row)
    elif isinstance(linear, TokenMix):
        weights = _mix(linear, source, low, high, box, row)
    elif isinstance(linear, SumPool):
        weights = _pool(linear, projection.channel_offset, low, high, box, row)
    else:
        row[E_MAP], row[E_INDEX] = M_SPARSE, 0
        weights, index = _sparse(projection, linear, source, box)
    return Packed(row, np.ascontiguousarray(weights, dtype=np.int64).ravel(), index)


def _conv(linear: Conv2d, low: int, high: int, row: I64) -> NDArray[np.generic]:
    out, per_in, kernel_y, kernel_x = linear.weight.shape
    per_out = out // linear.groups
    first, last = low // per_out, (high - 1) // per_out + 1
    cuts = [(max(low, g * per_out), min(high, (g + 1) * per_out)) for g in range(first, last)]
    width = max(b - a for a, b in cuts)
    # a group that the box cuts short is padded with zeros that are never addressed, so that all input channels have one width
    weights = np.zeros(((last - first) * per_in, kernel_y, kernel_x, width), np.int64)
    for k, (a, b) in enumerate(cuts):
        weights[k * per_in : (k + 1) * per_in, :, :, : b - a] = linear.weight[a:b].transpose(1, 2, 3, 0)
    row[E_MAP], row[E_WIDTH], row[E_KH], row[E_KW], row[E_IC0] = M_CONV, width, kernel_y, kernel_x, first * per_in
    row[E_SH], row[E_SW] = linear.stride
    row[E_PH], row[E_PW] = linear.padding
    row[E_DH], row[E_DW] = linear.dilation
    row[E_CIG], row[E_COG] = per_in, per_out
    return weights


def _dense(linear: Dense, source: Shape, low: int, high: int, box: Box, row: I64) -> NDArray[np.generic]:
    full = linear.weight.reshape(linear.shape + source)[low:high, box[2] : box[3], box[4] : box[5]]
    rows = int(np.prod(source))
    weights = full.transpose(4, 5, 3, 1, 2, 0).reshape(rows, -1)
    row[E_MAP], row[E_WIDTH], row[E_COG] = M_DENSE, weights.shape[1], linear.shape[0]
    return weights


def _mix(linear: TokenMix, source: Shape, low: int, high: int, box: Box, row: I64) -> NDArray[np.generic]:
    heads, tokens, _ = linear.weight.shape
    per_head = source[0] // heads
    first, last = low // per_head, (high - 1) // per_head + 1
    grid = linear.weight[first:last].reshape(last - first, source[1], source[2], tokens)[:, box[2] : box[3], box[4] : box[5]]
    weights = grid.reshape(last - first, -1, tokens).transpose(0, 2, 1)
    row[E_MAP], row[E_WIDTH], row[E_KH], row[E_CIG], row[E_IC0] = M_MIX, weights.shape[2], tokens, per_head, first
    return weights


def _pool(linear: SumPool, offset: int, low: int, high: int, box: Box, row: I64) -> NDArray[np.generic]:
    weights = np.zeros(box[1] - box[0], np.int64)
    weights[low + offset - box[0] : high + offset - box[0]] = linear.weight[low:high]
    row[E_MAP], row[E_WIDTH] = M_POOL, len(weights)
    row[E_KH], row[E_KW] = linear.kernel
    row[E_SH], row[E_SW] = linear.stride
    row[E_PH], row[E_PW] = linear.padding
    return weights


def _sparse(projection: Projection, linear: Sparse, source: Shape, box: Box) -> tuple[I64, I64]:
    """Rows in channel-last order of the source, targets ascending in each. Parallel synapses have been merged."""
    local, place = synapses_into(linear, projection.channel_offset, box)
    rows = int(np.prod(source))
    number = np.arange(rows).reshape(source[1], source[2], source[0]).transpose(2, 0, 1).ravel()  # row of a source neuron
    row = number[linear.origin[place]]
    order = stable_order(row, rows)  # stable: the targets of a row still ascend
    start = np.cumsum(np.concatenate([[rows + 1], np.bincount(row, minlength=rows)]))
    return linear.weight[place[order]].astype(np.int64), np.concatenate([start, local[order]]).astype(np.int64)
