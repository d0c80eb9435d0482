from __future__ import annotations

import pytest

from neurosim.baselines import Op, Workload, best_batch, devices, infer, load_device, precisions, workload_of
from neurosim.errors import DataError
from neurosim.network import Network

SMALL = Workload("small", 3, (Op("in", "input", outputs=100), Op("fc", "linear", macs=5000, weights=5000, inputs=100, outputs=50)))


def test_terms_of_a_small_network_by_hand() -> None:
    e = infer(load_device("h200"), SMALL)
    assert e.bound == "launch"
    assert e.latency_ps == pytest.approx(1.8e6)
    assert e.parts_fj["idle"] == pytest.approx(77.0 * 1.8e-6 * 1e15)
    assert e.parts_fj["flop"] == pytest.approx(110 * 2 * 5000 * 3)
    assert e.parts_fj["l2"] == pytest.approx(4710 * 16 * (5000 + 3 * 150))
    assert e.parts_fj["memory"] == pytest.approx(13110 * 16 * 100)  # weights stay in the L2, the input comes once
    assert e.energy_gross_fj == pytest.approx(sum(e.parts_fj.values()))
    assert e.energy_dynamic_fj == pytest.approx(e.energy_gross_fj - e.parts_fj["idle"])


def test_a_large_batch_shares_weights_and_launches_and_is_then_bound_by_arithmetic() -> None:
    gpu = load_device("h200")
    one, many = infer(gpu, SMALL, 1), infer(gpu, SMALL, 1000)
    assert many.parts_fj["idle"] == pytest.approx(one.parts_fj["idle"] / 1000)
    assert one.parts_fj["l2"] - many.parts_fj["l2"] == pytest.approx(4710 * 16 * 5000 * 0.999)
    heavy = Workload("heavy", 1, (Op("fc", "linear", macs=10**12, weights=10**6, inputs=1000, outputs=1000),))
    e = infer(gpu, heavy)
    assert e.bound == "compute"
    assert e.latency_ps == pytest.approx(2e12 / 989e12 * 1e12)


def test_weights_beyond_the_l2_come_from_memory() -> None:
    wide = Workload("wide", 4, (Op("fc", "linear", macs=10**8, weights=10**8, inputs=10**4, outputs=10**4),))
    e = infer(load_device("h200"), wide)
    assert e.bound == "memory"
    assert e.latency_ps == pytest.approx(2e8 / 4.8e12 * 1e12)  # once for all four steps
    assert e.parts_fj["memory"] == pytest.approx(13110 * 8 * 2e8)


def test_best_batch_is_the_least_of_all_that_fit() -> None:
    gpu = load_device("orin-nano")
    best = best_batch(gpu, SMALL)
    assert best.energy_gross_fj == min(infer(gpu, SMALL, 1 << k).energy_gross_fj for k in range(13))
    huge = Workload("huge", 1, (Op("c", "conv2d", macs=10**9, weights=1000, inputs=10**8, outputs=10**8),))
    assert best_batch(gpu, huge).batch <= 8e9 / (2 * 2e8)
    with pytest.raises(DataError, match=r"batch 4096 .* needs more than the 8 GB"):
        infer(gpu, huge, 4096)


@pytest.mark.parametrize(("name", "precision"), [(name, precision) for name in devices() for precision in precisions(name)])
def test_every_constant_lies_in_its_range_and_the_ends_enclose_the_estimate(name: str, precision: str) -> None:
    gpu = load_device(name, precision)
    for constant in gpu.constants.values():
        assert 0 < constant.low <= constant.value <= constant.high
        assert constant.source
        assert constant.status in ("published", "fitted", "assumed")
    cheap, middle, dear = (infer(g, SMALL).energy_gross_fj for g in (gpu.at("cheap"), gpu, gpu.at("dear")))
    assert cheap <= middle <= dear
    assert cheap < dear


def test_workload_of_a_network_counts_macs_weights_and_kernels() -> None:
    net = Network("n", steps=2)
    x = net.input("in", (3, 8, 8))
    x = net.conv2d("conv", x, [[[[1.0] * 3] * 3] * 3] * 5, padding=1)
    x = net.batch_norm("bn", x, [1.0] * 5, [0.0] * 5, [0.0] * 5, [1.0] * 5)
    x = net.lif("lif", x)
    x = net.add("sum", x, x)
    x = net.mean("mean", x)
    net.output(net.linear("head", x, [[1.0] * 5] * 10, [0.0] * 10))
    work = workload_of(net)
    assert work.macs == 5 * 64 * 27 + 2 * 50  # the convolution of a static image once, the head in both steps
    assert work.weights == 5 * 27 + 50 + 10
    assert [op.layer for op in work.ops if op.kernels] == ["conv", "lif", "mean", "head"]
    assert sum(op.flop for op in work.ops) == 2 * (5 * 64 * 27 + 50) + 4 * 320 + 640 + 320


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match="'h300' does not exist; there are a100, epyc-7763, h200"):
        load_device("h300")
    with pytest.raises(DataError, match="no figures for tf32; there are fp16, fp32"):
        load_device("orin-nano", "tf32")
    with pytest.raises(DataError, match="batch 0"):
        infer(load_device("h200"), SMALL, 0)
    with pytest.raises(DataError, match=r"row .* is not"):
        Workload.from_rows("n", 1, [{"layer": "a"}])
    with pytest.raises(DataError, match="no multiply-accumulates"):
        Workload.from_rows("n", 1, [])


def test_workload_of_attention_gates_and_pools() -> None:
    net = Network("n", steps=3)
    x = net.lif("q", net.spikes_input("in", (4, 2, 2)))
    y = net.lif("attn", net.attention("product", x, x, x, heads=2))
    y = net.gate("gate", y, net.lif("mask", net.sparse("sum", x, range(17), [k // 4 % 4 for k in range(16)], [1.0] * 16, (1, 2, 2))))
    net.output(net.mean("mean", net.max_pool("pool", y, 2)))
    work = workload_of(net)
    product = next(op for op in work.ops if op.layer == "product")
    assert product.macs == 2 * 16 * 2  # k v^T and its product with q: tokens x d x d per head, twice
    assert product.flop == 2 * product.macs
    assert {op.layer for op in work.ops if not op.kernels} == {"in", "sum"}
