"""Drops and losses, against timings worked out by hand (figures: ``networks.TIMES``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.arithmetic import is_lost
from neurosim.engine.events import MARKER, ROW_DROP, ROW_LOSS, ROW_PUT, ROW_SERVICE, SPIKE, Engine, Options
from neurosim.engine.reference import run_reference
from neurosim.graph import Graph
from tests.engine.networks import ENGINES, chain, dense, mapped, population, puts, server_number, services, spikes

RECORD = Options(record=True, state=True)


@pytest.mark.parametrize("run", ENGINES)
def test_axon_out_drops_a_spike_but_no_marker(run: Engine) -> None:
    # p0 has 3 neurons that all fire; axon-out holds one item and the sender takes 50 per packet
    program = chain([1, 3, 1], [5, 1], [0, 1], noc__axon_out=1, timing__send=50, noc__axon_out_overflow='"drop"')
    result = run(program, [spikes(program, [(0, 0)])], RECORD)
    # soma at 51: put 65, taken at 67, credit at 69; put 79, taken when the sender ends at 117, credit at 119
    # third: ready at 93 without a credit: dropped then. marker: q = 93 + 4, waits until 119
    assert puts(result, 2) == [(65, 65, 0), (79, 79, 0), (119, 97, 22)]
    assert puts(result, 2, ROW_DROP) == [(93, 93, 0)]
    assert services(program, result, "core 0 soma") == [(51, 119)]
    assert services(program, result, "core 0 sender") == [(67, 117), (117, 167), (167, 217)]
    (row,) = result.trace[result.trace["kind"] == ROW_DROP]
    what = ("index", "service", "item", "slice", "address", "value", "dest", "origin", "cause_server", "cause_service", "synops")
    assert row[list(what)].tolist() == (0, 0, SPIKE, 0, 2, 1, -1, 0, 2, 0, 0)
    assert result.trace["index"][(result.trace["server"] == 2) & (result.trace["kind"] == ROW_PUT)].tolist() == [0, 1, 2]
    # a fire all the same, but no put and no packet
    assert (result.core["fires"][0], result.slice_spikes.tolist()[0][0], result.spikes["time"].tolist()) == (3, 3, [65, 79, 93])
    axon_out = program.server_channel[2]
    assert (result.channel["drops"][axon_out], result.channel["drops"].sum(), result.channel["puts"][axon_out]) == (1, 1, 3)
    assert result.sample["packets"].tolist() == [3]
    assert result.scores.tolist() == [[2]]


@pytest.mark.parametrize("run", ENGINES)
def test_a_port_drops_and_goes_on(run: Engine) -> None:
    program = chain([4, 1, 1], [1, 1], [0, 1], noc__fifo=1, timing__port=1, noc__overflow='"drop"')
    result = run(program, [spikes(program, [(0, k) for k in range(4)])], RECORD)
    # put at 0, taken at 1, credit at 2. The second, at 1, is dropped; the third has the credit at 2, is taken at 9, credit at 10;
    # the fourth is dropped at 3, the marker waits from 4 to 10
    assert services(program, result, "port 0") == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 10)]
    assert puts(result, 0, ROW_DROP) == [(1, 1, 0), (3, 3, 0)]
    drops = result.trace[result.trace["kind"] == ROW_DROP]
    assert drops[["index", "service", "address", "dest", "origin", "cause_server", "cause_service"]].tolist() == [
        (0, 1, 1, 0, 1, 0, 1),
        (1, 3, 3, 0, 3, 0, 3),
    ]
    # injected counts services, the channel puts
    assert (result.sample["injected_spikes"].tolist(), result.channel["puts"][program.server_channel[0]]) == ([4], 3)
    assert result.state_v.tolist() == [[2, 0]]


@pytest.mark.parametrize("run", ENGINES)
def test_a_router_output_drops_before_a_full_axon_in(run: Engine) -> None:
    program = chain([3, 1, 1], [1, 1], [0, 1], noc__axon_in=1, timing__decode=30, noc__overflow='"drop"')
    result = run(program, [spikes(program, [(0, k) for k in range(3)])], RECORD)
    # first: put at 9, taken at 11, credit at 13; second: put at 17, in the queue until the synapse ends at 11 + 33; third: dropped at 25.
    # The marker, ready at 33, waits until that slot's credit: taken at 44, back at 46
    out = server_number(program, "router (0, 0) core 0")
    assert services(program, result, "router (0, 0) core 0") == [(1, 9), (9, 17), (17, 25), (25, 46)]
    assert puts(result, out, ROW_DROP) == [(25, 25, 0)]
    assert services(program, result, "core 0 synapse") == [(11, 44), (44, 77), (77, 107)]
    assert (result.channel["drops"][program.server_channel[out]], result.sample["hops"][0]) == (1, 4 + 2)
    assert result.state_v.tolist() == [[2, 0]]


@pytest.mark.parametrize("run", ENGINES)
def test_a_sender_drops_what_the_network_does_not_take(run: Engine) -> None:
    # p0's three fires leave the sender at 79, 89, 99 and the marker after; the hop to the east takes 60, FIFOs hold one
    program = chain([1, 3, 1], [5, 1], [0, 1], noc__fifo=1, timing__hop_east_west=60, noc__overflow='"drop"')
    result = run(program, [spikes(program, [(0, 0)])], RECORD)
    # soma at 51: puts 65, 79, 93, marker 97. Sender: 67..73, 81..87, 95..101, 101..107
    assert [start for start, _ in services(program, result, "core 0 sender")] == [67, 81, 95, 101]
    # 73: taken at 74, hop 74..134. 87: waits in the FIFO until 134. 101: dropped. The marker: 107, waits for the credit at 135
    sender = server_number(program, "core 0 sender")
    assert puts(result, sender) == [(73, 73, 0), (87, 87, 0), (135, 107, 28)]
    assert puts(result, sender, ROW_DROP) == [(101, 101, 0)]
    assert result.trace["dest"][result.trace["kind"] == ROW_DROP].tolist() == [1]
    assert result.core["packets_sent"].tolist() == [3, 0]
    assert result.scores.tolist() == [[2]]


@pytest.mark.parametrize("run", ENGINES)
def test_lost_spikes_give_their_windows_back(run: Engine) -> None:
    # every link loses every spike; window of one packet
    program = chain([1, 2, 1], [5, 1], [0, 1], "free", noc__flow='"end_to_end"')
    result = run(program, [spikes(program, [(0, 0)])], Options(record=True, state=True, link_loss=2**32))
    # fires at 31, 35; sender 33..39, the second ready at 45. Hop 40..60: lost at 60, its window is back at 69
    sender, east = server_number(program, "core 0 sender"), server_number(program, "router (0, 0) east")
    assert puts(result, sender) == [(39, 39, 0), (69, 45, 24)]
    assert services(program, result, "router (0, 0) east") == [(40, 60), (70, 90)]
    assert puts(result, east, ROW_LOSS) == [(60, 60, 0), (90, 90, 0)]
    link = program.server_channel[east]
    assert (result.channel["losses"][link], result.channel["losses"].sum(), result.channel["puts"][link]) == (2, 2, 0)
    # local deliveries and the port lose nothing; a packet that was put was sent
    assert (result.core["packets_sent"][0], result.sample["hops"].tolist(), result.completion_ps.tolist()) == (2, [3], [90])
    assert result.scores.tolist() == [[0]]


@pytest.mark.parametrize("run", ENGINES)
def test_a_lost_copy_of_a_tree_gives_all_its_windows_back(run: Engine) -> None:
    # a on core 0 -> b on core 1 over one link, c on core 2 over two; window 1: the first copy is lost on the first link, for both
    inputs, one = population("in", 1, "input"), population("a", 2)
    graph = Graph(
        "two",
        1,
        (inputs, one, population("b"), population("c")),
        (dense("in", "a", 5, (1, 2)), dense("a", "b", 1, (2, 1)), dense("a", "c", 1, (2, 1))),
    )
    tree: dict[str, Any] = {"noc__multicast": '"tree"', "noc__flow": '"end_to_end"'}
    program = mapped(graph, [0, 1, 2], "free", mesh=(3, 1), **tree)
    result = run(program, [spikes(program, [(0, 0)])], Options(record=True, state=True, link_loss=2**32))
    assert puts(result, server_number(program, "core 0 sender")) == [(39, 39, 0), (69, 45, 24)]
    assert result.channel["losses"].sum() == 2


@pytest.mark.parametrize("run", ENGINES)
def test_losses_are_those_of_the_hash_and_spare_markers(run: Engine) -> None:
    program = chain([1, 20, 1], [5, 1], [0, 1], steps=2)
    stimuli = [spikes(program, [(0, 0), (1, 0)])] * 2
    result = run(program, stimuli, Options(record=True, link_loss=2**31, seed=11, first_sample=4))
    east = server_number(program, "router (0, 0) east")
    rows = result.trace[(result.trace["server"] == east) & (result.trace["kind"] == ROW_SERVICE)]
    lost = [(int(r["sample"]), int(r["index"])) for r in rows if r["item"] == SPIKE and is_lost(11, int(r["sample"]), east, int(r["index"]), 2**31)]
    found = result.trace[result.trace["kind"] == ROW_LOSS]
    assert found[["sample", "service"]].tolist() == sorted(lost)
    assert 20 < len(found) < 60
    assert found["index"][found["sample"] == 5].tolist() == list(range((found["sample"] == 5).sum()))
    assert result.core["marker_packets"].tolist() == [4, 4]
    assert result.scores[:, 0].tolist() == [40 - int((found["sample"] == k).sum()) for k in (4, 5)]
    # streamed: the sample of the hash is 0
    stream = run(program, stimuli, Options(record=True, link_loss=2**31, seed=11, streamed=True))
    rows = stream.trace[(stream.trace["server"] == east) & (stream.trace["kind"] == ROW_SERVICE) & (stream.trace["item"] != MARKER)]
    lost = [(0, int(r["index"])) for r in rows if is_lost(11, 0, east, int(r["index"]), 2**31)]
    assert stream.trace[stream.trace["kind"] == ROW_LOSS][["sample", "service"]].tolist() == sorted(lost)


@pytest.mark.parametrize("sync", ["free", "wavefront", "barrier"])
def test_shuffled_instants_change_nothing(sync: str) -> None:
    overflow = {
        "noc__overflow": '"drop"',
        "noc__axon_out_overflow": '"drop"',
        "noc__fifo": 1,
        "noc__axon_in": 1,
        "noc__axon_out": 1,
        "timing__port": 1,
    }
    program = chain([4, 6, 2], [5, 1], [0, 1], sync, **overflow)  # type: ignore[arg-type]
    stimuli, options = [spikes(program, [(0, k) for k in range(4)])], Options(record=True, link_loss=2**30, seed=2)
    plain, shuffled = run_reference(program, stimuli, options), run_reference(program, stimuli, options, shuffle_seed=5)
    assert plain.channel["drops"].sum() > 0
    assert np.array_equal(plain.trace, shuffled.trace)
