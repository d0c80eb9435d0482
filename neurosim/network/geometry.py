"""Tokens are the pixels of a map: layers whose pixels could be arranged in any way get the arrangement of the layers around them.

A code that flattens a map to tokens, (c, y, x) to (c, y * x, 1), and later goes back leaves layers of both arrangements with a reshape between
them. The values and their order are the same in both, so one arrangement will do for all layers that keep the pixels apart (neurons, 1x1
convolutions, norms, sums, joins, gates, attention, token mixing); only what looks at neighbours (wider convolutions, pools) asks for a certain one.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from neurosim.graph import Shape
from neurosim.network.layers import Layer
from neurosim.network.model import Network

Space = tuple[int, int]
"""(height, width)"""
PER_PIXEL = ("lif", "li", "batch_norm", "scale", "token_mix", "delay", "add", "concat", "attention")
"""Ops that give a value for each pixel of each of their inputs, in any arrangement."""
FREE = ("linear", "sparse", "mean", "reshape")
"""Ops that look at flat positions alone."""
POOLS = ("sum_pool", "avg_pool", "max_pool")
ARRAYS = ("threshold", "floor", "bias", "reset_by")
"""Parameters that may have a value per neuron."""


def keep_maps(net: Network) -> None:
    """Arrange the pixels of every layer as its neighbours do, in place, and drop the reshapes that became idle.

    Layers keep their names, the order of their values, and what they compute; a convolution of several tokens in a row over a map becomes several of
    the map (``_over_map``).
    """
    spaces = _Spaces(net)
    layers, net.layers = net.layers, {}
    read = {name: name for name in layers}
    """What to read for a layer: the layer before an idle reshape, the reshape behind a layer that gives an arrangement of its own."""
    for layer in layers.values():
        inputs, space = tuple(read[x] for x in layer.inputs), spaces.of(layer.name)
        shape = (layer.shape[0], *space)
        if layer.name in spaces.asked:
            asked = zip(inputs, layer.inputs, spaces.asked[layer.name], strict=True)
            inputs = tuple(_shaped(net, x, (layers[name].shape[0], *wanted)) for x, name, wanted in asked)
            net.layers[layer.name] = replace(layer, inputs=inputs)
            read[layer.name] = _shaped(net, layer.name, shape)
        elif layer.op == "reshape" and net.layers[inputs[0]].shape == shape and layer.name != net.output_name:
            read[layer.name] = inputs[0]
        elif layer.name in spaces.rows and space[1] > 1:
            _over_map(net, replace(layer, inputs=inputs), shape)
        else:
            net.layers[layer.name] = replace(layer, inputs=inputs, shape=shape, params=_arranged(layer, net.layers[inputs[0]].shape, shape))
    net.connections = [(read[source], target, delay) for source, target, delay in net.connections]


def _arranged(layer: Layer, before: Shape, shape: Shape) -> dict[str, Any]:
    """The parameters of a layer whose input and output are arranged anew."""
    params = dict(layer.params)
    if layer.op in POOLS:  # of whole maps, the others ask for their arrangement
        params["kernel"] = params["stride"] = before[1:]
    for key in ARRAYS:
        if np.ndim(value := params.get(key, 0)) == 3 and value.shape == layer.shape:
            params[key] = value.reshape(shape)
    return params


def _shaped(net: Network, name: str, shape: Shape) -> str:
    """A layer under the shape that its readers ask for: itself, or a reshape of it."""
    if net.layers[name].shape == shape:
        return name
    made = f"{name}.reshape"
    while made in net.layers and net.layers[made] != Layer(made, "reshape", (name,), shape):
        made += "_2"
    net.layers.setdefault(made, Layer(made, "reshape", (name,), shape))
    return made


class _Spaces:
    """Groups of layers whose pixels are the same, and the arrangement of each.

    ``asked``: by layer that looks at neighbours, the arrangement of each of its inputs. ``rows``: convolutions of tokens in a row, which need none.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.parent = {name: name for name in net.layers}
        self.asked: dict[str, list[Space]] = {}
        self.rows: set[str] = set()
        self.wishes: dict[str, list[Space]] = {}
        for layer in net.layers.values():
            self._join(layer)
        for source, target, _ in net.connections:
            self._link(source, net.layers[target].inputs[0])
        self.chosen: dict[str, Space] = {}
        wishes: dict[str, Counter[Space]] = {}
        for name, spaces in self.wishes.items():
            wishes.setdefault(self._root(name), Counter()).update(spaces)
        for name, layer in net.layers.items():
            root = self._root(name)
            if root not in self.chosen:
                votes = wishes.get(root, Counter([_space(layer.shape)]))
                self.chosen[root] = max(votes, key=lambda space: (min(space) > 1, votes[space]))

    def of(self, name: str) -> Space:
        """The arrangement of a layer's pixels."""
        return self.chosen[self._root(name)]

    def _root(self, name: str) -> str:
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def _link(self, a: str, b: str) -> None:
        if _space(self.net.layers[a].shape) != (1, 1):
            self.parent[self._root(b)] = self._root(a)

    def _join(self, layer: Layer) -> None:
        shape, op = layer.shape, layer.op
        before = [self.net.layers[x].shape for x in layer.inputs]
        pixels = [math.prod(_space(s)) for s in (shape, *before)]
        if op in PER_PIXEL or (op == "conv2d" and _pointwise(layer)) or (op == "reshape" and before[0][0] == shape[0]):
            same = list(layer.inputs)
        elif op == "gate" and pixels[2] in (1, pixels[1]):
            same = [x for x, count in zip(layer.inputs, pixels[1:], strict=True) if count == pixels[0]]
        elif op == "conv2d" and _in_rows(layer, before[0]):
            self.rows.add(layer.name)
            same = list(layer.inputs)
        elif op in FREE or (op in POOLS and layer.params["kernel"] == before[0][1:] and layer.params["padding"] == (0, 0)):
            same = []
        else:
            self.wishes.setdefault(layer.name, []).append(_space(shape))
            self.asked[layer.name] = [_space(wanted) for wanted in before]
            for x, wanted in zip(layer.inputs, before, strict=True):
                self.wishes.setdefault(x, []).append(_space(wanted))
            return
        for x in same:
            self._link(x, layer.name)


def _space(shape: Shape) -> Space:
    return shape[1], shape[2]


def _pointwise(layer: Layer) -> bool:
    p = layer.params
    return bool(p["weight"].shape[2:] == (1, 1) and p["stride"] == (1, 1) and p["padding"] == (0, 0))


def _in_rows(layer: Layer, before: Shape) -> bool:
    """A convolution over tokens in a column, as many as before."""
    p = layer.params
    kept = before[2] == 1 and before[1:] == layer.shape[1:] and p["weight"].shape[3] == 1
    return bool(kept and p["stride"] == (1, 1) and p["padding"][1] == 0)


def _over_map(net: Network, layer: Layer, shape: Shape) -> None:
    """A convolution of tokens in a row where the tokens are the pixels of a map of width W, row by row.

    A tap that looks o = a W + r tokens ahead, 0 <= r < W, sees the pixel (a, r) away from the first W - r columns and (a + 1, r - W) away from the
    others: two taps of the map, one of which always sees the zeros beside it. The taps in one row are one convolution, those that look (dy, dx) and
    (-dy, -dx) away are two of the 2 x 2 of another.
    """
    p, width = layer.params, shape[2]
    weight: Any = p["weight"]
    windows: dict[Space, dict[Space, Any]] = {}
    for k in range(weight.shape[2]):
        rows, ahead = divmod(k * p["dilation"][0] - p["padding"][0], width)
        for dy, dx in ((rows, ahead), (rows + 1, ahead - width)):
            if abs(dy) < shape[1] and abs(dx) < width:
                windows.setdefault((abs(dy), abs(dx) if dy else 0), {})[dy, dx] = weight[:, :, k, 0]
    parts: list[str] = []
    for (dy, dx), taps in sorted(windows.items()):
        reach = (dy, dx) if dy else (0, max(abs(x) for _, x in taps))
        apart = [2 * n if dy and n else 1 for n in reach]
        kernel = np.zeros((*weight.shape[:2], *(2 * n // step + 1 for n, step in zip(reach, apart, strict=True))))
        for (y, x), values in taps.items():
            kernel[:, :, (y + reach[0]) // apart[0], (x + reach[1]) // apart[1]] = values
        kernel.flags.writeable = False
        params = p | {"weight": kernel, "bias": None if parts else p["bias"], "padding": reach, "dilation": (apart[0], apart[1])}
        name = f"{layer.name}.{'wrap' if dy else 'rows'}"
        while name in net.layers:
            name += "_2"
        net.layers[name] = Layer(name, "conv2d", layer.inputs, shape, params)
        parts.append(name)
    net.layers[layer.name] = Layer(layer.name, "add", tuple(parts), shape)
    net.notes.append(f"{layer.name}: a convolution along the tokens of a {shape[1]} x {shape[2]} map became convolutions of the map")
