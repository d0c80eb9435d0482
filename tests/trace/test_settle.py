"""What a run in settle says about itself: outputs, counts, prices, why a neuron changed its mind, and which one could not make it up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from neurosim import api
from neurosim.cli.main import app
from neurosim.engine.events import DUE, ROW_PUT, ROW_SERVICE
from neurosim.golden import run_graph
from neurosim.report.exports import export
from neurosim.trace import critical_path, events_of, load_run, why_fired
from neurosim.trace import findings as rules
from neurosim.trace.store import read_trace
from tests.cli.conftest import small_network

IMAGES = np.random.default_rng(6).integers(0, 256, (3, 1, 6, 6), dtype=np.uint8)


@pytest.fixture(scope="module", params=[False, True], ids=["isolated", "streamed"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[api.Run, Path, Path]:
    """A run of three images, its directory, its program; with neurons that change their minds, for all wait for nothing."""
    folder = tmp_path_factory.mktemp("settle")
    program = api.build(small_network(steps=1), "tiny", "settle", ["arithmetic.settle_order=age"])
    program.save(folder / "p.nsim")
    run = api.simulate(program, IMAGES, engine="reference", record=folder / "t.parquet", streamed=request.param)
    return run, run.save(folder / "run"), folder / "p.nsim"


def test_outputs_scores_and_summary_are_those_of_one_step(made: tuple[api.Run, Path, Path]) -> None:
    run = made[0]
    compiled = api.compile_model(small_network(steps=1), "tiny", "settle")
    golden = run_graph(compiled.integer, IMAGES, compiled.program.chip)
    for name in ("mid.lif",):
        assert run.spikes(name).dtype == np.uint8
        assert np.array_equal(run.spikes(name), golden.spikes[name])
    assert np.array_equal(run.readout, golden.scores)
    s = run.summary()
    assert s["spikes"] == int(golden.counts["mid.lif"].sum())
    assert s["packets"] == int(run.counters["core"]["packets_sent"].sum()) > 0
    assert s["retracted"] == int((run.result.spikes["value"] < 0).sum()) > 0
    assert (s["unsettled"], s["sync"]) == (0, "settle")


def test_a_due_neuron_costs_an_access_and_what_it_says_an_update_and_a_fire(made: tuple[api.Run, Path, Path]) -> None:
    run = made[0]
    core, lines = run.counters["core"], {line.event: line for line in run.energy().lines}
    due = read_trace(run.trace_path)  # type: ignore[arg-type]  # it was recorded
    due = due[(due["kind"] == ROW_SERVICE) & (due["item"] == DUE)]
    assert lines["neurons visited"].count == len(due) == core["fires"].sum() + core["cancelled"].sum()
    assert lines["neurons updated"].count == lines["spikes fired"].count == np.count_nonzero(due["value"]) == len(run.result.spikes)
    assert sum(share.soma for share in run.energy().populations) == pytest.approx(run.energy().core_fj["soma"].sum())


def test_why_says_what_a_neuron_took_back_and_how_often_it_changed_its_mind(made: tuple[api.Run, Path, Path]) -> None:
    run, path, file = made
    stored, program = load_run(path), api.build(small_network(steps=1), "tiny", "settle", ["arithmetic.settle_order=age"])
    row = run.result.spikes[run.result.spikes["value"] < 0][0]
    c0, c1, y0, _, x0, x1 = program.slice_box[row["slice"]].tolist()
    pixel, c = divmod(int(row["address"]), c1 - c0)
    y, x = divmod(pixel, x1 - x0)
    neuron = f"mid.lif ({c + c0}, {y + y0}, {x + x0})"
    answer = why_fired(stored, program, neuron, int(row["sample"]), int(row["time"]) + 1)
    assert answer["fired"]
    assert answer["time"] == row["time"]
    assert f"{neuron} took 1 back at" in answer["text"]
    assert "no longer reaches threshold" in answer["text"]
    assert "changed its mind" in answer["text"]
    assert answer["membrane"] < answer["threshold"]
    assert file.exists()


def test_exports_and_the_critical_path_name_due_neurons(made: tuple[api.Run, Path, Path], tmp_path: Path) -> None:
    stored = load_run(made[1])
    path = critical_path(events_of(stored), stored.result, 0, "completion")
    assert any(segment.part == "due" and segment.item.startswith("due mid.lif (") for segment in path.segments)
    for suffix in (".json", ".pftrace", ".vcd"):
        assert export(stored, tmp_path / f"t{suffix}").stat().st_size > 1000
    assert '"due mid.lif (' in (tmp_path / "t.json").read_text()
    rows = read_trace(stored.trace_path)  # type: ignore[arg-type]  # it was recorded
    assert np.array_equal(np.unique(rows["value"][(rows["kind"] == ROW_PUT) & (rows["value"] < 0)]), [-1])


def test_a_neuron_that_changes_its_mind_often_is_named(made: tuple[api.Run, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = made[0]
    assert not [f for f in run.summary()["findings"] if f["kind"] == "neuron undecided"]
    monkeypatch.setattr(rules, "MIND_CHANGES", 2)
    keys = ("sample", "slice", "address")
    most = np.unique(np.stack([run.result.spikes[key] for key in keys]), axis=1, return_counts=True)[1].max()
    found = [f for f in run.summary()["findings"] if f["kind"] == "neuron undecided"]
    assert len(found) == 1
    assert found[0]["value"] == most
    assert f"changed its mind {most} times in sample" in found[0]["text"]


@pytest.mark.parametrize("sync", ["free", "settle", "wavefront"])
def test_answers_along_the_way_end_with_the_runs_own(sync: str, tmp_path: Path) -> None:
    program = api.build(small_network(steps=1), "tiny", sync)
    labels = np.array([0, 1, 2])
    run = api.simulate(program, IMAGES, engine="reference", labels=labels)
    curves = run.anytime(50)
    assert curves.accuracy is not None
    assert curves.accuracy[-1] == run.accuracy
    assert curves.final[-1] == 1
    assert np.all(np.diff(curves.final) >= 0)
    assert np.all(np.diff(curves.energy_fj) >= 0)
    assert curves.energy_fj[-1] == pytest.approx(run.energy().per_sample()["total"])
    changed = run.result.decision_ps[:, None] <= curves.time_ps[None, :]
    assert np.all(curves.final >= changed.mean(axis=0))  # what was decided is final
    again = load_run(run.save(tmp_path / "run"))
    assert np.array_equal(again.result.anytime, run.result.anytime)


def test_a_sample_stops_once_its_margin_has_stood(tmp_path: Path) -> None:
    program = api.build(small_network(steps=1), "tiny", "settle")
    whole = api.simulate(program, IMAGES, engine="reference")
    stopped = api.simulate(program, IMAGES, engine="reference", stop_margin=1, stop_after="1 ns", record=tmp_path / "t.parquet")
    assert stopped.result.sample["stopped"].any()
    assert stopped.summary()["synops"] < whole.summary()["synops"]
    stored = load_run(stopped.save(tmp_path / "run"))
    assert export(stored, tmp_path / "t.json").exists()


def test_the_command_line_compiles_from_another_rest_and_stops_early(tmp_path: Path) -> None:
    small_network(steps=1).save(tmp_path / "small.nsnet")
    np.savez(tmp_path / "data.npz", images=IMAGES)

    def said(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout))

    compiled = ["compile", str(tmp_path / "small.nsnet"), "--chip", "tiny", "--sync", "settle"]
    said(*compiled, "--rest", str(tmp_path / "data.npz"), "-o", str(tmp_path / "first.nsim"))
    said(*compiled, "-o", str(tmp_path / "black.nsim"))
    ran = ["--input", str(tmp_path / "data.npz"), "--engine", "reference"]
    first, black = (said("run", str(tmp_path / f"{name}.nsim"), *ran) for name in ("first", "black"))
    assert first["predictions"] == black["predictions"]
    assert first["synops"] < black["synops"]  # the first image differs from itself in nothing
    early = said("run", str(tmp_path / "black.nsim"), *ran, "--stop-margin", "1", "--stop-after", "1 ns")
    assert early["synops"] < black["synops"]
    wrong = CliRunner().invoke(app, [*compiled, "--rest", "grey", "-o", str(tmp_path / "x.nsim")])
    assert wrong.exit_code == 2
