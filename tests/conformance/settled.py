"""Cases of the discipline settle: graphs of one step, references to rest at, and what the one-step golden model says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from neurosim.compiler.emit.rest import with_reference
from neurosim.engine.events import CURRENT, SPIKE, Options, Result, Stimulus
from neurosim.golden.settled import Settled, settle_graph
from neurosim.graph import Graph
from neurosim.program import Program

I64 = np.int64


def of_one_step(graph: Graph) -> Graph:
    """What the compiler lets through: one step, no delays, no synaptic currents; decays and floors stay, though they mean nothing."""
    populations = tuple(p if p.rule is None else replace(p, rule=replace(p.rule, decay_current=None)) for p in graph.populations)
    return replace(graph, steps=1, populations=populations, projections=tuple(replace(p, delay=0) for p in graph.projections))


@st.composite
def at_rest(draw: st.DrawFn, graph: Graph, program: Program) -> Program:
    """The Program with the settled state of a drawn reference: nothing, or any values of inputs and host currents."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.0, 0.3, 0.8]))
    fed = draw(st.booleans())
    spikes = {p.name: rng.integers(1, 4, p.shape) * (rng.random(p.shape) < density) for p in graph.populations if p.kind == "input"}
    targets = [p for p in graph.populations if p.kind in ("spiking", "readout")]
    currents = {p.name: rng.integers(-3, 6, p.shape) * (rng.random(p.shape) < density) for p in targets if fed and rng.random() < 0.5}
    return with_reference(program, graph, currents, spikes)


def inputs_of(program: Program, graph: Graph, stimuli: list[Stimulus]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(spikes by input population, currents by target) [n, c, y, x] that stimuli add up to."""
    names = [p.name for p in graph.populations]
    spikes = {p.name: np.zeros((len(stimuli), *p.shape), I64) for p in graph.populations if p.kind == "input"}
    currents = {p.name: np.zeros((len(stimuli), *p.shape), I64) for p in graph.populations if p.kind in ("spiking", "readout")}
    for n, s in enumerate(stimuli):
        for item, owner, address, value in zip(s.item.tolist(), s.slice.tolist(), s.address.tolist(), s.value.tolist(), strict=True):
            assert item in (SPIKE, CURRENT)
            table, population = (spikes, program.source_population[owner]) if item == SPIKE else (currents, program.slice_population[owner])
            box = program.source_box[owner]
            table[names[population]][(n, *_place(box, address))] += value
    return spikes, currents


def _place(box: Any, address: int) -> tuple[int, int, int]:
    c0, c1, y0, _, x0, x1 = (int(v) for v in box)
    pixel, c = divmod(address, c1 - c0)
    y, x = divmod(pixel, x1 - x0)
    return c + c0, y + y0, x + x0


def golden(program: Program, graph: Graph, stimuli: list[Stimulus]) -> Settled:
    """The settled state of every sample."""
    spikes, currents = inputs_of(program, graph, stimuli)
    return settle_graph(graph, program.chip, spikes, currents)


def by_slice(program: Program, graph: Graph, tables: dict[str, Any], n: int) -> Any:
    """[neurons] in Program order of [n, c, y, x] by population, for sample n."""
    parts = [np.zeros(0, I64)]
    for q in range(program.slices):
        c0, c1, y0, y1, x0, x1 = program.slice_box[q].tolist()
        whole = tables[graph.populations[program.slice_population[q]].name][n]
        parts.append(whole[c0:c1, y0:y1, x0:x1].transpose(1, 2, 0).ravel())
    return np.concatenate(parts)


def read_scores(program: Program, graph: Graph, state: Settled, n: int) -> Any:
    """[classes] what the host reads of sample n: the membranes of the readout, those of its parts added up."""
    high = 2 ** (program.chip.arithmetic.state_bits - 1)
    parts = []
    for p in graph.populations:
        if p.kind == "readout":
            floor = -high if p.rule is None or p.rule.floor is None else p.rule.floor
            parts.append(np.maximum(np.clip(state.membranes[p.name][n], -high, high - 1), floor).ravel())
    return sum(parts, np.zeros(parts[0].size if parts else 0, I64))


def sums_of(program: Program, result: Result, n: int, first: int, streamed: bool) -> Any:
    """[neurons] rest outputs and the differences of sample n (streamed: up to it) added up."""
    total = program.rest_sent.copy()
    rows = result.spikes[(result.spikes["sample"] <= first + n) if streamed else (result.spikes["sample"] == first + n)]
    np.add.at(total, program.neuron_ptr[rows["slice"]] + rows["address"], rows["value"])
    return total


def assert_settles(graph: Graph, program: Program, stimuli: list[Stimulus], options: Options, result: Result) -> None:
    """Property 1: at quiescence outputs, membranes and scores of every sample are those of the one-step model."""
    state = golden(program, graph, stimuli)
    low, high = -(2 ** (program.chip.arithmetic.state_bits - 1)), 2 ** (program.chip.arithmetic.state_bits - 1) - 1
    saturated = 0
    for n in range(len(stimuli)):
        sent, v = by_slice(program, graph, state.outputs, n), by_slice(program, graph, state.membranes, n)
        assert np.array_equal(sums_of(program, result, n, options.first_sample, options.streamed), sent)
        assert np.array_equal(result.scores[n], read_scores(program, graph, state, n))
        assert result.sample["spikes"][n] == np.count_nonzero(sent) == result.slice_spikes[n].sum()
        assert result.sample["cut"][n] == result.sample["unsettled"][n] == 0
        saturated += np.count_nonzero((v < low) | (v > high))
        if options.state and (not options.streamed or n == len(stimuli) - 1):
            row = 0 if options.streamed else n
            assert np.array_equal(result.state_i[row], sent)
            assert np.array_equal(result.state_v[row], v)
    assert result.core["saturations"].sum() == saturated
