"""The rest state of settle: it is where differences end in whatever order they come, it is the golden model's one step, and the audit knows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosim.compiler.audit.program import audit
from neurosim.compiler.emit import assemble, with_rest
from neurosim.errors import AuditError, DataError
from neurosim.golden import run_graph
from neurosim.graph import Graph, NeuronRule
from neurosim.host import build_host
from neurosim.program import REST, Program, load_program
from tests.compiler.graphs import chip_of, draw_graph
from tests.compiler.op_graphs import OPS, op_graph
from tests.compiler.settling import Settling, places

CHIP = chip_of(60, 1 << 16, 4, "link", 'sync=["settle","wavefront"]', "arithmetic.acc_bits=24")
MAPS = [["conv", "pool"], ["grouped", "mix", "sparse"], ["strided", "identity"], ["depthwise", "dense"], ["dilated", "sparse"]]


def _plain(graph: Graph) -> Graph:
    """Without delays, for one step."""
    return replace(graph, steps=1, projections=tuple(replace(p, delay=0) for p in graph.projections))


def _program(graph: Graph) -> Program:
    inputs = {
        "analog": {"kind": "image", "name": "image", "shape": [1, 4, 4], "dtype": "uint8"},
        "input": {"kind": "spikes", "name": graph.populations[0].name, "shape": list(graph.populations[0].shape), "most_events": 3},
    }
    first = graph.populations[0]
    contract = {**inputs[first.kind], "shape": list(first.shape)}
    if first.kind == "analog" and any(p.kind == "input" for p in graph.populations):
        contract = {}
    return assemble(graph, CHIP, "settle", host=build_host(graph), meta={"input": contract}, rest="none")


def _values(program: Program, name: str, of: str) -> np.ndarray:
    """Outputs or membranes of a population, assembled from the slices."""
    k = program.population_index(name)
    result = np.zeros(program.meta["populations"][k]["shape"], np.int64)
    start = np.cumsum(program.slice_cells) - program.slice_cells
    for q in np.flatnonzero(program.slice_population == k).tolist():
        first = int(program.neuron_ptr[q] if of == "rest_sent" else start[q])
        for value, at in zip(getattr(program, of)[first:].tolist(), places(program.slice_box[q].tolist()), strict=False):
            result[at] = value
    return result


GRAPHS = {
    **{f"drawn {k}": _plain(draw_graph(k, ops, steps=1, delays=False)) for k, ops in enumerate(MAPS)},
    **{name: _plain(op_graph(name, 1)) for name in OPS},
}


def _samples(graph: Graph, seed: int, n: int = 2) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    most = 2 if any(p.op is not None for p in graph.populations) else 4  # drawn graphs have room for counts
    return {
        p.name: draw.integers(0, 256, (n, *p.shape)) if p.kind == "analog" else draw.integers(0, most, (n, 1, *p.shape))
        for p in graph.populations
        if p.kind in ("analog", "input")
    }


@pytest.mark.parametrize("name", GRAPHS)
def test_differences_in_any_order_end_where_the_rest_state_of_the_sample_is(name: str) -> None:
    graph = GRAPHS[name]
    several = [replace(p, rule=_several(p.rule)) if p.op is None and p.kind == "spiking" else p for p in graph.populations]
    graph = graph.with_(populations=tuple(several))
    program = _program(graph)
    data = _samples(graph, 3)
    golden = run_graph(graph, data, CHIP, membranes=True)
    ports = {p.name: golden.spikes[p.name][0, 0] for p in graph.populations if p.name in golden.spikes}
    state = Settling(program, seed=1)
    _feed(program, graph, data, state, ports)
    state.settle()
    for population in graph.populations:
        if population.host or population.kind not in ("spiking", "readout"):
            continue
        k = program.population_index(population.name)
        for q in np.flatnonzero(program.slice_population == k).tolist():
            for at in state.places[q]:
                if population.kind == "spiking":
                    assert state.sent[q][at] == golden.spikes[population.name][0, 0][at], (population.name, at)
                else:
                    assert _score(population.rule, state.membrane(q, at)) == golden.membranes[population.name][0][at]
    if name in ("drawn 1", "drawn 4", "gate", "max_pool", "coincidence"):
        assert state.retracted > 0  # what is taken back is part of what is tested


def _score(rule: NeuronRule | None, v: int) -> int:
    return v if rule is None or rule.floor is None else max(v, int(np.min(rule.floor)))


def _several(rule: NeuronRule | None) -> NeuronRule:
    assert rule is not None
    return replace(rule, max_spikes=3, reset_by=None, v_init=np.full((1, 1, 1), 3))


def _feed(program: Program, graph: Graph, data: dict[str, np.ndarray], state: Settling, ports: dict[str, np.ndarray]) -> None:
    """Spikes and currents of sample 0, as the host makes them."""
    from neurosim.host import run_host

    names = [p.name for p in graph.populations]
    image = next((data[p.name][:1].astype(np.uint8) for p in graph.populations if p.kind == "analog"), None)
    currents = run_host(program, image)[0] if image is not None else {}
    for q in range(program.slices):
        if (name := names[program.slice_population[q]]) in currents:
            for at in state.places[q]:
                state.cells[q][at] += int(currents[name][0][at])
    for s in range(program.slices, program.control_source):
        for k, at in enumerate(state.places[s]):
            state.tell(s, at, int(ports[names[program.source_population[s]]][at]))
            if k == len(state.places[s]) // 2:
                state.settle()  # on half of the input, so that much has to be taken back


@pytest.mark.parametrize("name", GRAPHS)
def test_the_rest_state_is_one_golden_step_and_the_audit_derives_it_again(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]
    program = _program(graph)
    sources = [p for p in graph.populations if p.kind in ("analog", "input")]
    if len(sources) == 1 and program.meta["input"]:
        x = _samples(graph, 5, 1)[sources[0].name].astype(np.uint8)
        file = tmp_path / "reference.npz"
        np.savez(file, **{"images" if sources[0].kind == "analog" else "events": x})
        program = with_rest(program, graph, file)
        golden = run_graph(graph, x, CHIP)
        for population in graph.populations:
            if population.kind == "spiking" and not population.host:
                assert np.array_equal(_values(program, population.name, "rest_sent"), golden.spikes[population.name][0, 0])
        assert program.meta["rest"]["kind"] == "file"
    report = audit(program, graph)
    assert report.synapses == report.synapses_in_all
    program.save(tmp_path / "p.nsim")
    assert load_program(tmp_path / "p.nsim").digest() == program.digest()


def test_a_black_image_rests_where_the_host_section_puts_it() -> None:
    graph = GRAPHS["drawn 0"]
    black = with_rest(_program(graph), graph, "black")
    image = next(p for p in graph.populations if p.kind == "analog")
    if graph.populations[1].host:
        golden = run_graph(graph, np.zeros((1, *image.shape), np.uint8), CHIP)
        assert np.array_equal(_values(black, "p1", "rest_sent"), golden.spikes["p1"][0, 0])
    audit(black, graph)


def _off(name: str, k: int) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        array = getattr(program, name).copy()
        array[k] += 1
        return replace(program, **{name: array})

    return damage


DAMAGES: dict[str, Callable[[Program], Program]] = {
    **{f"{name} {k}": _off(name, k) for name in ("rest_v", "rest_sent", "rest_input") for k in (0, -1)},
    "rest_current": _off("rest_current", 3),
    "digest": lambda p: replace(p, meta={**p.meta, "rest": {"kind": "none", "digest": ""}}),
    "short": lambda p: replace(p, rest_v=p.rest_v[:-1]),
}


@pytest.mark.parametrize("name", ["drawn 1", "gate", "max_pool", "coincidence"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_the_audit_catches_a_wrong_rest_state(name: str, damage: Callable[[Program], Program]) -> None:
    program = _program(GRAPHS[name])
    with pytest.raises(AuditError, match=r"rest|digest"):
        audit(damage(program), GRAPHS[name])


def test_other_disciplines_have_no_rest_state() -> None:
    graph = GRAPHS["drawn 0"]
    program = assemble(graph, CHIP, "wavefront", host=build_host(graph))
    assert not any(len(getattr(program, name)) for name in REST)
    with pytest.raises(AuditError, match="sync wavefront has a rest state"):
        audit(replace(program, rest_sent=np.zeros(3, np.int64)), graph)


def test_a_reference_that_is_no_file_is_refused() -> None:
    graph = GRAPHS["gate"]
    with pytest.raises(DataError, match=r"rest 'grey' is neither black, none nor a data file"):
        with_rest(_program(graph), graph, "grey")
