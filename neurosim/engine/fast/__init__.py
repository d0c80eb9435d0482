"""The fast engine: stimuli and a Program come in, a Result goes out; one compiled discrete-event loop over flat tables (docs/machine.md says what
it computes, DESIGN how).

``driver`` > ``kernel`` > ``stations`` (what each station does when it wakes) > ``base`` (what every station uses) > ``tables`` (Program -> the arrays
that the kernel runs on, in plain numpy).
"""

from neurosim.engine.fast.driver import run_fast

__all__ = ["run_fast"]
