"""Token halting on the chip: energy against accuracy for several counts of spikes until a token halts. Run: python -m tests.bench.halting [--mnist F]

The shipped spikformer-halting-mnist was trained for a count of 2; the other rows change that number alone. 0: tokens never halt.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import neurosim
from neurosim import api
from neurosim.golden import run_graph
from neurosim.host import load_data
from neurosim.network import Network

MODEL, CHIP = "spikformer-halting-mnist", "async-mesh-plus"
IMAGES = Path(neurosim.__file__).parent / "data" / "mnist200.npz"
NEVER = 10_000


def with_count(count: int) -> Network:
    """The shipped network with another count; its halting neurons' input scale is 1 / count."""
    net = neurosim.load(MODEL)
    for name, layer in net.layers.items():
        if name.startswith("halts.") and name.count(".") == 2 and layer.op == "lif":
            net.layers[name] = replace(layer, params=layer.params | {"input_scale": 1.0 / (count or NEVER)})
    return net


def one(count: int, samples: int, mnist: Path | None) -> dict[str, Any]:
    """Figures per image on the shipped images, accuracy of the integer golden model on the test set."""
    compilation = api.compile_model(with_count(count), CHIP, "wavefront")
    program = compilation.program
    data = load_data(IMAGES, program).first(samples)
    run = api.simulate(program, data)
    s = run.summary()
    row: dict[str, Any] = {
        "count": count, "spikes": s["spikes"] / samples, "synops": s["synops"] / samples, "packets": s["packets"] / samples,
        "latency_us": s["latency_ps"]["decision"] / 1e6, "accuracy": s["accuracy"],
        "energy_uj": {name: value / 1e9 for name, value in s["energy_fj"].items()},
    }  # fmt: skip
    if mnist is not None:
        with np.load(mnist) as arrays:
            images, labels = arrays["x_test"], arrays["y_test"]
        scores = run_graph(compilation.integer, images, compilation.program.chip, spikes=False).scores
        row["test_accuracy"] = float(np.mean(np.argmax(scores, axis=1) == labels))
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--counts", type=int, nargs="*", default=(1, 2, 3, 4, 0))
    options = parser.parse_args()
    sys.stdout.write(json.dumps([one(count, options.samples, options.mnist) for count in options.counts], indent=1) + "\n")


if __name__ == "__main__":
    main()
