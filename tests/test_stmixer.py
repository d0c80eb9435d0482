"""The shipped networks on the chip: every spike of every population equals the integer golden model; both engines agree on whole images."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from neurosim import api
from neurosim.compiler.pipeline import Compilation
from neurosim.engine.compare import first_difference
from neurosim.errors import Deadlock
from neurosim.golden import GraphResult, run_graph

T1, T4 = "stmixer-mnist-t1", "stmixer-mnist-t4"
IMAGES = Path(str(resources.files("neurosim"))) / "data" / "mnist200.npz"


@cache
def compiled(model: str, sync: str) -> Compilation:
    return api.compile_model(model, "async-mesh", sync, audit=False)


def images(n: int) -> tuple[np.ndarray, np.ndarray]:
    """n of the shipped images, of all classes."""
    with np.load(IMAGES) as arrays:
        chosen = np.linspace(0, len(arrays["images"]) - 1, n).astype(int)
        return arrays["images"][chosen], arrays["label"][chosen]


def assert_equals_golden(run: api.Run, golden: GraphResult, steps: int) -> None:
    """Scores and every spike of every population on the chip."""
    np.testing.assert_array_equal(run.readout, golden.scores)
    on_chip = {run.program.meta["populations"][p]["name"] for p in run.program.slice_population} - {"head"}
    assert len(on_chip) == 13
    for name in on_chip:
        np.testing.assert_array_equal(run.spikes(name), golden.spikes[name], err_msg=name)
        assert golden.spikes[name].shape[1] == steps


@pytest.mark.parametrize(
    ("model", "steps", "n"),
    [(T1, 1, 4), (T4, 4, 2), pytest.param(T1, 1, 100, marks=pytest.mark.slow), pytest.param(T4, 4, 100, marks=pytest.mark.slow)],
)
def test_wavefront_equals_golden_isolated_and_streamed(model: str, steps: int, n: int) -> None:
    compilation = compiled(model, "wavefront")
    pixels, _ = images(n)
    golden = run_graph(compilation.integer, pixels, compilation.program.chip)
    isolated = api.simulate(compilation.program, pixels)
    assert_equals_golden(isolated, golden, steps)
    streamed = api.simulate(compilation.program, pixels, streamed=True)
    assert_equals_golden(streamed, golden, steps)
    assert isolated.result.core["synops"].sum() == streamed.result.core["synops"].sum()


def test_it_uses_the_chip_as_a_chip() -> None:
    report = compiled(T1, "wavefront").report
    assert report["cores_used"] >= 16
    assert {"channel", "space"} <= {split["axis"] for split in report["splits"]}
    assert report["host"]["share"] <= 0.05
    pixels, _ = images(2)
    run = api.simulate(compiled(T1, "wavefront").program, pixels)
    assert np.all(run.result.sample["injected_spikes"] > 0)
    assert np.all(run.result.sample["injected_currents"] > 0)
    # every router output serves packets beyond local delivery: more hops than packets
    assert run.result.sample["hops"].sum() > run.result.sample["packets"].sum()


@pytest.mark.parametrize(
    ("model", "sync"),
    [(T1, "wavefront")] + [pytest.param(model, sync, marks=pytest.mark.slow) for model, sync in ((T1, "free"), (T4, "wavefront"))],
)
def test_engines_agree_on_a_whole_image(model: str, sync: str) -> None:
    program = compiled(model, sync).program
    pixels, _ = images(1)
    runs = []
    for engine in ("fast", "reference"):
        rows: list[np.ndarray] = []
        run = api.simulate(program, pixels, engine=engine, state=True, observe=lambda chunk, rows=rows: rows.append(chunk.copy()))
        run.result.trace = np.concatenate(rows)
        runs.append(run.result)
    assert len(runs[0].trace) > 100_000
    assert first_difference(*runs) is None


def test_free_does_not_deadlock_and_counts_the_same_injection() -> None:
    pixels, _ = images(1)
    free = api.simulate(compiled(T1, "free").program, pixels)
    wave = api.simulate(compiled(T1, "wavefront").program, pixels)
    assert free.result.sample["injected_spikes"].tolist() == wave.result.sample["injected_spikes"].tolist()
    assert free.result.completion_ps[0] > 0


@pytest.mark.parametrize("fifo", [4, 1])
def test_link_level_flow_control_deadlocks_in_free_and_is_named(fifo: int) -> None:
    """Firing couples axon-in to axon-out: without end-to-end credits this very network wedges. Both engines stop at one time in one cycle."""
    compilation = api.compile_model(T1, "async-mesh", "free", ['noc.flow="link"', f"noc.fifo={fifo}"], audit=False)
    assert any("deadlock is possible" in warning and "axon-in of core" in warning for warning in compilation.report["warnings"])
    pixels, _ = images(1)
    found = []
    for engine in ("fast", "reference"):
        with pytest.raises(Deadlock, match="waits for axon-out of core") as caught:
            api.simulate(compilation.program, pixels, engine=engine)
        found.append((str(caught.value), caught.value.cycle, caught.value.time_ps))
    assert found[0] == found[1]
    assert len(found[0][1]) > 3
