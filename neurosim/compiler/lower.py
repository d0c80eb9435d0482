"""Network -> Graph in real numbers: everything linear between two spike layers becomes projections and biases, exactly.

Every layer's value is kept as an affine expression over spike trains and raw pixels: a sum of terms (source, delay, chain of linear stages) and a
bias map (c, y, x). A spike layer turns the expression of its input into projections; the output turns its own into the readout's. Residual streams
need no case of their own: an ``add`` joins the terms, so every writer ends up with a projection into every later reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE
from neurosim.compiler.rewrites import Log
from neurosim.compiler.stages import Chain, Place, Reshape, Stage, append, finish, identity, merge
from neurosim.errors import UnsupportedLayer
from neurosim.golden.network import linear_layer
from neurosim.graph import Conv2d, Dense, Graph, LinearMap, NeuronRule, Population, Projection, Shape, Sparse, SumPool, TokenMix
from neurosim.network import Layer, Network

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """What one population contributes: ``chain`` applied to its value ``delay`` steps ago. ``layers``: the layers folded into the chain."""

    source: str
    delay: int
    chain: Chain
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expression:
    """Sum of terms plus a constant per step."""

    terms: tuple[Term, ...]
    bias: Floats
    """(c, y, x)"""


def lower(net: Network) -> Graph:
    """Fold ``net`` into populations and projections. Raises UnsupportedLayer for the first layer that cannot be expressed, ModelError otherwise."""
    net.verify()
    return _Lowering(net).run()


class _Lowering:
    def __init__(self, net: Network) -> None:
        self.net = net
        self.log = Log(net)
        self.values: dict[str, Expression] = {}
        self.populations: dict[str, Population] = {}
        self.projections: list[Projection] = []
        self.warnings: list[str] = []

    def run(self) -> Graph:
        net = self.net
        needed = needed_layers(net)
        for layer in net.layers.values():
            if layer.name in needed:
                self.values[layer.name] = self._lower(layer)
        recurrent = [self._connect(*connection) for connection in net.connections if connection[1] in needed]
        self._readout(net.layers[str(net.output_name)])
        for projections in recurrent:
            self.projections += projections
        order = {name: k for k, name in enumerate(self.populations)}
        self.projections.sort(key=lambda p: order[p.target])
        graph = Graph(
            net.name, net.steps, tuple(self.populations.values()), tuple(self.projections), class_names=net.class_names, dense_macs=net.dense_macs(),
            warnings=tuple(self.warnings), integers=net.integers,
        )  # fmt: skip
        graph.verify()
        return replace(graph, rewrites=self.log.rewrites(graph, needed))

    def _lower(self, layer: Layer) -> Expression:
        match layer.op:
            case "input":
                self.populations[layer.name] = Population(layer.name, layer.shape, "analog")
                weight, bias = self.net.input_contract.affine()
                chain = append((), identity(layer.shape[0], weight), layer.shape)
                return Expression((Term(layer.name, 0, chain, (layer.name,)),), _whole(bias[:, None, None], layer.shape))
            case "spikes_input":
                self.populations[layer.name] = Population(layer.name, layer.shape, "input")
                return _spikes_of(layer)
            case "lif":
                return self._lif(layer)
            case "li":
                return self._driven(layer)
            case "add":
                inputs = [self.values[x] for x in layer.inputs]
                terms = tuple(t for e in inputs for t in self._through(e.terms, [], layer.name))
                return Expression(terms, np.asarray(sum(e.bias for e in inputs)))
            case "concat":
                return self._concat(layer)
            case "delay":
                return self._delayed(layer.name, "delay", self.values[layer.inputs[0]], layer.params["steps"])
        x = self.values[layer.inputs[0]]
        bias = linear_layer(layer, [x.bias[None]])[0]  # refuses ops without a rule
        return Expression(self._through(x.terms, linear_stages(layer, x.bias.shape), layer.name), bias)

    def _through(self, terms: tuple[Term, ...], stages: list[Stage], name: str) -> tuple[Term, ...]:
        result = []
        for term in terms:
            chain, shape = term.chain, self.populations[term.source].shape
            for stage in stages:
                chain = append(chain, stage, shape)
            result.append(replace(term, chain=chain, layers=(*term.layers, name)))
        return tuple(result)

    def _concat(self, layer: Layer) -> Expression:
        terms: list[Term] = []
        offset = 0
        for x in layer.inputs:
            value = self.values[x]
            terms += self._through(value.terms, [Place(offset, layer.shape[0])], layer.name)
            offset += len(value.bias)
        return Expression(tuple(terms), np.concatenate([self.values[x].bias for x in layer.inputs]))

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
        projections = self._project(layer.name, layer.shape, value.terms)
        rule = self._rule(layer, value.bias)
        host = bool(projections) and all(self.populations[q.source].kind == "analog" for q in projections)
        self.populations[layer.name] = Population(layer.name, layer.shape, "spiking", rule, host=host)
        self.projections += projections
        return _spikes_of(layer)

    def _driven(self, layer: Layer) -> Expression:
        """What enters the neurons of a layer, in the unit of their membrane."""
        value, factor = self.values[layer.inputs[0]], layer.params["input_scale"]
        if layer.params["decay_current"] and np.any(value.bias):
            raise UnsupportedLayer(
                layer.name, layer.op, "a bias enters its synaptic current, where it would build up over the steps",
                value=float(np.abs(value.bias * factor).max()), limit=0, remedy=f"move the bias to the {layer.op} layer itself, {layer.op}(bias=...)",
            )  # fmt: skip
        if factor == 1.0:
            return value
        return Expression(self._through(value.terms, [identity(layer.shape[0], factor)], layer.name), value.bias * factor)

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
        total = bias + (1 - p["decay"]) * (p["v_rest"] - origin) + (0.0 if p["bias"] is None else p["bias"])
        return NeuronRule(
            threshold, _compact(_whole(total, layer.shape)), self._fraction(layer, "decay"), p["reset"], reset_by, floor, p["strict"],
            self._fraction(layer, "decay_current") if p["decay_current"] else None,  # one that keeps nothing is its input
        )  # fmt: skip

    def _fraction(self, layer: Layer, key: str) -> int:
        kept = round(float(layer.params[key]) * DECAY_ONE)
        if kept != layer.params[key] * DECAY_ONE:
            self.warnings.append(
                f"{layer.name}: {key} {layer.params[key]:.6g} becomes {kept}/{DECAY_ONE} = {kept / DECAY_ONE:.6g}, the chip's resolution"
            )
        return kept

    def _project(self, target: str, shape: Shape, terms: tuple[Term, ...]) -> list[Projection]:
        """Terms as projections; those of one source and delay are merged where their maps allow."""
        result: list[Projection] = []
        for term in terms:
            source = self.populations[term.source].shape
            done = finish(term.chain, source)
            if done is None:
                raise UnsupportedLayer(
                    term.layers[-1] if term.layers else target, self.net.layers[term.layers[-1] if term.layers else target].op,
                    f"the linear layers {', '.join(term.layers)} between {term.source} and {target} have no compact form",
                    value=f"{np.prod(source) * np.prod(shape):.3g} weights", limit="16.8 M", remedy="put a lif layer between them",
                )  # fmt: skip
            projection = Projection(term.source, target, done[0], term.delay, channel_offset=done[1], layers=term.layers)
            for k, other in enumerate(result):
                if (other.source, other.delay, other.channel_offset) == (projection.source, projection.delay, projection.channel_offset):
                    both = merge(other.map, projection.map)
                    if both is not None:
                        result[k] = replace(other, map=both, layers=tuple(dict.fromkeys(other.layers + projection.layers)))
                        break
            else:
                result.append(projection)
        return result

    def _connect(self, source: str, target: str, delay: int) -> list[Projection]:
        value = self._delayed(target, "connect", self.values[source], delay)
        terms = self._through(value.terms, [identity(len(value.bias), self.net.layers[target].params["input_scale"])], target)
        if self.populations[target].host:
            self.populations[target] = replace(self.populations[target], host=False)
        return self._project(target, self.net.layers[target].shape, terms)

    def _readout(self, layer: Layer) -> None:
        value = self.values[layer.name]
        name = f"{layer.name}.count" if layer.name in self.populations else layer.name
        terms, bias = value.terms, value.bias
        if layer.op == "li":
            p = layer.params
            rule = NeuronRule(
                np.ones((1, 1, 1)), bias if p["bias"] is None else bias + p["bias"], self._fraction(layer, "decay"),
                decay_current=self._fraction(layer, "decay_current") if p["decay_current"] else None,
            )  # fmt: skip
            self.projections += self._project(name, layer.shape, terms)
            self.populations[name] = Population(name, layer.shape, "readout", rule)
            return
        if self.net.steps > 1:
            terms = self._through(terms, [identity(layer.shape[0], 1.0 / self.net.steps)], "mean over steps")
            terms, bias = tuple(replace(t, layers=t.layers[:-1]) for t in terms), bias / self.net.steps
        self.projections += self._project(name, layer.shape, terms)
        self.populations[name] = Population(name, layer.shape, "readout", NeuronRule(np.ones((1, 1, 1)), bias))


def linear_stages(layer: Layer, shape: Shape) -> list[Stage]:
    """The linear part of a layer on an input of ``shape``."""
    p = layer.params
    stages: dict[str, Callable[[], LinearMap | Reshape]] = {
        "conv2d": lambda: Conv2d(p["weight"], p["stride"], p["padding"], p["dilation"], p["groups"]),
        "linear": lambda: Dense(p["weight"], layer.shape),
        "sparse": lambda: Sparse(p["indptr"], p["targets"], p["weight"], layer.shape),
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


def _spikes_of(layer: Layer) -> Expression:
    return Expression((Term(layer.name, 0, ()),), np.zeros(layer.shape))


def _whole(value: Floats, shape: Shape) -> Floats:
    return np.array(np.broadcast_to(value, shape), np.float64)


def _compact(value: Floats) -> Floats:
    """(c, 1, 1) where all pixels of a channel agree, else as it is."""
    first = value[:, :1, :1]
    return np.ascontiguousarray(first) if np.all(value == first) else value
