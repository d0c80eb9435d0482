"""The power of Loihi under networks of growing size: Blouw et al. 2019, arXiv:1812.01739, power logs in abr/power_benchmarks at fce95c8.

An input layer and an output layer of 256 neurons on 8 cores each, N branches of ten layers of 256 neurons between them, a core per layer
(nengo-loihi's placement); 10 steps per inference, steps of 0.87 ms paced by the x86 cores. Means of the rails VDD and VDDM between start and end of
the runs, three runs per N. The weights and the activity of the branches are not published.
"""

from __future__ import annotations

import numpy as np

from neurosim import api
from neurosim.energy import price
from neurosim.engine.run import simulate_stimuli
from neurosim.host import encode, load_data
from neurosim.network import Network

POWER_MW = {1: 107.94, 2: 109.98, 4: 113.50, 6: 117.31, 8: 120.89, 10: 124.82}
STEP_PS = 874_500_000
"""Mean of the runs with branches: 17.49 s for 20,000 steps."""
NEURONS, LAYERS, STEPS = 256, 10, 10


def measured_line() -> tuple[float, float]:
    """(mW without a branch, mW per branch): least squares over ``POWER_MW``."""
    slope, intercept = np.polyfit(list(POWER_MW), list(POWER_MW.values()), 1)
    return float(intercept), float(slope)


def network(branches: int) -> Network:
    """The topology above, all weights 1; without input no neuron fires."""
    net = Network(f"{branches} branches", steps=STEPS)
    ones = np.ones((NEURONS, NEURONS))

    def layer(name: str, *sources: str) -> str:
        sums = [net.linear(f"{name}.from.{source}", source, ones) for source in sources]
        return net.lif(f"{name}.lif", net.add(f"{name}.sum", *sums) if len(sums) > 1 else sums[0], decay=0.9, threshold=100.0)

    first = layer("input", net.spikes_input("in", (NEURONS, 1, 1)))
    ends = []
    for branch in range(branches):
        x = first
        for k in range(LAYERS):
            x = layer(f"branch{branch}.{k}", x)
        ends.append(x)
    net.output(layer("output", *(ends or [first])))
    return net


def power_mw(branches: int, *, board: bool) -> float:
    """Of ``loihi1-like`` without a single spike: ``board`` at rest or the static power of the cores in use, and the neurons visited in every step.

    A core per layer of a branch; input and output on 8 cores each, which changes the static power only.
    """
    program = api.build(network(branches), "loihi1-like", overrides=[f"memory.neurons={NEURONS}"], audit=False)
    silent = np.zeros((1, STEPS, NEURONS, 1, 1), np.uint8)
    result = simulate_stimuli(program, encode(program, load_data(silent, program)), engine="reference")
    assert int(result.core["fires"].sum()) == 0
    cores = len(set(program.slice_core.tolist()))
    assert cores - 2 >= branches * LAYERS
    energy, prices = price(program, result), program.chip.prices
    assert prices.board_mw is not None
    dynamic_mw = (energy.chip_fj - energy.component_fj("static")) / (STEPS * STEP_PS)
    return dynamic_mw + (prices.board_mw.value if board else prices.static_core_mw.value * (cores + 14))
