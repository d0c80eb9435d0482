"""The fast engine: one compiled discrete-event loop over flat tables (docs/machine.md says what it computes, DESIGN how)."""

from neurosim.engine.fast.driver import run_fast

__all__ = ["run_fast"]
