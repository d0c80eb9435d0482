from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neurosim.errors import MissingExtra, ModelError
from neurosim.frontends import load
from neurosim.frontends.load import shipped_models
from tests.networks import residual_net

MODELS = Path(__file__).resolve().parents[2] / "neurosim" / "data" / "models"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    for suffix in ("json", "safetensors"):
        shutil.copy(MODELS / f"stmixer-mnist-t1.{suffix}", tmp_path / f"stmixer-mnist-t1.{suffix}")
    return tmp_path / "stmixer-mnist-t1.safetensors"


def change(checkpoint: Path, **changes: Any) -> None:
    """Replace (or with None remove) arrays of the checkpoint; dots are written as two underscores."""
    arrays = load_file(checkpoint)
    for key, value in changes.items():
        name = key.replace("__", ".")
        arrays.pop(name, None)
        if value is not None:
            arrays[name] = np.asarray(value, np.float32)
    save_file(arrays, checkpoint)


def test_every_way_to_name_a_model(checkpoint: Path, tmp_path: Path) -> None:
    net = load("stmixer-mnist-t1", np.zeros((1, 28, 28)))
    for other in (checkpoint, checkpoint.with_suffix(".json"), str(checkpoint)):
        assert str(load(other)) == str(net)
    moved = checkpoint.rename(tmp_path / "moved.safetensors")
    assert str(load(checkpoint.with_suffix(".json"), weights=moved)) == str(net)
    residual_net().save(tmp_path / "a.nsnet")
    assert str(load(tmp_path / "a.nsnet")) == str(residual_net())
    assert load(net) is net


def test_shipped_models_may_be_saved_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    """Names stand for a config with its weights or for a .nsnet file, which needs none."""
    for name in shipped_models():
        assert (MODELS / f"{name}.json").is_file() != (MODELS / f"{name}.nsnet").is_file()
    folder = tmp_path / "data" / "models"
    folder.mkdir(parents=True)
    residual_net().save(folder / "saved.nsnet")
    for suffix in ("json", "safetensors"):
        shutil.copy(checkpoint.with_suffix(f".{suffix}"), folder)
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    assert shipped_models() == ["saved", "stmixer-mnist-t1"]
    assert str(load("saved")) == str(residual_net())
    assert load("stmixer-mnist-t1").input_contract.shape == (1, 28, 28)
    with pytest.raises(ModelError, match=r"saved.nsnet holds its weights itself; leave weights out"):
        load("saved", weights=checkpoint)


def test_names_that_are_no_model(tmp_path: Path) -> None:
    for model, message in (
        ("stmixer-mnist-t2", "did you mean stmixer-mnist-t"),
        ("net.net", "states no number of steps"),
        (tmp_path / "net.pth", "file kind .pth is not read"),
        (tmp_path / "net.safetensors", "needs its config net.json"),
        (tmp_path / "net.json", "No such file"),
        (3, "type int is not understood"),
    ):
        with pytest.raises(ModelError, match=message):
            load(model)
    with pytest.raises(ModelError, match="output 1 does not exist"):
        load("stmixer-mnist-t1", output=1)
    with pytest.raises(ModelError, match=r"example_input has shape \(1, 32, 32\)"):
        load("stmixer-mnist-t1", np.zeros((1, 32, 32)))


def test_weights_that_do_not_fit(checkpoint: Path) -> None:
    for changes, message in (
        ({"head__bias": None}, r"weight head.bias \(10,\) is missing"),
        ({"extra__weight": [1.0], "head__bias": np.zeros(10)}, "extra.weight belongs to no layer"),
        ({"extra__weight": None, "head__bias": np.zeros(9)}, r"head.bias has shape \(9,\), the config wants \(10,\)"),
        ({"head__bias": np.full(10, np.nan)}, "head.bias has 10 values that are NaN"),
    ):
        change(checkpoint, **changes)
        with pytest.raises(ModelError, match=message) as raised:
            load(checkpoint)
        assert "\n" not in str(raised.value)
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="truncated or no safetensors"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "no neurosim-checkpoint"),
        ({"format_version": 9}, "format_version 9"),
        ({"architecture": "resnet"}, "architecture 'resnet' is unknown"),
        ({"embed_dim": 60}, "embed_dim 60 must be a multiple"),
        ({"depth": 0}, "depth 0 is missing or no whole number"),
        ({"depth": 3}, "blocks.2.token_mix.conv1.weight"),
        ({"depth": 1}, "belongs to no layer"),
        ({"reset": "none"}, "reset 'none'"),
        ({"downsample": 3}, "downsample 3"),
        ({"weights": "none.safetensors"}, "do not exist"),
        ({"input": {"shape": [3, 28, 28]}}, "contradicts"),
    ],
)
def test_configs_that_do_not_fit(checkpoint: Path, changes: dict[str, Any], message: str) -> None:
    path = checkpoint.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes))
    with pytest.raises(ModelError, match=message):
        load(path)


def test_torch_is_asked_for_only_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registering neurons and reading the other kinds need no torch; a factory says what is missing."""
    code = "import neurosim, sys; neurosim.register_neuron(int, dict); neurosim.load('stmixer-mnist-t1'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
    monkeypatch.setitem(sys.modules, "neurosim.frontends.torch.module", None)
    with pytest.raises(MissingExtra, match=r"net.py:make: reading PyTorch models needs torch .*install neurosim\[torch\]"):
        load(f"{tmp_path}/net.py:make", input_shape=(1, 2, 2))
    with pytest.raises(ModelError, match="option input_shape belongs to PyTorch modules"):
        load("stmixer-mnist-t1", input_shape=(1, 28, 28))
