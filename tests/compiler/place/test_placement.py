"""Placement: clusters, dead cores, topologies without axes, a thousand cores."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from neurosim.compiler.audit.program import audit
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.compiler.place.placement import map_graph, place
from neurosim.compiler.place.topology import hop_matrix
from neurosim.errors import AuditError, DoesNotFit, ModelError
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection
from tests.compiler.graphs import chip_of


def _chain(layers: int, size: int = 4) -> Graph:
    rule = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
    names = ["in", *(f"l{k}" for k in range(layers))]
    populations = tuple(Population(name, (size, 1, 1), "input" if name == "in" else "spiking", None if name == "in" else rule) for name in names)
    weight = Dense(np.ones((size, size), np.int64), (size, 1, 1))
    return Graph("chain", 1, populations, tuple(Projection(a, b, weight) for a, b in pairwise(names)))


def test_neighbours_share_a_cluster() -> None:
    chip = chip_of(4, 1 << 20, 2, "link", "noc.cores_per_router=4", "memory.cores=16")
    mapped = map_graph(_chain(4), chip, "wavefront")
    assert {core // 4 for core in mapped.mapping.core} == {0}  # all beside the port
    assert mapped.traffic_hops[1] == 0


def test_slices_go_where_their_port_is() -> None:
    graph, chip = _chain(1), chip_of(4, 1 << 20, 3, "link", "noc.ports=[0, 8]")
    assert map_graph(graph, chip, "wavefront").mapping.core == (0,)
    box = (0, 4, 0, 1, 0, 1)
    mapping = map_graph(graph, chip, "wavefront", ports=((0, box, 1),)).mapping
    assert (mapping.core, mapping.ports) == ((8,), ((0, box, 1),))


def test_a_network_stays_on_its_chip() -> None:
    """Four layers on four chips of one row of cores each."""
    between = ('timing.hop_chip="50 ns"', 'timing.chip_forward="7 ns"', 'timing.chip_ack="9 ns"', 'prices.hop_chip="1 nJ"')
    chip = chip_of(4, 1 << 20, 4, "link", "noc.chip_height=1", *between)
    mapping = map_graph(_chain(4), chip, "wavefront").mapping
    assert sorted(mapping.core) == [0, 1, 2, 3]


def test_dead_cores_are_never_used() -> None:
    dead = (0, 1, 3, 6)
    chip = chip_of(4, 1 << 20, 3, "link", f"memory.dead_cores={list(dead)}")
    graph = _chain(5)
    mapping = map_graph(graph, chip, "wavefront").mapping
    assert len(set(mapping.core)) == 5
    assert not set(mapping.core) & set(dead)
    audit(assemble(graph, chip, "wavefront", mapping), graph)
    with pytest.raises(DoesNotFit, match=r"needs 6 cores, tiny has 5 alive \(9 less 4 in memory.dead_cores\)"):
        map_graph(_chain(6), chip, "wavefront")


def test_mappings_onto_dead_cores_are_refused_and_found() -> None:
    graph, slices = _chain(1), (Slice(1, (0, 4, 0, 1, 0, 1)),)
    with pytest.raises(ModelError, match="uses core 2, which tiny lists in"):
        assemble(graph, chip_of(4, 1 << 20, 2, "link", "memory.dead_cores=[2]"), "wavefront", Mapping(slices, (2,), (2,)))
    chip = chip_of(4, 1 << 20, 2)
    program = assemble(graph, chip, "wavefront", Mapping(slices, (2,), (2,)))
    died = program.chip.model_copy(update={"memory": program.chip.memory.model_copy(update={"dead_cores": (2,)})})
    with pytest.raises(AuditError, match="core 2 holds slice 0 but is dead"):
        audit(type(program)(**{**vars(program), "chip": died}), graph)


@pytest.mark.parametrize("topology", ["torus", "ring", "star", "tree"])
def test_no_swap_helps_on_any_topology(topology: str) -> None:
    """300 sites of 324, so that the descent works in bands of rows."""
    draw = np.random.default_rng(1)
    chip = chip_of(4, 1 << 20, 18, "link", f"noc.topology={topology}", f"memory.dead_cores={list(range(1, 324, 14))}")
    cores = 324 - 24
    traffic = np.where(draw.random((cores, cores)) < 0.01, draw.integers(1, 100, (cores, cores)), 0).astype(float)
    np.fill_diagonal(traffic, 0)
    port = np.zeros(cores)
    port[:4] = 50
    site, before, after = place(traffic, port[None], chip)
    assert len(set(site.tolist())) == cores
    assert not set(site.tolist()) & set(chip.memory.dead_cores)
    hops = hop_matrix(chip).astype(float)
    flow, near = traffic + traffic.T, hops[np.ix_(site, site)]
    assert round((flow * near).sum() / 2 + port @ hops[0, site]) == after < before
    pulled = flow @ near + port[:, None] * hops[0, site][None, :]
    own = np.diag(pulled)
    change = pulled + pulled.T - own[:, None] - own[None, :] + 2 * flow * near
    assert change.min() > -0.5


def test_a_thousand_cores_take_seconds() -> None:
    draw = np.random.default_rng(2)
    traffic = np.zeros((1024, 1024))
    for k in range(0, 992, 32):  # layers of 32 slices, each sending to a third of the next
        traffic[k : k + 32, k + 32 : k + 64] = draw.integers(0, 200, (32, 32)) * (draw.random((32, 32)) < 0.3)
    began = time.process_time()
    site, before, after = place(traffic, np.zeros((1, 1024)), chip_of(4, 1 << 20, 32))
    assert sorted(site.tolist()) == list(range(1024))
    assert after < 0.6 * before
    assert time.process_time() - began < 30  # about 2 s
