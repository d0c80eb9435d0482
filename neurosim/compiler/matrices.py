"""Linear maps written out: a matrix (outputs, inputs) as a map, and a map as a matrix. Used where nothing more compact exists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.golden.maps import apply_map, transpose_map
from neurosim.graph import Dense, LinearMap, Shape, Sparse

Array = NDArray[Any]


def matrix_map(matrix: Array, shape: Shape) -> LinearMap:
    """A matrix (outputs, inputs) as Dense, or as Sparse where less than a quarter of it is non-zero."""
    if np.count_nonzero(matrix) * 4 >= matrix.size:
        return Dense(np.ascontiguousarray(matrix), shape)
    rows, targets = np.nonzero(matrix.T)
    indptr = np.zeros(matrix.shape[1] + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=matrix.shape[1]), out=indptr[1:])
    return Sparse(indptr, targets.astype(np.int64), matrix.T[rows, targets], shape)


def sparse_to_dense(m: Sparse) -> Dense:
    """The same map with its zeros stored."""
    matrix = np.zeros((math.prod(m.shape), len(m.indptr) - 1), m.weight.dtype)
    matrix[m.targets, np.repeat(np.arange(len(m.indptr) - 1), np.diff(m.indptr))] = m.weight
    return Dense(matrix, m.shape)


def matrix_of(m: LinearMap, source: Shape) -> Array:
    """One map as (outputs, inputs): rows pulled back through its adjoint, or columns pushed forward, whichever are fewer."""
    shape = m.out_shape(source)
    outputs, inputs = math.prod(shape), math.prod(source)
    if outputs <= inputs:
        return np.ascontiguousarray(transpose_map(m, np.eye(outputs).reshape(outputs, *shape), source).reshape(outputs, inputs))
    return np.ascontiguousarray(apply_map(m, np.eye(inputs).reshape(inputs, *source)).reshape(inputs, outputs).T)
