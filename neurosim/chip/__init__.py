"""The chip description: ``load_chip``, ``presets``, ``Chip``."""

from neurosim.chip.load import load_chip, presets
from neurosim.chip.spec import Chip, Figure, MapLimits, Sync

__all__ = ["Chip", "Figure", "MapLimits", "Sync", "load_chip", "presets"]
