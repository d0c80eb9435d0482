"""Whole NIR graphs: maps, parameters per neuron, cycles, nested graphs, what writers leave out, nodes outside NIR, and the way back to a file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.check.supports import check
from neurosim.compiler.pipeline import compile_network
from neurosim.errors import ModelError, UnsupportedLayer
from neurosim.frontends import load, to_nir
from neurosim.frontends.nir.file import nir_file
from neurosim.golden import run_graph, run_network
from neurosim.network import Network
from tests.frontends.nir.test_file import DRIVE, DT, ONE, STEPS, _euler, write

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

RNG = np.random.default_rng(3)


def values(net: Network, node: str, data: Any) -> Any:
    return run_network(net, data, values=[node]).values[node]


def correlate(x: Any, w: Any, stride: int, pad: tuple[int, int], dilation: int, groups: int) -> Any:
    """Cross-correlation of [c, y, x] by its definition, padded by (before, after) on both axes."""
    x = np.pad(x, ((0, 0), pad, pad))
    out, per_group, ky, kx = w.shape
    height, width = ((n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[1:], (ky, kx), strict=True))
    y = np.zeros((out, height, width))
    for o in range(out):
        first = o // (out // groups) * per_group
        for a in range(height):
            for b in range(width):
                window = x[first : first + per_group, a * stride :, b * stride :][
                    :, : dilation * (ky - 1) + 1 : dilation, : dilation * (kx - 1) + 1 : dilation
                ]
                y[o, a, b] = (window * w[o]).sum()
    return y


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "pad", "dilation", "groups"),
    [(3, 1, 1, (1, 1), 1, 1), (3, 2, 0, (0, 0), 2, 2), (3, 1, "same", (1, 1), 1, 1), (4, 1, "same", (1, 2), 1, 2), (2, 1, "valid", (0, 0), 3, 1)],
)
def test_conv2d(kernel: int, stride: int, padding: Any, pad: tuple[int, int], dilation: int, groups: int) -> None:
    weight, bias = RNG.normal(size=(4, 2 // groups, kernel, kernel)), RNG.normal(size=4)
    conv = nir.Conv2d(None, weight, stride, padding, dilation, groups, bias)
    nodes = {"in": nir.Input(np.array([2, 9, 9])), "c": conv, "out": nir.Output(np.array([1]))}
    graph = nir.NIRGraph(nodes, [("in", "c"), ("c", "out")], type_check=False)
    data = (RNG.random((1, 1, 2, 9, 9)) < 0.4).astype(np.uint8)
    net = load(graph)
    assert np.allclose(values(net, "c", data)[0, 0], correlate(data[0, 0], weight, stride, pad, dilation, groups) + bias[:, None, None])
    assert any("input_shape is missing and inferred as (9, 9)" in note for note in net.notes)


def test_conv1d_pools_flatten_and_scale() -> None:
    weight = RNG.normal(size=(3, 2, 3))
    data = (RNG.random((1, 1, 2, 1, 8)) < 0.5).astype(np.uint8)
    graph = nir.NIRGraph(
        {"in": nir.Input(np.array([2, 8])), "c": nir.Conv1d(8, weight, 2, 1, 1, 1, np.zeros(3)), "s": nir.Scale(np.arange(12.0).reshape(3, 4)),
         "out": nir.Output(np.array([3, 4]))},
        [("in", "c"), ("c", "s"), ("s", "out")],
    )  # fmt: skip
    padded = np.pad(data[0, 0, :, 0], ((0, 0), (1, 1)))
    wanted = np.array([[(padded[:, k : k + 3] * weight[o]).sum() for k in range(0, 8, 2)] for o in range(3)])
    assert np.allclose(values(load(graph), "s", data)[0, 0, :, 0], wanted * np.arange(12.0).reshape(3, 4))
    for make, sums in ((nir.SumPool2d, np.add), (nir.AvgPool2d, lambda a, b: (a + b) / 4)):
        graph = nir.NIRGraph(
            {"in": nir.Input(np.array([2, 4, 4])), "p": make(*(np.array(v) for v in ((2, 2), (2, 2), (0, 0)))),
             "f": nir.Flatten({"input": np.array([2, 2, 2])}, 0), "l": nir.Linear(np.eye(8)), "out": nir.Output(np.array([8]))},
            [("in", "p"), ("p", "f"), ("f", "l"), ("l", "out")],
        )  # fmt: skip
        x = (RNG.random((1, 1, 2, 4, 4)) < 0.5).astype(np.uint8)
        halves = x[0, 0].reshape(2, 2, 2, 2, 2).sum(axis=4)
        assert np.allclose(values(load(graph), "l", x)[0, 0].ravel(), sums(halves[:, :, 0], halves[:, :, 1]).ravel())


def test_delays_differ_between_neurons(tmp_path: Path) -> None:
    net = nir_file(write(tmp_path / "d.nir", ("d", nir.Delay(np.array([0.0, 3.4 * DT])))), DT, STEPS)
    wanted = DRIVE[0, :, :, 0, 0].astype(float).copy()
    wanted[:, 1] = np.concatenate([np.zeros(3), wanted[:-3, 1]])
    assert np.array_equal(values(net, "d", DRIVE)[0, :, :, 0, 0], wanted)
    assert any("delays are rounded to whole steps" in note for note in net.notes)


PER_NEURON = {
    "LIF": nir.LIF(
        tau=np.array([0.004, 0.002]), r=np.array([2.5, 1.5]), v_leak=np.array([0.125, -0.5]), v_threshold=np.array([1.0, 0.75]),
        v_reset=np.array([-0.25, 0.25]),
    ),
    "CubaLIF": nir.CubaLIF(
        tau_syn=np.array([0.002, 0.004]), tau_mem=ONE * 0.008, r=np.array([5.0, 4.0]), v_leak=np.array([0.0, 0.25]), v_threshold=ONE,
        v_reset=ONE * 0, w_in=np.array([1.5, 2.0]),
    ),
    "IF": nir.IF(r=np.array([300.0, 200.0]), v_threshold=np.array([1.0, 0.5]), v_reset=np.array([0.125, -0.5])),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(PER_NEURON))
def test_every_parameter_may_differ_between_neurons(tmp_path: Path, kind: str) -> None:
    """Time constants too: the node becomes a layer for each, and the chip's spikes are still those of the equation."""
    net = nir_file(write(tmp_path / "n.nir", ("n", PER_NEURON[kind])), DT, STEPS)
    spikes, _ = _euler(PER_NEURON[kind], DRIVE)
    assert 0 < spikes.sum() < spikes.size
    assert np.array_equal(values(net, "n", DRIVE)[0, :, :, 0, 0], spikes)
    done = compile_network(net, "ideal")
    found = run_graph(done.integer, DRIVE, done.program.chip).scores * done.integer.population(done.integer.populations[-1].name).scale
    assert np.allclose(found[0], spikes.mean(axis=0))


def test_exponential_decay_and_the_step_time_that_a_file_suggests(tmp_path: Path) -> None:
    """sinabs' LIF: v <- exp(-1/tau) v + (1 - exp(-1/tau)) x, time counted in steps, also where tau is shorter than a step."""
    lif = nir.LIF(tau=np.array([2.0, 0.5]), r=ONE * 3, v_leak=ONE * 0, v_threshold=ONE)
    path = write(tmp_path / "e.nir", ("n", lif))
    v, wanted = np.zeros(2), []
    kept = np.exp(-1 / lif.tau)
    for s in DRIVE[0, :, :, 0, 0]:
        v = kept * v + (1 - kept) * 3 * s
        wanted.append(v > 1)
        v = v * ~wanted[-1]
    net = load(path, steps=STEPS, step_time=1.0, solver="exact")
    assert np.array_equal(values(net, "n", DRIVE)[0, :, :, 0, 0], wanted)
    with pytest.raises(ModelError, match=r"tau 0\.5 s is shorter than step_time 1 s.*or solver exact$"):
        load(path, step_time=1.0)
    with pytest.raises(ModelError, match=r"its factors suggest 0\.0001$"):  # snnTorch writes r = tau / dt
        load(write(tmp_path / "f.nir", ("n", nir.LIF(tau=ONE * 1e-3, r=ONE * 10, v_leak=ONE * 0, v_threshold=ONE))))
    with pytest.raises(ModelError, match="integrates with r = 10000 per second; give step_time, the seconds of one step; 1/r is 0\\.0001"):
        load(write(tmp_path / "g.nir", ("n", nir.IF(r=ONE * 1e4, v_threshold=ONE))))  # spikingjelly writes r = 1 / dt
    with pytest.raises(ModelError, match=r"step_time is dt squared, 1e-06 s$"):  # norse writes dt / tau_mem_inv
        load(write(tmp_path / "h.nir", ("n", nir.LIF(tau=ONE * 1e-5, r=ONE, v_leak=ONE * 0, v_threshold=ONE))), step_time=1e-3)


def test_images_enter_in_every_step(tmp_path: Path) -> None:
    path = write(tmp_path / "i.nir", ("a", nir.Linear(np.array([[1.0, -0.5], [0.25, 0.5]]))), ("n", nir.IF(r=ONE, v_threshold=ONE)))
    net = load(path, steps=8, image=255, reset="subtract")
    pixels = np.array([[200, 100]], np.uint8)
    current = np.array([[1.0, -0.5], [0.25, 0.5]]) @ (pixels[0] / 255)
    v, wanted = np.zeros(2), np.zeros(2)
    for _ in range(8):
        v = v + current
        wanted += v > 1
        v = v - (v > 1)
    assert wanted.all()
    done = compile_network(net, "ideal")
    assert np.array_equal(run_graph(done.integer, pixels.reshape(1, 2, 1, 1), done.program.chip).scores[0], wanted)
    assert "Input input takes images: pixel / 255, the same in every step" in net.notes
    with pytest.raises(ModelError, match="NIR option image 0 must be a number above 0"):
        load(path, image=0)


def test_threshold_subtraction_and_a_floor(tmp_path: Path) -> None:
    net = nir_file(
        write(tmp_path / "t.nir", ("a", nir.Linear(np.array([[1.0, -1.0], [1.0, 1.0]]))), ("n", nir.Threshold(np.array([0.5, 1.0])))), DT, STEPS
    )
    x = DRIVE[0, :, :, 0, 0].astype(float)
    assert np.array_equal(values(net, "n", DRIVE)[0, :, :, 0, 0], np.stack([x[:, 0] - x[:, 1] > 0.5, x.sum(axis=1) > 1], axis=1))
    chain = write(tmp_path / "s.nir", ("a", nir.Linear(np.array([[2.0, -3.0], [1.0, 0.5]]))), ("n", nir.IF(r=ONE, v_threshold=ONE)))
    v, wanted = np.zeros(2), []
    for s in x:
        v = np.maximum(v + [2 * s[0] - 3 * s[1], s[0] + 0.5 * s[1]], -1.0)
        fired = v >= 1
        v = v - fired
        wanted.append(fired)
    net = load(chain, steps=STEPS, reset="subtract", floor=-1.0)
    assert np.array_equal(values(net, "n", DRIVE)[0, :, :, 0, 0], wanted)
    assert "reset by subtracting v_threshold - v_reset; test v >= v_threshold; floor -1; at most one spike per step" in net.notes
    assert not np.array_equal(values(load(chain, steps=STEPS, reset="subtract", floor=-1.0, test="above"), "n", DRIVE)[0, :, :, 0, 0], wanted)


def test_scores_are_counts_or_membranes(tmp_path: Path) -> None:
    path = write(tmp_path / "r.nir", ("n", nir.IF(r=np.array([0.75, 0.5]), v_threshold=ONE)))
    spikes, membranes = np.zeros(2), DRIVE[0, :, :, 0, 0].sum(axis=0) * [0.75, 0.5]
    counted = compile_network(load(path, steps=STEPS, reset="subtract"), "ideal")
    spikes = run_graph(counted.integer, DRIVE, counted.program.chip, spikes=True).spikes["n"].reshape(STEPS, 2).sum(axis=0)
    assert np.array_equal(run_graph(counted.integer, DRIVE, counted.program.chip).scores[0], spikes)  # whole counts, weight 1
    assert np.allclose(run_network(load(path, steps=STEPS, readout="membrane"), DRIVE).scores[0], membranes)
    with pytest.raises(ModelError, match="readout spikes: the last layer i does not fire"):
        load(write(tmp_path / "i.nir", ("i", nir.I(r=ONE))), readout="spikes")


def test_cycles_close_through_weights_delays_biases_and_nested_graphs(tmp_path: Path) -> None:
    """in -> w -> sub(lif -> delay 3 -> back -> lif) -> out, and lif -> again -> w, whose copy leads the spikes of the step before."""
    w, back = np.array([[1.0, -0.5], [0.5, 1.0]]), np.array([[-0.5, 0.25], [-0.75, -0.25]])
    again, bias = np.array([[0.25, -1.0], [0.5, 0.25]]), np.array([0.125, -0.0625])
    lif = nir.LIF(tau=ONE * 0.002, r=ONE * 2, v_leak=ONE * 0, v_threshold=ONE * 0.5)
    inner = nir.NIRGraph(
        {"i": nir.Input(np.array([2])), "lif": lif, "late": nir.Delay(ONE * 3 * DT), "back": nir.Affine(back, bias), "o": nir.Output(np.array([2]))},
        [("i", "lif"), ("lif", "late"), ("late", "back"), ("back", "lif"), ("lif", "o")],
    )  # fmt: skip
    graph = nir.NIRGraph(
        {"in": nir.Input(np.array([2])), "w": nir.Affine(w, bias), "sub": inner, "again": nir.Linear(again), "out": nir.Output(np.array([2]))},
        [("in", "w"), ("w", "sub"), ("sub", "again"), ("again", "w"), ("sub", "out")], type_check=False,
    )  # fmt: skip
    nir.write(str(tmp_path / "g.nir"), graph)
    for net in (load(tmp_path / "g.nir", steps=STEPS, step_time=DT), load(graph, steps=STEPS, step_time=DT)):
        assert sorted(delay for _, _, delay in net.connections) == [1, 3]
        v, fired, wanted = np.zeros(2), [np.zeros(2)] * 3, []
        for s in DRIVE.reshape(STEPS, 2):
            total = w @ (s + again @ fired[-1]) + bias + back @ fired[-3] + bias
            v = 0.5 * v + total
            fired.append((v > 0.5).astype(float))
            v = v * (1 - fired[-1])
            wanted.append(fired[-1])
        assert 5 < np.sum(wanted) < 75
        assert np.array_equal(values(net, "sub.lif", DRIVE)[0, :, :, 0, 0], wanted)
        done = compile_network(net, "ideal")
        assert np.array_equal(run_graph(done.integer, DRIVE, done.program.chip).spikes["sub.lif"].reshape(STEPS, 2), wanted)


def test_a_bias_that_charges_a_current(tmp_path: Path) -> None:
    w, bias = np.array([[1.0, 0.5], [-0.5, 1.0]]), np.array([0.25, 0.5])
    cuba = nir.CubaLIF(tau_syn=ONE * 0.002, tau_mem=ONE * 0.008, r=ONE * 4, v_leak=ONE * 0, v_threshold=ONE)
    net = nir_file(write(tmp_path / "b.nir", ("a", nir.Affine(w, bias)), ("n", cuba)), DT, STEPS)
    spikes, _ = _euler(cuba, (DRIVE.reshape(STEPS, 2) @ w.T + bias)[:, :, None, None])
    assert np.array_equal(values(net, "n", DRIVE)[0, :, :, 0, 0], spikes)
    done = compile_network(net, "ideal")
    assert np.array_equal(run_graph(done.integer, DRIVE, done.program.chip).spikes["n"].reshape(STEPS, 2), spikes)


def test_what_writers_leave_out_or_count_twice_is_repaired_and_told(tmp_path: Path) -> None:
    """A file as nir.write makes it, with fields removed or changed by hand."""
    nodes = {
        "in": nir.Input(np.array([2, 4, 4])), "c": nir.Conv2d((4, 4), RNG.normal(size=(3, 2, 3, 3)), 1, 0, 1, 1, np.zeros(3)),
        "n": nir.IF(r=np.ones((3, 2, 2)), v_threshold=np.ones((3, 2, 2))), "f": nir.Flatten({"input": np.array([3, 2, 2])}, 0),
        "l": nir.Linear(RNG.normal(size=(5, 12))), "m": nir.IF(r=np.ones(5), v_threshold=np.ones(5)), "out": nir.Output(np.array([5])),
    }  # fmt: skip
    order = list(nodes)
    graph = nir.NIRGraph(nodes, list(pairwise(order)))
    data = (RNG.random((2, 6, 2, 4, 4)) < 0.5).astype(np.uint8)

    def edited(name: str, *, without: tuple[str, ...] = (), **changed: Any) -> Network:
        path = tmp_path / f"{name}.nir"
        nir.write(str(path), graph)
        with h5py.File(path, "a") as file:
            for key in (*without, *changed):
                del file[f"node/nodes/{key}"]
            for key, value in changed.items():
                file[f"node/nodes/{key}"] = value
        return load(path, steps=6)

    clean = edited("clean")
    wanted = run_network(clean, data)
    assert all(word not in note for note in clean.notes for word in ("inferred", "dropped", "flattened"))
    cases: tuple[tuple[str, Network], ...] = (
        ("v_reset is missing and taken as 0 in nodes n, m", edited("reset", without=("n/v_reset", "m/v_reset"))),
        ("r is missing and taken as 1 in node m", edited("r", without=("m/r",))),
        ("node c: its input_shape is missing and inferred as (4, 4)", edited("shape", without=("c/input_shape",))),
        ("node n: v_threshold has one value for 12 neurons, which share it", edited("one", **{"n/v_threshold": np.ones(1)})),
        ("node n: v_threshold has one value per channel", edited("channel", **{"n/v_threshold": np.ones(3)})),
        ("Input in: its shape (7, 2, 4, 4) counts batch or time, which are dropped, leaving (2, 4, 4)", edited("in", **{"in/shape": [7, 2, 4, 4]})),
        ("node f: start_dim 1 is taken to count the batch, so all of (3, 2, 2) is flattened", edited("flat", **{"f/start_dim": 1})),
        ("Output out states the shape (1, 1, 5), its input has 5 values, which count", edited("output", **{"out/shape": [1, 1, 5]})),
        ("Input in: its shape is missing and taken as (2, 4, 4) from what it feeds", edited("input", without=("in/shape",))),
        ("stride is missing and taken as 1 in node c", edited("stride", without=("c/stride",))),
    )
    for note, net in cases:
        assert note in net.notes, (note, net.notes)
        found = run_network(net, data)
        assert all(np.array_equal(found.spikes[n], wanted.spikes[n]) for n in ("n", "m"))
    with pytest.raises(ModelError, match=r"layer l: weight \(5, 12\) takes shape \(12, 1, 1\)"):
        edited("wrong", **{"c/padding": [1, 1], "n/r": np.ones(1), "n/v_threshold": np.ones(1), "n/v_reset": np.zeros(1)})
    with pytest.raises(ModelError, match=r"node n: v_threshold has shape \(7,\), its input has shape \(3, 2, 2\)"):
        edited("seven", **{"n/v_threshold": np.ones(7)})
    with pytest.raises(ModelError, match="node m: v_threshold has 1 values that are NaN or infinite"):
        edited("nan", **{"m/v_threshold": [1.0, np.nan, 1, 1, 1]})
    for key, value, message in (
        ("n/r", "text", "node n: r of type str is no array of numbers"),
        ("c/groups", [2, 3], r"node c: groups \[2.0, 3.0\] must be one whole number"),
        ("in/shape", [np.nan], "node in: shape has 1 values that are NaN"), ("l/weight", 1.5, r"node l: weight has shape \(\), wanted"),
        ("c/padding", "reflect", "padding 'reflect' with stride"), ("f/end_dim", 0.5, "node f: end_dim"), ("c/type", 3, "node c has no type"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=message):
            edited("broken", **{key: value})


def test_open_ends_get_an_input_and_an_output() -> None:
    nodes = {"a": nir.Linear(np.eye(2)), "n": nir.IF(r=ONE, v_threshold=ONE)}
    net = load(nir.NIRGraph(nodes, [("a", "n"), ("a", "n")], type_check=False))
    assert net.input_contract.shape == (2, 1, 1)
    for note in ("the graph has no Input: one was put at a", "the graph has no Output: one was put at n", "1 edges occur twice and are taken once"):
        assert note in net.notes


def test_nodes_outside_nir_are_max_pools_or_reach_check_which_refuses_them_by_name(tmp_path: Path) -> None:
    path = tmp_path / "u.nir"
    nodes = {
        "in": nir.Input(np.array([2, 4, 4])), "p": nir.SumPool2d(*(np.array(v) for v in ((2, 2), (2, 2), (0, 0)))),
        "f": nir.Flatten({"input": np.array([2, 2, 2])}, 0), "s": nir.Scale(np.ones(8)), "l": nir.Linear(np.ones((3, 8))),
        "out": nir.Output(np.array([3])),
    }  # fmt: skip
    order = list(nodes)
    nir.write(str(path), nir.NIRGraph(nodes, list(pairwise(order))))
    with h5py.File(path, "a") as file:
        for node, kind in (("p", "MaxPool2d"), ("s", "BatchNorm1d")):
            del file[f"node/nodes/{node}/type"]
            file[f"node/nodes/{node}/type"] = kind
    net = load(path)
    assert (net.layers["p"].op, net.layers["p"].params) == ("max_pool", {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)})
    assert any("node p has the type MaxPool2d, which NIR does not define" in note for note in net.notes)
    rows = [row for row in check(net, load_chip("async-mesh")) if row.status == "refused"]
    assert ("s", "BatchNorm1d") in [(row.layer, row.op) for row in rows]


@pytest.mark.parametrize(("reset", "most"), [("zero", 1), ("subtract", 1), ("subtract", 3)])
def test_a_network_written_and_read_back_fires_the_same_spikes(tmp_path: Path, reset: Any, most: int) -> None:
    net = Network("round", 12)
    x = net.spikes_input("in", (2, 6, 6), 1000.0)
    c = net.conv2d("conv", x, RNG.normal(size=(4, 2, 3, 3)), RNG.normal(size=4) * 0.1, padding=1)
    c = net.batch_norm("bn", c, RNG.random(4) + 0.5, RNG.normal(size=4) * 0.1, RNG.normal(size=4) * 0.1, RNG.random(4) + 0.5)
    rule: dict[str, Any] = {"reset": reset, "strict": True, "floor": -2.0, "max_spikes": most}
    a = net.lif("a", c, decay=0.75, threshold=RNG.random((4, 6, 6)) + 0.5, bias=np.full(4, 0.0625), **rule)
    p = net.sum_pool("pool", net.add("sum", a, net.scale("half", a, 0.5)), 2)
    b = net.lif("b", net.linear("fc", net.flatten("flat", p), RNG.normal(size=(8, 36))), decay=1.0, threshold=1.0, **rule)
    d = net.delay("late", b, 2)
    out = net.linear("out", net.add("skip", b, d), RNG.normal(size=(3, 8)) + 1)
    o = net.lif("o", out, decay=0.5, decay_current=0.5, threshold=1.5, **rule)
    net.connect(net.linear("back", b, RNG.normal(size=(8, 8))), "b", 1)
    net.connect(net.scale("later", b, -0.5), "b", 3)
    net.output(o)
    options = to_nir(net, tmp_path / "r.nir")
    wanted_options = {"steps": 12, "step_time": 0.001, "reset": reset, "test": "above", "floor": -2.0} | ({"max_spikes": most} if most > 1 else {})
    if reset == "zero":  # the bias is written as a leak toward a higher potential, from which a sample does not begin
        wanted_options["v_init"] = "reset"
    assert options == wanted_options
    nir.read(str(tmp_path / "r.nir"))  # by its own library, types checked
    again = load(tmp_path / "r.nir", **options)
    data = (RNG.random((3, 12, 2, 6, 6)) < 0.3).astype(np.uint8)
    wanted, found = run_network(net, data), run_network(again, data)
    for name in "abo":
        assert wanted.spikes[name].any()
        assert np.array_equal(found.spikes[name], wanted.spikes[name]), name
    assert max(wanted.spikes[name].max() for name in "abo") == most
    assert np.array_equal(found.scores, wanted.scores)


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ([{"v_rest": -0.5, "v_reset": -1.0, "v_init": -0.5}, {"v_rest": -0.25, "v_init": -0.25}], None),
        ([{"v_rest": -0.5, "v_reset": -1.0}, {"v_rest": -0.25, "v_reset": 0.125}], "reset"),
        ([{"v_rest": -0.5, "v_reset": -1.0, "v_init": 0.75}, {"decay": 1.0, "v_init": 0.75}], 0.75),
        ([{"reset": "subtract", "v_rest": -0.5, "v_init": 0.75}, {"reset": "subtract", "v_init": 0.75}], 0.75),
        ([{"v_init": np.array([0.25, -0.75]), "v_rest": 0.0}, {}], "in no way"),
        ([{"v_init": 0.25}, {"v_init": -0.25}], "in no way"),
    ],
)  # fmt: skip
def test_the_start_of_a_sample_is_written_as_an_option_or_refused(tmp_path: Path, rules: list[dict[str, Any]], wanted: Any) -> None:
    net = Network("start", 9)
    x = net.flatten("flat", net.spikes_input("in", (2, 1, 1)))
    for k, rule in enumerate(rules):
        x = net.lif(f"n{k}", net.linear(f"w{k}", x, np.array([[0.5, 0.25], [0.25, 1.0]])), strict=True, **({"decay": 0.75} | rule))
    net.output(x)
    if wanted == "in no way":
        with pytest.raises(UnsupportedLayer, match="NIR says no start of a sample"):
            to_nir(net, tmp_path / "s.nir")
        return
    options = to_nir(net, tmp_path / "s.nir")
    assert options.get("v_init") == wanted
    data = (RNG.random((3, 9, 2, 1, 1)) < 0.5).astype(np.uint8)
    expected, found = run_network(net, data), run_network(load(tmp_path / "s.nir", **options), data)
    for name in ("n0", "n1"):
        assert np.array_equal(found.spikes[name], expected.spikes[name])


def test_what_nir_cannot_say_is_not_written(tmp_path: Path) -> None:
    def built(change: Any) -> Network:
        net = Network("n", 2)
        x = net.spikes_input("in", (2, 1, 1))
        change(net, x)
        return net

    def ends(net: Network, layer: str) -> None:
        net.output(layer)

    cases = (
        (lambda n, x: ends(n, n.concat("c", x, x)), r"c \(concat\): NIR has no node for it"),
        (lambda n, x: ends(n, n.add("c", x, x)), "adds in twice"),
        (lambda n, x: ends(n, n.lif("b", n.lif("a", x, reset="zero"), reset="subtract")), "differ in reset"),
        (lambda n, x: ends(n, n.lif("a", x, decay=1.0, decay_current=0.5)), "CubaLIF leaks"),
        (lambda n, x: ends(n, n.lif("a", x, floor=np.array([-1.0, -2.0]))), "floor differs between neurons; value -2 to -1"),
    )
    for change, message in cases:
        with pytest.raises(ModelError, match=message):
            to_nir(built(change), tmp_path / "x.nir")
    image = Network("i")
    image.output(image.input("pixels", (2, 1, 1)))
    with pytest.raises(UnsupportedLayer, match="NIR has no image"):
        to_nir(image, tmp_path / "x.nir")


@pytest.mark.shared
def test_all_files_that_others_wrote_load(shared: Path) -> None:
    """rockpool's and snnTorch's too, which nir.read refuses or which state no v_reset."""
    for path, step_time in (
        ("nir_lif/lif_norse.nir", 1e-4), ("nir_lif/lif_rockpool.nir", 1e-4), ("nir_rnn/braille_noDelay_bias_zero.nir", 1e-4),
        ("nir_rnn/braille_noDelay_noBias_subtract.nir", 1e-4), ("nir_cnn/cnn_sinabs.nir", None),
    ):  # fmt: skip
        assert compile_network(load(shared / path, steps=3, step_time=step_time), "ideal").program.slices
    with pytest.raises(ModelError, match=r"give step_time, the seconds of one step; its factors suggest 0\.0001"):
        load(shared / "nir_rnn/braille_noDelay_bias_zero.nir")
