"""Names of layers and files are printed as they are, whatever they mean to the library that prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from neurosim.network import Network

Command = Callable[..., Result]
FIRST, SECOND, HEAD = "blocks[0].lif", "[/red][bold]lif", "head[:lock:]"


@pytest.fixture
def folder_of_names(folder: Path) -> Path:
    rng = np.random.default_rng(4)
    net = Network("net[1]", steps=2, class_names=("a[0]", "b"))
    x = net.lif(
        FIRST, net.conv2d("conv[0]", net.spikes_input("in[0]", (2, 4, 4), step_time_us=1000.0), rng.normal(0.4, 0.6, (4, 2, 3, 3)), padding=1)
    )
    x = net.lif(SECOND, net.conv2d("conv[/]", x, rng.normal(0.2, 0.4, (3, 4, 3, 3)), padding=1))
    net.output(net.linear(HEAD, net.flatten("flat", x), rng.normal(0, 0.3, (2, 48))))
    net.save(folder / "names.nsnet")
    t = np.sort(rng.integers(0, 1990, 60))
    events = {"t": t, "x": rng.integers(0, 4, 60), "y": rng.integers(0, 4, 60), "p": 2 * rng.integers(0, 2, 60) - 1, "offsets": np.array([0, 60, 60])}
    np.savez(folder / "rec[0].npz", **events)
    return folder


def test_names_in_brackets(folder_of_names: Path, neurosim: Command, refuse: Callable[..., str]) -> None:
    def shown(*args: str) -> str:
        result = neurosim(*args)
        assert result.exit_code == 0, (args, result.output, result.exception)
        return result.stdout + result.stderr

    assert all(name in shown("check", "names.nsnet", "--chip", "ideal") for name in (FIRST, SECOND))
    assert FIRST in shown("compile", "names.nsnet", "--chip", "async-mesh", "-o", "names[0].nsim", "--report")
    run = ("run", "names[0].nsim", "-i", "rec[0].npz", "--engine", "reference", "--record-level", "events", "-o", "out[0]")
    assert "rec[0].npz: polarities are -1 and 1" in refuse(*run)
    assert "start 'somewhere' of event recordings is unknown; choose file or first" in refuse(*run, "--start", "somewhere")
    words = shown(*run, "--repair", "--keep-empty", "--start", "file")
    assert "polarities of -1 taken as 0" in words
    assert words.startswith("2 samples")
    assert "run directory out[0]" in words
    assert all(name in shown("trace", "out[0]") for name in (FIRST, SECOND, HEAD))
    assert FIRST in shown("trace", "out[0]", "--population", FIRST)
    assert FIRST in shown("trace", "out[0]", "--why", f"{FIRST} (0, 0, 0)", "--program", "names[0].nsim")
    for question in ("--critical-path", "--back-pressure", "--links", "--findings"):
        shown("trace", "out[0]", question)
    shown("energy", "out[0]")
    shown("compare", "out[0]")
    assert "wrote page[0].html" in shown("report", "out[0]", "-o", "page[0].html")
