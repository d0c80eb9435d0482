"""Differences between engines that drawn cases found, each in its smallest form."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.engine.compare import first_difference
from neurosim.engine.events import SPIKE, Options, Stimulus
from neurosim.engine.fast import run_fast
from neurosim.engine.reference import run_reference
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection
from tests.engine.networks import chain, spikes


def test_a_slice_far_ahead_of_its_upstream_in_a_streamed_run() -> None:
    # worked out by hand in tests/engine/test_machine.py
    program = chain([1, 42, 18], [5, 1], [0, 1], steps=2, delays={1: 2})
    stimuli, options = [spikes(program, [])] * 3, Options(streamed=True, record=True)
    assert first_difference(run_reference(program, stimuli, options), run_fast(program, stimuli, options)) is None


@pytest.mark.parametrize("sync", ["free", "wavefront", "barrier"])
@pytest.mark.parametrize("multicast", ["unicast", "tree"])
def test_the_window_credit_of_a_lost_spike_overtakes_that_of_one_still_on_its_way(sync: str, multicast: str) -> None:
    # three links to the core: a spike lost on the first gives its credit back long before the one put before it is taken
    program = chain([8, 9, 2], [3, 1], [3, 1], sync, mesh=(4, 1), noc__flow='"end_to_end"', noc__window=2, noc__multicast=f'"{multicast}"')
    stimuli = [spikes(program, [(0, k) for k in range(8)])]
    for seed in range(6):
        options = Options(link_loss=2**31, seed=seed, record=True, state=True)
        runs = [run(program, stimuli, options) for run in (run_reference, run_fast)]
        assert runs[0].channel["losses"].sum() > 0
        assert first_difference(*runs) is None


def test_a_head_behind_a_private_one_competes_in_the_same_decision() -> None:
    # found by a drawn case on a ring: within one decision of router 1 the head for the shared link goes, then the one behind it for an output that no
    # other input uses, then a third for core 3; it was its turn before the packet that comes from router 2 at the same instant
    timing = {
        "decode": 8, "synop": 6, "access": 2, "update": 7, "fire": 8, "put": 1, "send": 2, "hop_east_west": 6, "hop_local": 3, "forward": 2, "ack": 1,
        "axon_forward": 4, "axon_ack": 5, "wire": 7, "bank": 4, "port": 2,
    }  # fmt: skip
    rule = NeuronRule(np.ones((1, 1, 1), np.int64), np.zeros((1, 1, 1), np.int64))
    names = ("near", "other", "far", "back")
    populations = (Population("in", (3, 1, 1), "input"), *(Population(name, (2, 1, 1), "spiking", rule) for name in names))
    pairs = [("in", name) for name in names] + [("near", "far"), ("back", "other")]
    ones = {source: Dense(np.ones((2, 3 if source == "in" else 2), np.int64), (2, 1, 1)) for source, _ in pairs}
    graph = Graph("pinned", 2, populations, tuple(Projection(a, b, ones[a]) for a, b in pairs))
    settings = ["noc.width=3", "noc.height=1", "noc.cores_per_router=2", "memory.cores=6", "noc.fifo=4"]
    chip = load_chip("tiny", settings + [f"timing.{name}={ps}" for name, ps in timing.items()])
    mapping = Mapping(tuple(Slice(k, (0, 2, 0, 1, 0, 1)) for k in range(1, 5)), (2, 3, 4, 5), (3,) * 4)
    program = assemble(graph, chip, "wavefront", mapping)
    step, address = np.nonzero(np.ones((2, 3)))
    count = len(step)
    stimulus = Stimulus(
        np.zeros(count, np.int64), step.astype(np.int32), np.full(count, SPIKE, np.uint8), np.full(count, program.slices, np.int32),
        address.astype(np.int32), np.ones(count, np.int64),
    )  # fmt: skip
    options = Options(record=True)
    difference = first_difference(run_reference(program, [stimulus], options), run_fast(program, [stimulus], options))
    assert difference is None, difference
