"""Extra ops: populations whose input in a step is more than a linear map of spikes (docs/machine.md, section 12).

Every op turns the *cells* of a population, which projections fill in the course of a step, into one input per neuron; then the neuron's ordinary rule
runs. ``operands`` names the cells beside the neurons' own and their shape (c, y, x); a ``Projection`` says by ``operand`` which of them it fills.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ModelError

Shape = tuple[int, int, int]
OpName = Literal["or_pool", "gate", "max_pool", "coincidence"]
OPERANDS = ("", "mask", "window", "k", "v", "q")
"""Names of operands by number; 0 is a neuron's own cell. A Program's ``region_operand`` holds the numbers."""
REGISTER_BITS = 8
"""Width of a cell that holds a spike: values up to 255, as in a packet."""


@dataclass(frozen=True)
class OrPool:
    """A neuron passes one spike per step if anything arrived: max-pool of spikes, its projections being sum-pools of weight 1."""

    name: ClassVar[OpName] = "or_pool"

    def operands(self, shape: Shape) -> dict[str, Shape]:
        """No cells beside the neurons' own."""
        return {}


@dataclass(frozen=True)
class Gate:
    """A neuron passes what arrived if its group is open: the group's mask cell, the sum of the mask's spikes, has reached ``count``.

    ``inverted``: open until then. ``latched``: the sum runs over all steps of the sample, else over one. ``groups`` (gc, gy, gx): neuron (c, y, x) of
    a population (C, H, W) belongs to group (c // (C / gc), y // (H / gy), x // (W / gx)); each divides its axis.
    """

    groups: Shape
    count: int = 1
    inverted: bool = False
    latched: bool = False

    name: ClassVar[OpName] = "gate"

    def operands(self, shape: Shape) -> dict[str, Shape]:
        """mask, one cell per group. Raises ModelError where the groups do not divide the population."""
        if any(n % g for n, g in zip(shape, self.groups, strict=True)):
            raise ModelError(f"gate groups {self.groups} do not divide its shape {shape}")
        return {"mask": self.groups}


@dataclass(frozen=True)
class MaxPool:
    """A neuron's input is the largest of the currents in its window of the cells ``window`` (shape ``source``), padding left out."""

    source: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    name: ClassVar[OpName] = "max_pool"

    def operands(self, shape: Shape) -> dict[str, Shape]:
        """window, one cell per current before the pooling. Raises ModelError where pooling it does not give the population's shape."""
        if pooled(self.source, self.kernel, self.stride, self.padding) != shape:
            raise ModelError(f"max_pool of {self.source} with kernel {self.kernel} and stride {self.stride} does not give {shape}")
        return {"window": self.source}


@dataclass(frozen=True)
class Coincidence:
    """Activity-written synapses: input[h d + b, n] = scale * sum over a of q[h d + a, n] * sum over m of k[h d + a, m] * v[h d + b, m].

    n and m are pixels (tokens), h heads of d = channels / heads channels. ``scale`` is the real factor; in integers the sum is shifted up by
    ``shift``.
    """

    heads: int
    scale: float = 1.0
    shift: int = 0

    name: ClassVar[OpName] = "coincidence"

    def operands(self, shape: Shape) -> dict[str, Shape]:
        """k, v and q, each of the population's shape. Raises ModelError where the heads do not divide its channels."""
        if shape[0] % self.heads:
            raise ModelError(f"coincidence with {self.heads} heads does not divide {shape[0]} channels")
        return {"k": shape, "v": shape, "q": shape}


Op = OrPool | Gate | MaxPool | Coincidence


def pooled(shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Shape:
    """Output shape of a pooling. Raises ModelError when a window is larger than the padded input, or padding is more than half a window."""
    height = (shape[1] + 2 * padding[0] - kernel[0]) // stride[0] + 1
    width = (shape[2] + 2 * padding[1] - kernel[1]) // stride[1] + 1
    if height < 1 or width < 1:
        raise ModelError(f"max_pool kernel {kernel} is larger than the padded input {shape[1]} x {shape[2]}")
    if padding[0] * 2 > kernel[0] or padding[1] * 2 > kernel[1]:
        raise ModelError(f"max_pool padding {padding} is more than half of the kernel {kernel}, so a window could lie in the padding alone")
    return shape[0], height, width


def group_of(op: Gate, shape: Shape) -> NDArray[np.int64]:
    """(c, y, x) -> flat index (c, y, x) of the neuron's group, int64 of the population's shape."""
    parts = [np.arange(n) // (n // g) for n, g in zip(shape, op.groups, strict=True)]
    gy, gx = op.groups[1:]
    return np.asarray((parts[0][:, None, None] * gy + parts[1][None, :, None]) * gx + parts[2][None, None, :])


def windows(x: NDArray[Any], op: MaxPool, shape: Shape) -> NDArray[Any]:
    """Largest of every window of x [n, c, y, x] -> [n, *shape], in x's own type."""
    low = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    (py, px), (sy, sx) = op.padding, op.stride
    wide = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)), constant_values=low)
    result = np.full((len(x), *shape), low, x.dtype)
    for ky in range(op.kernel[0]):
        for kx in range(op.kernel[1]):
            part = wide[:, :, ky : ky + (shape[1] - 1) * sy + 1 : sy, kx : kx + (shape[2] - 1) * sx + 1 : sx]
            np.maximum(result, part, out=result)
    return result


def coincide(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], heads: int) -> NDArray[Any]:
    """sum over a of q times (sum over tokens of k times v), without scale; q, k, v [n, c, y, x] of one type, the result too."""
    n, c, y, x = q.shape
    a, b, d = (m.reshape(n, heads, c // heads, y * x) for m in (k, v, q))
    table = np.matmul(a, b.swapaxes(2, 3))  # [n, heads, k channel, v channel]
    product: NDArray[Any] = np.matmul(table.swapaxes(2, 3), d)
    return product.reshape(n, c, y, x)
