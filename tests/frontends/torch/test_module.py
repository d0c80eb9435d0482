"""Modules with neurons of their own, read without editing: equal to the module spike for spike, compact where the structure is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from models.stmixer import LIF, STMixer, STMixerConfig  # noqa: E402
from neurosim import api, load, register_neuron  # noqa: E402
from neurosim.chip import load_chip  # noqa: E402
from neurosim.golden import run_graph, run_network  # noqa: E402
from neurosim.host import run_host  # noqa: E402
from tests.exactness import compare_spikes  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = pytest.mark.torch
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The neurons of this file, known in each of its tests only."""
    from neurosim.frontends.torch import neurons as torch_neurons

    monkeypatch.setattr(torch_neurons, "_REGISTERED", {})
    register_neuron(tm.FoldedLIF, tm.rule_folded)
    register_neuron(tm.LeadingLIF, tm.rule_leading)
    register_neuron(tm.StepLIF, tm.rule_step, reset=tm.StepLIF.reset)
    register_neuron(LIF, lambda m: {"decay": m.decay, "threshold": m.threshold, "layout": "time_batch", "steps": m.steps})


@pytest.mark.parametrize("steps", [1, 3])
def test_stmixer_by_the_general_path_equals_its_own_frontend(steps: int) -> None:
    torch.manual_seed(3)
    model = tm.settle(STMixer(STMixerConfig(img_size=12, embed_dim=16, steps=steps, mlp_ratio=2, heads=4, depth=2)))
    special, general = load(model), load(model, input_shape=(1, 12, 12))
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 12, 12), dtype=np.uint8)
    a, b = run_network(special, x), run_network(general, x)
    assert set(a.spikes) == set(b.spikes)
    for name, spikes in a.spikes.items():
        np.testing.assert_array_equal(spikes, b.spikes[name], err_msg=name)
    np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=1e-12)
    assert 0.02 < np.mean([s.mean() for s in a.spikes.values()]) < 0.9
    assert sorted(layer.op for layer in special.layers.values()) == sorted(layer.op for layer in general.layers.values())


@pytest.mark.parametrize("steps", [1, 2])
def test_research_code_loads_without_editing_and_is_exact(steps: int) -> None:
    """Own neuron with folded time, tiled frames, a head loop into slices, a list with dead branches; float64 module against the ideal chip."""
    model = tm.settle(tm.ResearchMixer(steps), seed=1)
    net = load(model, input_shape=(2, 6, 6))
    ops = [layer.op for layer in net.layers.values()]
    assert net.steps == steps
    assert ops.count("token_mix") == 2
    assert "sparse" not in ops
    assert next(layer for layer in net.layers.values() if layer.op == "token_mix").params["weight"].shape == (2, 9, 9)
    assert any("output 0 of 3" in note for note in net.notes)
    assert any("aux.0.fc" in note for note in net.notes)
    x = np.random.default_rng(5).integers(0, 256, (40, 2, 6, 6), dtype=np.uint8)
    expected, logits = tm.module_spikes(model, torch.from_numpy(x).double() / 255.0, (tm.FoldedLIF,), steps)
    real = run_network(net, x, margins=True)
    done = api.compile_model(net, "ideal")
    golden = run_graph(done.integer, x, load_chip("ideal")).spikes
    comparison = compare_spikes({k: expected[k] for k in tm.flat(real.spikes)}, tm.flat(golden), tm.flat(real.margins))
    assert comparison.exact, comparison.wrong
    np.testing.assert_allclose(real.scores, logits[:, 0].numpy(), rtol=0, atol=1e-9)


@pytest.mark.slow
def test_research_code_through_the_fast_engine() -> None:
    """Program and engine give the golden spikes of the imported module."""
    net = load(tm.settle(tm.ResearchMixer(2), seed=1), input_shape=(2, 6, 6))
    x = np.random.default_rng(5).integers(0, 256, (4, 2, 6, 6), dtype=np.uint8)
    done = api.compile_model(net, "ideal")
    golden = run_graph(done.integer, x, load_chip("ideal")).spikes
    run = api.simulate(done.program, x)
    _, found = run_host(done.program, x)
    found |= {name: run.spikes(name) for name in golden if name not in found}
    for name, spikes in golden.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def test_auxiliary_output_is_another_network() -> None:
    """output=1 is the branch before block 0, whose layer norm and gelu the check refuses by name."""
    net = load(tm.settle(tm.ResearchMixer(2)), input_shape=(2, 6, 6), output=1)
    refused = {row.op: row for row in api.check(net, "async-mesh") if row.status == "refused"}
    assert set(refused) == {"layer_norm", "gelu"}
    assert refused["layer_norm"].layer == "aux.0.norm"
    assert "batch norm" in refused["layer_norm"].remedy
    assert any("not verified" in note for note in net.notes)


def test_layouts_of_time_and_steps_outside() -> None:
    """[T, B, ...] with a threshold per channel; one step per call in a loop within, and in a loop around the module."""

    class Leading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif, self.fc, self.out = nn.Conv2d(1, 4, 3, 2, 1), tm.LeadingLIF(4), nn.Linear(36, 3), tm.LeadingLIF(3)

        def forward(self, x: Any) -> Any:
            y = self.lif(self.conv(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (x.shape[1], x.shape[0])))
            return self.out(self.fc(y.flatten(2)).unsqueeze(-1).unsqueeze(-1)).flatten(2).mean(0)

    torch.manual_seed(1)
    events = np.random.default_rng(2).integers(0, 2, (4, 3, 1, 6, 6), dtype=np.uint8)
    model = Leading().eval()
    net = load(model, input_shape=(3, 1, 6, 6))
    assert net.layers["lif"].params["threshold"].shape == (4, 1, 1)
    expected, scores = tm.module_spikes(model, torch.from_numpy(events).double(), (tm.LeadingLIF,), 3)
    found = run_network(net, events)
    for name, spikes in tm.flat(found.spikes).items():
        np.testing.assert_array_equal(spikes, expected[name])
    np.testing.assert_allclose(found.scores, scores[:, 0].numpy(), atol=1e-9)
    assert 0 < expected["lif"].mean() < 1

    torch.manual_seed(0)
    loop = tm.StepNet(3).eval()
    net = load(loop, input_shape=(3, 12), input_axes="btc")
    x = np.random.default_rng(3).integers(0, 2, (5, 3, 12, 1, 1), dtype=np.uint8)
    expected, scores = tm.module_spikes(loop, torch.from_numpy(x[..., 0, 0]).double(), (tm.StepLIF,), 3)
    found = run_network(net, x)
    for name, spikes in tm.flat(found.spikes).items():
        np.testing.assert_array_equal(spikes, expected[name])
    np.testing.assert_allclose(found.scores, scores[:, 0].numpy(), atol=1e-9)

    single = nn.Sequential(loop.fc1, loop.lif1, loop.fc2, loop.lif2).float().eval()
    outside = load(single, input_shape=(3, 12), input_axes="btc", steps=3)
    np.testing.assert_allclose(run_network(outside, x).scores, found.scores / 3, atol=1e-6)


class Between(nn.Module):
    """A convolution with neurons [2 * B, 4, 4, 4], an operation, neurons again, a mean."""

    def __init__(self, op: Any, *parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.stem, self.lif1, self.op = nn.Conv2d(2, 4, 3, 1, 1), tm.FoldedLIF(2, threshold=0.25), op
        self.parts = nn.ModuleList(parts)
        self.lif2 = tm.FoldedLIF(2, threshold=0.4)
        self.vector = nn.Parameter(torch.randn(4))
        self.matrix = nn.Parameter(torch.randn(4, 4, 4))
        self.mixer = nn.Parameter(torch.randn(2, 16, 16) / 3)
        self.place = nn.Parameter(torch.randn(4, 4, 4) * 0.1)

    def forward(self, x: Any) -> Any:
        y = self.lif1(self.stem(x).repeat(2, 1, 1, 1))
        return self.lif2(self.op(self, y)).flatten(1).unflatten(0, (2, -1)).mean(0)


def seeded(make: Any) -> nn.Module:
    torch.manual_seed(11)
    return make()


def norm(channels: int) -> nn.Module:
    return tm.settle(nn.BatchNorm1d(channels), seed=5)


CONV, FC = lambda **k: seeded(lambda: nn.Conv2d(4, 8, **k)), lambda a, b: seeded(lambda: nn.Linear(a, b))
OPERATIONS: dict[str, tuple[Any, list[nn.Module], set[str]]] = {
    "grouped, strided, dilated": (lambda m, y: m.parts[0](y), [CONV(kernel_size=3, stride=2, padding=2, dilation=2, groups=2)], {"conv2d"}),
    "depthwise, same": (lambda m, y: m.parts[0](y), [CONV(kernel_size=3, padding="same", groups=4)], {"conv2d"}),
    "conv1d over rows": (lambda m, y: m.parts[0](y.flatten(2)), [seeded(lambda: nn.Conv1d(4, 3, 3, 2, 1))], {"reshape", "conv2d"}),
    "linear": (lambda m, y: m.parts[0](y.flatten(1)), [FC(64, 5)], {"reshape", "linear"}),
    "linear over channels": (lambda m, y: m.parts[0](y.flatten(2).transpose(1, 2)), [FC(4, 6)], {"conv2d"}),
    "linear over tokens": (lambda m, y: m.parts[0](y.flatten(2)), [seeded(lambda: nn.Linear(16, 16, bias=False))], {"token_mix"}),
    "matrix from the left": (lambda m, y: m.matrix[0] @ y.flatten(2), [], {"conv2d"}),
    "matrices per part": (lambda m, y: (y.reshape(-1, 2, 2, 16)[..., :4] @ m.matrix[:2]).flatten(1), [], {"conv2d", "sparse"}),
    "matrices per head": (lambda m, y: (y.reshape(-1, 2, 2, 16) @ m.mixer).reshape(y.shape), [], {"token_mix"}),
    "einsum": (lambda m, y: torch.einsum("bchw,cd->bdhw", y, m.matrix[0]), [], {"conv2d"}),
    "pools": (lambda m, y: F.avg_pool2d(y, 3, 1, 1) + F.interpolate(F.adaptive_avg_pool2d(y, 2), scale_factor=2), [], None),
    "sums and means": (lambda m, y: y.sum((2, 3)) - y.mean(1).flatten(1)[:, :4], [], {"sum_pool", "conv2d", "scale", "sparse", "add"}),
    "scale, shift, negate": (lambda m, y: 1 - (y * m.vector.view(1, -1, 1, 1) + 0.5) / 2, [], {"scale"}),
    "positions": (lambda m, y: m.parts[0](y + m.place), [CONV(kernel_size=1)], {"conv2d", "scale"}),
    "slices": (lambda m, y: torch.cat([y[:, 2:], y[:, :1], torch.zeros_like(y[:, :1])], 1).flip(2), [], {"sparse"}),
    "channels chosen": (lambda m, y: m.parts[0](torch.cat([y[:, 2:], y[:, :2]], 1)), [CONV(kernel_size=1)], {"conv2d"}),
    "padding": (lambda m, y: m.parts[0](F.pad(y, (1, 1, 1, 1))), [CONV(kernel_size=3)], {"conv2d"}),
    "lopsided padding": (lambda m, y: F.pad(y, (1, 0, 2, 0)), [], {"sparse"}),
    "residual, concat": (lambda m, y: torch.cat([y + m.parts[0](y), y], 1), [seeded(lambda: nn.Conv2d(4, 4, 1))], {"conv2d", "add", "concat"}),
    "shuffles": (lambda m, y: F.pixel_shuffle(y.repeat(1, 1, 1, 1), 2).permute(0, 3, 1, 2), [], set()),
    "slice assignment": (lambda m, y: _assign(y), [], None),
    "norm over folded tokens": (
        lambda m, y: m.parts[0](y.flatten(2).transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, 16)), [seeded(lambda: norm(4))], {"batch_norm"},
    ),
    "channels last": (lambda m, y: m.parts[0](y.permute(0, 2, 3, 1).flatten(1)), [FC(64, 5)], {"reshape", "linear"}),
    "dropout is off": (lambda m, y: m.parts[0](y), [nn.Dropout(0.5)], set()),
}  # fmt: skip


def _assign(y: Any) -> Any:
    z = torch.zeros(y.shape[0], 6, 4, 4)
    z[:, 1:5] = y
    z[:, 5] = y[:, 0] * 2
    return z


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_between_spikes(name: str) -> None:
    op, parts, wanted = OPERATIONS[name]
    model = Between(op, *parts).eval()
    net = load(model, input_shape=(2, 4, 4))
    layers = list(net.layers)
    between = {net.layers[n].op for n in layers[layers.index("lif1") + 1 : layers.index("lif2")]}
    if wanted is not None:
        assert between == wanted
    x = np.random.default_rng(4).integers(0, 256, (5, 2, 4, 4), dtype=np.uint8)
    expected, scores = tm.module_spikes(model, torch.from_numpy(x).double() / 255.0, (tm.FoldedLIF,), 2)
    found = run_network(net, x, margins=True)
    np.testing.assert_array_equal(tm.flat(found.spikes)["lif1"], expected["lif1"])
    np.testing.assert_array_equal(tm.flat(found.spikes)["lif2"].sum(-1), expected["lif2"].sum(-1))  # it may number its neurons otherwise
    np.testing.assert_allclose(found.scores, scores[:, 0].numpy(), atol=1e-9)
    assert 0 < expected["lif2"].mean() < 1
    golden = run_graph(api.compile_model(net, "ideal").integer, x, load_chip("ideal")).spikes
    assert compare_spikes(found.spikes, golden, found.margins).exact


def test_factory_and_weights(tmp_path: Path) -> None:
    """file.py:factory with safetensors and .pt; a pickle with code in it is not run."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path / "mine.py"
    path.write_text("from tests.frontends.torch import models as tm\n\n\ndef net():\n    return tm.settle(tm.ResearchMixer(1), seed=9)\n")
    trained = tm.settle(tm.ResearchMixer(1), seed=4)
    state = {key: value.clone() for key, value in trained.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "w.pt")
    x = np.random.default_rng(0).integers(0, 256, (2, 2, 6, 6), dtype=np.uint8)
    wanted = run_network(load(trained, input_shape=(2, 6, 6)), x).scores
    for name in ("w.safetensors", "w.pt"):
        net = load(f"{path}:net", weights=tmp_path / name, input_shape=(2, 6, 6))
        np.testing.assert_array_equal(run_network(net, x).scores, wanted)
    assert not np.array_equal(run_network(load(f"{path}:net", np.zeros((1, 2, 6, 6))), x).scores, wanted)

    torch.save(trained, tmp_path / "whole.pt")
    save_file({key: value for key, value in state.items() if key != "head.bias"}, tmp_path / "less.safetensors")
    for weights, message in (
        ("whole.pt", r"hold a tests\.frontends\.\S+, which cannot be read without running code"),
        ("less.safetensors", "head.bias is missing"),
        ("none.pt", "none.pt do not exist; give a .safetensors or .pt file"),
    ):
        with pytest.raises(ValueError, match=message):
            load(f"{path}:net", weights=tmp_path / weights, input_shape=(2, 6, 6))
    for model, message in (
        (f"{path}:nets", "has no function nets; it has net"),
        (f"{tmp_path}/none.py:net", "does not exist"),
        ("no_such_package.models:net", "cannot be imported"),
        (f"{path}:tm", "has no function tm"),
    ):
        with pytest.raises(ValueError, match=message):
            load(model, input_shape=(2, 6, 6))
