"""Audit: servers, channels and next hops are a consistent network with the chip's timing, and every route leads to its core."""

from __future__ import annotations

import numpy as np

from neurosim.errors import AuditError
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT, Program

PORT, SYNAPSE, SOMA, SENDER, OUTPUT = range(5)


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_fabric(program: Program) -> None:
    """Raise AuditError for the first server, channel or route that is wrong."""
    _check_servers(program)
    _check_channels(program)
    _check_next_hops(program)
    _check_routes(program)


def _check_servers(program: Program) -> None:
    cores, routers = program.cores, len(program.next_server)
    kinds, owners = program.server_kind.tolist(), program.server_owner.tolist()
    ports = len(program.port_router)
    head = [(PORT, p) for p in range(ports)] + [(kind, c) for c in range(cores) for kind in (SYNAPSE, SOMA, SENDER)]
    if list(zip(kinds, owners, strict=True))[: len(head)] != head or any(kind != OUTPUT for kind in kinds[len(head) :]):
        _fail("servers are not numbered ports, then synapse, soma and sender of every core, then router outputs")
    if cores != program.chip.memory.cores or routers != program.chip.noc.width * program.chip.noc.height:
        _fail(f"the Program has {cores} cores and {routers} routers, the chip {program.chip.memory.cores} and its mesh")
    time = program.chip.timing
    hops = (time.hop_local.value, time.hop_east_west.value, time.hop_north_south.value)
    for v in range(len(kinds)):
        wanted = hops[int(program.server_class[v])] if kinds[v] == OUTPUT else 0
        if program.server_hop_ps[v] != wanted:
            _fail(f"server {v} has t_hop {program.server_hop_ps[v]} ps, the chip says {wanted}")


def _check_channels(program: Program) -> None:
    noc, time = program.chip.noc, program.chip.timing
    link, axon = (time.forward.value, time.ack.value), (time.axon_forward.value, time.axon_ack.value)
    inputs: set[tuple[bool, int, int]] = set()
    for k, (kind, writer, reader, number, depth, forward, ack) in enumerate(program.channel.tolist()):
        if program.server_channel[writer] != k:
            _fail(f"channel {k} is written by server {writer}, which writes channel {program.server_channel[writer]}")
        end = (kind in (C_AXON_IN, C_AXON_OUT), reader, number if kind not in (C_AXON_IN, C_AXON_OUT) else kind)
        if end in inputs:
            _fail(f"channel {k} shares input {number} of its reader {reader} with another channel")
        inputs.add(end)
        if (forward, ack) != (axon if kind in (C_AXON_IN, C_AXON_OUT) else link):
            _fail(f"channel {k} has forward {forward} ps and ack {ack} ps, not those of the chip")
        wanted = _window_depth(program, reader) if kind == C_AXON_IN else noc.axon_out if kind == C_AXON_OUT else noc.fifo
        if depth != wanted:
            _fail(f"channel {k} has depth {depth}, not {wanted}")
        what, owner = int(program.server_kind[writer]), int(program.server_owner[writer])
        if not _leads(program, kind, writer, reader):
            _fail(f"channel {k} of kind {kind} leads from server {writer} (kind {what} of {owner}) to {reader}")
    written = np.flatnonzero(program.server_channel >= 0)
    idle = SOMA if program.sync == "free" else SYNAPSE
    if len(written) != len(program.channel) or np.any((program.server_channel < 0) != (program.server_kind == idle)):
        _fail("a server that puts has no channel, or one that does not has one")


def _leads(program: Program, kind: int, writer: int, reader: int) -> bool:
    """Whether a channel of this kind may lead from the server to the reader (a core, or a router)."""
    what, owner = int(program.server_kind[writer]), int(program.server_owner[writer])
    if kind == C_PORT:
        return what == PORT and bool(reader == program.port_router[owner])
    if kind == C_AXON_IN:
        return what == OUTPUT and bool(program.core_router[reader] == owner and program.server_class[writer] == 0)
    if kind == C_AXON_OUT:
        return what == (SYNAPSE if program.sync == "free" else SOMA) and owner == reader
    if kind == C_INJECT:
        return what == SENDER and bool(reader == program.core_router[owner])
    return kind == C_LINK and what == OUTPUT and reader == _neighbour(program, owner, int(program.server_class[writer]), reader)


def _window_depth(program: Program, core: int) -> int:
    """Depth of axon-in: one window per core and port with a route to the core."""
    noc = program.chip.noc
    if noc.flow == "link":
        return int(noc.axon_in)
    owner = np.repeat(np.arange(len(program.source_population)), np.diff(program.route_ptr))[program.route_core == core]
    senders = {int(program.slice_core[s]) if s < program.slices else -1 for s in owner}
    return max(1, int(noc.window) * len(senders))


def _neighbour(program: Program, router: int, group: int, claimed: int) -> int:
    """``claimed`` if it is next to the router in the direction of its class, else -1."""
    width = program.chip.noc.width
    distance = abs(claimed % width - router % width), abs(claimed // width - router // width)
    return claimed if distance == ((1, 0) if group == 1 else (0, 1)) else -1


def _check_next_hops(program: Program) -> None:
    """Every router leads to every core by XY: along x until the column is right, then along y, then into the core."""
    width, axon = program.chip.noc.width, (C_AXON_IN, C_AXON_OUT)
    for router, outputs in enumerate(program.next_server.tolist()):
        y, x = divmod(router, width)
        for core, server in enumerate(outputs):
            if not 0 <= server < len(program.server_kind) or program.server_kind[server] != OUTPUT or program.server_owner[server] != router:
                _fail(f"the next hop at router {router} to core {core} is server {server}, not one of its outputs")
            kind, _, reader, *_ = program.channel[program.server_channel[server]].tolist()
            goal_y, goal_x = divmod(int(program.core_router[core]), width)
            if (goal_y, goal_x) == (y, x):
                wanted = (True, core)
            elif goal_x != x:
                wanted = (False, router + (1 if goal_x > x else -1))
            else:
                wanted = (False, router + (width if goal_y > y else -width))
            if (kind in axon, reader) != wanted:
                _fail(f"the next hop at router {router} to core {core} leads to {'core' if kind in axon else 'router'} {reader}, XY says {wanted[1]}")


def _check_routes(program: Program) -> None:
    """Walk from the source's router over next_server and the channels until a local output; it must be the core's axon-in."""
    routers = len(program.next_server)
    for s in range(len(program.source_population)):
        start = program.core_router[program.slice_core[s]] if s < program.slices else program.port_router[0]
        for r in range(int(program.route_ptr[s]), int(program.route_ptr[s + 1])):
            core, router = int(program.route_core[r]), int(start)
            for _ in range(routers + 1):
                server = int(program.next_server[router, core])
                kind, _, reader, *_ = program.channel[program.server_channel[server]].tolist()
                if kind == C_AXON_IN:
                    if reader != core:
                        _fail(f"route {r} of source {s} to core {core} ends at core {reader}")
                    break
                router = reader
            else:
                _fail(f"route {r} of source {s} to core {core} does not arrive")
