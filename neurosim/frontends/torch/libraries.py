"""The neurons of spikingjelly, snnTorch, sinabs and norse as rules; attributes are read, the libraries are not imported.

Every function returns what ``register_neuron`` documents. The differences that matter: spikingjelly's LIF scales its input (``decay_input``),
snnTorch tests strictly and resets one step late (before the leak, so that a subtraction of the threshold shrinks with beta), sinabs clips after the
reset, norse adds the input to the current before the membrane sees it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from neurosim.errors import UnsupportedLayer
from neurosim.frontends.torch.neuron_class import NeuronClass

Rule = Mapping[str, Any]


def _refuse(module: Any, what: str, value: Any, limit: Any, remedy: str) -> UnsupportedLayer:
    """``rule_of`` puts in the name of the layer."""
    return UnsupportedLayer("", type(module).__name__, what, value=value, limit=limit, remedy=remedy)


def _number(value: Any) -> Any:
    return value.detach().cpu().double() if hasattr(value, "detach") else value


# -- spikingjelly: activation_based (step_mode) and clock_driven (MultiStep... classes)


def _spikingjelly_common(module: Any) -> dict[str, Any]:
    multi = any(cls.__name__.startswith("MultiStep") for cls in type(module).__mro__) or getattr(module, "step_mode", "s") == "m"
    if not getattr(module.surrogate_function, "spiking", True):
        raise _refuse(module, "its spikes are smooth", "spiking=False", "spiking=True", "set surrogate_function.spiking")
    soft = module.v_reset is None
    rest = 0.0 if soft else float(module.v_reset)
    return {
        "threshold": module.v_threshold, "reset": "subtract" if soft else "zero", "v_rest": rest, "v_reset": rest,
        "layout": "time" if multi else "step",
    }  # fmt: skip


def _sj_if(module: Any) -> Rule:
    return _spikingjelly_common(module) | {"decay": 1.0}


def _sj_lif(module: Any, kept: float | None = None) -> Rule:
    share = 1.0 / float(module.tau) if kept is None else kept
    # v <- v + (x - (v - v_reset)) / tau, or v <- v - (v - v_reset) / tau + x
    return _spikingjelly_common(module) | {"decay": 1.0 - share, "input_scale": share if getattr(module, "decay_input", True) else 1.0}


def _sj_plif(module: Any) -> Rule:
    return _sj_lif(module, float(_number(module.w).sigmoid()))


# -- snnTorch


def _snntorch_common(module: Any) -> dict[str, Any]:
    if getattr(module, "inhibition", False):
        raise _refuse(module, "its neurons inhibit each other", "inhibition=True", "inhibition=False", "train with inhibition=False")
    if getattr(module, "state_quant", False):
        raise _refuse(
            module, "its state is quantised while it runs", "state_quant", "no state_quant", "load it without state_quant: the compiler quantises"
        )
    if float(_number(getattr(module, "graded_spikes_factor", 1.0))) != 1.0:
        raise _refuse(module, "its spikes carry values", float(_number(module.graded_spikes_factor)), 1, "train with graded_spikes_factor=1")
    mode = int(module.reset_mechanism_val)
    if mode == 2:
        raise _refuse(module, "it never resets after a spike", "none", "subtract, zero", "train with reset_mechanism 'subtract' or 'zero'")
    both = not module.init_hidden or module.output
    return {
        "threshold": _number(module.threshold), "reset": ("subtract", "zero")[mode], "strict": True, "layout": "step", "states": int(both),
    }  # fmt: skip


def _late(module: Any, rule: dict[str, Any], decay: float, *, swallows: bool = False) -> dict[str, Any]:
    """A reset that comes with the next step, after the leak: v <- beta v + x - threshold is a subtraction of threshold / beta before the leak.

    ``swallows``: a late reset to zero also removes the next step's input.
    """
    late = getattr(module, "reset_delay", True)
    if rule["reset"] == "zero" and late and swallows:
        raise _refuse(
            module, "its reset to zero also removes the input of the next step", "zero", "subtract", "train with reset_mechanism 'subtract'"
        )
    if rule["reset"] == "subtract" and not late:
        raise _refuse(
            module, "it subtracts twice from a membrane above 2 thresholds", "reset_delay=False", "reset_delay=True", "train with reset_delay=True"
        )
    if rule["reset"] == "subtract" and decay != 1.0:
        if decay == 0.0:
            raise _refuse(
                module,
                "its reset comes a step late and nothing of the membrane is kept",
                "beta 0",
                "beta above 0",
                "train with reset_mechanism 'zero'",
            )
        rule["reset_by"] = rule["threshold"] / decay
    return rule | {"decay": decay}


def _snn_leaky(module: Any) -> Rule:
    return _late(module, _snntorch_common(module), float(_number(module.beta).clamp(0, 1)))


def _snn_lapicque(module: Any) -> Rule:
    step, r, c = (float(_number(v)) for v in (module.time_step, module.R, module.C))
    return _late(module, _snntorch_common(module), 1.0 - step / (r * c), swallows=True) | {"input_scale": step / c}


def _snn_synaptic(module: Any) -> Rule:
    rule = _snntorch_common(module)
    rule["states"] *= 2
    return _late(module, rule, float(_number(module.beta).clamp(0, 1)), swallows=True) | {"decay_current": float(_number(module.alpha).clamp(0, 1))}


# -- sinabs


def _kept(module: Any, state: str) -> float | None:
    """exp(-1 / tau), in double precision."""
    if getattr(module, "train_alphas", False):
        alpha = getattr(module, f"alpha_{state}")
        return None if alpha is None else float(_number(alpha))
    tau = getattr(module, f"tau_{state}")
    if tau is None:
        return 1.0 if state == "mem" else None  # IAF
    return math.exp(-1.0 / float(_number(tau)))


def _sinabs(module: Any) -> Rule:
    spikes = module.spike_fn
    kind = getattr(spikes, "__name__", type(spikes).__name__)
    decay, current = _kept(module, "mem"), _kept(module, "syn")
    assert decay is not None
    rule: dict[str, Any] = {
        "decay": decay, "threshold": _number(module.spike_threshold), "floor": None if module.min_v_mem is None else _number(module.min_v_mem),
        "input_scale": 1.0 - decay if module.norm_input else 1.0, "layout": "batch_first",
        "max_spikes": {"SingleSpike": 1, "MaxSpike": getattr(spikes, "max_num_spikes_per_bin", None)}.get(kind),
    }  # fmt: skip
    if current is not None:  # i <- alpha (i + x)
        rule["decay_current"] = current
        rule["input_scale"] *= current
    reset = module.reset_fn
    if type(reset).__name__ == "MembraneSubtract":
        rule |= {"reset": "subtract", "reset_by": reset.subtract_value}
    elif type(reset).__name__ == "MembraneReset" and reset.reset_value == 0:
        rule["reset"] = "zero"
    else:
        raise _refuse(
            module,
            "its reset is no subtraction and no reset to 0",
            reset,
            "MembraneSubtract, MembraneReset to 0",
            "use MembraneSubtract() or MembraneReset()",
        )
    return rule


def _sinabs_squeeze(module: Any) -> Rule:
    if module.num_timesteps < 1 and module.batch_size != 1:
        raise _refuse(
            module, "its batch size is fixed", f"batch_size {module.batch_size}", "batch_size 1", "create it with num_timesteps=, or batch_size=1"
        )
    return dict(_sinabs(module)) | {"layout": "batch_time", "steps": max(int(module.num_timesteps), 0)}


# -- norse


def _norse(module: Any, box: bool) -> Rule:
    p = module.p
    share = float(_number(module.dt * p.tau_mem_inv))  # in the precision of norse's own parameters
    rule: dict[str, Any] = {
        "decay": 1.0 - share, "input_scale": share, "threshold": _number(p.v_th), "strict": True, "reset": "zero",
        "v_rest": float(_number(p.v_leak)), "v_reset": float(_number(p.v_reset)),
        "layout": "step" if type(module).__name__.endswith("Cell") else "time",
    }  # fmt: skip
    if rule["v_rest"] != rule["v_reset"]:
        rule["v_init"] = rule["v_rest"]
    if box and getattr(getattr(p, "reset_method", None), "__name__", "reset_value") != "reset_value":
        raise _refuse(module, "its reset is no reset to a value", p.reset_method.__name__, "reset_value", "use reset_value")
    functional = sys.modules["norse.torch.functional." + ("lif_box" if box else "lif")]
    rule |= {"states": 1 if box else 2, "pack": functional.LIFBoxFeedForwardState if box else functional.LIFFeedForwardState}
    return rule if box else rule | {"decay_current": 1.0 - float(_number(module.dt * p.tau_syn_inv))}


def _norse_lif(module: Any) -> Rule:
    return _norse(module, box=False)


def _norse_box(module: Any) -> Rule:
    return _norse(module, box=True)


# -- classes that authors copy from code to code


def _lif_spike(module: Any) -> Rule:
    """STMixer's: v <- tau v + x, steps folded into the batch, slowest first."""
    if getattr(module, "use_ann", False):
        raise _refuse(module, "it is a ReLU", "use_ann=True", "use_ann=False", "load the spiking network")
    return {
        "decay": module.tau, "threshold": module.thresh, "reset": "subtract" if getattr(module, "soft_reset", False) else "zero",
        "layout": "time_batch", "steps": module.T,
    }  # fmt: skip


def _reset_by(name: str) -> Callable[[Any], object]:
    def reset(module: Any) -> object:
        return getattr(module, name)()

    return reset


_SPIKINGJELLY = {
    "IFNode": _sj_if, "LIFNode": _sj_lif, "ParametricLIFNode": _sj_plif,
    "MultiStepIFNode": _sj_if, "MultiStepLIFNode": _sj_lif, "MultiStepParametricLIFNode": _sj_plif,
}  # fmt: skip
LIBRARIES: dict[tuple[str, str], NeuronClass] = {
    **{("spikingjelly", name): NeuronClass(rule, _reset_by("reset")) for name, rule in _SPIKINGJELLY.items()},
    ("snntorch", "Leaky"): NeuronClass(_snn_leaky, _reset_by("reset_mem")),
    ("snntorch", "Lapicque"): NeuronClass(_snn_lapicque, _reset_by("reset_mem")),
    ("snntorch", "Synaptic"): NeuronClass(_snn_synaptic, _reset_by("reset_mem")),
    ("sinabs", "IAF"): NeuronClass(_sinabs, _reset_by("reset_states")),
    ("sinabs", "LIF"): NeuronClass(_sinabs, _reset_by("reset_states")),
    ("sinabs", "IAFSqueeze"): NeuronClass(_sinabs_squeeze, _reset_by("reset_states")),
    ("sinabs", "LIFSqueeze"): NeuronClass(_sinabs_squeeze, _reset_by("reset_states")),
    ("norse", "LIFCell"): NeuronClass(_norse_lif),
    ("norse", "LIF"): NeuronClass(_norse_lif),
    ("norse", "LIFBoxCell"): NeuronClass(_norse_box),
}
"""(library, class) -> how to read it."""
AUTHORS: dict[str, tuple[tuple[str, ...], NeuronClass]] = {"LIFSpike": (("T", "thresh", "tau"), NeuronClass(_lif_spike))}
"""Class, wherever it is defined -> the attributes by which it is known, and how to read it."""
_BASES = {
    "spikingjelly": ("BaseNode",), "snntorch": ("SpikingNeuron",), "sinabs": ("StatefulLayer",),
    "norse": ("SNNCell", "SNN", "SNNRecurrentCell", "SNNRecurrent"),
}  # fmt: skip


def by_authors(module: Any) -> NeuronClass | None:
    """How to read a class of AUTHORS; None for others."""
    for cls in type(module).__mro__:
        attributes, found = AUTHORS.get(cls.__name__, ((), None))
        if found is not None and all(hasattr(module, name) for name in attributes):
            return found
    return None


def is_neuron_of_library(module: Any) -> bool:
    """True for a neuron class of a known library."""
    return any(cls.__name__ in _BASES.get(cls.__module__.split(".")[0], ()) for cls in type(module).__mro__)


def reset_together() -> list[Any]:
    """Neurons whose states a library touches whenever it resets any: snnTorch keeps a list of all that were ever made."""
    snntorch = sys.modules.get("snntorch")
    return [] if snntorch is None else list(snntorch.SpikingNeuron.instances)
