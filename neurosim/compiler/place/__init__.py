"""An integer Graph and a Chip come in; out go slices (boxes of populations) and the cores that hold them.

``partition`` cuts, ``cores`` deals the slices out, ``placement`` puts the cores on the chip; ``mapping`` is the noun that they hand on. What they
reckon with: ``geometry``, ``regions``, ``memory``, ``layered`` (chips with one layer per core), ``banks``, ``balance`` (barrier offsets),
``topology``."""

from neurosim.compiler.place.balance import offsets, refuse_unbalanced
from neurosim.compiler.place.banks import slowest_loop
from neurosim.compiler.place.cores import Assignment, assign
from neurosim.compiler.place.geometry import Box, covered_channels, hull, reach_all, synapses, synapses_into
from neurosim.compiler.place.layered import LayerModel, Misfit, layer_form, pools_of
from neurosim.compiler.place.mapping import Mapping, chip_projections, current_populations, on_chip, port_populations, port_sources
from neurosim.compiler.place.memory import core_memory
from neurosim.compiler.place.partition import class_load
from neurosim.compiler.place.placement import Mapped, map_graph, place_slices
from neurosim.compiler.place.regions import region_arrays, region_numbers, regions_of
from neurosim.compiler.place.topology import BETWEEN_CHIPS, LOCAL, links, next_hops

__all__ = [
    "BETWEEN_CHIPS",
    "LOCAL",
    "Assignment",
    "Box",
    "LayerModel",
    "Mapped",
    "Mapping",
    "Misfit",
    "assign",
    "chip_projections",
    "class_load",
    "core_memory",
    "covered_channels",
    "current_populations",
    "hull",
    "layer_form",
    "links",
    "map_graph",
    "next_hops",
    "offsets",
    "on_chip",
    "place_slices",
    "pools_of",
    "port_populations",
    "port_sources",
    "reach_all",
    "refuse_unbalanced",
    "region_arrays",
    "region_numbers",
    "regions_of",
    "slowest_loop",
    "synapses",
    "synapses_into",
]
