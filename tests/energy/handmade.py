"""A small Program and a Result with counters chosen by hand, so that every expected figure can be worked out beside the test."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.engine.events import CHANNEL_COUNTERS, CORE_COUNTERS, SERVER_COUNTERS, SPIKE_DTYPE, TRACE_DTYPE, Result
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection
from neurosim.program import Program

WORKLOAD = [
    {"layer": "in", "op": "spikes_input", "macs": 0, "weights": 0, "inputs": 0, "outputs": 4},
    {"layer": "hidden.fc", "op": "linear", "macs": 24, "weights": 24, "inputs": 4, "outputs": 6},
    {"layer": "hidden.lif", "op": "lif", "macs": 0, "weights": 0, "inputs": 6, "outputs": 6},
    {"layer": "out", "op": "linear", "macs": 12, "weights": 12, "inputs": 6, "outputs": 2},
]


def program(sync: str = "wavefront", chip: str = "tiny", overrides: tuple[str, ...] = ()) -> Program:
    """4 inputs -> 6 neurons -> 2 readout neurons, T = 2, all weights 1."""
    rule = NeuronRule(threshold=np.array(2), bias=np.array(0))
    populations = (
        Population("in", (4, 1, 1), "input"),
        Population("hidden.lif", (6, 1, 1), "spiking", rule),
        Population("out", (2, 1, 1), "readout", NeuronRule(threshold=np.array(1), bias=np.array(0))),
    )
    projections = (
        Projection("in", "hidden.lif", Dense(np.ones((6, 4), np.int64), (6, 1, 1))),
        Projection("hidden.lif", "out", Dense(np.ones((2, 6), np.int64), (2, 1, 1))),
    )
    graph = Graph("hand", 2, populations, projections, class_names=("a", "b"))
    return assemble(graph, load_chip(chip, overrides), sync, meta={"workload": WORKLOAD, "network": "hand"})


def result(p: Program, samples: int = 2, **changes: Any) -> Result:
    """Counters all 0 but the ones set below or in ``changes``; completion of sample k is 1,000 * (k + 1) ps."""
    server = {name: np.zeros(len(p.server_kind), np.int64) for name in SERVER_COUNTERS}
    core = {name: np.zeros(p.cores, np.int64) for name in CORE_COUNTERS}
    channel = {name: np.zeros(len(p.channel), np.int64) for name in CHANNEL_COUNTERS}
    completion = 1000 * np.arange(1, samples + 1)
    made = Result(
        scores=np.tile(np.array([[3, 5]], np.int64), (samples, 1)),
        start_ps=np.zeros(samples, np.int64),
        first_spike_ps=np.full(samples, 100),
        decision_ps=completion - 50,
        completion_ps=completion,
        window_ps=int(completion.sum()),
        server=server,
        core=core,
        channel=channel,
        sample={key: np.arange(samples) for key in ("spikes", "packets", "injected_spikes", "injected_currents", "cut")},
        slice_spikes=np.ones((samples, p.slices), np.int64),
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def busy(p: Program) -> Result:
    """A result in which everything that has a price happened, with different counts per core that holds a slice."""
    r = result(p)
    for k, name in enumerate(name for name in CORE_COUNTERS if name not in ("pairs", "op_reads")):  # the program has no extra ops
        r.core[name][p.slice_core] = (k + 2) * (1 + p.slice_core)
    r.slice_spikes = np.stack([r.core["fires"][p.slice_core] - 2, np.full(p.slices, 2)])  # the slices fire what their cores fire
    r.server["services"][:] = 1 + np.arange(len(p.server_kind)) % 7
    r.server["busy_ps"][:] = 500
    r.server["blocked_ps"][:] = 20
    r.server["held_ps"][p.server_kind == 2] = 30
    r.channel["high_water"][:] = 1 + np.arange(len(p.channel)) % 2
    r.spikes = np.array([(0, 0, 0, 1, 400, 1), (0, 1, 0, 2, 700, 1), (1, 0, 0, 5, 300, 1)], SPIKE_DTYPE)
    return r


def rows(p: Program, count: int = 10) -> np.ndarray:
    """``count`` sorted trace rows: services of the stations of core 0 and the port, two samples."""
    made = np.zeros(count, TRACE_DTYPE)
    made["sample"] = np.arange(count) * 2 // count
    made["time"] = 10 * np.arange(count)
    made["server"] = np.arange(count) % 4
    made["index"] = np.arange(count) // 4
    made["end"] = made["time"] + 5
    made["slice"] = np.arange(count) % p.slices
    made["address"] = -1
    made["dest"] = -1
    made["cause_server"] = -1
    made["cause_service"] = -1
    return made
