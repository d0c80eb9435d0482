"""Chips whose cores hold one layer each: words, pools, matching, the audit of all of it, and the latencies to which speck2f-like is calibrated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.audit.program import audit
from neurosim.compiler.check.layer_rules import fit_rows
from neurosim.compiler.lower.network import lower
from neurosim.compiler.pipeline import Compilation, compile_network
from neurosim.compiler.place.cores import assign
from neurosim.compiler.place.layered import LayerModel, layer_form, pools_of
from neurosim.compiler.quantize import adapt
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import AuditError, ChipError, DoesNotFit
from neurosim.golden import run_graph
from neurosim.graph import Projection
from neurosim.host import encode, load_data
from neurosim.network import Network
from tests.bench.speck_calibration import LATENCIES_NS, NINE_LAYERS_NS, ONE_LAYER_NS, POSITIONS, fit_ns, latency_ns
from tests.compiler.op_graphs import op_graph

SPECK = "speck2f-like"


def small_cnn(steps: int = 1) -> Network:
    """Convolutions, pools and a dense layer, all with random weights."""
    rng = np.random.default_rng(5)

    def spikes(name: str, x: str) -> str:
        return net.lif(name, x, decay=1.0, threshold=1.0, reset="subtract", floor=-1.0)

    net = Network("cnn", steps=steps)
    x = net.spikes_input("in", (2, 16, 16), step_time_us=1000.0)
    x = spikes("l1", net.conv2d("c1", x, rng.normal(0.1, 0.4, (5, 2, 3, 3)), padding=1))
    x = spikes("l2", net.conv2d("c2", net.sum_pool("p1", x, 2), rng.normal(0.05, 0.3, (6, 5, 3, 3)), padding=1))
    x = net.flatten("flat", net.sum_pool("p2", x, 4))
    net.output(spikes("l3", net.linear("fc", x, rng.normal(0.05, 0.3, (10, 24)))))
    return net


def test_latencies_are_the_published_ones() -> None:
    assert (latency_ns(1), latency_ns(9)) == (ONE_LAYER_NS, NINE_LAYERS_NS)
    a, b = fit_ns()
    assert a + b * POSITIONS == pytest.approx(LATENCIES_NS, rel=0.02)
    assert pytest.approx(LATENCIES_NS, rel=0.05) == 87.5 + 27 * POSITIONS
    # a layer is as long as its kernel up to the position at which the spike leaves
    more_classes = load_chip(SPECK, ["capabilities.classes=25", "memory.neuron_words=65536"])
    one, two = (latency_ns(layers, 5, 24, more_classes) for layers in (1, 2))
    assert two - one == pytest.approx(87.5 + 25 * 27)


def test_such_cores_have_no_extra_ops() -> None:
    row = next(fit_rows(op_graph("or_pool"), load_chip(SPECK)))
    assert row[:3] == ("op", "or_pool", "or_pool")
    with pytest.raises(DoesNotFit, match=r"layer op: .*memory\.layer_per_core.*rewrite it into neurons"):
        assign(op_graph("or_pool"), load_chip(SPECK), "free")


def test_words_follow_the_formulas_of_the_chip() -> None:
    rows = {row["populations"][0]: (row["kernel_words"], row["neuron_words"]) for row in compile_network(small_cnn(), SPECK).report["memory"]}
    assert rows == {
        "l1": (2 * 16 * 8, 5 * 16 * 16),  # 2 channels, 3 x 3 and 5 features rounded up to 16 and 8
        "l2": (5 * 16 * 8, 6 * 8 * 8),  # the pooling before it costs nothing
        "l3": (6 * 4 * 16, 10),  # dense: a kernel of the size of its map, 2 x 2
        "l3.count": (0, 10),  # the read-out counts
    }
    plain = compile_network(small_cnn(), load_chip(SPECK, ["memory.rounding=none"])).report["memory"]
    assert [row["kernel_words"] for row in plain] != [rows[row["populations"][0]][0] for row in plain]
    assert sorted(row["kernel_words"] for row in plain) == [0, 2 * 9 * 5, 6 * 4 * 10, 5 * 9 * 6]


def test_readouts_lie_on_their_core_and_layers_on_others() -> None:
    program = compile_network(small_cnn(), SPECK).program
    names = [program.meta["populations"][k]["name"] for k in program.slice_population]
    home = dict(zip(names, program.slice_core.tolist(), strict=True))
    assert home.pop("l3.count") == 9
    assert len(set(home.values())) == 3
    assert 9 not in home.values()


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_a_pooling_is_found_in_the_map_that_lowering_made(pool: int) -> None:
    net = Network("pooled")
    x = net.lif("a", net.spikes_input("in", (3, 16, 16)), decay=1.0)
    y = net.conv2d("conv", net.sum_pool("pool", x, pool), np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)), stride=2, padding=1)
    net.output(net.lif("b", net.linear("fc", net.flatten("f", net.lif("c", y)), np.ones((2, 4 * (8 // pool) ** 2)))))
    (projection,) = adapt(lower(net), load_chip(SPECK)).into("c")
    assert isinstance(projection, Projection)
    form = layer_form(projection, (3, 16, 16), pools_of(load_chip(SPECK)))
    assert form is not None
    assert (form.pool, form.kernel, form.stride, form.padding) == (pool, (3, 3), (2, 2), (1, 1))
    assert (form.channels, form.features, form.source, form.out) == (3, 4, (16 // pool, 16 // pool), (8 // pool, 8 // pool))


def test_matching_is_a_maximum_matching() -> None:
    """Layers find cores whenever networkx finds a perfect matching, over drawn sizes of layers and cores."""
    rng = np.random.default_rng(2)
    outcomes = set()
    for _ in range(60):
        net = Network("chain")
        x = net.spikes_input("in", (4, 1, 1))
        for k, width in enumerate(rng.integers(1, 9, 5).tolist()):
            x = net.lif(f"l{k}", net.linear(f"fc{k}", x, np.ones((width, net.shape(x)[0]))), decay=1.0)
        net.output(x)
        kernel, neurons = (rng.integers(low, 65, 6).tolist() for low in (8, 4))
        overrides = (f"memory.kernel_words={[*kernel, 0]}", f"memory.neuron_words={[*neurons, 16]}", "memory.cores=7", "memory.readout_cores=[6]")
        model = LayerModel(lower(net), load_chip(SPECK, overrides))
        found = model.match()
        wanted = nx.Graph()
        parts = [model.part(k, (0, p.shape[0], 0, 1, 0, 1)) for k, p in enumerate(model.graph.populations) if p.kind == "spiking"]
        wanted.add_nodes_from(part.population for part in parts)
        wanted.add_edges_from((part.population, f"core {c}") for part in parts for c in model.cores_for(part))
        most = len(nx.bipartite.maximum_matching(wanted, top_nodes=[part.population for part in parts])) // 2
        assert isinstance(found, list) == (most == len(parts))
        outcomes.add(isinstance(found, list))
        if isinstance(found, list):
            assert len({core for _, core in found}) == len(found)
            assert all(core in model.cores_for(part) for part, core in found)
    assert outcomes == {True, False}


def corrupted(done: Compilation, **changes: Any) -> None:
    audit(replace(done.program, **changes), done.integer)


def test_the_audit_finds_layers_on_wrong_cores() -> None:
    chip = load_chip(SPECK)
    done = compile_network(small_cnn(), chip)
    audit(done.program, done.integer)
    tight = {key: value for key, value in (("kernel_words", [255] * 9 + [0]), ("neuron_words", [1279] * 9 + [16]))}
    for name, words in tight.items():
        with pytest.raises(AuditError, match=f"holds .* {name.replace('_', ' ')}, the chip allows"):
            corrupted(done, chip=load_chip(SPECK, [f"memory.{name}={words}"]))
    with pytest.raises(AuditError, match="readouts belong on"):
        corrupted(done, chip=load_chip(SPECK, ["memory.readout_cores=[8]"]))
    rows = [row | {"kernel_words": row["kernel_words"] + 1} for row in done.program.meta["memory"]]
    with pytest.raises(AuditError, match="its memory row says"):
        corrupted(done, meta=done.program.meta | {"memory": rows})
    split = compile_network(small_cnn(), load_chip(SPECK, ["memory.split=channels", f"memory.neuron_words={[768] * 9 + [16]}"]))
    assert [(s["population"], s["channels"]) for s in split.report["splits"]] == [("l1", 2)]
    with pytest.raises(AuditError, match="the chip does not split layers"):
        corrupted(split, chip=load_chip(SPECK, [f"memory.neuron_words={[768] * 9 + [16]}"]))


def test_the_audit_finds_axons_destinations_and_weights_beyond_the_chip() -> None:
    def done(*overrides: str) -> Any:
        return load_chip("async-mesh", overrides)

    compiled = compile_network(small_cnn(), done(), "free")
    for overrides, message in (
        (("memory.axons=255",), "the chip has 255 axons"),
        (("arithmetic.weight_values=3",), "different weights, the chip allows 3"),
    ):
        with pytest.raises(AuditError, match=message):
            corrupted(compiled, chip=done(*overrides))
    fanned = Network("fan")
    x = fanned.lif("a", fanned.spikes_input("in", (1, 2, 2)))
    fanned.output(fanned.mean("m", fanned.add("s", *(fanned.lif(f"r{k}", x) for k in range(2)))))
    compiled = compile_network(fanned, done(), "free")
    with pytest.raises(AuditError, match="sends to 2 cores, the chip allows 1"):
        corrupted(compiled, chip=done("capabilities.neuron_fan_out=1"))


@pytest.mark.parametrize("overrides", [(), ("memory.split=channels", f"memory.neuron_words={[768] * 9 + [16]}")])
def test_layers_compute_their_network(overrides: tuple[str, ...]) -> None:
    """With steps, which the chip itself does not have, the Program equals the golden model; free, the reference engine serves every event."""
    net = small_cnn(steps=6)
    data = (np.random.default_rng(1).random((1, 6, 2, 16, 16)) < 0.06).astype(np.uint8)
    chip = load_chip(SPECK, [*overrides, 'sync=["wavefront", "free"]'])
    compiled = compile_network(net, chip, "wavefront")
    golden = run_graph(compiled.integer, data, chip)
    assert golden.scores.any()
    result = simulate_stimuli(compiled.program, encode(compiled.program, load_data(data, compiled.program)), engine="reference")
    np.testing.assert_array_equal(result.scores, golden.scores)
    free = compile_network(net, load_chip(SPECK, overrides)).program
    result = simulate_stimuli(free, encode(free, load_data(data, free)), engine="reference")
    assert result.scores.any()
    packets = data.sum() * (2 if overrides else 1)  # a layer on two cores is sent every event twice
    assert result.sample["injected_spikes"].tolist() == [packets]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("memory.kernel_words=[1, 2]", "memory.kernel_words lists 2 cores, memory.cores is 10"),
        ("memory.kernel_words=-1", "must be a whole number of words"),
        ("memory.readout_cores=[10]", "memory.readout_cores 10 >= memory.cores 10"),
        ("memory.layer_per_core=false", "set memory.layer_per_core = true"),
        ("memory.readout_cores=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "leave none of 10 cores for layers"),
    ],
)
def test_chip_files_that_contradict_themselves(override: str, message: str) -> None:
    with pytest.raises(ChipError, match=message):
        load_chip(SPECK, [override])
