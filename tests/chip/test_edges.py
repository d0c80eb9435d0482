"""Links of a network-on-chip from a networkx graph."""

from __future__ import annotations

import json

import networkx as nx
import pytest

from neurosim.chip import edges_of, load_chip
from neurosim.errors import ChipError


def test_nodes_are_numbered_in_sorted_order_and_marks_survive() -> None:
    graph = nx.Graph([("b", "a"), ("b", "c")])
    graph["a"]["b"]["chip"] = True
    assert edges_of(graph) == [(0, 1, "chip"), (1, 2)]
    assert edges_of(nx.path_graph(4)) == [(0, 1), (1, 2), (2, 3)]
    assert edges_of(nx.DiGraph([(1, 0), (0, 1)])) == [(0, 1)]


def test_a_chip_takes_them() -> None:
    graph = nx.petersen_graph()
    chip = load_chip("tiny", ["noc.topology=graph", f"noc.edges={json.dumps(edges_of(graph))}", "memory.cores=10"])
    assert (chip.noc.routers, len(chip.noc.edges)) == (10, 15)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.Graph([(0, 1), (2, 3)]), "2 of 4 routers without a way to router 0, the first being 2"),
        (nx.Graph([(0, 1), (1, 1)]), "links router 1 with itself"),
        (nx.MultiGraph([(0, 1), (0, 1)]), "nodes 0 and 1 have two links"),
        (nx.Graph([(0, "a")]), "nodes of types int, str have no common order"),
        (nx.empty_graph(1), "1 nodes and no link"),
    ],
)
def test_refused_graphs(graph: nx.Graph, message: str) -> None:
    with pytest.raises(ChipError, match=message) as caught:
        edges_of(graph)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ("[[0, 2]]", "1 of 3 routers without a way"),
        ("[[0, 1], [1, 0]]", "routers 0 and 1 twice"),
        ("[[0, -1]]", "router -1; routers are numbered from 0"),
        ("[[0, 1, 'chip'], [1, 2]]", "links between chips need"),
    ],
)
def test_refused_edges_of_a_file(edges: str, message: str) -> None:
    with pytest.raises(ChipError, match=message):
        load_chip("tiny", ["memory.cores=1", "noc.topology=graph", f"noc.edges={edges}"])
