"""The spiking transformers that come with spikingjelly, unedited and small: the Network read from each is the module, spike for spike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from neurosim import api, load  # noqa: E402
from neurosim.errors import UnsupportedLayer  # noqa: E402
from neurosim.golden import run_graph, run_network  # noqa: E402
from tests.exactness import compare_spikes  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
torch.set_num_threads(1)
SAMPLES = 4
RATES = {"attn.qkv_conv_bn.1": 0.5}


def spikformer(T: int) -> nn.Module:
    from spikingjelly.activation_based.model.spikformer import Spikformer

    return Spikformer(T, 2, 16, 16, patch_size=4, num_classes=3, embed_dims=16, num_heads=2, mlp_ratio=2.0, depths=1)


def qkformer(T: int, kind: str = "token") -> nn.Module:
    from spikingjelly.activation_based.model.qkformer import QKFormer

    return QKFormer(T, 2, 3, 32, (2, 2, 2), (1, 1, 1), 1.0, kind)


def driven(T: int) -> nn.Module:
    from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer

    return SpikeDrivenTransformer(T, 2, 3, 16, 2, 1, 2.0, "0011")


def maxformer(T: int) -> nn.Module:
    from spikingjelly.activation_based.model.maxformer import MaxFormer

    return MaxFormer(T, 2, 3, 32, (1, 1, 1), 1.0, cifar=True)


MODELS: dict[str, tuple[Callable[[int], nn.Module], int, set[str], str]] = {
    "spikformer": (spikformer, 16, {"attention", "max_pool"}, ""),
    "qkformer": (qkformer, 32, {"attention", "gate", "max_pool"}, ""),
    "qkformer, channels": (lambda T: qkformer(T, "channel"), 32, {"attention", "gate", "max_pool"}, ""),
    "spike-driven": (driven, 16, {"gate", "max_pool"}, r"patch_embed.final_stage.2 \(max_pool\): the largest of real values goes into a lif"),
    "max-former": (maxformer, 16, {"attention", "max_pool"}, r"patch_embed3.shortcut.2 \(max_pool\): the largest of real values goes into a lif"),
}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_transformers_of_spikingjelly(name: str, steps: int) -> None:
    pytest.importorskip("spikingjelly.activation_based.model.spikformer")
    from spikingjelly.activation_based import functional, neuron

    make, size, ops, refused = MODELS[name]
    torch.manual_seed(0)
    x = np.random.default_rng(0).integers(0, 256, (SAMPLES, 2, size, size), dtype=np.uint8)
    model = tm.enliven(make(steps), torch.from_numpy(x) / 255.0, RATES)
    functional.reset_net(model)
    net = load(model, input_shape=(2, size, size))
    assert net.steps == steps
    assert {layer.op for layer in net.layers.values()} & {"attention", "gate", "max_pool", "matmul", "multiply"} == ops
    images = torch.from_numpy(x).double() / 255.0
    expected, scores = tm.module_spikes(model, images, (neuron.BaseNode,), steps, functional.reset_net)
    real = run_network(net, x, margins=True)
    assert set(real.spikes) == set(expected)
    for layer, spikes in tm.flat(real.spikes).items():
        assert spikes.any(), layer
        np.testing.assert_array_equal(spikes.sum(-1), expected[layer].sum(-1), err_msg=layer)  # tokens may be numbered otherwise
    np.testing.assert_allclose(real.scores, scores.reshape(SAMPLES, -1, 3).mean(1).numpy(), atol=1e-9)
    if refused:  # its residual stream holds the maxima of currents, which the head reads without a neuron
        with pytest.raises(UnsupportedLayer, match=refused):
            api.build(net, "async-mesh-plus")
        return
    for chip in ("ideal", "async-mesh-plus"):
        done: Any = api.compile_model(net, chip)
        golden = run_graph(done.integer, x, done.program.chip).spikes
        if chip == "ideal":
            assert compare_spikes(real.spikes, golden, real.margins).exact
