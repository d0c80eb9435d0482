"""Settled state of an integer Graph of one step: what every cell and neuron of the discipline ``settle`` holds once nothing moves any more.

A neuron's output follows its membrane and only differences are sent, so whatever their order a membrane ends as start + bias + currents + the sum of
weights times outputs, before saturation, and the output is what the one step of the trained network gives (docs/settle.md has the proof). Sums do not
depend on the sources' order, so populations are settled one after the other, in topological order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE, decay
from neurosim.chip import Chip
from neurosim.golden.graph import exact_dtype
from neurosim.golden.maps import apply_map
from neurosim.golden.ops import empty_cells
from neurosim.graph import Graph, Population
from neurosim.ops import Coincidence, Gate, MaxPool, coincide, group_of, windows

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Settled:
    """n samples at rest, all int64. ``outputs`` population -> [n, c, y, x] values sent (of ports too, 0 for readouts); ``membranes`` population ->
    [n, c, y, x] v before saturation and floor (or_pool, gate: the own cell); ``cells`` population -> operand -> [n, *its shape]; ``tables``
    population -> [n, heads, k channel, v channel] of a coincidence."""

    outputs: dict[str, I64] = field(default_factory=dict)
    membranes: dict[str, I64] = field(default_factory=dict)
    cells: dict[str, dict[str, I64]] = field(default_factory=dict)
    tables: dict[str, I64] = field(default_factory=dict)


def settle_graph(graph: Graph, chip: Chip, ports: Mapping[str, NDArray[Any]], currents: Mapping[str, NDArray[Any]]) -> Settled:
    """The state for what comes in: ``ports`` the spikes of inputs and host-computed populations, ``currents`` those of the host by target,
    [n, c, y, x].

    A population without an entry receives nothing. The graph is quantised, of one step and without cycles.
    """
    n = next((len(x) for x in [*ports.values(), *currents.values()]), 1)
    state = Settled()
    for population in graph.populations:
        if population.kind == "analog":
            continue
        if population.kind == "input" or population.host:
            given = ports.get(population.name)
            state.outputs[population.name] = np.zeros((n, *population.shape), np.int64) if given is None else np.asarray(given, np.int64)
            continue
        cells = empty_cells(population.op, population.shape, n, np.int64)
        for p in graph.into(population.name):
            source = graph.population(p.source)
            if source.kind == "analog":
                continue  # its part is in ``currents``
            outputs = state.outputs[p.source]
            kind = exact_dtype(p.map, source.shape, max(1, int(outputs.max(initial=0))))
            part = apply_map(replace(p.map, weight=p.map.weight.astype(kind)), outputs.astype(kind)).astype(np.int64) << p.shift
            cells[p.operand][:, p.channel_offset : p.channel_offset + part.shape[1]] += part
        _rest(population, chip, cells, currents.get(population.name), state)
    return state


def _rest(population: Population, chip: Chip, cells: dict[str, I64], current: NDArray[Any] | None, state: Settled) -> None:
    """Membranes and outputs of one population from its cells."""
    name, op, shape = population.name, population.op, population.shape
    v = cells.pop("") + start_of(population, chip)
    if current is not None:
        v = v + np.asarray(current, np.int64)
    if isinstance(op, MaxPool):
        v = v + windows(cells["window"], op, shape)
    if isinstance(op, Coincidence):
        heads = (len(v), op.heads, shape[0] // op.heads, shape[1] * shape[2])
        state.tables[name] = np.matmul(cells["k"].reshape(heads), cells["v"].reshape(heads).swapaxes(2, 3))
        v = v + (coincide(cells["q"], cells["k"], cells["v"], op.heads) << op.shift)
    state.membranes[name], state.cells[name] = v, cells
    seen = v
    if isinstance(op, Gate):
        opened = (cells["mask"] >= op.count) != op.inverted
        seen = np.where(opened.reshape(len(v), -1)[:, group_of(op, shape)], v, 0)
    state.outputs[name] = outputs_of(population, chip, seen)


def start_of(population: Population, chip: Chip) -> I64:
    """What a membrane holds before anything has come, dec(v_init) + bias, [c, y, x]."""
    rule = population.rule
    start: I64 = np.zeros(population.shape, np.int64) + np.asarray(0 if rule is None else rule.bias, np.int64)
    if rule is not None and rule.v_init is not None:
        values, where = np.unique(np.asarray(rule.v_init, np.int64), return_inverse=True)
        left = np.array([decay(int(v), DECAY_ONE - rule.decay, chip.rounding) for v in values], np.int64)
        start = start + left[where.reshape(np.shape(rule.v_init))]
    return start


def outputs_of(population: Population, chip: Chip, v: I64) -> I64:
    """n(v) = spike_count(sat(v), threshold, strict, max_spikes) over arrays [n, c, y, x]; zeros for a readout."""
    rule = population.rule
    if population.kind == "readout" or rule is None:
        return np.zeros_like(v)
    high = 2 ** (chip.arithmetic.state_bits - 1)
    clipped = np.clip(v, -high, high - 1)
    threshold = np.asarray(rule.threshold, np.int64)
    count: I64 = np.clip((clipped - int(rule.strict)) // threshold, 0, rule.max_spikes)  # arithmetic.spike_count over an array
    return count
