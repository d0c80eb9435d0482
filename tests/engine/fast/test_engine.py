"""The fast engine on its own: jitter hash, resumability, buffers, limits, the kernel's cache key. Agreement with the reference: tests/conformance."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosim
from neurosim import arithmetic
from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.engine.compare import first_difference
from neurosim.engine.events import SORT_KEYS, SPIKE, TRACE_DTYPE, Options, Stimulus
from neurosim.engine.fast import kernel, run_fast
from neurosim.engine.fast.base import fabric
from neurosim.engine.fast.tables.layout import build
from neurosim.engine.reference import run_reference
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import DataError, Deadlock, Livelock, RunError
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection
from neurosim.program import Program
from tests.engine.networks import dense, mapped, population

FULL = Options(record=True, state=True)


def network(sync: str, chip: str = "tiny", overrides: tuple[str, ...] = (), leak: int = 0, gain: int = 1) -> Program:
    """in (2, 6, 6) -> conv (4, 6, 6) -> conv (4, 3, 3), stride 2 -> readout 3; four steps."""
    rng = np.random.default_rng(5)
    rule = NeuronRule(np.full((1, 1, 1), 4 * gain, np.int64), np.zeros((1, 1, 1), np.int64), decay=4096 - leak)
    populations = (
        Population("in", (2, 6, 6), "input"),
        Population("a", (4, 6, 6), "spiking", rule),
        Population("b", (4, 3, 3), "spiking", rule),
        Population("out", (3, 1, 1), "readout"),
    )
    projections = (
        Projection("in", "a", Conv2d(gain * rng.integers(-3, 6, (4, 2, 3, 3)), padding=(1, 1))),
        Projection("a", "b", Conv2d(gain * rng.integers(-2, 5, (4, 4, 3, 3)), stride=(2, 2), padding=(1, 1))),
        Projection("b", "out", Dense(gain * rng.integers(-5, 6, (3, 36)), (3, 1, 1))),
    )
    return assemble(Graph("small", 4, populations, projections), load_chip(chip, overrides), sync)


def spikes(program: Program, count: int, density: float = 0.3) -> list[Stimulus]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        step, address = np.nonzero(rng.random((1 if program.sync == "free" else program.steps, 72)) < density)
        n = len(step)
        found.append(
            Stimulus(
                np.zeros(n, np.int64), step.astype(np.int32), np.full(n, SPIKE, np.uint8), np.full(n, program.slices, np.int32),
                address.astype(np.int32), np.ones(n, np.int64),
            )
        )  # fmt: skip
    return found


class Rows:
    """A sink that counts its chunks."""

    def __init__(self) -> None:
        self.chunks: list[Any] = []

    def write(self, rows: Any) -> None:
        self.chunks.append(rows.copy())


def test_jitter_hash_is_that_of_the_rules() -> None:
    for seed, sample, server, n, amplitude in [(0, 0, 0, 0, 1), (7, 3, 250, 10**12, 65535), (-5, 2**31, 1, 2**40, 6554), (2**63 - 1, 0, 9, 1, 300)]:
        assert fabric.jitter_draw(seed, sample, server, n, amplitude) == arithmetic.jitter_draw(seed, sample, server, n, amplitude)


@pytest.mark.parametrize("streamed", [False, True])
def test_tiny_budgets_and_full_buffers_change_nothing(streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    program = network("wavefront")
    stimuli = spikes(program, 3)
    options = replace(FULL, streamed=streamed, jitter=4000)
    whole = run_fast(program, stimuli, options)
    assert first_difference(run_reference(program, stimuli, options), whole) is None
    sink = Rows()
    monkeypatch.setattr("neurosim.engine.fast.tables.layout.ROWS", 8)
    monkeypatch.setattr("neurosim.engine.fast.tables.layout.SPIKES", 2)
    parts = run_fast(program, stimuli, options, sink=sink, budget=7)
    assert len(sink.chunks) > 20, "the trace must leave in chunks"
    parts.trace = np.concatenate(sink.chunks)
    assert first_difference(whole, parts) is None
    order = np.lexsort([parts.trace[key] for key in reversed(SORT_KEYS)])
    assert np.array_equal(order, np.arange(len(order)))
    assert parts.trace.dtype == TRACE_DTYPE


@pytest.mark.parametrize("overrides", [(), ("noc.flow='end_to_end'", "arithmetic.lanes=4", "arithmetic.spikes_per_update=3")])
def test_free_with_leak_agrees_with_the_reference(overrides: tuple[str, ...]) -> None:
    program = network("free", overrides=("noc.axon_in=64", "noc.axon_out=64", "noc.fifo=64", "timing.leak=300000", *overrides), leak=300)
    stimuli = spikes(program, 2, density=0.9)
    fast = run_fast(program, stimuli, FULL)
    assert fast.sample["spikes"].min() > 20
    assert first_difference(run_reference(program, stimuli, FULL), fast) is None


def test_a_slice_that_waits_for_no_marker_may_run_far_ahead() -> None:
    """Its upstream, which the port feeds slowly, asks for ends of steps that are more than a round of banks old."""
    rule = NeuronRule(np.full((1, 1, 1), 4, np.int64), np.zeros((1, 1, 1), np.int64))
    populations = (Population("in", (2, 6, 6), "input"), Population("a", (1, 1, 1), "spiking", rule), Population("out", (40, 1, 1), "readout"))
    projections = (
        Projection("in", "a", Dense(np.ones((1, 72), np.int64), (1, 1, 1))),
        Projection("a", "out", Dense(np.ones((40, 1), np.int64), (40, 1, 1)), delay=1),
    )
    chip = load_chip("tiny", ("arithmetic.visit='all'", "timing.port=90000"))
    program = assemble(Graph("ahead", 1, populations, projections), chip, "wavefront")
    stimuli, options = spikes(program, 9, density=0.03), replace(FULL, streamed=True)
    assert first_difference(run_reference(program, stimuli, options), run_fast(program, stimuli, options)) is None


def test_rows_of_a_deadlocked_run() -> None:
    """Also those of services that never end, one of them at an output which had waited before (for slow acknowledges)."""
    overrides = ("noc.width=1", "noc.height=1", "memory.cores=1", "noc.fifo=1", "noc.axon_in=1", "noc.axon_out=1", "timing.axon_ack=50000")
    program = network("free", overrides=overrides)
    seen = []
    for run in (run_reference, run_fast):
        sink = Rows()
        with pytest.raises(Deadlock):
            run(program, spikes(program, 1, density=0.9), FULL, sink=sink)
        seen.append(np.concatenate(sink.chunks))
    assert np.array_equal(*seen)
    assert (seen[0]["end"] == -1).sum() > 1


def test_wide_weights_take_the_64_bit_banks() -> None:
    program = network("wavefront", chip="ideal", gain=10**8)
    assert program.weights.dtype == np.int32
    stimuli = spikes(program, 1)
    assert first_difference(run_reference(program, stimuli, FULL), run_fast(program, stimuli, FULL)) is None
    free = network("free", chip="ideal", gain=10**8)
    stimuli = spikes(free, 1)
    assert first_difference(run_reference(free, stimuli, FULL), run_fast(free, stimuli, FULL)) is None


def test_workers_change_nothing() -> None:
    program = network("wavefront")
    stimuli = spikes(program, 5)
    seen: list[tuple[int, int]] = []
    options = {"record": True, "state": True, "jitter": 900, "seed": 3, "first_sample": 2}
    alone = simulate_stimuli(program, stimuli, **options)  # type: ignore[arg-type]
    split = simulate_stimuli(program, stimuli, workers=2, progress=lambda done, total: seen.append((done, total)), **options)  # type: ignore[arg-type]
    assert first_difference(alone, split) is None
    assert seen[-1] == (5, 5)
    assert alone.trace["sample"].min() == 2


def test_an_error_in_a_worker_arrives_whole_and_ends_the_others() -> None:
    program = network("wavefront")
    with pytest.raises(Livelock, match="sample"):
        simulate_stimuli(program, spikes(program, 4), engine="reference", workers=2, max_time_ps=10)


def test_progress_may_stop_the_run() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    program = network("wavefront")
    with pytest.raises(KeyboardInterrupt):
        run_fast(program, spikes(program, 1), Options(), progress=stop, budget=5)


def test_the_time_limit_is_exact() -> None:
    program = network("wavefront")
    stimuli = spikes(program, 1)
    completion = int(run_fast(program, stimuli, Options()).completion_ps[0])
    assert run_fast(program, stimuli, Options(max_time_ps=completion)).completion_ps[0] == completion
    with pytest.raises(Livelock, match="max_time_ps"):
        run_fast(program, stimuli, Options(max_time_ps=completion - 1))


def test_a_stimulus_for_another_program_is_refused() -> None:
    program = network("wavefront")
    good = spikes(program, 1)[0]
    for change in ({"address": good.address + 72}, {"slice": good.slice * 0 + program.control_source}, {"step": good.step[::-1].copy()}):
        with pytest.raises(DataError, match="sample 0"):
            run_fast(program, [replace(good, **change)], Options())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"engine": "slow"}, "engines are fast, reference"),
        ({"streamed": True}, "streams samples"),
        ({"jitter": 65536}, "65535"),
        ({"workers": 0}, "at least 1"),
        ({"stimuli": []}, "0 samples"),
    ],
)
def test_impossible_runs_are_refused_in_words(change: dict[str, Any], text: str) -> None:
    program = network("free")
    arguments: dict[str, Any] = {"stimuli": spikes(program, 1)} | change
    with pytest.raises(RunError, match=text):
        simulate_stimuli(program, **arguments)


def test_the_compiled_loop_is_keyed_by_the_rules_of_every_room(tmp_path: Path) -> None:
    package = tmp_path / "neurosim"
    shutil.copytree(Path(neurosim.__file__).parent, package, ignore=shutil.ignore_patterns("data", "__pycache__"))
    before = kernel.rules_digest(package)
    assert before == kernel.rules_digest()
    assert before in [cell.cell_contents for cell in kernel.kernel().py_func.__closure__]  # type: ignore[attr-defined]
    fast = package / "engine" / "fast"
    rooms = {path.parent: path for path in fast.rglob("*.py")}
    assert {room.name for room in rooms} == {"fast", "stations", "base", "tables"}
    for path in [*rooms.values(), *(package / name for name in kernel.RULES)]:
        rule = path.read_bytes()
        path.write_bytes(rule + b"#")
        assert kernel.rules_digest(package) != before, path
        path.write_bytes(rule)


def test_every_module_that_compiled_code_takes_from_is_among_the_rules() -> None:
    fast = Path(kernel.__file__).parent
    taken = {
        name
        for path in [*(fast / "stations").glob("*.py"), *(fast / "base").glob("*.py"), fast / "kernel.py"]
        for name in re.findall(r"^from (neurosim[.\w]+) import", path.read_text(), re.MULTILINE)
        if not name.startswith("neurosim.engine.fast")
    }
    assert {name.removeprefix("neurosim.").replace(".", "/") + ".py" for name in taken} <= set(kernel.RULES)


def test_without_a_place_for_a_cache_the_loop_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    program = network("wavefront")
    stimuli = spikes(program, 1)
    cached = kernel.kernel()
    whole = run_fast(program, stimuli, FULL)

    def refuse(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: cached

    def full_disk(*arguments: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel, "njit", refuse)
    kernel.kernel_without_cache.cache_clear()
    assert kernel.kernel.__wrapped__() is cached
    monkeypatch.setattr("neurosim.engine.fast.driver.kernel", lambda: full_disk)
    assert first_difference(whole, run_fast(program, stimuli, FULL)) is None
    kernel.kernel_without_cache.cache_clear()


def test_services_that_outlast_the_last_window_write_no_row_behind_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    # settle, streamed: the packet that begins in the only window ends several windows later
    graph = Graph(
        "slow", 1, (population("in", kind="input"), population("n"), population("out", kind="readout")), (dense("in", "n", 6), dense("n", "out", 2))
    )
    program = mapped(graph, [0, 1], "settle", timing__decode=10_000)
    stimulus = Stimulus(*(np.array([x], t) for x, t in ((0, "i8"), (0, "i4"), (SPIKE, "u1"), (program.slices, "i4"), (0, "i4"), (1, "i8"))))
    guards: list[Any] = []

    def guarded(*arguments: Any, **options: Any) -> Any:
        tables = build(*arguments, **options)
        whole = np.zeros((len(tables.smp) + 64, tables.smp.shape[1]), np.int64)
        whole[: len(tables.smp)] = tables.smp
        guards.append(whole[len(tables.smp) :])
        return replace(tables, smp=whole[: len(tables.smp)])

    monkeypatch.setattr("neurosim.engine.fast.driver.build", guarded)
    options = Options(streamed=True, window_ps=200, record=True, state=True)
    found = run_fast(program, [stimulus], options)
    assert found.window_ps > 3 * options.window_ps
    assert not guards[0].any()
    assert first_difference(run_reference(program, [stimulus], options), found) is None
