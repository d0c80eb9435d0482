from __future__ import annotations

import numpy as np
import pytest

from neurosim.golden import apply_map, transpose_map
from neurosim.graph import Conv2d, Dense, LinearMap, Pooling, Sparse, SumPool, TokenMix, windows_of

RNG = np.random.default_rng(0)
SOURCE = (4, 5, 6)
MAPS: dict[str, LinearMap] = {
    "conv": Conv2d(RNG.integers(-9, 9, (6, 2, 3, 2)), (2, 1), (1, 2), (1, 2), 2),
    "point": Conv2d(RNG.integers(-9, 9, (3, 4, 1, 1)), (2, 3), (0, 0)),
    "pooled": Conv2d(
        RNG.integers(-9, 9, (6, 2, 2, 2)), (1, 2), (1, 0), (1, 2), 2, windows_of(SOURCE, (2, 2))
    ),  # a row is left over, the padding does not see it
    "mean and head": Conv2d(RNG.integers(-9, 9, (3, 4, 1, 1)), pool=windows_of(SOURCE, (5, 6))),
    "classes": Conv2d(RNG.integers(-9, 9, (3, 4, 3, 2)), pool=Pooling(np.array([0, 1, 2, 1, -1]), np.array([1, 1, -1, 0, 1, 0]))),
    "dense": Dense(RNG.integers(-9, 9, (6, 120)), (2, 3, 1)),
    "mix": TokenMix(RNG.integers(-9, 9, (2, 30, 30))),
    "pool": SumPool(RNG.integers(1, 9, 4), (3, 2), (2, 2), (1, 1)),
    "identity": SumPool(RNG.integers(1, 9, 4)),
    "sparse": Sparse(np.arange(0, 241, 2), RNG.integers(0, 6, 240), RNG.integers(-9, 9, 240), (6, 1, 1)),
}


def by_hand(m: LinearMap, x: np.ndarray) -> np.ndarray:
    """The sums of graph.py's docstrings, written out as loops."""
    out = m.out_shape(x.shape)  # type: ignore[arg-type]
    y = np.zeros(out, np.int64)
    for o, yy, xx in np.ndindex(*out):
        match m:
            case Conv2d():
                cog, cig = out[0] // m.groups, m.weight.shape[1]
                seen = (np.arange(x.shape[1]), np.arange(x.shape[2])) if m.pool is None else m.pool.axes
                for i, ky, kx in np.ndindex(*m.weight.shape[1:]):
                    row, column = yy * m.stride[0] + ky * m.dilation[0] - m.padding[0], xx * m.stride[1] + kx * m.dilation[1] - m.padding[1]
                    if row >= 0 and column >= 0:
                        y[o, yy, xx] += m.weight[o, i, ky, kx] * x[o // cog * cig + i][np.ix_(seen[0] == row, seen[1] == column)].sum()
            case SumPool():
                for ky, kx in np.ndindex(*m.kernel):
                    row, column = yy * m.stride[0] + ky - m.padding[0], xx * m.stride[1] + kx - m.padding[1]
                    if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                        y[o, yy, xx] += m.weight[o] * x[o, row, column]
            case TokenMix():
                y[o, yy, xx] = m.weight[o // (out[0] // len(m.weight)), yy * out[2] + xx] @ x[o].ravel()
            case Dense():
                y[o, yy, xx] = m.weight[np.ravel_multi_index((o, yy, xx), out)] @ x.ravel()
            case Sparse():
                target = np.ravel_multi_index((o, yy, xx), out)
                for row in range(x.size):
                    a, b = m.indptr[row], m.indptr[row + 1]
                    y[o, yy, xx] += x.ravel()[row] * m.weight[a:b][m.targets[a:b] == target].sum()
    return y


@pytest.mark.parametrize("name", MAPS)
def test_maps_and_their_adjoints(name: str) -> None:
    m = MAPS[name]
    x = RNG.integers(-5, 6, (3, *SOURCE))
    y = apply_map(m, x)
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, np.stack([by_hand(m, sample) for sample in x]))
    np.testing.assert_array_equal(apply_map(m, x.astype(np.float64)), y)
    other = RNG.integers(-5, 6, y.shape)
    back = transpose_map(m, other, SOURCE)
    np.testing.assert_array_equal((y * other).reshape(3, -1).sum(1), (x * back).reshape(3, -1).sum(1))
