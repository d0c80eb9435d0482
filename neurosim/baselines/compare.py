"""A run beside its baselines: one row per platform and batch, with intervals; where the two meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.baselines.device import Device, best_batch, devices, energy_draws, infer, load_device, precisions
from neurosim.baselines.formula import paper_formula_fj
from neurosim.baselines.measure import Record, shipped_records
from neurosim.baselines.workload import Workload
from neurosim.energy import Energy, Interval, price
from neurosim.energy import energy_draws as chip_draws
from neurosim.energy.uncertainty import DRAWS
from neurosim.errors import DataError
from neurosim.trace import StoredRun
from neurosim.units import format_energy

PAPER = "paper-formula"
BASELINES = (*devices(), PAPER)
DEFAULT = ("h200", "orin-nano", PAPER)

_LEFT_OUT = "left out for the devices: a GPU's host and its memory, transfer over PCIe, board and cooling, clocks below the peak, kernels below 100 %"
EVENT_DRIVEN = frozenset({"synapse", "noc", "io"})
"""Components in proportion to the spikes; of the soma only the fires are."""


@dataclass(frozen=True)
class Comparison:
    """``rows``: platform, kind, batch, ... (see ``compare``); ``crossovers``: where chip and device meet; ``notes``: boundaries, in words."""

    rows: list[dict[str, Any]]
    crossovers: list[dict[str, Any]]
    notes: list[str]


@dataclass(frozen=True)
class PaperCounts:
    """What the papers' formula multiplies, per sample, and in words where the counts come from."""

    macs: float
    acs: float
    words: str


def _operations(run: StoredRun, samples: int) -> PaperCounts:
    """NeuroBench's counts as the run wrote them, and the products of activations; of runs without them all synapses that were served."""
    metrics = run.summary.get("neurobench") or {}
    macs, acs = metrics.get("effective_macs"), metrics.get("effective_acs")
    if macs is not None and acs is not None and "activity_products" in metrics:
        return PaperCounts(macs, acs + metrics["activity_products"], "non-zero inputs times non-zero weights")
    core = run.result.core
    served = float(core["synops"].sum() + core["op_reads"].sum()) / samples
    return PaperCounts(run.host_macs_per_sample, served, "the host's, and all synapses served: this run kept no spikes to count others from")


def compare_run(run: StoredRun, names: Sequence[str] | None = None, *, precision: str = "fp16", records: Sequence[Record] = ()) -> Comparison:
    """A stored run beside ``names`` of BASELINES (None or empty = DEFAULT) and measured ``records`` (those of the package for its network besides).

    Raises DataError: an unknown baseline or precision, a program compiled without its workload, a record of another network.
    """
    energy = price(run.program, run.result, host_macs_per_sample=run.host_macs_per_sample, streamed=run.streamed)
    meta = run.program.meta
    if not meta.get("workload"):
        raise DataError(f"run {run.path}: its program carries no workload, so no GPU can be priced; compile the network again and run it")
    workload = Workload.from_rows(str(meta.get("network", "")), run.program.steps, meta["workload"])
    for record in records:
        if record.network != workload.name:
            raise DataError(f"record of {record.network} on {record.device} does not belong to a run of {workload.name}; measure that network")
    return compare(
        energy,
        workload,
        names,
        precision=precision,
        records=[*records, *(r for r in shipped_records() if r.network == workload.name)],
        operations=_operations(run, energy.samples),
        latency_ps=run.summary["latency_ps"]["decision"],
        throughput_per_s=run.summary["throughput_per_s"],
        sync=run.program.sync,
    )


def compare(
    energy: Energy,
    workload: Workload,
    names: Iterable[str] | None = None,
    *,
    precision: str = "fp16",
    records: Sequence[Record] = (),
    operations: PaperCounts | None = None,
    latency_ps: float | None = None,
    throughput_per_s: float | None = None,
    sync: str = "",
) -> Comparison:
    """Rows of platform, kind (simulated, analytic, measured, formula), batch, precision, energy_{gross,dynamic,low,high,board,window}_fj, latency_ps,
    throughput_per_s, energy_delay_js, ratio_{total,chip,board,low,high}, note.

    Energies are per inference; ``energy_dynamic_fj`` has idle or static power subtracted. low and high are the 5 % and 95 % quantiles over the ranges
    of all constants, widened to the value itself where that lies beyond; ``ratio_total`` and ``ratio_chip`` are the gross
    energy over the simulated chip's with and without its host, ``ratio_board`` over ``energy_board_fj``, chip and host with the chip's board at rest
    (None where its prices have no board; Energy.board_fj); ``energy_window_fj``, at batch 1, the dynamic energy and idle power for as long as the
    chip works on a sample (in real time: the recording); ``ratio_low`` and ``ratio_high`` the quantiles of the former with both sides drawn.
    The first row is the chip itself. ``operations`` feed the papers' formula, which has no row
    without them. Raises DataError for an unknown baseline or precision.
    """
    wanted = list(names or DEFAULT)
    for name in wanted:
        if name not in BASELINES:
            raise DataError(f"baseline {name!r} does not exist; there are {', '.join(BASELINES)}")
    table = _Table(energy, workload)
    title = f"{energy.chip} (simulated{', ' + sync if sync else ''})"
    per = table.per
    rows = [
        table.row(
            title, "simulated", per["total"], per["total"] - per["static"], batch=1, precision="integer", latency_ps=latency_ps,
            throughput_per_s=throughput_per_s, draws=table.draws, note="chip and host",
        )
    ]  # fmt: skip
    notes = [
        f"chip: counted events x prices; static power over {energy.window}; host {format_energy(per['host'])} of {format_energy(per['total'])}; "
        f"left out: {'; '.join(energy.left_out)}",
    ]
    if energy.board is not None and table.board is not None:
        notes.append(
            f"/ board: over {format_energy(table.board)}, chip and host with the board at rest, {energy.board.price:.3g} mW ({energy.board.status}), "
            "in place of the static power of the cores in use; a device's idle power is that of its board"
        )
    crossovers = []
    for name in wanted:
        if name == PAPER:
            if operations is None:
                continue
            note = f"4.6 pJ x {operations.macs:.0f} MACs + 0.9 pJ x {operations.acs:.0f} ACs ({operations.words}), 45 nm, arithmetic only"
            gross = paper_formula_fj(operations.macs, operations.acs)
            rows.append(table.row(PAPER, "formula", gross, None, batch=1, precision="fp32", note=note))
            notes.append(f"{PAPER}: {note}; no memory, network, neuron updates or static power")
            continue
        device = load_device(name, precision if precision in precisions(name) else precisions(name)[0])
        single, best = infer(device, workload, 1), best_batch(device, workload)
        for estimate in (single, best) if best.batch != 1 else (single,):
            rows.append(table.analytic(device, estimate.batch))
        crossovers.append(table.crossover(device, single.energy_gross_fj, best.energy_gross_fj))
        notes.append(f"{name}: {device.description}, analytic model, not a measurement; {device.note}")
    for record in records:
        rows += table.measured(record)
        notes.append(
            f"{record.device}: measured ({record.kind}, {record.precision}, {'CUDA graph' if record.graphed else 'eager'}), "
            f"idle {'not known' if record.idle_w is None else f'{record.idle_w:.1f} W'}, torch {record.software.get('torch', '?')}"
        )
    if any(name != PAPER for name in wanted):
        notes.append(f"devices compute {workload.macs} dense MACs, steps and sums fused, weights kept in the L2: in their favour")
        notes.append(_LEFT_OUT)
    return Comparison(rows, crossovers, notes)


class _Table:
    """Rows of one comparison; the chip's draws are made once."""

    def __init__(self, energy: Energy, workload: Workload) -> None:
        self.energy, self.workload = energy, workload
        self.per = energy.per_sample()
        self.board = None if energy.board_fj is None else energy.board_fj / energy.samples + self.per["host"]
        self.draws = chip_draws(energy)["total"]

    def row(
        self, platform: str, kind: str, gross: float | None, dynamic: float | None, draws: NDArray[np.float64] | None = None, **rest: Any
    ) -> dict[str, Any]:
        """One platform at one batch; ``latency_ps`` in ``rest`` is that of the whole batch."""
        latency = rest.get("latency_ps")
        ends = ratios = None
        if draws is not None and gross is not None:
            ends = Interval.of(draws, gross)
            if kind != "simulated" and bool(np.all(self.draws > 0)):
                ratios = Interval.of(draws / self.draws, gross / self.per["total"])
        return {
            "platform": platform,
            "kind": kind,
            "batch": None,
            "precision": None,
            "energy_gross_fj": gross,
            "energy_dynamic_fj": dynamic,
            "energy_low_fj": None if ends is None else ends.low,
            "energy_high_fj": None if ends is None else ends.high,
            "latency_ps": None,
            "throughput_per_s": None,
            "energy_delay_js": None if latency is None or gross is None else gross * 1e-15 * latency * 1e-12,
            "ratio_total": gross / self.per["total"] if gross is not None and self.per["total"] else None,
            "ratio_chip": gross / self.per["chip"] if gross is not None and self.per["chip"] else None,
            "ratio_board": gross / self.board if gross is not None and self.board else None,
            "ratio_low": None if ratios is None else ratios.low,
            "ratio_high": None if ratios is None else ratios.high,
            "energy_board_fj": self.board if kind == "simulated" else None,
            "energy_window_fj": None,
            "note": "",
        } | rest

    def analytic(self, device: Device, batch: int) -> dict[str, Any]:
        """The model of a device at a batch."""
        estimate = infer(device, self.workload, batch)
        return self.row(
            device.name, "analytic", estimate.energy_gross_fj, estimate.energy_dynamic_fj, energy_draws(device, self.workload, batch, DRAWS, seed=1),
            batch=batch, precision=device.precision, latency_ps=estimate.latency_ps, throughput_per_s=batch * 1e12 / estimate.latency_ps,
            energy_window_fj=self._kept_on(device["idle_w"], estimate.energy_dynamic_fj) if batch == 1 else None, note=f"{estimate.bound}-bound",
        )  # fmt: skip

    def measured(self, record: Record) -> list[dict[str, Any]]:
        """A record at its smallest and its best batch."""
        points = {p.batch: p for p in (min(record.points, key=lambda p: p.batch), record.best)}
        return [
            self.row(
                record.device, "measured", p.energy_gross_fj, p.energy_dynamic_fj, batch=p.batch, precision=record.precision,
                latency_ps=p.latency_ps, throughput_per_s=p.throughput_per_s,
                energy_window_fj=self._kept_on(record.idle_w, p.energy_dynamic_fj) if p.batch == 1 else None,
                note=f"{record.kind}, {record.steps} step(s), {p.window_s:.0f} s",
            )
            for p in points.values()
        ]  # fmt: skip

    def _kept_on(self, idle_w: float | None, dynamic_fj: float | None) -> float | None:
        """Energy of a device that is on for as long as the chip works on one sample: a sensor in real time has no batches and no pauses."""
        if idle_w is None or dynamic_fj is None:
            return None
        return dynamic_fj + idle_w * 1e3 * self.energy.window_ps / self.energy.samples

    def crossover(self, device: Device, single_fj: float, best_fj: float) -> dict[str, Any]:
        """Where chip and device cost the same.

        ``batch``: the least power of two from which on the device needs less per inference than chip and host, None if it never does.
        ``activity_batch_1`` and ``activity_best``: the factor on all spikes at which they meet, other things equal: synapses, packets, I/O and fires
        grow with it; visits of neurons, static power and the host do not. Below 1 the device needs less as things are; None: even without spikes.
        """
        fixed, moving = self._parts()
        sizes = [1 << k for k in range(13)]
        batch = None
        for size in sizes:
            try:
                if infer(device, self.workload, size).energy_gross_fj < self.per["total"]:
                    batch = size
                    break
            except DataError:  # does not fit into its memory
                break
        factors = [(energy - fixed) / moving if moving > 0 and energy > fixed else None for energy in (single_fj, best_fj)]
        return {"platform": device.name, "batch": batch, "activity_batch_1": factors[0], "activity_best": factors[1]}

    def _parts(self) -> tuple[float, float]:
        """Energy per sample that does not depend on the number of spikes, and that which grows with it."""
        moving = sum(line.energy_fj for line in self.energy.lines if line.component in EVENT_DRIVEN or line.event == "spikes fired")
        return (self.energy.total_fj - moving) / self.energy.samples, moving / self.energy.samples
