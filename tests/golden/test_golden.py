"""Both engines reproduce the traces in traces/, every field of every row: a change of the machine's semantics cannot pass unnoticed."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim import api, load_program
from neurosim.engine.events import TRACE_DTYPE
from neurosim.trace import read_trace
from tests.golden.make import FOLDER, SYNCS


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("sync", SYNCS)
def test_recorded_trace(sync: str, engine: str) -> None:
    chunks: list[np.ndarray] = []
    api.simulate(
        load_program(FOLDER / f"small-{sync}.nsim"), FOLDER / "small-images.npz", engine=engine, observe=lambda rows: chunks.append(rows.copy())
    )
    rows, recorded = np.concatenate(chunks), read_trace(FOLDER / f"small-{sync}.parquet")
    assert len(rows) == len(recorded) > 1000
    for field in TRACE_DTYPE.names or ():
        np.testing.assert_array_equal(rows[field], recorded[field], err_msg=field)
