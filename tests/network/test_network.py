from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurosim.errors import ModelError
from neurosim.files import read_zip, write_zip
from neurosim.golden import run_network
from neurosim.network import Network, load_network
from tests.networks import residual_net


def started() -> Network:
    net = Network("net")
    net.input("image", (2, 8, 8))
    return net


MISTAKES: dict[str, tuple[Callable[[Network], object], str]] = {
    "channels": (lambda n: n.conv2d("c", "image", np.ones((4, 3, 3, 3))), r"c: weight \(4, 3, 3, 3\).*takes 3 channels.*image has shape \(2, 8, 8\)"),
    "kernel": (lambda n: n.conv2d("c", "image", np.ones((4, 2, 9, 9))), r"c: .*kernel 9 x 9"),
    "groups": (lambda n: n.conv2d("c", "image", np.ones((3, 1, 1, 1)), groups=2), "c: weight"),
    "flat": (lambda n: n.linear("l", "image", np.ones((3, 128))), r"l: weight \(3, 128\).*\(2, 8, 8\); flatten it first"),
    "norm": (lambda n: n.batch_norm("b", "image", [1], [0], [0], [1]), r"b: weight has shape \(1,\), wanted \(2\)"),
    "negative variance": (lambda n: n.batch_norm("b", "image", [1, 1], [0, 0], [0, 0], [-1, 1]), "b: var -1"),
    "add": (lambda n: n.add("a", "image", n.mean("m", "image")), r"a: cannot add image \(2, 8, 8\), m \(2, 1, 1\)"),
    "concat": (lambda n: n.concat("a", "image", n.mean("m", "image")), "a: cannot join"),
    "reshape": (lambda n: n.reshape("r", "image", (3, 3, 3)), "r: cannot reshape"),
    "mix": (lambda n: n.token_mix("t", "image", np.ones((2, 63, 63))), "t: token mixing weight"),
    "pool": (lambda n: n.sum_pool("p", "image", 9), "p: pool kernel"),
    "nan": (lambda n: n.conv2d("c", "image", np.full((1, 2, 1, 1), np.nan)), "c: weight has 2 of 2 values that are NaN"),
    "duplicate": (lambda n: n.mean("image", "image"), "'image' occurs twice"),
    "unknown": (lambda n: n.mean("m", "imgae"), "did you mean 'image'"),
    "reset": (lambda n: n.lif("l", "image", reset="soft"), "reset 'soft'"),  # type: ignore[arg-type]
    "decay": (lambda n: n.lif("l", "image", decay=1.5), "decay 1.5 must lie in 0..1"),
    "start": (lambda n: n.lif("l", "image", v_init=np.zeros((2, 8, 1))), r"l: v_init has shape \(2, 8, 1\), wanted a number, \(2,\) or \(2, 8, 8\)"),
    "threshold": (lambda n: n.lif("l", "image", threshold=[1, 2, 3]), r"threshold has shape \(3,\)"),
    "second input": (lambda n: n.input("other", (1, 1, 1)), "has the input 'image' already"),
    "output": (lambda n: n.output("image"), r"output image has shape \(2, 8, 8\)"),
    "no output": (lambda n: n.verify(), "has no output"),
    "connect": (lambda n: n.connect("image", n.lif("l", "image"), 0), "delay >= 1"),
    "own method": (lambda n: n.op("x", "conv2d", "image"), "has its own method"),
    "stride": (lambda n: n.conv2d("c", "image", np.ones((1, 2, 1, 1)), stride=0), "stride 0"),
    "padding": (lambda n: n.conv2d("c", "image", np.ones((1, 2, 1, 1)), padding=1.5), "padding 1.5"),  # type: ignore[arg-type]
    "fraction of a group": (lambda n: n.conv2d("c", "image", np.ones((2, 1, 1, 1)), groups=1.5), "groups 1.5"),  # type: ignore[arg-type]
    "complex": (lambda n: n.conv2d("c", "image", np.ones((1, 2, 1, 1)) * 1j), "no array of numbers"),
    "empty": (lambda n: n.conv2d("c", "image", np.ones((0, 2, 1, 1))), "c: weight of shape .* is empty"),
    "rest": (lambda n: n.lif("l", "image", v_rest=float("nan")), "l: v_rest has 1 of 1 values that are NaN"),
    "text": (lambda n: n.lif("l", "image", decay="half"), "decay 'half' must be one number"),  # type: ignore[arg-type]
    "negative sides": (lambda n: n.reshape("r", "image", (-2, -8, 8)), "r: cannot reshape"),
    "flat shape": (lambda n: Network("n").input("i", 128), "shape 128 must be"),  # type: ignore[arg-type]
    "mean": (lambda n: Network("n").input("i", (2, 4, 4), mean=[0, 0, 0]), r"i: mean has shape \(3,\)"),
    "dtype": (lambda n: Network("n").input("i", (2, 4, 4), dtype="pixel"), "dtype 'pixel'"),
    "step time": (lambda n: Network("n").spikes_input("i", (2, 4, 4), step_time_us=0), "step_time_us 0"),
    "part of a step": (lambda n: n.delay("d", n.lif("l", "image"), 1.5), "delay 1.5"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str) -> None:
    mistake, message = MISTAKES[name]
    with pytest.raises(ModelError, match=message) as raised:
        mistake(started())
    assert "\n" not in str(raised.value)


def test_saved_network_is_the_same(tmp_path: Path) -> None:
    net = residual_net()
    net.connect("ffn.lif", "mix.lif1", 1)
    net.save(tmp_path / "a.nsnet")
    again = load_network(tmp_path / "a.nsnet")
    assert str(again) == str(net)
    assert again.input_contract == net.input_contract
    assert again.connections == net.connections
    data = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(run_network(again, data).scores, run_network(net, data).scores)
    again.save(tmp_path / "b.nsnet")
    assert (tmp_path / "a.nsnet").read_bytes() == (tmp_path / "b.nsnet").read_bytes()


def test_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nsnet"
    residual_net().save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="broken or truncated"):
        load_network(path)
    with pytest.raises(ModelError, match="cannot read"):
        load_network(tmp_path / "none.nsnet")


def test_dense_macs_counts_every_layer() -> None:
    net = residual_net()
    by_hand = 4 * 64 * 18 + 6 * 16 * 36 + 2 * 16 * 8 + 8 * 16 * 8 + 8 * 16 * 16 + 8 * 16 * 8 + 8 * 16 * 8 + 3 * 8
    assert net.dense_macs() == by_hand
    assert "head (3, 1, 1) = linear" in str(net)


def test_sparse_maps_biases_and_notes(tmp_path: Path) -> None:
    """y[targets[k]] += weight[k] x[i], two weights of one pair adding up; a bias per value; all of it saved."""
    net = Network("sparse")
    x = net.spikes_input("in", (2, 1, 2))
    y = net.sparse("map", x, [0, 2, 2, 3, 5], [0, 2, 1, 1, 1], [1.0, 2.0, 4.0, 0.5, 0.25], (3, 1, 1), [0.0, 0.0, 10.0])
    net.output(net.scale("shift", y, 2.0, bias=[1.0, 0.0, 0.0]))
    net.notes.append("by hand")
    net.save(tmp_path / "a.nsnet")
    again = load_network(tmp_path / "a.nsnet")
    assert again.notes == ["by hand"]
    data = np.array([[[[[1, 1]], [[0, 0]]]], [[[[0, 0]], [[1, 1]]]]], np.uint8)
    for candidate in (net, again):
        np.testing.assert_array_equal(run_network(candidate, data).scores, [[3.0, 0.0, 24.0], [1.0, 9.5, 20.0]])
    for indptr, targets, message in (
        ([0, 1], [0], "do not describe a map of in"),
        ([0, 1, 1, 1, 1], [3], "targets reach 3, its shape .* has 3 values"),
        ([0, 2, 1, 1, 1], [0], "do not describe"),
    ):
        with pytest.raises(ModelError, match=message):
            net.sparse("other", x, indptr, targets, [1.0], (3, 1, 1))
    with pytest.raises(ModelError, match="NaN"):
        net.sparse("other", x, [0, 1, 1, 1, 1], [0], [np.nan], (3, 1, 1))


def test_files_of_version_1_begin_where_neurons_reset_to(tmp_path: Path) -> None:
    """They have no v_init; a file of the present version keeps it."""
    net = Network("start", 2)
    x = net.flatten("flat", net.spikes_input("in", (1, 1, 1)))
    net.output(net.lif("lif", x, decay=1.0, threshold=3.0, v_init=2.0))
    net.save(tmp_path / "b.nsnet")
    header, arrays = read_zip(tmp_path / "b.nsnet", "neurosim-network", (2,), "")
    del arrays["2.v_init"]
    write_zip(tmp_path / "a.nsnet", header | {"version": 1}, arrays)
    events = np.ones((1, 2, 1, 1, 1), np.uint8)
    for name, fires in (("b", [1, 0]), ("a", [0, 0])):
        assert run_network(load_network(tmp_path / f"{name}.nsnet"), events).spikes["lif"].ravel().tolist() == fires
    write_zip(tmp_path / "c.nsnet", header | {"version": 3}, arrays)
    with pytest.raises(ModelError, match="version 3 of neurosim-network, this neurosim reads version 1 and 2"):
        load_network(tmp_path / "c.nsnet")
