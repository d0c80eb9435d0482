from __future__ import annotations

import numpy as np
import pytest

from neurosim import api
from neurosim.errors import DataError
from neurosim.network import Network


def cuba(decay_current: float | None) -> api.Run:
    """Two neurons that add up one spike of weights 3 and -2 over two steps and never fire."""
    net = Network("cuba", steps=2)
    x = net.linear("fc", net.spikes_input("in", (1, 1, 1)), np.array([[3.0], [-2.0]]))
    net.output(net.lif("lif", x, decay=1.0, decay_current=decay_current, threshold=100.0))
    data = np.array([1, 0], np.uint8).reshape(1, 2, 1, 1, 1)
    return api.simulate(api.build(net, "ideal"), data, engine="reference", state=True)


def test_a_current_that_the_chip_keeps_can_be_probed() -> None:
    run = cuba(0.5)
    v, i = (run.probe("lif", name).ravel() for name in "vi")
    assert (i[0] / i[1], v[0] / i[0]) == pytest.approx((-1.5, 3))  # half of the first step's current, and the membrane that got one and a half


@pytest.mark.parametrize("decay_current", [None, 0.0])
def test_a_current_that_was_folded_away_is_no_row_of_zeros(decay_current: float | None) -> None:
    run = cuba(decay_current)
    assert run.probe("lif").ravel().any()
    with pytest.raises(DataError, match=r"population lif keeps no synaptic current on the chip.*probe v"):
        run.probe("lif", "i")
