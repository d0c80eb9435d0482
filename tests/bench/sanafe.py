"""Comparison with SANA-FE 2.2.9 on its own ground: two recurrent networks with global steps, the same constants, one thread, one machine.

    python -m venv VENV && VENV/bin/pip install sanafe==2.2.9 numpy        (GPL; for this script only)
    python -m tests.bench.sanafe --peer VENV/bin/python [--sizes S M] [--repeats 5] [--json FILE]

Checks first: the spike count of every neuron, synaptic operations, packets, hops, updates, energy by component, all against the files of
shared/data/sanafe_synthetic. Then wall time of the simulation alone (fast engine, nothing recorded), side by side, in turns; what it takes to build
and load, and peak memory, apart. Every run of the peer is a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.energy import price
from neurosim.engine.events import SPIKE, Result, Stimulus
from neurosim.engine.run import simulate_stimuli
from neurosim.graph import Graph, NeuronRule, Population, Projection, Sparse
from neurosim.program import Program

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared" / "data" / "sanafe_synthetic"
TILES_X, TILES_Y, CORES = 8, 4, 4
"""Tiles of the chip and cores of a tile."""


def tile_of(core: int) -> int:
    """Router of a core of SANA-FE, which numbers tiles column by column."""
    tile = core // CORES
    return (tile % TILES_Y) * TILES_X + tile // TILES_Y


def build(data: dict[str, Any]) -> Program:
    """The network of an npz file on the cores that it names, input neurons on the port of their tile."""
    n_in, n_pop = int(data["n_in"]), int(data["n_pop"])
    rule = NeuronRule(
        np.full((1, 1, 1), int(data["threshold"]), np.int64), data["bias"].astype(np.int64).reshape(-1, 1, 1), reset="zero", strict=True
    )
    populations = (Population("in", (n_in, 1, 1), "input"), Population("pop", (n_pop, 1, 1), "spiking", rule))
    order = np.argsort(data["src"].astype(np.int64) * n_pop + data["dst"])
    src, dst, w = data["src"][order], data["dst"][order].astype(np.int64), data["w"][order]
    projections = []
    for name, first, size in (("in", 0, n_in), ("pop", n_in, n_pop)):
        a, b = np.searchsorted(src, [first, first + size])
        indptr = np.searchsorted(src[a:b], np.arange(first, first + size + 1)).astype(np.int64)
        projections.append(Projection(name, "pop", Sparse(indptr, dst[a:b], w[a:b], (n_pop, 1, 1)), delay=1))
    graph = Graph("sanafe", int(data["T"]), populations, tuple(projections))
    graph.verify()

    slices, cores = [], []
    for core, a, b in _runs(data["core_of"][n_in:]):
        slices.append(Slice(1, (a, b, 0, 1, 0, 1)))
        cores.append(tile_of(core) * CORES + core % CORES)
    ports = tuple((0, (a, b, 0, 1, 0, 1), tile_of(tile * CORES)) for tile, a, b in _runs(data["core_of"][:n_in] // CORES))
    chip = load_chip(HERE / "sanafe.toml")
    return assemble(graph, chip, "barrier", Mapping(tuple(slices), tuple(cores), (2,) * len(slices), ports))


def _runs(values: Any) -> list[tuple[int, int, int]]:
    """(value, first, end) of every run of equal values; each value must have one run."""
    edges = np.flatnonzero(np.diff(values, prepend=values[0] - 1, append=values[-1] + 1))
    found = [(int(values[a]), int(a), int(b)) for a, b in itertools.pairwise(edges)]
    assert len({value for value, _, _ in found}) == len(found), "neurons of one core are not contiguous"
    return found


def stimulus_of(program: Program, data: dict[str, Any]) -> Stimulus:
    """The input spikes, in port order."""
    first = [int(box[0]) for box in program.source_box[program.slices : program.control_source]]
    step, neuron = np.nonzero(data["in_spk"])
    box = np.searchsorted(first, neuron, side="right") - 1
    order = np.lexsort((neuron, box, step))
    step, neuron, box = step[order], neuron[order], box[order]
    n = len(step)
    return Stimulus(
        np.zeros(n, np.int64), step.astype(np.int32), np.full(n, SPIKE, np.uint8), (program.slices + box).astype(np.int32),
        (neuron - np.array(first)[box]).astype(np.int32), np.ones(n, np.int64),
    )  # fmt: skip


def check(program: Program, result: Result, data: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """Raise AssertionError where counts differ at all or energies by more than 1e-9; returns the energies' relative differences."""
    n_in = int(data["n_in"])
    counts = np.zeros(int(data["n_pop"]), np.int64)
    np.add.at(counts, program.slice_box[result.spikes["slice"], 0] + result.spikes["address"], 1)
    assert np.array_equal(counts, data["exp_counts"][n_in:]), "spike counts of neurons differ"
    assert int(result.sample["synops"].sum()) == int(data["exp_sops"]) == int(peer["spikes"].sum())
    ports = program.server_kind == 0
    injected = int(result.server["services"][ports].sum())
    assert int(result.core["packets_sent"].sum()) + injected == int(data["exp_messages"])
    links = (program.server_class == 1) | (program.server_class == 2)
    assert int(result.server["services"][links].sum()) == int(peer["hops"].sum())
    assert int(result.core["updates"].sum()) == int(peer["updated"].sum()) - int(data["in_spk"].sum())
    ours: dict[str, float] = {}
    for line in price(program, result).lines:
        name = {"noc": "network", "io": "network"}.get(line.component, line.component)
        ours[name] = ours.get(name, 0.0) + line.energy_fj * 1e-15
    ours["total"] = sum(ours.values())
    differences = {name: abs(ours[name] / float(peer[f"{name}_energy"].sum()) - 1) for name in ("synapse", "soma", "network", "total")}
    assert max(differences.values()) < 1e-9, differences
    return differences


def ours(path: Path, repeats: int, engine: str) -> dict[str, Any]:
    """Our side, in this process: ``repeats`` timed simulations, nothing recorded, then a check with all spikes kept."""
    data = dict(np.load(path))
    began = time.perf_counter()
    program = build(data)
    built = time.perf_counter()
    stimuli = [stimulus_of(program, data)]
    walls, cpus = [], []
    for _ in range(1 + repeats):  # the first loads the compiled engine
        start, cpu = time.perf_counter(), time.process_time()
        simulate_stimuli(program, stimuli, engine=engine, spikes=False)
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - cpu)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = simulate_stimuli(program, stimuli, engine=engine)
    differences = check(program, result, data, dict(np.load(path.with_name(path.stem + "_sanafe_simple.npz"))))
    services = result.server["services"]
    return {
        "wall_s": walls[1:], "cpu_s": cpus[1:], "build_s": built - began, "first_s": walls[0], "energy_difference": differences,
        "chip_time_s": result.window_ps * 1e-12, "memory_kib": memory, "router_services": int(services[program.server_kind == 4].sum()),
        "synops": int(data["exp_sops"]), "packets": int(data["exp_messages"]),
    }  # fmt: skip


def _child(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def compare(size: str, peer: str, repeats: int, engine: str) -> dict[str, Any]:
    """Both sides in turns: one process of ours before, between and after those of the peer."""
    path = DATA / f"bench_{size}.npz"
    us: list[dict[str, Any]] = []
    them: dict[str, list[dict[str, Any]]] = {"simple": [], "detailed": []}
    mine = [sys.executable, "-m", "tests.bench.sanafe", "--one", str(path), "--engine", engine]
    for _ in range(repeats):
        us.append(_child([*mine, "--repeats", "3"]))
        for model, runs in them.items():
            runs.append(_child([peer, "-P", str(HERE / "sanafe_side.py"), str(path), model]))
    for model, runs in them.items():
        reference = np.load(path.with_name(f"{path.stem}_sanafe_{model}.npz"))
        assert all(abs(run["energy_j"]["total"] / reference["total_energy"].sum() - 1) < 1e-9 for run in runs), "SANA-FE gives other energies here"
    wall = statistics.median(w for run in us for w in run["wall_s"])
    row = {
        "size": size, "wall_s": wall, "cpu_s": statistics.median(c for run in us for c in run["cpu_s"]),
        "build_s": statistics.median(run["build_s"] for run in us), "first_s": statistics.median(run["first_s"] for run in us),
        "memory_mib": max(run["memory_kib"] for run in us) / 1024, "chip_time_us": us[0]["chip_time_s"] * 1e6,
        "energy_difference": us[0]["energy_difference"], "router_services": us[0]["router_services"],
    }  # fmt: skip
    for model, runs in them.items():
        median = statistics.median(run["wall_s"] for run in runs)
        row[model] = {
            "wall_s": median, "least_wall_s": min(run["wall_s"] for run in runs), "cpu_s": statistics.median(run["cpu_s"] for run in runs),
            "build_s": statistics.median(run["build_s"] for run in runs), "load_s": statistics.median(run["load_s"] for run in runs),
            "memory_mib": min(run["memory_kib"] for run in runs) / 1024, "chip_time_us": runs[0]["chip_time_s"] * 1e6,
            "times_slower": median / wall, "times_cpu": statistics.median(run["cpu_s"] for run in runs) / row["cpu_s"],
            "times_memory": min(run["memory_kib"] for run in runs) / max(run["memory_kib"] for run in us),
        }  # fmt: skip
    return row


def main() -> None:
    """Command line; ``--one`` is the child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python of the environment with sanafe 2.2.9; without it only the checks and our own times")
    parser.add_argument("--sizes", nargs="+", default=["S", "M"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engine", default="fast")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(ours(chosen.one, chosen.repeats, chosen.engine)))
        return
    rows = []
    for size in chosen.sizes:
        if chosen.peer is None:
            row = ours(DATA / f"bench_{size}.npz", chosen.repeats, chosen.engine)
            wall, worst = statistics.median(row["wall_s"]), max(row["energy_difference"].values())
            cpu = statistics.median(row["cpu_s"])
            print(f"{size}: all counts equal, energies to {worst:.1e}; {wall:.4f} s, {cpu:.4f} s of processor, {row['memory_kib'] / 1024:.0f} MiB")
        else:
            row = compare(size, chosen.peer, chosen.repeats, chosen.engine)
            print(
                f"{size}: neurosim {row['wall_s']:.4f} s (build {row['build_s']:.2f} s, first {row['first_s']:.2f} s), {row['memory_mib']:.0f} MiB, "
                f"chip time {row['chip_time_us']:.1f} us, energies to {max(row['energy_difference'].values()):.1e}"
            )
            for model in ("simple", "detailed"):
                r = row[model]
                print(
                    f"   SANA-FE {model:8} {r['wall_s']:.4f} s (build {r['build_s']:.2f} s, load {r['load_s']:.2f} s), {r['memory_mib']:.0f} MiB, "
                    f"chip time {r['chip_time_us']:.1f} us: {r['times_slower']:.1f} times the wall time, "
                    f"{r['times_cpu']:.1f} times the processor time, {r['times_memory']:.1f} times the memory"
                )
        rows.append(row)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
