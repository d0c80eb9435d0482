"""Settle beside the other disciplines, on the shipped digits: ``make settle`` (docs/settle.md).

Prints one JSON object. ``exact``: every output of every neuron, every score and prediction against wavefront's, with link flow and with end-to-end
credits, without jitter and with 30 %. ``tables``: medians per digit in every discipline, both orders, several waits, several rests, several depths of
FIFOs. ``moving``: a digit that moves by one pixel per frame, streamed by differences, beside wavefront on the same frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurosim import api
from neurosim.program import Program
from tests.bench.transformers import BARRIER, IMAGES

CHIP = "async-mesh-plus"
MODELS = ("stmixer-mnist-t1", "smixer-mnist", "qkformer-gates-mnist", "qkformer-mnist", "spikformer-mnist")
"""The shipped networks of one step."""
JITTER = 19661
"""30 % of a service time, in 1/65536."""
WIDE = ("noc.window=256",)
"""End-to-end windows, and so FIFOs in front of cores, that hardly ever fill, as in a trial without contention."""
WAIT = "timing.settle='10 us'"
WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "wavefront": ("wavefront", ()),
    "barrier": ("barrier", BARRIER),
    "settle": ("settle", ()),
    "settle, 0.1 us": ("settle", ("timing.settle='100 ns'",)),
    "settle, 1 us": ("settle", ("timing.settle='1 us'",)),
    "settle, 10 us": ("settle", (WAIT,)),
    "settle, age": ("settle", ("arithmetic.settle_order=age",)),
    "settle, age, 10 us": ("settle", ("arithmetic.settle_order=age", WAIT)),
    "settle, rest none": ("settle", ()),
    "settle, rest mean": ("settle", ()),
    "settle, link": ("settle", ("noc.flow=link",)),
    "settle, window 256": ("settle", WIDE),
    "settle, window 256, 10 us": ("settle", (*WIDE, WAIT)),
    "settle, window 256, age": ("settle", (*WIDE, "arithmetic.settle_order=age")),
    "settle, window 256, rest none": ("settle", WIDE),
    "settle, window 256, rest mean": ("settle", WIDE),
    "wavefront, window 256": ("wavefront", WIDE),
    "free": ("free", ()),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["exact", "tables", "moving"])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--free-samples", type=int, default=20)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    options = parser.parse_args()
    jobs = {"exact": _exact, "tables": _tables, "moving": _moving}
    found: dict[str, Any] = {}
    for what in options.what:
        found[what] = {}
        for model in options.models:
            began = time.perf_counter()
            found[what][model] = jobs[what](model, options)
            sys.stderr.write(f"{what} {model}: {time.perf_counter() - began:.0f} s\n")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def _images(samples: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(IMAGES) as arrays:
        return arrays["images"][:samples], arrays["label"][:samples]


def _program(model: str, way: str) -> Program:
    sync, changes = WAYS[way]
    rest = None
    with tempfile.TemporaryDirectory() as folder:
        if "rest mean" in way:
            rest = str(Path(folder) / "mean.npy")
            np.save(rest, _images(200)[0].mean(axis=0).round().astype(np.uint8)[None])
        elif "rest none" in way:
            rest = "none"
        return api.build(model, CHIP, sync, changes, rest=rest)


# -- exactness


def _exact(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Differences from wavefront by flow and jitter; all zero when settle is exact."""
    images = _images(options.samples)[0]
    wave = api.build(model, CHIP, "wavefront")
    found: dict[str, Any] = {"samples": len(images), "neurons": int(wave.neuron_ptr[-1])}
    programs = {flow: api.build(model, CHIP, "settle", (f"noc.flow={flow}",)) for flow in ("link", "end_to_end")}
    counts = {(flow, jitter): np.zeros(4, np.int64) for flow in programs for jitter in (0, JITTER)}
    for part in _parts(images, 25):
        want = api.simulate(wave, part)
        for (flow, jitter), wrong in counts.items():
            have = api.simulate(programs[flow], part, jitter=jitter, seed=1)
            wrong += (*_differences(wave, want, have), int((want.readout != have.readout).sum()), int((want.predictions != have.predictions).sum()))
    for (flow, jitter), wrong in counts.items():
        names = ("outputs compared", "outputs that differ", "scores that differ", "predictions that differ")
        found[f"{flow}, jitter {jitter / 65536:.0%}"] = dict(zip(names, wrong.tolist(), strict=True))
    return found


def _parts(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for k in range(0, len(images), size):
        yield images[k : k + size]


def _differences(program: Program, want: api.Run, have: api.Run) -> tuple[int, int]:
    """(outputs of neurons compared, how many differ)."""
    compared = differ = 0
    for p in sorted(set(program.slice_population.tolist())):
        population = program.meta["populations"][p]
        if population["kind"] == "spiking":
            a, b = want.spikes(population["name"]), have.spikes(population["name"])
            compared, differ = compared + a.size, differ + int((a != b).sum())
    return compared, differ


# -- tables


def _tables(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Medians per digit for every way."""
    found = {}
    for way in options.ways:
        if "rest mean" in way and WAYS[way][0] != "settle":
            continue
        program = _program(model, way)
        images, labels = _images(options.free_samples if way == "free" else options.samples)
        found[way] = _figures([api.simulate(program, part) for part in _parts(images, 25)], labels)
        sys.stderr.write(f"  {model} {way}: {json.dumps(found[way])}\n")
    return found


def _figures(runs: Sequence[api.Run], labels: np.ndarray) -> dict[str, Any]:
    """Per digit: medians of spike packets, latency; means of counts and of energy by component."""
    n = sum(len(run.readout) for run in runs)

    def core(name: str) -> float:
        return sum(int(run.counters["core"][name].sum()) for run in runs) / n

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(run.result, name) for run in runs])

    spikes = np.concatenate([np.bincount(run.result.spikes["sample"], minlength=len(run.readout)) for run in runs])
    markers = sum(int(run.counters["core"]["marker_packets"].sum()) for run in runs) / n
    energy = {name: sum(run.energy().per_sample()[name] * len(run.readout) for run in runs) / n / 1e9 for name in runs[0].energy().per_sample()}
    return {
        "samples": n,
        "accuracy": float(np.mean(np.concatenate([run.predictions for run in runs]) == labels)),
        "spikes": float(np.median(spikes)),
        "packets": core("packets_sent") - markers,
        "markers": markers,
        "retracted": core("retracted"),
        "cancelled": core("cancelled"),
        "synops": core("synops"),
        "op_reads": core("op_reads"),
        "decision_us": float(np.median(joined("decision_ps") - joined("start_ps"))) / 1e6,
        "completion_us": float(np.median(joined("completion_ps") - joined("start_ps"))) / 1e6,
        "energy_uj": energy,
    }


# -- a moving digit


def moving(image: np.ndarray, frames: int) -> np.ndarray:
    """[frames, 28, 28]: the digit moves to the right by one pixel per frame, up to where its own columns end, then back."""
    room = max(1, int(image.shape[1] - 1 - np.flatnonzero(image.any(axis=0)).max(initial=0)))
    path = [abs((k + room) % (2 * room) - room) for k in range(frames)]
    return np.stack([np.roll(image, shift, axis=1) for shift in path])


def _moving(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Per frame, the first left out, of ten digits: streamed by differences, and wavefront on the same frames one by one."""
    found: dict[str, Any] = {}
    digits = _images(200)[0][::20]
    wave = api.build(model, CHIP, "wavefront")
    for way in ("settle", "settle, window 256"):
        program = _program(model, way)
        rows, wrong = [], 0
        for image in digits:
            frames = moving(image, options.frames)
            want, have = api.simulate(wave, frames), api.simulate(program, frames, streamed=True)
            first = api.simulate(program, frames[:1], streamed=True)  # what the first frame costs, to be taken off
            wrong += _differences(wave, want, have)[1] + int((want.readout != have.readout).sum())
            count = len(frames) - 1
            alone = api.simulate(wave, frames[1:])
            rows.append({
                "synops": (have.summary()["synops"] - first.summary()["synops"]) / count,
                "wavefront synops": alone.summary()["synops"] / count,
                "spikes": (len(have.result.spikes) - len(first.result.spikes)) / count,
                "wavefront spikes": len(alone.result.spikes) / count,
                "uj": (have.energy().per_sample()["total"] * len(frames) - first.energy().per_sample()["total"]) / count / 1e9,
                "wavefront uj": alone.energy().per_sample()["total"] / 1e9,
                "us": float(np.median((have.result.completion_ps - have.result.start_ps)[1:])) / 1e6,
                "wavefront us": float(np.median(alone.result.completion_ps)) / 1e6,
                "unsettled": int(have.result.sample["unsettled"].sum()),
            })  # fmt: skip
        found[way] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {"differences from wavefront": wrong}
        sys.stderr.write(f"  {model} {way}: {json.dumps(found[way])}\n")
    return found


if __name__ == "__main__":
    main()
