"""Readable names of servers and neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurosim.engine.events import DUE, ITEM_NAMES, MARKER, STEP
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_LINK, C_PORT, Program

PORT, SYNAPSE, SOMA, SENDER, ROUTER = range(5)  # values of Program.server_kind


def server_names(program: Program) -> list[str]:
    """One name per server: ``port 0``, ``core 3 synapse`` (in free and settle ``core 3``), ``core 3 soma``, ``core 3 sender``,
    ``router 3 to router 4``, ``router 3 to core 3``. Several ports and several cores per router are numbered on."""
    first = " synapse" if program.stepped else ""
    stations = {SYNAPSE: first, SOMA: " soma", SENDER: " sender"}
    names = []
    for v, (kind, owner) in enumerate(zip(program.server_kind.tolist(), program.server_owner.tolist(), strict=True)):
        if kind == PORT:
            names.append(f"port {owner}")
        elif kind == ROUTER:
            side = "core" if program.server_class[v] == 0 else "router"
            names.append(f"router {owner} to {side} {link_reader(program, v)}")
        else:
            names.append(f"core {owner}{stations[kind]}")
    return names


def channel_names(program: Program) -> list[str]:
    """One name per channel: ``axon-in of core 3``, ``axon-out of core 3``, ``input of router 3 from core 2`` (or a port, or a router)."""
    names = []
    for kind, writer, reader in program.channel[:, :3].tolist():
        if kind in (C_AXON_IN, C_AXON_OUT):
            names.append(f"axon-{'in' if kind == C_AXON_IN else 'out'} of core {reader}")
        else:
            origin = {C_PORT: "port", C_LINK: "router"}.get(kind, "core")
            names.append(f"input of router {reader} from {origin} {int(program.server_owner[writer])}")
    return names


def population_names(program: Program) -> list[str]:
    """One name per population, with its extra op where it has one: ``attn.lif (coincidence)``."""
    return [f"{p['name']} ({p['op']})" if p.get("op") else str(p["name"]) for p in program.meta["populations"]]


def link_reader(program: Program, server: int) -> int:
    """The router (or, for a local output, the core) that reads what this router output puts."""
    return int(program.channel[program.server_channel[server], 2])


def link_class(program: Program, server: int) -> str:
    """``local``, ``east-west`` or ``north-south`` (mesh, torus), ``link`` (topologies without axes), ``between chips``: what a router output is."""
    axes = program.chip.noc.topology in ("mesh", "torus")
    return ("local", "east-west" if axes else "link", "north-south", "between chips")[int(program.server_class[server])]


def neuron_name(box: Sequence[int], address: int) -> str:
    """Population coordinates ``(c, y, x)`` of a local index in a box; empty for items without a neuron."""
    if address < 0:
        return ""
    c0, c1, y0, _, x0, x1 = box
    pixel, c = divmod(address, c1 - c0)
    y, x = divmod(pixel, x1 - x0)
    return f"({c + c0}, {y + y0}, {x + x0})"


def module_place(program: Program, source: int, address: int) -> str:
    """``[0, 1, 3]``: where in its module's own tensor, and so in ``Run.spikes``, a neuron lies; empty where that has the order (c, y, x)."""
    population = int(program.source_population[source])
    order = program.module_orders.get(population)
    if address < 0 or order is None or not order.permutes:
        return ""
    c0, c1, y0, _, x0, x1 = program.source_box[source].tolist()
    pixel, c = divmod(address, c1 - c0)
    y, x = divmod(pixel, x1 - x0)
    _, height, width = program.meta["populations"][population]["shape"]
    return str(list(order.position(((c + c0) * height + y + y0) * width + x + x0)))


def full_name(program: Program, source: int, address: int) -> str:
    """``(3, 1, 0)``, with its place in the module's tensor where that has another order: ``(3, 1, 0) = [1, 0, 3]``."""
    return " = ".join(part for part in (neuron_name(program.source_box[source].tolist(), address), module_place(program, source, address)) if part)


def item_name(program: Program, row: Any) -> str:
    """``spike of mid.lif (3, 1, 0)``, ``marker of mid.lif, step 2``, ``step 2 of mid.lif``: what a service is about."""
    item, source, step = int(row.item), int(row.slice), int(row.step)
    if source < 0:
        return ITEM_NAMES[item]
    population = int(program.source_population[source])
    name = str(program.meta["populations"][population]["name"]) if population >= 0 else "the host"
    if item == STEP:
        return f"step {step} of {name}"
    if item == DUE:  # what it says, or that it had nothing to say any more
        return f"due {name} {neuron_name(program.source_box[source].tolist(), int(row.address))}"
    if item == MARKER:
        return f"marker of {name}, step {step}"
    return f"{ITEM_NAMES[item]} of {name} {full_name(program, source, int(row.address))}"
