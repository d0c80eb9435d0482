"""A timeline as a Perfetto trace (https://ui.perfetto.dev): the protobuf messages that it needs, encoded here, without a library.

One track per server under its core, router or port; arrows from every service to those that it caused; counter tracks for the items in every FIFO and
for power. One picosecond of the chip is shown as one nanosecond (Perfetto's clock has no finer tick); the topmost track says so.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from neurosim.report.timeline import Timeline
from neurosim.trace.names import PORT, ROUTER

SCALE = "1 ns shown = 1 ps of the chip"
# message TracePacket
TIMESTAMP, SEQUENCE, EVENT, INTERNED, FLAGS, TRACK = 8, 10, 11, 12, 13, 60
# message TrackEvent
NAME_IID, CATEGORY, ANNOTATION, TYPE, TRACK_UUID, COUNTER_VALUE, COUNTER_DOUBLE, FLOW, FLOW_END = 10, 22, 4, 9, 11, 30, 44, 47, 48
SLICE_BEGIN, SLICE_END, COUNTER = 1, 2, 4
CLEARED, NEEDS_STATE = 1, 2
CHIP = 1
"""uuid of the topmost track; servers have 1000 + server, channels 10**6 + channel, places 10**7 + their number."""


def write_perfetto(timeline: Timeline, path: Path) -> None:
    """Write ``path``. Slices: category ``service`` (name: its item; args n, start_ps, step, value, ...) and, inside, ``wait``."""
    with path.open("wb") as file:
        for packet in _packets(timeline):
            file.write(_bytes(1, packet))


def _packets(timeline: Timeline) -> Iterator[bytes]:
    yield _sequence(b"", CLEARED)
    yield from _tracks(timeline)
    yield from _slices(timeline)
    for channel in timeline.channels:
        times, items = timeline.occupancy(channel)
        for time, count in zip(times.tolist(), items.tolist(), strict=True):
            yield _event(time, COUNTER, 10**6 + channel, _varint(COUNTER_VALUE, count))
    for time, mw in zip(*(column.tolist() for column in timeline.power()), strict=True):
        yield _event(time, COUNTER, CHIP + 1, _tag(COUNTER_DOUBLE, 1) + struct.pack("<d", mw))


def _tracks(timeline: Timeline) -> Iterator[bytes]:
    program = timeline.program
    title = f"{program.meta.get('network', '')} on {program.chip.name} ({program.sync}), sample {timeline.sample}; {SCALE}"
    yield _track(CHIP, title, 0)
    yield _track(CHIP + 1, "power of the chip without ports", CHIP, _bytes(8, _text(6, "mW")))
    places: dict[str, int] = {}
    for server in timeline.servers.tolist():
        place = _place(timeline, server)
        if place not in places:
            places[place] = 10**7 + len(places)
            yield _track(places[place], place, 0)
        yield _track(1000 + server, timeline.server_names[server].removeprefix(f"{place} ") or place, places[place])
    for channel in timeline.channels:
        name = timeline.channel_names[channel]
        place = name.partition(" of ")[2].partition(" from ")[0]
        yield _track(10**6 + channel, f"{name}, items", places.get(place, 0), _bytes(8, _text(6, "items")))


def _place(timeline: Timeline, server: int) -> str:
    kind, owner = int(timeline.program.server_kind[server]), int(timeline.program.server_owner[server])
    return f"{'port' if kind == PORT else 'router' if kind == ROUTER else 'core'} {owner}"


def _slices(timeline: Timeline) -> Iterator[bytes]:
    """Begin and end of every slice, by server and in order of time, so that a stable sort by time keeps the nesting."""
    flows = timeline.flows()
    caused: dict[int, list[int]] = defaultdict(list)
    for effect, cause in flows.items():
        caused[cause].append(effect)
    names: dict[str, int] = {}
    open_end: tuple[int, int] | None = None  # (end, server) of the service whose waits may follow

    def named(name: str) -> Iterator[bytes]:
        if name not in names:
            names[name] = len(names) + 1
            yield _sequence(_bytes(INTERNED, _bytes(2, _varint(1, names[name]) + _text(2, name))), NEEDS_STATE)

    for row, piece in timeline.slices():
        yield from named(piece.name)
        if piece.wait:
            for kind, time in ((SLICE_BEGIN, piece.start_ps), (SLICE_END, piece.end_ps)):
                yield _event(time, kind, 1000 + piece.server, (_varint(NAME_IID, names[piece.name]) + _text(CATEGORY, "wait")) if kind == 1 else b"")
            continue
        if open_end is not None:
            yield _event(open_end[0], SLICE_END, 1000 + open_end[1])
        arguments = b"".join(
            _bytes(ANNOTATION, _text(10, key) + (_text(6, value) if isinstance(value, str) else _varint(4, value)))
            for key, value in timeline.arguments(timeline.events.at(row)).items()
        )
        arrows = b"".join(_fixed64(FLOW, 1 + effect) for effect in caused[row]) + (_fixed64(FLOW_END, 1 + row) if row in flows else b"")
        body = _varint(NAME_IID, names[piece.name]) + _text(CATEGORY, "service") + arguments + arrows
        yield _event(piece.start_ps, SLICE_BEGIN, 1000 + piece.server, body)
        open_end = (piece.end_ps, piece.server) if piece.end_ps >= 0 else None
    if open_end is not None:
        yield _event(open_end[0], SLICE_END, 1000 + open_end[1])


def _track(uuid: int, name: str, parent: int, more: bytes = b"") -> bytes:
    return _sequence(_bytes(TRACK, _varint(1, uuid) + _text(2, name) + (_varint(5, parent) if parent else b"") + more), NEEDS_STATE)


def _event(time: int, kind: int, track: int, body: bytes = b"") -> bytes:
    event = _varint(TYPE, kind) + _varint(TRACK_UUID, track) + body
    return _sequence(_varint(TIMESTAMP, time) + _bytes(EVENT, event), NEEDS_STATE)


def _sequence(body: bytes, flags: int) -> bytes:
    return body + _varint(SEQUENCE, 1) + _varint(FLAGS, flags)


def _tag(field: int, wire: int) -> bytes:
    return _number(field << 3 | wire)


def _number(value: int) -> bytes:
    """A varint; negative numbers as 64-bit two's complement."""
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _varint(field: int, value: int) -> bytes:
    return _tag(field, 0) + _number(value)


def _fixed64(field: int, value: int) -> bytes:
    return _tag(field, 1) + struct.pack("<Q", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _tag(field, 2) + _number(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
