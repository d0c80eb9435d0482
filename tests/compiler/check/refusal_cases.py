"""Networks that chips refuse, what the refusals say, and twins that run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.errors import DoesNotFit, ModelError, UnsupportedLayer
from neurosim.network import Network

SPECK = "speck2f-like"
FEW_CORES = ("noc.width=4", "noc.height=4", "memory.cores=16")
"""Of a chip with thousands, to compile in no time."""


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape)


def net(shape: tuple[int, int, int], *build: Callable[[Network, str], str], steps: int = 1) -> Network:
    """Spikes of ``shape`` through layers; ends in a readout that counts the spikes of the last."""
    result = Network("case", steps=steps)
    x = result.spikes_input("in", shape)
    for function in build:
        x = function(result, x)
    result.output(x)
    return result


def lif(name: str = "lif", **options: Any) -> Callable[[Network, str], str]:
    return lambda n, x: n.lif(name, x, **({"decay": 1.0, "reset": "subtract"} | options))


def conv(name: str, *shape: int, **options: Any) -> Callable[[Network, str], str]:
    return lambda n, x: n.conv2d(name, x, ones(*shape), **options)


def dense(name: str, features: int) -> Callable[[Network, str], str]:
    """A linear layer on whatever is before it, with its lif. Its weights differ, so that no pooling is a factor of them."""

    def build(n: Network, x: str) -> str:
        flat = n.flatten(f"{name}.flat", x) if n.shape(x)[1:] != (1, 1) else x
        inputs = n.shape(flat)[0]
        return n.lif(f"{name}.lif", n.linear(name, flat, 1 + np.arange(features * inputs).reshape(features, inputs) % 7), decay=1.0, reset="subtract")

    return build


def _itself(n: int) -> int:
    return n


def _one_more(n: int) -> int:
    return n + 1


@dataclass(frozen=True)
class Numeric:
    """A network that needs ``n`` of something of which the chip has ``limit``, found under ``key``; ``changed``: a smaller limit for another run."""

    key: str
    build: Callable[[int], Network]
    layer: str
    changed: int
    chip: str = SPECK
    needs: Callable[[int], int] = _itself
    """What the network of size n needs."""
    over: Callable[[int], int] = _one_more
    overrides: tuple[str, ...] = ()


def fan(n: int, of_input: bool) -> Network:
    """n layers read one layer, or the input, and one layer reads them all."""
    result = Network("fan")
    x = result.spikes_input("in", (1, 2, 2))
    if not of_input:
        x = lif("first")(result, conv("conv", 1, 1, 1, 1)(result, x))
    readers = [lif(f"reader{k}")(result, conv(f"conv{k}", 1, 1, 1, 1)(result, x)) for k in range(n)]
    result.output(dense("last", 2)(result, result.concat("join", *readers)))
    return result


def chain(n: int, width: int = 1) -> Network:
    return net((width, 1, 1), *(dense(f"layer{k}", width) for k in range(n)))


def delayed(n: int) -> Network:
    return net((1, 2, 2), lambda m, x: m.delay("delay", x, n), conv("conv", 1, 1, 1, 1), lif(reset="zero"), dense_zero, steps=2)


def dense_zero(n: Network, x: str) -> str:
    return n.lif("last", n.linear("fc", n.flatten("flat", x), ones(2, 4)), decay=1.0)


def levels(n: int) -> Network:
    """A neuron with n different weights."""
    result = Network("levels")
    x = result.spikes_input("in", (n, 1, 1))
    result.output(result.lif("lif", result.linear("fc", x, np.arange(1, n + 1)[None] / n), decay=1.0))
    return result


NUMERIC = {
    "kernel": Numeric("capabilities.ops.conv2d.kernel", lambda n: net((1, n, n), conv("bad", 2, 1, n, n), lif()), "bad", 5),
    "kernel of a dense layer": Numeric("capabilities.ops.dense.kernel", lambda n: net((1, n, n), dense("bad", 2)), "bad", 5),
    "padding": Numeric(
        "capabilities.ops.conv2d.padding", lambda n: net((1, 4, 4), conv("bad", 1, 1, 9, 9, padding=n), lif("l"), dense("fc", 2)), "bad", 2
    ),
    "dilation": Numeric(
        "capabilities.ops.conv2d.dilation", lambda n: net((1, 5, 5), conv("bad", 2, 1, 3, 3, dilation=n), lif("l"), dense("fc", 2)), "bad", 0
    ),
    "groups": Numeric("capabilities.ops.conv2d.groups", lambda n: net((2, 1, 1), conv("bad", 2, 2 // n, 1, 1, groups=n), lif()), "bad", 0),
    "map": Numeric(
        "capabilities.ops.conv2d.map_size",
        lambda n: net((1, n, 1), conv("bad", 1, 1, 1, 1), lif("l"), conv("down", 1, 1, 8, 1, stride=8), lif("m"), dense("fc", 2)),
        "bad",
        9,
    ),
    "map that is read": Numeric(
        "capabilities.ops.conv2d.source_size", lambda n: net((1, n, 1), conv("bad", 1, 1, 8, 1, stride=8), lif("l"), dense("fc", 2)), "bad", 16
    ),
    "channels": Numeric("capabilities.ops.conv2d.channels", lambda n: net((1, 2, 2), conv("bad", n, 1, 2, 2), lif("l"), dense("fc", 2)), "bad", 7),
    "fan-out of a layer": Numeric("capabilities.fan_out", lambda n: fan(n, of_input=False), "first", 1),
    "fan-out of the input": Numeric("capabilities.input_fan_out", lambda n: fan(n, of_input=True), "in", 1),
    "classes": Numeric("capabilities.classes", lambda n: net((1, 2, 2), dense("fc", n)), "fc.lif.count", 4),
    "delay": Numeric("capabilities.max_delay", delayed, "delay", 3, "async-mesh"),
    "delay under a barrier": Numeric("capabilities.max_delay", lambda n: delayed(n + 1), "lif", 3, "loihi1-like"),
    "synapses into a neuron": Numeric(
        "memory.fan_in", lambda n: net((n, 1, 1), lambda m, x: dense_of(m, x)), "lif", 9, "truenorth-like", overrides=FEW_CORES
    ),
    "weights of a neuron": Numeric("arithmetic.weight_values", levels, "lif", 2, "truenorth-like", overrides=FEW_CORES),
    # kernel words: input channels x kernel x features, features rounded up to a power of two
    "kernel words": Numeric(
        "memory.kernel_words",
        lambda n: net((256, 1, 1), dense("bad", n // 256), dense("fc", 2)),
        "bad.lif",
        2048,
        over=lambda n: n + 256,
        needs=lambda n: 256 * 2 ** int(np.ceil(np.log2(n // 256))),
    ),
    "neuron words": Numeric(
        "memory.neuron_words",
        lambda n: net((1, 16, 16), conv("bad", n // 256, 1, 1, 1), lif("l"), conv("down", 1, n // 256, 8, 8, stride=8), lif("m"), dense("fc", 2)),
        "l",
        768,
        over=lambda n: n + 256,
        overrides=("memory.neuron_words=2048",),
    ),
}


def dense_of(n: Network, x: str) -> str:
    return n.lif("lif", n.linear("fc", x, ones(1, n.shape(x)[0])), decay=1.0)


def three_wide(n: int) -> Network:
    """n layers of 64 kernel words, and a last one of 16."""
    return net((8, 1, 1), *(dense(f"wide{k}", 8) for k in range(n)), dense("fc", 2))


def residual(kernel: int) -> Network:
    result = Network("residual")
    x = result.spikes_input("in", (1, 4, 4))
    a = lif("a")(result, conv("c1", 1, 1, 3, 3, padding=1)(result, x))
    b = lif("b")(result, conv("c2", 1, 1, 3, 3, padding=1)(result, x))
    both = result.add("sum", conv("c3", 1, 1, 3, 3, padding=1)(result, a), conv("c4", 1, 1, kernel, kernel, padding=kernel // 2)(result, b))
    result.output(dense("fc", 2)(result, lif("joined")(result, both)))
    return result


def image(*build: Callable[[Network, str], str], dtype: str = "uint8") -> Network:
    result = Network("image")
    x = result.input("in", (1, 4, 4), dtype=dtype)
    for function in build:
        x = function(result, x)
    result.output(x)
    return result


def recurrent(delay: int | None) -> Network:
    result = net((1, 2, 2), conv("c", 1, 1, 1, 1), lif("bad"), dense("fc", 2), steps=2)
    if delay is not None:
        result.connect("bad", "bad", delay)
    return result


def pooled(kernel: Any, size: int = 8, op: str = "sum_pool", **options: Any) -> Network:
    pool = lambda n, x: getattr(n, op)("bad", x, kernel, **options)  # noqa: E731
    return net((1, size, size), conv("c", 1, 1, 1, 1), lif("l"), pool, conv("c2", 1, 1, 3, 3, padding=1), lif("m"), dense("fc", 2))


def foreign(op: str) -> Network:
    return net((1, 4, 4), conv("c", 1, 1, 1, 1), lif("l"), lambda n, x: n.op("bad", op, x), lif("m"), dense("fc", 2))


def product() -> Network:
    result = Network("product")
    x = result.spikes_input("in", (1, 2, 2))
    a, b = (lif(f"l{k}")(result, conv(f"c{k}", 1, 1, 1, 1)(result, x)) for k in range(2))
    result.output(dense("fc", 2)(result, result.op("bad", "multiply", a, b)))
    return result


def with_lif(**options: Any) -> Network:
    return net((2, 2, 2), conv("c", 2, 2, 1, 1), lif("bad", **options), dense("fc", 2))


def token_mixing() -> Network:
    return net((1, 2, 2), lambda n, x: n.token_mix("bad", x, ones(1, 4, 4)), lif("l"), dense("fc", 2))


def last_linear() -> Network:
    return net((1, 2, 2), conv("c", 1, 1, 1, 1), lif("l"), lambda n, x: n.linear("bad", n.flatten("flat", x), ones(2, 4)))


@dataclass(frozen=True)
class Refusal:
    """A network that the chip refuses, what the refusal must say, and a twin that runs there."""

    build: Callable[[], Network]
    layer: str
    value: Any
    limit: Any
    twin: Callable[[], Network]
    chip: str = SPECK
    overrides: tuple[str, ...] = ()
    sync: str | None = None


PLAIN = with_lif
CASES = {
    "stride 3": Refusal(
        lambda: net((1, 7, 7), conv("bad", 1, 1, 1, 1, stride=3), lif("l"), dense("fc", 2)),
        "bad",
        3,
        (1, 2, 4, 8),
        lambda: net((1, 7, 7), conv("bad", 1, 1, 1, 1, stride=8), lif("l"), dense("fc", 2)),
    ),
    "stride that another chip lacks": Refusal(
        lambda: net((1, 4, 4), conv("bad", 1, 1, 1, 1, stride=2), lif("l"), dense("fc", 2)),
        "bad",
        2,
        (1,),
        lambda: net((1, 4, 4), conv("bad", 1, 1, 1, 1), lif("l"), dense("fc", 2)),
        overrides=("capabilities.ops.conv2d.stride=[1]",),
    ),
    "pool 3": Refusal(lambda: pooled(3, 9), "bad", 3, (1, 2, 4), lambda: pooled(4)),
    "pool that another chip lacks": Refusal(
        lambda: pooled(4), "bad", 4, (1, 2), lambda: pooled(2), overrides=("capabilities.ops.sum_pool.kernels=[2]",)
    ),
    "average pool 3": Refusal(lambda: pooled(3, 9, "avg_pool"), "bad", 3, (1, 2, 4), lambda: pooled(2, 8, "avg_pool")),
    "pool with a stride of its own": Refusal(lambda: pooled(2, stride=1), "bad", 1, 2, lambda: pooled(2, stride=2)),
    "pool with padding": Refusal(lambda: pooled(2, padding=1), "bad", 1, 0, lambda: pooled(2)),
    "pool that is no square": Refusal(lambda: pooled((2, 1)), "bad", "2 x 1", "square", lambda: pooled((2, 2))),
    "pool that leaves a row": Refusal(lambda: pooled(2, 9), "bad", None, "pools (1, 2, 4)", lambda: pooled(2)),
    "pool that leaves a row of a large map": Refusal(
        lambda: pooled(2, 17), "bad", "(1, 17, 17) to (1, 8, 8)", "pools (1, 2, 4)", lambda: pooled(2, 16)
    ),
    "softmax": Refusal(lambda: foreign("softmax"), "bad", "softmax", None, PLAIN),
    "layer norm": Refusal(lambda: foreign("layer_norm"), "bad", "layer_norm", None, PLAIN),
    "gelu": Refusal(lambda: foreign("gelu"), "bad", "gelu", None, PLAIN),
    "unknown neuron": Refusal(lambda: foreign("izhikevich"), "bad", "izhikevich", None, PLAIN),
    "product of spikes": Refusal(product, "bad", "multiply", None, lambda: fan(2, of_input=True)),
    "leak": Refusal(lambda: with_lif(decay=0.5), "bad", 0.5, 1, PLAIN),
    "synaptic current": Refusal(lambda: with_lif(decay_current=0.5), "bad", 0.5, None, PLAIN),
    "bias of a neuron": Refusal(lambda: with_lif(bias=0.25), "bad", 0.25, 0, PLAIN),
    "bias of a convolution": Refusal(
        lambda: net((1, 2, 2), conv("c", 1, 1, 1, 1, bias=[0.5]), lif("bad"), dense("fc", 2)),
        "bad",
        0.5,
        0,
        lambda: net((1, 2, 2), conv("c", 1, 1, 1, 1), lif("bad"), dense("fc", 2)),
    ),
    "thresholds of channels": Refusal(
        lambda: with_lif(threshold=[1.0, 2.0]), "bad", "several thresholds", "one per layer", lambda: with_lif(threshold=[2.0, 2.0])
    ),
    "reset by another amount": Refusal(lambda: with_lif(reset_by=0.5), "bad", "reset_by", "threshold", lambda: with_lif(reset_by=1.0)),
    "floors of channels": Refusal(
        lambda: with_lif(floor=[-1.0, -2.0]), "bad", "several floors", "one per layer", lambda: with_lif(floor=[-2.0, -2.0])
    ),
    "readout that weighs spikes": Refusal(
        lambda: net((1, 2, 2), dense("fc", 2), lambda n, x: n.scale("s", x, [1.0, 2.0])), "s", "2 weights", "one weight", PLAIN
    ),
    "reset that Loihi lacks": Refusal(with_lif, "bad", "subtract", "zero", lambda: with_zero(), "loihi1-like"),
    "floor that Loihi lacks": Refusal(lambda: with_zero(floor=-1.0), "bad", "floor", None, lambda: with_zero(), "loihi1-like"),
    "leak that TrueNorth lacks": Refusal(lambda: with_zero(decay=0.5), "bad", 0.5, 1, lambda: with_zero(), "truenorth-like", FEW_CORES),
    "strict test": Refusal(
        lambda: with_lif(strict=True), "bad", "v > threshold", "v >= threshold", PLAIN, overrides=("capabilities.neuron.strict=false",)
    ),
    "recurrence": Refusal(lambda: recurrent(1), "bad", "bad -> bad", None, lambda: recurrent(None)),
    "token mixing": Refusal(token_mixing, "bad", "token_mix", None, PLAIN),
    "readout that sums weights": Refusal(last_linear, "bad", "dense", "identity", PLAIN),
    "readout where there is none": Refusal(PLAIN, "fc.lif.count", "membranes", "spikes", PLAIN, overrides=("capabilities.readout=false",)),
    "currents of an image": Refusal(
        lambda: image(conv("c", 1, 1, 1, 1), lambda n, x: n.add("sum", x, lif("l")(n, x)), lif("bad"), dense("fc", 2)),
        "bad",
        "real-valued input",
        "spikes",
        lambda: image(conv("c", 1, 1, 1, 1), lif("l"), dense("fc", 2)),
    ),
    "image of real pixels": Refusal(
        lambda: image(lif("l"), dense("fc", 2), dtype="float32"), "in", "float32", None, lambda: image(lif("l"), dense("fc", 2))
    ),
    "kernels of different sizes into one core": Refusal(lambda: residual(1), "joined", None, "one geometry", lambda: residual(3)),
    "too many layers": Refusal(lambda: chain(10), "layer9.lif", 10, 9, lambda: chain(9)),
    "too many layers for the cores alive": Refusal(lambda: chain(9), "layer8.lif", 9, 8, lambda: chain(8), overrides=("memory.dead_cores=[3]",)),
    "layer too large for any core, by rounding": Refusal(
        lambda: net((1, 33, 33), conv("c", 32, 1, 1, 1), lif("bad"), conv("d", 1, 32, 8, 8, stride=8), lif("m"), dense("fc", 2)),
        "bad",
        32 * 64 * 64,
        65536,
        lambda: net((1, 8, 8), conv("c", 32, 1, 1, 1), lif("bad"), conv("d", 1, 32, 8, 8, stride=8), lif("m"), dense("fc", 2)),
    ),
    "three layers for two large cores": Refusal(
        lambda: three_wide(3),
        "wide2.lif",
        "3 layers (wide0.lif, wide1.lif, wide2.lif)",
        "2 cores (5, 6)",
        lambda: three_wide(2),
        overrides=("memory.kernel_words=[16, 16, 16, 32, 32, 64, 64, 16, 16, 0]",),
    ),
    "no core with room for both": Refusal(
        lambda: wide_map(8),
        "l",
        "64 kernel words, 512 neuron words",
        "no core with both",
        lambda: wide_map(4),
        overrides=(
            "memory.kernel_words=[32, 32, 32, 32, 32, 1024, 1024, 1024, 32, 0]",
            "memory.neuron_words=[512, 512, 512, 256, 256, 256, 256, 256, 256, 16]",
        ),
    ),
}


def wide_map(channels: int) -> Network:
    """channels * channels kernel words and 64 * channels neuron words, then layers that need little."""
    down = conv("d", 1, channels, 8, 8, stride=8)
    return net((channels, 8, 8), conv("c", channels, channels, 1, 1), lif("l"), down, lif("m"), dense("fc", 2))


def with_zero(**options: Any) -> Network:
    """The neuron rule of chips without subtraction, and few different weights."""
    return net((2, 2, 2), conv("c", 2, 2, 1, 1), lif("bad", **({"reset": "zero"} | options)), dense_last)


def dense_last(n: Network, x: str) -> str:
    return n.lif("last", n.linear("fc", n.flatten("flat", x), ones(2, 8)), decay=1.0)


def split_wide(n: int) -> Network:
    """A layer for n cores of 256 axons and 256 neurons: 256 neurons send to all of them."""
    result = Network("wide")
    x = result.spikes_input("in", (256, 1, 1))
    x = result.lif("first", result.linear("fc0", x, ones(256, 256)), decay=1.0)
    x = result.lif("second", result.linear("fc1", x, ones(256 * n, 256)), decay=1.0)
    result.output(result.lif("last", result.linear("fc2", x, ones(2, 256 * n)), decay=1.0) if n == 1 else x)
    return result


def listeners(n: int) -> Network:
    """A neuron on a chip without axons for n."""
    return net((n, 1, 1), dense_of)


def nan_weights() -> Network:
    return net((1, 2, 2), lambda n, x: n.conv2d("bad", x, [[[[float("nan")]]]]), lif())


def wrong_shape() -> Network:
    return net((1, 2, 2), conv("bad", 1, 3, 1, 1), lif())


def loop_without_delay() -> Network:
    return recurrent(0)


def plain() -> Network:
    return with_zero()


LARGER = {
    "NaN weights": (nan_weights, plain, "async-mesh", (), None, ModelError, r"layer bad: weight has 1 of 1 values that are NaN.*export"),
    "shape mismatch": (
        wrong_shape,
        plain,
        "async-mesh",
        (),
        None,
        ModelError,
        r"layer bad: weight \(1, 3, 1, 1\).*takes 3 channels.*shape \(1, 2, 2\)",
    ),
    "cycle without delay": (loop_without_delay, plain, "async-mesh", (), None, ModelError, r"connect bad.*delay 0: wanted.*delay >= 1"),
    "leak in free": (
        lambda: with_zero(decay=0.5),
        plain,
        "ideal",
        ("capabilities.neuron.leak=false", 'sync=["free"]'),
        "free",
        UnsupportedLayer,
        r"bad .*do not leak.*value 0.5, limit 1; train with decay 1",
    ),
    "synaptic current in free": (
        lambda: with_zero(decay_current=0.5),
        plain,
        "ideal",
        (),
        "free",
        UnsupportedLayer,
        r"bad.*no meaning in the free discipline; use",
    ),
    "more cores than there are": (
        lambda: chain(5, 300),
        lambda: chain(3, 100),
        "tiny",
        ("memory.bytes=100000",),
        None,
        DoesNotFit,
        r"needs \d+ cores, tiny has 4 \(memory.cores\); use a larger chip \(--set noc.width=\d+ --set noc.height=\d+ --set memory.cores=\d+\)",
    ),
    "a neuron too large for a core": (
        lambda: chain(1, 300),
        lambda: chain(1, 20),
        "tiny",
        ("memory.bytes=256",),
        None,
        DoesNotFit,
        r"population layer0.lif .*needs \d+ bytes, .* has 256 .*; use",
    ),
    "axons": (
        lambda: listeners(65),
        lambda: listeners(64),
        "truenorth-like",
        (*FEW_CORES, "memory.axons=64"),
        None,
        DoesNotFit,
        r"population lif .*listens to 65 others, .*64 axons \(memory.axons\); use",
    ),
    "destinations of a neuron": (
        lambda: split_wide(2),
        lambda: split_wide(1),
        "truenorth-like",
        FEW_CORES,
        None,
        DoesNotFit,
        r"population first: a neuron sends to 2 cores, truenorth-like allows 1 \(capabilities.neuron_fan_out\); use",
    ),
    "route entries": (
        lambda: split_wide(2),
        lambda: split_wide(1),
        "truenorth-like",
        (*FEW_CORES, "memory.route_entries=1", "capabilities.neuron_fan_out=9"),
        None,
        DoesNotFit,
        r"needs 2 route entries, truenorth-like has 1 \(memory.route_entries\).*; use",
    ),
}
