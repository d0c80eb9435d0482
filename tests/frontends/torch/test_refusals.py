"""What the PyTorch frontend refuses: one line that names layer, value, limit and remedy; ops without a rule reach ``check`` by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from neurosim import api, load, register_neuron  # noqa: E402
from neurosim.errors import ModelError, UnsupportedLayer  # noqa: E402
from neurosim.golden import run_network  # noqa: E402
from tests.frontends.torch import models as tm  # noqa: E402

pytestmark = pytest.mark.torch
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurosim.frontends.torch import neurons as torch_neurons

    monkeypatch.setattr(torch_neurons, "_REGISTERED", {})
    register_neuron(tm.FoldedLIF, tm.rule_folded)
    register_neuron(tm.StepLIF, tm.rule_step, reset=tm.StepLIF.reset)


class Plain(nn.Module):
    """fc, neurons, something, fc, neurons on [B, 6], T steps of the same vector; ``inner`` and ``outer`` do the something."""

    def __init__(self, inner: Any = None, outer: Any = None, steps: int = 2, *parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.T, self.inner, self.outer = steps, inner, outer
        self.fc1, self.lif1, self.fc2, self.lif2 = (
            nn.Linear(6, 8),
            tm.FoldedLIF(steps, threshold=0.25),
            nn.Linear(8, 4),
            tm.FoldedLIF(steps, threshold=0.25),
        )
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Any) -> Any:
        y = self.lif1(self.fc1(x).repeat(self.T, 1))
        y = y if self.inner is None else self.inner(self, y)
        y = self.lif2(self.fc2(y)).unflatten(0, (self.T, -1))
        return y.mean(0) if self.outer is None else self.outer(self, y)


class Unknown(nn.Module):
    """Neurons that nobody registered, with an inner loop."""

    def forward(self, x: Any) -> Any:
        v, out = torch.zeros_like(x[:1]), []
        for t in range(x.shape[0]):
            v = 0.5 * v + x[t : t + 1]
            s = (v >= 1).to(x.dtype)
            v = v * (1 - s)
            out.append(s)
        return torch.cat(out)


class Heaviside(nn.Module):
    """Neurons without a loop that nobody registered."""

    def forward(self, x: Any) -> Any:
        return (x >= 0.5).to(x.dtype)


class Twice(nn.Module):
    """One module of one step per call at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 6), tm.StepLIF()

    def forward(self, x: Any) -> Any:
        return torch.stack([self.lif(self.fc(self.lif(self.fc(x)))) for _ in range(2)]).mean(0)


class Reading(nn.Module):
    """Reads a number from its activations."""

    def __init__(self, use: Callable[[Any, float], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif, self.head, self.use = nn.Linear(6, 8), tm.FoldedLIF(1, threshold=0.3), nn.Linear(8, 3), use

    def forward(self, x: Any) -> Any:
        y = self.lif(self.fc(x))
        return self.head(self.use(y, float(y.mean())))


class Repeat(nn.Module):
    """Frames of one image, steps in front."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Any) -> Any:
        return x.repeat(self.steps, 1, 1)


class BatchFolded(nn.Module):
    """Batch and time in the wrong order before its neurons, as in released research code: images of a batch mix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = nn.Linear(6, 8), tm.FoldedLIF(2, threshold=0.3)

    def forward(self, x: Any) -> Any:
        y = self.lif(self.fc(x).repeat_interleave(2, 0))
        return y.unflatten(0, (-1, 2)).mean(1)


def norm_net(**state: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), tm.FoldedLIF(1), nn.Linear(8, 3))
    for key, value in state.items():
        getattr(model[1], key).fill_(value)
    return model.eval()


def damaged(value: float) -> nn.Module:
    model = Plain().eval()
    with torch.no_grad():
        model.fc2.weight[1, 2] = value
    return model


def training(model: nn.Module, part: str) -> nn.Module:
    model.eval().get_submodule(part).train()
    return model


def dropout(m: Any, y: Any) -> Any:
    return F.dropout(y)


CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "training mode": (lambda: Plain(), {}, r"module Plain is in training mode; call .eval\(\)"),
    "one layer in training mode": (lambda: training(norm_net(running_var=2.0), "1"), {}, r"layer 1 \(BatchNorm1d\) is in training mode"),
    "untrained batch norm": (lambda: norm_net(), {}, r"1 \(batch_norm\): its running statistics .* num_batches_tracked 0, .* weights"),
    "functional dropout": (lambda: Plain(dropout).eval(), {}, r"forward \(dropout\): dropout is active; call .eval\(\)"),
    "random numbers": (lambda: Plain(lambda m, y: y + torch.rand(8)).eval(), {}, "it draws random numbers"),
    "half precision": (lambda: Plain().eval().half(), {}, r"weight fc1.weight is float16; call .float\(\)"),
    "NaN": (lambda: damaged(float("nan")), {}, r"weight fc2.weight \(4, 8\) has 1 of 32 values that are NaN"),
    "no neurons": (lambda: nn.Linear(6, 3).eval(), {}, "no layer that is known to spike; register"),
    "unknown neuron with state": (
        lambda: nn.Sequential(Plain(outer=lambda m, y: y.mean(1)), Unknown(), nn.Flatten(0)).eval(), {}, r"1 \(.*register_neuron\(Unknown",
    ),
    "unknown neuron": (lambda: nn.Sequential(Plain(), Heaviside()).eval(), {}, r"1 \(ge\): it compares .*Heaviside.*register_neuron\(Heaviside"),
    "one module at two places": (lambda: Twice().eval(), {}, r"lif \(StepLIF\): .*its own neuron module"),
    "steps that disagree": (
        lambda: nn.Sequential(nn.Linear(6, 4), tm.StepLIF(), nn.Linear(4, 2), tm.FoldedLIF(2)).eval(), {"steps": 3}, "its rule folds 2 steps",
    ),
    "one step of several": (lambda: Plain(outer=lambda m, y: y[-1]).eval(), {}, r"reads step\(s\) \[1\] of 2"),
    "first steps only": (lambda: Plain(steps=3, outer=lambda m, y: y[:2].mean(0)).eval(), {}, "joins some of the steps.*2 of them, limit all 3"),
    "sum of two of three": (lambda: Plain(steps=3, outer=lambda m, y: y[0] + y[1]).eval(), {}, "a sum over 2 of 3 steps"),
    "sum of some, used": (lambda: Plain(steps=3, outer=lambda m, y: (y[0] + y[1]) * 2).eval(), {}, r"\(mul\): it reads a sum over some of the steps"),
    "steps where the rule sees a batch": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Unflatten(0, (1, 1)), Repeat(3), tm.StepLIF()).eval(), {},
        "batch 2 is not twice batch 1: it does not run at batch 2",
    ),
    "a factor taken out of activations": (lambda: Reading(lambda y, mean: y * mean).eval(), {}, "a factor is NaN or infinite"),
    "a branch on activations": (lambda: Reading(lambda y, mean: y if mean > 0.01 else 1 - y).eval(), {}, "the same spikes but score differently"),
    "mixing over a batch": (lambda: BatchFolded().eval(), {}, "batch 2 is not twice batch 1: layer lif fires"),
    "no such output": (lambda: Plain().eval(), {"output": 1}, r"output 1 does not exist; the module returns 1 tensor"),
    "output without input": (lambda: Plain(outer=lambda m, y: [y.mean(0), torch.ones(1, 3)]).eval(), {"output": 1}, "does not depend on"),
    "shape that does not fit": (lambda: Plain().eval(), {"input_shape": (7,)}, r"does not run on an input of shape \(1, 7\).*check input_shape"),
    "no shape": (lambda: Plain().eval(), {"input_shape": None}, "needs input_shape"),
    "axes that do not fit": (lambda: Plain().eval(), {"input_axes": "bchw"}, "input_axes 'bchw' must hold one letter for each of the 1 axes"),
    "option that does not exist": (lambda: Plain().eval(), {"input_shap": (6,)}, "option 'input_shap' is not known; did you mean 'input_shape'"),
    "image that changes": (lambda: tm.StepNet(3).eval(), {"input_shape": (3, 12), "input_axes": "btc", "spikes": False}, "changes from step to step"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refusals(name: str) -> None:
    make, options, message = CASES[name]
    with pytest.raises(ModelError, match=message) as raised:
        load(make(), **({"input_shape": (6,)} | options))
    assert "\n" not in str(raised.value)


def test_batch_mixing_can_be_accepted() -> None:
    """The Network computes what the module computes at batch 1, and says so."""
    net = load(BatchFolded().eval(), input_shape=(6,), batch_mixing="ignore")
    assert any("read as it computes at batch 1" in note for note in net.notes)
    with pytest.raises(ModelError, match="batch_mixing 'maybe'"):
        load(BatchFolded().eval(), input_shape=(6,), batch_mixing="maybe")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0.5}, r"layer lif1 \(FoldedLIF\): its rule and its forward differ in .* rule 0, forward 1"),
        ({"strict": True}, "on the threshold: rule 0, forward 1"),
        ({"decay": 0.75}, r"its rule and its forward differ in .* step [12] "),
        ({"reset": "subtract"}, "rule and its forward differ"),
        ({"floor": -0.25}, "rule and its forward differ"),
        ({"layout": "channels"}, "layout 'channels' is not known"),
        ({"leak": 0.5}, "rule key 'leak' is not known"),
        ({"steps": None}, "so its rule must say steps"),
        ({"max_spikes": 4}, "its rule and its forward differ .* max_spikes 4"),
        ({"max_spikes": 300}, "a neuron fires too many spikes per step; value 300, limit 1 to 255"),
    ],
)
def test_rules_that_are_wrong(changes: dict[str, Any], message: str) -> None:
    register_neuron(tm.FoldedLIF, lambda m: tm.rule_folded(m) | changes)
    with pytest.raises(ModelError, match=message):
        load(Plain(steps=3).eval(), input_shape=(6,))


def test_register_neuron_wants_a_class_and_a_function() -> None:
    for cls, rule in ((tm.FoldedLIF(1), tm.rule_folded), (tm.FoldedLIF, {"decay": 1})):
        with pytest.raises(ModelError, match="wanted a class and a function"):
            register_neuron(cls, rule)  # type: ignore[arg-type]
    register_neuron(tm.FoldedLIF, lambda m: {"decay": m.beta})
    with pytest.raises(ModelError, match=r"its rule cannot be read .*beta"):
        load(Plain().eval(), input_shape=(6,))


NAMED: dict[str, tuple[Any, tuple[nn.Module, ...], str]] = {
    "softmax": (lambda m, y: y.softmax(-1), (), "softmax"),
    "relu": (lambda m, y: F.relu(y - 0.5), (), "relu"),
    "gelu": (lambda m, y: F.gelu(y), (), "gelu"),
    "layer norm": (lambda m, y: m.parts[0](y), (nn.LayerNorm(8),), "layer_norm"),
    "product of sums": (lambda m, y: (y + y.flip(1)) * (y + y.roll(1, 1)), (), "multiply"),
    "attention": (lambda m, y: (y.reshape(-1, 4, 2) @ y.reshape(-1, 4, 2).mT).flatten(1)[:, :8], (), "matmul"),
    "square": (lambda m, y: y**2, (), "power"),
}


@pytest.mark.parametrize("name", NAMED)
def test_ops_without_a_rule_reach_the_check_by_name(name: str) -> None:
    inner, parts, op = NAMED[name]
    net = load(Plain(inner, None, 2, *parts).eval(), input_shape=(6,))
    refused = [row for row in api.check(net, "async-mesh") if row.status == "refused"]
    assert [row.op for row in refused] == [op]
    assert refused[0].remedy
    assert any("not verified" in note for note in net.notes)
    with pytest.raises(UnsupportedLayer, match=op):
        api.build(net, "ideal")


def test_clock_driven_names_and_unknown_neurons_of_libraries() -> None:
    """Classes are known by library and name; the old names of spikingjelly read like the new ones."""

    def forward(self: Any, x: Any) -> Any:
        v, out = torch.zeros_like(x[0]), []
        for current in x:
            v = v + (current - v) / self.tau
            s = (v >= self.v_threshold).to(x.dtype)
            v = v * (1 - s)
            out.append(s)
        return torch.stack(out)

    class BaseNode(nn.Module):
        surrogate_function, tau, v_threshold, v_reset = None, 2.0, 0.25, 0.0

        def reset(self) -> None:
            pass

    home = {"__module__": "spikingjelly.clock_driven.neuron", "forward": forward}
    BaseNode.__module__ = home["__module__"]
    multi = type("MultiStepLIFNode", (BaseNode,), home)
    other = type("IzhikevichNode", (BaseNode,), home)

    class Net(nn.Module):
        def __init__(self, kind: Any) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc, self.lif, self.out, self.lif2 = nn.Linear(6, 8), kind(), nn.Linear(8, 3), kind()

        def forward(self, x: Any) -> Any:
            return self.lif2(self.out(self.lif(self.fc(x).unsqueeze(0).repeat(4, 1, 1)))).mean(0)

    net = load(Net(multi).eval(), input_shape=(6,))
    assert (net.steps, net.layers["lif"].params["decay"], net.layers["lif"].params["input_scale"]) == (4, 0.5, 0.5)
    assert run_network(net, np.full((1, 6, 1, 1), 255, np.uint8)).spikes["lif"].any()
    with pytest.raises(UnsupportedLayer, match="this neuron of spikingjelly has no rule; value IzhikevichNode, limit IFNode, LIFNode"):
        load(Net(other).eval(), input_shape=(6,))


def test_an_axis_that_may_be_the_time_is_named() -> None:
    """[B, T, C, L] without letters is taken for an image; the refusal says so, where an axis is as long as there are steps."""

    class Audio(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif = nn.Conv1d(4, 5, 3), tm.FoldedLIF(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lif(self.conv(x.transpose(0, 1).flatten(0, 1))).unflatten(0, (3, -1)).mean(0).flatten(1)

    with pytest.raises(UnsupportedLayer, match="bchw was assumed, input_axes='bthw' has 3 steps"):
        load(Audio().eval(), input_shape=(3, 4, 13))
    assert load(Audio().eval(), input_shape=(3, 4, 13), input_axes="btcn").steps == 3
