"""Programs damaged in one place: the audit must catch each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from neurosim.compiler.audit.program import audit
from neurosim.compiler.audit.synapses import total_synapses
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.geometry import synapses
from neurosim.errors import AuditError
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection, Sparse, SumPool, TokenMix, windows_of
from neurosim.program import (
    C_AXON_IN,
    E_CO0,
    E_DELAY,
    E_INDEX,
    E_MAP,
    E_PH,
    E_REGION,
    E_SHIFT,
    E_WEIGHT,
    M_CONV,
    M_SPARSE,
    R_BANKS,
    R_STRICT,
    Program,
)
from tests.compiler.graphs import chip_of, stmixer_like

Damage = Callable[[Program], Program]


def _graph() -> Graph:
    """Every kind of map, a host part with currents, a skip with a delay."""
    draw = np.random.default_rng(7)

    def w(*size: int) -> np.ndarray:
        values = draw.integers(1, 8, size)
        return values * draw.choice([-1, 1], size)

    rule = NeuronRule(draw.integers(5, 40, (4, 1, 1)), draw.integers(-2, 3, (4, 6, 6)), decay=2048, reset="subtract", floor=np.full((1, 1, 1), -60))
    begins = replace(rule, v_init=draw.integers(-9, 90, (4, 6, 6)) * (np.arange(6) > 2))  # slices that begin at 0 and others
    populations = (
        Population("image", (1, 6, 6), "analog"),
        Population("enc", (2, 6, 6), "spiking", NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64)), host=True),
        Population("conv", (4, 6, 6), "spiking", begins),
        Population("mix", (4, 6, 6), "spiking", rule),
        Population("pool", (4, 3, 3), "spiking", replace(rule, bias=np.zeros((1, 1, 1), np.int64))),
        Population("sparse", (4, 3, 3), "spiking", replace(rule, bias=np.zeros((1, 1, 1), np.int64))),
        Population(
            "out", (5, 1, 1), "readout", NeuronRule(np.zeros((1, 1, 1), np.int64), np.arange(5).reshape(5, 1, 1), v_init=np.full((1, 1, 1), 4))
        ),
    )
    projections = (
        Projection("image", "enc", Conv2d(w(2, 1, 1, 1))),
        Projection("enc", "conv", Conv2d(w(4, 2, 3, 3), padding=(1, 1)), shift=1),
        Projection("conv", "mix", TokenMix(w(2, 36, 36))),
        Projection("image", "mix", Conv2d(w(4, 1, 1, 1))),
        Projection("enc", "mix", SumPool(w(2)), delay=1, channel_offset=1),
        Projection("mix", "pool", SumPool(w(4), (2, 2), (2, 2))),
        Projection("pool", "sparse", Sparse(np.arange(37) * 2, draw.integers(0, 36, 72), w(72), (4, 3, 3))),
        Projection("mix", "out", Conv2d(w(5, 4, 1, 2), pool=windows_of((4, 6, 6), (6, 3)))),
        Projection("conv", "out", Conv2d(w(5, 4, 1, 1), pool=windows_of((4, 6, 6), (4, 5)))),
        Projection("sparse", "out", Dense(w(5, 36), (5, 1, 1))),
    )
    graph = Graph("all maps", 2, populations, projections)
    graph.verify()
    return graph


GRAPH = _graph()
PROGRAM = assemble(GRAPH, chip_of(60, side=5, flow="end_to_end"), "wavefront")


def _set(name: str, at: tuple[int, ...], change: Callable[[int], int]) -> Damage:
    """Change one number of one array."""

    def damage(program: Program) -> Program:
        array = getattr(program, name).copy()
        array[at] = change(int(array[at]))
        return replace(program, **{name: array})

    return damage


def _entry(column: int, change: Callable[[int], int], kind: int | None = None) -> Damage:
    """Change one column of the first entry (of a kind of map)."""
    row = 0 if kind is None else int(np.flatnonzero(PROGRAM.entry[:, E_MAP] == kind)[0])
    return _set("entry", (row, column), change)


def _swap_entries(program: Program) -> Program:
    sizes = np.diff(program.entry_ptr)
    first = int(program.entry_ptr[int(np.argmax(sizes > 1))])
    entry = program.entry.copy()
    entry[[first, first + 1]] = entry[[first + 1, first]]
    return replace(program, entry=entry)


def _drop_route(program: Program) -> Program:
    r, s = 3, int(np.searchsorted(program.route_ptr, 3, side="right") - 1)
    size = int(program.entry_ptr[r + 1] - program.entry_ptr[r])
    route_ptr, entry_ptr = program.route_ptr.copy(), np.delete(program.entry_ptr, r + 1)
    route_ptr[s + 1 :] -= 1
    entry_ptr[r + 1 :] -= size
    entry_ptr[r] = program.entry_ptr[r]
    entry = np.delete(program.entry, np.s_[program.entry_ptr[r] : program.entry_ptr[r + 1]], axis=0)
    core, box = np.delete(program.route_core, r), np.delete(program.route_box, r, axis=0)
    return replace(program, route_ptr=route_ptr, entry_ptr=entry_ptr, entry=entry, route_core=core, route_box=box)


def _memory_limit(name: str) -> Damage:
    def damage(program: Program) -> Program:
        most = max(row[name] for row in program.meta["memory"])
        figure = getattr(program.chip.memory, name).model_copy(update={"value": most - 1})
        memory = program.chip.memory.model_copy(update={name: figure})
        return replace(program, chip=program.chip.model_copy(update={"memory": memory}))

    return damage


def _accumulator(program: Program) -> Program:
    return replace(program, chip=program.chip.model_copy(update={"arithmetic": program.chip.arithmetic.model_copy(update={"acc_bits": 8})}))


def _memory_row(program: Program) -> Program:
    rows = [dict(row) for row in program.meta["memory"]]
    rows[2]["bytes"] -= 1
    return replace(program, meta={**program.meta, "memory": rows})


AXON_IN = int(np.flatnonzero(PROGRAM.channel[:, 0] == C_AXON_IN)[3])
CONV = int(np.flatnonzero(PROGRAM.entry[:, E_MAP] == M_CONV)[0])
POOLED = int(np.flatnonzero((PROGRAM.entry[:, E_MAP] == M_CONV) & (PROGRAM.entry[:, E_INDEX] >= 0))[0])
TABLE = int(PROGRAM.entry[POOLED, E_INDEX])
SPARSE = int(np.flatnonzero(PROGRAM.entry[:, E_MAP] == M_SPARSE)[0])
TARGET = int(PROGRAM.entry[SPARSE, E_INDEX]) + 37
DAMAGES: dict[str, tuple[Damage, str]] = {
    "weight of a convolution": (_set("weights", (int(PROGRAM.entry[CONV, E_WEIGHT]),), lambda v: v + 1), "synapse from neuron"),
    "last weight": (_set("weights", (-1,), lambda v: -v), "synapse from neuron"),
    "weight offset": (_entry(E_WEIGHT, lambda v: v + 1, M_CONV), "synapse from neuron"),
    "padding": (_entry(E_PH, lambda v: v + 1, M_CONV), "synapse from neuron"),
    "channel offset": (_entry(E_CO0, lambda v: v + 1, M_CONV), "synapse from neuron"),
    "row of a pooling": (_set("index", (TABLE,), lambda v: v + 1), "synapse from neuron"),
    "column of a pooling": (_set("index", (TABLE + 6,), lambda v: -1), "synapse from neuron"),
    "table of a pooling": (_set("entry", (POOLED, E_INDEX), lambda v: -1), "synapse from neuron"),
    "weight behind a pooling": (_set("weights", (int(PROGRAM.entry[POOLED, E_WEIGHT]),), lambda v: v + 1), "synapse from neuron"),
    "sparse target": (_set("index", (TARGET,), lambda v: v + 1), "sparse targets|synapse from neuron"),
    "sparse row pointer": (_set("index", (TARGET - 30,), lambda v: v - 1), "sparse targets|synapse from neuron"),
    "slice box": (_set("slice_box", (2, 3), lambda v: v + 1), "lies in|box holds|has box"),
    "slice of an entry": (_entry(E_REGION, lambda v: v + 1), "entries"),
    "route missing": (_drop_route, "has routes to cores"),
    "route to another core": (_set("route_core", (2,), lambda v: v + 1), "has routes to cores"),
    "route box too small": (_set("route_box", (1, 3), lambda v: v - 1), "has box"),
    "route box too large": (_set("route_box", (1, 2), lambda v: v - 1), "has box"),
    "entries swapped": (_swap_entries, "entries"),
    "shift": (_entry(E_SHIFT, lambda v: v + 1), "shift and delay"),
    "delay": (_entry(E_DELAY, lambda v: v + 1), "shift and delay"),
    "threshold": (_set("threshold", (17,), lambda v: v + 1), "threshold of neuron"),
    "bias": (_set("bias", (5,), lambda v: v - 1), "bias of neuron"),
    "floor": (_set("floor", (40,), lambda v: v + 1), "floor of neuron"),
    "reset": (_set("reset_by", (3,), lambda v: v + 1), "reset_by of neuron"),
    "start": (_set("v_init", (3,), lambda v: v + 1), "v_init of neuron"),
    "strictness": (_set("slice_rule", (1, R_STRICT), lambda v: 1 - v), "rule"),
    "too few banks": (_set("slice_rule", (7, R_BANKS), lambda v: 1), "banks|bytes"),
    "too many banks": (_set("slice_rule", (7, R_BANKS), lambda v: 99), "banks|bytes"),
    "bank overflow": (_accumulator, "a bank of population"),
    "next hop": (_set("next_server", (0, 7), lambda v: v + 1), "next hop"),
    "next hop of another router": (_set("next_server", (6, 2), lambda v: v + 9), "next hop"),
    "sync pair": (_set("sync_pair", (4, 0), lambda v: v + 1), "sync pairs"),
    "sync delay": (_set("sync_pair", (4, 2), lambda v: v + 1), "sync pairs"),
    "sync pair missing": (lambda p: replace(p, sync_pair=p.sync_pair[:-1]), "sync pairs"),
    "axon-in depth": (_set("channel", (AXON_IN, 4), lambda v: v + 1), "has depth"),
    "link latency": (_set("channel", (0, 5), lambda v: v + 1), "has forward"),
    "channel reader": (_set("channel", (AXON_IN, 2), lambda v: v + 1), "reader"),
    "router service": (_set("server_hop_ps", (-1,), lambda v: v + 1), "t_hop"),
    "core of a slice": (_set("slice_core", (0,), lambda v: (v + 1) % 25), "routes|route"),
    "source shape": (_set("source_shape", (1, 1), lambda v: v + 1), "source 1"),
    "bytes over the limit": (_memory_limit("bytes"), r"bytes, the chip allows"),
    "neurons over the limit": (_memory_limit("neurons"), r"neurons, the chip allows"),
    "memory row": (_memory_row, "its memory row says"),
}  # fmt: skip


def test_the_program_itself_passes() -> None:
    assert PROGRAM.slices > 8
    report = audit(PROGRAM, GRAPH)
    assert report.synapses == report.synapses_in_all
    assert report.routes == len(PROGRAM.route_core)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_caught(name: str) -> None:
    damage, words = DAMAGES[name]
    with pytest.raises(AuditError, match=words):
        audit(damage(PROGRAM), GRAPH)


@pytest.mark.parametrize("projection", GRAPH.projections, ids=lambda p: f"{p.source}-{p.target}")
def test_both_counts_of_synapses_agree(projection: Projection) -> None:
    """Geometry's and the audit's, on maps without parallel synapses."""
    if projection.map.op == "sparse":
        projection = replace(projection, map=replace(projection.map, targets=np.tile([0, 5], 36)))
    assert synapses(projection.map, GRAPH.population(projection.source).shape) == total_synapses(GRAPH, projection)


def test_a_large_network_is_sampled_from_every_source() -> None:
    graph = stmixer_like(depth=1)
    program = assemble(graph, chip_of(4096, 196608, 8), "wavefront")
    report = audit(program, graph, synapses=50_000)
    assert 50_000 <= report.synapses < 60_000 < report.synapses_in_all
    # the last block of weights damaged: four of the ten classes of the head
    weights = program.weights.copy()
    weights[-4 * 256 * 49 :] ^= 1
    with pytest.raises(AuditError, match="synapse from neuron"):
        audit(replace(program, weights=weights), graph, synapses=50_000)
