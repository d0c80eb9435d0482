"""The compiler's work grows with the network, not with its square: calls are counted, because seconds depend on the machine."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.check import check
from neurosim.compiler.check.supports import lower_for
from neurosim.compiler.matrices import merged, sparse_to_dense
from neurosim.compiler.pipeline import compile_network
from neurosim.errors import UnsupportedLayer
from neurosim.golden import run_graph
from neurosim.graph import Sparse
from neurosim.network import Network


def chain(length: int) -> Network:
    """So many spike layers, one behind the other."""
    net = Network("chain")
    x = net.spikes_input("in", (2, 2, 2))
    for k in range(length):
        x = net.lif(f"lif{k}", net.conv2d(f"conv{k}", x, np.ones((2, 2, 1, 1))))
    net.output(net.mean("head", x))
    return net


def random_sparse(inputs: int, outputs: int, fan_out: int, seed: int = 0, *, parallel: bool = False) -> Network:
    """A sparse layer with so many synapses per input; ``parallel``: some of them join the same pair."""
    rng = np.random.default_rng(seed)
    net = Network("random")
    x = net.spikes_input("in", (inputs, 1, 1))
    targets = np.concatenate([rng.choice(outputs, fan_out, replace=parallel) for _ in range(inputs)])
    weight = rng.uniform(0.5, 1, inputs * fan_out)
    x = net.lif("lif", net.sparse("sparse", x, np.arange(inputs + 1) * fan_out, targets, weight, (outputs, 1, 1)))
    net.output(net.linear("head", x, rng.normal(size=(2, outputs))))
    return net


def calls(work: Any) -> int:
    """Python functions that were called."""
    count = 0

    def see(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("work", [check, compile_network])
def test_check_and_compile_are_linear_in_the_populations(work: Any) -> None:
    chip = load_chip("ideal", ["memory.cores=256", "noc.width=16", "noc.height=16"])
    small, large = (calls(partial(work, chain(n), chip)) for n in (30, 90))
    assert large < 3.5 * small


def test_a_network_is_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    monkeypatch.setattr("neurosim.compiler.check.supports.lower_for", lambda net, rewrites: seen.update([net.name]) or lower_for(net, rewrites))
    compile_network(chain(2), "ideal")
    assert seen == {"chain": 1}


def test_parallel_synapses_are_one_before_their_weight_is_quantised() -> None:
    net = random_sparse(20, 4, 40, parallel=True)
    for chip in ("ideal", "async-mesh-plus", "async-mesh"):  # the last stores them as a dense map
        compilation = compile_network(net, chip)  # ten weights of up to 1 in one do not fit the bits of one weight
        assert len(compilation.program.weights) == 20 * 4 + 4 * 2
    spikes = np.ones((1, 1, 20, 1, 1), np.uint8)
    ideal = compile_network(net, "ideal")
    total = np.zeros(4)
    np.add.at(total, net.layers["sparse"].params["targets"], net.layers["sparse"].params["weight"])
    scale = ideal.integer.population("lif").scale
    assert scale is not None
    held = sum((ideal.integer.into("lif")[0].map.weight * scale[:1]).tolist())
    assert held == pytest.approx(total.sum())
    assert run_graph(ideal.integer, spikes, ideal.program.chip).scores.shape == (1, 2)


def test_merging_keeps_the_map_and_its_order() -> None:
    rng = np.random.default_rng(1)
    raw = Sparse(np.array([0, 3, 3, 7]), np.array([2, 0, 2, 1, 1, 0, 1]), rng.integers(-9, 9, 7), (3, 1, 1))
    matrix = np.zeros((3, 3), np.int64)
    np.add.at(matrix, (raw.targets, raw.origin), raw.weight)
    small = merged(raw)
    assert (small.indptr.tolist(), small.targets.tolist()) == ([0, 2, 2, 4], [0, 2, 0, 1])
    assert merged(small) is small
    for m in (raw, small):
        dense = sparse_to_dense(m)
        assert dense is not None
        assert np.array_equal(dense.weight, matrix)


def test_a_sparse_map_too_large_for_a_chip_without_sparse_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurosim.compiler.matrices.MATRIX_LIMIT", 100)
    with pytest.raises(UnsupportedLayer, match="no sparse maps, and stored with its zeros"):
        compile_network(random_sparse(20, 30, 2), "async-mesh")
    assert compile_network(random_sparse(20, 30, 2), "async-mesh-plus").program.slices
