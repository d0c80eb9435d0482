from __future__ import annotations

import pytest

from neurosim.chip import load_chip
from neurosim.energy.scaling import ENERGY, energy_factor, scaled_prices
from neurosim.errors import ChipError, DataError


def test_the_corrigendum_of_the_paper() -> None:
    assert energy_factor("32hp", 0.9) == pytest.approx(0.4571, abs=5e-4)
    assert energy_factor("65", 1.3) == pytest.approx(2.604, abs=5e-4)
    assert energy_factor("32hp", 0.9) / energy_factor("65", 1.3) == pytest.approx(0.1755, abs=2e-4)


def test_energy_falls_with_node_and_voltage() -> None:
    for kind in ("hp", "lp"):
        nodes = [name for name in ENERGY if name.endswith(kind)]
        factors = [energy_factor(name, 0.8) for name in nodes]
        assert factors == sorted(factors, reverse=True)
    assert all(energy_factor(name, 0.75) < energy_factor(name, 0.9) for name in ENERGY if name not in ("130", "90", "65"))


def test_prices_are_scaled_where_they_switch_on_the_chip() -> None:
    prices = load_chip("async-mesh").prices
    scaled = scaled_prices(prices, ("14hp", 0.75), ("7hp", 0.7))
    factor = energy_factor("7hp", 0.7) / energy_factor("14hp", 0.75)
    assert scaled.synop.value == pytest.approx(prices.synop.value * factor)
    assert scaled.synop.status == "assumed"
    assert "Stillmaker" in scaled.synop.source
    assert (scaled.io_packet, scaled.static_core_mw, scaled.host_mac) == (prices.io_packet, prices.static_core_mw, prices.host_mac)
    same = scaled_prices(prices, ("14hp", 0.75), ("14hp", 0.75))
    assert same.synop.value == pytest.approx(prices.synop.value)


def test_mistakes() -> None:
    with pytest.raises(DataError, match="'3nm' has no scaling coefficients; there are 130"):
        energy_factor("3nm", 0.7)
    with pytest.raises(DataError, match=r"supply 0.2 V is outside of 0.5..1.8 V"):
        energy_factor("7hp", 0.2)
    with pytest.raises(ChipError, match=r"range end 3.*lies above the value"):
        load_chip("async-mesh", ['prices.synop={value="2 pJ", low="3 pJ"}'])
