"""Networks whose pixels are arranged anew compute what they computed, value for value, without reshapes between neurons and maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neurosim.golden import run_network
from neurosim.network import Network
from neurosim.network.geometry import keep_maps


def head(net: Network, x: str) -> Network:
    net.output(net.linear("head", net.mean("mean", x), np.random.default_rng(9).normal(size=(3, net.shape(x)[0]))))
    return net


def same(make: Callable[[], Network]) -> Network:
    """The network arranged anew, which must compute what the one as written does."""
    plain, net = make(), make()
    keep_maps(net)
    data = np.random.default_rng(1).integers(0, 2, (5, plain.steps, *plain.input_contract.shape))
    wanted, found = run_network(plain, data), run_network(net, data)
    assert list(wanted.spikes) == list(found.spikes)
    for name, spikes in wanted.spikes.items():
        assert spikes.any(), name
        np.testing.assert_array_equal(found.spikes[name].reshape(spikes.shape), spikes, err_msg=name)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-12)
    return net


def reshapes(net: Network) -> list[str]:
    return [layer.name for layer in net.layers.values() if layer.op == "reshape"]


def flattened(kernel: int, dilation: int, groups: int, height: int, width: int) -> Network:
    """Map, neurons, tokens, a convolution along them, neurons with thresholds of their own, map."""
    rng, n = np.random.default_rng(0), height * width
    net = Network("flattened", 2)
    x = net.lif("first", net.conv2d("in", net.spikes_input("events", (4, height, width)), rng.normal(size=(4, 4, 3, 3)), padding=1))
    x = net.conv2d("along", net.reshape("tokens", x, (4, n, 1)), rng.normal(size=(4, 4 // groups, kernel, 1)), rng.normal(size=4),
                   padding=(dilation * (kernel // 2), 0), dilation=(dilation, 1), groups=groups)  # fmt: skip
    x = net.lif("second", x, threshold=rng.uniform(0.5, 1.0, (4, n, 1)))
    x = net.conv2d("out", net.reshape("map", x, (4, height, width)), rng.normal(size=(4, 4, 3, 3)), padding=1)
    return head(net, net.lif("third", x))


@pytest.mark.parametrize("case", [
    (1, 1, 1, 4, 6), (3, 1, 1, 4, 6), (5, 1, 2, 5, 3), (3, 4, 1, 5, 3), (7, 2, 1, 4, 4), (3, 2, 4, 6, 2), (5, 3, 1, 1, 9), (3, 1, 1, 6, 1),
])  # fmt: skip
def test_convolutions_along_the_tokens_become_convolutions_of_the_map(case: tuple[int, ...]) -> None:
    kernel, _, _, height, width = case
    net = same(lambda: flattened(*case))
    assert net.shape("second") == (4, height, width)
    assert not reshapes(net)
    assert net.layers["along"].op == ("add" if kernel > 1 and width > 1 else "conv2d")


def test_what_keeps_pixels_apart_follows_the_map() -> None:
    def make() -> Network:
        rng = np.random.default_rng(0)
        net = Network("tokens", 3)
        x = net.spikes_input("events", (4, 4, 6))
        short, main = (net.conv2d(f"conv{k}", x, rng.normal(size=(4, 4, 3, 3)), stride=2, padding=1) for k in range(2))
        joined = net.concat("joined", *(net.reshape(f"{y}.tokens", y, (4, 6, 1)) for y in (short, main)))
        normed = net.batch_norm("bn", net.scale("bias", joined, 1.0, rng.normal(size=(8, 6, 1))), *rng.uniform(0.5, 1.0, (4, 8)))
        a = net.lif("a", normed)
        b = net.lif("b", net.token_mix("mix", a, rng.normal(size=(2, 6, 6))), floor=-rng.uniform(size=(8, 6, 1)))
        mask = net.lif("mask", net.conv2d("sum", a, np.ones((2, 4, 1, 1)), groups=2), threshold=2.0)
        gated = net.gate("gated", b, mask)
        c = net.lif("c", net.attention("attention", a, b, gated, heads=2, scale=0.5))
        d = net.lif("d", net.sparse("sparse", c, np.arange(49), np.arange(48)[::-1], np.ones(48), (8, 6, 1), rng.uniform(size=(8, 6, 1))))
        net.connect("d", "b", 2)
        pooled = net.reshape("spread", net.sum_pool("pool", d, (6, 1)), (8, 1, 1))
        e = net.lif("e", net.conv2d("last", net.reshape("map", net.add("both", c, d), (8, 2, 3)), rng.normal(size=(4, 8, 2, 2))))
        net.output(net.add("scores", net.linear("one", pooled, rng.normal(size=(3, 8))),
                           net.linear("two", net.mean("mean", e), rng.normal(size=(3, 4)))))  # fmt: skip
        return net

    net = same(make)
    assert not reshapes(net)
    assert {net.shape(name)[1:] for name in ("joined", "a", "b", "mask", "gated", "c", "d")} == {(2, 3)}
    assert net.connections == [("d", "b", 2)]


def test_where_neighbours_ask_for_two_arrangements_a_reshape_stays() -> None:
    def make() -> Network:
        rng = np.random.default_rng(0)
        net = Network("two", 1)
        a = net.lif("a", net.conv2d("map", net.spikes_input("events", (3, 4, 4)), rng.normal(size=(3, 3, 3, 3)), padding=1))
        b = net.lif("b", net.conv2d("row", net.reshape("tokens", a, (3, 16, 1)), rng.normal(size=(3, 3, 4, 1)), stride=(4, 1)))
        c = net.lif("c", net.conv2d("again", net.reshape("square", b, (3, 2, 2)), rng.normal(size=(3, 3, 2, 2))))
        return head(net, c)

    net = same(make)
    assert (net.shape("a"), net.shape("b")) == ((3, 4, 4), (3, 2, 2))
    assert len(reshapes(net)) == 2  # before and behind the convolution that strides along the tokens


def test_layers_of_other_ops_keep_the_shapes_that_they_were_given() -> None:
    net = Network("foreign", 1)
    x = net.lif("a", net.conv2d("conv", net.spikes_input("events", (2, 4, 4)), np.ones((2, 2, 1, 1))))
    left, right = net.reshape("left", x, (2, 16, 1)), net.reshape("right", x, (2, 1, 16))
    product = net.op("product", "matmul", left, right, shape=(2, 16, 16))
    net.output(net.linear("head", net.mean("mean", product), np.ones((3, 2))))
    keep_maps(net)
    assert [net.shape(i) for i in net.layers["product"].inputs] == [(2, 16, 1), (2, 1, 16)]
    assert net.shape("a") == (2, 4, 4)
