"""Network -> Neuromorphic Intermediate Representation, where NIR can express it: the inverse of ``nir_file``, node by node.

What a step is, a reset by subtraction, a floor and the test v >= v_threshold have no place in a file: ``to_nir`` returns them as the options with
which ``load`` reads the same network back. A lif layer of decay d in steps of dt becomes tau = dt / (1 - d), r = input_scale / (1 - d); without leak,
r = input_scale / dt. An ``add`` is two edges into one node; what NIR has no node for (concat, sparse maps, token mixing, unknown ops) is refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import MissingExtra, ModelError, UnsupportedLayer
from neurosim.golden.network import start_membrane
from neurosim.network import Layer, Network

Floats = NDArray[np.float64]
Shape = tuple[int, ...]
DENSE_LIMIT = 2**22
"""Most weights of a diagonal that carries a bias per neuron."""


def to_nir(net: Network, path: str | os.PathLike[str], step_time: float | None = None) -> dict[str, Any]:
    """Write a ``.nir`` file; returns the options of ``load`` that NIR cannot carry: steps, step_time, reset, floor, test, max_spikes, v_init.

    ``step_time`` in seconds; by default the input's, or 1 (time counts in steps). Raises UnsupportedLayer for the first layer that NIR cannot
    express, ModelError, MissingExtra without nir.
    """
    try:
        import nir
    except ImportError:
        raise MissingExtra("writing .nir files needs nir: pip install 'neurosim[nir]'") from None
    net.verify()
    contract = net.input_contract
    if net.integers is not None:
        raise ModelError(f"network {net.name} is written in whole numbers of a chip ({net.integers}); NIR has real ones")
    if contract.kind != "spikes":
        raise UnsupportedLayer(contract.name, "input", "NIR has no image that is the same in every step", remedy="feed spikes: spikes_input()")
    if step_time is None:
        step_time = 1.0 if contract.step_time_us is None else contract.step_time_us / 1e6
    if not math.isfinite(step_time) or step_time <= 0:
        raise ModelError(f"step_time {step_time} must be a number of seconds above 0")
    writer = _Writer(net, nir, step_time)
    graph = writer.graph()
    nir.write(os.fspath(path), graph)
    return writer.options()


class _Writer:
    """``nodes`` and ``edges`` under construction. ``ends``: the nodes whose sum is a layer's value; ``forms``: its shape as NIR writes it."""

    def __init__(self, net: Network, nir: Any, dt: float) -> None:
        self.net, self.nir, self.dt = net, nir, dt
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.ends: dict[str, list[str]] = {}
        self.forms: dict[str, Shape] = {}
        neurons = [layer for layer in net.layers.values() if layer.op == "lif"]
        self.reset = self._shared("reset", [layer.params["reset"] for layer in neurons], "zero")
        self.strict = self._shared("test", [layer.params["strict"] for layer in neurons], True)
        self.floor = self._shared("floor", [None if layer.params["floor"] is None else _one(layer, "floor") for layer in neurons], None)
        self.max_spikes = self._shared("max_spikes", [int(layer.params["max_spikes"]) for layer in neurons], 1)
        self.starts: list[tuple[Layer, Floats, dict[str, Floats]]] = []
        """Layer, its membranes at the start of a sample, and those that the reader's words for them mean: rest, reset."""

    def _shared(self, key: str, values: list[Any], default: Any) -> Any:
        if len(set(values)) > 1:
            raise ModelError(f"network {self.net.name}: its layers differ in {key} ({values[0]} and others), which NIR cannot say layer by layer")
        return values[0] if values else default

    def options(self) -> dict[str, Any]:
        """With which the file means the network again."""
        kinds = {type(node).__name__ for node in self.nodes.values()}
        timed = self.dt != 1.0 or bool(kinds & {"LIF", "LI", "CubaLIF", "CubaLI", "Delay"})
        found: dict[str, Any] = {"steps": self.net.steps, "reset": self.reset, "test": "above" if self.strict else "reach"}
        if timed:
            found["step_time"] = self.dt
        if self.floor is not None:
            found["floor"] = self.floor
        if self.max_spikes > 1:
            found["max_spikes"] = self.max_spikes
        if (start := self._start()) != "rest":
            found["v_init"] = start
        return found

    def _start(self) -> str | float:
        """The reader's option v_init. Raises UnsupportedLayer for the first layer that begins elsewhere than those before it."""
        known: set[str | float] | None = None
        for layer, start, words in self.starts:
            mine: set[str | float] = {word for word, meant in words.items() if np.array_equal(meant, start)}
            if np.all(start == start.flat[0]):
                mine.add(float(start.flat[0]))
            known = mine if known is None else known & mine
            if not known:
                value = f"{start.min():g}" if start.min() == start.max() else f"{start.min():g} to {start.max():g}"
                raise UnsupportedLayer(
                    layer.name, layer.op, "NIR says no start of a sample", value=value, limit="at rest, at the reset, or one membrane for all layers",
                    remedy="leave out v_init",
                )  # fmt: skip
        return next((word for word in ("rest", "reset") if known is None or word in known), min(known or {0.0}, key=str))

    def graph(self) -> Any:
        """The whole graph, as nir checks it."""
        for layer in self.net.layers.values():
            if layer.op not in WRITERS:
                raise UnsupportedLayer(layer.name, layer.op, "NIR has no node for it", remedy="express it with linear, conv2d, pools and lif")
            WRITERS[layer.op](self, layer)
        for source, target, delay in self.net.connections:
            ends = self.ends[source]
            if delay > 1:
                ends = [self.put(f"{source}.to.{target}", self.nir.Delay(np.full(self.forms[source], delay * self.dt)), ends)]
            if self.forms[source] != self.forms[target]:
                ends = [self.flatten(f"{source}.to.{target}.flatten", ends, self.forms[source])]
            self.edges += [(end, target) for end in ends]
        last = str(self.net.output_name)
        form = self.flat(last)
        name = self._free("output")
        self.nodes[name] = self.nir.Output({"output": np.array(form)})
        self.edges += [(end, name) for end in self.ends[last]]
        if len(set(self.edges)) < len(self.edges):
            a, b = next(edge for edge in self.edges if self.edges.count(edge) > 1)
            raise UnsupportedLayer(b, "add", f"it adds {a} twice, and NIR has one edge between two nodes", remedy="scale it by 2")
        try:
            return self.nir.NIRGraph(self.nodes, self.edges)
        except (ValueError, AssertionError) as error:
            raise ModelError(f"network {self.net.name} is no valid NIR graph: {str(error).splitlines()[0]}") from None

    # -- what writers use

    def _free(self, name: str) -> str:
        while name in self.nodes:
            name += "_"
        return name

    def put(self, name: str, node: Any, ends: list[str]) -> str:
        """A node fed by others."""
        name = self._free(name)
        self.nodes[name] = node
        self.edges += [(end, name) for end in ends]
        return name

    def flatten(self, name: str, ends: list[str], form: Shape) -> str:
        return self.put(name, self.nir.Flatten({"input": np.array(form)}, 0, len(form) - 1), ends)

    def flat(self, x: str) -> Shape:
        """The layer's form as (n,), by a Flatten where it is another."""
        if len(self.forms[x]) > 1:
            self.ends[x] = [self.flatten(f"{x}.flatten", self.ends[x], self.forms[x])]
            self.forms[x] = (math.prod(self.forms[x]),)
        return self.forms[x]

    def one(self, layer: Layer, node: Any, form: Shape) -> None:
        """A layer that is one node."""
        x = layer.inputs[0]
        self.ends[layer.name], self.forms[layer.name] = [self.put(layer.name, node, self.ends[x])], form

    def biased(self, layer: Layer, name: str, factor: Floats, bias: Floats | None) -> None:
        """factor * x + bias per neuron: a Scale, or with a bias a convolution of 1 x 1, or a diagonal matrix."""
        x = layer.inputs[0]
        form = self.forms[x]
        shape = self.net.shape(x)
        factor = np.broadcast_to(factor, shape)
        if bias is None or not np.any(bias):
            node = self.nir.Scale(np.array(factor.reshape(form)))
        elif len(form) == 3 and _per_channel(factor) and _per_channel(np.broadcast_to(bias, shape)):
            weight = np.diag(factor[:, 0, 0])[:, :, None, None]  # not grouped: nir takes a grouped one for a convolution of fewer channels
            node = self.nir.Conv2d(form[1:], weight, 1, 0, 1, 1, np.array(np.broadcast_to(bias, shape)[:, 0, 0]))
        elif len(form) == 1 and math.prod(form) ** 2 <= DENSE_LIMIT:
            node = self.nir.Affine(np.diag(factor.ravel()), np.array(np.broadcast_to(bias, shape)).ravel())
        else:
            raise UnsupportedLayer(layer.name, layer.op, "NIR has no bias per neuron of a map", remedy="use a bias per channel")
        self.ends[name], self.forms[name] = [self.put(name, node, self.ends[x])], form


def _input(w: _Writer, layer: Layer) -> None:
    form = _form(layer.shape)
    w.nodes[layer.name] = w.nir.Input({"input": np.array(form)})
    w.ends[layer.name], w.forms[layer.name] = [layer.name], form


def _conv2d(w: _Writer, layer: Layer) -> None:
    p, x = layer.params, layer.inputs[0]
    form = w.net.shape(x)
    ends = w.ends[x]
    if w.forms[x] != form:
        raise UnsupportedLayer(layer.name, "conv2d", "NIR cannot turn a flat layer into a map", value=w.forms[x], limit=form, remedy="convolve first")
    bias = np.zeros(layer.shape[0]) if p["bias"] is None else p["bias"]
    node = w.nir.Conv2d(None, p["weight"], p["stride"], p["padding"], p["dilation"], p["groups"], bias)
    node.input_shape, node.input_type, node.output_type = form[1:], {"input": np.array(form)}, {"output": np.array(layer.shape)}
    w.ends[layer.name], w.forms[layer.name] = [w.put(layer.name, node, ends)], layer.shape


def _linear(w: _Writer, layer: Layer) -> None:
    p = layer.params
    w.flat(layer.inputs[0])
    node = w.nir.Linear(p["weight"]) if p["bias"] is None else w.nir.Affine(p["weight"], p["bias"])
    w.one(layer, node, (layer.shape[0],))


def _pool(w: _Writer, layer: Layer) -> None:
    p, x = layer.params, layer.inputs[0]
    shape = w.net.shape(x)
    window = shape[1:] if layer.op == "mean" else p["kernel"]
    stride, padding = (window, (0, 0)) if layer.op == "mean" else (p["stride"], p["padding"])
    if len(w.forms[x]) != 3:
        if shape[1:] != (1, 1) or window != (1, 1):
            raise UnsupportedLayer(layer.name, layer.op, "NIR pools maps only", value=w.forms[x], limit="(c, y, x)", remedy="pool before flattening")
        w.ends[layer.name], w.forms[layer.name] = w.ends[x], w.forms[x]
        return
    make = w.nir.SumPool2d if layer.op == "sum_pool" else w.nir.AvgPool2d
    node = make(*(np.array(v) for v in (window, stride, padding)))
    node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(layer.shape)}
    w.one(layer, node, layer.shape)


def _reshape(w: _Writer, layer: Layer) -> None:
    x = layer.inputs[0]
    if layer.shape == w.net.shape(x):
        w.ends[layer.name], w.forms[layer.name] = w.ends[x], w.forms[x]
    elif layer.shape[1:] == (1, 1):
        form = w.forms[x]
        w.ends[layer.name] = [w.flatten(layer.name, w.ends[x], form)] if len(form) > 1 else w.ends[x]
        w.forms[layer.name] = (layer.shape[0],)
    else:
        raise UnsupportedLayer(layer.name, "reshape", "NIR only flattens", value=layer.shape, limit=f"({layer.size}, 1, 1)", remedy="flatten instead")


def _add(w: _Writer, layer: Layer) -> None:
    forms = {w.forms[x] for x in layer.inputs}
    if len(forms) > 1:
        for x in layer.inputs:
            w.flat(x)
    w.ends[layer.name] = [end for x in layer.inputs for end in w.ends[x]]
    w.forms[layer.name] = w.forms[layer.inputs[0]]


def _batch_norm(w: _Writer, layer: Layer) -> None:
    p = layer.params
    factor = p["weight"] / np.sqrt(p["var"] + p["eps"])
    w.biased(layer, layer.name, factor.reshape(-1, 1, 1), (p["bias"] - p["mean"] * factor).reshape(-1, 1, 1))


def _scale(w: _Writer, layer: Layer) -> None:
    w.biased(layer, layer.name, layer.params["factor"].reshape(-1, 1, 1), layer.params["bias"])


def _delay(w: _Writer, layer: Layer) -> None:
    form = w.forms[layer.inputs[0]]
    w.one(layer, w.nir.Delay(np.full(form, layer.params["steps"] * w.dt)), form)


def _lif(w: _Writer, layer: Layer) -> None:
    p = layer.params
    threshold = np.broadcast_to(p["threshold"], layer.shape)
    v_reset, v_leak = np.full(layer.shape, p["v_reset"]), np.full(layer.shape, p["v_rest"])
    if p["reset"] == "subtract":
        step = threshold if p["reset_by"] is None else np.broadcast_to(p["reset_by"], layer.shape)
        v_reset = threshold - step  # nir_file takes v_threshold - v_reset away
    fields = {"v_threshold": threshold, "v_reset": v_reset}
    rest = _neuron(w, layer, ("IF", "LIF", "CubaLIF"), v_leak, fields)
    if p["decay"] == 1:  # an IF, as nir_file takes it
        rest = v_reset if p["reset"] == "zero" else np.zeros(layer.shape)
    w.starts.append((layer, np.array(np.broadcast_to(start_membrane(layer), layer.shape)), {"rest": rest, "reset": v_reset}))


def _li(w: _Writer, layer: Layer) -> None:
    rest = _neuron(w, layer, ("I", "LI", "CubaLI"), np.zeros(layer.shape), {})  # its scores are above rest
    given = layer.params.get("v_init")
    start = np.zeros(layer.shape) if given is None else np.array(np.broadcast_to(given - layer.params["v_rest"], layer.shape))
    w.starts.append((layer, start, {"rest": rest, "reset": rest}))


def _neuron(w: _Writer, layer: Layer, kinds: tuple[str, str, str], v_leak: Floats, fields: dict[str, Floats]) -> Floats:
    """The node; returns its v_leak."""
    p, x, dt, shape = layer.params, layer.inputs[0], w.dt, layer.shape
    form, ends, bias = w.forms[x], w.ends[x], p["bias"]
    rate, slow = 1.0 - p["decay"], None if p["decay_current"] is None else 1.0 - p["decay_current"]
    if bias is not None and np.any(bias):
        if rate > 0 and (p.get("reset") == "zero" or (layer.op == "lif" and p["input_scale"] == 0)):  # the same as a leak toward a higher potential
            v_leak = v_leak + np.broadcast_to(bias, shape) / rate
        elif slow is None and p["input_scale"] != 0:
            w.biased(layer, f"{layer.name}.bias", np.ones((1, 1, 1)), np.asarray(bias) / p["input_scale"])
            ends = w.ends.pop(f"{layer.name}.bias")
        else:
            raise UnsupportedLayer(layer.name, layer.op, "NIR has no bias of a membrane behind a current", remedy="move the bias to its input")
    if slow is not None and (rate == 0 or slow == 0):
        value = f"decay {p['decay']:g}, decay_current {p['decay_current']:g}"
        raise UnsupportedLayer(layer.name, layer.op, "NIR's CubaLIF leaks", value=value, limit="both below 1", remedy="use decays below 1")
    if rate == 0 and p.get("reset") == "subtract" and np.any(v_leak):
        raise UnsupportedLayer(layer.name, layer.op, "NIR's IF rests at 0", value=float(np.max(v_leak)), limit=0, remedy="use v_rest 0")
    full: dict[str, Any] = {key: np.array(value).reshape(form) for key, value in fields.items()}
    make = getattr(w.nir, kinds[0 if rate == 0 else 1 if slow is None else 2])
    if "v_reset" in full and "v_reset" not in make.__dataclass_fields__ and np.any(full.pop("v_reset")):  # nir 1.0.4
        raise ModelError(f"layer {layer.name} resets to another potential than 0, which nir {w.nir.version} cannot write; install a newer nir")
    if rate == 0:
        node = make(r=np.full(form, p["input_scale"] / dt), **full)
    else:
        full |= {"r": np.full(form, p["input_scale"] / rate), "v_leak": np.array(v_leak).reshape(form)}
        if slow is None:
            node = make(tau=np.full(form, dt / rate), **full)
        else:
            node = make(tau_mem=np.full(form, dt / rate), tau_syn=np.full(form, dt / slow), w_in=np.full(form, 1 / slow), **full)
    w.ends[layer.name], w.forms[layer.name] = [w.put(layer.name, node, ends)], form
    return v_leak


WRITERS: dict[str, Callable[[_Writer, Layer], None]] = {
    "spikes_input": _input, "conv2d": _conv2d, "linear": _linear, "sum_pool": _pool, "avg_pool": _pool, "mean": _pool, "reshape": _reshape,
    "add": _add, "batch_norm": _batch_norm, "scale": _scale, "delay": _delay, "lif": _lif, "li": _li,
}  # fmt: skip


def _form(shape: Shape) -> Shape:
    return shape[:1] if shape[1:] == (1, 1) else shape


def _one(layer: Layer, key: str) -> float:
    value = np.unique(layer.params[key])
    if len(value) > 1:
        span = f"{value[0]:g} to {value[-1]:g}"
        raise UnsupportedLayer(layer.name, layer.op, f"its {key} differs between neurons", value=span, limit="one per network")
    return float(value[0])


def _per_channel(a: Floats) -> bool:
    return bool(np.all(a == a[:, :1, :1]))
