"""Both engines reproduce the traces in traces/, every field of every row: a change of the machine's semantics cannot pass unnoticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosim import api, load_program
from neurosim.engine.events import TRACE_DTYPE
from neurosim.files import content_digest, read_zip
from neurosim.trace import read_trace
from tests.golden.make import FOLDER, SYNCS


@pytest.mark.parametrize("sync", SYNCS)
def test_files_of_version_3_begin_at_0_and_keep_their_digest(sync: str, tmp_path: Path) -> None:
    header, arrays = read_zip(FOLDER / f"small-{sync}.nsim", "neurosim-program", (3,), "")
    assert "v_init" not in arrays
    program = load_program(FOLDER / f"small-{sync}.nsim")
    assert not program.v_init.any()
    assert len(program.v_init) == len(program.bias)
    assert program.digest() == content_digest(header, arrays)
    program.save(tmp_path / "p.nsim")
    again = load_program(tmp_path / "p.nsim")
    assert again.digest() == replace(program).digest()  # as of this version
    assert replace(again, v_init=again.v_init + 1).digest() != again.digest()


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
