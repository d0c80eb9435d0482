"""Why a neuron fired: its membrane replayed from the trace, synapse by synapse, with every spike and weight that moved it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.arithmetic import decay, fires, integrate, product, reset, saturate, spike_count, step_current, step_membrane
from neurosim.engine.events import CURRENT, DUE, ROW_DROP, SPIKE, START
from neurosim.engine.synapses import decode
from neurosim.errors import DataError
from neurosim.program import (
    G_MAIN,
    OP_KIND,
    OP_NONE,
    OP_OR,
    R_DECAY_I,
    R_DECAY_V,
    R_MAX_SPIKES,
    R_READOUT,
    R_RESET,
    R_STRICT,
    Program,
)
from neurosim.trace.causes import Events, events_of
from neurosim.trace.names import SOMA, SYNAPSE, full_name
from neurosim.trace.stored import StoredRun
from neurosim.units import format_time


@dataclass
class _Touch:
    """One synapse served, or one current, into the neuron."""

    time: int
    source: int
    address: int
    step: int
    acts: int
    """Step of the neuron (within the sample) in which it acts; 0 in free."""
    weight: int | None
    value: int
    contribution: int
    membrane: int = 0


def why_fired(run: StoredRun, program: Program, neuron: str, sample: int = 0, to_ps: int | None = None) -> dict[str, Any]:
    """What made a neuron fire (settle: change its output), by replaying its membrane from the synapses that the trace says were served.

    ``program``: the program that was run, with its weights. ``neuron``: ``"population (c, y, x)"`` as in the trace, or ``"population [i, j, ...]"``
    as in ``Run.spikes(population)[sample, step]``. Asked about is its first fire in the sample, or with ``to_ps`` its last before that time; if there
    is none, why it did not fire.
    Keys: population, neuron (with its place in its module where that has another order), core, fired, time (ps), step, membrane, threshold, text,
    contributions: rows time, population, neuron (of the source), step, weight (None for currents), value, contribution, membrane (after it; in steps:
    after the step in which it acts), since the fire before.
    Raises DataError: no whole trace, another program, a neuron that does not exist, lives on the host or computes an extra op with operands.
    """
    q, address, name = find_neuron(run, program, neuron)
    replay = replay_neuron(program, events_of(run, sample), q, address, sample if run.streamed else None)
    touches, fired = replay.touches, replay.fired
    if not replay.agrees:
        raise DataError(f"{neuron}: the replay fires {len(fired)} times, unlike the trace; the trace is not of this program")
    place = full_name(program, q, address)
    threshold = int(program.threshold[program.neuron_ptr[q] + address])
    answer: dict[str, Any] = {"population": name, "neuron": place, "core": int(program.slice_core[q]), "threshold": threshold}
    before = [entry for entry in fired if to_ps is None or entry[0] < to_ps]
    if not before:
        rows = [t for t in touches if to_ps is None or t.time < to_ps]
        highest = max((t.membrane for t in rows), default=0)
        text = f"{name} {place} did not fire in sample {sample}: {len(rows)} contributions, membrane at most {highest} of threshold {threshold}"
        if program.slice_rule[q, R_READOUT]:
            text = f"{name} {place} is a readout neuron, which never fires; {len(rows)} contributions"
        return answer | {"fired": False, "time": None, "step": None, "membrane": highest, "text": text, "contributions": replay.words(rows)}
    k = 0 if to_ps is None else len(before) - 1
    time, step, membrane = fired[k]
    rows = replay.between(touches, fired[k - 1] if k else None, fired[k])
    strongest = max(rows, key=lambda t: t.contribution, default=None)
    best = f", the strongest from {replay.source(strongest)}" if strongest is not None and strongest.contribution > 0 else ""
    bias = int(program.bias[program.neuron_ptr[q] + address])
    since = ("what it said last" if program.sync == "settle" else "its last fire") if k else "the start"
    words = [f"{len(rows)} contributions since {since}{best}"] + ([f"bias {bias}"] if bias and program.sync != "settle" else [])
    if isinstance(replay, _Settled):
        text = replay.told(f"{name} {place}", k, words)
        return answer | {"fired": True, "time": time, "step": step, "membrane": membrane, "text": text, "contributions": replay.words(rows)}
    when = "" if program.sync == "free" else f" in step {step}"
    text = f"{name} {place} fired{when} at {format_time(time)}: membrane {membrane} reached threshold {threshold} ({'; '.join(words)})"
    return answer | {"fired": True, "time": time, "step": step, "membrane": membrane, "text": text, "contributions": replay.words(rows)}


def replay_neuron(program: Program, events: Events, q: int, address: int, sample: int | None = None) -> Replay:
    """Replay neuron ``address`` of slice ``q``; ``sample`` of a streamed run, None for isolated rows (in free: all windows of a streamed run)."""
    kind = {"free": _Free, "settle": _Settled}.get(program.sync, _Stepped)
    return kind(program, events, q, address, sample)


def find_neuron(run: StoredRun, program: Program, text: str) -> tuple[int, int, str]:
    """(slice, address, population) of ``"population (c, y, x)"`` or ``"population [i, j, ...]"`` (``why_fired``) in the program that was run.

    Raises DataError: another program, a neuron that does not exist or computes an extra op with operands.
    """
    if run.info["digests"]["program"] != program.digest():
        raise DataError(f"run {run.path} simulated another program than the one given (its weights may have been faulty); give the one that was run")
    q, address, name = _find(program, text)
    kind = int(program.slice_op[q, OP_KIND])
    if kind not in (OP_NONE, OP_OR) or (kind == OP_OR and not program.stepped):
        raise DataError(f"{text}: {name} computes an extra op, whose input is no sum of synapses alone; ask about the populations that feed it")
    return q, address, name


def _find(program: Program, text: str) -> tuple[int, int, str]:
    match = re.fullmatch(r"\s*(\S+?)\s*(?:\(?\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)?|\[([\d\s,]+)\])\s*", text)
    if match is None:
        raise DataError(f'neuron {text!r} is not understood; write for example "blocks.0.lif1 (3, 0, 2)": population, channel, row, column')
    name, names = match[1], [str(p["name"]) for p in program.meta["populations"]]
    if name not in names:
        raise DataError(f"population {name!r} does not exist; there are {', '.join(names)}")
    index = names.index(name)
    shape = tuple(program.meta["populations"][index]["shape"])
    c, y, x = (int(k) for k in match.groups()[1:4]) if match[5] is None else _in_module(program, index, shape, name, match[5])
    for q in np.flatnonzero(program.slice_population == index).tolist():
        c0, c1, y0, y1, x0, x1 = program.slice_box[q].tolist()
        if c0 <= c < c1 and y0 <= y < y1 and x0 <= x < x1:
            return q, ((y - y0) * (x1 - x0) + x - x0) * (c1 - c0) + c - c0, name
    raise DataError(f"{name} has no neuron ({c}, {y}, {x}) on the chip; its shape is {shape}, and host populations have none there")


def _in_module(program: Program, index: int, shape: tuple[int, ...], name: str, text: str) -> tuple[int, int, int]:
    """(c, y, x) of a place in the array that ``Run.spikes`` gives for a sample and step."""
    numbers = tuple(int(part) for part in text.split(",") if part.strip())
    order = program.module_orders.get(index)
    own = shape if order is None else order.shape
    if len(numbers) != len(own) or not all(k < n for k, n in zip(numbers, own, strict=True)):
        raise DataError(f"{name} has no neuron {list(numbers)} in its module's own order, whose shape is {own}")
    if order is not None:
        c, pixel = divmod(order.flat(numbers), shape[1] * shape[2])
        return c, *divmod(pixel, shape[2])
    c, y, x = numbers
    return c, y, x


class Replay:
    """A neuron's history out of a trace. What both ways of replaying share: the rows of the core, the synapses into the neuron."""

    touches: list[_Touch]
    fired: list[tuple[int, int, int]]
    """(time, step within the sample, membrane before the reset) of every fire."""
    membrane: int
    """The last one."""
    history: list[tuple[int, int, int]]
    """(time, membrane before the reset, and after it) of every step (at the start of its service), in free and settle of every touch."""

    def __init__(self, program: Program, events: Events, q: int, address: int, sample: int | None) -> None:
        self.program, self.q, self.address, self.events = program, q, address, events
        self.streamed = sample is not None and program.stepped
        self.base = (sample or 0) * program.steps if self.streamed else 0
        core = int(program.slice_core[q])
        self.server = int(np.flatnonzero((program.server_kind == SYNAPSE) & (program.server_owner == core))[0])
        self.fire_server = self.server + (SOMA - SYNAPSE if program.stepped else 0)
        routes = {}
        for s in range(len(program.source_population)):
            for r in range(int(program.route_ptr[s]), int(program.route_ptr[s + 1])):
                if program.route_core[r] == core:
                    routes[s] = r
        self.routes = routes
        arithmetic = program.chip.arithmetic
        self.high = (1 << (arithmetic.state_bits - 1)) - 1
        self.low = -self.high - 1
        self.rounding = program.chip.rounding
        neuron = int(program.neuron_ptr[q]) + address
        self.threshold, self.bias, self.floor, self.reset_by, self.v_init = (
            int(column[neuron]) for column in (program.threshold, program.bias, program.floor, program.reset_by, program.v_init)
        )
        self.starts = bool(np.any(program.bias[int(program.neuron_ptr[q]) : int(program.neuron_ptr[q + 1])]))  # a start item touches the whole slice
        self.rule = [int(value) for value in program.slice_rule[q]]
        self._known: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        self.run()

    def run(self) -> None:
        """Find the touches and replay them."""
        raise AssertionError(f"{type(self).__name__} must override run")

    def between(self, touches: list[_Touch], last: tuple[int, int, int] | None, this: tuple[int, int, int]) -> list[_Touch]:
        """Touches after one fire (None: from the start) and up to another."""
        raise AssertionError(f"{type(self).__name__} must override between")

    @property
    def agrees(self) -> bool:
        """Whether the replay fires when the trace says so; fires that a cut or stopped run never put have the time -1."""
        return [time for time, _, _ in self.fired if time >= 0] == self.recorded()

    def synapses(self, source: int, address: int) -> list[tuple[int, int, int]]:
        """(delay, weight, shift) of the synapses of a source neuron into this neuron, in the order of service."""
        if (source, address) not in self._known:
            found = []
            for entry in decode(self.program, self.routes[source], source, address, self.program.chip.arithmetic.skip_zero_weights):
                if entry.slice == self.q and entry.operand == G_MAIN:
                    found += [(entry.delay, int(w), entry.shift) for w in entry.weights[entry.targets == self.address]]
            self._known[source, address] = found
        return self._known[source, address]

    def served(self) -> Iterator[_Touch]:
        """Every synapse and current into the neuron, in the order of service."""
        rows = self.events.of(self.server)
        for row in rows[(rows["item"] == SPIKE) | ((rows["item"] == CURRENT) & (rows["slice"] == self.q) & (rows["address"] == self.address))]:
            time, source, address, value, step = (int(row[name]) for name in ("time", "slice", "address", "value", "step"))
            if row["item"] == CURRENT:
                yield _Touch(time, -1, -1, step, step, None, value, value)
                continue
            for delay, weight, shift in self.synapses(source, address):
                yield _Touch(time, source, address, step, step + delay, weight, value, product(weight, product(value, 1 << shift)))

    def recorded(self) -> list[int]:
        """Times of the neuron's fires as the trace has them."""
        tables = (self.events.puts, self.events.lost[self.events.lost["kind"] == ROW_DROP])
        found = []
        for rows in tables:
            mine = rows[
                (rows["server"] == self.fire_server) & (rows["item"] == SPIKE) & (rows["slice"] == self.q) & (rows["address"] == self.address)
            ]
            found += [int(row["time"]) for row in mine if self.mine(int(row["step"]))]
        return sorted(found)

    def mine(self, step: int) -> bool:
        """Whether a global step is of the sample asked about."""
        return not self.streamed or self.base <= step < self.base + self.program.steps

    def source(self, touch: _Touch) -> str:
        """``mid.lif (0, 1, 2)``."""
        return " ".join(part for part in self._names(touch) if part)

    def _names(self, touch: _Touch) -> tuple[str, str]:
        if touch.source < 0:
            return "host current", ""
        population = self.program.meta["populations"][int(self.program.source_population[touch.source])]
        return str(population["name"]), full_name(self.program, touch.source, touch.address)

    def words(self, touches: list[_Touch]) -> list[dict[str, Any]]:
        """Touches as rows with names."""
        rows = []
        for t in touches:
            population, neuron = self._names(t)
            rows.append(
                {
                    "time": t.time, "population": population, "neuron": neuron, "step": t.step % self.program.steps if self.streamed else t.step,
                    "weight": t.weight, "value": t.value, "contribution": t.contribution, "membrane": t.membrane,
                }
            )  # fmt: skip
        return rows


class _Stepped(Replay):
    def run(self) -> None:
        """Touches have the membrane after their step."""
        steps = self.program.steps
        touches = [t for t in self.served() if self.mine(t.step) and t.acts - self.base < steps]
        times, fired = self.recorded(), list[tuple[int, int, int]]()
        self.history = []
        v, i = self.v_init, 0
        for step in range(steps):
            now = [t for t in touches if t.acts - self.base == step]
            current, _ = step_current(i, sum(t.contribution for t in now), self.rule[R_DECAY_I], self.rounding, self.low, self.high)
            i = current if self.rule[R_DECAY_I] >= 0 else i
            v, _ = step_membrane(v, current, self.bias, self.rule[R_DECAY_V], self.floor, self.rounding, self.low, self.high)
            for t in now:
                t.membrane = v
            highest = v
            if not self.rule[R_READOUT] and (spikes := spike_count(v, self.threshold, self.rule[R_STRICT], self.rule[R_MAX_SPIKES])):
                fired.append((times[len(fired)] if len(fired) < len(times) else -1, step, v))
                v = reset(v, self.rule[R_RESET], spikes * self.reset_by)
            if (row := self.events.steps.get((self.q, self.base + step))) is not None:
                self.history.append((int(self.events.services["time"][row]), highest, v))
        self.touches, self.fired, self.membrane = sorted(touches, key=lambda t: t.acts), fired, v

    def between(self, touches: list[_Touch], last: tuple[int, int, int] | None, this: tuple[int, int, int]) -> list[_Touch]:
        """Touches that act after the step of one fire and up to that of another."""
        return [t for t in touches if (-1 if last is None else last[1]) < t.acts - self.base <= this[1]]


class _Free(Replay):
    """Local time: the touches of one service follow each other at its start; the fires come out of the station later."""

    def run(self) -> None:
        """Touches have the membrane after them."""
        self.at: list[int] = []  # of each fire: the number of touches before it
        touches = list(self.served())
        started = self.events.of(self.server)
        if len(started) and started["item"][0] == START and self.starts:
            bias = self.program.steps * self.bias
            touches.insert(0, _Touch(0, -1, -1, 0, 0, None, bias, bias))
        times, v, last = self.recorded(), self.v_init, 0
        period = self.program.chip.timing.leak
        fired: list[tuple[int, int, int]] = []
        self.history = []
        for number, touch in enumerate(touches):
            if self.rule[R_DECAY_V] and period is not None:
                for _ in range(touch.time // period.value - last // period.value):
                    decayed = decay(v, self.rule[R_DECAY_V], self.rounding)
                    if decayed == v:
                        break
                    v = decayed
            last = touch.time
            v, _ = integrate(v, touch.contribution, self.floor, self.low, self.high)
            touch.membrane = v
            for _ in range(0 if self.rule[R_READOUT] else self.program.chip.arithmetic.spikes_per_update):
                if not fires(v, self.threshold, self.rule[R_STRICT]):
                    break
                fired.append((times[len(fired)] if len(fired) < len(times) else -1, 0, v))
                self.at.append(number + 1)
                v = reset(v, self.rule[R_RESET], self.reset_by)
            self.history.append((touch.time, touch.membrane, v))
        self.touches, self.fired, self.membrane = touches, fired, v

    def between(self, touches: list[_Touch], last: tuple[int, int, int] | None, this: tuple[int, int, int]) -> list[_Touch]:
        """Touches after one fire and up to another."""
        k = self.fired.index(this)
        return touches[(0 if last is None else self.at[k - 1]) : self.at[k]]


class _Settled(Replay):
    """The membrane moves with every synapse from where it rested; at the neuron's due services its output follows. What it says is a change."""

    def run(self) -> None:
        """Touches have the membrane after them; ``fired``: (time of the put, 0, membrane that it followed)."""
        program, neuron = self.program, int(self.program.neuron_ptr[self.q]) + self.address
        before = int(program.slice_cells[: self.q].sum())
        self.v_init = v = int(program.rest_v[before + self.address])
        self.rested = sent = int(program.rest_sent[neuron])
        self.touches, self.history, self.fired = list(self.served()), [], []
        self.at: list[int] = []  # of each change: the number of touches before it
        self.changes: list[int] = []
        rows, times = self.events.of(self.server), self.recorded()
        due = rows[(rows["item"] == DUE) & (rows["slice"] == self.q) & (rows["address"] == self.address)]["time"].tolist()
        done = 0
        for begin in [*due, 2**62]:
            while done < len(self.touches) and self.touches[done].time < begin:
                touch = self.touches[done]
                v += touch.contribution
                touch.membrane = v
                self.history.append((touch.time, v, v))
                done += 1
            clipped = saturate(v, self.low, self.high)
            output = 0 if self.rule[R_READOUT] else spike_count(clipped, self.threshold, self.rule[R_STRICT], self.rule[R_MAX_SPIKES])
            if begin < 2**62 and output != sent:
                self.fired.append((times[len(self.fired)] if len(self.fired) < len(times) else -1, 0, v))
                self.at.append(done)
                self.changes.append(output - sent)
                sent = output
        self.membrane = v

    def between(self, touches: list[_Touch], last: tuple[int, int, int] | None, this: tuple[int, int, int]) -> list[_Touch]:
        """Touches after one change and up to another."""
        k = self.fired.index(this)
        return touches[(0 if last is None else self.at[k - 1]) : self.at[k]]

    def told(self, name: str, k: int, words: list[str]) -> str:
        """Change k in words."""
        change, (time, _, membrane) = self.changes[k], self.fired[k]
        what = f"said {change:+d}" if change > 0 else f"took {-change} back"
        side = "reaches" if change > 0 else "no longer reaches"
        count = len(self.changes)
        again = f"; it changed its mind {count} times in all" if count > 1 else ""
        levels = "" if self.rule[R_MAX_SPIKES] == 1 else f" ({self.rule[R_MAX_SPIKES]} levels)"
        return f"{name} {what} at {format_time(time)}: membrane {membrane} {side} threshold {self.threshold}{levels} ({'; '.join(words)}){again}"
