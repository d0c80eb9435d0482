from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosim.api import build, simulate
from neurosim.errors import DataError, ModelError
from neurosim.network import Network
from neurosim.order import ModuleOrder, read_order
from neurosim.program import load_program
from neurosim.report.exports import export
from neurosim.trace import load_run, read_trace, why_fired
from neurosim.trace.queries import readable


def drawn(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Where in the flat (c, y, x) of (4, 2, 3) every element of a tensor lies."""
    flat = np.arange(24).reshape(4, 2, 3)
    return {
        "same": flat,
        "channels last": flat.transpose(1, 2, 0),
        "pixel shuffle": flat.reshape(1, 2, 2, 2, 3).transpose(0, 3, 1, 4, 2).reshape(1, 4, 6),
        "upside down": flat[::-1, :, ::-1],
        "any": rng.permutation(24).reshape(6, 4),
    }[kind]


@pytest.mark.parametrize("kind", ["same", "channels last", "pixel shuffle", "upside down", "any"])
def test_an_order_survives_its_json_and_arranges(kind: str) -> None:
    index = drawn(kind, np.random.default_rng(0))
    order = ModuleOrder(index.shape, index.reshape(-1))
    plain = order.plain()
    assert ("index" in plain) == (kind in ("any", "upside down"))  # the rest is a few sizes and strides
    assert read_order(plain, 24) == order
    values = np.random.default_rng(1).integers(0, 99, (5, 3, 4, 2, 3))
    arranged = order.arrange(values)
    assert arranged.shape == (5, 3, *index.shape)
    np.testing.assert_array_equal(arranged.reshape(5, 3, -1), values.reshape(5, 3, -1)[..., index.reshape(-1)])
    for place in np.ndindex(index.shape):
        assert order.flat(place) == index[place]
        assert order.position(int(index[place])) == place
    assert order.differs((4, 2, 3)) == (kind != "same")


@pytest.mark.parametrize(
    "plain",
    [
        {"shape": [24], "sizes": [2, 12], "strides": [0, 1]},
        {"shape": [25], "sizes": [24], "strides": [1]},
        {"shape": [24], "sizes": [24], "strides": [2]},
        {"shape": [24], "sizes": [-24], "strides": [1]},
        {"shape": [24], "index": [0] * 24},
        {"shape": [24], "index": [*range(23), 2**63]},
        {"shape": [24]},
        {"shape": "x"},
        None,
    ],
)
def test_a_broken_order_is_refused(plain: object) -> None:
    with pytest.raises(ModelError, match=r"order of .* neurons"):
        read_order(plain, 24)


def ordered_network() -> Network:
    """Two layers; the module of the first, as it were, has its channels last."""
    rng = np.random.default_rng(2)
    net = Network("ordered", steps=3)
    x = net.spikes_input("in", (2, 4, 3))
    x = net.lif("blocks[0].lif", net.conv2d("conv", x, rng.normal(0.3, 0.6, (5, 2, 3, 3)), padding=1))
    net.output(net.mean("head", net.lif("lif", net.linear("fc", net.flatten("f", x), rng.normal(0.1, 0.5, (4, 60))))))
    index = np.arange(60).reshape(5, 4, 3).transpose(1, 2, 0)
    net.layers["blocks[0].lif"] = replace(net.layers["blocks[0].lif"], order=ModuleOrder((4, 3, 5), index.reshape(-1)))
    net.layers["lif"] = replace(net.layers["lif"], order=ModuleOrder((4,), np.arange(4)))
    return net


def test_spikes_membranes_why_and_exports_follow_and_traces_stay(tmp_path: Path) -> None:
    net = ordered_network()
    net.save(tmp_path / "net.nsnet")
    bare = ordered_network()
    bare.layers = {name: replace(layer, order=None) for name, layer in bare.layers.items()}
    x = np.random.default_rng(3).integers(0, 2, (2, 3, 2, 4, 3)).astype(np.uint8)
    build(str(tmp_path / "net.nsnet"), "ideal").save(tmp_path / "p.nsim")
    program = load_program(tmp_path / "p.nsim")
    run = simulate(program, x, engine="reference", state=True, record=tmp_path / "t.parquet")
    plain = simulate(build(bare, "ideal"), x, engine="reference", state=True)
    for name, moved in (("blocks[0].lif", (1, 2, 0)), ("lif", None)):
        for found, wanted in ((run.spikes(name), plain.spikes(name)), (run.probe(name), plain.probe(name))):
            lead = wanted.ndim - 3
            expected = wanted.reshape(*wanted.shape[:lead], 4) if moved is None else wanted.transpose(*range(lead), *(lead + k for k in moved))
            np.testing.assert_array_equal(found, expected)
    assert run.spikes("blocks[0].lif").any()

    stored = load_run(run.save(tmp_path / "run"))
    fired = np.argwhere(run.spikes("blocks[0].lif")[0])
    step, y, x_, c = (int(k) for k in fired[0])
    asked = [why_fired(stored, program, f"blocks[0].lif {place}") for place in (f"({c}, {y}, {x_})", f"[{y}, {x_}, {c}]")]
    assert asked[0] == asked[1]
    assert (asked[0]["fired"], asked[0]["step"]) == (True, step)
    assert f"blocks[0].lif ({c}, {y}, {x_}) = [{y}, {x_}, {c}] fired in step {step}" in asked[0]["text"]
    assert why_fired(stored, program, "lif [2]")["neuron"] == "(2, 0, 0)"  # the same order, fewer axes
    for text, words in (
        ("blocks[0].lif [4, 0, 0]", r"whose shape is \(4, 3, 5\)"),
        ("lif [0, 0]", r"whose shape is \(4,\)"),
        ("blocks[0]", "does not"),
    ):
        with pytest.raises(DataError, match=words):
            why_fired(stored, program, text)

    rows = readable(program, read_trace(tmp_path / "t.parquet", 0, populations=["blocks[0].lif"]))
    named = {(row["neuron"], row["in_module"]) for row in rows if row["neuron"]}
    assert (f"({c}, {y}, {x_})", f"[{y}, {x_}, {c}]") in named
    assert {row["in_module"] for row in readable(program, read_trace(tmp_path / "t.parquet", 0, populations=["lif"]))} == {""}

    with np.load(export(stored, tmp_path / "s.npz", population="blocks[0].lif")) as file:
        again = np.zeros((2, 3, *file["module_shape"]), np.uint8)
        again[(file["sample"], file["step"], *file["in_module"].T)] = file["value"]
        np.testing.assert_array_equal(again, run.spikes("blocks[0].lif"))
        assert file["shape"].tolist() == [5, 4, 3]
