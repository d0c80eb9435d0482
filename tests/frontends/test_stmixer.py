from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neurosim import api
from neurosim.chip import load_chip
from neurosim.compiler.lower.network import lower
from neurosim.compiler.quantize.scales import quantize
from neurosim.frontends import load, shipped_models
from neurosim.golden import run_graph, run_network
from neurosim.host import run_host
from tests.exactness import compare_spikes

DATA = Path(__file__).resolve().parents[2] / "neurosim" / "data"
MODELS = ("stmixer-mnist-t1", "stmixer-mnist-t4")


def images(count: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    with np.load(DATA / "mnist200.npz") as file:
        step = 200 // count
        return file["images"][::step][:count, None], file["label"][::step][:count]


def torch_spikes(name: str, x: NDArray[np.uint8]) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float64]]:
    """Spikes [n, T, c, y, x] of every LIF of the original model in float64, by forward hooks, and its logits."""
    torch = pytest.importorskip("torch")
    from models.evaluate import record_spikes
    from models.stmixer import load_checkpoint

    torch.set_num_threads(1)
    model = load_checkpoint(DATA / "models" / f"{name}.json").double()
    recorded: dict[str, Any] = {}
    with torch.no_grad(), record_spikes(model, recorded):
        logits = model(torch.from_numpy(x).double() / 255.0)
    steps = model.config.steps
    spikes = {key: value.unflatten(0, (steps, -1)).transpose(0, 1).numpy().astype(np.uint8) for key, value in recorded.items()}
    order = [layer for layer in load(name).layers if layer in spikes]
    return {key: spikes[key] for key in order}, logits.numpy()


@pytest.mark.torch
@pytest.mark.parametrize("name", MODELS)
def test_network_is_the_torch_model(name: str) -> None:
    x, _ = images(20)
    expected, logits = torch_spikes(name, x)
    found = run_network(load(name), x, margins=True)
    assert set(found.spikes) == set(expected)
    comparison = compare_spikes(expected, found.spikes, found.margins)
    assert comparison.exact, comparison.wrong
    if not comparison.excused:
        np.testing.assert_allclose(found.scores, logits, rtol=0, atol=1e-9)


@pytest.mark.torch
@pytest.mark.parametrize("name", MODELS)
def test_ideal_chip_is_exact_against_torch(name: str) -> None:
    """100 images through compiler, host section and engine: every spike of every layer equals the original float64 model's, ties apart."""
    x, _ = images(100)
    expected, _ = torch_spikes(name, x)
    margins = run_network(load(name), x, margins=True).margins
    program = api.build(name, "ideal", "wavefront", audit=False)
    run = api.simulate(program, x)
    _, found = run_host(program, x)
    found |= {layer: run.spikes(layer) for layer in expected if layer not in found}
    assert set(found) == set(expected)
    comparison = compare_spikes(expected, found, margins)
    assert comparison.exact, comparison.wrong


@pytest.mark.torch
def test_module_is_read_like_its_checkpoint() -> None:
    pytest.importorskip("torch")
    from models.stmixer import load_checkpoint

    model = load_checkpoint(DATA / "models" / "stmixer-mnist-t1.json")
    x, _ = images(4)
    np.testing.assert_array_equal(run_network(load(model), x).scores, run_network(load("stmixer-mnist-t1"), x).scores)
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        load(model)


@pytest.mark.parametrize("name", MODELS)
def test_lowered_and_quantised_shipped_models(name: str) -> None:
    assert name in shipped_models()
    net, chip = load(name), load_chip("async-mesh")
    x, labels = images(40)
    expected = run_network(net, x)
    graph = lower(net)
    real = run_graph(graph, x)
    assert all(np.array_equal(real.spikes[key], expected.spikes[key]) for key in expected.spikes)
    np.testing.assert_allclose(real.scores, expected.scores, rtol=0, atol=1e-9)
    assert [p.name for p in graph.populations if p.host] == ["patch_embed.lif1"]
    integer, _ = quantize(graph, chip)
    found = run_graph(integer, x, chip, spikes=False)
    assert np.mean(np.argmax(expected.scores, 1) == labels) >= 0.9
    assert np.mean(np.argmax(found.scores, 1) == np.argmax(expected.scores, 1)) >= 0.95
    assert found.saturations["head"] == 0


def test_exactness_notices_a_wrong_spike() -> None:
    """The tie rule excuses ties and nothing else."""
    x, _ = images(2)
    result = run_network(load("stmixer-mnist-t1"), x, margins=True)
    broken = {key: value.copy() for key, value in result.spikes.items()}
    broken["patch_embed.lif2"][1, 0, 0, 0, 0] ^= 1
    comparison = compare_spikes(result.spikes, broken, result.margins)
    assert not comparison.exact
    assert comparison.wrong[0].startswith("sample 1, patch_embed.lif2, step 0: 1 spikes")
    result.margins["patch_embed.lif2"][1, 0, 0, 0, 0] = 1e-9
    comparison = compare_spikes(result.spikes, broken, result.margins)
    assert (comparison.wrong, comparison.excused) == ([], [1])
    assert not comparison.exact  # 1 of 2 samples is more than 1 in 100
