"""From the kernel's buffers and counters to ``Result``: sorted trace chunks behind a watermark, spikes, sums over samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.anytime import Stop, best_and_margin
from neurosim.engine.events import ANYTIME_DTYPE, CORE_COUNTERS, MARKER, ROW_SERVICE, SPIKE_DTYPE, TRACE_DTYPE, Options, Result, Sink
from neurosim.engine.fast.stuck import last_start, still_moving
from neurosim.engine.fast.tables import columns as c
from neurosim.engine.fast.tables.differences import Differences, count_settled, first_scores
from neurosim.engine.fast.tables.layout import Tables
from neurosim.program import Program

A = NDArray[Any]

BLOCK_ROWS = 4096
"""Rows whose columns are taken apart at a time: as many as fit into the processor's cache."""


class Collector:
    """Gathers what a run leaves in ``tables``: ``flush`` between turns of the kernel, ``finish`` after each sample (or the streamed run)."""

    def __init__(self, program: Program, options: Options, tables: Tables, sink: Sink | None) -> None:
        self.program, self.options, self.tables, self.sink = program, options, tables, sink
        self.pending = np.zeros((0, c.ROW_COLUMNS), np.int64)
        self.trace: list[A] = []
        self.spikes: list[A] = []
        self.servers = np.zeros((len(tables.sv), 4), np.int64)
        self.channels = np.zeros((len(program.channel), 4), np.int64)
        self.window_ps = 0
        self.scores: list[A] = []
        self.state: list[tuple[A, A]] = []
        self.anytime: list[tuple[int, int, int, int]] = []
        self.first_scores = first_scores(program, tables)
        self.hold = c.INF
        """Rows from this time on wait for the end of the sample: one of them may be its stop."""

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
        rows = np.concatenate([self.pending, t.rows[:count]]) if len(self.pending) else t.rows[:count]
        t.reg[c.G_ROWS] = 0
        if final:
            opened = self._open_rows()
            if self.options.fires_only:
                opened = opened[(opened[:, 1] < self.program.ports) & (opened[:, 6] != MARKER)]
            rows = np.concatenate([rows, opened])
        if not len(rows):
            return
        order, ready = self._order(rows), len(rows)
        if not final:
            begun = t.sv["start"][t.sv["open"] != 0]
            watermark = min(int(t.reg[c.G_NOW]), int(begun.min(initial=c.INF)), self.hold)
            ready = int(np.count_nonzero(rows[:, 0] < watermark))
        self.pending = rows[order[ready:]]
        if ready:
            self._hand_on(rows, order[:ready])

    def _hand_on(self, rows: A, order: A) -> None:
        """Rows of the kernel in their order to the sink, or kept. A sink that takes columns gets them: records of 115 bytes are slow to fill."""
        take_columns = getattr(self.sink, "write_columns", None)
        names = TRACE_DTYPE.names or ()
        columns = {name: np.empty(len(order), TRACE_DTYPE[name]) for name in names}
        columns["sample"][:] = self.tables.par[c.P_SAMPLE]
        for a in range(0, len(order), BLOCK_ROWS):
            block = rows[order[a : a + BLOCK_ROWS]]
            for column, name in enumerate(names[1:]):
                columns[name][a : a + BLOCK_ROWS] = block[:, column]
        if take_columns is not None:
            take_columns(columns)
            return
        chunk = np.empty(len(order), TRACE_DTYPE)
        for name in names:
            chunk[name] = columns[name]
        if self.sink is not None:
            self.sink.write(chunk)
        else:
            self.trace.append(chunk)

    def _order(self, rows: A) -> A:
        """The order of rows. Of one server no two rows of a kind share a time, and rows of a server come by number, so one key is enough."""
        time, server, kind = rows[:, 0], rows[:, 1], rows[:, 2]
        late = (kind == ROW_SERVICE) & (rows[:, 4] < 0)  # services that never ended come after the complete rows of their time
        first, servers = int(time.min()), len(self.tables.sv)
        if int(time.max()) - first >= 2**60 // (16 * servers):
            return np.lexsort((rows[:, 3], kind, server, late, time))
        return np.argsort((((time - first) * 2 + late) * servers + server) * 8 + kind, kind="stable")

    def finish(self, first: int, last: int) -> None:
        """Samples [first, last) are complete: add up counters, keep scores and states."""
        t = self.tables
        self.flush(final=True)
        router0 = int(t.par[c.P_ROUTER0])
        t.sv["services"][router0:], t.sv["end"][router0:] = t.ch["services"][router0:], t.ch["end"][router0:]
        writer = self.program.channel[:, 1]
        self.channels[:, 0] += self._puts()[writer]
        if not self.options.jitter:
            t.sv["busy"][router0:] = t.sv["services"][router0:] * self.program.server_hop_ps[router0:]
        if np.any(t.sv["open"]):
            self._left_open(first)
        for k, field in enumerate(("services", "busy", "blocked", "held")):
            self.servers[:, k] += t.sv[field]
        # what was never taken has arrived all the same
        self.channels[:, 1] = np.maximum(self.channels[:, 1], self._high()[writer])
        self.channels[:, 2:] += t.cw[writer][:, [c.C_DROPS, c.C_LOSSES]]
        end = max(int(t.reg[c.G_LAST_END]), last_start(t))
        self.window_ps += end
        if self.options.streamed and self.program.sync != "settle":
            t.smp[:, c.X_START] = np.where(t.smp[:, c.X_START] < 0, t.smp[:, c.X_BEGAN], t.smp[:, c.X_START])
        elif not self.options.streamed:
            t.smp[first, c.X_COMPLETION] = end
            t.smp[first, c.X_START] = 0
            t.smp[first, c.X_HOPS] = t.sv["services"][t.par[c.P_ROUTER0] :].sum()
        if isinstance(t, Differences):
            self._settled(t, first, last)
        elif self.program.sync == "free":
            self._windows(first, last)
        if len(t.readout):
            (self._said_in_steps if self.program.stepped else self._said)(first, last)
        if self.options.state:
            self.state.append(t.state())

    def stopped(self, sample: int, stop: Stop) -> None:
        """The sample ends by its margin: counted, and its row."""
        t = self.tables
        t.smp[sample, c.X_STOPPED] = 1
        if t.par[c.P_RECORD] == c.RECORD_ALL:
            t.rows[t.reg[c.G_ROWS]] = stop.columns()
            t.reg[c.G_ROWS] += 1

    def _say(self, sample: int, time: int, scores: A) -> None:
        self.anytime.append((self.options.first_sample + sample, time, *best_and_margin(self.program.scores_of(scores))))

    def _said(self, first: int, last: int) -> None:
        """Without steps: the log has the changes of the best class, and a service left open counts with its start."""
        t = self.tables
        log = t.log[: t.reg[c.G_LOGS]]
        times = np.where(log[:, c.LOG_END] < 0, t.sv["start"][log[:, c.LOG_SERVER]], log[:, c.LOG_END])
        for sample in range(first, last):
            self._say(sample, int(t.smp[sample, c.X_START]), t.scores[sample - 1] if sample > first else self.first_scores)
            for k in np.flatnonzero(log[:, c.LOG_SAMPLE] == sample).tolist():
                best, margin = log[k, [c.LOG_BEST, c.LOG_MARGIN]].tolist()
                self.anytime.append((self.options.first_sample + sample, int(times[k]), best, margin))

    def _said_in_steps(self, first: int, last: int) -> None:
        """With steps: the readout after each step of one of its slices, in order of (end, slice)."""
        t, steps = self.tables, self.program.steps
        scores = {sample: self.first_scores.copy() for sample in range(first, last)}
        for sample, values in scores.items():
            self._say(sample, int(t.smp[sample, c.X_START]), values)
        log = t.log[: t.reg[c.G_LOGS]]
        for sample, _, _, q, step, end in log[np.lexsort((log[:, c.LOG_BEST], log[:, c.LOG_END]))].tolist():
            values = scores[sample]
            before, mine = int(self.program.scores_of(values).argmax()), t.rank[self.program.neuron_ptr[q] : self.program.neuron_ptr[q + 1]]
            values[mine] = t.along[sample * steps + step, mine]
            if int(self.program.scores_of(values).argmax()) != before:
                self._say(sample, end + int(t.par[c.P_READOUT]), values)

    def _high(self) -> A:
        """High-water marks of all channels: what was never taken has arrived all the same."""
        t = self.tables
        high = t.ch["high"].copy()
        for k in np.flatnonzero(t.ch["used"]).tolist():
            base, depth, head, used = (int(t.ch[name][k]) for name in ("base", "depth", "head", "used"))
            left = t.slot["left"][base : base + depth]
            for number in range(used):
                arrival = t.slot["time"][base + (head - base + number) % depth]
                before = [left[(head - base - j) % depth] >= arrival for j in range(1, depth - number)]
                high[k] = max(high[k], number + 1 + int(np.argmin([*before, False])))
        return np.asarray(high)

    def _puts(self) -> A:
        """Puts of every server. A service of a router output puts once, unless it is open or its spike was dropped or lost."""
        t = self.tables
        output = np.arange(len(t.sv)) >= t.par[c.P_ROUTER0]
        puts = np.where(output, t.sv["services"] - (t.sv["open"] != 0) - t.sv["missed"], t.sv["puts"])
        return np.asarray(puts)

    def _left_open(self, first: int) -> None:
        """A window of ``free`` ended and these services did not: take back what their end should have counted; for the decision they end at once."""
        t = self.tables
        opened = np.flatnonzero(t.sv["open"])
        t.sv["services"][opened] -= 1
        starts = t.sv["start"][opened]
        row = np.maximum(starts - 1, 0) // self.options.window_ps if self.options.streamed else np.full(len(opened), first)
        outputs = opened >= t.par[c.P_ROUTER0]
        t.sv["busy"][opened[outputs]] -= (t.sv["ready"] - t.sv["start"])[opened[outputs]]
        if self.options.streamed:  # isolated hops are counted from the services
            np.subtract.at(t.smp[:, c.X_HOPS], row[outputs], 1)
        last = (t.smp[row, c.X_DECISION_SERVER] == opened) & (t.smp[row, c.X_DECISION_SERVICE] == t.sv["services"][opened])
        t.smp[row[last], c.X_DECISION] = starts[last]

    def _settled(self, t: Differences, first: int, last: int) -> None:
        """Settle: what every core has to say at the end of samples; streamed, the kernel has counted those before the last."""
        options = self.options
        if not options.streamed:
            for core in range(self.program.cores):
                count_settled(t, self.program, core, first)
            return
        if not options.window_ps:
            t.smp[0, c.X_START] = 0
            return
        for core in range(self.program.cores):
            for sample in range(int(t.dc[core, c.L_ENDED]), last):
                count_settled(t, self.program, core, sample)
        self._begun_with_windows(first, last)
        for since in still_moving(self.program, t):
            t.smp[since:last, c.X_UNSETTLED] = 1

    def _begun_with_windows(self, first: int, last: int) -> None:
        begins = np.arange(first, last) * self.options.window_ps
        self.tables.smp[:, c.X_START] = begins
        for column in (c.X_DECISION, c.X_COMPLETION):
            self.tables.smp[:, column] = np.maximum(self.tables.smp[:, column], begins)

    def _windows(self, first: int, last: int) -> None:
        """Scores of ``free``: isolated at the end; streamed at the end of every window (the kernel kept those before the last service)."""
        t = self.tables
        if not self.options.streamed:
            t.scores[first] = t.state()[0][t.readout]
            return
        t.scores[int(t.reg[c.G_SCORED]) : last] = t.state()[0][t.readout]
        self._begun_with_windows(first, last)

    def _spike_rows(self, raw: A) -> A:
        rows = np.zeros(len(raw), SPIKE_DTYPE)
        rows["sample"] = raw[:, 0] + self.options.first_sample
        rows["step"] = raw[:, 1] % self.program.steps
        rows["slice"], rows["address"], rows["time"], rows["value"] = raw[:, 2], raw[:, 3], raw[:, 4], raw[:, 5]
        return rows

    def _open_rows(self) -> A:
        """Rows of services that will never end (a run that stops in a deadlock): end = -1."""
        t = self.tables
        opened = np.flatnonzero(t.sv["open"])
        rows = np.zeros((len(opened), c.ROW_COLUMNS), np.int64)
        server = t.sv[opened]
        rows[:, 0], rows[:, 1], rows[:, 2] = server["start"], opened, ROW_SERVICE
        rows[:, 3] = rows[:, 5] = np.where(opened < t.par[c.P_ROUTER0], server["services"], t.ch["services"][opened]) - 1
        rows[:, 4] = -1
        packet = t.pk[server["packet"]]
        for k, field in enumerate(("item", "slice", "address", "value", "step", "dest", "origin", "cause_server", "cause_service")):
            rows[:, 6 + k] = packet[field]
        rows[:, 15], rows[:, 16] = server["waited"], server["synops"]
        return rows

    def result(self) -> Result:
        """The Result of all that was collected."""
        t, options = self.tables, self.options
        spikes = np.concatenate(self.spikes) if self.spikes else np.zeros(0, SPIKE_DTYPE)
        spikes = spikes[np.lexsort((spikes["time"], spikes["address"], spikes["slice"], spikes["step"], spikes["sample"]))]
        state = ([s for s, _ in self.state], [s for _, s in self.state])
        empty = np.zeros((0, 0), np.int64)
        anytime = np.array(self.anytime, ANYTIME_DTYPE)
        return Result(
            scores=self.program.scores_of(t.scores),
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
                "drops": self.channels[:, 2].copy(),
                "losses": self.channels[:, 3].copy(),
            },
            sample={
                "spikes": t.smp[:, c.X_SPIKES].copy(),
                "synops": t.smp[:, c.X_SYNOPS].copy(),
                "packets": t.smp[:, c.X_PACKETS].copy(),
                "injected_spikes": t.smp[:, c.X_IN_SPIKES].copy(),
                "injected_currents": t.smp[:, c.X_IN_CURRENTS].copy(),
                "hops": t.smp[:, c.X_HOPS].copy(),
                "cut": t.smp[:, c.X_CUT].copy(),
                "unsettled": t.smp[:, c.X_UNSETTLED].copy(),
                "cancelled": t.smp[:, c.X_CANCELLED].copy(),
                "retracted": t.smp[:, c.X_RETRACTED].copy(),
                "stopped": t.smp[:, c.X_STOPPED].copy(),
            },
            slice_spikes=t.sspk.copy(),
            slice_cancelled=t.gone.copy() if isinstance(t, Differences) else np.zeros_like(t.sspk),
            slice_retracted=t.back.copy() if isinstance(t, Differences) else np.zeros_like(t.sspk),
            spikes=spikes,
            anytime=anytime[np.argsort(anytime["sample"], kind="stable")],
            trace=np.concatenate(self.trace) if self.trace else np.zeros(0, TRACE_DTYPE),
            state_v=np.stack(state[0]) if options.state else empty,
            state_i=np.stack(state[1]) if options.state else empty,
        )
