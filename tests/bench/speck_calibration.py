"""How the latencies of the preset speck2f-like were fitted, and what the simulated chip then takes. Run: python -m tests.bench.speck_calibration

Published: 1.58 us through one 3x3 layer and 3.36 us through nine, pad to pad, and layers from 0.12 us (1x1) to 7 us (16x16). A layer is taken as
a + p * b with p the position of the kernel at which the spike leaves: 1 of 1, 5 of 9 (the middle), 256 of 256.
"""

from __future__ import annotations

import numpy as np

from neurosim.chip import Chip
from neurosim.compiler.pipeline import compile_network
from neurosim.engine.run import simulate_stimuli
from neurosim.host import encode, load_data
from neurosim.network import Network

ONE_LAYER_NS, NINE_LAYERS_NS = 1580.0, 3360.0
PER_LAYER_NS = (NINE_LAYERS_NS - ONE_LAYER_NS) / 8
POSITIONS, LATENCIES_NS = np.array([1.0, 5.0, 256.0]), np.array([120.0, PER_LAYER_NS, 7000.0])


def fit_ns() -> tuple[float, float]:
    """(a, b): nanoseconds of a layer beside its kernel, and per position; least squares of relative errors over the three published layers."""
    system = np.stack([np.ones(3), POSITIONS], axis=1) / LATENCIES_NS[:, None]
    a, b = np.linalg.lstsq(system, np.ones(3), rcond=None)[0]
    return float(a), float(b)


def chain(layers: int, kernel: int = 3, position: int | None = None) -> Network:
    """One event passes ``layers`` convolutions, leaving each at one position of the kernel (by default the middle), and ends in class ``position``.

    All weights are non-zero, so that no synapse is skipped. The last layer is (kernel * kernel, 1, 1): as many synapses, one per class.
    """
    size, leaves = kernel * kernel, kernel * kernel // 2 if position is None else position
    net = Network(f"{layers} layers {kernel}x{kernel}", integers="floor")
    x = net.spikes_input("in", (1, kernel, kernel))
    weight = np.ones((1, 1, kernel, kernel))
    weight[0, 0].flat[size - 1 - leaves] = 100.0  # targets ascend, so the last tap comes first
    for k in range(layers - 1):
        padding = kernel // 2
        x = net.lif(f"lif{k}", net.conv2d(f"conv{k}", x, weight, padding=padding), decay=1.0, threshold=100.0, reset="subtract")
    last = np.ones((size, 1, kernel, kernel))
    last[leaves] = 100.0
    net.output(net.lif("lif", net.conv2d("last", x, last), decay=1.0, threshold=100.0, reset="subtract"))
    return net


def latency_ns(layers: int, kernel: int = 3, position: int | None = None, chip: str | Chip = "speck2f-like") -> float:
    """From the event at the pads to the read-out's change."""
    net = chain(layers, kernel, position)
    program = compile_network(net, chip).program
    event = np.zeros((1, 1, 1, kernel, kernel), np.uint8)
    event[0, 0, 0, kernel // 2, kernel // 2] = 1
    result = simulate_stimuli(program, encode(program, load_data(event, program)), engine="reference")
    assert result.scores[0].argmax() == (kernel * kernel // 2 if position is None else position)
    return float(result.decision_ps[0]) / 1000


def main() -> None:
    """Print the fit and the simulated latencies beside the published ones."""
    a, b = fit_ns()
    print(f"fit: {a:.1f} ns per layer, {b:.2f} ns per position; the preset has 87.5 and 27")
    for p, published in zip(POSITIONS, LATENCIES_NS, strict=True):
        print(f"  position {p:3.0f}: published {published:7.1f} ns, preset {87.5 + 27 * p:7.1f} ns ({(87.5 + 27 * p) / published - 1:+.1%})")
    for layers, published in ((1, ONE_LAYER_NS), (9, NINE_LAYERS_NS)):
        print(f"{layers} layer(s) 3x3, simulated {latency_ns(layers):7.1f} ns, published {published:7.1f} ns")


if __name__ == "__main__":
    main()
