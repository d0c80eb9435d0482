"""Pictures of latency, FIFOs, membranes and accuracy say what the trace says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.engine.events import STEP
from neurosim.errors import DataError
from neurosim.program import Program
from neurosim.report import accuracy_figure, draw_all, fifo_figure, latency_figure, membrane_figure
from neurosim.report.html.timeline import merged
from neurosim.report.latency import MOST_PLACES, PART_COLOURS
from neurosim.report.raster import raster_figure
from neurosim.report.timeline import occupancy
from neurosim.report.work import work_and_waits
from neurosim.trace import StoredRun, critical_path, events_of
from neurosim.trace.critical import PARTS
from tests.engine.networks import chain, rule, spikes
from tests.trace.test_why import stored

TIGHT = {"noc__axon_in": 1, "noc__axon_out": 1, "noc__fifo": 1}


@pytest.fixture(scope="module")
def program() -> Program:
    return chain([6, 9, 9, 9, 7], [5, 5, 5, 1], [0, 1, 2, 3], steps=2, mesh=(4, 1), rules={0: rule(8)}, **TIGHT)


@pytest.fixture(scope="module")
def run(program: Program, tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    assert spikes(program, []).step.size == 0
    return stored(tmp_path_factory.mktemp("run"), program, [(0, 0), (0, 1), (0, 4), (1, 2)])


def bars(axes: Any) -> float:
    """Length of all bars of ``broken_barh``."""
    return sum(path.get_extents().width for collection in axes.collections for path in collection.get_paths())


def test_the_waterfall_has_every_picosecond_of_the_latency(run: StoredRun) -> None:
    assert list(PART_COLOURS) == list(PARTS)
    top, axes = latency_figure(run).axes
    path = critical_path(events_of(run), run.result, 0)
    scale = 1e3  # in ns
    assert sum(patch.get_width() for patch in top.patches) * scale == pytest.approx(path.latency_ps)
    assert bars(axes) * scale == pytest.approx(path.latency_ps)
    assert len(axes.get_yticklabels()) <= MOST_PLACES
    assert "more places" in axes.get_yticklabels()[-1].get_text()


def test_the_fifos_are_the_fullest_and_red_while_full(run: StoredRun) -> None:
    axes = fifo_figure(run, most=3).axes[0]
    events = events_of(run)
    end = int(run.result.completion_ps[0])
    full = {}
    for channel in range(len(run.program.channel)):
        times, items = occupancy(events, channel)  # all are one place deep
        full[channel] = int((items * np.diff(np.append(times, end))).sum())
    longest = sorted(full.values(), reverse=True)[:3]
    red = [c for c in axes.collections if type(c).__name__ == "PolyCollection" and len(c.get_paths()) > 1]
    assert [round(sum(p.get_extents().width for p in c.get_paths()) * 1e3) for c in red] == longest
    assert [text.get_text() for text in axes.texts] == ["1 of 1"] * 3


@pytest.mark.parametrize("sync", ["wavefront", "free"])
def test_waiting_is_not_drawn_as_work(sync: str, tmp_path: Path) -> None:
    """Services end when their last put has found room: the work of a station is what is left without the waits, in the raster as in the timeline."""
    program = chain([6, 9, 9, 9, 7], [5, 5, 5, 1], [0, 1, 2, 3], sync, steps=2, mesh=(4, 1), rules={0: rule(8)}, timing__hop_local=90, **TIGHT)
    run = stored(tmp_path, program, [(0, 0), (0, 1), (0, 4), (0, 5), (1, 2)] if sync == "wavefront" else [(0, k) for k in (0, 1, 4, 5, 2)])
    events = events_of(run)
    services = events.services
    work, waits = work_and_waits(services, events.puts)
    lasts = [np.bincount(p.row, weights=p.end - p.start, minlength=len(services)) for p in (work, waits)]
    np.testing.assert_array_equal(lasts[1], services["blocked"])
    np.testing.assert_array_equal(lasts[0], services["end"] - services["time"] - services["blocked"])
    assert (np.bincount(waits.row) > 1).any()  # several waits in one service
    assert all((p.start < p.end).all() for p in (work, waits))
    for row in np.unique(waits.row):
        mine = sorted([*zip(*(part[work.row == row] for part in (work.start, work.end)), strict=True),
                       *zip(*(part[waits.row == row] for part in (waits.start, waits.end)), strict=True)])  # fmt: skip
        assert [mine[0][0], mine[-1][1]] == [services["time"][row], services["end"][row]]
        assert all(a[1] == b[0] for a, b in pairwise(mine))
    # of a trace without its puts the waits come last
    alone = work_and_waits(services, events.puts[:0])
    assert [int((p.end - p.start).sum()) for p in alone] == [int(total.sum()) for total in lasts]
    held = merged(services, 1)
    assert [int(total.sum()) for total in (held.busy, held.blocked)] == [int(total.sum()) for total in lasts]
    somas = services["item"] == STEP
    axes = raster_figure(run).axes[0]
    drawn = {"grey": 0.0, "pale": 0.0}
    for c in axes.collections:
        if type(c).__name__ == "PolyCollection" and c.get_alpha() is not None:
            drawn["grey" if c.get_alpha() == 0.6 else "pale"] += sum(p.get_extents().width for p in c.get_paths()) * 1e3
    assert drawn == pytest.approx({"pale": lasts[0][somas].sum(), "grey": lasts[1][somas].sum()})
    assert (sync == "free") == (not somas.any())


def test_membranes_are_drawn_with_their_fires(run: StoredRun, program: Program) -> None:
    figure = membrane_figure(run, program, ["p0 (0, 0, 0)", "p3 (1, 0, 0)"])
    first, second = figure.axes
    # p0: three inputs of 5 in step 0 reach 15 of 8, one more in step 1 leaves 5
    assert max(first.lines[0].get_ydata()) == 15
    assert first.lines[0].get_ydata()[-1] == 5
    assert "1 fires, threshold 8" in first.get_title(loc="left")
    assert second.lines[0].get_ydata()[-1] == run.result.scores[0, 1]
    with pytest.raises(DataError, match="no neuron chosen"):
        membrane_figure(run, program, [])


def test_accuracy_grows_with_the_decisions(run: StoredRun) -> None:
    with pytest.raises(DataError, match="no labels"):
        accuracy_figure(run)
    result = replace(run.result, decision_ps=np.array([3000, 1000, 2000, 4000]), start_ps=np.zeros(4, np.int64))
    labelled = replace(run, result=result, labels=np.array([0, 1, 2, 3]), predictions=np.array([0, 1, 9, 9]))
    decided, right = accuracy_figure(labelled).axes[0].lines[:2]
    assert decided.get_xdata().tolist() == right.get_xdata().tolist() == [0, 1, 2, 3, 4]
    assert decided.get_ydata().tolist() == [0, 25, 50, 75, 100]
    assert right.get_ydata().tolist() == [0, 25, 25, 50, 50]


def test_draw_all_draws_what_there_is(run: StoredRun, tmp_path: Path) -> None:
    names = [path.stem for path in draw_all(run, tmp_path)]
    assert names == ["energy", "mesh", "raster", "cores", "anytime", "latency", "fifos"]
    bare = replace(run, trace_path=None, labels=np.zeros(1, np.int64))
    assert [path.stem for path in draw_all(bare, tmp_path)] == ["energy", "mesh", "raster", "cores", "accuracy", "anytime"]
