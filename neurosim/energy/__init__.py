"""Energy: what the engine counted, times what the chip's prices say. docs/energy.md states every formula and the boundary."""

from neurosim.energy.books import PriceBook, book_of, books, load_book
from neurosim.energy.model import COMPONENTS, Energy, PriceLine, Share
from neurosim.energy.pricing import price
from neurosim.energy.uncertainty import Interval, Sensitivity, energy_draws, intervals, sensitivities

__all__ = [
    "COMPONENTS",
    "Energy",
    "Interval",
    "PriceBook",
    "PriceLine",
    "Sensitivity",
    "Share",
    "book_of",
    "books",
    "energy_draws",
    "intervals",
    "load_book",
    "price",
    "sensitivities",
]
