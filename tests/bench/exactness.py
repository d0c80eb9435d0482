"""Exactness of DESIGN section 3, counted (``make exactness``; needs torch): spikes on the chip against the original PyTorch module in float64.

    python -m tests.bench.exactness [MODEL ...] [--steps 1 4] [--sync wavefront barrier] [--samples 100] [--ties ties.json]

MODEL: stmixer (the trained ones that ship) or an architecture of models/ with random weights and calibrated batch norms; default all. The module,
unlowered, is recorded by forward hooks; the same images go through frontend, compiler, host section and engine on chip ``ideal``. A row is exact when
no sample is wrong: a sample is excused only if its first mismatch, in order of steps and layers, is a tie in float64 (within 1e-6 of the threshold).
Sums of spikes that hit their threshold exactly, as those of attention often do, are no ties: nothing is rounded there, and they are counted apart.
Exit code 1 when a row is not exact.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim import api, load
from neurosim.golden import run_network
from neurosim.host import run_host
from neurosim.network import Network
from tests.exactness import compare_spikes

DATA = Path(__file__).resolve().parents[2] / "neurosim" / "data"
RANDOM = ("spikformer", "qkformer", "qkformer-gates", "msvit", "smixer", "spikformer-halting")
MODELS = ("stmixer", *RANDOM)
SYNCS = ("wavefront", "barrier")
HEAD = (
    "model", "T", "chip runs", "layers", "folded", "neuron steps", "spikes", "rates of layers", "mismatches", "samples excused", "wrong",
    "float ties", "sums at the threshold",
)  # fmt: skip


def images(count: int) -> NDArray[np.uint8]:
    """``[count, 1, 28, 28]`` of the shipped test images, spread over all of them."""
    with np.load(DATA / "mnist200.npz") as file:
        chosen: NDArray[np.uint8] = file["images"][:: 200 // count][:count, None]
        return chosen


def module_of(name: str, steps: int) -> tuple[Any, Any]:
    """(module in float64, what ``neurosim.load`` reads)."""
    if name == "stmixer":
        from models.stmixer import load_checkpoint

        shipped = f"stmixer-mnist-t{steps}"
        return load_checkpoint(DATA / "models" / f"{shipped}.json").double().eval(), shipped
    from models.calibrated import calibrated

    module = calibrated(name, steps=steps).double().eval()
    return module, module


def network_of(source: Any) -> Network:
    """The Network of a shipped model's name or of a module."""
    return load(source) if isinstance(source, str) else load(source, input_shape=(1, 28, 28))


def torch_spikes(module: Any, x: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Spikes [n, T, ...] of every LIF, by qualified name."""
    import torch

    from models.evaluate import record_spikes

    torch.set_num_threads(1)
    recorded: dict[str, Any] = {}
    with torch.no_grad(), record_spikes(module, recorded):
        module(torch.from_numpy(x).double() / 255.0)
    return {key: value.unflatten(0, (module.config.steps, -1)).transpose(0, 1).numpy().astype(np.uint8) for key, value in recorded.items()}


def rows(name: str, steps: int, syncs: list[str], samples: int) -> Iterator[dict[str, Any]]:
    """One row per discipline: what was compared and what came of it."""
    x = images(samples)
    module, source = module_of(name, steps)
    network = network_of(source)
    spikes = torch_spikes(module, x)
    # in topological order, in the shape of the network's layer: a token axis may be an image there
    expected = {layer: spikes[layer].reshape(samples, steps, *network.shape(layer)) for layer in network.layers if layer in spikes}
    if lost := set(spikes) - set(expected):
        raise SystemExit(f"{name}: layers {', '.join(sorted(lost))} of the module are not in its Network")
    margins = run_network(network, x, margins=True).margins
    for sync in syncs:
        program = api.build(network, "ideal", sync, audit=False)
        run = api.simulate(program, x)
        populations = {p["name"] for p in program.meta["populations"]}
        folded = {row["layer"]: row["text"] for row in program.meta["rewrites"] if row["layer"] in set(expected) - populations}
        if missing := set(expected) - populations - set(folded):
            raise SystemExit(f"{name}: layers {', '.join(sorted(missing))} have no population and no rewrite says why")
        _, found = run_host(program, x)
        found |= {layer: run.spikes(layer) for layer in expected if layer in populations and layer not in found}
        compared = {layer: expected[layer] for layer in expected if layer in found}
        result = compare_spikes(compared, found, margins)
        rates = [float(v.mean()) for v in compared.values()]
        yield {
            "model": name,
            "T": steps,
            "chip runs": sync,
            "layers": len(compared),
            "folded": folded,
            "neuron steps": int(sum(v.size for v in compared.values())),
            "spikes": int(sum(v.sum() for v in compared.values())),
            "rates of layers": f"{100 * min(rates):.1f}-{100 * max(rates):.1f} %",
            "mismatches": int(sum((compared[layer] != found[layer]).sum() for layer in compared)),
            "samples excused": len(result.excused),
            "wrong": len(result.wrong),
            "first wrong": result.wrong[:3],
            "exact": result.exact,
            "float ties": [tie for tie in result.ties if margin_of(margins, tie) > 0],
            "sums at the threshold": sum(margin_of(margins, tie) == 0 for tie in result.ties),
        }


def margin_of(margins: dict[str, NDArray[np.float64]], tie: tuple[str, int, int, int]) -> float:
    """|v - threshold| / threshold of a tie."""
    layer, sample, step, index = tie
    return float(margins[layer][sample, step].flat[index])


def main() -> None:
    """Print a table row per model, number of steps and discipline; then the folded layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--sync", nargs="+", default=list(SYNCS), choices=SYNCS)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--ties", type=Path, help="write every float tie (layer, sample, step, flat index) of every row to this file")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.models) - set(MODELS)):
        parser.error(f"model {unknown[0]!r} is not known; use {', '.join(MODELS)}")
    if not 1 <= chosen.samples <= 200:
        parser.error(f"--samples {chosen.samples} must lie in 1..200, the images that ship")
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    done: list[dict[str, Any]] = []
    for name in chosen.models:
        for steps in chosen.steps:
            for row in rows(name, steps, chosen.sync, chosen.samples):
                cells = row | {"folded": len(row["folded"]), "float ties": len(row["float ties"])}
                print("| " + " | ".join(f"{cells[key]:,}" if isinstance(cells[key], int) else str(cells[key]) for key in HEAD) + " |", flush=True)
                done.append(row)
    notes = {(row["model"], layer): text for row in done for layer, text in row["folded"].items()}
    for (name, layer), text in notes.items():
        print(f"{name} {layer}: no population; {text}")
    for row in done:
        for text in row["first wrong"]:
            print(f"{row['model']} T = {row['T']} {row['chip runs']}: {text}")
    if chosen.ties is not None:
        chosen.ties.write_text(json.dumps([{k: row[k] for k in ("model", "T", "chip runs", "float ties")} for row in done]), "utf-8")
    if not all(row["exact"] for row in done):
        sys.exit(1)


if __name__ == "__main__":
    main()
