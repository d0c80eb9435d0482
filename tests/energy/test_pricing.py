from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.energy import COMPONENTS, price
from neurosim.errors import DataError
from tests.compiler.graphs import chip_of
from tests.compiler.op_graphs import op_graph
from tests.energy import handmade

# every price of async-mesh and tiny that is not 0, in fJ, written out again on purpose
SYNOP, WRITE, ACCESS, UPDATE, FIRE, PACKET, EW, NS, LOCAL, IO, MAC = 23600, 81000, 52000, 29000, 69300, 111000, 3000, 4000, 1700, 64000, 3200


def test_each_counter_meets_its_own_price() -> None:
    p = handmade.program()
    r = handmade.busy(p)
    e = price(p, r, host_macs_per_sample=10)
    total = {name: int(values.sum()) for name, values in r.core.items()}
    hops = [int(r.server["services"][p.server_class == k].sum()) for k in range(3)]
    assert e.component_fj("synapse") == total["synops"] * SYNOP + total["current_writes"] * WRITE
    assert e.component_fj("soma") == total["accesses"] * ACCESS + total["updates"] * UPDATE + total["fires"] * FIRE
    assert e.component_fj("noc") == pytest.approx(total["packets_sent"] * PACKET + hops[0] * LOCAL + hops[1] * EW + hops[2] * NS)
    assert e.component_fj("io") == int(r.server["services"][0]) * IO
    assert e.component_fj("host") == 10 * 2 * MAC
    # two of four cores hold a slice: 2 * 0.16 mW * 3,000 ps; 1 mW is 1 J per 1000 s, so 1 mW ps = 1e-15 J = 1 fJ
    assert e.component_fj("static") == pytest.approx(2 * 0.16 * 3000)
    per = e.per_sample()
    assert per["chip"] == pytest.approx(sum(per[c] for c in COMPONENTS))
    assert per["total"] == pytest.approx(per["chip"] + per["host"])
    assert per["total"] == pytest.approx(e.total_fj / 2)
    assert sum(row["energy_fj"] for row in e.table()) == pytest.approx(per["total"])


def test_extra_ops_pay_for_what_they_write_and_read() -> None:
    chip = chip_of(40, 1 << 16)
    p = assemble(op_graph("coincidence"), chip, "wavefront")
    r = handmade.result(p)
    core = int(p.slice_core[p.slice_population == 4][0])
    r.core["synops"][core], r.core["pairs"][core], r.core["op_reads"][core] = 100, 30, 7
    assert price(p, r).component_fj("synapse") == 107 * SYNOP  # no figures of their own: as synaptic operations
    own = load_chip(chip, ["prices.pair_write=5 pJ", "prices.op_read=1 pJ"]).prices
    e = price(p, r, prices=own)
    lines = {line.event: (line.count, line.energy_fj) for line in e.lines if line.component == "synapse" and line.count}
    assert lines == {
        "synaptic operations": (70, 70 * SYNOP),
        "activity-written synapses written": (30, 150_000),
        "words read by extra ops": (7, 7_000),
    }
    assert {share.name: share.synapse for share in e.populations}["op"] == e.core_fj["synapse"][core] == 70 * SYNOP + 157_000
    # on a shared core the op's part is that of its own population
    shared = dataclasses.replace(p, slice_core=np.full(p.slices, core))
    share = {share.name: share.synapse for share in price(shared, r, prices=own).populations}
    assert share["op"] == pytest.approx(70 * SYNOP * 64 / 259 + 157_000)
    assert share["a"] == pytest.approx(70 * SYNOP * 64 / 259)


def test_links_between_chips_and_several_ports_have_their_price() -> None:
    between = ("noc.chip_width=1", 'timing.hop_chip="50 ns"', 'timing.chip_forward="7 ns"', 'timing.chip_ack="9 ns"', 'prices.hop_chip="1 nJ"')
    p = handmade.program(overrides=("noc.ports=[0, 3, 3]", *between))
    r = handmade.busy(p)
    assert np.count_nonzero(p.server_class == 3) == 4  # left to right and back, in both rows
    e = price(p, r)
    lines = {line.event: line for line in e.lines}
    assert (lines["hops between chips"].count, lines["hops between chips"].price) == (r.server["services"][p.server_class == 3].sum(), 1e6)
    assert lines["hops east-west"].count == 0
    assert lines["packets through 3 ports"].count == r.server["services"][:3].sum()
    with pytest.raises(DataError, match="links between chips but the prices have no"):
        price(p, r, prices=handmade.program().chip.prices)


def test_topologies_without_axes_have_one_kind_of_link() -> None:
    p = handmade.program(overrides=("noc.topology=ring",))
    r = handmade.busy(p)
    lines = {line.event: line for line in price(p, r).lines}
    assert lines["hops over links"].count == r.server["services"][p.server_class == 1].sum()
    assert not {"hops east-west", "hops north-south", "hops between chips"} & set(lines)


def test_one_second_of_one_milliwatt_is_one_millijoule() -> None:
    p = handmade.program(overrides=("prices.static_core_mw=0", "prices.static_chip_mw=1"))
    e = price(p, handmade.result(p, window_ps=10**12))
    assert e.chip_fj == 1e12  # fJ


def test_decode_is_charged_for_every_kind_of_packet() -> None:
    p = handmade.program(overrides=("prices.decode=1 pJ",))
    r = handmade.result(p)
    for k, name in enumerate(("spike_packets", "current_packets", "marker_packets")):
        r.core[name][k] = 10**k
    assert price(p, r).component_fj("synapse") == 111 * 1000


def test_without_power_gating_all_cores_draw_power() -> None:
    p = handmade.program(overrides=("prices.power_gating=false", "prices.static_router_mw=2"))
    e = price(p, handmade.result(p))
    assert e.component_fj("static") == pytest.approx(4 * 0.16 * 3000 + 4 * 2 * 3000)
    assert e.router_fj.tolist() == [6000.0] * 4


def test_the_board_at_rest_stands_in_place_of_the_cores_in_use() -> None:
    p = handmade.program(overrides=("prices.static_chip_mw=3", "prices.board_mw=50"))
    e = price(p, handmade.busy(p), host_macs_per_sample=10)
    assert e.board_fj == pytest.approx(sum(e.component_fj(c) for c in COMPONENTS if c != "static") + 50 * 3000)
    assert e.chip_fj == pytest.approx(sum(line.energy_fj for line in e.lines if line.component != "host"))  # the board is in no line
    assert "at the board: " in str(e)
    bare = price(p, handmade.busy(p), prices=load_chip("speck2f-like").prices)
    assert (bare.board, bare.board_fj) == (None, None)
    assert any("off-chip memory, board" in sentence for sentence in bare.left_out)


@pytest.mark.parametrize("name", ["async-mesh", "async-mesh-plus", "tiny", "ideal", "loihi1-like", "loihi2-like"])
def test_a_core_of_loihi_leaks_no_more_than_its_share_of_the_chip_at_rest(name: str) -> None:
    # Blouw et al.: 29.5 mW at rest after boot for 128 cores and all else, 96.3 mW once the x86 cores run
    prices = load_chip(name).prices
    core, board = prices.static_core_mw, prices.board_mw
    assert core.low is not None
    assert core.high is not None
    assert board is not None
    assert 0 < core.low < core.value < core.high == 0.23
    assert 128 * core.value < 29.5 == pytest.approx(128 * core.high, rel=0.01)
    assert board.value == 96.3
    assert all("BLO" in figure.source for figure in (core, board))


def test_other_prices_need_no_new_run() -> None:
    p = handmade.program()
    r = handmade.busy(p)
    dear = handmade.program(overrides=("prices.synop=1 nJ",)).chip.prices
    assert price(p, r, prices=dear).component_fj("synapse") - price(p, r).component_fj("synapse") == int(r.core["synops"].sum()) * (10**6 - SYNOP)


def test_shares_of_cores_routers_and_populations_add_up() -> None:
    p = handmade.program()
    e = price(p, handmade.busy(p))
    cores = sum(float(part.sum()) for part in e.core_fj.values())
    assert cores + e.router_fj.sum() + e.component_fj("io") == pytest.approx(e.chip_fj)
    assert [share.name for share in e.populations] == ["hidden.lif", "out"]
    assert all(share.exact for share in e.populations)
    hidden = e.populations[0]
    assert hidden.synapse == e.core_fj["synapse"][hidden.cores[0]]
    assert [layer.name for layer in e.layers()] == ["hidden", "out"]


def test_populations_that_share_a_core_divide_it_and_say_so() -> None:
    p = handmade.program()
    p = dataclasses.replace(p, slice_core=np.zeros(2, np.int64))
    r = handmade.result(p)
    r.core["synops"][0], r.core["fires"][0] = 80, 6
    r.slice_spikes = np.array([[3, 0], [2, 1]])
    e = price(p, r)
    hidden, out = e.populations
    assert (hidden.synapse, out.synapse) == (60 * SYNOP, 20 * SYNOP)  # 6 and 2 neurons
    assert (hidden.soma, out.soma) == (5 * FIRE, 1 * FIRE)  # known per slice
    assert not hidden.exact
    assert "core" in e.notes[0]


def test_mistakes_are_named() -> None:
    p = handmade.program()
    with pytest.raises(DataError, match="0 samples"):
        price(p, handmade.result(p, samples=0))
    with pytest.raises(DataError, match=r"25 servers, the program has \d+"):
        price(handmade.program(chip="async-mesh"), handmade.result(p))
    with pytest.raises(DataError, match="host_macs_per_sample"):
        price(p, handmade.result(p), host_macs_per_sample=-1)


def test_the_printed_table_has_every_price_with_source_and_status() -> None:
    p = handmade.program()
    text = str(price(p, handmade.busy(p)))
    for price_name in (
        "DAV energy per synaptic operation (min)",
        "SFE axon-out energy per message",
        "published",
        "assumed",
        "fitted",
        "left out: loading",
    ):
        assert price_name in text


def test_operations_of_the_layers_add_up() -> None:
    p = handmade.program()
    r = handmade.busy(p)
    e = price(p, r)
    assert sum(share.synops for share in e.populations) == pytest.approx(float(r.core["synops"].sum() + r.core["op_reads"].sum()))
    assert sum(share.synops for share in e.layers()) == pytest.approx(sum(share.synops for share in e.populations))
