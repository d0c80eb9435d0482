"""The page: sections of every run put together with style and script, nothing loaded from anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from neurosim import __version__
from neurosim.energy import price
from neurosim.errors import DataError, MissingExtra
from neurosim.files import write_text
from neurosim.report.html import sections
from neurosim.report.html.floor import floor_plan
from neurosim.report.html.markup import Html, join, tag
from neurosim.report.html.timeline import legend, timeline
from neurosim.trace import StoredRun


def write_report(runs: Sequence[StoredRun], path: Path) -> Path:
    """Write the report of one run, or of several side by side, as one HTML file; returns its path.

    Raises DataError without a run, ProgramError when the file cannot be written.
    """
    if not runs:
        raise DataError("a report needs at least one run directory")
    priced = [(run, price(run.program, run.result, host_macs_per_sample=run.host_macs_per_sample, streamed=run.streamed)) for run in runs]
    titles = [_title(run) for run in runs]
    plots: list[object] = []
    parts: list[Html] = []
    details: dict[str, object] = {}
    for number, (run, energy) in enumerate(priced):
        plan, found = floor_plan(run, energy, number)
        details |= {f"{number}-{core}": facts for core, facts in found.items()}
        body = join((
            sections.headline(run, energy),
            _section("What ran", sections.identity(run)),
            _section("Findings", sections.findings(run)),
            _section("Floor plan", plan),
            _section("Latency", sections.latency(run)),
            _section("Energy", sections.energy_section(run, energy)),
            _section("Beside GPUs", sections.comparison(run)),
            _section("Accuracy", sections.accuracy(run)),
            _section("Timeline", _timeline(run, plots)),
            _section("Tables", join((sections.core_table(run, number), sections.link_table(run)))),
        ))  # fmt: skip
        if len(runs) > 1:
            body = tag("details", tag("summary", titles[number]), body, open="open" if number == 0 else None, class_="run")
        parts.append(body)
    if len(runs) > 1:
        parts.insert(0, _section("Side by side", sections.side_by_side(priced)))
    write_text(path, _document(titles[0] if len(titles) == 1 else f"{len(titles)} runs", join(parts), details, plots))
    return path


def _title(run: StoredRun) -> str:
    return f"{run.info['meta'].get('network', 'network')} on {run.info['chip']['name']}, {run.info['meta']['sync']}"


def _section(title: str, content: Html) -> Html:
    return tag("section", tag("h2", title), content)


def _timeline(run: StoredRun, plots: list[object]) -> Html:
    """A place for the figure; the figure itself goes into ``plots``."""
    if run.trace_path is None:
        return tag("p", "No trace was recorded; run again with --record to see every service of a window.")
    try:
        made = timeline(run)
    except (MissingExtra, DataError) as error:
        return tag("p", f"{error}.")
    if made is None:
        return tag("p", "The trace holds no complete service of the first sample.")
    plot, caption = made
    from bokeh.embed import components

    script, place = components(plot)
    plots.append(script)
    key = tag("p", *(tag("span", tag("i", class_="part", style=f"background:{colour}"), f" {words} ") for colour, words in legend()), class_="key")
    return join((tag("p", caption), key, tag("div", Html(place), class_="plot")))


def _document(title: str, body: Html, details: object, plots: list[object]) -> str:
    folder = resources.files(__package__)
    style, script = ((folder / name).read_text("utf-8") for name in ("report.css", "report.js"))
    # "</" would end the script element early
    data = json.dumps(details).replace("</", "<\\/")
    library = _bokeh() if plots else ""
    theme = '<button type="button" id="theme">light / dark</button>'
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{tag('span', title)[6:-7]} - neurosim</title><style>{style}</style>{library}</head>\n"
        f"<body><header><h1>{tag('span', title)}</h1>{theme}</header><main>{body}</main>"
        f"<footer>neurosim {__version__}; every figure is of the simulated chip, GPU rows say what they are</footer>\n"
        f'<script type="application/json" id="cores">{data}</script><script>{script}</script>{"".join(str(plot) for plot in plots)}</body></html>\n'
    )


def _bokeh() -> str:
    """Bokeh's own script, inlined."""
    from bokeh.resources import Resources

    return "".join(f"<script>{part}</script>" for part in Resources(mode="inline", components=["bokeh"]).js_raw)
