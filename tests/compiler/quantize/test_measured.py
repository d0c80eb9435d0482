"""The readout's scale from data, and layers whose weights keep too little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurosim.api import simulate
from neurosim.chip import load_chip
from neurosim.compiler.pipeline import compile_network
from neurosim.errors import DataError, UnsupportedLayer
from neurosim.network import Network

CHIP = load_chip("async-mesh", ["arithmetic.state_bits=11"])


def wide(integers: bool = False) -> Network:
    """A head over 9,216 neurons that seldom fire: its proven bound is hundreds of times what happens."""
    rng = np.random.default_rng(0)
    net = Network("wide", steps=2, integers="floor" if integers else None)
    x = net.spikes_input("in", (36, 16, 16))
    weight = rng.integers(-900, 900, (4, 36)).astype(float) if integers else rng.normal(0, 1, (4, 36))
    net.output(net.linear("head", net.mean("mean", net.lif("lif", x, threshold=1.0, decay=1.0)), weight))
    return net


def events() -> np.ndarray:
    return (np.random.default_rng(1).random((20, 2, 36, 16, 16)) < 0.05).astype(np.uint8)


def test_a_readout_scaled_by_its_bound_loses_its_weights_and_by_data_keeps_them(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayer, match=r"head \(weights\): its weights from lif to head keep an SNR of .*--calibrate DATA.*--allow-low-snr"):
        compile_network(wide(), CHIP, "wavefront")
    lost = compile_network(wide(), CHIP, "wavefront", allow_low_snr=True)
    np.savez(tmp_path / "data.npz", events=events())
    kept = compile_network(wide(), CHIP, "wavefront", calibrate=tmp_path / "data.npz")
    assert lost.snr[-1].snr_db < 3 < 15 < kept.snr[-1].snr_db
    assert any(text.startswith("head: its weights") for text in lost.program.meta["warnings"])
    calibration = kept.program.meta["calibration"]
    assert (calibration["samples"], len(calibration["digest"])) == (20, 64)
    run = simulate(kept.program, events())
    assert run.result.core["saturations"].sum() == 0
    scale = kept.integer.population("head").scale
    assert scale is not None
    assert np.abs(run.readout * scale[0]).max() == pytest.approx(calibration["largest"], rel=0.1)


def test_below_ten_decibels_there_is_a_warning() -> None:
    done = compile_network(wide(), load_chip("async-mesh", ["arithmetic.state_bits=12"]), "wavefront")
    assert 3 < done.snr[-1].snr_db < 10
    assert any("head: its weights from lif to head keep an SNR" in text for text in done.program.meta["warnings"])


def test_whole_numbers_are_exempt() -> None:
    compile_network(wide(integers=True), CHIP, "wavefront")


@pytest.mark.parametrize("data", [np.zeros((3, 2, 36, 16, 15), np.uint8), np.zeros((0, 2, 36, 16, 16), np.uint8), "missing.npz"])
def test_calibration_data_that_do_not_fit_are_refused(data: object) -> None:
    with pytest.raises(DataError, match="calibration data"):
        compile_network(wide(), CHIP, "wavefront", calibrate=data)  # type: ignore[arg-type]  # one of them is a path
