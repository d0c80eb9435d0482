"""Slices to cores."""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.chip import Chip
from neurosim.compiler.geometry import whole
from neurosim.compiler.mapping import Mapping, Slice, largest_delay, on_chip
from neurosim.graph import Graph


@dataclass(frozen=True)
class Mapped:
    """A mapping."""

    mapping: Mapping


def map_graph(graph: Graph, chip: Chip, sync: str) -> Mapped:
    """One slice per population."""
    chosen = [k for k, p in enumerate(graph.populations) if on_chip(p)]
    slices = tuple(Slice(k, whole(graph.populations[k].shape)) for k in chosen)
    banks = tuple(2 + largest_delay(graph, graph.populations[k].name) if sync != "free" else 1 for k in chosen)
    return Mapped(Mapping(slices, tuple(k % chip.memory.cores for k in range(len(slices))), banks))
