"""Who is joined to whom, in the tables of ``columns.py``: markers, neighbours of slices and ports, windows, routes of every neuron."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.fast.tables import columns as c
from neurosim.program import E_INDEX, E_MAP, M_SPARSE, Program

A = NDArray[Any]


def markers(program: Program) -> tuple[A, A]:
    """Per route the (slice, delay) that its markers count for: table and pointers."""
    waiting: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for source, q, delay in program.sync_pair.tolist():
        waiting.setdefault((source, int(program.slice_core[q])), []).append((q, delay))
    source_of = np.repeat(np.arange(len(program.route_ptr) - 1), np.diff(program.route_ptr))
    groups = [waiting.get((int(s), int(core)), []) for s, core in zip(source_of, program.route_core, strict=True)]
    pointers = np.cumsum([0] + [len(group) for group in groups])
    return np.array([pair for group in groups for pair in group] or [(0, 0)], np.int64), pointers.astype(np.int64)


def neighbours(program: Program, slices: A) -> tuple[A, A, A]:
    """Servers (soma or port) upstream of every slice, (slice, largest delay) downstream of every slice and, [P, 2], of the ports."""
    above: list[set[int]] = [set() for _ in range(program.slices)]
    below: list[dict[int, int]] = [{} for _ in range(program.slices + program.ports)]
    for source, q, delay in program.sync_pair.tolist():
        port = int(program.source_port[source])
        above[q].add(port if port >= 0 else program.ports + 3 * int(program.slice_core[source]) + 1)
        reader = below[source if port < 0 else program.slices + port]
        reader[q] = max(reader.get(q, 0), delay)
    up_ptr = np.cumsum([0] + [len(x) for x in above])
    down_ptr = np.cumsum([0] + [len(x) for x in below])
    slices[:, c.S_UP], slices[:, c.S_UP_END] = up_ptr[:-1], up_ptr[1:]
    slices[:, c.S_DOWN], slices[:, c.S_DOWN_END] = down_ptr[: program.slices], down_ptr[1 : program.slices + 1]
    up = np.array([s for found in above for s in sorted(found)] or [0], np.int64)
    dn = np.array([pair for found in below for pair in sorted(found.items())] or [(0, 0)], np.int64)
    return up, dn, np.stack([down_ptr[program.slices : -1], down_ptr[program.slices + 1 :]], axis=1)


def port_table(program: Program, down: A) -> tuple[A, A]:
    """Ports with what lies downstream of each, and the sources of the ports, port by port."""
    table = np.zeros((program.ports, c.J_COLUMNS), np.int64)
    table[:, c.J_DOWN], table[:, c.J_DOWN_END] = down.T
    order = np.argsort(program.source_port[program.slices :], kind="stable")
    owner = program.source_port[program.slices :][order]
    table[:, c.J_SOURCES] = np.searchsorted(owner, np.arange(program.ports), "left")
    table[:, c.J_SOURCES_END] = np.searchsorted(owner, np.arange(program.ports), "right")
    return table, (order + program.slices).astype(np.int64)


def windows(program: Program, slices: A, window: int) -> tuple[A, A]:
    """One row per (sender or port, destination core) that a route or a current joins, and the row of every route; fills S_WINDOW."""
    routes = len(program.route_core)
    if not window:
        slices[:, c.S_WINDOW] = -1
        return np.zeros((1, c.W_COLUMNS), np.int64), np.full(routes, -1, np.int64)
    source = np.repeat(np.arange(len(program.route_ptr) - 1), np.diff(program.route_ptr))
    core = program.slice_core[np.minimum(source, program.slices - 1)]
    sender = np.where(source < program.slices, program.ports + 3 * core + 2, program.source_port[source])
    pairs = np.concatenate([sender * program.cores + program.route_core, program.slice_core])  # currents come through port 0
    rows, row = np.unique(pairs, return_inverse=True)
    table = np.zeros((max(1, len(rows)), c.W_COLUMNS), np.int64)
    table[: len(rows), c.W_SENDER] = rows // program.cores
    slices[:, c.S_WINDOW] = row[routes:]
    return table, row[:routes].astype(np.int64)


MANY_ROUTES = 8
"""Routes of a source from which on the routes of every neuron are listed, instead of looking through the boxes for every spike."""


def lists(program: Program, so: A) -> tuple[A, A]:
    """Routes of every neuron, listed for sources with many routes or with routes that some neurons in their box do not take; int32.

    Pointers (from O_LIST, which is filled in, + address) into the second table, where a list is its length and its routes, ascending. Neurons of one
    source with the same routes share a list.
    """
    pointers: list[A] = [np.zeros(1, np.int32)]
    listed: list[A] = [np.zeros(1, np.int32)]
    at, row = 1, 1  # of the two tables
    # routes whose entries are all sparse: only their neurons with a synapse take them (Program.carried, all routes of a source at once)
    sparse = np.concatenate([[0], np.cumsum(program.entry[:, E_MAP] == M_SPARSE)])[program.entry_ptr]
    decides = (np.diff(sparse) == np.diff(program.entry_ptr)) & (np.diff(program.entry_ptr) > 0)
    for source in range(len(program.source_box)):
        first, end = int(program.route_ptr[source]), int(program.route_ptr[source + 1])
        deciding = np.flatnonzero(decides[first:end])
        if end - first <= MANY_ROUTES and not len(deciding):
            continue
        box = program.source_box[source].reshape(3, 2)
        if np.any(box[:, 0] == box[:, 1]):  # the control source sends markers alone
            continue
        bounds = np.clip(program.route_box[first:end].reshape(-1, 3, 2), box[:, :1], box[:, 1:])
        # between two bounds of boxes all neurons have the same routes, but for those that decide one by one
        cuts = [np.arange(*side) if len(deciding) else np.unique(np.append(bounds[:, k].ravel(), side[0])) for k, side in enumerate(box.tolist())]
        cuts = [cut[cut < side[1]] for cut, side in zip(cuts, box.tolist(), strict=True)]
        within = [(bounds[:, k, :1] <= cuts[k]) & (cuts[k] < bounds[:, k, 1:]) for k in range(3)]
        inside = within[1][:, :, None, None] & within[2][:, None, :, None] & within[0][:, None, None, :]  # [route, y, x, c]
        if len(deciding):
            inside[deciding] &= _carried(program, source, first + deciding).reshape(len(deciding), *inside.shape[1:])
        taken, member = _distinct(inside.reshape(end - first, -1))
        counts = taken.sum(axis=0)
        starts = row + np.cumsum(counts + 1) - (counts + 1)
        table = np.zeros(int((counts + 1).sum()), np.int32)
        table[starts - row] = counts
        which, route = np.nonzero(taken.T)
        table[np.arange(len(which)) + which + 1] = first + route  # behind as many lengths as there are lists up to this one
        part = [np.searchsorted(cut, np.arange(*side), side="right") - 1 for cut, side in zip(cuts, box.tolist(), strict=True)]
        own = starts[member].reshape(inside.shape[1:])[np.ix_(part[1], part[2], part[0])]
        so[source, c.O_LIST] = at
        pointers.append(own.astype(np.int32).ravel())
        listed.append(table)
        at, row = at + own.size, row + len(table)
    return np.concatenate(pointers), np.concatenate(listed)


def _distinct(columns: A) -> tuple[A, A]:
    """(the different columns of a table of truth values, which of them each column is)."""
    packed = np.ascontiguousarray(np.packbits(columns, axis=0).T)
    _, first, which = np.unique(packed.view(np.dtype((np.void, packed.shape[1]))).ravel(), return_index=True, return_inverse=True)
    return columns[:, first], which.ravel()


def _carried(program: Program, source: int, routes: A) -> A:
    """[routes, neurons of the source]: ``Program.carried`` of routes that have sparse entries only."""
    c0, c1, y0, y1, x0, x1 = program.source_box[source].tolist()
    channels, _, columns = program.source_shape[source].tolist()
    y, x, channel = np.meshgrid(np.arange(y0, y1), np.arange(x0, x1), np.arange(c0, c1), indexing="ij")
    flat = ((y * columns + x) * channels + channel).ravel()
    begin, count = program.entry_ptr[routes], program.entry_ptr[routes + 1] - program.entry_ptr[routes]
    starts = np.cumsum(count) - count
    entries = np.repeat(begin - starts, count) + np.arange(int(count.sum()))
    place = program.entry[entries, E_INDEX][:, None] + flat
    return np.logical_or.reduceat(program.index[place] < program.index[place + 1], starts, axis=0)


def needs(program: Program) -> A:
    """[slices * steps] markers that complete the bank of each step."""
    need = np.zeros((program.slices, program.steps), np.int64)
    for _, q, delay in program.sync_pair.tolist():
        need[q, delay:] += 1
    return need.ravel()
