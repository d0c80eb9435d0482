"""Graph: populations of neurons joined by linear projections, what is left of a Network when all that is linear between spikes is folded.

Shapes are (channels, height, width); arrays per neuron have that shape. A Graph exists in two forms with the same classes: in real numbers after
the ``lower`` pass (float64), and in integers after ``quantize`` (int64), where a population carries ``scale``, the real value of one unit.

A population's input in a step is the sum of its projections plus its own bias (DESIGN section 2); its rule is ``NeuronRule``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE
from neurosim.errors import ModelError
from neurosim.maps import Conv2d as Conv2d
from neurosim.maps import Dense as Dense
from neurosim.maps import LinearMap as LinearMap
from neurosim.maps import Pooling as Pooling
from neurosim.maps import Sparse as Sparse
from neurosim.maps import SumPool as SumPool
from neurosim.maps import TokenMix as TokenMix
from neurosim.maps import stable_order as stable_order
from neurosim.maps import windows_of as windows_of
from neurosim.ops import MaxPool, Op
from neurosim.ops import Shape as Shape
from neurosim.order import ModuleOrder

Array = NDArray[Any]
Rounding = Literal["floor", "zero", "nearest"]
Kind = Literal["analog", "input", "spiking", "readout"]


@dataclass(frozen=True)
class NeuronRule:
    """One neuron rule; every array broadcasts to the population's (c, y, x). Real numbers after lowering, integers after quantising.

    v <- decay * v + i + bias;  v <- max(v, floor);  fire if v >= threshold (> when strict);  v <- 0 or v - n * reset_by.
    A sample begins with v = ``v_init`` (None: 0).
    ``decay`` is a fraction of 4096ths kept: 2048 is one half, 4096 no leak. ``decay_current`` likewise, None without a synaptic current.
    n = min(max_spikes, floor(v / threshold)) spikes leave as one of value n; when strict, n is the largest with v > n * threshold. With several
    spikes per step ``reset_by`` is 0 to 2 thresholds, so that v cannot leave its range downwards.
    """

    threshold: Array
    bias: Array
    decay: int = 4096
    reset: Literal["zero", "subtract"] = "zero"
    reset_by: Array | None = None
    floor: Array | None = None
    strict: bool = False
    decay_current: int | None = None
    max_spikes: int = 1
    """Most spikes per step, at most 255."""
    v_init: Array | None = None


def pass_rule(max_spikes: int = 1) -> NeuronRule:
    """Rule of a population that passes spikes on (or_pool, gate, OR neurons): fires on an input of at least 1, keeps nothing from step to step."""
    return NeuronRule(np.ones((1, 1, 1), np.int64), np.zeros((1, 1, 1), np.int64), decay=0, max_spikes=max_spikes)


@dataclass(frozen=True)
class Population:
    """Neurons of one layer. ``name``: the qualified name of the layer it came from.

    Kinds: ``analog`` real-valued input (exists on the host only), ``input`` spikes from outside, ``spiking``, ``readout`` (accumulates, never fires).
    ``host`` is True for a spiking population that the host section computes. ``scale`` (channels,): real value of one integer unit.
    ``op`` of a spiking population: what makes its neurons' input from its cells (neurosim.ops); or_pool and gate have ``pass_rule``. The host section
    knows max_pool alone. ``window_bias`` (the op's source shape) of such a host population: what every cell of its windows begins with, as the mean
    of an image leaves beside a padded border; what does not depend on the pixel is in the rule's bias. ``order``: as in ``network.Layer``.
    """

    name: str
    shape: Shape
    kind: Kind
    rule: NeuronRule | None = None
    host: bool = False
    scale: NDArray[np.float64] | None = None
    op: Op | None = None
    window_bias: Array | None = None
    order: ModuleOrder | None = None
    part_of: str = ""
    """Of a readout: the readout before it, of the same shape, to whose membranes the host adds its own; together they are the scores."""

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Projection:
    """A linear map from ``source`` to channels [offset, offset + channels of the map's output) of ``target``.

    After quantising the real weight is ``map.weight * 2**shift * target.scale``. ``layers`` are the layers folded into the map.
    Analog projections (source kind analog) are computed by the host: ``fraction_bits`` of fixed point below the target's unit.
    ``channel_offset``: channel of the target at which the output begins. ``operand``: which cells of the target's op it fills; "" its neurons' own.
    Weights into or_pool, a gate, k, v and q are whole numbers of at least 0, before quantising too, and keep their value (shift 0).
    """

    source: str
    target: str
    map: LinearMap
    delay: int = 0
    shift: int = 0
    channel_offset: int = 0
    fraction_bits: int = 0
    layers: tuple[str, ...] = ()
    operand: str = ""


@dataclass(frozen=True)
class Rewrite:
    """What became of one layer: ``status`` native, rewritten, host or dropped, and the rewrite in words."""

    layer: str
    op: str
    status: Literal["native", "rewritten", "host", "dropped", "refused"]
    text: str


@dataclass(frozen=True)
class Graph:
    """Populations in topological order and projections in Program order (by target, then as lowered)."""

    name: str
    steps: int
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    rewrites: tuple[Rewrite, ...] = ()
    class_names: tuple[str, ...] = ()
    dense_macs: int = 0
    """Dense multiply-accumulates per step of the unlowered network, for the host's share."""
    warnings: tuple[str, ...] = field(default=())
    integers: Rounding | None = None
    """The network's numbers are whole and meant as they are, its decays rounded like this; None: they are real."""
    exact: tuple[str, ...] = ()
    """After quantising: populations whose integers are the network's own numbers."""

    def population(self, name: str) -> Population:
        """The population of that name; raises ModelError with the names there are."""
        if name not in self._named:
            raise ModelError(f"population {name!r} does not exist; there are {', '.join(p.name for p in self.populations)}")
        return self._named[name]

    def into(self, name: str) -> list[Projection]:
        """Projections into a population, in Program order."""
        return list(self._into.get(name, ()))

    def outof(self, name: str) -> list[Projection]:
        """Projections out of a population, in Program order."""
        return list(self._outof.get(name, ()))

    def rewrites_of(self, layers: Iterable[str]) -> list[Rewrite]:
        """What became of some layers, in the order of the log."""
        found = {number: row for layer in layers for number, row in self._told.get(layer, ())}
        return [found[number] for number in sorted(found)]

    # indices, made once: a Graph never changes, and every pass asks per population

    @cached_property
    def _named(self) -> dict[str, Population]:
        return {p.name: p for p in reversed(self.populations)}

    @cached_property
    def _into(self) -> dict[str, list[Projection]]:
        return self._by(lambda p: p.target)

    @cached_property
    def _outof(self) -> dict[str, list[Projection]]:
        return self._by(lambda p: p.source)

    @cached_property
    def _told(self) -> dict[str, list[tuple[int, Rewrite]]]:
        found: dict[str, list[tuple[int, Rewrite]]] = {}
        for number, rewrite in enumerate(self.rewrites):
            found.setdefault(rewrite.layer, []).append((number, rewrite))
        return found

    def _by(self, end: Callable[[Projection], str]) -> dict[str, list[Projection]]:
        found: dict[str, list[Projection]] = {}
        for projection in self.projections:
            found.setdefault(end(projection), []).append(projection)
        return found

    def target_shape(self, projection: Projection) -> Shape:
        """Shape of the cells that a projection fills: its target's own, or those of the operand. Raises ModelError for an unknown operand."""
        target = self.population(projection.target)
        if not projection.operand:
            return target.shape
        operands = target.op.operands(target.shape) if target.op is not None else {}
        if projection.operand not in operands:
            where = f"projection {projection.source} -> {projection.target}"
            raise ModelError(f"{where} fills operand {projection.operand!r}, the target has {', '.join(operands) or 'none'}")
        return operands[projection.operand]

    def with_(self, **changes: object) -> Graph:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]  # dataclasses.replace checks the names itself

    def verify(self) -> None:
        """Check names, shapes, thresholds, floors and undelayed cycles; raises ModelError naming the first that is wrong."""
        names = [p.name for p in self.populations]
        if len(set(names)) != len(names):
            raise ModelError(f"population name {next(n for n in names if names.count(n) > 1)!r} occurs twice")
        order = {name: k for k, name in enumerate(names)}
        for projection in self.projections:
            source, target = self.population(projection.source), self.population(projection.target)
            channels, height, width = projection.map.out_shape(source.shape)
            shape = self.target_shape(projection)
            if (height, width) != shape[1:] or projection.channel_offset + channels > shape[0]:
                raise ModelError(
                    f"projection {source.name} -> {target.name} gives {(channels, height, width)} at channel {projection.channel_offset}, "
                    f"the target has {shape}"
                )
            self._verify_counts(projection, source, target)
            if order[source.name] >= order[target.name] and projection.delay < 1:
                raise ModelError(f"projection {source.name} -> {target.name} closes a cycle without delay; give it a delay of at least 1 step")
        for population in self.populations:
            rule = population.rule
            if population.order is not None and len(population.order.index) != population.size:
                ordered = len(population.order.index)
                raise ModelError(f"population {population.name}: the order of its module has {ordered} of {population.size} neurons")
            if population.kind == "spiking" and rule is None:
                raise ModelError(f"population {population.name} is spiking but has no neuron rule")
            if population.op is not None:
                if population.kind != "spiking" or (population.host and population.op.name != "max_pool"):
                    raise ModelError(
                        f"population {population.name} has the op {population.op.name}, which belongs to spiking populations on the chip"
                    )
                population.op.operands(population.shape)  # checks the shapes
                if population.op.name in ("or_pool", "gate") and rule is not None and rule.strict:
                    raise ModelError(f"population {population.name}: the rule of its {population.op.name} is strict (v > threshold); use pass_rule()")
                if population.op.name in ("or_pool", "gate") and rule is not None and rule.v_init is not None:
                    raise ModelError(
                        f"population {population.name}: its {population.op.name} passes spikes on and has no start membrane; use pass_rule()"
                    )
            self._verify_part(population)
            if population.window_bias is not None and not (
                population.host and isinstance(population.op, MaxPool) and population.window_bias.shape == population.op.source
            ):
                raise ModelError(f"population {population.name} has a bias per cell of its windows, which only max_pool on the host has")
            if rule is not None and not 1 <= rule.max_spikes <= 255:
                raise ModelError(f"population {population.name}: max_spikes {rule.max_spikes} must lie in 1..255")
            if rule is not None and rule.max_spikes > 1 and rule.reset == "subtract" and rule.reset_by is not None:
                by = np.asarray(rule.reset_by)
                if np.any(by < 0) or np.any(by > 2 * np.asarray(rule.threshold)):  # then v - n * reset_by could leave the range of v
                    raise ModelError(
                        f"population {population.name}: reset_by of {by.min()} to {by.max()} with max_spikes {rule.max_spikes} must lie in 0 .. 2 "
                        "thresholds; train with the threshold as what is subtracted, or with one spike per step"
                    )
            if rule is None:
                continue
            if population.kind == "spiking" and not np.all(np.asarray(rule.threshold) > 0):
                raise ModelError(
                    f"population {population.name}: threshold {np.min(np.asarray(rule.threshold))} must be above 0; shift its coordinates"
                )
            if rule.floor is not None and np.any(np.asarray(rule.floor) > 0):
                raise ModelError(f"population {population.name}: floor {np.max(np.asarray(rule.floor))} must be at most 0; shift its coordinates")

    def _verify_counts(self, projection: Projection, source: Population, target: Population) -> None:
        """What or_pool, gates and the operands of coincidences add up are spikes, so their weights are whole and not negative."""
        if target.op is None or target.op.name == "max_pool" or (target.op.name == "coincidence" and not projection.operand):
            return
        weight = np.asarray(projection.map.weight)
        if source.kind == "analog" or np.any(weight < 0) or np.any(weight != np.round(weight)):
            what = f"{target.op.name}{' ' + projection.operand if projection.operand else ''}"
            raise ModelError(f"projection {source.name} -> {target.name} ({what}) must carry spikes with whole weights of at least 0")

    def _verify_part(self, population: Population) -> None:
        """Membranes of parts add up to those of one readout: nothing may leak, and nothing be cut off below."""
        if not population.part_of:
            return
        whole = self.population(population.part_of)
        rules = [p.rule for p in (whole, population) if p.rule is not None]
        plain = all(rule.decay == DECAY_ONE and rule.decay_current is None and rule.floor is None for rule in rules)
        if population.kind != "readout" or whole.kind != "readout" or whole.part_of or whole.shape != population.shape or not plain:
            raise ModelError(
                f"population {population.name} is no part of {whole.name}: both are readouts of one shape, without leak, synaptic current and floor"
            )

    def __str__(self) -> str:
        lines = [f"graph {self.name}: {self.steps} step(s), {sum(p.size for p in self.populations)} neurons"]
        for population in self.populations:
            place = " on the host" if population.host else ""
            op = "" if population.op is None else f" {population.op}"
            lines.append(f"  {population.kind:8} {population.name} {population.shape}{place}{op}")
            for p in self.into(population.name):
                lines.append(f"    {p.operand or '<-'} {p.source} by {p.map.op} {p.map.weight.shape} delay {p.delay} at channel {p.channel_offset}")
        return "\n".join(lines)
