"""Extra ops cut in any way: the audit passes, and the reference engine computes what the golden model does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurosim.compiler.audit.program import audit
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.compiler.place.partition import boxes_of
from neurosim.compiler.place.regions import head_size
from neurosim.engine.events import Options
from neurosim.engine.reference import run_reference
from neurosim.golden import run_graph
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection, Sparse, pass_rule
from neurosim.host import encode
from neurosim.ops import Coincidence, Gate, MaxPool, Op, OrPool, Shape, pooled
from tests.compiler.graphs import chip_of

SEEDS = range(12)


def _op(draw: np.random.Generator, which: int) -> tuple[Op, Shape]:
    """One op of each kind in turn, with a shape for its population."""

    def pick(*values: int) -> int:
        return int(draw.choice(values))

    if which == 0:
        return OrPool(), (pick(2, 3), pick(2, 5), pick(3, 4))
    if which == 1:
        shape = (pick(2, 4), pick(3, 6), pick(4, 6))
        groups = (pick(1, 2), pick(1, 3), pick(1, 2, shape[2]))
        return Gate(groups, count=pick(1, 2, 3), inverted=bool(draw.random() < 0.4), latched=bool(draw.random() < 0.5)), shape
    if which == 2:
        kernel, stride = (pick(1, 2, 3), pick(2, 3)), (pick(1, 2, 3), pick(1, 2))
        padding = (pick(0, kernel[0] // 2), pick(0, kernel[1] // 2))
        source = (pick(1, 3), pick(4, 6), pick(5, 7))
        return MaxPool(source, kernel, stride, padding), pooled(source, kernel, stride, padding)
    heads, d = pick(1, 2, 3), pick(1, 2, 3)
    return Coincidence(heads, shift=pick(0, 2)), (heads * d, pick(1, 2), pick(2, 3))


def _graph(seed: int) -> Graph:
    """Input -> a layer with several spikes per step -> the op, every operand by a map of its own, some delayed -> readout."""
    draw = np.random.default_rng(seed)
    op, shape = _op(draw, seed % 4)
    counts = op.name in ("or_pool", "gate")
    rule = NeuronRule(np.full((1, 1, 1), 3), np.zeros((1, 1, 1), np.int64), decay=2048, reset="subtract", max_spikes=3)
    layer = Population("layer", (2, 4, 4), "spiking", rule)
    populations = (
        Population("in", (2, 4, 4), "input"), layer,
        Population("op", shape, "spiking", pass_rule(int(draw.integers(1, 4))) if counts else rule, op=op), Population("out", (2, 1, 1), "readout"),
    )  # fmt: skip
    projections = [Projection("in", "layer", Conv2d(draw.integers(-1, 4, (2, 2, 3, 3)), padding=(1, 1)))]
    for operand, cells in {"": shape, **op.operands(shape)}.items():
        low = 0 if counts or operand in ("k", "v", "q") else -2
        size = int(np.prod(cells))
        if draw.random() < 0.5:
            links = draw.integers(1, 4, 32)
            total = int(links.sum())
            linear = Sparse(np.concatenate([[0], np.cumsum(links)]), draw.integers(0, size, total), draw.integers(low, 3, total), cells)
        else:
            linear = Dense(draw.integers(low, 3, (size, 32)) * (draw.random((size, 32)) < 0.3), cells)
        projections.append(Projection("layer", "op", linear, delay=int(draw.integers(0, 2)), operand=operand))
    projections.append(Projection("op", "out", Dense(draw.integers(-5, 6, (2, int(np.prod(shape)))), (2, 1, 1))))
    graph = Graph("drawn", 3, populations, tuple(projections))
    graph.verify()
    return graph


def _mapping(graph: Graph, seed: int) -> Mapping:
    """Every population cut at random, slices dealt to four cores at random."""
    draw = np.random.default_rng(seed)
    slices = []
    for k, population in enumerate(graph.populations[1:], start=1):
        whole_pixels = isinstance(population.op, Coincidence)
        most = (population.shape[0] // head_size(population), *((1, 1) if whole_pixels else population.shape[1:]))
        grid = (int(draw.integers(1, most[0] + 1)), int(draw.integers(1, most[1] + 1)), int(draw.integers(1, most[2] + 1)))
        slices += [Slice(k, box) for box in boxes_of(population, grid)]
    return Mapping(tuple(slices), tuple(draw.integers(0, 4, len(slices)).tolist()), (3,) * len(slices))


@pytest.mark.parametrize("seed", SEEDS)
def test_any_cut_computes_the_same(seed: int) -> None:
    graph, chip = _graph(seed), chip_of(4096, 1 << 18, 2, "end_to_end", "arithmetic.lanes=3")
    program = assemble(graph, chip, "wavefront", _mapping(graph, seed))
    audit(program, graph)
    audit(assemble(graph, chip, "free", replace(_mapping(graph, seed), banks=(1,) * program.slices)), graph)
    program = replace(program, meta={**program.meta, "input": {"kind": "spikes", "name": "in", "shape": [2, 4, 4]}})
    events = np.random.default_rng(seed).random((1, 3, 2, 4, 4)) < 0.4
    result = run_reference(program, encode(program, events), Options(spikes=True))
    golden = run_graph(graph, events, chip)
    np.testing.assert_array_equal(result.scores, golden.scores)
    op = np.flatnonzero(program.slice_population == 2)
    fired = result.spikes[np.isin(result.spikes["slice"], op)]
    assert fired["value"].sum() == golden.spikes["op"].sum()


def test_the_draws_reach_every_op_and_spikes_of_several() -> None:
    graphs = [_graph(seed) for seed in SEEDS]
    events = np.random.default_rng(1).random((2, 3, 2, 4, 4)) < 0.4
    values = {graph.population("op").op.name: set() for graph in graphs}  # type: ignore[union-attr]
    for graph in graphs:
        op = graph.population("op").op
        assert op is not None
        values[op.name] |= set(np.unique(run_graph(graph, events, chip_of()).spikes["op"]).tolist())
    assert len(values) == 4
    assert all(max(found) > 1 for found in values.values())
