"""Whole numbers reach the chip as they are; what does not fit is scaled and said so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.chip import Chip, load_chip
from neurosim.compiler.lower.network import lower
from neurosim.compiler.pipeline import compile_network
from neurosim.compiler.quantize.scales import quantize
from neurosim.golden import run_graph
from neurosim.network import Network, load_network

STEPS = 12


def integer_net(factor: int = 64, integers: Any = "zero", largest: int = 127) -> Network:
    """A CUBA layer of ``factor`` times odd 8-bit weights; its output is counted."""
    draw = np.random.default_rng(4)
    weight = 2 * draw.integers(-largest // 2, largest // 2, (6, 5)) + 1
    weight[0, 0] = largest
    net = Network("whole", steps=STEPS, integers=integers)
    x = net.spikes_input("in", (5, 1, 1))
    y = net.lif("cuba", net.linear("w", x, factor * weight), decay=(4096 - 415) / 4096, decay_current=(4096 - 1024) / 4096, threshold=64 * 60.0)
    net.output(y)
    return net


def loihi_like(*more: str) -> Chip:
    return load_chip("loihi1-like", list(more))


def test_cuba_integers_are_exact_on_a_chip_of_8_bits() -> None:
    net = integer_net()
    done = compile_network(net, loihi_like())
    cuba, into = done.integer.population("cuba"), done.integer.into("cuba")[0]
    assert done.report["exact"] == ["cuba", "cuba.count"]
    assert all(row["exact"] for row in done.report["precision"])
    assert into.shift == 6
    assert np.array_equal(into.map.weight * 64, net.layers["w"].params["weight"])
    assert cuba.scale is not None
    assert cuba.scale.tolist() == [1.0] * 6
    assert cuba.rule is not None
    assert (int(cuba.rule.threshold.max()), cuba.rule.decay, cuba.rule.decay_current) == (3840, 3681, 3072)

    # the neurons of Loihi, written out: decays round toward zero
    data = (np.random.default_rng(0).random((3, STEPS, 5, 1, 1)) < 0.4).astype(np.uint8)
    found = run_graph(done.integer, data, done.program.chip)

    def decayed(x: Any, d: int) -> Any:
        return np.sign(x) * ((np.abs(x) * (4096 - d)) >> 12)

    weight = net.layers["w"].params["weight"].astype(np.int64)
    i, v = np.zeros((3, 6), np.int64), np.zeros((3, 6), np.int64)
    for step in range(STEPS):
        i = decayed(i, 1024) + data[:, step].reshape(3, 5) @ weight.T
        v = decayed(v, 415) + i
        fired = v >= 3840
        v[fired] = 0
        assert np.array_equal(found.spikes["cuba"][:, step].reshape(3, 6), fired)
    assert found.spikes["cuba"].any()
    assert np.array_equal(found.scores, found.spikes["cuba"].sum(axis=1).reshape(3, 6))  # a count over the steps has whole units too
    assert not any(found.saturations.values())


def test_narrow_states_saturate_as_the_machine_does() -> None:
    net = integer_net()
    chip = loihi_like("arithmetic.state_bits=14")
    done = compile_network(net, chip)
    assert any("membranes may saturate" in text for text in done.report["warnings"])
    assert "cuba" in done.report["exact"]
    data = np.ones((1, STEPS, 5, 1, 1), np.uint8)
    assert run_graph(done.integer, data, chip).saturations["cuba"] > 0


@pytest.mark.parametrize(
    ("net", "more", "warning"),
    [
        (integer_net(factor=3, largest=127), (), "weights from in reach"),
        (integer_net(), ("arithmetic.max_shift=5",), "weights from in reach"),
        (integer_net(), ("arithmetic.state_bits=12",), "threshold, bias, floor or v_init reach 3840, the limit of 12 bits is 2047"),
        (integer_net(), ("arithmetic.acc_bits=14",), "its word holds 8191"),
    ],
)
def test_what_does_not_fit_is_scaled_with_a_warning(net: Network, more: tuple[str, ...], warning: str) -> None:
    integer, _ = quantize(lower(net), loihi_like(*more))
    assert "cuba" not in integer.exact
    assert any(text.startswith("cuba: its whole numbers do not fit loihi1-like and are scaled: ") and warning in text for text in integer.warnings)


def test_only_what_rounding_cannot_change_is_exact_without_being_told() -> None:
    leaky = integer_net(integers=None)
    assert quantize(lower(leaky), loihi_like())[0].exact == ("cuba.count",)
    plain = Network("plain", steps=2)
    plain.output(plain.lif("if", plain.linear("w", plain.spikes_input("in", (4, 1, 1)), np.eye(4) * 3), decay=1.0, threshold=5))
    assert quantize(lower(plain), loihi_like())[0].exact == ("if", "if.count")
    plain.layers["if"].params["threshold"] = np.array([[[5.5]]])
    assert quantize(lower(plain), loihi_like())[0].exact == ("if.count",)


def test_another_rounding_is_told(tmp_path: Any) -> None:
    net = integer_net()
    net.save(tmp_path / "net.nsnet")
    again = load_network(tmp_path / "net.nsnet")
    assert again.integers == "zero"
    warnings = quantize(lower(again), load_chip("ideal"))[0].warnings
    assert any("rounded by zero, ideal rounds by floor" in text and "arithmetic.rounding=zero" in text for text in warnings)
    assert not any("rounded by" in text for text in quantize(lower(again), loihi_like())[0].warnings)


def test_a_current_that_keeps_nothing_is_no_current() -> None:
    net = integer_net()
    net.layers["cuba"].params["decay_current"] = 0.0
    rule = lower(net).population("cuba").rule
    assert rule is not None
    assert rule.decay_current is None
    assert compile_network(net, load_chip("async-mesh")).report["exact"]
