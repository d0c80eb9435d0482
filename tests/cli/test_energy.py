from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture
def run_dir(neurosim: Command, folder: Path) -> str:
    if not (folder / "priced").exists():
        done = neurosim("run", "small.nsim", "--input", "data.npz", "--engine", "reference", "-o", "priced")
        assert done.exit_code == 0, done.output
    return "priced"


def test_energy_by_book_layer_and_interval(neurosim: Command, run_dir: str) -> None:
    own = json.loads(neurosim("energy", run_dir, "--json").stdout)
    assert sum(own["energy_fj"][name] for name in ("synapse", "soma", "noc", "io", "static")) == pytest.approx(own["energy_fj"]["chip"])
    for name, value in own["energy_fj"].items():
        assert own["intervals_fj"][name]["low"] <= value <= own["intervals_fj"][name]["high"]
    assert sum(row["share"] for row in own["layers"]) < 1.0  # hops and ports belong to no layer
    assert own["sensitivity"][0]["swing"] >= own["sensitivity"][-1]["swing"]
    other = json.loads(neurosim("energy", run_dir, "--prices", "loihi-sanafe", "--json").stdout)
    assert other["energy_fj"]["synapse"] == pytest.approx(own["energy_fj"]["synapse"] * 35.5 / 23.6, rel=0.2)
    scaled = json.loads(neurosim("energy", run_dir, "--prices", "loihi-sanafe", "--node", "7hp", "--voltage", "0.7", "--json").stdout)
    assert scaled["energy_fj"]["synapse"] < other["energy_fj"]["synapse"]
    shrunk = json.loads(neurosim("energy", run_dir, "--node", "7hp", "--voltage", "0.7", "--json").stdout)
    assert shrunk["energy_fj"]["soma"] == pytest.approx(0.578 * own["energy_fj"]["soma"], rel=1e-2)
    assert "operations" in neurosim("energy", run_dir, "--layers").stdout
    assert "what moves the total most" in neurosim("energy", run_dir).stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--prices", "nope"], "price book 'nope' does not exist"),
        (["--node", "7hp"], "belong together"),
        (["--node", "3nm", "--voltage", "0.7"], "'3nm' has no scaling coefficients"),
        (["--prices", "truenorth-like", "--node", "7hp", "--voltage", "0.7"], "states no node and supply"),
    ],
)
def test_mistakes(neurosim: Command, run_dir: str, args: list[str], words: str) -> None:
    done = neurosim("energy", run_dir, *args)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())


def test_report_and_comparison(neurosim: Command, run_dir: str, tmp_path: Path) -> None:
    made = json.loads(neurosim("report", run_dir, "-o", str(tmp_path / "r.html"), "--json").stdout)
    assert made["bytes"] == (tmp_path / "r.html").stat().st_size
    compared = json.loads(neurosim("compare", run_dir, "-b", "a100", "-b", "epyc-7763", "--plot", str(tmp_path / "c.png"), "--json").stdout)
    assert [row["kind"] for row in compared["rows"]] == ["simulated", *["analytic"] * 4]
    assert {c["platform"] for c in compared["crossovers"]} == {"a100", "epyc-7763"}
    assert (tmp_path / "c.png").stat().st_size > 1000
    assert neurosim("compare", run_dir, "--record", "nope.json").exit_code == 2
