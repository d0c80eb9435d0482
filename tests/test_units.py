from __future__ import annotations

import pytest

from neurosim.errors import ChipError
from neurosim.units import format_count, format_energy, format_time, parse_energy_fj, parse_time_ps


@pytest.mark.parametrize(("text", "ps"), [("1.2 ns", 1200), ("3.36us", 3_360_000), ("1 ps", 1), (7, 7), ("0.5 ms", 5 * 10**8), ("2 µs", 2 * 10**6)])
def test_times(text: str | int, ps: int) -> None:
    assert parse_time_ps(text) == ps


@pytest.mark.parametrize("text", ["0.5 ps", "fast", "3", "1.2.3 ns", "4 parsec", True])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ChipError, match="time"):
        parse_time_ps(text)


def test_energies() -> None:
    assert parse_energy_fj("23.6 pJ") == 23600.0
    assert parse_energy_fj("0 fJ") == 0.0
    with pytest.raises(ChipError, match="energy 'much' not understood"):
        parse_energy_fj("much")


def test_printing() -> None:
    assert [format_time(t) for t in (0, 999, 1000, 999_600, 1_234_567, 10**12)] == ["0.00 ps", "999 ps", "1.00 ns", "1.00 us", "1.23 us", "1.00 s"]
    assert format_energy(23600.0) == "23.6 pJ"
    assert [format_count(c) for c in (7, 12.5, 2_480_112)] == ["7", "12.5", "2.48 M"]
