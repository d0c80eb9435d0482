"""Linear maps written out: a matrix (outputs, inputs) as a map, and a map as a matrix. Used where nothing more compact exists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.golden.maps import apply_map, transpose_map
from neurosim.graph import Conv2d, Dense, LinearMap, Shape, Sparse, stable_order, windows_of

Array = NDArray[Any]
I64 = NDArray[np.int64]

MATRIX_LIMIT = 2**24
"""Most entries (sources x targets) of a map that is written out as a matrix."""


def matrix_map(matrix: Array, shape: Shape) -> LinearMap:
    """A matrix (outputs, inputs) as Dense, or as Sparse where less than a quarter of it is non-zero."""
    if np.count_nonzero(matrix) * 4 >= matrix.size:
        return Dense(np.ascontiguousarray(matrix), shape)
    rows, targets = np.nonzero(matrix.T)
    indptr = np.zeros(matrix.shape[1] + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=matrix.shape[1]), out=indptr[1:])
    return Sparse(indptr, targets.astype(np.int64), matrix.T[rows, targets], shape)


def sparse_to_dense(m: Sparse) -> Dense | None:
    """The same map with its zeros stored; None where that takes more than MATRIX_LIMIT weights."""
    outputs, inputs = math.prod(m.shape), len(m.indptr) - 1
    if outputs * inputs > MATRIX_LIMIT:
        return None
    m = merged(m)
    matrix = np.zeros((outputs, inputs), m.weight.dtype)
    matrix[m.targets, m.origin] = m.weight
    return Dense(matrix, m.shape)


def merged(m: Sparse) -> Sparse:
    """The same map with ascending targets in every row, parallel synapses added; the map itself where it is so already."""
    if ascends(m):
        return m
    size = math.prod(m.shape)
    rows, targets, weight = merged_synapses(m.origin, m.targets, m.weight, size)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(m.indptr) - 1))])
    return Sparse(indptr.astype(np.int64), targets, weight, m.shape)


def ascends(m: Sparse) -> bool:
    """Whether no row has a target twice, or one behind a larger one."""
    follows = np.diff(m.targets) > 0
    starts = m.indptr[1:-1]
    follows[starts[(starts > 0) & (starts < len(m.targets))] - 1] = True  # a row begins where it likes
    return bool(follows.all())


def merged_synapses(rows: I64, targets: I64, weight: Array, size: int) -> tuple[I64, I64, Array]:
    """Synapses (row, target < ``size``, weight) in ascending order, those of one pair added up in the order in which they stand."""
    keys = rows * size + targets
    order = stable_order(keys, int(keys.max(initial=0)) + 1)
    keys = keys[order]
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[1:] != keys[:-1]
    first = np.flatnonzero(new)
    if len(first) == len(keys):
        total = weight[order]
    elif np.issubdtype(weight.dtype, np.integer):
        total = np.add.reduceat(weight[order], first)
    else:
        total = np.bincount(np.cumsum(new) - 1, weights=weight[order], minlength=len(first))
    return keys[first] // size, keys[first] % size, total


def unpooled(m: Conv2d, limit: int) -> Conv2d | None:
    """The same map without pooling, its kernel repeated in every window.

    None where that takes more than ``limit`` weights, where the pooling is not by windows of one size, or where the kernel would see pixels beside
    the last of them through its padding.
    """
    assert m.pool is not None
    size = int(np.count_nonzero(m.pool.rows == 0)), int(np.count_nonzero(m.pool.columns == 0))
    regular = min(size) > 0 and m.pool.same(windows_of((1, len(m.pool.rows), len(m.pool.columns)), size))
    if not regular or (m.padding != (0, 0) and any(np.any(axis < 0) for axis in m.pool.axes)):
        return None
    extent = [((m.weight.shape[2 + k] - 1) * m.dilation[k] + 1) * size[k] for k in range(2)]
    if m.weight.shape[0] * m.weight.shape[1] * extent[0] * extent[1] > limit:
        return None
    weight = np.zeros((*m.weight.shape[:2], *extent), m.weight.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            weight[:, :, y :: m.dilation[0] * size[0], x :: m.dilation[1] * size[1]] = m.weight
    stride, padding = ((a * size[0], b * size[1]) for a, b in (m.stride, m.padding))
    return Conv2d(weight, stride, padding, groups=m.groups)


def matrix_of(m: LinearMap, source: Shape) -> Array:
    """One map as (outputs, inputs): rows pulled back through its adjoint, or columns pushed forward, whichever are fewer."""
    shape = m.out_shape(source)
    outputs, inputs = math.prod(shape), math.prod(source)
    if outputs <= inputs:
        return np.ascontiguousarray(transpose_map(m, np.eye(outputs).reshape(outputs, *shape), source).reshape(outputs, inputs))
    return np.ascontiguousarray(apply_map(m, np.eye(inputs).reshape(inputs, *source)).reshape(inputs, outputs).T)
