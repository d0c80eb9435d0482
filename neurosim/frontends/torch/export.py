"""torch.export of a module whose neurons are opaque: one graph node per call of a neuron, whatever its class does inside.

The export runs on a copy in float64 and at batch 1. A step loop outside the module (``steps``) is put around it here.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import library
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from neurosim.errors import ModelError
from neurosim.frontends.torch.libraries import reset_together
from neurosim.frontends.torch.neuron_class import NeuronClass
from neurosim.frontends.torch.neurons import Rule, neuron_class, rule_of
from neurosim.frontends.torch.options import Axes

STATE_TABLES = ("_buffers", "_memories")
"""Dictionaries in which modules of the libraries keep their states."""
USER_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, AssertionError, NotImplementedError, ArithmeticError)
"""What the code of a user's module may raise when it is run."""
DECOMPOSED = ("einsum", "tensordot", "inner", "addbmm", "addmv", "mv", "dot", "bilinear", "chain_matmul", "kron", "hstack", "vstack", "dstack")
"""Ops that are taken apart into those that are known."""


def _copy_of(x: torch.Tensor, layer: int, call: int) -> torch.Tensor:
    return x.clone()


for _name in ("neuron", "state"):
    _op = library.custom_op(f"neurosim::{_name}", _copy_of, mutates_args=(), schema="(Tensor x, int layer, int call) -> Tensor")
    _op.register_fake(lambda x, layer, call: torch.empty_like(x))


@dataclass
class Neuron:
    """One neuron layer of the module: ``shapes`` of the inputs of its calls, at batch 1."""

    name: str
    module: Any
    known: NeuronClass
    rule: Rule
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    foreign_state: bool = False

    @property
    def kind(self) -> str:
        """The class."""
        return type(self.module).__name__

    def steps(self) -> int:
        """Time steps that the calls cover."""
        if self.rule.layout == "step":
            return len(self.shapes)
        shape = self.shapes[0]
        return {"time": shape[0], "batch_first": shape[1] if len(shape) > 1 else 0}.get(self.rule.layout, self.rule.steps or shape[0])


class Tracing:
    """What goes on beside the tensors while a module is traced: functions to call first, and the spikes of every neuron call."""

    def __init__(self) -> None:
        self.starts: list[Callable[[], None]] = []
        self.alive: list[torch.Tensor] = []


class Unread(TorchFunctionMode):  # type: ignore[misc]  # torch is not typed here
    """Numbers that a module takes out of its activations, mostly to print them, are NaN: a trace has none. Whatever computes with one is refused."""

    NUMBERS = (torch.Tensor.item, torch.Tensor.__float__, torch.Tensor.__int__)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation of the traced module."""
        if func in self.NUMBERS:
            return math.nan
        if func is torch.Tensor.__format__:
            return "nan"
        if func is torch.Tensor.numpy:
            return np.full(tuple(args[0].shape), math.nan)
        return func(*args, **(kwargs or {}))


class Stepped(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
    """The module, called once, or ``loop`` times with the mean of its outputs; returns its outputs as a flat list."""

    def __init__(self, model: torch.nn.Module, loop: int, time: int | None) -> None:
        super().__init__()
        self.model, self.loop, self.time = model, loop, time
        self.tracing = Tracing()

    def forward(self, x: torch.Tensor) -> tuple[list[Any], list[Any]]:
        """(outputs, tensors that keep every neuron in the graph)."""
        for start in self.tracing.starts:
            start()
        self.tracing.alive.clear()
        if self.loop <= 1:
            outputs = pytree.tree_leaves(self.model(x))
        else:
            calls = [pytree.tree_leaves(self.model(x if self.time is None else x.select(self.time, step))) for step in range(self.loop)]
            outputs = [torch.stack(leaf).mean(0) if torch.is_tensor(leaf[0]) else leaf[0] for leaf in zip(*calls, strict=True)]
        return outputs, list(self.tracing.alive)


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Tensors that the module creates are float64 as well."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def find_neurons(model: torch.nn.Module) -> list[Neuron]:
    """All modules that are neurons, with their rules; raises UnsupportedLayer or ModelError naming the layer."""
    found: list[Neuron] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in inside):
            continue
        known = neuron_class(module, name)
        if known is not None:
            found.append(Neuron(name, module, known, rule_of(module, name, known)))
            inside = (*inside, name)
    if not found:
        raise ModelError(
            f"module {type(model).__name__} has no layer that is known to spike; register its class with neurosim.register_neuron(cls, to_rule)"
        )
    return found


def copy_of(model: torch.nn.Module, neurons: list[Neuron]) -> tuple[torch.nn.Module, list[torch.nn.Module]]:
    """(copy in float64, on the CPU, with its neurons at their initial state, the copies of the neurons)."""
    try:
        copied = copy.deepcopy(model, _detached(model)).cpu().double().eval()
    except USER_ERRORS as error:
        raise ModelError(
            f"module {type(model).__name__} cannot be copied ({first_line(error)}); bring its neurons to their initial state first"
        ) from None
    modules = [copied.get_submodule(neuron.name) for neuron in neurons]
    for module in modules:
        if getattr(module, "backend", "torch") != "torch":  # spikingjelly's CUDA kernels compute the same, on a GPU and in float32 alone
            module.backend = "torch"
    for neuron, module in zip(neurons, modules, strict=True):
        neuron.known.reset(module)
    return copied, modules


def _detached(model: torch.nn.Module) -> dict[int, Any]:
    """What deepcopy cannot copy, as its memo: states that neurons keep from a run that was differentiated."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        kept = [value for key, value in vars(module).items() if key not in ("_parameters", "_modules")]
        for tensor in pytree.tree_leaves(kept):
            if torch.is_tensor(tensor) and not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return memo


@contextlib.contextmanager
def preserved(neurons: list[Neuron]) -> Iterator[None]:
    """The neurons keep their states, whatever is done with copies of them: snnTorch resets all of its neurons at once, copies or not."""
    modules = [*(neuron.module for neuron in neurons), *reset_together()]
    kept = [(vars(m), dict(vars(m)), [(table, dict(table)) for key, table in vars(m).items() if key in STATE_TABLES]) for m in modules]
    try:
        yield
    finally:
        for attributes, before, tables in kept:
            attributes.update(before)
            for table, entries in tables:
                table.update(entries)


def export(model: torch.nn.Module, neurons: list[Neuron], axes: Axes, loop: int, notes: list[str]) -> Any:
    """The exported program of ``Stepped(model)`` at batch 1; fills in ``shapes`` of the neurons and what is to be noted. Raises ModelError when
    torch.export fails."""
    copied, modules = copy_of(model, neurons)
    for child in copied.modules():
        if isinstance(child, torch.nn.LPPool2d) and child.norm_type == 1:  # sinabs' SumPool2d: a sum, written with powers and signs
            child.forward = functools.partial(_sum_pool, child)
    wrapper = Stepped(copied, loop, axes.time)
    for k, (neuron, module) in enumerate(zip(neurons, modules, strict=True)):
        _Opaque(k, neuron, module, wrapper)
    with preserved(neurons), double_precision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export's own, about its internals
        try:
            return _exported(wrapper, axes)
        except ModelError:
            raise
        except USER_ERRORS as error:
            with contextlib.suppress(*USER_ERRORS), Unread():
                program = _exported(wrapper, axes)
                notes.append("the module takes numbers out of its activations (float, item, format): read as if it only printed them")
                return program
            raise ModelError(
                f"module {type(model).__name__} does not run on an input of shape {axes.full}, or torch.export cannot follow it "
                f"({type(error).__name__}: {first_line(error)}); check input_shape and input_axes ({axes.letters})"
            ) from None


def _exported(wrapper: Stepped, axes: Axes) -> Any:
    table = {op: rule for op, rule in torch.export.default_decompositions().items() if str(op).split(".")[1] in DECOMPOSED}
    return torch.export.export(wrapper, (torch.full(axes.full, 0.5),), strict=False).run_decompositions(table)


def _sum_pool(pool: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(x, pool.kernel_size, pool.stride, ceil_mode=pool.ceil_mode, divisor_override=1)


class _Opaque:
    """Replaces one neuron's forward by the custom op, and counts the calls."""

    def __init__(self, layer: int, neuron: Neuron, module: Any, wrapper: Stepped) -> None:
        self.layer, self.neuron, self.tracing = layer, neuron, wrapper.tracing
        self.handed: list[Any] = []
        module.forward = self.forward
        wrapper.tracing.starts.append(self.start)

    def start(self) -> None:
        self.neuron.shapes.clear()
        self.handed.clear()

    def forward(self, x: torch.Tensor, *state: Any, **named: Any) -> Any:
        neuron, call = self.neuron, len(self.neuron.shapes)
        given = [s for s in (*state, *named.values()) if s is not None]
        if call and any(s is not h for s, h in zip(given, self.handed, strict=False)):
            neuron.foreign_state = True
        neuron.shapes.append(tuple(x.shape))
        spikes = torch.ops.neurosim.neuron(x, self.layer, call)
        self.tracing.alive.append(spikes)
        if not neuron.rule.states:
            return spikes
        states = [torch.ops.neurosim.state(spikes, self.layer, k) for k in range(neuron.rule.states)]
        self.handed[:] = states if neuron.rule.pack is None else [neuron.rule.pack(*states)]
        return (spikes, *self.handed)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, shortened, without the codes by which terminals colour it."""
    lines = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error)).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
