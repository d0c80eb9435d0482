"""SANA-FE's side of tests/bench/sanafe.py: runs in SANA-FE's own virtual environment, once, and prints one line of JSON last.

    python -P sanafe_side.py bench_M.npz simple        (-P: this folder has a sanafe.py of its own)

Imports nothing of neurosim, and neurosim nothing of SANA-FE (GPL). One simulation per process: ``reset`` does not rewind the input neurons, and the
``detailed`` model repeats exactly in fresh processes only.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from importlib.resources import files

import numpy as np
import sanafe


def build(data: dict[str, np.ndarray], arch: sanafe.Architecture) -> sanafe.Network:
    """The network of the npz file as SANA-FE objects, mapped to the cores that the file names."""
    n_in, n_pop = int(data["n_in"]), int(data["n_pop"])
    net = sanafe.Network()
    cores = [core for tile in arch.tiles for core in tile.cores]
    inputs = net.create_neuron_group("in", n_in, soma_hw_name="loihi_inputs[0]")
    lif = {"threshold": float(data["threshold"]), "leak_decay": 1.0, "reset": 0.0, "reset_mode": "hard", "input_decay": 0.0}
    population = net.create_neuron_group(
        "pop", n_pop, model_attributes=lif, soma_hw_name="loihi_lif", default_synapse_hw_name="loihi_dense_synapse", log_spikes=True
    )
    seen = [0] * len(cores)
    for k in np.argsort(data["core_of"], kind="stable").tolist():
        core = int(data["core_of"][k])
        if k < n_in:
            neuron = inputs[k]
            spikes = data["in_spk"][:, k].astype(int).tolist()
            neuron.set_attributes(soma_hw_name=f"loihi_inputs[{seen[core]}]", model_attributes={"spikes": spikes})
            seen[core] += 1
        else:
            neuron = population[k - n_in]
            neuron.set_attributes(model_attributes={"bias": float(data["bias"][k - n_in])})
        neuron.map_to_core(cores[core])
    for source, chosen, first in ((inputs, data["src"] < n_in, 0), (population, data["src"] >= n_in, n_in)):
        pairs = list(zip((data["src"][chosen] - first).tolist(), data["dst"][chosen].tolist(), strict=True))
        source.connect_neurons_sparse(population, {"weight": data["w"][chosen].astype(float).tolist()}, pairs)
    return net


def main() -> None:
    """Build, load, simulate once."""
    path, model = sys.argv[1:]
    data = dict(np.load(path))
    began = time.perf_counter()
    arch = sanafe.load_arch(files("sanafe.examples").joinpath("loihi.yaml"))
    net = build(data, arch)
    built = time.perf_counter()
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    loaded, cpu = time.perf_counter(), time.process_time()
    result = chip.sim(int(data["T"]), timing_model=model, processing_threads=1, scheduler_threads=0)
    wall_s, cpu_s = time.perf_counter() - loaded, time.process_time() - cpu
    print(json.dumps({
        "wall_s": wall_s, "cpu_s": cpu_s, "build_s": built - began, "load_s": loaded - built,
        "memory_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "energy_j": {name: float(value) for name, value in result["energy"].items()}, "chip_time_s": float(result["sim_time"]),
        "synops": int(result["spikes"]), "spikes": int(result["neurons_fired"]), "packets": int(result["packets_sent"]),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
