"""The pictures: energy beside GPUs, the mesh, the layers in time, what the cores did. Each takes a stored run and gives a matplotlib Figure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.baselines import Comparison, compare_run
from neurosim.energy import COMPONENTS, Energy, price
from neurosim.errors import DataError
from neurosim.report.latency import accuracy_figure, anytime_figure, latency_figure
from neurosim.report.mesh import mesh_figure
from neurosim.report.raster import raster_figure
from neurosim.report.state import fifo_figure
from neurosim.report.style import COMPONENT_COLOURS, GREY, LIGHT, STATE_COLOURS, micro, new_figure, shortened, tidy
from neurosim.trace import StoredRun, core_summary
from neurosim.units import format_energy, format_time

__all__ = ["cores_figure", "draw_all", "energy_figure", "mesh_figure", "raster_figure"]

_FJ_PER_UJ = 1e9
_PLATFORM_NAMES = {
    "h200": "H200", "a100": "A100", "rtx3090": "RTX 3090", "rtx4090": "RTX 4090", "orin-nano": "Jetson Orin Nano", "xavier-nx": "Jetson Xavier NX",
    "epyc-7763": "EPYC 7763", "paper-formula": "4.6/0.9 pJ formula",
}  # fmt: skip


def draw_all(run: StoredRun, folder: str | os.PathLike[str], *, suffix: str = ".png") -> list[Path]:
    """Draw every picture that the run has data for into ``folder``: energy, mesh, raster, cores, with labels accuracy, with answers along the way
    anytime, with a whole trace latency and fifos of sample 0. Returns their paths. Raises MissingExtra without matplotlib.
    """
    paths = []
    for name, draw in PICTURES.items():
        try:
            figure = draw(run)
        except DataError:  # each raises it when the run does not have what it draws
            continue
        path = Path(folder) / f"{name}{suffix}"
        figure.savefig(path)
        paths.append(path)
    return paths


def energy_figure(run: StoredRun) -> Any:
    """Energy per sample: by component and by layer (stacked, linear), and beside GPUs and the papers' formula (logarithmic)."""
    energy = price(run.program, run.result, host_macs_per_sample=run.host_macs_per_sample, streamed=run.streamed)
    with_gpus = bool(run.program.meta.get("workload"))
    layers = energy.layers()
    figure = new_figure(11.5, max(4.0, 1.9 + 0.3 * (len(layers) + 2)))
    grid = figure.add_gridspec(1, 2 if with_gpus else 1, width_ratios=[1.15, 1] if with_gpus else [1])
    _by_layer(figure.add_subplot(grid[0, 0]), energy)
    if with_gpus:
        _beside_gpus(figure.add_subplot(grid[0, 1]), run, compare_run(run).rows)
    per = energy.per_sample()
    figure.suptitle(
        f"{run.program.meta.get('network', '')} on {energy.chip} ({run.program.sync}): {micro(format_energy(per['total']))} per sample, "
        f"{micro(format_energy(per['chip']))} of it on the chip",
        fontsize=11,
    )
    return figure


def _by_layer(axes: Any, energy: Energy) -> None:
    """Horizontal bars: the layers, then what belongs to no layer."""
    from matplotlib.patches import Patch

    n = energy.samples
    rows: list[tuple[str, dict[str, float]]] = [
        (layer.name, {"synapse": layer.synapse, "soma": layer.soma, "noc": layer.noc, "static": layer.static}) for layer in energy.layers()
    ]
    hops = energy.component_fj("noc") - sum(layer.noc for layer in energy.layers())
    rest = energy.component_fj("static") - sum(layer.static for layer in energy.layers())
    rows += [("hops in the mesh", {"noc": hops}), ("input port", {"io": energy.component_fj("io")}), ("host", {"host": energy.component_fj("host")})]
    if rest > 1e-9 * energy.total_fj:
        rows.append(("unmapped cores, routers", {"static": rest}))
    seen = set()
    for y, (_, parts) in enumerate(rows):
        left = 0.0
        for component in (*COMPONENTS, "host"):
            value = parts.get(component, 0.0) / n / _FJ_PER_UJ
            if value > 0:
                seen.add(component)
                axes.barh(y, value, left=left, height=0.72, color=COMPONENT_COLOURS[component])
                left += value
        axes.text(left, y, f"  {micro(format_energy(sum(parts.values()) / n))}", va="center", fontsize=7.5, color="#444444")
    axes.set_yticks(range(len(rows)), [shortened(name, 26) for name, _ in rows])
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlabel("energy per sample (µJ)", fontsize=9)
    axes.set_title("by layer and component", fontsize=9, loc="left")
    handles = [Patch(color=colour, label=name) for name, colour in COMPONENT_COLOURS.items() if name in seen]
    axes.legend(handles=handles, fontsize=8, frameon=False, loc="lower right")
    tidy(axes, grid="x")


def comparison_figure(run: StoredRun, comparison: Comparison) -> Any:
    """Energy per inference of chip, devices and formula, each with its interval."""
    figure = new_figure(8.5, 1.6 + 0.34 * len(comparison.rows))
    _beside_gpus(figure.add_subplot(1, 1, 1), run, comparison.rows)
    return figure


def _beside_gpus(axes: Any, run: StoredRun, rows: list[dict[str, Any]]) -> None:
    """Chip, devices at batch 1 and best batch, formula: gross as bars, idle-subtracted as a darker part, 5 % to 95 % as a whisker."""
    rows = [row for row in rows if row["energy_gross_fj"] is not None]
    names = []
    texts: list[tuple[int, float, str]] = []
    for y, row in enumerate(rows):
        gross, dynamic = row["energy_gross_fj"] / _FJ_PER_UJ, row["energy_dynamic_fj"]
        chip = y == 0
        colour = COMPONENT_COLOURS["synapse"] if chip else COMPONENT_COLOURS["soma"] if dynamic is not None else LIGHT
        axes.barh(y, gross, height=0.66, color=colour, alpha=0.45 if dynamic is not None else 1.0, edgecolor=GREY, linewidth=0.6)
        if dynamic is not None:
            axes.barh(y, dynamic / _FJ_PER_UJ, height=0.66, color=colour)
        end = gross
        if row["energy_low_fj"] is not None:
            low, high = row["energy_low_fj"] / _FJ_PER_UJ, row["energy_high_fj"] / _FJ_PER_UJ
            axes.plot([low, high], [y, y], color="#222222", linewidth=1.1, marker="|", markersize=6)
            end = max(gross, high)
        texts.append((y, end, _figures(row, chip)))
        name = run.program.chip.name if chip else _PLATFORM_NAMES.get(row["platform"], row["platform"])
        names.append(f"{name}, simulated" if chip else f"{name}, batch {row['batch']}" if dynamic is not None else name)
    axes.set_xscale("log")
    ends = [end for _, end, _ in texts]
    low, high = min(r["energy_gross_fj"] for r in rows) / _FJ_PER_UJ / 4, max(ends)
    axes.set_xlim(low, high * (high / low) ** 0.62)
    for y, end, text in texts:
        axes.text(end * (high / low) ** 0.02, y, text, va="center", fontsize=7.5)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    words = f"energy per inference (µJ, logarithmic), GPUs in {rows[1]['precision']}"
    axes.set_xlabel(f"{words}\nfull colour: without idle or static power; whisker: 5 % to 95 %", fontsize=8.5)
    axes.set_title("beside other platforms (energy, ratio, latency)", fontsize=9, loc="left")
    tidy(axes, grid="x")


def _figures(row: dict[str, Any], chip: bool) -> str:
    """Energy, ratio to chip and host, latency (of the whole batch)."""
    parts = [micro(format_energy(row["energy_gross_fj"]))]
    if not chip:
        parts.append(f"\N{MULTIPLICATION SIGN}{row['ratio_total']:.3g}")
    if row["latency_ps"] is not None:
        parts.append(micro(format_time(row["latency_ps"])))
    return ", ".join(parts)


def cores_figure(run: StoredRun) -> Any:
    """Per core, the soma and synapse stations: parts of the window busy, blocked (waiting for credits), held (waiting for wires), idle."""
    rows = core_summary(run)
    program, result = run.program, run.result
    window = max(1, result.window_ps)
    figure = new_figure(11.5, 5.6)
    stations = [(1, "core (synapse and soma are one station)")] if not program.stepped else [(1, "synapse stations"), (2, "soma stations")]
    stations.append((3, "sender stations"))
    panels = figure.subplots(len(stations), 1, sharex=True, squeeze=False)[:, 0]
    cores = [row["core"] for row in rows]
    places = np.arange(len(cores))
    for axes, (kind, title) in zip(panels, stations, strict=True):
        chosen = np.array([int(np.flatnonzero((program.server_kind == kind) & (program.server_owner == core))[0]) for core in cores])
        bottom = np.zeros(len(cores))
        for state in ("busy", "blocked", "held"):
            part = result.server[f"{state}_ps"][chosen] / window * 100
            if state != "held" or kind == 2 or (kind == 1 and program.sync == "settle"):
                axes.bar(places, part, bottom=bottom, width=0.86, color=STATE_COLOURS[state], label=state)
                bottom += part
        axes.bar(places, 100 - bottom, bottom=bottom, width=0.86, color=STATE_COLOURS["idle"], label="idle")
        axes.set_ylim(0, 100)
        axes.set_ylabel("% of the window", fontsize=8)
        axes.set_title(title, fontsize=9, loc="left")
        axes.legend(fontsize=7.5, frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 0.98), borderaxespad=0.1)
        tidy(axes)
    panels[-1].set_xticks(
        places, [f"{core}  {shortened(', '.join(row['populations']), 22)}" for core, row in zip(cores, rows, strict=True)], rotation=90
    )
    panels[-1].tick_params(axis="x", labelsize=6.5 if len(cores) > 24 else 8)
    panels[-1].set_xlabel("core and its populations", fontsize=9)
    panels[-1].set_xlim(-0.6, len(cores) - 0.4)
    figure.suptitle(f"what the cores of {program.chip.name} ({program.sync}) did in {micro(format_time(window))} of simulated time", fontsize=11)
    return figure


PICTURES: dict[str, Callable[[StoredRun], Any]] = {
    "energy": energy_figure,
    "mesh": mesh_figure,
    "raster": raster_figure,
    "cores": cores_figure,
    "accuracy": accuracy_figure,
    "anytime": anytime_figure,
    "latency": latency_figure,
    "fifos": fifo_figure,
}
"""What ``draw_all`` draws, by the name of the file."""
