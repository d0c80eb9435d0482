"""Both engines on whole images of real networks, row for row (``make conformance-models``; needs torch).

    python -m tests.bench.conformance_models [MODEL ...] [--steps 1] [--sync free wavefront barrier] [--chip async-mesh-plus] [--image 0]

MODEL as in tests.bench.exactness. One image of each network through the fast and the reference engine in every discipline: every field of every trace
row, all counters, spikes and final membranes must be equal, and under steps scores and spikes those of the clock-driven integer model. A table row
each; exit code 1 and the first difference where there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

from neurosim import api
from neurosim.engine.compare import first_difference
from neurosim.golden import run_graph
from tests.bench.exactness import MODELS, images, module_of, network_of

SYNCS = ("free", "wavefront", "barrier")
SETTINGS = (
    'sync=["wavefront", "free", "barrier"]',
    'timing.barrier=[{tiles = 1, duration = "1 us"}]',
    "capabilities.max_delay=62",
    "capabilities.banks=64",
)
"""The chip with every discipline: presets of asynchronous chips have no barrier, nor the delays that balance it."""
HEAD = (
    "model",
    "T",
    "discipline",
    "trace rows",
    "packets",
    "synops",
    "of them pairs",
    "words read by ops",
    "spikes",
    "difference",
    "fast s",
    "reference s",
)


def row(name: str, network: Any, chip: str, sync: str, image: int) -> dict[str, Any]:
    """What the engines did and ``difference``: none, or the first one in words."""
    compilation = api.compile_model(network, chip, sync, list(SETTINGS), audit=False)
    pixels = images(200)[image : image + 1]
    results, seconds = [], []
    for engine in ("fast", "reference"):
        chunks: list[Any] = []
        began = time.perf_counter()
        run = api.simulate(compilation.program, pixels, engine=engine, state=True, observe=lambda rows, kept=chunks: kept.append(rows.copy()))
        seconds.append(time.perf_counter() - began)
        run.result.trace = np.concatenate(chunks)
        results.append(run.result)
    difference = first_difference(*results)
    if sync != "free" and difference is None:
        golden = run_graph(compilation.integer, pixels, compilation.program.chip)
        on_chip = {compilation.integer.populations[p].name for p in compilation.program.slice_population}
        wrong = [layer for layer in golden.spikes if layer in on_chip and not np.array_equal(run.spikes(layer), golden.spikes[layer])]
        if wrong or not np.array_equal(run.readout, golden.scores):
            difference = f"engines and clock-driven model: {', '.join(wrong) or 'scores'}"
    result = results[0]
    return {
        "model": name, "T": network.steps, "discipline": sync, "trace rows": len(result.trace), "packets": int(result.core["packets_sent"].sum()),
        "synops": int(result.core["synops"].sum()), "of them pairs": int(result.core["pairs"].sum()),
        "words read by ops": int(result.core["op_reads"].sum()), "spikes": int(result.core["fires"].sum()), "difference": difference or "none",
        "fast s": f"{seconds[0]:.1f}", "reference s": f"{seconds[1]:.0f}",
    }  # fmt: skip


def main() -> None:
    """Print a table row per model, number of steps and discipline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--steps", nargs="+", type=int, default=[1])
    parser.add_argument("--sync", nargs="+", default=list(SYNCS), choices=SYNCS)
    parser.add_argument("--chip", default="async-mesh-plus")
    parser.add_argument("--image", type=int, default=0, help="number of the shipped image, 0 to 199")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.models) - set(MODELS)):
        parser.error(f"model {unknown[0]!r} is not known; use {', '.join(MODELS)}")
    if not 0 <= chosen.image < 200:
        parser.error(f"--image {chosen.image} must lie in 0..199")
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    differs = False
    for name in chosen.models:
        for steps in chosen.steps:
            network = network_of(module_of(name, steps)[1])
            for sync in chosen.sync:
                cells = row(name, network, chosen.chip, sync, chosen.image)
                differs |= cells["difference"] != "none"
                print("| " + " | ".join(f"{cells[key]:,}" if isinstance(cells[key], int) else str(cells[key]) for key in HEAD) + " |", flush=True)
    if differs:
        sys.exit(1)


if __name__ == "__main__":
    main()
