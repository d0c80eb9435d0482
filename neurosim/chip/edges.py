"""Links of a networkx graph as ``noc.edges``, and the rules that edges of a network-on-chip obey."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from neurosim.errors import ChipError

if TYPE_CHECKING:
    import networkx as nx


def edges_of(graph: nx.Graph) -> list[tuple[int, int] | tuple[int, int, str]]:
    """``noc.edges`` of any networkx graph: (a, b), or (a, b, "chip") where the edge attribute ``chip`` is true. Sorted, each link once.

    Nodes 0..n-1 stay as they are; others are numbered in sorted order. Links lead both ways, so a directed graph counts as undirected.
    In a chip: ``load_chip("async-mesh", ["noc.topology=graph", f"noc.edges={json.dumps(edges_of(graph))}", ...])``.

    Raises ChipError: nodes that cannot be sorted, a link of a node with itself, two links between the same nodes, no link, parts without a link.
    """
    nodes = list(graph.nodes)
    try:
        number = {node: k for k, node in enumerate(sorted(nodes))}
    except TypeError:
        kinds = ", ".join(sorted({type(node).__name__ for node in nodes}))
        raise ChipError(f"nodes of types {kinds} have no common order; number the routers 0..{len(nodes) - 1} or name them all by texts") from None
    edges: dict[tuple[int, int], bool] = {}
    for a, b, attributes in graph.edges(data=True):
        pair = (min(number[a], number[b]), max(number[a], number[b]))
        between = bool(attributes.get("chip", False))
        if edges.setdefault(pair, between) != between or (graph.is_multigraph() and graph.number_of_edges(a, b) > 1):
            raise ChipError(f"nodes {a!r} and {b!r} have two links; routers have one link in each direction")
    if not edges:
        raise ChipError(f"the graph has {len(nodes)} nodes and no link; a network of one router is a mesh of 1 x 1")
    result: list[Any] = [(a, b, "chip") if between else (a, b) for (a, b), between in sorted(edges.items())]
    try:
        check_edges(result, len(nodes))
    except ValueError as error:
        raise ChipError(str(error)) from None
    return result


def check_edges(edges: Iterable[Sequence[Any]], routers: int) -> None:
    """Raise ValueError unless the links join routers 0..routers-1 into one network, each pair once and none with itself."""
    parent = list(range(routers))

    def root(router: int) -> int:
        while parent[router] != router:
            parent[router] = parent[parent[router]]
            router = parent[router]
        return router

    seen: set[tuple[int, int]] = set()
    for edge in edges:
        a, b = min(edge[:2]), max(edge[:2])
        if a < 0:
            raise ValueError(f"noc.edges names router {a}; routers are numbered from 0")
        if a == b:
            raise ValueError(f"noc.edges links router {a} with itself; leave it out, a core reaches its own router without a link")
        if (a, b) in seen:
            raise ValueError(f"noc.edges links routers {a} and {b} twice; a link leads both ways, give it once")
        seen.add((a, b))
        parent[root(a)] = root(b)
    apart = [router for router in range(routers) if root(router) != root(0)]
    if apart:
        raise ValueError(
            f"noc.edges leaves {len(apart)} of {routers} routers without a way to router 0, the first being {apart[0]}; "
            "join them, and number routers without gaps"
        )
