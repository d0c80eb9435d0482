"""Published measurements, and what the presets and price books give for the same thing: ``make validation`` prints the table of docs/validation.md.

``fitted`` says which published figures set the constants that a row rests on, and that decides its role: the row's own figure among them, a
*calibration*; others of the same measurement, a *prediction*; none, a *check* of one source by another. A row is hit when it comes within
``tolerance`` of the published figure (a tenth unless the source states its own), else it is a miss and printed as one.
Sources of the published figures: the keys of the preset files and of docs/validation.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosim.baselines import paper_formula_fj
from neurosim.chip import load_chip
from tests.bench.speck_calibration import NINE_LAYERS_NS, ONE_LAYER_NS, latency_ns
from tests.validation.keyword_spotting import measured_line, power_mw
from tests.validation.recorded import oxford, speck_accuracy


@dataclass(frozen=True)
class Case:
    """One figure. ``unit`` as printed; ``role``: calibration, check or prediction; ``fitted``: to what, in words."""

    name: str
    role: str
    fitted: str
    published: float
    ours: float
    unit: str
    tolerance: float = 0.1

    @property
    def error(self) -> float:
        """Relative error of ours."""
        return self.ours / self.published - 1

    @property
    def hit(self) -> bool:
        """Whether the row comes within its tolerance."""
        return abs(self.error) <= self.tolerance

    def row(self) -> str:
        """The row of the table in docs/validation.md."""
        published, ours = (f"{v:,.0f}" if v >= 1000 else f"{v:.4g}" for v in (self.published, self.ours))
        error = f"{100 * self.error:+.1f} %" if abs(self.error) >= 0.0005 else "0"
        verdict = "hit" if self.hit else "**miss**"
        return f"| {self.name} | {self.role} | {self.fitted} | {published} {self.unit} | {ours} {self.unit} | {error} | {verdict} |"


def speck_latency() -> Iterator[Case]:
    """Two published latencies fix two unknowns, pads and time per kernel position; other kernels are then predicted. And the preset, simulated."""
    per_layer = (NINE_LAYERS_NS - ONE_LAYER_NS) / 8
    per_position = per_layer / 9
    for kernel, published in ((16, 7.0), (1, 0.12)):
        name = f"Speck, one {kernel}x{kernel} layer: {per_position:.1f} ns per position"
        yield Case(name, "prediction", "1 and 9 layers 3x3", published, per_position * kernel * kernel / 1000, "us")
    to = "these latencies and 0.12 us of 1x1"
    for layers, published in ((1, ONE_LAYER_NS), (9, NINE_LAYERS_NS)):
        yield Case(f"`speck2f-like`, {layers} layer(s) 3x3, simulated", "calibration", to, published / 1000, latency_ns(layers) / 1000, "us")
    pads = latency_ns(1) - per_layer
    wide = load_chip(
        "speck2f-like", ["capabilities.classes=256", "memory.neuron_words=65536"]
    )  # a class per position, to see when the last one is served
    ours = (latency_ns(1, 16, 255, wide) - pads) / 1000
    yield Case("`speck2f-like`, one 16x16 layer, simulated, pads left out", "calibration", to, 7.0, ours, "us")
    rate = 1e6 / load_chip("speck2f-like").timing.synop.value
    yield Case("`speck2f-like`, synaptic operations per second and core", "prediction", "the latencies above", 30.0, rate, "M/s")


def speck_power() -> Iterator[Case]:
    """Idle rails of one source beside the resting power of another; Yao et al. 2024, table 1: energy per spike of two data sets on a third."""
    static = load_chip("speck2f-like").prices.static_chip_mw.value
    yield Case("`speck2f-like`, power at rest without the I/O rail", "check", "rails (SIN)", 0.42, static - 0.0617, "mW")
    window, rest = 0.54, 0.42
    power = {"gesture": (9.5, 3.8), "gait-day": (16.1, 7.3), "gait-night": (46.8, 12.3)}
    spikes = {"gesture": (1.0, 0.4), "gait-day": (2.9, 1.2), "gait-night": (3.3, 1.5)}
    x = np.array([*spikes["gesture"], *spikes["gait-day"]])
    y = (np.array([*power["gesture"], *power["gait-day"]]) - rest) * window  # mJ, against millions of spikes: nJ per spike
    per_spike = float(x @ y / (x @ x))
    for k, net in enumerate(("vanilla", "dynamic")):
        ours = spikes["gait-night"][k] * per_spike / window + rest
        name = f"Speck, gait-night, {net} network: {per_spike:.2f} nJ per counted spike"
        yield Case(name, "prediction", "gesture and gait-day", power["gait-night"][k], ours, "mW")


def truenorth() -> Iterator[Case]:
    """The operating point of Merolla et al. 2014 from the preset's prices: 1 M neurons at 20 Hz, 128 synapses, 42.6 hops per spike."""
    prices = load_chip("truenorth-like").prices
    spikes = 4096 * 256 * 20.0
    power = spikes * 128 * prices.synop.value + spikes * 42.6 * prices.hop_east_west.value  # fJ/s
    total_mw = power * 1e-12 + prices.static_chip_mw.value
    yield Case("`truenorth-like`, chip at 20 Hz, 128 synapses, 42.6 hops", "calibration", "its static part, to this", 72.0, total_mw, "mW")


def loihi_power() -> Iterator[Case]:
    """Loihi's rails under networks of growing size; what a core leaks was set from the rails at rest, not from these runs."""
    intercept, slope = measured_line()
    chip, board = ([power_mw(n, board=at_board) for n in (0, 1)] for at_board in (False, True))
    to = "the rails at rest"
    yield Case("`loihi1-like`, keyword spotting, each further branch of ten cores, no spikes", "prediction", to, slope, chip[1] - chip[0], "mW")
    yield Case("`loihi1-like` at its board, the same without a branch", "prediction", to, intercept, board[0], "mW")


def formula() -> Iterator[Case]:
    """Published energies of Spikformer from its published synaptic operations (table 2 of its paper). That conv1 of the 512 model stands four times
    in every row was found from these energies."""
    for name, sops, published in (
        ("8-384", 6.82, 7.734), ("8-512", 11.09, 11.577), ("8-768", 22.09, 21.477), ("6-512", 8.69, 9.417), ("10-512", 13.67, 13.899),
    ):  # fmt: skip
        ours = paper_formula_fj(4 * 86.7e6, sops * 1e9) / 1e12
        yield Case(f"4.6/0.9 pJ formula, Spikformer-{name}", "calibration", "its MACs, to the five", published, ours, "mJ")


def recorded(data: Path) -> Iterator[Case]:
    """Networks of others run on the recordings in ``data``: nothing was fitted."""
    published, ours = oxford(data)
    yield Case(
        "Oxford (lava-dl), spikes recorded that `loihi1-like` fires too, none besides", "prediction", "nothing", published, ours, "spikes", 0.0
    )
    ours, half_width = speck_accuracy(data)
    yield Case("N-MNIST on Speck (NIR paper), accuracy; 100 recordings here", "prediction", "nothing", 95.4, ours, "%", half_width / 95.4)


def cases(data: Path | None = None) -> list[Case]:
    """All of them; ``data``, a folder with lava_oxford, nir_cnn and nmnist, for the rows that need it."""
    calculated = [*speck_latency(), *speck_power(), *truenorth(), *loihi_power(), *formula()]
    return calculated + ([] if data is None else [*recorded(data)])


def main() -> None:
    """The table of docs/validation.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with lava_oxford, nir_cnn and nmnist; without it their rows are left out")
    print("| case | role | fitted to | published | ours | error | |\n|---|---|---|---|---|---|---|")
    for case in cases(parser.parse_args().data):
        print(case.row())


if __name__ == "__main__":
    main()
