"""The single-neuron rule over arrays: a loop around the functions of ``neurosim.arithmetic``, which the engines call too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neurosim import arithmetic

_current = arithmetic.step_current
_membrane = arithmetic.step_membrane
_count = arithmetic.spike_count
_reset = arithmetic.reset


def real_spikes(v: NDArray[np.float64], threshold: Any, strict: bool, most: int) -> NDArray[np.float64]:
    """Spikes of a step in real numbers: the largest n of 0 .. most with v >= n * threshold (> when strict); v and threshold broadcast."""
    if most == 1:
        return np.asarray(v > threshold if strict else v >= threshold, np.float64)
    n = np.floor(v / threshold)
    n = np.where(v >= (n + 1) * threshold, n + 1, n)  # where the quotient was rounded down, or up
    n = np.where(v <= n * threshold if strict else v < n * threshold, n - 1, n)
    return np.asarray(np.clip(n, 0, most))


@njit(nogil=True)
def step_neurons(
    v: Any, i: Any, bank: Any, threshold: Any, bias: Any, floor: Any, reset_by: Any, rule: Any, limits: Any, readout: bool, spikes: Any
) -> int:
    """One step of n samples x m neurons in place; returns the number of saturations.

    v, i, bank int64 [n, m]; threshold, bias, floor, reset_by int64 [m]; rule = (decay_v, decay_i, strict, reset mode, rounding, most spikes) with
    decays as 4096ths lost; limits = (low, high); spikes uint8 [n, m] is written: the value of each.
    """
    decay_v, decay_i, strict, mode, rounding, most = rule
    low, high = limits
    saturations = 0
    for sample in range(v.shape[0]):
        for k in range(v.shape[1]):
            current, clipped = _current(i[sample, k], bank[sample, k], decay_i, rounding, low, high)
            saturations += clipped
            if decay_i >= 0:
                i[sample, k] = current
            potential, clipped = _membrane(v[sample, k], current, bias[k], decay_v, floor[k], rounding, low, high)
            saturations += clipped
            count = 0 if readout else _count(potential, threshold[k], strict, most)
            spikes[sample, k] = count
            v[sample, k] = _reset(potential, mode, count * reset_by[k]) if count else potential
    return saturations
