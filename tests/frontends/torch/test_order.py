"""Spikes of a layer come in the order and shape of the module's own tensor, whatever geometry its population has."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="imports torch modules")

from torch import nn  # noqa: E402

from neurosim import api, load, register_neuron  # noqa: E402
from neurosim.golden import run_graph, run_network  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = pytest.mark.torch
torch.set_num_threads(1)
STEPS = 2


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurosim.frontends.torch import neurons as torch_neurons

    monkeypatch.setattr(torch_neurons, "_REGISTERED", {})
    register_neuron(tm.FoldedLIF, tm.rule_folded)


class Last(nn.Module):
    """Channels last behind the convolution; then a shuffled map; then a flat layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.nhwc = nn.Conv2d(2, 8, 3, padding=1), tm.FoldedLIF(STEPS)
        self.conv2, self.shuffle, self.map = nn.Conv2d(8, 8, 3, padding=1), nn.PixelShuffle(2), tm.FoldedLIF(STEPS)
        self.tokens, self.fc, self.flat = tm.FoldedLIF(STEPS), nn.Linear(128, 5), tm.FoldedLIF(STEPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(0, 1)
        x = self.nhwc(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.map(self.shuffle(self.conv2(x)))
        x = self.tokens(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        return self.flat(self.fc(x.flatten(1))).unflatten(0, (STEPS, -1)).mean(0)


def test_spikes_are_the_tensors_of_the_modules() -> None:
    torch.manual_seed(1)
    model = Last().eval()
    for p in model.parameters():
        p.data *= 2.5
    model.fc.weight.data *= 4
    net = load(model, input_shape=(STEPS, 2, 4, 4), input_axes="tbchw")
    x = np.random.default_rng(0).integers(0, 2, (2, STEPS, 2, 4, 4)).astype(np.uint8)
    wanted = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: wanted.__setitem__(name, out.unflatten(0, (STEPS, -1)).transpose(0, 1).numpy()))
        for name, module in model.double().named_modules()
        if isinstance(module, tm.FoldedLIF)
    ]
    with torch.no_grad():
        model(torch.from_numpy(x).double().transpose(0, 1))
    for hook in hooks:
        hook.remove()
    done = api.compile_model(net, "ideal")
    run = api.simulate(done.program, x, engine="reference")
    golden, integer = run_network(net, x), run_graph(done.integer, x, done.program.chip)
    assert {name: spikes.shape[2:] for name, spikes in wanted.items()} == {"nhwc": (4, 4, 8), "map": (2, 8, 8), "tokens": (64, 2), "flat": (5,)}
    for name, spikes in wanted.items():
        assert spikes.any()
        for found in (run.spikes(name), golden.spikes[name], integer.spikes[name]):
            np.testing.assert_array_equal(found, spikes, err_msg=name)
    note = next(note for note in net.notes if "in another order" in note)
    assert "nhwc (4, 4, 8) as (8, 4, 4)" in note
    assert "flat" not in note
