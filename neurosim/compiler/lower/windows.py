"""Windows after windows: convolutions and sum-pools that follow each other as one convolution, poolings kept apart from kernels.

Pixels that a pooling adds up have the same weights, which a ``Conv2d`` with a ``pool`` stores once. So have, behind a convolution whose outputs a
mean adds up, all pixels at the same place between its strides that are equally far from the border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.matrices import unpooled
from neurosim.graph import Conv2d, Dense, LinearMap, Pooling, Shape, SumPool, windows_of

Array = NDArray[Any]


def identity(channels: int, factor: float | Array = 1.0) -> SumPool:
    """x times a number per channel."""
    return SumPool(np.broadcast_to(np.asarray(factor, np.float64).reshape(-1), (channels,)).copy())


def is_identity(stage: object) -> bool:
    """True for a weight per channel and nothing else."""
    return isinstance(stage, SumPool) and stage.op == "identity" and stage.padding == (0, 0)


def _as_conv(m: Conv2d | SumPool) -> Conv2d:
    if isinstance(m, Conv2d):
        return m
    weight = np.broadcast_to(m.weight[:, None, None, None], (len(m.weight), 1, *m.kernel))
    return Conv2d(weight, m.stride, m.padding, (1, 1), len(m.weight))


def ungrouped(m: Conv2d) -> Array:
    """The weight of the same convolution with one group."""
    if m.groups == 1:
        return m.weight
    out, inputs = len(m.weight) // m.groups, m.weight.shape[1]
    wide = np.zeros((len(m.weight), inputs * m.groups, *m.weight.shape[2:]), m.weight.dtype)
    for g in range(m.groups):
        wide[g * out : (g + 1) * out, g * inputs : (g + 1) * inputs] = m.weight[g * out : (g + 1) * out]
    return wide


def _tiles(a: Conv2d, shape: Shape) -> bool:
    """a's windows lie side by side over the whole input, so beside its output it would see nothing but zeros."""
    extent = [(a.weight.shape[2 + k] - 1) * a.dilation[k] + 1 for k in range(2)]
    return a.padding == (0, 0) and all(extent[k] <= a.stride[k] and shape[1 + k] % a.stride[k] == 0 for k in range(2))


def pools(m: Conv2d | SumPool, shape: Shape) -> bool:
    """Whether a map begins with a pooling that can be kept apart from its kernel."""
    return _apart(m, shape)[0] is not None


def as_kernel(m: Dense, source: Shape) -> Conv2d:
    """A dense map onto single pixels as a kernel over the whole source."""
    return Conv2d(m.weight.reshape(len(m.weight), *source))


def fuse_windows(a: Conv2d | SumPool, b: Conv2d | SumPool, shape: Shape, limit: int) -> list[LinearMap] | None:
    """One map for b after a on an input of ``shape``, with at most ``limit`` weights; None where there is none."""
    before, kernel = _apart(a, shape)
    after, rest = _apart(b, a.out_shape(shape))
    if before is None and after is None:
        return _joined(a, b, shape, limit)
    if (isinstance(kernel, SumPool) and is_identity(kernel)) or (isinstance(kernel, Conv2d) and _pointwise(kernel)):
        # what acts on each pixel alone does not care whether pixels are added up before or after
        both = before if after is None else after if before is None else _composed(before, after)
        assert both is not None, "one of them pools"
        return _behind(both, _joined(kernel, rest, both.out_shape(shape), limit))
    pooled = shape if before is None else before.out_shape(shape)
    if isinstance(b, Conv2d) and b.pool is not None:
        found = _classed(_as_conv(kernel), b, pooled, limit)
        if found is not None:
            return [found if before is None else replace(found, pool=_composed(before, found.pool))]
        plain = unpooled(b, limit)
        return None if plain is None else _behind(before, _joined(kernel, plain, pooled, limit))
    return _behind(before, _joined(kernel, b, pooled, limit))


def _apart(m: Conv2d | SumPool, shape: Shape) -> tuple[Pooling | None, Conv2d | SumPool]:
    """(pooling, what follows it) of a map. A sum-pool is one where its windows lie side by side without padding, or where it has only one."""
    if isinstance(m, Conv2d):
        return m.pool, replace(m, pool=None)
    if m.padding != (0, 0) or m.kernel == (1, 1) or any(m.kernel[k] not in (m.stride[k], shape[1 + k]) for k in range(2)):
        return None, m
    return windows_of(shape, m.kernel), identity(len(m.weight), m.weight)


def _composed(first: Pooling, second: Pooling | None) -> Pooling:
    """Pooling after pooling."""
    if second is None:
        return first
    rows, columns = (np.where(a >= 0, b[a], -1) for a, b in zip(first.axes, second.axes, strict=True))
    return Pooling(rows, columns)


def _behind(pool: Pooling | None, stages: Sequence[LinearMap] | None) -> list[LinearMap] | None:
    """A fused map behind a pooling."""
    if stages is None or pool is None:
        return None if stages is None else list(stages)
    (m,) = stages
    assert isinstance(m, Conv2d | SumPool), "windows join to windows"
    return [replace(_as_conv(m), pool=pool)]


def _classed(a: Conv2d, b: Conv2d, shape: Shape, limit: int) -> Conv2d | None:
    """b, which gives single pixels from a pooling, after a: rows and columns of the input are added up that meet the same kernel positions of both.

    None where b gives more, where hardly any rows and columns are alike, or above ``limit`` weights.
    """
    out = a.out_shape(shape)
    if b.out_shape(out)[1:] != (1, 1):
        return None
    assert b.pool is not None
    axes, pairs = [], []
    for k in range(2):
        seen = b.pool.axes[k] + b.padding[k]
        position = np.where(
            (b.pool.axes[k] >= 0) & (seen % b.dilation[k] == 0) & (seen < b.dilation[k] * b.weight.shape[2 + k]), seen // b.dilation[k], -1
        )
        kernel, place = np.meshgrid(np.arange(a.weight.shape[2 + k]), np.arange(out[1 + k]), indexing="ij")
        read = place * a.stride[k] + kernel * a.dilation[k] - a.padding[k]
        hit = (read >= 0) & (read < shape[1 + k]) & (position[place] >= 0)
        met: list[list[tuple[int, int]]] = [[] for _ in range(shape[1 + k])]
        for at, pair in zip(read[hit].tolist(), zip(kernel[hit].tolist(), position[place][hit].tolist(), strict=True), strict=True):
            met[at].append(pair)
        kinds = sorted({tuple(sorted(some)) for some in met if some})
        number = {kind: n for n, kind in enumerate(kinds)}
        axes.append(np.array([number.get(tuple(sorted(some)), -1) for some in met], np.int64))
        times = np.zeros((len(kinds), a.weight.shape[2 + k], b.weight.shape[2 + k]))
        for n, kind in enumerate(kinds):
            np.add.at(times[n], tuple(np.array(kind).T), 1)
        pairs.append(times)
    size = len(pairs[0]) * len(pairs[1])
    if size == 0 or 2 * size > shape[1] * shape[2] or len(b.weight) * shape[0] * size > limit:
        return None
    outputs, inputs = len(a.weight) // a.groups, a.weight.shape[1]
    heads = ungrouped(b).reshape(len(b.weight), a.groups, -1)
    parts = []
    for g in range(a.groups):
        middle = np.einsum("oikl,rka,slb->oabirs", a.weight[g * outputs : (g + 1) * outputs], *pairs, optimize=True)
        parts.append((heads[:, g] @ middle.reshape(heads.shape[2], -1)).reshape(len(heads), inputs, len(pairs[0]), len(pairs[1])))
    return Conv2d(np.concatenate(parts, axis=1), pool=Pooling(axes[0], axes[1]))


def _pointwise(m: Conv2d) -> bool:
    return m.weight.shape[2:] == (1, 1) and m.stride == (1, 1) and m.padding == (0, 0)


def _joined(a: Conv2d | SumPool, b: Conv2d | SumPool, shape: Shape, limit: int) -> list[LinearMap] | None:
    """One convolution for two without pooling on an input of ``shape``.

    Zeros that b pads around a's output must be zeros of the fused one too: b pads nothing, or a looks at one pixel, or a's windows tile its input (a
    pooling before a padded convolution).
    """
    if is_identity(a) and is_identity(b):
        return [identity(len(a.weight), a.weight * b.weight)]
    if isinstance(b, SumPool) and is_identity(a):
        return [replace(b, weight=b.weight * a.weight)]
    if isinstance(a, SumPool) and is_identity(b):
        return [replace(a, weight=a.weight * b.weight)]
    ca, cb = _as_conv(a), _as_conv(b)
    pointwise = _pointwise(ca)
    if cb.padding != (0, 0) and not pointwise and not _tiles(ca, shape):
        return None
    depth_a, depth_b = ca.weight.shape[1] == 1 and ca.groups == len(ca.weight), cb.weight.shape[1] == 1 and cb.groups == len(cb.weight)
    if depth_b:
        groups, inputs = ca.groups, ca.weight.shape[1]
    elif depth_a:
        groups, inputs = cb.groups, cb.weight.shape[1]
    else:
        groups, inputs = 1, ca.weight.shape[1] * ca.groups
    (ky, kx), (ly, lx) = ca.weight.shape[2:], cb.weight.shape[2:]
    step = (cb.dilation[0] * ca.stride[0], cb.dilation[1] * ca.stride[1])
    reach = ((ky - 1) * ca.dilation[0], (kx - 1) * ca.dilation[1])
    simple = (ly, lx) == (1, 1)  # then a's dilation survives
    dilation = ca.dilation if simple else (1, 1)
    if pointwise:
        kernel, dilation = (ly, lx), cb.dilation
    elif simple:
        kernel = (ky, kx)
    else:
        kernel = ((ly - 1) * step[0] + reach[0] + 1, (lx - 1) * step[1] + reach[1] + 1)
    if len(cb.weight) * inputs * kernel[0] * kernel[1] > limit:
        return None
    weight = np.zeros((len(cb.weight), inputs, *kernel))
    wa, wb = (ca.weight, cb.weight) if depth_a or depth_b else (ungrouped(ca), ungrouped(cb))
    for y in range(ly):
        for x in range(lx):
            if depth_b:
                part = wa * wb[:, 0, y, x][:, None, None, None]
            elif depth_a:
                per_group = wa[:, 0].reshape(groups, inputs, ky, kx)
                part = wb[:, :, y, x][:, :, None, None] * np.repeat(per_group, len(wb) // groups, axis=0)
            else:
                part = np.einsum("om,mikl->oikl", wb[:, :, y, x], wa)
            if pointwise:
                weight[:, :, y, x] += part[:, :, 0, 0]
            elif simple:
                weight += part
            else:
                weight[
                    :, :, y * step[0] : y * step[0] + reach[0] + 1 : ca.dilation[0], x * step[1] : x * step[1] + reach[1] + 1 : ca.dilation[1]
                ] += part
    padding = (ca.padding[0] + cb.padding[0] * ca.stride[0], ca.padding[1] + cb.padding[1] * ca.stride[1])
    return [Conv2d(weight, (ca.stride[0] * cb.stride[0], ca.stride[1] * cb.stride[1]), padding, dilation, groups)]
