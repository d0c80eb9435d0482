from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neurosim.engine.events import ROW_PUT, TRACE_DTYPE, Options
from neurosim.engine.reference import run_reference
from neurosim.errors import DataError, Deadlock, RunError
from neurosim.trace import Selection, TraceWriter, load_run, read_trace, trace_info, trace_rows
from tests.energy import handmade
from tests.engine.networks import chain, spikes
from tests.trace.test_rundir import write


def test_rows_come_back_in_order_whatever_the_chunks(tmp_path: Path) -> None:
    p = handmade.program()
    rows = handmade.rows(p, 50)
    rows["value"] = np.iinfo(np.int64).min + np.arange(50)
    path = tmp_path / "t.parquet"
    with TraceWriter(path, p, row_group=8) as writer:
        for k in range(0, 50, 7):
            writer.write(rows[k : k + 7])
            assert not path.exists()  # no half-written file under the final name
    np.testing.assert_array_equal(read_trace(path), rows)
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [8] * 6 + [2]
    assert "DELTA_BINARY_PACKED" in file.metadata.row_group(0).column(file.schema_arrow.names.index("time")).encodings
    info = trace_info(path)
    assert (info.rows, info.complete) == (50, True)
    assert info.header["program_digest"] == p.digest()
    assert info.header["servers"][2] == "core 0 soma"
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.parquet"]


def test_an_empty_trace_is_a_trace(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.parquet", handmade.program()):
        pass
    assert len(read_trace(tmp_path / "t.parquet")) == 0


def test_windows(tmp_path: Path) -> None:
    p = handmade.program()
    rows = handmade.rows(p, 40)
    path = tmp_path / "t.parquet"
    with TraceWriter(path, p, row_group=8) as writer:
        writer.write(rows)
    np.testing.assert_array_equal(read_trace(path, sample=1), rows[rows["sample"] == 1])
    np.testing.assert_array_equal(read_trace(path, from_ps=50, to_ps=90), rows[(rows["time"] >= 50) & (rows["time"] < 90)])
    np.testing.assert_array_equal(read_trace(path, cores=[0]), rows[rows["server"] != 0])
    np.testing.assert_array_equal(read_trace(path, populations=["out"]), rows[rows["slice"] == 1])
    with pytest.raises(DataError, match="core 9 does not exist; cores are 0 to 3"):
        read_trace(path, cores=[9])
    with pytest.raises(DataError, match=r"population 'x' does not exist; there are in, hidden\.lif, out"):
        read_trace(path, populations=["x"])


def test_a_deadlocked_run_keeps_its_rows_marked_incomplete_other_errors_keep_nothing(tmp_path: Path) -> None:
    p = handmade.program()

    def stopped_by(error: BaseException, path: Path) -> None:
        with TraceWriter(path, p) as writer:
            writer.write(handmade.rows(p))
            raise error

    with pytest.raises(Deadlock):
        stopped_by(Deadlock("stuck"), tmp_path / "dead.parquet")
    assert trace_info(tmp_path / "dead.parquet").complete is False
    assert len(read_trace(tmp_path / "dead.parquet")) == 10
    with pytest.raises(KeyboardInterrupt):
        stopped_by(KeyboardInterrupt(), tmp_path / "stopped.parquet")
    assert [entry.name for entry in tmp_path.iterdir()] == ["dead.parquet"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    p = handmade.program()
    rows = handmade.rows(p, 4000)
    rows["value"] = np.random.default_rng(0).integers(0, 2**60, 4000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(RunError, match=r"cannot write trace .*; nothing was kept, free space"), TraceWriter(tmp_path / "t.parquet", p) as writer:
            writer.write(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunError, match="cannot write trace"):
        TraceWriter(tmp_path / "nowhere" / "t.parquet", p)


def test_broken_and_foreign_files_are_refused(tmp_path: Path) -> None:
    p = handmade.program()
    path = tmp_path / "t.parquet"
    with pytest.raises(DataError, match="does not exist"):
        read_trace(path)
    with TraceWriter(path, p) as writer:
        writer.write(handmade.rows(p))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="broken, truncated"):
        read_trace(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(DataError, match="no neurosim trace"):
        trace_info(path)


def test_readable_rows(tmp_path: Path) -> None:
    p = handmade.program()
    rows = handmade.rows(p, 1)
    first = rows[0]
    first["value"] = 3
    first["time"], first["server"], first["end"], first["slice"], first["address"], first["dest"] = 1200, 1, 4700, 0, 4, 1
    first["blocked"], first["synops"], first["cause_server"], first["cause_service"] = 20, 2, 0, 3
    with TraceWriter(tmp_path / "t.parquet", p) as writer:
        writer.write(rows)
    run = load_run(write(tmp_path / "run", p, handmade.busy(p), trace=tmp_path / "t.parquet"))
    assert trace_rows(run, core=0) == [{
        "time": 1200, "station": "core 0 synapse", "kind": "service", "item": "spike", "population": "hidden.lif", "neuron": "(4, 0, 0)",
        "in_module": "", "value": 3, "step": 0, "dest": 1, "lasts": "3.50 ns", "blocked": "20.0 ps", "lasts_ps": 3500, "blocked_ps": 20, "synops": 2,
        "cause": "port 0 #3",
    }]  # fmt: skip
    assert len(trace_rows(run, core=0, from_ps=1201)) == 1  # it reaches into the window
    assert trace_rows(run, core=0, from_ps=1200 + 3500) == trace_rows(run, core=0, to_ps=1200) == []
    without = load_run(write(tmp_path / "bare", p, handmade.busy(p)))
    with pytest.raises(DataError, match="has no trace; run again with --record"):
        trace_rows(without)
    assert TRACE_DTYPE.names == tuple(pq.read_schema(run.path / "trace.parquet").names)


def test_levels_and_windows_while_recording(tmp_path: Path) -> None:
    p = chain([6, 5, 3], [2, 1], [0, 1], steps=2)
    stimuli = [spikes(p, [(0, 0), (0, 1), (0, 2), (1, 3)])] * 2
    result = run_reference(p, stimuli, Options(record=True))

    def recorded(**chosen: Any) -> Any:
        path = tmp_path / "t.parquet"
        with TraceWriter(path, p, selection=Selection(**chosen), row_group=16) as writer:
            for k in range(0, len(result.trace), 7):
                writer.write(result.trace[k : k + 7])
        assert trace_info(path).whole is (not chosen)
        return read_trace(path)

    rows = result.trace
    np.testing.assert_array_equal(recorded(), rows)
    fires = recorded(level="spikes")
    at_soma = fires[fires["kind"] == ROW_PUT]
    spike = ("sample", "step", "slice", "address", "time")
    assert sorted(at_soma[list(spike)].tolist()) == sorted(result.spikes[list(spike)].tolist()) != []
    assert len(fires) - len(at_soma) == int(result.sample["injected_spikes"].sum()) == 8
    np.testing.assert_array_equal(recorded(from_ps=100, to_ps=200), rows[(rows["time"] >= 100) & (rows["time"] < 200)])
    np.testing.assert_array_equal(recorded(cores=(1,)), rows[(rows["server"] >= 4) & (rows["server"] < 7)])
    np.testing.assert_array_equal(recorded(populations=("p0",), level="spikes"), at_soma)
    for chosen, words in (({"cores": (7,)}, "program: core 7 does not"), ({"populations": ("x",)}, "program: population 'x'")):
        with pytest.raises(DataError, match=words):
            recorded(**chosen)
    for chosen, words in (({"level": "all"}, "counters, spikes, events"), ({"from_ps": 5, "to_ps": 5}, "the end must lie after the start")):
        with pytest.raises(DataError, match=words):
            recorded(**chosen)
