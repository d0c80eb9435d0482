"""Neuromorphic Intermediate Representation (``.nir``) -> Network.

A NIR graph states differential equations; a Network has steps. Here they meet by the forward Euler rule of norse, snnTorch, Nengo and SpiNNaker2,
with dt = step_time, in the order current, membrane, test, reset. ``READERS`` has a function per node type; each states its equation and its step.

* A spike or input of a step counts as the value 1 during that step (not as a Dirac pulse), and reaches the whole forward chain in the same step.
* An edge that closes a cycle carries the value of the step before, or of a Delay on it; it acts through copies of what lies before the next neuron.
* The test is strict, v > v_threshold, as NIR defines it; after a spike v is v_reset.
* NIR does not say how long a step is, whether a reset goes to v_reset or subtracts (snnTorch, sinabs), nor that a membrane has a floor (sinabs):
  ``step_time``, ``reset`` and ``floor`` do. What was chosen, repaired or left out is in ``Network.notes``.
"""

from __future__ import annotations

import math
import os
from typing import Any, Literal

import numpy as np

from neurosim.errors import ModelError, UnsupportedLayer
from neurosim.frontends.nir.maps import MAPS
from neurosim.frontends.nir.neurons import NEURONS
from neurosim.frontends.nir.reading import Reading, Test
from neurosim.frontends.nir.source import FIRING, STATES, Edge, Source, read_source
from neurosim.graph import Shape
from neurosim.network import Network

OPTIONS = ("reset", "floor", "test", "readout", "solver", "image", "input_shape", "max_spikes", "v_init")
"""Options of ``load`` that belong to NIR graphs."""
MAPPED = ("Conv2d", "SumPool2d", "AvgPool2d", "MaxPool2d")
"""Nodes that read maps (c, y, x)."""
POOLS = ("MaxPool1d", "MaxPool2d")
"""Nodes outside NIR that are read as max_pool."""
UNKNOWN = {"Softmax": "softmax", "LayerNorm": "layer_norm", "ReLU": "relu"}
"""Names of nodes outside NIR under which ``check`` knows a remedy."""


def nir_file(
    model: str | os.PathLike[str] | Any, step_time: float | None = None, steps: int = 1, *, reset: Literal["zero", "subtract"] = "zero",
    floor: float | None = None, test: Test | None = None, readout: Literal["spikes", "membrane"] | None = None,
    solver: Literal["euler", "exact"] = "euler", image: float | None = None, input_shape: tuple[int, ...] | None = None, max_spikes: int = 1,
    v_init: Literal["rest", "reset"] | float = "rest", output: int = 0,
) -> Network:  # fmt: skip
    """Read a ``.nir`` file (or a ``nir.NIRGraph``) for samples of ``steps`` steps of ``step_time`` seconds; layers are called as the nodes.

    ``step_time`` may be left out where nothing has a time constant: time then counts in steps, dt = 1. ``reset`` subtract takes v_threshold - v_reset
    away. ``floor``: least membrane, in the unit of v_threshold. ``max_spikes``: a neuron fires once per step, or up to so many times (sinabs' default
    neuron: any number, for which 255 stands). ``test``: above, v > v_threshold as NIR has it, or reach, v >= v_threshold; with a floor or several
    spikes per step, which only sinabs' neurons have, reach is the default. ``readout``: scores are the spike counts of the last layer (default where
    it fires), or its membranes after the last step, without test. ``solver``: a step keeps 1 - dt/tau of a state (euler) or exp(-dt/tau), which is
    exact for an input that is constant during the step and what sinabs means. ``image``: the input is no spikes but uint8 images, pixel / image in
    every step. ``input_shape`` where the file states none. ``v_init``: where a sample begins, rest (v_leak; an IF, which has none, at v_reset, with
    reset subtract at 0), reset (v_reset) or a membrane in the unit of v_threshold. ``output``: the number of the Output.

    Raises ModelError (missing or broken file, shapes or parameters that contradict each other, an option), UnsupportedLayer (what a Network cannot
    express), MissingExtra without h5py. Node types outside NIR become ops of that name, which ``check`` refuses.
    """
    for label, value, known in (("reset", reset, ("zero", "subtract")), ("test", test, (None, "above", "reach")),
                                ("readout", readout, (None, "spikes", "membrane")), ("solver", solver, ("euler", "exact"))):  # fmt: skip
        if value not in known:
            raise ModelError(f"NIR option {label} {value!r} is unknown; choose {' or '.join(str(k) for k in known if k)}")
    if floor is not None and not (isinstance(floor, int | float) and math.isfinite(floor)):
        raise ModelError(f"NIR option floor {floor!r} must be a number, the least membrane")
    if image is not None and not (isinstance(image, int | float) and math.isfinite(image) and image > 0):
        raise ModelError(f"NIR option image {image!r} must be a number above 0, by which pixels are divided, for example 255")
    if isinstance(max_spikes, bool) or not isinstance(max_spikes, int) or not 1 <= max_spikes <= 255:
        raise ModelError(f"NIR option max_spikes {max_spikes!r} must be a whole number from 1 to 255, the most spikes of a neuron in one step")
    if v_init not in ("rest", "reset") and not (isinstance(v_init, int | float) and math.isfinite(v_init)):
        raise ModelError(f"NIR option v_init {v_init!r} is unknown; choose rest (v_leak), reset (v_reset) or a number, the membrane of all neurons")
    source = read_source(model)
    dt, timed = _step_time(source, step_time)
    return Builder(source, dt, timed, steps, reset, floor, test, readout, solver, image, input_shape, max_spikes, v_init, output).build()


def _step_time(source: Source, given: float | None) -> tuple[float, bool]:
    """(dt, whether it is seconds). Raises ModelError with the value that the file suggests."""
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given <= 0:
            raise ModelError(f"step_time {given} must be a number of seconds above 0")
        return float(given), True
    timed = source.of_kind("LIF", "LI", "CubaLIF", "CubaLI", "Delay")
    if not timed:
        given_r = [source.numbers(name, "r") for name in source.of_kind("IF", "I")]
        factors = {float(r) for values in given_r for r in np.ravel(1.0 if values is None else values)}
        if len(factors) == 1 and (r := factors.pop()) >= 10:  # spikingjelly writes r = 1 / dt
            raise ModelError(f"{source.name} integrates with r = {r:g} per second; give step_time, the seconds of one step; 1/r is {1 / r:g}")
        return 1.0, False
    found = set()
    for name in timed:  # snnTorch writes r = tau / dt and w_in = tau_syn / dt
        for tau, factor in (("tau_syn", "w_in"), ("tau_mem", "r"), ("tau", "r")):
            times, factors_ = source.numbers(name, tau), source.numbers(name, factor)
            if times is not None and factors_ is not None and times.size == factors_.size and np.all((factors_ != 1) & (factors_ != 0)):
                found |= {float(f"{v:.3g}") for v in np.ravel(times) / np.ravel(factors_)}
    hint = f"; its factors suggest {found.pop():g}" if len(found) == 1 else ""
    raise ModelError(f"{source.name} holds differential equations ({timed[0]}); give step_time, the seconds of one step{hint}")


class Builder(Reading):
    """The walk along the graph: nodes in order, sums, the edges that close cycles."""

    def __init__(
        self, source: Source, dt: float, timed: bool, steps: int, reset: Literal["zero", "subtract"], floor: float | None, test: Test | None,
        readout: str | None, solver: str, image: float | None, input_shape: tuple[int, ...] | None,
        max_spikes: int, v_init: str | float, output: int,
    ) -> None:  # fmt: skip
        super().__init__(source, dt, timed, steps, reset, floor, test, readout, solver, image, input_shape, max_spikes, v_init)
        self.last, self.wanted = "", self._chosen(output)
        self.order, self.closing = self._order()
        self.late, self.merged = self._delays()

    def build(self) -> Network:
        """All nodes in order, then the edges that close cycles."""
        for name in self.order:
            sources = [self.layers[a] for a, b in self.source.edges if b == name and (a, b) not in self.closing]
            kind = self.nodes[name].kind
            if (kind == "Input") != (not sources):
                raise ModelError(f"node {name} ({kind}) has {len(sources)} inputs; an Input has none and every other node at least one")
            self.layers[name] = self.read(name, name, self._sum(name, sources))
        for a, b in self.closing:
            self._feed(self.layers[a], b, self.late[a, b], f"{b}.from.{a}")
            self.note(f"edge {a} -> {b} closes a cycle: it carries the value of {self.late[a, b]} step(s) before")
        self.net.output(self._flat(self.last))
        self._tell()
        self.net.notes += list(dict.fromkeys(self.source.notes))
        return self.net

    def read(self, node: str, name: str, source: str) -> str:
        """The layer of a node, under a name: the node's own, or that of a copy on a closing edge."""
        kind = self.nodes[node].kind
        if kind == "Input":
            return self._input(node)
        if kind in ("Output", "Identity") or node in self.merged:
            self.last = source if node == self.wanted else self.last
            return source
        if kind in MAPS:
            return MAPS[kind](self, node, name, source)
        if kind in NEURONS:
            return NEURONS[kind](self, node, source)
        return self._unknown(node, name, source)

    # -- structure

    def _chosen(self, output: int) -> str:
        outputs, inputs = self.source.of_kind("Output"), self.source.of_kind("Input")
        if len(inputs) != 1:
            raise ModelError(f"the graph has {len(inputs)} Input nodes ({', '.join(inputs)}), one is read; join them into one")
        if not isinstance(output, int) or not 0 <= output < len(outputs):
            raise ModelError(f"output {output} does not exist; the graph has {len(outputs)} Output(s), {', '.join(outputs)}, numbered from 0")
        if len(outputs) > 1:
            self.note(f"of the outputs {', '.join(outputs)} only {outputs[output]} is read")
        return outputs[output]

    def _order(self) -> tuple[list[str], list[Edge]]:
        """(nodes that matter in topological order, the edges that close cycles), by a walk in depth from the Input along the edges as listed."""
        start = self.source.of_kind("Input")[0]
        done: list[str] = []
        way = [(start, iter(self.source.behind(start)))]
        on_way, seen = {start}, {start}
        closing: list[Edge] = []
        while way:
            name, rest = way[-1]
            for b in rest:
                if b in on_way:
                    loop = [n for n, _ in way]
                    loop = loop[loop.index(b) :]
                    if not any(self.nodes[n].kind in STATES for n in loop):
                        raise UnsupportedLayer(
                            b, self.nodes[b].kind, f"the cycle {' -> '.join([*loop, b])} holds no neuron", remedy="put a neuron into it"
                        )
                    closing.append((name, b))
                elif b not in seen:
                    seen.add(b)
                    on_way.add(b)
                    way.append((b, iter(self.source.behind(b))))
                    break
            else:
                way.pop()
                on_way.discard(name)
                done.append(name)
        for name in [n for n in self.nodes if n not in seen]:
            if any(b in seen for b in self.source.behind(name)) or name == self.wanted:
                raise ModelError(f"node {name} is not reached from the Input {start}; remove it or join it by an edge")
            self.note(f"node {name} is not reached from the Input and left out")
        return done[::-1], closing

    def _delays(self) -> tuple[dict[Edge, int], set[str]]:
        """(steps of every closing edge, Delay nodes that these stand for): a Delay on the way to a closing edge is its delay."""
        late, merged = {edge: 1 for edge in self.closing}, set()
        for a, b in self.closing:
            name, feeds = a, self.source.behind(a)
            while len(feeds) == 1 and self.nodes[name].kind not in (*STATES, "Input"):
                if self.nodes[name].kind == "Delay":
                    steps = np.unique(np.round(self.array(name, "delay") / self.dt))
                    if len(steps) == 1 and steps[0] >= 1:
                        late[a, b] = int(steps[0])
                        merged.add(name)
                    break
                if len(self.source.before(name)) != 1:
                    break
                name = self.source.before(name)[0]
                feeds = self.source.behind(name)
        return late, merged

    def _feed(self, layer: str, target: str, delay: int, tag: str) -> None:
        """Lead a value that closes a cycle into a node; through nodes without state by copies of them, up to the next neurons."""
        if target in self.entries:
            for entry in self.entries[target]:
                entry(layer, self.free_name(tag), delay)
            return
        if self.nodes[target].kind not in (*MAPS, "Identity") or np.any(self.constant(layer)):
            raise UnsupportedLayer(
                target, self.nodes[target].kind, f"a cycle closes into it ({tag})", remedy="close cycles into neurons, or into weights without bias"
            )
        copy = layer if self.nodes[target].kind == "Identity" else self.read(target, self.free_name(tag), layer)
        for b in self.source.behind(target):
            if (target, b) not in self.closing:
                self._feed(copy, b, delay, f"{b}.from.{tag}")

    def _sum(self, name: str, sources: list[str]) -> str:
        if len(sources) < 2:
            return "".join(sources)
        shapes = [self.net.shape(s) for s in sources]
        if any(s != shapes[0] for s in shapes) and len({math.prod(s) for s in shapes}) == 1:
            sources = [self.flat(name, s) for s in sources]
        return self.net.add(self.free_name(f"{name}.sum"), *sources)

    def _input(self, name: str) -> str:
        shape = self.source.sizes(name, "shape")
        if self.input_shape is not None:
            if shape and math.prod(shape) != math.prod(self.input_shape):
                raise ModelError(f"Input {name}: the file states shape {shape}, input_shape is {self.input_shape}")
            shape = tuple(int(n) for n in self.input_shape)
        if not shape:
            shape = next((s for s in (self.expected(b) for b in self.source.behind(name)) if s), ())
            if not shape:
                raise ModelError(f"Input {name}: the file states no shape and what it feeds does not either; give input_shape")
            self.note(f"Input {name}: its shape is missing and taken as {shape} from what it feeds")
        rank = max((3 if self.nodes[b].kind in MAPPED else len(self.expected(b)) for b in self.source.behind(name)), default=0) or 3
        if len(shape) > rank and shape[-rank:] == self._tail(name, shape[-rank:]):
            self.note(f"Input {name}: its shape {shape} counts batch or time, which are dropped, leaving {shape[-rank:]}")
            shape = shape[-rank:]
        if len(shape) > 3 or any(n < 1 for n in shape):
            raise ModelError(f"Input {name} has shape {shape}; read are (n,), (c, n) and (c, y, x), counted from 1")
        if self.image is not None:
            self.note(f"Input {name} takes images: pixel / {self.image:g}, the same in every step")
            return self.net.input(name, full_shape(shape), scale=self.image)
        return self.net.spikes_input(name, full_shape(shape), self.dt * 1e6 if self.timed else None)

    def _tail(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What the nodes behind an Input want where they say it, else the given shape."""
        return next((s for s in (self.expected(b) for b in self.source.behind(name)) if s), shape)

    def expected(self, name: str) -> tuple[int, ...]:
        """Shape of the input of a node by its own fields; () where they do not tell."""
        node = self.nodes[name]
        weight = np.shape(node.fields.get("weight", ()))
        if node.kind in ("Affine", "Linear") and len(weight) >= 2:
            return (int(weight[-1]),)
        if node.kind in ("Conv1d", "Conv2d") and len(weight) > 2 and (stated := self.source.sizes(name, "input_shape")):
            return (int(weight[1]) * self.whole(name, "groups", 1), *stated)
        for key in ("v_threshold", "r", "tau_mem", "scale", "threshold", "delay", "shape", "input_type"):
            if node.fields.get(key) is not None:
                form = self.source.sizes(name, key) if key in ("shape", "input_type") else np.shape(node.fields[key])
                return form if math.prod(form) > 1 or form == (1,) else ()
        return ()

    def _unknown(self, node: str, name: str, source: str) -> str:
        """A node outside NIR: max-pool, or an op of its name, of the shape that its reader expects."""
        kind, shape = self.nodes[node].kind, self.net.shape(source)
        fields = self.nodes[node].fields
        if kind in POOLS and "kernel_size" in fields:
            kernel = self.source.sizes(node, "kernel_size")
            given = (kernel, self.source.sizes(node, "stride") or kernel, self.source.sizes(node, "padding") or (0,))
            if any(len(value) not in (1, 2) or min(value) < 0 for value in given) or 0 in given[1]:
                raise ModelError(f"node {node}: kernel_size, stride and padding {given} must be one or two whole numbers")
            flat = kind == "MaxPool1d"  # maps one row high
            kernel, stride, padding = (
                (filler, int(value[0])) if flat else (int(value[0]), int(value[-1])) for value, filler in zip(given, (1, 1, 0), strict=True)
            )
            self.note(f"node {name} has the type {kind}, which NIR does not define: the largest of every window")
            return self.net.max_pool(name, source, kernel, stride, padding)
        shape = next((full_shape(s) for s in (self.expected(b) for b in self.source.behind(node)) if s and len(s) <= 3), shape)
        self.note(f"node {name} has the type {kind}, which NIR does not define: no chip runs it as it is")
        return self.net.op(name, UNKNOWN.get(kind, kind), source, shape=shape)

    def _flat(self, layer: str) -> str:
        shape = self.net.shape(layer)
        if shape[1:] == (1, 1) or self.net.layers[layer].op == "li":
            return layer
        self.note(f"the output of shape {shape} is flattened: one class per value")
        return self.net.flatten(self.free_name(f"{layer}.classes"), layer)

    def _tell(self) -> None:
        """The choices that the file does not make."""
        for what, nodes in self.missing.items():
            names = list(dict.fromkeys(nodes))
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            self.note(f"{what} in node{'s' if len(names) > 1 else ''} {', '.join(names[:8])}{more}")
        form = self.net.shape(self.net.output_name or "")
        stated = self.source.sizes(self.wanted, "shape")
        if stated not in ((), form[:1]) and (form == self.net.shape(self.last) or full_shape(stated[-3:]) != self.net.shape(self.last)):
            self.note(f"Output {self.wanted} states the shape {stated}, its input has {form[0]} values, which count")
        op = self.net.layers[self.net.output_name or ""].op
        if self.readout is not None and (op == "lif") != (self.readout == "spikes"):
            raise ModelError(
                f"readout {self.readout}: the last layer {self.net.output_name} {'fires' if op == 'lif' else 'does not fire'}; leave readout out"
            )
        if op == "lif":
            self.note("readout: scores are the spike counts of the last layer over the steps")
        elif op == "li":
            self.note("readout: scores are the membranes of the last layer after the last step")
        fires = any(self.nodes[n].kind in FIRING for n in self.order)
        step = f"of {self.dt:g} s" if self.timed else "without a length, dt = 1 (give step_time for recordings)"
        self.note(f"{'exponential decay' if self.exact else 'forward Euler'} in {self.net.steps} step(s) {step}")
        if fires:
            how = "to v_reset" if self.reset == "zero" else "by subtracting v_threshold - v_reset"
            most = "at most one spike" if self.max_spikes == 1 else f"up to {self.max_spikes} spikes"
            test = f"v {'>' if self.strict else '>='} v_threshold"
            self.note(f"reset {how}; test {test}; {'no floor' if self.floor is None else f'floor {self.floor:g}'}; {most} per step")


def full_shape(shape: tuple[int, ...]) -> Shape:
    """(n,) -> (n, 1, 1); (c, n) -> (c, 1, n); (c, y, x) as it is."""
    c, y, x = (*shape, 1, 1) if len(shape) == 1 else (shape[0], 1, shape[1]) if len(shape) == 2 else shape
    return int(c), int(y), int(x)
