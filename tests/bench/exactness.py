"""Exactness of DESIGN section 3, counted: ``make exactness`` (needs torch). Chip ``ideal``, wavefront, 100 images, original model in float64."""

from __future__ import annotations

import json
import sys

from neurosim import api, load
from neurosim.golden import run_network
from neurosim.host import run_host
from tests.exactness import compare_spikes
from tests.frontends.test_stmixer import MODELS, images, torch_spikes


def main() -> None:
    """Print, per model, spikes compared, mismatching samples, excused samples, float ties."""
    results = {}
    for name in MODELS:
        x, _ = images(100)
        expected, _ = torch_spikes(name, x)
        program = api.build(name, "ideal", "wavefront", audit=False)
        run = api.simulate(program, x)
        _, found = run_host(program, x)
        found |= {layer: run.spikes(layer) for layer in expected if layer not in found}
        comparison = compare_spikes(expected, found, run_network(load(name), x, margins=True).margins)
        results[name] = {
            "samples": comparison.samples,
            "layers": len(expected),
            "neuron steps compared": int(sum(v.size for v in expected.values())),
            "spikes": int(sum(v.sum() for v in expected.values())),
            "mismatching entries": int(sum((expected[layer] != found[layer]).sum() for layer in expected)),
            "wrong samples": comparison.wrong,
            "excused samples": comparison.excused,
            "float ties": len(comparison.ties),
        }
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
