"""Populations whose numbers are whole already: they go to the chip as they are, one unit worth 1, nothing rounded.

That is so for networks of integers (``Network(integers=...)``), whose decays are meant to round on the chip, and for any other population whose
weights, threshold, bias, floor and start are whole and whose decays are 0 or 1, so that real and integer arithmetic agree. Of every projection the
power of two common to its weights becomes its shift. A readout that counts over T steps has units of 1 / T.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE
from neurosim.chip import Chip
from neurosim.compiler.quantize.ranges import Reach, largest_parameter, membrane_bound
from neurosim.compiler.quantize.sums import bank_sums, counts_spikes
from neurosim.graph import Graph, NeuronRule, Population, Projection
from neurosim.ops import Coincidence

HEADROOM = 2**50
"""Bound of every membrane: 4096 times it still fits int64, which the decay needs."""
CLOSE = 1e-9
"""How far from whole a readout's numbers may be in its units: 1 / T is no binary fraction."""


def exact_integers(graph: Graph, population: Population, chip: Chip, bounds: Reach) -> tuple[Population, list[tuple[Projection, Projection]]] | str:
    """(integer population, (real, integer) projections into it), or why there is none: a text, empty where its numbers are simply real."""
    rule, into = population.rule, graph.into(population.name)
    assert rule is not None
    if population.host or any(graph.population(p.source).kind == "analog" for p in into):
        return ""
    if graph.integers is None and not {rule.decay, rule.decay_current} <= {0, DECAY_ONE, None}:
        return ""
    units = [1.0, 1.0 / graph.steps] if population.kind == "readout" else [1.0]
    unit = next((u for u in units if all(_is_whole(value, u) for value in (*(p.map.weight for p in into), *_parameters(population)))), None)
    if unit is None:
        return ""
    op = population.op
    if isinstance(op, Coincidence):
        shift = round(math.log2(op.scale))
        if op.scale != 2.0**shift or shift < 0:
            return f"the scale {op.scale:g} of its coincidences is no power of two of at least 1" if graph.integers else ""
        op = replace(op, shift=shift)
    integer = replace(population, rule=_integer_rule(population, unit), op=op)
    pairs = [(p, whole_projection(p) if counts_spikes(population, p.operand) else _integer_projection(p, unit, chip)) for p in into]
    reason = _misfit(graph, integer, [p for _, p in pairs], chip, membrane_bound(population, bounds, graph.steps) / unit)
    if reason:
        return reason
    return replace(integer, scale=np.full(population.shape[0], unit)), pairs


def whole_projection(p: Projection) -> Projection:
    """A projection of whole weights that keep their value, shift 0."""
    return replace(p, map=replace(p.map, weight=np.round(np.asarray(p.map.weight, np.float64)).astype(np.int64)), shift=0)


def _is_whole(value: NDArray[np.generic], unit: float) -> bool:
    scaled = np.asarray(value, np.float64) / unit
    if unit == 1.0:
        return bool(np.all(scaled == np.round(scaled)))
    return bool(np.all(np.abs(scaled - np.round(scaled)) <= CLOSE * np.maximum(1.0, np.abs(scaled))))


def _parameters(population: Population) -> list[NDArray[np.generic]]:
    rule = population.rule
    assert rule is not None
    values = [rule.bias, rule.floor, rule.v_init, *(() if population.kind == "readout" else (rule.threshold, rule.reset_by))]
    return [np.asarray(value) for value in values if value is not None]


def _integer_rule(population: Population, unit: float) -> NeuronRule:
    rule = population.rule
    assert rule is not None

    def whole(value: NDArray[np.generic]) -> NDArray[np.int64]:
        return np.round(np.asarray(value, np.float64) / unit).astype(np.int64)

    threshold = np.ones((1, 1, 1), np.int64) if population.kind == "readout" else whole(rule.threshold)
    return replace(
        rule,
        threshold=threshold,
        bias=whole(rule.bias),
        reset_by=None if rule.reset_by is None else whole(rule.reset_by),
        floor=None if rule.floor is None else whole(rule.floor),
        v_init=None if rule.v_init is None else whole(rule.v_init),
    )


def _integer_projection(p: Projection, unit: float, chip: Chip) -> Projection:
    weight = np.round(np.asarray(p.map.weight, np.float64) / unit).astype(np.int64)
    bits = int(np.bitwise_or.reduce(np.abs(weight), axis=None)) if weight.size else 0
    shift = min((bits & -bits).bit_length() - 1, chip.arithmetic.max_shift) if bits else 0
    return replace(p, map=replace(p.map, weight=weight >> shift), shift=shift)


def _misfit(graph: Graph, population: Population, into: list[Projection], chip: Chip, bound: NDArray[np.float64]) -> str:
    """What of the whole numbers the chip has no room for."""
    a, rule = chip.arithmetic, population.rule
    assert rule is not None
    for p in into:
        low, high = (int(p.map.weight.min()), int(p.map.weight.max())) if p.map.weight.size else (0, 0)
        if low < -(2 ** (a.weight_bits - 1)) or high >= 2 ** (a.weight_bits - 1):
            return f"weights from {p.source} reach {low << p.shift} to {high << p.shift}, more than {a.weight_bits} bits with any shift"
    limit = 2 ** (a.state_bits - 1) - 1
    largest = int(largest_parameter(population, rule).max())
    if largest > limit:
        return f"threshold, bias, floor or v_init reach {largest}, the limit of {a.state_bits} bits is {limit}"
    for total in bank_sums(graph, population, into, a.acc_bits, (0, 0)):
        if total.value > min(total.limit, HEADROOM * 2**11):
            return f"{total.what} can reach {total.value:.0f}, its word holds {total.limit:.0f}"
    if min(float(bound.max()), limit) > HEADROOM:
        return f"membranes can reach {float(bound.max()):.3g}, beyond 2**50"
    return ""
