from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurosim.baselines.measure import measure, read_record, shipped_records
from neurosim.baselines.meters import FakeMeter, RaplMeter, TimeOnly
from neurosim.errors import DataError
from neurosim.golden import run_network
from neurosim.network import Network

RNG = np.random.default_rng(3)


def everything(steps: int, recurrent: bool = False) -> Network:
    """A small network with every op that can be measured."""
    net = Network("everything", steps=steps)
    x = net.input("image", (2, 8, 8), mean=[10.0, 20.0], std=[100.0, 50.0], scale=1.0)
    x = net.batch_norm("bn", net.conv2d("conv", x, RNG.normal(size=(4, 2, 3, 3)), RNG.normal(size=4), padding=1), *RNG.uniform(0.5, 1.5, (4, 4)))
    x = net.max_pool("pool", net.lif("lif1", x, max_spikes=3, reset="subtract"), 2)
    mixed = net.lif("mixed", net.token_mix("mix", x, RNG.normal(size=(2, 16, 16))), decay=0.75, reset="subtract", strict=True, floor=-1.0)
    if recurrent:
        net.connect("mixed", "mixed", 1)
    late = net.delay("late", mixed, 1)
    y = net.lif("attn", net.attention("product", x, mixed, late, heads=2, scale=0.125), threshold=0.5, decay_current=0.5)
    mask = net.lif("mask", net.conv2d("score", mixed, np.ones((1, 4, 1, 1))), decay=1.0, reset="subtract", reset_by=0.0, threshold=9.0)
    y = net.add("sum", net.gate("gate", y, mask, inverted=True), x, net.scale("scaled", mixed, [0.5, 1.0, 1.5, 2.0]))
    y = net.gate("latch", net.lif("lif2", y), net.conv2d("count", y, np.ones((2, 2, 1, 1)), groups=2), count=9, latched=True)
    y = net.concat("concat", net.avg_pool("avg", y, 2), net.sum_pool("sum pool", y, 2))
    y = net.concat("both", net.mean("mean", y), net.reshape("flat", y, (32, 1, 1)))
    net.output(net.linear("head", y, RNG.normal(size=(3, 40)), RNG.normal(size=3)))
    return net


@pytest.mark.torch
@pytest.mark.parametrize(("steps", "recurrent"), [(1, False), (3, False), (3, True)])
def test_the_dense_module_is_the_network(steps: int, recurrent: bool) -> None:
    import torch

    from neurosim.baselines.torch_network import TorchNetwork

    net = everything(steps, recurrent)
    images = RNG.integers(0, 256, (5, 2, 8, 8)).astype(np.uint8)
    with torch.no_grad():
        found = TorchNetwork(net).double()(torch.from_numpy(images).double()).numpy()
    np.testing.assert_allclose(found, run_network(net, images).scores, atol=1e-9)


@pytest.mark.torch
def test_an_integrator_gives_its_last_membrane_and_an_ann_has_one_step() -> None:
    import torch

    from neurosim.baselines.torch_network import TorchNetwork, example_input

    net = Network("li", steps=4)
    x = net.lif("lif", net.flatten("flat", net.spikes_input("in", (2, 3, 3))))
    net.output(net.li("out", net.linear("fc", x, RNG.normal(size=(3, 18))), decay=0.5, bias=[0.1, 0.2, 0.3]))
    events = example_input(net, 3, rate=0.5)
    with torch.no_grad():
        found = TorchNetwork(net).double()(events.double()).numpy()
        ann = TorchNetwork(net, ann=True)
        assert ann.steps == 1
        assert ann.double()(events[:, :1].double()).shape == (3, 3)
    np.testing.assert_allclose(found, run_network(net, events.numpy().astype(np.uint8)).scores, atol=1e-9)


class Clock:
    """Advances with every look, as if an inference took a while."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.torch
def test_energy_is_that_of_the_meter_idle_apart(tmp_path: Path) -> None:
    clock = Clock()
    meter = FakeMeter(clock, watts=50.0, busy_watts=0.0)
    record = measure(everything(2), "cpu", (1, 4), precision="fp32", seconds=1.0, meter=meter, clock=clock, sleep=clock.sleep)
    assert record.idle_w == pytest.approx(50.0, rel=0.05)
    for point in record.points:
        assert point.window_s >= 1.0
        assert point.energy_gross_fj == pytest.approx(50.0 * point.window_s / (point.repeats * point.batch) * 1e15, rel=0.05)
        assert abs(point.energy_dynamic_fj or 0.0) < 0.05 * (point.energy_gross_fj or 0.0)
        assert point.throughput_per_s == pytest.approx(point.batch / (point.latency_ps * 1e-12))
    record.save(tmp_path / "r.json")
    assert read_record(tmp_path / "r.json") == record
    assert record.best.energy_gross_fj == min(p.energy_gross_fj or 0.0 for p in record.points)


@pytest.mark.torch
def test_the_command_writes_a_record(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from neurosim.cli.main import app

    everything(1).save(tmp_path / "net.nsnet")
    args = ["baseline", "measure", str(tmp_path / "net.nsnet"), "--device", "cpu", "--precision", "fp32", "--seconds", "0.2", "--batch", "2"]
    printed = json.loads(CliRunner().invoke(app, [*args, "--json", "-o", str(tmp_path / "record.json")]).stdout)
    assert printed["points"][0]["batch"] == 2
    assert read_record(tmp_path / "record.json").network == "everything"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cuda:77"}, "'cuda:77' does not exist on this machine"),
        ({"device": "quantum"}, "'quantum' is not known"),
        ({"precision": "int3"}, "'int3' is not known; there are fp32"),
        ({"precision": "tf32"}, "tf32 belongs to NVIDIA GPUs"),
        ({"batches": (0,)}, r"batches \[0\]"),
        ({"seconds": 0.0}, "window of 0.0 s"),
    ],
)
def test_mistakes(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        measure(everything(1), **{"device": "cpu", "precision": "fp32", **change})  # type: ignore[arg-type]  # wrong on purpose


def test_records_and_meters(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    for text, message in (("{", "no JSON"), ("{}", "no neurosim-baseline"), ('{"format": "neurosim-baseline", "version": 1}', "is broken")):
        broken.write_text(text)
        with pytest.raises(DataError, match=message):
            read_record(broken)
    with pytest.raises(DataError, match="No such file"):
        read_record(tmp_path / "none.json")
    assert all(record.points for record in shipped_records())
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("999999")
    (package / "energy_uj").write_text("900000")
    meter = RaplMeter(tmp_path)
    (package / "energy_uj").write_text("100000")  # wrapped around
    assert meter.joules() == pytest.approx(0.2)
    with pytest.raises(DataError, match="no RAPL counter"):
        RaplMeter(tmp_path / "elsewhere")
    assert TimeOnly().joules() != TimeOnly().joules()  # not a number
