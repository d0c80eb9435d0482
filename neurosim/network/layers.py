"""The parts of a Network: layers, the input contract, and the shape of every known op's output."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ModelError
from neurosim.graph import Conv2d, Shape, SumPool, TokenMix
from neurosim.order import ModuleOrder

Floats = NDArray[np.float64]

INTEGER_DTYPES = ("uint8", "int8", "uint16", "int16")
LINEAR_OPS = (
    "conv2d", "linear", "batch_norm", "add", "concat", "reshape", "token_mix", "mean", "sum_pool", "avg_pool", "scale", "delay", "sparse",
)  # fmt: skip
EVENT_OPS = ("max_pool", "gate", "attention")
"""Ops that are no linear maps; what becomes of them depends on the chip."""
KNOWN_OPS = ("input", "spikes_input", "lif", "li", *EVENT_OPS, *LINEAR_OPS)


@dataclass(frozen=True)
class Layer:
    """One named op. ``inputs``: names of the layers it reads; ``shape`` (c, y, x) of its output; ``params``: arrays (float64) and scalars.

    ``order``: how its neurons lie in the tensor of the module that it was read from; None: as (c, y, x).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: Shape
    params: dict[str, Any] = field(default_factory=dict)
    order: ModuleOrder | None = None

    @property
    def size(self) -> int:
        """Number of values of the output."""
        return math.prod(self.shape)

    def describe(self) -> str:
        """Op with its parameters, arrays by shape, for ``str(network)``."""
        parts = []
        for key, value in sorted(self.params.items()):
            if value is None:
                continue
            parts.append(f"{key}{list(value.shape)}" if isinstance(value, np.ndarray) and value.size != 1 else f"{key}={_plain(value)}")
        return f"{self.op}({', '.join(parts)})"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) else value


@dataclass(frozen=True)
class InputContract:
    """What the network expects: images, (pixel / scale - mean) / std per channel and the same in every step, or binary events (kind spikes).

    ``step_time_us`` bins event recordings: step = floor((t - t0) / step_time_us).
    """

    name: str
    shape: Shape
    kind: Literal["image", "spikes"]
    dtype: str = "uint8"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    step_time_us: float | None = None
    axes: str = "chw"

    def pixel_range(self) -> tuple[int, int]:
        """Least and greatest pixel of an integer dtype; raises ModelError for others."""
        if self.dtype not in INTEGER_DTYPES:
            raise ModelError(f"input {self.name}: dtype {self.dtype} has no bounded integer range; use one of {', '.join(INTEGER_DTYPES)}")
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    def affine(self) -> tuple[Floats, Floats]:
        """(weight, bias) per channel: value = weight * pixel + bias."""
        mean = np.asarray(self.mean, np.float64) if self.mean else np.zeros(self.shape[0])
        std = np.asarray(self.std, np.float64) if self.std else np.ones(self.shape[0])
        return 1.0 / (self.scale * std), -mean / std

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as in Program.meta["input"]."""
        return {
            "name": self.name, "shape": list(self.shape), "kind": self.kind, "dtype": self.dtype, "scale": self.scale, "mean": list(self.mean),
            "std": list(self.std), "step_time_us": self.step_time_us, "axes": self.axes,
        }  # fmt: skip


def array(layer: str, name: str, value: Any, shape: tuple[int | None, ...] | None = None) -> Floats:
    """``value`` as float64 of the wanted shape (None: any length); raises ModelError naming layer, parameter and both shapes, or the NaN."""
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "biuf" and given.dtype != object:
            raise TypeError
        result = np.array(given, np.float64)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a torch tensor that still has its gradient
        raise ModelError(f"layer {layer}: {name} of type {type(value).__name__} is no array of numbers") from None
    if not result.size:
        raise ModelError(f"layer {layer}: {name} of shape {result.shape} is empty")
    if not np.isfinite(result).all():
        bad = int((~np.isfinite(result)).sum())
        raise ModelError(f"layer {layer}: {name} has {bad} of {result.size} values that are NaN or infinite; export the checkpoint again")
    if shape is not None and (len(shape) != result.ndim or any(w is not None and w != h for w, h in zip(shape, result.shape, strict=True))):
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise ModelError(f"layer {layer}: {name} has shape {result.shape}, wanted {wanted}")
    result.flags.writeable = False
    return result


def pair(layer: str, name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    """(rows, columns) from an int or a pair, each at least ``least``."""
    result = tuple(value) if isinstance(value, tuple | list | np.ndarray) else (value, value)
    if len(result) != 2 or not all(isinstance(v, int | np.integer) and v >= least for v in result):
        raise ModelError(f"layer {layer}: {name} {value!r} must be one or two whole numbers of at least {least}")
    return int(result[0]), int(result[1])


def number(layer: str, name: str, value: Any) -> float:
    """A finite number; raises ModelError."""
    if isinstance(value, str) or np.ndim(value) != 0:
        raise ModelError(f"layer {layer}: {name} {value!r} must be one number")
    return float(array(layer, name, value))


def whole(layer: str, name: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``; raises ModelError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ModelError(f"layer {layer}: {name} {value!r} must be a whole number of at least {least}")
    return int(value)


def per_channel(layer: str, name: str, value: Any, channels: int) -> tuple[float, ...]:
    """One float per channel from a number or a sequence; empty for None."""
    if value is None:
        return ()
    given = array(layer, name, value)
    if given.shape not in ((), (1,), (channels,)):
        raise ModelError(f"input {layer}: {name} has shape {given.shape}, wanted a number or one per channel, ({channels},)")
    return tuple(np.broadcast_to(given, (channels,)).tolist())


def share(layer: str, name: str, value: float) -> float:
    """A number from 0 to 1."""
    if not 0 <= number(layer, name, value) <= 1:
        raise ModelError(f"layer {layer}: {name} {value} must lie in 0..1")
    return float(value)


def per_neuron(layer: str, name: str, value: Any, shape: Shape) -> Any:
    """Float64 that broadcasts to (c, y, x): scalar, (c, 1, 1) or (c, y, x)."""
    given = array(layer, name, value)
    if given.ndim == 0:
        given = given.reshape(1, 1, 1)
    elif given.shape == (shape[0],):
        given = given.reshape(-1, 1, 1)
    elif given.shape not in (shape, (shape[0], 1, 1), (1, 1, 1)):
        raise ModelError(f"layer {layer}: {name} has shape {given.shape}, wanted a number, ({shape[0]},) or {shape}")
    return given


def conv_shape(layer: str, source: str, shape: Shape, params: dict[str, Any]) -> Shape:
    """Output shape of a convolution of ``shape``."""
    weight = params["weight"]
    groups = params["groups"]
    takes = weight.shape[1] * groups
    if shape[0] != takes or weight.shape[0] % groups:
        raise ModelError(f"layer {layer}: weight {weight.shape} with groups {groups} takes {takes} channels, its input {source} has shape {shape}")
    try:
        return Conv2d(weight, params["stride"], params["padding"], params["dilation"], groups).out_shape(shape)
    except ModelError as error:
        raise ModelError(f"layer {layer}: {error}") from None


def pool_shape(layer: str, shape: Shape, params: dict[str, Any]) -> Shape:
    """Output shape of a pooling of ``shape``."""
    try:
        return SumPool(np.ones(shape[0]), params["kernel"], params["stride"], params["padding"]).out_shape(shape)
    except ModelError as error:
        raise ModelError(f"layer {layer}: {error}") from None


def mix_shape(layer: str, source: str, shape: Shape, weight: Floats) -> Shape:
    """Output shape of token mixing of ``shape``."""
    try:
        return TokenMix(weight).out_shape(shape)
    except ModelError as error:
        raise ModelError(f"layer {layer}: {error}; its input is {source}") from None


def layer_macs(layer: Layer, inputs: list[Shape]) -> int:
    """Dense multiply-accumulates of one step; normalisation, pooling, sums and taps of a convolution without any weight count none."""
    if layer.op == "conv2d":
        weight = layer.params["weight"]
        return layer.size * int(weight.shape[1] * np.count_nonzero(weight.any(axis=(0, 1))))
    if layer.op in ("linear", "sparse"):
        return int(layer.params["weight"].size)
    if layer.op == "token_mix":
        return layer.size * inputs[0][1] * inputs[0][2]
    if layer.op == "attention":  # k v^T and q by it, d x d per head
        return 2 * layer.size * (layer.shape[0] // int(layer.params["heads"]))
    return 0
