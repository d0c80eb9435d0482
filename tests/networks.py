"""Networks for tests: hand-made and drawn. Weights are multiples of 1/64 and pools are powers of two, so float64 sums are exact in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from neurosim.network import Network


def dyadic(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> NDArray[np.float64]:
    """Multiples of 1/64 in about [-scale, scale]."""
    return np.round(rng.uniform(-scale, scale, shape) * 64) / 64


def norm(net: Network, name: str, x: str, rng: np.random.Generator) -> str:
    """A batch norm whose folding is exact: variances are squares of powers of two, eps 0."""
    c = net.shape(x)[0]
    var = rng.choice([0.25, 1.0, 4.0], c)
    return net.batch_norm(name, x, rng.choice([0.5, 1.0, 2.0], c), dyadic(rng, c), dyadic(rng, c), var, eps=0.0)


def residual_net(seed: int = 0, steps: int = 2) -> Network:
    """STMixer in small: host layer, short path of currents, stream with three readers, token mixing, head over the mean."""
    rng = np.random.default_rng(seed)
    net = Network("residual", steps=steps, class_names=["a", "b", "c"])
    x = net.input("image", (2, 8, 8), scale=256.0, mean=[0.5, 0.25], std=[0.5, 1.0])
    y = net.lif("lif1", norm(net, "bn1", net.conv2d("conv1", x, dyadic(rng, 4, 2, 3, 3), padding=1), rng))
    y = net.conv2d("conv2", y, dyadic(rng, 6, 4, 3, 3), dyadic(rng, 6), stride=2, padding=1)
    short = norm(net, "short_bn", net.conv2d("short", x, dyadic(rng, 2, 2, 2, 2), stride=2), rng)
    stream = net.concat("join", short, y)
    y = net.lif("mix.lif1", stream)
    y = net.lif("mix.lif2", norm(net, "mix.bn", net.conv2d("mix.conv", y, dyadic(rng, 8, 8, 1, 1)), rng))
    y = net.lif("mix.lif3", net.token_mix("mix.mix", y, dyadic(rng, 2, 16, 16, scale=0.5)))
    stream = net.add("mix.add", stream, net.conv2d("mix.conv2", y, dyadic(rng, 8, 8, 1, 1)))
    y = net.lif("ffn.lif", stream)
    stream = net.add("ffn.add", stream, net.conv2d("ffn.conv", y, dyadic(rng, 8, 8, 1, 1), dyadic(rng, 8)))
    net.output(net.linear("head", net.mean("mean", stream), dyadic(rng, 3, 8), dyadic(rng, 3)))
    return net


@st.composite
def drawn_networks(draw: st.DrawFn) -> tuple[Network, NDArray[Any]]:
    """(network, data for two samples): chains of two to four spike layers with every linear op, delays, resets, floors, shifts and residuals."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.sampled_from([1, 2, 4]))
    net = Network("drawn", steps=steps)
    shape = (draw(st.sampled_from([2, 4])), 4, 4)
    if draw(st.booleans()):
        x = net.input("in", shape, scale=256.0, mean=dyadic(rng, shape[0]).tolist(), std=[0.5] * shape[0])
        data: NDArray[Any] = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    else:
        x = net.spikes_input("in", shape)
        data = rng.integers(0, 2, (2, steps, *shape), dtype=np.uint8)
    count = 0

    def name(op: str) -> str:
        nonlocal count
        count += 1
        return f"{op}{count}"

    spikes: list[str] = [] if net.input_contract.kind == "image" else [x]
    for _ in range(draw(st.integers(2, 4))):
        for _ in range(draw(st.integers(0, 3))):
            x = _linear(net, x, draw(st.sampled_from(OPS)), name, rng, spikes)
        x = net.lif(
            name("lif"), x, decay=draw(st.sampled_from([0.5, 1.0, 0.75])), threshold=float(draw(st.sampled_from([0.5, 1.0]))),
            reset=draw(st.sampled_from(["zero", "subtract"])), strict=draw(st.booleans()), floor=draw(st.sampled_from([None, -1.0])),
            v_rest=draw(st.sampled_from([0.0, 0.25])), v_reset=draw(st.sampled_from([None, 0.125])), bias=draw(st.sampled_from([None, 0.125])),
            input_scale=draw(st.sampled_from([1.0, 0.5])), v_init=draw(st.sampled_from([None, None, -0.5, 0.375, 1.5])),
        )  # fmt: skip
        spikes.append(x)
    c = net.shape(x)[0]
    if draw(st.booleans()):
        x = net.linear(name("linear"), net.flatten(name("flat"), x), dyadic(rng, 3, int(np.prod(net.shape(x)))))
    else:
        x = net.linear(name("linear"), net.mean(name("mean"), x), dyadic(rng, 3, c), dyadic(rng, 3))
    net.output(x)
    return net, data


OPS = ("conv", "group_conv", "point", "norm", "scale", "add", "concat", "mix", "pool", "avg", "delay", "reshape", "sparse", "shift")


def _linear(net: Network, x: str, op: str, name: Any, rng: np.random.Generator, spikes: list[str]) -> str:
    """One linear layer after x; x itself where the op does not fit."""
    c, h, w = net.shape(x)
    match op:
        case "conv":
            stride, dilation = int(rng.integers(1, 3)), int(rng.integers(1, 3))
            return net.conv2d(name("conv"), x, dyadic(rng, 4, c, 2, 2), dyadic(rng, 4), stride=stride, padding=dilation, dilation=dilation)
        case "group_conv" if c % 2 == 0:
            return net.conv2d(name("conv"), x, dyadic(rng, 4, c // 2, 3, 3), padding=1, groups=2)
        case "point":
            return net.conv2d(name("point"), x, dyadic(rng, 4, c, 1, 1))
        case "norm":
            return norm(net, name("norm"), x, rng)
        case "scale":
            return net.scale(name("scale"), x, dyadic(rng, c) if rng.random() < 0.5 else 0.5)
        case "add":
            return net.add(name("add"), x, net.conv2d(name("conv"), x, dyadic(rng, c, c, 3, 3), padding=1))
        case "concat":
            return net.concat(name("concat"), x, net.conv2d(name("point"), x, dyadic(rng, 2, c, 1, 1)))
        case "mix":
            return net.token_mix(name("mix"), x, dyadic(rng, 2 if c % 2 == 0 else 1, h * w, h * w, scale=0.5))
        case "pool" if min(h, w) >= 2:
            return net.sum_pool(name("pool"), x, 2, int(rng.integers(1, 3)), int(rng.integers(0, 2)))
        case "avg" if min(h, w) >= 2:
            return net.avg_pool(name("avg"), x, 2)
        case "delay" if x in spikes:
            return net.delay(name("delay"), x, 1)
        case "sparse":
            return _sparse(net, x, name("sparse"), rng)
        case "shift":
            return net.scale(name("shift"), x, 0.5, bias=dyadic(rng, c, h, w, scale=0.25))
        case "reshape":
            return net.reshape(name("reshape"), x, (c * h, w, 1))
    return x


def _sparse(net: Network, x: str, name: str, rng: np.random.Generator) -> str:
    """A third of the entries of a matrix between x and itself, with a bias."""
    size = int(np.prod(net.shape(x)))
    rows, targets = np.nonzero(rng.random((size, size)) < 0.3)
    indptr = np.searchsorted(rows, np.arange(size + 1))
    return net.sparse(name, x, indptr, targets, dyadic(rng, len(targets)), net.shape(x), dyadic(rng, *net.shape(x), scale=0.25))
