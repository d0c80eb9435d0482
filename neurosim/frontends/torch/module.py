"""Any ``torch.nn.Module`` whose neurons are known -> Network, and factories ``package.module:factory`` or ``file.py:factory``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosim.errors import ModelError
from neurosim.frontends.checkpoint import read_safetensors
from neurosim.frontends.torch.export import USER_ERRORS, Neuron, double_precision, export, find_neurons, first_line
from neurosim.frontends.torch.neurons import MAX_SPIKES
from neurosim.frontends.torch.ops import handlers
from neurosim.frontends.torch.options import Axes, ModuleOptions
from neurosim.frontends.torch.values import MixedStepsError, Value, layer_shape
from neurosim.frontends.torch.verify import Reference, check_batch, check_network, check_rules
from neurosim.frontends.torch.walk import Walk
from neurosim.network import Network
from neurosim.network.geometry import keep_maps

_SCALAR = np.float64(0).__reduce__()[0]
SAFE = [
    argparse.Namespace, np.dtype, *{type(np.dtype(kind)) for kind in "?bBhHiIlLefd"}, _SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"),
]  # fmt: skip
"""What a checkpoint may hold beside torch's own classes, none of which runs code: options and figures of a training, as timm's CheckpointSaver keeps
them."""
HALF = (torch.float16, torch.bfloat16)


def from_module(module: torch.nn.Module, options: ModuleOptions) -> Network:
    """Read a module: export, walk, verify. Raises ModelError or UnsupportedLayer in one line."""
    axes = options.axes()
    _check_module(module)
    neurons = find_neurons(module)
    loop = options.steps or 1
    notes: list[str] = []
    program = export(module, neurons, axes, loop, notes)
    outputs = list(list(program.graph.nodes)[-1].args[0])
    outputs = outputs[: _count(program)]
    if not 0 <= options.output < len(outputs):
        raise ModelError(f"output {options.output} does not exist; the module returns {len(outputs)} tensor(s), numbered from 0")
    steps = _steps(neurons, axes, loop)
    net = Network(options.name or type(module).__name__.lower(), steps, options.class_names)
    table = handlers()
    net.notes += notes
    walk = Walk(program, module, neurons, net, axes, table)
    example = _input(walk, options, axes)
    with double_precision():
        value = walk.run(outputs, options.output, example)
    if not isinstance(value, Value):
        raise ModelError(f"output {options.output} of the module does not depend on its input; choose another with output=")
    axis = _finish(walk, value)
    _prune(walk)
    keep_maps(net)
    _note_dropped(walk, outputs, options.output)
    _note_orders(net)
    many = [n.name for k, n in enumerate(neurons) if k in walk.lif and n.rule.unbounded]
    if many:
        net.notes.append(f"{', '.join(many[:4])}{f' and {len(many) - 4} more' if len(many) > 4 else ''}: up to {MAX_SPIKES} spikes per step")
    used, named = [n for k, n in enumerate(neurons) if k in walk.lif], walk.named_ops
    del walk, program, value  # ids and a copy of the weights, as large as what comes
    check_rules(module, used, steps)
    if named:
        net.notes.append(f"not verified against the module: {', '.join(named[:3])} {'has' if len(named) == 1 else 'have'} no rule")
        return net
    reference = Reference(module, used, axes, loop, options.output, steps)
    silent = check_network(net, reference, lambda y: y if axis is None else y.mean(axis))
    if silent:
        net.notes.append(
            f"on the random input by which it was verified {len(silent)} of {len(used)} neuron layers fired nothing: {', '.join(silent[:3])}"
            + (", ..." if len(silent) > 3 else "")
        )
    note = check_batch(net, reference, ignore=options.batch_mixing == "ignore")
    if note:
        net.notes.append(note)
    return net


def _check_module(module: torch.nn.Module) -> None:
    kind = type(module).__name__
    if module.training:
        raise ModelError(f"module {kind} is in training mode; call .eval() first, batch norm is folded with its running statistics")
    for name, child in module.named_modules():
        if child.training and isinstance(child, torch.nn.modules.batchnorm._NormBase | torch.nn.modules.dropout._DropoutNd):
            raise ModelError(f"layer {name} ({type(child).__name__}) is in training mode while its model is not; call .eval() on the whole model")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dtype in HALF or tensor.is_quantized or tensor.is_complex():
            shown = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(
                f"weight {name} is {shown}; call .float() on the model: it computes in half precision what the chip computes in whole numbers"
            )
        if tensor.device.type == "meta":
            raise ModelError(f"weight {name} has no values (meta device); load the weights first")


def _count(program: Any) -> int:
    """Number of the module's own outputs: the wrapper returns them first."""
    return int(program.call_spec.out_spec.child(0).num_leaves)


def _steps(neurons: list[Neuron], axes: Axes, loop: int) -> int:
    """Time steps: all neurons that are called must agree, and with the input."""
    counts = {neuron.name: neuron.steps() for neuron in neurons if neuron.shapes}
    if not counts:
        raise ModelError("the module calls none of its neurons")
    if axes.time is not None:
        counts["the input"] = axes.full[axes.time]
    steps, first = next(iter(counts.values())), next(iter(counts))
    for neuron in neurons:
        shape = neuron.shapes[0] if neuron.shapes else (1,)
        if neuron.rule.steps and shape[0] != neuron.rule.steps:
            raise ModelError(
                f"layer {neuron.name} ({neuron.kind}): its rule folds {neuron.rule.steps} steps into the batch axis, which is {shape[0]} at batch 1"
            )
    for name, count in counts.items():
        if count != steps:
            raise ModelError(
                f"{first} has {steps} step(s), {name} has {count}: all neurons and the input must have the same number; for modules that compute one "
                "step per call give steps=, for a neuron used at several places give every place its own"
            )
    return steps


def _input(walk: Walk, options: ModuleOptions, axes: Axes) -> Any:
    net, shape = walk.net, layer_shape(axes.features)
    spikes = axes.time is not None if options.spikes is None else options.spikes
    if axes.time is not None and not spikes:
        raise ModelError(
            f"input_axes {axes.letters}: an image that changes from step to step is not supported; give binary events, or a static image"
        )
    if spikes and axes.time is None and net.steps > 1:
        raise ModelError(f"spikes=True needs a time axis t in input_axes {axes.letters}: the module has {net.steps} steps")
    name = "events" if spikes else "image"
    if spikes:
        net.spikes_input(name, shape, options.step_time_us)
    else:
        net.input(name, shape, options.dtype, options.scale, options.mean, options.std)
        net.notes.append(
            f"input: (pixel / {options.scale:g}{'' if options.mean is None else ' - mean'}){'' if options.std is None else ' / std'}, {options.dtype}"
        )
    return walk.ledger.add(name, shape, spikes)


def _finish(walk: Walk, value: Value) -> int | None:
    """Make the value the Network's output; the axis of the module's output over which the mean is taken, None where it is taken already."""
    net, ledger = walk.net, walk.ledger
    steps = ledger.label(value.ids)[0]
    moving = steps[steps >= 0]
    axis = None
    if value.steps:
        raise ModelError(f"the output is a sum over {len(value.steps)} of {net.steps} steps; a Network's scores are the mean over all: return that")
    if not len(moving):
        raise ModelError("the output does not depend on any spike; choose another with output=")
    if net.steps > 1 and bool((moving != ledger.mean).any()):
        candidates = [
            d
            for d, n in enumerate(value.shape)
            if n == net.steps and bool((steps.movedim(d, 0).reshape(net.steps, -1).amax(1) == torch.arange(net.steps)).all())
        ]
        if not candidates:
            only = sorted({int(s) for s in moving.unique() if s != ledger.mean})
            raise ModelError(f"the output reads step(s) {only} of {net.steps}; a Network's scores are the mean over all steps: return that")
        axis = candidates[0]
        net.notes.append("the module returns every step; the scores are their mean")
    try:
        rows = value.moved(lambda a: a.reshape(1, -1) if axis is None else a.movedim(axis, 0).reshape(net.steps, -1))
        parts = walk.split([rows], 1, tokens=False)
    except MixedStepsError:
        raise ModelError("the output joins a mean over the steps with single steps; return the mean over all steps") from None
    const = rows.const
    groups = parts.groups()
    if len(groups) > 1 or (const is not None and bool((const != const[:1]).any())):
        raise ModelError("the output is not computed in the same way in every step")
    ids = groups[0][1][0].reshape(-1)
    source = walk.layer_of(ids, (len(ids), 1, 1), None if const is None else const[0])
    net.output(source.name)
    return axis


def _prune(walk: Walk) -> None:
    """Drop layers that nothing reads any more: scales that a gate or an attention took over, whose name it then gets."""
    net = walk.net
    kept = {net.input_contract.name, *(s for s, _, _ in net.connections), *(t for _, t, _ in net.connections)}
    waiting = [str(net.output_name), *kept]
    while waiting:
        name = waiting.pop()
        kept.add(name)
        waiting += [x for x in net.layers[name].inputs if x not in kept]
    for name in [name for name in net.layers if name not in kept and net.layers[name].op != "lif"]:
        del net.layers[name]
    attentions = {name: re.sub(r"_\d+$", "", name) for name, layer in net.layers.items() if layer.op == "attention"}
    new = {name: base for name, base in attentions.items() if base not in net.layers}
    if len(set(new.values())) == len(new):
        renamed = [replace(x, name=new.get(x.name, x.name), inputs=tuple(new.get(i, i) for i in x.inputs)) for x in net.layers.values()]
        net.layers = {layer.name: layer for layer in renamed}
    walk.named_ops = [name for name in walk.named_ops if name in kept]


def _note_orders(net: Network) -> None:
    """Say which layers lie in another order on the chip than in the module."""
    moved = [layer for layer in net.layers.values() if layer.order is not None and layer.order.permutes]
    if moved:
        shown = ", ".join(f"{layer.name} {layer.order.shape} as {layer.shape}" for layer in moved[:3] if layer.order is not None)
        net.notes.append(
            f"in another order on the chip than in the module (channels, rows, columns): {shown}{', ...' if len(moved) > 3 else ''}; spikes and "
            "membranes of a run have the module's, addresses in a trace the chip's"
        )


def _note_dropped(walk: Walk, outputs: list[Any], wanted: int) -> None:
    """Log what the chosen output does not need."""
    others = len(outputs) - 1
    paths = {path for path, child in walk.model.named_modules() if path and next(iter(child.children()), None) is None}
    unused = sorted(path for path in paths if path not in walk.paths and any(True for _ in walk.model.get_submodule(path).parameters()))
    if others:
        walk.net.notes.append(f"output {wanted} of {others + 1}; the others are left out")
    if unused:
        more = f" and {len(unused) - 4} more" if len(unused) > 4 else ""
        walk.net.notes.append(f"left out, the output does not need them: {', '.join(unused[:4])}{more}")


def module_of(text: str, weights: Path | None) -> torch.nn.Module:
    """The module that ``package.module:factory`` or ``file.py:factory`` returns, in eval mode, with the weights of a file. Raises ModelError."""
    place, _, factory = text.rpartition(":")
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise ModelError(f"{text}: {place} does not exist")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        source = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, source)
        try:
            spec.loader.exec_module(source)
        except (*USER_ERRORS, ImportError, SyntaxError, OSError) as error:
            raise ModelError(f"{text}: {place} cannot be run ({type(error).__name__}: {first_line(error)})") from None
    else:
        try:
            source = importlib.import_module(place)
        except (*USER_ERRORS, ImportError, SyntaxError) as error:
            raise ModelError(
                f"{text}: {place} cannot be imported ({type(error).__name__}: {first_line(error)}); run where it can, or give file.py:factory"
            ) from None
    made = getattr(source, factory, None)
    if made is None or not (callable(made) or isinstance(made, torch.nn.Module)):
        names = [n for n, v in vars(source).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise ModelError(f"{text}: {place} has no function {factory}; it has {', '.join(names[:8]) or 'none'}")
    try:
        module = made if isinstance(made, torch.nn.Module) else made()
    except USER_ERRORS as error:
        raise ModelError(f"{text}: {factory}() failed ({type(error).__name__}: {first_line(error)}); it must need no arguments") from None
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"{text}: {factory}() returned {type(module).__name__}, wanted a torch.nn.Module")
    if weights is not None:
        load_weights(module, weights)
    return module.eval()


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Fill in a .safetensors file, or a .pt / .pth file read without running code (weights_only); nothing may be missing or left over."""
    if not path.is_file():
        raise ModelError(f"weights {path} {'are a folder' if path.is_dir() else 'do not exist'}; give a .safetensors or .pt file")
    if path.suffix == ".safetensors":
        state = {key: torch.from_numpy(value.copy()) for key, value in read_safetensors(path).items()}
    else:
        try:
            with torch.serialization.safe_globals(SAFE):
                state = torch.load(path, map_location="cpu", weights_only=True)
        except (*USER_ERRORS, OSError, EOFError, pickle.UnpicklingError) as error:
            raise ModelError(f"weights {path} {_unreadable(error)}; save model.state_dict() as .safetensors") from None
    for key in ("state_dict", "model", "model_state_dict", "net"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise ModelError(f"weights {path} hold no state dictionary of tensors; save model.state_dict()")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ModelError(f"weights {path} do not fit the module: {(lines[1] if len(lines) > 1 else lines[0]).strip()}") from None
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        what = f"{missing[0]} is missing" if missing else f"{result.unexpected_keys[0]} belongs to no layer"
        raise ModelError(f"weights {path} do not fit the module: {what} ({len(missing)} missing, {len(result.unexpected_keys)} left over)")
    if any(key.endswith("num_batches_tracked") for key in result.missing_keys):
        for name, buffer in module.named_buffers():
            if name.endswith("num_batches_tracked"):
                buffer.fill_(1)


def _unreadable(error: BaseException) -> str:
    """Why torch.load refused a file, in a few words of its many."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return f"hold a {foreign[1]}, which cannot be read without running code"
    told = re.search(r"WeightsUnpickler error: *(.+)", str(error)) or re.search(r"Weights only load failed.*\n\s*\n\s*(.+)", str(error))
    return f"are no checkpoint of PyTorch, or cut short ({told[1].strip() if told else first_line(error)})"
