"""Speck's integers: as sinabs' tool-chain makes them, as the search does, and as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.pipeline import Compilation, compile_network
from neurosim.compiler.quantize.toolchain import common_factor, whole
from neurosim.frontends import load
from neurosim.graph import NeuronRule
from neurosim.network import Network

SPECK = load_chip("speck2f-like")


def one(value: float) -> np.ndarray:
    return np.full((1, 1, 1), value)


@pytest.mark.parametrize(
    ("weights", "more", "factor"),
    [
        ([-1.0, 1.0], {}, 127.0),  # the positive end binds
        ([-2.0, 1.0], {}, 64.0),  # -128
        ([-1.005, 1.0], {}, 127.0),  # -127.6 still rounds to -128
        ([-0.01, 0.01], {}, 12_700.0),
        ([-0.001, 0.001], {}, 32_767.0),  # now the threshold
        ([-0.001, 0.001], {"floor": one(-2.0)}, 16_384.0),
        ([-1.0, 1.0], {"bias": one(4.0)}, 31.75),  # a bias has the word of a weight
        ([-1.0, 1.0], {"v_init": one(-512.0)}, 64.0),
        ([0.0], {"threshold": one(0.5)}, 65_534.0),
    ],
)
def test_the_factor_is_the_largest_that_every_word_takes(weights: list[float], more: dict[str, Any], factor: float) -> None:
    rule = NeuronRule(**({"threshold": one(1.0), "bias": one(0.0)} | more))
    found = common_factor(rule, [np.array(weights)], SPECK)
    assert found is not None
    assert found == pytest.approx(factor)
    integers = whole(weights, found)
    assert -128 <= integers.min() <= integers.max() <= 127


def small(threshold: float, floor: float | None, scale: float = 1.0) -> Network:
    """A convolution with weights from -128 to 100 in units of ``scale``, and a linear layer."""
    rng = np.random.default_rng(0)
    net = Network("small")
    kernel = rng.integers(-60, 61, (4, 1, 3, 3)).astype(float)
    kernel.flat[:2] = -128, 100
    y = net.conv2d("conv", net.spikes_input("in", (1, 6, 6)), kernel * scale, padding=1)
    y = net.lif("lif", y, decay=1.0, threshold=threshold, reset="subtract", floor=floor)
    y = net.linear("fc", net.flatten("flat", y), rng.integers(-9, 10, (3, 144)) * scale)
    net.output(net.lif("out", y, decay=1.0, threshold=threshold, reset="subtract", floor=floor))
    return net


def first(done: Compilation) -> tuple[int, int, np.ndarray]:
    """(threshold, floor, weights) of the first layer."""
    rule = done.integer.population("lif").rule
    assert rule is not None
    assert rule.floor is not None
    projection = done.integer.into("lif")[0]
    return int(rule.threshold.max()), int(rule.floor.max()), projection.map.weight << projection.shift


def test_the_preset_quantises_as_the_tool_chain_and_search_on_demand() -> None:
    net = small(1.0, -1.0, 1 / 87)
    done = compile_network(net, "speck2f-like")
    threshold, floor, weights = first(done)
    assert (threshold, floor, weights.min(), weights.max()) == (87, -87, -128, 100)
    searched = compile_network(net, load_chip("speck2f-like", ["arithmetic.quantize=search"]))
    assert first(searched)[2].min() >= -127
    assert [p.map.op for p in searched.integer.projections] == [p.map.op for p in done.integer.projections]
    assert compile_network(net, "async-mesh").program.chip.arithmetic.quantize == "search"


@pytest.mark.parametrize("quantize", ["sinabs", "search"])
def test_a_network_of_integers_is_taken_as_it_is(quantize: str) -> None:
    net = small(77.0, -77.0)
    done = compile_network(net, load_chip("speck2f-like", [f"arithmetic.quantize={quantize}"]))
    threshold, floor, weights = first(done)
    assert (threshold, floor) == (77, -77)
    np.testing.assert_array_equal(weights, net.layers["conv"].params["weight"])
    assert {"lif", "out"} <= set(done.report["exact"])


@pytest.mark.shared
def test_thresholds_of_sinabs_own_network(shared: Path) -> None:
    pytest.importorskip("h5py")
    net = load(shared / "nir_cnn" / "cnn_sinabs.nir", reset="subtract", floor=-1.0)
    for quantize, thresholds, least in (("sinabs", [72, 128, 205, 108, 197], -128), ("search", [71, 125, 203, 107, 191], -127)):
        done = compile_network(net, load_chip("speck2f-like", [f"arithmetic.quantize={quantize}"]))
        rules = [p.rule for p in done.integer.populations if p.kind == "spiking"]
        assert [int(rule.threshold.max()) for rule in rules if rule is not None] == thresholds
        assert min(int(p.map.weight.min()) for p in done.integer.projections) == least
