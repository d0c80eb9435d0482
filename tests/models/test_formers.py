"""Spikformer, QKFormer, its all-gate variant, MSViT, SMixer and token halting: axes, precision, gates, attention, halting, training, files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

import neurosim  # noqa: E402
from models.calibrated import calibrated, mnist200  # noqa: E402
from models.card import model_card  # noqa: E402
from models.evaluate import accuracy, fake_quantised, firing, halting, halting_sweep, norm_pairs, record_spikes  # noqa: E402
from models.export import PACKAGE, WEIGHTS  # noqa: E402
from models.halting import HaltingConfig, HaltingSpikformer, live  # noqa: E402
from models.layers import LIF, FormerConfig, SpikingSelfAttention  # noqa: E402
from models.msvit import MultiScaleTokenAttention  # noqa: E402
from models.qkformer import ChannelAttention, TokenAttention  # noqa: E402
from models.registry import FORMERS, build, load_checkpoint  # noqa: E402
from models.train_mnist import PLANS, Alone, Recipe, halting_cost, train  # noqa: E402
from neurosim.golden import run_network  # noqa: E402

pytestmark = pytest.mark.torch
torch.set_num_threads(1)

SIZES = {"img_size": 12, "embed_dim": 16, "heads": 2, "depth": 2}
SHIPPED = [name for name, plan in PLANS.items() if plan.architecture in FORMERS and (WEIGHTS / f"{name}.json").is_file()]


def images(n: int, seed: int = 0) -> Any:
    """Blobs, so that neighbouring tokens differ: ``[n, 1, 12, 12]``."""
    coarse = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, 12, mode="bilinear").square()


def tiny(architecture: str, steps: int, **sizes: int) -> Any:
    """9 tokens (36 in a first stage), random weights, every layer fires."""
    return calibrated(architecture, steps, seed=3, images=images(32), **(SIZES | sizes))


def spikes_of(model: Any, x: Any) -> tuple[Any, dict[str, Any]]:
    spikes: dict[str, Any] = {}
    with torch.no_grad(), record_spikes(model, spikes):
        return model(x), spikes


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("architecture", FORMERS)
def test_batch_equals_images_one_by_one_and_float64_equals_float32(architecture: str, steps: int) -> None:
    model, x = tiny(architecture, steps), images(3, seed=1)
    logits, whole = spikes_of(model, x)
    assert logits.shape == (3, 10)
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    assert not torch.equal(*(whole["patch_embed.conv4.lif"] if "patch_embed.conv4.lif" in whole else whole["patch_embed2.conv2.lif"])[:2])
    for b in range(3):
        alone, single = spikes_of(model, x[b : b + 1])
        torch.testing.assert_close(alone[0], logits[b], rtol=0, atol=1e-5)
        for name, s in whole.items():
            assert torch.equal(s.unflatten(0, (steps, 3))[:, b], single[name]), name

    exact, double = spikes_of(model.double(), x.double())
    assert exact.dtype == torch.float64
    for name, s in whole.items():
        assert double[name].dtype == torch.float64
        assert torch.equal(double[name].float(), s), name


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("architecture", FORMERS)
def test_calibrated_networks_fire(architecture: str, steps: int) -> None:
    x = mnist200()[:40]
    model = calibrated(architecture, steps, seed=1, images=x)
    assert sum(p.numel() for p in model.parameters()) <= 200_000
    assert not model.training
    rates, _ = firing(model, x)
    for name, rate in rates.items():
        assert 0.02 <= rate <= 0.40, name
    again = calibrated(architecture, steps, seed=1, images=x)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_unknown_architecture_and_sizes() -> None:
    with pytest.raises(ValueError, match="'bert' is not known; use one of"):
        build("bert")
    with pytest.raises(ValueError, match="'stmixer' is not known"):
        calibrated("stmixer")
    for sizes in ({"embed_dim": 12}, {"heads": 3}, {"img_size": 30}, {"steps": 0}):
        with pytest.raises(ValueError, match=next(iter(sizes))):
            FormerConfig(**sizes)


def binary(*shape: int, rate: float = 0.3, seed: int = 0) -> Any:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).double()


def replaced(module: Any, **outputs: Any) -> dict[str, Any]:
    """Give the named branches fixed outputs; the current and the spikes of ``attn_lif`` and the input of ``proj`` are written into the result."""
    seen: dict[str, Any] = {}
    for name, value in outputs.items():
        module.get_submodule(name).register_forward_hook(lambda _m, _i, _o, value=value: value)

    def keep(_module: Any, inputs: Any, output: Any) -> None:
        seen["current"], seen["spikes"] = inputs[0], output

    module.attn_lif.register_forward_hook(keep)
    module.proj.register_forward_pre_hook(lambda _m, inputs: seen.__setitem__("out", inputs[0]))
    return seen


@pytest.mark.parametrize("keys_first", [False, True])
def test_self_attention_formula(keys_first: bool) -> None:
    steps, channels, heads, side = 2, 8, 2, 3
    module = SpikingSelfAttention(FormerConfig(steps=steps, heads=heads), channels, keys_first).double().eval()
    q, k, v = (binary(2 * steps, channels, side, side, rate=0.7, seed=s) for s in range(3))
    seen = replaced(module, q=q, k=k, v=v)
    module(q)
    d, n = channels // heads, side * side
    expected = np.zeros((2 * steps, channels, n))
    a, b, c = (x.numpy().reshape(2 * steps, channels, n) for x in (q, k, v))
    for i, h, row, column in np.ndindex(2 * steps, heads, n, n):
        part = slice(h * d, (h + 1) * d)
        expected[i, part, row] += 0.125 * (a[i, part, row] @ b[i, part, column]) * c[i, part, column]
    np.testing.assert_array_equal(seen["current"].flatten(2).numpy(), expected)
    first = seen["spikes"].unflatten(0, (steps, 2))[0].flatten(2).numpy()
    np.testing.assert_array_equal(first, expected[:2] * 8 >= 8)  # eight coincidences lift a membrane at rest to 0.5
    assert 0.05 < first.mean() < 0.95


@pytest.mark.parametrize(("kind", "least"), [(TokenAttention, 1), (ChannelAttention, 1), (MultiScaleTokenAttention, 2)])
def test_gates_count_queries_and_keep_nothing(kind: Any, least: int) -> None:
    steps, channels, heads, side = 4, 8, 2, 4
    module = kind(FormerConfig(steps=steps, heads=heads), channels).double().eval()
    q, k, p = (binary(2 * steps, channels, side, side, rate=r, seed=s) for s, r in enumerate((0.06 if kind is ChannelAttention else 0.2, 0.5, 0.2)))
    branches = {"q": q, "k": k} | ({"p_lif": p.flatten(2)} if kind is MultiScaleTokenAttention else {})
    seen = replaced(module, **branches)
    module(q)
    if kind is ChannelAttention:
        count = q.sum(dim=(2, 3), keepdim=True).expand_as(k)
    else:
        both = q + p if kind is MultiScaleTokenAttention else q
        count = both.unflatten(1, (heads, -1)).sum(dim=2).repeat_interleave(channels // heads, dim=1)
    assert torch.equal(seen["out"], k * (count >= least))
    assert 0.1 < float((count >= least).double().mean()) < 0.9


def test_the_third_branch_runs_over_the_flattened_tokens() -> None:
    module = MultiScaleTokenAttention(FormerConfig(heads=2), 4).eval()
    seen: list[Any] = []
    module.p_bn.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    x = torch.zeros(1, 4, 3, 3)
    with torch.no_grad():
        module.p_conv.weight.fill_(1.0)
        x[0, 0, 0, 2] = 1.0  # end of the first row, neighbour of the start of the second
        module(x)
    assert seen[0][0, 0].tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0]


def test_halting_latches_and_silences_a_token() -> None:
    steps, batch = 4, 6
    model, x = tiny("spikformer-halting", steps), images(6, seed=2)
    inputs: dict[str, Any] = {}
    for index, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda _m, given, index=index: inputs.__setitem__(index, given[0]))
    stream: list[Any] = []
    model.blocks[-1].register_forward_hook(lambda _m, _i, output: stream.append(output))
    _, spikes = spikes_of(model, x)
    halts = [spikes[f"halts.{i}.lif"] for i in range(2)]
    for i, halt in enumerate(halts):
        over_time = halt.unflatten(0, (steps, batch))
        assert 0.02 < float(halt.mean()) < 0.98
        assert bool((over_time[1:] >= over_time[:-1]).all())  # once halted, halted in every later step
        counts = spikes[f"halts.{i}.score.lif"].sum(dim=1, keepdim=True).unflatten(0, (steps, batch)).cumsum(dim=0)
        assert torch.equal(over_time, (counts >= model.config.halt_count).float())
        dropped = (live(halts)[i] == 0).expand_as(inputs[i])
        assert float(inputs[i][dropped].abs().sum()) == 0.0
    first = (halts[0] > 0).expand_as(stream[0])
    assert float(stream[0][first].abs().sum()) == 0.0  # silent up to the read-out, after steps in which it was live, too
    late = halts[0].unflatten(0, (steps, batch))
    assert bool(((late[-1] > 0) & (late[0] == 0)).any())
    for name in ("mixer.q", "mixer.k", "mixer.v", "mixer.proj", "mlp.fc1", "mlp.fc2"):
        s = spikes[f"blocks.1.{name}.lif"]
        assert float((s * halts[0]).sum()) == 0.0, name
        assert float(s.sum()) > 0.0, name


def test_halting_figures_and_cost() -> None:
    model, x, y = tiny("spikformer-halting", 2), images(10, seed=5), torch.arange(10)
    found = halting(model, x, y, batch=4)
    _, spikes = spikes_of(model, x)
    expected = live([spikes["halts.0.lif"], spikes["halts.1.lif"]])
    assert found["live"] == pytest.approx(float(expected.mean()), abs=1e-5)
    assert found["live_by_block"][1][0] == pytest.approx(float(expected[1, :10].mean()), abs=1e-5)
    rows = halting_sweep(model, x, y, (1, 2, 100))
    assert rows[0]["live"] < rows[1]["live"] == found["live"] < rows[2]["live"] == 1.0
    halts = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])]
    assert float(halting_cost(halts, 0.25, 2.0)) == pytest.approx(2 * 0.25)
    assert float(halting_cost(halts, 0.6, 2.0)) == 0.0


@pytest.mark.parametrize("architecture", FORMERS)
def test_training_lowers_the_loss(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(architecture, **SIZES)
    x, y = images(48, seed=4), torch.arange(48) % 10

    def loss() -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(model.train()(x), y))

    before = loss()
    recipe = Recipe(epochs=8, float32_epochs=8, batch=24, lr=1e-2, shift=0.0, degrees=0.0, live_share=0.6, live_weight=1.0)
    train(Alone(model), x, y, recipe, tmp_path / "state.pt")
    assert loss() < before
    assert all(p.grad is not None for p in model.parameters())
    if isinstance(model, HaltingSpikformer):
        zeros = torch.zeros(2, 16, 3, 3)
        with torch.no_grad():
            assert all(float(block(zeros).abs().sum()) == 0.0 for block in model.eval().blocks)


@pytest.mark.parametrize("architecture", ["qkformer", "msvit"])
def test_fake_quantised_weights(architecture: str) -> None:
    model = tiny(architecture, 1)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv1d | torch.nn.Conv2d)]
    assert len(norm_pairs(model)) == len(convolutions)
    result = fake_quantised(model)
    for (conv, norm), (original, _) in zip(norm_pairs(result), norm_pairs(model), strict=True):
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).reshape(-1, 1)
        before, after = ((c.weight.flatten(1) * factor).detach() for c in (original, conv))
        step = before.abs().amax(dim=1, keepdim=True) / 127
        torch.testing.assert_close(after / step, (before / step).round(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoint(name: str) -> None:
    path = WEIGHTS / f"{name}.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    model = load_checkpoint(path)
    assert asdict(model.config).items() <= config.items()
    assert config["architecture"] == PLANS[name].architecture
    assert config["training"].items() >= asdict(PLANS[name].recipe).items()
    then = PLANS[name].then
    assert config["training"].get("then") == (None if then is None else asdict(then))
    assert sum(p.numel() for p in model.parameters()) == config["parameters"] <= 200_000
    tensors = load_file(str(path.with_name(config["weights"])))
    assert all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in tensors.values())
    assert path.with_suffix(".md").read_text(encoding="utf-8") == model_card(config)
    with np.load(PACKAGE.parent / "mnist200.npz") as file:
        labels = torch.from_numpy(file["label"].astype(np.int64))
    assert config["figures"]["test_accuracy"] >= 0.98
    assert accuracy(model, mnist200(), labels) >= 0.96
    recorded = config["figures"]["firing_rates"]
    rates, _ = firing(model, mnist200())
    assert set(rates) == set(recorded)
    for layer, rate in rates.items():
        if not layer.startswith("halts.") or "score" in layer:  # a halting neuron fires on: it is a flag
            assert 0.02 <= round(recorded[layer], 2) <= 0.40, layer
        assert rate == pytest.approx(recorded[layer], abs=0.015), layer
    if isinstance(model.config, HaltingConfig):
        assert 0.3 <= 1 - config["figures"]["halting"]["live"] <= 0.6
        assert [row["halt_count"] for row in config["figures"]["halting"]["sweep"]].count(model.config.halt_count) == 1
    assert sum(isinstance(m, LIF) for m in model.modules()) == len(rates)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_network_is_the_checkpoint(name: str) -> None:
    net, model = neurosim.load(name), load_checkpoint(WEIGHTS / f"{name}.json").double()
    files = [path for path in PACKAGE.iterdir() if path.name.startswith(f"{name}.")]
    assert {path.suffix for path in files} == {".nsnet", ".md"}
    assert all(path.stat().st_size < 3_000_000 for path in files)
    assert (PACKAGE / f"{name}.md").read_bytes() == (WEIGHTS / f"{name}.md").read_bytes()
    pixels = (mnist200()[:4] * 255).round().byte()
    with torch.no_grad():
        expected = model(pixels.double() / 255).numpy()
    np.testing.assert_allclose(run_network(net, pixels.numpy()).scores, expected, rtol=0, atol=1e-9)
