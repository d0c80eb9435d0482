"""Clock-driven golden model of a Graph: in real numbers, or in the integers of a chip, bit for bit (docs/machine.md, sections 4, 6 and 7).

Per sample and step it is the function of wavefront and of barrier alike. A projection against the order of populations, or of a population onto
itself, is a recurrence and has a delay of at least one step.

All inputs of a step are summed by matrix products over whole maps, then every neuron is updated once. Products run in float32 or float64 while a
proven bound keeps every partial sum exact (below 2**24, 2**53), else in int64.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE, NO_CURRENT, NO_FLOOR, RESET_SUBTRACT, RESET_ZERO
from neurosim.chip import Chip
from neurosim.errors import DataError, ModelError
from neurosim.golden.kernels import real_spikes, step_neurons
from neurosim.golden.maps import apply_map
from neurosim.golden.ops import empty_cells, op_input
from neurosim.graph import Graph, LinearMap, NeuronRule, Population, Projection

HOST_LIMIT = 2**62
"""Membranes of the host section never reach it: the compiler proves their bound."""


@dataclass(frozen=True)
class GraphResult:
    """``scores`` [n, classes]: membranes of the readout, those of its parts added up, after the last step (int64, or float64 for a real Graph);
    [n, 0] without a readout.

    ``spikes`` population -> [n, T, c, y, x] uint8 values when kept; ``counts`` population -> [n, T] int64 neurons that fired; ``membranes``
    population -> [n, c, y, x] after the last step, when kept (both in the order and shape of its module's tensor where the population has one);
    ``saturations`` population -> clipped updates in all.
    """

    scores: NDArray[Any]
    spikes: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    membranes: dict[str, NDArray[Any]] = field(default_factory=dict)
    saturations: dict[str, int] = field(default_factory=dict)


def run_graph(
    graph: Graph,
    data: NDArray[Any] | Mapping[str, NDArray[Any]],
    chip: Chip | None = None,
    *,
    spikes: bool | Collection[str] = True,
    membranes: bool = False,
    batch: int = 50,
) -> GraphResult:
    """Run raw pixels [n, c, y, x] or binary events [n, T, c, y, x] through a Graph; several inputs by the names of their populations.

    With ``chip`` the Graph must be quantised and its integer rules are followed; without, real arithmetic in float64. ``spikes``: which populations'
    spikes to keep (True: all). A Graph without a readout gives its spikes and no scores.
    Raises DataError on a wrong shape, ModelError on several readouts, an undelayed cycle, or numbers that are not of the wanted kind.
    """
    graph.verify()
    readouts = [p for p in graph.populations if p.kind == "readout" and not p.part_of]
    if len(readouts) > 1:
        raise ModelError(f"graph {graph.name} has {len(readouts)} readouts, at most 1 can be scored; join them into one population")
    inputs = _inputs(graph, data)
    keep = {p.name for p in graph.populations} if spikes is True else set(spikes or ())
    run = _Run(graph, chip, keep)
    samples = len(next(iter(inputs.values())))
    parts = [run.batch({name: x[k : k + batch] for name, x in inputs.items()}) for k in range(0, max(samples, 1), batch)]
    wanted = ("spikes", "counts", "membranes") if membranes else ("spikes", "counts")
    merged: dict[str, dict[str, NDArray[Any]]] = {"membranes": {}}
    for name in wanted:
        merged[name] = {key: np.concatenate([getattr(p, name)[key] for p in parts]) for key in getattr(parts[0], name)}
    orders = {p.name: p.order for p in graph.populations if p.order is not None}
    for kept in ("spikes", "membranes"):
        merged[kept] = {key: orders[key].arrange(found) if key in orders else found for key, found in merged[kept].items()}
    saturations = {key: sum(p.saturations[key] for p in parts) for key in parts[0].saturations}
    return GraphResult(np.concatenate([p.scores for p in parts]), merged["spikes"], merged["counts"], merged["membranes"], saturations)


LARGEST = {"analog": 2**16, "input": 255}
"""Largest value of a source's neuron where it may be more than a spike: pixels, and events counted in a byte."""


def _inputs(graph: Graph, data: NDArray[Any] | Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The array of every analog and input population, checked."""
    sources = [p for p in graph.populations if p.kind in ("analog", "input")]
    if not isinstance(data, Mapping):
        if len(sources) != 1:
            raise DataError(f"graph {graph.name} has {len(sources)} inputs ({', '.join(p.name for p in sources)}); give a dict of one array for each")
        data = {sources[0].name: data}
    found = {}
    for source in sources:
        if source.name not in data:
            raise DataError(f"the graph's input {source.name} has no data; there are {', '.join(data) or 'none'}")
        x = np.asarray(data[source.name])
        if source.kind == "analog" and x.ndim == 3 and source.shape[0] == 1:
            x = x[:, None]
        if x.shape[1:] != (source.shape if source.kind == "analog" else (graph.steps, *source.shape)):
            raise DataError(
                f"data has shape {x.shape}, the graph's input {source.name} wants {source.shape}" + (" per step" if source.kind == "input" else "")
            )
        if source.kind == "input" and x.size and not 0 <= x.min() <= x.max() <= LARGEST["input"]:
            raise DataError(
                f"events of the graph's input {source.name} run from {x.min()} to {x.max()}, at most {LARGEST['input']} per neuron and step"
            )
        found[source.name] = x
    counts = {len(x) for x in found.values()}
    if len(counts) != 1:
        raise DataError(f"the inputs of graph {graph.name} hold {sorted(counts)} samples; give the same number for each")
    return found


def exact_dtype(m: LinearMap, shape: tuple[int, int, int], largest: int) -> type[Any]:
    """The cheapest type in which m applied to integers of at most ``largest`` is exact in any order of summation."""
    bound = float(apply_map(replace(m, weight=np.abs(m.weight).astype(np.float64)), np.ones((1, *shape))).max(initial=0)) * largest
    return np.float32 if bound < 2**24 else np.float64 if bound < 2**53 else np.int64


class _Run:
    """One Graph made ready: weights cast once, rules as arrays."""

    def __init__(self, graph: Graph, chip: Chip | None, keep: set[str]) -> None:
        self.graph, self.chip, self.keep = graph, chip, keep
        self.kind: type[Any] = np.float64 if chip is None else np.int64
        self.maps: list[tuple[Projection, LinearMap, type[Any]]] = []
        for p in graph.projections:
            if chip is None:
                kind: type[Any] = np.float64
            elif not np.issubdtype(p.map.weight.dtype, np.integer):
                raise ModelError(f"projection {p.source} -> {p.target} is in real numbers; quantise the graph for {chip.name} first")
            else:
                source = graph.population(p.source)
                most = source.rule.max_spikes if source.rule is not None else 1
                kind = exact_dtype(p.map, source.shape, LARGEST.get(source.kind, most))
            self.maps.append((p, replace(p.map, weight=p.map.weight.astype(kind)), kind))

    def batch(self, data: dict[str, NDArray[Any]]) -> GraphResult:
        """All steps of some samples."""
        graph, n = self.graph, len(next(iter(data.values())))
        state = {p.name: _Neurons(p, n, self.chip) for p in graph.populations if p.kind in ("spiking", "readout")}
        history: dict[str, list[NDArray[np.uint8]]] = {p.name: [] for p in graph.populations if p.kind != "analog"}
        analog = {k: self._product(k, data[p.source]) for k, (p, _, _) in enumerate(self.maps) if graph.population(p.source).kind == "analog"}
        latches: dict[str, NDArray[Any] | None] = {}
        for step in range(graph.steps):
            for population in graph.populations:
                if population.kind == "analog":
                    continue
                if population.kind == "input":
                    history[population.name].append(data[population.name][:, step].astype(np.uint8))
                    continue
                cells = empty_cells(population.op, population.shape, n, self.kind)
                if population.window_bias is not None:
                    cells["window"] += population.window_bias
                for k, (p, _, _) in enumerate(self.maps):
                    if p.target != population.name:
                        continue
                    if k in analog:
                        part = analog[k]
                    elif step >= p.delay:
                        part = self._product(k, history[p.source][step - p.delay])
                    else:
                        continue
                    cells[p.operand][:, p.channel_offset : p.channel_offset + part.shape[1]] += part
                bank, latches[population.name] = op_input(population.op, cells, latches.get(population.name))
                fired = state[population.name].step(bank)
                if population.kind == "spiking":
                    history[population.name].append(fired)
        readouts = [state[p.name].v.reshape(n, -1) for p in graph.populations if p.kind == "readout"]
        scores = np.sum(readouts, axis=0) if readouts else np.zeros((n, 0), self.kind)
        spiking = {name: steps for name, steps in history.items() if steps}
        return GraphResult(
            scores,
            {name: np.stack(steps, axis=1) for name, steps in spiking.items() if name in self.keep},
            {name: np.stack([np.count_nonzero(s.reshape(n, -1), axis=1) for s in steps], axis=1) for name, steps in spiking.items()},
            {name: neurons.v.reshape(n, *neurons.population.shape) for name, neurons in state.items()},
            {name: neurons.saturations for name, neurons in state.items()},
        )

    def _product(self, k: int, x: NDArray[Any]) -> NDArray[Any]:
        """Contribution of projection k: map, then shift; analog ones are rounded (half up) to the target's unit."""
        p, m, kind = self.maps[k]
        y = apply_map(m, x.astype(kind))
        if self.chip is None:
            return y
        total = y.astype(np.int64)
        if p.fraction_bits:
            total = (total + (1 << (p.fraction_bits - 1))) >> p.fraction_bits
        return total << p.shift


class _Neurons:
    """State of one population for n samples."""

    def __init__(self, population: Population, n: int, chip: Chip | None) -> None:
        rule = population.rule or NeuronRule(np.zeros(1, np.int64), np.zeros(1, np.int64))  # a readout without one accumulates
        self.population, self.rule, self.integer = population, rule, chip is not None
        self.saturations = 0
        kind: type[Any] = np.int64 if chip else np.float64
        self.i: NDArray[Any] = np.zeros((n, population.size), kind)
        start = np.zeros(population.size, kind) if rule.v_init is None else self._array(rule.v_init, kind)
        self.v: NDArray[Any] = np.tile(start, (n, 1))
        self.threshold, self.bias = self._array(rule.threshold, kind), self._array(rule.bias, kind)
        self.floor = self._array(rule.floor, kind) if rule.floor is not None else np.full(population.size, NO_FLOOR if chip else -np.inf, kind)
        self.reset_by = self._array(rule.reset_by, kind) if rule.reset_by is not None else self.threshold
        if chip is not None:
            self.code = _code(rule, 0 if population.host else chip.rounding)
            high = HOST_LIMIT if population.host else 2 ** (chip.arithmetic.state_bits - 1)
            self.limits = (np.int64(-high), np.int64(high - 1))

    def _array(self, value: Any, kind: type[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(np.broadcast_to(np.asarray(value, kind), self.population.shape).reshape(-1))

    def step(self, bank: NDArray[Any]) -> NDArray[np.uint8]:
        """Update every neuron once; returns the spikes [n, c, y, x]."""
        flat, readout = bank.reshape(self.v.shape), self.population.kind == "readout"
        spikes = np.zeros(self.v.shape, np.uint8)
        if self.integer:
            self.saturations += step_neurons(
                self.v, self.i, flat, self.threshold, self.bias, self.floor, self.reset_by, self.code, self.limits, readout, spikes
            )
        else:
            self._real_step(flat, readout, spikes)
        return spikes.reshape(bank.shape)

    def _real_step(self, bank: NDArray[Any], readout: bool, spikes: NDArray[np.uint8]) -> None:
        rule, current = self.rule, bank
        if rule.decay_current is not None:
            self.i = np.asarray(self.i * (rule.decay_current / DECAY_ONE) + bank)
            current = self.i
        v = np.maximum(self.v * (rule.decay / DECAY_ONE) + current + self.bias, self.floor)
        if not readout:
            spikes[...] = real_spikes(v, self.threshold, rule.strict, rule.max_spikes)
            v = np.where(spikes, 0.0 if rule.reset == "zero" else v - spikes * self.reset_by, v)
        self.v = v


def _code(rule: NeuronRule, rounding: int) -> tuple[int, int, int, int, int, int]:
    decay_i = NO_CURRENT if rule.decay_current is None else DECAY_ONE - rule.decay_current
    mode = RESET_ZERO if rule.reset == "zero" else RESET_SUBTRACT
    return DECAY_ONE - rule.decay, decay_i, int(rule.strict), mode, rounding, rule.max_spikes
