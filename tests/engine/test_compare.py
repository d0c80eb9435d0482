"""first_difference finds and names what differs, and nothing when nothing does."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest

from neurosim.engine.compare import first_difference
from neurosim.engine.events import Options, Result
from neurosim.engine.reference import run_reference
from tests.engine.networks import chain, spikes


@pytest.fixture(scope="module")
def result() -> Result:
    program = chain([2, 2, 1], [5, 1], [0, 1], steps=2)
    return run_reference(program, [spikes(program, [(0, 0), (1, 1)])], Options(record=True, state=True))


def test_equal_results(result: Result) -> None:
    assert first_difference(result, deepcopy(result)) is None


def test_a_field_of_a_row_is_named_with_both_records_and_the_rows_before(result: Result) -> None:
    other = deepcopy(result)
    k = int(np.flatnonzero(result.trace["server"] == 2)[-1])
    other.trace["blocked"][k] = 7
    text = first_difference(result, other)
    assert text is not None
    lines = text.splitlines()
    assert lines[0] == f"trace row {k} of {len(result.trace)} and {len(result.trace)} differs in blocked"
    assert "blocked=0" in lines[1]
    assert "blocked=7" in lines[2]
    assert lines[3].endswith("rows before it at server 2, which agree:")
    assert len(lines) - 4 == min(20, int((result.trace["server"][:k] == 2).sum()))


def test_a_missing_row_is_named(result: Result) -> None:
    other = deepcopy(result)
    other.trace = other.trace[:-1]
    assert "b: has no such row" in str(first_difference(result, other))


@pytest.mark.parametrize("table", ["server", "core", "channel", "sample"])
def test_counters(result: Result, table: str) -> None:
    other = deepcopy(result)
    name = next(iter(getattr(other, table)))
    getattr(other, table)[name][0] += 1
    assert str(first_difference(result, other)).startswith(f"{table} counter {name}[0] differs: ")


@pytest.mark.parametrize("name", ["scores", "decision_ps", "spikes", "state_v"])
def test_arrays(result: Result, name: str) -> None:
    other = deepcopy(result)
    array = getattr(other, name)
    array[0] = np.zeros(1, array.dtype)[0] if array.dtype.names else array[0] + 1
    assert str(first_difference(result, other)).startswith(f"{name}[0")
