"""A small network, its compiled program and some data, made through the same surfaces that a user has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from neurosim.cli.main import app
from neurosim.network import Network


def small_network(scale: float = 1.0, steps: int = 2) -> Network:
    """Two spiking layers behind a host-encoded convolution, four classes."""
    rng = np.random.default_rng(5)
    net = Network("small", steps=steps, class_names=("a", "b", "c", "d"))
    x = net.input("image", (1, 6, 6), dtype="uint8", scale=255.0)
    x = net.lif("enc.lif", net.conv2d("enc.conv", x, rng.normal(0.4, 1, (4, 1, 3, 3)), padding=1))
    x = net.lif("mid.lif", net.conv2d("mid.conv", x, rng.normal(0.1, 0.4, (6, 4, 3, 3)) * scale, padding=1))
    net.output(net.linear("head", net.flatten("flat", x), rng.normal(0, 0.3, (4, 216)), np.zeros(4)))
    return net


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.nsnet, data.npz and small.nsim."""
    path = tmp_path_factory.mktemp("user")
    small_network().save(path / "small.nsnet")
    rng = np.random.default_rng(6)
    np.savez(path / "data.npz", images=rng.integers(0, 256, (5, 1, 6, 6), dtype=np.uint8), label=np.arange(5) % 4)
    result = CliRunner().invoke(app, ["compile", str(path / "small.nsnet"), "--chip", "async-mesh", "-o", str(path / "small.nsim")])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def neurosim(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command line in that folder."""
    monkeypatch.chdir(folder)
    runner = CliRunner()

    def invoke(*args: str) -> Result:
        return runner.invoke(app, list(args))

    return invoke


@pytest.fixture
def refuse(neurosim: Callable[..., Result], folder: Path) -> Callable[..., str]:
    """Run a command that must end in one clear line and exit code 2, leaving nothing behind; gives the line."""

    def run(*args: str) -> str:
        before = {p.name for p in folder.iterdir()}
        result = neurosim(*args)
        assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert "Traceback" not in result.output
        assert {p.name for p in folder.iterdir()} == before
        return lines[0]

    return run
