"""NIR graphs of single neurons: a recording of four platforms, each node type against its equation in float64, recurrence, refusals."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.compiler.pipeline import compile_network
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import MissingExtra, ModelError, UnsupportedLayer
from neurosim.frontends import load
from neurosim.frontends.nir.file import nir_file
from neurosim.golden import run_graph, run_network
from neurosim.host.encode import encode

nir = pytest.importorskip("nir")

DT, STEPS = 1e-3, 40
ONE = np.ones(2)
DRIVE = (np.random.default_rng(5).random((1, STEPS, 2, 1, 1)) < 0.6).astype(np.uint8)


def write(path: Path, *nodes: tuple[str, Any], edges: list[tuple[str, str]] | None = None, size: int = 2) -> Path:
    """A chain input -> nodes -> output, or joined by ``edges``."""
    everything = {"input": nir.Input({"input": np.array([size])}), **dict(nodes)}
    last = next(reversed(everything.values()))
    everything["output"] = nir.Output({"output": np.asarray(last.output_type["output"])})
    names = list(everything)
    nir.write(str(path), nir.NIRGraph(everything, edges or list(pairwise(names))))
    return path


@pytest.mark.shared
@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_one_neuron_on_the_forward_euler_platforms(shared: Path, sync: str) -> None:
    folder = shared / "nir_lif"
    for platform in ("norse", "snntorch", "nengo", "spinnaker2"):
        table = np.loadtxt(folder / f"lif_{platform}.csv", delimiter=",")
        assert np.flatnonzero(table[:, 2]).tolist() == [460, 510, 710, 760]
    data = (table[:, 0] != 0).astype(np.uint8).reshape(1, 1000, 1, 1, 1)
    done = compile_network(load(folder / "lif_norse.nir", steps=1000, step_time=1e-4), "ideal", sync)
    assert np.flatnonzero(run_graph(done.integer, data, done.program.chip).spikes["1"]).tolist() == [460, 510, 710, 760]
    spikes = simulate_stimuli(done.program, encode(done.program, data)).spikes
    assert spikes["step"].tolist() == [460, 510, 710, 760]


@pytest.mark.shared
@pytest.mark.parametrize("sync", ["wavefront", "barrier"])
def test_a_trained_recurrent_network_keeps_every_spike_on_the_ideal_chip(shared: Path, sync: str) -> None:
    """Letters in Braille: 12 inputs, 40 recurrent CubaLIF, 7 CubaLIF; there are no recorded inputs, so they are drawn."""
    net = nir_file(shared / "nir_rnn" / "braille_noDelay_noBias_subtract.nir", 1e-4, 60, reset="subtract")
    data = (np.random.default_rng(0).random((3, 60, 12, 1, 1)) < 0.15).astype(np.uint8)
    done = compile_network(net, "ideal", sync)
    wanted, found = run_network(net, data).spikes, run_graph(done.integer, data, done.program.chip)
    assert all(wanted[name].sum() > 50 and np.array_equal(found.spikes[name], wanted[name]) for name in ("lif1.lif", "lif2"))
    result = simulate_stimuli(done.program, encode(done.program, data))
    assert np.array_equal(result.scores, found.scores)
    assert int(result.slice_spikes.sum()) == sum(int(wanted[name].sum()) for name in ("lif1.lif", "lif2"))


def _euler(node: Any, x: Any) -> tuple[Any, Any]:
    """(spikes, membranes) [T, n] by the equations that NIR states, in the order current, membrane, test, reset."""
    kind = type(node).__name__
    v, i = np.array(getattr(node, "v_leak", getattr(node, "v_reset", np.zeros(2))), np.float64), np.zeros(2)  # at rest
    spikes, membranes = [], []
    for s in x.reshape(STEPS, 2):
        i = i + DT / node.tau_syn * (node.w_in * s - i) if kind.startswith("Cuba") else s
        tau = getattr(node, "tau", getattr(node, "tau_mem", None))
        v = v + DT * node.r * i if kind == "IF" else v + DT / tau * (node.v_leak - v + node.r * i)
        fired = v > node.v_threshold if hasattr(node, "v_threshold") else np.zeros(2, bool)
        v = np.where(fired, getattr(node, "v_reset", v), v)
        spikes.append(fired)
        membranes.append(v)
    return np.array(spikes), np.array(membranes)


NODES = {
    "IF": nir.IF(r=np.array([300.0, 200.0]), v_threshold=ONE, v_reset=ONE * 0.125),
    "LIF": nir.LIF(tau=ONE * 0.004, r=ONE * 2.5, v_leak=ONE * 0.125, v_threshold=np.array([1.0, 0.75]), v_reset=ONE * -0.25),
    "CubaLIF": nir.CubaLIF(tau_syn=ONE * 0.002, tau_mem=ONE * 0.008, r=np.array([5.0, 4.0]), v_leak=ONE * 0, v_threshold=ONE, w_in=ONE * 1.5),
    "LI": nir.LI(tau=ONE * 0.004, r=ONE * 2.0, v_leak=ONE * 0),
    "CubaLI": nir.CubaLI(tau_syn=ONE * 0.002, tau_mem=ONE * 0.008, r=ONE * 2.0, v_leak=ONE * 0, w_in=ONE),
}


@pytest.mark.parametrize("kind", list(NODES))
def test_every_neuron_follows_its_equation(tmp_path: Path, kind: str) -> None:
    node = NODES[kind]
    net = nir_file(write(tmp_path / "one.nir", ("n", node)), DT, STEPS)
    spikes, membranes = _euler(node, DRIVE)
    done = compile_network(net, "ideal")
    real, found = run_network(net, DRIVE), run_graph(done.integer, DRIVE, done.program.chip)
    if kind.endswith("LI"):
        readout = done.integer.population("n")
        assert readout.kind == "readout"
        assert readout.scale is not None
        assert np.allclose(real.scores, membranes[-1], rtol=1e-12)
        assert np.allclose(found.scores * readout.scale, membranes[-1], rtol=1e-6)
        return
    assert spikes.any()
    assert np.array_equal(real.spikes["n"].reshape(STEPS, 2), spikes)
    assert np.array_equal(found.spikes["n"].reshape(STEPS, 2), spikes)


@pytest.mark.parametrize(
    ("options", "first", "then"),
    [({}, -65.0, 16), ({"reset": "subtract"}, -65.0, 8), ({"v_init": "reset"}, -80.0, 16), ({"v_init": -52.5}, -52.5, 16)],
)  # fmt: skip
def test_a_sample_begins_at_rest_whatever_the_reset(tmp_path: Path, options: dict[str, Any], first: float, then: int) -> None:
    """Millivolts, a constant current of 40: tau dv/dt = -65 - v + 40 beside a threshold of -50 and a reset to -80 (norse's LIFBox: 9, 25, 41, 57)."""
    lif = nir.LIF(tau=ONE * 0.02, r=ONE, v_leak=ONE * -65.0, v_threshold=ONE * -50.0, v_reset=ONE * -80.0)
    graph = write(tmp_path / "mv.nir", ("fc", nir.Linear(np.eye(2) * 40)), ("lif", lif))
    v, wanted = first, []
    for _ in range(60):
        v += 0.05 * (-65.0 - v + 40.0)
        wanted.append(v > -50.0)
        v = v - (30.0 if "reset" in options else v + 80.0) * wanted[-1]
    steps = np.flatnonzero(wanted).tolist()
    assert steps[0] == {-65.0: 9, -80.0: 15, -52.5: 1}[first]
    assert steps[1] - steps[0] == then or "reset" in options
    data = np.ones((2, 60, 2, 1, 1), np.uint8)
    net = nir_file(graph, 1e-3, 60, **options)
    done = compile_network(net, "ideal")
    spikes = simulate_stimuli(done.program, encode(done.program, data)).spikes
    for neuron in (0, 1):
        for sample in (0, 1):
            mine = spikes[(spikes["sample"] == sample) & (spikes["address"] == neuron)]
            assert mine["step"].tolist() == steps
        assert np.flatnonzero(run_network(net, data).spikes["lif"][0, :, neuron]).tolist() == steps


def test_an_integrator_begins_where_the_option_says(tmp_path: Path) -> None:
    li = nir.LI(tau=ONE * 0.004, r=ONE, v_leak=np.array([-2.0, 0.5]))
    net = nir_file(write(tmp_path / "li.nir", ("li", li)), DT, 3, v_init=6.0)
    assert np.allclose(run_network(net, np.zeros((1, 3, 2, 1, 1), np.uint8)).scores, [[8 * 0.75**3, 5.5 * 0.75**3]])  # above v_leak
    with pytest.raises(ModelError, match="NIR option v_init 'leak' is unknown; choose rest"):
        nir_file(tmp_path / "li.nir", DT, 3, v_init="leak")  # type: ignore[arg-type]


def test_weights_sums_recurrence_and_subtraction(tmp_path: Path) -> None:
    """input -> a (affine) -> n, input -> b (linear) -> n, n -> back -> n, one step late."""
    weight = np.array([[1.0, 0.5], [0.25, 1.0]])
    nodes = (
        ("a", nir.Affine(weight, np.array([0.25, 0.0]))),
        ("b", nir.Linear(weight.T)),
        ("n", nir.LIF(tau=ONE * 0.002, r=ONE, v_leak=ONE * 0, v_threshold=ONE)),
        ("back", nir.Linear(np.array([[-0.5, 1.0], [1.0, -0.5]]))),
    )
    edges = [("input", "a"), ("input", "b"), ("a", "n"), ("b", "n"), ("n", "back"), ("back", "n"), ("n", "output")]
    path = write(tmp_path / "loop.nir", *nodes, edges=edges)
    net = nir_file(path, DT, STEPS, reset="subtract")
    assert net.connections == [("back", "n", 1)]
    v, fired, wanted = np.zeros(2), np.zeros(2), []
    for s in DRIVE.reshape(STEPS, 2):
        total = weight @ s + [0.25, 0.0] + weight.T @ s + nodes[3][1].weight @ fired
        v = v + 0.5 * (total - v)
        fired = (v > 1).astype(float)
        v = v - fired
        wanted.append(fired)
    assert np.array_equal(run_network(net, DRIVE).spikes["n"].reshape(STEPS, 2), np.array(wanted))
    done = compile_network(net, "ideal")
    assert np.array_equal(run_graph(done.integer, DRIVE, done.program.chip).spikes["n"].reshape(STEPS, 2), np.array(wanted))


@pytest.mark.parametrize(("most", "test", "reset"), [(3, None, "subtract"), (255, "above", "subtract"), (2, "reach", "zero")])
def test_several_spikes_per_step(tmp_path: Path, most: int, test: Any, reset: Any) -> None:
    """n = v / v_threshold rounded down (v above it: one less where they are equal), at most ``most``; the choice is told."""
    weight = np.array([[2.0, 1.25], [1.0, 4.0]])
    path = write(tmp_path / "many.nir", ("a", nir.Linear(weight)), ("n", nir.IF(r=ONE, v_threshold=ONE * 0.5)))
    net = load(path, steps=STEPS, reset=reset, max_spikes=most, test=test)
    v, wanted = np.zeros(2), []
    for s in DRIVE.reshape(STEPS, 2):
        v = v + weight @ s
        count = np.clip(np.ceil(v / 0.5) - 1 if test == "above" else np.floor(v / 0.5), 0, most)
        v = v - 0.5 * count if reset == "subtract" else v * (count == 0)
        wanted.append(count)
    assert np.max(wanted) == min(most, 10)
    assert np.array_equal(run_network(net, DRIVE).spikes["n"].reshape(STEPS, 2), wanted)
    assert any(f"up to {most} spikes per step" in note for note in net.notes)
    done = compile_network(net, "ideal")
    assert np.array_equal(run_graph(done.integer, DRIVE, done.program.chip).spikes["n"].reshape(STEPS, 2), wanted)


@pytest.mark.parametrize("most", [0, 256, True, 2.5])
def test_a_number_of_spikes_that_cannot_be(tmp_path: Path, most: Any) -> None:
    with pytest.raises(ModelError, match=rf"max_spikes {most} must be a whole number from 1 to 255"):
        load(write(tmp_path / "n.nir", ("n", NODES["LIF"])), max_spikes=most)


def test_what_it_does_not_know_is_refused_by_node_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lif = NODES["LIF"]
    several = nir.LI(tau=np.array([0.004, 0.002]), r=ONE, v_leak=ONE * 0)
    cases: tuple[tuple[Path, str], ...] = (
        (write(tmp_path / "b.nir", ("n", several)), r"n \(LI\): tau ranges from 0.002 to 0.004 s within the node; value 2 time constants, limit 1"),
        (write(tmp_path / "c.nir", ("i", nir.LI(tau=ONE, r=ONE, v_leak=ONE * 0)), ("n", lif)), "layer n reads i, an integrator"),
        (
            write(
                tmp_path / "d.nir", ("a", nir.Linear(np.eye(2))), ("b", nir.Linear(np.eye(2))),
                edges=[("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")],
            ),
            r"a \(Linear\): the cycle a -> b -> a holds no neuron",
        ),
        (
            write(
                tmp_path / "e.nir", ("n", lif), ("m", lif), ("back", nir.Linear(np.eye(2))),
                edges=[("input", "n"), ("n", "output"), ("m", "back"), ("back", "m"), ("m", "output")],
            ),
            "node m is not reached from the Input",
        ),
    )  # fmt: skip
    for path, message in cases:
        with pytest.raises(ModelError, match=message):
            compile_network(load(path, steps=3, step_time=DT), "ideal")
    with pytest.raises(ModelError, match=r"tau 0.004 s is shorter than step_time 1 s"):
        load(write(tmp_path / "f.nir", ("n", lif)), steps=3, step_time=1.0)
    with pytest.raises(ModelError, match=r"give step_time, the seconds of one step"):
        load(tmp_path / "f.nir", steps=3)
    (tmp_path / "g.nir").write_bytes(b"text")
    with pytest.raises(ModelError, match=r"is no NIR graph: not HDF5, or truncated"):
        load(tmp_path / "g.nir", steps=3, step_time=DT)
    with pytest.raises(UnsupportedLayer):
        load(cases[0][0], steps=3, step_time=DT)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"pip install 'neurosim\[nir\]'"):
        load(tmp_path / "f.nir", steps=3, step_time=DT)
