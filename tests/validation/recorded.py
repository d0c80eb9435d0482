"""What others recorded of their own networks, run here on the same input."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurosim import api
from neurosim.compiler.pipeline import compile_network
from neurosim.engine.run import simulate_stimuli
from neurosim.frontends import load
from neurosim.frontends.events import read_events, spike_array
from neurosim.host import encode, event_options, load_data
from tests.bench import nmnist_speck

OXFORD_STEPS, OXFORD_INPUTS, OXFORD_LATENCY = 2000, 200, 2
RECORDINGS = 100


def oxford(data: Path) -> tuple[int, int]:
    """(spikes recorded, those of them that ``loihi1-like`` fires at the recorded step, less those that it fires besides)."""
    folder = data / "lava_oxford"
    program = compile_network(load(folder / "network.net", steps=OXFORD_STEPS, test="reach"), "loihi1-like", "barrier").program
    wanted = {(int(step), int(neuron)) for step, neuron in read_events(folder / "ground_truth.npy")}
    result = simulate_stimuli(program, encode(program, spike_array(read_events(folder / "input.npy"), OXFORD_STEPS, OXFORD_INPUTS)))
    output = np.flatnonzero(program.slice_population == program.population_index("1"))
    spikes = result.spikes[np.isin(result.spikes["slice"], output)]
    found = set(zip((spikes["step"].astype(np.int64) + OXFORD_LATENCY).tolist(), spikes["address"].tolist(), strict=True))
    return len(wanted), len(wanted & found) - len(found - wanted)


def speck_accuracy(data: Path) -> tuple[float, float]:
    """(per cent of the first 100 test recordings right on ``speck2f-like``, half the width of its 95 % interval)."""
    program = nmnist_speck.compiled(data).program
    given = load_data(data / "nmnist" / "nmnist_test100.npz", program, events=event_options(pace="realtime")).first(RECORDINGS)
    run = api.simulate(program, given, spikes=False)
    right = int(np.sum(run.predictions == run.labels))
    low, high = nmnist_speck.interval(right, RECORDINGS)
    return 100.0 * right / RECORDINGS, 50.0 * (high - low)
