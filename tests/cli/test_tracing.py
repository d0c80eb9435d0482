"""What a run keeps of its trace, by the options of ``run``, and what ``trace`` answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from neurosim.trace import load_run, read_trace, trace_info

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
