"""The chip seen from above: cores as tiles, links with their load."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.report.style import GREY, LIGHT, micro, new_figure, pyplot, shortened
from neurosim.trace import StoredRun, core_summary, link_summary
from neurosim.units import format_time

_HALF = 0.34  # half the side of a tile; the rest of the pitch is for links
_OFFSET = 0.09  # the two directions of a link lie beside each other


def mesh_figure(run: StoredRun) -> Any:
    """Tiles: utilisation of the core's busiest station and its populations. Arrows: packets of each link, per sample; width and colour alike."""
    program = run.program
    width, height = program.chip.noc.width, program.chip.noc.height
    samples = len(run.result.scores)
    figure = new_figure(2.4 + 0.98 * width, 1.1 + 0.98 * height)
    axes = figure.add_subplot()
    matplotlib = pyplot()
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import FancyArrowPatch, Rectangle

    tiles, loads = matplotlib.colormaps["cividis"], matplotlib.colormaps["YlOrRd"]
    rows = {int(program.core_router[row["core"]]): row for row in core_summary(run)}
    busiest = max((_busy(row) for row in rows.values()), default=0.0)
    scale = Normalize(0, max(1e-9, busiest))
    for router in range(width * height):
        y, x = divmod(router, width)
        row = rows.get(router)
        face = tiles(scale(_busy(row))) if row else "white"
        axes.add_patch(Rectangle((x - _HALF, y - _HALF), 2 * _HALF, 2 * _HALF, facecolor=face, edgecolor=GREY, linewidth=0.7, zorder=3))
        if row is None:
            axes.text(x, y, str(router), ha="center", va="center", fontsize=6, color=GREY, zorder=4)
            continue
        ink = "white" if scale(_busy(row)) < 0.55 else "black"
        lines = [f"{row['core']}: {_busy(row):.0%}", *_label(row["populations"])]
        axes.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=5.8, color=ink, zorder=4, linespacing=1.15)

    links = [row for row in link_summary(run) if row["class"] != "local"]
    top = max([row["packets"] for row in links], default=0) / samples
    load = Normalize(0, max(1e-9, top))
    for row in links:
        y0, x0 = divmod(row["router"], width)
        y1, x1 = divmod(row["reader"], width)
        dx, dy = x1 - x0, y1 - y0
        per_sample = row["packets"] / samples
        shift = np.array([-dy, dx]) * _OFFSET
        start, end = np.array([x0 + dx * _HALF, y0 + dy * _HALF]) + shift, np.array([x1 - dx * _HALF, y1 - dy * _HALF]) + shift
        colour = loads(0.15 + 0.85 * load(per_sample)) if per_sample else LIGHT
        arrow = FancyArrowPatch(
            tuple(start), tuple(end), arrowstyle="-|>", mutation_scale=4 + 7 * load(per_sample), linewidth=0.6 + 3.4 * load(per_sample),
            color=colour, shrinkA=0, shrinkB=0, zorder=2,
        )  # fmt: skip
        axes.add_patch(arrow)
    for port, router in enumerate(program.port_router.tolist()):
        y, x = divmod(router, width)
        axes.annotate(
            f"port {port}", (x - _HALF, y - _HALF), (x - 0.5, y - 0.62), fontsize=7, ha="center", arrowprops={"arrowstyle": "-|>", "color": "black"}
        )
    axes.set_xlim(-0.85, width - 0.45)
    axes.set_ylim(height - 0.45, -0.85)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(
        f"{program.meta.get('network', '')} on {program.chip.name} ({program.sync}): {len(rows)} of {program.cores} cores, "
        f"{micro(format_time(run.result.window_ps / samples))} per sample",
        fontsize=10,
    )
    bars = (
        (ScalarMappable(scale, tiles), "busiest station of the core, part of the window"),
        (
            ScalarMappable(load, matplotlib.colors.LinearSegmentedColormap.from_list("load", loads(np.linspace(0.15, 1, 64)))),
            "packets per sample on the link",
        ),
    )
    for mappable, label in bars:
        bar = figure.colorbar(mappable, ax=axes, fraction=0.025, pad=0.01, shrink=0.62)
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _busy(row: dict[str, Any]) -> float:
    return float(max(row["synapse_busy"], row["soma_busy"], row["sender_busy"]))


def _label(populations: list[str]) -> list[str]:
    """Names of a core's populations in at most three short lines, modules above their layers."""
    if len(populations) > 2:
        return [shortened(populations[0], 13), f"+ {len(populations) - 1} more"]
    lines = []
    for name in populations:
        head, _, tail = name.rpartition(".")
        lines += [shortened(head, 13), tail] if head and len(name) > 13 and len(populations) == 1 else [shortened(name, 13)]
    return lines
