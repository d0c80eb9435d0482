"""lava-dl's ``.net`` files (HDF5) come in, a Network in Loihi's integers goes out."""

from neurosim.frontends.lava.net import lava_net

__all__ = ["lava_net"]
