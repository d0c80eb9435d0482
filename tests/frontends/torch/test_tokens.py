"""Maps that are flattened to tokens before neurons, as spiking transformers do, at widths at which nothing could be written out as a matrix."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from neurosim import api, load, register_neuron  # noqa: E402
from neurosim.golden import run_network  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
torch.set_num_threads(1)
WIDTH = 256


@pytest.fixture(autouse=True, scope="module")
def _rule() -> None:
    register_neuron(tm.FoldedLIF, tm.rule_folded)


def lively(conv: nn.Module) -> nn.Module:
    with torch.no_grad():
        conv.weight.mul_(3)
    return conv


class Joined(nn.Module):
    """STMixer: two paths of the image are joined, flattened, and read by neurons."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv0, self.lif0 = lively(nn.Conv2d(3, c, 3, padding=1)), tm.FoldedLIF(1)
        self.conv, self.short = lively(nn.Conv2d(c, c * 7 // 8, 3, stride=2, padding=1)), nn.Conv2d(3, c // 8, 2, stride=2)
        self.lif, self.head = tm.FoldedLIF(1), nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.short(x), self.conv(self.lif0(self.conv0(x)))], 1)
        return self.head(self.lif(x.flatten(2)).mean(-1))


class Along(nn.Module):
    """QKFormer (kernel 1) and MSViT (kernel 3): a convolution along the tokens, neurons, and back to the map."""

    def __init__(self, c: int, kernel: int) -> None:
        super().__init__()
        self.conv0, self.lif0 = lively(nn.Conv2d(3, c, 3, padding=1)), tm.FoldedLIF(1)
        self.along, self.lif = lively(nn.Conv1d(c, c, kernel, padding=kernel // 2)), tm.FoldedLIF(1)
        self.conv, self.lif2, self.head = lively(nn.Conv2d(c, c, 3, padding=1)), tm.FoldedLIF(1), nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif0(self.conv0(x))
        x = self.lif(self.along(x.flatten(2))).reshape(x.shape)
        return self.head(self.lif2(self.conv(x)).mean((-1, -2)))


class Channels(nn.Module):
    """Spikformer: tokens in front, Linear over the channels, heads apart and together again, and back to the map."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv0, self.lif0 = lively(nn.Conv2d(3, c, 3, padding=1)), tm.FoldedLIF(1)
        self.fc, self.lif = lively(nn.Linear(c, c)), tm.FoldedLIF(1)
        self.conv, self.lif2, self.head = lively(nn.Conv2d(c, c, 3, padding=1)), tm.FoldedLIF(1), nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif0(self.conv0(x))
        B, C, H, W = x.shape
        y = self.lif(self.fc(x.flatten(2).transpose(1, 2)))
        y = y.reshape(B, H * W, 8, C // 8).permute(0, 2, 1, 3).transpose(2, 3).reshape(B, C, H * W)
        return self.head(self.lif2(self.conv(y.reshape(B, C, H, W))).mean((-1, -2)))


@pytest.mark.parametrize("make", [Joined, lambda c: Along(c, 1), lambda c: Along(c, 3), Channels])
def test_flattened_maps_stay_maps(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = make(WIDTH).eval()
    net = load(model, input_shape=(3, 16, 16))
    assert {layer.shape for layer in net.layers.values() if layer.op == "lif"} <= {(WIDTH, 16, 16), (WIDTH, 8, 8)}
    assert not [name for name, layer in net.layers.items() if layer.op in ("reshape", "sparse")]
    for chip in ("ideal", "async-mesh-plus"):
        assert not [row for row in api.check(net, chip) if row.status == "refused"]
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    expected, _ = tm.module_spikes(model, torch.from_numpy(x).double() / 255.0, (tm.FoldedLIF,), 1)
    found = run_network(net, x)
    for name, spikes in tm.flat(found.spikes).items():
        assert 0.01 < spikes.mean() < 0.99, name
        np.testing.assert_array_equal(spikes, expected[name], err_msg=name)
