"""lava-dl's ``.net`` files: a recorded network reproduced spike by spike, delays, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.pipeline import compile_network
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import DataError, MissingExtra, ModelError, UnsupportedLayer
from neurosim.frontends import load
from neurosim.frontends.events import read_events, spike_array
from neurosim.golden import run_graph
from neurosim.host.encode import encode

h5py = pytest.importorskip("h5py")

STEPS, INPUTS = 2000, 200
LATENCY = 2  # one step per layer, as docs of neurosim.frontends.lava.net explain


def dense(weight: Any, **more: Any) -> dict[str, Any]:
    neuron = {"type": np.bytes_("CUBA"), "iDecay": 1024, "vDecay": 128, "vThMant": 2, "refDelay": 1, "gradedSpike": False} | more.pop("neuron", {})
    weight = np.asarray(weight, np.float32)
    base = {"type": np.array([b"dense"]), "shape": [len(weight)], "inFeatures": weight.shape[1], "outFeatures": len(weight), "weight": weight}
    return base | {"neuron": neuron} | more


def write(path: Path, *layers: dict[str, Any]) -> Path:
    def put(group: Any, fields: dict[str, Any]) -> None:
        for key, value in fields.items():
            if isinstance(value, dict):
                put(group.create_group(key), value)
            elif value is not None:
                group.create_dataset(key, data=value)

    with h5py.File(path, "w") as file:
        for k, layer in enumerate(layers):
            put(file.create_group(f"layer/{k}"), layer)
    return path


@pytest.mark.shared
@pytest.mark.parametrize(
    ("chip", "more", "sync", "engines"),
    [
        ("loihi1-like", (), "barrier", ("fast", "reference")),
        ("loihi1-like", (), "wavefront", ("fast",)),
        ("ideal", ("arithmetic.rounding=zero",), "wavefront", ("fast",)),
        pytest.param("ideal", ("arithmetic.rounding=zero",), "wavefront", ("reference",), marks=pytest.mark.slow),
    ],
)
def test_every_recorded_spike_of_oxford(shared: Path, chip: str, more: tuple[str, ...], sync: str, engines: tuple[str, ...]) -> None:
    folder = shared / "lava_oxford"
    done = compile_network(load(folder / "network.net", steps=STEPS, test="reach"), load_chip(chip, more), sync)
    assert set(done.report["exact"]) == {"0", "1", "1.count"}
    data = spike_array(read_events(folder / "input.npy"), STEPS, INPUTS)
    recorded = set(map(tuple, read_events(folder / "ground_truth.npy").tolist()))
    assert len(recorded) == 10_178

    golden = run_graph(done.integer, data, done.program.chip)
    step, neuron = np.nonzero(golden.spikes["1"].reshape(STEPS, -1))
    assert set(zip((step + LATENCY).tolist(), neuron.tolist(), strict=True)) == recorded
    assert not any(golden.saturations.values())
    output = int(np.flatnonzero(done.program.slice_population == done.program.population_index("1"))[0])
    if sync == "barrier":
        assert done.program.slice_offset[output] == LATENCY  # the recorder counted the steps of the barrier
    for engine in engines:
        spikes = simulate_stimuli(done.program, encode(done.program, data), engine=engine).spikes
        spikes = spikes[spikes["slice"] == output]
        assert len(spikes) == len(recorded)
        assert set(zip((spikes["step"] + LATENCY).tolist(), spikes["address"].tolist(), strict=True)) == recorded


@pytest.mark.parametrize(("options", "fires"), [({}, [0, 1, 0, 1, 0, 1]), ({"test": "above"}, [0, 1, 0, 1, 0, 1]), ({"test": "reach"}, [1] * 6)])
def test_a_membrane_at_its_threshold_fires_in_slayer_and_not_on_loihi(tmp_path: Path, options: dict[str, Any], fires: list[int]) -> None:
    """Weight 2, threshold 2, nothing decays but the current: a spike per step brings the membrane to its threshold and no higher."""
    layer = dense([[2.0]], neuron={"iDecay": 4096, "vDecay": 0, "vThMant": 2})
    net = load(write(tmp_path / "tie.net", layer), steps=6, **options)
    done = compile_network(net, "loihi1-like", "barrier")
    data = np.ones((1, 6, 1, 1, 1), np.uint8)
    assert done.report["exact"]
    assert run_graph(done.integer, data, done.program.chip).spikes["0"].ravel().tolist() == fires
    for engine in ("fast", "reference"):
        assert simulate_stimuli(done.program, encode(done.program, data), engine=engine).spikes["step"].tolist() == np.flatnonzero(fires).tolist()


def test_a_constant_input_that_only_reaches_the_threshold_never_fires_on_loihi(tmp_path: Path) -> None:
    layer = dense([[2.0]], neuron={"iDecay": 4096, "vDecay": 4096, "vThMant": 2})
    data = np.ones((1, 6, 1, 1, 1), np.uint8)
    for options, fires in (({}, 0), ({"test": "reach"}, 6)):
        done = compile_network(load(write(tmp_path / "tie.net", layer), steps=6, **options), "loihi1-like", "wavefront")  # type: ignore[arg-type]
        assert run_graph(done.integer, data, done.program.chip).spikes["0"].sum() == fires
    with pytest.raises(ModelError, match=r"\.net option test 'over' is unknown; choose above"):
        load(tmp_path / "tie.net", steps=6, test="over")
    with pytest.raises(ModelError, match=r"option floor does not belong to \.net files, which take test"):
        load(tmp_path / "tie.net", steps=6, floor=-1)


def test_delays_of_axons_act_on_the_layer_behind(tmp_path: Path) -> None:
    first = dense(np.eye(3) * 8, delay=np.array([0.0, 2.0, 0.0]), neuron={"iDecay": 4096, "vDecay": 4096})
    second = dense(np.ones((1, 3)) * 8, neuron={"iDecay": 4096, "vDecay": 4096})
    net = load(write(tmp_path / "late.net", first, second), steps=6)
    done = compile_network(net, "loihi1-like", "wavefront")
    assert [(p.source, p.delay) for p in done.integer.into("1")] == [("0", 0), ("0", 2)]
    data = np.zeros((1, 6, 3, 1, 1), np.uint8)
    data[0, 0, 0] = data[0, 1, 1] = 1
    assert run_graph(done.integer, data, done.program.chip).spikes["1"].ravel().tolist() == [1, 0, 0, 1, 0, 0]


EYE = np.eye(3)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"type": np.array([b"conv"]), "weight": np.ones((2, 1, 3, 3))}], r"0 \(conv\): only dense layers"),
        ([dense(EYE), {"type": np.array([b"pool"])}], r"1 \(pool\): only dense layers"),
        ([dense(EYE, bias=np.ones(3))], r"0 \(dense\): field bias is not known"),
        ([dense(EYE, neuron={"type": np.bytes_("ALIF")})], r"0 \(dense\): its neuron is not CUBA; value ALIF"),
        ([dense(EYE, neuron={"weight_exp": 3})], r"neuron field weight_exp is not known"),
        ([dense(EYE, neuron={"gradedSpike": True})], r"its spikes are graded"),
        ([dense(EYE, neuron={"refDelay": 2})], r"refractory period; value 2, limit 1"),
        ([dense(EYE * 0.5)], r"layer 0: weight has values that are not whole"),
        ([dense(EYE, outFeatures=4)], r"layer 0: weight has shape \(3, 3\).*\(4, 3\)"),
        ([dense(EYE), dense(np.ones((2, 4)))], r"layer 1: inFeatures 4 are not the 3 neurons"),
        ([dense(EYE, neuron={"vDecay": 5000})], r"vDecay 5000 is above 4096"),
        ([dense(EYE, neuron={"vThMant": None})], r"layer 0: vThMant is missing"),
        ([dense(EYE, delay=np.array([0.5, 0, 0]))], r"delay has 3 values from 0, wanted whole steps"),
        ([dense(EYE, delay=np.array([1.0]))], r"0 \(delay\): the last layer's axons are delayed"),
        ([dense(np.ones((20, 3)), delay=np.arange(20.0)), dense(np.ones((2, 20)))], r"0 \(delay\): its axons have many different delays.*value 20"),
        ([], "has no layers"),
    ],
)
def test_what_it_does_not_know_is_refused_by_layer_and_name(tmp_path: Path, layers: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(write(tmp_path / "x.net", *layers), steps=4)
    assert isinstance(caught.value, UnsupportedLayer) == ("(" in str(caught.value).split(":")[0])


def test_files_and_extras_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"states no number of steps per sample; give steps"):
        load(tmp_path / "x.net")
    with pytest.raises(ModelError, match="does not exist"):
        load(tmp_path / "x.net", steps=3)
    (tmp_path / "x.net").write_bytes(b"text")
    with pytest.raises(ModelError, match="is no HDF5 file, or truncated"):
        load(tmp_path / "x.net", steps=3)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"pip install 'neurosim\[lava\]'"):
        load(tmp_path / "x.net", steps=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: np.save(path, np.ones((2, 4))), r"shape \(2, 4\)"),
        (lambda path: np.save(path, np.array([[0.0, 1.0, 2.0]])), "polarity 1 is not 0"),
        (lambda path: np.save(path, np.array([[0.5, 0.0, 2.0]])), "neurons must be whole"),
        (lambda path: path.write_bytes(b"text"), "no .npy file"),
        (lambda path: None, "No such file"),
    ],
)
def test_broken_events(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "events.npy")
    with pytest.raises(DataError, match=message):
        read_events(tmp_path / "events.npy")


def test_events_become_steps(tmp_path: Path) -> None:
    np.save(tmp_path / "events.npy", np.array([[3, 0, 0.5], [1, 0, 1.5], [2, 0, 2.4], [2, 0, 2.2]]))
    events = read_events(tmp_path / "events.npy")
    assert events.tolist() == [[0, 3], [2, 1], [2, 2], [2, 2]]  # halves to the even step
    assert np.argwhere(spike_array(events, 3, 4)[0, :, :, 0, 0]).tolist() == [[0, 3], [2, 1], [2, 2]]
    with pytest.raises(DataError, match="reach step 2 and neuron 3; there are 2 steps"):
        spike_array(events, 2, 4)
