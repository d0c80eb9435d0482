"""``load_network``: a Network from its file."""

from __future__ import annotations

import os

from neurosim.network.model import Network
from neurosim.network.nsnet import read_network


def load_network(path: str | os.PathLike[str]) -> Network:
    """Read a ``.nsnet`` file; raises ModelError when it is missing, broken or of another version."""
    return read_network(path, Network)
