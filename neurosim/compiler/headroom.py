"""How many events of one input neuron in one step the banks of a program can take."""

from __future__ import annotations

import numpy as np

from neurosim.chip import Chip
from neurosim.compiler.ranges import span
from neurosim.graph import Graph

MOST_EVENTS = 255
"""The host counts in bytes."""


def most_events(graph: Graph, chip: Chip, pixels: tuple[int, int] = (0, 1)) -> int:
    """The greatest k (at most 255) for which no bank of the integer graph can overflow when every input neuron has k events in every step and every
    other neuron fires. At least 1: quantising has proven that."""
    limit = 2.0 ** (chip.arithmetic.acc_bits - 1)
    result = float(MOST_EVENTS)
    for population in graph.populations:
        if population.host or population.kind not in ("spiking", "readout"):
            continue
        totals = np.zeros((2, 2, *population.shape))  # [from the input or not, up or down]
        for p in graph.into(population.name):
            source = graph.population(p.source)
            most, least = span(p, source, pixels)
            shift = 2.0 ** (p.shift - p.fraction_bits) if source.kind == "analog" else 2.0**p.shift
            channels = slice(p.channel_offset, p.channel_offset + len(most))
            totals[int(source.kind != "input"), 0, channels] += np.maximum(most, 0) * shift
            totals[int(source.kind != "input"), 1, channels] += np.maximum(-least, 0) * shift
        for direction, room in ((0, limit - 1), (1, limit)):
            fed = totals[0, direction] > 0
            if fed.any():
                result = min(result, float(((room - totals[1, direction][fed]) // totals[0, direction][fed]).min()))
    return max(1, int(result))
