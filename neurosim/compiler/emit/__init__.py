"""A mapped Graph comes in, a Program goes out: ``assemble`` calls ``pack`` (weights), ``routes`` and ``fabric``; ``deadlock`` looks for cycles in
it."""

from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.emit.deadlock import deadlock_warnings

__all__ = ["assemble", "deadlock_warnings"]
