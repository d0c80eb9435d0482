"""Networks of the published sizes on a mesh of many small cores (``make published-mesh``; needs torch; docs/scaling.md).

    python -m tests.bench.published_mesh [NAME ...] [--samples 1]

``async-mesh-plus`` with its mesh, cores, channels and maps enlarged (FLAGS) and nothing else: weights of 8 bits, neurons, bytes and routes per core
are those of the preset; the readout's scale rests on its scores. Every spike of the fast engine in wavefront is compared with the integer
golden model, then one JSON object per network is printed: cores, packets per spike, packets x hops, latency, energy. Exit code 1 on a difference.

"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from typing import Any

import numpy as np

from neurosim import api, load
from neurosim.golden import run_graph

FLAGS = (
    "memory.cores=1024", "noc.width=32", "noc.height=32", "capabilities.ops.conv2d.channels=4096", "capabilities.ops.pooled_conv2d.channels=4096",
    "capabilities.ops.token_mix.channels=4096",
)  # fmt: skip
NAMES = ("stmixer-4-384", "spikformer-4-384", "qkformer-hst-4-384", "msvit-4-384")


def measure(name: str, samples: int, flags: tuple[str, ...]) -> dict[str, Any]:
    """One network: compiled, run, compared."""
    from tests.frontends.torch import published

    warnings.simplefilter("ignore")
    size = published.NETWORKS[name].size
    network = load(published.calibrated(name), input_shape=(3, size, size))
    x = published.images(name, samples)
    began = time.process_time()
    compiled = api.compile_model(network, "async-mesh-plus", "wavefront", flags, calibrate=x, allow_low_snr=True)
    seconds = time.process_time() - began
    program = compiled.program
    run = api.simulate(program, x)
    golden = run_graph(compiled.integer, x, program.chip)
    chip = [p["name"] for p in program.meta["populations"] if p["kind"] == "spiking" and not p["host"]]
    s = run.summary()
    return {
        "network": name,
        "flags": flags,
        "compile_cpu_s": round(seconds, 1),
        "cores": compiled.report["cores_used"],
        "populations compared": len(chip),
        "spikes that differ": int(sum(np.count_nonzero(run.spikes(layer) != golden.spikes[layer]) for layer in chip)),
        "scores that differ": int(np.count_nonzero(run.readout != golden.scores)),
        "spikes": s["spikes"] / samples,
        "synops": s["synops"] / samples,
        "packets_per_spike": s["packets"] / s["spikes"],
        "packets_x_hops": s["hops"] / samples,
        "completion_ms": s["latency_ps"]["completion"] / 1e9,
        "energy_mj": {key: value / 1e12 for key, value in s["energy_fj"].items()},
        "saturations": s["saturations"],
        "lowest_snr_db": min(p.snr_db for p in compiled.snr),
        "wall_s": run.wall_s,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="flags", help="further flags, KEY=VALUE")
    options = parser.parse_args()
    wrong = False
    for name in options.networks:
        row = measure(name, options.samples, (*FLAGS, *options.flags))
        wrong |= bool(row["spikes that differ"] or row["scores that differ"])
        print(json.dumps(row, indent=1), flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
