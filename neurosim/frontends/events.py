"""Recorded events of one-dimensional populations: lists of (neuron, polarity, time) -> (step, neuron) and spike arrays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError


def read_events(path: str | os.PathLike[str], *, step_time_ms: float = 1.0) -> NDArray[np.int64]:
    """[n, 2] (step, neuron) of a ``.npy`` file with rows (neuron, polarity, time in ms), as lava-dl's ``slayer.io`` writes one-dimensional events.

    step = time / step_time_ms rounded to the nearest, halves to even, as lava-dl bins them. Rows keep their order. Raises DataError: a missing or
    broken file, rows of another shape, a polarity other than 0, negative numbers.
    """
    try:
        table = np.load(Path(path), allow_pickle=False)
    except OSError as error:
        raise DataError(f"cannot read events {path}: {error.strerror or 'the file is truncated'}") from None
    except ValueError:
        raise DataError(f"cannot read events {path}: it is no .npy file of numbers") from None
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.shape[1] != 3 or table.dtype.kind not in "iuf":
        found = f"shape {table.shape} and dtype {table.dtype}" if isinstance(table, np.ndarray) else "several arrays"
        raise DataError(f"events {path}: {found}, wanted rows of (neuron, polarity, time in ms)")
    if not np.isfinite(table).all() or table.min(initial=0) < 0 or np.any(table[:, 0] != np.floor(table[:, 0])):
        raise DataError(f"events {path}: neurons must be whole numbers and times finite, none below 0")
    if np.any(table[:, 1] != 0):
        raise DataError(f"events {path}: polarity {table[:, 1].max():g} is not 0; one-dimensional events have one polarity")
    steps = np.round(table[:, 2] / step_time_ms).astype(np.int64)
    return np.stack([steps, table[:, 0].astype(np.int64)], axis=1)


def spike_array(events: NDArray[np.int64], steps: int, neurons: int) -> NDArray[np.uint8]:
    """[1, T, n, 1, 1] binary spikes of (step, neuron) rows, one sample for ``simulate``; events of one neuron and step count once.

    Raises DataError for a step or neuron outside.
    """
    if len(events) and (events.min() < 0 or events[:, 0].max() >= steps or events[:, 1].max() >= neurons):
        step, neuron = events[:, 0].max(), events[:, 1].max()
        raise DataError(f"events reach step {step} and neuron {neuron}; there are {steps} steps and {neurons} neurons, both counted from 0")
    data = np.zeros((1, steps, neurons, 1, 1), np.uint8)
    data[0, events[:, 0], events[:, 1]] = 1
    return data
