"""From trained models of the field to Network: ``load``; recorded events of one-dimensional populations: ``read_events``, ``spike_array``."""

from neurosim.frontends.events import read_events, spike_array
from neurosim.frontends.load import load, shipped_models

__all__ = ["load", "read_events", "shipped_models", "spike_array"]
