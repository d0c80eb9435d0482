"""Non-zero synapses of every source neuron, from a Program's entries (the layouts of ``neurosim.program``), whole arrays at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neurosim.host.section import apply_integer, host_map
from neurosim.program import (
    E_CIG,
    E_CO0,
    E_COG,
    E_DH,
    E_DW,
    E_IC0,
    E_INDEX,
    E_KH,
    E_KW,
    E_MAP,
    E_PH,
    E_PROJECTION,
    E_PW,
    E_REGION,
    E_SH,
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
Range = tuple[int, int]


def fan_out(program: Program, projection: int) -> I64:
    """[c, y, x] of the projection's source: targets on the chip that a neuron reaches with a weight that is not zero."""
    index = program.population_index(str(program.meta["projections"][projection]["source"]))
    total: I64 | None = None
    for s in np.flatnonzero(program.source_population == index).tolist():
        shape = tuple(program.source_shape[s].tolist())
        total = np.zeros(shape, np.int64) if total is None else total
        c0, c1, y0, y1, x0, x1 = (int(v) for v in program.source_box[s])
        first, last = program.entry_ptr[program.route_ptr[s]], program.entry_ptr[program.route_ptr[s + 1]]
        for row in program.entry[first:last].tolist():
            if row[E_PROJECTION] == projection:
                total[c0:c1, y0:y1, x0:x1] += _entry(program, row, shape, ((c0, c1), (y0, y1), (x0, x1)))
    return np.zeros((0, 0, 0), np.int64) if total is None else total


def host_operations(program: Program, number: int, pixels: I64) -> int:
    """Multiply-accumulates of map ``number`` of the host section on pixels that are not zero with weights that are not: ``pixels`` [c, y, x] in how
    many samples each is not."""
    linear = host_map(program, number)
    binary = replace(linear, weight=(np.asarray(linear.weight) != 0).astype(np.int64))
    return int(apply_integer(binary, pixels[None]).sum())


def _entry(program: Program, row: list[int], shape: tuple[int, ...], box: tuple[Range, Range, Range]) -> I64:
    """[c, y, x] of the source's box: non-zero synapses of one entry."""
    c0, c1, y0, y1, x0, x1 = (int(v) for v in program.region_box[row[E_REGION]])
    channels, rows, columns = (np.arange(*ends) for ends in box)
    kind, at, width = row[E_MAP], row[E_WEIGHT], row[E_WIDTH]
    if kind == M_CONV:
        group = channels // row[E_CIG]
        first, last = np.maximum(c0, row[E_CO0] + group * row[E_COG]), np.minimum(c1, row[E_CO0] + (group + 1) * row[E_COG])
        kept = first < last  # only the groups that the box touches are stored
        taps = row[E_KH] * row[E_KW]
        places = at + ((channels[kept] - row[E_IC0])[:, None] * taps + np.arange(taps)) * width
        full = np.zeros((len(channels), row[E_KH], row[E_KW]), np.int64)
        within = np.arange(width) < (last - first)[kept][:, None, None]
        full[kept] = ((program.weights[places[:, :, None] + np.arange(width)] != 0) & within).sum(axis=2).reshape(-1, row[E_KH], row[E_KW])
        if row[E_INDEX] >= 0:  # a pooling: where the kernel sees each row and column, -1 where it does not
            rows, columns = program.index[row[E_INDEX] + rows], program.index[row[E_INDEX] + shape[1] + columns]
        down = _reached(rows, (y0, y1), row[E_SH], row[E_PH], row[E_DH], row[E_KH]) * (rows >= 0)
        across = _reached(columns, (x0, x1), row[E_SW], row[E_PW], row[E_DW], row[E_KW]) * (columns >= 0)
        return np.asarray(np.einsum("cab,ay,bx->cyx", full, down, across, optimize=True))
    if kind == M_POOL:
        kept = (channels + row[E_CO0] >= c0) & (channels + row[E_CO0] < c1)
        held = np.zeros(len(channels), np.int64)
        held[kept] = program.weights[at + channels[kept] + row[E_CO0] - c0] != 0
        down = _reached(rows, (y0, y1), row[E_SH], row[E_PH], 1, row[E_KH]).sum(axis=0)
        across = _reached(columns, (x0, x1), row[E_SW], row[E_PW], 1, row[E_KW]).sum(axis=0)
        return np.asarray(held[:, None, None] * down[:, None] * across)
    token = rows[:, None] * shape[2] + columns
    if kind == M_MIX:
        kept = (channels + row[E_CO0] >= c0) & (channels + row[E_CO0] < c1)
        head = channels[kept] // row[E_CIG] - row[E_IC0]
        places = at + (head[:, None, None] * row[E_KH] + token) * width
        result = np.zeros((len(channels), *token.shape), np.int64)
        result[kept] = (program.weights[places[..., None] + np.arange(width)] != 0).sum(axis=-1)
        return result
    flat = token * shape[0] + channels[:, None, None]
    if kind == M_DENSE:
        block = program.weights[at : at + int(np.prod(shape)) * width].reshape(-1, width) if width else np.zeros((int(np.prod(shape)), 0))
        return np.asarray(np.count_nonzero(block, axis=1)[flat])
    start = row[E_INDEX]
    pointers = program.index[start : start + int(np.prod(shape)) + 1]
    weights = program.weights[at : at + int(pointers[-1] - pointers[0])]
    before = np.concatenate(([0], np.cumsum(weights != 0)))
    return np.asarray(before[pointers[flat + 1] - pointers[0]] - before[pointers[flat] - pointers[0]])


def _reached(position: I64, ends: Range, stride: int, padding: int, dilation: int, kernel: int) -> I64:
    """[kernel, positions] 1 where an output in ``ends`` reads the position with that tap."""
    offset = position + padding - np.arange(kernel)[:, None] * dilation
    out, rest = np.divmod(offset, stride)
    reached: I64 = ((rest == 0) & (out >= ends[0]) & (out < ends[1])).astype(np.int64)
    return reached
