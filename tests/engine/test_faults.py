"""Faults against hand-worked words and times; draws against the hash of the rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurosim.arithmetic import SALT_WEIGHT, hash_draw
from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.engine.events import CURRENT, Engine, Options, Stimulus
from neurosim.engine.faults import Faults, apply_faults, faulty_words, silence
from neurosim.errors import RunError
from neurosim.graph import Graph, Population, Projection, SumPool
from neurosim.ops import Coincidence, Gate
from neurosim.program import E_WEIGHT
from tests.engine.networks import ENGINES, chain, rule, spikes
from tests.engine.test_ops import op_program


def test_each_bit_draws_by_seed_core_word_and_bit() -> None:
    faults = Faults(weight_flip=0.3, weight_stuck_at_0=0.2, weight_stuck_at_1=0.1, seed=-5)
    words = np.array([-7, 5, 0, -32, 31, 12], np.int64)
    expected = []
    for k, word in enumerate(words.tolist()):
        held = 0
        for b in range(6):
            h = hash_draw(-5, 3, k, b, SALT_WEIGHT)
            upper, lower, bit = h >> 32, h & 0xFFFFFFFF, word >> b & 1
            if upper < round(0.2 * 2**32):
                bit = 0
            elif upper < round(0.2 * 2**32) + round(0.1 * 2**32):
                bit = 1
            elif lower < round(0.3 * 2**32):
                bit = 1 - bit
            held |= bit << b
        expected.append(held - 64 if held >= 32 else held)
    assert faulty_words(words, 6, 3, faults).tolist() == expected
    assert expected != words.tolist()


def test_words_are_those_of_two_complement() -> None:
    words = np.array([5, -3, 0], np.int64)
    assert faulty_words(words, 4, 0, Faults(weight_flip=1)).tolist() == [~5, ~-3, ~0]
    assert faulty_words(words, 4, 0, Faults(weight_stuck_at_1=1, weight_flip=1)).tolist() == [-1, -1, -1]
    assert faulty_words(words, 4, 0, Faults(weight_stuck_at_0=1, weight_flip=1)).tolist() == [0, 0, 0]
    assert faulty_words(words, 4, 0, Faults()).tolist() == words.tolist()


def test_the_share_of_faulty_bits_is_the_probability_also_beyond_one_part() -> None:
    words = np.zeros(200_000, np.int64)
    flipped = faulty_words(words, 8, 1, Faults(weight_flip=0.25)) & 255
    share = np.unpackbits(flipped.astype(np.uint8)).mean()
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 1.6e6) ** 0.5
    assert not np.array_equal(flipped[:1000], flipped[1 << 16 : (1 << 16) + 1000])


def test_every_core_has_its_own_copy_of_a_shared_block() -> None:
    # two slices of one population on two cores see the same 2 x 1 weights of 3; of one core's copy another bit flips than of the other's
    population = Population("p", (2, 1, 1), "spiking", rule(100), scale=np.ones(2))
    graph = Graph("two", 1, (Population("in", (2, 1, 1), "input"), population), (Projection("in", "p", SumPool(np.array([3, 3]))),))
    mapping = Mapping((Slice(1, (0, 1, 0, 1, 0, 1)), Slice(1, (1, 2, 0, 1, 0, 1))), (0, 1), (2, 2))
    program = assemble(graph, load_chip("tiny"), "wavefront", mapping)
    assert program.weights.tolist() == [3]
    faults = Faults(weight_flip=0.5, seed=1)
    broken = apply_faults(program, faults)
    assert broken.entry[:, E_WEIGHT].tolist() == [0, 1]
    assert broken.weights.tolist() == [int(faulty_words(np.array([3]), 8, core, faults)[0]) for core in (0, 1)]
    assert len(set(broken.weights.tolist())) == 2
    assert broken.meta["faulty"] is True
    assert program.weights.tolist() == [3]
    assert "faulty" not in program.meta
    assert apply_faults(program, Faults(link_loss=0.5)) is program


def test_blocks_of_a_core_follow_each_other_in_program_order() -> None:
    # p0 and p1 on core 0 hold [5, 5] and [1, 1, 1, 1]; out on core 1 holds [2, 2]: words 0..5 of core 0, words 0..1 of core 1
    program = chain([1, 2, 2, 1], [5, 1, 2], [0, 0, 1])
    faults = Faults(weight_flip=0.5, seed=4)
    broken = apply_faults(program, faults)
    core0, core1 = faulty_words(np.array([5, 5, 1, 1, 1, 1]), 8, 0, faults), faulty_words(np.array([2, 2]), 8, 1, faults)
    assert broken.weights.tolist() == [*core0.tolist(), *core1.tolist()]
    order = np.argsort(broken.entry[:, E_WEIGHT])
    assert broken.entry[order, E_WEIGHT].tolist() == [0, 2, 6]


@pytest.mark.parametrize("run", ENGINES)
def test_banks_wrap_around_in_acc_bits(run: Engine) -> None:
    # acc_bits 4: -8..7. Stuck at 1 but for nothing: every weight is -1. 9 inputs of -1 give -9, which wraps around to 7 >= 5: both neurons fire
    program = chain([9, 2, 1], [0, 0], [0, 1], arithmetic__acc_bits=4)
    broken = apply_faults(program, Faults(weight_stuck_at_1=1))
    result = run(broken, [spikes(broken, [(0, k) for k in range(9)])], Options(state=True))
    assert result.spikes["address"].tolist() == [0, 1]
    assert result.scores.tolist() == [[-2]]


@pytest.mark.parametrize("run", ENGINES)
@pytest.mark.parametrize(("bits", "membrane"), [(6, -16), (4, 0)])
def test_registers_with_faulty_weights_follow_the_same_rules(run: Engine, bits: int, membrane: int) -> None:
    # every weight 1 flips to -2: k = -2 - 2, v = -2, M = 4 + 4; q = -2 of the other token reads -16. In 4 bits M is -8 and the input 0
    wires = {"k": [(0, 0, 1), (1, 0, 1)], "v": [(2, 0, 1)], "q": [(3, 1, 1)]}
    program = op_program(Coincidence(1), (1, 1, 2), wires, "wavefront", rule(100), arithmetic__acc_bits=bits)
    broken = apply_faults(program, Faults(weight_flip=1))
    result = run(broken, [spikes(broken, [(0, k) for k in (2, 0, 1, 3)])], Options(state=True))
    assert result.core["pairs"][0] == 2
    assert result.state_v[0, :2].tolist() == [0, membrane]


@pytest.mark.parametrize("run", ENGINES)
def test_a_dead_core_with_an_open_gate_is_silent(run: Engine) -> None:
    gate = Gate((1, 1, 1), inverted=True)
    program = op_program(gate, (1, 1, 2), {"": [(0, 0, 1), (1, 1, 1)], "mask": [(2, 0, 1)]}, "wavefront", steps=2)
    stimuli = [spikes(program, [(0, 0), (1, 1)])]
    assert run(program, stimuli, Options()).core["fires"][0] == 2
    result = run(apply_faults(program, Faults(dead_cores=(0,))), stimuli, Options())
    assert result.core["fires"][0] == result.core["op_reads"][0] == 0


@pytest.mark.parametrize("run", ENGINES)
@pytest.mark.parametrize("sync", ["wavefront", "free", "barrier"])
def test_a_dead_core_computes_nothing_and_nothing_hangs(run: Engine, sync: str) -> None:
    biased = rule(5, bias=9)
    network = {"sizes": [2, 2, 2, 1], "weights": [5, 5, 1], "cores": [0, 1, 0], "rules": {0: biased, 1: biased}, "steps": 2}
    program = chain(**network, sync=sync)  # type: ignore[arg-type]
    stimuli = [spikes(program, [(0, 0), (0 if sync == "free" else 1, 1)])]
    whole = run(program, stimuli, Options(state=True))
    broken = apply_faults(program, Faults(dead_cores=(1,)))
    result = run(broken, stimuli, Options(state=True))
    assert whole.core["fires"][1] > 0
    assert result.core["synops"][1] == result.core["fires"][1] == 0
    assert result.core["spike_packets"].tolist()[1] == whole.core["spike_packets"].tolist()[1] > 0
    assert result.core["fires"][0] == whole.core["fires"][0]
    assert result.scores.tolist() == [[0]]
    assert not result.state_v[0, 2:4].any()


def test_currents_into_a_dead_core_become_0() -> None:
    program = chain([2, 2, 1], [5, 1], [0, 1])
    spike = spikes(program, [(0, 1)])
    columns = [[0, 0], [0, 0], [CURRENT] * 2, [0, 1], [0, 0], [5, 7]]
    current = Stimulus(*(np.array(column, spike_column.dtype) for column, spike_column in zip(columns, vars(spike).values(), strict=False)))
    silent = silence(program, [spike, current], Faults(dead_cores=(1,)))
    assert [one.value.tolist() for one in silent] == [[1], [5, 0]]
    assert current.value.tolist() == [5, 7]
    same = silence(program, [spike, replace(current)], Faults())
    assert same[0] is spike


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"link_loss": 1.5}, "link_loss 1.5 is no probability"),
        ({"weight_flip": float("nan")}, "weight_flip nan"),
        ({"weight_stuck_at_0": 0.6, "weight_stuck_at_1": 0.5}, "together they are at most 1"),
        ({"dead_cores": (-1,)}, "dead_cores holds -1"),
        ({"seed": 0.5}, "seed 0.5"),
        ({"dead_cores": (2,)}, "the chip has 2 cores"),
    ],
)
def test_impossible_faults_are_refused_in_words(change: dict[str, object], text: str) -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1])
    with pytest.raises(RunError, match=text):
        apply_faults(program, Faults(**change))  # type: ignore[arg-type]


def test_weights_wider_than_the_words_are_refused() -> None:
    program = chain([1, 1, 1], [5, 1], [0, 1], arithmetic__weight_bits=3)
    with pytest.raises(RunError, match=r"weights 1\.\.5 do not fit arithmetic.weight_bits 3"):
        apply_faults(program, Faults(weight_flip=0.5))


def test_link_loss_is_handed_over_in_units_of_the_hash() -> None:
    assert Faults(link_loss=0.25).link_loss_draw == 2**30
    assert Faults(link_loss=1).link_loss_draw == 2**32
    assert not Faults().any
    assert Faults(link_loss=0.25).any
