"""The parts of a report about one run, as HTML."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.baselines import Comparison, compare_run
from neurosim.energy import COMPONENTS, Energy, intervals, sensitivities
from neurosim.errors import DataError
from neurosim.report.html.markup import Html, bars, join, key, table, tag
from neurosim.trace import StoredRun, core_summary, critical_path, events_of, link_summary
from neurosim.trace.critical import PARTS
from neurosim.units import format_count, format_energy, format_time

SHOWN_CLASSES = 20


def identity(run: StoredRun) -> Html:
    """What ran: model, chip, versions, digests, command."""
    info = run.info
    facts = [
        ("network", info["meta"].get("network", "")),
        ("chip", f"{info['chip']['name']}: {info['chip']['description']}"),
        ("discipline", f"{info['meta']['sync']}, {info['meta']['steps']} step(s){', streamed' if run.streamed else ''}"),
        ("samples", run.summary["samples"]),
        ("command", " ".join(info.get("command") or []) or "from Python"),
        ("versions", ", ".join(f"{name} {version}" for name, version in info.get("versions", {}).items())),
        ("digests", ", ".join(f"{name} {value[:16]}" for name, value in info.get("digests", {}).items())),
        ("seed", info.get("seed", 0)),
        ("engine", run.summary.get("engine", "")),
    ]
    return tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in facts), class_="facts")


def headline(run: StoredRun, energy: Energy) -> Html:
    """The figures that one looks at first."""
    s = run.summary
    per, total = energy.per_sample(), intervals(energy)["total"]
    n = max(1, s["samples"])
    latency = s["latency_ps"]["decision"]
    cards = [
        ("accuracy", "no labels" if s["accuracy"] is None else f"{100 * s['accuracy']:.2f} %", f"{s['samples']} samples"),
        ("energy per sample", format_energy(per["total"]), f"{format_energy(total.low)} to {format_energy(total.high)} (5 % to 95 %)"),
        ("latency to decision", format_time(latency) if latency is not None else "-", "median"),
        ("spikes per sample", format_count(round(s["spikes"] / n, 1)), f"{format_count(round(s['synops'] / n, 1))} synaptic operations"),
        ("packets per sample", format_count(round(s["packets"] / n, 1)), f"{format_count(round(s['hops'] / n, 1))} hops"),
        ("throughput", "-" if s["throughput_per_s"] is None else f"{s['throughput_per_s']:.1f}/s", "streamed or free runs"),
    ]
    made = [
        tag("div", tag("h3", name), tag("p", value, class_="big"), tag("p", small, class_="small"), class_="card") for name, value, small in cards
    ]
    return tag("div", *made, class_="cards")


def findings(run: StoredRun) -> Html:
    """What the diagnosis says, in plain words."""
    found = run.summary.get("findings") or []
    if not found:
        return tag("p", "Nothing to report: no core, link or FIFO is overloaded, no population is silent, no membrane saturates.", class_="good")
    rows = [tag("li", tag("strong", f["kind"]), ": ", f["text"], ". ", tag("em", f.get("remedy", "")), "." if f.get("remedy") else "") for f in found]
    return tag("ul", *rows, class_="findings")


def accuracy(run: StoredRun) -> Html:
    """Confusion table, where there are labels."""
    names = [str(name) for name in run.program.meta.get("class_names") or []]
    if run.labels is None or not len(run.predictions):
        return tag("p", "The data had no labels." if len(run.predictions) else "The network has no readout.")
    classes = int(max(run.labels.max(), run.predictions.max())) + 1
    names = names if len(names) >= classes else [str(k) for k in range(classes)]
    if classes > SHOWN_CLASSES:
        return tag("p", f"{classes} classes, {100 * float(np.mean(run.labels == run.predictions)):.2f} % right.")
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (run.labels, run.predictions), 1)
    rows = [[names[k], *(int(v) if v else "" for v in counts[k]), f"{100 * counts[k, k] / max(1, counts[k].sum()):.1f} %"] for k in range(classes)]
    return table(["label", *names[:classes], "right"], rows, caption="labels (rows) and predictions (columns)", numbers=range(1, classes + 2))


def energy_section(run: StoredRun, energy: Energy) -> Html:
    """By component, by layer, by price, and what moves the total."""
    per, ranges = energy.per_sample(), intervals(energy)
    board = {} if energy.board_fj is None else {"board": energy.board_fj / energy.samples}
    names = [*COMPONENTS, "host"]
    components = bars(
        [("per sample", [(name, per[name], f"{name}: {format_energy(per[name])}") for name in names], format_energy(per["total"]))],
        label="energy by component",
    )
    layers = bars(
        [
            (
                share.name,
                [(part, getattr(share, part) / energy.samples, f"{part}: {format_energy(getattr(share, part) / energy.samples)}") for part in _PARTS],
                format_energy(share.total / energy.samples),
            )
            for share in energy.populations
        ],
        label="energy by layer",
    )
    listed = table(
        ("component", "event", "count", "price", "energy", "share", "status", "source"),
        [
            (
                r["component"], r["event"], (format_count(round(float(r["count"]), 1)), r["count"]), f"{float(r['price']):.4g} {r['unit']}",
                (format_energy(float(r["energy_fj"])), r["energy_fj"]), (f"{100 * float(r['share']):.1f} %", r["share"]), r["status"], r["source"],
            )
            for r in energy.table()
        ],
        caption="energy per sample, price by price", numbers=(2, 3, 4, 5),
    )  # fmt: skip
    figures = {name: per[name] for name in (*names, "chip", "total")} | board
    spread = table(
        ("part", "energy", "5 %", "95 %"),
        [(name, *((format_energy(v), v) for v in (value, ranges[name].low, ranges[name].high))) for name, value in figures.items()],
        caption="energy per sample with its interval", numbers=(1, 2, 3),
    )  # fmt: skip
    moves = table(
        ("price", "status", "total at its low end", "at its high end"),
        [(f"{m.component}: {m.event}", m.status, format_energy(m.at_low_fj), format_energy(m.at_high_fj)) for m in sensitivities(energy)[:8]],
        caption="what moves the total most", numbers=(2, 3),
    )  # fmt: skip
    notes = tag(
        "ul", *(tag("li", f"left out: {sentence}") for sentence in energy.left_out), tag("li", f"static power: {energy.window}"),
        *(tag("li", f"board: {energy.board.source}") for _ in board if energy.board is not None), class_="small",
    )  # fmt: skip
    return join((
        key((name, name) for name in names), components, tag("h3", "By layer"), key((part, part) for part in _PARTS), layers,
        tag("div", spread, moves, class_="two"), tag("details", tag("summary", "every price"), listed), notes,
    ))  # fmt: skip


_PARTS = ("synapse", "soma", "noc", "static")


def latency(run: StoredRun) -> Html:
    """Where the latency of the first recorded sample went: its critical path as a waterfall."""
    if run.trace_path is None:
        return tag("p", "No trace was recorded, so the latency cannot be taken apart; run again with --record.")
    try:
        path = critical_path(events_of(run, 0), run.result, 0)
    except DataError as error:
        return tag("p", f"The critical path of the first sample cannot be walked: {error}.")
    parts = path.parts()
    done, rows = 0, []
    for name, lasts in parts.items():
        words = f"{name}: {PARTS[name]}"
        rows.append(
            (
                name,
                [("gap", float(done), ""), (f"path-{name}", float(lasts), words)],
                f"{format_time(lasts)}, {100 * lasts / max(1, path.latency_ps):.1f} %",
            )
        )
        done += lasts
    listed = table(
        ("part", "where", "time", "share", "times"),
        [(t["part"], t["where"], (format_time(t["lasts_ps"]), t["lasts_ps"]), f"{100 * t['share']:.1f} %", t["times"]) for t in path.totals()[:20]],
        caption="the longest parts of the critical path", numbers=(2, 3, 4),
    )  # fmt: skip
    intro = (
        f"Sample {path.sample}: {format_time(path.latency_ps)} from its start to its decision; the parts of its critical path add up to exactly that."
    )
    return join((tag("p", intro), bars(rows, label="critical path"), listed))


def comparison(run: StoredRun) -> Html:
    """The same inference on GPUs, beside the chip."""
    try:
        found: Comparison = compare_run(run)
    except DataError as error:
        return tag("p", f"{error}.")
    rows = [
        (
            r["platform"], r["kind"], "-" if r["batch"] is None else r["batch"], (format_energy(r["energy_gross_fj"]), r["energy_gross_fj"]),
            _ends(r["energy_low_fj"], r["energy_high_fj"]), "-" if r["energy_dynamic_fj"] is None else format_energy(r["energy_dynamic_fj"]),
            "-" if r["latency_ps"] is None else format_time(r["latency_ps"]), "-" if r["ratio_total"] is None else f"{r['ratio_total']:.3g}",
            "-" if r["ratio_board"] is None else f"{r['ratio_board']:.3g}",
        )
        for r in found.rows
        if r["energy_gross_fj"] is not None
    ]  # fmt: skip
    listed = table(
        ("platform", "kind", "batch", "energy", "5 % to 95 %", "less idle", "latency", "/ chip and host", "/ board"), rows,
        caption="energy per inference", numbers=range(2, 9),
    )  # fmt: skip
    meet = [
        f"{c['platform']}: " + (f"needs less than the chip from batch {c['batch']} on" if c["batch"] else "never needs less than the chip")
        for c in found.crossovers
    ]
    return join((listed, tag("ul", *(tag("li", words) for words in meet)), tag("ul", *(tag("li", note) for note in found.notes), class_="small")))


def _ends(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{format_energy(low)} to {format_energy(high)}"


def core_table(run: StoredRun, number: int) -> Html:
    """Every core that holds a slice."""
    rows = core_summary(run)
    memory = {row["core"]: row for row in run.program.meta["memory"]}
    limit = run.program.chip.memory.bytes.value
    return table(
        ("core", "populations", "synaptic operations", "spikes", "packets", "synapse", "soma", "sender", "blocked", "held", "memory"),
        [
            (
                r["core"], ", ".join(r["populations"]), (format_count(r["synops"]), r["synops"]), (format_count(r["spikes"]), r["spikes"]),
                (format_count(r["packets"]), r["packets"]),
                *((f"{100 * r[key_]:.1f} %", r[key_]) for key_ in ("synapse_busy", "soma_busy", "sender_busy", "blocked", "held")),
                (f"{100 * memory[r['core']]['bytes'] / limit:.0f} %" if r["core"] in memory else "-", memory.get(r["core"], {}).get("bytes", 0)),
            )
            for r in rows
        ],
        caption="cores", numbers=(0, *range(2, 11)), row_attributes=[{"data-core": f"{number}-{r['core']}"} for r in rows],
    )  # fmt: skip


def link_table(run: StoredRun) -> Html:
    """The links with the most packets."""
    rows = sorted((r for r in link_summary(run) if r["class"] != "local"), key=lambda r: (-r["packets"], r["link"]))[:30]
    cells = [
        (r["link"], (format_count(r["packets"]), r["packets"]), f"{100 * r['busy']:.2f} %", f"{100 * r['blocked']:.2f} %", r["high_water"])
        for r in rows
    ]
    return table(("link", "packets", "busy", "blocked", "high water"), cells, caption="busiest links", numbers=(1, 2, 3, 4))


def side_by_side(runs: list[tuple[StoredRun, Energy]]) -> Html:
    """Two or more runs, one column each, with the ratio to the first."""
    figures: list[tuple[str, list[float | None], Any]] = []

    def add(name: str, values: list[float | None], form: Any) -> None:
        figures.append((name, values, form))

    def summary(*keys: str) -> list[float | None]:
        found = []
        for run, _ in runs:
            value: Any = run.summary
            for part in keys:
                value = value[part]
            found.append(value)
        return found

    def per_sample(name: str) -> list[float | None]:
        return [run.summary[name] / max(1, run.summary["samples"]) for run, _ in runs]

    add("accuracy", summary("accuracy"), lambda v: f"{100 * v:.2f} %")
    for name in ("decision", "completion"):
        add(f"latency to {name}", summary("latency_ps", name), format_time)
    for name in ("spikes", "synops", "packets", "hops", "saturations"):
        add(f"{name} per sample", per_sample(name), lambda v: format_count(round(v, 1)))
    for name in (*COMPONENTS, "host", "total"):
        add(f"energy, {name}", [energy.per_sample()[name] for _, energy in runs], format_energy)
    rows = []
    for name, values, form in figures:
        cells: list[Any] = [name]
        first = values[0]
        for k, value in enumerate(values):
            if value is None:
                cells.append("-")
            else:
                ratio = f" (x {value / first:.3g})" if k and first else ""
                cells.append((f"{form(value)}{ratio}", value))
        rows.append(cells)
    heads = [f"{run.info['meta'].get('network', '')} on {run.info['chip']['name']} ({run.info['meta']['sync']})" for run, _ in runs]
    return table(["figure", *heads], rows, caption="runs side by side", numbers=range(1, len(runs) + 1))
