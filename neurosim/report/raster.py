"""One sample in time: which layer fired when, and when each layer ran its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import ROW_PUT, ROW_SERVICE, STEP, TRACE_DTYPE
from neurosim.errors import DataError
from neurosim.program import Program
from neurosim.report.style import (
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WAITING,
    layer_order,
    micro,
    module_of,
    new_figure,
    shortened,
    tidy,
    time_unit,
)  # fmt: skip
from neurosim.report.work import Pieces, work_and_waits
from neurosim.trace import StoredRun, read_trace
from neurosim.units import format_time

_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, "#999933", "#882255")
_MOST_DOTS = 60_000
SYNAPSE = 1  # value of Program.server_kind


def raster_figure(run: StoredRun, sample: int = 0) -> Any:
    """Spikes of every population against time; with a trace also, as pale bars, when its somas were at work (grey: when they waited for room), and as
    a dark line below, when its synapses were served: where those of several layers lie above each other, layers work at once. Neurons of a population
    are spread over its band, slice by slice, and the bars of a slice's soma over its part. Of a streamed run everything is shown that happened from
    the sample's first port service to its completion, other samples' spikes too.

    Raises DataError when the run kept neither spikes nor a trace of that sample.
    """
    program = run.program
    spikes, rows, puts = _events(run, sample)
    work, waits = work_and_waits(rows, puts)
    bands = _bands(program)
    services = rows["item"] == STEP
    synapses = (program.server_kind[rows["server"]] == SYNAPSE) & (rows["synops"] > 0)
    if not len(spikes) and not len(rows):
        raise DataError(f"run {run.path} kept neither spikes nor a trace of sample {sample}; run with spikes=True or --record T.parquet")
    shown = sorted(set(program.slice_population.tolist()))
    names = [str(program.meta["populations"][p]["name"]) for p in shown]
    modules = layer_order(names)
    start, last = int(run.result.start_ps[sample]), int(run.result.completion_ps[sample])
    scale, unit = time_unit(last)

    figure = new_figure(11.5, 1.6 + 0.36 * len(shown))
    axes = figure.add_subplot()
    for k, name in enumerate(names):
        if k % 2:
            axes.axhspan(k - 0.5, k + 0.5, color="#F6F6F6", zorder=0)
        colour = _COLOURS[modules[module_of(name)] % len(_COLOURS)]
        mine = np.flatnonzero(program.slice_population == shown[k])
        for q in mine.tolist():
            low, high = (k - 0.38 + 0.76 * edge for edge in bands[q])
            ran = services & (rows["slice"] == q)
            for pieces, shade in ((work.chosen(ran), {"facecolor": colour, "alpha": 0.3}), (waits.chosen(ran), {"facecolor": WAITING, "alpha": 0.6})):
                if len(pieces.row):
                    spans = np.column_stack([pieces.start, np.maximum(pieces.end - pieces.start, 1)]) / scale
                    axes.broken_barh(spans.tolist(), (low, high - low), **shade, linewidth=0, zorder=1)
        served = work.chosen(synapses & np.isin(program.server_owner[rows["server"]], np.unique(program.slice_core[mine])))
        if len(served.row):
            axes.broken_barh(_merged(served, max(1, last // 1500), scale), (k + 0.4, 0.07), facecolor="#333333", linewidth=0, zorder=2)
        dots = spikes[np.isin(spikes["slice"], mine)]
        count = len(dots) if run.streamed else int(run.result.slice_spikes[sample][mine].sum())
        thin = max(1, len(dots) * len(shown) // _MOST_DOTS)
        dots = dots[::thin]
        place = k - 0.38 + 0.76 * _height(program, bands, dots)
        axes.scatter(dots["time"] / scale, place, s=1.6, color=colour, linewidths=0, zorder=2, rasterized=True)
        note = "readout" if program.meta["populations"][shown[k]]["kind"] == "readout" else f"{count} spikes"
        axes.text(1.005, k, note, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color="#444444")
    marks = (("first output spike", run.result.first_spike_ps, (0, (1, 1.5))), ("decision", run.result.decision_ps, "-"))
    for label, values, style in marks:
        at = int(values[sample])
        if at >= 0:
            axes.axvline(at / scale, color="black", linewidth=1.1, linestyle=style, zorder=3, label=f"{label} {micro(format_time(at))}")
    axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
    axes.set_yticks(range(len(names)), [shortened(name, 28) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(start / scale, None)
    waited = services[waits.row].any()
    legend = [
        words
        for words, found in (
            ("pale bars: somas at work", services.any()),
            ("grey: waiting for room", waited),
            ("dark lines: synapses being served", synapses.any()),
        )
        if found
    ]
    axes.set_xlabel(f"time ({unit})" + (f"; {', '.join(legend)}" if legend else ""), fontsize=9)
    words = f"while sample {sample} was on the chip (streamed): spikes of every layer" if run.streamed else f"sample {sample}: spikes of every layer"
    axes.set_title(f"{words} ({program.sync})", fontsize=10, loc="left")
    tidy(axes, grid="x")
    axes.spines["left"].set_color(GREY)
    axes.grid(axis="x", color=LIGHT)
    return figure


def _events(run: StoredRun, sample: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(spikes, complete services of the trace, its puts) of a sample; of a streamed run those of all samples within the sample's time."""
    spikes, samples = run.result.spikes, len(run.result.scores)
    if not 0 <= sample < samples:
        raise DataError(f"run {run.path} has no sample {sample}; there are samples 0 to {samples - 1}")
    rows = np.zeros(0, TRACE_DTYPE)
    if run.streamed:
        first, last = int(run.result.start_ps[sample]), int(run.result.completion_ps[sample]) + 1
        spikes = spikes[(spikes["time"] >= first) & (spikes["time"] < last)]
        if run.trace_path is not None:
            rows = read_trace(run.trace_path, from_ps=first, to_ps=last)
    else:
        spikes = spikes[spikes["sample"] == sample]
        if run.trace_path is not None:
            rows = read_trace(run.trace_path, sample)
    return spikes, rows[(rows["kind"] == ROW_SERVICE) & (rows["end"] >= 0)], rows[rows["kind"] == ROW_PUT]


def _merged(pieces: Pieces, gap: int, scale: float) -> list[tuple[float, float]]:
    """(start, length) of the times covered by pieces of services, gaps up to ``gap`` ps closed."""
    order = np.argsort(pieces.start, kind="stable")
    start = pieces.start[order]
    end = np.maximum.accumulate(pieces.end[order])
    first = np.concatenate([[True], start[1:] > end[:-1] + gap])
    last = np.concatenate([first[1:], [True]])
    return list(zip((start[first] / scale).tolist(), ((end[last] - start[first]) / scale).tolist(), strict=True))


def _bands(program: Program) -> NDArray[np.float64]:
    """[slices, 2] part of its population's band that is a slice's, from 0 to 1, in the order of slices."""
    sizes, bands = np.diff(program.neuron_ptr), np.zeros((program.slices, 2))
    for p in set(program.slice_population.tolist()):
        mine = np.flatnonzero(program.slice_population == p)
        edges = np.concatenate([[0], np.cumsum(sizes[mine])]) / max(1, sizes[mine].sum())
        bands[mine] = np.column_stack([edges[:-1], edges[1:]])
    return bands


def _height(program: Program, bands: NDArray[np.float64], spikes: NDArray[Any]) -> NDArray[np.float64]:
    """Place of each spike's neuron inside its population's band, from 0 to 1, in the order (y, x, c) of addresses in its slice's."""
    low, high = bands[spikes["slice"]].T
    place: NDArray[np.float64] = low + (high - low) * spikes["address"] / np.maximum(1, np.diff(program.neuron_ptr))[spikes["slice"]]
    return place
