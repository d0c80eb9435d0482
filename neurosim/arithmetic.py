"""The integer rules of a neuron and of the machine, once (MACHINE section 4, docs/machine.md).

Every function here is plain Python for the reference engine, the golden model and the debugger, and is compiled into the fast engine through
``register_jitable``. Arguments are integers that fit int64, and no rule leaves int64 on its way, so that compiled code computes what Python does;
Python's ``>>`` and numba's agree. (Banks alone add modulo 2**64, of which ``acc_bits`` are looked at.)

Rounding of a decay: 0 floor, 1 toward zero, 2 nearest (halves upward).
"""

from __future__ import annotations

from typing import TypeVar, cast

from numba.extending import register_jitable

ROUND_FLOOR, ROUND_ZERO, ROUND_NEAREST = 0, 1, 2
ROUNDINGS = {"floor": ROUND_FLOOR, "zero": ROUND_ZERO, "nearest": ROUND_NEAREST}
RESET_ZERO, RESET_SUBTRACT = 0, 1
DECAY_ONE = 4096  # a decay d multiplies by (4096 - d) / 4096
NO_CURRENT = -1  # decay_i of a neuron without a synaptic current
NO_FLOOR = -(2**62)  # floor of a neuron without one
FAR = 2**61  # two or three numbers below it add up within int64
MOST = 2**63 - 1  # products of ``free`` are clipped to +-MOST
MASK64 = 0xFFFFFFFFFFFFFFFF
SALT_JITTER = 0x6A09E667F3BCC908  # first 64 bits of frac(sqrt(2)), a nothing-up-my-sleeve number
SALT_LOSS = 0xBB67AE8584CAA73B  # the same of sqrt(3): spikes lost on links
SALT_WEIGHT = 0x3C6EF372FE94F82B  # of sqrt(5): weight bits that are stuck or flipped

F = TypeVar("F")


def _rule(function: F) -> F:
    return cast(F, register_jitable(function))


@_rule
def saturate(x: int, low: int, high: int) -> int:
    """Clip x to [low, high]; the caller counts a saturation when the result differs."""
    if x < low:
        return low
    if x > high:
        return high
    return x


@_rule
def add(a: int, b: int, low: int, high: int) -> tuple[int, int]:
    """(a + b clipped to [low, high], 1 if it was clipped, else 0)."""
    if not (-FAR < a < FAR and -FAR < b < FAR):  # seldom; else a sum costs no branch on signs
        if b > 0 and a > MOST - b:
            return high, 1
        if b < 0 and a < -MOST - 1 - b:
            return low, 1
    total = a + b
    clipped = saturate(total, low, high)
    return clipped, 0 if clipped == total else 1


@_rule
def add_three(a: int, b: int, c: int, low: int, high: int) -> tuple[int, int]:
    """(a + b + c clipped to [low, high], 1 if it was clipped, else 0)."""
    if -FAR < a < FAR and -FAR < b < FAR and -FAR < c < FAR:
        total = a + b + c
        clipped = saturate(total, low, high)
        return clipped, 0 if clipped == total else 1
    if (a < 0) == (b < 0):
        b, c = c, b  # terms of opposite signs first: if there are any, their sum cannot leave int64 and come back
    part, over = add(a, b, -MOST - 1, MOST)
    total, more = add(part, c, -MOST - 1, MOST)
    clipped = saturate(total, low, high)
    return clipped, 0 if over + more == 0 and clipped == total else 1


@_rule
def product(a: int, b: int) -> int:
    """a * b clipped to +-MOST, for a and b within +-MOST."""
    if -(2**31) <= a <= 2**31 and -(2**31) <= b <= 2**31:  # as a rule; a division costs more than all the rest
        return a * b
    if a != 0 and abs(b) > MOST // abs(a):
        return MOST if (a > 0) == (b > 0) else -MOST
    return a * b


@_rule
def decay(x: int, d: int, rounding: int) -> int:
    """x * (4096 - d) / 4096, rounded as the chip says; x = 4096 a + b with 0 <= b < 4096, so that no product leaves int64."""
    carry = 0
    if rounding == 2:
        carry = 2048
    elif rounding == 1 and x < 0:
        carry = 4095
    return (x >> 12) * (4096 - d) + (((x & 4095) * (4096 - d) + carry) >> 12)


@_rule
def fires(v: int, threshold: int, strict: int) -> bool:
    """The threshold test: v >= threshold, or v > threshold where the rule is strict."""
    if strict != 0:
        return v > threshold
    return v >= threshold


@_rule
def spike_count(v: int, threshold: int, strict: int, most: int) -> int:
    """Spikes of a step: the largest n <= most with v >= n * threshold, or v > n * threshold where the rule is strict; 0 below."""
    if v < threshold:
        return 0
    count = (v - 1) // threshold if strict != 0 else v // threshold
    if count > most:
        return most
    return count


@_rule
def reset(v: int, reset_mode: int, reset_by: int) -> int:
    """The membrane after one spike: 0, or v - reset_by."""
    if reset_mode == 0:
        return 0
    return v - reset_by


@_rule
def step_current(i: int, bank: int, decay_i: int, rounding: int, low: int, high: int) -> tuple[int, int]:
    """i <- sat(dec_i(i) + bank): (current, number of saturations). Without a synaptic current (decay_i < 0) the bank is the current."""
    if decay_i < 0:
        return bank, 0
    return add(decay(i, decay_i, rounding), bank, low, high)


@_rule
def step_membrane(v: int, current: int, bias: int, decay_v: int, floor: int, rounding: int, low: int, high: int) -> tuple[int, int]:
    """v <- max(sat(dec_v(v) + i + bias), floor): (membrane before the test, number of saturations)."""
    clipped, count = add_three(decay(v, decay_v, rounding), current, bias, low, high)
    if clipped < floor:
        clipped = floor
    return clipped, count


@_rule
def integrate(v: int, contribution: int, floor: int, low: int, high: int) -> tuple[int, int]:
    """Free discipline, one synapse: v <- max(sat(v + c), floor): (membrane before the test, number of saturations)."""
    clipped, count = add(v, contribution, low, high)
    if clipped < floor:
        clipped = floor
    return clipped, count


@_rule
def jittered(x: int, r: int) -> int:
    """A duration x with relative spread r / 65536: max(1, x + ((x * r) >> 16))."""
    y = x + (x >> 16) * r + (((x & 65535) * r) >> 16)
    if y < 1:
        return 1
    return y


def splitmix64(x: int) -> int:
    """Finaliser of the SplitMix64 generator (Steele, Lea, Flood 2014, 10.1145/2660193.2660195) over a 64-bit word."""
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


def hash_draw(seed: int, sample: int, server: int, n: int, salt: int) -> int:
    """64-bit hash of (seed, sample, server, n), the source of every random draw: independent of engine, order and workers."""
    h = splitmix64((seed ^ salt) & MASK64)
    h = splitmix64(h ^ (sample & MASK64))
    h = splitmix64(h ^ (server & MASK64))
    return splitmix64(h ^ (n & MASK64))


def jitter_draw(seed: int, sample: int, server: int, n: int, amplitude: int) -> int:
    """r in [-amplitude, amplitude] for service n of a server: the upper 32 bits of the hash times (2a + 1), shifted down, minus a."""
    upper = hash_draw(seed, sample, server, n, SALT_JITTER) >> 32
    return ((upper * (2 * amplitude + 1)) >> 32) - amplitude


def is_lost(seed: int, sample: int, server: int, n: int, probability: int) -> bool:
    """Whether the link output ``server`` loses the spike of its service n: upper 32 bits of the hash < probability (in 1/2**32)."""
    return hash_draw(seed, sample, server, n, SALT_LOSS) >> 32 < probability
