"""The walk along an exported graph: every node becomes ids (``torch_values``), and layers of a Network where something is computed."""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch.utils import _pytree as pytree

from neurosim.errors import ModelError, UnsupportedLayer
from neurosim.frontends.constants import Constants
from neurosim.frontends.torch.export import Neuron
from neurosim.frontends.torch.gather import Mix, Product, layer_of
from neurosim.frontends.torch.options import Axes
from neurosim.frontends.torch.recurrence import Loop, apart, connect, loop_of
from neurosim.frontends.torch.values import STATIC, Ledger, MixedStepsError, Source, Split, Value, digest, layer_shape, split
from neurosim.graph import Shape
from neurosim.network import Network
from neurosim.order import ModuleOrder

PATTERNS = 64
"""Most different patterns of one operation: as many layers of the Network may come from one node."""
PARTIAL = ("add", "view", "reshape", "squeeze", "unsqueeze", "clone", "alias", "detach", "contiguous", "_to_copy", "to")
"""Ops that a sum over some of the steps may pass."""
HELPERS = ("reshape", "concat", "gather", "select", "part", "pad", "bias", "add")
"""Layers that only arrange the input of another."""
SPARSE_LIMIT = 2**24
"""Most weights of a sparse map that stands for an operation without a compact form."""


class Membrane:
    """A neuron's state: it may go back into its neuron and nowhere else."""

    def __init__(self, layer: str) -> None:
        self.layer = layer


class Walk:
    """One pass over the nodes. ``handlers``: op name -> function (walk, node, args, kwargs) -> Value, tensor, or tuple of them."""

    def __init__(
        self, program: Any, model: torch.nn.Module, neurons: list[Neuron], net: Network, axes: Axes, handlers: dict[str, Callable[..., Any]]
    ) -> None:
        self.program, self.model, self.neurons, self.net, self.axes, self.handlers = program, model, neurons, net, axes, handlers
        self.ledger = Ledger(net.steps)
        self.constants = Constants(net, self.free)
        self.values: dict[Any, Any] = {}
        self.cache: dict[Any, Source] = {}
        self.mixes: dict[int, Mix] = {}
        """Token mixings of a few channels, by the start of their source: layers of the Network only when somebody reads them."""
        self.products: dict[int, Product] = {}
        """Products of spikes, by the start of their source, whose name is empty: layers only when somebody reads them."""
        self.attentions: dict[int, tuple[list[Source], int, float]] = {}
        """Operands (q, k, v), heads and scale of the attentions, by the start of their source."""
        self.node: Any = None
        self.paths: set[str] = set()
        self.reserved = {neuron.name for neuron in neurons}
        self.named_ops: list[str] = []
        """Layers of ops that have no rule here and are kept by name."""
        self.orders: dict[int, Any] = {}
        """Of every neuron layer: where each of its neurons, in the module's order, lies in the Network's layer."""
        self.lif: dict[int, tuple[Source, Any, Any]] = {}
        """Of every neuron layer: its source, and the normalised ids and constants that it reads, where it is called step by step."""
        self.shared: dict[str, Any] = {}
        """Orders by their digest: layers of one shape mostly have the same."""
        self.loops: dict[int, Loop] = {}
        """By neuron layer: what it reads of earlier steps."""

    # -- the walk

    def run(self, outputs: list[Any], wanted: int, example: Source) -> Any:
        """The value of output ``wanted``; ``example`` is the input's source."""
        target = outputs[wanted]
        if not hasattr(target, "op"):
            raise ModelError(f"output {wanted} of the module is {target!r}, no tensor; choose another with output=")
        self.nodes = self._reached(target)
        unread = Counter(argument for node in self.nodes for argument in node.all_input_nodes)
        unread[target] += 1
        for node in self.program.graph.nodes:
            if node in self.nodes:
                self.node = node
                self.values[node] = self._visit(node, example)
                unread.subtract(node.all_input_nodes)
                for argument in node.all_input_nodes:  # ids take 8 bytes a value and step, of every node
                    if not unread[argument]:
                        self.values.pop(argument, None)
        return self.values[target]

    def _reached(self, target: Any) -> set[Any]:
        """Nodes on which the output depends, and all earlier calls of the neurons among them."""
        calls: dict[int, list[Any]] = {}
        for node in self.program.graph.nodes:
            if node.op == "call_function" and op_name(node) == "neurosim.neuron":
                calls.setdefault(node.args[1], []).append(node)
        reached: set[Any] = set()
        waiting = [target]
        while waiting:
            node = waiting.pop()
            if node in reached:
                continue
            reached.add(node)
            waiting += node.all_input_nodes
            if node.op == "call_function" and op_name(node) == "neurosim.neuron":
                waiting += calls[node.args[1]]
        return reached

    def _visit(self, node: Any, example: Source) -> Any:
        if node.op == "placeholder":
            return self._placeholder(node, example)
        if node.op != "call_function":
            raise ModelError(f"graph node {node} ({node.op}) is not understood; simplify the module's forward")
        self.paths.add(self.path)
        args, kwargs = pytree.tree_map(lambda a: self.values[a] if isinstance(a, torch.fx.Node) else a, (node.args, dict(node.kwargs)))
        leaves = pytree.tree_leaves((args, kwargs))
        name = op_name(node)
        for leaf in leaves:
            if isinstance(leaf, Membrane) and node.target is not operator.getitem:
                self.refuse("the membranes of a neuron are read", op=name, value=leaf.layer, remedy="use its spikes (choose another output=)")
            if isinstance(leaf, Value) and leaf.steps and name.removeprefix("aten.") not in PARTIAL:
                self.refuse("it reads a sum over some of the steps", op=name, value=len(leaf.steps), limit=f"all {self.net.steps}",
                            remedy="sum over all steps first")  # fmt: skip
            if isinstance(leaf, Value) and leaf.late is not None and name.removeprefix("aten.") not in (*PARTIAL, "neurosim.neuron"):
                self.mixed(name)
        if "nondeterministic_seeded" in {tag.name for tag in getattr(node.target, "tags", ())} and name not in self.handlers:
            self.refuse("it draws random numbers at inference", op=name,
                        remedy="give it images or events instead of a random code; functional dropout needs training=self.training")  # fmt: skip
        result = node.meta.get("val")
        for part in result if isinstance(result, tuple | list) else [result]:
            if torch.is_tensor(part) and not all(type(n) is int for n in part.shape):
                self.refuse("the shape of its result depends on values", op=name, value=tuple(map(str, part.shape)), limit="whole numbers",
                            remedy="use sizes that are known beforehand")  # fmt: skip
        if not any(isinstance(leaf, Value) for leaf in leaves):
            return self._concrete(node, name, args, kwargs)
        if name not in self.handlers:
            return self.handlers[""](self, node, args, kwargs)
        try:
            return self.handlers[name](self, node, args, kwargs)
        except MixedStepsError:
            self.mixed(name)

    def mixed(self, name: str) -> NoReturn:
        """Refuse an operation that joins steps."""
        kind = self.kind
        self.refuse(
            "it joins values of different time steps outside a known neuron", op=name,
            remedy=f"if {kind} is a layer of neurons, register it: neurosim.register_neuron({kind}, to_rule){self.axes.hint(self.net.steps)}",
        )  # fmt: skip

    def _concrete(self, node: Any, name: str, args: Any, kwargs: Any) -> Any:
        if node.target is operator.getitem:
            return args[0][args[1]]
        return node.target(*args, **kwargs)

    def _placeholder(self, node: Any, example: Source) -> Any:
        signature = self.program.graph_signature
        for table in (signature.inputs_to_parameters, signature.inputs_to_buffers, signature.inputs_to_lifted_tensor_constants):
            if node.name in table:
                key = table[node.name]
                tensor = self.program.state_dict[key] if key in self.program.state_dict else self.program.constants[key]
                shown = key.removeprefix("model.")
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    bad = int((~torch.isfinite(tensor)).sum())
                    raise ModelError(
                        f"weight {shown} {tuple(tensor.shape)} has {bad} of {tensor.numel()} values that are NaN or infinite; export it again"
                    )
                return tensor.detach()
        return self.input_value(example)

    def input_value(self, example: Source) -> Value:
        """The module's input: axes as it wants them."""
        ids = self.ledger.all_steps(example)
        time = self.axes.time
        if time is None:
            return Value(ids[0].reshape(self.axes.full))
        ids = ids.reshape(self.net.steps, *self.axes.features)
        ids = ids.movedim(0, self.axes.letters.replace("b", "").index("t"))
        return Value(ids.unsqueeze(self.axes.letters.index("b")))

    # -- names and refusals

    @property
    def _stack(self) -> list[tuple[str, str]]:
        return [(str(path), str(kind)) for path, kind in self.node.meta.get("nn_module_stack", {}).values()]

    @property
    def path(self) -> str:
        """Qualified name of the module that does what the node does; empty for the whole."""
        paths = [path for path, _ in self._stack if path]
        return re.sub(r"@\d+", "", paths[-1].removeprefix("model").removeprefix(".")) if paths else ""

    @property
    def kind(self) -> str:
        """Class of that module."""
        return type(self.model.get_submodule(self.path)).__name__

    def name(self, op: str) -> str:
        """A free layer name: the module's own where it does one thing, else with the op."""
        path = self.path
        leaf = path and op not in HELPERS and next(iter(self.model.get_submodule(path).children()), None) is None
        return self.free(path if leaf else f"{path}.{op}" if path else op)

    def free(self, base: str) -> str:
        """``base``, or with a number where that name is taken."""
        name, k = base, 2
        while name in self.net.layers or name in self.reserved:
            name, k = f"{base}_{k}", k + 1
        return name

    def refuse(self, reason: str, *, op: str = "", value: Any = None, limit: Any = None, remedy: str = "") -> NoReturn:
        """Raise UnsupportedLayer for the module of the present node."""
        kind = op.removeprefix("aten.") if op else self.kind
        raise UnsupportedLayer(self.path or "forward", kind, reason, value=value, limit=limit, remedy=remedy)

    # -- layers

    def layer(self, key: Any, op: str, inputs: list[Source], build: Callable[[str], str], *, dynamic: bool | None = None, name: str = "") -> Source:
        """The source of a layer: an equal one that exists, or the one that ``build(name)`` adds to the Network."""
        full = (op, tuple(source.name for source in inputs), key)
        if full not in self.cache:
            built = build(name or self.name(op))
            moving = any(source.dynamic for source in inputs) if dynamic is None else dynamic
            self.cache[full] = self.ledger.add(built, self.net.shape(built), moving)
        return self.cache[full]

    def layer_of(self, ids: Any, shape: Shape, const: Any = None) -> Source:
        """A layer with exactly these values: normalised ids and constants, in the order (c, y, x) of ``shape``."""
        return layer_of(self, ids, shape, const)

    def source_named(self, name: str) -> Source:
        """The source of a layer."""
        return next(source for source in self.ledger.sources if source.name == name and source.start not in self.mixes)

    def shaped(self, source: Source, shape: Shape) -> Source:
        """The same values under another shape."""
        if source.shape == shape:
            return source
        return self.layer(shape, "reshape", [source], lambda name: self.net.reshape(name, source.name, shape))

    def total(self, parts: list[Source]) -> Source:
        """The sum of layers."""
        if len(parts) == 1:
            return parts[0]
        return self.layer((), "add", parts, lambda name: self.net.add(name, *(p.name for p in parts)))

    def sparse(self, source: Source, columns: Any, rows: Any, weight: Any, shape: Shape, op: str = "sparse") -> Source:
        """y[rows[k]] += weight[k] * x[columns[k]]; the Network gets a note."""
        if len(rows) > SPARSE_LIMIT:
            self.refuse("it has no compact form, and as a sparse map it is too large", op=op, value=len(rows), limit=SPARSE_LIMIT,
                        remedy="use conv2d, linear or pooling")  # fmt: skip
        order = np.argsort(columns.numpy(), kind="stable")
        indptr = np.zeros(source.size + 1, np.int64)
        np.cumsum(np.bincount(columns.numpy(), minlength=source.size), out=indptr[1:])
        targets, values = rows.numpy()[order], weight.numpy()[order]

        def build(name: str) -> str:
            if op != "part":
                self.net.notes.append(f"{name}: has no compact form, read as a sparse map of {len(targets)} weights")
            return self.net.sparse(name, source.name, indptr, targets, values, shape)

        return self.layer((shape, digest(indptr), digest(targets), digest(values)), op, [source], build)

    def emit(self, parts: Split, build: Callable[[list[Any], list[Any]], tuple[Source, Any]]) -> Any:
        """Ids of a computed tensor. ``build(ids, extra)`` of one pattern gives the source and the positions [*tokens, *out] that the result reads."""
        groups = parts.groups()
        if len(groups) > PATTERNS:
            self.refuse("it is applied to many different slices at once", value=len(groups), limit=PATTERNS, remedy="fold them into channels")
        result: Any = None
        for rows, ids, extra in groups:
            source, positions = build(ids, extra)
            if result is None:
                result = torch.zeros((len(parts.steps), *positions.shape), dtype=torch.int64)
            shift = parts.steps[rows].clamp(min=0) * source.size if source.dynamic else torch.zeros(len(rows), dtype=torch.int64)
            result[rows] = source.start + positions[None] + shift.reshape(-1, *([1] * positions.ndim))
        return parts.restore(result)

    def split(self, values: list[Value], features: int, extra: tuple[Any, ...] = (), *, tokens: bool = True) -> Split:
        """``torch_values.split`` with this walk's ledger."""
        return split(self.ledger, values, features, extra, tokens=tokens)

    # -- neurons

    def neuron(self, node: Any, x: Value, layer: int, call: int) -> Value:
        """One call of a neuron layer: all steps, or step ``call``."""
        neuron, steps = self.neurons[layer], self.net.steps
        per_step = neuron.rule.layout == "step"
        if neuron.foreign_state:
            self.refuse("its state is changed between the steps", op=neuron.kind, remedy="hand each call the state that the call before returned")
        if len(neuron.shapes) != (steps if per_step else 1):
            self.refuse(
                "one neuron module is used at several places, which would share its state", op=neuron.kind, value=f"{len(neuron.shapes)} calls",
                limit=f"{steps if per_step else 1}", remedy="give every place its own module",
            )  # fmt: skip
        x = apart(self, x, call) if per_step else x
        shape = x.shape
        inner = {"step": shape[1:], "time": shape[2:], "batch_first": shape[2:]}.get(neuron.rule.layout, shape[1:])
        ids = x.ids.reshape(1 if per_step else steps, -1)
        const = torch.zeros((), dtype=torch.float64).expand(ids.shape) if x.const is None else x.const.reshape(ids.shape)
        label, norm = self.ledger.label(ids)
        wanted = torch.tensor([call] if per_step else list(range(steps)))[:, None]
        loop = None if x.late is None else loop_of(self, x.late, call)
        if bool(((label != wanted) & (label != STATIC)).any()) or (loop is None) != (x.late is None):
            self.refuse(
                "its input in one step comes from another step, or from a mean over the steps", op=neuron.kind,
                remedy="give every place its own neuron module; recurrence is read where its value is added to an input of the present step"
                + self.axes.hint(steps),
            )  # fmt: skip
        if loop is not None:
            const = const + loop.const
        pattern, added = self.lif[layer][1:] if layer in self.lif else (norm[0].clone() if per_step else norm[0], const[0])
        known_loop = self.loops.get(layer)
        begins = loop is not None and known_loop is None and call == loop.lag
        same_loop = begins or (loop == known_loop if loop is None or known_loop is None else loop.same_as(known_loop))
        first = layer not in self.lif and x.const is None and loop is None  # nothing but zeros to compare
        same_const = first or torch.allclose(const, added.expand(const.shape), rtol=1e-12, atol=1e-12)
        if not bool((norm == pattern).all()) or not same_const or not same_loop:
            self.refuse(
                "its input is not computed in the same way in every step", op=neuron.kind, value=f"{steps} steps",
                remedy=f"use the same layers in every step; before the first step, recurrent values are 0{self.axes.hint(steps)}",
            )  # fmt: skip
        if layer not in self.lif:
            self._new_neuron(layer, pattern, added, inner)
        if loop is not None and begins:
            self.loops[layer] = loop
            connect(self, loop, neuron.name, torch.argsort(self.orders[layer]))
        result, order = self.ledger.all_steps(self.lif[layer][0]).reshape(steps, -1), self.orders[layer]
        result = result if torch.equal(order, torch.arange(len(order))) else result[:, order]
        return Value((result[call : call + 1] if per_step else result).reshape(shape))

    def _new_neuron(self, layer: int, pattern: Any, added: Any, inner: tuple[int, ...]) -> None:
        """The lif layer of a neuron module whose neurons, ``inner`` of one step, read the normalised ids ``pattern`` plus the constants ``added``."""
        neuron = self.neurons[layer]
        order, known = self.natural(pattern)
        together = len(order) // math.prod(inner)  # more than 1 where the module counts tokens as samples
        own = (together, *inner) if together > 1 or not inner else inner
        form = known.shape if known is not None else layer_shape(own)
        given = self.layer_of(pattern[order], form, added[order]).name
        if neuron.rule.lif.get("decay_current") is not None and (bias := self.constants.of(given)).any():
            given = self.constants.as_spikes(neuron.name, self.constants.without(f"{neuron.name}.unbiased", given), bias)
        rule = {key: per_neuron(value, inner, form, order.numpy()) for key, value in neuron.rule.lif.items()}
        built = self.net.lif(neuron.name, given, **rule)
        index = torch.argsort(order)
        index = self.shared.setdefault(digest(index), index)
        self.net.layers[built] = replace(self.net.layers[built], order=ModuleOrder(own, index.numpy()))
        several = neuron.rule.layout == "step"
        self.lif[layer] = (self.ledger.add(built, form, True), pattern if several else None, added if several else None)
        self.orders[layer] = index

    def natural(self, flat: Any) -> tuple[Any, Source | None]:
        """(order, layer): the order that turns these normalised ids into the layer whose values they are, or into neighbouring channels of one.

        (as they are, None) if they are neither.
        """
        order = torch.argsort(flat)
        ids = flat[order]
        source = self.ledger.sources[int(self.ledger.lookup(ids[:1])[0])]
        first, pixels = int(ids[0]) - source.start, source.shape[1] * source.shape[2]
        whole = not first % pixels and not len(ids) % pixels and first + len(ids) <= source.size
        if not source.name or not whole or not torch.equal(ids, torch.arange(len(ids)) + ids[0]):
            return torch.arange(len(flat)), None
        return order, Source(source.name, (len(ids) // pixels, *source.shape[1:]), int(ids[0]), source.dynamic)


def per_neuron(value: Any, inner: tuple[int, ...], form: Shape, order: Any) -> Any:
    """A rule's array, which broadcasts to one step of the input, as (c, y, x) or (c, 1, 1); numbers and texts as they are.

    ``order``: which neuron of the module each one of ``form`` is.
    """
    if not isinstance(value, np.ndarray) or not value.ndim:
        return value
    try:
        full = np.broadcast_to(value, inner).reshape(-1)[order].reshape(form)
    except ValueError:
        raise ModelError(
            f"a rule's array of shape {value.shape} does not broadcast to the neurons {inner}; give one value, or one per channel"
        ) from None
    first = full[:, :1, :1]
    return first if np.array_equal(np.broadcast_to(first, form), full) else full


def op_name(node: Any) -> str:
    """aten.conv2d, neurosim.neuron, getitem."""
    target = node.target
    return str(getattr(target, "overloadpacket", getattr(target, "__name__", target)))
