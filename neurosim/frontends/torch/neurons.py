"""Which module classes are neurons, and what they compute: ``register_neuron`` and the rules of the known libraries.

A rule is a mapping: the keyword arguments of ``Network.lif`` and how the class lays out time (``layout``, ``steps``). Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neurosim.errors import ModelError, UnsupportedLayer
from neurosim.frontends.torch.libraries import LIBRARIES, by_authors, is_neuron_of_library
from neurosim.frontends.torch.neuron_class import NeuronClass

LAYOUTS = {
    "step": "one step per call, [batch, ...]",
    "time": "[steps, batch, ...]",
    "time_batch": "[steps * batch, ...], time slow",
    "batch_time": "[batch * steps, ...], batch slow",
    "batch_first": "[batch, steps, ...]",
}
LIF_KEYS = (
    "decay", "threshold", "reset", "strict", "floor", "bias", "v_rest", "v_reset", "reset_by", "input_scale", "decay_current",
    "max_spikes", "v_init",
)  # fmt: skip
MAX_SPIKES = 255
"""Most spikes that a neuron may fire in one step: the largest value of a packet."""


@dataclass(frozen=True)
class Rule:
    """One neuron layer. ``lif``: keyword arguments of ``Network.lif``; ``layout``: a key of LAYOUTS.

    ``steps``: time steps where they are folded into the batch axis; 0: all of that axis, the batch being 1. ``states``: how many state tensors
    ``forward`` returns after the spikes and takes after the input; ``pack`` joins them into what the class calls its state. ``unbounded``: the class
    knows no limit of spikes per step, so MAX_SPIKES stands for it.
    """

    lif: Mapping[str, Any]
    layout: str
    steps: int | None = None
    states: int = 0
    pack: Callable[..., Any] | None = None
    unbounded: bool = False


_REGISTERED: dict[type, NeuronClass] = {}


def register_neuron(cls: type, to_rule: Callable[[Any], Mapping[str, Any]], *, reset: Callable[[Any], object] | None = None) -> None:
    """Tell neurosim that a ``torch.nn.Module`` class is a layer of spiking neurons.

    ``to_rule(module)`` returns a mapping with the keyword arguments of ``Network.lif`` that the instance stands for, and

    * ``layout``: "step" (one step per call), "time" ([steps, batch, ...]), "time_batch" ([steps * batch, ...]), "batch_time" ([batch * steps, ...])
      or "batch_first" ([batch, steps, ...]);
    * ``steps``: the number of steps, for the two folded layouts;
    * ``states``: the number of state tensors that ``forward`` returns after the spikes and takes after the input (default 0);
    * ``max_spikes``: most spikes of a neuron in one step (default 1, at most 255), None where the class has no limit; the output is their number.

    ``reset(module)`` brings an instance that keeps its state from call to call back to the start. Whenever a model is loaded, the rule is compared
    with the class's own ``forward`` on random currents, and a difference is refused. Raises ModelError when ``cls`` is no class or ``to_rule`` not
    callable.

        neurosim.register_neuron(MyLIF, lambda m: {"decay": 0.5, "threshold": m.threshold, "layout": "time_batch", "steps": m.T})
    """
    if not isinstance(cls, type) or not callable(to_rule):
        raise ModelError(f"register_neuron({cls!r}, {to_rule!r}): wanted a class and a function of an instance that returns its rule")
    _REGISTERED[cls] = NeuronClass(to_rule) if reset is None else NeuronClass(to_rule, reset)


def neuron_class(module: Any, name: str) -> NeuronClass | None:
    """How to read ``module``; None when it is no neuron. Raises UnsupportedLayer for a library's neuron that has no rule here."""
    for cls in type(module).__mro__:
        if cls in _REGISTERED:
            return _REGISTERED[cls]
        library = cls.__module__.split(".")[0]
        if (library, cls.__name__) in LIBRARIES:
            return LIBRARIES[library, cls.__name__]
    if is_neuron_of_library(module):
        home, kind = type(module).__module__.split(".")[0], type(module).__name__
        known = ", ".join(cls for library, cls in LIBRARIES if library == home)
        raise UnsupportedLayer(
            name, kind, f"this neuron of {home} has no rule", value=kind, limit=known,
            remedy="use one of those, or give its rule with neurosim.register_neuron",
        )  # fmt: skip
    return by_authors(module)


def rule_of(module: Any, name: str, found: NeuronClass) -> Rule:
    """The rule of one instance, checked; raises ModelError or UnsupportedLayer naming the layer."""
    kind = type(module).__name__
    try:
        given = dict(found.to_rule(module))
    except UnsupportedLayer as error:
        raise UnsupportedLayer(name, kind, error.reason, value=error.value, limit=error.limit, remedy=error.remedy) from None
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"layer {name} ({kind}): its rule cannot be read ({error}); correct the function given to register_neuron") from None
    layout = given.pop("layout", None)
    rest = {key: given.pop(key) for key in ("steps", "states", "pack") if key in given}
    if layout not in LAYOUTS:
        raise ModelError(f"layer {name} ({kind}): layout {layout!r} is not known; use one of {', '.join(LAYOUTS)}")
    unknown = sorted(set(given) - set(LIF_KEYS))
    if unknown:
        raise ModelError(f"layer {name} ({kind}): rule key {unknown[0]!r} is not known; use {', '.join(LIF_KEYS)}, layout, steps, states")
    unbounded = "max_spikes" in given and given["max_spikes"] is None
    if unbounded:
        given["max_spikes"] = MAX_SPIKES
    most = given.get("max_spikes", 1)
    if not isinstance(most, int) or not 1 <= most <= MAX_SPIKES:
        raise UnsupportedLayer(
            name, kind, "a neuron fires too many spikes per step", value=most, limit=f"1 to {MAX_SPIKES}",
            remedy="train with fewer (sinabs: spike_fn=MaxSpike(255))",
        )  # fmt: skip
    rule = Rule({key: plain(value) for key, value in given.items()}, layout, unbounded=unbounded, **rest)
    if layout in ("time_batch", "batch_time") and (not isinstance(rule.steps, int) or rule.steps < 0):
        raise ModelError(
            f"layer {name} ({kind}): layout {layout} folds time into the batch, so its rule must say steps (at least 1), not {rule.steps!r}"
        )
    return rule


def plain(value: Any) -> Any:
    """A tensor or parameter as a float64 array or a float; anything else as it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return float(value) if getattr(value, "ndim", None) == 0 or getattr(value, "size", 0) == 1 else value
