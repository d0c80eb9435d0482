"""Stations, servers, channels and routers of a Program in the records of ``columns.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.fast.tables import columns as c
from neurosim.engine.fast.tables.queue import clear, make
from neurosim.errors import RunError
from neurosim.program import C_AXON_IN, C_AXON_OUT, Program

A = NDArray[Any]


def records(count: int, kind: np.dtype[Any]) -> A:
    """Zeros, the first at the start of a cache line: a record of 64 bytes then never lies in two."""
    size = count * kind.itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(kind)


@dataclass
class Fabric:
    """Tables of the network by name, see ``columns.py``."""

    st: A
    cal: A
    buckets: A
    sv: A
    ch: A
    cw: A
    slot: A
    rin: A
    mask: A
    ns: A
    rr: A
    figures: A


def router_inputs(program: Program) -> tuple[A, A]:
    """Numbers (in the Program) of the channels that routers read, by (router, input), and the router of each."""
    kind, _, reader, number = program.channel.T[:4]
    found = np.flatnonzero((kind != C_AXON_IN) & (kind != C_AXON_OUT))
    found = found[np.lexsort((number[found], reader[found]))]
    return found, reader[found]


def mask_words(program: Program) -> int:
    """Words of 64 bits that hold one bit per input of any router."""
    _, reader = router_inputs(program)
    return (int(np.bincount(reader, minlength=1).max(initial=1)) + 63) // 64


def latency(program: Program) -> int:
    """The least time after which a decision acts elsewhere, ps: a channel's forward or acknowledge, or a wire."""
    time = program.chip.timing
    return min(int(program.channel[:, 5:7].min()), time.wire.value, time.bank.value)


def build_fabric(program: Program, free: bool) -> Fabric:
    """The network of ``program``; ``clear_fabric`` must follow."""
    ports, routers = program.ports, len(program.next_server)
    router0 = ports + 3 * program.cores
    servers = len(program.server_kind)
    numbers = np.arange(servers)
    sv = records(servers, c.SERVER)
    sv["station"] = np.where(numbers < router0, numbers, router0 + program.server_owner)
    sv["owner"] = program.server_owner
    st, cal, buckets = make(router0 + 2 * routers, latency(program))
    st["kind"] = c.ROUTER
    st["kind"][router0 + routers :] = c.EXPRESS
    st["kind"][:ports] = c.PORT
    for k, station in enumerate((c.CORE, c.SOMA, c.SENDER)):
        st["kind"][ports + k : router0 : 3] = station
    if free:  # the order of services decides when the argmax changed
        read = program.slice_core[program.slice_rule[:, 4] != 0]
        st["ordered"][ports + 3 * read] = 1
    kind, writer, reader, _, depth, forward, ack = program.channel.T
    ch = records(servers, c.CHANNEL)
    ch["reader"][writer] = np.select([kind == C_AXON_IN, kind == C_AXON_OUT], [ports + 3 * reader, ports + 3 * reader + 2], router0 + reader)
    ch["depth"][writer] = depth
    ch["base"] = np.cumsum(ch["depth"]) - ch["depth"]
    figures, row = np.unique(np.stack([program.server_hop_ps[writer], forward, ack], axis=1), axis=0, return_inverse=True)
    if len(figures) > 255:
        raise RunError(f"{len(figures)} different (hop, forward, ack) on one chip; the fast engine knows at most 255, use the reference engine")
    ch["figures"][writer] = row.ravel()
    ch["bit"] = -1
    cw = np.zeros((servers, c.C_COLUMNS), np.int64)
    cw[writer, c.C_KIND], cw[writer, c.C_DROP] = kind, program.channel_drop
    inputs, owner = router_inputs(program)
    inputs = writer[inputs]
    rr = records(routers, c.ROUTE)
    rr["first"] = np.searchsorted(owner, np.arange(routers), "left")
    ch["bit"][inputs] = np.arange(len(inputs)) - rr["first"][owner]
    rin = np.append(inputs, 0).astype(np.int32)
    outputs = program.server_owner[router0:]
    rr["out"] = router0 + np.searchsorted(outputs, np.arange(routers), "left")
    rr["out_end"] = router0 + np.searchsorted(outputs, np.arange(routers), "right")
    most = int((rr["out_end"] - rr["out"]).max())
    local = np.where(program.next_server < 0, 0, program.next_server - rr["out"][:, None])
    ns = local.astype(np.int8 if most < 128 else np.int16).ravel()  # one byte where it does: the table is read at random for every packet-hop
    words = mask_words(program)
    return Fabric(st, cal, buckets, sv, ch, cw, records(int(depth.sum()), c.SLOT), rin, np.zeros(routers * words, np.uint64), ns, rr, figures.ravel())


def clear_fabric(st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, rr: A) -> None:
    """Empty channels, idle servers, nobody awake."""
    clear(st, cal, buckets)
    for field in ("end", "start", "services", "busy", "blocked", "puts", "held", "missed", "open", "waited", "synops", "last_put"):
        sv[field] = 0
    for field in ("used", "waiting", "high", "end", "services"):
        ch[field] = 0
    ch["head"] = ch["base"]
    ch["arrive"], ch["taken"] = c.INF, -1
    cw[:, [c.C_DROPS, c.C_LOSSES]] = 0
    slot["time"], slot["left"] = 0, -1
    rr["open"] = rr["mask"] = rr["held"] = 0
