"""Integer Graphs: feed-forward and recurrent networks of ordinary populations and of populations with extra ops.

Structure (shapes, ops, depths) is drawn by hypothesis, so that a fault shrinks; the many weights come from one drawn seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from neurosim.chip import Chip
from neurosim.graph import Graph, NeuronRule, Population, Projection, SumPool
from tests.conformance.maps import delays, maps, rules
from tests.conformance.ops import OPS, into, op_layers, takes_counts


@st.composite
def graphs(draw: st.DrawFn, sync: str, chip: Chip, plain: bool = False, ops: bool = False) -> Graph:
    """An integer Graph: one or two inputs, sometimes host currents, one to four spiking populations, mostly a readout, sometimes recurrence.

    ``plain``: one input of spikes and a readout, what the clock-driven model runs from events. ``ops``: at least one population has an extra op.
    """
    weights = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1, 1, 1, 300] if chip.arithmetic.acc_bits < 48 else [1, 300, 70_000]))  # weights of one, two or four bytes
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
    populations = [Population(f"in{k}", draw(shapes), "input") for k in range(1 if plain else draw(st.integers(1, 2)))]
    projections: list[Projection] = []
    spiking = draw(st.integers(1, 4))
    readout = plain or draw(st.integers(0, 3)) > 0
    analog = not plain and draw(st.integers(0, 2)) == 0
    special = draw(st.integers(0, spiking - 1)) if ops else -1
    for k in range(spiking):
        earlier = [p for p in populations if p.kind in ("input", "spiking")][-3:]
        if k == special or (ops and draw(st.booleans())):
            layer, into_it = draw(op_layers(draw(st.sampled_from([*OPS, "coincidence"])), f"layer{k}", earlier, sync, chip, scale, weights))
        else:
            layer, into_it = draw(_layers(f"layer{k}", earlier, sync, chip, scale, weights))
        populations.append(layer)
        projections += into_it
        if analog and not takes_counts(layer, "") and draw(st.booleans()):
            image = Population(f"image{k}", layer.shape, "analog")
            populations.insert(0, image)
            projections.append(Projection(image.name, layer.name, SumPool(np.ones(layer.shape[0], np.int64)), layers=(layer.name,)))
    if readout:
        source = draw(st.sampled_from([p for p in populations if p.kind in ("input", "spiking")][-3:]))
        shape = (draw(st.integers(1, 4)), 1, 1)
        rule = draw(rules(shape, sync, chip, scale, weights))
        parts = draw(st.integers(0, 3)) == 0
        rule = NeuronRule(threshold=np.ones((1, 1, 1), np.int64), bias=rule.bias, decay=4096 if parts else rule.decay, v_init=rule.v_init)
        populations.append(Population("out", shape, "readout", rule, scale=np.ones(shape[0])))
        linear = draw(maps(source.shape, shape, scale, weights))
        projections.append(Projection(source.name, "out", linear, draw(delays()), draw(st.integers(0, 1)), layers=("out",)))
        if draw(st.booleans()):
            others = [p for p in populations if p.kind in ("input", "spiking")]
            projections.append(draw(into(populations[-1], "", others, scale, weights)))
        if parts:  # whose membranes the host adds
            other = draw(st.sampled_from([p for p in populations if p.kind in ("input", "spiking")]))
            populations.append(Population("out.part2", shape, "readout", replace(rule, bias=-rule.bias), scale=np.ones(shape[0]), part_of="out"))
            projections.append(Projection(other.name, "out.part2", draw(maps(other.shape, shape, scale, weights)), draw(delays()), layers=("out",)))
    if sync != "settle" and draw(st.integers(0, 2)) == 2:
        projections = draw(_with_loops(sync, populations, projections, scale, weights))
    graph = Graph("drawn", draw(st.integers(1, 4)), tuple(populations), tuple(projections), class_names=())
    graph.verify()
    return graph


@st.composite
def _layers(
    draw: st.DrawFn, name: str, earlier: list[Population], sync: str, chip: Chip, scale: int, weights: np.random.Generator
) -> tuple[Population, list[Projection]]:
    """An ordinary population with one to three projections into it, some of them into part of its channels."""
    source = draw(st.sampled_from(earlier))
    linear = draw(maps(source.shape, None, scale, weights))
    shape = linear.out_shape(source.shape)
    extra = draw(st.integers(0, 1)) if shape[1:] == (1, 1) else 0  # channels that only later projections reach
    shape = (shape[0] + extra, *shape[1:])
    population = Population(name, shape, "spiking", draw(rules(shape, sync, chip, scale, weights)), scale=np.ones(shape[0]))
    projections = [Projection(source.name, name, linear, draw(delays()), draw(st.integers(0, 1)), layers=(name,))]
    for _ in range(draw(st.integers(0, 2))):
        other = draw(st.sampled_from(earlier))
        part = (shape[0] - extra, *shape[1:]) if draw(st.booleans()) else shape
        linear = draw(maps(other.shape, part, scale, weights))
        projections.append(Projection(other.name, name, linear, draw(delays()), 0, shape[0] - part[0], layers=(name,)))
    return population, projections


@st.composite
def _with_loops(
    draw: st.DrawFn, sync: str, populations: list[Population], projections: list[Projection], scale: int, weights: np.random.Generator
) -> list[Projection]:
    """Projections from a population to itself or to an earlier one, in Program order (by target)."""
    layers = [p for p in populations if p.kind == "spiking"]
    for _ in range(draw(st.integers(1, 2))):
        late = draw(st.integers(0, len(layers) - 1))
        early = draw(st.integers(0, late))
        # a barrier costs one step per hop, so a loop needs as much delay as hops
        delay = draw(st.integers(1, 2)) + (late - early if sync == "barrier" else 0)
        target = layers[early]
        operand = draw(st.sampled_from(["", *target.op.operands(target.shape)])) if target.op is not None else ""
        projections = [*projections, draw(into(target, operand, [layers[late]], scale, weights, delay))]
    order = {p.name: k for k, p in enumerate(populations)}
    return sorted(projections, key=lambda p: order[p.target])
