"""What a chip can run: one set of rules for ``check``, for compiling and for the audit.

``supports`` judges one node: a layer of a Network as trained, or a population or projection of its lowered Graph. ``check`` puts the judgements of
all nodes together, one row per layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from neurosim.chip import Chip
from neurosim.compiler.check.layer_rules import fit_rows, form_rows, pool_rows, population_rows
from neurosim.compiler.check.op_rules import op_rows
from neurosim.compiler.check.precision import WEIGHTED
from neurosim.compiler.check.refuse import refuse
from neurosim.compiler.lower import Rewrites, lower_for, needed_layers, rewrite_ops
from neurosim.compiler.matrices import MATRIX_LIMIT
from neurosim.compiler.place import assign
from neurosim.compiler.quantize import adapt, span, split_readout
from neurosim.errors import DoesNotFit, UnsupportedLayer
from neurosim.graph import Conv2d, Graph, Population, Projection, Sparse, SumPool
from neurosim.network import Layer, Network
from neurosim.network.layers import EVENT_OPS, INTEGER_DTYPES, KNOWN_OPS
from neurosim.ops import OrPool

NATIVE_OPS = ("conv2d", "linear", "lif", "li", "sum_pool", "token_mix", "sparse", *EVENT_OPS)
REMEDIES = {
    "multiply": "a product of two spike trains needs a gate; use token mixing with fixed weights",
    "matmul": "a product of two activations needs every spike of both; use matrices of fixed weights (token mixing)",
    "softmax": "leave it out at inference: it does not change the argmax",
    "layer_norm": "train with batch norm, which folds into the weights",
    "group_norm": "train with batch norm, which folds into the weights",
    "log_softmax": "leave it out at inference: it does not change the argmax",
    "gelu": "replace it by lif",
    "relu": "replace it by lif",
}


@dataclass(frozen=True)
class CheckRow:
    """One layer on one chip. ``value``: what the layer needs; ``limit``: what there is; ``reason``: what becomes of it, or why it is refused."""

    layer: str
    op: str
    status: Literal["native", "rewritten", "refused"]
    value: Any = None
    limit: Any = None
    reason: str = ""
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def supports(node: Layer | Population | Projection, chip: Chip, graph: Graph | None = None) -> list[CheckRow]:
    """Why ``chip`` cannot run the node: one refused row per reason, none if it can. Projections and populations need their ``graph``.

    What only the host computes is not limited by the chip.
    """
    if isinstance(node, Layer):
        return [*_layer(node, chip), *(_refused(*row) for row in pool_rows(node, chip))]
    assert graph is not None, "a population or projection is judged within its graph"
    if isinstance(node, Population):
        return [*_population(node, chip, graph), *(_refused(*row) for row in population_rows(node, chip, graph))]
    return list(_projection(node, chip, graph))


def check(network: Network, chip: Chip, rewrites: Rewrites | None = None) -> list[CheckRow]:
    """One row per layer, in the network's order; a layer refused for several reasons has several rows. ``rewrites``: those asked for.

    What passes is also dealt out to cores, in the chip's first discipline: what is too large for a core, or cores that lack, are rows too.
    """
    return _examine(network, chip, rewrites or Rewrites(), memory=True)[0]


def _examine(network: Network, chip: Chip, rewrites: Rewrites, *, memory: bool = False) -> tuple[list[CheckRow], Graph | None]:
    """The rows of ``check``, and the lowered network where lowering was possible."""
    network.verify()
    needed = needed_layers(network)
    constant = network.constant_layers()  # computed by the host
    layers = [layer for layer in network.layers.values() if layer.name in needed and (layer.name not in constant or layer.op not in KNOWN_OPS)]
    refused = [row for layer in layers for row in supports(layer, chip)]
    refused += list(_input(network, chip)) + list(_recurrence(network, chip, needed))
    graph: Graph | None = None
    lowered: Graph | None = None
    if not refused:
        try:
            lowered = lower_for(network, rewrites)
            graph = adapt(lowered, chip)
        except UnsupportedLayer as error:
            refused = [CheckRow(error.layer, error.op, "refused", error.value, error.limit, error.reason, error.remedy)]
        else:
            nodes: list[Population | Projection] = [*graph.populations, *graph.projections]
            refused = list(dict.fromkeys(row for node in nodes for row in supports(node, chip, graph)))
            if not refused:
                refused = [_refused(*row) for row in fit_rows(graph, chip)]
            refused = refused or _disciplines(graph, chip) or (list(_memory(graph, chip)) if memory else [])
    by_layer: dict[str, list[CheckRow]] = {}
    for row in refused:
        by_layer.setdefault(row.layer, []).append(row)
    told = {} if graph is None else {r.layer: r for r in graph.rewrites}
    rows: list[CheckRow] = []
    for layer in network.layers.values():
        if layer.name in by_layer:
            rows += by_layer[layer.name]
        elif layer.name in told:
            rewrite = told[layer.name]
            rows.append(CheckRow(layer.name, layer.op, "native" if rewrite.status == "native" else "rewritten", reason=rewrite.text))
        else:
            status: Literal["native", "rewritten"] = "native" if layer.op in NATIVE_OPS else "rewritten"
            rows.append(CheckRow(layer.name, layer.op, status, reason="within the chip's limits by itself"))
    # rows about what lowering added, such as the readout that counts the spikes of the output layer
    rows += [row for name, several in by_layer.items() if name not in network.layers for row in several]
    return rows, lowered


def _memory(graph: Graph, chip: Chip) -> Iterator[CheckRow]:
    """What does not fit the cores, by the sizes that quantising will leave as they are."""
    try:
        assign(split_readout(graph, chip, "free"), chip, chip.sync[0])  # whether parts of a readout could saturate is not known here
    except DoesNotFit as error:
        if error.layer:
            reason = f"{chip.name}: {error.what}" if error.what != "cores" else f"{chip.name}: cores for all layers"
            yield _refused(error.layer, "memory", error.value, error.limit, reason, error.remedy)
        else:
            yield _refused(graph.name, "memory", None, None, str(error), "")
    except UnsupportedLayer as error:
        yield CheckRow(error.layer, error.op, "refused", error.value, error.limit, error.reason, error.remedy)


def require_supported(network: Network, chip: Chip, rewrites: Rewrites | None = None) -> tuple[list[CheckRow], Graph]:
    """(the rows of ``check``, the lowered network); raises UnsupportedLayer for the first refused row, saying how many more there are."""
    rows, lowered = _examine(network, chip, rewrites or Rewrites())
    refused = [row for row in rows if row.status == "refused"]
    if refused:
        first = refused[0]
        more = f"; {len(refused) - 1} more refused, see neurosim check" if len(refused) > 1 else ""
        raise UnsupportedLayer(first.layer, first.op, first.reason, value=first.value, limit=first.limit, remedy=first.remedy + more)
    assert lowered is not None, "what cannot be lowered is refused"
    return rows, lowered


def _refused(layer: str, op: str, value: Any, limit: Any, reason: str, remedy: str) -> CheckRow:
    return CheckRow(layer, op, "refused", value, limit, reason, remedy)


def _layer(layer: Layer, chip: Chip) -> Iterator[CheckRow]:
    """Rules that need no lowering: unknown ops, neuron rules, delays."""
    if layer.op not in KNOWN_OPS:
        remedy = REMEDIES.get(layer.op, "express it with linear ops and lif, or use a chip that has the op")
        yield _refused(layer.name, layer.op, layer.op, ", ".join(chip.capabilities.ops), f"{chip.name} has no op {layer.op}", remedy)
    elif layer.op in ("lif", "li"):
        yield from _neuron(layer, chip)
    elif layer.op == "delay":
        steps, most = layer.params["steps"], _longest_delay(chip)
        if steps > most:
            yield _refused(layer.name, "delay", steps, most, f"{chip.name} delays by fewer steps", "shorten the delay or use a chip with longer ones")


def _neuron(layer: Layer, chip: Chip) -> Iterator[CheckRow]:
    p, n = layer.params, chip.capabilities.neuron
    reset = p.get("reset")  # an integrator (li) has none
    other = reset == "subtract" and p.get("reset_by") is not None and bool(np.any(p["reset_by"] != p["threshold"]))
    tests = (
        (p["decay"] != 1.0 and not n.leak, p["decay"], 1, "its neurons do not leak", "train with decay 1 (IF)"),
        (reset not in (None, *n.resets), reset, ", ".join(n.resets), f"its neurons do not reset by {reset}", "train with a reset that it has"),
        (other and not n.reset_by, "reset_by", "threshold", "its reset subtracts the threshold", "train with the threshold as what is subtracted"),
        (p.get("floor") is not None and not n.floor, "floor", None, "its membranes have no floor", "train without a floor"),
        (p.get("strict", False) and not n.strict, "v > threshold", "v >= threshold", "its test is not strict", "train with >="),
        (p["decay_current"] and not n.current, p["decay_current"], None, "its neurons have no synaptic current (CUBA)", "use plain lif"),
    )
    for wrong, value, limit, reason, remedy in tests:
        if wrong:
            yield _refused(layer.name, layer.op, value, limit, f"{chip.name}: {reason}", f"{remedy}, or use another chip")


def _input(network: Network, chip: Chip) -> Iterator[CheckRow]:
    contract = network.input_contract
    if contract.kind == "spikes" and "spikes" not in chip.capabilities.inputs:
        yield _refused(
            contract.name, "spikes_input", "spikes", ", ".join(chip.capabilities.inputs), f"{chip.name} takes no spikes", "use another chip"
        )
    if contract.kind == "image" and contract.dtype not in INTEGER_DTYPES:
        yield _refused(
            contract.name, "input", contract.dtype, ", ".join(INTEGER_DTYPES), "the host computes with whole pixels, so that it is exact everywhere",
            "give raw pixels and let scale, mean and std of the input do the rest",
        )  # fmt: skip


def _recurrence(network: Network, chip: Chip, needed: set[str]) -> Iterator[CheckRow]:
    for source, target, delay in network.connections:
        if target in needed and not chip.capabilities.recurrence:
            yield _refused(
                target, "connect", f"{source} -> {target}", None, f"{chip.name} has no recurrence", "unroll it or use a chip with recurrence"
            )
        elif target in needed and delay > _longest_delay(chip):
            yield _refused(target, "connect", delay, _longest_delay(chip), f"{chip.name} delays by fewer steps", "shorten the delay")


def _disciplines(graph: Graph, chip: Chip) -> list[CheckRow]:
    """Why the network runs in none of the chip's disciplines, told for the first; nothing if it runs in one."""
    first: list[CheckRow] = []
    for sync in chip.sync:
        try:
            refuse(graph, chip, sync)
        except UnsupportedLayer as error:
            first = first or [CheckRow(error.layer, error.op, "refused", error.value, error.limit, error.reason, error.remedy)]
        else:
            return []
    return first


def _longest_delay(chip: Chip) -> float:
    """Longest trained delay that can be judged without the discipline: with a barrier hops take steps of it, which ``refuse`` counts."""
    return math.inf if "barrier" in chip.sync else chip.capabilities.max_delay


def _population(population: Population, chip: Chip, graph: Graph) -> Iterator[CheckRow]:
    if population.host or population.rule is None:
        return
    c, rule, name = chip.capabilities, population.rule, population.name
    op = "lif" if population.kind == "spiking" else "readout"
    if population.kind == "readout" and not c.readout:
        yield _refused(name, op, "membranes", "spikes", f"{chip.name} has no readout of membranes", "end the network with lif and count spikes")
    if not c.neuron.bias and np.any(np.asarray(rule.bias)):
        yield _refused(
            name, op, float(np.abs(rule.bias).max()), 0, f"{chip.name}: its neurons have no bias", "train without bias (batch norm has one)"
        )
    thresholds = np.asarray(rule.threshold)
    if population.kind == "spiking" and not c.neuron.per_channel_threshold and np.any(thresholds != thresholds.flat[0]):
        yield _refused(name, op, "several thresholds", "one per layer", f"{chip.name}: all neurons of a layer share a threshold", "use one threshold")
    floors = np.asarray(0 if rule.floor is None else rule.floor)
    if not c.neuron.per_channel_threshold and np.any(floors != floors.flat[0]):
        yield _refused(name, op, "several floors", "one per layer", f"{chip.name}: all neurons of a layer share a floor", "use one floor")
    yield from (_refused(*row) for row in op_rows(population, chip, graph, lambda: _rewriting_runs(population, chip, graph)))
    incoming = graph.into(name)
    if any(graph.population(p.source).kind == "analog" for p in incoming) and "currents" not in c.inputs:
        yield _refused(
            name, op, "real-valued input", ", ".join(c.inputs), f"{chip.name} takes no currents through its port",
            "put a lif layer between the image and this layer",
        )  # fmt: skip
    limit = chip.memory.fan_in
    if limit is not None:
        counts = _fan_in(population, graph)
        if counts > limit.value:
            yield _refused(name, op, counts, limit.value, f"{chip.name}: synapses into one neuron", "reduce channels or kernel before it")


def _fan_in(population: Population, graph: Graph) -> int:
    """Most synapses into one neuron of the population, or into one cell of its op."""
    shapes = {"": population.shape, **({} if population.op is None else population.op.operands(population.shape))}
    counts = {operand: np.zeros(shape) for operand, shape in shapes.items()}
    for p in graph.into(population.name):
        source = graph.population(p.source)
        if source.kind != "analog":
            ones = replace(p.map, weight=np.ones_like(p.map.weight, dtype=np.float64))
            most, _ = span(replace(p, map=ones), Population(source.name, source.shape, "input"), (0, 1))
            counts[p.operand][p.channel_offset : p.channel_offset + len(most)] += most
    return int(max(part.max() for part in counts.values()))


def _rewriting_runs(population: Population, chip: Chip, graph: Graph) -> bool:
    """Whether the chip can run what ``--rewrite`` makes of a population's op."""
    trial = adapt(rewrite_ops(graph, [population.name]), chip)
    before = {p.name: p for p in graph.populations}
    made = {p.name for p in trial.populations if p.op is not (before[p.name].op if p.name in before else p)}
    nodes: list[Population | Projection] = [p for p in trial.populations if p.name in made]
    nodes += [p for p in trial.projections if p.target in made]
    return not any(supports(node, chip, trial) for node in nodes)


def _projection(p: Projection, chip: Chip, graph: Graph) -> Iterator[CheckRow]:
    source = graph.population(p.source)
    if source.kind == "analog":
        return
    weights = [r.layer for r in graph.rewrites_of(p.layers) if r.op in WEIGHTED]
    layer = weights[0] if weights else p.target
    op = p.map.op
    ops = chip.capabilities.ops
    if isinstance(p.map, SumPool) and isinstance(graph.population(p.target).op, OrPool):
        return  # the window of an or_pool, judged with it
    where = f"{p.source} -> {p.target}"
    if op in ("sparse", "pooled_conv2d") and op not in ops and chip.memory.layer_per_core:  # lowering wrote out what is no layer
        yield from (_refused(*row) for row in form_rows(p, layer, chip, graph))
        return
    if isinstance(p.map, Sparse) and op not in ops and "dense" in ops:  # else it would have been stored with its zeros
        size = math.prod(source.shape) * math.prod(p.map.shape)
        reason = f"{chip.name} has no sparse maps, and stored with its zeros this one is too large ({where})"
        yield _refused(layer, op, f"{size} weights", f"{MATRIX_LIMIT} weights", reason, "use a chip with sparse maps, or smaller layers")
        return
    if op not in ops:
        yield _refused(layer, op, op, ", ".join(ops) or "no ops", f"{chip.name} has no {op} ({where})", "use a chip that has it")
        return
    if p.delay > _longest_delay(chip):
        yield _refused(layer, "delay", p.delay, _longest_delay(chip), f"{chip.name} delays by fewer steps ({where})", "shorten the delay")
    if chip.memory.layer_per_core:
        yield from (_refused(*row) for row in form_rows(p, layer, chip, graph))
        if isinstance(p.map, Conv2d):
            for what, value, most in (("dilation", max(p.map.dilation), ops[op].dilation), ("groups", p.map.groups, ops[op].groups)):
                if most is not None and value > most:
                    yield _refused(layer, op, value, most, f"{chip.name}: {what} of {op} ({where})", f"use a smaller {what} or another chip")
        return
    limits = ops[op]
    channels, height, width = p.map.out_shape(source.shape)
    needs: list[tuple[str, int, int | tuple[int, ...] | None]] = [
        ("map size", max(height, width), limits.map_size),
        ("channels", max(channels, source.shape[0]), limits.channels),
    ]
    if isinstance(p.map, Conv2d):
        needs += [
            ("kernel", max(p.map.weight.shape[2:]), limits.kernel), ("padding", max(p.map.padding), limits.padding),
            ("dilation", max(p.map.dilation), limits.dilation), ("groups", p.map.groups, limits.groups),
        ]  # fmt: skip
    elif isinstance(p.map, SumPool):
        needs += [("kernel", max(p.map.kernel), limits.kernel), ("padding", max(p.map.padding), limits.padding)]
    for what, value, limit in needs:
        if isinstance(limit, int) and value > limit:
            yield _refused(layer, op, value, limit, f"{chip.name}: {what} of {op} ({where})", f"use a smaller {what} or another chip")
    if isinstance(p.map, Conv2d | SumPool) and limits.stride is not None:
        for stride in sorted(set(p.map.stride) - set(limits.stride)):
            yield _refused(layer, op, stride, limits.stride, f"{chip.name}: stride of {op} ({where})", "use a stride that it has")
