"""STMixer in PyTorch: its neuron, its axes, its files and the shipped checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

from models.evaluate import accuracy, fake_quantised, firing, norm_pairs, quantise, record_spikes, spike_change  # noqa: E402
from models.export import model_card  # noqa: E402
from models.stmixer import LIF, Mix, STMixer, STMixerConfig, load_checkpoint, load_weights  # noqa: E402

pytestmark = pytest.mark.torch
torch.set_num_threads(1)

DATA = Path(__file__).resolve().parents[2] / "neurosim" / "data"
SHIPPED = {"stmixer-mnist-t1": 1, "stmixer-mnist-t4": 4}


def tiny(steps: int, **sizes: Any) -> STMixer:
    """An untrained float64 network of 9 tokens whose batch norms are no identity, so that every layer fires."""
    torch.manual_seed(3)
    model = STMixer(STMixerConfig(**{"img_size": 12, "embed_dim": 16, "steps": steps, "mlp_ratio": 2, "heads": 4} | sizes)).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 1.0, 3.0)
            torch.nn.init.uniform_(module.bias, 0.2, 0.8)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.2, 0.4)
    return model


def shipped_images(n: int) -> tuple[Any, Any]:
    with np.load(DATA / "mnist200.npz") as file:
        chosen = np.linspace(0, 199, n).astype(int)
        images, labels = file["images"][chosen], file["label"][chosen]
    return torch.from_numpy(images)[:, None].float() / 255.0, torch.from_numpy(labels.astype(np.int64))


def scalar_lif(currents: list[float], decay: float, threshold: float, reset: bool) -> list[float]:
    v, spikes = 0.0, []
    for x in currents:
        v = decay * v + x
        fires = v >= threshold
        spikes.append(1.0 if fires else 0.0)
        if fires and reset:
            v = 0.0
    return spikes


@pytest.mark.parametrize(("decay", "threshold", "reset"), [(0.5, 1.0, "zero"), (0.75, 0.5, "zero"), (0.5, 1.0, "none")])
def test_lif_equals_a_scalar_loop(decay: float, threshold: float, reset: str) -> None:
    steps, batch = 4, 3
    x = torch.from_numpy(np.random.default_rng(0).integers(-2, 6, (steps, batch, 5, 2, 2)) / 4.0)  # quarters: potentials reach the threshold exactly
    found = LIF(steps, decay, threshold, reset)(x.flatten(0, 1)).unflatten(0, (steps, batch))
    expected = torch.empty_like(x)
    for index in np.ndindex(*x.shape[1:]):
        column = (slice(None), *index)
        expected[column] = torch.tensor(scalar_lif(x[column].tolist(), decay, threshold, reset == "zero"), dtype=torch.float64)
    assert torch.equal(found, expected)
    assert 0.1 < expected.mean() < 0.9


def test_lif_at_the_threshold_and_after_it() -> None:
    def fires(*currents: float) -> list[float]:
        return LIF(len(currents))(torch.tensor(currents, dtype=torch.float64)[:, None])[:, 0].tolist()

    assert fires(0.5, 0.75, 0.5, 0.75) == [0, 1, 0, 1]  # 0.5, exactly 1.0, 0.5 from 0, exactly 1.0
    assert fires(0.75, 0.5, 0.75, 0.5) == [0, 0, 1, 0]  # 0.75, 0.875, 1.1875, 0.5 from 0
    assert fires(8.0, 0.0, 0.0, 0.0) == [1, 0, 0, 0]  # to zero, not by subtraction
    x = torch.tensor([0.0, np.nextafter(1.0, 0.0), 1.0, 2.0, -1.0], dtype=torch.float64)
    assert LIF(1)(x).tolist() == [0, 0, 1, 1, 0]
    with pytest.raises(ValueError, match="reset must be"):
        LIF(reset="soft")


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_spikes_keep_the_dtype(steps: int, dtype: Any) -> None:
    x = torch.linspace(-1, 2, 8).to(dtype)
    found = LIF(steps)(x)
    assert found.dtype == dtype
    assert found.shape == x.shape


def test_gradient_flows_through_the_surrogate() -> None:
    x = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5, 2.5], dtype=torch.float64, requires_grad=True)
    LIF(1)(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.25, 1.0, 0.5, 0.0]
    steps = torch.tensor([[0.5, 1.0], [0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    LIF(2)(steps)[1].sum().backward()
    # second step: 0.75 after no spike, its slope 0.75 reaches the first step through the leak; the reset cuts the other neuron off
    assert steps.grad.tolist() == [[0.375, 0.0], [0.75, 0.5]]


@pytest.mark.parametrize("steps", [1, 4])
def test_batch_equals_images_one_by_one(steps: int) -> None:
    model = tiny(steps)
    x = torch.rand(3, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spikes: dict[str, Any] = {}
    with torch.no_grad(), record_spikes(model, spikes):
        logits, streams = model(x), model.streams(x)
    for s in spikes.values():
        assert 0.02 < s.mean() < 0.98
        assert not torch.equal(s[0], s[1])
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    for b in range(3):
        alone: dict[str, Any] = {}
        with torch.no_grad(), record_spikes(model, alone):
            torch.testing.assert_close(model(x[b : b + 1])[0], logits[b], rtol=0, atol=1e-12)
            for whole, single in zip(streams, model.streams(x[b : b + 1]), strict=True):
                torch.testing.assert_close(whole.unflatten(0, (steps, 3))[:, b], single, rtol=0, atol=1e-12)
        for name, s in spikes.items():
            assert torch.equal(s.unflatten(0, (steps, 3))[:, b], alone[name]), name


def test_token_mixing_formula() -> None:
    heads, height, width, channels = 2, 2, 3, 6
    mix = Mix(heads, height * width).double()
    x = torch.rand(2, channels, height, width, dtype=torch.float64)
    w, tokens = mix.weight.detach().numpy(), x.numpy().reshape(2, channels, -1)
    expected = np.zeros_like(tokens)
    for b, c, out in np.ndindex(*tokens.shape):
        expected[b, c, out] = sum(w[c // (channels // heads), out, n] * tokens[b, c, n] for n in range(height * width))
    np.testing.assert_allclose(mix(x).detach().numpy(), expected.reshape(x.shape), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("downsample", "size"), [(2, 12), (4, 32)])
def test_stream_is_short_path_then_main_path(steps: int, downsample: int, size: int) -> None:
    model = tiny(steps, downsample=downsample, img_size=size).patch_embed
    seen: dict[str, Any] = {}
    for name in ("short_bn", "bn5"):
        getattr(model, name).register_forward_hook(lambda _m, _i, output, name=name: seen.__setitem__(name, output))
    with torch.no_grad():
        stream = model(torch.rand(3, 1, size, size, dtype=torch.float64))
    side = size // 2**downsample
    assert stream.shape == (steps * 3, 16, side, side)
    for step in stream.unflatten(0, (steps, 3)):
        assert torch.equal(step[:, :2], seen["short_bn"])
    assert torch.equal(stream[:, 2:], seen["bn5"])


def test_classifier_is_the_mean_over_tokens_and_steps() -> None:
    model = tiny(2)
    stream = torch.rand(6, 16, 3, 3, dtype=torch.float64)
    means = stream.numpy().reshape(2, 3, 16, 9).mean(axis=(0, 3))
    with torch.no_grad():
        found = model.classify(stream).numpy()
    np.testing.assert_allclose(found, means @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [{"embed_dim": 12}, {"heads": 3}, {"downsample": 3}, {"img_size": 30}, {"steps": 0}])
def test_impossible_sizes(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(sizes))):
        STMixerConfig(**sizes)


def test_weights_must_be_complete_and_nothing_else(tmp_path: Path) -> None:
    name = "stmixer-mnist-t1"
    weights = load_file(str(DATA / "models" / f"{name}.safetensors"))
    for changed, message in (
        ({k: v for k, v in weights.items() if k != "blocks.1.token_mix.mix.weight"}, "missing .*mix.weight"),
        (weights | {"branches.0.head.bias": torch.zeros(10)}, "unexpected .*branches"),
    ):
        save_file(changed, str(tmp_path / "w.safetensors"))
        with pytest.raises(ValueError, match=message):
            load_weights(STMixer(STMixerConfig()), tmp_path / "w.safetensors")
    config = json.loads((DATA / "models" / f"{name}.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps(config | {"architecture": "other"}))
    with pytest.raises(ValueError, match="architecture 'other'"):
        load_checkpoint(tmp_path / "c.json")


@pytest.mark.parametrize(("name", "steps"), SHIPPED.items())
def test_shipped_checkpoint(name: str, steps: int) -> None:
    path = DATA / "models" / f"{name}.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    model = load_checkpoint(path)
    sizes = model.config
    assert asdict(sizes).items() <= config.items()
    assert (sizes.steps, sizes.img_size, sizes.classes, sizes.reset) == (steps, 28, 10, "zero")
    assert sizes.depth >= 2
    assert sizes.embed_dim >= 64
    assert sizes.heads >= 4
    assert sizes.tokens >= 49
    assert 0.0 < sizes.decay < 1.0
    weights = path.with_name(config["weights"])
    assert weights.stat().st_size < 3_000_000
    tensors = load_file(str(weights))
    assert set(tensors) == {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    assert all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in tensors.values())
    assert path.with_suffix(".md").read_text(encoding="utf-8") == model_card(config)

    recorded = config["figures"]["firing_rates"]
    rates, silent = firing(model, *shipped_images(200)[:1])
    assert set(rates) == set(recorded) == set(config["figures"]["silent_neurons"])
    for layer, rate in rates.items():
        assert 0.02 <= recorded[layer] <= 0.40, layer
        assert 0.02 <= rate <= 0.40, layer
        assert rate == pytest.approx(recorded[layer], abs=0.01), layer  # the figures are those of these weights
        assert silent[layer] < 0.5, layer
    assert accuracy(model, *shipped_images(200)) >= 0.97


def test_leak_and_reset_matter_at_four_steps() -> None:
    model, (x, _) = load_checkpoint(DATA / "models" / "stmixer-mnist-t4.json"), shipped_images(40)
    assert spike_change(model, x[:4], decay=model.config.decay) == 0.0
    assert spike_change(model, x, decay=0.0) >= 0.01
    assert spike_change(model, x, reset="none") >= 0.01


def test_firing_counts_spikes_per_neuron_and_step() -> None:
    model = tiny(4)
    x = torch.rand(5, 1, 12, 12, dtype=torch.float64)
    spikes: dict[str, Any] = {}
    with torch.no_grad(), record_spikes(model, spikes):
        model(x)
    rates, silent = firing(model, x, batch=2)
    for name, s in spikes.items():
        assert rates[name] == pytest.approx(float(s.mean()))
        assert silent[name] == pytest.approx(float((s.sum(dim=0) == 0).double().mean()))
    assert not any(module._forward_hooks for module in model.modules())  # record_spikes takes its hooks away


def test_fake_quantised_weights_lie_on_grids() -> None:
    w = torch.tensor([[0.5, -1.27, 0.004, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(quantise(w, 8, 1), torch.tensor([[0.5, -1.27, 0.0, 1.0]], dtype=torch.float64))
    model = tiny(1)
    result = fake_quantised(model)
    for (conv, norm), (original, _) in zip(norm_pairs(result), norm_pairs(model), strict=True):
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).reshape(-1, 1, 1, 1)
        before, after = ((c.weight * factor).detach().flatten(1) for c in (original, conv))
        step = before.abs().amax(dim=1, keepdim=True) / 127
        torch.testing.assert_close(after / step, (before / step).round(), rtol=0, atol=1e-9)
    assert not torch.equal(result.blocks[0].token_mix.mix.weight, model.blocks[0].token_mix.mix.weight)
    assert not torch.equal(result.head.weight, model.head.weight)
