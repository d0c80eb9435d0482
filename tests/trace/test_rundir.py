from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from neurosim.energy import price
from neurosim.engine.events import Options, Result
from neurosim.errors import DataError, RunError
from neurosim.program import Program
from neurosim.trace import TraceWriter, load_run, summarise, write_run
from tests.energy import handmade

LABELS = np.array([1, 0])


def write(path: Path, p: Program, r: Result, host_macs: float = 0.0, trace: Path | None = None) -> Path:
    energy = price(p, r, host_macs_per_sample=host_macs)
    summary = summarise(p, r, energy, labels=LABELS, wall_s=1.5)
    return write_run(path, p, r, Options(seed=7), summary, energy=energy, labels=LABELS, command=["run", "x.nsim"], trace_path=trace)


def test_everything_comes_back_and_prices_alike(tmp_path: Path) -> None:
    p = handmade.program()
    r = handmade.busy(p)
    with TraceWriter(tmp_path / "t.parquet", p) as writer:
        writer.write(handmade.rows(p))
    run = load_run(write(tmp_path / "deep" / "run", p, r, 10, tmp_path / "t.parquet"))
    for group in ("server", "core", "channel", "sample"):
        before, after = getattr(r, group), getattr(run.result, group)
        assert list(before) == list(after)
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])
    for name in ("scores", "first_spike_ps", "decision_ps", "completion_ps", "slice_spikes", "spikes"):
        np.testing.assert_array_equal(getattr(r, name), getattr(run.result, name))
    assert run.labels is not None
    assert run.labels.tolist() == LABELS.tolist()
    assert run.predictions.tolist() == [1, 1]
    again = price(run.program, run.result, host_macs_per_sample=run.host_macs_per_sample)
    assert str(again) == str(price(p, r, host_macs_per_sample=10))
    assert run.info["digests"]["program"] == p.digest()
    assert run.info["seed"] == 7
    assert run.info["command"] == ["run", "x.nsim"]
    assert run.summary["run_dir"] == str(run.path)
    assert run.trace_path == run.path / "trace.parquet"
    assert sorted(entry.name for entry in run.path.parent.iterdir()) == ["run"]  # nothing temporary left


def test_counters_can_be_read_without_neurosim(tmp_path: Path) -> None:
    p = handmade.program()
    table = pq.read_table(write(tmp_path / "run", p, handmade.busy(p)) / "counters.parquet").to_pylist()
    named = {(row["scope"], row["name"], row["counter"]): row["value"] for row in table}
    assert named["core", "core 1", "synops"] == 10
    assert named["server", "core 0 soma", "held_ps"] == 30
    assert named["slice", "hidden.lif on core 0", "spikes"] == 9


def test_an_older_run_and_its_pictures_are_replaced(tmp_path: Path) -> None:
    p = handmade.program()
    folder = write(tmp_path / "run", p, handmade.busy(p))
    (folder / "energy.png").write_bytes(b"picture")
    write(folder, p, handmade.result(p))
    assert load_run(folder).result.core["synops"].sum() == 0
    assert not (folder / "energy.png").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("kind", ["file", "folder", "run with notes"])
def test_what_is_not_ours_is_left_alone(tmp_path: Path, kind: str) -> None:
    p = handmade.program()
    target = tmp_path / "mine"
    if kind == "file":
        target.write_text("precious")
        precious = target
    else:
        if kind == "folder":
            target.mkdir()
        else:
            write(target, p, handmade.busy(p))
        precious = target / "notes.txt"
        precious.write_text("precious")
    with pytest.raises(RunError, match="choose another path"):
        write(target, p, handmade.busy(p))
    assert precious.read_text() == "precious"


def test_a_full_disk_leaves_the_older_run_and_nothing_else(tmp_path: Path) -> None:
    p = handmade.program()
    folder = write(tmp_path / "run", p, handmade.busy(p))
    before = (folder / "run.json").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(RunError, match=r"cannot write run directory .*; nothing was kept, free space"):
            write(folder, p, handmade.result(p))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (folder / "run.json").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_broken_directories_are_refused(tmp_path: Path) -> None:
    p = handmade.program()
    folder = write(tmp_path / "run", p, handmade.busy(p))
    with pytest.raises(DataError, match="is no run directory"):
        load_run(tmp_path)
    whole = (folder / "counters.parquet").read_bytes()
    (folder / "counters.parquet").write_bytes(whole[:100])
    with pytest.raises(DataError, match="is damaged"):
        load_run(folder)
    (folder / "counters.parquet").write_bytes(whole)
    outputs = (folder / "outputs.npz").read_bytes()
    (folder / "outputs.npz").write_bytes(outputs[: len(outputs) // 2])
    with pytest.raises(DataError, match="is damaged"):
        load_run(folder)
    (folder / "outputs.npz").unlink()
    with pytest.raises(DataError, match=r"outputs\.npz is missing"):
        load_run(folder)
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {"version": 99}))
    with pytest.raises(DataError, match="version 99, this neurosim reads version 3"):
        load_run(folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        load_run(folder)
