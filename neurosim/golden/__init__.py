"""Clock-driven models without any timing: what the simulated chip must compute, and what the trained network computes."""

from neurosim.golden.graph import GraphResult, run_graph
from neurosim.golden.maps import apply_map, transpose_map
from neurosim.golden.network import NetworkResult, run_network

__all__ = ["GraphResult", "NetworkResult", "apply_map", "run_graph", "run_network", "transpose_map"]
