from __future__ import annotations

from pathlib import Path

import pytest

from neurosim.chip import load_chip, presets
from neurosim.chip.figures import Figure
from neurosim.errors import ChipError


def test_every_preset_loads_and_every_figure_has_a_source() -> None:
    assert set(presets()) == {"async-mesh", "async-mesh-plus", "ideal", "loihi1-like", "loihi2-like", "speck2f-like", "tiny", "truenorth-like"}
    for name in presets():
        chip = load_chip(name)
        assert chip.name == name
        for table in (chip.timing, chip.prices, chip.memory, chip.capabilities):
            for key in type(table).model_fields:
                figure = getattr(table, key)
                if hasattr(figure, "source"):
                    assert len(figure.source) > 4, f"{name}: {key}"
                    assert figure.source != "set by the user", f"{name}: {key}"
                    first = figure.source.split()[0].strip(":")
                    assert not first.isupper() or first in chip.sources, f"{name}: {key}: {first} is not explained"


def test_async_mesh_keeps_to_small_cores() -> None:
    chip = load_chip("async-mesh")
    assert chip.memory.bytes.value <= 192 * 1024
    assert chip.memory.neurons.value <= 8192
    assert (chip.arithmetic.weight_bits, chip.arithmetic.state_bits, chip.noc.flow) == (8, 16, "end_to_end")


def test_speck_has_the_limits_of_the_reference_folder() -> None:
    chip = load_chip("speck2f-like")
    kernel, neurons = ([chip.memory.words_of(name, core) for core in range(9)] for name in ("kernel_words", "neuron_words"))
    assert [n // 1024 for n in kernel] == [16, 16, 16, 32, 32, 64, 64, 16, 16]  # type: ignore[operator]  # the preset gives all
    assert [n // 1024 for n in neurons] == [64, 64, 64, 32, 32, 16, 16, 16, 16]  # type: ignore[operator]
    assert sum(neurons) == 327_680  # type: ignore[arg-type]
    assert (chip.sync, chip.noc.flow, chip.noc.topology, chip.noc.routers) == (("free",), "link", "star", 1)
    assert (chip.arithmetic.weight_bits, chip.arithmetic.state_bits, chip.arithmetic.spikes_per_update) == (8, 16, 1)
    assert (chip.capabilities.neuron.leak, chip.capabilities.neuron.bias, chip.capabilities.recurrence) == (False, False, False)
    assert chip.prices.synop.status == "assumed"
    assert chip.prices.static_chip_mw.value == pytest.approx(0.0517 + 0.367 + 0.0617)


def test_loihi2_and_truenorth_have_the_limits_of_the_reference_folder() -> None:
    two = load_chip("loihi2-like")
    assert (two.memory.neurons.value, two.memory.bytes.value, two.timing.barrier[0].duration.value) == (8192, 192 * 1024, 200_000)
    assert "valued" in two.capabilities.inputs
    one = load_chip("loihi1-like")
    assert {figure.status for name in type(two.prices).model_fields if isinstance(figure := getattr(two.prices, name), Figure)} <= {
        "assumed",
        "published",
    }
    assert two.prices.synop.status == two.prices.packet.status == "assumed"
    assert one.timing.synop.value > 5 * two.timing.synop.value
    north = load_chip("truenorth-like")
    assert (north.memory.cores, north.noc.routers, north.memory.neurons.value) == (4096, 4096, 256)
    assert north.memory.axons is not None
    assert (north.memory.axons.value, north.arithmetic.weight_values, north.timing.barrier[0].duration.value) == (256, 4, 10**9)
    # 72 mW at 20 Hz, 128 synapses and 21.3 + 21.3 hops per spike
    spikes = 4096 * 256 * 20
    dynamic_mw = 1e3 * spikes * (128 * 2.5e-12 + 42.6 * 2.3e-12)
    assert north.prices.static_chip_mw.value + dynamic_mw == pytest.approx(72, abs=0.1)


def test_loihi_is_the_chip_of_the_reference_folder() -> None:
    chip = load_chip("loihi1-like")
    assert (chip.noc.routers, chip.noc.cores_per_router, chip.memory.cores, chip.memory.neurons.value) == (32, 4, 128, 1024)
    assert chip.sync == ("barrier", "wavefront")
    assert (chip.arithmetic.rounding, chip.arithmetic.visit, chip.arithmetic.weight_bits, chip.arithmetic.state_bits) == ("zero", "all", 8, 24)
    assert [(row.tiles, row.duration.value) for row in chip.timing.barrier] == [(1, 600_000), (2, 1_000_000), (4, 1_400_000), (29, 1_800_000)]
    figures = [*(getattr(chip.prices, name) for name in ("synop", "soma_access", "soma_update", "soma_fire", "packet", "hop_north_south"))]
    assert [figure.value for figure in figures] == [35_500, 51_200, 21_600, 69_300, 111_000, 4_200]
    assert {figure.status for figure in figures} == {"fitted"}


def test_override_and_base(tmp_path: Path) -> None:
    assert load_chip("tiny", ["noc.fifo=4", "timing.synop=2 ns"]).timing.synop.value == 2000
    file = tmp_path / "mine.toml"
    file.write_text('base = "tiny"\nname = "mine"\n[timing]\nsynop = "5 ns"\n')
    chip = load_chip(file)
    assert (chip.name, chip.timing.synop.value, chip.timing.synop.status, chip.noc.fifo) == ("mine", 5000, "assumed", 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("noc.fiffo=3", "unknown key noc.fiffo, did you mean fifo"),
        ("noc.fifo=0", "noc.fifo: 0 should be greater than or equal to 1"),
        ("noc.fifo=99999999999999999999", "noc.fifo: .* less than or equal to"),
        ("noc.fifo=true", "noc.fifo: should be a whole number"),
        ("noc.width=99999999", "routers, at most"),
        ("memory.neurons=-5", "memory.neurons: -5 must be a whole number of at least 1"),
        ("memory.bytes=2.5", "memory.bytes: 2.5 must be"),
        ("prices.static_core_mw=nan", "power nan"),
        ("prices.static_core_mw=-1", "power -1"),
        ("timing.synop=99999999 s", "at most 1 s"),
        ("timing.put=0", "below 1 ps"),
        ("timing.synop=soon", "time 'soon' not understood"),
        ("memory.cores=5", "memory.cores 5 > 4 routers x noc.cores_per_router 1"),
        ("noc.ports=[4]", "noc.ports 4 >= 4 routers"),
        ("noc.ports=[]", "noc.ports: .* at least 1 item"),
        ("noc.edges=[[0, 1]]", "noc.edges holds 1 links with noc.topology mesh"),
        ("noc.topology=graph", "noc.edges holds 0 links"),
        ("noc.topology=cube", "noc.topology: 'cube'"),
        ("noc.chip_width=1", "links between chips need timing.hop_chip"),
        ("memory.dead_cores=[4]", "memory.dead_cores 4 >= memory.cores 4"),
        ("memory.dead_cores=[0, 1, 2, 3]", "lists all 4 cores"),
        ("sync=[]", "sync lists no discipline"),
        ("noc.fifo", "not of the form table.key=value"),
        ("prices.synop=-1", "price -1 must lie between"),
    ],
)
def test_mistakes_in_a_chip(override: str, message: str) -> None:
    with pytest.raises(ChipError, match=message) as caught:
        load_chip("tiny", [override])
    assert "\n" not in str(caught.value)


def test_end_to_end_flow_needs_a_slot_before_a_credit() -> None:
    with pytest.raises(ChipError, match="axon_ack"):
        load_chip("async-mesh", ['timing.axon_ack="2 ns"'])


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ChipError, match="did you mean tiny"):
        load_chip("tinny")
    with pytest.raises(ChipError, match="No such file"):
        load_chip(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(ChipError, match="not valid TOML"):
        load_chip(broken)


def test_settle_may_wait_for_nothing_but_finding_out_that_all_is_quiet_takes_time() -> None:
    assert load_chip("async-mesh", ["timing.settle=0"]).timing.settle.value == 0
    assert load_chip("loihi1-like").arithmetic.settle_order == "input"  # files of before say nothing about it
    with pytest.raises(ChipError, match=r"timing\.settle: delay -1 must lie between 0 and 1 s"):
        load_chip("async-mesh", ["timing.settle=-1"])
    with pytest.raises(ChipError, match=r"timing\.quiet: duration 0 is below 1 ps"):
        load_chip("async-mesh", ["timing.quiet=0"])
    with pytest.raises(ChipError, match=r"arithmetic\.settle_order: 'lifo'"):
        load_chip("async-mesh", ["arithmetic.settle_order=lifo"])
