"""What the chip held over time: items in FIFOs, membranes of chosen neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurosim.errors import DataError
from neurosim.program import Program
from neurosim.report.style import BLUE, GREY, LIGHT, ORANGE, VERMILION, new_figure, shortened, tidy, time_unit
from neurosim.report.timeline import occupancy
from neurosim.trace import StoredRun, events_of
from neurosim.trace.names import channel_names
from neurosim.trace.why import find_neuron, replay_neuron


def fifo_figure(run: StoredRun, sample: int = 0, most: int = 16) -> Any:
    """Items in the fullest FIFOs over the time of a sample, each in a band of its own as high as the FIFO is deep; dark where it is full.

    The fullest are those with the largest mean part of their places taken. Raises DataError: no whole trace, no such sample, no packets.
    """
    events = events_of(run, sample)
    program = run.program
    end = int(run.result.completion_ps[sample])
    first = int(run.result.start_ps[sample])
    filled = []
    for channel, depth in enumerate(program.channel[:, 4].tolist()):
        times, items = occupancy(events, channel)
        if len(times):
            spans = np.diff(np.append(times, max(end, times[-1])))
            filled.append((float((items * spans).sum()) / depth, channel, times, items))
    if not filled:
        raise DataError(f"run {run.path}: no packet moved in sample {sample}")
    chosen = sorted(filled, key=lambda entry: (-entry[0], entry[1]))[:most]
    names = channel_names(program)
    scale, unit = time_unit(end)
    figure = new_figure(11.5, 1.4 + 0.42 * len(chosen))
    axes = figure.add_subplot()
    for k, (_, channel, times, items) in enumerate(chosen):
        depth = int(program.channel[channel, 4])
        at = np.append(times, max(end, times[-1])) / scale
        level = np.append(items, items[-1]) / depth * 0.8
        axes.axhspan(k - 0.4, k + 0.4, color="#F6F6F6", zorder=0)
        axes.fill_between(at, k + 0.4, k + 0.4 - level, step="post", color=BLUE, alpha=0.55, linewidth=0)
        full = np.flatnonzero(items == depth)
        axes.broken_barh(np.column_stack([at[full], at[full + 1] - at[full]]).tolist(), (k - 0.4, 0.8), facecolor=VERMILION, linewidth=0)
        axes.text(1.005, k, f"{int(items.max())} of {depth}", transform=axes.get_yaxis_transform(), va="center", fontsize=7, color="#444444")
    axes.set_yticks(range(len(chosen)), [shortened(names[channel], 44) for _, channel, _, _ in chosen], fontsize=7.5)
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.set_xlim(first / scale, max(end, first + 1) / scale)
    axes.set_xlabel(f"time ({unit})", fontsize=9)
    axes.set_title(f"sample {sample}: items in the fullest FIFOs (full in red; at the right the most, of how many places)", fontsize=10, loc="left")
    tidy(axes, grid="x")
    return figure


def membrane_figure(run: StoredRun, program: Program, neurons: Sequence[str], sample: int = 0) -> Any:
    """Membranes of chosen neurons (texts as for ``why_fired``) over the time of a sample, replayed from the trace: threshold dashed, fires marked.

    ``program``: the one that was run, with its weights.
    Raises DataError: no whole trace, another program, a neuron that does not exist or computes an extra op.
    """
    if not neurons:
        raise DataError('membranes: no neuron chosen; give at least one, for example "blocks.0.lif1 (3, 0, 2)"')
    events = events_of(run, sample)
    end = int(run.result.completion_ps[sample])
    scale, unit = time_unit(end)
    figure = new_figure(11.5, 0.9 + 1.5 * len(neurons))
    panels = figure.subplots(len(neurons), 1, sharex=True, squeeze=False)[:, 0]
    for axes, text in zip(panels, neurons, strict=True):
        q, address, name = find_neuron(run, program, text)
        replay = replay_neuron(program, events, q, address, sample if run.streamed else None)
        times, values = [0], [replay.v_init]
        for time, membrane, after in replay.history:
            times += [time, time]
            values += [membrane, after]
        axes.step(np.append(times, end) / scale, np.append(values, values[-1]), where="post", color=BLUE, linewidth=1.2)
        axes.axhline(replay.threshold, color=GREY, linestyle="--", linewidth=0.9)
        fired = [entry for entry in replay.history if entry[1] != entry[2]]
        axes.scatter([time / scale for time, _, _ in fired], [membrane for _, membrane, _ in fired], color=ORANGE, s=18, zorder=3)
        axes.set_title(f"{name} {text.partition(name)[2].strip()}: {len(replay.fired)} fires, threshold {replay.threshold}", fontsize=9, loc="left")
        axes.axhline(0, color=LIGHT, zorder=0)
        tidy(axes)
    panels[-1].set_xlabel(f"time ({unit})", fontsize=9)
    panels[-1].set_xlim(0, max(end, 1) / scale)
    return figure
