"""Readouts of the published size."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.compiler.pipeline import compile_network
from neurosim.network import Network


@pytest.mark.parametrize("chip", ["ideal", "async-mesh"])
def test_a_thousand_classes_behind_means_store_each_weight_once(chip: str) -> None:
    """A mean of 196 tokens, and one behind a strided convolution of 784 (even, odd and last rows and columns), of 384 and 768 channels."""
    rng = np.random.default_rng(0)
    net = Network("wide")
    x = net.spikes_input("in", (384, 28, 28))
    short = net.mean("short.mean", net.conv2d("short", x, rng.normal(0, 0.02, (768, 384, 3, 3)), stride=2, padding=1))
    tokens = net.mean("mean", net.lif("lif", net.avg_pool("pool", x, 2)))
    heads = (net.linear(f"{name}.head", name, rng.normal(0, 0.02, (1000, size))) for name, size in ((short, 768), (tokens, 384)))
    net.output(net.add("sum", *heads))
    done = compile_network(net, chip, "wavefront")
    assert done.audit is not None
    assert done.audit.synapses_in_all == 384 * 28**2 + 1000 * 384 * (28**2 + 14**2)  # a 3x3 kernel of stride 2 sees all of an even map
    assert 0 <= len(done.program.weights) - 1000 * 384 * (9 + 1) <= 384  # and the pool's, equal blocks once
