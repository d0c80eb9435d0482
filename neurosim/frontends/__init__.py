"""From trained models of the field to Network: ``load``, and back to NIR: ``to_nir``; recorded events of one-dimensional populations:
``read_events``, ``spike_array``."""

from neurosim.frontends.events import read_events, spike_array
from neurosim.frontends.load import load, shipped_models
from neurosim.frontends.nir import to_nir

__all__ = ["load", "read_events", "shipped_models", "spike_array", "to_nir"]
