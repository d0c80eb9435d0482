from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from neurosim.baselines import BASELINES, Workload, compare_run, devices, infer, load_device, neurobench_metrics, paper_formula_fj
from neurosim.baselines.measure import Point, Record
from neurosim.energy import intervals, price
from neurosim.errors import DataError
from neurosim.trace import StoredRun, load_run
from tests.energy import handmade
from tests.trace.test_rundir import write


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    p = handmade.program()
    return load_run(write(tmp_path / "run", p, handmade.busy(p), host_macs=10))


def test_rows_hold_the_chip_every_gpu_at_batch_1_and_best_and_the_formula(run: StoredRun) -> None:
    comparison = compare_run(run)
    rows, notes = comparison.rows, comparison.notes
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
    cheap, dear = (infer(load_device("h200").at(end), workload).energy_gross_fj for end in ("cheap", "dear"))
    assert cheap < rows[1]["energy_low_fj"] < rows[1]["energy_high_fj"] < dear
    assert rows[1]["ratio_low"] < rows[1]["ratio_high"]
    energy = price(run.program, run.result, host_macs_per_sample=10)
    assert energy.board_fj is not None
    board = energy.board_fj / 2 + per["host"]
    assert (chip["energy_board_fj"], rows[1]["energy_board_fj"]) == (board, None)
    assert (chip["ratio_board"], rows[1]["ratio_board"]) == (per["total"] / board, single.energy_gross_fj / board)
    assert any("/ board" in note for note in notes)
    own = intervals(energy)["total"]
    assert (chip["energy_low_fj"], chip["energy_high_fj"]) == (own.low, own.high)  # one figure, one interval
    assert rows[1]["energy_delay_js"] == pytest.approx(rows[1]["energy_gross_fj"] * rows[1]["latency_ps"] * 1e-27)
    synops = int(run.result.core["synops"].sum()) / 2
    assert paper["energy_gross_fj"] == 4600 * 10 + 900 * synops  # a run that kept no counts of its own
    assert any("left out" in note for note in notes)
    assert any("not a measurement" in note for note in notes)


def test_no_figure_of_a_device_lies_outside_its_own_interval(run: StoredRun) -> None:
    for row in compare_run(run, devices()).rows:
        assert row["energy_low_fj"] <= row["energy_gross_fj"] <= row["energy_high_fj"], row["platform"]
        if row["ratio_low"] is not None:
            assert row["ratio_low"] <= row["ratio_total"] <= row["ratio_high"], row["platform"]


def test_precision_and_choice_of_baselines(run: StoredRun) -> None:
    rows = compare_run(run, ["orin-nano"], precision="fp32").rows
    assert {r["platform"] for r in rows[1:]} == {"orin-nano"}
    assert {r["precision"] for r in rows[1:]} == {"fp32"}
    with pytest.raises(DataError, match=f"'h100' does not exist; there are {', '.join(BASELINES)}"):
        compare_run(run, ["h100"])
    bare = dataclasses.replace(run, program=dataclasses.replace(run.program, meta=run.program.meta | {"workload": []}))
    with pytest.raises(DataError, match="carries no workload"):
        compare_run(bare)


def test_where_chip_and_device_meet(run: StoredRun) -> None:
    energy = price(run.program, run.result, host_macs_per_sample=10)
    workload = Workload.from_rows("hand", 2, handmade.WORKLOAD)
    crossing = next(c for c in compare_run(run).crossovers if c["platform"] == "h200")
    moving = sum(x.energy_fj for x in energy.lines if x.component in ("synapse", "noc", "io") or x.event == "spikes fired")
    factor = crossing["activity_batch_1"]
    assert energy.total_fj - moving + factor * moving == pytest.approx(2 * infer(load_device("h200"), workload).energy_gross_fj)
    batch = crossing["batch"]
    total = energy.per_sample()["total"]
    if batch is None:
        assert all(infer(load_device("h200"), workload, 1 << k).energy_gross_fj >= total for k in range(13))
    else:
        assert infer(load_device("h200"), workload, batch).energy_gross_fj < total
        assert batch == 1 or infer(load_device("h200"), workload, batch // 2).energy_gross_fj >= total


def test_measured_records_stand_beside_the_model(run: StoredRun) -> None:
    point = Point(1, 100, 10.0, 1e9, 1000.0, 5e12, 1e12)
    many = Point(64, 100, 10.0, 2e9, 32000.0, 3e11, 2e11)
    record = Record("hand", 2, 100, 72, "some GPU", "fp16", "snn", True, 30.0, 10.0, (point, many), {"torch": "2"})
    comparison = compare_run(run, ["h200"], records=[record])
    measured = [r for r in comparison.rows if r["kind"] == "measured"]
    assert [(r["batch"], r["energy_gross_fj"], r["latency_ps"]) for r in measured] == [(1, 5e12, 1e9), (64, 3e11, 2e9)]
    assert any("some GPU: measured" in note for note in comparison.notes)
    with pytest.raises(DataError, match="record of other on some GPU does not belong"):
        compare_run(run, records=[dataclasses.replace(record, network="other")])


def test_paper_formula_reproduces_a_published_row() -> None:
    # Spikformer-8-512 on ImageNet: 11.09 G SOP and conv1 of 86.7 MMAC in each of 4 steps; its paper says 11.577 mJ
    assert paper_formula_fj(4 * 86.7e6, 11.09e9) / 1e12 == pytest.approx(11.577, rel=2e-3)


def test_neurobench_figures_of_a_run_without_its_spikes() -> None:
    p = handmade.program()
    weights = p.weights.copy()
    weights[:9] = 0
    p = dataclasses.replace(p, weights=weights)
    r = handmade.result(p)
    r.slice_spikes[:] = [[3, 0], [3, 0]]
    r.core["synops"][1], r.core["updates"][0] = 30, 8
    m = neurobench_metrics(p, r, workload=Workload.from_rows("hand", 2, handmade.WORKLOAD))
    assert m["footprint_bytes"] == (36 * 8 + 8 * 16) / 8
    assert m["connection_sparsity"] == 9 / 36
    assert m["activation_sparsity"] == 1 - 6 / (6 * 2 * 2)
    assert (m["dense"], m["effective_macs"], m["effective_acs"], m["membrane_updates"]) == (72, None, None, 4.0)
    stored = dataclasses.replace(p, weights=np.zeros(0, np.int8))
    assert neurobench_metrics(stored, r)["connection_sparsity"] is None


def test_the_formula_takes_neurobenchs_counts_where_the_run_has_them(run: StoredRun) -> None:
    counts = {"effective_macs": 3.0, "effective_acs": 5.0, "activity_products": 2.0}
    run.info["summary"]["neurobench"] = counts
    comparison = compare_run(run, ["paper-formula"])
    assert comparison.rows[-1]["energy_gross_fj"] == 4600 * 3 + 900 * 7
    assert "non-zero inputs times non-zero weights" in comparison.rows[-1]["note"]


def test_a_device_kept_on_for_the_chips_window_pays_its_idle_power(run: StoredRun) -> None:
    energy = price(run.program, run.result, host_macs_per_sample=10)
    row = compare_run(run, ["h200"]).rows[1]
    seconds = energy.window_ps / energy.samples * 1e-12
    assert row["energy_window_fj"] == pytest.approx(row["energy_dynamic_fj"] + load_device("h200")["idle_w"] * seconds * 1e15)
