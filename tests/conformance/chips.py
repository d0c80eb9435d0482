"""Chips drawn around ``tiny``: topologies, clusters, ports, FIFO depths, flow control, widths, timings from 1 ps up."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from neurosim.chip import Chip, load_chip
from tests.conformance.ops import OPS

TIMINGS = (
    "decode", "synop", "access", "update", "fire", "put", "send", "hop_east_west", "hop_north_south", "hop_local",
    "forward", "ack", "axon_forward", "axon_ack", "wire", "bank", "port", "readout", "reset",
)  # fmt: skip
ACYCLIC = ("mesh", "star", "tree")
"""Topologies on which the routing graph has no cycle, so that no stepped run can deadlock."""


@st.composite
def chips(draw: st.DrawFn, drops: bool = False, words: tuple[int, ...] = (24, 24, 48, 64)) -> Chip:
    """Any chip; the same one offers all disciplines. ``drops``: full channels may drop spikes. ``words``: widths of accumulators."""
    settings = draw(networks_on_chip(drops))
    unit = draw(st.sampled_from([1, 10, 1000]))
    settings |= {
        "sync": ["wavefront", "free", "barrier", "settle"],
        "memory.neurons": draw(st.sampled_from([256, 24, 8])),
        "memory.bytes": 65536,
        "memory.route_entries": 4096,
        "arithmetic.lanes": draw(st.integers(1, 4)),
        "arithmetic.state_bits": draw(st.sampled_from([16, 8, 5, 6, 24, 32, 48, 64])),
        "arithmetic.acc_bits": draw(st.sampled_from(words)),
        "arithmetic.rounding": draw(st.sampled_from(["floor", "zero", "nearest"])),
        "arithmetic.skip_zero_weights": draw(st.booleans()),
        "arithmetic.visit": draw(st.sampled_from(["all", "active"])),
        "arithmetic.spikes_per_update": draw(st.integers(1, 3)),
        "capabilities.max_delay": 12,
        "capabilities.banks": draw(st.integers(4, 16)),
        "capabilities.recurrence": True,
        "capabilities.neuron.current": True,
        "capabilities.neuron.max_spikes": 255,
        **{f"capabilities.ops.{name}": {} for name in ("sparse", *OPS)},
    }
    for name in TIMINGS:
        settings[f"timing.{name}"] = draw(st.integers(1, 9)) * unit
    if settings["noc.flow"] == "end_to_end":
        settings["timing.axon_ack"] = min(settings["timing.axon_ack"], settings["timing.wire"])
    if draw(st.booleans()):
        settings["timing.op_window"] = draw(st.integers(1, 200)) * unit
    settings["timing.leak"] = draw(st.integers(1, 200)) * unit
    settings["timing.settle"] = draw(st.sampled_from([0, 0, 0, 1, 7, 40])) * unit
    settings["timing.quiet"] = draw(st.integers(1, 20)) * unit
    settings["arithmetic.settle_order"] = draw(st.sampled_from(["input", "age"]))
    settings["timing.barrier"] = [
        {"tiles": 1, "duration": draw(st.integers(1, 40)) * unit},
        {"tiles": 3, "duration": draw(st.integers(1, 40)) * unit},
    ]
    for name in ("hop_chip", "chip_forward", "chip_ack"):
        settings[f"timing.{name}"] = draw(st.integers(1, 20)) * unit
    settings["prices.hop_chip"] = "7 pJ"
    return load_chip("tiny", [f"{key}={_toml(value)}" for key, value in settings.items()])


@st.composite
def networks_on_chip(draw: st.DrawFn, drops: bool) -> dict[str, Any]:
    """Settings of the network-on-chip and of the cores on it."""
    topology = draw(st.sampled_from(["mesh", "mesh", "torus", "ring", "star", "tree", "graph"]))
    settings: dict[str, Any] = {"noc.topology": topology}
    if topology in ("mesh", "torus"):
        width, height = draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (1, 4)]))
        routers = width * height
        if draw(st.integers(0, 3)) == 3:
            settings |= {"noc.chip_width": draw(st.integers(1, width)), "noc.chip_height": draw(st.integers(1, height))}
    else:
        routers = draw(st.integers(2, 7))
        width, height = routers, 1
        if topology == "graph":
            settings["noc.edges"] = draw(_edges(routers))
        if topology == "tree":
            settings["noc.arity"] = draw(st.integers(1, 3))
    cluster = draw(st.integers(1, 3)) if draw(st.booleans()) else 1
    cores = routers * cluster if draw(st.integers(0, 3)) < 3 else draw(st.integers(1, routers * cluster))
    ports = draw(st.lists(st.integers(0, routers - 1), min_size=1, max_size=3 if draw(st.booleans()) else 1))
    dead: list[int] = []
    if cores > 1 and draw(st.integers(0, 3)) == 3:
        dead = draw(st.lists(st.integers(0, cores - 1), max_size=cores - 1, unique=True))
    drops = drops and draw(st.integers(0, 2)) == 2
    settings |= {
        "noc.width": width,
        "noc.height": height,
        "noc.cores_per_router": cluster,
        "noc.ports": ports,
        "noc.fifo": draw(st.sampled_from([1, 1, 2, 3, 4])),
        "noc.axon_in": draw(st.sampled_from([1, 1, 2, 3, 4])),
        "noc.axon_out": draw(st.sampled_from([1, 1, 2, 3, 4])),
        "noc.flow": draw(st.sampled_from(["end_to_end", "link"])),
        "noc.window": draw(st.integers(1, 3)),
        "noc.multicast": "tree" if draw(st.integers(0, 2)) == 2 else "unicast",
        "noc.overflow": "drop" if drops and draw(st.integers(0, 3)) else "stall",
        "noc.axon_out_overflow": "drop" if drops and draw(st.booleans()) else "stall",
        "memory.cores": cores,
        "memory.dead_cores": sorted(dead),
    }
    return settings


@st.composite
def _edges(draw: st.DrawFn, routers: int) -> list[list[Any]]:
    """A connected graph: a tree over the routers and some more links, some of them between chips."""
    edges = {(draw(st.integers(0, k - 1)), k) for k in range(1, routers)}
    for _ in range(draw(st.integers(0, 3))):
        a, b = draw(st.integers(0, routers - 1)), draw(st.integers(0, routers - 1))
        if a != b:
            edges.add((min(a, b), max(a, b)))
    between = draw(st.booleans())
    return [[a, b, "chip"] if between and draw(st.booleans()) else [a, b] for a, b in sorted(edges)]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(_toml(v) for v in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    return str(value)
