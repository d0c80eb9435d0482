from __future__ import annotations

from types import SimpleNamespace

import pytest

from neurosim.trace import busiest_cores, busiest_links, core_summary, link_summary
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


def test_links_are_named_by_both_ends() -> None:
    p = handmade.program()
    r = handmade.result(p)
    east = p.next_server[0, 1]
    r.server["services"][east] = 9
    run = SimpleNamespace(program=p, result=r)
    top = busiest_links(run, 1)[0]
    assert (top["link"], top["packets"], top["class"]) == ("router 0 to router 1", 9, "east-west")
    assert {row["link"] for row in link_summary(run) if row["class"] == "local"} == {f"router {c} to core {c}" for c in range(4)}
