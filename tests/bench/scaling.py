"""How compiling and running grow (``make scaling``; docs/scaling.md): python -m tests.bench.scaling [FAMILY ...] [--json FILE]

    weights      STMixer-4 of growing width on 32 x 32 images, chip ideal; size = weights of the network
    neurons      a 3 x 3 convolution on growing maps, chip ideal
    synapses     one layer of random synapses, 1,000 from each input at most, chip ideal
    populations  a chain of spike layers, chip ideal with as many cores
    cores        a lattice: four convolutions cut into one slice per core of async-mesh with small cores
    steps        the narrowest STMixer, growing T

Every size runs in a process of its own: processor seconds of check, of compiling with audit and of one sample, and the peak memory of the process. An
exponent is the slope of the logarithms over all sizes: 1 is linear growth.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neurosim import api
from neurosim.network import Network
from tests.bench.sizes import stmixer

Case = tuple[Network, Any, str, list[str]]
"""(network, one sample, chip, overrides)."""
DENSITY = 0.05
"""Active inputs per step where a case draws its own."""


def grid(side: int) -> list[str]:
    """Overrides of a mesh of side x side cores."""
    return [f"memory.cores={side * side}", f"noc.width={side}", f"noc.height={side}"]


def drawn(net: Network, seed: int = 0) -> Any:
    """Random spikes [1, T, ...] for a network of spikes."""
    shape = (1, net.steps, *net.input_contract.shape)
    return (np.random.default_rng(seed).random(shape) < DENSITY).astype(np.uint8)


def weights(dim: int) -> Case:
    """STMixer-4-``dim``."""
    net, image = stmixer(dim, 4, 32, 10)
    return net, image, "ideal", []


def neurons(side: int) -> Case:
    """8 channels on side x side pixels."""
    net = Network("map")
    x = net.lif("lif", net.conv2d("conv", net.spikes_input("in", (8, side, side)), small(8, 8, 3, 3), padding=1), decay=0.5)
    net.output(net.linear("head", net.mean("mean", x), small(3, 8)))
    return net, drawn(net), "ideal", []


def synapses(count: int) -> Case:
    """``count`` synapses between 10,000 inputs and 10,000 neurons at most."""
    rng, fan = np.random.default_rng(0), min(1000, count // 100)
    inputs = count // fan
    first = rng.integers(0, 10_000, inputs)[:, None]
    targets = (first + np.sort(rng.integers(0, 10_000 - fan, (inputs, fan)), axis=1) + np.arange(fan)) % 10_000
    net = Network("random")
    x = net.sparse("synapses", net.spikes_input("in", (inputs, 1, 1)), np.arange(inputs + 1) * fan, targets.ravel(), small(count), (10_000, 1, 1))
    net.output(net.linear("head", net.lif("lif", x, decay=0.5), small(3, 10_000)))
    return net, drawn(net), "ideal", []


def populations(length: int) -> Case:
    """So many spike layers, one behind the other."""
    net = Network("chain")
    x = net.spikes_input("in", (4, 4, 4))
    for k in range(length):
        x = net.lif(f"lif{k}", net.conv2d(f"conv{k}", x, small(4, 4, 1, 1)), decay=0.5)
    net.output(net.linear("head", net.flatten("flat", x), small(3, 64)))
    return net, drawn(net), "ideal", grid(int(np.ceil((length + 1) ** 0.5)))


def cores(side: int) -> Case:
    """Four layers on side x side cores that hold 128 neurons each."""
    net = Network("lattice")
    x = net.spikes_input("in", (8, 2 * side, 2 * side - 1))
    for k in range(4):
        x = net.lif(f"lif{k}", net.conv2d(f"conv{k}", x, small(8, 8, 3, 3), padding=1), decay=0.5)
    net.output(net.linear("head", net.mean("mean", x), small(3, 8)))
    return net, drawn(net), "async-mesh", [*grid(side), "memory.neurons=128"]


def steps(count: int) -> Case:
    """STMixer-4-64 with T = ``count``."""
    net, image = stmixer(64, 4, 32, 10)
    net.steps = count
    return net, image, "ideal", []


def small(*shape: int) -> Any:
    """Weights, multiples of 1/64."""
    return np.random.default_rng(sum(shape)).integers(-9, 10, shape) / 64


FAMILIES: dict[str, tuple[Callable[[int], Case], tuple[int, ...]]] = {
    "weights": (weights, (64, 128, 256, 384)),
    "neurons": (neurons, (64, 128, 256, 512)),
    "synapses": (synapses, (100_000, 1_000_000, 3_000_000, 10_000_000)),
    "populations": (populations, (125, 250, 500, 993)),
    "cores": (cores, (8, 16, 32, 64)),
    "steps": (steps, (1, 4, 16, 64)),
}
"""Family -> (how a case is made, its sizes)."""
MEASURED = ("check_s", "compile_s", "run_s", "peak_gb")


def measure(family: str, size: int, runs: bool) -> dict[str, Any]:
    """One row, in this process."""
    net, sample, chip, overrides = FAMILIES[family][0](size)
    count = {
        "weights": sum(int(np.size(layer.params.get("weight", ()))) for layer in net.layers.values()), "cores": size * size,
        "neurons": int(np.prod(net.input_contract.shape)),
    }.get(family, size)  # fmt: skip
    began = time.process_time()
    api.check(net, chip, overrides)
    checked = time.process_time()
    compilation = api.compile_model(net, chip, None, overrides)
    compiled = time.process_time()
    row = {
        "family": family, "size": count, "check_s": checked - began, "compile_s": compiled - checked,
        "synapses": compilation.report["synapses"], "cores": compilation.report["cores_used"],
    }  # fmt: skip
    if runs:
        api.simulate(compilation.program, sample)  # loads the engine
        began = time.process_time()
        run = api.simulate(compilation.program, sample)
        row |= {"run_s": time.process_time() - began, "synops": run.summary()["synops"]}
    return row | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def exponent(sizes: list[float], values: list[float]) -> float:
    """Slope of the logarithms by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-3)), 1)[0])


def main() -> None:
    """Print a table per family, its last row the exponents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(FAMILIES), metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--one", type=int, help="measure this size alone and print it as JSON")
    parser.add_argument("--compile-only", action="store_true", help="run nothing")
    parser.add_argument("--json", type=Path, help="write all rows")
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(measure(given.families[0], given.one, not given.compile_only)))
        return
    rows = []
    for family in given.families:
        found = []
        for size in FAMILIES[family][1]:
            command = [sys.executable, "-m", "tests.bench.scaling", family, "--one", str(size), *["--compile-only"] * given.compile_only]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
        columns = [key for key in MEASURED if key in found[0]]
        print(f"\n| {family} | synapses | cores | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
        for row in found:
            print(f"| {row['size']:,} | {row['synapses']:,} | {row['cores']} | {' | '.join(f'{row[key]:.2f}' for key in columns)} |", flush=True)
        slopes = (exponent([row["size"] for row in found], [row[key] for row in found]) for key in columns)
        print(f"| exponent | | | {' | '.join(f'{slope:.2f}' for slope in slopes)} |", flush=True)
        rows += found
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
