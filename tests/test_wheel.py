"""The wheel alone: installed into an empty environment, without extras or torch, it runs the demo in an empty folder with the network off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

# a process that finds this on its path cannot reach any network: every connection attempt fails
NO_NETWORK = """
import socket

def _refuse(self, address):
    raise OSError(f"the network is off: {address}")

socket.socket.connect = _refuse
socket.socket.connect_ex = _refuse
"""


@pytest.mark.slow
def test_wheel_runs_the_demo_alone(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("neurosim-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    installed = {
        p["name"] for p in json.loads(subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True).stdout)
    }
    assert not installed & {"torch", "matplotlib", "nir", "h5py", "mlxtend"}

    (tmp_path / "off").mkdir()
    (tmp_path / "off" / "sitecustomize.py").write_text(NO_NETWORK)
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "off")}

    def demo(*options: str) -> Any:
        command = [tmp_path / "venv" / "bin" / "neurosim", "demo", "--json", *options]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    answer = demo()
    assert answer["run"]["samples"] == 200
    assert answer["run"]["accuracy"] > 0.95
    assert {p.name for p in (empty / "neurosim-demo").iterdir()} >= {"run.json", "counters.parquet", "outputs.npz", "trace.parquet"}
    assert [p.name for p in empty.iterdir()] == ["neurosim-demo"]
    # the second one that the demo recommends: its cores are busy, and the trace says since when
    assert any("since" in finding["text"] for finding in demo("--sync", "free", "--samples", "2", "-o", "free")["run"]["findings"])
    assert sorted(p.name for p in empty.iterdir()) == ["free", "neurosim-demo"]
