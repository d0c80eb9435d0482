"""How sure an energy is: Monte-Carlo over the ranges of all prices, and which price moves the result most.

Every price is drawn on its own, uniformly in its logarithm between the ends of its range; counts are exact. Draws come from a seeded generator, so
the same run has the same intervals everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.energy.model import COMPONENTS, Energy, PriceLine

F64 = NDArray[np.float64]
DRAWS = 10_000
QUANTILES = (0.05, 0.95)


@dataclass(frozen=True)
class Interval:
    """Median and the 5 % and 95 % quantiles, in fJ per sample (or of a ratio)."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: F64) -> Interval:
        """Quantiles of draws."""
        low, median, high = np.quantile(values, (QUANTILES[0], 0.5, QUANTILES[1]))
        return cls(float(low), float(median), float(high))

    def as_dict(self) -> dict[str, float]:
        """JSON form."""
        return {"low": self.low, "median": self.median, "high": self.high}


@dataclass(frozen=True)
class Sensitivity:
    """What one price does alone: total energy per sample (fJ) with it at either end of its range; ``swing`` their difference over the total."""

    event: str
    component: str
    status: str
    at_low_fj: float
    at_high_fj: float
    swing: float


def log_uniform(low: F64, high: F64, draws: int, seed: int) -> F64:
    """[draws, prices] independent draws between ``low`` and ``high``; a price of 0 stays 0."""
    generator = np.random.Generator(np.random.PCG64(seed))
    uniform = generator.random((draws, len(low)))
    zero = low <= 0
    safe_low, safe_high = np.where(zero, 1.0, low), np.where(zero, 1.0, high)
    values: F64 = np.where(zero, 0.0, safe_low * (safe_high / safe_low) ** uniform)
    return values


def energy_draws(energy: Energy, draws: int = DRAWS, seed: int = 0) -> dict[str, F64]:
    """fJ per sample, [draws] each: the components, ``chip``, ``host``, ``total``."""
    lines = energy.lines
    prices = log_uniform(np.array([line.low for line in lines]), np.array([line.high for line in lines]), draws, seed)
    parts = prices * (np.array([line.count for line in lines]) / energy.samples)
    result = {name: _component(parts, lines, name) for name in (*COMPONENTS, "host")}
    result["chip"] = np.sum([result[name] for name in COMPONENTS], axis=0)
    result["total"] = result["chip"] + result["host"]
    return result


def _component(parts: F64, lines: tuple[PriceLine, ...], name: str) -> F64:
    chosen: F64 = parts[:, [k for k, line in enumerate(lines) if line.component == name]].sum(axis=1)
    return chosen


def intervals(energy: Energy, draws: int = DRAWS, seed: int = 0) -> dict[str, Interval]:
    """Interval of every component, of chip, host and total, in fJ per sample."""
    return {name: Interval.of(values) for name, values in energy_draws(energy, draws, seed).items()}


def sensitivities(energy: Energy) -> list[Sensitivity]:
    """Every price that counts, the one that moves the total most first."""
    total = energy.total_fj
    rows = []
    for line in energy.lines:
        low, high = (total + line.count * (end - line.price) for end in (line.low, line.high))
        if high > low:
            swing = (high - low) / (total or 1.0)
            rows.append(Sensitivity(line.event, line.component, line.status, low / energy.samples, high / energy.samples, swing))
    return sorted(rows, key=lambda row: -row.swing)
