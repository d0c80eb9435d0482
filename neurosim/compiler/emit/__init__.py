"""A mapped Graph comes in, a Program goes out: ``assemble`` calls ``pack`` (weights), ``routes``, ``fabric`` and, for settle, ``rest`` (the state
that samples start from); ``deadlock`` looks for cycles in it."""

from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.emit.deadlock import deadlock_warnings
from neurosim.compiler.emit.rest import with_reference, with_rest

__all__ = ["assemble", "deadlock_warnings", "with_reference", "with_rest"]
