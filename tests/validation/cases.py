"""Published measurements, and what the presets and price books give for the same thing: ``make validation`` prints the table of docs/validation.md.

A case is a calibration (its figure was used to set a constant), a check (other published figures must agree with the constants) or a prediction.
Sources of the published figures: the keys of the preset files and of docs/validation.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurosim.baselines import paper_formula_fj
from neurosim.chip import load_chip
from neurosim.energy import load_book
from tests.bench.speck_calibration import NINE_LAYERS_NS, ONE_LAYER_NS, latency_ns
from tests.validation.keyword_spotting import measured_line, power_mw


@dataclass(frozen=True)
class Case:
    """One figure. ``unit`` as printed; ``role``: calibration, check or prediction."""

    name: str
    role: str
    published: float
    ours: float
    unit: str
    note: str = ""

    @property
    def error(self) -> float:
        """Relative error of ours."""
        return self.ours / self.published - 1


def speck_latency() -> Iterator[Case]:
    """Two published latencies fix two unknowns, pads and time per kernel position; other kernels are then predicted. And the preset, simulated."""
    per_layer = (NINE_LAYERS_NS - ONE_LAYER_NS) / 8
    per_position = per_layer / 9
    for kernel, published in ((16, 7000.0), (1, 120.0)):
        name = f"Speck, one {kernel}x{kernel} layer, from the two latencies alone"
        yield Case(name, "prediction", published, per_position * kernel * kernel, "ns", f"{per_position:.1f} ns per position, no fixed part")
    for layers, published in ((1, ONE_LAYER_NS), (9, NINE_LAYERS_NS)):
        yield Case(f"speck2f-like, {layers} layer(s) 3x3, simulated", "calibration", published, latency_ns(layers), "ns")
    pads = latency_ns(1) - per_layer
    wide = load_chip(
        "speck2f-like", ["capabilities.classes=256", "memory.neuron_words=65536"]
    )  # a class per position, to see when the last one is served
    ours = latency_ns(1, 16, 255, wide) - pads
    yield Case("speck2f-like, one 16x16 layer, simulated, pads left out", "calibration", 7000.0, ours, "ns", "third point of the fit")
    timing = load_chip("speck2f-like").timing
    rate = 1e6 / timing.synop.value
    yield Case("speck2f-like, synaptic operations per second and core", "check", 30.0, rate, "M/s", "RIC: about 30 M/s; core 0 100 M/s")


def speck_power() -> Iterator[Case]:
    """Idle rails; Yao et al. 2024, table 1: energy per counted spike fitted on two data sets, the third predicted."""
    static = load_chip("speck2f-like").prices.static_chip_mw.value
    yield Case("speck2f-like, power at rest without I/O rail", "check", 0.42, static - 0.0617, "mW", "YAO: resting power 0.42 mW")
    window, rest = 0.54, 0.42
    power = {"gesture": (9.5, 3.8), "gait-day": (16.1, 7.3), "gait-night": (46.8, 12.3)}
    spikes = {"gesture": (1.0, 0.4), "gait-day": (2.9, 1.2), "gait-night": (3.3, 1.5)}
    x = np.array([*spikes["gesture"], *spikes["gait-day"]])
    y = (np.array([*power["gesture"], *power["gait-day"]]) - rest) * window  # mJ, against millions of spikes: nJ per spike
    per_spike = float(x @ y / (x @ x))
    for k, net in enumerate(("vanilla", "dynamic")):
        ours = spikes["gait-night"][k] * per_spike / window + rest
        note = f"{per_spike:.2f} nJ per spike from the other two"
        yield Case(f"Speck, gait-night, {net} network", "prediction", power["gait-night"][k], ours, "mW", note)


def truenorth() -> Iterator[Case]:
    """The operating point of Merolla et al. 2014 from the preset's prices: 1 M neurons at 20 Hz, 128 synapses, 42.6 hops per spike."""
    prices = load_chip("truenorth-like").prices
    spikes = 4096 * 256 * 20.0
    events = spikes * 128
    power = events * prices.synop.value + spikes * 42.6 * prices.hop_east_west.value  # fJ/s
    total_mw = power * 1e-12 + prices.static_chip_mw.value
    yield Case("truenorth-like, chip at 20 Hz and 128 synapses", "calibration", 72.0, total_mw, "mW", "the static part was set to what is left")
    yield Case("truenorth-like, all-in energy per synaptic event", "check", 26.0, total_mw / events * 1e9, "pJ")


def loihi() -> Iterator[Case]:
    """Davies 2018 (before silicon) against SANA-FE's fits to silicon: the same quantities twice, never mixed."""
    chip = load_chip("loihi1-like")
    fitted, before = load_book("loihi-sanafe").prices(chip), load_book("loihi-davies2018").prices(chip)
    active = [p.soma_access.value + p.soma_update.value for p in (fitted, before)]
    pairs = (
        ("a synaptic operation", fitted.synop.value, before.synop.value), ("an active neuron update", *active),
        ("a hop east-west", fitted.hop_east_west.value, before.hop_east_west.value),
        ("a hop north-south", fitted.hop_north_south.value, before.hop_north_south.value),
    )  # fmt: skip
    for what, silicon, simulated in pairs:
        yield Case(f"Loihi, {what}: Davies 2018 against SANA-FE's fit", "check", silicon / 1000, simulated / 1000, "pJ")


def loihi_power() -> Iterator[Case]:
    """Loihi's rails under networks of growing size; what a core leaks was set from the rails at rest, not from these runs."""
    intercept, slope = measured_line()
    chip, board = ([power_mw(n, board=at_board) for n in (0, 1)] for at_board in (False, True))
    note = "no spikes: the activity is not published"
    yield Case("loihi1-like, keyword spotting, each further branch of ten cores", "check", slope, chip[1] - chip[0], "mW", note)
    note = "96.3 mW at rest; what the x86 cores do in every step is not simulated"
    yield Case("loihi1-like at its board, the same without a branch", "check", intercept, board[0], "mW", note)


def formula() -> Iterator[Case]:
    """Published energies of Spikformer from its published synaptic operations (table 2 of its paper): conv1 of the 512 model in every row."""
    for name, sops, published in (
        ("8-384", 6.82, 7.734), ("8-512", 11.09, 11.577), ("8-768", 22.09, 21.477), ("6-512", 8.69, 9.417), ("10-512", 13.67, 13.899),
    ):  # fmt: skip
        ours = paper_formula_fj(4 * 86.7e6, sops * 1e9) / 1e12
        yield Case(f"4.6/0.9 pJ formula, Spikformer-{name}", "prediction", published, ours, "mJ")


def cases() -> list[Case]:
    """All of them."""
    return [*speck_latency(), *speck_power(), *truenorth(), *loihi(), *loihi_power(), *formula()]


def main() -> None:
    """The table of docs/validation.md."""
    print("| case | role | published | ours | error | note |\n|---|---|---|---|---|---|")
    for c in cases():
        print(f"| {c.name} | {c.role} | {c.published:.4g} {c.unit} | {c.ours:.4g} {c.unit} | {100 * c.error:+.1f} % | {c.note} |")


if __name__ == "__main__":
    main()
