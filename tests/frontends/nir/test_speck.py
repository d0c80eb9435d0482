"""sinabs' N-MNIST network on the Speck-like chip, real recordings; ``tests/bench/nmnist_speck.py`` measures all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurosim import api
from neurosim.engine.compare import first_difference
from neurosim.engine.run import simulate_stimuli
from neurosim.golden import run_graph
from neurosim.host import encode, event_options, load_data

pytest.importorskip("h5py")
nmnist_speck = pytest.importorskip("tests.bench.nmnist_speck")
pytestmark = pytest.mark.shared

SHORTEST = 40
"""The recording with the fewest events, 1,069."""


def test_recordings_at_their_own_times_are_recognised(shared: Path) -> None:
    """Free-running, 8-bit weights: 20 recordings, in the recorded order of equal times and in a drawn one."""
    program = nmnist_speck.compiled(shared).program
    assert program.sync == "free"
    for order in ("recording", "shuffled"):
        given = load_data(shared / "nmnist" / "nmnist_test100.npz", program, events=event_options(pace="realtime", order=order, order_seed=1)).first(
            20
        )
        run = api.simulate(program, given)
        assert np.sum(run.predictions == run.labels) >= 18
        assert np.array_equal(run.readout, run.spikes("12").sum(axis=1)[:, :, 0, 0])  # the read-out counts the output spikes, each once


@pytest.mark.slow
def test_both_engines_run_a_whole_recording_alike(shared: Path) -> None:
    program = nmnist_speck.compiled(shared).program
    given = load_data(shared / "nmnist" / "nmnist_test100.npz", program, events=event_options(pace="realtime"))
    stimulus = [encode(program, given)[SHORTEST]]
    fast, reference = (simulate_stimuli(program, stimulus, engine=engine, record=True, state=True) for engine in ("fast", "reference"))
    assert len(fast.trace) > 100_000
    assert first_difference(fast, reference) is None


def test_with_steps_of_a_millisecond_every_spike_is_the_golden_models(shared: Path) -> None:
    done = nmnist_speck.compiled(shared, 310, "wavefront")
    given = load_data(shared / "nmnist" / "nmnist_test100.npz", done.program, events=event_options(step="1 ms", bin="count"))
    assert given.recordings is not None
    given = load_data(given.recordings.part(SHORTEST, SHORTEST + 1), done.program, events=given.options)
    run = api.simulate(done.program, given)
    golden = run_graph(done.integer, given.data, done.program.chip)
    assert np.array_equal(run.readout, golden.scores)
    for name in ("1", "3", "6", "10", "12"):
        assert np.array_equal(run.spikes(name), golden.spikes[name])
        assert golden.spikes[name].any()
