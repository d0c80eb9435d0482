"""The published networks at 32 x 32 in the authors' layouts: every spike of an image, module against chip (``make published`` takes three)."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from tests.bench.published import CIFAR, measure
from tests.frontends.torch.published import NETWORKS

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", NETWORKS)
def test_look_alikes_have_the_published_parameters(name: str) -> None:
    import torch

    with torch.device("meta"):
        count = sum(p.numel() for p in NETWORKS[name].make().parameters())
    assert count / 1e6 == pytest.approx(NETWORKS[name].parameters, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", CIFAR)
def test_published_networks_are_exact_on_the_ideal_chip(name: str) -> None:
    row = measure(name, 1, ["wavefront"], "run")
    assert not row["refused"]
    assert min(row["rates"]) > 0.01
    (run,) = row["chip"].values()
    assert run["layers"] + len(run["folded"]) == row["neuron layers"]
    assert all(layer.endswith("attn_lif") for layer in run["folded"])  # a gate's mask, which became its count
    assert run["exact"]
    assert run["same class"]
