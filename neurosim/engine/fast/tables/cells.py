"""Extra ops in the tables of ``columns.py``: where their operands' cells lie, which neurons read which cells, what their synapses do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.fast.tables import columns as c
from neurosim.program import (
    G_K,
    G_MAIN,
    G_MASK,
    G_Q,
    G_V,
    G_WINDOW,
    OP_COINCIDENCE,
    OP_COUNT,
    OP_GATE,
    OP_HEAD,
    OP_INVERTED,
    OP_KH,
    OP_KIND,
    OP_KW,
    OP_LATCHED,
    OP_MAX,
    OP_NONE,
    OP_OR,
    OP_PH,
    OP_PW,
    OP_SH,
    OP_SHIFT,
    OP_SW,
    R_BANKS,
    Program,
)  # fmt: skip

I64 = NDArray[np.int64]

_ACTS = {G_MASK: c.ACT_MASK, G_WINDOW: c.ACT_WINDOW, G_K: c.ACT_K, G_V: c.ACT_V, G_Q: c.ACT_Q}
_PLACES = {G_MASK: c.Q_OPERAND, G_WINDOW: c.Q_OPERAND, G_K: c.Q_K, G_V: c.Q_V, G_Q: c.Q_Q}


def acts(program: Program) -> I64:
    """[regions] ACT_*: what a synapse into the region does besides adding. On chips with steps only pairs are more than that."""
    kind = program.slice_op[program.region_slice, OP_KIND]
    own = np.select([(kind == OP_OR) & (program.sync == "free"), kind == OP_GATE], [c.ACT_OR, c.ACT_GATE], c.ACT_NONE)
    found = np.where(program.region_operand == G_MAIN, own, 0)
    for operand, act in _ACTS.items():
        found[program.region_operand == operand] = act
    if program.stepped:
        found[(found != c.ACT_K) & (found != c.ACT_V)] = c.ACT_NONE
    return found.astype(np.int64)


def bank_places(program: Program) -> I64:
    """[S] where the banks of each slice begin among those of all."""
    room = program.slice_rule[:, R_BANKS] * program.slice_cells
    return np.asarray(np.cumsum(room) - room)


def op_tables(program: Program) -> tuple[I64, I64, int]:
    """(``op`` [S, Q_COLUMNS], ``ox``, number of cells in ``cell``), see ``columns.py``."""
    table = np.zeros((max(1, program.slices), c.Q_COLUMNS), np.int64)
    lists: list[Any] = [np.zeros(1, np.int64)]
    at, kept = 1, 0
    operands: dict[int, list[int]] = {}
    for r in range(program.slices, program.regions):
        operands.setdefault(int(program.region_slice[r]), []).append(r)
    for q in np.flatnonzero(program.slice_op[:, OP_KIND] != OP_NONE).tolist():
        row, kind = program.slice_op[q], int(program.slice_op[q, OP_KIND])
        box = program.slice_box[q]
        channels, size, cells = int(box[1] - box[0]), int(program.neuron_ptr[q + 1] - program.neuron_ptr[q]), int(program.slice_cells[q])
        for column, source in ((c.Q_COUNT, OP_COUNT), (c.Q_INVERTED, OP_INVERTED), (c.Q_LATCHED, OP_LATCHED), (c.Q_SHIFT, OP_SHIFT)):
            table[q, column] = row[source]
        table[q, c.Q_HEAD] = max(1, int(row[OP_HEAD]))
        table[q, c.Q_CHANNELS] = channels
        table[q, c.Q_TABLE] = cells - channels * row[OP_HEAD]
        for r in operands.get(q, []):
            table[q, _PLACES[int(program.region_operand[r])]] = program.region_first[r]
            if kind in (OP_GATE, OP_MAX):
                number = _volume(program.region_box[r])
                table[q, c.Q_NUMBER] = number
                read = _groups(program, q, r) if kind == OP_GATE else _windows(program, q, r)
                for column, (pointers, items) in ((c.Q_READS, _listed(read)), (c.Q_READERS, _readers(read, number))):
                    table[q, column] = at
                    lists += [pointers + at + len(pointers), items]
                    at += len(pointers) + len(items)
        if not program.stepped:
            table[q, c.Q_CELL] = kept - size
            kept += cells - size
        elif kind == OP_GATE and row[OP_LATCHED]:
            table[q, c.Q_CELL] = kept - table[q, c.Q_OPERAND]
            kept += int(table[q, c.Q_NUMBER])
    return table, np.concatenate(lists), kept


def most_fires(program: Program) -> I64:
    """[regions] free: the most fires, those of one synapse counted once, that the synapses of one entry into the region can cause."""
    sizes = np.diff(program.neuron_ptr)
    kind = program.slice_op[program.region_slice, OP_KIND]
    most = np.where((program.region_operand == G_MAIN) | (program.region_operand == G_MASK), sizes[program.region_slice], 0)
    for r in np.flatnonzero((kind == OP_MAX) & (program.region_operand == G_WINDOW)).tolist():
        most[r] = np.count_nonzero(_windows(program, int(program.region_slice[r]), r) >= 0)
    for r in np.flatnonzero((kind == OP_COINCIDENCE) & (program.region_operand == G_Q)).tolist():
        most[r] = _volume(program.region_box[r]) * program.slice_op[program.region_slice[r], OP_HEAD]
    return most.astype(np.int64)


def _volume(box: I64) -> int:
    return int(np.prod(box[1::2] - box[::2]))


def _places(box: I64) -> tuple[I64, I64, I64]:
    """(c, y, x) of the neurons of a box by local index."""
    c0, c1, y0, y1, x0, x1 = box.tolist()
    y, x, channel = np.meshgrid(np.arange(y0, y1), np.arange(x0, x1), np.arange(c0, c1), indexing="ij")
    return channel.ravel(), y.ravel(), x.ravel()


def _local(box: I64, channel: I64, y: I64, x: I64) -> I64:
    """Local index of coordinates in a box, -1 outside."""
    c0, c1, y0, y1, x0, x1 = box.tolist()
    inside = (c0 <= channel) & (channel < c1) & (y0 <= y) & (y < y1) & (x0 <= x) & (x < x1)
    return np.where(inside, ((y - y0) * (x1 - x0) + x - x0) * (c1 - c0) + channel - c0, -1)


def _groups(program: Program, q: int, r: int) -> I64:
    """[neurons, 1] the cell of mask region ``r`` that decides over each neuron of slice ``q``."""
    whole, groups = program.region_shape[q].tolist(), program.region_shape[r].tolist()
    channel, y, x = (place // (n // g) for place, n, g in zip(_places(program.slice_box[q]), whole, groups, strict=True))
    return _local(program.region_box[r], channel, y, x)[:, None]


def _windows(program: Program, q: int, r: int) -> I64:
    """[neurons, words] cells of window region ``r`` in the window of each neuron of slice ``q``, -1 beyond the source map."""
    row = program.slice_op[q]
    channel, y, x = _places(program.slice_box[q])
    top, left = y * row[OP_SH] - row[OP_PH], x * row[OP_SW] - row[OP_PW]
    taps = [(ky, kx) for ky in range(int(row[OP_KH])) for kx in range(int(row[OP_KW]))]
    return np.stack([_local(program.region_box[r], channel, top + ky, left + kx) for ky, kx in taps], axis=1)


def _listed(read: I64) -> tuple[I64, I64]:
    """Pointers [rows + 1] and the entries of ``read`` that are not -1, row by row."""
    return np.concatenate([[0], np.cumsum((read >= 0).sum(axis=1))]), read[read >= 0]


def _readers(read: I64, cells: int) -> tuple[I64, I64]:
    """Pointers [cells + 1] and the rows of ``read`` that name each cell, ascending."""
    row, _ = np.nonzero(read >= 0)
    cell = read[read >= 0]
    return np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=cells))]), row[np.argsort(cell, kind="stable")]
