"""What follows from the rules of settle, on drawn cases: the function of one step, whatever order and timing; streams; no deadlock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from neurosim.engine.fast import run_fast
from neurosim.engine.reference import run_reference
from tests.conformance.checks import outcome
from tests.conformance.chips import ACYCLIC
from tests.conformance.settled import assert_settles, sums_of
from tests.conformance.strategies import Case
from tests.conformance.test_engines import drawn


@drawn(1 / 2, ("settle",), plain=True)
def test_at_quiescence_everything_is_what_one_step_gives(case: Case) -> None:
    for run in (run_reference, run_fast):
        result = outcome(run, case).result
        if result is None:  # cyclic routes may deadlock
            assert case.program.chip.noc.topology not in ACYCLIC
            return
        assert_settles(case.graph, case.program, case.stimuli, case.options, result)


@drawn(1 / 6, ("settle",), st.integers(1, 40), reliable=True)
def test_streamed_samples_settle_as_single_ones_do(case: Case, width: int) -> None:
    plain = replace(case.options, window_ps=0, stop_margin=0, stop_after_ps=0)
    runs = [outcome(run_fast, case, replace(plain, streamed=streamed, state=False)).result for streamed in (False, True)]
    if runs[0] is None or runs[1] is None:
        assert case.program.chip.noc.topology not in ACYCLIC
        return
    first, samples = case.options.first_sample, range(len(case.stimuli))
    assert np.array_equal(runs[0].scores, runs[1].scores)
    assert np.array_equal(runs[0].slice_spikes, runs[1].slice_spikes)
    for n in samples:
        assert np.array_equal(sums_of(case.program, runs[0], n, first, False), sums_of(case.program, runs[1], n, first, True))
    # windows wide enough for every sample change nothing either, narrow ones are said to
    wide = int((runs[1].completion_ps - runs[1].start_ps).max()) + 1
    for window in (wide * 3, max(1, wide * width // 40)):
        found = outcome(run_fast, case, replace(plain, streamed=True, window_ps=window, state=False)).result
        assert found is not None
        if not found.sample["unsettled"].any():
            assert np.array_equal(found.scores, runs[0].scores)
