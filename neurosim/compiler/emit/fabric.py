"""Servers, channels and next hops of a chip: the part of a Program that depends on the chip alone, but for the depth of axon-in.

What joins the routers and where a packet goes next is the topology's business (topology.py); the numbering of servers, inputs and outputs is that of
docs/machine.md section 11.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.compiler.place import BETWEEN_CHIPS, LOCAL, links, next_hops
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT, is_stepped

I64 = NDArray[np.int64]
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
    next_server: NDArray[np.int32]
    port_router: I64
    core_router: I64


def build_fabric(chip: Chip, sync: str, axon_in_depth: I64) -> Fabric:
    """The fabric of ``chip`` for a discipline; ``axon_in_depth`` [cores] is the depth of every core's axon-in."""
    noc, cores = chip.noc, chip.memory.cores
    neighbours = links(chip)
    core_router = np.arange(cores, dtype=np.int64) // noc.cores_per_router
    port_router = np.array(noc.ports, np.int64)
    local = _by_router(core_router, len(neighbours))
    ports = _by_router(port_router, len(neighbours))
    rows, to_core, to_router = _servers(chip, neighbours, local)
    kind, owner, hop, group = np.array(rows, np.int64).T

    channel: list[tuple[int, ...]] = []
    server_channel = np.full(len(rows), -1, np.int64)

    def add(what: int, writer: int, reader: int, number: int, depth: int, latency: tuple[int, int]) -> None:
        server_channel[writer] = len(channel)
        channel.append((what, writer, reader, number, depth, *latency))

    time = chip.timing
    link, axon = (time.forward.value, time.ack.value), (time.axon_forward.value, time.axon_ack.value)
    pads = (time.port_forward.value if time.port_forward else time.forward.value, time.ack.value)
    between = (time.chip_forward.value, time.chip_ack.value) if time.chip_forward and time.chip_ack else link
    # inputs of a router: ports, local cores ascending, links by ascending source router
    for port, router in enumerate(port_router.tolist()):
        add(C_PORT, port, router, ports[router].index(port), noc.fifo, pads)
    for core, router in enumerate(core_router.tolist()):
        first = len(port_router) + 3 * core
        add(C_AXON_IN, to_core[core], core, 0, int(axon_in_depth[core]), axon)
        add(C_AXON_OUT, first + (1 if is_stepped(sync) else 0), core, 0, noc.axon_out, axon)
        add(C_INJECT, first + 2, router, len(ports[router]) + local[router].index(core), noc.fifo, link)
    taken = [len(ports[router]) + len(local[router]) for router in range(len(neighbours))]
    for (router, other), server in to_router.items():  # ascending by router, so that the inputs of ``other`` are too
        add(C_LINK, server, other, taken[other], noc.fifo, between if neighbours[router][other] == BETWEEN_CHIPS else link)
        taken[other] += 1

    return Fabric(
        server_kind=kind,
        server_owner=owner,
        server_hop_ps=hop,
        server_class=group,
        server_channel=server_channel,
        channel=np.array(channel, np.int64).reshape(-1, 7),
        channel_drop=np.array([int((noc.axon_out_overflow if row[0] == C_AXON_OUT else noc.overflow) == "drop") for row in channel], np.int64),
        next_server=_next_servers(chip, neighbours, core_router, to_core, to_router),
        port_router=port_router,
        core_router=core_router,
    )


def _by_router(router: I64, routers: int) -> list[list[int]]:
    """Numbers of the things that sit on every router, ascending."""
    found: list[list[int]] = [[] for _ in range(routers)]
    for number, home in enumerate(router.tolist()):
        found[home].append(number)
    return found


def _servers(
    chip: Chip, neighbours: list[dict[int, int]], local: list[list[int]]
) -> tuple[list[tuple[int, int, int, int]], list[int], dict[tuple[int, int], int]]:
    """Rows (kind, owner, t_hop, class) of all servers, the output into every core, the output over every link."""
    cores, time = chip.memory.cores, chip.timing
    hop_chip = time.hop_chip.value if time.hop_chip else 0  # a chip without the figure has no link that needs it
    hop_ps = (time.hop_local.value, time.hop_east_west.value, time.hop_north_south.value, hop_chip)
    rows = [(PORT, port, 0, -1) for port in range(len(chip.noc.ports))]
    rows += [(kind, core, 0, -1) for core in range(cores) for kind in (SYNAPSE, SOMA, SENDER)]
    to_core, to_router = [0] * cores, {}
    for here, near in enumerate(neighbours):
        for core in local[here]:
            to_core[core] = len(rows)
            rows.append((OUTPUT, here, hop_ps[LOCAL], LOCAL))
        for other, group in near.items():
            to_router[here, other] = len(rows)
            rows.append((OUTPUT, here, hop_ps[group], group))
    return rows, to_core, to_router


def _next_servers(
    chip: Chip, neighbours: list[dict[int, int]], core_router: I64, to_core: list[int], to_router: dict[tuple[int, int], int]
) -> NDArray[np.int32]:
    """[routers, cores] the router output that leads to a core."""
    step = next_hops(chip)
    result = np.zeros((len(neighbours), len(core_router)), np.int32)
    output = np.zeros(len(neighbours), np.int32)
    for router, near in enumerate(neighbours):
        for other in near:
            output[other] = to_router[router, other]
        result[router] = output[step[router, core_router]]
    result[core_router, np.arange(len(core_router))] = to_core
    return result
