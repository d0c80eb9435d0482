"""Numbers that leave their words, and on their way 64 bits: worked out with exact integers, in both engines (docs/machine.md, sections 4, 5, 12)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurosim.arithmetic import MOST, NO_FLOOR
from neurosim.engine.events import Engine, Options
from neurosim.ops import Coincidence
from neurosim.program import E_SHIFT, Program
from tests.engine.networks import ENGINES, chain, rule, spikes
from tests.engine.test_ops import op_program

STATE = Options(state=True)
NEVER = rule(2**23 - 1, strict=True)


def worn(program: Program, weights: list[int], shift: int = 0) -> Program:
    """The Program with other weights, as faults leave them."""
    entry = program.entry.copy()
    entry[:, E_SHIFT] = shift
    return replace(program, weights=np.array(weights, np.int32), entry=entry, meta=program.meta | {"faulty": True})


@pytest.mark.parametrize("run", ENGINES)
@pytest.mark.parametrize("acc_bits", [48, 64])
@pytest.mark.parametrize(("q", "membrane"), [(1310872849, 2**23 - 1), (-1310872849, -(2**23))])
def test_pairs_of_free_with_any_weights(run: Engine, acc_bits: int, q: int, membrane: int) -> None:
    # M = 1175521901 * 1310872849 = 1.54e18, in 48 bits 2**47 - 1; a spike of q then brings that times 1310872849 to the neuron
    wires = {"k": [(0, 0, 5)], "v": [(1, 0, 6)], "q": [(2, 1, 7)]}
    program = op_program(Coincidence(1), (1, 1, 2), wires, "free", NEVER, arithmetic__acc_bits=acc_bits, arithmetic__state_bits=24)
    assert program.weights.tolist() == [5, 6, 7, 1, 1]
    broken = worn(program, [1175521901, 1310872849, q, 0, 0])
    result = run(broken, [spikes(broken, [(0, 0), (0, 1), (0, 2)])], STATE)
    assert result.state_v[0, :2].tolist() == [0, membrane]
    assert int(result.core["saturations"][0]) == 1


@pytest.mark.parametrize("run", ENGINES)
@pytest.mark.parametrize("bits", [24, 64])
@pytest.mark.parametrize("weight", [2**31 - 1, -(2**31)])
def test_contributions_of_free(run: Engine, bits: int, weight: int) -> None:
    # weight * 255 << 30 has 69 bits, weight * 2 << 1 fits
    program = chain([1, 1, 1], [1, 1], [0, 1], "free", rules={0: rule(2 ** (bits - 1) - 1, strict=True)}, arithmetic__state_bits=bits)
    high = 2 ** (bits - 1) - 1
    for value, shift in ((255, 30), (2, 1)):
        broken = worn(program, [weight, 0], shift)
        stimulus = spikes(broken, [(0, 0)])
        stimulus.value[0] = value
        contribution = max(-MOST, min(MOST, (weight * value) << shift))
        result = run(broken, [stimulus], STATE)
        assert result.state_v[0, 0] == max(-high - 1, NO_FLOOR, min(high, contribution))


@pytest.mark.parametrize("run", ENGINES)
@pytest.mark.parametrize("bias", [2**62, -(2**62)])
def test_the_start_item_of_free(run: Engine, bias: int) -> None:
    never = rule(MOST, bias=np.int64(bias), strict=True)
    program = chain([1, 1, 1], [1, 1], [0, 1], "free", steps=4, rules={0: never}, arithmetic__state_bits=64)
    result = run(program, [spikes(program, [])], STATE)
    assert result.state_v[0, 0] == (MOST if bias > 0 else NO_FLOOR)


@pytest.mark.parametrize("run", ENGINES)
@pytest.mark.parametrize("current", [False, True])
@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_a_step_of_the_widest_words(run: Engine, sync: str, current: bool) -> None:
    # a bank of 2**31 * 255 << 23 = 255 * 2**54 in every step, half of it kept: the sum of three passes 2**63 and comes back
    more: dict[str, Any] = {"decay_current": 2048} if current else {}
    first = rule(MOST, bias=np.int64(-(2**62)), decay=2048, strict=True, v_init=np.array([[[MOST]]]), **more)
    program = chain([1, 1, 1], [1, 1], [0, 1], sync, steps=3, rules={0: first}, arithmetic__state_bits=64, arithmetic__acc_bits=64)
    for weight in (2**31 - 1, -(2**31)):
        broken = worn(program, [weight, 0], 23)
        stimulus = spikes(broken, [(0, 0), (1, 0), (2, 0)])
        stimulus.value[:] = 255
        v, i, clipped = MOST, 0, 0
        for _ in range(3):
            bank = (weight * 255) << 23
            i = max(-MOST - 1, min(MOST, total := i // 2 + bank if current else bank))
            clipped += i != total
            v = max(-MOST - 1, min(MOST, total := v // 2 + i - 2**62))
            clipped += v != total
            v = max(v, NO_FLOOR)
        result = run(broken, [stimulus], STATE)
        assert result.state_v[0, 0] == v
        assert int(result.core["saturations"][0]) == clipped
