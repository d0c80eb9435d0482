from __future__ import annotations

import numpy as np
import pytest

from neurosim.energy import price
from neurosim.errors import DataError
from neurosim.trace import summarise
from tests.energy import handmade

# the promise to other people's scripts (DESIGN section 9)
NAMES = {
    "samples", "accuracy", "predictions", "spikes", "synops", "pairs", "op_reads", "packets", "hops", "injected_spikes", "injected_currents",
    "latency_ps", "throughput_per_s", "energy_fj", "stalls_ps", "saturations", "drops", "losses", "cut", "engine", "sync", "chip", "wall_s",
    "run_dir",
}  # fmt: skip


def test_names_and_figures() -> None:
    p = handmade.program()
    r = handmade.busy(p)
    s = summarise(p, r, price(p, r), labels=np.array([1, 0]), engine="reference", wall_s=2.0, run_dir="here")
    assert set(s) >= NAMES
    assert set(s["energy_fj"]) == {"synapse", "soma", "noc", "io", "static", "chip", "host", "total"}
    assert (s["samples"], s["accuracy"], s["predictions"]) == (2, 0.5, [1, 1])
    assert s["hops"] == int(r.server["services"][p.server_kind == 4].sum())
    assert s["stalls_ps"] == 20 * len(p.server_kind)
    assert s["latency_ps"] == {"first_spike": 100.0, "decision": 1450.0, "completion": 1500.0}
    assert (s["sync"], s["chip"], s["engine"], s["wall_s"], s["run_dir"]) == ("wavefront", "tiny", "reference", 2.0, "here")
    assert summarise(p, r, price(p, r))["accuracy"] is None
    with pytest.raises(DataError, match="3 labels for 2 samples"):
        summarise(p, r, price(p, r), labels=np.zeros(3))


def test_a_sample_without_an_output_spike_does_not_enter_the_median() -> None:
    p = handmade.program()
    r = handmade.result(p, first_spike_ps=np.array([-1, 300]))
    assert summarise(p, r, price(p, r))["latency_ps"]["first_spike"] == 300
    r = handmade.result(p, first_spike_ps=np.array([-1, -1]))
    assert summarise(p, r, price(p, r))["latency_ps"]["first_spike"] is None


def test_what_stood_before_any_output_spike_is_no_decision() -> None:
    p = handmade.program()
    late = handmade.result(p, first_spike_ps=np.array([-1, 300]), decision_ps=np.array([50, 400]))
    assert summarise(p, late, price(p, late))["latency_ps"]["decision"] == 400
    for first, decision in ((-1, 950), (300, 0)):  # free: the argmax of nothing, which never changed
        r = handmade.result(p, samples=1, first_spike_ps=np.array([first]), decision_ps=np.array([decision]))
        assert summarise(p, r, price(p, r))["latency_ps"]["decision"] is None


def test_throughput_is_quoted_only_where_the_machine_says_so() -> None:
    p = handmade.program()
    r = handmade.result(p, samples=3, start_ps=np.array([0, 500, 900]), decision_ps=np.array([1000, 1800, 3000]))
    assert summarise(p, r, price(p, r))["throughput_per_s"] is None
    streamed = summarise(p, r, price(p, r), streamed=True)
    assert streamed["throughput_per_s"] == 2 * 1e12 / 2000
    assert streamed["latency_ps"]["decision"] == 1300  # from the sample's own first port service
    one = handmade.result(p, samples=1)
    assert summarise(p, one, price(p, one), streamed=True)["throughput_per_s"] is None
    free = handmade.program("free")
    r = handmade.result(free)
    assert summarise(free, r, price(free, r))["throughput_per_s"] == 1e12 / (1500 + 10**6)
