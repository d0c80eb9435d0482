"""Links, classes, next hops and their ties; numbering of servers, inputs and outputs with clusters, several ports and several chips."""

from __future__ import annotations

import json
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest

from neurosim.chip import Chip, edges_of, load_chip
from neurosim.compiler.emit.fabric import build_fabric
from neurosim.compiler.place.topology import hop_matrix, links, next_hops
from neurosim.program import C_AXON_IN, C_INJECT, C_LINK, C_PORT

BETWEEN = ('timing.hop_chip="50 ns"', 'timing.chip_forward="7 ns"', 'timing.chip_ack="9 ns"', 'prices.hop_chip="1 nJ"')


def _chip(topology: str, width: int = 1, height: int = 1, *more: str) -> Chip:
    return load_chip("tiny", [f"noc.topology={topology}", f"noc.width={width}", f"noc.height={height}", "memory.cores=1", *more])


def _graph(graph: nx.Graph, *more: str) -> Chip:
    return _chip("graph", 1, 1, f"noc.edges={json.dumps(edges_of(graph))}", *more)


def _walk(chip: Chip, here: int, goal: int) -> list[int]:
    step, path = next_hops(chip), [here]
    while here != goal:
        here = int(step[here, goal])
        path.append(here)
    return path


SIZES = ((1, 1), (2, 1), (2, 2), (4, 1), (5, 4), (3, 6))
CHIPS = [
    *(_chip(kind, width, height, "noc.arity=3") for kind in ("mesh", "torus", "ring", "star", "tree") for width, height in SIZES),
    _chip("tree", 7, 1, "noc.arity=1"),
    _graph(nx.petersen_graph()),
    _graph(nx.gnm_random_graph(20, 40, seed=3)),
]  # fmt: skip


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: f"{c.noc.topology}-{c.noc.routers}")
def test_every_route_is_a_shortest_path_over_links(chip: Chip) -> None:
    graph = nx.Graph([(a, b) for a, near in enumerate(links(chip)) for b in near])
    graph.add_nodes_from(range(chip.noc.routers))
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    hops = hop_matrix(chip)
    for a in graph:
        for b in graph:
            path = _walk(chip, a, b)
            assert all(graph.has_edge(*pair) for pair in pairwise(path))
            assert len(path) - 1 == lengths[a][b] == hops[a, b]


def test_links_of_every_topology() -> None:
    def pairs(chip: Chip) -> set[tuple[int, int]]:
        return {(a, b) for a, near in enumerate(links(chip)) for b in near if a < b}

    assert pairs(_chip("mesh", 3, 2)) == {(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)}
    assert pairs(_chip("torus", 3, 2)) == {(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (0, 3), (1, 4), (2, 5)}
    assert pairs(_chip("ring", 2, 2)) == {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert pairs(_chip("star", 2, 2)) == {(0, 1), (0, 2), (0, 3)}
    assert pairs(_chip("tree", 6, 1)) == {(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)}
    assert pairs(_chip("tree", 6, 1, "noc.arity=4")) == {(0, 1), (0, 2), (0, 3), (0, 4), (1, 5)}


def test_ties_of_next_hops() -> None:
    assert _walk(_chip("mesh", 3, 3), 0, 8) == [0, 1, 2, 5, 8]
    torus = _chip("torus", 4, 4)
    assert _walk(torus, 0, 10) == [0, 1, 2, 6, 10]  # two either way: ascending
    assert _walk(torus, 10, 0) == [10, 11, 8, 12, 0]
    assert _walk(torus, 0, 15) == [0, 3, 15]
    ring = _chip("ring", 6, 1)
    assert _walk(ring, 5, 2) == [5, 0, 1, 2]
    assert _walk(ring, 1, 5) == [1, 0, 5]
    square = _graph(nx.Graph([(0, 3), (3, 1), (0, 2), (2, 1)]))
    assert _walk(square, 0, 1) == [0, 2, 1]
    assert _walk(square, 3, 2) == [3, 0, 2]


def test_classes_and_links_between_chips() -> None:
    near = links(_chip("mesh", 4, 2, "noc.chip_width=2", *BETWEEN))
    assert (near[0], near[1], near[5]) == ({1: 1, 4: 2}, {0: 1, 2: 3, 5: 2}, {1: 2, 4: 1, 6: 3})
    assert links(_chip("torus", 4, 2, "noc.chip_width=2", *BETWEEN))[0] == {1: 1, 3: 3, 4: 2}
    marked = nx.Graph([(0, 1), (1, 2)])
    marked[1][2]["chip"] = True
    assert links(_graph(marked, *BETWEEN))[1] == {0: 1, 2: 3}


def test_a_link_between_chips_is_a_long_way() -> None:
    """50 ns against 4.1 ns: 12 links. Along the other axis nothing changes."""
    hops = hop_matrix(_chip("mesh", 4, 2, "noc.chip_width=2", *BETWEEN))
    assert hops[0].tolist() == [0, 1, 13, 14, 1, 2, 14, 15]
    assert hops[7, 4] == 14


def test_numbering_with_clusters_ports_and_chips() -> None:
    """Two chips of one router each with three and two cores; ports 0 and 2 on router 1, port 1 on router 0."""
    chip = _chip("mesh", 2, 1, "noc.chip_width=1", "noc.cores_per_router=3", "memory.cores=5", "noc.ports=[1, 0, 1]", *BETWEEN)
    fabric = build_fabric(chip, "wavefront", np.full(5, 4))
    assert fabric.core_router.tolist() == [0, 0, 0, 1, 1]
    assert fabric.server_kind.tolist() == [0] * 3 + [1, 2, 3] * 5 + [4] * 7
    assert fabric.server_owner.tolist()[18:] == [0, 0, 0, 0, 1, 1, 1]
    assert fabric.server_class.tolist()[18:] == [0, 0, 0, 3, 0, 0, 3]
    assert fabric.server_hop_ps.tolist()[18:] == [2100] * 3 + [50_000] + [2100] * 2 + [50_000]
    rows = fabric.channel.tolist()
    inputs = {(row[2], row[3]): (row[0], row[1]) for row in rows if row[0] in (C_PORT, C_INJECT, C_LINK)}
    assert inputs == {
        (0, 0): (C_PORT, 1), (0, 1): (C_INJECT, 5), (0, 2): (C_INJECT, 8), (0, 3): (C_INJECT, 11), (0, 4): (C_LINK, 24),
        (1, 0): (C_PORT, 0), (1, 1): (C_PORT, 2), (1, 2): (C_INJECT, 14), (1, 3): (C_INJECT, 17), (1, 4): (C_LINK, 21),
    }  # fmt: skip
    assert {tuple(row[5:]) for row in rows if row[0] == C_LINK} == {(7000, 9000)}
    assert {row[2]: row[1] for row in rows if row[0] == C_AXON_IN} == {0: 18, 1: 19, 2: 20, 3: 22, 4: 23}
    assert fabric.next_server.tolist() == [[18, 19, 20, 21, 21], [24, 24, 24, 22, 23]]
    assert all(rows[fabric.server_channel[v]][1] == v for v in range(25) if fabric.server_channel[v] >= 0)


def test_overflow_marks_its_channels() -> None:
    for what, kinds in (("axon_out_overflow", {2}), ("overflow", {0, 1, 3, 4})):
        fabric = build_fabric(load_chip("tiny", [f"noc.{what}=drop"]), "free", np.full(4, 2))
        assert set(fabric.channel[fabric.channel_drop == 1, 0].tolist()) == kinds
        assert not set(fabric.channel[fabric.channel_drop == 0, 0].tolist()) & kinds


def test_a_thousand_routers_take_seconds_at_most() -> None:
    graph = nx.random_regular_graph(4, 1024, seed=1)
    chip = _graph(graph, "memory.cores=1024")
    assert build_fabric(chip, "free", np.full(1024, 2)).next_server.shape == (1024, 1024)
