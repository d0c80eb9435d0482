"""A ``.nir`` file or graph comes in, a Network goes out (``file``), and back (``write``)."""

from neurosim.frontends.nir.file import OPTIONS, nir_file
from neurosim.frontends.nir.write import to_nir

__all__ = ["OPTIONS", "nir_file", "to_nir"]
