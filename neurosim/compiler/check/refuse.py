"""What a chip, a discipline or this version cannot run, told before anything is mapped."""

from __future__ import annotations

import networkx as nx

from neurosim.arithmetic import DECAY_ONE
from neurosim.chip import Chip
from neurosim.compiler.check.settle import refuse_settle
from neurosim.compiler.place import chip_projections, on_chip, refuse_unbalanced
from neurosim.errors import ChipError, UnsupportedLayer
from neurosim.graph import Graph
from neurosim.ops import Gate, OrPool

SYNCS = ("free", "settle", "wavefront", "barrier")


def choose_sync(chip: Chip, sync: str | None) -> str:
    """``sync``, or the chip's first. Raises ChipError: unknown, or not offered by the chip."""
    chosen = chip.sync[0] if sync is None else sync
    if chosen not in SYNCS:
        raise ChipError(f"sync {chosen!r} is unknown; {chip.name} offers {', '.join(chip.sync)}")
    if chosen not in chip.sync:
        raise ChipError(
            f"sync {chosen} is not offered by {chip.name}, which has {', '.join(chip.sync)}; choose one of them or add it to the chip's sync"
        )
    return chosen


def refuse(graph: Graph, chip: Chip, sync: str) -> list[str]:
    """Warnings about what the discipline does to the network. Raises UnsupportedLayer for what cannot run."""
    cycle = find_cycle(graph)
    if cycle is not None and not chip.capabilities.recurrence:
        raise UnsupportedLayer(
            cycle[-1],
            "connect",
            f"{chip.name} has no recurrence, the network has the cycle {' -> '.join(cycle)}",
            remedy="unroll it or use a chip with recurrence",
        )
    if sync == "free":
        return _refuse_free(graph, chip, cycle)
    if sync == "settle":
        return refuse_settle(graph, chip, cycle)
    if sync == "barrier":
        refuse_unbalanced(graph, chip)
        return []
    most = chip.capabilities.max_delay
    for p in graph.projections:
        if p.delay > most:
            raise UnsupportedLayer(
                p.target,
                "delay",
                f"{chip.name} delays by fewer steps in sync wavefront ({p.source} -> {p.target})",
                value=p.delay,
                limit=most,
                remedy="shorten the delay or use a chip with more delay (capabilities.max_delay)",
            )
    return []


def find_cycle(graph: Graph) -> list[str] | None:
    """A shortest cycle of populations on the chip, its first name again at the end; the first in the graph's order, None without any."""
    joined = nx.DiGraph([(graph.projections[k].source, graph.projections[k].target) for k in chip_projections(graph)])
    looped = [part for part in nx.strongly_connected_components(joined) if len(part) > 1 or joined.has_edge(*(2 * tuple(part)))]
    if not looped:
        return None
    order = {p.name: k for k, p in enumerate(graph.populations)}
    first = min((name for part in looped for name in part), key=order.__getitem__)
    ways = [nx.shortest_path(joined, name, first) for name in joined.successors(first) if nx.has_path(joined, name, first)]
    return [first, *min(ways, key=len)]


def _refuse_free(graph: Graph, chip: Chip, cycle: list[str] | None) -> list[str]:
    notes = []
    if cycle is not None:
        notes.append(f"free: the network feeds itself ({' -> '.join(cycle)}), so a sample need not end: runs need a window (window_ps)")
    for population in graph.populations:
        rule = population.rule
        if rule is None or not on_chip(population):
            continue
        if isinstance(population.op, OrPool | Gate):
            continue  # they keep what they count and do not leak
        if rule.decay_current is not None:
            raise UnsupportedLayer(
                population.name,
                "lif",
                "a synaptic current with its own decay (CUBA) has no meaning in the free discipline",
                remedy="use sync wavefront or a neuron without synaptic current",
            )
        if rule.decay != DECAY_ONE and chip.timing.leak is None:
            raise UnsupportedLayer(
                population.name,
                "lif",
                f"the neuron leaks, {chip.name} has no leak in the free discipline (timing.leak)",
                value=f"decay {rule.decay / DECAY_ONE:g}",
                limit="no leak",
                remedy="use sync wavefront, a chip with timing.leak, or neurons without leak",
            )
    rewritten = [r.layer for r in graph.rewrites if r.op in ("max_pool", "gate") and r.status == "rewritten"]
    if rewritten:
        notes.append(f"free: the neurons that stand for {', '.join(rewritten)} fire on every spike that lifts them, which is another function")
    several = [p.name for p in graph.populations if p.rule is not None and p.rule.max_spikes > 1 and on_chip(p)]
    if several:
        notes.append(
            f"free: up to {chip.arithmetic.spikes_per_update} spike(s) per served synapse (arithmetic.spikes_per_update) take the place of several "
            f"spikes per step: {', '.join(several)}"
        )
    delayed = sorted({f"{p.source} -> {p.target}" for p in graph.projections if p.delay})
    if delayed:
        notes.append(f"free: trained delays have no meaning without steps and are ignored: {', '.join(delayed)}")
    return notes
