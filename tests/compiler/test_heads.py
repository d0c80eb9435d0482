"""Readouts of the published size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neurosim.api import simulate
from neurosim.chip import load_chip
from neurosim.compiler.pipeline import compile_network
from neurosim.engine.compare import first_difference
from neurosim.errors import DoesNotFit
from neurosim.golden import run_graph
from neurosim.network import Network


@pytest.mark.parametrize("chip", ["ideal", "async-mesh"])
def test_a_thousand_classes_behind_means_store_each_weight_once(chip: str) -> None:
    """A mean of 196 tokens, and one behind a strided convolution of 784 (even, odd and last rows and columns), of 384 and 768 channels."""
    rng = np.random.default_rng(0)
    net = Network("wide")
    x = net.spikes_input("in", (384, 28, 28))
    short = net.mean("short.mean", net.conv2d("short", x, rng.normal(0, 0.02, (768, 384, 3, 3)), stride=2, padding=1))
    tokens = net.mean("mean", net.lif("lif", net.avg_pool("pool", x, 2)))
    heads = (net.linear(f"{name}.head", name, rng.normal(0, 0.02, (1000, size))) for name, size in ((short, 768), (tokens, 384)))
    net.output(net.add("sum", *heads))
    done = compile_network(net, chip, "wavefront")
    assert done.audit is not None
    assert done.audit.synapses_in_all == 384 * 28**2 + 1000 * 384 * (28**2 + 14**2)  # a 3x3 kernel of stride 2 sees all of an even map
    assert 0 <= len(done.program.weights) - 1000 * 384 * (9 + 1) <= 384  # and the pool's, equal blocks once


def _writers(readout: Callable[[Network, str], str] = lambda net, x: x) -> Network:
    """Three layers of 16 neurons that each add to eight classes."""
    rng = np.random.default_rng(1)
    net = Network("writers", steps=3)
    x = net.spikes_input("in", (4, 1, 1))
    layers = [net.lif(f"lif{k}", net.linear(f"fc{k}", x, rng.normal(0.3, 0.6, (16, 4))), decay=0.75) for k in range(3)]
    heads = [net.linear(f"head{k}", y, rng.normal(0, 0.5, (8, 16)), rng.normal(0, 0.3, 8)) for k, y in enumerate(layers)]
    net.output(readout(net, net.add("sum", *heads)))
    return net


SMALL = ["noc.width=4", "noc.height=3", "memory.cores=12", "memory.axons=20", "arithmetic.state_bits=24", "arithmetic.acc_bits=32"]


@pytest.mark.parametrize("sync", ["wavefront", "free"])
def test_a_class_that_no_core_holds_is_added_up_by_the_host(sync: str) -> None:
    """Twenty axons per core, 48 lead to each class: three parts, whose sum is the score of one readout."""
    net = _writers()
    chip = load_chip("tiny", SMALL)
    whole, parts = compile_network(net, load_chip("tiny", [*SMALL[:3], *SMALL[4:]]), sync), compile_network(net, chip, sync)
    assert (whole.program.score_parts, parts.program.score_parts) == (1, 3)
    assert any("3 cores hold parts" in text for text in parts.program.meta["warnings"])
    data = np.random.default_rng(2).integers(0, 2, (5, 3, 4, 1, 1), dtype=np.uint8)
    runs = {engine: simulate(parts.program, data, engine=engine) for engine in ("reference", "fast")}
    assert first_difference(*(run.result for run in runs.values())) is None
    assert runs["fast"].readout.shape == (5, 8)
    if sync == "wavefront":  # in free the mapping decides who fires first
        np.testing.assert_array_equal(runs["fast"].readout, simulate(whole.program, data).readout)
        np.testing.assert_array_equal(runs["fast"].readout, run_graph(parts.integer, data, chip).scores)


def test_parts_that_could_saturate_or_leak_are_refused() -> None:
    with pytest.raises(DoesNotFit, match=r"one class needs 48 bytes and 48 axons.*membranes end at 127.*--set arithmetic.state_bits=9"):
        compile_network(_writers(), load_chip("tiny", [*SMALL[:-2], "arithmetic.state_bits=8", "arithmetic.acc_bits=32"]), "wavefront")
    leaky = _writers(lambda net, x: net.li("out", x, decay=0.5))
    with pytest.raises(DoesNotFit, match="one neuron listens to 48 others"):
        compile_network(leaky, load_chip("tiny", SMALL), "wavefront")


def test_a_neuron_too_large_for_a_core_says_how_large_and_what_to_set() -> None:
    net = Network("large")
    x = net.spikes_input("in", (64, 4, 4))
    net.output(net.lif("lif", net.linear("fc", net.flatten("flat", x), np.ones((2, 1024)))))
    chip = ["memory.bytes.value=900"]
    with pytest.raises(DoesNotFit, match=r"lif .*needs (\d+) bytes, a core of tiny has 900 \(memory.bytes\).*--set memory.bytes=\1\)"):
        compile_network(net, load_chip("tiny", chip), "wavefront")
