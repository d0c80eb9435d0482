"""A run of the reference engine, stored and read back: what the trace says and what the counters say is the same thing."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.energy import price
from neurosim.engine.events import ROW_PUT, ROW_SERVICE, SPIKE, Options, Stimulus
from neurosim.engine.reference import run_reference
from neurosim.trace import StoredRun, TraceWriter, core_summary, load_run, read_trace, summarise, trace_rows, write_run
from tests.energy import handmade


@pytest.fixture(scope="module", params=["wavefront", "free"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    folder = tmp_path_factory.mktemp(request.param)
    p = handmade.program(request.param)
    steps = np.array([0, 0, 0, 0] if request.param == "free" else [0, 0, 1, 1], np.int32)
    stimulus = Stimulus(
        due_ps=np.zeros(4, np.int64),
        step=steps,
        item=np.full(4, SPIKE, np.uint8),
        slice=np.full(4, p.slices, np.int32),
        address=np.arange(4, dtype=np.int32),
        value=np.ones(4, np.int64),
    )
    with TraceWriter(folder / "t.parquet", p, row_group=16) as writer:
        result = run_reference(p, [stimulus, stimulus], Options(record=True), sink=writer)
    energy = price(p, result)
    path = write_run(folder / "run", p, result, Options(record=True), summarise(p, result, energy), energy=energy, trace_path=folder / "t.parquet")
    return load_run(path)


def test_services_synops_and_times_of_the_trace_are_the_counters(run: StoredRun) -> None:
    assert run.trace_path is not None
    rows = read_trace(run.trace_path)
    services = rows[rows["kind"] == ROW_SERVICE]
    count = len(run.program.server_kind)
    np.testing.assert_array_equal(np.bincount(services["server"], minlength=count), run.result.server["services"])
    busy = np.zeros(count, np.int64)
    np.add.at(busy, services["server"], services["end"] - services["time"] - services["blocked"])
    np.testing.assert_array_equal(busy, run.result.server["busy_ps"])
    synops = np.zeros(run.program.cores, np.int64)
    served = services[services["synops"] > 0]
    np.add.at(synops, run.program.server_owner[served["server"]], served["synops"])
    np.testing.assert_array_equal(synops, run.result.core["synops"])
    assert synops.sum() > 0


def test_the_fires_of_the_trace_are_the_spikes_of_the_summary(run: StoredRun) -> None:
    assert run.trace_path is not None
    rows = read_trace(run.trace_path)
    kind = run.program.server_kind[rows["server"]]
    station = 1 if run.program.sync == "free" else 2
    fires = rows[(rows["kind"] == ROW_PUT) & (kind == station) & (rows["item"] == SPIKE)]
    assert len(fires) == run.summary["spikes"] == len(run.result.spikes) > 0
    assert run.summary["energy_fj"]["soma"] >= run.summary["spikes"] / 2 * 69300


def test_what_happened_at_a_core_can_be_read_in_words(run: StoredRun) -> None:
    summary = {row["core"]: row for row in core_summary(run)}
    core = next(c for c, row in summary.items() if row["spikes"])
    rows = trace_rows(run, core=core, sample=1)
    assert {row["station"].split()[1] for row in rows} == {str(core)}
    assert any(row["kind"] == "put" and row["item"] == "spike" and row["population"] == "hidden.lif" for row in rows)
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    busy = summary[core]["synapse_busy"] * run.result.window_ps
    assert busy == pytest.approx(run.result.server["busy_ps"][1 + 3 * core])
