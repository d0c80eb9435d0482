"""What a chip, a discipline or this version cannot run, told before anything is mapped."""

from __future__ import annotations

from neurosim.arithmetic import DECAY_ONE
from neurosim.chip import Chip
from neurosim.compiler.mapping import on_chip
from neurosim.errors import ChipError, UnsupportedLayer
from neurosim.graph import Graph

SYNCS = ("free", "wavefront", "barrier")
SIMULATED = ("free", "wavefront")


def choose_sync(chip: Chip, sync: str | None) -> str:
    """``sync``, or the chip's first. Raises ChipError: unknown, not offered by the chip, or not simulated by this version."""
    chosen = chip.sync[0] if sync is None else sync
    if chosen not in SYNCS:
        raise ChipError(f"sync {chosen!r} is unknown; {chip.name} offers {', '.join(chip.sync)}")
    if chosen not in chip.sync:
        raise ChipError(
            f"sync {chosen} is not offered by {chip.name}, which has {', '.join(chip.sync)}; choose one of them or add it to the chip's sync"
        )
    if chosen not in SIMULATED:
        raise ChipError(f"sync {chosen} is not simulated by this version, which has {', '.join(SIMULATED)}; choose one of them")
    return chosen


def refuse(graph: Graph, chip: Chip, sync: str) -> list[str]:
    """Warnings about what the discipline does to the network. Raises UnsupportedLayer for what cannot run."""
    order = {p.name: k for k, p in enumerate(graph.populations)}
    for p in graph.projections:
        if order[p.source] >= order[p.target]:
            raise UnsupportedLayer(
                p.target, p.map.op, f"recurrent projection from {p.source}, which this version does not simulate", remedy="unroll the recurrence"
            )
    return _refuse_free(graph, chip) if sync == "free" else []


def _refuse_free(graph: Graph, chip: Chip) -> list[str]:
    notes = []
    for population in graph.populations:
        rule = population.rule
        if rule is None or not on_chip(population):
            continue
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
    delayed = sorted({f"{p.source} -> {p.target}" for p in graph.projections if p.delay})
    if delayed:
        notes.append(f"free: trained delays have no meaning without steps and are ignored: {', '.join(delayed)}")
    return notes
