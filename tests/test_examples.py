"""The examples run as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("by_hand.py", ("lif2 fired", "native")),
        pytest.param("settle.py", ("settle noc.window=256: 100% right, scores equal", "frame 3"), marks=pytest.mark.slow),
        pytest.param("asynchrony.py", ("wavefront jitter  50%", "free      jitter   0%"), marks=pytest.mark.slow),
    ],
)
def test_example(name: str, words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, EXAMPLES / name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "quickstart.ipynb").read_text("utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # what a kernel does, in order
    run, program = names["run"], names["program"]
    assert run.summary()["accuracy"] >= 0.95  # type: ignore[attr-defined]  # a Run
    assert "34 of 64 for" in program._repr_html_()  # type: ignore[attr-defined]  # a Program
    assert "energy per sample" in run._repr_html_()  # type: ignore[attr-defined]
    assert names["free"].summary()["spikes"] / 2 > run.summary()["spikes"] / 20  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())
