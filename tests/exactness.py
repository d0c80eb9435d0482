"""DESIGN section 3: a compiled network against the original model in float64, spike layer by spike layer, with the rule about ties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIE = 1e-6
"""|v - threshold| / threshold below which a spike may differ."""
EXCUSED = 0.01
"""Share of samples whose first mismatch may be a tie."""


@dataclass(frozen=True)
class Comparison:
    """Samples whose first mismatch is no tie (``wrong``, in words) or is one (``excused``); all ``ties`` as (layer, sample, step, flat index)."""

    samples: int
    wrong: list[str]
    excused: list[int]
    ties: list[tuple[str, int, int, int]]

    @property
    def exact(self) -> bool:
        return not self.wrong and len(self.excused) <= EXCUSED * self.samples


def compare_spikes(expected: dict[str, NDArray[np.uint8]], found: dict[str, NDArray[Any]], margins: dict[str, NDArray[np.float64]]) -> Comparison:
    """Compare [n, T, ...] spikes of the common layers, ``expected`` being in topological order; the first mismatch is by step, then by layer."""
    layers = [name for name in expected if name in found]
    assert layers, "no common layers"
    n, steps = expected[layers[0]].shape[:2]
    wrong, excused = [], []
    ties = [
        (name, *map(int, np.unravel_index(k, (n, steps, expected[name][0, 0].size)))) for name in layers for k in np.flatnonzero(margins[name] < TIE)
    ]
    for sample in range(n):
        first = next(
            ((name, step) for step in range(steps) for name in layers if np.any(expected[name][sample, step] != found[name][sample, step])), None
        )
        if first is None:
            continue
        name, step = first
        different = expected[name][sample, step] != found[name][sample, step]
        if np.all(margins[name][sample, step][different] < TIE):
            excused.append(sample)
        else:
            wrong.append(
                f"sample {sample}, {name}, step {step}: {int(different.sum())} spikes, margin {margins[name][sample, step][different].max():.3g}"
            )
    return Comparison(n, wrong, excused, ties)  # type: ignore[arg-type]
