"""Chains of linear stages between two spike layers, and how neighbours fuse into one compact map.

A stage is a map of ``neurosim.graph``, a ``Place`` (the channels of the input become channels of a wider tensor, the rest is 0) or a ``Reshape``
(same values in the order c, y, x). ``append`` fuses where that stays small; ``finish`` ends with one map and a channel offset, at worst by writing
the whole chain out as a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.matrices import MATRIX_LIMIT, matrix_map
from neurosim.compiler.sparse_maps import sparse_map
from neurosim.golden.maps import apply_map, transpose_map
from neurosim.graph import Conv2d, Dense, LinearMap, Shape, Sparse, SumPool, TokenMix

Array = NDArray[Any]

CHEAP = 4
"""Fuse on the way while the result holds at most so many times the weights of its parts."""


@dataclass(frozen=True)
class Place:
    """Channels [offset, offset + input channels) of a tensor with ``channels`` channels."""

    offset: int
    channels: int


@dataclass(frozen=True)
class Reshape:
    """The same values under another shape."""

    shape: Shape


Stage = LinearMap | Place | Reshape
Chain = tuple[Stage, ...]


def identity(channels: int, factor: float | Array = 1.0) -> SumPool:
    """x times a number per channel."""
    return SumPool(np.broadcast_to(np.asarray(factor, np.float64).reshape(-1), (channels,)).copy())


def is_identity(stage: Stage) -> bool:
    """True for a weight per channel and nothing else."""
    return isinstance(stage, SumPool) and stage.op == "identity" and stage.padding == (0, 0)


def stage_shape(stage: Stage, shape: Shape) -> Shape:
    """Output shape of a stage."""
    if isinstance(stage, Place):
        return (stage.channels, *shape[1:])
    return stage.shape if isinstance(stage, Reshape) else stage.out_shape(shape)


def shapes(chain: Sequence[Stage], source: Shape) -> list[Shape]:
    """Shapes before and after every stage."""
    result = [source]
    for stage in chain:
        result.append(stage_shape(stage, result[-1]))
    return result


def append(chain: Chain, stage: Stage, source: Shape) -> Chain:
    """The chain followed by ``stage``, fused where that stays cheap."""
    return _fuse_all((*chain, stage), source, cheap=True)


def finish(chain: Chain, source: Shape) -> tuple[LinearMap, int] | None:
    """(map, channel offset of its output), or None where neither fusing nor a matrix of MATRIX_LIMIT entries nor a sparse map expresses the chain."""
    compact = _single(chain, source)
    if compact is not None:
        return compact
    fused = _single(_fuse_all(chain, source, cheap=False), source)
    after = shapes(chain, source)
    outputs, inputs = math.prod(after[-1]), math.prod(source)
    if fused is not None and (fused[0].weight.size <= outputs * inputs or outputs * inputs > MATRIX_LIMIT):
        return fused
    if outputs * inputs > MATRIX_LIMIT:
        return _sparsely(chain, source)
    return matrix_map(written_out(chain, source), after[-1]), 0


def _sparsely(chain: Chain, source: Shape) -> tuple[LinearMap, int] | None:
    """The chain synapse by synapse; a Place may end it."""
    place = chain[-1] if chain and isinstance(chain[-1], Place) else None
    stages = chain[:-1] if place is not None else chain
    if any(isinstance(stage, Place) for stage in stages):
        return None
    after = shapes(stages, source)
    maps = [(stage, shape) for stage, shape in zip(stages, after[:-1], strict=True) if not isinstance(stage, Place | Reshape)]
    found = sparse_map(maps, source, after[-1])
    return None if found is None else (found, 0 if place is None else place.offset)


def _single(chain: Chain, source: Shape) -> tuple[LinearMap, int] | None:
    match chain:
        case ():
            return identity(source[0]), 0
        case (Place() as place,):
            return identity(source[0]), place.offset
        case (Reshape(),):
            return None
        case (Conv2d() | Dense() | TokenMix() | SumPool() | Sparse() as stage,):
            return stage, 0
        case (Conv2d() | Dense() | TokenMix() | SumPool() | Sparse() as stage, Place() as place):
            return stage, place.offset
    return None


def written_out(chain: Chain, source: Shape) -> Array:
    """The chain as (outputs, inputs): rows pushed back through the adjoints, or columns pushed forward, whichever are fewer."""
    after = shapes(chain, source)
    outputs, inputs = math.prod(after[-1]), math.prod(after[0])
    if outputs <= inputs:
        x = np.eye(outputs).reshape(outputs, *after[-1])
        for stage, before in zip(reversed(chain), reversed(after[:-1]), strict=True):
            if isinstance(stage, Place):
                x = x[:, stage.offset : stage.offset + before[0]]
            else:
                x = x.reshape(outputs, *before) if isinstance(stage, Reshape) else transpose_map(stage, x, before)
        return np.ascontiguousarray(x.reshape(outputs, inputs))
    x = np.eye(inputs).reshape(inputs, *after[0])
    for stage, shape in zip(chain, after[1:], strict=True):
        if isinstance(stage, Place):
            wide = np.zeros((inputs, *shape))
            wide[:, stage.offset : stage.offset + x.shape[1]] = x
            x = wide
        else:
            x = x.reshape(inputs, *shape) if isinstance(stage, Reshape) else apply_map(stage, x)
    return np.ascontiguousarray(x.reshape(inputs, outputs).T)


def _fuse_all(chain: Chain, source: Shape, *, cheap: bool) -> Chain:
    stages = list(chain)
    k = 0
    while k < len(stages) - 1:
        before = shapes(stages[:k], source)[-1]
        fused = fuse(stages[k], stages[k + 1], before, CHEAP * _weights(stages[k : k + 2]) if cheap else MATRIX_LIMIT)
        if fused is None:
            k += 1
            continue
        stages[k : k + 2] = fused
        k = max(k - 1, 0)
    if len(stages) == 1 and is_identity(stages[0]) and np.all(stages[0].weight == 1):  # type: ignore[union-attr]  # an identity has weights
        return ()
    return tuple(stages)


def _weights(stages: Sequence[Stage]) -> int:
    return sum(stage.weight.size for stage in stages if not isinstance(stage, Place | Reshape))


def fuse(a: Stage, b: Stage, shape: Shape, limit: int = MATRIX_LIMIT) -> list[Stage] | None:
    """Stages that compute b after a for an input of ``shape``, simpler than [a, b]; None where there are none with at most ``limit`` weights."""
    match a, b:
        case Place(), Place():
            return [Place(a.offset + b.offset, b.channels)]
        case Place(), Reshape():
            pixels = shape[1] * shape[2]
            if (b.shape[0], b.shape[1] * b.shape[2]) == (a.channels, pixels):
                return [Reshape((shape[0], *b.shape[1:])), a]
            if b.shape != (a.channels * pixels, 1, 1):
                return None
            return [Reshape((shape[0] * pixels, 1, 1)), Place(a.offset * pixels, a.channels * pixels)]
        case Place(), _:
            return _restrict(a, b, shape)  # type: ignore[arg-type]  # Place and Reshape are taken above
        case Reshape(), Reshape():
            return [b] if b.shape != shape else []
        case Reshape(), Dense() | Sparse():
            return [b]
        case Dense(), Reshape():
            return [Dense(a.weight, b.shape)]
        case Sparse(), Reshape():
            return [replace(a, shape=b.shape)]
        case Dense(), Dense():
            return [Dense(b.weight @ a.weight, b.shape)]
        case Reshape(), _ if a.shape[0] == shape[0] and _per_pixel(b):
            return [b, Reshape(stage_shape(b, a.shape))]
        case Reshape(), SumPool() if a.shape[0] == shape[0] and b.kernel == a.shape[1:] and b.padding == (0, 0):
            return [replace(b, kernel=shape[1:], stride=shape[1:])]
        case (Reshape(), _) | (_, Place()) | (_, Reshape()):
            return None
        case Conv2d() | SumPool(), Conv2d() | SumPool():
            return _fuse_windows(a, b, shape, limit)
        case (SumPool(), _) if is_identity(a):
            return _scale_input(a.weight, b, shape)
        case (_, SumPool()) if is_identity(b):
            return _scale_output(a, b.weight, shape)
        case TokenMix(), TokenMix() if a.weight.shape == b.weight.shape:
            return [TokenMix(np.matmul(b.weight, a.weight))]
    return None


def _per_pixel(stage: Stage) -> bool:
    """Whether pixels may be arranged anew before or after the stage: it knows them by their number, or does the same to each."""
    match stage:
        case Conv2d():
            return stage.weight.shape[2:] == (1, 1) and stage.stride == (1, 1) and stage.padding == (0, 0)
        case TokenMix():
            return True
    return is_identity(stage)


def _restrict(place: Place, b: LinearMap, shape: Shape) -> list[Stage]:
    """b after a Place: the part of b that reads the placed channels, placed where its output belongs."""
    first, count = place.offset, shape[0]
    match b:
        case SumPool():
            return [replace(b, weight=b.weight[first : first + count]), place]
        case Dense():
            columns = b.weight.reshape(len(b.weight), place.channels, -1)[:, first : first + count]
            return [Dense(np.ascontiguousarray(columns).reshape(len(b.weight), -1), b.shape)]
        case Sparse():
            pixels = shape[1] * shape[2]
            ends = b.indptr[first * pixels : (first + count) * pixels + 1]
            return [Sparse(ends - ends[0], b.targets[ends[0] : ends[-1]], b.weight[ends[0] : ends[-1]], b.shape)]
        case TokenMix():
            head = place.channels // len(b.weight)
            step = math.gcd(first, count, head)
            return [TokenMix(b.weight[(first + np.arange(0, count, step)) // head]), place]
        case Conv2d():
            inputs = b.weight.shape[1]
            outputs = len(b.weight) // b.groups
            g0, g1 = first // inputs, -(-(first + count) // inputs)
            rows = b.weight[g0 * outputs : g1 * outputs]
            if first % inputs == 0 and count % inputs == 0:
                part = replace(b, weight=rows, groups=g1 - g0)
            else:
                wide = _ungrouped(replace(b, weight=rows, groups=g1 - g0))
                part = replace(b, weight=wide[:, first - g0 * inputs : first - g0 * inputs + count], groups=1)
            return [part] if (g0, g1) == (0, b.groups) else [part, Place(g0 * outputs, len(b.weight))]


def _scale_input(factor: Array, b: Stage, shape: Shape) -> list[Stage] | None:
    match b:
        case Dense():
            return [Dense(b.weight * np.repeat(factor, shape[1] * shape[2]), b.shape)]
        case Sparse():
            return [replace(b, weight=b.weight * np.repeat(np.repeat(factor, shape[1] * shape[2]), np.diff(b.indptr)))]
        case TokenMix():
            return _scale_heads(b, factor, shape)
    return None


def _scale_output(a: Stage, factor: Array, shape: Shape) -> list[Stage] | None:
    match a:
        case Dense():
            return [Dense(a.weight * np.repeat(factor, a.shape[1] * a.shape[2])[:, None], a.shape)]
        case Sparse():
            return [replace(a, weight=a.weight * factor[a.targets // (a.shape[1] * a.shape[2])])]
        case TokenMix():
            return _scale_heads(a, factor, shape)
    return None


def _scale_heads(m: TokenMix, factor: Array, shape: Shape) -> list[Stage]:
    """A weight per channel goes into the heads; a head whose channels differ becomes several."""
    per_head = factor.reshape(len(m.weight), -1)
    if np.all(per_head == per_head[:, :1]):
        return [TokenMix(m.weight * per_head[:, :1, None])]
    return [TokenMix(np.repeat(m.weight, shape[0] // len(m.weight), axis=0) * factor[:, None, None])]


def _as_conv(m: Conv2d | SumPool) -> Conv2d:
    if isinstance(m, Conv2d):
        return m
    weight = np.broadcast_to(m.weight[:, None, None, None], (len(m.weight), 1, *m.kernel))
    return Conv2d(weight, m.stride, m.padding, (1, 1), len(m.weight))


def _ungrouped(m: Conv2d) -> Array:
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


def _fuse_windows(a: Conv2d | SumPool, b: Conv2d | SumPool, shape: Shape, limit: int) -> list[Stage] | None:
    """One convolution for two on an input of ``shape``. Zeros that b pads around a's output must be zeros of the fused one too: b pads nothing, or a
    looks at one pixel, or a's windows tile its input (a pooling before a padded convolution)."""
    if is_identity(a) and is_identity(b):
        return [identity(len(a.weight), a.weight * b.weight)]
    if isinstance(b, SumPool) and is_identity(a):
        return [replace(b, weight=b.weight * a.weight)]
    if isinstance(a, SumPool) and is_identity(b):
        return [replace(a, weight=a.weight * b.weight)]
    ca, cb = _as_conv(a), _as_conv(b)
    pointwise = ca.weight.shape[2:] == (1, 1) and ca.stride == (1, 1) and ca.padding == (0, 0)
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
    wa, wb = (ca.weight, cb.weight) if depth_a or depth_b else (_ungrouped(ca), _ungrouped(cb))
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


def merge(a: LinearMap, b: LinearMap) -> LinearMap | None:
    """a + b as one map where their geometry allows, else None."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Conv2d) and isinstance(y, SumPool) and is_identity(y):
            centre = (x.padding[0] // x.dilation[0], x.padding[1] // x.dilation[1])
            whole = (
                (centre[0] * x.dilation[0], centre[1] * x.dilation[1]) == x.padding
                and centre[0] < x.weight.shape[2]
                and centre[1] < x.weight.shape[3]
            )
            if x.stride != (1, 1) or not whole or len(y.weight) != len(x.weight) or x.weight.shape[1] * x.groups != len(y.weight):
                return None
            weight = np.array(x.weight)
            rows = np.arange(len(weight))
            weight[rows, rows % x.weight.shape[1], centre[0], centre[1]] += y.weight
            return replace(x, weight=weight)
    if type(a) is not type(b) or isinstance(a, Sparse) or a.weight.shape != b.weight.shape:
        return None
    if not _same_geometry(a, b):
        return None
    return replace(a, weight=a.weight + b.weight)


def _same_geometry(a: LinearMap, b: LinearMap) -> bool:
    keys = ("stride", "padding", "dilation", "groups", "kernel", "shape")
    return all(getattr(a, key, None) == getattr(b, key, None) for key in keys)
