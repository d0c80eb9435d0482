"""How sure an energy is: Monte-Carlo over the ranges of all prices, and which price moves the result most.

Every price is drawn on its own: its value is the median, below and above it the draws are uniform in the logarithm down and up to the ends of its
range; counts are exact. Draws come from a seeded generator, so the same run has the same intervals everywhere.
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
    """Median and the 5 % and 95 % quantiles, in fJ per sample (or of a ratio); widened to the figure itself where that lies beyond one of them."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: F64, figure: float) -> Interval:
        """Quantiles of draws around ``figure``, what comes out with every constant at its value.

        Each constant's value is its median, but a sum of many whose values were taken at the end of their ranges lies at the end of the draws, too.
        """
        low, median, high = (float(q) for q in np.quantile(values, (QUANTILES[0], 0.5, QUANTILES[1])))
        return cls(min(low, figure), median, max(high, figure))

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


def log_uniform(low: F64, value: F64, high: F64, draws: int, seed: int) -> F64:
    """[draws, prices] independent draws: half of them between ``low`` and ``value``, half between ``value`` and ``high``, uniform in the logarithm;
    a price of 0 stays 0."""
    uniform = 2 * np.random.Generator(np.random.PCG64(seed)).random((draws, len(low))) - 1
    safe_low, middle, safe_high = (np.where(low <= 0, 1.0, end) for end in (low, value, high))
    drawn: F64 = middle * np.where(uniform < 0, middle / safe_low, safe_high / middle) ** uniform
    return np.where(low <= 0, 0.0, drawn)


def energy_draws(energy: Energy, draws: int = DRAWS, seed: int = 0) -> dict[str, F64]:
    """fJ per sample, [draws] each: the components, ``chip``, ``host``, ``total``, and ``board`` (Energy.board_fj) where there is a figure."""
    lines = energy.lines
    low, value, high = (np.array([getattr(line, end) for line in lines]) for end in ("low", "price", "high"))
    prices = log_uniform(low, value, high, draws, seed)
    parts = prices * (np.array([line.count for line in lines]) / energy.samples)
    result = {name: _component(parts, lines, name) for name in (*COMPONENTS, "host")}
    result["chip"] = np.sum([result[name] for name in COMPONENTS], axis=0)
    result["total"] = result["chip"] + result["host"]
    if energy.board is not None:  # from a stream of its own: the other draws are the same with and without it
        low, value, high = (np.array([end]) for end in (energy.board.low, energy.board.price, energy.board.high))
        rest = log_uniform(low, value, high, draws, seed + 1)[:, 0]
        result["board"] = result["chip"] - result["static"] + rest * (energy.board.count / energy.samples)
    return result


def _component(parts: F64, lines: tuple[PriceLine, ...], name: str) -> F64:
    chosen: F64 = parts[:, [k for k, line in enumerate(lines) if line.component == name]].sum(axis=1)
    return chosen


def intervals(energy: Energy, draws: int = DRAWS, seed: int = 0) -> dict[str, Interval]:
    """Interval of every component, of chip, host, total and, where there is a figure, board, in fJ per sample."""
    figures = energy.per_sample()
    if energy.board_fj is not None:
        figures["board"] = energy.board_fj / energy.samples
    return {name: Interval.of(values, figures[name]) for name, values in energy_draws(energy, draws, seed).items()}


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
