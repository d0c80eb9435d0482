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

from neurosim.compiler.lower.windows import as_kernel, fuse_windows, identity, is_identity, pools, ungrouped
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


def fuse(a: Stage, b: Stage, shape: Shape, limit: int = MATRIX_LIMIT) -> Sequence[Stage] | None:
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
        case (_, Reshape()) if b.shape == stage_shape(a, shape):
            return [a]
        case Reshape(), _ if a.shape[0] == shape[0] and _per_pixel(b):
            return [b, Reshape(stage_shape(b, a.shape))]
        case Reshape(), SumPool() if a.shape[0] == shape[0] and b.kernel == a.shape[1:] and b.padding == (0, 0):
            return [replace(b, kernel=shape[1:], stride=shape[1:])]
        case (Reshape(), _) | (_, Place()) | (_, Reshape()):
            return None
        case (SumPool() | Conv2d(), Dense()) if b.shape[1:] == (1, 1) and pools(a, shape):
            return fuse_windows(a, as_kernel(b, a.out_shape(shape)), shape, limit)
        case Conv2d() | SumPool(), Conv2d() | SumPool():
            return fuse_windows(a, b, shape, limit)
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
                wide = ungrouped(replace(b, weight=rows, groups=g1 - g0))
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
            if (
                x.stride != (1, 1)
                or x.pool is not None
                or not whole
                or len(y.weight) != len(x.weight)
                or x.weight.shape[1] * x.groups != len(y.weight)
            ):
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
    if isinstance(a, Conv2d) and isinstance(b, Conv2d) and not (a.pool is b.pool is None or (a.pool is not None and a.pool.same(b.pool))):
        return False
    return all(getattr(a, key, None) == getattr(b, key, None) for key in keys)
