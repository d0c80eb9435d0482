"""Reshapes that only arrange pixels anew get out of the way of what they stand between; the chain computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.compiler.lower.stages import Chain, Place, Reshape, append, finish, identity, written_out
from neurosim.compiler.matrices import matrix_of
from neurosim.graph import Conv2d, SumPool, TokenMix

SOURCE = (4, 2, 3)
RNG = np.random.default_rng(0)
FLAT, MAP = Reshape((4, 6, 1)), Reshape((4, 2, 3))
CONV, POINT = Conv2d(RNG.normal(size=(4, 4, 3, 3)), padding=(1, 1)), Conv2d(RNG.normal(size=(4, 2, 1, 1)), groups=2)
CHAINS: dict[str, Chain] = {
    "back and forth": (CONV, FLAT, MAP, POINT),
    "pointwise on tokens": (CONV, FLAT, POINT, MAP, CONV),
    "mixing": (FLAT, TokenMix(RNG.normal(size=(2, 6, 6))), identity(4, RNG.normal(size=4)), MAP, CONV),
    "mean of tokens": (FLAT, POINT, SumPool(np.full(4, 1 / 6), (6, 1))),
    "joined tokens": (POINT, Place(3, 9), Reshape((9, 6, 1)), Reshape((9, 2, 3)), Conv2d(RNG.normal(size=(2, 9, 2, 3)))),
}


@pytest.mark.parametrize("name", CHAINS)
def test_reshapes_of_pixels_fuse_away(name: str) -> None:
    chain: Chain = ()
    for stage in CHAINS[name]:
        chain = append(chain, stage, SOURCE)
    assert not any(isinstance(stage, Reshape | Place) for stage in chain), chain
    done = finish(chain, SOURCE)
    assert done is not None
    np.testing.assert_allclose(matrix_of(done[0], SOURCE), written_out(CHAINS[name], SOURCE), atol=1e-12)
