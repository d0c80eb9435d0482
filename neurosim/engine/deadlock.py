"""Who waits for whom when nothing can move: the diagnosis that both engines call (docs/machine.md sections 9 and 11, deadlock).

An engine fills ``Stuck`` with plain numbers; ``diagnose`` names the cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from neurosim.errors import Deadlock
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT, R_BANKS, Program

PORT, SYNAPSE, SOMA, SENDER, OUTPUT = range(5)
GRIDS = ("mesh", "torus")
"""Topologies whose routers have a column and a row."""

MOST_NAMED = 12
"""Members of a cycle that the message names."""


@dataclass
class Stuck:
    """The state of a machine in which no decision is due and something is left to do. Filled alike for all disciplines, topologies and trees."""

    time_ps: int
    """Latest start of a service or put (a drop or loss counts as a put)."""
    sample: int
    """Number of the sample; 0 when streamed."""
    channels: dict[int, int] = field(default_factory=dict)
    """Blocked server -> the channel whose credit it lacks."""
    windows: dict[int, int] = field(default_factory=dict)
    """Blocked server -> destination core whose window credit it lacks, where the channel has a credit; of several cores of a tree the lowest."""
    heads: dict[int, int] = field(default_factory=dict)
    """Router input channel with a packet in its queue -> the router output that its head needs; of a tree the lowest whose copy has not begun."""
    next_step: dict[int, int] = field(default_factory=dict)
    """Wavefront: slice with steps left -> its next (or blocked) global step. Used only where no server is blocked, so ``free`` and ``barrier``, in
    which a server always is, may leave it empty."""
    port_steps: dict[int, int] = field(default_factory=dict)
    """Port that is not empty -> global step of its next (or blocked) packet."""


def server_name(program: Program, server: int) -> str:
    """``"port 0"``, ``"core 5 soma"``, ``"core 5"`` (in free and settle), ``"router (2, 1) east"``, ``"router (2, 1) core 9"``,
    ``"router 3 to router 7"``."""
    kind, owner = int(program.server_kind[server]), int(program.server_owner[server])
    if kind == PORT:
        return f"port {owner}"
    if kind == SYNAPSE:
        return f"core {owner}" if not program.stepped else f"core {owner} synapse"
    if kind in (SOMA, SENDER):
        return f"core {owner} {'soma' if kind == SOMA else 'sender'}"
    return f"{router_name(program, owner)} {_towards(program, server)}"


def router_name(program: Program, router: int) -> str:
    """``"router (2, 1)"``, column 2 and row 1, on a mesh or torus; ``"router 7"`` elsewhere."""
    if program.chip.noc.topology not in GRIDS:
        return f"router {router}"
    row, column = divmod(router, program.chip.noc.width)
    return f"router ({column}, {row})"


def _towards(program: Program, server: int) -> str:
    """Where a router output leads: a core, on a mesh or torus a direction (a link round the torus goes the way it was numbered), else a router."""
    owner = int(program.server_owner[server])
    what, _, other = (int(v) for v in program.channel[program.server_channel[server]][:3])
    if what == C_AXON_IN:
        return f"core {other}"
    if program.chip.noc.topology not in GRIDS:
        return f"to {router_name(program, other)}"
    width, height = program.chip.noc.width, program.chip.noc.height
    (row, column), (there_row, there_column) = divmod(owner, width), divmod(other, width)
    return _step(column, there_column, width, "east", "west") if row == there_row else _step(row, there_row, height, "south", "north")


def _step(here: int, there: int, size: int, up: str, down: str) -> str:
    """``up`` for one place on, also from the last to the first of more than two; else ``down``."""
    round_trip = size > 2 and abs(there - here) == size - 1
    return up if (there > here) != round_trip else down


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
        if program.sync == "free":
            deeper = "deepen noc.axon_out" if program.chip.noc.flow == "end_to_end" else "use noc.flow = end_to_end"
            remedy = f"{deeper}, or map the slices so that no core feeds itself over others"
        else:
            remedy = "deepen noc.fifo, or use routes that close no cycle of links (mesh, star, tree)"
    else:
        steps, closed = _markers(program, stuck)
        remedy = "give the slices more banks, or look for a source whose markers are not routed"
    words = [f"{who} waits for {what}" for who, what in steps]
    if len(words) > MOST_NAMED:  # the error's ``cycle`` has them all
        words[MOST_NAMED - 1 : -1] = [f"... {len(words) - MOST_NAMED} more ..."]
    chain = "; ".join(words)
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
        return program.ports + 3 * stuck.windows[server]
    channel = stuck.channels[server]
    kind, _, reader = (int(v) for v in program.channel[channel][:3])
    if kind == C_AXON_IN:
        return program.ports + 3 * reader
    if kind == C_AXON_OUT:
        return program.ports + 3 * reader + 2
    return stuck.heads.get(channel)


def _wanted(program: Program, stuck: Stuck, server: int) -> str:
    if server in stuck.windows:
        return f"a window credit of core {stuck.windows[server]}"
    return channel_name(program, stuck.channels[server])


def _markers(program: Program, stuck: Stuck) -> tuple[list[tuple[str, str]], bool]:
    """No server is blocked: follow missing markers and ends of steps from the lowest slice (without one: port) with steps left.

    On the walk slices have their numbers and port p of P is p - P, so that ports come first as their servers do.
    """
    waits: dict[int, tuple[int | None, str]] = {}  # in the order of the walk
    ports = {p - program.ports: step for p, step in stuck.port_steps.items()}
    here: int | None = min(stuck.next_step, default=min(ports, default=-program.ports))
    while here is not None and here not in waits:
        waits[here] = _wait_of_slice(program, stuck, here) if here >= 0 else _wait_for_ends(program, stuck, here, ports.get(here))
        here = waits[here][0]
    walk = list(waits)
    if here is not None:
        walk = walk[walk.index(here) :]
        low = walk.index(min(walk))
        walk = walk[low:] + walk[:low]
    return [(_walker_name(program, stuck, q), waits[q][1]) for q in walk], here is not None


def _walker_name(program: Program, stuck: Stuck, q: int) -> str:
    return f"port {q + program.ports}" if q < 0 else f"slice {q} (step {stuck.next_step[q]})"


def _walker(program: Program, source: int) -> int:
    """The slice, or the port as p - P, that sends a source's markers."""
    return source if source < program.slices else int(program.source_port[source]) - program.ports


def _wait_of_slice(program: Program, stuck: Stuck, q: int) -> tuple[int | None, str]:
    """The first missing marker of a slice's next step, else the first downstream step that has not ended."""
    g = stuck.next_step[q]
    for source, target, delay in program.sync_pair.tolist():
        if target != q or g % program.steps < delay:
            continue
        sender = _walker(program, source)
        step = stuck.next_step.get(sender, g + 1) if sender >= 0 else stuck.port_steps.get(sender + program.ports, g + 1)
        if step <= g - delay:
            return sender, f"the marker of source {source}, step {g - delay}"
    return _wait_for_ends(program, stuck, q, g)


def _wait_for_ends(program: Program, stuck: Stuck, p: int, g: int | None) -> tuple[int | None, str]:
    """The first downstream slice whose bank for step ``g`` of slice or port ``p`` is not free yet."""
    for source, q, delay in program.sync_pair.tolist():
        if g is None:
            break
        needed = g + delay - int(program.slice_rule[q, R_BANKS])
        if _walker(program, source) == p and stuck.next_step.get(q, needed + 1) <= needed:
            return q, f"the end of step {needed} of slice {q}"
    return None, "nothing that is known"
