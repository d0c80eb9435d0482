"""Drawn networks with max-pools, gates, attention and spikes of several values; weights as in tests.networks, so that float64 sums are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from neurosim.network import Network
from tests.networks import dyadic, norm

BLOCKS = ("pool of spikes", "pool of values", "pool of sums", "token gate", "channel gate", "halting", "attention", "several spikes", "residual")


@st.composite
def op_networks(draw: st.DrawFn) -> tuple[Network, NDArray[Any]]:
    """(network, data for three samples): one to three blocks, each with one of the ops, behind a first layer of the host or of the chip."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.sampled_from([1, 4]))
    net = Network("ops", steps=steps)
    if draw(st.booleans()):
        x = net.input("in", (2, 8, 8), scale=256.0)
        data: NDArray[Any] = rng.integers(0, 256, (3, 2, 8, 8), dtype=np.uint8)
    else:
        x = net.spikes_input("in", (2, 8, 8))
        data = rng.integers(0, 2, (3, steps, 2, 8, 8), dtype=np.uint8)
    x = net.conv2d("first", x, dyadic(rng, 4, 2, 3, 3), stride=2, padding=1)
    if draw(st.booleans()):
        x = net.max_pool("first.pool", norm(net, "first.bn", x, rng), 3, 1, 1)
    x = lif(net, "first.lif", x)
    for k in range(draw(st.integers(1, 3))):
        x = block(net, f"b{k}", x, draw(st.sampled_from(BLOCKS)), rng)
    net.output(net.linear("head", net.mean("mean", x), dyadic(rng, 3, net.shape(x)[0]), dyadic(rng, 3)))
    return net, data


def lif(net: Network, name: str, x: str, threshold: float = 0.5, **more: Any) -> str:
    """spikingjelly's neuron with a low threshold."""
    return net.lif(name, x, **{"decay": 0.5, "input_scale": 0.5, "threshold": threshold / 2, **more})


def point(net: Network, name: str, x: str, rng: np.random.Generator, **more: Any) -> str:
    """1x1 convolution and lif."""
    c = net.shape(x)[0]
    return lif(net, f"{name}.lif", net.conv2d(f"{name}.conv", x, dyadic(rng, c, c, 1, 1)), **more)


def block(net: Network, n: str, x: str, kind: str, rng: np.random.Generator) -> str:
    """One block on spikes (or sums of spikes); its output is spikes or sums of spikes."""
    c, h, w = net.shape(x)
    match kind:
        case "pool of spikes":
            y = point(net, n, x, rng)
            return net.max_pool(f"{n}.pool", net.concat(f"{n}.join", y, y), int(rng.integers(1, 4)), 1, 0) if min(h, w) > 2 else y
        case "pool of values":
            y = net.max_pool(f"{n}.pool", net.conv2d(f"{n}.conv", x, dyadic(rng, 4, c, 1, 1), dyadic(rng, 4)), 2, 1, 1)
            y = net.scale(f"{n}.scale", y, rng.choice([0.5, 1.0, 2.0], 4), bias=float(rng.choice([0.0, 0.25])))
            if rng.random() < 0.5:
                y = net.add(f"{n}.more", y, net.conv2d(f"{n}.side", x, dyadic(rng, 4, c, 2, 2), padding=1))
            return lif(net, f"{n}.lif", y)
        case "pool of sums":
            return net.max_pool(f"{n}.pool", net.add(f"{n}.add", point(net, f"{n}.a", x, rng), point(net, f"{n}.b", x, rng)), 2, 1, 1)
        case "token gate" | "halting":
            q, k = point(net, f"{n}.q", x, rng), point(net, f"{n}.k", x, rng)
            if kind == "halting":
                score = net.conv2d(f"{n}.sum", q, np.ones((1, c, 1, 1)))
                mask = net.lif(f"{n}.halt", score, decay=1.0, reset="subtract", reset_by=0.0, threshold=float(rng.integers(1, 6)))
                return net.gate(f"{n}.gate", net.add(f"{n}.sums", k, q), mask, inverted=True)
            heads = 2 if c % 2 == 0 else 1
            rows = np.kron(np.eye(heads), np.ones((1, c // heads)))[:, :, None, None]
            mask = net.lif(f"{n}.mask", net.conv2d(f"{n}.sum", q, rows), decay=0.5, threshold=float(rng.choice([0.5, 1.0, 1.5])), input_scale=0.5)
            if rng.random() < 0.3:  # something else reads the mask: it stays
                k = net.add(f"{n}.both", k, net.conv2d(f"{n}.spread", mask, np.ones((c, 1, 1, 1)), groups=heads))
            return net.gate(f"{n}.gate", k, mask, inverted=bool(rng.random() < 0.3), latched=bool(rng.random() < 0.3))
        case "channel gate":
            q, k = point(net, f"{n}.q", x, rng), point(net, f"{n}.k", x, rng)
            mask = net.sum_pool(f"{n}.sum", q, (h, w))
            return net.gate(f"{n}.gate", k, mask, count=int(rng.integers(1, 4)), latched=bool(rng.random() < 0.5))
        case "attention":
            q, k, v = (point(net, f"{n}.{part}", x, rng) for part in "qkv")
            y = net.attention(f"{n}.attention", q, k, v, heads=2 if c % 2 == 0 else 1, scale=0.25)
            return lif(net, f"{n}.lif", net.scale(f"{n}.scale", y, 0.5), threshold=float(rng.choice([0.5, 1.0, 2.0])))
        case "several spikes":
            return point(net, n, x, rng, max_spikes=int(rng.integers(2, 5)), reset=str(rng.choice(["zero", "subtract"])))
    return net.add(f"{n}.add", x, point(net, n, x, rng))
