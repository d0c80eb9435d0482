"""Network -> Graph in real numbers: everything linear between two spike layers becomes projections and biases, exactly.

Every layer's value is kept as an affine expression over spike trains and raw pixels: a sum of terms (source, delay, chain of linear stages) and a
bias map (c, y, x). A spike layer turns the expression of its input into projections; the output turns its own into the readout's. Residual streams
need no case of their own: an ``add`` joins the terms, so every writer ends up with a projection into every later reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE
from neurosim.compiler.lower.event_layers import lower_event, realise
from neurosim.compiler.lower.expression import Expression, Term, spikes_of, through
from neurosim.compiler.lower.log import Log
from neurosim.compiler.lower.stages import Place, Reshape, Stage, append
from neurosim.compiler.lower.state import State
from neurosim.compiler.lower.windows import identity
from neurosim.compiler.matrices import merged
from neurosim.errors import UnsupportedLayer
from neurosim.golden.network import linear_layer, start_membrane
from neurosim.graph import Conv2d, Dense, Graph, LinearMap, NeuronRule, Population, Projection, Rewrite, Shape, Sparse, SumPool, TokenMix
from neurosim.network import Layer, Network
from neurosim.network.layers import EVENT_OPS

Floats = NDArray[np.float64]


def lower(net: Network, *, sums_for_averages: bool = False) -> Graph:
    """Fold ``net`` into populations and projections. ``sums_for_averages``: average pools leave out their division, another network.

    Raises UnsupportedLayer for the first layer that cannot be expressed, ModelError otherwise.
    """
    net.verify()
    return _Lowering(net, sums_for_averages).run()


class _Lowering:
    def __init__(self, net: Network, sums_for_averages: bool) -> None:
        self.net = net
        self.sums_for_averages = sums_for_averages
        self.state = State(net, needed_layers(net))
        self.populations, self.warnings = self.state.populations, self.state.warnings

    def run(self) -> Graph:
        net, needed = self.net, self.state.needed
        for layer in net.layers.values():
            if layer.name in needed:
                self.state.values[layer.name] = self._lower(layer)
        recurrent = [self._connect(*connection) for connection in net.connections if connection[1] in needed]
        self._readout(net.layers[str(net.output_name)])
        for projections in recurrent:
            self.state.projections += projections
        unread = self.state.folded - {p.source for p in self.state.projections}
        populations = tuple(p for p in self.populations.values() if p.name not in unread)
        order = {p.name: k for k, p in enumerate(populations)}
        joined = sorted((p for p in self.state.projections if p.target not in unread), key=lambda p: order[p.target])
        graph = Graph(
            net.name, net.steps, populations, tuple(joined), class_names=net.class_names, dense_macs=net.dense_macs(),
            warnings=tuple(self.warnings), integers=net.integers,
        )  # fmt: skip
        graph.verify()
        return replace(graph, rewrites=Log(net).rewrites(graph, needed, self.state.notes))

    def _lower(self, layer: Layer) -> Expression:
        match layer.op:
            case "input":
                self.populations[layer.name] = Population(layer.name, layer.shape, "analog")
                weight, bias = self.net.input_contract.affine()
                chain = append((), identity(layer.shape[0], weight), layer.shape)
                return Expression((Term(layer.name, 0, chain, (layer.name,)),), _whole(bias[:, None, None], layer.shape))
            case "spikes_input":
                self.populations[layer.name] = Population(layer.name, layer.shape, "input")
                return spikes_of(layer.name, layer.shape)
            case "lif":
                return self._lif(layer)
            case "li":
                self.state.value(layer.inputs[0], layer)
                return self._driven(layer)
            case "add":
                return self._add(layer)
            case "concat":
                return self._concat(layer)
            case "delay":
                return self._delayed(layer.name, "delay", self.state.value(layer.inputs[0], layer), layer.params["steps"])
            case op if op in EVENT_OPS:
                return lower_event(self.state, layer)
        return self._linear(layer)

    def _linear(self, layer: Layer) -> Expression:
        x = self.state.values[layer.inputs[0]]
        if layer.op == "avg_pool" and self.sums_for_averages:
            text = f"a sum in place of the mean: its values are {np.prod(layer.params['kernel'])} times as large"
            self.state.notes[layer.name] = Rewrite(layer.name, layer.op, "rewritten", text)
            layer = replace(layer, op="sum_pool")
        bias = linear_layer(layer, [x.bias[None]])[0]  # refuses ops without a rule
        stages = linear_stages(layer, x.shape)
        if x.pending is not None:
            passed = self.state.passed(layer, stages)
            if passed is not None:
                return replace(passed, bias=bias)
            x = self.state.value(layer.inputs[0], layer)
        return Expression(self._through(x.terms, stages, layer.name), bias)

    def _through(self, terms: tuple[Term, ...], stages: list[Stage], name: str) -> tuple[Term, ...]:
        return through(terms, stages, self.populations, name)

    def _add(self, layer: Layer) -> Expression:
        waiting = [x for x in layer.inputs if self.state.values[x].pending is not None]
        for x in waiting[1:]:  # a neuron has one op
            self.state.value(x, layer)
        inputs = [self.state.values[x] for x in layer.inputs]
        terms = tuple(t for e in inputs for t in self._through(e.terms, [], layer.name))
        pending = next((e.pending for e in inputs if e.pending is not None), None)
        if pending is not None:
            operands = tuple((operand, self._through(waits, [], layer.name)) for operand, waits in pending.operands)
            pending = replace(pending, operands=operands)
        return Expression(terms, np.asarray(sum(e.bias for e in inputs)), pending)

    def _concat(self, layer: Layer) -> Expression:
        terms: list[Term] = []
        offset = 0
        values = [self.state.value(x, layer) for x in layer.inputs]
        for value in values:
            terms += self._through(value.terms, [Place(offset, layer.shape[0])], layer.name)
            offset += len(value.bias)
        return Expression(tuple(terms), np.concatenate([value.bias for value in values]))

    def _delayed(self, name: str, op: str, value: Expression, steps: int) -> Expression:
        if np.any(value.bias):
            raise UnsupportedLayer(
                name, op, "it delays a bias, which would be absent in the first steps", remedy="put the delay directly behind a lif layer"
            )
        if any(self.populations[t.source].kind == "analog" for t in value.terms):
            raise UnsupportedLayer(name, op, "it delays real-valued input", remedy="put the delay behind a lif layer")
        return Expression(tuple(replace(t, delay=t.delay + steps, layers=(*t.layers, name)) for t in value.terms), value.bias)

    def _lif(self, layer: Layer) -> Expression:
        value = self._driven(layer)
        self.state.driven[layer.name] = value
        projections = self.state.project(layer.name, layer.shape, value.terms)
        operands, op = realise(self.state, layer, value) if value.pending is not None else ([], None)
        bias = None if value.pending is None else value.pending.bias
        projections += operands
        rule = self._rule(layer, value.bias)
        host = bool(projections) and all(self.populations[q.source].kind == "analog" for q in projections)
        self.populations[layer.name] = Population(layer.name, layer.shape, "spiking", rule, host=host, op=op, window_bias=bias, order=layer.order)
        self.state.projections += projections
        return spikes_of(layer.name, layer.shape)

    def _driven(self, layer: Layer) -> Expression:
        """What enters the neurons of a layer, in the unit of their membrane."""
        value, factor = self.state.values[layer.inputs[0]], layer.params["input_scale"]
        if layer.params["decay_current"] and np.any(value.bias):
            raise UnsupportedLayer(
                layer.name, layer.op, "a bias enters its synaptic current, where it would build up over the steps",
                value=float(np.abs(value.bias * factor).max()), limit=0, remedy=f"move the bias to the {layer.op} layer itself, {layer.op}(bias=...)",
            )  # fmt: skip
        if factor == 1.0:
            return value
        stages: list[Stage] = [identity(layer.shape[0], factor)]
        if value.pending is not None:
            passed = self.state.passed(layer, stages)
            assert passed is not None, "a factor is passed or refused"
            return replace(passed, bias=value.bias * factor)
        return Expression(self._through(value.terms, stages, layer.name), value.bias * factor)

    def _rule(self, layer: Layer, bias: Floats) -> NeuronRule:
        """The neuron's rule with its reset potential (subtracting: its resting potential) moved to 0."""
        p = layer.params
        origin = p["v_reset"] if p["reset"] == "zero" else p["v_rest"]
        threshold = np.asarray(p["threshold"] - origin)
        if np.any(threshold <= 0):
            raise UnsupportedLayer(
                layer.name, "lif", "the threshold does not lie above the reset potential", value=float(threshold.min() + origin),
                limit=f"above {origin}", remedy="such a neuron fires without input; correct threshold or v_reset",
            )  # fmt: skip
        floor = None if p["floor"] is None else np.asarray(p["floor"] - origin)
        if floor is not None and np.any(floor > 0):
            raise UnsupportedLayer(
                layer.name,
                "lif",
                "the floor lies above the reset potential",
                value=float(floor.max() + origin),
                limit=origin,
                remedy="lower the floor",
            )
        shifted = p["reset"] == "subtract" and origin != 0
        reset_by = p["threshold"] if p["reset_by"] is None and shifted else p["reset_by"]  # the default is the threshold before the shift
        start = np.asarray(start_membrane(layer) - origin)
        total = bias + (1 - p["decay"]) * (p["v_rest"] - origin) + (0.0 if p["bias"] is None else p["bias"])
        return NeuronRule(
            threshold, _compact(_whole(total, layer.shape)), self._fraction(layer, "decay"), p["reset"], reset_by, floor, p["strict"],
            self._fraction(layer, "decay_current") if p["decay_current"] else None,  # one that keeps nothing is its input
            p["max_spikes"], start if np.any(start) else None,
        )  # fmt: skip

    def _fraction(self, layer: Layer, key: str) -> int:
        kept = round(float(layer.params[key]) * DECAY_ONE)
        if kept != layer.params[key] * DECAY_ONE:
            self.warnings.append(
                f"{layer.name}: {key} {layer.params[key]:.6g} becomes {kept}/{DECAY_ONE} = {kept / DECAY_ONE:.6g}, the chip's resolution"
            )
        return kept

    def _connect(self, source: str, target: str, delay: int) -> list[Projection]:
        value = self._delayed(target, "connect", self.state.value(source, self.net.layers[target]), delay)
        terms = self._through(value.terms, [identity(len(value.bias), self.net.layers[target].params["input_scale"])], target)
        if self.populations[target].host:
            self._move_to_chip(target)
        return self.state.project(target, self.net.layers[target].shape, terms)

    def _move_to_chip(self, name: str) -> None:
        """A population that the host would compute, were there no spikes that come back to it."""
        if self.populations[name].op is not None:
            raise UnsupportedLayer(
                name, "connect", "spikes come back to a lif behind a max-pool of the image, whose windows the host computes",
                remedy="put a lif layer between the image and the max-pool",
            )  # fmt: skip
        self.populations[name] = replace(self.populations[name], host=False)

    def _readout(self, layer: Layer) -> None:
        value = self.state.value(layer.name, layer)
        name = f"{layer.name}.count" if layer.name in self.populations else layer.name
        terms, bias = value.terms, value.bias
        if layer.op == "li":
            p = layer.params
            rule = NeuronRule(
                np.ones((1, 1, 1)), bias if p["bias"] is None else bias + p["bias"], self._fraction(layer, "decay"),
                decay_current=self._fraction(layer, "decay_current") if p["decay_current"] else None,
                v_init=None if p.get("v_init") is None else p["v_init"] - p["v_rest"],
            )  # fmt: skip
            self.state.projections += self.state.project(name, layer.shape, terms)
            self.populations[name] = Population(name, layer.shape, "readout", rule)
            return
        if self.net.steps > 1:
            terms = self._through(terms, [identity(layer.shape[0], 1.0 / self.net.steps)], "mean over steps")
            terms, bias = tuple(replace(t, layers=t.layers[:-1]) for t in terms), bias / self.net.steps
        self.state.projections += self.state.project(name, layer.shape, terms)
        self.populations[name] = Population(name, layer.shape, "readout", NeuronRule(np.ones((1, 1, 1)), bias))


def linear_stages(layer: Layer, shape: Shape) -> list[Stage]:
    """The linear part of a layer on an input of ``shape``."""
    p = layer.params
    stages: dict[str, Callable[[], LinearMap | Reshape]] = {
        "conv2d": lambda: Conv2d(p["weight"], p["stride"], p["padding"], p["dilation"], p["groups"]),
        "linear": lambda: Dense(p["weight"], layer.shape),
        "sparse": lambda: merged(Sparse(p["indptr"], p["targets"], p["weight"], layer.shape)),
        "batch_norm": lambda: identity(shape[0], p["weight"] / np.sqrt(p["var"] + p["eps"])),
        "scale": lambda: identity(shape[0], p["factor"]),
        "token_mix": lambda: TokenMix(p["weight"]),
        "reshape": lambda: Reshape(layer.shape),
        "mean": lambda: SumPool(np.full(shape[0], 1.0 / (shape[1] * shape[2])), shape[1:]),
        "sum_pool": lambda: SumPool(np.ones(shape[0]), p["kernel"], p["stride"], p["padding"]),
        "avg_pool": lambda: SumPool(np.full(shape[0], 1.0 / (p["kernel"][0] * p["kernel"][1])), p["kernel"], p["stride"], p["padding"]),
    }
    return [stages[layer.op]()]


def needed_layers(net: Network) -> set[str]:
    """Layers that the output depends on."""
    needed: set[str] = set()
    waiting = [str(net.output_name)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [*net.layers[name].inputs, *(s for s, t, _ in net.connections if t == name)]
    return needed | {net.input_contract.name}


def _whole(value: Floats, shape: Shape) -> Floats:
    return np.array(np.broadcast_to(value, shape), np.float64)


def _compact(value: Floats) -> Floats:
    """(c, 1, 1) where all pixels of a channel agree, else as it is."""
    first = value[:, :1, :1]
    return np.ascontiguousarray(first) if np.all(value == first) else value
