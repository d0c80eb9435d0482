"""Delay balancing for the barrier discipline (docs/machine.md, sections 7 and 11): offsets of populations and the chip delays that they leave.

A spike put in a global step acts in the next one, so a population of offset o handles its own step h in the global step h + o. The offsets are the
least with o_q >= o_p + 1 - d for every projection p -> q of delay d; ports and host currents have o = 0, currents d = 0. What a path is shorter than
the longest one is then made up for by the chip delay D = o_q - o_p - 1 + d, spent in an accumulation bank.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.chip import Chip
from neurosim.compiler.place.mapping import chip_projections, current_populations, on_chip
from neurosim.errors import UnsupportedLayer
from neurosim.graph import Graph

HOST = "port"
"""Source of everything that enters from outside."""


@dataclass(frozen=True)
class Arc:
    """One projection as the barrier sees it; ``source`` is a population on the chip or HOST, ``name`` what it stands for in messages."""

    source: str
    target: str
    delay: int
    name: str
    op: str


def arcs_of(graph: Graph) -> list[Arc]:
    """Projections that the chip serves, in Program order, then one arc for every population that receives currents."""
    result = []
    for k in chip_projections(graph):
        p = graph.projections[k]
        source = p.source if on_chip(graph.population(p.source)) else HOST
        result.append(Arc(source, p.target, p.delay, f"{p.source} -> {p.target}", p.map.op))
    for k in current_populations(graph):
        name = graph.populations[k].name
        result.append(Arc(HOST, name, 0, f"host currents -> {name}", "current"))
    return result


def offsets(graph: Graph) -> dict[str, int]:
    """Least offset of every population on the chip. Raises UnsupportedLayer for a cycle with less delay than hops."""
    arcs = arcs_of(graph)
    offset = {p.name: 0 for p in graph.populations if on_chip(p)}
    last: dict[str, Arc] = {}  # the arc that set each offset
    raised = None
    for _ in range(len(offset) + 1):  # longest paths (Bellman, Ford): without a cycle that still grows, no round changes more than its number
        raised = None
        for arc in arcs:
            least = offset.get(arc.source, 0) + 1 - arc.delay
            if least > offset[arc.target]:
                offset[arc.target], last[arc.target], raised = least, arc, arc.target
        if raised is None:
            return offset
    assert raised is not None
    for _ in offset:  # far enough back to be on the cycle
        raised = last[raised].source
    cycle = [last[raised]]
    while cycle[-1].source != raised:
        cycle.append(last[cycle[-1].source])
    cycle.reverse()
    delay, hops = sum(arc.delay for arc in cycle), len(cycle)
    raise UnsupportedLayer(
        cycle[-1].target,
        cycle[-1].op,
        f"the cycle {' -> '.join([cycle[0].source, *(arc.target for arc in cycle)])} has {delay} steps of delay over {hops} hops, "
        "and a hop takes a step in the barrier discipline",
        value=delay,
        limit=hops,
        remedy="give each of its projections a delay of at least 1 step, or use sync wavefront",
    )


def largest_chip_delays(graph: Graph) -> dict[str, int]:
    """Largest chip delay D into every population on the chip, 0 without any. Raises UnsupportedLayer as ``offsets``."""
    offset = offsets(graph)
    largest = dict.fromkeys(offset, 0)
    for arc in arcs_of(graph):
        largest[arc.target] = max(largest[arc.target], chip_delay(arc, offset))
    return largest


def chip_delay(arc: Arc, offset: dict[str, int]) -> int:
    """D = o_q - o_p - 1 + d of an arc."""
    return offset[arc.target] - offset.get(arc.source, 0) - 1 + arc.delay


def refuse_unbalanced(graph: Graph, chip: Chip) -> None:
    """Raise UnsupportedLayer for a cycle with less delay than hops, or the first projection whose chip delay the chip has not."""
    offset = offsets(graph)
    most = chip.capabilities.max_delay
    for arc in arcs_of(graph):
        delay = chip_delay(arc, offset)
        if delay > most:
            raise UnsupportedLayer(
                arc.target,
                arc.op,
                f"{arc.name} needs a chip delay of {delay} steps to meet longer paths in the barrier discipline",
                value=delay,
                limit=most,
                remedy="use sync wavefront, or a chip with more delay (capabilities.max_delay)",
            )
