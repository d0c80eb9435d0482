"""Zoomable timeline of a recorded window: services of the busiest servers, drawn by Bokeh, which is inlined into the page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from neurosim.errors import MissingExtra
from neurosim.report.style import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from neurosim.trace import StoredRun, events_of
from neurosim.trace.names import item_name, server_names
from neurosim.units import format_time

MOST_SERVICES = 6000
"""Services drawn: more make the page slow and large; the window ends where they are used up."""
MOST_SERVERS = 28
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
    np.add.at(busy, services["server"], services["end"] - services["time"])
    shown = np.sort(np.argsort(-busy, kind="stable")[: min(MOST_SERVERS, int(np.count_nonzero(busy)))])
    chosen = services[np.isin(services["server"], shown)][:MOST_SERVICES]
    names = server_names(program)
    rows = [names[v] for v in shown]
    kinds = program.server_kind[chosen["server"]]
    fields = ("item", "slice", "step", "address")
    items = [SimpleNamespace(**dict(zip(fields, row, strict=True))) for row in zip(*(chosen[name].tolist() for name in fields), strict=True)]
    source = ColumnDataSource({
        "server": [names[v] for v in chosen["server"]], "left": chosen["time"] / 1e6, "right": chosen["end"] / 1e6,
        "colour": [COLOURS[k] for k in kinds], "kind": [KINDS[k] for k in kinds], "item": [item_name(program, item) for item in items],
        "lasts": [format_time(int(t)) for t in chosen["end"] - chosen["time"]], "blocked": [format_time(int(t)) for t in chosen["blocked"]],
        "synops": chosen["synops"].astype(np.float64),
    })  # fmt: skip
    begin, end = float(chosen["time"][0]) / 1e6, float(chosen["end"].max()) / 1e6
    plot = figure(
        y_range=FactorRange(factors=rows[::-1]), x_range=Range1d(start=begin, end=end, bounds=(begin, end)), height=80 + 18 * len(rows),
        sizing_mode="stretch_width", tools="xpan,xwheel_zoom,box_zoom,reset", active_drag="xpan", active_scroll="xwheel_zoom",
        x_axis_label="time (us)", output_backend="canvas",
    )  # fmt: skip
    bar = plot.hbar(y="server", left="left", right="right", height=0.8, color="colour", line_color=None, source=source)
    tips = [
        ("server", "@server"),
        ("item", "@item"),
        ("starts", "@left{0.000} us"),
        ("lasts", "@lasts"),
        ("blocked", "@blocked"),
        ("synapses", "@synops"),
    ]
    plot.add_tools(HoverTool(renderers=[bar], tooltips=tips, point_policy="follow_mouse"))
    plot.ygrid.grid_line_color = None
    window = f"{format_time(int(chosen['time'][0]))} to {format_time(int(chosen['end'].max()))}"
    more = "" if len(chosen) < MOST_SERVICES else " (the page holds no more; neurosim trace shows any window)"
    caption = f"{len(chosen)} services of the {len(rows)} busiest servers, {window} of the first recorded sample{more}. Drag to move, scroll to zoom."
    return plot, caption


def legend() -> list[tuple[str, str]]:
    """(colour, words) of the kinds of servers."""
    return list(zip(COLOURS, KINDS, strict=True))
