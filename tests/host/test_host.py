from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.lower.network import lower
from neurosim.compiler.quantize.scales import quantize
from neurosim.errors import DataError, ModelError
from neurosim.golden import run_graph
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection
from neurosim.host import Stimulus, build_host, encode, host_macs, load_data, run_host
from neurosim.host.stimulus import CURRENT, SPIKE
from neurosim.network import Network
from neurosim.ops import MaxPool
from neurosim.program import Program
from tests.networks import residual_net


def program_of(net: Network, sync: str = "wavefront", chip: str = "async-mesh") -> tuple[Program, Graph]:
    graph, _ = quantize(lower(net), load_chip(chip))
    meta = {"input": net.input_contract.as_dict()}
    return assemble(graph, load_chip(chip), sync, host=build_host(graph), meta=meta), graph


def images(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 2, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("chip", ["async-mesh", "ideal"])
def test_host_equals_the_golden_model(chip: str) -> None:
    """Two implementations of the host's fixed point: the golden model's products over BLAS and the host's sums in int64."""
    program, graph = program_of(residual_net(steps=3), chip=chip)
    currents, spikes = run_host(program, images())
    golden = run_graph(graph, images(), load_chip(chip), membranes=True)
    np.testing.assert_array_equal(spikes["lif1"], golden.spikes["lif1"])
    assert set(currents) == {"mix.lif1", "ffn.lif", "head"}
    assert all(values.dtype == np.int64 and values.any() for values in currents.values())
    assert host_macs(program) == 4 * 64 * 18 + 2 * 2 * 16 * 8 + 8 + 3 * 8  # the head: four kinds of pixels of two channels
    # without on-chip spikes the readout holds T times its bias and currents: the same rounding in both
    silent = graph.with_(projections=tuple(p for p in graph.projections if p.source == "image"))
    bias = np.asarray(graph.population("head").rule.bias)  # type: ignore[union-attr]
    np.testing.assert_array_equal(run_graph(silent, images(), load_chip(chip)).scores, 3 * (currents["head"] + bias).reshape(len(images()), -1))


def pooled_graph() -> Graph:
    """Image -> host neurons with several spikes per step behind a max-pool of currents and currents of their own -> readout."""
    draw = np.random.default_rng(3)
    zero = np.zeros((1, 1, 1), np.int64)
    rule = NeuronRule(np.full((1, 1, 1), 900), zero + 20, reset="subtract", reset_by=np.full((1, 1, 1), 700), strict=True, max_spikes=5)
    pooled = Population("lif", (3, 4, 4), "spiking", rule, host=True, op=MaxPool((3, 8, 8), (3, 3), (2, 2), (1, 1)))
    graph = Graph(
        "pooled", 3,
        (Population("image", (2, 8, 8), "analog"), pooled, Population("out", (2, 1, 1), "readout")),
        (
            Projection("image", "lif", Conv2d(draw.integers(-40, 60, (3, 2, 3, 3)), padding=(1, 1)), fraction_bits=3, operand="window"),
            Projection("image", "lif", Conv2d(draw.integers(-4, 6, (2, 2, 2, 2)), (2, 2)), fraction_bits=1, channel_offset=1),
            Projection("lif", "out", Dense(draw.integers(-5, 6, (2, 48)), (2, 1, 1))),
        ),
    )  # fmt: skip
    graph.verify()
    return graph


def test_max_pool_and_several_spikes_on_the_host() -> None:
    graph, chip = pooled_graph(), load_chip("ideal", ["capabilities.neuron.max_spikes=1"])
    input_contract = {"kind": "image", "name": "image", "shape": [2, 8, 8], "dtype": "uint8"}
    program = assemble(graph, chip, "wavefront", host=build_host(graph), meta={"input": input_contract})
    _, spikes = run_host(program, images())
    golden = run_graph(graph, images(), chip)
    np.testing.assert_array_equal(spikes["lif"], golden.spikes["lif"])
    assert set(np.unique(spikes["lif"])) >= {0, 1, 2, 5}
    # one packet of each value where the chip knows them, else as many packets of value 1
    able = replace(program, chip=load_chip("ideal", ["capabilities.neuron.max_spikes=5"]))
    many, single = encode(able, images(1))[0], encode(program, images(1))[0]
    assert sorted(set(many.value.tolist())) == sorted(set(spikes["lif"][0].ravel().tolist()) - {0})
    assert set(single.value.tolist()) == {1}
    assert many.value.sum() == len(single.value) == spikes["lif"][0].sum()
    free = replace(able, meta={**program.meta, "sync": "free"})
    assert set(encode(free, images(1))[0].value.tolist()) == {1}


def test_currents_reach_no_operand_of_the_chip() -> None:
    graph = pooled_graph()
    on_chip = graph.with_(populations=tuple(replace(p, host=False) for p in graph.populations))
    with pytest.raises(ModelError, match="image -> lif brings currents to the operand 'window'"):
        build_host(on_chip)


def rows(stimulus: Stimulus) -> list[tuple[int, ...]]:
    columns = (stimulus.due_ps, stimulus.step, 1 - (stimulus.item == CURRENT), stimulus.slice, stimulus.address, stimulus.value)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def test_stimuli_are_in_port_order_and_decode_to_the_same_events() -> None:
    program, _ = program_of(residual_net(steps=3))
    currents, spikes = run_host(program, images())
    stimuli = encode(program, images())
    assert len(stimuli) == 6
    names = [p["name"] for p in program.meta["populations"]]
    for sample, stimulus in enumerate(stimuli):
        assert rows(stimulus) == sorted(rows(stimulus))
        found = {name: np.zeros((3, *values.shape[1:]), np.int64) for name, values in currents.items()}
        found["lif1"] = np.zeros(spikes["lif1"].shape[1:], np.int64)
        for step, item, s, address, value in zip(stimulus.step, stimulus.item, stimulus.slice, stimulus.address, stimulus.value, strict=True):
            name = names[program.slice_population[s] if item == CURRENT else program.source_population[s]]
            c0, c1, y0, _, x0, x1 = program.slice_box[s] if item == CURRENT else program.source_box[s]
            pixel, c = divmod(int(address), int(c1 - c0))
            y, x = divmod(pixel, int(x1 - x0))
            found[name][step, c + c0, y + y0, x + x0] += value
            assert value != 0
        np.testing.assert_array_equal(found["lif1"], spikes["lif1"][sample])
        for name, values in currents.items():
            np.testing.assert_array_equal(found[name], np.stack([values[sample]] * 3))


def test_free_collapses_the_steps() -> None:
    stepped, free = encode(program_of(residual_net(steps=3))[0], images(1))[0], encode(program_of(residual_net(steps=3), "free")[0], images(1))[0]
    assert not free.step.any()
    currents = free.item == CURRENT
    assert currents.sum() * 3 == (stepped.item == CURRENT).sum()
    first = (stepped.item == CURRENT) & (stepped.step == 0)
    np.testing.assert_array_equal(free.value[currents], 3 * stepped.value[first])
    np.testing.assert_array_equal(free.address[free.item == SPIKE], stepped.address[stepped.item == SPIKE])
    assert np.all(np.flatnonzero(currents) < np.flatnonzero(~currents).min())


def event_net() -> Network:
    net = Network("events", steps=3)
    x = net.spikes_input("in", (2, 4, 4), step_time_us=1000.0)
    net.output(net.mean("head", net.lif("lif", net.conv2d("conv", x, np.ones((2, 2, 3, 3)), padding=1))))
    return net


def write_events(path: Path, **changes: object) -> Path:
    events = {
        "t": np.array([500, 600, 1499, 1500, 3499, 3500, 7000, 7100]),
        "x": np.array([0, 0, 1, 2, 3, 3, 1, 1]), "y": np.array([0, 0, 1, 2, 3, 3, 2, 2]),
        "p": np.array([0, 0, 1, 0, 1, 1, 0, 1]), "offsets": np.array([0, 6, 8]), "label": np.array([1, 0]),
    }  # fmt: skip
    np.savez(path, **(events | changes))
    return path


def test_recordings_are_binned(tmp_path: Path) -> None:
    program, _ = program_of(event_net())
    samples = load_data(write_events(tmp_path / "e.npz"), program)
    assert [tuple(map(int, k)) for k in np.argwhere(samples.data)] == [
        (0, 0, 0, 0, 0), (0, 0, 1, 1, 1), (0, 1, 0, 2, 2), (0, 2, 1, 3, 3), (1, 0, 0, 2, 1), (1, 0, 1, 2, 1),
    ]  # fmt: skip
    assert samples.events_left_out == 1
    stimulus = encode(program, samples)[0]
    assert stimulus.address.tolist() == [0, (1 * 4 + 1) * 2 + 1, (2 * 4 + 2) * 2, (3 * 4 + 3) * 2 + 1]
    assert stimulus.step.tolist() == [0, 0, 1, 2]
    for changes, message in (
        ({"t": np.arange(8)[::-1]}, "times of sample 0 go back"),
        ({"t": np.full(8, 1.5)}, "t has shape .* dtype float64"),
        ({"x": np.array(list("abcdefgh"))}, "x has shape"),
        ({"offsets": np.array([[0, 8]])}, r"offsets has shape \(1, 2\)"),
        ({"x": np.full(8, 4)}, r"x from 4 to 4 leaves 0..3"),
        ({"offsets": np.array([0, 9])}, "offsets must ascend from 0 to 8"),
        ({"p": np.zeros(7, int)}, "have lengths 8, 8, 8, 7"),
        ({"label": np.array([1])}, "wanted 2 whole numbers"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(write_events(tmp_path / "bad.npz", **changes), program)
    np.savez(tmp_path / "i.npz", images=images())
    with pytest.raises(DataError, match="no array 't'"):
        load_data(tmp_path / "i.npz", program)


def test_images_that_break_the_contract(tmp_path: Path) -> None:
    program, _ = program_of(residual_net())
    good = load_data(images(), program, labels=np.arange(6) % 3)
    assert good.labels is not None
    assert good.first(2).labels is not None
    assert len(good.first(2)) == 2
    assert load_data(images().astype(np.int64), program).data.dtype == np.uint8
    for data, labels, message in (
        (images() / 255.0, None, "dtype float64, the program wants raw pixels as uint8"),
        (images()[:, :1], None, r"shape \(6, 1, 8, 8\), the program wants \(n, 2, 8, 8\)"),
        (images().transpose(0, 2, 3, 1), None, "move the channels to the front"),
        (images()[:0], None, "there are no images"),
        (images().astype(np.int64) + 1, None, "leave the range of uint8"),
        (images(), np.arange(5), "wanted 6 whole numbers"),
        (images(), np.arange(6), r"leave the program's classes 0..2"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(data, program, labels=labels)
    with pytest.raises(DataError, match="7 samples asked for"):
        good.first(7)
    np.savez(tmp_path / "a.npz", pictures=images())
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:500])
    for name, message in (("a.npz", "no array 'images', only pictures"), ("b.npz", "truncated"), ("c.npz", "No such file")):
        with pytest.raises(DataError, match=message):
            load_data(tmp_path / name, program)
    with pytest.raises(DataError, match="holds event recordings"):
        load_data(write_events(tmp_path / "e.npz"), program)
    with pytest.raises(DataError, match="do not fit the program"):
        encode(program, images()[:, :1])


def test_labels_go_with_samples_too() -> None:
    program, _ = program_of(residual_net())
    samples = load_data(images(), program)
    assert load_data(samples, program, labels=np.arange(6) % 3).labels is not None
    with pytest.raises(DataError, match="wanted 6 whole numbers"):
        load_data(samples, program, labels=np.zeros(5, int))
