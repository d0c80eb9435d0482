"""Tables of settle beside those of every discipline: what neurons have told, the intervals of membranes that say the same, due lists."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.fast.tables import columns as c
from neurosim.engine.fast.tables.columns import padded
from neurosim.engine.fast.tables.layout import Tables
from neurosim.program import OP_GATE, OP_KIND, OP_NONE, R_MAX_SPIKES, R_READOUT, R_STRICT, Program

A = NDArray[Any]
I64 = NDArray[np.int64]

FAR = 2**63 - 1
"""End of an interval that has none."""


@dataclass
class Differences(Tables):
    """``lo`` .. ``hi`` (int64, or the 32-bit ones of narrow Programs): membranes whose output is what was sent; all of them of due neurons,
    readouts and gates. ``told`` int32, ``due`` uint8 by neuron; ``dl``, ``dc`` as in columns.py; ``gone``, ``back`` [samples, slices] cancelled and
    retracted. ``found``: neurons that an entry has moved out of their intervals."""

    lo: A
    hi: A
    lo32: A
    hi32: A
    told: A
    due: A
    dl: A
    dc: A
    gone: A
    back: A
    found: A

    def state(self) -> tuple[A, A]:
        """Membranes and outputs last sent, int64 copies."""
        return super().state()[0], self.told.astype(np.int64)


def with_differences(program: Program, tables: Tables, samples: int) -> Differences:
    """The tables of a settle run; ``rest`` must follow before the kernel starts."""
    neurons, small = int(program.neuron_ptr[-1]), tables.par[c.P_SMALL] != 0
    sizes = np.diff(program.neuron_ptr)
    dc = np.zeros((program.cores, c.L_COLUMNS), np.int64)
    np.add.at(dc[:, c.L_ROOM], program.slice_core, sizes)
    dc[:, c.L_BASE] = np.cumsum(dc[:, c.L_ROOM]) - dc[:, c.L_ROOM]
    return Differences(
        **{f.name: getattr(tables, f.name) for f in fields(Tables)},
        lo=np.zeros(1 if small else neurons, np.int64),
        hi=np.zeros(1 if small else neurons, np.int64),
        lo32=padded(neurons if small else 1, np.int32),
        hi32=padded(neurons if small else 1, np.int32),
        told=np.zeros(neurons, np.int32),
        due=np.zeros(neurons, np.uint8),
        dl=np.zeros((max(1, neurons), c.D_COLUMNS), np.int64),
        dc=dc,
        gone=np.zeros((samples, program.slices), np.int64),
        back=np.zeros((samples, program.slices), np.int64),
        found=np.zeros(int(sizes.max(initial=0)) + 1, np.int64),
    )


def rest(t: Differences, program: Program) -> None:
    """Every cell, output and interval as the reference input has left them, nobody due."""
    first = np.cumsum(program.slice_cells) - program.slice_cells
    owner = np.repeat(np.arange(program.slices), np.diff(program.neuron_ptr))
    own = first[owner] + np.arange(len(owner)) - program.neuron_ptr[:-1][owner]
    small = t.par[c.P_SMALL] != 0
    (t.v32 if small else t.v)[:] = program.rest_v[own]
    for q in np.flatnonzero(program.slice_op[:, OP_KIND] != OP_NONE).tolist():
        size, cells = int(program.neuron_ptr[q + 1] - program.neuron_ptr[q]), int(program.slice_cells[q])
        place = int(t.op[q, c.Q_CELL])
        t.cell[place + size : place + cells] = program.rest_v[first[q] + size : first[q] + cells]
    t.told[:] = program.rest_sent
    low, up = _intervals(program, owner)
    (t.lo32 if small else t.lo)[:] = np.maximum(low, -(2**31)) if small else low
    (t.hi32 if small else t.hi)[:] = np.minimum(up, 2**31 - 1) if small else up
    t.due[:] = 0
    t.dc[:, [c.L_HEAD, c.L_COUNT, c.L_ENDED]] = 0
    scores = read_scores(t, program)
    t.reg[c.G_ARGMAX] = int(scores.argmax()) if len(scores) else 0


def _intervals(program: Program, owner: I64) -> tuple[I64, I64]:
    """[neurons] the membranes with which each neuron's output is the one sent at rest."""
    high, sent, threshold = 2 ** (program.chip.arithmetic.state_bits - 1) - 1, program.rest_sent, np.maximum(1, program.threshold)
    strict, most = program.slice_rule[owner, R_STRICT], program.slice_rule[owner, R_MAX_SPIKES]
    always = (program.slice_rule[owner, R_READOUT] != 0) | (program.slice_op[owner, OP_KIND] == OP_GATE)
    low = np.where((sent > 0) & ~always, sent * threshold + strict, -FAR)
    within = ~always & (sent < most) & (threshold <= (high - strict) // (sent + 1))  # else no membrane says more
    up = np.where(within, (sent + 1) * np.where(within, threshold, 0) + strict, FAR)
    return low, up


def read_scores(t: Differences, program: Program) -> I64:
    """[classes] the readout as the host reads it now."""
    low, high = int(t.par[c.P_LOW]), int(t.par[c.P_HIGH])
    scores: I64 = np.maximum(np.clip(t.state()[0][t.readout], low, high), program.floor[t.readout])
    return program.scores_of(scores)


def count_settled(t: Differences, program: Program, core: int, sample: int) -> None:
    """``stations.settle.settled`` for after a run."""
    low, high = int(t.par[c.P_LOW]), int(t.par[c.P_HIGH])
    v = t.v32 if t.par[c.P_SMALL] else t.v
    for q in np.flatnonzero(program.slice_core == core).tolist():
        a, b = int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1])
        spikes = int(np.count_nonzero(t.told[a:b]))
        t.sspk[sample, q] = spikes
        t.smp[sample, c.X_SPIKES] += spikes
        t.cc[core, c.N_SATURATIONS] += np.count_nonzero((v[a:b] < low) | (v[a:b] > high))
        mine = (t.readout >= a) & (t.readout < b)
        t.scores[sample, mine] = np.maximum(np.clip(v[t.readout[mine]], low, high), program.floor[t.readout[mine]])


def first_scores(program: Program, tables: Tables) -> I64:
    """[classes] the readout before anything has happened: start membranes, in settle the rest state as the host reads it."""
    readout = tables.readout
    if not isinstance(tables, Differences):
        return np.asarray(program.v_init[readout])
    owner = np.searchsorted(program.neuron_ptr, readout, "right") - 1
    cells = (np.cumsum(program.slice_cells) - program.slice_cells)[owner] + readout - program.neuron_ptr[owner]
    low, high = int(tables.par[c.P_LOW]), int(tables.par[c.P_HIGH])
    return np.maximum(np.clip(program.rest_v[cells], low, high), program.floor[readout])
