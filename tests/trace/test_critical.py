"""The parts of a latency add up to it, on every sample of a drawn suite, in all disciplines; two paths worked out by hand."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, seed, settings

from neurosim.engine.events import Options, Result
from neurosim.engine.reference import run_reference
from neurosim.errors import DataError, Deadlock, Livelock
from neurosim.program import Program
from neurosim.trace.causes import Events
from neurosim.trace.critical import PARTS, CriticalPath, critical_path
from neurosim.trace.pressure import back_pressure
from tests.conformance.strategies import Case, cases
from tests.engine.networks import chain, spikes

ASKED = os.environ.get("NEUROSIM_EXAMPLES")
EXAMPLES = int(ASKED or "75")


def simulations(program: Program, result: Result, options: Options) -> list[Events]:
    """Events by sample; of a streamed run the same for all."""
    if options.streamed:
        return [Events(program, result.trace)] * len(result.scores)
    return [Events(program, result.trace[result.trace["sample"] == options.first_sample + n]) for n in range(len(result.scores))]


def assert_adds_up(path: CriticalPath, result: Result) -> None:
    start, end = int(result.start_ps[path.sample]), int(getattr(result, f"{path.until}_ps")[path.sample])
    at = start
    for segment in path.segments:
        assert segment.from_ps == at
        assert segment.to_ps > at
        assert segment.part in PARTS
        at = segment.to_ps
    assert at == max(start, end)
    assert sum(path.parts().values()) == max(0, end - start) == sum(row["lasts_ps"] for row in path.totals()) == path.latency_ps


@pytest.mark.parametrize("sync", ["free", "settle", "wavefront", "barrier"])
def test_the_parts_of_every_drawn_latency_add_up_to_it(sync: str) -> None:
    parts: set[str] = set()

    def check(case: Case) -> None:
        try:
            result = run_reference(case.program, case.stimuli, case.options)
        except (Deadlock, Livelock):
            return
        of_sample = simulations(case.program, result, case.options)
        for sample, events in enumerate(of_sample):
            for until in ("decision", "completion", "first_spike"):
                if until != "first_spike" or result.first_spike_ps[sample] >= 0:
                    path = critical_path(events, result, sample, until)
                    assert_adds_up(path, result)
                    parts.update(path.parts())
        origins = [row for events in set(of_sample) for row in back_pressure(events)]
        held = sum(row["held_ps"] for row in origins)
        assert held == sum(wait["held_ps"] for row in origins for wait in row["held"])
        if not (result.sample["cut"] | result.sample["stopped"]).any():  # the counters leave out what services that never ended waited
            assert held == result.server["blocked_ps"].sum()

    run = settings(max_examples=max(1, EXAMPLES // 3))(given(cases(sync))(check))
    (run if ASKED else seed(2)(run))()
    assert {"service", "hop", "link", "fifo", "credit", "window", "port"} <= parts
    assert {"free": set(), "settle": {"settle", "due"}, "wavefront": {"bank", "wire", "readout"}, "barrier": {"barrier", "readout"}}[sync] <= parts


def test_a_path_worked_out_by_hand() -> None:
    # times of tests/engine/networks.py: decode 10, synop 3, access 2, update 5, fire 7, send 6, hops 20 and 8, forward 1, axon 2, barrier 60
    program = chain([1, 1, 1], [5, 1], [0, 1], "barrier")
    result = run_reference(program, [spikes(program, [(0, 0)])], Options(record=True))
    (events,) = simulations(program, result, Options())
    path = critical_path(events, result, 0)
    assert [(s.lasts_ps, s.part, s.where) for s in path.segments] == [
        (1, "link", "input of router 0 from port 0"), (8, "hop", "router 0 to core 0"), (2, "link", "axon-in of core 0"),
        (13, "service", "core 0 synapse"), (60, "barrier", "chip"), (14, "service", "core 0 soma"), (2, "link", "axon-out of core 0"),
        (6, "service", "core 0 sender"), (1, "link", "input of router 0 from core 0"), (20, "hop", "router 0 to router 1"),
        (1, "link", "input of router 1 from router 0"), (8, "hop", "router 1 to core 1"), (2, "link", "axon-in of core 1"),
        (13, "service", "core 1 synapse"), (60, "barrier", "chip"), (7, "service", "core 1 soma"), (100, "readout", "host"),
    ]  # fmt: skip
    assert path.segments[3].item == "spike of in (0, 0, 0)"
    assert path.totals()[0] == {"part": "barrier", "where": "chip", "lasts_ps": 120, "share": 120 / 318, "times": 2}
    assert back_pressure(events) == []


def test_back_pressure_is_charged_to_the_station_that_makes_no_room() -> None:
    # core 0 hands on spikes every 13 ps or so; core 1 takes 10 + 40 * 3 ps for each through an axon-in of one
    program = chain([12, 12, 40], [5, 1], [0, 1], "free", noc__axon_in=1, noc__axon_out=1, noc__fifo=1)
    result = run_reference(program, [spikes(program, [(0, k) for k in range(12)])], Options(record=True))
    (events,) = simulations(program, result, Options())
    rows = back_pressure(events)
    assert rows[0]["origin"] == "core 1"
    assert rows[0]["held_ps"] > 0.8 * result.server["blocked_ps"].sum()
    held = {wait["station"] for wait in rows[0]["held"]}
    assert {"router 1 to core 1", "router 0 to router 1", "core 0 sender", "core 0"} <= held
    assert rows[0]["first_ps"] == min(row["first_ps"] for row in rows if row["origin"] == "core 1")


def test_back_pressure_passes_through_windows() -> None:
    # the same with end-to-end windows: the sender of core 0 waits for core 1's, and core 0 behind it for the sender
    program = chain([12, 12, 40], [5, 1], [0, 1], "free", noc__axon_out=1, noc__flow='"end_to_end"', noc__window=1)
    result = run_reference(program, [spikes(program, [(0, k) for k in range(12)])], Options(record=True))
    (events,) = simulations(program, result, Options())
    first = back_pressure(events)[0]
    assert first["origin"] == "core 1"
    assert first["held_ps"] > 0.8 * result.server["blocked_ps"].sum()
    assert {"core 0 sender", "core 0", "port 0"} <= {wait["station"] for wait in first["held"]}


def test_rows_that_are_missing_are_missed() -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1], "barrier")
    result = run_reference(program, [spikes(program, [(0, 0)])], Options(record=True))
    rows = result.trace[result.trace["server"] != 3]  # without the sender of core 0
    with pytest.raises(DataError, match="level events"):
        critical_path(Events(program, rows), result, 0)
