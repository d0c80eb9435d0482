from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.assemble import assemble
from neurosim.compiler.lower import lower
from neurosim.compiler.quantize import quantize
from neurosim.errors import DataError
from neurosim.golden import run_graph
from neurosim.graph import Graph
from neurosim.host import Stimulus, build_host, encode, host_macs, load_data, run_host
from neurosim.host.stimulus import CURRENT, SPIKE
from neurosim.network import Network
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
    assert host_macs(program) == 4 * 64 * 18 + 2 * 2 * 16 * 8 + 3 * 128
    # without on-chip spikes the readout holds T times its bias and currents: the same rounding in both
    silent = graph.with_(projections=tuple(p for p in graph.projections if p.source == "image"))
    bias = np.asarray(graph.population("head").rule.bias)  # type: ignore[union-attr]
    np.testing.assert_array_equal(run_graph(silent, images(), load_chip(chip)).scores, 3 * (currents["head"] + bias).reshape(len(images()), -1))


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
