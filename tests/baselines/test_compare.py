from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from neurosim.baselines import BASELINES, Workload, compare_run, infer, load_device, neurobench_metrics, paper_formula_fj
from neurosim.energy import price
from neurosim.errors import DataError
from neurosim.trace import StoredRun, load_run
from tests.energy import handmade
from tests.trace.test_rundir import write


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    p = handmade.program()
    return load_run(write(tmp_path / "run", p, handmade.busy(p), host_macs=10))


def test_rows_hold_the_chip_every_gpu_at_batch_1_and_best_and_the_formula(run: StoredRun) -> None:
    rows, notes = compare_run(run)
    per = price(run.program, run.result, host_macs_per_sample=10).per_sample()
    chip, paper = rows[0], rows[-1]
    assert (chip["energy_gross_fj"], chip["energy_dynamic_fj"]) == (per["total"], per["total"] - per["static"])
    assert chip["ratio_total"] == 1.0
    assert chip["ratio_chip"] == per["total"] / per["chip"]
    assert [(r["platform"], r["batch"]) for r in rows[1:-1]] == [("h200", 1), ("h200", 4096), ("orin-nano", 1), ("orin-nano", 4096)]
    workload = Workload.from_rows("hand", 2, handmade.WORKLOAD)
    single = infer(load_device("h200"), workload)
    assert rows[1]["energy_gross_fj"] == single.energy_gross_fj
    assert rows[1]["latency_ps"] == single.latency_ps
    assert rows[1]["ratio_total"] == single.energy_gross_fj / per["total"]
    assert rows[1]["energy_low_fj"] < rows[1]["energy_gross_fj"] < rows[1]["energy_high_fj"]
    synops = int(run.result.core["synops"].sum()) / 2
    assert paper["energy_gross_fj"] == 4600 * 10 + 900 * synops
    assert any("left out" in note for note in notes)
    assert any("not a measurement" in note for note in notes)


def test_precision_and_choice_of_baselines(run: StoredRun) -> None:
    rows, _ = compare_run(run, ["orin-nano"], precision="fp32")
    assert {r["platform"] for r in rows[1:]} == {"orin-nano"}
    assert {r["precision"] for r in rows[1:]} == {"fp32"}
    with pytest.raises(DataError, match=f"'h100' does not exist; there are {', '.join(BASELINES)}"):
        compare_run(run, ["h100"])
    bare = dataclasses.replace(run, program=dataclasses.replace(run.program, meta=run.program.meta | {"workload": []}))
    with pytest.raises(DataError, match="carries no workload"):
        compare_run(bare)


def test_paper_formula_reproduces_a_published_row() -> None:
    # Spikformer-8-512 on ImageNet: 11.09 G SOP and conv1 of 86.7 MMAC in each of 4 steps; its paper says 11.577 mJ
    assert paper_formula_fj(4 * 86.7e6, 11.09e9) / 1e12 == pytest.approx(11.577, rel=2e-3)


def test_neurobench_counts() -> None:
    p = handmade.program()
    weights = p.weights.copy()
    weights[:9] = 0
    p = dataclasses.replace(p, weights=weights)
    r = handmade.result(p)
    r.core["fires"][0], r.core["synops"][1], r.core["updates"][0] = 6, 30, 8
    m = neurobench_metrics(p, r, host_macs_per_sample=7, workload=Workload.from_rows("hand", 2, handmade.WORKLOAD))
    assert m["footprint_bytes"] == (36 * 8 + 8 * 16) / 8
    assert m["connection_sparsity"] == 9 / 36
    assert m["activation_sparsity"] == 1 - 6 / (6 * 2 * 2)
    assert (m["dense"], m["effective_macs"], m["effective_acs"], m["membrane_updates"]) == (72, 7, 15.0, 4.0)
    stored = dataclasses.replace(p, weights=np.zeros(0, np.int8))
    assert neurobench_metrics(stored, r)["connection_sparsity"] is None
