"""Static warnings: cycles of channels under link flow, of cores under end-to-end flow."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from neurosim.chip import Chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.emit.deadlock import deadlock_warnings
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.compiler.place.placement import map_graph
from neurosim.graph import Conv2d, Graph, NeuronRule, Population, Projection
from neurosim.program import Program
from tests.compiler.graphs import chip_of

RULE = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
LAYERS = [Population("in", (1, 2, 2), "input")] + [Population(f"l{k}", (1, 2, 2), "spiking", RULE) for k in range(3)]
CHAIN = Graph("chain", 1, tuple(LAYERS), tuple(
    Projection(a.name, b.name, Conv2d(np.ones((1, 1, 1, 1), np.int64))) for a, b in pairwise(LAYERS)
))  # fmt: skip


def _on(cores: tuple[int, ...], chip: Chip, sync: str) -> Program:
    slices = tuple(Slice(k, (0, 1, 0, 2, 0, 2)) for k in (1, 2, 3))
    return assemble(CHAIN, chip, sync, Mapping(slices, cores, (2,) * 3 if sync != "free" else (1,) * 3))


def test_wavefront_on_a_mesh_is_free_of_deadlock() -> None:
    for flow in ("link", "end_to_end"):
        assert deadlock_warnings(_on((0, 0, 0), chip_of(side=2, flow=flow), "wavefront")) == []


def test_free_with_windows_warns_of_cycles_of_cores() -> None:
    chip = chip_of(side=2, flow="end_to_end")
    assert deadlock_warnings(_on((0, 1, 2), chip, "free")) == []
    assert deadlock_warnings(_on((0, 0, 1), chip, "free")) == ["deadlock is possible: cycle of cores core 0 -> core 0"]
    back = deadlock_warnings(_on((0, 3, 0), chip, "free"))
    assert back == ["deadlock is possible: cycle of cores core 0 -> core 3 -> core 0"]


def test_free_with_link_flow_warns_of_cycles_of_channels() -> None:
    chip = chip_of(side=2, flow="link")
    # 0 -> 1 -> 0: the packets out of core 1 pass the router that its input comes from, but on other channels; the cores close the cycle
    (warning,) = deadlock_warnings(_on((0, 1, 0), chip, "free"))
    for member in ("axon-in of core 0", "axon-out of core 1", "router 0 to router 1", "router 1 to router 0", "core 0 to router 0"):
        assert member in warning
    assert deadlock_warnings(_on((0, 1, 3), chip, "free")) == []


def test_routes_that_turn_against_xy_are_found() -> None:
    """A ring of turns made by hand: every pair of opposite corners goes clockwise round the four routers."""
    program = _on((0, 1, 3), chip_of(side=2), "wavefront")
    clockwise = {0: 1, 1: 3, 3: 2, 2: 0}
    table = program.next_server.copy()
    for router, following in clockwise.items():
        server = next(v for v in np.flatnonzero((program.server_kind == 4) & (program.server_owner == router)).tolist()
                      if program.server_class[v] > 0 and program.channel[program.server_channel[v], 2] == following)  # fmt: skip
        for core in range(4):
            if core != router:
                table[router, core] = server
    sources = np.array([0, 1, 2, 3])
    ring = replace(
        program,
        next_server=table,
        slice_core=sources,
        slice_population=np.ones(4, np.int64),
        neuron_ptr=np.arange(5),
        source_population=np.array([1, 1, 1, 1, -1]),
        route_ptr=np.array([0, 1, 2, 3, 4, 4]),
        route_core=np.array([3, 2, 1, 0]),
    )
    (warning,) = deadlock_warnings(ring)
    assert all(f"router {a} to router {b}" in warning for a, b in clockwise.items())


def test_one_slice_per_core_never_warns_in_free() -> None:
    chip = chip_of(side=2, flow="end_to_end")
    assert deadlock_warnings(assemble(CHAIN, chip, "free", map_graph(CHAIN, chip, "free").mapping)) == []
