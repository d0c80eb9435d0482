"""From trained models of the field to Network: ``load``."""

from neurosim.frontends.load import load, shipped_models

__all__ = ["load", "shipped_models"]
