"""Linear maps applied to whole arrays, as formulas and not as events: for golden models, for lowering and for bounds.

Arrays are (n, channels, height, width). Every function keeps the dtype of its arguments, so that int64 stays exact; for float types numpy's matrix
product uses BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.graph import Conv2d, Dense, LinearMap, Pooling, Shape, Sparse, SumPool, TokenMix

A = NDArray[Any]
CHUNK = 64  # images per im2col buffer


def apply_map(m: LinearMap, x: A) -> A:
    """y = m(x): (n, *source shape) -> (n, *m.out_shape)."""
    shape = m.out_shape(x.shape[1:])
    match m:
        case Conv2d():
            x = pooled(x, m.pool)
            return np.concatenate([_conv(m, x[k : k + CHUNK], shape) for k in range(0, len(x), CHUNK)]) if len(x) else _empty(m, x, shape)
        case Dense():
            return np.asarray(x.reshape(len(x), -1) @ m.weight.T).reshape(len(x), *shape)
        case TokenMix():
            heads, tokens, _ = m.weight.shape
            y: A = np.matmul(x.reshape(len(x), heads, -1, tokens), np.swapaxes(m.weight, 1, 2))
            return y.reshape(len(x), *shape)
        case SumPool():
            return _pool(m, x, shape)
        case Sparse():
            return _sparse(m, x, shape)


def transpose_map(m: LinearMap, y: A, source: Shape) -> A:
    """x = m^T(y): (n, *m.out_shape) -> (n, *source), the adjoint of ``apply_map``."""
    match m:
        case Conv2d():
            return _spread(_conv_transposed(m, y, m.pooled(source)), m.pool)
        case Dense():
            return np.asarray(y.reshape(len(y), -1) @ m.weight).reshape(len(y), *source)
        case TokenMix():
            heads, tokens, _ = m.weight.shape
            return np.asarray(np.matmul(y.reshape(len(y), heads, -1, tokens), m.weight)).reshape(len(y), *source)
        case SumPool():
            return _pool_transposed(m, y, source)
        case Sparse():
            flat = y.reshape(len(y), -1)
            contributions = flat[:, m.targets] * m.weight
            rows = np.repeat(np.arange(len(m.indptr) - 1), np.diff(m.indptr))
            x = np.zeros((len(m.indptr) - 1, len(y)), contributions.dtype)
            np.add.at(x, rows, contributions.T)
            return x.T.reshape(len(y), *source)


def pooled(x: A, pool: Pooling | None) -> A:
    """x with its rows and columns added up, (n, c, rows, columns) of the smaller map."""
    if pool is None:
        return x
    rows = np.stack([x[:, :, pool.rows == r].sum(axis=2, dtype=x.dtype) for r in range(pool.rows.max() + 1)], axis=2)
    return np.stack([rows[..., pool.columns == c].sum(axis=3, dtype=x.dtype) for c in range(pool.columns.max() + 1)], axis=3)


def _spread(x: A, pool: Pooling | None) -> A:
    """The adjoint of ``pooled``."""
    if pool is None:
        return x
    read = (pool.rows >= 0)[:, None] & (pool.columns >= 0)
    return np.where(read, x[:, :, pool.rows[:, None], pool.columns], 0).astype(x.dtype)


def _empty(m: Conv2d, x: A, shape: Shape) -> A:
    return np.zeros((0, *shape), np.result_type(x, m.weight))


def _padded(x: A, padding: tuple[int, int]) -> A:
    (py, px) = padding
    return np.pad(x, ((0, 0), (0, 0), (py, py), (px, px))) if py or px else x


def _tap(x: A, ky: int, kx: int, m: Conv2d, shape: Shape) -> A:
    """What kernel position (ky, kx) sees of a padded x: (n, channels, Y, X)."""
    y0, x0 = ky * m.dilation[0], kx * m.dilation[1]
    return x[:, :, y0 : y0 + (shape[1] - 1) * m.stride[0] + 1 : m.stride[0], x0 : x0 + (shape[2] - 1) * m.stride[1] + 1 : m.stride[1]]


def _conv(m: Conv2d, x: A, shape: Shape) -> A:
    out, per_group, height, width = m.weight.shape
    n, pixels = len(x), shape[1] * shape[2]
    padded = _padded(x, m.padding)
    if (height, width) == (1, 1):
        columns = np.ascontiguousarray(_tap(padded, 0, 0, m, shape)).reshape(n, m.groups, per_group, pixels)
    else:
        columns = np.empty((n, x.shape[1], height, width, shape[1], shape[2]), x.dtype)
        for ky in range(height):
            for kx in range(width):
                columns[:, :, ky, kx] = _tap(padded, ky, kx, m, shape)
        columns = columns.reshape(n, m.groups, per_group * height * width, pixels)
    return np.asarray(np.matmul(m.weight.reshape(m.groups, out // m.groups, -1), columns)).reshape(n, *shape)


def _conv_transposed(m: Conv2d, y: A, source: Shape) -> A:
    out, per_group, height, width = m.weight.shape
    n, shape = len(y), y.shape[1:]
    padded = np.zeros((n, source[0], source[1] + 2 * m.padding[0], source[2] + 2 * m.padding[1]), np.result_type(y, m.weight))
    grouped = y.reshape(n, m.groups, out // m.groups, -1)
    weight = m.weight.reshape(m.groups, out // m.groups, per_group, height, width)
    for ky in range(height):
        for kx in range(width):
            part = np.matmul(np.swapaxes(weight[..., ky, kx], 1, 2), grouped).reshape(n, source[0], *shape[1:])
            _tap(padded, ky, kx, m, shape)[...] += part
    return padded[:, :, m.padding[0] : m.padding[0] + source[1], m.padding[1] : m.padding[1] + source[2]]


def _windows(m: SumPool) -> Conv2d:
    return Conv2d(np.ones((1, 1, *m.kernel)), m.stride, m.padding)


def _pool(m: SumPool, x: A, shape: Shape) -> A:
    weight = m.weight[None, :, None, None]
    if m.op == "identity" and m.padding == (0, 0):
        return x * weight
    windows, padded = _windows(m), _padded(x, m.padding)
    total = np.zeros((len(x), *shape), x.dtype)
    for ky in range(m.kernel[0]):
        for kx in range(m.kernel[1]):
            total += _tap(padded, ky, kx, windows, shape)
    return total * weight


def _pool_transposed(m: SumPool, y: A, source: Shape) -> A:
    weighted = y * m.weight[None, :, None, None]
    padded = np.zeros((len(y), source[0], source[1] + 2 * m.padding[0], source[2] + 2 * m.padding[1]), weighted.dtype)
    windows, shape = _windows(m), y.shape[1:]
    for ky in range(m.kernel[0]):
        for kx in range(m.kernel[1]):
            _tap(padded, ky, kx, windows, shape)[...] += weighted
    return padded[:, :, m.padding[0] : m.padding[0] + source[1], m.padding[1] : m.padding[1] + source[2]]


def _sparse(m: Sparse, x: A, shape: Shape) -> A:
    rows = np.repeat(np.arange(len(m.indptr) - 1), np.diff(m.indptr))
    contributions = x.reshape(len(x), -1)[:, rows] * m.weight
    y = np.zeros((int(np.prod(shape)), len(x)), contributions.dtype)
    np.add.at(y, m.targets, contributions.T)
    return np.ascontiguousarray(y.T).reshape(len(x), *shape)
