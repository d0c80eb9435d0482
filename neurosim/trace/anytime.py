"""How good the answers are along the way: accuracy, energy spent and final answers against the time since a sample began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import Result
from neurosim.errors import DataError
from neurosim.program import Program
from neurosim.trace.stored import Priced

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Anytime:
    """Curves over P times, ps since each sample's start (a sample that has ended keeps its answer).

    ``accuracy``: share of samples whose best class is right then, None without labels; ``final``: share of samples whose best class does not change
    any more; ``energy_fj``: mean energy of chip and host spent by then.
    """

    sync: str
    time_ps: NDArray[np.int64]
    accuracy: F64 | None
    final: F64
    energy_fj: F64


def anytime_curves(program: Program, result: Result, energy: Priced, labels: NDArray[Any] | None, points: int = 200) -> Anytime:
    """Read from ``Result.anytime``, which needs no trace.

    Energy by a time: static power for as long, up to the sample's end; the rest of a mean sample by the share of the run's spikes that had been put
    by then (without kept spikes: evenly over time). Host energy is spent when a sample begins.
    Raises DataError: no answers along the way (no readout, or a run directory of before).
    """
    rows = result.anytime
    if not len(rows):
        raise DataError("this run has no answers along the way: the network has no readout, or the run is of an older version; run again")
    n = len(result.scores)
    took = np.maximum(result.completion_ps, result.decision_ps) - result.start_ps
    time = np.unique(np.linspace(0, max(1, int(took.max(initial=1))), max(2, points)).astype(np.int64))
    first = int(rows["sample"].min())
    of, since = rows["sample"] - first, rows["time"] - result.start_ps[rows["sample"] - first]
    final, right = np.zeros(len(time)), np.zeros(len(time))
    for sample in range(n):
        mine = of == sample
        at, best = since[mine], rows["best"][mine]
        final += time >= at[-1]
        if labels is not None:
            right += best[np.maximum(np.searchsorted(at, time, side="right") - 1, 0)] == labels[sample]
    return Anytime(program.sync, time, None if labels is None else right / n, final / n, _energy(result, energy, time, took, n))


def _energy(result: Result, energy: Priced, time: NDArray[np.int64], took: NDArray[np.int64], n: int) -> F64:
    per = energy.per_sample()
    static, host = per.get("static", 0.0), per.get("host", 0.0)
    rest = per["total"] - static - host
    lasted = np.minimum(time[:, None], took[None, :]).sum(axis=1) / max(1, int(took.sum()))
    spikes = result.spikes
    if len(spikes):
        first = int(result.anytime["sample"].min())
        since = np.sort(spikes["time"] - result.start_ps[spikes["sample"] - first])
        worked = np.searchsorted(since, time, side="right") / len(since)
    else:
        worked = lasted
    spent: F64 = host + static * lasted + rest * worked
    return spent
