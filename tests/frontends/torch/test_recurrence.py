"""Loops over steps inside a module that feed spikes back: connections of the Network, equal to the module spike for spike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from neurosim import api, load, register_neuron  # noqa: E402
from neurosim.errors import UnsupportedLayer  # noqa: E402
from neurosim.golden import run_graph, run_network  # noqa: E402
from tests.exactness import compare_spikes  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = pytest.mark.torch
torch.set_num_threads(1)
STEPS = 4


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurosim.frontends.torch import neurons as torch_neurons

    monkeypatch.setattr(torch_neurons, "_REGISTERED", {})
    register_neuron(tm.StepLIF, tm.rule_step, reset=tm.StepLIF.reset)


class Recurrent(nn.Module):
    """A layer that reads its own spikes of the step before, through weights and a bias, and what behind it fired ``lag`` steps before."""

    def __init__(self, image: bool, lag: int = 1, convolve: bool = False, norm: bool = False, first: int = 0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.image, self.lag, self.first = image, lag, first
        make: Any = (lambda a, b, bias: nn.Conv2d(a, b, 3, padding=1, bias=bias)) if convolve else nn.Linear
        self.fc, self.rec, self.lif = make(4, 6, True), make(6, 6, False), tm.StepLIF(0.3)
        self.out, self.back, self.lif2 = make(6, 3, True), make(3, 6, True), tm.StepLIF(0.15)
        self.norm = tm.settle(nn.BatchNorm1d(6)) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        fired: list[Tensor] = []
        z, total = torch.tensor(0.0), 0.0
        for t in range(STEPS):
            current = self.fc(x if self.image else x[:, t])
            zero = torch.zeros(*current.shape[:1], 6, *current.shape[2:])
            z = self.rec(zero if t == 0 else z) if t >= self.first else torch.zeros(1)
            current = current + z + 0.05
            if not self.image:
                current = current + self.back(fired[-self.lag] if t >= self.lag else zero[:, :3])
            z = self.lif(self.norm(current))
            fired.append(self.lif2(self.out(z)))
            total = total + fired[-1]
        return total.flatten(1) / STEPS


CASES = {
    "image": (Recurrent(True), (4,)),
    "events, two loops": (Recurrent(False), (STEPS, 4)),
    "convolutions": (Recurrent(True, convolve=True), (4, 3, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_spikes_fed_back_are_connections(name: str) -> None:
    model, shape = CASES[name]
    net = load(model.eval(), input_shape=shape, **({} if model.image else {"input_axes": "btc"}))
    assert {(target, delay) for _, target, delay in net.connections} == {("lif", 1)}
    rng = np.random.default_rng(0)
    if model.image:
        data = rng.integers(0, 256, (30, *net.input_contract.shape), dtype=np.uint8)
        x = torch.from_numpy(data).double().reshape(30, *shape) / 255.0
    else:
        data = rng.integers(0, 2, (30, STEPS, *net.input_contract.shape), dtype=np.uint8)
        x = torch.from_numpy(data).double().reshape(30, *shape)
    expected, scores = tm.module_spikes(model, x, (tm.StepLIF,), STEPS)
    real = run_network(net, data, margins=True)
    for layer, spikes in tm.flat(real.spikes).items():
        assert 0 < spikes.mean() < 1
        np.testing.assert_array_equal(spikes, expected[layer], err_msg=layer)
    np.testing.assert_allclose(real.scores, scores[:, 0].numpy(), atol=1e-9)
    done = api.compile_model(net, "ideal")
    golden = run_graph(done.integer, data, done.program.chip).spikes
    assert compare_spikes(real.spikes, golden, real.margins).exact


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Recurrent(False, norm=True), r"norm \(batch_norm\w*|_native_batch_norm\w*\): it joins values of different time steps"),
        (Recurrent(False, lag=2), "its input is not computed in the same way in every step"),
        (Recurrent(True, first=2), "its input is not computed in the same way in every step"),
    ],
)
def test_loops_that_are_refused(model: nn.Module, message: str) -> None:
    """A norm behind the sum; two loops of different lengths into one layer; a loop that begins late."""
    shape = {"input_shape": (4,)} if model.image else {"input_shape": (STEPS, 4), "input_axes": "btc"}
    with pytest.raises(UnsupportedLayer, match=message):
        load(model.eval(), **shape)
