from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from neurosim import api
from neurosim.cli.watch import View
from neurosim.engine.run import join_results


def test_watching_changes_nothing_and_sees_everything(folder: Path) -> None:
    from neurosim.program import load_program

    program = load_program(folder / "small.nsim")
    seen: list[tuple[int, int, int]] = []
    parts = []

    def watch(part: object, done: int, total: int) -> None:
        parts.append(part)
        seen.append((len(part.scores), done, total))  # type: ignore[attr-defined]  # a Result

    plain = api.simulate(program, folder / "data.npz", engine="reference")
    watched = api.simulate(program, folder / "data.npz", engine="reference", watch=watch)
    n = len(plain.result.scores)
    assert sum(size for size, _, _ in seen) == n
    assert seen[-1][1:] == (n, n)
    for result in (watched.result, join_results(parts)):  # type: ignore[arg-type]  # Results
        np.testing.assert_array_equal(result.scores, plain.result.scores)
        for name, values in plain.result.core.items():
            np.testing.assert_array_equal(result.core[name], values)


def test_the_view_shows_progress_spikes_energy_and_cores(folder: Path) -> None:
    from neurosim.program import load_program

    program = load_program(folder / "small.nsim")
    now = iter(range(100))
    view = View(program, clock=lambda: float(next(now)))
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(view)
    assert "waiting" in console.export_text()
    run = api.simulate(program, folder / "data.npz", engine="reference", watch=view.add)
    console.print(view)
    shown = console.export_text()
    n = len(run.result.scores)
    assert f"{n} of {n} samples" in shown
    assert "spikes/s" in shown
    assert "J" in shown
    assert "busiest station" in shown


def test_watch_and_stream_exclude_each_other(neurosim: Callable[..., Any], folder: Path) -> None:
    result = neurosim("run", str(folder / "small.nsim"), "--input", str(folder / "data.npz"), "--watch", "--stream")
    assert result.exit_code == 2
    assert "leave one of --watch and --stream out" in result.output


@pytest.mark.parametrize("engine", ["reference"])
def test_the_command_watches(neurosim: Callable[..., Any], folder: Path, engine: str) -> None:
    result = neurosim("run", str(folder / "small.nsim"), "--input", str(folder / "data.npz"), "--watch", "--engine", engine)
    assert result.exit_code == 0
