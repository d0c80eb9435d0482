"""Networks of the published sizes in the authors' layouts, from module to chip ``ideal`` (``make published``; needs torch; docs/scaling.md).

    python -m tests.bench.published [NAME ...] [--samples 3] [--sync wavefront barrier] [--until load|check|build|run]

Every network runs in a process of its own. Prints one JSON object per network: parameters, layers, processor seconds and peak memory of the whole
process after each stage (module, load, check, build with audit, run), firing rates, and in how many spikes the chip differs from the module in
float64, layer by layer, neuron by neuron. Exit code 1 when a sample is wrong by the rule of DESIGN section 3 about ties.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np

from neurosim import api, load
from neurosim.golden import run_network
from neurosim.host import run_host
from tests.exactness import compare_spikes

CIFAR = ("stmixer-4-384", "spikformer-4-384", "qkformer-hst-4-384", "msvit-4-384")
IMAGENET = ("stmixer-8-768", "spikformer-8-512")
STAGES = ("load", "check", "build", "run")


class Clock:
    """Processor seconds of every stage, and the peak memory of the process at its end."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}
        self.began = time.process_time()

    def done(self, stage: str) -> None:
        """The stage that began with the last call is over."""
        now, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.rows[stage] = {"cpu_s": round(now - self.began, 1), "peak_gb": round(peak * 1024 / 1e9, 2)}
        self.began = time.process_time()
        print(stage, self.rows[stage], file=sys.stderr, flush=True)


def measure(name: str, samples: int, syncs: list[str], until: str) -> dict[str, Any]:
    """One network, stage by stage."""
    import torch

    from tests.frontends.torch import published

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    spec, clock = published.NETWORKS[name], Clock()
    model = published.calibrated(name)
    clock.done("module")
    row: dict[str, Any] = {"network": name, "parameters_m": round(sum(p.numel() for p in model.parameters()) / 1e6, 3), "stages": clock.rows}
    x = published.images(name, samples)
    spikes, scores = published.spikes_of(model, x, spec.steps)
    rates = {layer: float(found.mean()) for layer, found in spikes.items()}
    row |= {
        "rate": sum(int(s.sum()) for s in spikes.values()) / sum(s.size for s in spikes.values()),
        "rates": [min(rates.values()), max(rates.values())],
        "neuron layers": len(spikes),
    }
    clock.done("module in float64")
    network = load(model, input_shape=(3, spec.size, spec.size))
    row |= {"layers": len(network.layers), "steps": network.steps, "notes": network.notes}
    clock.done("load")
    if until == "load":
        return row
    row["refused"] = [r.as_dict() for r in api.check(network, "ideal") if r.status == "refused"]
    clock.done("check")
    if until == "check" or row["refused"]:
        return row
    programs = {sync: api.build(network, "ideal", sync) for sync in (syncs if until == "run" else syncs[:1])}
    row["cores"] = len({int(c) for c in programs[syncs[0]].slice_core})
    clock.done("build")
    if until == "build":
        return row
    expected = {layer: spikes[layer] for layer in network.layers if layer in spikes}
    margins = run_network(network, x, margins=True).margins
    clock.done("margins")
    row["chip"] = {}
    for sync, program in programs.items():
        run = api.simulate(program, x)
        populations = {p["name"] for p in program.meta["populations"]}
        _, found = run_host(program, x)
        found |= {layer: run.spikes(layer) for layer in expected if layer in populations and layer not in found}
        compared = {layer: expected[layer] for layer in expected if layer in found}
        result = compare_spikes(compared, found, margins)
        summary = run.summary()
        row["chip"][sync] = {
            "layers": len(compared), "folded": sorted(set(expected) - set(compared)), "exact": result.exact, "wrong": result.wrong[:3],
            "excused": len(result.excused), "mismatches": int(sum((compared[k] != found[k]).sum() for k in compared)),
            "spikes": int(sum(s.sum() for s in compared.values())), "same class": bool(np.array_equal(run.predictions, scores.argmax(1))),
            "synops_per_sample": summary["synops"] / samples, "wall_s": run.wall_s,
        }  # fmt: skip
        clock.done(f"run, {sync}")
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=CIFAR, metavar="NAME", help=", ".join((*CIFAR, *IMAGENET)))
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--sync", nargs="+", default=["wavefront", "barrier"])
    parser.add_argument("--until", choices=STAGES, default="run")
    options = parser.parse_args()
    if len(options.networks) == 1:
        row = measure(options.networks[0], options.samples, options.sync, options.until)
        print(json.dumps(row, indent=1))
        sys.exit(any(not chip["exact"] for chip in row.get("chip", {}).values()))
    codes = [
        subprocess.run([sys.executable, "-m", "tests.bench.published", name, "--samples", str(options.samples), "--until", options.until,
                        "--sync", *options.sync], check=False).returncode
        for name in options.networks
    ]  # fmt: skip
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
