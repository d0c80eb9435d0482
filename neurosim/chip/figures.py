"""Figures of a chip: numbers with their origin and range, and how they are read from texts with units."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from neurosim.units import parse_energy_fj, parse_time_ps

Status = Literal["published", "fitted", "assumed"]
T = TypeVar("T")


def _no_truth(raw: Any) -> Any:
    if isinstance(raw, bool):
        raise ValueError("should be a whole number, not true or false")
    return raw


Whole = Annotated[int, BeforeValidator(_no_truth)]


class Strict(BaseModel):
    """Base of all tables: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(Strict, Generic[T]):
    """A number with its origin."""

    value: T
    source: str = "set by the user"
    status: Status = "assumed"
    low: T | None = None
    high: T | None = None
    """Range that the value may lie in; none = a spread by its status (docs/energy.md)."""

    @model_validator(mode="after")
    def _ordered(self) -> Figure[T]:
        value: Any = self.value  # a number, or one per core
        for end, wrong in ((self.low, "above"), (self.high, "below")):
            if end is not None and (end > value if wrong == "above" else end < value):
                raise ValueError(f"range end {end} lies {wrong} the value {self.value}")
        return self


def _as_figure(parse: Any) -> Any:
    def convert(raw: Any) -> Any:
        if isinstance(raw, Figure):
            return raw
        table = dict(raw) if isinstance(raw, dict) else {"value": raw}
        for key in ("value", "low", "high"):
            if table.get(key) is not None:
                table[key] = parse(table[key])
        return table

    return convert


def _parse_positive_time(raw: Any) -> int:
    ps = parse_time_ps(raw)
    if ps < 1:
        raise ValueError(f"duration {raw!r} is below 1 ps; every duration on the chip is at least 1 ps")
    if ps > 10**12:
        raise ValueError(f"duration {raw!r} is above 1 s; every duration on the chip is at most 1 s")
    return ps


def _parse_delay(raw: Any) -> int:
    ps = parse_time_ps(raw)
    if not 0 <= ps <= 10**12:
        raise ValueError(f"delay {raw!r} must lie between 0 and 1 s")
    return ps


def _parse_price(raw: Any) -> float:
    fj = parse_energy_fj(raw)
    if not 0 <= fj <= 1e15:
        raise ValueError(f"price {raw!r} must lie between 0 and 1 J")
    return fj


def _parse_count(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw < 2**63:
        raise ValueError(f"{raw!r} must be a whole number of at least 1")
    return raw


def _parse_power(raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw <= 1e9:
        raise ValueError(f"power {raw!r} must be a number of milliwatts from 0 to 1e9")
    return float(raw)


def _parse_words(raw: Any) -> tuple[int, ...]:
    listed = raw if isinstance(raw, list | tuple) else [raw]
    if not listed or any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 2**40 for n in listed):
        raise ValueError(f"{raw!r} must be a whole number of words, or a list of one per core")
    return tuple(listed)


Duration = Annotated[Figure[int], BeforeValidator(_as_figure(_parse_positive_time))]
Delay = Annotated[Figure[int], BeforeValidator(_as_figure(_parse_delay))]
"""As Duration, but 0 is allowed."""
Price = Annotated[Figure[float], BeforeValidator(_as_figure(_parse_price))]
Count = Annotated[Figure[int], BeforeValidator(_as_figure(_parse_count))]
Power = Annotated[Figure[float], BeforeValidator(_as_figure(_parse_power))]
Words = Annotated[Figure[tuple[int, ...]], BeforeValidator(_as_figure(_parse_words))]
