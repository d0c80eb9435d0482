"""Each drawn case by each engine: every field of every trace row, every counter, spike and state, and every error must be equal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from neurosim.engine.compare import first_difference
from neurosim.engine.fast import run_fast
from neurosim.engine.reference import run_reference
from neurosim.engine.run import join_results, simulate_stimuli
from neurosim.trace.selection import Selection, Sieve
from tests.conformance.checks import ACYCLIC, assert_computes_the_model, assert_conforms, outcome
from tests.conformance.strategies import STEPLESS, STEPPED, Case, cases
from tests.engine.networks import chain, spikes

ASKED = os.environ.get("NEUROSIM_EXAMPLES")
EXAMPLES = int(ASKED or "240")
BLOCKS = (1,) if ASKED else (1, 2)
"""Random draws when many are asked for; else fixed seeds, several of them, because the draws of one seed resemble each other."""
SYNCS = (*STEPLESS, *STEPPED)
GRAPHS = ("base", "ops")


def drawn(share: float, syncs: Sequence[str], *more: Any, **kind: bool) -> Callable[[Callable[..., None]], Callable[[str, str, int], None]]:
    """A test of ``share`` of the examples, dealt out over disciplines, graphs without and with extra ops, and blocks of seeds; ``kind`` goes to
    ``cases``.
    """

    def wrap(test: Callable[..., None]) -> Callable[[str, str, int], None]:
        def block(sync: str, graph: str, number: int) -> None:
            count = max(1, int(EXAMPLES * share / len(BLOCKS) / len(GRAPHS) / len(syncs)))
            run = settings(max_examples=count)(given(cases(sync, ops=graph == "ops", **kind), *more)(test))
            (run if ASKED else seed(number)(run))()

        block.__name__, block.__doc__ = test.__name__, test.__doc__
        for name, values in (("number", BLOCKS), ("graph", GRAPHS), ("sync", syncs)):
            block = pytest.mark.parametrize(name, values)(block)
        return block

    return wrap


@drawn(1, SYNCS, st.integers(0, 2**32 - 1))
def test_engines_agree_row_for_row(case: Case, seed: int) -> None:
    assert_conforms(case, seed)


@drawn(1 / 3, STEPPED, plain=True)
def test_stepped_disciplines_compute_what_the_clock_driven_model_computes(case: Case) -> None:
    assert_computes_the_model(case, run_reference)


@drawn(1 / 6, STEPPED, reliable=True)
def test_streamed_samples_compute_what_single_ones_compute(case: Case) -> None:
    runs = [outcome(run_fast, case, replace(case.options, streamed=streamed, state=False)).result for streamed in (False, True)]
    if runs[0] is None or runs[1] is None:  # cyclic routes may deadlock, one way of running and not the other
        assert case.program.chip.noc.topology not in ACYCLIC
        return
    assert np.array_equal(runs[0].scores, runs[1].scores)
    assert np.array_equal(runs[0].slice_spikes, runs[1].slice_spikes)
    names = ["sample", "step", "slice", "address"]  # times differ: that is what streaming is for
    assert np.array_equal(runs[0].spikes[names], runs[1].spikes[names])


@drawn(1 / 12, SYNCS)
def test_a_trace_of_fires_is_a_part_of_the_whole_one(case: Case) -> None:
    whole = outcome(run_reference, case)
    wanted = Sieve(case.program, Selection("spikes")).keep(whole.rows)
    for run in (run_reference, run_fast):
        assert np.array_equal(outcome(run, case, replace(case.options, fires_only=True)).rows, wanted)


@drawn(1 / 12, SYNCS, streamed=False)
def test_samples_run_apart_give_what_they_give_together(case: Case) -> None:
    whole = outcome(run_fast, case, replace(case.options, record=False))
    if whole.result is None:
        return
    first = case.options.first_sample
    parts = [run_fast(case.program, [s], replace(case.options, record=False, first_sample=first + k)) for k, s in enumerate(case.stimuli)]
    joined = join_results(parts)
    assert first_difference(replace(whole.result, trace=joined.trace), joined) is None


@pytest.mark.parametrize("sync", SYNCS)
def test_two_workers_give_what_one_gives(sync: str) -> None:
    program = chain([6, 5, 3], [2, 1], [0, 1], sync, steps=1 if sync == "settle" else 2)
    stimuli = [spikes(program, [(0, k), (0, k + 1)]) for k in range(3)]
    one, two = (simulate_stimuli(program, stimuli, jitter=6554, seed=1, state=True, record=True, workers=n) for n in (1, 2))
    assert first_difference(one, two) is None
