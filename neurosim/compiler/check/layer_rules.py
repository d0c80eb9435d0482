"""What some chips refuse beyond the rules of every chip: those with one layer per core (Speck), few weights per neuron (TrueNorth), readouts that
count. Rows are (layer, op, value, limit, reason, remedy)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from neurosim.chip import Chip
from neurosim.compiler.place import LayerModel, Misfit, layer_form, on_chip, pools_of
from neurosim.graph import Conv2d, Dense, Graph, LinearMap, Population, Projection, Sparse, SumPool, TokenMix
from neurosim.network import Layer

Row = tuple[str, str, Any, Any, str, str]


def pool_rows(layer: Layer, chip: Chip) -> Iterator[Row]:
    """A pooling as the cores pool: square windows of the sizes that there are, side by side, without padding."""
    limits = chip.capabilities.ops.get("sum_pool")
    if layer.op not in ("sum_pool", "avg_pool") or limits is None or not chip.memory.layer_per_core:
        return
    kernel, stride, padding = (layer.params[key] for key in ("kernel", "stride", "padding"))
    sizes = pools_of(chip)
    if kernel[0] != kernel[1]:
        yield layer.name, layer.op, f"{kernel[0]} x {kernel[1]}", "square", f"{chip.name}: window of sum_pool", "use a square window"
    elif kernel[0] not in sizes:
        yield layer.name, layer.op, kernel[0], tuple(sorted(sizes)), f"{chip.name}: kernel of sum_pool", "use a window that it has"
    if limits.tiled and stride != kernel:
        yield layer.name, layer.op, max(stride), max(kernel), f"{chip.name}: stride of sum_pool, whose windows lie side by side", "stride = kernel"
    if limits.padding is not None and max(padding) > limits.padding:
        yield layer.name, layer.op, max(padding), limits.padding, f"{chip.name}: padding of sum_pool", "pad in the convolution instead"


def form_rows(p: Projection, layer: str, chip: Chip, graph: Graph) -> Iterator[Row]:
    """A projection as pooling and convolution, against the limits of its op."""
    source = graph.population(p.source).shape
    op, where = p.map.op, f"({p.source} -> {p.target})"
    form = layer_form(p, source, pools_of(chip))
    if form is None:
        reason = f"{chip.name} runs a convolution after a sum-pool that divides the map, or a dense layer onto single pixels; this is neither {where}"
        yield layer, op, f"{source} to {p.map.out_shape(source)}", f"pools {tuple(sorted(pools_of(chip)))}", reason, "put a lif layer in between"
        return
    limits = chip.capabilities.ops[op]  # type: ignore[index]  # supports has refused ops that the chip lacks
    for what, value, limit in (
        ("kernel", max(form.kernel), limits.kernel),
        ("padding", max(form.padding), limits.padding),
        ("map size", max(form.out), limits.map_size),
        ("size of the map read", max(form.source), limits.source_size),
        ("channels", max(form.channels, form.features), limits.channels),
    ):
        if limit is not None and value > limit:
            yield layer, op, value, limit, f"{chip.name}: {what} of {op} {where}", f"use a smaller {what} or another chip"
    for stride in sorted(set(form.stride) - set(limits.stride or form.stride)):
        yield layer, op, stride, limits.stride, f"{chip.name}: stride of {op} {where}", "use a stride that it has"


def population_rows(population: Population, chip: Chip, graph: Graph) -> Iterator[Row]:
    """Readouts, fan-out, and the one kernel geometry of a core."""
    c, name = chip.capabilities, population.name
    into = [p for p in graph.into(name) if on_chip(population) and graph.population(p.source).kind != "analog"]
    outof = [p for p in graph.outof(name) if population.kind != "analog" and on_chip(graph.population(p.target))]
    if population.kind == "readout":
        if c.classes is not None and population.shape[0] > c.classes.value:
            yield name, "readout", population.shape[0], c.classes.value, f"{chip.name}: classes of the readout", "use fewer classes"
        for p in into if c.readout_ops is not None else ():
            reason = f"{chip.name}: its readout counts spikes, it does not sum weights ({p.source} -> {name})"
            weights = np.unique(np.asarray(p.map.weight))
            if p.map.op not in (c.readout_ops or ()):
                yield name, p.map.op, p.map.op, ", ".join(c.readout_ops or ()), reason, "end the network with lif"
            elif c.readout_ops == ("identity",) and len(weights) > 1:
                yield name, "scale", f"{len(weights)} weights", "one weight", reason, "leave out the scale behind the last lif"
    own = c.fan_out if chip.memory.layer_per_core else None
    limit = own if on_chip(population) else c.input_fan_out  # what is not on the chip enters through a port
    readers = dict.fromkeys(p.target for p in outof)
    if limit is not None and len(readers) > limit.value:
        reason = f"{chip.name}: destination layers, here {', '.join(readers)}"
        yield name, "fan-out", len(readers), limit.value, reason, "let fewer layers read it, or put a lif layer between that passes its spikes on"
    most = chip.arithmetic.weight_values
    if most is not None:
        values = sum(different_weights(p.map) for p in into)
        if values > most:
            yield name, "weights", values, most, f"{chip.name}: different weights into one neuron", "train with so few levels of weights per neuron"
    if chip.memory.layer_per_core:
        forms = {p.source: layer_form(p, graph.population(p.source).shape, pools_of(chip)) for p in into}
        found = {source: form.geometry for source, form in forms.items() if form is not None}
        if len(set(found.values())) > 1:
            value = "; ".join(f"{source}: kernel {k[0]} x {k[1]}, stride {s[0]}, padding {p[0]}" for source, (k, s, p) in found.items())
            reason = f"{chip.name}: all inputs of a core pass kernels of one size, stride and padding"
            yield name, "add", value, "one geometry", reason, "give the layers that are added the same kernel size, stride and padding"


def different_weights(m: LinearMap) -> int:
    """Most different non-zero weights that a map gives one neuron."""
    match m:
        case Conv2d() | Dense():
            rows = np.asarray(m.weight).reshape(len(m.weight), -1)
        case SumPool():
            rows = np.asarray(m.weight)[:, None]
        case TokenMix():
            rows = np.asarray(m.weight).reshape(-1, m.weight.shape[2])
        case Sparse():
            pairs = np.unique(np.stack([m.targets.astype(np.float64), np.asarray(m.weight, np.float64)])[:, np.asarray(m.weight) != 0], axis=1)
            return int(np.unique(pairs[0], return_counts=True)[1].max(initial=0))
    ordered = np.sort(rows, axis=1)
    first = np.ones((len(rows), 1), np.bool_)
    new = np.concatenate([first, ordered[:, 1:] != ordered[:, :-1]], axis=1) & (ordered != 0)
    return int(new.sum(axis=1).max(initial=0))


def fit_rows(graph: Graph, chip: Chip) -> Iterator[Row]:
    """The layer for which there is no core left."""
    if chip.memory.layer_per_core:
        found = LayerModel(graph, chip).match()
        if isinstance(found, Misfit):
            node = graph.population(found.population)
            op = "readout" if node.kind == "readout" else "lif" if node.op is None else node.op.name
            yield found.population, op, found.value, found.limit, found.reason, found.remedy
