"""The four lines of a user: load, build, simulate, look. The command line is a thin layer over this module."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neurosim.baselines import Workload, neurobench_metrics
from neurosim.chip import Chip, load_chip
from neurosim.compiler.check import CheckRow
from neurosim.compiler.check import check as check_network
from neurosim.compiler.lower import read_rewrites
from neurosim.compiler.pipeline import Compilation, compile_network
from neurosim.energy import Energy, price
from neurosim.engine.events import Options, Progress, Result
from neurosim.engine.run import Watch, simulate_stimuli
from neurosim.errors import DataError
from neurosim.frontends import load
from neurosim.frontends.recordings import is_recordings, read_recordings
from neurosim.host import EventOptions, InputActivity, Recordings, Samples, encode, host_macs, input_activity, load_data
from neurosim.network import Network
from neurosim.program import R_DECAY_I, R_MAX_SPIKES, Program, html_table
from neurosim.trace import TRACE, Anytime, Selection, TraceWriter, anytime_curves, predict, summarise, write_run
from neurosim.units import format_count, format_energy, format_time, parse_time_ps

if TYPE_CHECKING:
    from neurosim.engine.faults import Faults


def check(
    model: Any, chip: str | Path | Chip = "async-mesh", overrides: Iterable[str] = (), rewrite: Mapping[str, str] | None = None
) -> list[CheckRow]:
    """Layer by layer: native, rewritten or refused on that chip, with value, limit, reason and remedy. ``rewrite``: as for ``build``."""
    return check_network(_network(model), load_chip(chip, overrides), read_rewrites(rewrite))


def compile_model(
    model: Any, chip: str | Path | Chip = "async-mesh", sync: str | None = None, overrides: Iterable[str] = (), **options: Any
) -> Compilation:
    """``build`` with everything the compiler knows: the Program, both Graphs, the log, the report."""
    return compile_network(_network(model), load_chip(chip, overrides), sync, **options)


def build(model: Any, chip: str | Path | Chip = "async-mesh", sync: str | None = None, overrides: Iterable[str] = (), **options: Any) -> Program:
    """Compile a Network (or anything ``load`` takes) for a chip; ``sync`` is free, settle, wavefront or barrier, by default the chip's first.

    ``rewrite``: {"maxpool": "or_pool", "gate": "neurons"} writes extra ops with ordinary neurons, exactly under steps, for chips that lack them;
    {"avgpool": "sum"} leaves out the division of average pools. ``rest`` (settle): the reference input from whose settled state samples start: black
    (the default), none or a data file. ``calibrate``: samples (an array or a file) whose scores set the scale of the readout's state, in place of its
    proven bound. ``allow_low_snr``: weights may keep less than 3 dB. ``seed``: of the placement. ``audit=False`` skips the proof of the Program.
    Raises UnsupportedLayer (layer, reason, limit, remedy), DoesNotFit, ChipError.
    """
    return compile_model(model, chip, sync, overrides, **options).program


compile = build


def _network(model: Any) -> Network:
    return model if isinstance(model, Network) else load(model)


@dataclass
class Run:
    """One simulation: outputs, counters, timing, energy; ``save`` writes the run directory from which reports are rebuilt."""

    program: Program
    result: Result
    options: Options
    engine: str
    labels: NDArray[np.int64] | None
    wall_s: float
    trace_path: Path | None = None
    run_dir: Path | None = None
    data_name: str = ""
    events_left_out: int = 0
    """Events of recordings that lie after the last step or the span asked for."""
    repaired: dict[str, int] = field(default_factory=dict)
    """What the repair of recordings did, by the keys of ``host.REPAIRS``; only those that occurred."""
    realtime: bool = False
    """Whether the input was due at the times of the recordings."""
    entered: InputActivity | None = None
    """What the ports injected, neuron by neuron; None where the run kept no spikes."""
    _energy: Energy | None = field(default=None, repr=False)

    @property
    def predictions(self) -> NDArray[np.int64]:
        """[samples] class with the highest score; ties go to the lowest class. Empty when the network has no readout."""
        return predict(self.result)

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions, None without labels."""
        return None if self.labels is None or not self.result.scores.shape[1] else float(np.mean(self.predictions == self.labels))

    @property
    def readout(self) -> NDArray[np.int64]:
        """[samples, classes] integer scores of the readout."""
        return self.result.scores

    @property
    def counters(self) -> dict[str, dict[str, NDArray[np.int64]]]:
        """Raw counters of servers, cores, channels and samples (docs/machine.md, section 11)."""
        return {"server": self.result.server, "core": self.result.core, "channel": self.result.channel, "sample": self.result.sample}

    def energy(self) -> Energy:
        """Counts times the chip's prices, by component, per sample."""
        if self._energy is None:
            self._energy = price(self.program, self.result, host_macs_per_sample=host_macs(self.program))
        return self._energy

    def summary(self) -> dict[str, Any]:
        """The figures of ``neurosim run --json``; the names are stable. ``neurobench``: its metrics by its definitions (docs/baselines.md)."""
        summary = summarise(
            self.program, self.result, self.energy(), labels=self.labels, engine=self.engine, streamed=self.options.streamed,
            wall_s=self.wall_s, run_dir=None if self.run_dir is None else str(self.run_dir), realtime=self.realtime, trace=self.trace_path,
        )  # fmt: skip
        rows: list[dict[str, Any]] = self.program.meta.get("workload") or []
        workload = (
            Workload.from_rows(str(self.program.meta.get("network", "")), self.program.steps, rows)
            if any(row["macs"] for row in rows or ())
            else None
        )
        return summary | {"neurobench": neurobench_metrics(self.program, self.result, entered=self.entered, workload=workload)}

    def facts(self) -> list[tuple[str, str]]:
        """What one wants to know at a glance, name and words."""
        s = self.summary()
        n, energy = max(1, s["samples"]), s["energy_fj"]
        parts = ", ".join(f"{name} {format_energy(energy[name])}" for name in ("synapse", "soma", "noc", "io", "static", "host"))
        decision = s["latency_ps"]["decision"]
        return [
            ("run", f"{s['samples']} samples of {self.data_name or 'data'} on {s['chip']}, {s['sync']}, {s['engine']} engine, {s['wall_s']:.1f} s"),
            ("accuracy", "no labels" if s["accuracy"] is None else f"{s['accuracy']:.2%}"),
            ("spikes per sample", format_count(round(s["spikes"] / n, 1))),
            ("synaptic operations per sample", format_count(round(s["synops"] / n, 1))),
            ("latency to decision", "-" if decision is None else f"{format_time(decision)} (median)"),
            ("energy per sample", f"{format_energy(energy['total'])} ({parts})"),
            ("findings", "; ".join(f["text"] for f in s.get("findings", [])) or "none"),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {words}" for name, words in self.facts())

    def _repr_html_(self) -> str:
        """Table for notebooks."""
        return html_table("Run", self.facts())

    def spikes(self, population: str) -> NDArray[np.unsignedinteger[Any]]:
        """[samples, steps, channels, height, width] values of the spikes of a population on the chip: uint8; in free uint32, counts of one step; in
        settle the outputs at the end of each sample.

        Of a layer read from a torch module [samples, steps, *shape], in the order and shape of that module's own output (without batch and time).
        Raises DataError when the run kept no spikes or the population lives on the host, ProgramError when there is none of that name.
        """
        index = self.program.population_index(population)
        slices = np.flatnonzero(self.program.slice_population == index)
        if not len(slices):
            raise DataError(f"population {population} has no neurons on the chip; the host computes it, see neurosim.host.encode")
        if not self.options.spikes:
            raise DataError(f"population {population}: this run kept no spikes; simulate with spikes=True")
        shape = tuple(self.program.meta["populations"][index]["shape"])
        steps = self.program.steps if self.program.sync != "free" else 1
        kind = {"free": np.uint32, "settle": np.int64}.get(self.program.sync, np.uint8)
        dense = np.zeros((len(self.result.scores), steps, *shape), kind)
        for s in slices:
            rows = self.result.spikes[self.result.spikes["slice"] == s]
            c, y, x = self._coordinates(int(s), rows["address"].astype(np.int64))
            np.add.at(dense, (rows["sample"] - self.options.first_sample, rows["step"], c, y, x), rows["value"].astype(dense.dtype))
        if self.program.sync == "settle":
            dense = self._settled(population, slices, dense)
        return self.program.in_module_order(index, dense)

    def _settled(self, population: str, slices: NDArray[np.int64], changes: NDArray[Any]) -> NDArray[np.uint8]:
        """The outputs that a sample's changes lead to: from the rest state, in a streamed run from where the sample before ended."""
        if self.options.streamed:
            changes = np.cumsum(changes, axis=0)
        most = 0
        for s in slices:
            first, last = self.program.neuron_ptr[s], self.program.neuron_ptr[s + 1]
            c, y, x = self._coordinates(int(s), np.arange(last - first))
            changes[:, :, c, y, x] += self.program.rest_sent[first:last]
            most = max(most, int(self.program.slice_rule[s, R_MAX_SPIKES]))
        if changes.size and not 0 <= changes.min() <= changes.max() <= most:
            raise DataError(
                f"population {population}: its outputs end between {changes.min()} and {changes.max()}, outside 0 to {most}; "
                "the result is not of this program, simulate again"
            )
        return changes.astype(np.uint8)

    def probe(self, population: str, variable: str = "v") -> NDArray[np.int64]:
        """[samples, channels, height, width] membranes ("v") or synaptic currents ("i") at the end of each sample; in the order of ``spikes``.

        Needs ``simulate(..., state=True)``; raises DataError otherwise, and for the currents of a population that keeps none.
        """
        index = self.program.population_index(population)
        state = {"v": self.result.state_v, "i": self.result.state_i}.get(variable)
        if variable == "i":
            self._require_current(index)
        if state is None:
            raise DataError(f"variable {variable!r} cannot be probed; there are v and i")
        if not len(state):
            raise DataError(f"population {population}: this run kept no membranes; simulate with state=True")
        shape = tuple(self.program.meta["populations"][index]["shape"])
        dense = np.zeros((len(state), *shape), np.int64)
        for s in np.flatnonzero(self.program.slice_population == index):
            first, last = self.program.neuron_ptr[s], self.program.neuron_ptr[s + 1]
            c, y, x = self._coordinates(int(s), np.arange(last - first))
            dense[:, c, y, x] = state[:, first:last]
        return self.program.in_module_order(index, dense)

    def _require_current(self, index: int) -> None:
        """DataError unless the neurons of a population keep a synaptic current from step to step."""
        slices = self.program.slice_population == index
        if self.program.sync in ("free", "settle") or not np.any(self.program.slice_rule[slices, R_DECAY_I] >= 0):
            name = self.program.meta["populations"][index]["name"]
            raise DataError(
                f"population {name} keeps no synaptic current on the chip: what its synapses sum to goes into the membrane within the step"
                "; probe v, or give the network's neurons a current that decays"
            )

    def _coordinates(self, s: int, address: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Population coordinates (c, y, x) of local indices of a slice."""
        c0, c1, y0, _, x0, x1 = self.program.slice_box[s]
        pixel, c = np.divmod(address, c1 - c0)
        y, x = np.divmod(pixel, x1 - x0)
        return c + c0, y + y0, x + x0

    def anytime(self, points: int = 200) -> Anytime:
        """Accuracy, energy spent and share of final answers at ``points`` times since the samples' starts (``neurosim.trace.anytime``).

        Raises DataError for a network without a readout.
        """
        return anytime_curves(self.program, self.result, self.energy(), self.labels, points)

    def save(self, path: str | os.PathLike[str], *, command: Sequence[str] = ()) -> Path:
        """Write the run directory, whole or not at all; returns its path. From then on ``trace_path`` is the trace in it.

        Raises RunError: the place is taken, the disk is full, the recorded trace is gone.
        """
        self.run_dir = write_run(
            path, self.program, self.result, self.options, self.summary(), labels=self.labels, energy=self.energy(), command=list(command),
            trace_path=self.trace_path,
        )  # fmt: skip
        if self.trace_path is not None:
            self.trace_path = self.run_dir / TRACE
        return self.run_dir


def simulate(
    program: Program,
    data: str | Path | NDArray[Any] | Samples | Recordings,
    *,
    labels: NDArray[Any] | None = None,
    samples: int | None = None,
    engine: str = "fast",
    streamed: bool = False,
    jitter: int = 0,
    seed: int = 0,
    window: str | int | None = None,
    faults: Faults | None = None,
    events: EventOptions | None = None,
    record: str | Path | None = None,
    keep: Selection | None = None,
    spikes: bool = True,
    state: bool = False,
    workers: int = 1,
    max_time_ps: int = 10**15,
    stop_margin: int = 0,
    stop_after: str | int | None = None,
    progress: Progress | None = None,
    observe: Callable[[NDArray[Any]], None] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Run the program on data: a DATA.npz, an array of images, a user's copy of an event data set (``frontends.recordings``), Recordings, or what
    ``load_data`` gave.

    ``record`` writes the event trace to a Parquet file, ``keep`` says which of its rows; ``observe`` is called with every chunk of trace rows
    instead. ``jitter`` is the relative spread of service times in 1/65536. ``window`` (ps, or text such as "2 ms") ends a sample in free, where a
    network that feeds itself would never come to rest, and paces streamed samples there. ``faults``: lost spikes, cores that died, weight bits
    (``neurosim.Faults``). ``events``: how recordings are used (``neurosim.host.event_options``). ``watch`` is called with the result of every part of
    isolated samples as it comes, the samples done and those in all.
    ``stop_margin`` and ``stop_after`` (ps, or text; free and settle): a sample ends when its best class has led by at least the margin for so long.
    Raises DataError, Deadlock, Livelock, RunError.
    """
    if record is not None and observe is not None:
        raise DataError("record and observe both want the trace; give one of them")
    if isinstance(data, str | Path) and is_recordings(data):
        data = read_recordings(data, None if events is not None and events.repair else samples)  # a repair may leave samples out
    loaded = data if isinstance(data, Samples) else load_data(data, program, labels=labels, events=events)
    if samples is not None:
        loaded = loaded.first(samples)
    stimuli = encode(program, loaded, streamed=streamed)
    link_loss = 0
    if faults is not None:
        from neurosim.engine.faults import apply_faults, silence

        program, stimuli, link_loss = apply_faults(program, faults), silence(program, stimuli, faults), faults.link_loss_draw
    options = Options(
        streamed=streamed, jitter=jitter, seed=seed, max_time_ps=max_time_ps, record=bool(record or observe), spikes=spikes, state=state,
        link_loss=link_loss, window_ps=0 if window is None else parse_time_ps(window), stop_margin=stop_margin,
        stop_after_ps=0 if stop_after is None else parse_time_ps(stop_after),
    )  # fmt: skip
    began = time.perf_counter()
    if record is not None:
        options = replace(options, fires_only=keep is not None and keep.level == "spikes")
        with TraceWriter(Path(record), program, selection=keep) as writer:
            result = simulate_stimuli(
                program, stimuli, **asdict(options), engine=engine, workers=workers, sink=writer, progress=progress, watch=watch
            )
    else:
        sink = _Observer(observe) if observe is not None else None
        result = simulate_stimuli(program, stimuli, **asdict(options), engine=engine, workers=workers, sink=sink, progress=progress, watch=watch)
    wall_s = time.perf_counter() - began
    return Run(
        program,
        result,
        options,
        engine,
        loaded.labels,
        wall_s,
        trace_path=Path(record) if record is not None else None,
        data_name=loaded.name,
        events_left_out=loaded.events_left_out,
        repaired=loaded.repaired,
        realtime=events is not None and events.pace == "realtime",
        entered=input_activity(program, stimuli, loaded.data if program.meta["input"]["kind"] == "image" else None) if spikes else None,
    )


@dataclass
class _Observer:
    """A trace sink around a user's function."""

    function: Callable[[NDArray[Any]], None]

    def write(self, rows: NDArray[Any]) -> None:
        self.function(rows)
