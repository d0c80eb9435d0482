"""Servers, channels and next hops of a chip: the part of a Program that depends on the chip alone, but for the depth of axon-in.

The topology enters in one place, ``links``: the directed links of every router with their class. Next hops are computed by a function per topology;
XY on a mesh (first along x, then along y), which has an acyclic channel dependency graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT

I64 = NDArray[np.int64]
LOCAL, EAST_WEST, NORTH_SOUTH = range(3)
PORT, SYNAPSE, SOMA, SENDER, OUTPUT = range(5)


@dataclass(frozen=True)
class Fabric:
    """The fabric arrays of a Program, under the Program's names."""

    server_kind: I64
    server_owner: I64
    server_hop_ps: I64
    server_class: I64
    server_channel: I64
    channel: I64
    channel_drop: I64
    next_server: I64
    port_router: I64
    core_router: I64


def build_fabric(chip: Chip, sync: str, axon_in_depth: I64) -> Fabric:
    """The fabric of ``chip`` for a discipline; ``axon_in_depth`` [cores] is the depth of every core's axon-in."""
    cores, time = chip.memory.cores, chip.timing
    neighbours = links(chip)
    core_router = np.arange(cores, dtype=np.int64)
    port_router = np.array(chip.noc.ports, np.int64)
    local: list[list[int]] = [[] for _ in neighbours]
    for core, home in enumerate(core_router.tolist()):
        local[home].append(core)
    kind, owner, hop, group = [PORT], [0], [0], [-1]
    for core in range(cores):
        kind += [SYNAPSE, SOMA, SENDER]
        owner += [core] * 3
        hop += [0] * 3
        group += [-1] * 3
    to_core: dict[tuple[int, int], int] = {}
    to_router: dict[tuple[int, int], int] = {}
    hop_ps = (time.hop_local.value, time.hop_east_west.value, time.hop_north_south.value)
    for here, near in enumerate(neighbours):
        for core in local[here]:
            to_core[here, core] = len(kind)
            _append(kind, owner, hop, group, here, hop_ps[LOCAL], LOCAL)
        for other in sorted(near):
            to_router[here, other] = len(kind)
            _append(kind, owner, hop, group, here, hop_ps[near[other]], near[other])

    # inputs of a router: ports, local cores ascending, links by ascending source router
    ports = [[p for p in range(len(port_router)) if port_router[p] == r] for r in range(len(neighbours))]
    incoming = [sorted(other for other in range(len(neighbours)) if router in neighbours[other]) for router in range(len(neighbours))]
    channel: list[tuple[int, ...]] = []
    server_channel = np.full(len(kind), -1, np.int64)

    def add(what: int, writer: int, reader: int, number: int, depth: int, forward: int, ack: int) -> None:
        server_channel[writer] = len(channel)
        channel.append((what, writer, reader, number, depth, forward, ack))

    link = (time.forward.value, time.ack.value)
    axon = (time.axon_forward.value, time.axon_ack.value)
    for port, router in enumerate(port_router.tolist()):
        add(C_PORT, port, router, ports[router].index(port), chip.noc.fifo, *link)
    for core in range(cores):
        router = int(core_router[core])
        add(C_AXON_IN, to_core[router, core], core, 0, int(axon_in_depth[core]), *axon)
        add(C_AXON_OUT, 1 + 3 * core + (0 if sync == "free" else 1), core, 0, chip.noc.axon_out, *axon)
        add(C_INJECT, 3 + 3 * core, router, len(ports[router]) + local[router].index(core), chip.noc.fifo, *link)
    for (router, other), server in to_router.items():
        add(C_LINK, server, other, len(ports[other]) + len(local[other]) + incoming[other].index(router), chip.noc.fifo, *link)

    step = NEXT_HOP[chip.noc.topology](chip)
    next_server = np.zeros((len(neighbours), cores), np.int64)
    for router in range(len(neighbours)):
        for core in range(cores):
            goal = int(core_router[core])
            next_server[router, core] = to_core[router, core] if router == goal else to_router[router, int(step[router, goal])]
    return Fabric(
        server_kind=np.array(kind, np.int64),
        server_owner=np.array(owner, np.int64),
        server_hop_ps=np.array(hop, np.int64),
        server_class=np.array(group, np.int64),
        server_channel=server_channel,
        channel=np.array(channel, np.int64).reshape(-1, 7),
        channel_drop=np.array(
            [int((chip.noc.axon_out_overflow if row[0] == C_AXON_OUT else chip.noc.overflow) == "drop") for row in channel], np.int64
        ),
        next_server=next_server,
        port_router=port_router,
        core_router=core_router,
    )


def _append(kind: list[int], owner: list[int], hop: list[int], group: list[int], router: int, hop_ps: int, what: int) -> None:
    kind.append(OUTPUT)
    owner.append(router)
    hop.append(hop_ps)
    group.append(what)


def links(chip: Chip) -> list[Mapping[int, int]]:
    """For every router its neighbours: {router: class of the link}."""
    width, height = chip.noc.width, chip.noc.height
    result: list[Mapping[int, int]] = []
    for router in range(width * height):
        y, x = divmod(router, width)
        near: dict[int, int] = {}
        for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                near[(y + dy) * width + x + dx] = NORTH_SOUTH if dy else EAST_WEST
        result.append(near)
    return result


def _mesh_step(chip: Chip) -> I64:
    """[router, home] -> the neighbour to go to: along x until the column is right, then along y."""
    width, sites = chip.noc.width, chip.noc.width * chip.noc.height
    here, home = np.meshgrid(np.arange(sites), np.arange(sites), indexing="ij")
    dx = np.sign(home % width - here % width)
    dy = np.sign(home // width - here // width)
    step: I64 = np.where(dx != 0, here + dx, here + dy * width).astype(np.int64)
    return step


NEXT_HOP: dict[str, Callable[[Chip], I64]] = {"mesh": _mesh_step}
"""Per topology: chip -> [routers, routers] the neighbour on the way to a router (itself on the diagonal)."""


def hop_matrix(chip: Chip) -> I64:
    """[routers, routers]: links on the path that the routing takes."""
    step = NEXT_HOP[chip.noc.topology](chip)
    sites = len(step)
    home = np.broadcast_to(np.arange(sites), (sites, sites))
    here = np.broadcast_to(np.arange(sites)[:, None], (sites, sites)).copy()
    hops = np.zeros((sites, sites), np.int64)
    while (moving := here != home).any():
        hops += moving
        here = np.where(moving, step[here, home], here)
    return hops
