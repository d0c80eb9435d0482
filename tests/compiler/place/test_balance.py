"""Barrier Programs: offsets and chip delays worked out on paper, refusals, and Programs damaged in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from neurosim.chip import Chip
from neurosim.compiler.audit.program import audit
from neurosim.compiler.check.refuse import refuse
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.balance import offsets
from neurosim.compiler.place.placement import map_graph
from neurosim.errors import AuditError, UnsupportedLayer
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection, SumPool
from neurosim.program import R_BANKS, Program
from tests.compiler.graphs import chip_of


def barrier_chip(*more: str) -> Chip:
    return chip_of(
        8, 1 << 16, 4, "end_to_end", 'sync=["barrier","wavefront","free"]', "timing.barrier=[{tiles=1,duration=1000},{tiles=3,duration=2000}]",
        "capabilities.recurrence=true", *more,
    )  # fmt: skip


def joined(*arcs: tuple[str, str, int], image: str | None = None) -> Graph:
    """Populations of 4 neurons in order of appearance; ``in`` is the input, ``out`` the readout; ``image``: population that gets host currents."""
    rule = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
    names = list(dict.fromkeys(name for arc in arcs for name in arc[:2]))
    kinds = {"in": "input", "out": "readout"}
    populations = [Population(name, (4, 1, 1), kinds.get(name, "spiking"), None if name == "in" else rule) for name in names]  # type: ignore[arg-type]
    order = {name: k for k, name in enumerate(names)}
    projections = [Projection(s, t, Dense(np.eye(4, dtype=np.int64), (4, 1, 1)), delay=d) for s, t, d in arcs]
    if image is not None:
        populations.insert(0, Population("image", (4, 1, 1), "analog"))
        projections.append(Projection("image", image, SumPool(np.ones(4, np.int64))))
    graph = Graph("joined", 2, tuple(populations), tuple(sorted(projections, key=lambda p: order[p.target])))
    graph.verify()
    return graph


@pytest.mark.parametrize(
    ("graph", "wanted"),
    [
        (joined(("in", "a", 0), ("a", "b", 0), ("b", "out", 0)), {"a": 1, "b": 2, "out": 3}),
        (joined(("in", "a", 1), ("a", "b", 1), ("b", "a", 1), ("b", "out", 1)), {"a": 0, "b": 0, "out": 0}),
        (joined(("in", "a", 0), ("a", "b", 0), ("b", "out", 0), ("a", "out", 0)), {"a": 1, "b": 2, "out": 3}),
        (joined(("in", "a", 0), ("a", "b", 0), ("b", "a", 2), ("b", "out", 3)), {"a": 1, "b": 2, "out": 0}),
        (joined(("in", "a", 2), ("a", "b", 2), ("b", "out", 1), image="b"), {"a": 0, "b": 1, "out": 1}),
    ],
)
def test_least_offsets(graph: Graph, wanted: dict[str, int]) -> None:
    assert offsets(graph) == wanted


def test_banks_hold_the_chip_delay_and_slices_share_the_offset() -> None:
    graph = joined(("in", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "out", 0), ("a", "out", 0), image="c")
    chip = barrier_chip("memory.neurons=2")
    program = assemble(graph, chip, "barrier")
    assert audit(program, graph).synapses == 5 * 16
    assert program.slice_offset.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert program.slice_rule[:, R_BANKS].tolist() == [2, 2, 2, 2, 4, 4, 4, 4]  # D: currents of c 3 - 0 - 1, a -> out 4 - 1 - 1
    assert not len(program.sync_pair)
    control = slice(*program.route_ptr[program.control_source : program.control_source + 2].tolist())
    assert set(program.route_core[control]) == set(program.slice_core[4:6])  # currents need a way, markers do not exist
    assert program.barrier_ps == 2000
    assert program.meta["barrier"] == {"offsets": {"a": 1, "b": 2, "c": 3, "out": 4}, "latency_steps": 4}


def test_what_a_barrier_cannot_hold_is_refused() -> None:
    loop = joined(("in", "a", 0), ("a", "b", 0), ("b", "a", 1), ("b", "out", 0))
    for call in (lambda: refuse(loop, barrier_chip(), "barrier"), lambda: assemble(loop, barrier_chip(), "barrier")):
        with pytest.raises(UnsupportedLayer, match=r"cycle b -> a -> b has 1 steps of delay over 2 hops.*value 1, limit 2.*wavefront"):
            call()
    assert not refuse(loop, barrier_chip(), "wavefront")
    skip = joined(("in", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "out", 0), ("in", "out", 0))
    with pytest.raises(UnsupportedLayer, match=r"in -> out needs a chip delay of 3 steps.*value 3, limit 2; use sync wavefront"):
        refuse(skip, barrier_chip(), "barrier")
    with pytest.raises(UnsupportedLayer, match=r"chip delay of 3 steps needs 5 accumulation banks.*value 5, limit 4"):
        map_graph(skip, barrier_chip("capabilities.max_delay=3", "capabilities.banks=4"), "barrier")
    long = joined(("in", "a", 3), ("a", "out", 3))
    assert not refuse(long, barrier_chip(), "barrier")  # each hop takes one of the three steps
    with pytest.raises(UnsupportedLayer, match=r"fewer steps in sync wavefront \(in -> a\).*value 3, limit 2"):
        refuse(long, barrier_chip(), "wavefront")
    with pytest.raises(UnsupportedLayer, match=r"has no recurrence, the network has the cycle a -> b -> a"):
        refuse(loop, barrier_chip("capabilities.recurrence=false"), "wavefront")
    assert any("a -> b -> a" in note and "window" in note for note in refuse(loop, barrier_chip(), "free"))


GRAPH = joined(("in", "a", 0), ("a", "b", 0), ("b", "a", 2), ("b", "out", 1), ("in", "out", 1))
CHIP = barrier_chip("capabilities.max_delay=4")
LEAST = map_graph(GRAPH, CHIP, "barrier").mapping
BARRIER = assemble(GRAPH, CHIP, "barrier", replace(LEAST, banks=tuple(count + 1 for count in LEAST.banks)))
WAVEFRONT = assemble(GRAPH, barrier_chip(), "wavefront")


def _changed(program: Program, name: str, at: int, by: int) -> Program:
    array = getattr(program, name).copy()
    array[at] += by
    return replace(program, **{name: array})


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (lambda: _changed(BARRIER, "slice_offset", 0, -1), "chip delay of -1"),
        (lambda: _changed(BARRIER, "slice_offset", 2, 1), "population out has offset 3, a smaller one would do"),
        (lambda: replace(BARRIER, slice_offset=BARRIER.slice_offset + 1), "a smaller one would do"),
        (lambda: replace(BARRIER, slice_offset=BARRIER.slice_offset[:-1]), "array slice_offset has 2 rows, not 3"),
        (
            lambda: assemble(GRAPH, CHIP, "barrier", replace(LEAST, banks=(*LEAST.banks[:-1], LEAST.banks[-1] - 1))),
            r"slice 2 has 3 banks, the chip delay of 2",
        ),
        (lambda: _changed(WAVEFRONT, "slice_offset", 1, 1), "slice 1 has offset 1 in sync wavefront"),
        (lambda: _changed(BARRIER, "source_port", 3, 1), "sources have ports"),
        (lambda: _changed(BARRIER, "source_port", 0, 1), "sources have ports"),
    ],
)
def test_audit_catches(damaged: Callable[[], Program], message: str) -> None:
    program = damaged()
    with pytest.raises(AuditError, match=message):
        audit(program, GRAPH)


def test_recurrent_programs_pass_the_audit_in_every_discipline() -> None:
    for sync in ("free", "wavefront", "barrier"):
        program = assemble(GRAPH, barrier_chip(), sync)
        assert audit(program, GRAPH).synapses == 5 * 16
