"""Every extra op in every discipline, in small networks that use it fully: both engines row for row, and the clock-driven model under steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.engine.events import SPIKE, Options, Stimulus
from neurosim.engine.fast import run_fast
from neurosim.engine.reference import run_reference
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection, Shape, SumPool, TokenMix, pass_rule
from neurosim.ops import Coincidence, Gate, MaxPool, Op, OrPool
from neurosim.program import Program
from tests.conformance.checks import assert_computes_the_model, assert_conforms, outcome
from tests.conformance.strategies import Case

STEPS = 3
INPUT: Shape = (6, 4, 4)
WEIGHTS = np.random.default_rng(7).integers(-3, 6, (6, 6, 3, 3))


def lif(threshold: int = 6, **more: Any) -> NeuronRule:
    return NeuronRule(np.full((1, 1, 1), threshold), np.full((1, 1, 1), more.pop("bias", 0)), **more)


def network(shape: Shape, op: Op | None, rule: NeuronRule, into: dict[str, Any], loop: bool = False) -> Graph:
    """Input -> neurons that may fire several times -> the op's population, its operands ``into`` by (source, map, delay) -> readout."""
    many = lif(24, decay=2048, reset="subtract", max_spikes=4)
    population = Population("op", shape, "spiking", rule, scale=np.ones(shape[0]), op=op)
    ends = Population("out", (2, 1, 1), "readout", lif(1), scale=np.ones(2))
    projections = [Projection("in", "many", Conv2d(WEIGHTS, padding=(1, 1)))]
    projections += [Projection(source, "op", linear, delay, operand=operand) for operand, (source, linear, delay) in into.items()]
    if loop:  # two projections into one operand, and an op that hears itself
        operand = list(into)[-1]
        projections.append(Projection("op", "op", SumPool(np.ones(shape[0], np.int64)), 2, operand=operand))
    size = int(np.prod(shape))
    projections.append(Projection("op", "out", Dense(np.arange(2 * size).reshape(2, size) % 7 - 2, (2, 1, 1))))
    inputs = Population("in", INPUT, "input"), Population("many", INPUT, "spiking", many, scale=np.ones(6))
    graph = Graph("ops", STEPS, (*inputs, population, ends), tuple(projections))
    graph.verify()
    return graph


def same(value: int = 1) -> SumPool:
    return SumPool(np.full(6, value))


def mixed() -> TokenMix:
    return TokenMix(np.eye(16, dtype=np.int64)[None, np.random.default_rng(1).permutation(16)])


def sums(*groups: int) -> Dense:
    """Counts the spikes of every group of the input's shape."""
    weight = np.zeros((*groups, *INPUT), np.int64)
    steps = [n // g for n, g in zip(INPUT, groups, strict=True)]
    for c, y, x in np.ndindex(*INPUT):
        weight[c // steps[0], y // steps[1], x // steps[2], c, y, x] = 1
    return Dense(weight.reshape(int(np.prod(groups)), -1), (groups[0], groups[1], groups[2]))


def gate(*groups: int, **options: Any) -> Graph:
    shape: Shape = (groups[0], groups[1], groups[2])
    return network(INPUT, Gate(shape, **options), pass_rule(4), {"": ("many", same(), 0), "mask": ("in", sums(*groups), 1)})


def attention(heads: int, shift: int = 0, own: bool = False, loop: bool = False) -> Graph:
    into = {"k": ("many", same(), 0), "v": ("in", mixed(), 0), "q": ("in", same(2), 1)}
    rule = lif(40, decay=3000, floor=np.full((1, 1, 1), -5))
    return network(INPUT, Coincidence(heads, shift=shift), rule, ({"": ("in", Conv2d(WEIGHTS[:, :, :1, :1]), 0)} if own else {}) | into, loop)


def pooling(**options: Any) -> Graph:
    op = MaxPool(INPUT, **options)
    into = {"window": ("many", Conv2d(WEIGHTS, padding=(1, 1)), 0), "": ("in", SumPool(np.full(6, -1), *options.values()), 0)}
    shape = into[""][1].out_shape(INPUT)
    return network(shape, op, lif(20, decay=2048, reset="subtract", max_spikes=3), into)


def or_pool(max_spikes: int, *window: tuple[int, int]) -> Graph:
    linear = SumPool(np.ones(6, np.int64), *window)
    return network(linear.out_shape(INPUT), OrPool(), pass_rule(max_spikes), {"": ("many", linear, 0)})


GRAPHS = {
    "several spikes": lambda: network(
        INPUT, None, lif(3, reset="subtract", strict=True, max_spikes=255), {"": ("many", Conv2d(WEIGHTS, padding=(1, 1)), 1)}
    ),
    "or_pool": lambda: or_pool(1, (2, 2), (2, 2)),
    "or_pool that overlaps, with values": lambda: or_pool(15, (3, 3), (1, 1), (1, 1)),
    "gate of tokens": lambda: gate(1, 4, 4),
    "gate of channels": lambda: gate(6, 1, 1, count=3),
    "gate of heads and rows": lambda: gate(3, 4, 1, count=2),
    "inverted gate": lambda: gate(1, 4, 4, count=2, inverted=True),
    "latched gate": lambda: gate(2, 2, 2, count=8, latched=True),
    "inverted latched gate": lambda: gate(1, 4, 4, count=6, inverted=True, latched=True),
    "max_pool": lambda: pooling(kernel=(2, 2), stride=(2, 2)),
    "max_pool that overlaps, with padding": lambda: pooling(kernel=(3, 3), stride=(2, 1), padding=(1, 1)),
    "coincidence of one head": lambda: attention(1),
    "coincidence of two heads with a current": lambda: attention(2, own=True),
    "coincidence of three heads, shifted, with a loop": lambda: attention(3, shift=1, loop=True),
}


def eager(graph: Graph) -> Graph:
    """The same with lower thresholds: in free a sample is as many spikes as one step of the others."""
    lower = {p.name: replace(p.rule, threshold=np.maximum(p.rule.threshold // 5, 1)) for p in graph.populations if p.rule is not None}
    return graph.with_(populations=tuple(replace(p, rule=lower.get(p.name)) for p in graph.populations))


def case(graph: Graph, sync: str, **settings: object) -> Case:
    """Three samples of different density on four cores, the populations cut in slices where they may be."""
    head = graph.population("op").op
    neurons = 96 if isinstance(head, Coincidence) and head.heads == 1 else 48  # a head is never cut
    ops = {f"capabilities.ops.{name}": "{}" for name in ("or_pool", "gate", "max_pool", "coincidence")}
    values = ops | {
        "sync": '["free", "wavefront", "barrier"]', "timing.barrier": "[{tiles = 1, duration = 500}]", "noc.flow": '"end_to_end"', "noc.window": 2,
        "memory.neurons": neurons, "memory.bytes": 65536, "arithmetic.lanes": 3, "arithmetic.spikes_per_update": 2, "timing.op_window": 3_000_000,
        "timing.leak": 1_000_000, "capabilities.max_delay": 4, "capabilities.banks": 8, "capabilities.recurrence": "true", "noc.width": 3,
        "memory.cores": 6, "capabilities.neuron.max_spikes": 255, **settings,
    }  # fmt: skip
    graph = eager(graph) if sync == "free" else graph
    program = assemble(graph, load_chip("tiny", [f"{key}={value}" for key, value in values.items()]), sync)
    rng = np.random.default_rng(3)
    window = 20_000_000 if sync == "free" else 0
    return Case(graph, program, [events(program, rng, d) for d in (0.1, 0.3, 0.6)], Options(record=True, state=True, window_ps=window, jitter=655))


def events(program: Program, rng: np.random.Generator, density: float) -> Stimulus:
    """Spikes of value 1 to 3 in every step, channel last, all due at 0."""
    step, address = np.nonzero(rng.random((1 if program.sync == "free" else STEPS, int(np.prod(INPUT)))) < density)
    n = len(step)
    return Stimulus(
        np.zeros(n, np.int64), step.astype(np.int32), np.full(n, SPIKE, np.uint8), np.full(n, program.slices, np.int32), address.astype(np.int32),
        rng.integers(1, 4, n) if program.sync != "free" else np.ones(n, np.int64),
    )  # fmt: skip


@pytest.mark.parametrize("sync", ["free", "wavefront", "barrier"])
@pytest.mark.parametrize("name", GRAPHS)
def test_an_op_means_one_thing(name: str, sync: str) -> None:
    whole = case(GRAPHS[name](), sync)
    result = outcome(run_fast, whole).result
    assert result is not None
    op = whole.graph.population("op").op
    slices = [q for q, p in enumerate(whole.program.slice_population) if whole.graph.populations[p].name == "op"]
    assert result.slice_spikes[:, slices].sum() > 0, "the op never fires"
    assert result.core["op_reads"].sum() > 0 or op is None or op.name == "or_pool" or (op.name == "gate" and sync == "free")
    assert result.core["pairs"].sum() > 0 or op is None or op.name != "coincidence"
    if sync != "free":
        assert result.spikes["value"].max() > 1
        assert_computes_the_model(whole, run_reference)
        assert_computes_the_model(whole, run_fast)
    assert_conforms(whole)
