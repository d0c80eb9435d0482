from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.energy import price
from neurosim.engine.events import STEP
from neurosim.errors import DataError, MissingExtra
from neurosim.program import Program
from neurosim.report import cores_figure, draw_all, energy_figure, mesh_figure, raster_figure
from neurosim.report.mesh import positions
from neurosim.trace import StoredRun, TraceWriter, load_run
from tests.energy import handmade
from tests.trace.test_rundir import write


def stored(folder: Path, p: Program, *, trace: bool = True) -> StoredRun:
    path = None
    if trace:
        rows = handmade.rows(p, 8)
        rows["sample"] = 0
        rows["item"] = STEP
        rows["synops"][rows["server"] == 1] = 3
        path = folder / "t.parquet"
        with TraceWriter(path, p) as writer:
            writer.write(rows)
    return load_run(write(folder / "run", p, handmade.busy(p), 10, path))


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    return stored(tmp_path, handmade.program())


def widths(axes: Any) -> float:
    return sum(patch.get_width() for patch in axes.patches)


def test_every_picture_is_drawn_and_the_run_can_be_replaced_afterwards(run: StoredRun) -> None:
    paths = draw_all(run, run.path)
    assert [path.stem for path in paths] == ["energy", "mesh", "raster", "cores", "accuracy", "fifos"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    write(run.path, handmade.program(), handmade.busy(handmade.program()))


@pytest.mark.parametrize("sync", ["wavefront", "free"])
def test_the_bars_are_the_energy_and_the_texts_stay_inside(tmp_path: Path, sync: str) -> None:
    p = handmade.program(sync)
    run = stored(tmp_path, p)
    figure = energy_figure(run)
    layers, gpus = figure.axes
    total = price(p, run.result, host_macs_per_sample=10).per_sample()["total"]
    assert widths(layers) * 1e9 == pytest.approx(total)
    assert gpus.get_yticklabels()[0].get_text() == "tiny, simulated"
    figure.canvas.draw()
    limits = figure.bbox
    for axes in figure.axes:
        for text in [*axes.texts, axes.title, axes.xaxis.label]:
            box = text.get_window_extent()
            assert box.x0 >= limits.x0
            assert box.x1 <= limits.x1, text.get_text()


def test_a_program_without_workload_is_drawn_without_gpus(run: StoredRun) -> None:
    bare = dataclasses.replace(run, program=dataclasses.replace(run.program, meta=run.program.meta | {"workload": []}))
    assert len(energy_figure(bare).axes) == 1


def test_the_mesh_has_a_tile_per_router_and_an_arrow_per_link(run: StoredRun) -> None:
    axes = mesh_figure(run).axes[0]
    kinds = [type(patch).__name__ for patch in axes.patches]
    assert (kinds.count("Rectangle"), kinds.count("FancyArrowPatch")) == (4, 8)
    texts = [text.get_text() for text in axes.texts]
    assert "0: 17%\nhidden.lif" in texts  # busy 500 of 3,000 ps
    assert "2" in texts  # a core without a slice


CHIPS = ('timing.hop_chip="50 ns"', 'timing.chip_forward="7 ns"', 'timing.chip_ack="9 ns"', 'prices.hop_chip="1 nJ"')
CUBE = "[[0,1],[1,2],[2,3],[3,0],[4,5],[5,6],[6,7],[7,4],[0,4],[1,5],[2,6],[3,7]]"


@pytest.mark.parametrize(
    ("overrides", "tiles", "arrows"),
    [
        (("noc.topology=torus", "noc.width=4", "noc.height=3", "noc.chip_width=2", *CHIPS), 4 + 8, 2 * 24),
        (("noc.topology=ring", "noc.width=8"), 4 + 12, 2 * 16),
        (("noc.topology=star", "noc.width=5", "memory.dead_cores=[2]"), 4 + 6, 2 * 9),
        (("noc.topology=tree", "noc.width=5", "noc.ports=[0, 0, 3]"), 4 + 6, 2 * 9),
        (("noc.topology=graph", f"noc.edges={CUBE}"), 4 + 4, 2 * 12),
        (("noc.cores_per_router=3", "memory.cores=7"), 7 + 3, 2 * 4),  # cores 0 to 2, 3 to 5, 6 alone, and an empty router; frames but for one
    ],
)
def test_any_topology_has_its_cores_and_links(tmp_path: Path, overrides: tuple[str, ...], tiles: int, arrows: int) -> None:
    run = stored(tmp_path, handmade.program(overrides=overrides), trace=False)
    figure = mesh_figure(run)
    kinds = [type(patch).__name__ for patch in figure.axes[0].patches]
    assert (kinds.count("Rectangle"), kinds.count("FancyArrowPatch")) == (tiles, arrows)
    at = positions(run.program)
    assert at.shape == (len(run.program.next_server), 2)
    assert np.hypot(*(at[:, None] - at[None, :]).transpose(2, 0, 1))[np.triu_indices(len(at), 1)].min() > 0.68  # no tile on another
    assert np.array_equal(at, positions(run.program))
    figure.canvas.draw()


def test_the_raster_has_every_spike_of_the_sample_and_the_services_of_the_trace(tmp_path: Path, run: StoredRun) -> None:
    axes = raster_figure(run).axes[0]
    dots = sum(len(c.get_offsets()) for c in axes.collections if type(c).__name__ == "PathCollection")
    assert dots == 2
    bars = sum(len(c.get_paths()) for c in axes.collections if type(c).__name__ != "PathCollection")
    assert bars == 8 + 2  # eight steps in the trace, the two synapse services of core 0 as lines
    assert [label.get_text() for label in axes.get_yticklabels()] == ["hidden.lif", "out"]
    with pytest.raises(DataError, match="sample 7; there are samples 0 to 1"):
        raster_figure(run, 7)
    run.result.spikes = run.result.spikes[:0]
    with pytest.raises(DataError, match="neither spikes nor a trace of sample 1"):
        raster_figure(run, 1)


def test_the_raster_of_a_streamed_run_shows_all_samples_of_its_window(run: StoredRun) -> None:
    run.info["options"]["streamed"] = True
    run.result.start_ps[:] = [0, 350]  # samples of 0 to 1,000 and 350 to 2,000 ps; spikes at 300, 400 and 700 ps

    def dots(sample: int) -> int:
        return sum(len(c.get_offsets()) for c in raster_figure(run, sample).axes[0].collections if type(c).__name__ == "PathCollection")

    assert (dots(0), dots(1)) == (3, 2)


def test_every_core_is_accounted_for_in_full(run: StoredRun) -> None:
    figure = cores_figure(run)
    assert len(figure.axes) == 3
    for axes in figure.axes:
        heights: dict[float, float] = {}
        for patch in axes.patches:
            heights[patch.get_x()] = heights.get(patch.get_x(), 0.0) + patch.get_height()
        np.testing.assert_allclose(list(heights.values()), [100.0, 100.0])


def test_without_matplotlib_the_message_says_what_to_install(run: StoredRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r'pip install "neurosim\[report\]"'):
        draw_all(run, run.path)
