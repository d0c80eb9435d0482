"""The model as trained: a directed graph of named ops on (channels, height, width) tensors per step."""

from neurosim.network.layers import InputContract, Layer
from neurosim.network.load import load_network
from neurosim.network.model import Network

__all__ = ["InputContract", "Layer", "Network", "load_network"]
