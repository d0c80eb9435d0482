"""Gates whose mask is a lif without memory, or a latch: the lif becomes the gate's count.

The lif reads s spikes times a unit u: v <- decay v + u s. It fires at s >= theta = ceil(threshold / u) from any membrane. It fires at nothing less if
theta - 1 spikes in every step of a sample, the worst case, never bring it to its threshold; with a hard reset to 0 it then keeps nothing that matters
(QKFormer: theta 1; MSViT: theta 2, for samples of fewer than 54 steps). A lif that adds up without leak until it first fires is a latch: a latched
gate opens at theta spikes of the sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.compiler.lower.expression import CLOSE, Expression, Term, counts_of, project, through, whole_counts
from neurosim.compiler.lower.state import State
from neurosim.compiler.lower.windows import identity
from neurosim.golden.maps import apply_map
from neurosim.graph import LinearMap, Shape
from neurosim.network import Layer, Network


@dataclass(frozen=True)
class Folded:
    """The lif ``lif`` as ``count`` of a gate; ``terms``: what it read, as counts of spikes, spread over the gate's groups."""

    lif: str
    count: int
    latched: bool
    terms: tuple[Term, ...]
    text: str


def folded_mask(state: State, gate: Layer, mask: Expression) -> Folded | str:
    """The gate's mask without its lif, or why it has to stay: a text, empty where the mask is no lif."""
    net = state.net
    if len(mask.terms) != 1 or np.any(mask.bias):
        return ""
    term = mask.terms[0]
    layer = net.layers.get(term.source)
    if layer is None or layer.op != "lif":
        return ""
    if not _only_gates_read(net, state.needed, layer.name):
        return "other layers read it as well"
    if term.delay or any(target == layer.name for _, target, _ in net.connections):
        return "its spikes are delayed or come back to it"
    selected = whole_counts(project(gate.name, mask.shape, (term,), state.populations, state.ops), state.populations)
    if selected is None or not _one_to_one(selected[0].map, state.populations[term.source].shape, mask.shape, selected[0].channel_offset):
        return "a group has no mask neuron, or several"
    driven = state.driven[layer.name]
    if np.any(driven.bias) or (layer.params["bias"] is not None and np.any(layer.params["bias"])):
        return "it has a bias"
    if driven.pending is not None or any(state.populations[t.source].kind == "analog" for t in driven.terms):
        return "it reads real values"
    into = project(layer.name, layer.shape, driven.terms, state.populations, state.ops)
    counted = counts_of(into, state.populations)
    if counted is None:
        return "its weights are no whole multiples of one unit, or below 0"
    unit = counted[1]
    found = _count(layer.params, gate.params, unit, net.steps)
    if isinstance(found, str):
        return found
    count, latched, text = found
    terms = through(driven.terms, [identity(layer.shape[0], 1.0 / unit)], state.populations, layer.name)
    terms = through(terms, list(term.chain), state.populations)
    return Folded(layer.name, count, latched, tuple(Term(t.source, t.delay, t.chain, (*t.layers, *term.layers)) for t in terms), text)


def _only_gates_read(net: Network, needed: set[str], name: str) -> bool:
    """Whether all that reads the layer, directly or through a reshape or sparse layer, are gates, as their mask."""
    if name == net.output_name or any(source == name for source, _, _ in net.connections):
        return False
    for layer in net.layers.values():
        if layer.name not in needed or name not in layer.inputs:
            continue
        if layer.op in ("reshape", "sparse"):
            if not _only_gates_read(net, needed, layer.name):
                return False
        elif layer.op != "gate" or layer.inputs[0] == name:
            return False
    return True


def _one_to_one(m: LinearMap, source: Shape, groups: Shape, offset: int) -> bool:
    """Whether every group gets exactly one neuron's spikes, with weight 1."""
    weight = np.asarray(m.weight)
    if offset or m.out_shape(source) != groups or not np.isin(weight, (0.0, 1.0)).all():
        return False
    return bool(np.all(apply_map(m, np.ones((1, *source))) == 1))


def _count(lif: dict[str, Any], gate: dict[str, Any], unit: float, steps: int) -> tuple[int, bool, str] | str:
    """(count, latched, in words) of the gate without the lif, or why not."""
    thresholds = np.unique(lif["threshold"])
    if len(thresholds) > 1:
        return "its thresholds differ"
    if lif["v_rest"] or lif["v_reset"] or lif["floor"] is not None or lif["decay_current"] or np.any(lif.get("v_init") or 0):
        return "it has a resting, reset or start potential, a floor or a synaptic current"
    if gate["count"] != 1 or lif["max_spikes"] != 1:
        return "the gate counts its spikes"
    threshold, strict, decay = float(thresholds[0]), lif["strict"], lif["decay"]
    if threshold <= 0:
        return "its threshold is not above 0"
    theta = _least(threshold / unit, strict)
    never_lowered = lif["reset"] == "subtract" and lif["reset_by"] is not None and not np.any(lif["reset_by"])
    if decay == 1 and (never_lowered or gate["latched"]):
        return theta, True, f"it adds up and has fired once the sample has brought {theta} spike{'s' * (theta > 1)}"
    if lif["reset"] != "zero":
        return "it keeps what is left above its threshold"
    worst = 0.0
    for _ in range(steps):  # as the network itself computes it
        worst = decay * worst + unit * (theta - 1)
        if worst > threshold or (worst == threshold and not strict):
            return f"it remembers: {theta - 1} spikes per step bring it to its threshold within {steps} steps"
    if gate["latched"] and theta > 1:
        return f"the gate is latched by a step with {theta} spikes, not by their sum over the steps"
    return theta, bool(gate["latched"]), f"it keeps nothing from step to step and fires at {theta} spike{'s' * (theta > 1)} of a step"


def _least(ratio: float, strict: bool) -> int:
    """The least whole number that reaches (strict: exceeds) a ratio."""
    near = round(ratio)
    if abs(ratio - near) <= CLOSE * max(1.0, near):
        return near + 1 if strict else max(near, 1)
    return math.ceil(ratio)
