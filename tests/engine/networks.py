"""Small hand-made networks on hand-made chips, for tests whose timings are worked out on paper."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.geometry import whole
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.engine.deadlock import server_name
from neurosim.engine.events import ROW_PUT, ROW_SERVICE, SPIKE, TRACE_DTYPE, Engine, Result, Stimulus
from neurosim.engine.fast import run_fast
from neurosim.engine.reference import run_reference
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection
from neurosim.program import Program, is_stepped

# distinct figures, so that a test that confuses two of them fails
TIMES = {
    "decode": 10, "synop": 3, "access": 2, "update": 5, "fire": 7, "put": 4, "send": 6, "hop_east_west": 20, "hop_north_south": 90, "hop_local": 8,
    "forward": 1, "ack": 1, "axon_forward": 2, "axon_ack": 2, "wire": 9, "bank": 11, "port": 5, "readout": 100, "reset": 1, "leak": 50,
}  # fmt: skip


ENGINES: tuple[Engine, ...] = (run_reference, run_fast)
"""Both engines: what is worked out by hand holds for each."""


def rule(threshold: int = 5, **more: Any) -> NeuronRule:
    return NeuronRule(threshold=np.full((1, 1, 1), threshold), bias=np.full((1, 1, 1), more.pop("bias", 0)), **more)


def chain(
    sizes: list[int],
    weights: list[int],
    cores: list[int],
    sync: str = "wavefront",
    *,
    steps: int = 1,
    banks: int = 3,
    mesh: tuple[int, int] = (2, 1),
    rules: dict[int, NeuronRule] | None = None,
    delays: dict[int, int] | None = None,
    **chip: Any,
) -> Program:
    """Input, then dense layers of ``sizes[1:]`` with constant ``weights``, one slice each, on ``cores``; the last is a readout."""
    populations, projections = [Population("in", (sizes[0], 1, 1), "input")], []
    for k, (size, weight) in enumerate(zip(sizes[1:], weights, strict=True)):
        kind: Any = "readout" if k == len(weights) - 1 else "spiking"
        populations.append(Population(f"p{k}", (size, 1, 1), kind, (rules or {}).get(k, rule()), scale=np.ones(size)))
        projections.append(
            Projection(populations[-2].name, f"p{k}", Dense(np.full((size, sizes[k]), weight), (size, 1, 1)), (delays or {}).get(k, 0))
        )
    graph = Graph("chain", steps, tuple(populations), tuple(projections))
    return mapped(graph, cores, sync, banks=banks, mesh=mesh, **chip)


def mapped(
    graph: Graph, cores: list[int], sync: str, *, banks: int = 3, mesh: tuple[int, int] = (2, 1), ports: dict[str, int] | None = None, **chip: Any
) -> Program:
    """One slice per population on the chip, on ``cores``; ``ports``: input populations that enter through another port than 0."""
    settings = {
        "sync": '["free", "settle", "wavefront", "barrier"]',
        "timing.barrier": "[{tiles = 1, duration = 50}, {tiles = 2, duration = 60}]",
        "capabilities.recurrence": "true",
        "noc.width": mesh[0],
        "noc.height": mesh[1],
        "memory.cores": mesh[0] * mesh[1],
        "arithmetic.visit": '"all"',
        **{f"timing.{name}": value for name, value in TIMES.items()},
        **{name.replace("__", "."): value for name, value in chip.items()},
    }
    loaded = load_chip("tiny", [f"{name}={value}" for name, value in settings.items()])
    placed = [k for k, p in enumerate(graph.populations) if p.kind in ("spiking", "readout")]
    slices = tuple(Slice(k, whole(graph.populations[k].shape)) for k in placed)
    entering = tuple((k, whole(p.shape), (ports or {})[p.name]) for k, p in enumerate(graph.populations) if p.name in (ports or {}))
    return assemble(graph, loaded, sync, Mapping(slices, tuple(cores), (banks if is_stepped(sync) else 1,) * len(slices), entering))


def dense(source: str, target: str, weight: int, sizes: tuple[int, int] = (1, 1), delay: int = 0) -> Projection:
    """All ``sizes`` = (source, target) neurons joined by one weight."""
    return Projection(source, target, Dense(np.full(sizes[::-1], weight), (sizes[1], 1, 1)), delay)


def population(name: str, size: int = 1, kind: Any = "spiking", neurons: NeuronRule | None = None) -> Population:
    """``size`` channels of one pixel; spiking ones with ``rule()`` if no other is given."""
    return Population(name, (size, 1, 1), kind, None if kind in ("input", "analog") else neurons or rule(), scale=np.ones(size))


def spikes(program: Program, rows: list[tuple[int, int]]) -> Stimulus:
    """(step, address) spikes of the first input, due at 0."""
    table = np.array(rows, np.int64).reshape(-1, 2)
    n = len(table)
    return Stimulus(
        np.zeros(n, np.int64),
        table[:, 0].astype(np.int32),
        np.full(n, SPIKE, np.uint8),
        np.full(n, program.slices, np.int32),
        table[:, 1].astype(np.int32),
        np.ones(n, np.int64),
    )


def services(program: Program, result: Result, name: str) -> list[tuple[int, int]]:
    """(start, end) of the services of a server."""
    server = server_number(program, name)
    rows = result.trace[(result.trace["server"] == server) & (result.trace["kind"] == ROW_SERVICE)]
    assert rows["index"].tolist() == list(range(len(rows)))
    return list(zip(rows["time"].tolist(), rows["end"].tolist(), strict=True))


def server_number(program: Program, name: str) -> int:
    """The server of that name."""
    return next(v for v in range(len(program.server_kind)) if server_name(program, v) == name)


def puts(result: Result, server: int, kind: int = ROW_PUT) -> list[tuple[int, int, int]]:
    """(put, ready, blocked) of a server; with another ``kind`` its drops or losses."""
    rows = result.trace[(result.trace["server"] == server) & (result.trace["kind"] == kind)]
    return list(zip(rows["time"].tolist(), rows["end"].tolist(), rows["blocked"].tolist(), strict=True))


class Rows:
    """A sink that keeps what it is handed."""

    def __init__(self) -> None:
        self.chunks = [np.zeros(0, TRACE_DTYPE)]

    def write(self, rows: Any) -> None:
        self.chunks.append(rows.copy())

    @property
    def all(self) -> Any:
        return np.concatenate(self.chunks)
