"""Time in integer picoseconds, energy in femtojoules: parsing and printing.

Inside neurosim a time is an ``int`` of picoseconds (``_ps``) and a price is a ``float`` of femtojoules (``_fj``). Text enters here only.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from neurosim.errors import ChipError

TIME_PS = {"ps": 1, "ns": 10**3, "us": 10**6, "ms": 10**9, "s": 10**12}
ENERGY_FJ = {"fj": 1, "pj": 10**3, "nj": 10**6, "uj": 10**9, "mj": 10**12, "j": 10**15}
_QUANTITY = re.compile(r"^\s*([+-]?[0-9.eE+-]+?)\s*([a-zA-Zµ]+)\s*$")


def parse_time_ps(text: str | int) -> int:
    """``"1.2 ns"`` -> 1200. A bare integer is picoseconds. Raises ChipError if the text is no time or not a whole number of ps."""
    if isinstance(text, bool):
        raise ChipError(f'time {text!r} is not a time; write for example "1.2 ns"')
    if isinstance(text, int):
        return text
    value, unit = _split(text, TIME_PS, "time", '"1.2 ns"')
    ps = value * TIME_PS[unit]
    if ps != ps.to_integral_value():
        raise ChipError(f"time {text!r} is {ps} ps, not a whole number of picoseconds; the resolution is 1 ps")
    return int(ps)


def parse_energy_fj(text: str | int | float) -> float:
    """``"23.6 pJ"`` -> 23600.0. A bare number is femtojoules. Raises ChipError if the text is no energy."""
    if isinstance(text, bool):
        raise ChipError(f'energy {text!r} is not an energy; write for example "23.6 pJ"')
    if isinstance(text, int | float):
        return float(text)
    value, unit = _split(text, ENERGY_FJ, "energy", '"23.6 pJ"')
    return float(value * ENERGY_FJ[unit])


def _split(text: str, units: dict[str, int], what: str, example: str) -> tuple[Decimal, str]:
    match = _QUANTITY.match(str(text))
    unit = match.group(2).replace("µ", "u").lower() if match else ""
    if not match or unit not in units:
        raise ChipError(f"{what} {text!r} not understood; write a number and one of {', '.join(units)}, for example {example}")
    try:
        return Decimal(match.group(1)), unit
    except InvalidOperation:
        raise ChipError(f"{what} {text!r} not understood; write for example {example}") from None


def format_time(ps: float) -> str:
    """Three significant digits with a unit: 1234567 -> ``"1.23 us"``."""
    return _format(ps, (("s", 1e12), ("ms", 1e9), ("us", 1e6), ("ns", 1e3), ("ps", 1.0)))


def format_energy(fj: float) -> str:
    """Three significant digits with a unit: 23600.0 -> ``"23.6 pJ"``."""
    return _format(fj, (("J", 1e15), ("mJ", 1e12), ("uJ", 1e9), ("nJ", 1e6), ("pJ", 1e3), ("fJ", 1.0)))


def format_count(value: float) -> str:
    """Three significant digits with a decimal prefix: 2480112 -> ``"2.48 M"``; whole numbers below 1,000 as they are."""
    if abs(value) < 1000:
        return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"
    return _format(value, (("G", 1e9), ("M", 1e6), ("k", 1e3)))


def _format(value: float, units: tuple[tuple[str, float], ...]) -> str:
    unit, scale = next(((unit, scale) for unit, scale in units if abs(value) >= scale * 0.9995), units[-1])
    scaled = value / scale
    digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
    return f"{scaled:.{digits}f} {unit}"
