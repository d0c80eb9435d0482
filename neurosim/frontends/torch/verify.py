"""A loaded Network against its module, on random inputs in float64: neurons one by one, every spike, the scores, and batch 2 against twice batch 1.

Spikes may differ where a membrane is closer to its threshold than TIE: the two sum in different orders.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurosim.errors import ModelError
from neurosim.frontends.torch.export import USER_ERRORS, Neuron, Stepped, copy_of, double_precision, first_line, preserved
from neurosim.frontends.torch.options import Axes
from neurosim.frontends.torch.values import layer_shape
from neurosim.frontends.torch.walk import per_neuron
from neurosim.golden import run_network
from neurosim.golden.network import start_membrane, step_lif
from neurosim.graph import Shape
from neurosim.network import Layer, Network

TIE = 1e-9
CLOSE = 1e-6
"""Relative difference of scores that rounding explains."""
SAMPLES = 3
DRAWN = 4096
"""Neurons times steps by which a rule is tried, at least."""
MOST_TRIALS = 32
LARGE = 2**18
"""Neurons times steps above which a rule is tried on a part of them."""
RANGES = ((-0.6, 1.6), (-2.0, 2.5), (0.0, 0.6))
"""Of the random currents, in thresholds."""
MANY = ((-1.0, 4.0), (-3.0, 12.0), (0.0, 1.2))
"""The same for neurons that fire several times in a step."""


def check_rules(model: torch.nn.Module, neurons: list[Neuron], steps: int) -> None:
    """Every neuron's rule against its own forward on random currents. Raises ModelError naming the layer and the first step that differs."""
    _, modules = copy_of(model, neurons)
    for neuron, module in zip(neurons, modules, strict=True):
        if neuron.shapes:
            _check_rule(neuron, module, max(steps, 1))


def _check_rule(neuron: Neuron, module: Any, steps: int) -> None:
    rule, shape = neuron.rule, neuron.shapes[0]
    inner = {"step": shape[1:], "time": shape[2:], "batch_first": shape[2:]}.get(rule.layout, shape[1:])
    if math.prod(inner) * steps > LARGE and all(np.ndim(value) == 0 for value in rule.lif.values()):  # all neurons are alike
        small = (inner[0], *(min(n, 8) for n in inner[1:]))
        if _runs(neuron, module, small, steps):
            inner = small
    form = layer_shape(inner)
    net = Network("rule", steps)
    net.lif("lif", net.spikes_input("in", form), **{key: per_neuron(value, inner, form, slice(None)) for key, value in rule.lif.items()})
    layer = net.layers["lif"]
    trials = min(max(DRAWN // (steps * math.prod(form)), len(RANGES)), MOST_TRIALS)
    for trial in range(trials):
        _try_rule(neuron, copy.deepcopy(module), layer, form, inner, steps, trial)


def _runs(neuron: Neuron, module: Any, inner: tuple[int, ...], steps: int) -> bool:
    """Whether a neuron module takes fewer neurons than it has in its model."""
    try:
        return _spikes_of(neuron, copy.deepcopy(module), torch.zeros((steps, *inner)), steps).shape == (steps, *inner)
    except (ModelError, *USER_ERRORS):
        return False


def _try_rule(neuron: Neuron, module: Any, layer: Layer, form: Shape, inner: tuple[int, ...], steps: int, trial: int) -> None:
    """One run of the neuron over random currents, relative to its threshold."""
    threshold = np.broadcast_to(layer.params["threshold"], form).astype(np.float64)
    scale = layer.params["input_scale"] or 1.0
    rng = np.random.default_rng(trial)
    ranges = RANGES if layer.params["max_spikes"] == 1 else MANY
    currents = rng.uniform(*ranges[trial % len(ranges)], (steps, *form)) * threshold / scale
    # v of the first step is then the threshold to the last bit
    exact = scale == 2.0 ** round(math.log2(abs(scale))) and layer.params["v_rest"] == 0 and not np.any(start_membrane(layer))
    if exact:
        currents[0, :, :, ::3] = (threshold / scale)[:, :, ::3]
    state: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    found = _spikes_of(neuron, module, torch.from_numpy(currents.reshape(steps, *inner)), steps)
    for step in range(steps):
        wanted, margin = step_lif(layer, currents[step][None], *state, True)
        assert margin is not None
        wrong = (wanted[0] != found[step].reshape(form)) & ((margin[0] > TIE) | (exact & (margin[0] == 0)))
        if wrong.any():
            at = tuple(int(k) for k in np.argwhere(wrong)[0])
            how = "on the threshold" if margin[0][at] == 0 else f"{margin[0][at]:.3g} of the threshold away from it"
            raise ModelError(
                f"layer {neuron.name} ({neuron.kind}): its rule and its forward differ in {int(wrong.sum())} of {wrong.size} neurons in step {step} "
                f"(first {at}, {how}: rule {int(wanted[0][at])}, forward {found[step].reshape(form)[at]:g}); correct "
                f"the rule ({_short(neuron.rule.lif)})"
            )


def _short(lif: Any) -> str:
    return ", ".join(f"{key} {'array' if np.ndim(value) else value}" for key, value in lif.items() if value is not None)


def _spikes_of(neuron: Neuron, module: Any, currents: Any, steps: int) -> NDArray[np.float64]:
    """Run one neuron by itself at batch 1: [steps, ...] in and out."""
    layout, inner = neuron.rule.layout, tuple(currents.shape[1:])
    with double_precision():
        try:
            if layout == "step":
                spikes, state = [], ()
                for step in range(steps):
                    result = module(currents[step][None], *state)
                    spikes.append(result[0] if isinstance(result, tuple | list) else result)
                    state = tuple(result[1:]) if neuron.rule.states and isinstance(result, tuple) and _takes_state(neuron) else ()
                out = torch.stack(spikes)
            else:
                x = {"time": currents[:, None], "batch_first": currents[None]}.get(layout, currents)
                result = module(x)
                out = result[0] if isinstance(result, tuple | list) else result
        except USER_ERRORS as error:
            raise ModelError(f"layer {neuron.name} ({neuron.kind}) does not run on {tuple(currents.shape)} currents: {first_line(error)}") from None
    return np.asarray(out.double().reshape(steps, *inner).numpy())


def _takes_state(neuron: Neuron) -> bool:
    return not getattr(neuron.module, "init_hidden", False)


class Reference:
    """The module itself in float64, with what its neurons fire."""

    def __init__(self, model: torch.nn.Module, neurons: list[Neuron], axes: Axes, loop: int, wanted: int, steps: int) -> None:
        self.model, self.neurons, self.axes, self.loop, self.wanted, self.steps = model, neurons, axes, loop, wanted, steps

    def run(self, x: Any, keep: Callable[[Any], Any]) -> tuple[Any, dict[str, list[Any]]]:
        """(output at float64, neuron -> what ``keep`` makes of the spikes of each of its calls) from the initial state."""
        with preserved(self.neurons):
            return self._run(x, keep)

    def _run(self, x: Any, keep: Callable[[Any], Any]) -> tuple[Any, dict[str, list[Any]]]:
        copied, modules = copy_of(self.model, self.neurons)
        kept: dict[str, list[Any]] = {neuron.name: [] for neuron in self.neurons}
        for neuron, module in zip(self.neurons, modules, strict=True):
            module.register_forward_hook(_recorder(kept[neuron.name], keep))
        with double_precision():
            outputs, _ = Stepped(copied, self.loop, self.axes.time)(x)
        return outputs[self.wanted].double(), kept

    def spikes(self, x: Any) -> tuple[Any, dict[str, NDArray[np.uint8]]]:
        """(output, neuron -> spikes [steps, values]) at batch 1."""
        output, calls = self.run(x, lambda spikes: spikes.to(torch.uint8))
        return output, {name: torch.stack(each).reshape(self.steps, -1).numpy() for name, each in calls.items()}

    def totals(self, x: Any) -> tuple[Any, dict[str, float]]:
        """(output, neuron -> sum of its spikes) at any batch size."""
        output, calls = self.run(x, lambda spikes: float(spikes.sum()))
        return output, {name: sum(each) for name, each in calls.items()}


def _recorder(kept: list[Any], keep: Callable[[Any], Any]) -> Any:
    def hook(module: Any, inputs: Any, output: Any) -> Any:
        first = (output[0] if isinstance(output, tuple | list) else output).double()
        kept.append(keep(first))
        return (first, *output[1:]) if isinstance(output, tuple) else first

    return hook


def draw(net: Network, axes: Axes, rng: np.random.Generator) -> tuple[NDArray[Any], Any]:
    """One random sample: as data for the Network, [1, ...], and as the module's input at batch 1."""
    contract = net.input_contract
    if contract.kind == "image":
        low, high = contract.pixel_range() if contract.dtype.startswith(("u", "i")) else (0, 1)
        pixels = rng.integers(low, high, (1, *contract.shape), endpoint=True) if high > 1 else rng.random((1, *contract.shape))
        value = pixels / contract.scale
        if contract.mean:
            value = value - np.asarray(contract.mean)[:, None, None]
        if contract.std:
            value = value / np.asarray(contract.std)[:, None, None]
        return pixels, torch.from_numpy(np.asarray(value, np.float64)).reshape(axes.full)
    events = rng.integers(0, 2, (1, net.steps, *contract.shape), dtype=np.uint8)
    x = torch.from_numpy(events[0].astype(np.float64)).reshape(net.steps if axes.time is not None else 1, *axes.features)
    if axes.time is None:
        return events, x.reshape(axes.full)
    return events, x.movedim(0, axes.letters.replace("b", "").index("t")).unsqueeze(axes.letters.index("b"))


def check_network(net: Network, reference: Reference, reduce: Any) -> list[str]:
    """Golden run of the Network against the module at batch 1; returns the neuron layers that fired nothing in it.

    ``reduce`` turns the module's output into scores. Raises ModelError.
    """
    rng = np.random.default_rng(1)
    ties = 0
    for _ in range(3 * SAMPLES):
        data, x = draw(net, reference.axes, rng)
        output, fired = reference.spikes(x)
        compared = _Compared(fired)
        golden = run_network(net, data, spikes=False, watch=compared)
        if compared.first is None:
            scores, wanted = golden.scores[0], reduce(output).reshape(-1).numpy()
            if not np.allclose(scores, wanted, rtol=CLOSE, atol=CLOSE * max(1.0, float(np.abs(wanted).max()))):
                raise ModelError(
                    f"module {type(reference.model).__name__} and the Network read from it fire the same spikes but score differently, by "
                    f"{np.abs(scores - wanted).max():.3g}; its output is not the mean over the steps, or a state is kept outside the known neurons"
                )
            return compared.silent()
        layer, step, count, margin = compared.first
        if margin > TIE:
            raise ModelError(
                f"module {type(reference.model).__name__} and the Network read from it differ, first in layer {layer}, step {step}, in {count} "
                f"spikes (margin {margin:.3g}); a state is kept outside the known neurons, or the axes of the input are not {reference.axes.letters}"
            )
        ties += 1
    raise ModelError(
        f"module {type(reference.model).__name__}: spikes within {TIE} of their thresholds in all of {ties} random samples; not verified"
    )


class _Compared:
    """A Network's spikes beside those of the module, [steps, values] by layer, as they come: nothing of the size of the network is kept.

    ``first``: (layer, step, spikes, largest margin) of the first difference by step, then by layer.
    """

    def __init__(self, fired: dict[str, NDArray[np.uint8]]) -> None:
        self.fired = fired
        self.first: tuple[str, int, int, float] | None = None
        self.active: dict[str, bool] = {}

    def __call__(self, name: str, step: int, spikes: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        self.active[name] = self.active.get(name, False) or bool(spikes.any())
        if self.first is None and name in self.fired:
            wrong = spikes.reshape(-1) != self.fired[name][step]
            if wrong.any():
                self.first = name, step, int(wrong.sum()), float(margins.reshape(-1)[wrong].max())

    def silent(self) -> list[str]:
        """Layers that fired nothing."""
        return [name for name, active in self.active.items() if not active]


def check_batch(net: Network, reference: Reference, *, ignore: bool) -> str | None:
    """The module at batch 2 against twice batch 1; a note where they differ and that is accepted. Raises ModelError where they differ.

    A spike on its threshold may flip with the order of sums, so one difference is tried again on other inputs.
    """
    rng = np.random.default_rng(2)
    axis = reference.axes.letters.index("b")
    equal, differing, found = 0, 0, ""
    while equal < 2 and differing < 2:
        pair = [draw(net, reference.axes, rng)[1] for _ in range(2)]
        try:
            both, fired = reference.totals(torch.cat(pair, axis))
        except USER_ERRORS as error:
            found = f"it does not run at batch 2 ({first_line(error)})"
            break
        each = [reference.totals(x) for x in pair]
        what = _mixing(both, [output for output, _ in each], fired, [spikes for _, spikes in each])
        equal, differing, found = equal + (not what), differing + bool(what), found or what
    if equal == 2:
        return None
    text = f"module {type(reference.model).__name__}: batch 2 is not twice batch 1: {found}, so a sample's result depends on its batch"
    if not ignore:
        raise ModelError(f"{text}; the chip sees one sample at a time: keep time and batch apart before every neuron, or batch_mixing='ignore'")
    return f"{text}; read as it computes at batch 1"


def _mixing(both: Any, outputs: list[Any], fired: dict[str, float], each: list[dict[str, float]]) -> str:
    """What of a batch of two is not what two batches of one are; empty if all is. The batch axis of the output is the one that has doubled."""
    for name, total in fired.items():
        alone = sum(spikes[name] for spikes in each)
        if total != alone:
            return f"layer {name} fires {total:g} spikes instead of {alone:g}"
    grown = [k for k, (a, b) in enumerate(zip(both.shape, outputs[0].shape, strict=True)) if a == 2 * b] if both.ndim == outputs[0].ndim else []
    if not grown:
        return f"the output has shape {tuple(both.shape)}, at batch 1 {tuple(outputs[0].shape)}"
    for axis in grown:
        joined = torch.cat(outputs, axis)
        interleaved = torch.stack(outputs, axis + 1).flatten(axis, axis + 1)
        if any(torch.allclose(both, one, rtol=CLOSE, atol=CLOSE) for one in (joined, interleaved)):
            return ""
    return f"the output differs by {float((both - torch.cat(outputs, grown[0])).abs().max()):.3g}"
