"""Who waits for whom when nothing can move: the diagnosis that both engines call (docs/machine.md sections 9 and 11, deadlock).

An engine fills ``Stuck`` with plain numbers; ``diagnose`` names the cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from neurosim.errors import Deadlock
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT, R_BANKS, Program

PORT, SYNAPSE, SOMA, SENDER, OUTPUT = range(5)


@dataclass
class Stuck:
    """The state of a machine in which no decision is due and something is left to do."""

    time_ps: int
    """Latest start of a service or put."""
    sample: int
    """Number of the sample; 0 when streamed."""
    channels: dict[int, int] = field(default_factory=dict)
    """Blocked server -> the channel whose credit it lacks."""
    windows: dict[int, int] = field(default_factory=dict)
    """Blocked server -> destination core whose window credit it lacks, where the channel has a credit."""
    heads: dict[int, int] = field(default_factory=dict)
    """Router input channel with a packet in its queue -> the router output that its head needs."""
    next_step: dict[int, int] = field(default_factory=dict)
    """Slice with steps left -> its next (or blocked) global step; empty in ``free``."""
    port_step: int | None = None
    """Global step of the port's next (or blocked) packet; None when the port is empty."""


def server_name(program: Program, server: int) -> str:
    """``"port 0"``, ``"core 5 soma"``, ``"core 5"`` (in free), ``"router (2, 1) east"``, ``"router (2, 1) core 9"``; routers by column and row."""
    kind, owner = int(program.server_kind[server]), int(program.server_owner[server])
    if kind == PORT:
        return f"port {owner}"
    if kind == SYNAPSE:
        return f"core {owner}" if program.sync == "free" else f"core {owner} synapse"
    if kind in (SOMA, SENDER):
        return f"core {owner} {'soma' if kind == SOMA else 'sender'}"
    what, _, reader = (int(v) for v in program.channel[program.server_channel[server]][:3])
    towards = f"core {reader}" if what == C_AXON_IN else _direction(program, owner, reader)
    return f"{router_name(program, owner)} {towards}"


def router_name(program: Program, router: int) -> str:
    """``"router (2, 1)"``: column 2, row 1."""
    row, column = divmod(router, program.chip.noc.width)
    return f"router ({column}, {row})"


def _direction(program: Program, router: int, other: int) -> str:
    (row, column), (there_row, there_column) = divmod(router, program.chip.noc.width), divmod(other, program.chip.noc.width)
    return {(0, 1): "east", (0, -1): "west", (1, 0): "south", (-1, 0): "north"}[there_row - row, there_column - column]


def channel_name(program: Program, channel: int) -> str:
    """``"axon-in of core 5"``, ``"link router (0, 0) east"``, ``"input of router (0, 0) from core 0"`` and the like."""
    kind, writer, reader = (int(v) for v in program.channel[channel][:3])
    if kind == C_AXON_IN:
        return f"axon-in of core {reader}"
    if kind == C_AXON_OUT:
        return f"axon-out of core {reader}"
    if kind == C_LINK:
        return f"link {server_name(program, writer)}"
    assert kind in (C_PORT, C_INJECT)
    origin = f"{'port' if kind == C_PORT else 'core'} {int(program.server_owner[writer])}"
    return f"input of {router_name(program, reader)} from {origin}"


def diagnose(program: Program, stuck: Stuck) -> Deadlock:
    """The Deadlock to raise: its cycle alternates stations and what each of them waits for."""
    if stuck.channels or stuck.windows:
        steps, closed = _servers(program, stuck)
        deeper = "deepen noc.axon_out" if program.chip.noc.flow == "end_to_end" else "use noc.flow = end_to_end"
        remedy = f"{deeper}, or map the slices so that no core feeds itself over others"
    else:
        steps, closed = _markers(program, stuck)
        remedy = "give the slices more banks, or look for a source whose markers are not routed"
    chain = "; ".join(f"{who} waits for {what}" for who, what in steps)
    kind = "cycle" if closed else "chain"
    text = f"deadlock in sample {stuck.sample} at {stuck.time_ps} ps, {kind} of {len(steps)}: {chain}; {remedy}"
    return Deadlock(text, cycle=[name for step in steps for name in step], time_ps=stuck.time_ps, sample=stuck.sample)


def _servers(program: Program, stuck: Stuck) -> tuple[list[tuple[str, str]], bool]:
    """Follow the waits from the lowest-numbered blocked server until one comes again: that cycle, from its lowest-numbered server on."""
    seen: list[int] = []
    server: int | None = min([*stuck.channels, *stuck.windows])
    while server is not None and server not in seen and (server in stuck.channels or server in stuck.windows):
        seen.append(server)
        server = _waits_for(program, stuck, server)
    closed = server in seen
    if server is not None and closed:
        seen = seen[seen.index(server) :]
        low = seen.index(min(seen))
        seen = seen[low:] + seen[:low]
    return [(server_name(program, v), _wanted(program, stuck, v)) for v in seen], closed


def _waits_for(program: Program, stuck: Stuck, server: int) -> int | None:
    if server in stuck.windows:
        return 1 + 3 * stuck.windows[server]
    channel = stuck.channels[server]
    kind, _, reader = (int(v) for v in program.channel[channel][:3])
    if kind == C_AXON_IN:
        return 1 + 3 * reader
    if kind == C_AXON_OUT:
        return 3 + 3 * reader
    return stuck.heads.get(channel)


def _wanted(program: Program, stuck: Stuck, server: int) -> str:
    if server in stuck.windows:
        return f"a window credit of core {stuck.windows[server]}"
    return channel_name(program, stuck.channels[server])


def _markers(program: Program, stuck: Stuck) -> tuple[list[tuple[str, str]], bool]:
    """No server is blocked: follow missing markers and ends of steps from the lowest slice (then the port, as -1) with steps left."""
    waits: dict[int, tuple[int | None, str]] = {}  # in the order of the walk
    here: int | None = min(stuck.next_step, default=-1)
    while here is not None and here not in waits:
        waits[here] = _wait_of_slice(program, stuck, here) if here >= 0 else _wait_for_ends(program, stuck, -1, stuck.port_step)
        here = waits[here][0]
    walk = list(waits)
    if here is not None:
        walk = walk[walk.index(here) :]
        low = walk.index(min(walk))
        walk = walk[low:] + walk[:low]
    return [(_slice_name(stuck, q), waits[q][1]) for q in walk], here is not None


def _slice_name(stuck: Stuck, q: int) -> str:
    return "port 0" if q < 0 else f"slice {q} (step {stuck.next_step[q]})"


def _wait_of_slice(program: Program, stuck: Stuck, q: int) -> tuple[int | None, str]:
    """The first missing marker of a slice's next step, else the first downstream step that has not ended."""
    g = stuck.next_step[q]
    for source, target, delay in program.sync_pair.tolist():
        if target != q or g % program.steps < delay:
            continue
        wanted = f"the marker of source {source}, step {g - delay}"
        if source >= program.slices and stuck.port_step is not None and stuck.port_step <= g - delay:
            return -1, wanted
        if source < program.slices and stuck.next_step.get(source, g + 1) <= g - delay:
            return source, wanted
    return _wait_for_ends(program, stuck, q, g)


def _wait_for_ends(program: Program, stuck: Stuck, p: int, g: int | None) -> tuple[int | None, str]:
    """The first downstream slice whose bank for step ``g`` of slice ``p`` (-1: the port) is not free yet."""
    for source, q, delay in program.sync_pair.tolist():
        if g is None:
            break
        needed = g + delay - int(program.slice_rule[q, R_BANKS])
        if (source == p or (p < 0 and source >= program.slices)) and stuck.next_step.get(q, needed + 1) <= needed:
            return q, f"the end of step {needed} of slice {q}"
    return None, "nothing that is known"
