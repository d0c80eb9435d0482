"""The chip from above as SVG: routers with their cores, links by load; what is known of every core as data for the drill-down."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.energy import Energy
from neurosim.report.html.markup import Html, tag
from neurosim.report.mesh import positions
from neurosim.trace import StoredRun, core_summary, link_summary
from neurosim.units import format_count, format_energy

PITCH, SIDE, MARGIN = 64.0, 40.0, 34.0
LEVELS = 8
"""Steps of the colour scale of a core's load."""


def floor_plan(run: StoredRun, energy: Energy, number: int) -> tuple[Html, dict[str, Any]]:
    """(SVG, details): one focusable element per core; details by core for the panel beside it."""
    program = run.program
    at = positions(program) * PITCH + MARGIN
    width, height = (at.max(axis=0) + MARGIN).tolist() if len(at) else (100.0, 100.0)
    rows = {row["core"]: row for row in core_summary(run)}
    busiest = max((_load(row) for row in rows.values()), default=0.0) or 1.0
    links = [row for row in link_summary(run) if row["class"] != "local" and row["packets"]]
    heaviest = max((row["packets"] for row in links), default=0) or 1
    lines = [_link(row, at, heaviest, len(run.result.scores)) for row in links]
    per = program.chip.noc.cores_per_router
    tiles = []
    for core in range(program.cores):
        x, y = at[int(program.core_router[core])]
        columns = int(np.ceil(np.sqrt(per)))
        small = SIDE / columns
        k = core % per
        tiles.append(_core(core, rows.get(core), x - SIDE / 2 + (k % columns) * small, y - SIDE / 2 + (k // columns) * small, small, busiest, number))
    ports = [
        tag("text", f"port {p}", x=f"{at[int(r)][0] - SIDE / 2:.1f}", y=f"{at[int(r)][1] - SIDE / 2 - 4:.1f}", class_="port")
        for p, r in enumerate(program.port_router.tolist())
    ]
    drawing = tag(
        "svg", *lines, *tiles, *ports, viewBox=f"0 0 {width:.0f} {height:.0f}", class_="floor", role="group",
        aria_label=f"floor plan, {len(rows)} of {program.cores} cores in use; arrow keys move, Enter pins",
    )  # fmt: skip
    panel = tag(
        "div",
        tag("p", "Point at a core, or reach it with the tab and arrow keys; click or Enter keeps it here."),
        class_="panel",
        id=f"panel-{number}",
        aria_live="polite",
    )
    scale = tag(
        "p",
        "load of the busiest station: ",
        *(tag("i", class_=f"swatch load{k}") for k in range(LEVELS)),
        f" 0 to {100 * busiest:.0f} % of the window; links by packets",
        class_="key",
    )
    return tag("div", tag("div", drawing, scale), panel, class_="plan"), {str(core): _details(run, energy, row) for core, row in rows.items()}


def _load(row: dict[str, Any]) -> float:
    return float(max(row["synapse_busy"], row["soma_busy"], row["sender_busy"]))


def _core(core: int, row: dict[str, Any] | None, x: float, y: float, side: float, busiest: float, number: int) -> Html:
    box: dict[str, Any] = {"x": f"{x + 1:.1f}", "y": f"{y + 1:.1f}", "width": f"{side - 2:.1f}", "height": f"{side - 2:.1f}", "rx": 3}
    if row is None:
        return tag("rect", tag("title", f"core {core}: empty"), class_="core empty", **box)
    level = min(LEVELS - 1, int(_load(row) / busiest * LEVELS))
    words = f"core {core}: {', '.join(row['populations'])}; busiest station {100 * _load(row):.1f} %"
    label = (
        tag("text", str(core), x=f"{x + side / 2:.1f}", y=f"{y + side / 2 + 3.5:.1f}", class_=f"label{' light' if level >= LEVELS // 2 else ''}")
        if side > 14
        else ""
    )
    return tag(
        "g", tag("rect", tag("title", words), class_=f"core load{level}", **box), label, tabindex="0", role="button", class_="tile",
        data_core=f"{number}-{core}", data_x=f"{x:.0f}", data_y=f"{y:.0f}", aria_label=words,
    )  # fmt: skip


def _link(row: dict[str, Any], at: Any, heaviest: int, samples: int) -> Html:
    (x0, y0), (x1, y1) = at[row["router"]], at[row["reader"]]
    length = max(1e-9, float(np.hypot(x1 - x0, y1 - y0)))
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    # the two directions lie beside each other, between the tiles
    ox, oy = -uy * 4, ux * 4
    trim = min(SIDE / 2, length / 2 - 1)
    load = row["packets"] / heaviest
    return tag(
        "line", tag("title", f"{row['link']}: {format_count(round(row['packets'] / samples, 1))} packets per sample, busy {100 * row['busy']:.2f} %"),
        x1=f"{x0 + ux * trim + ox:.1f}", y1=f"{y0 + uy * trim + oy:.1f}", x2=f"{x1 - ux * trim + ox:.1f}", y2=f"{y1 - uy * trim + oy:.1f}",
        class_="link", stroke_width=f"{1 + 5 * load:.2f}", style=f"opacity:{0.25 + 0.75 * load:.2f}",
    )  # fmt: skip


def _details(run: StoredRun, energy: Energy, row: dict[str, Any]) -> dict[str, Any]:
    """What the panel shows of a core."""
    core, samples = row["core"], energy.samples
    memory: dict[str, Any] = next((m for m in run.program.meta["memory"] if m["core"] == core), {})
    limit = run.program.chip.memory
    facts = [
        ("populations", ", ".join(row["populations"])),
        ("neurons", f"{memory.get('neurons', 0)} of {limit.neurons.value}"),
        ("memory", f"{memory.get('bytes', 0)} of {limit.bytes.value} bytes"),
        ("route entries", f"{memory.get('route_entries', 0)} of {limit.route_entries.value}"),
        ("spikes per sample", format_count(round(row["spikes"] / samples, 1))),
        ("synaptic operations per sample", format_count(round(row["synops"] / samples, 1))),
        ("packets per sample", format_count(round(row["packets"] / samples, 1))),
        ("FIFO high water, in and out", f"{row['axon_in_high_water']}, {row['axon_out_high_water']}"),
        ("energy per sample", ", ".join(f"{name} {format_energy(float(values[core]) / samples)}" for name, values in energy.core_fj.items())),
        ("saturations", str(row["saturations"])),
    ]
    stations = [(name, row[f"{name}_busy"]) for name in ("synapse", "soma", "sender")]
    return {"core": core, "facts": facts, "stations": [*stations, ("blocked", row["blocked"]), ("held", row["held"])]}
