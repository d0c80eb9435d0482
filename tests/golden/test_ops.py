"""Extra ops and several spikes per step in the golden models, against loops over single values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.errors import ModelError
from neurosim.golden import run_graph, run_network
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection, SumPool, pass_rule
from neurosim.network import Network
from neurosim.ops import Coincidence, Gate, MaxPool, Op, OrPool

SHAPE = (4, 2, 3)
STEPS = 3
RNG = np.random.default_rng(11)


def event_layer(op: str, inputs: int, shape: tuple[int, int, int], **params: object) -> tuple[np.ndarray, list[np.ndarray]]:
    """(output of an op layer, its inputs) over 5 samples of random spikes, each input a lif that repeats a part of the network's input."""
    net = Network("one", steps=STEPS)
    x = net.spikes_input("in", (4 * inputs, *shape[1:]))
    parts = []
    for k in range(inputs):
        weight = np.zeros((shape[0], 4 * inputs, 1, 1))
        weight[np.arange(shape[0]), 4 * k + np.arange(shape[0])] = 1
        parts.append(net.lif(f"s{k}", net.conv2d(f"w{k}", x, weight), decay=0.0))
    if op == "gate" and params.pop("pooled", False):
        parts[1] = net.lif("mask", net.sum_pool("pool", parts[1], shape[1:]), decay=0.0, max_spikes=255)
    found = getattr(net, op)("op", *parts, **params)
    net.output(net.mean("mean", found))
    data = RNG.integers(0, 2, (5, STEPS, 4 * inputs, *shape[1:]), dtype=np.uint8)
    result = run_network(net, data, values=("op", *parts))
    return result.values["op"], [result.values[name] for name in parts]


def test_attention_of_a_network_is_the_sum_over_tokens() -> None:
    found, (q, k, v) = event_layer("attention", 3, SHAPE, heads=2, scale=0.125)
    tokens = list(itertools.product(range(2), range(3)))
    for sample, step, c, y, x in np.ndindex(found.shape):
        h, b = divmod(c, 2)
        total = 0
        for a, (Y, X) in itertools.product(range(2), tokens):
            total += q[sample, step, 2 * h + a, y, x] * k[sample, step, 2 * h + a, Y, X] * v[sample, step, 2 * h + b, Y, X]
        assert found[sample, step, c, y, x] == 0.125 * total
    assert np.count_nonzero(found) > 50


def test_max_pool_of_a_network_leaves_padding_out() -> None:
    net = Network("pool", steps=1)
    x = net.spikes_input("in", (2, 4, 5))
    net.max_pool("op", net.scale("negative", x, -1.0, -1.0), 3, 2, 1)  # values -1 and -2: a padded 0 would win
    net.output(net.mean("mean", "op"))
    data = RNG.integers(0, 2, (3, 1, 2, 4, 5), dtype=np.uint8)
    found = run_network(net, data, values=["op"]).values["op"]
    assert found.shape == (3, 1, 2, 2, 3)
    for sample, c, y, x_ in itertools.product(range(3), range(2), range(2), range(3)):
        inside = [
            -1.0 - data[sample, 0, c, Y, X] for Y in range(2 * y - 1, 2 * y + 2) for X in range(2 * x_ - 1, 2 * x_ + 2) if 0 <= Y < 4 and 0 <= X < 5
        ]
        assert found[sample, 0, c, y, x_] == max(inside)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("latched", [False, True])
def test_gates_of_a_network_count_per_group(inverted: bool, latched: bool) -> None:
    found, (data, mask) = event_layer("gate", 2, SHAPE, pooled=True, count=4, inverted=inverted, latched=latched)
    assert mask.shape[2:] == (4, 1, 1)
    assert mask.max() > 1
    for sample, step, c, y, x in np.ndindex(found.shape):
        total = sum(mask[sample, s, c, 0, 0] for s in (range(step + 1) if latched else [step]))
        assert found[sample, step, c, y, x] == (data[sample, step, c, y, x] if (total >= 4) != inverted else 0)
    assert 0 < np.count_nonzero(found) < np.count_nonzero(data)


def several(inputs: list[float], **rule: object) -> tuple[list[int], list[float], float]:
    """Values, margins and the mean of one lif with up to 3 spikes per step whose input in step t is inputs[t]."""
    net = Network("one", steps=len(inputs))
    net.output(net.lif("lif", net.linear("w", net.spikes_input("in", (len(inputs), 1, 1)), [inputs]), max_spikes=3, **rule))  # type: ignore[arg-type]
    result = run_network(net, np.eye(len(inputs), dtype=np.uint8)[None, :, :, None, None], margins=True)
    return result.spikes["lif"].ravel().tolist(), result.margins["lif"].ravel().tolist(), float(result.scores[0, 0])


def test_several_spikes_of_a_network_by_hand() -> None:
    # threshold 2: 5 -> 2 spikes, 1 left; 1 + 0.5; 1.5 + 6.5 = 8 -> 3 (the most), 2 left; 2 -> 1
    assert several([5, 0.5, 6.5, 0], decay=1.0, threshold=2.0, reset="subtract") == ([2, 0, 3, 1], [0.5, 0.25, 1.0, 0.0], 1.5)
    assert several([5, 0.5, 6.5, 0], decay=1.0, threshold=2.0)[0] == [2, 0, 3, 0]
    assert several([4, -9, 13], decay=1.0, threshold=2.0, reset="subtract", strict=True)[0] == [1, 0, 2]  # v 4 -> 2 - 9 -> -7 + 13 = 6, not > 6
    assert several([4, 2], decay=1.0, threshold=2.0, reset="subtract", reset_by=0.5)[0] == [2, 2]  # 4 - 1 + 2 = 5
    # 0.6 / 0.2 is below 3 in float64 and 0.1 + 0.2 above 3 * 0.1; what counts is v >= n * threshold
    assert several([0.6], decay=1.0, threshold=0.2)[0] == [int(0.6 >= 3 * 0.2) + 2] == [2]
    assert several([0.1 + 0.2], decay=1.0, threshold=0.1)[0] == [3]


RULE = NeuronRule(np.full((1, 1, 1), 2), np.zeros((1, 1, 1), np.int64), decay=2048, reset="subtract", max_spikes=3)
TO_SPIKE = Dense(RNG.integers(-1, 3, (24, 6)), SHAPE)


def op_graph(op: Op, operands: dict[str, tuple[int, int, int]]) -> Graph:
    """Input -> one spiking layer per operand (own cells among them, delay 1) -> population ``op`` -> readout, whole weights."""
    populations = [Population("in", (6, 1, 1), "input")]
    projections = []
    for name, shape in {"": SHAPE, **operands}.items():
        source = f"source {name}"
        populations.append(Population(source, shape, "spiking", RULE))
        projections.append(Projection("in", source, Dense(RNG.integers(-1, 4, (int(np.prod(shape)), 6)), shape)))
        projections.append(Projection(source, "op", SumPool(np.ones(shape[0], np.int64)), delay=int(not name), operand=name))
    rule = pass_rule(3) if op.name in ("or_pool", "gate") else RULE
    populations += [Population("op", SHAPE, "spiking", rule, op=op), Population("out", (2, 1, 1), "readout")]
    projections.append(Projection("op", "out", Dense(RNG.integers(-3, 4, (2, 24)), (2, 1, 1))))
    return Graph("op", 4, tuple(populations), tuple(projections))


def op_input(op: Op, cells: dict[str, np.ndarray], latch: np.ndarray) -> np.ndarray:
    """Inputs of one sample and step by loops over single cells; ``latch`` is updated."""
    result = np.zeros(SHAPE, np.int64)
    channels, height, width = SHAPE
    if isinstance(op, Gate):
        latch[...] = cells["mask"] + (latch if op.latched else 0)
    for c, y, x in np.ndindex(SHAPE):
        own = int(cells[""][c, y, x])
        if isinstance(op, Gate):
            group = latch[c * op.groups[0] // channels, y * op.groups[1] // height, x * op.groups[2] // width]
            own = own if (group >= op.count) != op.inverted else 0
        elif isinstance(op, MaxPool):
            (ky, kx), (sy, sx), (py, px) = op.kernel, op.stride, op.padding
            places = [(y * sy - py + j, x * sx - px + i) for j in range(ky) for i in range(kx)]
            own += max(int(cells["window"][c, Y, X]) for Y, X in places if 0 <= Y < op.source[1] and 0 <= X < op.source[2])
        elif isinstance(op, Coincidence):
            d = channels // op.heads
            h, b = divmod(c, d)
            q, k, v = (cells[name][h * d : (h + 1) * d].reshape(d, -1).tolist() for name in "qkv")
            n = y * width + x
            own += sum(q[a][n] * k[a][m] * v[b][m] for a in range(d) for m in range(height * width)) << op.shift
        result[c, y, x] = own
    return result


@pytest.mark.parametrize(
    "op",
    [
        OrPool(), Gate((2, 1, 3), 2), Gate((4, 2, 1), 2, inverted=True), Gate((1, 2, 3), 3, latched=True), Gate((4, 1, 1), 9, True, True),
        MaxPool((4, 3, 5), (2, 3), (2, 2), (1, 1)), Coincidence(2, scale=4.0, shift=2), Coincidence(4),
    ],
    ids=str,
)  # fmt: skip
def test_graph_ops_against_loops_in_integers_and_in_real_numbers(op: Op) -> None:
    graph = op_graph(op, op.operands(SHAPE))
    data = RNG.integers(0, 2, (6, 4, 6, 1, 1), dtype=np.uint8)
    found = run_graph(graph, data, load_chip("ideal"))
    assert found.spikes["source "].max() == 3  # values, not only spikes
    fired = found.spikes["op"]
    assert np.count_nonzero(fired) > 20
    for sample in range(len(data)):
        latch = np.zeros(op.operands(SHAPE).get("mask", (1, 1, 1)), np.int64)
        v = np.zeros(SHAPE, np.int64)
        for step in range(4):
            cells = {name: found.spikes[f"source {name}"][sample, step].astype(np.int64) for name in op.operands(SHAPE)}
            cells[""] = found.spikes["source "][sample, step - 1].astype(np.int64) if step else np.zeros(SHAPE, np.int64)
            given = op_input(op, cells, latch)
            if op.name in ("or_pool", "gate"):
                np.testing.assert_array_equal(fired[sample, step], np.minimum(given, 3))
                continue
            v = (v * 2048 >> 12) + given
            np.testing.assert_array_equal(fired[sample, step], np.clip(v // 2, 0, 3))
            v -= 2 * fired[sample, step]
    np.testing.assert_array_equal(found.counts["op"], np.count_nonzero(fired, axis=(2, 3, 4)))
    # in real numbers the first step is the same, and all steps are where no leak rounds
    real = run_graph(graph, data)
    np.testing.assert_array_equal(real.spikes["op"][:, 0], fired[:, 0])
    if op.name in ("or_pool", "gate"):
        rule = NeuronRule(np.full((1, 1, 1), 2), np.zeros((1, 1, 1), np.int64), reset="subtract", max_spikes=3)
        whole = graph.with_(populations=tuple(Population(p.name, p.shape, p.kind, rule) if p.rule is RULE else p for p in graph.populations))
        np.testing.assert_array_equal(run_graph(whole, data).spikes["op"], run_graph(whole, data, load_chip("ideal")).spikes["op"])


def test_what_several_spikes_subtract_stays_in_range() -> None:
    one = (1, 1, 1)
    for reset_by, threshold, max_spikes, fits in ((10, 5, 3, True), (11, 5, 3, False), (-1, 5, 3, False), (11, 5, 1, True)):
        rule = NeuronRule(np.full(one, threshold), np.zeros(one, np.int64), reset="subtract", reset_by=np.full(one, reset_by), max_spikes=max_spikes)
        graph = Graph("one", 1, (Population("a", one, "spiking", rule),), ())
        if fits:
            graph.verify()
        else:
            with pytest.raises(ModelError, match=r"population a: reset_by of .* with max_spikes 3 must lie in 0 \.\. 2 thresholds"):
                graph.verify()


def test_host_section_pools_analog_currents_after_rounding() -> None:
    """Currents with 3 fraction bits are rounded half up to units, then the largest of each window is the input of a host neuron."""
    shape = (1, 1, 2)
    op = MaxPool((1, 2, 4), (2, 2), (2, 2))
    weight = np.full((1,), 5, np.int64)
    rule = NeuronRule(np.full((1, 1, 1), 4), np.zeros((1, 1, 1), np.int64))
    graph = Graph(
        "host", 1,
        (
            Population("pixels", (1, 2, 4), "analog"), Population("first", shape, "spiking", rule, host=True, op=op),
            Population("out", (2, 1, 1), "readout"),
        ),
        (
            Projection("pixels", "first", SumPool(weight), operand="window", fraction_bits=3),
            Projection("first", "out", Dense(np.eye(2, dtype=np.int64), (2, 1, 1))),
        ),
    )  # fmt: skip
    pixels = np.array([[[[1, 5, -9, 2], [0, 3, 6, 5]]]])  # 25 / 8 -> 3 below the threshold; 30 / 8 = 3.75 -> 4
    found = run_graph(graph, pixels, load_chip("ideal"))
    assert found.spikes["first"].ravel().tolist() == [0, 1]
    assert found.scores.tolist() == [[0, 1]]


def test_a_gate_or_or_pool_passes_at_the_threshold_alone() -> None:
    from dataclasses import replace

    for op in (OrPool(), Gate((1, 1, 1))):
        strict = Population("op", (1, 1, 1), "spiking", replace(pass_rule(), strict=True), op=op)
        graph = Graph("g", 1, (Population("in", (1, 1, 1), "input"), strict), ())
        with pytest.raises(ModelError, match=f"the rule of its {op.name} is strict"):
            graph.verify()
        replace(graph, populations=(graph.populations[0], replace(strict, rule=pass_rule()))).verify()
