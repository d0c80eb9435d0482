"""Topologies: the links of every router with their class, and the next hop of every pair of routers (docs/machine.md section 11 fixes every tie).

Links are symmetric, so a link from a to b implies one from b to a. Routers are numbered as ``neurosim.chip.spec.Noc`` says.
"""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
LOCAL, ALONG_X, ALONG_Y, BETWEEN_CHIPS = range(4)
"""Classes of router outputs; links of topologies without axes are of class ALONG_X."""


def links(chip: Chip) -> list[dict[int, int]]:
    """For every router its neighbours, ascending: {router: class of the link}."""
    near: list[dict[int, int]] = [{} for _ in range(chip.noc.routers)]
    for a, b, group in _LINKS[chip.noc.topology](chip):
        if a != b:  # a dimension of size 1 is no link
            near[a].setdefault(b, group)
            near[b].setdefault(a, group)
    return [dict(sorted(row.items())) for row in near]


def next_hops(chip: Chip) -> I32:
    """[routers, routers] int32: the neighbour of the first router on the way to the second; the router itself on the diagonal."""
    return _STEPS[chip.noc.topology](chip)


def hop_matrix(chip: Chip) -> I64:
    """[routers, routers]: links on the path that the routing takes; one between chips counts as many as its service is longer than east-west."""
    jump = next_hops(chip)
    sites = np.arange(len(jump), dtype=np.int32)
    hops = (jump != sites[:, None]).astype(np.int32)  # of the path's first 1, 2, 4, ... links
    time = chip.timing
    dear = max(1, round(time.hop_chip.value / time.hop_east_west.value)) if time.hop_chip else 1
    if dear > 1:
        for router, near in enumerate(links(chip)):
            between = [other for other, group in near.items() if group == BETWEEN_CHIPS]
            hops[router, np.isin(jump[router], between)] = dear
    while not np.array_equal(jump, np.broadcast_to(sites, jump.shape)):
        hops += np.take_along_axis(hops, jump, axis=0)
        jump = np.take_along_axis(jump, jump, axis=0)
    result: I64 = hops.astype(np.int64)
    return result


def _grid(chip: Chip, wraps: bool) -> list[tuple[int, int, int]]:
    noc = chip.noc
    size_x, size_y = noc.chip_width or noc.width, noc.chip_height or noc.height
    found = []
    for y in range(noc.height):
        for x in range(noc.width):
            for there_x, there_y, group in ((x + 1, y, ALONG_X), (x, y + 1, ALONG_Y)):
                if not wraps and (there_x == noc.width or there_y == noc.height):
                    continue
                there_x, there_y = there_x % noc.width, there_y % noc.height
                same = (x // size_x, y // size_y) == (there_x // size_x, there_y // size_y)
                found.append((y * noc.width + x, there_y * noc.width + there_x, group if same else BETWEEN_CHIPS))
    return found


def _given(chip: Chip) -> list[tuple[int, int, int]]:
    return [(edge[0], edge[1], BETWEEN_CHIPS if edge[2:] == ("chip",) else ALONG_X) for edge in chip.noc.edges]


_LINKS: dict[str, Callable[[Chip], list[tuple[int, int, int]]]] = {
    "mesh": lambda chip: _grid(chip, wraps=False),
    "torus": lambda chip: _grid(chip, wraps=True),
    "ring": lambda chip: [(r, (r + 1) % chip.noc.routers, ALONG_X) for r in range(chip.noc.routers)],
    "star": lambda chip: [(0, r, ALONG_X) for r in range(1, chip.noc.routers)],
    "tree": lambda chip: [((r - 1) // chip.noc.arity, r, ALONG_X) for r in range(1, chip.noc.routers)],
    "graph": _given,
}


def _pairs(sites: int) -> tuple[I64, I64]:
    """(here [sites, 1], home [1, sites])."""
    numbers = np.arange(sites, dtype=np.int64)
    return numbers[:, None], numbers[None, :]


def _around(here: I64, home: I64, size: int) -> I64:
    """-1, 0 or 1: the shorter way round a cycle of ``size``, the ascending one when both are equal."""
    ahead = (home - here) % size
    return np.where(ahead == 0, 0, np.where(2 * ahead <= size, 1, -1))


def _grid_step(chip: Chip, wraps: bool) -> I32:
    """Along x until the column is right, then along y."""
    width, height = chip.noc.width, chip.noc.height
    along = []
    for size in (width, height):
        here, home = _pairs(size)
        along.append((here + (_around(here, home, size) if wraps else np.sign(home - here))) % size)
    x, y = (axis.astype(np.int32) for axis in along)
    rows, columns = np.arange(height, dtype=np.int32), np.arange(width, dtype=np.int32)
    # [row, column, row of the goal, column of the goal]
    sideways = rows[:, None, None, None] * width + x[None, :, None, :]
    upright = y[:, None, :, None] * width + columns[None, :, None, None]
    step = np.where((columns[:, None] != columns[None, :])[None, :, None, :], sideways, upright)
    return np.broadcast_to(step, (height, width, height, width)).reshape(width * height, width * height)


def _ring_step(chip: Chip) -> I32:
    sites = chip.noc.routers
    here, home = _pairs(sites)
    return ((here + _around(here, home, sites)) % sites).astype(np.int32)


def _star_step(chip: Chip) -> I32:
    here, home = _pairs(chip.noc.routers)
    return np.where((here == 0) | (here == home), home, 0).astype(np.int32)


def _tree_step(chip: Chip) -> I32:
    """Towards the parent, but for the ancestors of the goal, which go to the child above it."""
    sites = chip.noc.routers
    parent = (np.arange(sites) - 1) // chip.noc.arity
    step = np.repeat(parent[:, None], sites, axis=1).astype(np.int32)
    goal = child = np.arange(sites)
    step[goal, goal] = goal
    while len(goal):
        inner = child > 0
        goal, child = goal[inner], child[inner]
        step[parent[child], goal] = child
        child = parent[child]
    return step


def _graph_step(chip: Chip) -> I32:
    """A shortest path; at every router the lowest-numbered neighbour that lies on one."""
    sites = chip.noc.routers
    graph = nx.Graph([edge[:2] for edge in chip.noc.edges])
    near = [sorted(graph[router]) for router in range(sites)]
    step = np.zeros((sites, sites), np.int32)
    far = np.zeros(sites, np.int64)
    for goal in range(sites):
        for router, distance in nx.single_source_shortest_path_length(graph, goal).items():
            far[router] = distance
        column = [next((other for other in near[router] if far[other] < far[router]), router) for router in range(sites)]
        step[:, goal] = column
    return step


_STEPS: dict[str, Callable[[Chip], I32]] = {
    "mesh": lambda chip: _grid_step(chip, wraps=False),
    "torus": lambda chip: _grid_step(chip, wraps=True),
    "ring": _ring_step,
    "star": _star_step,
    "tree": _tree_step,
    "graph": _graph_step,
}
