"""Ranges that quantising must know: largest weights per channel, and proven bounds of inputs and membranes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE
from neurosim.golden.maps import apply_map
from neurosim.graph import Conv2d, Dense, LinearMap, NeuronRule, Population, Projection, Sparse, SumPool, TokenMix

Floats = NDArray[np.float64]
WEIGHTS_AT_A_TIME = 2**14


def per_weight(m: LinearMap, values: NDArray[Any]) -> NDArray[Any]:
    """A value per output channel of the map, shaped to broadcast over its weights (a head takes that of its first channel)."""
    match m:
        case Conv2d():
            return values[:, None, None, None]
        case Dense():
            return np.repeat(values, m.shape[1] * m.shape[2])[:, None]
        case TokenMix():
            return values[:: len(values) // len(m.weight)][:, None, None]
        case SumPool():
            return values
        case Sparse():
            return np.asarray(values[m.targets // (m.shape[1] * m.shape[2])])


def over_channels(m: LinearMap, values: NDArray[Any], channels: int, ufunc: np.ufunc) -> Floats:
    """Reduce a value per weight (all >= 0) to one per output channel with ``np.maximum`` or ``np.add``."""
    match m:
        case Conv2d() | SumPool():
            return np.asarray(ufunc.reduce(values.reshape(len(values), -1), axis=1, initial=0))
        case Dense():
            return np.asarray(ufunc.reduce(values.reshape(channels, -1), axis=1, initial=0))
        case TokenMix():
            return np.repeat(ufunc.reduce(values.reshape(len(values), -1), axis=1, initial=0), channels // len(values))
        case Sparse():
            result = np.zeros(channels)
            ufunc.at(result, m.targets // (m.shape[1] * m.shape[2]), values)
            return result


def rounding_error(m: LinearMap, unit: Floats, largest: int) -> Floats:
    """Sum per output channel of the squared error of the weights as whole multiples of ``unit`` (per channel), up to ``largest`` of them; what a
    pooling adds up several times counts so often."""
    if isinstance(m, Sparse):
        step = per_weight(m, unit)
        off = m.weight - np.clip(np.round(m.weight / step), -largest, largest) * step
        return over_channels(m, off * off, len(unit), np.add)
    heads = len(m.weight) if isinstance(m, TokenMix) else len(unit)
    weight, step = np.asarray(m.weight).reshape(heads, -1), unit[:: len(unit) // heads, None]
    times = repeated(m, np.ones(m.weight.shape[1:])).ravel() if isinstance(m, Conv2d) and m.pool is not None else None
    result = np.zeros(heads)
    rows = max(1, WEIGHTS_AT_A_TIME // max(1, weight.shape[1]))
    for first in range(0, heads, rows):  # what is worked on stays in the processor's cache
        part, unit_of = weight[first : first + rows], step[first : first + rows]
        off = part / unit_of
        np.rint(off, out=off)
        np.clip(off, -largest, largest, out=off)
        off *= unit_of
        np.subtract(part, off, out=off)
        off *= off
        if times is not None:
            off *= times
        result[first : first + rows] = np.add.reduce(off, axis=1, initial=0)
    return np.repeat(result, len(unit) // heads)


def outputs_per_channel(m: LinearMap, source: Population) -> int:
    """How many neurons of a channel have weights of their own: the number over which a channel's sum of squares is shared out."""
    if isinstance(m, Conv2d | SumPool):
        return 1
    _, height, width = m.out_shape(source.shape)
    return height * width


def repeated(m: LinearMap, values: NDArray[Any]) -> NDArray[Any]:
    """A value per weight, times how many pixels a pooling adds up for it (the mean over the map's outputs)."""
    if not isinstance(m, Conv2d) or m.pool is None:
        return values
    outputs = m.out_shape((m.weight.shape[1] * m.groups, len(m.pool.rows), len(m.pool.columns)))[1:]
    for k, counts in enumerate(m.pool.counts()):
        kernel = m.weight.shape[2 + k]
        taps = np.arange(outputs[k])[:, None] * m.stride[k] + np.arange(kernel) * m.dilation[k] - m.padding[k]
        inside = (taps >= 0) & (taps < len(counts))
        times = np.where(inside, counts[np.clip(taps, 0, len(counts) - 1)], 0).mean(axis=0)
        values = values * (times[:, None] if k == 0 else times)
    return values


def span(p: Projection, source: Population, pixels: tuple[int, int], events: int = 1) -> tuple[Floats, Floats]:
    """(greatest, least) contribution of a projection to each cell that it fills. Values of a source: ``pixels``, up to ``events`` events of an
    input, up to ``max_spikes`` of a neuron."""
    ones = np.ones((1, *source.shape))
    positive = apply_map(replace(p.map, weight=np.maximum(p.map.weight, 0).astype(np.float64)), ones)[0]
    negative = apply_map(replace(p.map, weight=np.minimum(p.map.weight, 0).astype(np.float64)), ones)[0]
    low, high = pixels if source.kind == "analog" else (0, events if source.rule is None else source.rule.max_spikes)
    return positive * high + negative * low, positive * low + negative * high


@dataclass(frozen=True)
class Reach:
    """Greatest and least (as a positive number) input of each neuron of a population in one step, (c, y, x), without bias; of the currents alone in
    ``current``."""

    up: Floats
    down: Floats
    current: Floats


def membrane_bound(population: Population, bounds: Reach, steps: int) -> Floats:
    """Greatest absolute value that a membrane (or synaptic current) can take before saturation in a sample of ``steps`` steps, (c, y, x)."""
    rule = population.rule
    assert rule is not None
    bias = np.broadcast_to(np.asarray(rule.bias, np.float64), population.shape)
    up, down = bounds.up, bounds.down
    if rule.decay_current is not None:
        growth = _growth(rule.decay_current, steps)
        up, down = up * growth, down * growth
    up, down = up + np.maximum(bias, 0), down + np.maximum(-bias, 0)
    growth = _growth(rule.decay, steps)
    accumulates = population.kind == "readout" or rule.reset == "subtract"
    start = np.zeros(1) if rule.v_init is None else np.asarray(rule.v_init, np.float64)  # no decay makes it larger
    above, below = np.maximum(start, 0), np.maximum(-start, 0)
    highest = up * growth + above if accumulates else np.maximum(np.asarray(rule.threshold, np.float64), above) + up
    lowest = down * growth + below
    if rule.floor is not None:
        lowest = np.minimum(lowest, down + np.maximum(-np.asarray(rule.floor, np.float64), below))
    return np.maximum(np.maximum(highest, lowest), largest_parameter(population, rule))


def largest_parameter(population: Population, rule: NeuronRule) -> Floats:
    """Largest absolute value among threshold, bias, floor, reset_by and v_init of each neuron."""
    values = [rule.bias, rule.v_init] if population.kind == "readout" else [rule.threshold, rule.bias, rule.floor, rule.reset_by, rule.v_init]
    result = np.zeros(population.shape)
    for value in values:
        if value is not None:
            result = np.maximum(result, np.abs(np.asarray(value, np.float64)))
    return result


def _growth(kept: int, steps: int) -> float:
    return float(sum((kept / DECAY_ONE) ** k for k in range(steps)))
