"""Zoomable timeline of a recorded window: services of the busiest servers, drawn by Bokeh, which is inlined into the page."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import MissingExtra
from neurosim.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from neurosim.trace import StoredRun, events_of
from neurosim.trace.names import item_name, server_names
from neurosim.units import format_time

MOST_BARS = 6000
"""Bars drawn: more make the page slow and large; neighbouring services are drawn as one until so few are left."""
MOST_SERVERS = 28
WAITING = f"{GREY}73"
"""Waiting for room: see-through, so that it is fainter than work on light and on dark ground."""
HEIGHT = 0.8
"""Of a bar in the band of its server."""
KINDS = ("port", "synapse or core", "soma", "sender", "router output")
COLOURS = (PURPLE, BLUE, ORANGE, GREEN, VERMILION)


def timeline(run: StoredRun) -> tuple[Any, str] | None:
    """(Bokeh figure, caption) of the first recorded sample; None without a trace. Raises MissingExtra without bokeh."""
    if run.trace_path is None:
        return None
    try:
        from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d
        from bokeh.plotting import figure
    except ImportError:
        raise MissingExtra('the timeline of a report needs bokeh: pip install "neurosim[report]"') from None
    program = run.program
    services = events_of(run, 0).services
    services = services[services["end"] >= 0]
    if not len(services):
        return None
    busy = np.zeros(len(program.server_kind), np.int64)
    np.add.at(busy, services["server"], services["end"] - services["time"])  # at work or waiting
    shown = np.sort(np.argsort(-busy, kind="stable")[: min(MOST_SERVERS, int(np.count_nonzero(busy)))])
    chosen = services[np.isin(services["server"], shown)]
    bars = merged(chosen, MOST_BARS)
    names = server_names(program)
    rows = [names[v] for v in shown]
    kinds = program.server_kind[bars.server]
    fields = ("item", "slice", "step", "address")
    first = [
        SimpleNamespace(**dict(zip(fields, row, strict=True))) for row in zip(*(chosen[name][bars.first].tolist() for name in fields), strict=True)
    ]
    words = [
        item_name(program, item) if count == 1 else f"{count} services from {item_name(program, item)} on"
        for item, count in zip(first, bars.count.tolist(), strict=True)
    ]
    lasts = np.maximum(1, bars.end - bars.start)
    worked, waited = bars.busy / lasts, bars.blocked / lasts
    source = ColumnDataSource({
        "server": [names[v] for v in bars.server], "left": bars.start / 1e6, "right": bars.end / 1e6, "colour": [COLOURS[k] for k in kinds],
        "item": words, "lasts": [format_time(int(t)) for t in bars.end - bars.start], "busy": np.round(100 * worked, 1),
        "blocked": [format_time(int(t)) for t in bars.blocked], "synops": bars.synops.astype(np.float64),
        "work_height": HEIGHT * worked, "work_y": _beside(names, bars.server, HEIGHT * (worked / 2 - 0.5)),
        "wait_height": HEIGHT * waited, "wait_y": _beside(names, bars.server, HEIGHT * (worked + waited / 2 - 0.5)),
    })  # fmt: skip
    begin, end = float(bars.start.min()) / 1e6, float(bars.end.max()) / 1e6
    plot = figure(
        y_range=FactorRange(factors=rows[::-1]), x_range=Range1d(start=begin, end=end, bounds=(begin, end)), height=80 + 18 * len(rows),
        sizing_mode="stretch_width", tools="xpan,xwheel_zoom,box_zoom,reset", active_drag="xpan", active_scroll="xwheel_zoom",
        x_axis_label="time (us)", output_backend="canvas",
    )  # fmt: skip
    whole = plot.hbar(y="server", left="left", right="right", height=HEIGHT, color="colour", fill_alpha=0.15, line_color=None, source=source)
    plot.hbar(y="work_y", left="left", right="right", height="work_height", color="colour", line_color=None, source=source)
    plot.hbar(y="wait_y", left="left", right="right", height="wait_height", color=WAITING, line_color=None, source=source)
    tips = [
        ("server", "@server"),
        ("item", "@item"),
        ("starts", "@left{0.000} us"),
        ("lasts", "@lasts, @busy % of it at work"),
        ("waits for room", "@blocked"),
        ("synapses", "@synops"),
    ]
    plot.add_tools(HoverTool(renderers=[whole], tooltips=tips, point_policy="follow_mouse"))
    plot.ygrid.grid_line_color = None
    together = f", those closer than {format_time(bars.gap_ps)} drawn as one" if bars.gap_ps else ""
    caption = (
        f"The first recorded sample: {len(chosen)} services of its {len(rows)} busiest servers{together}. Of a bar's height the coloured part is the "
        "share of its time at work, the grey part waiting for room. Drag to move, scroll to zoom; every single service is in "
        "`neurosim trace RUN_DIR --export`."
    )
    return plot, caption


@dataclass(frozen=True)
class Bars:
    """Runs of services of one server, [bars] each: ``first`` the row of the first service, ``count`` of them, times in ps, sums over them.

    ``busy`` is time at work, ``blocked`` time waiting for room.
    """

    server: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    busy: NDArray[np.int64]
    blocked: NDArray[np.int64]
    synops: NDArray[np.int64]
    gap_ps: int
    """Services of one server closer than this are one bar; 0: every service is its own."""


def merged(services: NDArray[Any], most: int) -> Bars:
    """Services (rows of a trace) as at most about ``most`` bars, by the smallest gap of a doubling series that does it."""
    order = np.lexsort((services["time"], services["server"]))
    rows = services[order]
    span = int(rows["end"].max() - rows["time"].min())
    gap = 0
    while True:
        apart = rows["time"][1:] - rows["end"][:-1] >= gap if gap else np.ones(len(rows) - 1, bool)
        begins = np.flatnonzero(np.concatenate([[True], apart | (rows["server"][1:] != rows["server"][:-1])]))
        if len(begins) <= most or gap > span:
            break
        gap = max(1, 2 * gap, span // 16384)

    def total(values: NDArray[Any]) -> NDArray[np.int64]:
        return np.add.reduceat(values.astype(np.int64), begins)

    ends = np.maximum.reduceat(rows["end"], begins)
    return Bars(
        server=rows["server"][begins].astype(np.int64), first=order[begins], count=np.diff(np.append(begins, len(rows))), start=rows["time"][begins],
        end=ends, busy=total(rows["end"] - rows["time"] - rows["blocked"]), blocked=total(rows["blocked"]), synops=total(rows["synops"]), gap_ps=gap,
    )  # fmt: skip


def legend() -> list[tuple[str, str]]:
    """(colour, words) of the kinds of servers, and of waiting."""
    return [*zip(COLOURS, KINDS, strict=True), (WAITING, "waiting for room")]


def _beside(names: list[str], servers: NDArray[np.int64], offsets: NDArray[np.float64]) -> list[tuple[str, float]]:
    """Places in the bands of servers, off their middle."""
    return list(zip((names[v] for v in servers), offsets.tolist(), strict=True))
