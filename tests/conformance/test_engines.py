"""Each drawn case by each engine: every field of every trace row, every counter, spike and state, and every error must be equal."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim.engine.compare import first_difference
from neurosim.engine.events import TRACE_DTYPE, Result
from neurosim.engine.reference import run_reference
from neurosim.errors import Deadlock
from tests.conformance.strategies import Case, cases

EXAMPLES = int(os.environ.get("NEUROSIM_EXAMPLES", "150"))
FAST = importlib.util.find_spec("neurosim.engine.fast") is not None


class Rows:
    """A sink that keeps what it is handed."""

    def __init__(self) -> None:
        self.chunks = [np.zeros(0, TRACE_DTYPE)]

    def write(self, rows: Any) -> None:
        self.chunks.append(rows.copy())


def outcome(run: Callable[..., Result], case: Case, **extra: Any) -> tuple[Result | None, Any, Any]:
    """(result, error, rows handed to the sink) of one engine."""
    sink = Rows()
    try:
        result = run(case.program, case.stimuli, case.options, sink=sink, **extra)
    except Deadlock as error:
        return None, (error.cycle, error.time_ps, error.sample, str(error)), np.concatenate(sink.chunks)
    return result, None, np.concatenate(sink.chunks)


def assert_same(a: tuple[Result | None, Any, Any], b: tuple[Result | None, Any, Any]) -> None:
    for result, _, rows in (a, b):
        if result is not None:
            result.trace = rows
    if a[0] is not None and b[0] is not None:
        assert first_difference(a[0], b[0]) is None, first_difference(a[0], b[0])
    assert a[1] == b[1]
    assert np.array_equal(a[2], b[2])


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=EXAMPLES)
def test_order_of_stations_within_an_instant_does_not_matter(case: Case, seed: int) -> None:
    assert_same(outcome(run_reference, case), outcome(run_reference, case, shuffle_seed=seed))
