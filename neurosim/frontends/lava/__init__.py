"""lava-dl's ``.net`` files (HDF5) come in, a Network in Loihi's integers goes out."""

from neurosim.frontends.lava.net import OPTIONS, lava_net

__all__ = ["OPTIONS", "lava_net"]
