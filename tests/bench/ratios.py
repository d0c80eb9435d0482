"""Ratios of the fast engine, each measured side by side in one run: python -m tests.bench.ratios [PART ...] [--json FILE]; ``make bench``

Parts: ``conv`` full simulation against bare loops over the same spikes, ``hops`` packet-hops per second, ``synops`` and ``cores`` linearity,
``start`` start-up. Processor time of one thread, medians of several runs taken in turns; docs/performance.md holds the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.engine.events import Options, Result, Stimulus
from neurosim.engine.fast import run_fast
from neurosim.program import Program
from tests.bench import bare
from tests.bench.loads import NEVER, conv_program, conv_stimulus, conv_stream, conv_weights, mesh_program, mesh_stimulus

REPEATS = 7
QUIET = Options(spikes=False)
Row = dict[str, Any]


def spent(work: Callable[[], Any]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turns(*works: Callable[[], Any], repeats: int = REPEATS) -> list[list[float]]:
    """Processor times of each, taken in turns after one call of each that does not count."""
    for work in works:
        work()
    rounds = [[spent(work) for work in works] for _ in range(repeats)]
    return [[times[k] for times in rounds] for k in range(len(works))]


def run(program: Program, stimulus: Stimulus) -> Result:
    """One simulation, nothing recorded."""
    return run_fast(program, [stimulus], QUIET)


# ---- full simulation against bare loops


def calibrated(sync: str, channels: int, side: int, rate: float) -> int:
    """The threshold at which about ``rate`` of the output neurons fire per step of 5 % input density."""
    steps, low, high = 20, 1, NEVER
    stream = conv_stream(channels, side, steps, 0.05)
    while high - low > 1:
        middle = (low + high) // 2
        program = conv_program(sync, channels, side, steps, middle, False)
        fires = int(run(program, conv_stimulus(program, stream)).sample["spikes"].sum())
        low, high = (middle, high) if fires > rate * channels * side * side * steps else (low, middle)
    return high


def conv(spikes: int = 40_000) -> list[Row]:
    """3x3 convolutions, C in and C out on 8 x 8 pixels, behind four mesh hops."""
    rows, side = [], 8
    for channels in (32, 64, 128):
        steps = max(2, round(spikes / (0.05 * channels * side * side)))
        stream = conv_stream(channels, side, steps, 0.05)
        weights = np.ascontiguousarray(conv_weights(channels).transpose(1, 2, 3, 0).astype(np.int8))
        places = np.ascontiguousarray(stream[:, 1:])
        state, ring = np.zeros((side, side, channels), np.int32), np.zeros(1024, np.int64)

        def accumulate(places: Any = places, weights: Any = weights, state: Any = state) -> None:
            state.fill(0)
            bare.accumulate(places, weights, state)

        for sync, rate in (("free", 0.01), ("free", 0.05), ("wavefront", 0.01), ("wavefront", 0.05)):
            threshold = calibrated(sync, channels, side, rate)
            programs = [conv_program(sync, channels, side, steps, threshold, onward) for onward in (False, True)]
            stimuli = [conv_stimulus(program, stream) for program in programs]

            def loop(
                name: str, threshold: int = threshold, places: Any = places, weights: Any = weights, state: Any = state, ring: Any = ring
            ) -> Any:
                state.fill(0)
                return getattr(bare, name)(places, weights, state, threshold, -300, -(2**15), 2**15 - 1, ring)

            result = run(programs[0], stimuli[0])
            served, fires = int(result.sample["synops"].sum()), int(result.sample["spikes"].sum())
            if sync == "free":
                assert loop("test_fire") == (served, fires) == loop("test_fire_twice"), "the bare loop computes something else"
                loops = [accumulate, lambda loop=loop: loop("test_fire"), lambda loop=loop: loop("test_fire_twice")]
            else:
                loops = [accumulate]
            runs = [lambda p=p, s=s: run(p, s) for p, s in zip(programs, stimuli, strict=True)]
            times = [statistics.median(t) for t in in_turns(*loops, *runs)]
            row: Row = {
                "channels": channels, "sync": sync, "output rate": fires / (channels * side * side * steps), "spikes": len(stream),
                "fires per input spike": fires / len(stream), "synops": served, "ns per spike": 1e9 * times[-2] / len(stream),
                "synops/s": served / times[-2], "bare accumulate synops/s": served / times[0],
            }  # fmt: skip
            if sync == "free":
                row |= {"bare test-fire synops/s": served / times[1], "bare two-pass synops/s": served / times[2]}
                row |= {"x test-fire": times[-2] / times[1], "x test-fire, onward": times[-1] / times[1], "x two-pass": times[-2] / times[2]}
            else:
                row |= {"x accumulate": times[-2] / times[0], "x accumulate, onward": times[-1] / times[0]}
            rows.append(row)
            show(row)
    return rows


# ---- packets


def hops() -> list[Row]:
    """16 x 16 mesh, every packet one synapse at its end, fan-out 1 and 4 to random cores."""
    rows, rng = [], np.random.default_rng(3)
    for sync in ("free", "wavefront"):
        for fan_out in (1, 4):
            steps = 1 if sync == "free" else 10
            chosen = rng.permutation(256)  # half of the cores send, half receive
            program = mesh_program(sync, 16, 32, steps, chosen[:128], [rng.permutation(chosen[128:]) for _ in range(fan_out)])
            stimulus = mesh_stimulus(program, 40_000 // fan_out, steps)
            result = run(program, stimulus)
            count, packets = int(result.sample["hops"].sum()), int(result.sample["packets"].sum())
            (times,) = in_turns(lambda p=program, s=stimulus: run(p, s))
            median = statistics.median(times)
            rows.append(
                {"sync": sync, "fan-out": fan_out, "packets": packets, "hops": count, "hops/s": count / median, "best hops/s": count / min(times)}
            )
            show(rows[-1])
    return rows


# ---- linearity


def synops() -> list[Row]:
    """Time per synaptic operation from 1e6 to 1e9 of them: the 64-channel convolution on ever longer inputs."""
    rows, side, channels = [], 8, 64
    threshold = calibrated("free", channels, side, 0.01)
    for count in (1e6, 1e7, 1e8, 1e9):
        steps = max(1, round(count / (0.05 * channels * side * side * 8.2 * channels)))
        program = conv_program("free", channels, side, steps, threshold, False)
        stimulus = conv_stimulus(program, conv_stream(channels, side, steps, 0.05))
        served = int(run(program, stimulus).sample["synops"].sum())
        (times,) = in_turns(lambda p=program, s=stimulus: run(p, s), repeats=REPEATS if count < 1e9 else 3)
        rows.append({"synops": served, "seconds": statistics.median(times), "ns per synop": 1e9 * statistics.median(times) / served})
        show(rows[-1])
    return rows


def cores() -> list[Row]:
    """Time per packet-hop on meshes of 4 to 1,024 cores with the same packets: each input spike makes 1 + 3 hops, two links."""
    rows = []
    for side in (2, 4, 8, 16, 32):
        relays = np.array([k for k in range(side * side) if k % side % 2 == 0])
        goal = ((relays // side) ^ 1) * side + relays % side + 1
        program = mesh_program("free", side, 16384 // side**2, 1, relays, [goal])
        stimulus = mesh_stimulus(program, 40_960, 1)
        count = int(run(program, stimulus).sample["hops"].sum())
        (times,) = in_turns(lambda p=program, s=stimulus: run(p, s))
        rows.append({"cores": side * side, "hops": count, "seconds": statistics.median(times), "ns per hop": 1e9 * statistics.median(times) / count})
        show(rows[-1])
    return rows


# ---- start-up

STEPS = (
    ("import", "import neurosim"),
    ("load program", "from neurosim.program import load_program; program = load_program(PATH)"),
    (
        "first run, 1 image",
        "from neurosim import api; from neurosim.host import load_data; data = load_data(IMAGES, program).first(1); api.simulate(program, data)",
    ),
    ("second run, 1 image", "api.simulate(program, data)"),
)


def start() -> list[Row]:
    """A fresh process with the engine's compiled code in numba's cache: wall time of each step, medians."""
    import neurosim
    from neurosim import api

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.nsim"
        api.build("stmixer-mnist-t1").save(path)
        images = Path(neurosim.__file__).parent / "data" / "mnist200.npz"
        script = ["import json, time", f"PATH, IMAGES, times = {str(path)!r}, {str(images)!r}, []"]
        for _, code in STEPS:
            script += ["began = time.perf_counter()", code, "times.append(time.perf_counter() - began)"]
        command = [sys.executable, "-c", "\n".join([*script, "print(json.dumps(times))"])]
        subprocess.run(command, check=True, capture_output=True)  # fills the cache
        found = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(5)]
    row = {name: statistics.median(times[k] for times in found) for k, (name, _) in enumerate(STEPS)}
    show(row)
    return [row]


PARTS: dict[str, Callable[[], list[Row]]] = {"conv": conv, "hops": hops, "synops": synops, "cores": cores, "start": start}


def show(row: Row) -> None:
    """One line per row, as it comes."""
    print("  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    table = {}
    for name in chosen.parts:
        print(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}")
        table[name] = PARTS[name]()
    if chosen.json:
        chosen.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
