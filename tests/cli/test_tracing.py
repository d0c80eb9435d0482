"""What a run keeps of its trace, by the options of ``run``, and what ``trace`` answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from neurosim.api import _Observer, simulate
from neurosim.cli.tracing import tell_deadlock
from neurosim.engine.events import Options
from neurosim.engine.reference import run_reference
from neurosim.errors import Deadlock, RunError
from neurosim.program import load_program
from neurosim.trace import load_run, read_trace, trace_info
from neurosim.trace.names import neuron_name
from neurosim.units import format_time
from tests.engine.networks import chain, spikes

Command = Callable[..., Result]
RUN = ("run", "small.nsim", "-i", "data.npz", "--samples", "2", "--engine", "reference", "--json")


def parsed(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_level_and_a_window_without_a_file_go_into_the_run_directory(neurosim: Command, folder: Path) -> None:
    before = {p.name for p in folder.iterdir()} | {"deep"}
    run = parsed(neurosim(*RUN, "--record-level", "spikes", "-o", "deep/spikes"))
    assert {p.name for p in (folder / "deep").iterdir()} == {"spikes"}
    rows = read_trace(folder / "deep" / "spikes" / "trace.parquet")
    assert len(rows) == run["spikes"] + run["injected_spikes"] + run["injected_currents"]
    neurosim(*RUN, "--record-level", "events", "--record-to", "100ns", "--record-population", "mid.lif", "-o", "deep/window")
    stored = load_run("deep/window")
    assert stored.trace_path is not None
    assert trace_info(stored.trace_path).header["recorded"] == {
        "level": "events", "from_ps": None, "to_ps": 100_000, "cores": None, "populations": ["mid.lif"],
    }  # fmt: skip
    assert {p.name for p in folder.iterdir()} == before


def test_a_busy_core_says_since_when_although_the_trace_has_moved(neurosim: Command, folder: Path) -> None:
    """The summary after saving reads the trace where it is then: in the run directory."""
    assert neurosim("compile", "small.nsnet", "--chip", "async-mesh", "--set", "timing.access=1us", "-o", "busy.nsim").exit_code == 0
    for level, since in (("events", True), ("spikes", False)):
        run = parsed(neurosim("run", "busy.nsim", *RUN[2:], "--record-level", level, "-o", f"busy-{level}"))
        assert run["findings"] == parsed(neurosim("trace", f"busy-{level}", "--findings", "--json"))["findings"]
        assert any("is saturated" in finding["text"] for finding in run["findings"])
        assert any("since" in finding["text"] for finding in run["findings"]) == since
    done = simulate(load_program("busy.nsim"), "data.npz", samples=2, engine="reference", record="own.parquet")
    with_trace = done.summary()["findings"]
    Path("own.parquet").rename("moved.parquet")
    assert [f["value"] for f in done.summary()["findings"]] == [f["value"] for f in with_trace]  # since when is a courtesy
    with pytest.raises(RunError, match=r"trace own.parquet of this run is gone; .*trace_path = None"):
        done.save("never")
    Path("moved.parquet").rename("own.parquet")
    done.save("owned")
    Path("own.parquet").unlink()
    assert done.summary()["findings"] == with_trace
    assert not Path("never").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--record-level", "all", "-o", "x"), "there are counters, spikes, events"),
        (("--record-level", "events"), "add --record T.parquet or -o RUN_DIR"),
        (("--record-level", "counters", "--record", "t9.parquet"), "leave one of them out"),
        (("--record-to", "5us", "-o", "x"), "--record-to limits a trace, and this run makes none"),
        (("--record", "t9.parquet", "--record-core", "999"), "core 999 does not exist"),
    ],
)
def test_contradictions_are_refused(refuse: Callable[..., str], options: tuple[str, ...], words: str) -> None:
    assert words in refuse(*RUN, *options)


def test_questions_to_a_run(neurosim: Command, folder: Path) -> None:
    for name, seed in (("q1", "0"), ("q2", "0"), ("q3", "1")):
        parsed(neurosim(*RUN, "--record-level", "events", "--jitter", "0.2", "--seed", seed, "-o", name))
    stored = load_run("q1")
    path = parsed(neurosim("trace", "q1", "--critical-path", "--sample", "1", "--json"))
    assert path["latency_ps"] == stored.result.decision_ps[1] == sum(path["parts"].values()) == sum(s["lasts_ps"] for s in path["segments"])
    text = neurosim("trace", "q1", "--critical-path").stdout
    assert "to its decision" in text
    assert "readout" in text
    rows = parsed(neurosim("trace", "q1", "--back-pressure", "--json"))["back_pressure"]
    assert neurosim("trace", "q1", "--back-pressure").exit_code == 0
    assert sum(row["held_ps"] for row in rows) <= stored.result.server["blocked_ps"].sum()
    links = parsed(neurosim("trace", "q1", "--links", "--limit", "3", "--json"))["links"]
    assert [link["packets"] for link in links] == sorted((link["packets"] for link in links), reverse=True)
    assert parsed(neurosim("trace", "q1", "--against", "q2", "--json")) == {"same_program": True, "trace": True, "equal": True, "text": None}
    other = parsed(neurosim("trace", "q1", "--against", "q3", "--json"))
    assert not other["equal"]
    assert other["a"] != other["b"]
    assert "trace row" in neurosim("trace", "q1", "--against", "q3").stdout
    spikes = stored.result.spikes
    q, address = int(spikes["slice"][0]), int(spikes["address"][0])
    name = stored.program.meta["populations"][int(stored.program.slice_population[q])]["name"]
    neuron = f"{name} {neuron_name(stored.program.slice_box[q].tolist(), address)}"
    fired = parsed(neurosim("trace", "q1", "--why", neuron, "--program", "small.nsim", "--json"))
    assert (fired["fired"], fired["time"]) == (True, int(spikes["time"][0]))
    assert "contributions" in neurosim("trace", "q1", "--why", neuron, "--program", "small.nsim").stdout

    before = {p.name for p in folder.iterdir()}
    for file, more in (
        ("w.vcd", ("--from", "1ns", "--to", "90ns")),
        ("w.pftrace", ("--core", "0")),
        ("w.json", ()),
        ("w.npz", ("--population", name)),
    ):
        assert parsed(neurosim("trace", "q1", "--export", file, *more, "--json")) == {"export": file}
    assert {p.name for p in folder.iterdir()} - before == {"w.vcd", "w.pftrace", "w.json", "w.npz"}


def test_a_window_has_what_reaches_into_it_or_says_what_there_is(neurosim: Command, refuse: Callable[..., str]) -> None:
    parsed(neurosim(*RUN, "--record-level", "events", "-o", "wide"))
    rows = parsed(neurosim("trace", "wide", "--core", "0", "--limit", "100000", "--json"))["rows"]
    long = max((row for row in rows if row["lasts_ps"]), key=lambda row: row["lasts_ps"])
    middle = long["time"] + long["lasts_ps"] // 2
    window = ("--from", f"{middle}ps", "--to", f"{middle + 1}ps")
    assert long in parsed(neurosim("trace", "wide", "--core", "0", *window, "--json"))["rows"]
    first, last = rows[0]["time"], max(row["time"] + (row["lasts_ps"] or 0) for row in rows)
    told = refuse("trace", "wide", "--core", "0", "--from", "1s", "--to", "2s")
    assert f"no event of sample 0 at core 0 in that window; its events are from {format_time(first)} to {format_time(last)}" in told
    assert "core 63 holds no part of the network; those that do are 0 to 1" in refuse("trace", "wide", "--core", "63")
    assert "no event of sample 7; it has samples 0 to 1" in refuse("trace", "wide", "--sample", "7")
    assert "--from 2.00 us is not before --to 1.00 us" in refuse("trace", "wide", "--from", "2us", "--to", "1us")


def test_sql_over_a_run(neurosim: Command) -> None:
    pytest.importorskip("duckdb", reason="SQL needs duckdb")
    run = parsed(neurosim(*RUN, "--record-level", "events", "-o", "sql"))
    question = "SELECT sum(t.synops) FROM trace t JOIN servers USING (server) WHERE servers.kind = 'synapse' AND t.kind = 0"
    assert parsed(neurosim("trace", "sql", "--sql", question, "--json"))["rows"] == [[run["synops"]]]
    assert parsed(neurosim("trace", "sql", "--sql", "SELECT count(*) FROM spikes", "--json"))["rows"] == [[run["spikes"]]]
    assert neurosim("trace", "sql", "--sql", "SELECT counter, sum(value) FROM counters WHERE scope = 'core' GROUP BY 1").exit_code == 0
    assert "--sql:" in neurosim("trace", "sql", "--sql", "SELECT nothing").stderr


def test_questions_that_cannot_be_answered(neurosim: Command, refuse: Callable[..., str]) -> None:
    parsed(neurosim(*RUN, "-o", "bare"))
    parsed(neurosim(*RUN, "-o", "part", "--record-level", "spikes"))
    assert "run again with --record-level events" in refuse("trace", "bare", "--critical-path")
    assert "keeps only a part of its trace" in refuse("trace", "part", "--critical-path")
    assert "two questions" in refuse("trace", "bare", "--critical-path", "--links")
    assert "there are decision, completion, first_spike" in refuse("trace", "bare", "--critical-path", "--until", "noon")
    assert "add --program P.nsim" in refuse("trace", "bare", "--why", "mid.lif (0, 0, 0)")
    assert "no sample 9" in refuse("trace", "part", "--back-pressure", "--sample", "9")


def test_findings_of_a_run(neurosim: Command) -> None:
    run = parsed(neurosim(*RUN, "--record-level", "events", "-o", "told"))
    assert parsed(neurosim("trace", "told", "--findings", "--json"))["findings"] == run["findings"]


@pytest.mark.parametrize("json_", [True, False])
def test_a_deadlock_is_told_with_what_its_fifos_hold(json_: bool, capsys: pytest.CaptureFixture[str]) -> None:
    program = chain([8, 8, 8, 8, 1], [5] * 4, [2, 1, 3, 0], "free", mesh=(4, 1), noc__ports=[2])  # of tests/engine/test_machine.py
    stuck = spikes(program, [(0, k) for k in range(8)])
    quiet = spikes(program, [])

    def simulate(samples: int = 3, observe: Any = None) -> None:
        sink = None if observe is None else _Observer(observe)
        run_reference(program, [quiet, stuck, quiet][:samples], Options(record=sink is not None), sink=sink)

    with pytest.raises(Deadlock) as caught:
        simulate()
    tell_deadlock(program, caught.value, simulate, json_)
    told = capsys.readouterr().out
    text = json.loads(told)["findings"][0]["text"] if json_ else " ".join(told.split())
    depth = program.chip.noc.axon_out
    assert "of sample 1: core 1 waits for axon-out of core 1" in text
    assert f"axon-out of core 1 holds {depth} of {depth}: spike of p1" in text
