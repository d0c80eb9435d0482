"""The lists of routes name, neuron by neuron, the routes whose box and entries take it; neurons of one source with the same routes share a list."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from neurosim.compiler.emit.assemble import assemble
from neurosim.engine.fast.tables import columns as c
from neurosim.engine.fast.tables.wiring import lists
from neurosim.graph import Graph, NeuronRule, Population, Projection
from tests.compiler.graphs import chip_of, draw_map


@pytest.mark.parametrize("op", ["conv", "sparse"])
def test_every_neuron_has_the_routes_that_take_it(op: str) -> None:
    rule = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
    linear = draw_map(np.random.default_rng(3), op, (4, 6, 6))
    target = Population("out", linear.out_shape((4, 6, 6)), "spiking", rule)
    graph = Graph("one", 1, (Population("in", (4, 6, 6), "input"), target), (Projection("in", "out", linear),))
    program = assemble(graph, chip_of(max(1, target.size // 20), side=6), "wavefront")
    sources = np.full((len(program.source_box), c.O_COLUMNS), -1, np.int64)
    pointers, table = lists(program, sources)
    source = program.slices  # the input
    first, end = program.route_ptr[source : source + 2].tolist()
    assert end - first > 8
    assert sources[source, c.O_LIST] >= 0
    assert sources[-1, c.O_LIST] == -1  # markers alone
    carried = [program.carried(source, r) for r in range(first, end)]
    starts = set()
    for address, (y, x, channel) in enumerate(product(range(6), range(6), range(4))):
        at = pointers[sources[source, c.O_LIST] + address]
        starts.add(int(at))
        wanted = []
        for r in range(first, end):
            c0, c1, y0, y1, x0, x1 = program.route_box[r].tolist()
            takes = carried[r - first]
            if c0 <= channel < c1 and y0 <= y < y1 and x0 <= x < x1 and (takes is None or takes[address]):
                wanted.append(r)
        assert table[at + 1 : at + 1 + table[at]].tolist() == wanted
    if op == "conv":
        assert len(starts) < 144
