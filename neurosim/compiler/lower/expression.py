"""The value of a layer while lowering: an affine expression over spike trains and raw pixels, and what waits for its neuron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.lower.stages import Chain, Stage, append, finish, merge
from neurosim.compiler.quantize import span
from neurosim.errors import UnsupportedLayer
from neurosim.graph import Population, Projection, Shape
from neurosim.ops import Coincidence, MaxPool

Floats = NDArray[np.float64]
CLOSE = 1e-9
"""How far, relatively, numbers that are meant to be whole may be from it after a division."""
MOST_PARTS = 16
"""The least of several weights is tried as so many units at most."""


@dataclass(frozen=True)
class Term:
    """What one population contributes: ``chain`` applied to its value ``delay`` steps ago. ``layers``: the layers folded into the chain."""

    source: str
    delay: int
    chain: Chain
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pending:
    """A max-pool or an attention whose neuron is still to come: its op, and the terms of each operand. ``layer``: its name.

    ``bias`` (source shape of a max-pool): what enters the windows beside the terms where that depends on the pixel, else None.
    """

    op: MaxPool | Coincidence
    layer: str
    operands: tuple[tuple[str, tuple[Term, ...]], ...]
    bias: Floats | None = None


@dataclass(frozen=True)
class Expression:
    """Sum of terms, plus a constant per step, plus at most one pending op."""

    terms: tuple[Term, ...]
    bias: Floats
    """(c, y, x)"""
    pending: Pending | None = None

    @property
    def shape(self) -> Shape:
        """(c, y, x) of the value."""
        c, y, x = self.bias.shape
        return c, y, x


def spikes_of(name: str, shape: Shape) -> Expression:
    """The output of a population."""
    return Expression((Term(name, 0, ()),), np.zeros(shape))


def through(terms: Sequence[Term], stages: Sequence[Stage], populations: Mapping[str, Population], name: str | None = None) -> tuple[Term, ...]:
    """Terms followed by linear stages, which belong to the layer ``name``."""
    result = []
    for term in terms:
        chain, shape = term.chain, populations[term.source].shape
        for stage in stages:
            chain = append(chain, stage, shape)
        result.append(replace(term, chain=chain, layers=term.layers if name is None else (*term.layers, name)))
    return tuple(result)


def project(
    target: str, shape: Shape, terms: Sequence[Term], populations: Mapping[str, Population], ops: Mapping[str, str], operand: str = ""
) -> list[Projection]:
    """Terms as projections onto cells of ``shape``; those of one source and delay are merged where their maps allow.

    ``ops``: op of every layer, for messages. Raises UnsupportedLayer where the layers between have no compact form.
    """
    result: list[Projection] = []
    for term in terms:
        source = populations[term.source].shape
        done = finish(term.chain, source)
        if done is None:
            name = term.layers[-1] if term.layers else target
            raise UnsupportedLayer(
                name, ops.get(name, "lif"), f"the linear layers {', '.join(term.layers)} between {term.source} and {target} have no compact form",
                value=f"{np.prod(source) * np.prod(shape):.3g} weights", limit="16.8 M", remedy="put a lif layer between them",
            )  # fmt: skip
        projection = Projection(term.source, target, done[0], term.delay, channel_offset=done[1], layers=term.layers, operand=operand)
        for k, other in enumerate(result):
            if (other.source, other.delay, other.channel_offset) == (projection.source, projection.delay, projection.channel_offset):
                both = merge(other.map, projection.map)
                if both is not None:
                    result[k] = replace(other, map=both, layers=tuple(dict.fromkeys(other.layers + projection.layers)))
                    break
        else:
            result.append(projection)
    return result


def whole_counts(projections: Sequence[Projection], populations: Mapping[str, Population], unit: float = 1.0) -> list[Projection] | None:
    """The projections with weights divided by ``unit`` and rounded, if that makes them whole numbers of at least 0 times spikes; else None."""
    result = []
    for p in projections:
        weight = np.asarray(p.map.weight, np.float64) / unit
        rounded = np.round(weight)
        if populations[p.source].kind == "analog" or np.any(rounded < 0) or np.any(np.abs(weight - rounded) > CLOSE * np.maximum(1.0, rounded)):
            return None
        result.append(replace(p, map=replace(p.map, weight=rounded)))
    return result


def counts_of(projections: Sequence[Projection], populations: Mapping[str, Population]) -> tuple[list[Projection], float] | None:
    """(projections of whole weights, the unit that they were multiples of): the largest unit that is the least weight over a small whole number.

    None where the weights have no such unit, or some are below 0, or are no weights of spikes.
    """
    least = min((float(some.min()) for p in projections if (some := np.asarray(p.map.weight)[np.asarray(p.map.weight) > 0]).size), default=1.0)
    for parts in range(1, MOST_PARTS + 1):
        counts = whole_counts(projections, populations, least / parts)
        if counts is not None:
            return counts, least / parts
    return None


def largest_sum(projections: Sequence[Projection], populations: Mapping[str, Population], shape: Shape) -> int:
    """The most that whole projections can add to one cell of ``shape`` in a step."""
    total = np.zeros(shape)
    for p in projections:
        most, _ = span(p, populations[p.source], (0, 0))
        total[p.channel_offset : p.channel_offset + len(most)] += most
    return round(float(total.max(initial=0.0)))
