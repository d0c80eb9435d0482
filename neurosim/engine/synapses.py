"""Pure-Python decoding of a Program's entries: which synapses a spike of one source neuron reaches over one route.

Used by the reference engine only; the layouts are those of the docstring of ``neurosim.program``. The fast engine has its own decoding, so that
one mistake cannot hide in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    E_REGION,
    E_SH,
    E_SHIFT,
    E_SW,
    E_WEIGHT,
    E_WIDTH,
    M_CONV,
    M_DENSE,
    M_MIX,
    M_POOL,
    Program,
)

I64 = NDArray[np.int64]
Box = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Synapses:
    """The synapses of one spike through one entry: cells of the slice's bank, ascending, and their weights, both int64 of one length.

    The cells are those of one region, ``operand`` (G_*) saying what they hold; a neuron's own cell has its local index.
    """

    slice: int
    operand: int
    delay: int
    shift: int
    targets: I64
    weights: I64
    largest: int
    """Largest absolute weight, for the range check of a contribution."""


def coordinates(box: Box, address: int) -> tuple[int, int, int]:
    """(c, y, x) in the population of the neuron with this local index in a box."""
    channels, columns = box[1] - box[0], box[5] - box[4]
    pixel, c = divmod(address, channels)
    y, x = divmod(pixel, columns)
    return c + box[0], y + box[2], x + box[4]


def inside(box: Box, c: int, y: int, x: int) -> bool:
    """Whether a box contains the neuron (c, y, x)."""
    return box[0] <= c < box[1] and box[2] <= y < box[3] and box[4] <= x < box[5]


def box_of(row: I64) -> Box:
    """A row of a box array as a tuple of Python integers."""
    c0, c1, y0, y1, x0, x1 = (int(v) for v in row)
    return c0, c1, y0, y1, x0, x1


def decode(program: Program, route: int, source: int, address: int, skip_zero: bool) -> list[Synapses]:
    """The synapses that a spike of neuron ``address`` of ``source`` finds at the end of ``route``, one item per entry, in the order of service.

    With ``skip_zero`` the zero weights are left out, as chips with ``skip_zero_weights`` do.
    """
    c, y, x = coordinates(box_of(program.source_box[source]), address)
    channels, height, columns = (int(v) for v in program.source_shape[source])
    result = []
    for e in range(int(program.entry_ptr[route]), int(program.entry_ptr[route + 1])):
        row = [int(v) for v in program.entry[e]]
        region = row[E_REGION]
        box = box_of(program.region_box[region])
        if row[E_MAP] == M_CONV:
            v, u = y, x
            if row[E_INDEX] >= 0:  # a pooling: where the kernel sees this row and this column
                v, u = int(program.index[row[E_INDEX] + y]), int(program.index[row[E_INDEX] + height + x])
            targets, places = _conv(row, box, c, v, u) if v >= 0 and u >= 0 else _none()
        elif row[E_MAP] == M_DENSE:
            targets, places = _dense(row, box, (y * columns + x) * channels + c)
        elif row[E_MAP] == M_MIX:
            targets, places = _mix(row, box, c, y * columns + x)
        elif row[E_MAP] == M_POOL:
            targets, places = _pool(row, box, c, y, x)
        else:
            targets, places = _sparse(row, program.index, (y * columns + x) * channels + c)
        weights = program.weights[places].astype(np.int64)
        if skip_zero:
            kept = weights != 0
            targets, weights = targets[kept], weights[kept]
        assert (np.diff(targets) > 0).all(), f"entry {e}: targets do not ascend"
        largest = int(np.abs(weights).max()) if len(weights) else 0
        q, operand, first = (int(column[region]) for column in (program.region_slice, program.region_operand, program.region_first))
        result.append(Synapses(q, operand, row[E_DELAY], row[E_SHIFT], targets + first, weights, largest))
    return result


def _none() -> tuple[I64, I64]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


def _taps(position: int, low: int, high: int, stride: int, padding: int, dilation: int, kernel: int) -> list[tuple[int, int]]:
    """(output coordinate, kernel index) pairs, outputs ascending in [low, high), that read input coordinate ``position``."""
    found = []
    for out in range(low, high):
        tap, rest = divmod(position + padding - out * stride, dilation)
        if rest == 0 and 0 <= tap < kernel:
            found.append((out, tap))
    return found


def _conv(row: list[int], box: Box, c: int, y: int, x: int) -> tuple[I64, I64]:
    c0, c1, y0, y1, x0, x1 = box
    group = c // row[E_CIG]
    first = max(c0, row[E_CO0] + group * row[E_COG])
    last = min(c1, row[E_CO0] + (group + 1) * row[E_COG])
    if first >= last:
        return _none()
    span = np.arange(last - first)
    targets, places = [], []
    across = _taps(x, x0, x1, row[E_SW], row[E_PW], row[E_DW], row[E_KW])
    for out_y, ky in _taps(y, y0, y1, row[E_SH], row[E_PH], row[E_DH], row[E_KH]):
        for out_x, kx in across:
            targets.append(((out_y - y0) * (x1 - x0) + out_x - x0) * (c1 - c0) + first - c0 + span)
            places.append(row[E_WEIGHT] + (((c - row[E_IC0]) * row[E_KH] + ky) * row[E_KW] + kx) * row[E_WIDTH] + span)
    return (np.concatenate(targets), np.concatenate(places)) if targets else _none()


def _dense(row: list[int], box: Box, source: int) -> tuple[I64, I64]:
    c0, c1, y0, y1, x0, x1 = box
    first, last = max(c0, row[E_CO0]), min(c1, row[E_CO0] + row[E_COG])
    if first >= last:
        return _none()
    pixels = np.arange((y1 - y0) * (x1 - x0))
    targets = (pixels[:, None] * (c1 - c0) + np.arange(first - c0, last - c0)).ravel()
    return targets, row[E_WEIGHT] + source * row[E_WIDTH] + np.arange(len(targets))


def _mix(row: list[int], box: Box, c: int, token: int) -> tuple[I64, I64]:
    c0, c1, y0, y1, x0, x1 = box
    target = c + row[E_CO0]
    if not c0 <= target < c1:
        return _none()
    pixels = np.arange((y1 - y0) * (x1 - x0))
    head = c // row[E_CIG] - row[E_IC0]
    return pixels * (c1 - c0) + target - c0, row[E_WEIGHT] + (head * row[E_KH] + token) * row[E_WIDTH] + pixels


def _pool(row: list[int], box: Box, c: int, y: int, x: int) -> tuple[I64, I64]:
    c0, c1, y0, y1, x0, x1 = box
    target = c + row[E_CO0]
    if not c0 <= target < c1:
        return _none()
    across = _taps(x, x0, x1, row[E_SW], row[E_PW], 1, row[E_KW])
    down = _taps(y, y0, y1, row[E_SH], row[E_PH], 1, row[E_KH])
    targets = np.array([((Y - y0) * (x1 - x0) + X - x0) * (c1 - c0) + target - c0 for Y, _ in down for X, _ in across], np.int64)
    return targets, np.full(len(targets), row[E_WEIGHT] + target - c0, np.int64)


def _sparse(row: list[int], index: I64, source: int) -> tuple[I64, I64]:
    start = int(index[row[E_INDEX]])
    a, b = int(index[row[E_INDEX] + source]), int(index[row[E_INDEX] + source + 1])
    return index[a:b], row[E_WEIGHT] + np.arange(a, b) - start
