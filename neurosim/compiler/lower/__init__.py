"""A Network comes in, a Graph in real numbers goes out: populations and compact linear projections, with a log of what became of every layer.

``network`` walks the layers; ``expression`` is the value of a layer on the way, ``stages`` its linear chains; ``event_layers``,
``gate_masks`` and ``op_rewrites`` are about what is no linear map.
"""

from neurosim.compiler.lower.network import needed_layers
from neurosim.compiler.lower.op_rewrites import Rewrites, event_layer, lower_for, obstacle, read_rewrites, rewrite_ops

__all__ = ["Rewrites", "event_layer", "lower_for", "needed_layers", "obstacle", "read_rewrites", "rewrite_ops"]
