"""Chains synapse by synapse against the chain written out as a matrix; and sparse maps that are 1x1 convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.compiler.lower import stages
from neurosim.compiler.lower.stages import Chain, Place, Reshape, finish, matrix_map, written_out
from neurosim.compiler.quantize.adapt import pointwise
from neurosim.compiler.sparse_maps import sparse_map
from neurosim.golden.maps import apply_map
from neurosim.graph import Conv2d, Dense, Sparse, SumPool, TokenMix

SOURCE = (4, 4, 6)


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-3, 4, shape).astype(np.float64)


def chains() -> dict[str, Chain]:
    rng = np.random.default_rng(0)
    windows = Conv2d(whole(rng, 6, 2, 3, 2), (2, 1), (1, 0), (1, 2), 2)
    return {
        "flattened tokens": (Reshape((4, 1, 24)), Conv2d(whole(rng, 3, 4, 1, 3), padding=(0, 1))),
        "mixed": (windows, Reshape((12, 1, 4)), TokenMix(whole(rng, 2, 4, 4)), SumPool(whole(rng, 12), (1, 2), (1, 2))),
        "placed": (SumPool(whole(rng, 4), (2, 2), (1, 1), (1, 1)), Dense(whole(rng, 5, 140), (5, 1, 1)), Place(2, 9)),
    }


@pytest.mark.parametrize("name", ["flattened tokens", "mixed", "placed"])
def test_a_chain_too_large_for_a_matrix_is_sparse(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = chains()[name]
    matrix = written_out(chain, SOURCE)
    monkeypatch.setattr(stages, "MATRIX_LIMIT", 0)
    found = finish(chain, SOURCE)
    assert found is not None
    m, offset = found
    assert isinstance(m, Sparse)
    x = np.random.default_rng(1).integers(0, 5, (3, *SOURCE)).astype(np.float64)
    y = apply_map(m, x)
    expected = (x.reshape(3, -1) @ matrix.T).reshape(3, *stages.shapes(chain, SOURCE)[-1])
    np.testing.assert_array_equal(y, expected[:, offset : offset + y.shape[1]])
    assert all(np.all(np.diff(m.targets[a:b]) > 0) for a, b in zip(m.indptr[:-1], m.indptr[1:], strict=True))


def test_too_many_synapses_have_no_sparse_map() -> None:
    wide = Conv2d(np.ones((256, 256, 3, 3)), padding=(1, 1))
    assert sparse_map([(wide, (256, 16, 16))], (256, 16, 16), (256, 16, 16)) is None


def test_a_choice_of_channels_is_a_convolution() -> None:
    choice = Conv2d(np.eye(12)[[5, 3, 4, 4]][:, :, None, None])
    matrix = written_out((choice,), (12, 2, 3))
    sparse = matrix_map(matrix, (4, 2, 3))
    assert isinstance(sparse, Sparse)
    found = pointwise(sparse, (12, 2, 3))
    assert found is not None
    np.testing.assert_array_equal(found.weight, choice.weight)
    matrix[0, 0] = 1.0  # a pixel that differs from the others
    odd = matrix_map(matrix, (4, 2, 3))
    assert isinstance(odd, Sparse)
    assert pointwise(odd, (12, 2, 3)) is None
