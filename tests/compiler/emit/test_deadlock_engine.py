"""The static check against the reference engine: where it warns, a run really stops; the same network a little tamer has no warning and ends."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest

from neurosim.chip import edges_of, load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.emit.deadlock import deadlock_warnings
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.engine.events import SPIKE, Stimulus
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import Deadlock
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection
from neurosim.program import Program

NEURONS = 12  # per slice
RULE = NeuronRule(np.full((1, 1, 1), 1), np.zeros((1, 1, 1), np.int64))
SQUARE = json.dumps(edges_of(nx.cycle_graph(4)))


def _round(distance: int, *overrides: str, sync: str = "wavefront", fork: bool = False) -> Program:
    """Four cores on four routers; slice i of the first layer is on core i and sends to core i + ``distance`` of the second (``fork``: to all)."""
    side = 4 * NEURONS
    second: Any = Conv2d(np.ones((4, NEURONS, 1, 1), np.int64), groups=4)
    if fork:
        second = Dense(np.ones((4, side), np.int64), (4, 1, 1))
    graph = Graph(
        "round",
        2,
        (Population("in", (1, 1, 1), "input"), Population("a", (side, 1, 1), "spiking", RULE), Population("b", (4, 1, 1), "readout")),
        (Projection("in", "a", Dense(np.ones((side, 1), np.int64), (side, 1, 1))), Projection("a", "b", second, delay=int(sync == "barrier"))),
    )
    slices = [Slice(1, (NEURONS * k, NEURONS * (k + 1), 0, 1, 0, 1)) for k in range(4)] + [Slice(2, (k, k + 1, 0, 1, 0, 1)) for k in range(4)]
    cores = (0, 1, 2, 3, *((k + distance) % 4 for k in range(4)))
    fast = ("timing.send=1", "timing.fire=1", "timing.update=1", "timing.access=1", "timing.put=1")  # the links are what is slow
    chip = load_chip("ideal", ["memory.cores=4", "noc.width=4", "noc.height=1", "noc.flow=link", "noc.fifo=1", "noc.axon_in=1", *fast, *overrides])
    banks = {"free": 1, "wavefront": 2, "barrier": 4}[sync]
    return assemble(graph, chip, sync, Mapping(tuple(slices), cores, (banks,) * 8))


def _chain(cores: tuple[int, ...], *overrides: str) -> Program:
    """in -> a -> b -> out in free: the spikes of a fill axon-in of b faster than b, which fires at every one, can send."""
    graph = Graph(
        "chain",
        1,
        (
            Population("in", (1, 1, 1), "input"),
            *(Population(n, (NEURONS, 1, 1), "spiking", RULE) for n in "ab"),
            Population("out", (1, 1, 1), "readout"),
        ),
        (
            Projection("in", "a", Dense(np.ones((NEURONS, 1), np.int64), (NEURONS, 1, 1))),
            Projection("a", "b", Dense(np.ones((NEURONS, NEURONS), np.int64), (NEURONS, 1, 1))),
            Projection("b", "out", Dense(np.ones((1, NEURONS), np.int64), (1, 1, 1))),
        ),
    )
    slices = tuple(Slice(k, (0, size, 0, 1, 0, 1)) for k, size in ((1, NEURONS), (2, NEURONS), (3, 1)))
    small = ("noc.fifo=1", "noc.axon_in=1", "noc.axon_out=1", "noc.window=1")
    return assemble(graph, load_chip("tiny", [*small, *overrides]), "free", Mapping(slices, cores, (1,) * 3))


def _run(program: Program) -> None:
    count = 6
    steps = np.zeros(count, np.int32)
    zeros = np.zeros(count, np.int64)
    stimulus = Stimulus(zeros, steps, np.full(count, SPIKE, np.uint8), np.full(count, program.slices, np.int32), zeros.astype(np.int32), zeros + 1)
    simulate_stimuli(program, [stimulus], engine="reference")


def _warns_and_stops(program: Program, *members: str) -> None:
    warnings = deadlock_warnings(program)
    assert warnings
    for member in members:
        assert member in warnings[0]
    with pytest.raises(Deadlock):
        _run(program)


def _does_neither(program: Program) -> None:
    assert deadlock_warnings(program) == []
    _run(program)


AROUND = tuple(f"router {k} to router {(k + 1) % 4}" for k in range(4))
RINGS = {
    "ring": ("noc.topology=ring",),
    "torus": ("noc.topology=torus",),
    "graph": ("noc.topology=graph", f"noc.edges={SQUARE}"),
    "ring with trees": ("noc.topology=ring", "noc.multicast=tree"),
}


@pytest.mark.parametrize("sync", ["wavefront", "barrier", "free"])
@pytest.mark.parametrize("name", ["ring", "torus", "ring with trees"])
def test_half_way_round_a_ring_everyone_waits_for_the_next(name: str, sync: str) -> None:
    _warns_and_stops(_round(2, *RINGS[name], sync=sync), *AROUND)


@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
@pytest.mark.parametrize("name", RINGS)
def test_to_the_neighbour_nobody_waits_for_a_second_link(name: str, sync: str) -> None:
    _does_neither(_round(1, *RINGS[name], sync=sync))


@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
@pytest.mark.parametrize("trees", ["unicast", "tree"])
def test_forks_on_mesh_star_and_tree_neither_warn_nor_stop(trees: str, sync: str) -> None:
    for topology, width in (("mesh", 2), ("star", 4), ("tree", 4)):
        _does_neither(
            _round(1, f"noc.topology={topology}", f"noc.width={width}", f"noc.height={4 // width}", f"noc.multicast={trees}", sync=sync, fork=True)
        )


def test_a_copy_that_waits_at_a_fork_holds_its_input() -> None:
    """Slow local outputs: every router's link in holds a copy for its core and, behind it, what should go on round the ring."""
    _warns_and_stops(_round(1, "noc.topology=ring", "noc.multicast=tree", 'timing.hop_local="50 ns"', fork=True), *AROUND)


def test_a_ring_that_drops_has_no_waiting_without_markers() -> None:
    ring = ("noc.topology=ring", "noc.overflow=drop")
    for sync in ("free", "barrier"):
        _does_neither(_round(2, *ring, sync=sync))
    assert deadlock_warnings(_round(2, *ring))  # markers wait


@pytest.mark.parametrize("trees", ["unicast", "tree"])
def test_free_with_link_flow_through_cores(trees: str) -> None:
    tree = f"noc.multicast={trees}"
    _warns_and_stops(_chain((0, 1, 0), tree), "axon-in of core 0", "axon-out of core 1")
    _does_neither(_chain((0, 1, 3), tree))


@pytest.mark.parametrize("trees", ["unicast", "tree"])
def test_free_with_windows(trees: str) -> None:
    windows = ("noc.flow=end_to_end", f"noc.multicast={trees}")
    _warns_and_stops(_chain((0, 0, 1), *windows), "cycle of cores core 0 -> core 0")
    assert deadlock_warnings(_chain((0, 3, 0), *windows)) == ["deadlock is possible: cycle of cores core 0 -> core 3 -> core 0"]
    _does_neither(_chain((0, 1, 3), *windows))


def test_packets_of_several_ports_start_at_their_own_routers() -> None:
    """Four ports, each sending half way round the ring; on one port the same input turns nowhere in a circle."""
    graph = Graph(
        "ports",
        1,
        (Population("in", (4, 1, 1), "input"), Population("out", (4, 1, 1), "readout")),
        (Projection("in", "out", Conv2d(np.ones((4, 1, 1, 1), np.int64), groups=4)),),
    )
    boxes = [(k, k + 1, 0, 1, 0, 1) for k in range(4)]
    mapping = Mapping(tuple(Slice(1, box) for box in boxes), tuple((k + 2) % 4 for k in range(4)), (2,) * 4)
    chip = load_chip("tiny", ["noc.topology=ring", "noc.width=4", "noc.height=1", "noc.ports=[0, 1, 2, 3]"])
    assert deadlock_warnings(assemble(graph, chip, "wavefront", mapping)) == []
    (warning,) = deadlock_warnings(assemble(graph, chip, "wavefront", replace(mapping, ports=tuple((0, box, k) for k, box in enumerate(boxes)))))
    assert all(member in warning for member in AROUND)
