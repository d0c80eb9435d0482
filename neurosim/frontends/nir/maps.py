"""NIR nodes without state: weights, convolutions, pools, Flatten, Scale, Delay. Each function reads ``node`` and adds a layer called ``name``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ModelError, UnsupportedLayer
from neurosim.frontends.nir.reading import Reading
from neurosim.frontends.nir.source import STATES
from neurosim.graph import Shape

Floats = NDArray[np.float64]
MOST_DELAYS = 16
"""Distinct delays of one node: each becomes a projection of its own."""


def _affine(b: Reading, node: str, name: str, source: str) -> str:
    """y = W x + b; a Linear has no b."""
    weight = b.array(node, "weight")
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2:
        raise ModelError(f"node {node}: weight has shape {weight.shape}, wanted (outputs, inputs)")
    return b.net.linear(name, b.flat(node, source), weight, _bias(b, node, name, len(weight)))


def _conv1d(b: Reading, node: str, name: str, source: str) -> str:
    """Cross-correlation of (c, n) with weight (out, in / groups, k): a 2d convolution of maps one row high."""
    weight = b.array(node, "weight")
    if weight.ndim != 3:
        raise ModelError(f"node {node}: weight has shape {weight.shape}, wanted (outputs, inputs / groups, width)")
    return _convolve(b, node, name, source, weight[:, :, None, :])


def _conv2d(b: Reading, node: str, name: str, source: str) -> str:
    """Cross-correlation of (c, y, x) with weight (out, in / groups, ky, kx), plus a bias per channel."""
    weight = b.array(node, "weight")
    if weight.ndim != 4:
        raise ModelError(f"node {node}: weight has shape {weight.shape}, wanted (outputs, inputs / groups, height, width)")
    return _convolve(b, node, name, source, weight)


def _convolve(b: Reading, node: str, name: str, source: str, weight: Floats) -> str:
    flat = b.nodes[node].kind == "Conv1d"
    stride, dilation = (_pair(b, node, key, 1, 1 if flat else None) for key in ("stride", "dilation"))
    weight, padding = _padding(b, node, weight, stride, dilation, flat)
    groups, shape, wanted = b.whole(node, "groups", 1), b.net.shape(source), b.source.sizes(node, "input_shape")
    channels = weight.shape[1] * groups
    if shape[0] != channels and wanted and shape[0] * shape[1] * shape[2] == channels * int(np.prod(wanted)):
        form: Shape = (channels, *((1, wanted[0]) if flat else (wanted[0], wanted[-1])))
        b.note(f"node {node}: its input of shape {shape} is taken as {form}")
        source, shape = b.net.reshape(b.free_name(f"{name}.shape"), source, form), form
    actual = shape[2:] if flat else shape[1:]
    if wanted and wanted not in (actual, shape) and not (len(wanted) == 1 and actual == 2 * wanted):
        b.note(f"node {node}: it states the input_shape {wanted}, its input has {actual}, which counts")
    elif not wanted and name == node:
        b.note(f"node {node}: its input_shape is missing and inferred as {actual}")
    return b.net.conv2d(
        name, source, weight, _bias(b, node, name, len(weight)), stride=stride, padding=padding, dilation=dilation, groups=groups
    )  # fmt: skip


def _padding(b: Reading, node: str, weight: Floats, stride: tuple[int, int], dilation: tuple[int, int], flat: bool) -> tuple[Floats, tuple[int, int]]:
    """(weight, padding); "same" with an even kernel pads one side more, which a row of zero weights does as well."""
    given = b.nodes[node].fields.get("padding", 0)
    if not isinstance(given, str):
        return weight, _pair(b, node, "padding", 0, 0 if flat else None)
    if given == "valid":
        return weight, (0, 0)
    if given != "same" or stride != (1, 1):
        raise UnsupportedLayer(
            node, b.nodes[node].kind, f"padding {given!r} with stride {stride}", value=given, limit="same with stride 1, valid, or numbers",
            remedy="write the padding as numbers",
        )  # fmt: skip
    result = []
    for axis, step in ((2, dilation[0]), (3, dilation[1])):
        total = step * (weight.shape[axis] - 1)
        if total % 2 and step > 1:
            raise UnsupportedLayer(
                node, b.nodes[node].kind, "padding 'same' is not symmetric", value=total, limit="an even number of pixels",
                remedy="use an odd kernel",
            )  # fmt: skip
        if total % 2:
            weight = np.concatenate([np.zeros_like(weight.take([0], axis)), weight], axis)
            total += 1
        result.append(total // 2)
    return weight, (result[0], result[1])


def _flatten(b: Reading, node: str, name: str, source: str) -> str:
    """The dimensions from start_dim to end_dim joined; those of a sample, or counted with a batch before them (norse)."""
    if b.net.layers[source].op == "li":
        return source  # its scores are flat already
    if b.net.layers[source].op == "li":
        return source  # its scores are flat already
    start, end = (b.whole(node, key, default) for key, default in (("start_dim", 0), ("end_dim", -1)))
    shape = b.net.shape(source)
    if start <= 0 and end in (-1, 2):
        return b.net.flatten(name, source)
    if (start, end) == (1, -1):
        b.note(f"node {node}: start_dim 1 is taken to count the batch, so all of {shape} is flattened")
        return b.net.flatten(name, source)
    dims = [*shape]
    first, last = start % 3, end % 3
    dims = [*dims[:first], int(np.prod(dims[first : last + 1])), *dims[last + 1 :]]
    form: Shape = (dims[0], 1, dims[1]) if len(dims) == 2 else (dims[0], 1, 1) if len(dims) == 1 else (dims[0], dims[1], dims[2])
    return b.net.reshape(name, source, form)


def _pool(b: Reading, node: str, name: str, source: str) -> str:
    """SumPool2d: the sum over windows. AvgPool2d: the mean, padding counted as zeros."""
    kind = b.nodes[node].kind
    kernel = _pair(b, node, "kernel_size", None)
    stride = _pair(b, node, "stride", None) if b.nodes[node].fields.get("stride") is not None else kernel
    padding = _pair(b, node, "padding", 0)
    if kind == "AvgPool2d" and any(padding):
        b.note(f"node {node}: the zeros of its padding {padding} count in the mean, which NIR leaves open")
    add = b.net.sum_pool if kind == "SumPool2d" else b.net.avg_pool
    return add(name, source, kernel, stride, padding)


def _scale(b: Reading, node: str, name: str, source: str) -> str:
    """y = s * x, element by element."""
    return scaled(b, name, source, b.per_neuron(node, "scale", b.net.shape(source)))


def _delay(b: Reading, node: str, name: str, source: str) -> str:
    """y(t) = x(t - delay): delay / dt steps, rounded; neurons of different delays pass through layers of their own."""
    shape = b.net.shape(source)
    delay = b.per_neuron(node, "delay", shape) / b.dt
    steps = np.round(delay).astype(np.int64)
    if np.any(steps < 0):
        raise ModelError(f"node {node}: delay {delay.min() * b.dt:g} s is negative; export the graph again")
    if np.abs(delay - steps).max() > 1e-6:
        b.note(f"node {node}: delays are rounded to whole steps of {b.dt:g} s, by up to {np.abs(delay - steps).max():.2g} step")
    values = np.unique(steps).tolist()
    if len(values) > MOST_DELAYS:
        raise UnsupportedLayer(
            node, "Delay", "its neurons have many different delays, each of which is a projection of its own", value=len(values), limit=MOST_DELAYS,
            remedy="use a longer step_time or fewer delays",
        )  # fmt: skip
    if len(values) == 1:
        return b.net.delay(name, source, values[0]) if values[0] else source
    parts = []
    for value in values:
        part = scaled(b, f"{name}.of{value}", source, np.where(steps == value, 1.0, 0.0))
        parts.append(b.net.delay(f"{name}.by{value}", part, value) if value else part)
    return b.net.add(name, *parts)


def scaled(b: Reading, name: str, source: str, factor: Floats) -> str:
    """Times a factor per neuron, (c, y, x): per channel where that is enough, else a sparse map."""
    per_channel = factor[:, :1, :1]
    if np.all(factor == per_channel):
        return b.net.scale(name, source, per_channel.ravel())
    n = factor.size
    return b.net.sparse(name, source, np.arange(n + 1), np.arange(n), factor.ravel(), b.net.shape(source))


def _bias(b: Reading, node: str, name: str, outputs: int) -> Floats | None:
    """A bias per output; none where it is missing, 0, enters neurons by another way (``held_back``), or in a copy: it acts once, in the node."""
    if b.nodes[node].kind == "Linear" or name != node or held_back(b, node):
        return None
    return stated_bias(b, node, outputs)


def stated_bias(b: Reading, node: str, outputs: int) -> Floats | None:
    """The bias that a node states, (outputs,), or None."""
    if b.nodes[node].fields.get("bias") is None:
        return None
    bias = b.array(node, "bias")
    if bias.size not in (1, outputs):
        raise ModelError(f"node {node}: bias has shape {bias.shape}, its weight has {outputs} outputs")
    return np.array(np.broadcast_to(bias.ravel(), (outputs,))) if np.any(bias) else None


def held_back(b: Reading, node: str) -> bool:
    """Whether the neurons behind a node take its bias themselves: where it closes a cycle, which delays spikes but no bias, or charges a current."""
    behind = [(c, b.nodes[c].kind) for c in b.source.behind(node)]
    return bool(behind) and all(kind.startswith("Cuba") or ((node, c) in b.closing and kind in STATES) for c, kind in behind)


def _pair(b: Reading, node: str, key: str, default: int | None, first: int | None = None) -> tuple[int, int]:
    """A field as (rows, columns); ``first``: what stands for the rows of a one-dimensional node."""
    value = np.ravel(b.array(node, key, None if default is None else float(default)))
    if value.size not in (1, 2) or np.any(value != np.round(value)):
        raise ModelError(f"node {node}: {key} {value.tolist()} must be one or two whole numbers")
    return (int(value[0]) if first is None else first, int(value[-1]))


MAPS: dict[str, Callable[[Reading, str, str, str], str]] = {
    "Affine": _affine, "Linear": _affine, "Conv1d": _conv1d, "Conv2d": _conv2d, "Flatten": _flatten, "SumPool2d": _pool, "AvgPool2d": _pool,
    "Scale": _scale, "Delay": _delay,
}  # fmt: skip
