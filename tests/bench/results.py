"""The figures of docs/results.md, measured: ``make results MNIST=mnist_full.npz`` (arrays x_test, y_test of MNIST's official test set).

Prints one JSON object: accuracy in float and in the chip's integers on all test images; the shipped 200 images on the fast engine in wavefront
(isolated, streamed) and free; speed and peak memory of the engine.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import neurosim
from neurosim import api
from neurosim.golden import run_graph, run_network
from neurosim.host import load_data

MODELS = ("stmixer-mnist-t1", "stmixer-mnist-t4")
IMAGES = Path(neurosim.__file__).parent / "data" / "mnist200.npz"


def golden_accuracy(model: str, chip: str, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Float network against the integer golden model of the compiled graph on many images."""
    compilation = api.compile_model(model, chip, "wavefront")
    net = neurosim.load(model)
    floats = np.argmax(run_network(net, images, spikes=False).scores, axis=1)
    integers = np.argmax(run_graph(compilation.integer, images, compilation.program.chip, spikes=False).scores, axis=1)
    return {
        "images": len(images),
        "float": float(np.mean(floats == labels)),
        "integer": float(np.mean(integers == labels)),
        "same prediction": float(np.mean(floats == integers)),
    }


def engine_run(model: str, sync: str, *, streamed: bool = False, samples: int = 200) -> dict[str, Any]:
    """The shipped images on the fast engine."""
    program = api.build(model, "async-mesh", sync)
    data = load_data(IMAGES, program).first(samples)
    api.simulate(program, data.first(1))  # compiles the engine, outside the measurement
    run = api.simulate(program, data, streamed=streamed)
    summary = run.summary()
    keep = (
        "samples",
        "accuracy",
        "spikes",
        "synops",
        "packets",
        "hops",
        "latency_ps",
        "throughput_per_s",
        "energy_fj",
        "stalls_ps",
        "saturations",
        "wall_s",
    )
    wall = run.wall_s
    return {
        **{key: summary[key] for key in keep},
        "synops_per_s": summary["synops"] / wall,
        "hops_per_s": summary["hops"] / wall,
        "images_per_s": samples / wall,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, help="npz with x_test and y_test; without it the golden accuracies are left out")
    parser.add_argument("--samples", type=int, default=200, help="how many of the shipped images the engine runs")
    parser.add_argument("--free-samples", type=int, default=50, help="the same in free, which takes some twenty times longer")
    parser.add_argument("--models", nargs="*", default=MODELS)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for model in options.models:
        began = time.perf_counter()
        entry: dict[str, Any] = {"wavefront": engine_run(model, "wavefront", samples=options.samples)}
        entry["wavefront streamed"] = engine_run(model, "wavefront", streamed=True, samples=options.samples)
        entry["free"] = engine_run(model, "free", samples=min(options.samples, options.free_samples))
        if options.mnist is not None:
            with np.load(options.mnist) as arrays:
                images, labels = arrays["x_test"], arrays["y_test"]
            entry["golden async-mesh"] = golden_accuracy(model, "async-mesh", images, labels)
        results[model] = entry
        sys.stderr.write(f"{model}: {time.perf_counter() - began:.0f} s\n")
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
