"""From the kernel's buffers and counters to ``Result``: sorted trace chunks behind a watermark, spikes, sums over samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import CORE_COUNTERS, ROW_SERVICE, SPIKE_DTYPE, TRACE_DTYPE, Options, Result, Sink
from neurosim.engine.fast import columns as c
from neurosim.engine.fast.layout import Tables
from neurosim.program import Program

A = NDArray[Any]


class Collector:
    """Gathers what a run leaves in ``tables``: ``flush`` between turns of the kernel, ``finish`` after each sample (or the streamed run)."""

    def __init__(self, program: Program, options: Options, tables: Tables, sink: Sink | None) -> None:
        self.program, self.options, self.tables, self.sink = program, options, tables, sink
        self.pending = np.zeros((0, c.ROW_COLUMNS), np.int64)
        self.trace: list[A] = []
        self.spikes: list[A] = []
        self.servers = np.zeros((len(tables.sv), 4), np.int64)
        self.channels = np.zeros((len(tables.ch), 2), np.int64)
        self.window_ps = 0
        self.scores: list[A] = []
        self.state: list[tuple[A, A]] = []

    def flush(self, final: bool = False) -> None:
        """Empty the kernel's buffers. Rows before the watermark, the earliest start still open, are complete: they go out sorted."""
        t = self.tables
        count = int(t.reg[c.G_SPIKES])
        if count:
            self.spikes.append(self._spike_rows(t.spk[:count]))
            t.reg[c.G_SPIKES] = 0
        count = int(t.reg[c.G_ROWS])
        if not self.options.record:
            return
        rows = np.concatenate([self.pending, t.rows[:count]])
        t.reg[c.G_ROWS] = 0
        if final:
            rows = np.concatenate([rows, self._open_rows()])
            self.pending = rows[:0]
        else:
            opened = t.sv[t.sv[:, c.V_OPEN] != 0, c.V_START]
            watermark = min(int(t.reg[c.G_NOW]), int(opened.min(initial=c.INF)))
            ready = rows[:, 0] < watermark
            self.pending, rows = rows[~ready], rows[ready]
        if not len(rows):
            return
        late = (rows[:, 2] == ROW_SERVICE) & (rows[:, 4] < 0)  # services that never ended come after the complete rows of their time
        rows = rows[np.lexsort((rows[:, 3], rows[:, 2], rows[:, 1], late, rows[:, 0]))]
        chunk = np.zeros(len(rows), TRACE_DTYPE)
        for column, name in enumerate((TRACE_DTYPE.names or ())[1:]):
            chunk[name] = rows[:, column]
        chunk["sample"] = t.par[c.P_SAMPLE]
        if self.sink is not None:
            self.sink.write(chunk)
        else:
            self.trace.append(chunk)

    def finish(self, first: int, last: int) -> None:
        """Samples [first, last) are complete: add up counters, keep scores and states."""
        t = self.tables
        self.flush(final=True)
        self.servers += t.sv[:, [c.V_SERVICES, c.V_BUSY, c.V_BLOCKED, c.V_HELD]]
        self.channels[:, 0] += t.ch[:, c.C_PUTS]
        self.channels[:, 1] = np.maximum(self.channels[:, 1], t.ch[:, c.C_HIGH])
        end = int(t.reg[c.G_LAST_END])
        self.window_ps += end
        if not self.options.streamed:
            t.smp[first, c.X_COMPLETION] = end
            t.smp[first, c.X_START] = 0
        if self.options.state:
            self.state.append((t.v.copy(), t.cur.copy()))
        if self.program.sync == "free":
            t.scores[first] = t.v[t.readout]

    def _spike_rows(self, raw: A) -> A:
        rows = np.zeros(len(raw), SPIKE_DTYPE)
        rows["sample"] = raw[:, 0] + self.options.first_sample
        rows["step"] = raw[:, 1] % self.program.steps
        rows["slice"], rows["address"], rows["time"] = raw[:, 2], raw[:, 3], raw[:, 4]
        return rows

    def _open_rows(self) -> A:
        """Rows of services that will never end (a run that stops in a deadlock): end = -1."""
        t = self.tables
        opened = np.flatnonzero(t.sv[:, c.V_OPEN])
        rows = np.zeros((len(opened), c.ROW_COLUMNS), np.int64)
        server = t.sv[opened]
        rows[:, 0], rows[:, 1], rows[:, 2] = server[:, c.V_START], opened, ROW_SERVICE
        rows[:, 3] = rows[:, 5] = server[:, c.V_SERVICES] - 1
        rows[:, 4] = -1
        rows[:, 6:15] = server[:, c.V_ITEM : c.V_ITEM + 9]
        rows[:, 15], rows[:, 16] = server[:, c.V_WAITED], server[:, c.V_SYNOPS]
        return rows

    def result(self) -> Result:
        """The Result of all that was collected."""
        t, options = self.tables, self.options
        spikes = np.concatenate(self.spikes) if self.spikes else np.zeros(0, SPIKE_DTYPE)
        spikes = spikes[np.lexsort((spikes["time"], spikes["address"], spikes["slice"], spikes["step"], spikes["sample"]))]
        state = ([s for s, _ in self.state], [s for _, s in self.state])
        empty = np.zeros((0, 0), np.int64)
        return Result(
            scores=t.scores,
            start_ps=t.smp[:, c.X_START].copy(),
            first_spike_ps=t.smp[:, c.X_FIRST_SPIKE].copy(),
            decision_ps=t.smp[:, c.X_DECISION].copy(),
            completion_ps=t.smp[:, c.X_COMPLETION].copy(),
            window_ps=self.window_ps,
            server={name: self.servers[:, k].copy() for k, name in enumerate(("services", "busy_ps", "blocked_ps", "held_ps"))},
            core={name: t.cc[:, k].copy() for k, name in enumerate(CORE_COUNTERS)},
            channel={
                "puts": self.channels[:, 0].copy(),
                "high_water": self.channels[:, 1].copy(),
                "drops": np.zeros(len(self.channels), np.int64),
                "losses": np.zeros(len(self.channels), np.int64),
            },  # fmt: skip
            sample={
                "spikes": t.smp[:, c.X_SPIKES].copy(),
                "synops": t.smp[:, c.X_SYNOPS].copy(),
                "packets": t.smp[:, c.X_PACKETS].copy(),
                "injected_spikes": t.smp[:, c.X_IN_SPIKES].copy(),
                "injected_currents": t.smp[:, c.X_IN_CURRENTS].copy(),
                "hops": t.smp[:, c.X_HOPS].copy(),
                "cut": np.zeros(len(t.smp), np.int64),
            },
            slice_spikes=t.sspk.copy(),
            spikes=spikes,
            trace=np.concatenate(self.trace) if self.trace else np.zeros(0, TRACE_DTYPE),
            state_v=np.stack(state[0]) if options.state else empty,
            state_i=np.stack(state[1]) if options.state else empty,
        )
