"""A readout of which one class does not fit a core, as several readouts that the host adds up.

Each part has some of the projections into the readout; its membranes are partial scores. Their sum in int64 is the score that one readout would have,
because nothing leaks and, in the stepped disciplines, no part can saturate, which is proved here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from neurosim.arithmetic import DECAY_ONE
from neurosim.chip import Chip
from neurosim.compiler.place import chip_projections, class_load
from neurosim.compiler.quantize.ranges import span
from neurosim.errors import DoesNotFit
from neurosim.graph import Graph, Population, Projection
from neurosim.program import is_stepped


def split_readout(graph: Graph, chip: Chip, sync: str, pixels: tuple[int, int] = (0, 255)) -> Graph:
    """The integer graph with its readout in as many parts as one class needs cores; as it is where one core holds a class, where the readout leaks,
    or where a single projection is too large (which partitioning refuses).

    Raises DoesNotFit where a part could saturate in a stepped discipline.
    """
    found = next((p for p in graph.populations if p.kind == "readout" and not p.part_of), None)
    if found is None or chip.memory.layer_per_core or not _adds_up(found):
        return graph
    into = graph.into(found.name)
    served = [graph.projections[k] for k in chip_projections(graph)]
    on_chip = [p for p in into if any(p is other for other in served)]
    fixed, bits, axons = class_load(graph, chip, sync, found, on_chip)
    room, most_axons = 8 * chip.memory.bytes.value - fixed, math.inf if chip.memory.axons is None else chip.memory.axons.value
    if (sum(bits) <= room and sum(axons) <= most_axons) or any(b > room or a > most_axons for b, a in zip(bits, axons, strict=True)):
        return graph
    limit = 2 ** (chip.arithmetic.state_bits - 1) - 1 if is_stepped(sync) else math.inf
    currents = [p for p in into if not any(p is other for other in on_chip)]  # of the host, into the first part
    parts: list[list[Projection]] = []
    held = [math.inf, math.inf, math.inf]  # bits, axons, greatest score of the part at hand
    bias = float(np.abs(np.asarray(found.rule.bias)).max()) * graph.steps if found.rule is not None else 0.0
    for p, weight_bits, heard in zip(on_chip, bits, axons, strict=True):
        reach = _greatest(graph, p, pixels)
        first = bias + sum(_greatest(graph, c, pixels) for c in currents) if not parts else 0.0
        if held[0] + weight_bits > room or held[1] + heard > most_axons or held[2] + reach > limit:
            parts.append([])
            held = [0.0, 0.0, first]
        held = [held[0] + weight_bits, held[1] + heard, held[2] + reach]
        if held[2] > limit:
            raise DoesNotFit(
                f"readout {found.name}: one class needs {sum(bits) // 8} bytes and {sum(axons)} axons, a core of {chip.name} has {room // 8} and "
                f"{most_axons:.0f} for it, and in parts the score of {p.source} can reach {held[2]:.0f}, where membranes end at {limit}; use more "
                f"state bits (--set arithmetic.state_bits={math.ceil(math.log2(held[2] + 1)) + 1}), or a chip whose cores hold a class"
            )
        parts[-1].append(p)
    names = [found.name, *(f"{found.name}.part{k}" for k in range(2, len(parts) + 1))]
    home = {id(p): name for name, part in zip(names, parts, strict=True) for p in part}
    projections = [replace(p, target=home[id(p)]) if id(p) in home else p for p in graph.projections]
    rule = None if found.rule is None else replace(found.rule, bias=np.zeros((1, 1, 1), np.int64), v_init=None)
    extra = tuple(replace(found, name=name, rule=rule, part_of=found.name) for name in names[1:])
    at = graph.populations.index(found)
    populations = (*graph.populations[: at + 1], *extra, *graph.populations[at + 1 :])
    order = {p.name: k for k, p in enumerate(populations)}
    note = (
        f"{found.name}: one class needs {sum(bits) // 8} bytes and {sum(axons)} axons, so {len(parts)} cores hold parts of it, which the host adds up"
    )
    return graph.with_(
        populations=populations, projections=tuple(sorted(projections, key=lambda p: order[p.target])), warnings=(*graph.warnings, note)
    )


def _adds_up(population: Population) -> bool:
    rule = population.rule
    return rule is None or (rule.decay == DECAY_ONE and rule.decay_current is None and rule.floor is None)


def _greatest(graph: Graph, p: Projection, pixels: tuple[int, int]) -> float:
    """The largest magnitude that a projection can add to a score in a sample."""
    most, least = span(p, graph.population(p.source), pixels)
    return float(np.maximum(np.abs(most), np.abs(least)).max(initial=0)) * 2.0 ** (p.shift - p.fraction_bits) * graph.steps + graph.steps
