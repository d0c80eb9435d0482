"""Latency in pictures: the waterfall of a sample's critical path, and how many samples were decided right by when."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.energy import price
from neurosim.errors import DataError
from neurosim.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    micro,
    new_figure,
    shortened,
    tidy,
    time_unit,
)  # fmt: skip
from neurosim.trace import StoredRun, anytime_curves, critical_path, events_of
from neurosim.trace.critical import PARTS
from neurosim.units import format_time

PART_COLOURS = {
    "service": BLUE, "hop": GREEN, "link": SKY, "fifo": ORANGE, "credit": VERMILION, "window": PURPLE, "bank": "#999933", "wire": "#882255",
    "barrier": BLACK, "settle": "#DDCC77", "due": "#CC6677", "port": GREY, "input": LIGHT, "readout": YELLOW,
}  # fmt: skip
MOST_PLACES = 26


def latency_figure(run: StoredRun, sample: int = 0) -> Any:
    """The waterfall of a sample's critical path: time along, places (stations, FIFOs, links) downwards as the path comes to them, parts by colour;
    above it what every part takes in all. Places beyond 26 share the last row.

    Raises DataError: no whole trace, no such sample.
    """
    events = events_of(run, sample)
    until = "decision" if run.result.decision_ps[sample] > run.result.start_ps[sample] else "completion"
    path = critical_path(events, run.result, sample, "decision" if until == "decision" else "completion")
    if not path.segments:
        raise DataError(f"run {run.path}: sample {sample} took no time")
    largest = sorted({s.where for s in path.segments}, key=lambda w: -sum(s.lasts_ps for s in path.segments if s.where == w))
    kept = set(largest[: MOST_PLACES - 1] if len(largest) > MOST_PLACES else largest)
    places = list(dict.fromkeys(s.where for s in path.segments if s.where in kept))
    if len(kept) < len(largest):
        places.append(f"{len(largest) - len(kept)} more places")
    row = {place: k for k, place in enumerate(places)}
    scale, unit = time_unit(path.end_ps)

    figure = new_figure(11.5, 2.6 + 0.24 * len(places))
    top, axes = figure.subplots(2, 1, height_ratios=[0.6, 0.24 * len(places) + 0.6])
    left = 0.0
    for part, lasts in path.parts().items():
        top.barh(0, lasts / scale, left=left, height=0.7, color=PART_COLOURS[part], label=f"{part} {lasts / path.latency_ps:.0%}")
        left += lasts / scale
    top.set_xlim(0, left)
    top.set_yticks([])
    top.set_title(f"sample {sample}: where the {micro(format_time(path.latency_ps))} to its {until} went", fontsize=10, loc="left")
    top.legend(fontsize=7.5, frameon=False, ncols=6, loc="upper left", bbox_to_anchor=(0, -0.35), borderaxespad=0)
    for part in PARTS:
        for place, k in row.items():
            mine = [s for s in path.segments if s.part == part and (s.where if s.where in kept else places[-1]) == place]
            if mine:
                spans = [(s.from_ps / scale, s.lasts_ps / scale) for s in mine]
                axes.broken_barh(spans, (k - 0.4, 0.8), facecolor=PART_COLOURS[part], linewidth=0)
    axes.set_yticks(range(len(places)), [shortened(place, 40) for place in places], fontsize=7)
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.set_xlim(path.start_ps / scale, path.end_ps / scale)
    axes.set_xlabel(f"time ({unit})", fontsize=9)
    tidy(axes, grid="x")
    tidy(top)
    return figure


def anytime_figure(run: StoredRun, *others: StoredRun) -> Any:
    """Accuracy, energy spent per sample and share of final answers against the time since a sample's start, of one run or of several.

    Raises DataError for a run without answers along the way.
    """
    runs = (run, *others)
    curves = []
    for one in runs:
        energy = price(one.program, one.result, host_macs_per_sample=one.host_macs_per_sample, streamed=one.streamed)
        curves.append(anytime_curves(one.program, one.result, energy, one.labels))
    scale, unit = time_unit(max(int(curve.time_ps[-1]) for curve in curves))
    figure = new_figure(11.5, 3.6)
    panels = figure.subplots(1, 3)
    for one, curve, colour in zip(runs, curves, (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY, BLACK), strict=False):
        label = curve.sync if len({c.sync for c in curves}) == len(curves) else f"{curve.sync} ({one.path.name})"
        at = curve.time_ps / scale
        if curve.accuracy is not None:
            panels[0].step(at, 100 * curve.accuracy, where="post", color=colour, label=label)
        panels[1].plot(at, curve.energy_fj / 1e9, color=colour, label=label)
        panels[2].step(at, 100 * curve.final, where="post", color=colour, label=label)
    for axes, title in zip(panels, ("right answers (%)", "energy spent (µJ per sample)", "answers that are final (%)"), strict=True):
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(f"time after the sample's start ({unit})", fontsize=9)
        axes.set_ylim(0, None)
        axes.set_xlim(0, None)
        tidy(axes, grid="y")
    panels[2].legend(fontsize=8, frameon=False, loc="lower right")
    figure.suptitle(f"{run.program.meta.get('network', '')} on {run.program.chip.name}: answers along the way", fontsize=11)
    return figure


def accuracy_figure(run: StoredRun) -> Any:
    """The share of samples that were decided by a time after their start, and decided right. Raises DataError without labels or a readout."""
    if run.labels is None or not len(run.predictions):
        raise DataError(f"run {run.path} has no labels or no readout, so no accuracy")
    result = run.result
    taken = result.decision_ps - result.start_ps
    order = np.argsort(taken, kind="stable")
    right = (run.predictions == run.labels)[order]
    scale, unit = time_unit(int(taken.max(initial=1)))
    at = np.concatenate([[0.0], taken[order] / scale])
    shares = np.arange(len(right) + 1) / max(1, len(right)) * 100
    figure = new_figure(7.5, 4.2)
    axes = figure.add_subplot()
    axes.step(at, shares, where="post", color=GREY, label="decided")
    axes.step(at, np.concatenate([[0.0], np.cumsum(right) / max(1, len(right)) * 100]), where="post", color=BLUE, label="decided right")
    axes.axhline(100 * float(right.mean()), color=LIGHT, zorder=0)
    axes.set_ylim(0, 102)
    axes.set_xlim(0, None)
    axes.set_xlabel(f"time after the sample's start ({unit})", fontsize=9)
    axes.set_ylabel("% of the samples", fontsize=9)
    words = f"{float(right.mean()):.1%} of {len(right)} samples right, half of all decided by {micro(format_time(int(np.median(taken))))}"
    axes.set_title(words, fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    tidy(axes, grid="y")
    return figure
