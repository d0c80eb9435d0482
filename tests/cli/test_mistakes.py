"""What a user can do wrong: one line with thing, value, limit, remedy, exit code 2, nothing half written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import Result

import neurosim
from neurosim.network import Network
from tests.cli.conftest import small_network

Refuse = Callable[..., str]
MODELS = Path(neurosim.__file__).parent / "data" / "models"


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A file or folder that the test makes and that is gone afterwards."""
    try:
        yield path
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_chip_too_small(refuse: Refuse) -> None:
    line = refuse("compile", "small.nsnet", "-o", "x.nsim", "--set", "memory.cores=1", "--set", "memory.neurons=50")
    assert "core" in line
    assert any(word in line for word in ("50", "1 ", "memory"))
    line = refuse("compile", "small.nsnet", "-o", "x.nsim", "--set", "memory.bytes=40")
    assert "40" in line


def test_unsupported_layer(refuse: Refuse, folder: Path, neurosim: Callable[..., Result]) -> None:
    net = Network("pooled")
    x = net.input("image", (1, 6, 6), scale=255.0)
    x = net.lif("lif", net.conv2d("conv", x, np.ones((2, 1, 3, 3)), padding=1))
    x = net.max_pool("pool", x, 2)
    net.output(net.linear("head", net.flatten("flat", x), np.ones((3, 18))))
    with file(folder / "pooled.nsnet") as path:
        net.save(path)
        line = refuse("compile", "pooled.nsnet", "-o", "x.nsim")
        assert "pool" in line
        assert "max_pool" in line
        checked = neurosim("check", "pooled.nsnet", "--json")
        assert checked.exit_code == 1
        rows = {row["layer"]: row for row in json.loads(checked.stdout)["layers"]}
        assert rows["pool"]["status"] == "refused"
        assert "--rewrite maxpool=or_pool" in rows["pool"]["remedy"]
        assert rows["conv"]["status"] != "refused"
        assert neurosim("check", "pooled.nsnet", "--rewrite", "maxpool=or_pool").exit_code == 0
        assert neurosim("compile", "pooled.nsnet", "-o", "x.nsim", "--rewrite", "maxpool=or_pool").exit_code == 0
        assert "maxpool=or_pool" in refuse("check", "pooled.nsnet", "--rewrite", "maxpool=sum")


def test_limits_of_the_chip_are_read_from_its_file(refuse: Refuse) -> None:
    line = refuse("compile", "small.nsnet", "-o", "x.nsim", "--set", "capabilities.ops.conv2d.kernel=2")
    assert "mid.conv" in line
    assert "3" in line
    assert "limit 2" in line


def test_broken_and_truncated_programs(refuse: Refuse, folder: Path) -> None:
    whole = (folder / "small.nsim").read_bytes()
    with file(folder / "bad.nsim") as bad:
        for data in (b"", b"not a zip", whole[: len(whole) // 2], whole[: len(whole) - 10]):
            bad.write_bytes(data)
            assert "bad.nsim" in refuse("run", "bad.nsim", "--input", "data.npz")
    assert "no-such.nsim" in refuse("run", "no-such.nsim", "--input", "data.npz")
    assert "neurosim-network" in refuse("run", "small.nsnet", "--input", "data.npz")


def test_program_of_another_version(refuse: Refuse, folder: Path) -> None:
    with file(folder / "old.nsim") as old:
        with zipfile.ZipFile(folder / "small.nsim") as source, zipfile.ZipFile(old, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                if name == "header.json":
                    data = json.dumps({**json.loads(data), "version": 99}).encode()
                target.writestr(name, data)
        line = refuse("run", "old.nsim", "--input", "data.npz")
        assert "99" in line
        assert "compile" in line


def test_unknown_names_get_a_suggestion(refuse: Refuse, folder: Path) -> None:
    assert "did you mean async-mesh" in refuse("compile", "small.nsnet", "--chip", "async-mush", "-o", "x.nsim")
    assert "did you mean fifo" in refuse("compile", "small.nsnet", "--set", "noc.fiffo=3", "-o", "x.nsim")
    assert "stmixer-mnist-t1" in refuse("check", "stmixer-mnist-t11")
    assert "wavefront" in refuse("compile", "small.nsnet", "--sync", "clocked", "-o", "x.nsim")
    assert "reference" in refuse("run", "small.nsim", "--input", "data.npz", "--engine", "quick")
    with file(folder / "mine.toml") as chip:
        chip.write_text('base = "async-mesh"\nname = "mine"\n[timing]\nsinop = "1 ns"\n')
        assert "did you mean synop" in refuse("chips", "mine.toml")


def test_checkpoints(refuse: Refuse, folder: Path) -> None:
    source = MODELS / "stmixer-mnist-t1"
    tensors, config = load_file(source.with_suffix(".safetensors")), json.loads(source.with_suffix(".json").read_text())

    def attempt(changed: dict[str, np.ndarray]) -> str:
        save_file(changed, folder / "m.safetensors")
        (folder / "m.json").write_text(json.dumps({**config, "weights": "m.safetensors"}))
        return refuse("check", "m.json")

    with file(folder / "m.safetensors") as weights, file(folder / "m.json"):
        assert "head.bias" in attempt({k: v for k, v in tensors.items() if k != "head.bias"})
        assert "extra.weight" in attempt({**tensors, "extra.weight": np.zeros(3, np.float32)})
        assert "head.weight" in attempt({**tensors, "head.weight": np.full_like(tensors["head.weight"], np.nan)})
        assert "head.weight" in attempt({**tensors, "head.weight": tensors["head.weight"][:, :5].copy()})
        weights.write_bytes(source.with_suffix(".safetensors").read_bytes()[:1000])
        assert "m.safetensors" in refuse("check", "m.json")
        weights.unlink()
        assert "m.safetensors" in refuse("check", "m.json")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((2, 5, 6), np.uint8)}, ("5", "6")),
        ({"images": np.full((2, 6, 6), 300, np.int64)}, ("300", "255")),
        ({"images": np.full((2, 6, 6), -1, np.int64)}, ("-1",)),
        ({"images": np.full((2, 6, 6), 0.5)}, ("float64", "uint8")),
        ({"images": np.full((2, 6, 6), np.nan)}, ("float64",)),
        ({"images": np.zeros((0, 6, 6), np.uint8)}, ("images",)),
        ({"images": np.zeros((2, 6, 6), np.uint8), "label": np.zeros(3)}, ("3", "2")),
        ({"images": np.zeros((2, 6, 6), np.uint8), "label": np.array([0, 9])}, ("9",)),
        ({"pictures": np.zeros((2, 6, 6), np.uint8)}, ("images",)),
    ],
)
def test_data_that_break_the_contract(refuse: Refuse, folder: Path, arrays: dict[str, np.ndarray], words: tuple[str, ...]) -> None:
    with file(folder / "bad.npz") as bad:
        np.savez(bad, **arrays)
        line = refuse("run", "small.nsim", "--input", "bad.npz", "-o", "new-run")
        assert all(word in line for word in words), line


def test_data_files_that_are_none(refuse: Refuse, folder: Path) -> None:
    with file(folder / "bad.npz") as bad:
        bad.write_bytes((folder / "data.npz").read_bytes()[:100])
        assert "bad.npz" in refuse("run", "small.nsim", "--input", "bad.npz")
    assert "none.npz" in refuse("run", "small.nsim", "--input", "none.npz")


def test_a_foreign_directory_is_not_overwritten(refuse: Refuse, folder: Path) -> None:
    with file(folder / "thesis") as thesis:
        thesis.mkdir()
        (thesis / "chapter1.txt").write_text("years of work")
        assert "thesis" in refuse("run", "small.nsim", "--input", "data.npz", "-o", "thesis")
        assert (thesis / "chapter1.txt").read_text() == "years of work"
    assert "no-run" in refuse("trace", "no-run")
    assert "no-run" in refuse("compare", "no-run")


def test_unknown_baseline(refuse: Refuse, neurosim: Callable[..., Result], folder: Path) -> None:
    with file(folder / "out2"):
        assert neurosim("run", "small.nsim", "--input", "data.npz", "-o", "out2").exit_code == 0
        assert "h200" in refuse("compare", "out2", "--baseline", "h2000")
        assert "no trace" in refuse("trace", "out2", "--core", "0")


def _limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


@pytest.mark.parametrize(
    "args",
    [
        ("compile", "small.nsnet", "-o", "full.nsim"),
        ("run", "small.nsim", "--input", "data.npz", "-o", "full-run"),
        ("run", "small.nsim", "--input", "data.npz", "--record", "full.parquet"),
    ],
)
def test_disk_full(folder: Path, args: tuple[str, ...]) -> None:
    """A process that may not write more than 2,000 bytes into a file sees what a full disk shows: an OSError in the middle of a write."""
    before = {p.name for p in folder.iterdir()}
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "neurosim", *args],
        cwd=folder,
        preexec_fn=_limit_file_size,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert {p.name for p in folder.iterdir()} == before


def _hear_interrupts() -> None:
    """A suite that runs in the background may have SIGINT ignored, which its children would inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_ctrl_c_leaves_nothing(folder: Path, engine: str) -> None:
    """Interrupted in the middle of a long run: exit code 130, one line, no run directory, no trace."""
    rng = np.random.default_rng(1)
    with file(folder / "long.npz") as long:
        np.savez(long, images=rng.integers(0, 256, (100_000, 6, 6), dtype=np.uint8))
        before = {p.name for p in folder.iterdir()}
        process = subprocess.Popen(
            [sys.executable, "-m", "neurosim", "run", "small.nsim", "-i", "long.npz", "--engine", engine, "--record", "t2.parquet", "-o", "long-run"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while not list(folder.glob("*t2.parquet*")) and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.1)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 130, stderr
        assert "interrupted" in stderr
        assert "Traceback" not in stderr
        assert {p.name for p in folder.iterdir()} == before


def test_network_of_nan_cannot_be_built() -> None:
    with pytest.raises(neurosim.NeurosimError, match=r"mid\.conv"):
        small_network(float("nan"))


def _changed(source: Path, target: Path, member: str, data: bytes | None) -> None:
    """A copy of a zip with one member replaced or left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = data if name == member else old.read(name)
            if content is not None:
                new.writestr(name, content)


@pytest.mark.parametrize(("member", "data"), [("header.json", b"[1]"), ("header.json", b"{}"), ("threshold.npy", None), ("junk", b"")])
def test_programs_changed_by_hand(refuse: Refuse, folder: Path, member: str, data: bytes | None) -> None:
    with file(folder / "bad.nsim") as bad:
        _changed(folder / "small.nsim", bad, member, data)
        if member == "junk":  # one figure of the chip: still a valid file, no longer what was compiled
            header = zipfile.ZipFile(bad).read("header.json").replace(b'"neurons"', b'"neuron"', 1)
            _changed(folder / "small.nsim", bad, "header.json", header)
        assert "bad.nsim" in refuse("run", "bad.nsim", "-i", "data.npz")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes(refuse: Refuse, folder: Path, seed: int) -> None:
    """Whatever a disk does to a file: refused in one line."""
    rng = np.random.default_rng(seed)
    for name, command in (("small.nsim", ("run", "bad.nsim", "-i", "data.npz")), ("small.nsnet", ("check", "bad.nsnet"))):
        data = bytearray((folder / name).read_bytes())
        for _ in range(20):
            data[rng.integers(len(data))] ^= 0x5A
        with file(folder / f"bad{Path(name).suffix}") as bad:
            bad.write_bytes(data)
            assert "bad." in refuse(*command)


def test_output_paths(refuse: Refuse, folder: Path) -> None:
    assert "file" in refuse("compile", "small.nsnet", "-o", "")
    assert "read by this command" in refuse("compile", "small.nsnet", "-o", "small.nsnet")
    assert "read by this command" in refuse("run", "small.nsim", "-i", "data.npz", "--record", "data.npz")
    assert "missing" in refuse("run", "small.nsim", "-i", "data.npz", "--record", "missing/t.parquet")
    assert "directory" in refuse("run", "small.nsim", "-i", "data.npz", "--record", ".")
    for place in ("", ".", ".."):
        assert "current directory" in refuse("run", "small.nsim", "-i", "data.npz", "-o", place)
        assert "current directory" in refuse("demo", "-o", place)
    assert "no directory" in refuse("demo", "-o", "data.npz")


def test_a_chip_without_prices_is_compared(neurosim: Callable[..., Result], folder: Path) -> None:
    free = [part for key in json.loads(neurosim("chips", "tiny", "--json").stdout)["prices"] if key != "power_gating"
            for part in ("--set", f"prices.{key}=0")]  # fmt: skip
    with file(folder / "free.nsim"), file(folder / "free-run"):
        assert neurosim("compile", "small.nsnet", "--chip", "async-mesh", *free, "-o", "free.nsim").exit_code == 0
        assert neurosim("run", "free.nsim", "-i", "data.npz", "--engine", "reference", "--samples", "1", "-o", "free-run").exit_code == 0
        result = neurosim("compare", "free-run")
        assert result.exit_code == 0, result.exception
