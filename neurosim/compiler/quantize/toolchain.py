"""Integers as a chip's own tool-chain makes them, where it documents how: sinabs for DYNAP-CNN and Speck (sinabs.backend.dynapcnn, at 904eb89).

A layer has one factor for weights, bias, threshold and lower clamp: the largest with which each of them fits its word, weights and bias
``weight_bits``, the others ``state_bits``, both ends of the two's complement range included. Everything is multiplied by it and rounded to a
whole number, halves to even, in single precision. A layer without a lower clamp has the word's end for one, which bounds no factor here (sinabs takes
that end for a value in the units of the weights, which makes factors above 1 impossible).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.graph import NeuronRule

Single = NDArray[np.float32]


def common_factor(rule: NeuronRule, weights: Iterable[NDArray[Any]], chip: Chip) -> np.float32 | None:
    """Units per 1.0 of a layer; None where it has neither weights nor parameters other than 0."""
    words = chip.arithmetic
    potentials = [rule.threshold, *(value for value in (rule.floor, rule.v_init, rule.reset_by) if value is not None)]
    together = np.concatenate([np.asarray(value, np.float32).ravel() for value in potentials])
    factors = [_largest(np.asarray(w, np.float32), words.weight_bits) for w in (*weights, rule.bias) if np.size(w)]
    least = min([*factors, _largest(together, words.state_bits)])
    return least if math.isfinite(float(least)) and least > 0 else None


def whole(values: Any, factor: np.float32) -> NDArray[np.int64]:
    """Real numbers in units of 1 / ``factor``."""
    return np.round(np.asarray(values, np.float32) * factor).astype(np.int64)


def _largest(values: Single, bits: int) -> np.float32:
    """The largest factor with which all values fit so many bits; infinite for zeros."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    least, most = values.min(), values.max()
    end, value = (high, most) if abs(least) <= abs(most) * np.float32(abs(low / high)) else (low, least)
    return np.float32(np.inf) if value == 0 else abs(np.float32(end) / value)
