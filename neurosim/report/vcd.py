"""A timeline as a VCD file (GTKWave, Surfer): every channel as an asynchronous FIFO, in steps of 1 ps.

Per channel: ``req`` changes with every put and ``ack`` with every take (two-phase signalling), ``depth`` is the number of items that have arrived and
are not yet taken, ``address`` the address of the latest item put (all ones for markers). Several takes at one instant are several changes of
``ack`` at that time.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from pathlib import Path

from neurosim.report.timeline import Timeline

DEPTH_BITS, ADDRESS_BITS = 16, 32
SIGNALS = (("req", 1), ("ack", 1), ("depth", DEPTH_BITS), ("address", ADDRESS_BITS))


def write_vcd(timeline: Timeline, path: Path) -> None:
    """Write ``path``; times are those of the simulation, req and ack are 0 at the beginning of the window."""
    program, channels = timeline.program, timeline.channels
    codes = {(channel, name): _code(4 * k + j) for k, channel in enumerate(channels) for j, (name, _) in enumerate(SIGNALS)}
    with path.open("w", encoding="ascii") as file:
        file.write(f"$comment {program.chip.name} ({program.sync}), sample {timeline.sample} $end\n$timescale 1 ps $end\n$scope module chip $end\n")
        for channel in channels:
            file.write(f"$scope module {scope_name(timeline.channel_names[channel])} $end\n")
            for name, bits in SIGNALS:
                file.write(f"$var wire {bits} {codes[channel, name]} {name}{f' [{bits - 1}:0]' if bits > 1 else ''} $end\n")
            file.write("$upscope $end\n")
        file.write("$upscope $end\n$enddefinitions $end\n")
        last = -1
        for time, channel, signal, value in heapq.merge(*(_changes(timeline, channel) for channel in channels), key=lambda change: change[0]):
            if time != last:
                file.write(f"#{time}\n")
                last = time
            bits = dict(SIGNALS)[signal]
            code = codes[channel, signal]
            file.write(f"{value}{code}\n" if bits == 1 else f"b{value & ((1 << bits) - 1):b} {code}\n")
        file.write(f"#{max(last + 1, timeline.to_ps)}\n")


def scope_name(channel: str) -> str:
    """``axon-in of core 3`` -> ``axon_in_of_core_3``: VCD names have no blanks."""
    return re.sub(r"\W+", "_", channel)


def _changes(timeline: Timeline, channel: int) -> Iterator[tuple[int, int, str, int]]:
    """(time, channel, signal, value) in order of time, the values at the beginning of the window first."""
    first, last = timeline.from_ps, timeline.to_ps
    times, rows = timeline.events.puts_into(channel)
    addresses = rows["address"]
    inside = (times >= first) & (times < last)
    before = addresses[times < first]
    taken = timeline.events.takes(channel)
    taken = taken[(taken >= first) & (taken < last)]
    times, addresses = times[inside], addresses[inside]
    puts = [(time, channel, "req", k % 2) for k, time in enumerate(times.tolist(), 1)]
    takes = [(time, channel, "ack", k % 2) for k, time in enumerate(taken.tolist(), 1)]
    depth = [(time, channel, "depth", items) for time, items in zip(*(column.tolist() for column in timeline.occupancy(channel)), strict=True)]
    address = [(time, channel, "address", a) for time, a in zip(times.tolist(), addresses.tolist(), strict=True)]
    start = [(first, channel, "req", 0), (first, channel, "ack", 0), (first, channel, "address", int(before[-1]) if len(before) else 0)]
    return iter(heapq.merge(start, depth, address, puts, takes, key=lambda change: change[0]))


def _code(k: int) -> str:
    """The k-th identifier of printable characters."""
    text = ""
    while True:
        k, digit = divmod(k, 94)
        text += chr(33 + digit)
        if not k:
            return text
        k -= 1
