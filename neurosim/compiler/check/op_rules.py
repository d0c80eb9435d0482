"""What a chip's extra ops, spikes of several values and counted spikes are refused for. Rows are (layer, op, value, limit, reason, remedy)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from neurosim.arithmetic import DECAY_ONE
from neurosim.chip import Chip
from neurosim.compiler.lower import event_layer, obstacle
from neurosim.compiler.quantize import bank_sums, counts_spikes, largest_parameter
from neurosim.graph import Graph, Population, SumPool
from neurosim.ops import Coincidence, Gate, MaxPool, Op, OrPool

Row = tuple[str, str, Any, Any, str, str]
LAYER_OPS = {"or_pool": "max_pool", "max_pool": "max_pool", "gate": "gate", "coincidence": "attention"}
"""Op of the layer that gives a population its op."""
FLAGS = {"or_pool": "--rewrite maxpool=or_pool", "max_pool": "--rewrite maxpool=or_pool", "gate": "--rewrite gate=neurons"}
OTHERWISE = {
    "or_pool": "use sum_pool or a strided convolution",
    "max_pool": "put the max-pool behind the lif, or use a strided convolution",
    "gate": "leave the gate out",
    "coincidence": "use matrices of fixed weights (token mixing) instead of attention",
}


def op_rows(population: Population, chip: Chip, graph: Graph, works: Callable[[], bool]) -> Iterator[Row]:
    """``works``: whether the chip can run the op's rewriting into neurons."""
    op, rule = population.op, population.rule
    assert rule is not None
    layer = event_layer(graph, population)
    kind = "lif" if op is None else LAYER_OPS[op.name]
    c = chip.capabilities
    if op is not None and op.name not in c.ops:
        yield _lacking(layer, op, chip, graph, population, works)
        return
    if rule.max_spikes > c.neuron.max_spikes and any(sync != "free" for sync in chip.sync):
        own = any(r.layer == population.name and r.op == "lif" for r in graph.rewrites)
        what = "its neurons send spikes of several values" if own else "it passes sums of spikes on"
        remedy = f"train with at most {c.neuron.max_spikes} per step" if own else "put a lif layer before it"
        yield (
            population.name, "lif" if own else kind, rule.max_spikes, c.neuron.max_spikes, f"{chip.name}: {what}", 
            f"{remedy}, or use a chip with more (capabilities.neuron.max_spikes)",
        )  # fmt: skip
    if op is None:
        yield from _neuron_rows(population, chip)
    else:
        yield from _limits(layer, population, op, chip, graph)
        yield from _words(layer, population, op, chip, graph)


def _lacking(layer: str, op: Op, chip: Chip, graph: Graph, population: Population, works: Callable[[], bool]) -> Row:
    reason, why = f"{chip.name} has no {op.name}", obstacle(graph, population)
    if why and not isinstance(op, Coincidence):
        reason += f", and {why}"
    own = FLAGS[op.name] if op.name in FLAGS and not why and works() else OTHERWISE[op.name]
    return layer, LAYER_OPS[op.name], op.name, ", ".join(chip.capabilities.ops), reason, f"{own}, or use a chip with {op.name} (async-mesh-plus)"


def _neuron_rows(population: Population, chip: Chip) -> Iterator[Row]:
    """Rules of neurons that stand for an op; those of the network's own layers have been judged before."""
    rule, neuron, name = population.rule, chip.capabilities.neuron, population.name
    assert rule is not None
    remedy = "use a chip with the op itself (async-mesh-plus)"
    if rule.decay != DECAY_ONE and not neuron.leak:
        yield name, "lif", rule.decay / DECAY_ONE, 1, f"{chip.name}: its neurons do not leak, so they cannot forget from step to step", remedy
    if rule.reset not in neuron.resets and population.kind == "spiking":
        yield name, "lif", rule.reset, ", ".join(neuron.resets), f"{chip.name}: its neurons do not reset by {rule.reset}", remedy
    if rule.reset == "subtract" and rule.reset_by is not None and not neuron.reset_by and np.any(rule.reset_by != np.asarray(rule.threshold)):
        yield name, "lif", "reset_by", "threshold", f"{chip.name}: its reset subtracts the threshold", remedy


def _limits(layer: str, population: Population, op: Op, chip: Chip, graph: Graph) -> Iterator[Row]:
    """Kernel, stride and padding of pools, channels of coincidences, against the chip file."""
    limits, kind = chip.capabilities.ops[op.name], LAYER_OPS[op.name]
    pools: list[SumPool | MaxPool] = [op] if isinstance(op, MaxPool) else []
    if isinstance(op, OrPool):
        pools = [p.map for p in graph.into(population.name) if isinstance(p.map, SumPool)]
    for pool in pools:
        for what, value, limit in (("kernel", max(pool.kernel), limits.kernel), ("padding", max(pool.padding), limits.padding)):
            if limit is not None and value > limit:
                yield layer, kind, value, limit, f"{chip.name}: {what} of {op.name}", f"use a smaller {what} or another chip"
        for stride in sorted(set(pool.stride) - set(limits.stride or pool.stride)):
            yield layer, kind, stride, limits.stride, f"{chip.name}: stride of {op.name}", "use a stride that it has"
    if isinstance(op, Coincidence) and limits.channels is not None and population.shape[0] > limits.channels:
        yield layer, kind, population.shape[0], limits.channels, f"{chip.name}: channels of coincidence", "use fewer channels or another chip"


def _words(layer: str, population: Population, op: Op, chip: Chip, graph: Graph) -> Iterator[Row]:
    """Counted spikes keep their whole numbers, which must fit weights, registers and banks."""
    a, kind = chip.arithmetic, LAYER_OPS[op.name]
    counted = [p for p in graph.into(population.name) if counts_spikes(population, p.operand)]
    largest = 2 ** (a.weight_bits - 1) - 1
    for p in counted:
        most = int(np.max(np.asarray(p.map.weight), initial=0))
        if most > largest:
            reason = f"{chip.name}: whole weights of {p.source} -> {population.name}, which counts spikes, in {a.weight_bits} bits"
            yield layer, kind, most, largest, reason, "use smaller weights"
    if all(sync == "free" for sync in chip.sync):
        return  # there cells saturate
    if isinstance(op, OrPool | Gate | Coincidence):
        wider = "add fewer spikes, or use a chip with wider banks (arithmetic.acc_bits)"
        for total in bank_sums(graph, population, counted, a.acc_bits, (0, 0)):
            if not total.fits:
                remedy = "use a smaller window" if isinstance(op, OrPool) else wider
                yield layer, kind, round(total.value), round(total.limit), f"{chip.name}: {total.what}", remedy
    if isinstance(op, Coincidence) and population.rule is not None:
        largest_unit, room = float(largest_parameter(population, population.rule).max()) / op.scale, 2 ** (a.state_bits - 1) - 1
        if largest_unit > room:
            reason = f"{chip.name}: threshold, bias or floor of {population.name}, in units of the scale, in {a.state_bits} bits"
            yield layer, kind, f"{largest_unit:.6g}", room, reason, "use a larger scale"
