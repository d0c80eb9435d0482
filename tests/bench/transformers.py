"""The shipped spiking transformers on the same digits, side by side: ``make transformers`` (docs/transformers.md).

Prints one JSON object: per network and discipline cores, memory, spikes, synaptic operations, latency and energy by component on ``async-mesh-plus``,
and the accuracy of the integer golden model on MNIST's test set when it is given.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import neurosim
from neurosim import api
from neurosim.golden import run_graph
from neurosim.host import load_data

MODELS = (
    "stmixer-mnist-t1", "smixer-mnist", "qkformer-gates-mnist", "qkformer-mnist", "spikformer-mnist", "spikformer-halting-mnist",
)  # fmt: skip
IMAGES = Path(neurosim.__file__).parent / "data" / "mnist200.npz"
CHIP = "async-mesh-plus"
BARRIER = (
    'sync=["barrier"]',
    "capabilities.max_delay=62",
    "capabilities.banks=64",
    "timing.barrier=[{tiles=1,duration='0.6 us'},{tiles=2,duration='1.0 us'},{tiles=4,duration='1.4 us'},{tiles=29,duration='1.8 us'}]",
)
"""The barrier (SANA-FE's fits to Loihi's silicon) and the delays of loihi1-like, for the one discipline that async-mesh does not offer."""


def one_run(model: str, sync: str, samples: int) -> dict[str, Any]:
    """The shipped images through one network in one discipline; totals per image."""
    compilation = api.compile_model(model, CHIP, sync, BARRIER if sync == "barrier" else ())
    program = compilation.program
    data = load_data(IMAGES, program).first(samples)
    api.simulate(program, data.first(1))  # compiles the engine, outside the measurement
    run = api.simulate(program, data)
    s, report = run.summary(), compilation.report
    core = run.counters["core"]
    return {
        "samples": samples,
        "accuracy": s["accuracy"],
        "cores": report["cores_used"],
        "kilobytes": sum(row["bytes"] for row in program.meta["memory"]) / 1024,
        "neurons": report["neurons"],
        **{key: s[key] / samples for key in ("spikes", "synops", "packets", "hops", "injected_spikes")},
        "pairs": int(core["pairs"].sum()) / samples,
        "op_reads": int(core["op_reads"].sum()) / samples,
        "latency_us": None if s["latency_ps"]["decision"] is None else s["latency_ps"]["decision"] / 1e6,
        "completion_us": s["latency_ps"]["completion"] / 1e6,
        "energy_uj": {name: value / 1e9 for name, value in s["energy_fj"].items()},
        "saturations": s["saturations"],
        "wall_s": run.wall_s,
    }


def test_accuracy(model: str, path: Path) -> dict[str, Any]:
    """Integer golden model (which the engine equals in wavefront) on MNIST's official test images."""
    compilation = api.compile_model(model, CHIP, "wavefront")
    with np.load(path) as arrays:
        images, labels = arrays["x_test"], arrays["y_test"]
    scores = run_graph(compilation.integer, images, compilation.program.chip, spikes=False).scores
    return {"images": len(images), "accuracy": float(np.mean(np.argmax(scores, axis=1) == labels))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, help="npz with x_test and y_test")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--free-samples", type=int, default=20)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--sync", nargs="*", default=("wavefront", "barrier", "free"))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for model in options.models:
        entry: dict[str, Any] = {}
        for sync in options.sync:
            began = time.perf_counter()
            entry[sync] = one_run(model, sync, options.free_samples if sync == "free" else options.samples)
            sys.stderr.write(f"{model} {sync}: {time.perf_counter() - began:.0f} s\n")
        if options.mnist is not None:
            entry["test"] = test_accuracy(model, options.mnist)
        results[model] = entry
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
