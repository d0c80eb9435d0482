"""Extra ops and several spikes per step in every discipline, by hand (figures: ``networks.TIMES``; FIFOs deep enough that nothing waits)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.engine.events import CURRENT, ROW_SERVICE, SPIKE, STEP, Engine, Options, Result, Stimulus
from neurosim.engine.reference import run_reference
from neurosim.golden import run_graph
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection, Sparse, pass_rule
from neurosim.ops import Coincidence, Gate, MaxPool, Op, OrPool, Shape
from neurosim.program import Program
from tests.conformance.checks import coordinates
from tests.engine.networks import ENGINES, chain, mapped, population, puts, rule, services, spikes
from tests.golden.test_ops import op_graph

RECORD = Options(record=True, state=True)
DEEP = {"noc__fifo": 64, "noc__axon_in": 64, "noc__axon_out": 64}
Wires = list[tuple[int, int, int]]
"""(input, cell of the operand as flat (c, y, x), weight)."""


@pytest.fixture(params=ENGINES, ids=["reference", "fast"])
def run(request: pytest.FixtureRequest) -> Engine:
    """Either engine."""
    return request.param  # type: ignore[no-any-return]


def wired(op: Op, shape: Shape, operand: str, wires: Wires, inputs: int) -> Projection:
    """The synapses from the input into one operand of population ``p``."""
    cells = op.operands(shape)[operand] if operand else shape
    rows = [sorted((cell, weight) for i, cell, weight in wires if i == k) for k in range(inputs)]
    flat = [synapse for row in rows for synapse in row]
    targets, weights = (np.array([synapse[k] for synapse in flat], np.int64) for k in range(2))
    return Projection("in", "p", Sparse(np.cumsum([0] + [len(row) for row in rows]), targets, weights, cells), operand=operand)


def op_program(
    op: Op, shape: Shape, wires: dict[str, Wires], sync: str, neurons: NeuronRule | None = None, steps: int = 1, direct: bool = False, **chip: Any
) -> Program:
    """in (6) -> p with ``op`` (core 0) -> out, a readout that adds up all spikes (core 1; ``direct``: on core 0, and input 5 leads there)."""
    populations = (population("in", 6, "input"), Population("p", shape, "spiking", neurons or pass_rule(), op=op), population("out", 1, "readout"))
    projections = [wired(op, shape, operand, joined, 6) for operand, joined in wires.items()]
    if direct:
        projections.append(Projection("in", "out", Sparse(np.array([0] * 6 + [1]), np.array([0]), np.array([1]), (1, 1, 1))))
    projections.append(Projection("p", "out", Dense(np.ones((1, int(np.prod(shape))), np.int64), (1, 1, 1))))
    graph = Graph("op", steps, populations, tuple(projections))
    return mapped(graph, [0, 0 if direct else 1], sync, **{**DEEP, **chip})


def soma(sync: str) -> str:
    """The station whose puts are the spikes of core 0."""
    return "core 0" if sync == "free" else "core 0 soma"


def fires(program: Program, result: Result) -> list[tuple[int, int, int]]:
    """(address, time, value) of the spikes of p, in the order of their puts."""
    found = result.spikes[result.spikes["slice"] == 0]
    return sorted(found[["address", "time", "value"]].tolist(), key=lambda row: row[1])


def counted(result: Result) -> tuple[int, int, int]:
    """(synops, pairs, op_reads) of core 0."""
    return tuple(int(result.core[name][0]) for name in ("synops", "pairs", "op_reads"))  # type: ignore[return-value]


def words_of_steps(result: Result) -> list[int]:
    """``synops`` of the STEP rows of p."""
    rows = result.trace[(result.trace["item"] == STEP) & (result.trace["slice"] == 0) & (result.trace["kind"] == ROW_SERVICE)]
    return rows["synops"].tolist()


# Packet k of the port comes at 5 k, leaves the router (1 later, 8 each) at 9 + 8 k and reaches core 0 at 11 + 8 k.
# A packet with s synapses takes 10 + 3 s; the marker 10. Wavefront: the soma starts 11 after the marker; barrier: 60 after all (two tiles).
START = {"wavefront": 10 + 11, "barrier": 60}
"""From the end of the last spike's service to the start of the soma's."""


@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_gate_in_steps(sync: str, run: Engine) -> None:
    # neurons 0, 1 are group 0, neurons 2, 3 group 1; own cells of 0 and 2, and two spikes for mask 0. Four packets: 11, 24, 37, 50 .. 63
    wires = {"": [(k, k, 1) for k in range(4)], "mask": [(4, 0, 1), (5, 0, 1)]}
    given = [(0, 0), (0, 2), (0, 4), (0, 5)]
    program = op_program(Gate((2, 1, 1), 2), (4, 1, 1), wires, sync, arithmetic__lanes=2)
    result = run(program, [spikes(program, given)], RECORD)
    # both groups have a touched neuron: two bursts of one word, 6, lanes or no. Neuron 0: 6 + 2 + 5 + 7 = 20; then 2, 2 + 5 and 2 without a spike: 31
    t0 = 63 + START[sync]
    assert services(program, result, "core 0 soma") == [(t0, t0 + 31)]
    assert fires(program, result) == [(0, t0 + 20, 1)]
    assert (counted(result), words_of_steps(result), result.scores.tolist()) == ((4, 0, 2), [2], [[1]])
    # a group without a touched neuron is not read: 3, then neuron 1 at 3 + 2 + 2 + 5
    result = run(program, [spikes(program, [(0, 1), (0, 4)])], RECORD)
    assert (services(program, result, "core 0 soma")[0][1] - services(program, result, "core 0 soma")[0][0], counted(result)) == (
        3 + 8 + 5,
        (2, 0, 1),
    )
    # inverted: group 1 is open. Neuron 2 at 6 + 7 + 2 + 14
    program = op_program(Gate((2, 1, 1), 2, inverted=True), (4, 1, 1), wires, sync)
    assert fires(program, run(program, [spikes(program, given)], RECORD)) == [(2, t0 + 29, 1)]


def test_gate_in_free(run: Engine) -> None:
    wires = {"": [(k, k, 1) for k in range(4)], "mask": [(4, 0, 1), (5, 0, 1)]}
    given = [(0, 0), (0, 2), (0, 4), (0, 5), (0, 1)]
    program = op_program(Gate((2, 1, 1), 2), (4, 1, 1), wires, "free")
    result = run(program, [spikes(program, given)], RECORD)
    # neuron 0 waits until the second mask spike, served from 50: 10 + 3 + 7 = 20; neuron 1 comes when its group is open: 70 + 20
    assert services(program, result, "core 0") == [(11, 24), (24, 37), (37, 50), (50, 70), (70, 90)]
    assert fires(program, result) == [(0, 70, 1), (1, 90, 1)]
    assert (result.state_v.tolist(), counted(result)) == ([[0, 0, 1, 0, 2]], (5, 0, 0))
    # all of a group that waits fires with the mask's synapse: 24 + 10 + 3 + 7, then t_put later
    program = op_program(Gate((1, 1, 1), 1), (2, 1, 1), {"": [(0, 0, 1), (0, 1, 1)], "mask": [(1, 0, 1)]}, "free")
    result = run(program, [spikes(program, [(0, 0), (0, 1)])], RECORD)
    assert fires(program, result) == [(0, 27 + 20, 1), (1, 27 + 24, 1)]
    # inverted: open until the second mask spike; what comes then waits
    program = op_program(Gate((2, 1, 1), 2, inverted=True), (4, 1, 1), wires, "free")
    result = run(program, [spikes(program, given)], RECORD)
    assert [row[0] for row in fires(program, result)] == [0, 2]
    assert result.state_v.tolist() == [[0, 1, 0, 0, 2]]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_latched_gate_adds_up_the_steps_of_a_sample(sync: str, streamed: bool, run: Engine) -> None:
    # data in every step, mask spikes in steps 0, 1 and 3: 1, 2, 2, 3 against a count of 2; in the second sample only in step 2
    program = op_program(Gate((1, 1, 1), 2, latched=True), (1, 1, 1), {"": [(0, 0, 1)], "mask": [(1, 0, 1)]}, sync, steps=4)
    samples = [spikes(program, sorted([(step, 0) for step in range(4)] + [(step, 1) for step in masks])) for masks in ([0, 1, 3], [2])]
    result = run(program, samples, replace(RECORD, streamed=streamed))
    assert result.spikes[["sample", "step"]].tolist() == [(0, 1), (0, 2), (0, 3)]
    closing = op_program(Gate((1, 1, 1), 2, inverted=True, latched=True), (1, 1, 1), {"": [(0, 0, 1)], "mask": [(1, 0, 1)]}, sync, steps=4)
    result = run(closing, samples, replace(RECORD, streamed=streamed))
    assert result.spikes[["sample", "step"]].tolist() == [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize("sync", ["wavefront", "barrier", "free"])
def test_or_pool(sync: str, run: Engine) -> None:
    # neuron 0 gets 1 + 1, neuron 1 gets 4; at most 3 spikes per step
    wires = {"": [(0, 0, 1), (1, 0, 1), (1, 1, 4)]}
    program = op_program(OrPool(), (2, 1, 1), wires, sync, pass_rule(3))
    result = run(program, [spikes(program, [(0, 0), (0, 1)])], RECORD)
    if sync == "free":
        # each fires once: neuron 0 at 11 + 20; the second packet is taken then, its second synapse ends 16 later, + 7
        assert fires(program, result) == [(0, 31, 1), (1, 54, 1)]
        assert (result.state_v.tolist(), result.scores.tolist(), counted(result)) == ([[2, 4, 2]], [[2]], (3, 0, 0))
        return
    # services 11..24 and 24..40; nothing to read; the spikes have the values 2 and 3 and take 14 each
    t0 = 40 + START[sync]
    assert fires(program, result) == [(0, t0 + 14, 2), (1, t0 + 28, 3)]
    assert (result.scores.tolist(), counted(result), words_of_steps(result)) == ([[5]], (3, 0, 0), [0])
    arrived = result.trace[(result.trace["item"] == SPIKE) & (result.trace["slice"] == 0) & (result.trace["kind"] == ROW_SERVICE)]
    assert sorted(set(zip(arrived["address"].tolist(), arrived["value"].tolist(), strict=True))) == [(0, 2), (1, 3)]


POOL = MaxPool((1, 1, 3), (1, 3), (1, 1), (0, 1))
"""Windows of cells 0 1, 0 1 2 and 1 2: 2, 3 and 2 words."""
POOLED = {"": [(2, 2, 2)], "window": [(0, 0, 5), (1, 1, 4), (3, 1, -6)]}


@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_max_pool_in_steps(sync: str, run: Engine) -> None:
    program = op_program(POOL, (1, 1, 3), POOLED, sync, rule(5), arithmetic__lanes=2)
    result = run(program, [spikes(program, [(0, k) for k in range(4)])], RECORD)
    # cells 5, -2, 0, own cell of neuron 2: 2. Inputs 5, 5 and 2 + 0. Bursts of 2, 3, 2 words on two lanes: 3 + 6 + 3 = 12
    t0 = 63 + START[sync]
    assert fires(program, result) == [(0, t0 + 12 + 14, 1), (1, t0 + 12 + 28, 1)]
    assert services(program, result, "core 0 soma") == [(t0, t0 + 12 + 28 + 7)]
    assert (counted(result), words_of_steps(result)) == ((4, 0, 7), [7])
    # own cell alone: its window is read, the others are not; 3 for the burst, 2 + 2 + 2 + 5
    result = run(program, [spikes(program, [(0, 2)])], RECORD)
    t0 = 24 + START[sync]
    assert services(program, result, "core 0 soma") == [(t0, t0 + 3 + 11)]
    assert counted(result) == (1, 0, 2)


def test_max_pool_in_free(run: Engine) -> None:
    program = op_program(POOL, (1, 1, 3), POOLED, "free", rule(5))
    result = run(program, [spikes(program, [(0, k) for k in range(4)])], RECORD)
    # cell 0 becomes 5: windows of 0 and 1, two synapses: 13 + 7 and 16 + 7, t_put after the first. Cell 1 becomes 4: three synapses, of which the
    # third changes neuron 2 by 4. Its own cell: 4 + 2 fires. Cell 1 becomes -2: neuron 2 by -4
    assert services(program, result, "core 0") == [(11, 35), (35, 54), (54, 74), (74, 93)]
    assert fires(program, result) == [(0, 31, 1), (1, 35, 1), (2, 74, 1)]
    assert (result.state_v.tolist(), counted(result)) == ([[0, 0, -4, 3]], (2 + 3 + 1 + 3, 0, 5 + 7 + 7))
    # a cell in no window is served once; cells saturate at 7 in 4 bits: changes of 5 and 2
    op = MaxPool((1, 1, 3), (1, 1), (1, 2))
    program = op_program(op, (1, 1, 2), {"window": [(0, 0, 5), (1, 1, 5)]}, "free", rule(9), arithmetic__acc_bits=4)
    result = run(program, [spikes(program, [(0, 0), (0, 1), (0, 0)])], RECORD)
    assert (result.state_v.tolist(), counted(result)) == ([[7, 0, 0]], (3, 0, 2))


TOKENS = {"k": [(0, 0, 1)], "v": [(0, 0, 1), (0, 2, 1)], "q": [(1, 1, 1)], "": [(2, 3, 1)]}
"""Two channels, two tokens, flat c * 2 + token: input 0 is k of channel 0 and v of both at token 0, input 1 q of channel 0 at token 1."""


@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_coincidence_in_steps(sync: str, run: Engine) -> None:
    program = op_program(Coincidence(1, shift=1), (2, 1, 2), TOKENS, sync, rule(2))
    result = run(program, [spikes(program, [(0, 0), (0, 1), (0, 2)])], RECORD)
    # first packet: k, v, its pair, v, its pair: 10 + 5 * 3 = 25, 11..36; then 36..49, 49..62. One q: a row of 2 words, 6
    # token 1: 2 * M[0, 0] = 2 and 2 * M[0, 1] + 1; token 0 is visited only, 2 + 2
    t0 = 62 + START[sync]
    assert services(program, result, "core 0 synapse")[:3] == [(11, 36), (36, 49), (49, 62)]
    assert fires(program, result) == [(2, t0 + 6 + 4 + 14, 1), (3, t0 + 6 + 4 + 28, 1)]
    assert (counted(result), words_of_steps(result)) == ((5 + 1 + 1, 2, 2), [2])
    assert result.sample["synops"].tolist() == [7 + 2]  # and two spikes into the readout


def test_coincidence_in_free(run: Engine) -> None:
    program = op_program(Coincidence(1, shift=1), (2, 1, 2), TOKENS, "free", rule(2))
    result = run(program, [spikes(program, [(0, 0), (0, 1), (0, 2)])], RECORD)
    # q is served, then its row: synapses 1 and 2 give 2 to both neurons of token 1, 36 + 16 + 7 and 36 + 19 + 7, but t_put after 59
    assert services(program, result, "core 0") == [(11, 36), (36, 63), (63, 76)]
    assert fires(program, result) == [(2, 59, 1), (3, 63, 1)]
    assert (result.state_v.tolist(), counted(result)) == ([[0, 0, 0, 1, 2]], (5 + 3 + 1, 2, 2))
    # a v of both channels makes two pairs; the neuron's own synapse is the fifth of the packet: 24 + 10 + 15 + 7
    program = op_program(Coincidence(1), (2, 1, 2), {"k": [(0, 0, 1)], "v": [(1, 0, 1), (1, 2, 1)], "": [(1, 3, 5)]}, "free", rule(5))
    result = run(program, [spikes(program, [(0, 0), (0, 1)])], RECORD)
    assert (fires(program, result), counted(result)) == ([(3, 56, 1)], (6, 2, 0))
    program = op_program(Coincidence(1, shift=1), (2, 1, 2), TOKENS, "free", rule(2))
    # q before the pairs reads zeros; registers and table stay: the second k makes a pair with either v
    result = run(program, [spikes(program, [(0, 1), (0, 0), (0, 0)])], RECORD)
    assert (fires(program, result), counted(result)) == ([], (3 + 5 + 7, 2 + 4, 2))


def test_currents_and_leaks_in_free(run: Engine) -> None:
    # a current is a spike's synapse for a neuron's own cell: mask 11..24, current 24 + 13 + 7
    program = op_program(Gate((1, 1, 1), 1), (2, 1, 1), {"": [(0, 0, 1)], "mask": [(1, 0, 1)]}, "free")
    columns = (
        (np.int64, [0, 0]),
        (np.int32, [0, 0]),
        (np.uint8, [SPIKE, CURRENT]),
        (np.int32, [program.slices, 0]),
        (np.int32, [1, 1]),
        (np.int64, [1, 1]),
    )
    result = run(program, [Stimulus(*(np.array(values, kind) for kind, values in columns))], RECORD)
    assert (fires(program, result), counted(result), result.core["current_writes"][0]) == ([(1, 44, 1)], (1, 0, 0), 1)
    # a leak of one half per 50 ps: a window whose largest stays the same touches nobody, so the stored 5 of neurons 0 and 1 stays
    leaky = rule(9, decay=2048)
    program = op_program(POOL, (1, 1, 3), POOLED, "free", leaky)
    result = run(program, [later(spikes(program, [(0, 0), (0, 1)]), [0, 200])], RECORD)
    assert result.state_v.tolist() == [[5, 5, 4, 0]]
    # a row of zeros does touch: 8 of neuron 3, served at 11, is 2 after the leaks at 50 and 100, read from 111 on
    program = op_program(Coincidence(1), (2, 1, 2), {**TOKENS, "": [(2, 3, 8)]}, "free", leaky)
    result = run(program, [later(spikes(program, [(0, 2), (0, 1)]), [0, 100])], RECORD)
    assert result.state_v.tolist() == [[0, 0, 0, 2, 0]]
    # gates and or_pools keep what they have
    program = op_program(Gate((1, 1, 1), 1), (1, 1, 1), {"": [(0, 0, 1)], "mask": [(1, 0, 1)]}, "free")
    result = run(program, [later(spikes(program, [(0, 0), (0, 1)]), [0, 1000])], RECORD)
    assert fires(program, result) == [(0, 1011 + 20, 1)]


def later(stimulus: Stimulus, due: list[int]) -> Stimulus:
    """The same spikes at other times."""
    return replace(stimulus, due_ps=np.array(due, np.int64))


def windowed(
    run: Engine, op: Op, shape: Shape, wires: dict[str, Wires], given: list[int], due: list[int], neurons: NeuronRule | None = None
) -> Result:
    """A run in free with windows of 100 ps; input 5 leads to the readout on the same core."""
    program = op_program(op, shape, wires, "free", neurons, direct=True, timing__op_window=100)
    return run(program, [later(spikes(program, [(0, k) for k in given]), due)], RECORD)


def test_windows_forget(run: Engine) -> None:
    # an or_pool fires again in the next window, the third (due 189, served from 200), and not twice in one
    twice = windowed(run, OrPool(), (1, 1, 1), {"": [(0, 0, 1)]}, [0, 0, 0], [0, 30, 189])
    assert (twice.core["fires"][0], twice.state_v.tolist()) == (2, [[1, 2]])
    same = windowed(run, OrPool(), (1, 1, 1), {"": [(0, 0, 1)]}, [0, 0, 0], [0, 30, 88])  # served from 99
    assert same.core["fires"][0] == 1
    # a packet with an entry but no synapse into the slice is enough
    assert windowed(run, OrPool(), (1, 1, 1), {"": [(0, 0, 1)]}, [0, 5], [0, 200]).state_v.tolist() == [[0, 2]]
    # a gate: data waits, is forgotten, and its mask is counted anew; latched masks stay
    gated = {"": [(0, 0, 1)], "mask": [(1, 0, 1)]}
    for latched, fired in ((False, 0), (True, 1)):
        result = windowed(run, Gate((1, 1, 1), 2, latched=latched), (1, 1, 1), gated, [0, 1, 1, 0], [0, 50, 200, 250])
        assert (result.core["fires"][0], result.state_v.tolist()) == (fired, [[1 - fired, fired]])
    # a max_pool: the cell counts from 0, so that -6 changes nothing; the membrane stays
    assert windowed(run, POOL, (1, 1, 3), POOLED, [1, 3], [0, 200], rule(9)).state_v.tolist() == [[4, 4, 4, 0]]
    assert windowed(run, POOL, (1, 1, 3), POOLED, [1, 3], [0, 50], rule(9)).state_v.tolist() == [[0, 0, 0, 0]]
    # a coincidence: what was written is gone
    assert windowed(run, Coincidence(1), (2, 1, 2), TOKENS, [0, 1], [0, 200], rule(9)).state_v.tolist() == [[0, 0, 0, 0, 0]]
    assert windowed(run, Coincidence(1), (2, 1, 2), TOKENS, [0, 1], [0, 50], rule(9)).state_v.tolist() == [[0, 0, 1, 1, 0]]


@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_several_spikes_leave_as_one_of_that_value(sync: str, run: Engine) -> None:
    # 17 against 5: 3 spikes, 2 left; strict 15: 2 spikes, 5 left; at most 2 of 17 with a reset to 0; 5 into the readout for each
    for weight, more, value, left in ((17, {"reset": "subtract"}, 3, 2), (15, {"reset": "subtract", "strict": True}, 2, 5), (17, {}, 2, 0)):
        program = chain([1, 1, 1], [weight, 5], [0, 1], sync, rules={0: rule(5, max_spikes=3 if more else 2, **more)})
        result = run(program, [spikes(program, [(0, 0)])], RECORD)
        t0 = 24 + START[sync]
        assert fires(program, result) == [(0, t0 + 14, value)]
        assert [put[0] for put in puts(result, 2)][:1] == [t0 + 14]
        assert (result.state_v.tolist(), result.scores.tolist()) == ([[left, 5 * value]], [[5 * value]])
        assert (result.core["fires"][0], result.sample["spikes"][0], result.slice_spikes[0, 0], result.core["packets_sent"][0]) == (
            1,
            1,
            1,
            2 - (sync == "barrier"),
        )
        assert result.core["synops"].tolist()[:2] == [1, 1]


def test_words_of_faulty_programs_wrap_around(run: Engine) -> None:
    # own 12 + largest 12 = 24, -8 in 5 bits: no spike; without faults an assertion holds the compiler to its proof
    program = op_program(POOL, (1, 1, 3), {"": [(0, 0, 12)], "window": [(0, 0, 12)]}, "wavefront", rule(5), arithmetic__acc_bits=5)
    given = [spikes(program, [(0, 0)])]
    result = run(replace(program, meta={**program.meta, "faulty": True}), given, RECORD)
    assert result.state_v.tolist() == [[-8, 0, 0, 1]]  # neuron 1 has 12 and fires
    if run is run_reference:
        with pytest.raises(AssertionError, match="24 overflows acc_bits"):
            run(program, given, RECORD)
    # a row of the table: own 12 + 1 * 12; a latched sum of 12, then of 24, which closes the gate again
    wires = {"": [(0, 0, 12)], "k": [(0, 0, 1)], "v": [(0, 0, 12)], "q": [(0, 0, 1)]}
    program = op_program(Coincidence(1), (1, 1, 1), wires, "barrier", rule(5), arithmetic__acc_bits=5)
    result = run(replace(program, meta={**program.meta, "faulty": True}), [spikes(program, [(0, 0)])], RECORD)
    assert result.state_v.tolist() == [[-8, 0]]
    gate = Gate((1, 1, 1), 2, latched=True)
    program = op_program(gate, (1, 1, 1), {"": [(0, 0, 1)], "mask": [(0, 0, 12)]}, "barrier", steps=2, arithmetic__acc_bits=5)
    result = run(replace(program, meta={**program.meta, "faulty": True}), [spikes(program, [(0, 0), (1, 0)])], RECORD)
    assert result.spikes["step"].tolist() == [0]


@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
@pytest.mark.parametrize(
    "op",
    [
        OrPool(), Gate((2, 1, 3), 2), Gate((1, 2, 3), 3, latched=True), Gate((4, 1, 1), 9, True, True), MaxPool((4, 3, 5), (2, 3), (2, 2), (1, 1)),
        Coincidence(2, shift=2), Coincidence(4),
    ],
    ids=str,
)  # fmt: skip
def test_split_populations_compute_what_the_golden_model_computes(op: Op, sync: str, run: Engine) -> None:
    """The channels of the population (pixels, where there are no heads) are on two cores; own cells come a step late, values reach 3."""
    graph = op_graph(op, op.operands((4, 2, 3)))
    chip = load_chip("ideal", ["memory.cores=4", "noc.width=2", "noc.height=2"])
    slices: list[Slice] = []
    for k, p in enumerate(graph.populations):
        if p.kind == "input":
            continue
        c, y, x = p.shape
        parts = [(0, c, 0, y, 0, x)] if p.op is None else [(0, 2, 0, 2, 0, 3), (2, 4, 0, 2, 0, 3)]
        if p.op is not None and op.name != "coincidence":
            parts = [(0, 4, 0, 2, 0, 1), (0, 4, 0, 2, 1, 3)]
        slices += [Slice(k, part) for part in parts]
    cores = tuple(k % 4 for k in range(len(slices)))
    program = assemble(graph, chip, sync, Mapping(tuple(slices), cores, (4,) * len(slices)))
    data = np.random.default_rng(3).integers(0, 2, (3, 4, 6, 1, 1), dtype=np.uint8)
    result = run(program, [spikes(program, np.argwhere(x[:, :, 0, 0]).tolist()) for x in data], RECORD)
    golden = run_graph(graph, data, chip)
    fired = {p.name: np.zeros((3, 4, *p.shape), np.uint8) for p in graph.populations if p.kind == "spiking"}
    for sample, step, q, address, _, value in result.spikes.tolist():
        fired[graph.populations[program.slice_population[q]].name][(sample, step, *coordinates(program.slice_box[q], address))] = value
    for name, values in fired.items():
        np.testing.assert_array_equal(values, golden.spikes[name], name)
    np.testing.assert_array_equal(result.scores, golden.scores)
