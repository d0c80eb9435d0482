"""Networks with max-pools, gates, attention and several spikes per step that chips refuse, twins that run, and flags that lead to acceptance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neurosim.network import Network
from tests.compiler.check.refusal_cases import FEW_CORES, SPECK, Numeric, Refusal, conv, dense, lif, net, ones, with_lif

PLUS = "async-mesh-plus"
Build = Callable[[Network, str], str]


def pool(kernel: int, name: str = "bad", **options: int) -> Build:
    return lambda n, x: n.max_pool(name, x, kernel, **options)


def spikes_pooled(kernel: int, size: int, steps: int = 2, **options: int) -> Network:
    """Max-pool behind a lif: of spikes."""
    return net((1, size, size), conv("c", 1, 1, 1, 1), lif("l"), pool(kernel, **options), dense("fc", 2), steps=steps)


def currents_pooled(kernel: int, size: int, steps: int = 2, **options: int) -> Network:
    """Max-pool before a lif: of what it receives."""
    half: Build = lambda n, x: n.conv2d("c", x, 0.5 * ones(1, 1, 1, 1))  # noqa: E731  # so that they are no counts of spikes
    return net((1, size, size), half, pool(kernel, **options), lif("l"), dense("fc", 2), steps=steps)


def sums_pooled() -> Network:
    """Max-pool of a sum of two spike layers, which no or_pool is."""
    result = Network("sums", steps=2)
    x = result.spikes_input("in", (1, 2, 2))
    both = result.add("sum", *(lif(f"l{k}")(result, conv(f"c{k}", 1, 1, 1, 1)(result, x)) for k in range(2)))
    result.output(dense("fc", 2)(result, pool(2)(result, both)))
    return result


def summed(size: int) -> Network:
    """Nothing but conv, sum-pool and dense layers."""
    return net((1, size, size), conv("c", 1, 1, 1, 1), lif("l"), lambda n, x: n.sum_pool("pool", x, 2), dense("fc", 2))


def ungated() -> Network:
    """Two layers added, without gate or product."""
    result = Network("ungated", steps=2)
    x = result.spikes_input("in", (2, 2, 2))
    both = [result.lif(f"l{k}", conv(f"c{k}", 2, 2, 1, 1)(result, x), decay=1.0) for k in range(2)]
    result.output(result.linear("fc", result.flatten("flat", result.add("sum", *both)), ones(2, 8)))
    return result


def too_large(size: int) -> Network:
    """A layer of 32 x size x size neurons."""
    return net((1, size, size), conv("c", 32, 1, 1, 1), lif("bad"), conv("d", 1, 32, 8, 8, stride=8), lif("m"), dense("fc", 2))


def gated(count: int = 1, sources: int = 1, steps: int = 2, weight: int = 1, **options: bool) -> Network:
    """``sources`` layers added pass a gate per pixel whose mask is a layer of its own."""
    result = Network("gated", steps=steps)
    x = result.spikes_input("in", (2, 2, 2))
    data = [lif(f"data{k}")(result, conv(f"c{k}", 2, 2, 1, 1)(result, x)) for k in range(sources)]
    mask = lif("mask")(result, conv("cm", 1, 2, 1, 1)(result, x))
    mask = mask if weight == 1 else result.scale("times", mask, float(weight))
    joined = result.add("sum", *data) if sources > 1 else data[0]
    result.output(dense("fc", 2)(result, result.gate("bad", joined, mask, count=count, **options)))
    return result


def attending(channels: int, size: int = 2, scale: float = 1.0, heads: int = 1, most: int = 1) -> Network:
    """q, k and v of so many channels over size x size tokens; ``most``: what each k can add up to, as most - 1 of one spike and 1 of another."""
    result = Network("attending", steps=2)
    x = result.spikes_input("in", (1, size, size))
    q, k, v = (lif(name)(result, conv(f"c{name}", channels, 1, 1, 1)(result, x)) for name in "qkv")
    k = result.add("sum", result.scale("times", k, float(most - 1)), v) if most > 1 else k
    result.output(dense("fc", 2)(result, lif("l")(result, result.attention("bad", q, k, v, heads=heads, scale=scale))))
    return result


def multi(n: int) -> Network:
    return with_lif(max_spikes=n)


NUMERIC_OPS = {
    "spikes per step": Numeric("capabilities.neuron.max_spikes", multi, "bad", 3, PLUS),
    "spikes that a gate passes": Numeric("capabilities.neuron.max_spikes", lambda n: gated(sources=n), "bad", 2, PLUS),
    "kernel of or_pool": Numeric("capabilities.ops.or_pool.kernel", lambda n: spikes_pooled(n, n, stride=1), "bad", 3, PLUS),
    "padding of or_pool": Numeric(
        "capabilities.ops.or_pool.padding", lambda n: spikes_pooled(8, 8, stride=1, padding=n), "bad", 1, PLUS,
        overrides=("capabilities.ops.or_pool.padding=2",),
    ),
    "kernel of max_pool": Numeric("capabilities.ops.max_pool.kernel", lambda n: currents_pooled(n, n, stride=1), "bad", 3, PLUS),
    "padding of max_pool": Numeric(
        "capabilities.ops.max_pool.padding", lambda n: currents_pooled(8, 8, stride=1, padding=n), "bad", 1, PLUS,
        overrides=("capabilities.ops.max_pool.padding=3",),
    ),
    "channels of coincidence": Numeric(
        "capabilities.ops.coincidence.channels", attending, "bad", 2, PLUS, overrides=("capabilities.ops.coincidence.channels=8",)
    ),
}  # fmt: skip

LEAKLESS = ("capabilities.neuron.leak=false",)
OP_CASES = {
    "max-pool of spikes": Refusal(
        lambda: spikes_pooled(2, 4), "bad", "or_pool", "conv2d, pooled_conv2d, dense, sum_pool, identity, token_mix", lambda: summed(4), "async-mesh"
    ),
    "max-pool of currents": Refusal(lambda: currents_pooled(2, 4), "bad", "max_pool", None, lambda: summed(4), "async-mesh"),
    "max-pool of sums of spikes": Refusal(sums_pooled, "bad", "max_pool", None, lambda: summed(4), "async-mesh"),
    "max-pool where neurons cannot forget": Refusal(lambda: spikes_pooled(2, 4), "bad", "or_pool", None, lambda: summed(4)),
    "gate": Refusal(gated, "bad", "gate", None, ungated, "async-mesh"),
    "gate where neurons cannot forget": Refusal(gated, "bad", "gate", None, ungated, "async-mesh", LEAKLESS),
    "attention": Refusal(lambda: attending(2), "bad", "coincidence", None, ungated, "async-mesh"),
    "attention of Loihi 2": Refusal(lambda: attending(2), "bad", "coincidence", None, ungated, "loihi2-like", FEW_CORES),
    "stride of or_pool": Refusal(lambda: spikes_pooled(3, 9), "bad", 3, (1, 2, 4, 8), lambda: spikes_pooled(3, 9, stride=4), PLUS),
    "stride of or_pool that another chip lacks": Refusal(
        lambda: spikes_pooled(2, 4), "bad", 2, (1,), lambda: spikes_pooled(2, 4, stride=1), PLUS, ("capabilities.ops.or_pool.stride=[1]",)
    ),
    "stride of max_pool": Refusal(lambda: currents_pooled(3, 9), "bad", 3, (1, 2, 4, 8), lambda: currents_pooled(3, 9, stride=8), PLUS),
    "several spikes per step": Refusal(lambda: with_lif(max_spikes=2), "bad", 2, 1, lambda: with_lif(max_spikes=1), "async-mesh"),
    "sums through a max-pool": Refusal(sums_pooled, "bad", 2, 1, lambda: spikes_pooled(2, 2), PLUS, ("capabilities.neuron.max_spikes=1",)),
    "spikes of a sum in a register": Refusal(
        lambda: attending(1, most=256), "bad", 256, 255, lambda: attending(1, most=255), PLUS, ("arithmetic.weight_bits=12",)
    ),
    "whole weights of a mask": Refusal(
        lambda: gated(weight=8, count=8), "bad", 8, 7, lambda: gated(weight=7, count=7), PLUS, ("arithmetic.weight_bits=4",)
    ),
    "sums of a latched mask": Refusal(
        lambda: gated(weight=64, count=64, latched=True), "bad", 128, 127, lambda: gated(weight=63, count=63, latched=True), PLUS,
        ("arithmetic.acc_bits=8",),
    ),
    "coincidences in a bank": Refusal(lambda: attending(8, 2), "bad", 32, 31, lambda: attending(7, 2), PLUS, ("arithmetic.acc_bits=6",)),
    "threshold beside coincidences": Refusal(
        lambda: attending(2, scale=1 / 128), "bad", "128", 127, lambda: attending(2, scale=1 / 127), PLUS, ("arithmetic.state_bits=8",)
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Flagged:
    """A network that ``chip`` refuses at ``layer`` with a remedy that names ``flag``, with which it compiles and runs."""

    build: Callable[[], Network]
    layer: str
    flag: str
    chip: str = "async-mesh"
    overrides: tuple[str, ...] = ()


FLAGGED = {
    "max-pool of spikes": Flagged(lambda: spikes_pooled(2, 4), "bad", "--rewrite maxpool=or_pool"),
    "max-pool of spikes that overlaps": Flagged(lambda: spikes_pooled(3, 5, stride=2, padding=1), "bad", "--rewrite maxpool=or_pool"),
    "max-pool of currents in one step": Flagged(lambda: currents_pooled(2, 4, steps=1), "bad", "--rewrite maxpool=or_pool"),
    "max-pool of a free-running chip": Flagged(lambda: spikes_pooled(2, 4, steps=1), "bad", "--rewrite maxpool=or_pool", SPECK),
    "gate": Flagged(gated, "bad", "--rewrite gate=neurons"),
    "gate that counts": Flagged(lambda: gated(count=2, weight=2), "bad", "--rewrite gate=neurons"),
    "gate of a sum": Flagged(lambda: gated(sources=3), "bad", "--rewrite gate=neurons"),
    "inverted gate": Flagged(lambda: gated(inverted=True), "bad", "--rewrite gate=neurons"),
    "latched gate": Flagged(lambda: gated(steps=4, latched=True, count=2), "bad", "--rewrite gate=neurons"),
    "inverted latched gate": Flagged(lambda: gated(steps=4, latched=True, inverted=True, count=2), "bad", "--rewrite gate=neurons"),
    "layer too large for any core": Flagged(lambda: too_large(8), "bad", "--split channels", SPECK, ("memory.neuron_words=1024",)),
}
