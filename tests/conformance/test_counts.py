"""Counters recomputed from the rows of the trace, and energy from its parts, on drawn cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurosim.energy import COMPONENTS, price
from neurosim.engine.events import CURRENT, DUE, MARKER, ROW_DROP, ROW_LOSS, ROW_PUT, ROW_SERVICE, SPIKE, STEP
from neurosim.engine.reference import run_reference
from tests.conformance.checks import outcome
from tests.conformance.strategies import Case
from tests.conformance.test_engines import SYNCS, drawn

PORT, SYNAPSE, SOMA, SENDER, ROUTER = range(5)


@drawn(1 / 4, SYNCS)
def test_counters_follow_from_the_rows(case: Case) -> None:
    found = outcome(run_reference, case, replace(case.options, record=True))
    if found.result is None:
        return
    program, result, rows = case.program, found.result, found.rows
    services = rows[rows["kind"] == ROW_SERVICE]
    ended = services[services["end"] >= 0]

    def per_server(chosen: Any, weight: Any = None) -> Any:
        return np.bincount(chosen["server"], weights=weight, minlength=len(program.server_kind)).astype(np.int64)

    def per_core(kind: int, chosen: Any, weight: Any = None) -> Any:
        at = program.server_kind == kind
        counts = np.zeros(program.cores, np.int64)
        counts[program.server_owner[at]] = per_server(chosen, weight)[at]
        return counts

    def at(kind: int, table: Any, item: int) -> Any:
        return table[(program.server_kind[table["server"]] == kind) & (table["item"] == item)]

    assert np.array_equal(result.server["services"], per_server(ended))
    assert np.array_equal(result.server["blocked_ps"], per_server(ended, ended["blocked"]))
    assert np.array_equal(result.server["busy_ps"], per_server(ended, ended["end"] - ended["time"] - ended["blocked"]))
    for name, item in (("spike_packets", SPIKE), ("current_packets", CURRENT), ("marker_packets", MARKER)):
        assert np.array_equal(result.core[name], per_core(SYNAPSE, at(SYNAPSE, services, item))), name
    served = services[program.server_kind[services["server"]] == SYNAPSE]
    assert np.array_equal(result.core["synops"], per_core(SYNAPSE, served, served["synops"]))
    firing = SOMA if program.stepped else SYNAPSE
    left = rows[np.isin(rows["kind"], (ROW_PUT, ROW_DROP))]
    assert np.array_equal(result.core["fires"], per_core(firing, at(firing, left, SPIKE)))
    assert np.array_equal(result.core["packets_sent"], per_core(SENDER, left[(left["kind"] == ROW_PUT)]))
    if program.sync == "settle":
        served = at(SYNAPSE, services, DUE)
        assert np.array_equal(result.core["accesses"], per_core(SYNAPSE, served))
        for name, chosen in (("cancelled", served["value"] == 0), ("updates", served["value"] != 0), ("retracted", served["value"] < 0)):
            assert np.array_equal(result.core[name], per_core(SYNAPSE, served[chosen])), name
        assert np.array_equal(result.slice_cancelled.sum(axis=0), np.bincount(served["slice"][served["value"] == 0], minlength=program.slices))
        assert np.array_equal(result.slice_retracted.sum(axis=0), np.bincount(served["slice"][served["value"] < 0], minlength=program.slices))
    if program.stepped:
        steps = at(SOMA, services, STEP)
        assert np.array_equal(result.core["op_reads"], per_core(SOMA, steps, steps["synops"]))
    for name, kind in (("drops", ROW_DROP), ("losses", ROW_LOSS)):
        counts = np.zeros(len(program.channel), np.int64)
        np.add.at(counts, program.server_channel[rows["server"][rows["kind"] == kind]], 1)
        assert np.array_equal(result.channel[name], counts), name

    energy = price(program, result, host_macs_per_sample=3.0, prices=_priced(program))
    parts = {name: energy.component_fj(name) for name in COMPONENTS}
    assert energy.chip_fj == sum(parts.values())
    assert energy.total_fj == energy.chip_fj + energy.component_fj("host")
    assert sum(line.energy_fj for line in energy.lines) == pytest.approx(energy.total_fj, rel=1e-12)
    on_cores = sum(float(values.sum()) for values in energy.core_fj.values())
    io, chip_wide = parts["io"], sum(line.energy_fj for line in energy.lines if line.event == "chip")
    assert on_cores + float(energy.router_fj.sum()) + io + chip_wide == pytest.approx(energy.chip_fj, rel=1e-9)


def _priced(program: Any) -> Any:
    """The chip's prices, with one for links between chips where it has none."""
    prices = program.chip.prices
    return prices if prices.hop_chip is not None else prices.model_copy(update={"hop_chip": prices.hop_east_west})
