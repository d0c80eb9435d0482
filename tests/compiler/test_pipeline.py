"""From a Network to a Program: the passes, the report, the refusals."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.audit.program import audit
from neurosim.compiler.pipeline import compile_network
from neurosim.errors import ChipError, UnsupportedLayer
from neurosim.frontends import load
from neurosim.network import Network


def _network(steps: int = 2, decay: float = 0.5, delay: int = 0, **lif: object) -> Network:
    draw = np.random.default_rng(0)
    net = Network("small", steps=steps, class_names=["a", "b", "c"])
    x = net.input("image", (1, 8, 8), dtype="uint8", scale=255.0)
    x = net.lif("enc.lif", net.conv2d("enc.conv", x, draw.normal(0, 1, (4, 1, 3, 3)), padding=1), threshold=1.0, decay=decay)
    if delay:
        x = net.delay("late", x, delay)
    x = net.lif("mid.lif", net.conv2d("mid.conv", x, draw.normal(0, 1, (6, 4, 3, 3)), stride=2, padding=1), threshold=1.0, decay=decay, **lif)
    net.output(net.linear("head", net.flatten("flat", x), draw.normal(0, 1, (3, 96))))
    return net


def test_passes_report_and_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="neurosim.compiler"):
        compilation = compile_network(_network(), "tiny")
    assert [p.name for p in compilation.passes] == ["check", "lower", "quantize", "partition", "place", "assemble", "static check", "audit"]
    assert [record.args[0] for record in caplog.records] == [p.name for p in compilation.passes]  # type: ignore[index]
    report, program = compilation.report, compilation.program
    assert program.sync == "wavefront"  # the chip's first
    assert program.meta["input"]["shape"] == [1, 8, 8]
    assert program.meta["class_names"] == ["a", "b", "c"]
    # every convolution tap that is not in the padding, and the head
    taps = sum(1 for y in range(4) for k in range(3) if 0 <= 2 * y + k - 1 < 8)
    assert report["synapses"] == taps * taps * 4 * 6 + 96 * 3
    assert compilation.audit is not None
    assert compilation.audit.synapses == report["synapses"]
    assert report["weights"] == 6 * 4 * 9 + 96 * 3
    assert report["neurons"] == 96 + 3
    assert report["host"]["macs"] == 8 * 8 * 9 * 4
    assert 0 < report["host"]["share"] < 1
    assert {row["layer"] for row in report["rewrites"]} >= {"enc.conv", "mid.lif", "head"}
    assert {m["core"] for m in report["memory"]} == set(program.slice_core.tolist())
    rows = {row["layer"]: row for row in program.meta["workload"]}
    assert rows["mid.conv"]["weights"] == 6 * 4 * 9


def test_the_demo_network() -> None:
    """STMixer for MNIST on the mesh: at least 16 cores, cut by channel and by space, everything within the limits."""
    compilation = compile_network(load("stmixer-mnist-t1"), "async-mesh", audit=False)
    report = compilation.report
    assert report["cores_used"] >= 16
    assert {"channel", "space"} <= {split["axis"] for split in report["splits"]}
    assert all(m["bytes"] <= report["limits"]["bytes"] and m["neurons"] <= report["limits"]["neurons"] for m in report["memory"])
    assert report["host"]["share"] < 0.05
    proof = audit(compilation.program, compilation.integer, synapses=100_000)
    assert proof.neurons == report["neurons"]
    assert proof.synapses_in_all == report["synapses"]


def test_the_digest_is_that_of_the_content() -> None:
    first, again = (compile_network(_network(), "tiny").program for _ in range(2))
    assert first.digest() == again.digest()
    assert first.digest() != compile_network(_network(), "tiny", "free").program.digest()
    assert compile_network(_network(), "tiny", audit=False).audit is None


def test_disciplines_are_refused_by_name() -> None:
    net = _network()
    with pytest.raises(ChipError, match="sync 'lockstep' is unknown; tiny offers wavefront, free"):
        compile_network(net, "tiny", "lockstep")
    with pytest.raises(ChipError, match="sync barrier is not offered by tiny"):
        compile_network(net, "tiny", "barrier")
    with pytest.raises(ChipError, match="sync free is not offered by tiny"):
        compile_network(net, load_chip("tiny", ["sync=['wavefront']"]), "free")


def test_free_refuses_leak_without_a_period_and_notes_delays() -> None:
    table = load_chip("tiny").model_dump()
    table["timing"]["leak"] = None
    no_leak = type(load_chip("tiny")).model_validate(table)
    with pytest.raises(UnsupportedLayer, match=r"mid.lif \(lif\): the neuron leaks, tiny has no leak in the free discipline.*decay 0.5") as caught:
        compile_network(_network(), no_leak, "free")
    assert caught.value.layer == "mid.lif"
    assert compile_network(_network(decay=1.0), no_leak, "free").program.sync == "free"
    warnings = compile_network(_network(delay=1), "tiny", "free").report["warnings"]
    assert any("enc.lif -> mid.lif" in w and "ignored" in w for w in warnings)
    with pytest.raises(UnsupportedLayer, match=r"delay.*2.*1"):
        compile_network(_network(delay=2), "tiny")


def test_a_self_feeding_core_in_free_is_warned_of() -> None:
    """One core holds everything: the core graph has a loop, which the warning names."""
    one = load_chip("async-mesh", ["memory.cores=1", "noc.width=1", "noc.height=1"])
    compilation = compile_network(_network(), one, "free")
    assert compilation.report["cores_used"] == 1
    assert "deadlock is possible: cycle of cores core 0 -> core 0" in compilation.program.meta["warnings"]
