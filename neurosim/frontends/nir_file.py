"""Neuromorphic Intermediate Representation (``.nir``) -> Network, in steps of an explicit ``step_time``.

A NIR graph states differential equations; a Network has steps. Here they meet by the forward Euler rule of norse, snnTorch, Nengo and SpiNNaker2,
with dt = step_time, in the order current, membrane, test, reset. ``READERS`` has a function per node type; each states its equation and its step.

* A spike or input of a step counts as the value 1 during that step (not as a Dirac pulse), and reaches the whole forward chain in the same step.
* An edge that closes a cycle carries the value of the step before; it must lead into a neuron.
* The test is strict, v > v_threshold, as NIR defines it; after a spike v is v_reset (``reset="subtract"``: v - (v_threshold - v_reset), as snnTorch
  and sinabs do it, which a file cannot express).
* Files of platforms that count time in steps (sinabs, snnTorch) mean step_time 1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import MissingExtra, ModelError, UnsupportedLayer
from neurosim.graph import Shape
from neurosim.network import Network

Floats = NDArray[np.float64]
Edge = tuple[str, str]
NEURONS = ("IF", "LIF", "CubaLIF", "LI", "CubaLI")
"""Node types with a state: a cycle may close into them."""


def nir_file(path: str | os.PathLike[str], step_time: float, steps: int, *, reset: Literal["zero", "subtract"] = "zero") -> Network:
    """Read a ``.nir`` file for samples of ``steps`` steps of ``step_time`` seconds; layers are called as the nodes.

    Raises ModelError (missing or broken file, parameters that differ between neurons where a Network has one), UnsupportedLayer (a node type that is
    not read, a cycle without a neuron), MissingExtra without nir.
    """
    try:
        import nir
    except ImportError:
        raise MissingExtra("reading .nir files needs nir: pip install 'neurosim[nir]'") from None
    if not math.isfinite(step_time) or step_time <= 0:
        raise ModelError(f"step_time {step_time} must be a number of seconds above 0")
    if not Path(path).is_file():
        raise ModelError(f"{path} does not exist; give a .nir file")
    try:
        graph = nir.read(str(path))
    except (OSError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise ModelError(f"{path} is no NIR graph that nir {nir.version} reads: {str(error).splitlines()[0]}") from None
    nodes = {str(name): node for name, node in graph.nodes.items()}
    edges = [(str(a), str(b)) for a, b in dict.fromkeys(graph.edges)]
    return _Builder(Path(path).stem, nodes, edges, step_time, steps, reset).build()


class _Builder:
    """A Network under construction: ``layers`` maps nodes to the layers that hold their output."""

    def __init__(self, name: str, nodes: dict[str, Any], edges: list[Edge], dt: float, steps: int, reset: Literal["zero", "subtract"]) -> None:
        self.nodes, self.edges, self.dt, self.reset = nodes, edges, dt, reset
        self.net = Network(name, steps)
        self.layers: dict[str, str] = {}

    def build(self) -> Network:
        for a, b in self.edges:
            for name in (a, b):
                if name not in self.nodes:
                    raise ModelError(f"edge {a} -> {b}: node {name} does not exist; export the graph again")
        for kind in ("Input", "Output"):
            found = [name for name, node in self.nodes.items() if type(node).__name__ == kind]
            if len(found) != 1:
                raise ModelError(f"the graph has {len(found)} {kind} nodes ({', '.join(found) or 'none'}), one is read")
        order, closing = self._order()
        for name in order:
            kind = type(self.nodes[name]).__name__
            sources = [self.layers[a] for a, b in self.edges if b == name and (a, b) not in closing]
            if kind not in READERS:
                raise UnsupportedLayer(name, kind, "NIR nodes of this type are not read", value=kind, limit=", ".join(READERS))
            if (kind == "Input") != (not sources):
                raise ModelError(f"node {name} ({kind}) has {len(sources)} inputs; an Input has none and every other node at least one")
            source = self.net.add(f"{name}.sum", *sources) if len(sources) > 1 else "".join(sources)
            self.layers[name] = READERS[kind](self, name, self.nodes[name], source)
        for a, b in closing:
            self.net.connect(self.layers[a], self.layers[b], 1)
            self.net.notes.append(f"edge {a} -> {b} closes a cycle: it carries the value of the step before")
        self.net.notes.append(f"forward Euler in steps of {self.dt:g} s; reset {'to v_reset' if self.reset == 'zero' else 'by subtraction'}")
        return self.net

    def _order(self) -> tuple[list[str], list[Edge]]:
        """(nodes in topological order, the edges that close cycles), by a walk in depth from the Input along the edges as listed."""
        following: dict[str, list[str]] = {}
        for a, b in self.edges:
            following.setdefault(a, []).append(b)
        start = next(name for name, node in self.nodes.items() if type(node).__name__ == "Input")
        done: list[str] = []
        way = [(start, iter(following.get(start, [])))]
        on_way, seen = {start}, {start}
        closing: list[Edge] = []
        while way:
            name, rest = way[-1]
            for b in rest:
                if b in on_way:
                    if type(self.nodes[b]).__name__ not in NEURONS:
                        raise UnsupportedLayer(
                            b, type(self.nodes[b]).__name__, f"the edge {name} -> {b} closes a cycle outside a neuron",
                            remedy=f"list the edges so that cycles close into one of {', '.join(NEURONS)}",
                        )  # fmt: skip
                    closing.append((name, b))
                elif b not in seen:
                    seen.add(b)
                    on_way.add(b)
                    way.append((b, iter(following.get(b, []))))
                    break
            else:
                way.pop()
                on_way.discard(name)
                done.append(name)
        unreached = [name for name in self.nodes if name not in seen]
        if unreached:
            raise ModelError(f"node {unreached[0]} is not reached from the Input {start}; remove it or join it by an edge")
        return done[::-1], closing


def _input(b: _Builder, name: str, node: Any, _: str) -> str:
    """Spikes from outside, one value per step of step_time."""
    shape = tuple(int(n) for n in np.ravel(node.input_type["input"]))
    return b.net.spikes_input(name, _shape(name, shape), b.dt * 1e6)


def _output(b: _Builder, name: str, _: Any, source: str) -> str:
    """The layer whose spikes (or membranes) give the scores."""
    b.net.output(source)
    return source


def _affine(b: _Builder, name: str, node: Any, source: str) -> str:
    """y = W x + b; a Linear has no b."""
    bias = getattr(node, "bias", None)
    return b.net.linear(name, source, node.weight, None if bias is None or not np.any(bias) else bias)


def _if(b: _Builder, name: str, node: Any, source: str) -> str:
    """dv/dt = R I: v <- v + dt R I, then the test."""
    return _fire(b, name, node, source, decay=1.0, drive=b.dt * _values(name, "r", node), v_leak=0.0)


def _lif(b: _Builder, name: str, node: Any, source: str) -> str:
    """tau dv/dt = (v_leak - v) + R I: v <- v + dt/tau (v_leak - v + R I), then the test."""
    rate = _rate(b, name, "tau", node)
    return _fire(b, name, node, source, decay=1 - rate, drive=rate * _values(name, "r", node), v_leak=_one(name, "v_leak", node))


def _cuba_lif(b: _Builder, name: str, node: Any, source: str) -> str:
    """tau_syn dI/dt = -I + w_in S: I <- I + dt/tau_syn (w_in S - I); then as LIF, with the new I."""
    slow, rate = _rate(b, name, "tau_syn", node), _rate(b, name, "tau_mem", node)
    drive = rate * _values(name, "r", node) * slow * _values(name, "w_in", node)
    return _fire(b, name, node, source, decay=1 - rate, drive=drive, v_leak=_one(name, "v_leak", node), decay_current=1 - slow)


def _li(b: _Builder, name: str, node: Any, source: str) -> str:
    """As LIF without test and reset; the scores are the membranes after the last step."""
    rate = _rate(b, name, "tau", node)
    return _integrate(b, name, source, decay=1 - rate, drive=rate * _values(name, "r", node), v_leak=_one(name, "v_leak", node))


def _cuba_li(b: _Builder, name: str, node: Any, source: str) -> str:
    """As CubaLIF without test and reset; the scores are the membranes after the last step."""
    slow, rate = _rate(b, name, "tau_syn", node), _rate(b, name, "tau_mem", node)
    drive = rate * _values(name, "r", node) * slow * _values(name, "w_in", node)
    return _integrate(b, name, source, decay=1 - rate, drive=drive, v_leak=_one(name, "v_leak", node), decay_current=1 - slow)


Reader = Callable[[_Builder, str, Any, str], str]
READERS: dict[str, Reader] = {
    "Input": _input, "Output": _output, "Affine": _affine, "Linear": _affine, "IF": _if, "LIF": _lif, "CubaLIF": _cuba_lif, "LI": _li,
    "CubaLI": _cuba_li,
}  # fmt: skip


def _fire(b: _Builder, name: str, node: Any, source: str, *, decay: float, drive: Floats, v_leak: float, decay_current: float | None = None) -> str:
    """A lif layer; ``drive``: what one unit of input adds to the membrane (or to the current, in the membrane's unit)."""
    threshold, v_reset = _values(name, "v_threshold", node), _one(name, "v_reset", node)
    source, factor = _driven(b, name, source, drive)
    return b.net.lif(
        name, source, decay=decay, threshold=threshold, reset=b.reset, strict=True, v_rest=v_leak, v_reset=v_reset,
        reset_by=None if b.reset == "zero" else threshold - v_reset, input_scale=factor, decay_current=decay_current,
    )  # fmt: skip


def _integrate(b: _Builder, name: str, source: str, *, decay: float, drive: Floats, v_leak: float, decay_current: float | None = None) -> str:
    source, factor = _driven(b, name, source, drive)
    return b.net.li(name, source, decay=decay, v_rest=v_leak, input_scale=factor, decay_current=decay_current)


def _driven(b: _Builder, name: str, source: str, drive: Floats) -> tuple[str, float]:
    """(layer, factor): the factor where all neurons share it, else a scale layer per channel before the neurons."""
    if np.all(drive == drive.flat[0]):
        return source, float(drive.flat[0])
    if drive.shape[1:] != (1, 1) and not np.all(drive == drive[:, :1, :1]):
        raise ModelError(f"node {name}: its input factor (r, w_in, tau) differs within a channel; give one per channel")
    return b.net.scale(f"{name}.scale", source, drive[:, 0, 0]), 1.0


def _values(name: str, key: str, node: Any) -> Floats:
    """A parameter as (c, y, x)."""
    value = np.asarray(getattr(node, key), np.float64)
    if not np.isfinite(value).all():
        raise ModelError(f"node {name}: {key} has values that are NaN or infinite; export the graph again")
    return value.reshape(_shape(name, value.shape))


def _one(name: str, key: str, node: Any) -> float:
    """A parameter that must be the same for all neurons of a node."""
    value = _values(name, key, node)
    if np.any(value != value.flat[0]):
        raise ModelError(f"node {name}: {key} ranges from {value.min():g} to {value.max():g}; a layer has one, split the node by its values")
    return float(value.flat[0])


def _rate(b: _Builder, name: str, key: str, node: Any) -> float:
    """dt / tau, at most 1."""
    tau = _one(name, key, node)
    if not 0 < b.dt <= tau:
        raise ModelError(f"node {name}: {key} {tau:g} s is shorter than step_time {b.dt:g} s, so Euler's rule diverges; use a shorter step_time")
    return b.dt / tau


def _shape(name: str, shape: tuple[int, ...]) -> Shape:
    """(n,) -> (n, 1, 1); (c, y, x) as it is; () -> (1, 1, 1)."""
    if len(shape) > 3 or len(shape) == 2:
        raise ModelError(f"node {name} has shape {shape}; read are (n,) and (c, y, x)")
    full = (*shape, 1, 1, 1)[:3] if len(shape) < 2 else shape
    return full[0], full[1], full[2]
