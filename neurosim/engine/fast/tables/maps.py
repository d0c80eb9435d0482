"""Program -> what the compute side of the fast engine runs on: entries as separable walks, weights in walking order, neurons in narrow types.

**Walk.** The synapses of one spike through one entry are ``rows`` x ``columns`` runs of ``count`` targets that lie together. Where a walk begins and
how long it is separates into the source neuron's channel, row and column, so one line per channel, row and column of the source describes a map;
nothing is kept per synapse or per neuron. Line k of ``axis`` is (target, number, weight): targets and weights add up over the three lines, the
numbers are those of channels (count), rows and columns. Between rows the walk steps by (Y_ROW_T, Y_ROW_W), between columns by (Y_COL_T, Y_COL_W);
where columns follow each other without a gap (Y_MERGED) a whole row is one run. For that, kernels of convolutions are stored anew with kx in the
order in which ascending targets use it: by residue of the stride, then descending.

**Narrow.** Where weights are 8-bit and states and banks at most ``NARROW_BITS`` wide, membranes, currents and banks are int32 and runs are served by
the vectors of ``simd.py``; else int64, one synapse at a time.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.fast.tables.cells import acts, bank_places, op_tables
from neurosim.engine.fast.tables.columns import padded
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
    M_SPARSE,
    R_MAX_SPIKES,
    R_READOUT,
    R_STRICT,
    Program,
)  # fmt: skip

A = NDArray[Any]
I64 = NDArray[np.int64]

NARROW_BITS = 30
"""Sums of a decayed membrane, a bank and a bias below 2**29 each fit int32; bit 31 of a bank is free to mark it as touched."""

FAR = -(2**40)
"""A position that no kernel sees."""

(
    Y_SLICE, Y_DELAY, Y_SHIFT, Y_SPARSE, Y_WEIGHT, Y_INDEX, Y_CHANNEL, Y_ROW, Y_COLUMN,
    Y_ROW_T, Y_ROW_W, Y_COL_T, Y_COL_W, Y_MERGED, Y_BANK, Y_ACT, Y_COLUMNS,
) = range(17)  # fmt: skip
"""Columns of ``Maps.entry``. Y_BANK: where the region begins in the slice's first bank; Y_ACT: ACT_* of ``columns.py``. Y_CHANNEL, Y_ROW, Y_COLUMN:
lines of ``axis`` of the source's first channel, row and column. Sparse: the walk's weight is a row of pointers behind Y_INDEX in ``index``, and
Y_WEIGHT is what a place in ``index`` lacks to be one in the weights."""

A_TARGET, A_NUMBER, A_WEIGHT = range(3)
Z_FLAT, Z_THRESHOLD, Z_FLOOR, Z_BIAS, Z_START, Z_COLUMNS = range(6)
"""Columns of ``Maps.flat``: whether all neurons of a slice share threshold, floor, bias and start, and these, the threshold as ``Maps.threshold`` has
it."""


@dataclass
class Maps:
    """Tables of the compute side; see the module's docstring."""

    narrow: bool
    entry: I64
    """[E, Y_COLUMNS]"""
    axis: I64
    """[lines, 3]"""
    index: NDArray[np.int32]
    """Pointers and targets of sparse maps."""
    w8: NDArray[np.int8]
    """Weights when narrow, else one element."""
    w32: NDArray[np.int32]
    """Weights when not narrow, else one element."""
    flat: I64
    """[S, Z_COLUMNS]"""
    threshold: NDArray[np.int32]
    """[neurons] narrow: a neuron fires from this membrane on; out of reach for readouts."""
    floor: NDArray[np.int32]
    bias: NDArray[np.int32]
    start: NDArray[np.int32]
    """[neurons] narrow: membranes at the start of a sample."""
    ops: I64
    """[S, Q_COLUMNS] of ``columns.py``"""
    joins: I64
    """Pointers and lists of which neuron of an op reads which cell."""
    kept: int
    """Cells that ops keep from step to step, in free from service to service."""


_kept: dict[int, tuple[weakref.ref[Program], Maps]] = {}


def maps_of(program: Program) -> Maps:
    """``build_maps``, made once per Program and kept as long as it lives: no run changes them."""
    known = _kept.get(id(program))
    if known is not None and known[0]() is program:
        return known[1]
    key, maps = id(program), build_maps(program)
    _kept[key] = weakref.ref(program, lambda _: _kept.pop(key, None)), maps
    return maps


def build_maps(program: Program) -> Maps:
    """All tables for a Program."""
    narrow = is_narrow(program)
    walks = _Walks(program)
    entry = np.array([walks.entry(e) for e in range(len(program.entry))] or [[0] * (Y_COLUMNS - 2)], np.int64)
    region = program.entry[:, E_REGION] if len(program.entry) else np.zeros(1, np.int64)
    bank = (bank_places(program)[program.region_slice] + program.region_first)[region]
    entry = np.ascontiguousarray(np.column_stack([entry, bank, acts(program)[region]]))
    weights = np.concatenate([program.weights, *walks.kernels]) if walks.kernels else program.weights
    w8, w32 = padded(len(weights) if narrow else 1, np.int8), padded(1 if narrow else len(weights), np.int32)
    (w8 if narrow else w32)[: len(weights)] = weights
    neurons = len(program.threshold)
    threshold, floor, bias, start = (padded(neurons if narrow else 1, np.int32) for _ in range(4))
    flat = np.zeros((max(1, program.slices), Z_COLUMNS), np.int64)
    if narrow:
        owner = np.repeat(np.arange(program.slices), np.diff(program.neuron_ptr))
        readout, strict, top = program.slice_rule[owner, R_READOUT] != 0, program.slice_rule[owner, R_STRICT], 2**31 - 1
        threshold[:] = np.where(readout, top, np.minimum(program.threshold + strict, top))
        floor[:] = np.maximum(program.floor, -(2**31))
        bias[:] = program.bias
        start[:] = program.v_init
        for q in range(program.slices):
            mine = slice(int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1]))
            values = [(int(x[mine].min()), int(x[mine].max())) for x in (threshold, floor, bias, start)]
            flat[q] = [all(low == high for low, high in values), *(low for low, _ in values)]
    index = np.ascontiguousarray(program.index, np.int32) if len(program.index) else np.zeros(1, np.int32)
    axis = np.concatenate(walks.lines) if walks.lines else np.zeros((1, 3), np.int64)
    return Maps(narrow, entry, np.ascontiguousarray(axis), index, w8, w32, flat, threshold, floor, bias, start, *op_tables(program))


def is_narrow(program: Program) -> bool:
    """Whether every sum of the Program fits the int32 path."""
    rule, half = program.chip.arithmetic, 2 ** (NARROW_BITS - 1)
    banks = program.sync == "free" or rule.acc_bits <= NARROW_BITS  # of settle: membranes
    owner = np.repeat(np.arange(program.slices), np.diff(program.neuron_ptr))
    least = np.minimum(0, program.threshold - program.reset_by) * program.slice_rule[owner, R_MAX_SPIKES]  # of a membrane after its spikes
    small = bool(
        np.all(np.abs(program.bias) < half)
        and np.all(np.abs(program.v_init) < half)
        and np.all((program.reset_by >= 0) & (program.reset_by < half) & (least > -half))
    )
    return program.weights.dtype == np.int8 and rule.state_bits <= NARROW_BITS and banks and small


class _Walks:
    """Lines, kernels and entries as they are found; equal lines and kernels are kept once."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.entries = program.entry.tolist()
        self.boxes = program.region_box.tolist()
        self.owner = program.region_slice.tolist()
        self.lines: list[I64] = []
        self.kernels: list[A] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._lines = 0
        self._weights = len(program.weights)
        sources = np.repeat(np.arange(len(program.route_ptr) - 1), np.diff(program.route_ptr))
        routes = np.repeat(np.arange(len(program.route_core)), np.diff(program.entry_ptr))
        self.source = sources[routes].tolist()
        self.source_box = program.source_box.tolist()
        self.source_shape = program.source_shape.tolist()
        self.stored = self._stored(routes)

    def _stored(self, routes: A) -> dict[tuple[int, ...], int]:
        """Input channels that each kernel of a convolution holds weights for, as far as routes use them."""
        found: dict[tuple[int, ...], int] = {}
        highest = self.program.route_box[routes, 1].tolist()
        for row, c1 in zip(self.entries, highest, strict=True):
            if row[E_MAP] == M_CONV:
                last_group = (self.boxes[row[E_REGION]][1] - 1 - row[E_CO0]) // row[E_COG]
                key = _kernel_key(row)
                found[key] = max(found.get(key, 0), min(c1, (last_group + 1) * row[E_CIG]) - row[E_IC0])
        return found

    def _line(self, key: tuple[Any, ...], make: Any) -> int:
        """Place of the lines of ``key`` in ``axis``; ``make`` gives their three columns."""
        place = self._known.get(key)
        if place is None:
            target, number, weight = make()
            length = max(np.size(x) for x in (target, number, weight))
            lines = np.stack([np.broadcast_to(np.asarray(x, np.int64), (length,)) for x in (target, number, weight)], axis=1)
            place = self._known[key] = self._lines
            self.lines.append(lines)
            self._lines += length
        return place

    def _linear(self, size: int, weight: int, number: int = 1) -> int:
        """Lines that only shift the weight, by ``weight`` per position."""
        return self._line(("linear", size, weight, number), lambda: (0, number, np.arange(size) * weight))

    def entry(self, e: int) -> list[int]:
        """Row of ``Maps.entry`` for entry ``e`` of the Program."""
        row = self.entries[e]
        source = self.source[e]
        o, (channels, _, width) = self.source_box[source], self.source_shape[source]
        box = self.boxes[row[E_REGION]]
        head = [self.owner[row[E_REGION]], row[E_DELAY], row[E_SHIFT], int(row[E_MAP] == M_SPARSE)]
        first_source = (o[2] * width + o[4]) * channels + o[0]
        if row[E_MAP] == M_SPARSE:
            places = (self._linear(o[1] - o[0], 1), self._linear(o[3] - o[2], width * channels), self._linear(o[5] - o[4], channels))
            start = int(self.program.index[row[E_INDEX]])
            return [*head, row[E_WEIGHT] - start, row[E_INDEX] + first_source, *places, 0, 0, 0, 0, 0]
        if row[E_MAP] == M_DENSE:
            return [*head, row[E_WEIGHT] + first_source * row[E_WIDTH], 0, *self._dense(row, o, box, width, channels)]
        if row[E_MAP] == M_MIX:
            return [*head, row[E_WEIGHT], 0, *self._mix(row, o, box, width)]
        weight, *walk = self._windows(row, o, box, self.source_shape[source])
        return [*head, weight, 0, *walk]

    def _dense(self, row: list[int], o: list[int], box: list[int], width: int, channels: int) -> list[int]:
        c0, c1, y0, y1, x0, x1 = box
        first = max(row[E_CO0], c0)
        count = max(0, min(row[E_CO0] + row[E_COG], c1) - first)
        size, per = o[1] - o[0], row[E_WIDTH]
        places = [
            self._line(("dense", size, first - c0, count, per), lambda: (first - c0, count, np.arange(size) * per)),
            self._linear(o[3] - o[2], width * channels * per),
            self._linear(o[5] - o[4], channels * per, (y1 - y0) * (x1 - x0)),
        ]
        return [*places, 0, 0, c1 - c0, count, int(count == c1 - c0)]

    def _mix(self, row: list[int], o: list[int], box: list[int], width: int) -> list[int]:
        c0, c1, y0, y1, x0, x1 = box
        pixels, per, heads, tokens = (y1 - y0) * (x1 - x0), row[E_WIDTH], row[E_CIG], row[E_KH]
        c = np.arange(o[0], o[1])
        target = c + row[E_CO0] - c0
        number = ((target >= 0) & (target < c1 - c0)).astype(np.int64)
        weight = ((c // heads - row[E_IC0]) * tokens + o[2] * width + o[4]) * per
        places = [
            self._line(("mix", *o, *box, row[E_CO0], heads, row[E_IC0], tokens, per, width), lambda: (target, number, weight)),
            self._linear(o[3] - o[2], width * per),
            self._linear(o[5] - o[4], per, pixels),
        ]
        return [*places, 0, 0, c1 - c0, 1, int(c1 - c0 == 1)]

    def _windows(self, row: list[int], o: list[int], box: list[int], full: list[int]) -> list[int]:
        """Convolution or pool: base of the weights and the walk."""
        c0, c1, y0, y1, x0, x1 = box
        channels, columns = c1 - c0, x1 - x0
        kh, kw, sh, sw = row[E_KH], row[E_KW], row[E_SH], row[E_SW]
        c = np.arange(o[0], o[1])
        conv = row[E_MAP] == M_CONV
        if conv:
            dh, dw, tap, base = row[E_DH], row[E_DW], row[E_WIDTH], self._kernel(row)
            group = c // row[E_CIG]
            first = np.maximum(group * row[E_COG] + row[E_CO0], c0)
            number = np.maximum(0, np.minimum((group + 1) * row[E_COG] + row[E_CO0], c1) - first)
            target, weight = first - c0, (c - row[E_IC0]) * kh * kw * tap
        else:
            dh, dw, tap, base = 1, 1, 0, row[E_WEIGHT]
            target = weight = c + row[E_CO0] - c0
            number = ((target >= 0) & (target < channels)).astype(np.int64)
        across, down = sw // gcd(sw, dw), sh // gcd(sh, dh)
        rank = np.argsort(kernel_order(kw, across))
        key = (row[E_CIG], row[E_COG], row[E_CO0], row[E_IC0], kh * kw * tap)
        pool = row[E_INDEX] if conv else -1
        seen = [self._seen(pool, o[2], o[3]), self._seen(pool if pool < 0 else pool + full[1], o[4], o[5])]
        places = [
            self._line(("channels", conv, *key, o[0], o[1], c0, c1), lambda: (target, number, weight)),
            self._line(
                ("rows", pool, o[2], o[3], row[E_PH], kh, dh, sh, y0, y1, columns * channels, kw * tap),
                lambda: _spans(seen[0], row[E_PH], kh, dh, sh, y0, y1, columns * channels, np.arange(kh) * kw * tap),
            ),
            self._line(
                ("columns", pool, full[1], o[4], o[5], row[E_PW], kw, dw, sw, x0, x1, channels, tap),
                lambda: _spans(seen[1], row[E_PW], kw, dw, sw, x0, x1, channels, rank * tap),
            ),
        ]
        row_t, col_t = dh // gcd(sh, dh) * columns * channels, dw // gcd(sw, dw) * channels
        runs = set(number[number > 0].tolist())
        merged = len(runs) == 1 and runs == {col_t} and tap == col_t
        return [base, *places, row_t, -down * kw * tap, col_t, tap, int(merged)]

    def _seen(self, table: int, first: int, end: int) -> I64:
        """What a kernel takes the source's rows or columns [first, end) for; ``table``: of a pooling, in the Program's index, else -1."""
        if table < 0:
            return np.arange(first, end)
        seen = self.program.index[table + first : table + end]
        return np.where(seen >= 0, seen, FAR)

    def _kernel(self, row: list[int]) -> int:
        """Place of a convolution's weights, stored anew in walking order where that differs."""
        kw, per = row[E_KW], row[E_WIDTH]
        if kw == 1:
            return row[E_WEIGHT]
        key = _kernel_key(row)
        place = self._known.get(("kernel", *key))
        if place is None:
            size = self.stored[key] * row[E_KH] * kw * per
            block = self.program.weights[row[E_WEIGHT] : row[E_WEIGHT] + size].reshape(-1, kw, per)
            self.kernels.append(block[:, kernel_order(kw, row[E_SW] // gcd(row[E_SW], row[E_DW]))].ravel())
            place = self._known[("kernel", *key)] = self._weights
            self._weights += size
        return place


def _kernel_key(row: list[int]) -> tuple[int, ...]:
    return (row[E_WEIGHT], row[E_KH], row[E_KW], row[E_WIDTH], row[E_SW] // gcd(row[E_SW], row[E_DW]), row[E_IC0])


def kernel_order(taps: int, stride: int) -> I64:
    """Taps in the order in which ascending targets use them: one residue of the stride after the other, descending."""
    k = np.arange(taps)
    return np.lexsort((-k, k % stride)).astype(np.int64)


def _spans(seen: I64, pad: int, kernel: int, dilation: int, stride: int, low: int, high: int, step: int, weight: I64) -> tuple[A, A, A]:
    """For source positions seen as ``seen``: where the outputs in [low, high) that read them begin (times ``step``), number, weight of the first."""
    rest = seen[:, None] + pad - np.arange(low, high)[None] * stride
    tap = rest // dilation
    reads = (rest % dilation == 0) & (tap >= 0) & (tap < kernel)
    begin = reads.argmax(axis=1)
    number = reads.sum(axis=1)
    taps = np.take_along_axis(tap, begin[:, None], axis=1)[:, 0]
    return begin * step, number, np.where(number > 0, weight[np.clip(taps, 0, kernel - 1)], 0)
