"""Lowering of what is no linear map: max_pool, gate and attention become populations with an op (neurosim.ops), or wait for the lif behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurosim.compiler.lower.expression import Expression, Pending, Term, counts_of, largest_sum, spikes_of, through, whole_counts
from neurosim.compiler.lower.gate_masks import folded_mask
from neurosim.compiler.lower.state import State
from neurosim.compiler.lower.windows import identity
from neurosim.errors import UnsupportedLayer
from neurosim.graph import Population, Projection, Rewrite, SumPool, pass_rule
from neurosim.network import Layer
from neurosim.ops import Coincidence, Gate, MaxPool, OrPool


def lower_event(state: State, layer: Layer) -> Expression:
    """The value of a max_pool, gate or attention."""
    return {"max_pool": _max_pool, "gate": _gate, "attention": _attention}[layer.op](state, layer)


def realise(state: State, layer: Layer, value: Expression) -> tuple[list[Projection], MaxPool | Coincidence]:
    """The projections onto the operands of the op that waited for the neurons of ``layer``."""
    pending = value.pending
    assert pending is not None
    shapes = pending.op.operands(value.shape)
    into: list[Projection] = []
    for operand, terms in pending.operands:
        found = state.project(layer.name, shapes[operand], terms, operand)
        if isinstance(pending.op, Coincidence):
            counts = whole_counts(found, state.populations)
            assert counts is not None, "attention has tested its operands"
            found = counts
        into += found
    if pending.bias is not None and not all(state.populations[t.source].kind == "analog" for t in value.terms):
        raise UnsupportedLayer(
            pending.layer, "max_pool", f"a bias that differs from pixel to pixel enters it, and {layer.name} reads spikes beside it",
            value=float(np.abs(pending.bias - pending.bias[:, :1, :1]).max()), limit=0,
            remedy="train without the mean of the image, or without padding before the max-pool",
        )  # fmt: skip
    hosted = [p for p in into if state.populations[p.source].kind == "analog"]
    own_hosted = all(state.populations[t.source].kind == "analog" for t in value.terms)
    if hosted and not (len(hosted) == len(into) and own_hosted):
        raise UnsupportedLayer(
            pending.layer, "max_pool", f"it pools values that the host computes from the image ({hosted[0].source}) together with spikes",
            value="currents in a window", limit="the host's alone, or spikes alone", remedy="put a lif layer between the image and the max-pool",
        )  # fmt: skip
    name = pending.layer
    if hosted:
        state.notes[name] = Rewrite(name, "max_pool", "host", f"reads only the static image: the host takes the largest values for {layer.name}")
    else:
        text = "the op max_pool" if isinstance(pending.op, MaxPool) else "the op coincidence, activity-written synapses,"
        state.notes[name] = Rewrite(name, state.net.layers[name].op, "native", f"{text} of {layer.name}")
    return into, pending.op


def _max_pool(state: State, layer: Layer) -> Expression:
    value = state.value(layer.inputs[0], layer)
    p = layer.params
    counts = None if np.any(value.bias) else state.counts(layer.name, value.shape, value.terms)
    if counts is not None and largest_sum(counts, state.populations, value.shape) <= 1:
        pool = SumPool(np.ones(value.shape[0]), p["kernel"], p["stride"], p["padding"])
        terms = through(value.terms, [pool], state.populations, layer.name)
        into = state.counts(layer.name, layer.shape, terms)
        assert into is not None, "sums of whole numbers are whole"
        state.populations[layer.name] = Population(layer.name, layer.shape, "spiking", pass_rule(), op=OrPool())
        state.projections += into
        state.notes[layer.name] = Rewrite(layer.name, "max_pool", "native", "or_pool: the first spike of a window passes in each step")
        return spikes_of(layer.name, layer.shape)
    first = value.bias[:, :1, :1]
    uneven = bool(np.any(value.bias != first))
    if uneven and not all(state.populations[t.source].kind == "analog" for t in value.terms):
        raise UnsupportedLayer(
            layer.name, "max_pool", "a bias that differs from pixel to pixel enters it together with spikes",
            value=float(np.abs(value.bias - first).max()), limit=0, remedy="train without that bias, or without padding before the max-pool",
        )  # fmt: skip
    op = MaxPool(value.shape, p["kernel"], p["stride"], p["padding"])
    terms = through(value.terms, [], state.populations, layer.name)
    bias = np.zeros(layer.shape) if uneven else np.array(np.broadcast_to(first, layer.shape))
    return Expression((), bias, Pending(op, layer.name, (("window", terms),), value.bias if uneven else None))


def _gate(state: State, layer: Layer) -> Expression:
    data_name, mask_name = layer.inputs
    data = state.value(data_name, layer)
    p = layer.params
    into = None if np.any(data.bias) else state.counts(layer.name, layer.shape, through(data.terms, [], state.populations, layer.name))
    if into is None:
        raise UnsupportedLayer(
            layer.name, "gate", f"its data {data_name} are real values, a gate passes spikes", value="real values", limit="sums of spikes",
            remedy="put a lif layer before the gate",
        )  # fmt: skip
    most = state.bounded(layer, "its data are sums of too many spikes", largest_sum(into, state.populations, layer.shape))
    mask = state.value(mask_name, layer)
    op = Gate(mask.shape, p["count"], p["inverted"], p["latched"])
    folded = folded_mask(state, layer, mask)
    if not isinstance(folded, str):
        op = replace(op, count=folded.count, latched=folded.latched)
        mask = Expression(folded.terms, np.zeros(mask.shape))
        state.folded.add(folded.lif)
        state.notes[folded.lif] = Rewrite(folded.lif, "lif", "rewritten", f"{folded.text}: it became the count of the gate {layer.name}")
    elif folded:
        state.notes[f"mask of {layer.name}"] = Rewrite(layer.name, "gate", "native", f"its mask {mask_name} stays a population: {folded}")
    masks = None
    if not np.any(mask.bias):
        masks = state.counts(layer.name, mask.shape, through(mask.terms, [], state.populations, layer.name), "mask")
    if masks is None:
        raise UnsupportedLayer(
            layer.name, "gate", f"its mask {mask_name} is no count of spikes", value="real values", limit="whole numbers of at least 0",
            remedy="put a lif layer before the mask, or give it the sum of spikes itself",
        )  # fmt: skip
    state.populations[layer.name] = Population(layer.name, layer.shape, "spiking", pass_rule(most), op=op)
    state.projections += [*into, *masks]
    groups = int(np.prod(op.groups))
    when = f"{'closes' if op.inverted else 'opens'} at {op.count} mask spike{'s' * (op.count > 1)} of {'the sample' if op.latched else 'a step'}"
    stays = state.notes.pop(f"mask of {layer.name}", None)
    text = f"gate of {groups} group{'s' * (groups > 1)} that {when}" + (f"; {stays.text}" if stays else "")
    state.notes[layer.name] = Rewrite(layer.name, "gate", "native", text)
    return spikes_of(layer.name, layer.shape)


def _attention(state: State, layer: Layer) -> Expression:
    scale = float(layer.params["scale"])
    operands: dict[str, tuple[Term, ...]] = {}
    for operand, name in zip(("q", "k", "v"), layer.inputs, strict=True):
        value = state.value(name, layer)
        terms = through(value.terms, [], state.populations, layer.name)
        spikes = not np.any(value.bias) and all(state.populations[t.source].kind != "analog" for t in terms)
        found = state.project(layer.name, layer.shape, terms, operand) if spikes else []
        counted = counts_of(found, state.populations) if spikes else None
        if counted is None:
            raise UnsupportedLayer(
                layer.name, "attention", f"its {operand}, {name}, is no sum of spikes", value="real values", limit="spikes",
                remedy="put lif layers before q, k and v",
            )  # fmt: skip
        counts, unit = counted
        state.bounded(layer, f"its {operand}, {name}, is a sum of too many spikes", largest_sum(counts, state.populations, layer.shape))
        operands[operand] = terms if unit == 1.0 else through(terms, [identity(layer.shape[0], 1.0 / unit)], state.populations)
        scale *= unit
    if scale <= 0:
        raise UnsupportedLayer(layer.name, "attention", "its scale is not above 0", value=scale, limit="above 0", remedy="put the sign elsewhere")
    op = Coincidence(int(layer.params["heads"]), scale)
    return Expression((), np.zeros(layer.shape), Pending(op, layer.name, tuple((name, operands[name]) for name in ("k", "v", "q"))))
