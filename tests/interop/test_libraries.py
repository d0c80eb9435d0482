"""Small models written with spikingjelly, snnTorch, sinabs and norse: exact on the ideal chip (DESIGN section 3) at T = 1 and T > 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from neurosim import api, load  # noqa: E402
from neurosim.chip import load_chip  # noqa: E402
from neurosim.errors import UnsupportedLayer  # noqa: E402
from neurosim.golden import run_graph, run_network  # noqa: E402
from tests.exactness import compare_spikes  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
torch.set_num_threads(1)
SAMPLES = 60


def exact(model: nn.Module, kinds: tuple[type, ...], steps: int, reset: Callable[[nn.Module], object], **options: Any) -> Any:
    """Load, build, compare every spike over random inputs; returns the Network."""
    model = model.eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight *= 2.0  # so that every layer fires
    net = load(model, **options)
    assert net.steps == steps
    rng = np.random.default_rng(6)
    if net.input_contract.kind == "image":
        data = rng.integers(0, 256, (SAMPLES, *net.input_contract.shape), dtype=np.uint8)
        x = torch.from_numpy(data).double().reshape(SAMPLES, *options["input_shape"]) / 255.0
    else:
        data = rng.integers(0, 2, (SAMPLES, steps, *net.input_contract.shape), dtype=np.uint8)
        x = torch.from_numpy(data).double().reshape(SAMPLES, *options["input_shape"])
        if options.get("input_axes", "b")[0] == "t":
            x = x.unsqueeze(2)  # [n, t, b, ...]: a sample is what the module takes at batch 1
            model = Batched(model)
    expected, _ = tm.module_spikes(model, x, kinds, steps, reset)
    expected = {name.removeprefix("inner."): spikes for name, spikes in expected.items()}
    most = max(int(layer.params["max_spikes"]) for layer in net.layers.values() if layer.op == "lif")
    assert all(spikes.any() and spikes.min() == 0 for spikes in expected.values())
    assert max(spikes.max() for spikes in expected.values()) >= min(most, 3)
    real = run_network(net, data, margins=True)
    assert set(expected) == set(real.spikes) - {"one"}  # which brings biases into synaptic currents
    golden = run_graph(api.compile_model(net, "ideal").integer, data, load_chip("ideal")).spikes
    comparison = compare_spikes({name: expected[name] for name in real.spikes if name in expected}, tm.flat(golden), tm.flat(real.margins))
    assert comparison.exact, comparison.wrong
    return net


class Batched(nn.Module):
    """Takes [1, t, 1, ...] and hands on [t, 1, ...]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner(x[0])


# -- spikingjelly


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", ["if", "lif", "lif soft", "plif", "step"])
def test_spikingjelly(kind: str, steps: int) -> None:
    base = pytest.importorskip("spikingjelly.activation_based.base")
    from spikingjelly.activation_based import functional, layer, neuron

    def make(**options: Any) -> nn.Module:
        match kind:
            case "if":
                return neuron.IFNode(**options)
            case "lif soft":
                return neuron.LIFNode(tau=4.0, decay_input=False, v_reset=None, **options)
            case "plif":
                return neuron.ParametricLIFNode(init_tau=2.0, **options)
        return neuron.LIFNode(tau=2.0, **options)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(
                layer.Conv2d(1, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), make(v_threshold=0.5), layer.AvgPool2d(2), layer.Flatten(),
                layer.Linear(36, 5), make(v_threshold=0.25),
            )  # fmt: skip
            functional.set_step_mode(self.net, "s" if kind == "step" else "m")

        def forward(self, x: Any) -> Any:
            return self.net(x) if kind == "step" else self.net(x.unsqueeze(0).repeat(steps, 1, 1, 1, 1)).mean(0)

    model = tm.settle(Model())
    options: dict[str, Any] = {"input_shape": (1, 6, 6)}
    if kind != "step":
        exact(model, (base.MemoryModule,), steps, functional.reset_net, **options)
        return
    net = load(model, **options, steps=steps)  # one step per call: the loop is outside
    assert net.steps == steps

    class Looped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return sum(self.model(x) for _ in range(steps)) / steps

    exact(Looped(), (neuron.BaseNode,), steps, functional.reset_net, **options)


# -- snnTorch


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", ["leaky", "leaky zero", "lapicque", "synaptic", "hidden"])
def test_snntorch(kind: str, steps: int) -> None:
    snn = pytest.importorskip("snntorch")

    def make() -> nn.Module:
        match kind:
            case "leaky zero":
                return snn.Leaky(beta=0.75, threshold=0.5, reset_mechanism="zero")
            case "lapicque":
                return snn.Lapicque(R=1, C=2, time_step=1, threshold=0.25)
            case "synaptic":
                return snn.Synaptic(alpha=0.5, beta=0.75, threshold=0.5)
        return snn.Leaky(beta=0.5, threshold=0.5, init_hidden=kind == "hidden")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(12, 16), make(), nn.Linear(16, 6), make()

        def forward(self, x: Any) -> Any:
            first, second = self.lif1.reset_mem(), self.lif2.reset_mem()
            first, second = (s if isinstance(s, tuple) else (s,) for s in (first, second))
            spikes, membranes = [], []
            for step in range(steps):
                if kind == "hidden":
                    spikes.append(self.lif2(self.fc2(self.lif1(self.fc1(x[step])))))
                    continue
                fired, *first = self.lif1(self.fc1(x[step]), *first)
                fired, *second = self.lif2(self.fc2(fired), *second)
                spikes.append(fired)
                membranes.append(second[-1])
            return torch.stack(spikes), (torch.stack(membranes) if membranes else spikes)

    net = exact(Model(), (snn.SpikingNeuron,), steps, lambda m: None, input_shape=(steps, 12), input_axes="tbc")
    assert net.layers["lif1"].params["strict"]
    if kind == "leaky":
        assert net.layers["lif1"].params["reset_by"].item() == 1.0  # threshold / beta: the reset comes after the next leak
        with pytest.raises(UnsupportedLayer, match="the membranes of a neuron are read"):
            load(Model().eval(), input_shape=(steps, 12), input_axes="tbc", output=1)


def test_snntorch_resets_in_forward_and_stale_states() -> None:
    """utils.reset touches every neuron ever made; a module fresh from training holds states with a graph: both are read, and left as they were."""
    snn = pytest.importorskip("snntorch")
    from snntorch import utils

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), snn.Leaky(beta=0.5, init_hidden=True, threshold=0.25), nn.Flatten(), nn.Linear(16, 5),
                snn.Leaky(beta=0.5, init_hidden=True, output=True, threshold=0.1),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            utils.reset(self.net)
            return torch.stack([self.net(x)[0] for _ in range(3)])

    trained, other = Model(), Model()
    for model in (trained, other):
        model(torch.rand(7, 1, 6, 6))
    before = trained.net[2].mem
    net = load(trained.eval(), input_shape=(1, 6, 6))
    assert trained.net[2].mem is before
    assert before.shape == (7, 4, 2, 2)
    x = np.random.default_rng(0).integers(0, 256, (2, 1, 6, 6), dtype=np.uint8)
    np.testing.assert_array_equal(run_network(net, x).scores, run_network(load(other.eval(), input_shape=(1, 6, 6)), x).scores)
    assert run_network(net, x).scores.any()


def test_snntorch_neurons_that_are_refused() -> None:
    snn = pytest.importorskip("snntorch")
    for neuron, message in (
        (snn.Leaky(beta=0.5, reset_mechanism="none"), r"1 \(Leaky\): it never resets after a spike"),
        (snn.Lapicque(beta=0.5, reset_mechanism="zero"), "also removes the input of the next step"),
        (snn.Leaky(beta=0.5, reset_delay=False), "subtracts twice"),
        (snn.RLeaky(beta=0.5, linear_features=4), "this neuron of snntorch has no rule; value RLeaky, limit Leaky"),
    ):
        with pytest.raises(UnsupportedLayer, match=message):
            load(nn.Sequential(nn.Linear(3, 4), neuron).eval(), input_shape=(3,))


# -- sinabs


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", ["iaf", "iaf floor", "iaf zero", "lif", "lif synapse", "many", "many floor", "up to 3", "many zero"])
def test_sinabs(kind: str, steps: int) -> None:
    pytest.importorskip("sinabs")
    import sinabs.activation as sa
    import sinabs.layers as sl

    half = 1.0 / math.log(2.0)

    def make() -> nn.Module:
        options: dict[str, Any] = {"spike_fn": sa.SingleSpike, "spike_threshold": torch.tensor(0.25)}
        match kind:
            case "many":  # sinabs' default neuron: as many spikes per step as thresholds fit into the membrane
                return sl.IAFSqueeze(num_timesteps=steps, spike_threshold=torch.tensor(0.25))
            case "many floor":
                return sl.IAFSqueeze(num_timesteps=steps, spike_threshold=torch.tensor(0.125), min_v_mem=-0.5)
            case "up to 3":
                options["spike_fn"] = sa.MaxSpike(3)
            case "many zero":
                options |= {"spike_fn": sa.MultiSpike, "reset_fn": sa.MembraneReset()}
            case "iaf floor":
                options["min_v_mem"] = -0.5
            case "iaf zero":
                options["reset_fn"] = sa.MembraneReset()
            case "lif":
                return sl.LIFSqueeze(num_timesteps=steps, tau_mem=half, **options)
            case "lif synapse":
                return sl.LIFSqueeze(num_timesteps=steps, tau_mem=half, tau_syn=half, norm_input=False, **options)
        return sl.IAFSqueeze(num_timesteps=steps, **options)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1, bias=False), make(), sl.SumPool2d(2), nn.Flatten(), nn.Linear(36, 5, bias=False), make()
            )

        def forward(self, x: Any) -> Any:
            return self.net(x.flatten(0, 1)).unflatten(0, (x.shape[0], -1)).mean(1)

    def reset(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, sl.StatefulLayer):
                module.reset_states()

    net = exact(Model(), (sl.StatefulLayer,), steps, reset, input_shape=(steps, 1, 6, 6))
    most = 3 if kind == "up to 3" else 255 if kind.startswith("many") else 1
    assert net.layers["net.1"].params["max_spikes"] == most
    assert any("up to 255 spikes per step" in note for note in net.notes) == (most == 255)


def test_sinabs_default_neuron_through_nir() -> None:
    """sinabs' own NIR file, which does not say how often a neuron may fire: with --nir-max-spikes it is the network read from the module."""
    pytest.importorskip("sinabs")
    import sinabs.layers as sl
    import sinabs.nir

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), sl.IAFSqueeze(num_timesteps=4, spike_threshold=torch.tensor(0.25)), sl.SumPool2d(2), nn.Flatten(),
        nn.Linear(36, 5, bias=False), sl.IAFSqueeze(num_timesteps=4),
    )  # fmt: skip

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any) -> Any:
            return self.net(x.flatten(0, 1)).unflatten(0, (x.shape[0], -1)).mean(1)

    direct = load(Model().eval(), input_shape=(4, 1, 6, 6))
    graph = sinabs.nir.to_nir(net, torch.zeros(4, 1, 6, 6))
    read = load(graph, steps=4, reset="subtract", max_spikes=255, input_shape=(1, 6, 6))
    data = np.random.default_rng(6).integers(0, 2, (SAMPLES, 4, 1, 6, 6), dtype=np.uint8)
    a, b = run_network(direct, data), run_network(read, data)
    for ours, theirs in (("net.1", "1"), ("net.5", "5")):
        assert a.spikes[ours].max() > 1
        np.testing.assert_array_equal(a.spikes[ours], b.spikes[theirs].reshape(a.spikes[ours].shape))


def test_sinabs_neurons_that_are_refused() -> None:
    """More spikes than a packet holds; a fixed batch size mixes samples."""
    pytest.importorskip("sinabs")
    import sinabs.activation as sa
    import sinabs.layers as sl

    with pytest.raises(UnsupportedLayer, match=r"1 \(IAFSqueeze\): a neuron fires too many spikes per step; value 300, limit 1 to 255"):
        load(nn.Sequential(nn.Linear(6, 4), sl.IAFSqueeze(batch_size=1, spike_fn=sa.MaxSpike(300))).eval(), input_shape=(6,))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(6, 4), sl.IAFSqueeze(batch_size=1, spike_fn=sa.SingleSpike)).eval()
    with pytest.raises(ValueError, match="batch 2 is not twice batch 1"):
        load(model, input_shape=(4, 6), input_axes="btc")
    assert load(model, input_shape=(4, 6), input_axes="btc", batch_mixing="ignore").steps == 4


# -- norse


@pytest.mark.parametrize(("steps", "leak", "reset"), [(1, 0.0, 0.0), (4, 0.0, 0.0), (4, 0.0625, -0.25)])
@pytest.mark.parametrize("kind", ["cell", "lif", "box"])
def test_norse(kind: str, steps: int, leak: float, reset: float) -> None:
    """Its neurons begin at v_leak, also where they reset to another potential."""
    norse = pytest.importorskip("norse.torch")
    from norse.torch.module.lif_box import LIFBoxCell, LIFBoxParameters

    tensor = torch.as_tensor
    p = norse.LIFParameters(tau_syn_inv=tensor(500.0), tau_mem_inv=tensor(250.0), v_th=tensor(0.125), v_leak=tensor(leak), v_reset=tensor(reset))

    def make() -> nn.Module:
        match kind:
            case "cell":
                return norse.LIFCell(p=p)
            case "lif":
                return norse.LIF(p=p)
        return LIFBoxCell(p=LIFBoxParameters(tau_mem_inv=tensor(500.0), v_th=tensor(0.125), v_leak=tensor(leak), v_reset=tensor(reset)))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = norse.SequentialState(nn.Linear(12, 16, bias=False), make(), nn.Linear(16, 5, bias=False), make())

        def forward(self, x: Any) -> Any:
            if kind == "lif":
                return self.net(x)[0].mean(0)
            state, out = None, []
            for step in range(steps):
                y, state = self.net(x[step], state)
                out.append(y)
            return torch.stack(out).mean(0)

    net = exact(Model(), (type(make()),), steps, lambda m: None, input_shape=(steps, 12), input_axes="tbc")
    assert net.layers["net.1"].params["strict"]
