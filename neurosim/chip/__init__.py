"""The chip description: ``load_chip``, ``presets``, ``Chip``; ``edges_of`` turns a networkx graph into links."""

from neurosim.chip.edges import edges_of
from neurosim.chip.figures import Figure
from neurosim.chip.load import load_chip, presets
from neurosim.chip.spec import Chip, MapLimits, Sync

__all__ = ["Chip", "Figure", "MapLimits", "Sync", "edges_of", "load_chip", "presets"]
