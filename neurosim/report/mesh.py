"""The chip seen from above: routers with their cores as tiles, links with their load."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from neurosim.program import Program
from neurosim.report.style import GREY, LIGHT, micro, new_figure, pyplot, shortened
from neurosim.trace import StoredRun, core_summary, link_summary
from neurosim.units import format_time

_HALF = 0.34  # half the side of a tile; the rest of the pitch is for links
_OFFSET = 0.09  # the two directions of a link lie beside each other
_MOST_SPRINGS = 400  # routers up to which a graph is laid out by springs; beyond on a circle

F64 = NDArray[np.float64]


def mesh_figure(run: StoredRun) -> Any:
    """Tiles: utilisation of the core's busiest station and its populations. Arrows: packets of each link, per sample; width and colour alike.

    A mesh or torus is drawn as the grid that it is, other topologies by a layout that is the same every time. Links between chips are dashed.
    """
    program = run.program
    samples = len(run.result.scores)
    links = [row for row in link_summary(run) if row["class"] != "local"]
    at = positions(program)
    size = at.max(axis=0, initial=0.0) + 1
    figure = new_figure(2.4 + 0.98 * size[0], 1.1 + 0.98 * size[1])
    axes = figure.add_subplot()
    matplotlib = pyplot()
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    tiles, loads = matplotlib.colormaps["cividis"], matplotlib.colormaps["YlOrRd"]
    rows = {row["core"]: row for row in core_summary(run)}
    scale = Normalize(0, max(1e-9, max((_busy(row) for row in rows.values()), default=0.0)))
    for router, (x, y) in enumerate(at.tolist()):
        _draw_router(axes, program, router, x, y, rows, tiles, scale)
    load = Normalize(0, max(1e-9, max((row["packets"] for row in links), default=0) / samples))
    for row in links:
        _draw_link(axes, row, at[row["router"]], at[row["reader"]], row["packets"] / samples, loads, load)
    # several ports of one router stand above each other
    for port, router in enumerate(program.port_router.tolist()):
        (x, y), above = at[router], np.count_nonzero(program.port_router[:port] == router)
        axes.annotate(
            f"port {port}", (x - _HALF, y - _HALF), (x - 0.5, y - 0.62 - 0.14 * above), fontsize=7, ha="center",
            arrowprops={"arrowstyle": "-|>", "color": "black"},
        )  # fmt: skip
    axes.set_xlim(-0.85, size[0] - 0.45)
    axes.set_ylim(size[1] - 0.45, -0.85)
    axes.set_aspect("equal")
    axes.axis("off")
    where = f"{program.meta.get('network', '')} on {program.chip.name} ({program.sync}):"
    what = f"{len(rows)} of {program.cores} cores, {micro(format_time(run.result.window_ps / samples))} per sample"
    axes.set_title(f"{where}\n{what}" if size[0] < 4 else f"{where} {what}", fontsize=10)
    bars = (
        (ScalarMappable(scale, tiles), "busiest station of the core, part of the window"),
        (ScalarMappable(load, LinearSegmentedColormap.from_list("load", loads(np.linspace(0.15, 1, 64)))), "packets per sample on the link"),
    )
    for mappable, label in bars:
        bar = figure.colorbar(mappable, ax=axes, fraction=0.025, pad=0.01, shrink=0.62)
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def positions(program: Program) -> F64:
    """[routers, 2] (x, y) from 0 on, about 1 between neighbours: grid, circle (ring, rim of a star), levels of a tree, springs."""
    noc = program.chip.noc
    routers = len(program.next_server)
    if noc.topology in ("mesh", "torus"):
        y, x = np.divmod(np.arange(routers), noc.width)
        return np.stack([x, y], axis=1).astype(np.float64)
    if noc.topology == "tree":
        return _levels(routers, noc.arity)
    if noc.topology == "graph" and routers <= _MOST_SPRINGS:
        return _springs(nx.Graph([edge[:2] for edge in noc.edges]))
    rim = max(1, routers - 1 if noc.topology == "star" else routers)
    radius = max(0.0 if routers == 1 else 0.7, 1 / (2 * math.sin(math.pi / max(2, rim))))
    angle = 2 * np.pi * (np.arange(routers) - (1 if noc.topology == "star" else 0)) / rim
    at = radius * np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    if noc.topology == "star":
        at[0] = 0
    result: F64 = at - at.min(axis=0)
    return result


def _levels(routers: int, arity: int) -> F64:
    """A tree from above: leaves side by side, parents over the middle of their children."""
    at = np.zeros((routers, 2))
    depth = np.zeros(routers, np.int64)
    for router in range(1, routers):
        depth[router] = depth[(router - 1) // arity] + 1
    column = 0.0

    def settle(router: int) -> None:
        nonlocal column
        children = range(router * arity + 1, min(router * arity + arity, routers - 1) + 1)
        if not len(children):
            at[router, 0], column = column, column + 1
        else:
            at[router, 0] = (at[children[0], 0] + at[children[-1], 0]) / 2

    # children before parents, leaves from left to right
    for router in nx.dfs_postorder_nodes(nx.DiGraph([((r - 1) // arity, r) for r in range(1, routers)]), 0) if routers > 1 else [0]:
        settle(router)
    at[:, 1] = depth
    return at


def _springs(graph: nx.Graph) -> F64:
    """Springs from a fixed start, scaled so that linked routers are 1.2 to 3 apart and tiles do not overlap where that allows it."""
    order = sorted(graph)
    layout = nx.spring_layout(graph, seed=1, iterations=200)
    at = np.array([layout[router] for router in order])
    typical = float(np.median([np.hypot(*(at[a] - at[b])) for a, b in graph.edges]))
    apart = np.hypot(*(at[:, None] - at[None, :]).transpose(2, 0, 1))[np.triu_indices(len(at), 1)].min()
    result: F64 = (at - at.min(axis=0)) * min(max(1.2 / typical, 1.0 / max(apart, 1e-9)), 3 / typical)
    return result


def _draw_router(axes: Any, program: Program, router: int, x: float, y: float, rows: dict[int, Any], tiles: Any, scale: Any) -> None:
    """One tile per core of the router, side by side; an empty one with the core's number, a crossed one where the core is dead."""
    from matplotlib.patches import Rectangle

    cores = np.flatnonzero(program.core_router == router).tolist()
    columns = max(1, math.ceil(math.sqrt(len(cores))))
    side = 2 * _HALF / columns
    if len(cores) != 1:
        axes.add_patch(Rectangle((x - _HALF, y - _HALF), 2 * _HALF, 2 * _HALF, facecolor="white", edgecolor=GREY, linewidth=0.7, zorder=3))
    for k, core in enumerate(cores):
        left, top = x - _HALF + k % columns * side, y - _HALF + k // columns * side
        row = rows.get(core)
        face = tiles(scale(_busy(row))) if row else "white"
        hatch = "xxx" if core in program.chip.memory.dead_cores else None
        axes.add_patch(Rectangle((left, top), side, side, facecolor=face, edgecolor=GREY, linewidth=0.7, zorder=3, hatch=hatch))
        middle = (left + side / 2, top + side / 2)
        if row is None:
            axes.text(*middle, str(core), ha="center", va="center", fontsize=6, color=GREY, zorder=4)
            continue
        ink = "white" if scale(_busy(row)) < 0.55 else "black"
        lines = [f"{core}: {_busy(row):.0%}", *(_label(row["populations"]) if columns == 1 else [])]
        size = 5.8 if columns == 1 else 5.8 / columns + 1
        axes.text(*middle, "\n".join(lines), ha="center", va="center", fontsize=size, color=ink, zorder=4, linespacing=1.15)


def _draw_link(axes: Any, row: dict[str, Any], start: F64, end: F64, per_sample: float, loads: Any, load: Any) -> None:
    from matplotlib.patches import FancyArrowPatch

    way = end - start
    length = float(np.hypot(*way))
    if length == 0:
        return
    way = way / length
    # from the edge of one tile to the edge of the other, beside the way back; links over more than a tile bend around what lies between
    reach = _HALF / max(abs(way[0]), abs(way[1]))
    shift = np.array([-way[1], way[0]]) * _OFFSET
    bend = 0.0 if length < 1.5 else 0.18
    axes.add_patch(
        FancyArrowPatch(
            tuple(start + way * reach + shift),
            tuple(end - way * reach + shift),
            arrowstyle="-|>",
            mutation_scale=4 + 7 * load(per_sample),
            linewidth=0.6 + 3.4 * load(per_sample),
            color=loads(0.15 + 0.85 * load(per_sample)) if per_sample else LIGHT,
            shrinkA=0,
            shrinkB=0,
            zorder=2,
            linestyle="--" if row["class"] == "between chips" else "-",
            connectionstyle=f"arc3,rad={bend}",
        )
    )


def _busy(row: dict[str, Any]) -> float:
    return float(max(row["synapse_busy"], row["soma_busy"], row["sender_busy"]))


def _label(populations: list[str]) -> list[str]:
    """Names of a core's populations in at most three short lines, modules above their layers."""
    if len(populations) > 2:
        return [shortened(populations[0], 13), f"+ {len(populations) - 1} more"]
    lines = []
    for name in populations:
        head, _, tail = name.rpartition(".")
        lines += [shortened(head, 13), tail] if head and len(name) > 13 and len(populations) == 1 else [shortened(name, 13)]
    return lines
