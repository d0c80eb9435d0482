"""The model as trained: a directed graph of named ops on (channels, height, width) tensors per step."""

from neurosim.network.layers import InputContract, Layer
from neurosim.network.model import Network
from neurosim.network.nsnet import load_network

__all__ = ["InputContract", "Layer", "Network", "load_network"]
