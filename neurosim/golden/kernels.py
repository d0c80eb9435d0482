"""The single-neuron rule over arrays: a loop around the functions of ``neurosim.arithmetic``, which the engines call too."""

from __future__ import annotations

from typing import Any

from numba import njit

from neurosim import arithmetic

_current = arithmetic.step_current
_membrane = arithmetic.step_membrane
_fires = arithmetic.fires
_reset = arithmetic.reset


@njit(nogil=True)
def step_neurons(
    v: Any, i: Any, bank: Any, threshold: Any, bias: Any, floor: Any, reset_by: Any, rule: Any, limits: Any, readout: bool, spikes: Any
) -> int:
    """One step of n samples x m neurons in place; returns the number of saturations.

    v, i, bank int64 [n, m]; threshold, bias, floor, reset_by int64 [m]; rule = (decay_v, decay_i, strict, reset mode, rounding) with decays as
    4096ths lost; limits = (low, high); spikes uint8 [n, m] is written.
    """
    decay_v, decay_i, strict, mode, rounding = rule
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
            fired = not readout and _fires(potential, threshold[k], strict)
            spikes[sample, k] = fired
            v[sample, k] = _reset(potential, mode, reset_by[k]) if fired else potential
    return saturations
