"""Linear maps between populations, kept compact: convolution, dense, token mixing, sum-pool, sparse. Shapes are (channels, height, width)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ModelError
from neurosim.ops import Shape

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Pooling:
    """A map added up into a smaller one: row y into row ``rows[y]``, column x into ``columns[x]``, each an int64 per row or column; -1: not read."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def axes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns."""
        return self.rows, self.columns

    def out_shape(self, shape: Shape) -> Shape:
        """Shape of the smaller map; raises ModelError when the input is of another size, or nothing of it is read."""
        if (len(self.rows), len(self.columns)) != shape[1:] or min(self.rows.max(), self.columns.max()) < 0:
            raise ModelError(f"a pooling of {len(self.rows)} x {len(self.columns)} pixels does not fit {shape[1]} x {shape[2]}")
        return shape[0], int(self.rows.max()) + 1, int(self.columns.max()) + 1

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many rows, and how many columns, are added into each."""
        rows, columns = (np.bincount(axis[axis >= 0], minlength=int(axis.max()) + 1) for axis in self.axes)
        return rows, columns

    def same(self, other: Pooling | None) -> bool:
        """Whether the other is this one."""
        return other is not None and all(np.array_equal(a, b) for a, b in zip(self.axes, other.axes, strict=True))


def windows_of(shape: Shape, size: tuple[int, int]) -> Pooling:
    """The pooling of ``shape`` over windows of ``size`` side by side; what fills no window is not read."""
    places = [np.arange(shape[1 + k], dtype=np.int64) for k in range(2)]
    rows, columns = (np.where(at < len(at) // side * side, at // side, -1) for at, side in zip(places, size, strict=True))
    return Pooling(rows, columns)


@dataclass(frozen=True)
class Conv2d:
    """y[o, Y, X] = sum w[o, i, ky, kx] p[i, Y*sy + ky*dy - py, X*sx + kx*dx - px], zero padded; weight (out, in/groups, ky, kx).

    p is x, or with a ``pool`` what it adds x up to: then pixels that are added have one weight, as those of an average pool before a convolution, or
    all of them before a mean and a dense layer.
    """

    weight: Array
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pool: Pooling | None = None

    @property
    def op(self) -> str:
        """conv2d or pooled_conv2d, as the chip sees it."""
        return "conv2d" if self.pool is None else "pooled_conv2d"

    def pooled(self, shape: Shape) -> Shape:
        """Shape of what the kernel reads of an input of ``shape``."""
        return shape if self.pool is None else self.pool.out_shape(shape)

    def out_shape(self, shape: Shape) -> Shape:
        """Output shape for an input of ``shape``; raises ModelError when they do not fit."""
        shape = self.pooled(shape)
        out, per_group, ky, kx = self.weight.shape
        if shape[0] != per_group * self.groups or out % self.groups:
            raise ModelError(f"conv2d weight {self.weight.shape} with {self.groups} groups does not fit input channels {shape[0]}")
        height = (shape[1] + 2 * self.padding[0] - self.dilation[0] * (ky - 1) - 1) // self.stride[0] + 1
        width = (shape[2] + 2 * self.padding[1] - self.dilation[1] * (kx - 1) - 1) // self.stride[1] + 1
        if height < 1 or width < 1:
            raise ModelError(f"conv2d kernel {ky} x {kx} is larger than the padded input {shape[1]} x {shape[2]}")
        return out, height, width


@dataclass(frozen=True)
class Dense:
    """y = W x over flattened (c, y, x) arrays; weight (outputs, inputs); ``shape`` is the shape of y."""

    weight: Array
    shape: Shape

    op = "dense"

    def out_shape(self, shape: Shape) -> Shape:
        """Output shape for an input of ``shape``; raises ModelError when they do not fit."""
        if self.weight.shape != (int(np.prod(self.shape)), int(np.prod(shape))):
            raise ModelError(f"dense weight {self.weight.shape} does not map {shape} to {self.shape}")
        return self.shape


@dataclass(frozen=True)
class TokenMix:
    """y[c, n'] = sum over n of w[head(c), n', n] x[c, n]; tokens n are pixels row by row, head(c) = c // (channels / heads).

    weight (heads, n', n).
    """

    weight: Array

    op = "token_mix"

    def out_shape(self, shape: Shape) -> Shape:
        """Output shape for an input of ``shape``; raises ModelError when they do not fit."""
        heads, out, tokens = self.weight.shape
        if shape[0] % heads or tokens != shape[1] * shape[2] or out != tokens:
            raise ModelError(f"token mixing weight {self.weight.shape} does not fit {shape[0]} channels of {shape[1] * shape[2]} tokens")
        return shape


@dataclass(frozen=True)
class SumPool:
    """y[c, Y, X] = w[c] * sum over the window of x[c]; weight (channels,). Kernel and stride 1: an identity with a weight per channel."""

    weight: Array
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    @property
    def op(self) -> str:
        """identity or sum_pool, as the chip sees it."""
        return "identity" if self.kernel == (1, 1) and self.stride == (1, 1) else "sum_pool"

    def out_shape(self, shape: Shape) -> Shape:
        """Output shape for an input of ``shape``; raises ModelError when they do not fit."""
        if self.weight.shape != (shape[0],):
            raise ModelError(f"pool weight {self.weight.shape} does not fit {shape[0]} channels")
        height = (shape[1] + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1
        width = (shape[2] + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1
        if height < 1 or width < 1:
            raise ModelError(f"pool kernel {self.kernel} is larger than the padded input {shape[1]} x {shape[2]}")
        return shape[0], height, width


def stable_order(keys: NDArray[np.integer[Any]], bound: int) -> NDArray[np.int64]:
    """Order that sorts keys of 0 .. bound - 1, equal ones as they stand: ``argsort`` by the sort of plain words, which is several times as fast."""
    bits = max(1, len(keys) - 1).bit_length()
    if bound.bit_length() + bits > 63:
        return np.argsort(keys, kind="stable")
    words = (keys.astype(np.int64) << bits) | np.arange(len(keys))
    words.sort()
    words &= (1 << bits) - 1
    return words


@dataclass(frozen=True)
class Sparse:
    """y = W x over flattened (c, y, x) arrays, W in compressed rows by source: targets[indptr[i]:indptr[i+1]] with weights; ``shape`` of y."""

    indptr: NDArray[np.int64]
    targets: NDArray[np.int64]
    weight: Array
    shape: Shape

    op = "sparse"

    @cached_property
    def origin(self) -> NDArray[np.int64]:
        """[synapses] source of each, (c, y, x)-flat."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    @cached_property
    def incoming(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(pointer [targets + 1], order [synapses]): order[pointer[t]:pointer[t + 1]] are the synapses into target t, ascending."""
        size = int(np.prod(self.shape))
        pointer = np.concatenate([[0], np.cumsum(np.bincount(self.targets, minlength=size))]).astype(np.int64)
        return pointer, stable_order(self.targets, size)

    def out_shape(self, shape: Shape) -> Shape:
        """Output shape for an input of ``shape``; raises ModelError when they do not fit."""
        if len(self.indptr) != int(np.prod(shape)) + 1:
            raise ModelError(f"sparse map of {len(self.indptr) - 1} rows does not fit source {shape}")
        return self.shape


LinearMap = Conv2d | Dense | TokenMix | SumPool | Sparse
