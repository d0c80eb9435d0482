"""No network passes that a chip cannot run: drawn networks on chips with limits near what they need."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings

from neurosim.compiler.check.supports import check
from neurosim.compiler.lower.op_rewrites import read_rewrites
from neurosim.compiler.pipeline import Compilation, compile_network
from neurosim.engine.compare import first_difference
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import DoesNotFit, UnsupportedLayer
from neurosim.golden import run_graph
from neurosim.host import encode, load_data
from neurosim.network import Network
from tests.compiler.check.near_limits import Pair, pairs

ASKED = os.environ.get("NEUROSIM_EXAMPLES")


@settings(max_examples=int(ASKED or "60"), suppress_health_check=list(HealthCheck))
@given(pairs())
def test_what_compiles_passes_the_audit_and_runs(pair: Pair) -> None:
    """A network compiles and then runs as the clock-driven model says, or is refused in one line with a remedy, and ``check`` says the same."""
    refused = [row for row in check(pair.network, pair.chip, read_rewrites(pair.rewrite)) if row.status == "refused"]
    assert all(row.reason and row.remedy for row in refused), refused
    if refused:
        with pytest.raises(UnsupportedLayer) as caught:
            compile_network(pair.network, pair.chip, pair.sync, rewrite=pair.rewrite)
        assert (caught.value.layer, caught.value.value, caught.value.limit) == (refused[0].layer, refused[0].value, refused[0].limit)
    found = compiled(pair)
    event("refused" if refused else f"runs {pair.sync}" if found is not None else "fits not, or not in this discipline")
    if found is not None:
        assert not refused, "check refuses what compiles"
        assert_runs(pair, found)


def compiled(pair: Pair) -> Compilation | None:
    """What compiling gives, audited; None for a refusal in one line with a remedy."""
    try:
        return compile_network(pair.network, pair.chip, pair.sync, rewrite=pair.rewrite)
    except (UnsupportedLayer, DoesNotFit) as error:
        text = str(error)
    assert "\n" not in text
    assert ";" in text, f"no remedy: {text}"
    return None


def assert_runs(pair: Pair, found: Compilation) -> None:
    """Both engines simulate it alike, and under steps scores and fires are those of its integer graph."""
    contract, program = pair.network.input_contract, found.program
    rng = np.random.default_rng(0)
    if contract.kind == "image":
        data = rng.integers(0, 256, (2, *contract.shape), dtype=np.uint8)
    else:
        data = (rng.random((2, pair.network.steps, *contract.shape)) < 0.5).astype(np.uint8)
    window = 10**9 if pair.sync == "free" else 0
    stimuli = encode(program, load_data(data, program))
    result, other = (simulate_stimuli(program, stimuli, engine=engine, window_ps=window, record=True) for engine in ("reference", "fast"))
    assert first_difference(result, other) is None
    if pair.sync == "free":
        return
    golden = run_graph(found.integer, data, pair.chip)
    assert np.array_equal(result.scores, golden.scores)
    fires = np.bincount(program.slice_population, weights=result.slice_spikes.sum(axis=0), minlength=len(found.integer.populations))
    for k, population in enumerate(found.integer.populations):
        if population.kind == "spiking" and not population.host:
            assert fires[k] == (golden.spikes[population.name] > 0).sum(), population.name


def test_a_layer_that_reads_nothing_but_padding_passes_the_audit() -> None:
    # drawn: a 1x1 kernel with stride 2 and padding 1 sees none of a single pixel, so the projection has no route, but its delay counts
    network = Network("padding")
    x = network.lif("lif", network.conv2d("conv", network.spikes_input("in", (1, 1, 1)), np.ones((1, 1, 1, 1)), stride=2, padding=1))
    network.output(network.linear("head", network.flatten("flat", x), np.ones((1, 4))))
    for sync in ("wavefront", "free", "barrier"):
        compiled = compile_network(network, "ideal", sync)
        assert compiled.audit is not None
        assert compiled.audit.synapses == 4  # of the head
