"""Drawn networks and chips whose limits lie near what the networks need: about half of the pairs are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from neurosim.chip import Chip, load_chip
from neurosim.errors import ChipError, ModelError
from neurosim.network import Network

FEW_CORES = ["noc.width=4", "noc.height=4", "memory.cores=16"]
PRESETS: dict[str, list[str]] = {
    "speck2f-like": [],
    "loihi1-like": FEW_CORES,
    "loihi2-like": FEW_CORES,
    "truenorth-like": FEW_CORES,
    "async-mesh": ["memory.cores=16", "noc.width=4", "noc.height=4"],
    "async-mesh-plus": ["memory.cores=16", "noc.width=4", "noc.height=4"],
    "tiny": [],
    "ideal": [],
}
SMALL = (0, 1, 2, 3, 4)
NUMBERS: dict[str, tuple[int, ...]] = {
    "capabilities.max_delay": SMALL,
    "capabilities.banks": (2, 3, 4),
    "capabilities.fan_out": (1, 2, 3),
    "capabilities.neuron.max_spikes": (1, 2, 3, 4),
    "capabilities.classes": (1, 2, 3),
    "memory.neurons": (4, 16, 64),
    "memory.bytes": (512, 2048, 16384),
    "memory.route_entries": (1, 2, 4, 8),
    "memory.fan_in": (4, 9, 16, 40),
    "memory.axons": (4, 9, 16, 40),
    "memory.cores": (2, 4, 9),
    "arithmetic.weight_values": (1, 2, 4, 8),
    "arithmetic.acc_bits": (8, 12, 16),
    "arithmetic.weight_bits": (2, 3, 4),
    "arithmetic.state_bits": (8, 12, 16),
    "arithmetic.max_shift": (0, 2, 15),
}
SWITCHES = (
    "capabilities.recurrence", "capabilities.readout", "capabilities.neuron.leak", "capabilities.neuron.floor", "capabilities.neuron.strict",
    "capabilities.neuron.bias", "capabilities.neuron.per_channel_threshold", "capabilities.neuron.reset_by", "capabilities.neuron.current",
)  # fmt: skip
REWRITES = {"maxpool": "or_pool", "gate": "neurons", "avgpool": "sum"}
LIMITS = {
    "conv2d": ("kernel", "padding", "dilation", "groups", "map_size", "channels"),
    "sum_pool": ("kernel", "padding", "map_size"),
    "or_pool": ("kernel", "padding"),
    "max_pool": ("kernel", "padding"),
    "coincidence": ("channels",),
}


@dataclass(frozen=True, repr=False)
class Pair:
    """A network, a chip by its preset and what is set on it, one of its disciplines, and rewritings asked for."""

    network: Network
    chip: Chip
    settings: tuple[str, ...]
    sync: str
    rewrite: dict[str, str]

    def __repr__(self) -> str:
        ops = ", ".join(self.chip.capabilities.ops)
        return f"{self.network}\n on {self.chip.name} with {' '.join(self.settings)}, ops {ops}, sync {self.sync}, rewrite {self.rewrite}"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every array of the network


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """A network and a chip."""
    chip, settings = draw(limited_chips())
    rewrite = {name: form for name, form in REWRITES.items() if draw(st.integers(0, 3)) == 3}
    return Pair(draw(networks()), chip, settings, draw(st.sampled_from(chip.sync)), rewrite)


@st.composite
def limited_chips(draw: st.DrawFn) -> tuple[Chip, tuple[str, ...]]:
    """A preset with up to four of its limits moved, and sometimes an op taken away."""
    name = draw(st.sampled_from(list(PRESETS)))
    plain = load_chip(name)
    settings = dict(text.split("=", 1) for text in PRESETS[name])
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["number", "switch", "op", "stride"]))
        if kind == "number":
            key = draw(st.sampled_from(list(NUMBERS)))
            settings[key] = str(draw(st.sampled_from(NUMBERS[key])))
        elif kind == "switch":
            settings[draw(st.sampled_from(SWITCHES))] = draw(st.sampled_from(["true", "false"]))
        elif kind == "op":
            op = draw(st.sampled_from([op for op in LIMITS if op in plain.capabilities.ops]))
            settings[f"capabilities.ops.{op}.{draw(st.sampled_from(LIMITS[op]))}"] = str(draw(st.sampled_from(SMALL)))
        else:
            settings["capabilities.ops.conv2d.stride"] = draw(st.sampled_from(["[1]", "[1, 2]"]))
    texts = tuple(f"{key}={value}" for key, value in settings.items())
    try:
        chip = load_chip(name, texts)
    except ChipError:  # limits that contradict each other
        reject()
    if draw(st.integers(0, 4)) == 4:
        gone = draw(st.sampled_from(sorted(chip.capabilities.ops)))
        ops = {op: limits for op, limits in chip.capabilities.ops.items() if op != gone}
        chip = chip.model_copy(update={"capabilities": chip.capabilities.model_copy(update={"ops": ops})})
    return chip, texts


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Two to five layers on spikes or an image, with every kind of layer and rule; weights are multiples of an eighth."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    net = Network("near", steps=draw(st.sampled_from([1, 1, 2, 4])))
    shape = (draw(st.sampled_from([1, 2, 4])), *(2 * (draw(st.sampled_from([1, 2, 4])),)))
    x = net.input("in", shape, scale=256.0) if draw(st.integers(0, 3)) == 3 else net.spikes_input("in", shape)
    spikes = [] if net.input_contract.kind == "image" else [x]
    for k in range(draw(st.integers(1, 3))):
        for n in range(draw(st.sampled_from([0, 1, 1, 2]))):
            x = draw(st.sampled_from(LAYERS))(draw, net, f"layer{k}.{n}", x, rng, spikes)
        x = _lif(draw, net, f"lif{k}", x)
        spikes.append(x)
    for name in spikes:
        if name.startswith("lif") and net.steps > 1 and draw(st.integers(0, 9)) == 9 and net.shape(name) == net.shape(net.layers[name].inputs[0]):
            net.connect(name, name, draw(st.integers(1, 2)))
    x = net.linear("head", net.flatten("flat", x) if net.shape(x)[1:] != (1, 1) else x, _weights(rng, draw(st.integers(1, 3)), net.layers[x].size))
    net.output(net.lif("last", x, decay=1.0, reset=draw(st.sampled_from(["zero", "subtract"]))) if draw(st.booleans()) else x)
    return net


def _weights(rng: np.random.Generator, *shape: int) -> Any:
    return rng.integers(-4, 9, shape) / 8


def _lif(draw: st.DrawFn, net: Network, name: str, x: str) -> str:
    channels = net.shape(x)[0]
    options: dict[str, Any] = {"decay": 1.0, "reset": draw(st.sampled_from(["zero", "subtract"]))}
    for option, values in (
        ("decay", (0.5, 0.75)), ("floor", (-1.0,)), ("strict", (True,)), ("bias", (0.125,)), ("max_spikes", (2, 3, 4)), ("decay_current", (0.5,)),
        ("threshold", (np.linspace(0.5, 1.0, channels), 2.0)), ("input_scale", (0.5,)),
    ):  # fmt: skip
        if draw(st.integers(0, 15)) == 15:
            options[option] = draw(st.sampled_from(values))
    if options["reset"] == "subtract" and draw(st.integers(0, 7)) == 7:
        options["reset_by"] = draw(st.sampled_from([0.0, 0.5]))
    return net.lif(name, x, **options)


def _conv(draw: st.DrawFn, net: Network, name: str, x: str, rng: np.random.Generator, spikes: list[str]) -> str:
    channels, height, width = net.shape(x)
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 4) if channels % g == 0]))
    padding, dilation = draw(st.integers(0, 2)), draw(st.sampled_from([1, 1, 1, 2]))
    kernel = draw(st.integers(1, min(4, (min(height, width) + 2 * padding - 1) // dilation + 1)))
    weight = _weights(rng, groups * draw(st.sampled_from([1, 2, 4])), channels // groups, kernel, kernel)
    bias = _weights(rng, len(weight)) if draw(st.integers(0, 3)) == 3 else None
    return net.conv2d(name, x, weight, bias, stride=draw(st.integers(1, 3)), padding=padding, dilation=dilation, groups=groups)


def _pool(draw: st.DrawFn, net: Network, name: str, x: str, rng: np.random.Generator, spikes: list[str]) -> str:
    kernel = draw(st.integers(1, min(3, *net.shape(x)[1:])))
    method = getattr(net, draw(st.sampled_from(["sum_pool", "avg_pool", "max_pool", "max_pool"])))
    try:
        return str(method(name, x, kernel, draw(st.sampled_from([kernel, kernel, 1])), draw(st.sampled_from([0, 0, 1]))))
    except ModelError:  # padding of more than half a window
        return x


def _gate(draw: st.DrawFn, net: Network, name: str, x: str, rng: np.random.Generator, spikes: list[str]) -> str:
    if x not in spikes:
        return x
    shape = net.shape(x)
    masks = [s for s in spikes if all(n % g == 0 for n, g in zip(shape, net.shape(s), strict=True))]
    mask = draw(st.sampled_from(masks))
    if draw(st.booleans()) and shape[0] > 1:  # counts of a group of channels
        mask = net.conv2d(f"{name}.sum", mask, np.ones((1, net.shape(mask)[0], 1, 1)))
        if draw(st.booleans()):
            mask = net.lif(f"{name}.mask", mask, decay=0.5, input_scale=0.5, threshold=0.5)
    y = net.gate(name, x, mask, count=draw(st.integers(1, 2)), inverted=draw(st.booleans()), latched=draw(st.booleans()))
    return net.conv2d(f"{name}.after", y, _weights(rng, 2, shape[0], 1, 1))


def _attention(draw: st.DrawFn, net: Network, name: str, x: str, rng: np.random.Generator, spikes: list[str]) -> str:
    alike = [s for s in spikes if net.shape(s) == net.shape(x) and s != "in"]
    if not alike:
        return x
    heads = draw(st.sampled_from([h for h in (1, 2) if net.shape(x)[0] % h == 0]))
    q, k, v = (draw(st.sampled_from(alike)) for _ in range(3))
    return net.attention(name, q, k, v, heads=heads, scale=draw(st.sampled_from([1.0, 0.125])))


def _other(draw: st.DrawFn, net: Network, name: str, x: str, rng: np.random.Generator, spikes: list[str]) -> str:
    channels, height, width = net.shape(x)
    kind = draw(st.sampled_from(["token_mix", "delay", "add", "scale", "concat", "norm"]))
    if kind == "token_mix":
        return net.token_mix(name, x, _weights(rng, 1, height * width, height * width))
    if kind == "delay" and x in spikes:
        return net.delay(name, x, draw(st.integers(1, 3)))
    if kind == "add":
        return net.add(name, x, net.conv2d(f"{name}.conv", x, _weights(rng, channels, channels, 3, 3), padding=1))
    if kind == "concat":
        return net.concat(name, x, net.conv2d(f"{name}.conv", x, _weights(rng, 2, channels, 1, 1)))
    if kind == "norm":
        one = np.ones(channels)
        return net.batch_norm(name, x, one * 2, one / 8, one / 4, one, eps=0.0)
    return net.scale(name, x, 0.5)


Build = Callable[[Any, Network, str, str, np.random.Generator, list[str]], str]
LAYERS: tuple[Build, ...] = (_conv, _conv, _conv, _pool, _gate, _attention, _other)
