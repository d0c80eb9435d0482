from __future__ import annotations

import numpy as np
import pytest

from neurosim.arithmetic import decay
from neurosim.chip import load_chip
from neurosim.errors import DataError, ModelError
from neurosim.golden import run_graph
from neurosim.golden.graph import exact_dtype
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection

RNG = np.random.default_rng(5)


def small_graph(rounding_rule: NeuronRule, steps: int = 4) -> Graph:
    shape = (5, 1, 1)
    return Graph(
        "small", steps,
        (
            Population("in", (4, 1, 1), "input"), Population("a", shape, "spiking", rounding_rule),
            Population("out", (3, 1, 1), "readout", NeuronRule(np.ones(1, np.int64), np.array([1, -2, 3]).reshape(3, 1, 1), decay=3000)),
        ),
        (
            Projection("in", "a", Dense(RNG.integers(-40, 60, (5, 4)), shape), delay=0, shift=2),
            Projection("in", "a", Dense(RNG.integers(-40, 60, (3, 4)), (3, 1, 1)), delay=1, channel_offset=2),
            Projection("a", "a", Dense(RNG.integers(-40, 60, (5, 5)), shape), delay=2),
            Projection("a", "out", Dense(RNG.integers(-40, 60, (3, 5)), (3, 1, 1)), delay=1),
        ),
    )  # fmt: skip


def by_hand(graph: Graph, data: np.ndarray, rounding: int, low: int, high: int) -> tuple[list[list[int]], list[int], int]:
    """docs/machine.md section 4 and 6 in plain Python integers: spikes of `a` per step, scores, saturations."""
    rule, weights = graph.population("a").rule, [p.map.weight.tolist() for p in graph.projections]
    assert rule is not None
    v, i, out, fired, saturations = [0] * 5, [0] * 5, [0] * 3, [], 0

    def clip(x: int) -> int:
        nonlocal saturations
        saturations += not low <= x <= high
        return min(max(x, low), high)

    for step in range(graph.steps):
        now = []
        for n in range(5):
            bank = sum(int(w) << 2 for w, s in zip(weights[0][n], data[step], strict=True) if s)
            if n >= 2 and step >= 1:
                bank += sum(w for w, s in zip(weights[1][n - 2], data[step - 1], strict=True) if s)
            if step >= 2:
                bank += sum(w for w, s in zip(weights[2][n], fired[step - 2], strict=True) if s)
            current = bank
            if rule.decay_current is not None:
                i[n] = current = clip(decay(i[n], 4096 - rule.decay_current, rounding) + bank)
            v[n] = clip(decay(v[n], 4096 - rule.decay, rounding) + current + int(np.ravel(rule.bias)[n]))
            if rule.floor is not None:
                v[n] = max(v[n], int(np.ravel(rule.floor)[0]))
            threshold = int(np.ravel(rule.threshold)[0])
            spike = v[n] > threshold if rule.strict else v[n] >= threshold
            if spike:
                v[n] = 0 if rule.reset == "zero" else v[n] - threshold
            now.append(int(spike))
        fired.append(now)
        for k in range(3):
            bank = sum(w for w, s in zip(weights[3][k], fired[step - 1], strict=True) if s) if step >= 1 else 0
            out[k] = clip(decay(out[k], 4096 - 3000, rounding) + bank + [1, -2, 3][k])
    return fired, out, saturations


@pytest.mark.parametrize("rounding", ["floor", "zero", "nearest"])
@pytest.mark.parametrize(
    "rule",
    [
        {"decay": 2048}, {"decay": 3333, "reset": "subtract", "strict": True}, {"decay": 4096, "floor": np.array([-100])},
        {"decay": 1000, "decay_current": 3001}, {"decay": 4096, "reset": "subtract", "decay_current": 4000},
    ],
)  # fmt: skip
def test_integer_rules_delays_and_saturation(rule: dict[str, object], rounding: str) -> None:
    bias = RNG.integers(-20, 20, (5, 1, 1))
    graph = small_graph(NeuronRule(np.array([70]), bias, **rule))  # type: ignore[arg-type]
    chip = load_chip("async-mesh", [f'arithmetic.rounding="{rounding}"', "arithmetic.state_bits=9"])
    data = RNG.integers(0, 2, (20, 4, 4, 1, 1), dtype=np.uint8)
    found = run_graph(graph, data, chip, membranes=True)
    saturations = 0
    for sample in range(len(data)):
        fired, scores, clipped = by_hand(graph, data[sample, :, :, 0, 0], {"floor": 0, "zero": 1, "nearest": 2}[rounding], -256, 255)
        assert found.spikes["a"][sample, :, :, 0, 0].tolist() == fired
        assert found.scores[sample].tolist() == scores
        saturations += clipped
    assert sum(found.saturations.values()) == saturations > 0
    np.testing.assert_array_equal(found.counts["a"], found.spikes["a"].sum(axis=(2, 3, 4)))
    np.testing.assert_array_equal(found.membranes["out"][:, :, 0, 0], found.scores)


def test_batches_do_not_matter_and_mistakes_are_named() -> None:
    graph, chip = small_graph(NeuronRule(np.array([70]), np.array([3]))), load_chip("async-mesh")
    data = RNG.integers(0, 2, (7, 4, 4, 1, 1), dtype=np.uint8)
    np.testing.assert_array_equal(run_graph(graph, data, chip, batch=2).scores, run_graph(graph, data, chip).scores)
    assert list(run_graph(graph, data, chip, spikes=["a"]).spikes) == ["a"]
    assert not run_graph(graph, data, chip, spikes=False).spikes
    with pytest.raises(DataError, match="the graph's input in wants"):
        run_graph(graph, data[:, :3], chip)
    real = graph.with_(
        projections=tuple(Projection(p.source, p.target, Dense(p.map.weight / 2, p.map.shape), p.delay) for p in graph.projections[:1])
    )  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="quantise"):
        run_graph(real, data, chip)


def test_products_stay_exact_beyond_float64() -> None:
    """Sums that float32 and float64 would round: the type follows the proven bound."""
    m = Dense(np.array([[2**60, 1], [2**40, 3], [2**20, 1]]), (3, 1, 1))
    assert exact_dtype(m, (2, 1, 1), 1) is np.int64
    assert exact_dtype(Dense(m.weight[1:], (2, 1, 1)), (2, 1, 1), 1) is np.float64
    assert exact_dtype(Dense(m.weight[2:], (1, 1, 1)), (2, 1, 1), 1) is np.float32
    rule = NeuronRule(np.ones(1, np.int64), np.zeros(1, np.int64))
    populations = (Population("in", (2, 1, 1), "input"), Population("out", (3, 1, 1), "readout", rule))
    graph = Graph("wide", 1, populations, (Projection("in", "out", m),))
    assert run_graph(graph, np.ones((1, 1, 2, 1, 1), np.uint8), load_chip("ideal")).scores.tolist() == [[2**60 + 1, 2**40 + 3, 2**20 + 1]]


def test_two_inputs_a_loop_of_two_populations_and_no_readout() -> None:
    # a: 3 x left + back of two steps ago, threshold 3; b: a of this step x 2 + right, threshold 3; the loop b -> a goes against the order
    one = (1, 1, 1)
    rule = NeuronRule(np.full(one, 3), np.zeros(one, np.int64))
    graph = Graph(
        "loop", 5,
        (
            Population("left", one, "input"), Population("right", one, "input"),
            Population("a", one, "spiking", rule), Population("b", one, "spiking", rule),
        ),
        (
            Projection("left", "a", Dense(np.array([[3]]), one)), Projection("b", "a", Dense(np.array([[4]]), one), delay=2),
            Projection("a", "b", Dense(np.array([[2]]), one)), Projection("right", "b", Dense(np.array([[1]]), one)),
        ),
    )  # fmt: skip
    left, right = (np.array([bits], np.uint8).reshape(1, 5, 1, 1, 1) for bits in ([1, 0, 0, 0, 0], [1, 0, 0, 1, 0]))
    found = run_graph(graph, {"left": left, "right": right}, load_chip("async-mesh"), membranes=True)
    # step 0: a fires, b = 2 + 1 fires; step 2: a = 4 fires, b = 2; step 3: b = 3 fires; beyond step 4 nothing arrives
    assert found.spikes["a"].ravel().tolist() == [1, 0, 1, 0, 0]
    assert found.spikes["b"].ravel().tolist() == [1, 0, 0, 1, 0]
    assert found.scores.shape == (1, 0)
    with pytest.raises(DataError, match="give a dict"):
        run_graph(graph, left, load_chip("async-mesh"))
    with pytest.raises(DataError, match="input right has no data"):
        run_graph(graph, {"left": left}, load_chip("async-mesh"))
    undelayed = graph.with_(projections=(*graph.projections[:1], Projection("b", "a", Dense(np.array([[4]]), one)), *graph.projections[2:]))
    with pytest.raises(ModelError, match="cycle without delay"):
        run_graph(undelayed, {"left": left, "right": right}, load_chip("async-mesh"))
