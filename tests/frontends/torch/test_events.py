"""Max-pool, gates and attention read from modules: every way in which they are written, and look-alikes of the published spiking transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from neurosim import api, load, register_neuron  # noqa: E402
from neurosim.errors import ModelError, UnsupportedLayer  # noqa: E402
from neurosim.golden import run_graph, run_network  # noqa: E402
from neurosim.network import Network  # noqa: E402
from tests.exactness import compare_spikes  # noqa: E402
from tests.frontends.torch import authors  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = pytest.mark.torch
torch.set_num_threads(1)
SAMPLES = 6


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurosim.frontends.torch import neurons as torch_neurons

    monkeypatch.setattr(torch_neurons, "_REGISTERED", {})
    register_neuron(tm.FoldedLIF, tm.rule_folded)


def equal(model: nn.Module, kinds: tuple[type, ...], steps: int, net: Network, x: Any, *, order: bool = True) -> None:
    """Spikes of the Network's neuron layers and the scores, module in float64 against Network; every layer fires, none always.

    ``order`` False: a layer may number its neurons otherwise.
    """
    expected, scores = tm.module_spikes(model, torch.from_numpy(x).double() / 255.0, kinds, steps)
    found = run_network(net, x)
    spikes = tm.flat(found.spikes)
    assert set(spikes) <= set(expected)
    for name in spikes:
        wanted = expected[name]
        assert 0 < wanted.mean() < 1, name
        if order:
            np.testing.assert_array_equal(spikes[name], wanted, err_msg=name)
        else:
            np.testing.assert_array_equal(spikes[name].sum(-1), wanted.sum(-1), err_msg=name)
    np.testing.assert_allclose(found.scores, scores[:, 0].numpy(), atol=1e-9)


def contrasting(conv: nn.Conv2d) -> nn.Conv2d:
    """Weights that sum to 0, so that about half of the outputs are above 0 in every channel."""
    with torch.no_grad():
        nn.init.normal_(conv.weight, std=0.6)
        conv.weight -= conv.weight.mean((1, 2, 3), keepdim=True)
        conv.bias.zero_()
    return conv


class Spikes(nn.Module):
    """Image -> spikes of three layers [T * B, 4, 4, 4] -> ``op(self, q, k, v)`` -> a neuron layer -> scores."""

    def __init__(self, op: Callable[..., Tensor], steps: int, *parts: nn.Module, threshold: float = 1.0) -> None:
        super().__init__()
        self.op, self.T = op, steps
        self.stem = contrasting(nn.Conv2d(2, 12, 3, padding=1))
        self.q, self.k, self.v = tm.FoldedLIF(steps, 0.5, 0.3), tm.FoldedLIF(steps, 0.5, 0.2), tm.FoldedLIF(steps, 0.5, 0.25)
        self.parts = nn.ModuleList(parts)
        self.last = tm.FoldedLIF(steps, 0.5, threshold)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).repeat(self.T, 1, 1, 1)
        spikes = [lif(part) for lif, part in zip((self.q, self.k, self.v), y.chunk(3, 1), strict=True)]
        return self.last(self.op(self, *spikes)).flatten(1).unflatten(0, (self.T, -1)).mean(0)


class Fused(nn.Module):
    """One neuron layer for q, k and v, [T, B, N, 3 C] -> [3, T, B, heads, N, d]."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.T = steps
        self.stem = contrasting(nn.Conv2d(2, 12, 3, padding=1))
        self.qkv_lif, self.attn_lif = tm.FoldedLIF(steps, 0.5, 0.25), tm.FoldedLIF(steps, 0.5, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.qkv_lif(self.stem(x).repeat(self.T, 1, 1, 1)).flatten(2).transpose(1, 2)
        q, k, v = y.reshape(self.T, -1, 16, 3, 2, 2).permute(3, 0, 1, 4, 2, 5)
        y = ((q @ k.transpose(-2, -1)) @ v) * 0.25
        return self.attn_lif(y.transpose(2, 3).reshape(-1, 16, 4)).flatten(1).unflatten(0, (self.T, -1)).mean(0)


def _rows(x: Tensor, heads: int = 2) -> Tensor:
    """[T * B, C, H, W] -> [T * B, heads, N, d]."""
    return x.flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)


def _back(y: Tensor) -> Tensor:
    return y.transpose(2, 3).flatten(1, 2).reshape(-1, 4, 4, 4)


def _timed(x: Tensor) -> Tensor:
    """[T * B, C, H, W] -> [T, B, heads, N, d]."""
    return _rows(x).unflatten(0, (-1, 1))


def _scores_first(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (_timed(x) for x in (q, k, v))
    return _back((((q @ k.transpose(-2, -1)) * 0.125) @ v).flatten(0, 1))


def _channels_first(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.flatten(2).unflatten(1, (2, 2)) for x in (q, k, v))
    return ((v @ k.mT) @ q / 8).flatten(1, 2).reshape(-1, 4, 4, 4)


def _einsum(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (_rows(x) for x in (q, k, v))
    return _back(torch.einsum("bhnm,bhmd->bhnd", torch.einsum("bhnd,bhmd->bhnm", q, k) * 0.125, v))


ATTENTIONS: dict[str, tuple[Callable[..., Tensor], int, float]] = {
    "scores first, time apart": (_scores_first, 2, 0.125),
    "keys and values first": (lambda m, q, k, v: _back((_rows(q) @ (_rows(k).mT @ _rows(v))) * 0.125), 2, 0.125),
    "queries scaled": (lambda m, q, k, v: _back((_rows(q) * 0.125) @ _rows(k).mT @ _rows(v)), 2, 0.125),
    "scaled twice": (lambda m, q, k, v: _back((_rows(q) @ (_rows(k) / 4).mT) @ _rows(v) * math.sqrt(0.25)), 2, 0.125),
    "channels in rows": (_channels_first, 2, 0.125),
    "einsum": (_einsum, 2, 0.125),
    "one head": (lambda m, q, k, v: _back((_rows(q, 1) @ _rows(k, 1).mT) @ _rows(v, 1) * 0.1), 1, 0.1),
    "bmm": (lambda m, q, k, v: (q.flatten(2).mT.bmm(k.flatten(2)).bmm(v.flatten(2).mT) * 0.1).mT.reshape(-1, 4, 4, 4), 1, 0.1),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_in_any_order_and_layout(name: str) -> None:
    steps = 1 if name == "einsum" else 3
    op, heads, scale = ATTENTIONS[name]
    torch.manual_seed(4)
    model = Spikes(op, steps, threshold=0.5).eval()
    net = load(model, input_shape=(2, 4, 4))
    (layer,) = [layer for layer in net.layers.values() if layer.op not in ("input", "conv2d", "lif", "reshape", "concat")]
    assert (layer.op, layer.name, layer.inputs) == ("attention", "attention", ("q", "k", "v"))
    assert layer.params == {"heads": heads, "scale": pytest.approx(scale)}
    equal(model, (tm.FoldedLIF,), steps, net, np.random.default_rng(1).integers(0, 256, (SAMPLES, 2, 4, 4), dtype=np.uint8))


def test_attention_over_slices_of_one_layer() -> None:
    torch.manual_seed(4)
    model, steps = Fused(3).eval(), 3
    net = load(model, input_shape=(2, 4, 4))
    layer = next(layer for layer in net.layers.values() if layer.op == "attention")
    parts = [net.layers[name] for name in layer.inputs]
    assert [(part.op, part.inputs, part.shape, part.params["weight"].tolist()) for part in parts] == [
        ("sparse", ("qkv_lif",), (4, 4, 4), [1.0] * 64)
    ] * 3
    assert np.diff([part.params["indptr"] for part in parts]).sum() == 12 * 16  # every neuron once
    equal(model, (tm.FoldedLIF,), steps, net, np.random.default_rng(1).integers(0, 256, (SAMPLES, 2, 4, 4), dtype=np.uint8), order=False)


def _token(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    gate = m.parts[0](q.flatten(2).unflatten(1, (2, 2)).sum(2, keepdim=True))
    return (gate * k.flatten(2).unflatten(1, (2, 2))).reshape(k.shape)


def _halting(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (k + v) * (1.0 - m.parts[0](q.mean(1, keepdim=True)))


def _driven(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Spike-driven attention: q where a neuron on the column sums of k * v fires."""
    return q * m.parts[0]((k * v).flatten(2).sum(-1, keepdim=True)).unsqueeze(-1)


GATES: dict[str, tuple[Callable[..., Tensor], float, list[tuple[str, tuple[int, ...], bool]]]] = {
    "per head and token": (_token, 1.0, [("k", (2, 4, 4), False)]),
    "per channel": (lambda m, q, k, v: torch.mul(k, m.parts[0](q.sum((2, 3), keepdim=True))), 7.0, [("k", (4, 1, 1), False)]),
    "all of a sample": (lambda m, q, k, v: m.parts[0](q.flatten(1).sum(1)).view(-1, 1, 1, 1) * k, 36.0, [("k", (1, 1, 1), False)]),
    "inverted, of a sum": (_halting, 0.5, [("add", (1, 4, 4), True)]),
    "inverted, written as rsub": (lambda m, q, k, v: v.mul(torch.rsub(q, 1)) + m.parts[0](k), 1.0, [("v", (4, 4, 4), True)]),
    "product of two layers": (_driven, 2.0, [("k", (4, 4, 4), False), ("q", (4, 1, 1), False)]),
}


@pytest.mark.parametrize("name", GATES)
def test_products_with_spikes_are_gates(name: str) -> None:
    steps = 1 if name == "per channel" else 3
    op, threshold, wanted = GATES[name]
    torch.manual_seed(4)
    model = Spikes(op, steps, tm.FoldedLIF(steps, 0.5, threshold)).eval()
    net = load(model, input_shape=(2, 4, 4))
    gates = [layer for layer in net.layers.values() if layer.op == "gate"]
    assert [(g.inputs[0].partition("_")[0], net.shape(g.inputs[1]), g.params["inverted"]) for g in gates] == wanted
    assert all(g.params["count"] == 1 and not g.params["latched"] for g in gates)
    assert {layer.op for layer in net.layers.values()} & {"scale", "sparse"} == ({"sparse"} if name == "all of a sample" else set())
    equal(model, (tm.FoldedLIF,), steps, net, np.random.default_rng(1).integers(0, 256, (SAMPLES, 2, 4, 4), dtype=np.uint8))


POOLS: dict[str, tuple[Callable[..., Tensor], tuple[Any, Any, Any]]] = {
    "spikes": (lambda m, q, k, v: F.max_pool2d(q, 3, 2, 1), ((3, 3), (2, 2), (1, 1))),
    "currents": (lambda m, q, k, v: nn.functional.max_pool2d(q - 0.5 * k, (2, 1), (1, 2)), ((2, 1), (1, 2), (0, 0))),
    "constants before it": (lambda m, q, k, v: F.max_pool2d(k + torch.linspace(0, 1, 16).view(4, 4), 2), ((2, 2), (2, 2), (0, 0))),
    "rows": (lambda m, q, k, v: F.max_pool1d(q.flatten(2), 3, 2, 1), ((3, 1), (2, 1), (1, 0))),
    "adaptive": (lambda m, q, k, v: F.adaptive_max_pool2d(q, 2), ((2, 2), (2, 2), (0, 0))),
    "ceil_mode that changes nothing": (lambda m, q, k, v: F.max_pool2d(q, 2, ceil_mode=True), ((2, 2), (2, 2), (0, 0))),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pool(name: str) -> None:
    op, window = POOLS[name]
    torch.manual_seed(4)
    model = Spikes(op, 2, threshold=0.5).eval()
    net = load(model, input_shape=(2, 4, 4))
    (layer,) = [layer for layer in net.layers.values() if layer.op == "max_pool"]
    assert tuple(layer.params[key] for key in ("kernel", "stride", "padding")) == window
    equal(model, (tm.FoldedLIF,), 2, net, np.random.default_rng(1).integers(0, 256, (SAMPLES, 2, 4, 4), dtype=np.uint8))


REFUSED: dict[str, tuple[Callable[..., Tensor], str]] = {
    "ceil_mode": (
        lambda m, q, k, v: F.max_pool2d(q, 3, 2, ceil_mode=True),
        r"\(max_pool\): windows that reach over the edge .*value \(2, 2\), limit \(1, 1\)",
    ),
    "dilation": (lambda m, q, k, v: F.max_pool2d(q, 2, 1, 0, 2), "its windows have holes; value dilation .2, 2., limit 1; use dilation 1"),
    "adaptive": (lambda m, q, k, v: F.adaptive_max_pool2d(q, 3), "windows differ in size"),
    "mean over the steps": (lambda m, q, k, v: F.max_pool2d(q.unflatten(0, (2, -1)).mean(0), 2).repeat(2, 1, 1, 1), "mean over the steps"),
    "gate of a mean": (lambda m, q, k, v: q * k.unflatten(0, (2, -1)).mean(0), r"\(gate\): it reads a mean over the steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_windows_and_means_that_are_refused(name: str) -> None:
    op, message = REFUSED[name]
    with pytest.raises(UnsupportedLayer, match=message):
        load(Spikes(op, 2).eval(), input_shape=(2, 4, 4))


def test_a_product_of_spikes_that_is_no_attention_reaches_the_check() -> None:
    """q k^T alone, and softmax between the two products: kept by name, not verified, refused with the layer."""
    for op, names in (
        (lambda m, q, k, v: _rows(q) @ _rows(k).mT, ["matmul"]),
        (lambda m, q, k, v: _back((_rows(q) @ _rows(k).mT).softmax(-1) @ _rows(v)), ["matmul", "softmax", "matmul"]),
    ):
        net = load(Spikes(op, 1).eval(), input_shape=(2, 4, 4))
        assert [row.op for row in api.check(net, "ideal") if row.status == "refused"] == names
        assert any("not verified" in note for note in net.notes)


# -- the published networks


RATES = {"stage2.0.attn.q_bn": 0.45, "attn.k_bn": 0.45, "attn.v_bn": 0.45, "block.0.attn.q_bn": 0.45, "block.1.attn.q_bn": 0.45, "attn.p_bn": 0.1}
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "spikformer": authors.Spikformer,
    "spikformer, 1x1 convolutions": authors.SpikformerConv,
    "qkformer": authors.Hierarchical,
    "msvit": lambda steps: authors.Hierarchical(steps, authors.Token_MS_Attention),
}


def published(make: Callable[[int], nn.Module], steps: int) -> tuple[nn.Module, Any]:
    """The network with lively random weights, and images."""
    torch.manual_seed(0)
    x = np.random.default_rng(0).integers(0, 256, (SAMPLES, 2, 8, 8), dtype=np.uint8)
    return tm.enliven(make(steps), torch.from_numpy(x) / 255.0, RATES), x


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks_load_unedited(name: str, steps: int) -> None:
    model, x = published(NETWORKS[name], steps)
    net = load(model, input_shape=(2, 8, 8))
    ops = {layer.op for layer in net.layers.values()}
    assert net.steps == steps
    assert {"attention", "max_pool"} <= ops
    assert ("gate" in ops) == (not name.startswith("spikformer"))
    assert not ops & {"sparse", "matmul", "multiply", "scale"}
    if name == "msvit":  # its thresholds of 0.5 are ignored by its code
        assert {layer.params["threshold"].item() for layer in net.layers.values() if layer.op == "lif"} == {1.0}
    assert not any("fired nothing" in note for note in net.notes)
    model_spikes(model, net, x, steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks_are_exact_on_the_ideal_chip(name: str) -> None:
    model, x = published(NETWORKS[name], 4)
    net = load(model, input_shape=(2, 8, 8))
    real, done = run_network(net, x, margins=True), api.compile_model(net, "ideal")
    assert compare_spikes(real.spikes, run_graph(done.integer, x, done.program.chip).spikes, real.margins).exact
    assert not [row for row in api.check(net, "async-mesh-plus") if row.status == "refused"]
    assert {row.op for row in api.check(net, "async-mesh") if row.status == "refused"} >= {"attention", "max_pool"}


def model_spikes(model: nn.Module, net: Network, x: Any, steps: int) -> None:
    """Layers of tokens are numbered (c, y, x) in the Network and (token, channel) in Spikformer's code, so spikes are counted by layer and step."""
    equal(model, (authors.MultiStepLIFNode,), steps, net, x, order=False)


def test_a_neuron_that_mixes_the_batch_is_refused_or_read_at_batch_1() -> None:
    """Released QKFormer and MSViT: the last neuron of the self-attention takes [T * B, C, N] for [steps, ...]."""
    model, x = published(lambda steps: authors.Hierarchical(steps, mixing=True), 2)
    with pytest.raises(ModelError, match=r"batch 2 is not twice batch 1: layer stage2.0.attn.proj_lif fires .* sees one sample at a time"):
        load(model, input_shape=(2, 8, 8))
    net = load(model, input_shape=(2, 8, 8), batch_mixing="ignore")
    assert any("read as it computes at batch 1" in note for note in net.notes)
    model_spikes(model, net, x, 2)


class HaltingBlock(nn.Module):
    """Tokens that halt: a neuron per token without leak and reset counts score spikes; once it fires, the token's spikes are dropped."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.T = steps
        self.stem, self.lif = contrasting(nn.Conv2d(2, 8, 3, padding=1)), tm.FoldedLIF(steps, 0.5, 0.25)
        self.score, self.score_lif, self.halt = nn.Conv2d(8, 2, 1), tm.FoldedLIF(steps, 0.5, 0.3), Latch(steps, 3.0)
        self.head = nn.Linear(8, 3)
        nn.init.uniform_(self.score.weight, -0.1, 0.4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lif(self.stem(x).repeat(self.T, 1, 1, 1))
        y = y * (1 - self.halt(self.score_lif(self.score(y)).sum(1, keepdim=True)))
        return self.head(y.mean((2, 3))).unflatten(0, (self.T, -1)).mean(0)


class Latch(tm.FoldedLIF):
    """v <- v + x; fires from the threshold on, in every step."""

    def __init__(self, steps: int, threshold: float) -> None:
        super().__init__(steps, 1.0, threshold)

    def forward(self, x: Tensor) -> Tensor:
        return (x.unflatten(0, (self.T, -1)).cumsum(0) >= self.thresh).to(x.dtype).flatten(0, 1)


def test_a_latched_neuron_halts_tokens() -> None:
    register_neuron(Latch, lambda m: {
        "decay": 1.0, "threshold": m.thresh, "reset": "subtract", "reset_by": 0.0, "layout": "time_batch", "steps": m.T,
    })  # fmt: skip
    torch.manual_seed(2)
    model = HaltingBlock(4).eval()
    net = load(model, input_shape=(2, 6, 6))
    (gate,) = [layer for layer in net.layers.values() if layer.op == "gate"]
    assert (gate.inputs, gate.params["inverted"], net.shape("halt")) == (("lif", "halt"), True, (1, 6, 6))
    assert net.layers["halt"].params["decay"] == 1.0
    assert net.layers["halt"].params["reset_by"].item() == 0.0
    equal(model, (tm.FoldedLIF,), 4, net, np.random.default_rng(1).integers(0, 256, (SAMPLES, 2, 6, 6), dtype=np.uint8))
