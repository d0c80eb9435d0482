"""Synaptic operations as NeuroBench counts them, from the spikes of a run: of the layers as trained, with the weights as they lie on the chip.

A *connection layer* is a trained convolution, linear layer, token mixing or sparse matrix. Its operations are, over all steps and samples, the
non-zero inputs times the non-zero weights that each meets: accumulates (ACs) where every input is -1, 0 or 1, multiply-accumulates (MACs) where not.
Poolings, identities (a readout that counts spikes), normalisation and products of activations are none. docs/baselines.md says what that means on a
chip whose compiler has folded, copied and merged layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.baselines.fan_out import fan_out, host_operations
from neurosim.baselines.workload import Op, Workload
from neurosim.engine.events import Result
from neurosim.host import InputActivity
from neurosim.program import Program

I64 = NDArray[np.int64]

CONNECTIONS = frozenset({"conv2d", "linear", "token_mix", "sparse"})
"""Layers with trained weights."""
MAPS = frozenset({"conv2d", "pooled_conv2d", "dense", "token_mix", "sparse"})
"""Maps of projections that stand for themselves where a program does not say what its layers are."""
REAL = frozenset({"mean", "avg_pool", "scale", "batch_norm"})
"""Layers whose output is no sum of spikes: what reads it multiplies."""
CHUNK = 4_000_000
"""Values of a sum of spike streams that are held at once."""


@dataclass(frozen=True)
class Operations:
    """Of a whole run: effective multiply-accumulates and accumulates."""

    macs: float
    acs: float


@dataclass(frozen=True)
class _Reading:
    """A connection layer as one projection shows it: ``before`` are the ops between the spikes and it, ``alone``: no other layer is folded in."""

    projection: int
    layer: str
    before: frozenset[str]
    alone: bool
    host_map: int | None


def count_operations(program: Program, result: Result, entered: InputActivity, workload: Workload | None) -> Operations:
    """Effective operations of a run that kept its spikes and whose program has its weights. Without a ``workload`` every projection is a layer."""
    ops = {} if workload is None else {op.layer: op for op in workload.ops}
    readings, behind = _readings(program, ops)
    activity = _Activity(program, result, entered)
    macs = acs = 0.0
    for layer, members in readings.items():
        before = frozenset().union(*(m.before for m in members))
        most = _dense(workload, ops.get(layer), len(result.scores)) if activity.stepped or members[0].host_map is not None else float("inf")
        if members[0].host_map is not None:
            assert entered.pixels is not None, "a host section has a static image"
            macs += min(most, float(sum(host_operations(program, m.host_map, entered.pixels) for m in members if m.host_map is not None)))
            continue
        # folded together with a layer behind it: its own weights are gone, all of them are taken not to be zero
        mean = ops[layer].macs / ops[layer].inputs if ops and not members[0].alone else None
        found, graded = activity.operations([m.projection for m in members], summed="concat" not in before, fan=mean)
        if graded or before & REAL or (activity.stepped and "sum_pool" in before):
            macs += min(found, most)
        else:
            acs += min(found, most)
    # a layer behind another one reads real values, of which hardly any is zero
    macs += sum(_dense(workload, ops[layer], len(result.scores)) for layer in behind)
    return Operations(macs, acs)


def _dense(workload: Workload | None, op: Op | None, samples: int) -> float:
    return float("inf") if workload is None or op is None else float(workload.times(op) * op.macs * samples)


def _readings(program: Program, ops: Mapping[str, Op]) -> tuple[dict[str, list[_Reading]], list[str]]:
    """(layer -> the projections that show its inputs, layers that only ever come behind another one).

    A residual stream of currents gives every reader a copy of the writer's projection: of the targets only the first is taken, one that has nothing
    else folded in if there is one. Several projections of one layer into one target are the terms of a sum or the parts of a concatenation.
    """
    kinds = {str(p["name"]): str(p["kind"]) for p in program.meta["populations"]}
    found: dict[str, list[_Reading]] = {}
    behind: dict[str, None] = {}
    hosted = 0
    for k, p in enumerate(program.meta["projections"]):
        of_host = hosted if kinds[str(p["source"])] == "analog" else None
        hosted += of_host is not None
        names: list[Any] = list(p["layers"]) if ops else [f"{p['source']} -> {p['target']} {k}"]
        weighted = [n for n in names if n in ops and ops[n].op in CONNECTIONS] if ops else names if p["op"] in MAPS else []
        if weighted:
            before = frozenset(ops[n].op for n in names[: names.index(weighted[0])] if n in ops)
            found.setdefault(weighted[0], []).append(_Reading(k, weighted[0], before, len(weighted) == 1, of_host))
            behind |= dict.fromkeys(weighted[1:])
    chosen = {}
    for layer, readings in found.items():
        first = next((r for r in readings if r.alone), readings[0])
        target = _target(program, first)
        chosen[layer] = [r for r in readings if _target(program, r) == target and (r.host_map is None) == (first.host_map is None)]
    return chosen, [layer for layer in behind if layer not in found]


def _target(program: Program, reading: _Reading) -> tuple[str, str]:
    p = program.meta["projections"][reading.projection]
    return str(p["target"]), str(p.get("operand", ""))


class _Activity:
    """The spikes of a run by population, counted when asked for."""

    def __init__(self, program: Program, result: Result, entered: InputActivity) -> None:
        self.program, self.result, self.entered = program, result, entered
        self.stepped = program.sync in ("wavefront", "barrier")
        self.names = [str(p["name"]) for p in program.meta["populations"]]
        population = program.slice_population[result.spikes["slice"].astype(np.int64)] if len(result.spikes) else np.zeros(0, np.int64)
        order = np.argsort(population, kind="stable")
        ends = np.searchsorted(population[order], np.arange(len(self.names) + 1))
        self.rows = {name: order[ends[k] : ends[k + 1]] for k, name in enumerate(self.names)}

    def operations(self, projections: list[int], *, summed: bool, fan: float | None) -> tuple[float, bool]:
        """(non-zero inputs times the non-zero weights they meet, whether an input is outside {-1, 0, 1}) of a layer that these projections show;
        ``fan``: what every input meets, where the projections do not say."""
        sources = [str(self.program.meta["projections"][k]["source"]) for k in projections]
        if summed and self.stepped and len(sources) > 1 and not set(sources) & set(self.entered.spikes):
            counts, graded = self._sum(sources)
            return float((counts * (fan_out(self.program, projections[0]) if fan is None else fan)).sum()), graded
        parts = [self._counts(source) for source in sources]
        met = 0.0
        for k, (counts, _) in zip(projections, parts, strict=True):
            met += float((counts * (fan_out(self.program, k) if fan is None else fan)).sum())
        return met, any(graded for _, graded in parts)

    def _shape(self, source: str) -> tuple[int, ...]:
        return tuple(self.program.meta["populations"][self.names.index(source)]["shape"])

    def _counts(self, source: str) -> tuple[I64, bool]:
        """([c, y, x] non-zero values that a neuron sent, whether one was outside {-1, 0, 1})."""
        if source in self.entered.spikes:
            return self.entered.spikes[source], source in self.entered.graded
        spikes = self.result.spikes[self.rows[source]]
        shape = self._shape(source)
        counts = np.bincount(self._places(spikes, shape), minlength=int(np.prod(shape))).reshape(shape)
        return counts, bool(np.any(np.abs(spikes["value"].astype(np.int64)) > 1))

    def _places(self, spikes: NDArray[Any], shape: tuple[int, ...]) -> I64:
        """(c, y, x)-flat index in the population of every spike."""
        box = self.program.slice_box[spikes["slice"].astype(np.int64)]
        pixel, c = np.divmod(spikes["address"].astype(np.int64), box[:, 1] - box[:, 0])
        y, x = np.divmod(pixel, box[:, 5] - box[:, 4])
        return np.asarray(((c + box[:, 0]) * shape[1] + y + box[:, 2]) * shape[2] + x + box[:, 4])

    def _sum(self, sources: list[str]) -> tuple[I64, bool]:
        """The same of the sum of several streams, step by step."""
        shape, steps = self._shape(sources[0]), self.program.steps
        size = int(np.prod(shape))
        counts, graded = np.zeros(size, np.int64), False
        chunk = max(1, CHUNK // (steps * size))
        streams = [self.result.spikes[self.rows[source]] for source in sources]
        samples = [s["sample"].astype(np.int64) for s in streams]
        least, most = (end((s for part in samples if len(part) for s in (part[0], part[-1])), default=0) for end in (min, max))
        for begin in range(int(least), int(most) + 1, chunk):
            total = np.zeros(chunk * steps * size, np.int32)
            for stream, sample in zip(streams, samples, strict=True):
                part = stream[np.searchsorted(sample, begin) : np.searchsorted(sample, begin + chunk)]
                step = (part["sample"].astype(np.int64) - begin) * steps + part["step"]
                np.add.at(total, step * size + self._places(part, shape), part["value"].astype(np.int32))
            counts += np.count_nonzero(total.reshape(-1, size), axis=0)
            graded |= bool(np.any(np.abs(total) > 1))
        return counts.reshape(shape), graded
