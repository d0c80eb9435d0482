"""A run beside its baselines: one row per platform and batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from neurosim.baselines.device import Device, Estimate, best_batch, devices, infer, load_device, precisions
from neurosim.baselines.formula import paper_formula_fj
from neurosim.baselines.workload import Workload
from neurosim.energy import Energy, price
from neurosim.errors import DataError
from neurosim.trace import StoredRun
from neurosim.units import format_energy

PAPER = "paper-formula"
BASELINES = (*devices(), PAPER)
DEFAULT = ("h200", "orin-nano", PAPER)

_GPU_LEFT_OUT = (
    "left out for the devices: a GPU's host and its memory, transfer over PCIe, board and cooling, clocks below the peak, kernels below 100 %"
)


def compare_run(run: StoredRun, names: Sequence[str] | None = None, *, precision: str = "fp16") -> tuple[list[dict[str, Any]], list[str]]:
    """Rows and notes for a stored run; ``names`` of BASELINES, None or empty = DEFAULT.

    Raises DataError: an unknown baseline or precision, a program compiled without its workload.
    """
    energy = price(run.program, run.result, host_macs_per_sample=run.host_macs_per_sample, streamed=run.streamed)
    meta = run.program.meta
    if not meta.get("workload"):
        raise DataError(f"run {run.path}: its program carries no workload, so no GPU can be priced; compile the network again and run it")
    workload = Workload.from_rows(str(meta.get("network", "")), run.program.steps, meta["workload"])
    return compare(
        energy,
        workload,
        names,
        precision=precision,
        acs=float(run.result.core["synops"].sum()) / energy.samples,
        macs=run.host_macs_per_sample,
        latency_ps=run.summary["latency_ps"]["decision"],
        sync=run.program.sync,
    )


def compare(
    energy: Energy,
    workload: Workload,
    names: Iterable[str] | None = None,
    *,
    precision: str = "fp16",
    acs: float = 0.0,
    macs: float = 0.0,
    latency_ps: float | None = None,
    sync: str = "",
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of platform, batch, precision, energy_{gross,dynamic,low,high}_fj, latency_ps, ratio_total, ratio_chip, note; and notes on all of them.

    Energies are per inference; ``energy_dynamic_fj`` has idle or static power subtracted; low and high are the ends of the sweep of all constants.
    ``ratio_total`` and ``ratio_chip`` are the gross energy over the simulated chip's with and without its host. The first row is the chip itself.
    ``acs`` and ``macs`` per sample feed the papers' formula.
    """
    wanted = list(names or DEFAULT)
    for name in wanted:
        if name not in BASELINES:
            raise DataError(f"baseline {name!r} does not exist; there are {', '.join(BASELINES)}")
    per = energy.per_sample()

    def row(platform: str, gross: float, dynamic: float | None, **rest: Any) -> dict[str, Any]:
        return {
            "platform": platform,
            "batch": None,
            "precision": None,
            "energy_gross_fj": gross,
            "energy_dynamic_fj": dynamic,
            "energy_low_fj": None,
            "energy_high_fj": None,
            "latency_ps": None,
            "ratio_total": gross / per["total"] if per["total"] else None,
            "ratio_chip": gross / per["chip"] if per["chip"] else None,
            "note": "",
        } | rest

    title = f"{energy.chip} (simulated{', ' + sync if sync else ''})"
    rows = [row(title, per["total"], per["total"] - per["static"], batch=1, precision="integer", latency_ps=latency_ps, note="chip and host")]
    notes = [
        f"chip: counted events x prices; static power over {energy.window}; host {format_energy(per['host'])} of {format_energy(per['total'])}; "
        f"left out: {'; '.join(energy.left_out)}",
    ]
    for name in wanted:
        if name == PAPER:
            note = f"4.6 pJ x {macs:.0f} MACs (host) + 0.9 pJ x {acs:.0f} ACs (synapses served), 45 nm, arithmetic only"
            rows.append(row(PAPER, paper_formula_fj(macs, acs), None, batch=1, precision="fp32", note=note))
            notes.append(f"{PAPER}: {note}; no memory, network, neuron updates or static power")
            continue
        device = load_device(name, precision if precision in precisions(name) else precisions(name)[0])
        single, best = infer(device, workload, 1), best_batch(device, workload)
        for estimate in (single, best) if best.batch != 1 else (single,):
            rows.append(row(name, **_estimate(device, workload, estimate)))
        notes.append(f"{name}: {device.description}, analytic model, not a measurement; {device.note}")
    if any(name != PAPER for name in wanted):
        notes.append(f"devices compute {workload.macs} dense MACs, steps and sums fused, weights kept in the L2: in their favour")
        notes.append(_GPU_LEFT_OUT)
    return rows, notes


def _estimate(device: Device, workload: Workload, estimate: Estimate) -> dict[str, Any]:
    cheap, dear = (infer(device.at(end), workload, estimate.batch).energy_gross_fj for end in ("cheap", "dear"))
    return {
        "gross": estimate.energy_gross_fj,
        "dynamic": estimate.energy_dynamic_fj,
        "batch": estimate.batch,
        "precision": device.precision,
        "energy_low_fj": cheap,
        "energy_high_fj": dear,
        "latency_ps": estimate.latency_ps,
        "note": f"{estimate.bound}-bound; constants at the ends of their ranges: {format_energy(cheap)} to {format_energy(dear)}",
    }
