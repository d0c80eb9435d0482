from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from neurosim.compiler.emit.assemble import assemble
from neurosim.energy import price
from neurosim.engine.events import STEP, Options
from neurosim.engine.reference import run_reference
from neurosim.host import encode
from neurosim.trace import busiest_cores, busiest_links, core_summary, link_summary, summarise
from tests.compiler.graphs import chip_of
from tests.compiler.op_graphs import op_graph
from tests.energy import handmade


def test_core_summary_and_busiest() -> None:
    p = handmade.program()
    r = handmade.busy(p)  # window 3,000 ps; every station busy 500, blocked 20, somas held 30
    r.server["busy_ps"][1 + 3 * 1] = 2400  # synapse of core 1
    rows = core_summary(SimpleNamespace(program=p, result=r))
    assert [(row["core"], row["populations"]) for row in rows] == [(0, ["hidden.lif"]), (1, ["out"])]
    one = rows[1]
    assert (one["synapse_busy"], one["soma_busy"], one["blocked"], one["held"]) == pytest.approx((0.8, 500 / 3000, 20 / 3000, 0.01))
    assert one["idle"] == pytest.approx(1 - 2420 / 3000)
    assert rows[0]["idle"] == pytest.approx(1 - 550 / 3000)
    assert (one["synops"], one["spikes"]) == (10, 18)
    axon_in = int((p.channel[:, 0] == 1).nonzero()[0][1])
    assert one["axon_in_high_water"] == r.channel["high_water"][axon_in]
    assert busiest_cores(SimpleNamespace(program=p, result=r), 1)[0]["core"] == 1


def test_ops_are_named_and_counted() -> None:
    graph = op_graph("coincidence")
    program = assemble(graph, chip_of(40, 1 << 16, flow="end_to_end"), "wavefront")
    events = np.random.default_rng(2).random((1, 2, 2, 4, 4)) < 0.6
    contract = {"kind": "spikes", "name": "in", "shape": [2, 4, 4]}
    program = replace(program, meta={**program.meta, "input": contract})
    result = run_reference(program, encode(program, events), Options(record=True))
    rows = {row["core"]: row for row in core_summary(SimpleNamespace(program=program, result=result))}
    for q in np.flatnonzero(program.slice_population == 4).tolist():
        row = rows[int(program.slice_core[q])]
        assert row["populations"] == ["op (coincidence)"]
        assert row["pairs"] > 0
        steps = result.trace[(result.trace["item"] == STEP) & (result.trace["slice"] == q)]
        assert row["op_reads"] == steps["synops"].sum() > 0
    assert sum(row["pairs"] for row in rows.values()) == summarise(program, result, price(program, result))["pairs"]


def test_links_are_named_by_both_ends() -> None:
    p = handmade.program()
    r = handmade.result(p)
    east = p.next_server[0, 1]
    r.server["services"][east] = 9
    run = SimpleNamespace(program=p, result=r)
    top = busiest_links(run, 1)[0]
    assert (top["link"], top["packets"], top["class"]) == ("router 0 to router 1", 9, "east-west")
    assert {row["link"] for row in link_summary(run) if row["class"] == "local"} == {f"router {c} to core {c}" for c in range(4)}
