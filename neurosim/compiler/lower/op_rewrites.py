"""Extra ops written with ordinary neurons, exact under steps (``--rewrite``), for chips that lack them; and which rewritings were asked for.

* ``maxpool=or_pool``: an or_pool is neurons that fire on anything and keep nothing. A max-pool of currents before a lif is, in a
  network of one step, the or_pool of that lif over the map before the pooling.
* ``gate=neurons``: a mask neuron per group fires in the steps in which its count is reached (latched: from then on); a neuron per data neuron adds
  data and mask and fires at two, or inverted fires at data less mask.
* ``avgpool=sum``: average pools leave out their division. That is another network, the one meant where weights were made for sums, as on chips
  whose pools add spikes. Averages themselves need no flag: their factor goes into the weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurosim.arithmetic import DECAY_ONE
from neurosim.compiler.lower.expression import largest_sum
from neurosim.compiler.lower.network import lower
from neurosim.compiler.lower.stages import append, finish
from neurosim.errors import ModelError
from neurosim.graph import Conv2d, Graph, LinearMap, NeuronRule, Population, Projection, Shape, Sparse, SumPool
from neurosim.network import Network
from neurosim.ops import Gate, MaxPool, OrPool, group_of

CHOICES = {"maxpool": "or_pool", "gate": "neurons", "avgpool": "sum"}
"""What can be rewritten, and into what."""
SPREAD_MAP = 8
"""Largest map onto which one pixel is spread by a convolution, whose padding chips limit to 7; larger ones by a sparse map."""


@dataclass(frozen=True)
class Rewrites:
    """The rewritings that the user asked for."""

    maxpool: bool = False
    gate: bool = False
    avgpool: bool = False


def read_rewrites(given: Mapping[str, str] | None) -> Rewrites:
    """``{"maxpool": "or_pool", ...}`` as Rewrites. Raises ModelError for an unknown name or value."""
    for name, value in (given or {}).items():
        if CHOICES.get(name) != value:
            known = ", ".join(f"{key}={into}" for key, into in CHOICES.items())
            raise ModelError(f"rewrite {name}={value} is unknown; there are {known}")
    return Rewrites(**{name: True for name in given or {}})


def lower_for(net: Network, rewrites: Rewrites) -> Graph:
    """The lowered network with the rewritings asked for."""
    graph = lower(net, sums_for_averages=rewrites.avgpool)
    return rewrite_ops(graph, [p.name for p in graph.populations if _asked(p, rewrites)])


def _asked(population: Population, rewrites: Rewrites) -> bool:
    return rewrites.gate if isinstance(population.op, Gate) else rewrites.maxpool and isinstance(population.op, OrPool | MaxPool)


def rewrite_ops(graph: Graph, names: Collection[str]) -> Graph:
    """The graph with the ops of those populations as neurons, where that is exact (``obstacle`` says why not)."""
    for name in names:
        population = graph.population(name)
        if population.op is not None and not population.host and not obstacle(graph, population):
            match population.op:
                case OrPool():
                    graph = _or_neurons(graph, population)
                case MaxPool():
                    graph = _pool_after(graph, population, population.op)
                case Gate():
                    graph = _gate_neurons(graph, population, population.op)
    graph.verify()
    return graph


def obstacle(graph: Graph, population: Population) -> str:
    """Why a population's op has no exact rewriting; empty where it has one."""
    op, rule = population.op, population.rule
    assert rule is not None
    match op:
        case OrPool():
            return ""
        case MaxPool():
            if graph.steps > 1:
                return f"a max-pool of values before a lif is an OR of its spikes in one step alone, the network has {graph.steps}"
            if rule.max_spikes > 1:
                return "several spikes per neuron and step come out of it"
            if any(not p.operand for p in graph.into(population.name)):
                return "something is added behind the max-pool"
            arrays = (rule.threshold, rule.bias, rule.floor, rule.reset_by, rule.v_init)
            if any(a is not None and np.ndim(a) == 3 and np.shape(a)[1:] != (1, 1) for a in arrays):
                return "the thresholds or biases behind the max-pool differ from pixel to pixel"
            return ""
        case Gate():
            populations = {p.name: p for p in graph.populations}
            if any(largest_sum([p], populations, population.shape) > 1 for p in graph.into(population.name) if not p.operand):
                return "its data carry several spikes per neuron and step"
            return ""
    return "it multiplies spikes by spikes"


def _replace(graph: Graph, name: str, populations: list[Population], into: list[Projection], outof: list[Projection], text: str) -> Graph:
    """The graph with ``populations`` in place of one, with their projections; ``text`` tells the log."""
    after: list[Population] = []
    for p in graph.populations:
        after += populations if p.name == name else [p]
    order = {p.name: k for k, p in enumerate(after)}
    kept = [p for p in graph.projections if name not in (p.source, p.target)]
    joined = sorted([*kept, *into, *outof], key=lambda p: order[p.target])
    layer = event_layer(graph, graph.population(name))
    rewrites = tuple(replace(r, status="rewritten", text=text) if r.layer == layer else r for r in graph.rewrites)
    return replace(graph, populations=tuple(after), projections=tuple(joined), rewrites=rewrites)


def event_layer(graph: Graph, population: Population) -> str:
    """The layer that gave the population its op: a max-pool or attention before it, else the layer of its own name."""
    carried = {name for p in graph.into(population.name) if p.operand for name in p.layers}
    return next((r.layer for r in graph.rewrites if r.op in ("max_pool", "attention") and r.layer in carried), population.name)


def _unused(graph: Graph, name: str) -> str:
    """The name, with a number behind it where a layer has it already."""
    taken = {p.name for p in graph.populations}
    return next(free for k in itertools.count(1) if (free := name if k == 1 else f"{name}.{k}") not in taken)


def _or_neurons(graph: Graph, population: Population) -> Graph:
    name = population.name
    text = "or_pool as ordinary neurons that fire on any spike and keep nothing"
    return _replace(graph, name, [replace(population, rule=_forgetful(graph), op=None)], graph.into(name), graph.outof(name), text)


def _forgetful(graph: Graph, threshold: float = 1.0) -> NeuronRule:
    """Rule of neurons that keep nothing from step to step; with one step nothing needs to be forgotten, and chips without leak can have them."""
    return NeuronRule(np.full((1, 1, 1), threshold), np.zeros((1, 1, 1)), 0 if graph.steps > 1 else DECAY_ONE)


def _pool_after(graph: Graph, population: Population, op: MaxPool) -> Graph:
    name = population.name
    whole = replace(population, name=_unused(graph, f"{name}.unpooled"), shape=op.source, op=None)
    pooled = replace(population, rule=_forgetful(graph), op=None)
    into = [replace(p, target=whole.name, operand="") for p in graph.into(name)]
    pool = SumPool(np.ones(op.source[0]), op.kernel, op.stride, op.padding)
    into.append(Projection(whole.name, name, pool, layers=(event_layer(graph, population),)))
    text = f"in one step the max-pool of values before {name} is the OR of its spikes, which {whole.name} fires before the pooling"
    return _replace(graph, name, [whole, pooled], into, graph.outof(name), text)


def _gate_neurons(graph: Graph, population: Population, op: Gate) -> Graph:
    """A mask neuron per group, unless the mask is single spikes already, and for every data projection a population of AND neurons."""
    name = population.name
    shapes = {p.name: p for p in graph.populations}
    masks = [p for p in graph.into(name) if p.operand]
    data = [p for p in graph.into(name) if not p.operand]
    spread = _spread(op, population.shape)
    sign = -1.0 if op.inverted else 1.0
    parts = [name] if len(data) < 2 else [_unused(graph, f"{name}.{k + 1}") for k in range(len(data))]
    rule = _forgetful(graph, 1.0 if op.inverted else 2.0)
    added: list[Population] = []
    onto: list[Projection] = []  # the mask, onto every part
    into: list[Projection] = []
    single = len(masks) == 1 and op.count == 1 and not op.latched and largest_sum(masks, shapes, op.groups) <= 1 and not masks[0].channel_offset
    composed = finish(append((masks[0].map,), spread, shapes[masks[0].source].shape), shapes[masks[0].source].shape) if single else None
    if composed is not None and not composed[1]:
        onto = [replace(masks[0], map=_times(composed[0], sign), operand="")]
        how = "its mask's spikes"
    else:
        mask = Population(_unused(graph, f"{name}.mask"), op.groups, "spiking", _mask_rule(graph, op))
        added.append(mask)
        into += [replace(p, target=mask.name, operand="") for p in masks]
        onto = [Projection(mask.name, name, _times(spread, sign), layers=(name,))]
        how = "a mask neuron per group"
    outof: list[Projection] = []
    for k, part in enumerate(parts):
        added.append(replace(population, name=part, rule=rule, op=None))
        into += [replace(p, target=part) for p in [*data[k : k + 1], *onto]]
        outof += [replace(p, source=part) for p in graph.outof(name)]
    text = f"{how}, and neurons that fire at data {'less' if op.inverted else 'and'} mask and keep nothing"
    return _replace(graph, name, added, into, outof, text)


def _mask_rule(graph: Graph, op: Gate) -> NeuronRule:
    if not op.latched:
        return _forgetful(graph, float(op.count))
    # it keeps its sum, so it fires in every step once that has reached the count
    return replace(_forgetful(graph, float(op.count)), decay=DECAY_ONE, reset="subtract", reset_by=np.zeros((1, 1, 1)))


def _times(m: LinearMap, factor: float) -> LinearMap:
    return replace(m, weight=np.asarray(m.weight) * factor)


def _spread(op: Gate, shape: Shape) -> LinearMap:
    """Groups onto the neurons that belong to them, with weight 1."""
    channels, height, width = shape
    if op.groups[1:] == (height, width):
        return Conv2d(np.ones((channels, 1, 1, 1)), groups=op.groups[0])
    if op.groups[1:] == (1, 1) and max(height, width) <= SPREAD_MAP:
        return Conv2d(np.ones((channels, 1, height, width)), padding=(height - 1, width - 1), groups=op.groups[0])
    group = group_of(op, shape).ravel()
    order = np.argsort(group, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=int(np.prod(op.groups))))])
    return Sparse(indptr.astype(np.int64), order.astype(np.int64), np.ones(group.size), shape)
