"""Differences between engines that drawn cases found, each in its smallest form."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("sync", ["free", "wavefront", "barrier"])
@pytest.mark.parametrize("multicast", ["unicast", "tree"])
def test_the_window_credit_of_a_lost_spike_overtakes_that_of_one_still_on_its_way(sync: str, multicast: str) -> None:
    # three links to the core: a spike lost on the first gives its credit back long before the one put before it is taken
    program = chain([8, 9, 2], [3, 1], [3, 1], sync, mesh=(4, 1), noc__flow='"end_to_end"', noc__window=2, noc__multicast=f'"{multicast}"')
    stimuli = [spikes(program, [(0, k) for k in range(8)])]
    for seed in range(6):
        options = Options(link_loss=2**31, seed=seed, record=True, state=True)
        runs = [run(program, stimuli, options) for run in (run_reference, run_fast)]
        assert runs[0].channel["losses"].sum() > 0
        assert first_difference(*runs) is None
