"""What is wrong with a run, in plain words: the findings at its end. A run without problems has none.

Every rule states its threshold, in its text and in ``threshold``. Rules need counters alone; with a trace they also say since when a station is busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.deadlock import channel_name
from neurosim.engine.events import Result
from neurosim.errors import Deadlock
from neurosim.program import C_AXON_IN, C_AXON_OUT, OP_GATE, OP_KIND, Program
from neurosim.trace.causes import Events
from neurosim.trace.names import PORT, ROUTER, SENDER, SOMA, SYNAPSE, channel_names, item_name, neuron_name, server_names
from neurosim.trace.store import read_trace, trace_info
from neurosim.trace.stored import Priced
from neurosim.units import format_energy, format_time

BUSY = 0.8
"""A station or link that works for this part of the simulated time is saturated."""
WAITING = 1 / 3
"""A station that waits for room for this part of the simulated time is held up."""
INPUT_WAITING = 0.05
"""The same for a port whose packets are due at the times of a recording. With input as fast as it goes a port always waits: no finding."""
DROPPED = 0.001
"""Part of the spikes into a FIFO that it drops."""
CLIPPED = 0.001
"""Part of the membrane updates (free: of the synapses served; settle: of the membranes at the samples' ends) that saturate."""
MIND_CHANGES = 10
"""Settle: changes of one neuron's output in one sample from which on it is named."""
ALWAYS = 0.99
"""Part of the neurons of a population that fire in a mean step."""
TIED = 0.05
"""Part of the samples whose highest score several classes share: a tie goes to the lowest class, which may be the label."""
LEAST_STEPS = 100
"""Neurons times steps times samples of which silence, or its opposite, says something."""
IMBALANCE, IMBALANCED_BUSY, IMBALANCED_CORES = 10.0, 0.5, 4
"""A core is overloaded beside the others when it is busy for half of the time, and 10 times as much as the median of at least 4 cores."""
LARGEST_TRACE = 4_000_000
"""Rows of a sample that are read to say since when."""


@dataclass(frozen=True)
class Finding:
    """One problem. ``kind`` and ``where`` are for programs, ``text`` is for people; ``value`` reached or passed ``threshold``."""

    kind: str
    where: str
    text: str
    remedy: str
    value: float
    threshold: float

    def plain(self) -> dict[str, Any]:
        """As in ``run --json``."""
        return {
            "kind": self.kind, "where": self.where, "text": self.text, "remedy": self.remedy, "value": self.value, "threshold": self.threshold,
        }  # fmt: skip


def findings(program: Program, result: Result, energy: Priced, *, realtime: bool = False, trace: Path | None = None) -> list[Finding]:
    """All findings of a finished run, the gravest kinds first.

    ``realtime``: the input was due at the times of a recording. ``trace``: a whole trace, for since when.
    """
    run = _Run(program, result, energy, realtime, trace)
    rules: tuple[Callable[[_Run], Iterator[Finding]], ...] = (
        _saturated,
        _links,
        _held_up,
        _input,
        _drops,
        _tied,
        _silent,
        _always,
        _clipped,
        _undecided,
        _unsettled,
        _imbalance,
        _host,
    )
    return [finding for rule in rules for finding in rule(run)]


def deadlock_finding(program: Program, error: Deadlock, rows: NDArray[Any] | None) -> Finding:
    """The deadlock as a finding: its cycle, and what lies in the cycle's FIFOs; ``rows``: all trace rows of its sample (without: no contents)."""
    contents = "; ".join(fifo_contents(program, error, rows)) if rows is not None and len(rows) else ""
    members = [f"{who} waits for {what}" for who, what in zip(error.cycle[::2], error.cycle[1::2], strict=False)]
    text = f"deadlock at {format_time(error.time_ps)} of sample {error.sample}: {'; '.join(members)}"
    remedy = str(error).rpartition("; ")[2]
    return Finding("deadlock", ", ".join(error.cycle[::2]), text + (f". In the FIFOs: {contents}" if contents else ""), remedy, 1.0, 1.0)


def fifo_contents(program: Program, error: Deadlock, rows: NDArray[Any], most: int = 3) -> list[str]:
    """What lies in the FIFOs of a deadlock's cycle: ``axon-in of core 1 holds 2 of 2: spike of a (0, 0, 0), spike of a (1, 0, 0)``."""
    events = Events(program, rows)
    found = []
    for channel in _cycle_channels(program, error):
        left = events.left_in(channel)
        items = [item_name(program, _Row(row)) for row in left[:most]] + ([f"and {len(left) - most} more"] if len(left) > most else [])
        depth = int(program.channel[channel, 4])
        found.append(f"{channel_names(program)[channel]} holds {len(left)} of {depth}" + (f": {', '.join(items)}" if items else ""))
    return found


class _Row:
    """A trace row with attributes, as ``item_name`` wants it."""

    def __init__(self, row: Any) -> None:
        self.item, self.slice, self.address, self.step = (int(row[name]) for name in ("item", "slice", "address", "step"))


def _cycle_channels(program: Program, error: Deadlock) -> list[int]:
    """Channels that the cycle names, and the axon-in of destinations whose windows it names."""
    named = {channel_name(program, k): k for k in range(len(program.channel))}
    found = []
    for what in error.cycle[1::2]:
        what = what.replace("a window credit of core", "axon-in of core")
        if what in named:
            found.append(named[what])
    return list(dict.fromkeys(found))


@dataclass
class _Run:
    program: Program
    result: Result
    energy: Priced
    realtime: bool
    trace: Path | None

    def __post_init__(self) -> None:
        window = max(1, self.result.window_ps)
        self.busy = self.result.server["busy_ps"] / window
        self.blocked = self.result.server["blocked_ps"] / window
        self.names, self.channels = server_names(self.program), channel_names(self.program)
        self.populations = [str(p["name"]) for p in self.program.meta["populations"]]
        self._events: Events | None = None

    def of_kinds(self, *kinds: int) -> list[int]:
        return [int(v) for v in np.flatnonzero(np.isin(self.program.server_kind, kinds))]

    def core_words(self, core: int) -> str:
        """``core 3 (mid.lif)``."""
        names = sorted({self.populations[p] for p in self.program.slice_population[self.program.slice_core == core].tolist()})
        return f"core {core} ({', '.join(names)})" if names else f"core {core}"

    def reader(self, channel: int) -> int | None:
        """The one server that reads a channel, None for inputs of routers."""
        kind, _, reader = (int(v) for v in self.program.channel[channel, :3])
        return {C_AXON_IN: self.program.ports + 3 * reader, C_AXON_OUT: self.program.ports + 3 * reader + 2}.get(kind)

    def fed_by_ports(self) -> set[int]:
        """Cores with a population that input populations or the host feed."""
        outside = {str(p["name"]) for p in self.program.meta["populations"] if p["kind"] in ("input", "analog") or p.get("host")}
        fed = {str(p["target"]) for p in self.program.meta["projections"] if str(p["source"]) in outside}
        return {int(c) for c, p in zip(self.program.slice_core, self.program.slice_population, strict=True) if self.populations[p] in fed}

    def since(self, server: int) -> str:
        """``, since 1.2 us of sample 0``, where a trace of the first sample says so."""
        if self._events is None:
            # a finding needs no trace: one that was deleted since only leaves out since when
            if self.trace is None or not self.trace.exists() or not (info := trace_info(self.trace)).whole or info.rows > LARGEST_TRACE:
                return ""
            rows = read_trace(self.trace)
            self._events = Events(self.program, rows[rows["sample"] == rows["sample"][:1].max(initial=0)])
        began = busy_since(self._events, server)
        return "" if began is None else f", since {format_time(began)} of the first sample"


def busy_since(events: Events, server: int, part: float = BUSY) -> int | None:
    """The earliest start of a service from which on, until its last service ends, a server works for ``part`` of the time; None if it never does."""
    rows = events.of(server)
    rows = rows[rows["end"] >= 0]
    if not len(rows):
        return None
    worked = np.cumsum((rows["end"] - rows["time"] - rows["blocked"])[::-1])[::-1]
    enough = np.flatnonzero(worked >= part * (rows["end"][-1] - rows["time"]))
    return int(rows["time"][enough[0]]) if len(enough) else None


def _saturated(run: _Run) -> Iterator[Finding]:
    """A core station at work nearly all the time."""
    for v in run.of_kinds(SYNAPSE, SOMA, SENDER):
        if run.busy[v] >= BUSY:
            held = [w for w in range(len(run.names)) if run.blocked[w] >= WAITING and run.reader(int(run.program.server_channel[w])) == v]
            behind = f"; {', '.join(run.names[w] for w in held)} wait{'s' if len(held) == 1 else ''} for it" if held else ""
            core = int(run.program.server_owner[v])
            yield Finding(
                "core saturated", f"core {core}",
                f"{run.core_words(core)} is saturated: {run.names[v]} works {run.busy[v]:.0%} of the time (threshold {BUSY:.0%}){run.since(v)}"
                f"{behind}",
                "spread its populations over more cores, or use more synapse lanes", float(run.busy[v]), BUSY,
            )  # fmt: skip


def _links(run: _Run) -> Iterator[Finding]:
    for v in run.of_kinds(ROUTER):
        if run.busy[v] >= BUSY:
            yield Finding(
                "hot link", run.names[v],
                f"link {run.names[v]} carries packets {run.busy[v]:.0%} of the time (threshold {BUSY:.0%}){run.since(v)}",
                "place the populations that talk over it nearer to each other, or use a topology with more ways", float(run.busy[v]), BUSY,
            )  # fmt: skip


def _held_up(run: _Run) -> Iterator[Finding]:
    """A FIFO that stands full although who reads it neither works all the time nor waits itself: it is too shallow."""
    windows: list[int] = []
    flooded = set() if run.realtime else run.fed_by_ports()  # input as fast as it goes fills the FIFOs of the cores that it goes to
    for v in run.of_kinds(SYNAPSE, SOMA, SENDER, ROUTER):
        channel = int(run.program.server_channel[v])
        if run.blocked[v] < WAITING or channel < 0:
            continue
        if int(run.program.channel[channel, 0]) == C_AXON_IN and int(run.program.channel[channel, 2]) in flooded:
            continue
        if run.program.chip.noc.flow == "end_to_end" and run.program.server_kind[v] == SENDER:
            windows.append(v)
            continue
        reader = run.reader(channel)
        readers = (
            [reader] if reader is not None else [w for w in run.of_kinds(ROUTER) if run.program.server_owner[w] == run.program.channel[channel, 2]]
        )
        if any(run.busy[w] >= BUSY or run.blocked[w] >= WAITING / 2 for w in readers):
            continue
        depth = int(run.program.channel[channel, 4])
        option = {C_AXON_IN: "noc.axon_in", C_AXON_OUT: "noc.axon_out"}.get(int(run.program.channel[channel, 0]), "noc.fifo")
        yield Finding(
            "shallow FIFO", run.channels[channel],
            f"{run.channels[channel]}, {depth} place{'s' if depth > 1 else ''} deep, holds up {run.names[v]}, which waits for room "
            f"{run.blocked[v]:.0%} of the time (threshold {WAITING:.0%}), while its reader is not saturated",
            f"raise {option} (now {depth})", float(run.blocked[v]), WAITING,
        )  # fmt: skip
    if windows:
        worst = max(windows, key=lambda v: run.blocked[v])
        window = run.program.chip.noc.window
        yield Finding(
            "narrow window", run.names[worst],
            f"{len(windows)} sender{'s' if len(windows) > 1 else ''} wait{'' if len(windows) > 1 else 's'} for end-to-end credits or room, "
            f"{run.names[worst]} {run.blocked[worst]:.0%} of the time (threshold {WAITING:.0%}); the window is {window} per destination",
            f"raise noc.window (now {window}), or give destinations fewer senders", float(run.blocked[worst]), WAITING,
        )  # fmt: skip


def _input(run: _Run) -> Iterator[Finding]:
    for v in run.of_kinds(PORT) if run.realtime else ():
        if run.blocked[v] >= INPUT_WAITING:
            yield Finding(
                "input waits", run.names[v],
                f"{run.names[v]}: packets that were due waited for room {run.blocked[v]:.0%} of the time (threshold {INPUT_WAITING:.0%})",
                "see where back-pressure begins: neurosim trace RUN_DIR --back-pressure", float(run.blocked[v]), INPUT_WAITING,
            )  # fmt: skip


def _drops(run: _Run) -> Iterator[Finding]:
    drops, puts = run.result.channel["drops"], run.result.channel["puts"]
    part = drops / np.maximum(1, drops + puts)
    if len(drops) and part.max() >= DROPPED:
        worst = int(np.argmax(part))
        sent = int(run.result.sample["injected_spikes"].sum() + run.result.core["packets_sent"].sum() + drops.sum())
        yield Finding(
            "spikes dropped", run.channels[worst],
            f"full FIFOs dropped {int(drops.sum())} spikes, {drops.sum() / max(1, sent):.1%} of all packets put; {run.channels[worst]} dropped "
            f"{part[worst]:.1%} of those it was given (threshold {DROPPED:.1%})",
            "deepen that FIFO, slow the input down, or let it stall (noc.overflow, noc.axon_out_overflow)", float(part[worst]), DROPPED,
        )  # fmt: skip


def _tied(run: _Run) -> Iterator[Finding]:
    scores = run.result.scores
    if scores.shape[1] < 2:
        return
    tied = (scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1
    if tied.mean() >= TIED:
        silent = int((tied & (run.result.first_spike_ps < 0)).sum())
        none = f"; no spike reached the readout in {silent} of them" if silent else ""
        yield Finding(
            "scores tied", "readout",
            f"several classes share the highest score in {int(tied.sum())} of {len(scores)} samples, {tied.mean():.0%} (threshold {TIED:.0%}){none}: "
            "the prediction there is the lowest of them, not an answer",
            "give the readout more spikes (lower thresholds, more steps), or a readout that sums membranes", float(tied.mean()), TIED,
        )  # fmt: skip


def _fires(run: _Run) -> Iterator[tuple[str, int, float, list[int]]]:
    """(population, fires, neurons * steps * samples, its slices) of every spiking population on the chip whose fires were counted."""
    program, samples = run.program, len(run.result.scores)
    if not run.result.slice_spikes.size:
        return
    neurons = np.diff(program.neuron_ptr)
    for p, population in enumerate(program.meta["populations"]):
        slices = np.flatnonzero(program.slice_population == p).tolist()
        if (
            population["kind"] == "spiking"
            and slices
            and not np.any(program.slice_op[slices, OP_KIND] == OP_GATE if len(program.slice_op) else False)
        ):
            fires = int(run.result.slice_spikes[:, slices].sum())
            yield str(population["name"]), fires, float(neurons[slices].sum() * program.steps * samples), slices


def _silent(run: _Run) -> Iterator[Finding]:
    """Populations that never fired although something reached them; what lies behind a silent one is not named."""
    all_fires = {name: fires for name, fires, _, _ in _fires(run)}
    injected = int(run.result.sample["injected_spikes"].sum() + run.result.sample["injected_currents"].sum())
    for name, fires, chances, _ in _fires(run):
        sources = {str(p["source"]) for p in run.program.meta["projections"] if p["target"] == name} - {name}
        fed = any(all_fires.get(source, injected) > 0 for source in sources) or (not sources and injected > 0)
        if not fires and chances >= LEAST_STEPS and fed:
            yield Finding(
                "population silent", name,
                f"{name} never fired in {len(run.result.scores)} samples, though its input did (looked at from {LEAST_STEPS} neuron-steps on)",
                "lower its thresholds, or look at its weights: neurosim trace RUN_DIR --why", 0.0, 0.0,
            )  # fmt: skip


def _always(run: _Run) -> Iterator[Finding]:
    for name, fires, chances, _ in _fires(run) if run.program.sync != "free" else ():
        if chances >= LEAST_STEPS and fires >= ALWAYS * chances:
            yield Finding(
                "population always fires", name,
                f"{name} fires in {fires / chances:.1%} of its neuron-steps (threshold {ALWAYS:.0%}): it carries no information",
                "raise its thresholds, or look at its weights and biases", fires / chances, ALWAYS,
            )  # fmt: skip


def _clipped(run: _Run) -> Iterator[Finding]:
    core = run.result.core
    changes = core["synops"] + core["current_writes"] if run.program.sync == "free" else core["updates"]
    if run.program.sync == "settle":
        neurons = np.bincount(run.program.slice_core, weights=np.diff(run.program.neuron_ptr), minlength=run.program.cores)
        changes = neurons.astype(np.int64) * len(run.result.scores)
    part = core["saturations"] / np.maximum(1, changes)
    if part.max(initial=0) >= CLIPPED and core["saturations"].sum() > 0:
        worst = int(np.argmax(part))
        yield Finding(
            "membranes saturate", f"core {worst}",
            f"{int(core['saturations'].sum())} membrane changes hit the ends of their range; on {run.core_words(worst)} {part[worst]:.1%} of them "
            f"(threshold {CLIPPED:.1%})",
            "use more state_bits, or quantise to smaller weights and thresholds", float(part[worst]), CLIPPED,
        )  # fmt: skip


def _undecided(run: _Run) -> Iterator[Finding]:
    """Settle: the neuron that changed its output most often in one sample; from the spikes, where the run kept them."""
    rows = run.result.spikes
    if run.program.sync != "settle" or not len(rows):
        return
    first = np.flatnonzero(np.any([np.diff(rows[name], prepend=-1) != 0 for name in ("sample", "slice", "address")], axis=0))
    counts = np.diff(np.append(first, len(rows)))
    most = int(np.argmax(counts))
    if counts[most] < MIND_CHANGES:
        return
    row = rows[first[most]]
    q = int(row["slice"])
    name = f"{run.populations[int(run.program.slice_population[q])]} {neuron_name(run.program.slice_box[q].tolist(), int(row['address']))}"
    often = int(np.count_nonzero(counts >= MIND_CHANGES))
    back = int((rows["value"] < 0).sum()) / len(rows)
    yield Finding(
        "neuron undecided", name,
        f"{name} changed its mind {counts[most]} times in sample {row['sample']}, {often - 1} more neurons at least {MIND_CHANGES} times; "
        f"{back:.0%} of all spikes take something back",
        'its inputs come over paths of unequal depth: use arithmetic.settle_order = "input", or bring its sources closer (docs/settle.md)',
        float(counts[most]), float(MIND_CHANGES),
    )  # fmt: skip


def _unsettled(run: _Run) -> Iterator[Finding]:
    moving = run.result.sample.get("unsettled", np.zeros(0, np.int64))
    if moving.any():
        yield Finding(
            "samples unsettled", "run",
            f"{int(moving.sum())} of {len(moving)} samples were still moving when the next one came, so their scores are not final",
            "give a longer window, or none: then the next sample comes once nothing moves", float(moving.mean()), 0.0,
        )  # fmt: skip


def _imbalance(run: _Run) -> Iterator[Finding]:
    cores = sorted(set(run.program.slice_core.tolist()))
    if len(cores) < IMBALANCED_CORES:
        return
    first = run.program.ports
    load = np.array([run.busy[first + 3 * c : first + 3 * c + 3].max() for c in cores])
    worst, median = int(np.argmax(load)), float(np.median(load))
    if load[worst] >= IMBALANCED_BUSY and load[worst] >= IMBALANCE * median:
        yield Finding(
            "cores unbalanced", f"core {cores[worst]}",
            f"{run.core_words(cores[worst])} works {load[worst]:.0%} of the time, the median core {median:.1%} "
            f"(thresholds {IMBALANCED_BUSY:.0%} and {IMBALANCE:.0f} times)",
            "split the populations of that core into more slices", load[worst] / max(median, 1e-9), IMBALANCE,
        )  # fmt: skip


def _host(run: _Run) -> Iterator[Finding]:
    per = run.energy.per_sample()
    chip, host = per.get("chip", 0.0), per.get("host", 0.0)
    if chip > 0 and host > chip:
        yield Finding(
            "host costs more", "host",
            f"the host spends {format_energy(host)} per sample, more than the chip's {format_energy(chip)} (threshold: as much)",
            "move the first layers onto the chip, or let the host do less", host / chip, 1.0,
        )  # fmt: skip
