"""Networks of published size with random weights, made layer by layer: for measurements of growth, where no trained weights are at hand.

Every batch norm gets the statistics of its input on one drawn image, and a bias with which its layer fires at RATE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.golden.network import linear_layer
from neurosim.network import Network

RATE = 0.15
"""Spikes per neuron and step."""


class Builder:
    """A Network in the making, with the value of every layer on one image (T = 1)."""

    def __init__(self, name: str, side: int, classes: int, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.net = Network(name, class_names=[str(k) for k in range(classes)])
        self.image: NDArray[np.uint8] = self.draw.integers(0, 256, (1, 3, side, side), dtype=np.uint8)
        self.net.input("image", (3, side, side), scale=255.0)
        self.values: dict[str, NDArray[np.float64]] = {"image": self.image / 255.0}

    def add(self, op: str, name: str, *args: Any, **more: Any) -> str:
        """A layer of the network, by the name of its method, and its value."""
        getattr(self.net, op)(name, *args, **more)
        layer = self.net.layers[name]
        self.values[name] = linear_layer(layer, [self.values[x] for x in layer.inputs])
        return name

    def conv(self, name: str, x: str, channels: int, kernel: int, stride: int = 1, padding: int | None = None) -> str:
        """A convolution without bias, its batch norm behind it."""
        inputs = self.net.shape(x)[0]
        weight = self.draw.normal(0, (inputs * kernel * kernel) ** -0.5, (channels, inputs, kernel, kernel))
        x = self.add("conv2d", name, x, weight, stride=stride, padding=kernel // 2 if padding is None else padding)
        value = self.values[x]
        norm = self.draw.uniform(1.5, 2.5, channels), self.draw.uniform(-0.3, 0.3, channels)
        return self.add("batch_norm", f"{name}_bn", x, *norm, value.mean(axis=(0, 2, 3)), value.var(axis=(0, 2, 3)) + 1e-3)

    def lif(self, name: str, x: str) -> str:
        """A neuron whose threshold lets RATE of the values pass."""
        threshold = max(1e-3, float(np.quantile(self.values[x], 1 - RATE)))
        self.net.lif(name, x, threshold=threshold, decay=0.5)
        self.values[name] = (self.values[x] >= threshold).astype(np.float64)
        return name

    def forget(self, *kept: str) -> None:
        """Drop the values of all layers but some."""
        self.values = {name: self.values[name] for name in kept}


def stmixer(
    dim: int, depth: int, side: int, classes: int, *, heads: int = 8, downsample: int = 2, seed: int = 0
) -> tuple[Network, NDArray[np.uint8]]:
    """(STMixer-``depth``-``dim`` on images of ``side`` pixels, T = 1; one image [1, 3, side, side])."""
    b = Builder(f"stmixer-{depth}-{dim}", side, classes, seed)
    inner, patch = (2, 16) if downsample == 4 else (1, 4)
    short = b.conv("short", "image", dim // 8, patch, patch, 0)
    x = "image"
    for k, (channels, stride) in enumerate(((dim // 8, 1), (dim // 4, inner), (dim // 2, inner), (dim, 2))):
        x = b.lif(f"embed.lif{k}", b.conv(f"embed.conv{k}", x, channels, 3, stride))
    x = b.add("concat", "embed", short, b.conv("embed.conv4", x, dim - dim // 8, 3, 2))
    tokens = b.net.shape(x)[1] * b.net.shape(x)[2]
    for k in range(depth):
        y = b.lif(f"{k}.mix.lif1", x)
        y = b.lif(f"{k}.mix.lif2", b.conv(f"{k}.mix.conv1", y, dim, 1))
        y = b.lif(f"{k}.mix.lif3", b.add("token_mix", f"{k}.mix.mix", y, b.draw.normal(0, tokens**-0.5, (heads, tokens, tokens))))
        x = b.add("add", f"{k}.mix.add", x, b.conv(f"{k}.mix.conv2", y, dim, 1))
        y = b.lif(f"{k}.ffn.lif1", x)
        y = b.lif(f"{k}.ffn.lif2", b.conv(f"{k}.ffn.conv1", y, 4 * dim, 1))
        x = b.add("add", f"{k}.ffn.add", x, b.conv(f"{k}.ffn.conv2", y, dim, 1))
        b.forget(x)
    x = b.add("mean", "mean", x)
    b.net.output(b.net.linear("head", x, b.draw.normal(0, dim**-0.5, (classes, dim)), b.draw.normal(0, 0.1, classes)))
    return b.net, b.image
