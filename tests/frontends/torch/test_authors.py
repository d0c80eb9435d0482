"""Files and classes as the authors of spiking transformers publish them: STMixer's neuron and checkpoint, CUDA neurons, timm's checkpoints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from neurosim import load  # noqa: E402
from neurosim.errors import ModelError  # noqa: E402
from neurosim.golden import run_network  # noqa: E402
from tests.frontends.torch import authors, published  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
torch.set_num_threads(1)


def stmixer(steps: int) -> nn.Module:
    """Its published class in a small size; every layer fires."""
    torch.manual_seed(0)
    model = tm.settle(published.STMixerV3(12, 2, 16, steps, 2, 2, 2, 3))
    for mix in (m for m in model.modules() if isinstance(m, published.STM)):
        for linear in mix.linear_mix:
            nn.init.normal_(linear.weight, 0.0, 1.0)
    return model


def test_the_published_class_and_checkpoint_of_stmixer(tmp_path: Path) -> None:
    """Unregistered and unedited; and its checkpoint by names and sizes alone, with branches that only training needs."""
    model, x = stmixer(2), np.random.default_rng(0).integers(0, 256, (3, 3, 12, 12), dtype=np.uint8)
    net = load(model, input_shape=(3, 12, 12))
    expected, scores = published.spikes_of(model, x, 2)
    found = run_network(net, x)
    assert set(found.spikes) == set(expected)
    for layer, spikes in found.spikes.items():
        assert spikes.any(), layer
        np.testing.assert_array_equal(spikes, expected[layer], err_msg=layer)
    np.testing.assert_allclose(found.scores, scores, atol=1e-9)

    state = {name: value.clone() for name, value in model.state_dict().items()}
    save_file(state | {"sml1.head.weight": torch.ones(3, 16)}, tmp_path / "stmixer.safetensors")
    sizes = {"img_size": 12, "in_channels": 3, "downsample": 2, "embed_dim": 16, "steps": 2, "mlp_ratio": 2, "depth": 2, "heads": 2, "classes": 3,
             "decay": 0.5, "threshold": 1.0, "bn_eps": 1e-5}  # fmt: skip
    config = {"format": "neurosim-checkpoint", "format_version": 1, "architecture": "stmixer", "weights": "stmixer.safetensors"} | sizes
    (tmp_path / "stmixer.json").write_text(json.dumps(config))
    again = run_network(load(str(tmp_path / "stmixer.json")), x)
    np.testing.assert_allclose(again.scores, scores, atol=1e-9)
    assert [int(s.sum()) for s in again.spikes.values()] == [int(s.sum()) for s in found.spikes.values()]

    del state["block.1.token_mix.attn.linear_mix.0.weight"]
    save_file(state, tmp_path / "stmixer.safetensors")
    with pytest.raises(ModelError, match=r"blocks.1.token_mix.mix.weight has the heads \[1\], some are missing"):
        load(str(tmp_path / "stmixer.json"))


def test_a_lifspike_that_computes_something_else_is_refused() -> None:
    """A name proves nothing: the rule is tried against the class's own forward."""

    class LIFSpike(published.LIFSpike):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(0.75 * x)

    with pytest.raises(ModelError, match="its rule and its forward differ"):
        load(nn.Sequential(nn.Linear(4, 3), LIFSpike(), nn.Linear(3, 2)).eval(), input_shape=(4,))
    with pytest.raises(ModelError, match="it is a ReLU; value use_ann=True"):
        load(nn.Sequential(nn.Linear(4, 3), published.LIFSpike(use_ann=True)).eval(), input_shape=(4,))


class OnGpu(authors.MultiStepLIFNode):
    """As spikingjelly's with backend='cupy', which launches CUDA kernels."""

    __module__ = "spikingjelly.clock_driven.neuron"

    def forward(self, x_seq: Tensor) -> Tensor:
        if self.backend == "cupy":
            raise RuntimeError("no CUDA device")
        return super().forward(x_seq)


def test_neurons_of_cuda_kernels_run_on_the_cpu() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc, self.lif, self.head = nn.Linear(6, 8), OnGpu(backend="cupy"), nn.Linear(8, 3)
            nn.init.uniform_(self.fc.weight, -1.0, 4.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lif(self.fc(x).repeat(3, 1, 1))).mean(0)

    model = Net().eval()
    assert load(model, input_shape=(6,)).steps == 3
    assert model.lif.backend == "cupy"


class Foreign:
    def __reduce__(self) -> Any:
        return print, ("this code ran",)


def test_checkpoints_of_timm_are_read_and_others_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    path = tmp_path / "mine.py"
    path.write_text("from tests.frontends.torch import test_authors\n\n\ndef net():\n    return test_authors.stmixer(1)\n")
    trained, x = stmixer(1), np.random.default_rng(0).integers(0, 256, (2, 3, 12, 12), dtype=np.uint8)
    nn.init.normal_(trained.head.weight)
    saved = {
        "epoch": 3, "arch": "stmixer", "state_dict": trained.state_dict(), "optimizer": torch.optim.AdamW(trained.parameters()).state_dict(),
        "version": 2, "args": argparse.Namespace(lr=1e-3, mean=(0.5, 0.5), model_ema=False), "metric": np.float64(77.1), "loss": np.float32(1.0),
    }  # fmt: skip
    torch.save(saved, tmp_path / "best.pth.tar")
    net = load(f"{path}:net", weights=tmp_path / "best.pth.tar", input_shape=(3, 12, 12))
    np.testing.assert_array_equal(run_network(net, x).scores, run_network(load(trained, input_shape=(3, 12, 12)), x).scores)

    torch.save(saved | {"args": Foreign()}, tmp_path / "code.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "best.pth.tar").read_bytes()[:1000])
    (tmp_path / "text.pth").write_text("no weights here")
    for name, message in (("code", "hold a print, which cannot be read without running code"), ("cut", "are no checkpoint of PyTorch"),
                          ("text", "are no checkpoint of PyTorch")):  # fmt: skip
        with pytest.raises(ModelError, match=message) as raised:
            load(f"{path}:net", weights=tmp_path / f"{name}.pth", input_shape=(3, 12, 12))
        assert "\n" not in str(raised.value)
        assert "\x1b" not in str(raised.value)
        assert len(str(raised.value)) < 350
    assert "this code ran" not in capsys.readouterr().out
