"""The commands as a user types them: what they print, what they write, and the stable names of their JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

Command = Callable[..., Result]
RUN_KEYS = {
    "samples", "accuracy", "predictions", "spikes", "synops", "packets", "hops", "latency_ps", "throughput_per_s", "energy_fj", "stalls_ps",
    "saturations", "engine", "sync", "chip", "wall_s", "run_dir",
}  # fmt: skip


def parsed(result: Result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_check_says_what_becomes_of_every_layer(neurosim: Command) -> None:
    answer = parsed(neurosim("check", "small.nsnet", "--chip", "async-mesh", "--json"))
    assert answer["ok"] is True
    assert {"enc.conv", "enc.lif", "mid.conv", "mid.lif", "head"} <= {row["layer"] for row in answer["layers"]}
    for row in answer["layers"]:
        assert set(row) == {"layer", "op", "status", "value", "limit", "reason", "remedy"}
        assert row["status"] in {"native", "rewritten"}
    assert "small.nsnet runs on async-mesh" in neurosim("check", "small.nsnet").stdout


def test_compile_reports_cores_memory_rewrites(neurosim: Command, folder: Path) -> None:
    answer = parsed(neurosim("compile", "small.nsnet", "--chip", "async-mesh", "-o", "other.nsim", "--json"))
    (folder / "other.nsim").unlink()
    assert answer["cores_used"] >= 2
    assert answer["synapses"] > answer["weights"] > 0
    assert all(core["bytes"] <= answer["limits"]["bytes"] and core["neurons"] <= answer["limits"]["neurons"] for core in answer["memory"])
    assert {row["layer"] for row in answer["rewrites"]} >= {"enc.conv", "mid.lif", "head"}


def test_run_trace_compare(neurosim: Command, folder: Path) -> None:
    run = parsed(neurosim("run", "small.nsim", "--input", "data.npz", "--record", "t.parquet", "-o", "out", "--json"))
    assert set(run) >= RUN_KEYS
    assert run["samples"] == 5
    assert len(run["predictions"]) == 5
    assert set(run["energy_fj"]) == {"synapse", "soma", "noc", "io", "static", "chip", "host", "total"}
    assert run["energy_fj"]["total"] == pytest.approx(run["energy_fj"]["chip"] + run["energy_fj"]["host"])
    assert run["energy_fj"]["chip"] == pytest.approx(sum(run["energy_fj"][k] for k in ("synapse", "soma", "noc", "io", "static")))
    assert set(run["latency_ps"]) == {"first_spike", "decision", "completion"}
    assert (folder / "t.parquet").exists()

    cores = parsed(neurosim("trace", "out", "--json"))["cores"]
    assert sum(core["synops"] for core in cores) == run["synops"]
    core = next(core["core"] for core in cores if core["synops"])
    rows = parsed(neurosim("trace", "out", "--core", str(core), "--sample", "1", "--limit", "7", "--json"))
    assert len(rows["rows"]) == 7 < rows["total"]
    assert "synapse" in neurosim("trace", "out", "--core", str(core)).stdout

    compared = parsed(neurosim("compare", "out", "--baseline", "h200", "--baseline", "orin-nano", "--json"))["rows"]
    assert {"h200", "orin-nano"} <= {row["platform"] for row in compared}
    for row in compared:
        assert {"platform", "batch", "energy_gross_fj", "energy_dynamic_fj", "latency_ps", "ratio_total", "ratio_chip"} <= set(row)
    assert "h200" in neurosim("compare", "out").stdout


@pytest.mark.parametrize("options", [(), ("--stream",), ("--jitter", "0.2", "--seed", "3")])
def test_engines_agree_through_the_command_line(neurosim: Command, options: tuple[str, ...]) -> None:
    fast, reference = (
        parsed(neurosim("run", "small.nsim", "--input", "data.npz", "--samples", "2", "--engine", engine, *options, "--json"))
        for engine in ("fast", "reference")
    )
    differing = {key for key in RUN_KEYS if fast[key] != reference[key]}
    assert differing <= {"engine", "wall_s"}
    assert (fast["throughput_per_s"] is not None) == ("--stream" in options)


def test_free_runs_of_the_same_model(neurosim: Command, folder: Path) -> None:
    parsed(neurosim("compile", "small.nsnet", "--sync", "free", "-o", "free.nsim", "--json"))
    run = parsed(neurosim("run", "free.nsim", "--input", "data.npz", "--json"))
    (folder / "free.nsim").unlink()
    assert run["sync"] == "free"
    assert run["throughput_per_s"] > 0


def test_jobs_do_not_change_the_result(neurosim: Command) -> None:
    one, two = (parsed(neurosim("run", "small.nsim", "-i", "data.npz", "-j", jobs, "--json")) for jobs in ("1", "2"))
    assert {k: v for k, v in one.items() if k != "wall_s"} == {k: v for k, v in two.items() if k != "wall_s"}


def test_unlabelled_images_have_no_accuracy(neurosim: Command, folder: Path) -> None:
    np.savez(folder / "plain.npz", images=np.zeros((1, 6, 6), np.uint8))
    run = parsed(neurosim("run", "small.nsim", "--input", "plain.npz", "--json"))
    (folder / "plain.npz").unlink()
    assert run["accuracy"] is None


def test_chips(neurosim: Command) -> None:
    listed = parsed(neurosim("chips", "--json"))["chips"]
    assert {"async-mesh", "ideal", "tiny"} <= {chip["name"] for chip in listed}
    text = neurosim("chips", "async-mesh", "--set", "timing.synop=2 ns").stdout
    assert "DAV time per tile hop" in text or "DAV latency per tile hop" in text
    assert "set by the user" in text
    assert parsed(neurosim("chips", "tiny", "--json"))["noc"]["fifo"] == 2


def test_version_and_help(neurosim: Command) -> None:
    assert neurosim("--version").stdout.startswith("neurosim ")
    listed = neurosim("--help").stdout
    assert all(command in listed for command in ("demo", "check", "compile", "run", "trace", "compare", "chips"))


def test_barrier_faults_and_windows(neurosim: Command, folder: Path) -> None:
    text = neurosim("compile", "small.nsnet", "--chip", "ideal", "--sync", "barrier", "--set", "memory.neurons=60", "-o", "barrier.nsim")
    assert "steps after its input" in text.stdout
    sound = parsed(neurosim("run", "barrier.nsim", "--input", "data.npz", "--json"))
    faulty = ("--link-loss", "0.5", "--dead-core", "0", "--weight-flip", "0.01", "--stuck-at-0", "0.01", "--stuck-at-1", "0.01", "--seed", "3")
    broken = parsed(neurosim("run", "barrier.nsim", "--input", "data.npz", *faulty, "--json"))
    assert sound["sync"] == "barrier"
    assert sound["losses"] == 0 != broken["losses"]
    (folder / "barrier.nsim").unlink()
    neurosim("compile", "small.nsnet", "--sync", "free", "-o", "free.nsim")
    cut = parsed(neurosim("run", "free.nsim", "--input", "data.npz", "--window", "1 us", "--json"))
    assert cut["cut"] == cut["samples"]
    (folder / "free.nsim").unlink()
