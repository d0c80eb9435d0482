"""One input population through several ports: the same events, the same spikes, shared out by box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurosim.chip import load_chip
from neurosim.compiler.audit.program import audit
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.engine.run import simulate_stimuli
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection
from neurosim.host import encode
from neurosim.trace.names import server_names

SHAPE = (2, 4, 3)
DRAW = np.random.default_rng(4)
GRAPH = Graph(
    "ports",
    3,
    (
        Population("in", SHAPE, "input"),
        Population("a", (5, 1, 1), "spiking", NeuronRule(np.full((1, 1, 1), 6), np.zeros((1, 1, 1), np.int64))),
        Population("out", (2, 1, 1), "readout"),
    ),
    (
        Projection("in", "a", Dense(DRAW.integers(-3, 6, (5, 24)), (5, 1, 1))),
        Projection("a", "out", Dense(DRAW.integers(-3, 6, (2, 5)), (2, 1, 1))),
    ),
)
MAPPING = Mapping((Slice(1, (0, 3, 0, 1, 0, 1)), Slice(1, (3, 5, 0, 1, 0, 1)), Slice(2, (0, 2, 0, 1, 0, 1))), (0, 3, 1), (3, 3, 3))
BOXES = ((0, 2, 0, 1, 0, 3), (0, 1, 1, 4, 0, 3), (1, 2, 1, 4, 0, 2), (1, 2, 1, 4, 2, 3))
META = {"input": {"kind": "spikes", "name": "in", "shape": list(SHAPE)}}


def test_events_go_to_the_source_whose_box_has_them() -> None:
    chip = load_chip("tiny", ["noc.ports=[0, 3, 1]"])
    one = assemble(GRAPH, chip, "wavefront", MAPPING, meta=META)
    several = assemble(GRAPH, chip, "wavefront", replace(MAPPING, ports=tuple((0, box, (2, 0, 1, 2)[k]) for k, box in enumerate(BOXES))), meta=META)
    audit(several, GRAPH)
    assert several.source_port.tolist() == [-1, -1, -1, 2, 0, 1, 2, 0]
    data = (DRAW.random((2, 3, *SHAPE)) < 0.4).astype(np.uint8)
    stimuli = encode(several, data)
    for sample, stimulus in enumerate(stimuli):
        again = np.zeros(data.shape[1:], np.uint8)
        for step, source, address in zip(stimulus.step, stimulus.slice, stimulus.address, strict=True):
            c0, c1, y0, _, x0, x1 = several.source_box[source].tolist()
            pixel, c = divmod(int(address), c1 - c0)
            y, x = divmod(pixel, x1 - x0)
            again[step, c + c0, y + y0, x + x0] += 1
        assert np.array_equal(again, data[sample])
        order = np.lexsort((stimulus.address, stimulus.slice, stimulus.step))
        assert np.array_equal(order, np.arange(len(order)))
    runs = [simulate_stimuli(p, encode(p, data), engine="reference", state=True) for p in (one, several)]
    assert np.array_equal(runs[0].scores, runs[1].scores)
    assert np.array_equal(runs[0].state_v, runs[1].state_v)
    assert runs[0].core["fires"].sum() > 0
    used = [run.server["services"][:3] > 0 for run in runs]
    assert (used[0].tolist(), used[1].tolist()) == ([True, False, False], [True, True, True])
    assert server_names(several)[:4] == ["port 0", "port 1", "port 2", "core 0 synapse"]
