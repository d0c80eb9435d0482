"""What lowering has so far: values of layers, populations, projections; and what it asks of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from neurosim.compiler.lower.expression import Expression, Pending, Term, largest_sum, project, spikes_of, through, whole_counts
from neurosim.compiler.lower.stages import Reshape, Stage
from neurosim.compiler.lower.windows import is_identity
from neurosim.errors import UnsupportedLayer
from neurosim.graph import Population, Projection, Rewrite, Shape, SumPool, pass_rule
from neurosim.network import Layer, Network
from neurosim.ops import REGISTER_BITS, Coincidence, MaxPool

MOST = 2**REGISTER_BITS - 1
"""Largest value of a cell that holds spikes, and of a spike."""


@dataclass
class State:
    """What lowering has so far: ``values`` of layers, populations by name, projections, notes about layers for the log."""

    net: Network
    needed: set[str]
    values: dict[str, Expression] = field(default_factory=dict)
    driven: dict[str, Expression] = field(default_factory=dict)
    """What enters the neurons of each lif, in the unit of its membrane."""
    populations: dict[str, Population] = field(default_factory=dict)
    projections: list[Projection] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, Rewrite] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)
    """Mask lifs that a gate's count replaced."""

    @cached_property
    def ops(self) -> dict[str, str]:
        """Op of every layer."""
        return {layer.name: layer.op for layer in self.net.layers.values()}

    def value(self, name: str, reader: Layer) -> Expression:
        """The value of a layer as a plain expression; an op that still waits for its neuron gets one that passes counts on, where that is exact."""
        value = self.values[name]
        if value.pending is not None:
            self.values[name] = value = self._counted(name, value, reader)
        return value

    def _counted(self, name: str, value: Expression, reader: Layer) -> Expression:
        pending = value.pending
        assert pending is not None
        what = f"{reader.name} ({reader.op})"
        if isinstance(pending.op, Coincidence):
            raise UnsupportedLayer(
                pending.layer, "attention", f"its sums go into a lif layer, through scale alone; {what} reads them",
                value=reader.op, limit="lif, scale", remedy="put the lif layer directly behind the attention",
            )  # fmt: skip
        counts = None
        if name == pending.layer and not np.any(value.bias) and pending.bias is None:
            counts = self.counts(name, pending.op.source, pending.operands[0][1], "window")
        if counts is None:
            raise UnsupportedLayer(
                pending.layer, "max_pool", f"the largest of real values goes into a lif layer, through scale or batch_norm alone; {what} reads it",
                value=reader.op, limit="lif, scale, batch_norm", remedy="put a lif layer directly behind the max-pool, or directly before it",
            )  # fmt: skip
        most = self.bounded(self.net.layers[name], "it pools sums of spikes", largest_sum(counts, self.populations, pending.op.source))
        self.populations[name] = Population(name, value.shape, "spiking", pass_rule(most), op=pending.op)
        self.projections += counts
        self.notes[name] = Rewrite(name, "max_pool", "native", f"the largest of sums of spikes, up to {most}, sent as one spike of that value")
        return spikes_of(name, value.shape)

    def counts(self, target: str, shape: Shape, terms: tuple[Term, ...], operand: str = "") -> list[Projection] | None:
        """The terms as projections of whole weights of at least 0; None where they are no counts of spikes."""
        if any(self.populations[t.source].kind == "analog" for t in terms):
            return None
        return whole_counts(self.project(target, shape, terms, operand), self.populations)

    def project(self, target: str, shape: Shape, terms: tuple[Term, ...], operand: str = "") -> list[Projection]:
        """The terms as projections."""
        return project(target, shape, terms, self.populations, self.ops, operand)

    def bounded(self, layer: Layer, reason: str, most: int) -> int:
        """``most``, at least 1; raises UnsupportedLayer above the largest value of a spike."""
        if most > MOST:
            raise UnsupportedLayer(layer.name, layer.op, reason, value=most, limit=MOST, remedy="put a lif layer in between, or add fewer spikes")
        return max(1, most)

    def passed(self, layer: Layer, stages: list[Stage]) -> Expression | None:
        """A linear layer behind an op that waits for its neuron: by factors above 0, and for an attention also a reshape of pixels; else None."""
        value = self.values[layer.inputs[0]]
        pending = value.pending
        assert pending is not None
        (stage,) = stages
        if isinstance(stage, SumPool) and is_identity(stage):
            return replace(value, terms=through(value.terms, stages, self.populations, layer.name), pending=self._times(layer, pending, stage))
        if isinstance(stage, Reshape) and isinstance(pending.op, Coincidence) and stage.shape[0] == value.shape[0] and not value.terms:
            operands = tuple((name, through(terms, stages, self.populations, layer.name)) for name, terms in pending.operands)
            return Expression((), value.bias.reshape(stage.shape), replace(pending, operands=operands))
        return None

    def _times(self, layer: Layer, pending: Pending, factor: SumPool) -> Pending:
        """The op followed by a factor per channel."""
        least, most = float(factor.weight.min()), float(factor.weight.max())
        if least <= 0:
            raise UnsupportedLayer(
                layer.name, layer.op, f"it multiplies what {pending.layer} gives, which goes only into factors above 0", value=least, limit="above 0",
                remedy=f"put it before {pending.layer}" if isinstance(pending.op, MaxPool) else "use a scale above 0",
            )  # fmt: skip
        if isinstance(pending.op, MaxPool):
            name, terms = pending.operands[0]
            bias = None if pending.bias is None else pending.bias * factor.weight[:, None, None]
            return replace(pending, operands=((name, through(terms, [factor], self.populations, layer.name)),), bias=bias)
        if least != most:
            raise UnsupportedLayer(
                layer.name, layer.op, f"{pending.layer} has one scale for all channels", value=f"{least:.6g} to {most:.6g}", limit="one factor",
                remedy="use one factor, or put the others into the lif's thresholds",
            )  # fmt: skip
        operands = tuple((name, tuple(replace(t, layers=(*t.layers, layer.name)) for t in terms)) for name, terms in pending.operands)
        self.notes[layer.name] = Rewrite(layer.name, layer.op, "rewritten", f"became the scale of {pending.layer}")
        return replace(pending, op=replace(pending.op, scale=pending.op.scale * most), operands=operands)
