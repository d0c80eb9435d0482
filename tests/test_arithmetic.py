"""The integer rules against their definitions in exact rational arithmetic, and the hash against its published generator."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numba as nb
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim import arithmetic as a

STATE = st.integers(-(2**40), 2**40)


@given(x=STATE, d=st.integers(0, 4096), rounding=st.sampled_from(["floor", "zero", "nearest"]))
def test_decay_is_the_rounded_fraction(x: int, d: int, rounding: str) -> None:
    exact = Fraction(x * (4096 - d), 4096)
    expected = {"floor": floor(exact), "zero": floor(exact) if x >= 0 else ceil(exact), "nearest": floor(exact + Fraction(1, 2))}[rounding]
    assert a.decay(x, d, a.ROUNDINGS[rounding]) == expected


@given(v=STATE, c=STATE, low=st.integers(-1000, -1), high=st.integers(1, 1000), lowest=st.integers(-1200, 0))
def test_integrate_saturates_then_floors_and_counts_saturations_only(v: int, c: int, low: int, high: int, lowest: int) -> None:
    membrane, count = a.integrate(v, c, lowest, low, high)
    assert membrane == max(min(max(v + c, low), high), lowest)
    assert count == (not low <= v + c <= high)


def test_rules_compile_to_what_python_computes() -> None:
    @nb.njit
    def compiled(v: int, i: int, bank: int) -> tuple[int, int, int, int]:
        current, s1 = a.step_current(i, bank, 1024, 1, -128, 127)
        membrane, s2 = a.step_membrane(v, current, -3, 2048, -50, 0, -128, 127)
        return current, s1, membrane, s2

    for v, i, bank in [(100, 90, 90), (-127, -100, -40), (5, 3, 0), (-1, -1, -1)]:
        current, s1 = a.step_current(i, bank, 1024, 1, -128, 127)
        membrane, s2 = a.step_membrane(v, current, -3, 2048, -50, 0, -128, 127)
        assert compiled(v, i, bank) == (current, s1, membrane, s2)


def test_splitmix64_first_outputs_from_seed_zero() -> None:
    # the generator's state advances by the golden-ratio constant, which the finaliser adds; values as in the reference C code of Vigna
    golden = 0x9E3779B97F4A7C15
    outputs = [a.splitmix64((k * golden) & a.MASK64) for k in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@given(seed=st.integers(0, 2**63), amplitude=st.integers(0, 65535), n=st.integers(0, 2**40))
def test_jitter_stays_in_its_range_and_durations_positive(seed: int, amplitude: int, n: int) -> None:
    r = a.jitter_draw(seed, 1, 2, n, amplitude)
    assert -amplitude <= r <= amplitude
    assert a.jittered(1, r) >= 1
    assert abs(a.jittered(65536, r) - 65536 - r) <= (1 if r == -65536 else 0) or a.jittered(65536, r) == 1


def test_jitter_is_uniform_and_uses_all_its_arguments() -> None:
    draws = [a.jitter_draw(0, 0, 0, n, 1) for n in range(3000)]
    assert all(900 < draws.count(value) < 1100 for value in (-1, 0, 1))
    assert len({a.jitter_draw(*args, 65535) for args in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]}) == 5


WORD = st.one_of(st.integers(-a.MOST, a.MOST), st.sampled_from([0, 1, -1, a.MOST, -a.MOST, 2**62, -(2**62), 2**31, -(2**31), 3037000500]))
"""Numbers of 64 bits, many of them at the ends."""


@nb.njit
def _compiled(x: int, y: int, z: int, d: int, rounding: int, bits: int) -> tuple[int, ...]:
    high = np.int64(a.MOST) >> (64 - bits)
    low = -high - 1
    total, over = a.add(x, y, low, high)
    three, more = a.add_three(x, y, z, low, high)
    return (
        total,
        over,
        three,
        more,
        a.product(x, y),
        a.decay(x, d, rounding),
        a.spike_count(x, max(1, abs(y)), 1, 255),
        a.jittered(abs(x) >> 2, z % 65536),
    )


@given(x=WORD, y=WORD, z=WORD, d=st.integers(0, 4096), rounding=st.integers(0, 2), bits=st.sampled_from([4, 24, 48, 63, 64]))
@settings(max_examples=1000)
def test_no_rule_leaves_64_bits_on_its_way(x: int, y: int, z: int, d: int, rounding: int, bits: int) -> None:
    """Against exact integers, in Python and compiled."""
    high = (1 << (bits - 1)) - 1

    def clip(v: int, top: int = high) -> int:
        return max(-top - 1, min(top, v))

    exact = Fraction(x * (4096 - d), 4096)
    duration, r, threshold = abs(x) >> 2, z % 65536, max(1, abs(y))
    wanted = (
        clip(x + y), int(clip(x + y) != x + y), clip(x + y + z), int(clip(x + y + z) != x + y + z), max(-a.MOST, min(a.MOST, x * y)),
        (floor(exact), ceil(exact) if x < 0 else floor(exact), floor(exact + Fraction(1, 2)))[rounding],
        max(0, min(255, (x - 1) // threshold)), max(1, duration + ((duration * r) >> 16)),
    )  # fmt: skip
    python = (
        *a.add(x, y, -high - 1, high), *a.add_three(x, y, z, -high - 1, high), a.product(x, y), a.decay(x, d, rounding),
        a.spike_count(x, threshold, 1, 255), a.jittered(duration, r),
    )  # fmt: skip
    assert python == wanted
    assert _compiled(x, y, z, d, rounding, bits) == wanted
