"""How many events of an input neuron per step fit: the compiler's figure is the greatest that the audit lets pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurosim.compiler.audit.program import audit
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.quantize.headroom import most_events
from neurosim.errors import AuditError
from neurosim.graph import Graph
from tests.compiler.graphs import chip_of, draw_graph
from tests.compiler.op_graphs import OPS, op_graph


def fed_directly(name: str) -> Graph:
    """``op_graph`` whose op listens to inputs instead of layers, but for its own neurons' second input and one delayed window."""
    graph = op_graph(name)
    layers = [p for p in graph.populations if p.name in "abc"]
    inputs = {layer.name: replace(layer, kind="input", rule=None) for layer in layers}
    populations = tuple(inputs.get(p.name, p) for p in graph.populations if p.name != "in")
    if name == "coincidence":  # q from neurons, so that the bound has a square, not a cube
        populations = tuple(replace(p, kind="spiking", rule=layers[2].rule) if p.name == "c" else p for p in populations)
    return replace(graph, populations=populations, projections=tuple(p for p in graph.projections if p.source != "in"))


@pytest.mark.parametrize(("name", "bits"), [(name, bits) for name in OPS for bits in ((10,) if name == "gate" else (10, 14))])
def test_the_greatest_that_fits(name: str, bits: int) -> None:
    graph, chip = fed_directly(name), chip_of(64, 1 << 16, 5, "link", f"arithmetic.acc_bits={bits}")
    most = most_events(graph, chip)
    assert 1 < most < 255
    program = assemble(graph, chip, "wavefront")
    audit(replace(program, meta={**program.meta, "input": {"most_events": most}}), graph)
    with pytest.raises(AuditError, match="population op can reach"):
        audit(replace(program, meta={**program.meta, "input": {"most_events": most + 1}}), graph)


@pytest.mark.parametrize("seed", range(6))
def test_drawn_graphs(seed: int) -> None:
    graph = draw_graph(seed, ["conv", "pool"])
    populations = tuple(p for p in graph.populations if p.kind != "analog")
    populations = tuple(replace(p, kind="input", rule=None, host=False) if p.name == "p0" else p for p in populations)
    graph = replace(graph, populations=populations, projections=tuple(p for p in graph.projections if p.source != "image"))
    chip = chip_of(4096, 1 << 20, 4, "link", "arithmetic.acc_bits=13")
    most = most_events(graph, chip)
    program = assemble(graph, chip, "wavefront")
    audit(replace(program, meta={**program.meta, "input": {"most_events": most}}), graph)
    if most < 255:
        with pytest.raises(AuditError, match="can reach"):
            audit(replace(program, meta={**program.meta, "input": {"most_events": most + 1}}), graph)
