"""A network that others trained, on real recordings: sinabs' N-MNIST convolution network on ``speck2f-like``. The figures of docs/results.md.

    python -m tests.bench.nmnist_speck --data ../shared/data            all parts; --part free, engines, steps or trained for one

The flags are fixed beforehand: reset subtract, floor -1 (what the trainer's neuron does and the file does not say), the chip's 8-bit weights.

* free: the whole recordings at their own times; events of equal time as recorded, and in five drawn orders.
* engines: reference and fast engine on the shortest recordings, every row of the trace.
* steps: the same program with steps of 1 ms, engine against the golden model, spike by spike; at most one spike per neuron and step.
* trained: the float network as sinabs runs it, with several spikes per neuron and step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurosim import api
from neurosim.chip import load_chip
from neurosim.compiler.pipeline import Compilation, compile_network
from neurosim.engine.compare import first_difference
from neurosim.engine.run import simulate_stimuli
from neurosim.frontends import load
from neurosim.golden import run_graph
from neurosim.golden.network import linear_layer
from neurosim.host import encode, event_options, load_data

FLAGS: dict[str, Any] = {"reset": "subtract", "floor": -1.0}
CHIP = "speck2f-like"
STEP_US = 1000


def interval(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    p = right / n
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((middle - half) / (1 + z * z / n)), float((middle + half) / (1 + z * z / n))


def compiled(data: Path, steps: int = 1, sync: str | None = None) -> Compilation:
    """The network on the chip; with ``sync`` wavefront on the same chip with steps."""
    net = load(data / "nir_cnn" / "cnn_sinabs.nir", steps=steps, **FLAGS)
    return compile_network(net, load_chip(CHIP, () if sync is None else (f'sync=["{sync}"]',)), sync)


def layer_spikes(program: Any, result: Any) -> dict[str, int]:
    """Spikes of every population in all samples."""
    names = [p["name"] for p in program.meta["populations"]]
    per_slice = result.slice_spikes.reshape(-1, program.slices).sum(axis=0)
    return {name: int(per_slice[program.slice_population == k].sum()) for k, name in enumerate(names) if (program.slice_population == k).any()}


def free(data: Path, samples: int, seeds: Sequence[int], workers: int) -> dict[str, Any]:
    """Accuracy, spikes and seconds of the whole recordings at their own times, by order of equal times."""
    program = compiled(data).program
    recordings = data / "nmnist" / "nmnist_test100.npz"
    first = load_data(recordings, program, events=event_options(pace="realtime")).first(1)
    api.simulate(program, first)  # compiles the engine, outside the measurement
    result: dict[str, Any] = {}
    for seed in (None, *seeds):
        options = event_options(pace="realtime", order="recording" if seed is None else "shuffled", order_seed=seed or 0)
        given = load_data(recordings, program, events=options).first(samples)
        began, cpu = time.perf_counter(), time.process_time()
        run = api.simulate(program, given, workers=workers, spikes=False)
        right = int(np.sum(run.predictions == run.labels))
        summary = run.summary()
        result["as recorded" if seed is None else f"seed {seed}"] = {
            "right": right,
            "accuracy": right / len(given),
            "interval": interval(right, len(given)),
            "spikes": layer_spikes(program, run.result),
            "synops": summary["synops"],
            "saturations": summary["saturations"],
            "latency_ps": summary["latency_ps"],
            "energy_fj": summary["energy_fj"],
            "wall_s": time.perf_counter() - began,
            "cpu_s": time.process_time() - cpu,
        }
    rates = [row["accuracy"] for row in result.values()]
    return {"runs": result, "spread": max(rates) - min(rates)}


def engines(data: Path, samples: int) -> dict[str, Any]:
    """Both engines on the shortest recordings, trace and all."""
    program = compiled(data).program
    given = load_data(data / "nmnist" / "nmnist_test100.npz", program, events=event_options(pace="realtime"))
    assert given.recordings is not None
    shortest = np.argsort(np.diff(given.recordings.offsets), kind="stable")[:samples]
    stimuli = encode(program, given)
    rows = 0
    for k in shortest.tolist():
        results = [simulate_stimuli(program, [stimuli[k]], engine=engine, record=True, state=True) for engine in ("fast", "reference")]
        difference = first_difference(*results)
        if difference is not None:
            raise SystemExit(f"recording {k}: {difference}")
        rows += len(results[0].trace)
    return {"recordings": shortest.tolist(), "trace rows, all equal": rows}


def steps(data: Path, samples: int, bins: Sequence[str]) -> dict[str, Any]:
    """Wavefront with 1 ms steps against the golden model."""
    recordings = data / "nmnist" / "nmnist_test100.npz"
    with np.load(recordings) as arrays:
        ends = arrays["t"].astype(np.int64)[arrays["offsets"][1:] - 1] - arrays["t"].astype(np.int64)[arrays["offsets"][:-1]]
    done = compiled(data, int(ends.max()) // STEP_US + 1, "wavefront")
    program = done.program
    result: dict[str, Any] = {"steps": program.steps}
    for bin_ in bins:
        given = load_data(recordings, program, events=event_options(step=f"{STEP_US} us", bin=bin_)).first(samples)
        run = api.simulate(program, given)
        assert given.labels is not None
        wrong, right = 0, 0
        for k in range(len(given)):
            golden = run_graph(done.integer, given.data[k : k + 1], program.chip)
            wrong += int((golden.scores[0] != run.result.scores[k]).sum())
            for name in golden.spikes:
                if name in {p["name"] for p in program.meta["populations"] if p["kind"] == "spiking"}:
                    wrong += int((run.spikes(name)[k] != golden.spikes[name][0]).sum()) if k < len(given) else 0
            right += int(golden.scores[0].argmax() == given.labels[k])
        result[bin_] = {
            "samples": len(given),
            "right": right,
            "interval": interval(right, len(given)),
            "spikes": layer_spikes(program, run.result),
            "differences from golden": wrong,
        }
    return result


def trained(data: Path, samples: int) -> dict[str, Any]:
    """The float network in 1 ms steps as sinabs runs it: events counted, floor(v / threshold) spikes per neuron and step, then the clamp."""
    net = load(data / "nir_cnn" / "cnn_sinabs.nir", **FLAGS)
    program = compiled(data).program
    given = load_data(data / "nmnist" / "nmnist_test100.npz", program, events=event_options(step=f"{STEP_US} us", bin="count"))
    given = given.first(samples)
    recordings = given.recordings
    assert recordings is not None
    assert given.labels is not None
    owner = np.repeat(np.arange(samples), np.diff(recordings.offsets))
    step = recordings.relative() // STEP_US
    membranes = {name: np.zeros((samples, *layer.shape)) for name, layer in net.layers.items() if layer.op == "lif"}
    totals = dict.fromkeys(membranes, 0)
    scores = np.zeros((samples, 10))
    for now in range(int(step.max()) + 1):
        values: dict[str, Any] = {}
        for name, layer in net.layers.items():
            if layer.op == "spikes_input":
                values[name] = np.zeros((samples, *layer.shape))
                mine = step == now
                np.add.at(values[name], (owner[mine], recordings.p[mine], recordings.y[mine], recordings.x[mine]), 1.0)
            elif layer.op == "lif":
                v = membranes[name] + values[layer.inputs[0]]
                spikes = np.maximum(np.floor(v), 0.0)
                membranes[name] = np.maximum(v - spikes, -1.0)
                totals[name] += int(spikes.sum())
                values[name] = spikes
            else:
                values[name] = linear_layer(layer, [values[x] for x in layer.inputs])
        scores += values[str(net.output_name)].reshape(samples, -1)
    right = int(np.sum(scores.argmax(axis=1) == given.labels))
    return {"right": right, "interval": interval(right, samples), "spikes": totals}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with nir_cnn and nmnist")
    parser.add_argument("--part", choices=("free", "engines", "steps", "trained"), help="one part only")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5, help="orders of equal times")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--whole", type=int, default=3, help="recordings that both engines run")
    args = parser.parse_args()
    parts = {
        "free": lambda: free(args.data, args.samples, range(1, args.seeds + 1), args.workers),
        "engines": lambda: engines(args.data, args.whole),
        "steps": lambda: steps(args.data, args.samples, ("binary", "count")),
        "trained": lambda: trained(args.data, args.samples),
    }
    print(json.dumps({name: part() for name, part in parts.items() if args.part in (None, name)}, indent=1))


if __name__ == "__main__":
    main()
