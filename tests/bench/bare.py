"""Bare loops over a stream of spikes into one 3x3 convolution: what a simulation would cost without time, FIFOs, network and trace.

Weights and state are those of the engine (int8, channel last; int32), the order of synapses is that of docs/machine.md, the arithmetic that of
the discipline: plain adds for ``accumulate`` (stepped disciplines), saturation, floor, threshold test and reset for ``test_fire`` (free).
``test_fire`` is the loop one writes, with one test per synapse; ``test_fire_twice`` first goes over a pixel without a branch, so that it becomes
vector code, and looks for who fired only where somebody did. Run by name for their speed: python tests/bench/bare.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

A = NDArray[Any]


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def accumulate(spikes: A, weights: A, bank: A) -> int:
    """Add the weights [ci, ky, kx, co] of every spike (c, y, x) into bank [h, w, co] int32 (stride 1, padding 1); returns the synapses."""
    height, width, channels = bank.shape
    served = 0
    for n in range(len(spikes)):
        c, y, x = spikes[n, 0], spikes[n, 1], spikes[n, 2]
        for row in range(max(0, y - 1), min(height, y + 2)):
            for column in range(max(0, x - 1), min(width, x + 2)):
                target, weight = bank[row, column], weights[c, y + 1 - row, x + 1 - column]
                for k in range(channels):
                    target[k] += weight[k]
                served += channels
    return served


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def test_fire(spikes: A, weights: A, v: A, threshold: int, floor: int, low: int, high: int, fired: A) -> tuple[int, int]:
    """The same into membranes v [h, w, co]: saturate, floor, test, reset by subtraction; (synapses, fires). ``fired`` is a ring of fired neurons."""
    height, width, channels = v.shape
    served, fires = 0, 0
    for n in range(len(spikes)):
        c, y, x = spikes[n, 0], spikes[n, 1], spikes[n, 2]
        for row in range(max(0, y - 1), min(height, y + 2)):
            for column in range(max(0, x - 1), min(width, x + 2)):
                target, weight = v[row, column], weights[c, y + 1 - row, x + 1 - column]
                first = (row * width + column) * channels
                for k in range(channels):
                    value = max(min(target[k] + weight[k], high), low)
                    value = max(value, floor)
                    target[k] = value
                    if value >= threshold:
                        target[k] = value - threshold
                        fired[fires % fired.size] = first + k
                        fires += 1
                served += channels
    return served, fires


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def test_fire_twice(spikes: A, weights: A, v: A, threshold: int, floor: int, low: int, high: int, fired: A) -> tuple[int, int]:
    """``test_fire`` in two passes per pixel, the first of them vector code."""
    height, width, channels = v.shape
    bottom, top, base, limit = np.int32(low), np.int32(high), np.int32(max(floor, -(2**31))), np.int32(threshold)
    served, fires = 0, 0
    for n in range(len(spikes)):
        c, y, x = spikes[n, 0], spikes[n, 1], spikes[n, 2]
        for row in range(max(0, y - 1), min(height, y + 2)):
            for column in range(max(0, x - 1), min(width, x + 2)):
                target, weight = v[row, column], weights[c, y + 1 - row, x + 1 - column]
                first = (row * width + column) * channels
                over = np.int32(0)
                for k in range(channels):
                    value = np.int32(max(min(np.int32(target[k] + weight[k]), top), bottom))
                    value = np.int32(max(value, base))
                    target[k] = value
                    over |= np.int32(value >= limit)
                if over != 0:
                    for k in range(channels):
                        if target[k] >= limit:
                            target[k] -= limit
                            fired[fires % fired.size] = first + k
                            fires += 1
                served += channels
    return served, fires


def speed(channels: int, side: int = 8, spikes: int = 20000, threshold: int = 300) -> dict[str, float]:
    """Synapses per second of each loop, best of five, for ``channels`` in and out; the fires per synapse as well."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-20, 22, (channels, 3, 3, channels)).astype(np.int8)
    stream = np.stack([rng.integers(0, n, spikes) for n in (channels, side, side)], axis=1)
    state, ring = np.zeros((side, side, channels), np.int32), np.zeros(1024, np.int64)
    rates: dict[str, float] = {}
    for name, loop in (
        ("accumulate", lambda: accumulate(stream, weights, state)),
        ("test_fire", lambda: test_fire(stream, weights, state, threshold, -300, -(2**15), 2**15 - 1, ring)),
        ("test_fire_twice", lambda: test_fire_twice(stream, weights, state, threshold, -300, -(2**15), 2**15 - 1, ring)),
    ):
        best = 0.0
        for _ in range(6):
            state.fill(0)
            began = time.process_time()
            result: Any = loop()
            spent = time.process_time() - began
            served, fires = result if isinstance(result, tuple) else (result, 0)
            best = max(best, served / spent)
        rates[name] = best
        rates["fires per synapse"] = fires / served
    return rates


def main() -> None:
    """Print the speed of the loops."""
    for channels in (32, 64, 128):
        print(channels, "channels:", "  ".join(f"{name} {rate:.3g}" for name, rate in speed(channels).items()))


if __name__ == "__main__":
    main()
