"""Recurrent networks from Network.connect to a Program in every discipline; what a loop costs."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.pipeline import compile_network
from neurosim.compiler.place.banks import slowest_loop
from neurosim.errors import UnsupportedLayer
from neurosim.golden import run_graph, run_network
from neurosim.network import Network
from tests.compiler.place.test_balance import joined


def recurrent_net(steps: int = 6) -> Network:
    """Two layers that feed themselves and each other; dyadic weights, so that 32 bits are exact."""
    draw = np.random.default_rng(3)

    def w(out: int, inputs: int) -> np.ndarray:
        return draw.integers(-8, 12, (out, inputs)) / 16

    net = Network("recurrent", steps=steps, class_names="abc")
    x = net.spikes_input("in", (5, 1, 1))
    a = net.lif("a", net.linear("wa", x, w(8, 5)), decay=1.0)
    b = net.lif("b", net.linear("wb", a, w(6, 8)), decay=1.0, reset="subtract", decay_current=None)
    net.connect(net.linear("aa", a, w(8, 8)), "a", 1)
    net.connect(net.linear("ba", b, w(8, 6)), "a", 2)
    net.output(net.linear("head", b, w(3, 6)))
    return net


def test_every_discipline_compiles_and_golden_is_the_trained_model() -> None:
    net = recurrent_net()
    data = np.random.default_rng(0).integers(0, 2, (4, 6, 5, 1, 1), dtype=np.uint8)
    wanted = run_network(net, data).spikes
    assert wanted["b"].any()
    for sync in ("wavefront", "barrier", "free"):
        done = compile_network(net, "ideal", sync)
        assert done.audit is not None
        assert done.audit.synapses == 40 + 48 + 64 + 48 + 18
        found = run_graph(done.integer, data, done.program.chip).spikes
        assert all(np.array_equal(found[name], wanted[name]) for name in ("a", "b"))
        assert any("feeds itself (a -> a)" in text for text in done.report["warnings"]) == (sync == "free")
    with pytest.raises(UnsupportedLayer, match=r"a \(connect\): .* has no recurrence"):
        compile_network(net, load_chip("ideal", ["capabilities.recurrence=false"]))


def test_packing_in_free_warns_of_the_loop_that_no_packing_avoids() -> None:
    net = recurrent_net(2)
    done = compile_network(net, load_chip("tiny", ["capabilities.recurrence=true", "capabilities.max_delay=2", "noc.flow='end_to_end'"]), "free")
    assert any(text.startswith("deadlock is possible: cycle of cores core ") for text in done.report["warnings"])


def test_the_slowest_loop_bounds_the_rate() -> None:
    assert slowest_loop(joined(("in", "a", 0), ("a", "b", 1), ("b", "out", 0))) is None
    loop = slowest_loop(joined(("in", "a", 0), ("a", "a", 2), ("a", "b", 0), ("b", "c", 0), ("c", "a", 1), ("c", "b", 3), ("c", "out", 0)))
    assert loop is not None
    assert (set(loop.populations), loop.delay, loop.hops, loop.bound) == ({"a", "b", "c"}, 1, 3, 0.25)
    even = slowest_loop(joined(("in", "a", 0), ("a", "b", 2), ("b", "a", 2), ("b", "b", 2), ("b", "out", 0)))
    assert even is not None
    assert (even.populations, even.bound) == (("b",), 1.0)
    report = compile_network(recurrent_net(), "ideal", "wavefront").report["banks"]
    assert report["loop"] == {"populations": ("a",), "delay": 1, "hops": 1, "bound": 0.5}
    assert report["rate_bound"] == 0.5
