"""Exports parsed back by other people's readers and compared with the trace itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.energy import price
from neurosim.engine.events import ROW_SERVICE
from neurosim.errors import DataError, RunError
from neurosim.report.exports import export
from neurosim.report.timeline import Timeline
from neurosim.report.vcd import scope_name
from neurosim.trace import StoredRun, read_trace
from neurosim.trace.names import channel_names, server_names
from tests.engine.networks import chain
from tests.trace.test_why import stored

TIGHT = {"noc__axon_in": 1, "noc__axon_out": 1, "noc__fifo": 1}
TREE = {"noc__multicast": '"tree"', "noc__flow": '"end_to_end"', "noc__window": 1}


@pytest.fixture(scope="module", params=[("free", TIGHT), ("wavefront", TIGHT), ("barrier", TREE)], ids=lambda p: p[0])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    sync, chip = request.param
    program = chain([6, 9, 7], [5, 1], [0, 1], sync, steps=1 if sync == "free" else 2, **chip)
    return stored(tmp_path_factory.mktemp(sync), program, [(0, 0), (0, 1), (0, 4)])


def services(run: StoredRun, first: int = 0, last: int = 2**62) -> Any:
    assert run.trace_path is not None
    rows = read_trace(run.trace_path)
    rows = rows[rows["kind"] == ROW_SERVICE]
    return rows[(rows["time"] < last) & ((rows["end"] > first) | (rows["time"] >= first))]


def expected(run: StoredRun, *window: int) -> list[tuple[str, int, int]]:
    names = server_names(run.program)
    rows = services(run, *window)
    return sorted((names[v], t, e) for v, t, e in zip(rows["server"].tolist(), rows["time"].tolist(), rows["end"].tolist(), strict=True))


def takes(run: StoredRun, channel: int) -> list[int]:
    """Of an input of a router: packets' last copies; else the starts of the one reader."""
    program, rows = run.program, services(run)
    kind, writer, reader = program.channel[channel, :3].tolist()
    if kind in (1, 2):
        mine = rows[(rows["server"] == program.ports + 3 * reader + (0 if kind == 1 else 2)) & (rows["cause_server"] >= 0)]
        return sorted(mine["time"].tolist())
    mine = rows[(rows["cause_server"] == writer) & (program.server_kind[rows["server"]] == 4) & (program.server_owner[rows["server"]] == reader)]
    if program.chip.noc.multicast != "tree":
        return sorted(mine["time"].tolist())
    return sorted(int(mine["time"][mine["cause_service"] == n].max()) for n in set(mine["cause_service"].tolist()))


def puts(run: StoredRun, channel: int) -> list[tuple[int, int]]:
    """(time, address) of the puts into a channel."""
    assert run.trace_path is not None
    writer = int(run.program.channel[channel, 1])
    rows = read_trace(run.trace_path)
    rows = rows[(rows["server"] == writer) & (rows["kind"] == (0 if run.program.server_kind[writer] in (0, 4) else 1))]
    column = "end" if run.program.server_kind[writer] in (0, 4) else "time"
    return list(zip(rows[column].tolist(), rows["address"].tolist(), strict=True))


class Perfetto:
    """A Perfetto file, read with Google's own message classes."""

    def __init__(self, path: Path) -> None:
        messages = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="needs the package perfetto")
        trace = messages.Trace()
        trace.ParseFromString(path.read_bytes())
        events = messages.TrackEvent
        self.tracks: dict[int, Any] = {}
        self.slices: list[tuple[str, int, int, str, str]] = []
        self.counters: dict[str, list[tuple[int, float]]] = {}
        names: dict[int, str] = {}
        begun: dict[int, tuple[str, int]] = {}
        self.arrows: dict[int, list[tuple[str, int]]] = {}
        found = []
        for packet in trace.packet:
            assert packet.trusted_packet_sequence_id == 1
            names |= {entry.iid: entry.name for entry in packet.interned_data.event_names}
            if packet.HasField("track_descriptor"):
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            if packet.HasField("track_event"):
                found.append(packet)
        stacks: dict[int, list[Any]] = {}
        for packet in sorted(found, key=lambda packet: packet.timestamp):  # stable, as Perfetto sorts
            event = packet.track_event
            where = self.name(event.track_uuid)
            if event.type == events.TYPE_COUNTER:
                value = event.counter_value if event.HasField("counter_value") else event.double_counter_value
                self.counters.setdefault(where, []).append((packet.timestamp, value))
            elif event.type == events.TYPE_SLICE_BEGIN:
                stacks.setdefault(event.track_uuid, []).append(packet)
            else:
                first = stacks[event.track_uuid].pop()
                name, (category,) = names[first.track_event.name_iid], first.track_event.categories
                self.slices.append((where, first.timestamp, packet.timestamp, category, name))
                for flow in first.track_event.terminating_flow_ids:
                    begun[flow] = where, first.timestamp
                for flow in first.track_event.flow_ids:
                    self.arrows.setdefault(flow, []).append((where, first.timestamp))
        assert not any(stacks.values())
        self.flows = sorted((*self.arrows[flow][0], *effect) for flow, effect in begun.items())
        assert all(len(causes) == 1 for causes in self.arrows.values())
        assert set(self.arrows) == set(begun)

    def name(self, uuid: int) -> str:
        track = self.tracks[uuid]
        parent = self.tracks[track.parent_uuid].name if track.parent_uuid else ""
        return track.name if track.HasField("counter") or parent == track.name else f"{parent} {track.name}"


def test_perfetto_slices_flows_and_counters_are_the_traces(run: StoredRun, tmp_path: Path) -> None:
    found = Perfetto(export(run, tmp_path / "a.pftrace"))
    of_free = {f"core {c} synapse": f"core {c}" for c in range(run.program.cores)} if run.program.sync == "free" else {}
    assert sorted((of_free.get(w, w), t, e) for w, t, e, category, _ in found.slices if category == "service") == expected(run)
    waited = sum(e - t for _, t, e, category, _ in found.slices if category == "wait")
    assert waited == services(run)["blocked"].sum() == run.result.server["blocked_ps"].sum() > 0
    names, rows = server_names(run.program), services(run)
    start = {(v, n): t for v, n, t in zip(rows["server"].tolist(), rows["index"].tolist(), rows["time"].tolist(), strict=True)}
    causes = [
        (names[row["cause_server"]], start[row["cause_server"], row["cause_service"]], names[row["server"]], row["time"])
        for row in rows
        if row["cause_server"] >= 0
    ]
    assert found.flows == sorted(causes)
    assert {name for _, _, _, category, name in found.slices if category == "service"} >= {"spike of in (0, 0, 0)", "spike of p0 (8, 0, 0)"}
    for channel, name in enumerate(channel_names(run.program)):
        steps = found.counters.pop(f"{name}, items")
        at, items = [t for t, _ in steps], [v for _, v in steps]
        forward = int(run.program.channel[channel, 5])
        arrived = np.array([t + forward for t, _ in puts(run, channel)])
        taken = np.array(takes(run, channel))
        assert at == sorted(set(at))
        assert items == [np.count_nonzero(arrived <= t) - np.count_nonzero(taken <= t) for t in at]
        assert items[-1] == 0
        assert max(items) <= run.result.channel["high_water"][channel] <= run.program.channel[channel, 4]
    ((_, power),) = found.counters.items()
    energy = price(run.program, run.result, streamed=False)
    at, mw = [t for t, _ in power] + [run.result.window_ps], [v for _, v in power]
    assert sum(v * (b - a) for v, a, b in zip(mw, at, at[1:], strict=False)) == pytest.approx(energy.chip_fj - energy.component_fj("io"))
    assert "1 ns shown = 1 ps" in found.tracks[1].name


def test_a_window_keeps_what_reaches_into_it(run: StoredRun, tmp_path: Path) -> None:
    middle = int(run.result.completion_ps[0]) // 2
    window = (middle - 40, middle + 40)
    found = Perfetto(export(run, tmp_path / "a.pftrace", from_ps=window[0], to_ps=window[1]))
    assert sorted((t, e) for _, t, e, category, _ in found.slices if category == "service") == sorted((t, e) for _, t, e in expected(run, *window))
    assert all(steps[0][0] == window[0] for steps in found.counters.values())
    whole = Timeline(run)
    for name, steps in found.counters.items():
        if name.endswith(", items"):
            times, items = whole.occupancy(channel_names(run.program).index(name.removesuffix(", items")))
            assert steps[0][1] == items[np.searchsorted(times, window[0], side="right") - 1]
    one = Perfetto(export(run, tmp_path / "b.pftrace", core=1))
    assert {name.split()[1] for name, *_ in one.slices} == {"1"}
    fifos = ("axon-in of core 1", "axon-out of core 1", "input of router 1 from core 1")
    assert set(one.counters) == {"power of the chip without ports", *(f"{name}, items" for name in fifos)}


def test_chrome_json_is_the_trace(run: StoredRun, tmp_path: Path) -> None:
    events = json.loads(export(run, tmp_path / "a.json").read_text())["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    complete = [e for e in events if e["ph"] == "X" and e["cat"] == "service"]
    assert sorted((names[e["tid"]], round(e["ts"] * 1e6), round((e["ts"] + e["dur"]) * 1e6)) for e in complete) == expected(run)
    assert all(e["args"]["start_ps"] == round(e["ts"] * 1e6) for e in complete)
    assert sum(e["ph"] == "s" for e in events) == sum(e["ph"] == "f" for e in events) == np.count_nonzero(services(run)["cause_server"] >= 0)


def test_vcd_is_the_trace(run: StoredRun, tmp_path: Path) -> None:
    vcdvcd = pytest.importorskip("vcdvcd", reason="needs the package vcdvcd")
    vcd = vcdvcd.VCDVCD(str(export(run, tmp_path / "a.vcd")))
    assert vcd.timescale["timescale"] * 10**12 == 1
    for channel, name in enumerate(channel_names(run.program)):
        wires = {s: vcd[f"chip.{scope_name(name)}.{s}"].tv for s in ("req", "ack", "depth[15:0]", "address[31:0]")}
        put = puts(run, channel)
        assert wires["req"][1:] == [(t, str(k % 2)) for k, (t, _) in enumerate(put, 1)]
        assert wires["ack"][1:] == [(t, str(k % 2)) for k, t in enumerate(takes(run, channel), 1)]
        assert [(t, int(v, 2)) for t, v in wires["address[31:0]"]][1:] == [(t, a & 0xFFFFFFFF) for t, a in put]
        times, items = Timeline(run).occupancy(channel)
        assert [(t, int(v, 2)) for t, v in wires["depth[15:0]"]] == list(zip(times.tolist(), items.tolist(), strict=True))


def test_spikes_of_a_population(run: StoredRun, tmp_path: Path) -> None:
    with np.load(export(run, tmp_path / "a.npz", population="p0")) as stored_spikes:
        arrays = dict(stored_spikes)
    kept = run.result.spikes
    assert arrays["time_ps"].tolist() == sorted(kept["time"].tolist()) != []
    assert sorted(arrays["c"].tolist()) == sorted(kept["address"].tolist())
    assert arrays["shape"].tolist() == [9, 1, 1]
    first = int(arrays["time_ps"][0])
    with np.load(export(run, tmp_path / "b.npz", population="p0", to_ps=first + 1)) as stored_spikes:
        assert stored_spikes["time_ps"].tolist() == [first]


def test_what_cannot_be_exported(run: StoredRun, tmp_path: Path) -> None:
    for name, more, words in (
        ("a.txt", {}, r"there are \.pftrace"),
        ("a.npz", {}, "give both or neither"),
        ("a.vcd", {"population": "p0"}, "give both or neither"),
        ("a.vcd", {"from_ps": 10**12}, "nothing happens in that window"),
        ("a.vcd", {"sample": 1}, "no sample 1"),
    ):
        with pytest.raises(DataError, match=words):
            export(run, tmp_path / name, **more)
    with pytest.raises(RunError, match="cannot write"):
        export(run, tmp_path / "nowhere" / "a.vcd")
    assert not list(tmp_path.iterdir())
