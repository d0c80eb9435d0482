"""A Network or Graph and a Chip come in; out goes, layer by layer, whether it is native, rewritten or refused, with value, limit, reason and
remedy."""

from neurosim.compiler.check.precision import low_precision
from neurosim.compiler.check.refuse import choose_sync, refuse
from neurosim.compiler.check.settle import refuse_settle_sums
from neurosim.compiler.check.supports import CheckRow, check, require_supported

__all__ = ["CheckRow", "check", "choose_sync", "low_precision", "refuse", "refuse_settle_sums", "require_supported"]
