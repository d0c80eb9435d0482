"""Energy: what the engine counted, times what the chip's prices say. docs/energy.md states every formula and the boundary."""

from neurosim.energy.model import COMPONENTS, Energy, PriceLine, Share
from neurosim.energy.pricing import price

__all__ = ["COMPONENTS", "Energy", "PriceLine", "Share", "price"]
