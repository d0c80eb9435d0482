"""Differences between engines that drawn cases found, each in its smallest form."""

from __future__ import annotations

from neurosim.engine.compare import first_difference
from neurosim.engine.events import Options
from neurosim.engine.fast import run_fast
from neurosim.engine.reference import run_reference
from tests.engine.networks import chain, spikes


def test_a_slice_far_ahead_of_its_upstream_in_a_streamed_run() -> None:
    # worked out by hand in tests/engine/test_machine.py
    program = chain([1, 42, 18], [5, 1], [0, 1], steps=2, delays={1: 2})
    stimuli, options = [spikes(program, [])] * 3, Options(streamed=True, record=True)
    assert first_difference(run_reference(program, stimuli, options), run_fast(program, stimuli, options)) is None
