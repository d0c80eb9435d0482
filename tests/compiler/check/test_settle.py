"""What sync settle refuses, and the proof that its sums cannot leave their words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurosim import api
from neurosim.chip import Chip, load_chip, presets
from neurosim.compiler.audit.bounds import check_overflow
from neurosim.compiler.audit.limits import core_bits
from neurosim.compiler.check import refuse, refuse_settle_sums
from neurosim.compiler.emit import assemble, deadlock_warnings
from neurosim.compiler.quantize import most_events
from neurosim.errors import AuditError, ChipError, ModelError, UnsupportedLayer
from neurosim.graph import Dense, Graph, NeuronRule, Population, Projection, SumPool
from tests.cli.conftest import small_network
from tests.compiler.graphs import chip_of


def _rule(**more: object) -> NeuronRule:
    values: dict[str, object] = {"threshold": np.full((1, 1, 1), 5), "bias": np.zeros((1, 1, 1), np.int64), **more}
    return NeuronRule(**values)  # type: ignore[arg-type]


def _graph(weights: tuple[int, ...] = (3,), *, steps: int = 1, delay: int = 0, loop: bool = False, **rule: object) -> Graph:
    """One input neuron and parallel projections into one neuron "a", then a readout."""
    populations = (
        Population("in", (1, 1, 1), "input"),
        Population("a", (1, 1, 1), "spiking", _rule(**rule)),
        Population("out", (2, 1, 1), "readout"),
    )
    into = [Projection("in", "a", SumPool(np.array([w])), delay=delay) for w in weights]
    if loop:
        into.append(Projection("a", "a", SumPool(np.array([1])), delay=1))
    return Graph("drawn", steps, populations, (*into, Projection("a", "out", Dense(np.array([[1], [2]]), (2, 1, 1)))))


SETTLE = chip_of(64, 1 << 16, 2, "link", 'sync=["settle"]')
ANY = load_chip("tiny")
BOTH = chip_of(64, 1 << 16, 2, "link", 'sync=["settle","wavefront"]')


@pytest.mark.parametrize(
    ("graph", "chip", "message"),
    [
        (_graph(steps=4), BOTH, r"a \(lif\): .*value 4 steps, limit 1 step; use sync wavefront, or a model of one step"),
        (_graph(steps=4), SETTLE, r"use a chip with sync wavefront, or a model of one step"),
        (_graph(delay=2), BOTH, r"a \(delay\): .*in -> a.*value 2, limit 0; use sync wavefront, or leave out the delay"),
        (_graph(loop=True), BOTH, r"without cycles, here a -> a; use sync wavefront, or unroll it"),
    ],
)
def test_what_needs_steps_is_refused_with_the_way_out(graph: Graph, chip: Chip, message: str) -> None:
    with pytest.raises(UnsupportedLayer, match=message):
        refuse(graph, chip, "settle")


def test_a_full_axon_out_cannot_drop_and_chips_without_settle_say_so() -> None:
    with pytest.raises(ChipError, match=r"noc\.axon_out_overflow drop never acts in sync settle.*set it to stall"):
        refuse(_graph(), load_chip(BOTH, ["noc.axon_out_overflow=drop"]), "settle")
    assert "never made up for" in refuse(_graph(), load_chip(BOTH, ["noc.overflow=drop"]), "settle")[0]
    with pytest.raises(ChipError, match="sync settle is not offered by loihi1-like, which has barrier, wavefront"):
        api.build(small_network(steps=1), "loihi1-like", "settle")
    assert {name for name in presets() if "settle" in load_chip(name).sync} == {"async-mesh", "async-mesh-plus", "ideal", "tiny"}


def test_a_rest_belongs_to_settle() -> None:
    with pytest.raises(ModelError, match="rest 'none' belongs to sync settle, this is wavefront"):
        api.build(small_network(steps=1), ANY, "wavefront", rest="none")
    program = api.build(small_network(steps=1), ANY, "settle", rest="none")
    assert program.meta["rest"]["kind"] == "none"


@pytest.mark.parametrize(
    ("weights", "rule", "fits", "beyond"),
    [
        ((100, 27), {}, 0, 1),  # 127 is what 8 bits hold
        ((-100, -28), {}, 0, -1),
        ((100, -100, 27), {}, 0, 1),  # parallel projections are not merged: +100 may come before -100
        ((-20,), {}, -108, -109),
        ((20,), {}, 107, 108),
        ((20,), {"v_init": np.full((1, 1, 1), 7), "decay": 2048}, 104, 105),  # half of 7, rounded down, is 3
    ],
)
def test_start_and_all_of_one_sign_must_fit_the_accumulator(weights: tuple[int, ...], rule: dict[str, object], fits: int, beyond: int) -> None:
    chip = load_chip(BOTH, ["arithmetic.acc_bits=8"])
    for bias, refused in ((fits, False), (beyond, True)):
        graph = _graph(weights, bias=np.full((1, 1, 1), bias), **rule)
        program = assemble(graph, chip, "settle", rest="none")
        if refused:
            with pytest.raises(
                UnsupportedLayer, match=r"a \(lif\): tiny: in sync settle its membranes must fit arithmetic.acc_bits.*limit 127; raise"
            ):
                refuse_settle_sums(graph, chip)
            with pytest.raises(AuditError, match="a membrane of population a can reach 128, 8 bits hold 127"):
                check_overflow(program, graph)
        else:
            refuse_settle_sums(graph, chip)
            check_overflow(program, graph)


def test_counted_events_have_room_beside_the_bias() -> None:
    chip, graph = load_chip(BOTH, ["arithmetic.acc_bits=8"]), _graph((20,), bias=np.full((1, 1, 1), 40))
    assert (most_events(graph, chip), most_events(graph, chip, sync="settle")) == (6, 4)


def test_a_synaptic_current_that_could_clip_on_its_own_is_refused() -> None:
    """In steps the current of 200 is clipped to 127 and with a bias of -100 the neuron is silent; in settle 100 would reach the threshold of 50."""
    chip = load_chip(BOTH, ["arithmetic.state_bits=8", "arithmetic.acc_bits=16", "capabilities.neuron.current=true"])
    more = {"bias": np.full((1, 1, 1), -100), "threshold": np.full((1, 1, 1), 50), "decay_current": 2048}
    with pytest.raises(UnsupportedLayer, match=r"synaptic current \(CUBA\).*value 200, limit 127"):
        refuse_settle_sums(_graph((100, 100), **more), chip)
    refuse_settle_sums(_graph((100, 27), **more), chip)


def _memory(*more: str) -> int:
    """Bits of "a" on a core with room for 64 neurons: state, outputs, due list, parameters, one weight, one route."""
    chip = load_chip(SETTLE, ["arithmetic.acc_bits=20", *more])
    program = assemble(_graph(), chip, "settle", rest="none")
    core = int(program.slice_core[0])
    bits = core_bits(program, core)
    assert program.meta["memory"][0]["bytes"] == (bits + 7) // 8
    return bits


def test_a_core_holds_membrane_output_and_their_copy_a_due_bit_and_its_place_in_the_list() -> None:
    others = 2 * 16 + 8 + 64  # threshold and bias, the weight, the route
    assert _memory() == 2 * (20 + 8) + 1 + 6 + others
    assert _memory("timing.settle=10 ns") == _memory() + 32


def test_quantising_does_not_depend_on_the_discipline_and_nothing_can_deadlock() -> None:
    found = {sync: api.compile_model(small_network(steps=1), ANY, sync) for sync in ("wavefront", "settle")}
    weights = [[np.asarray(p.map.weight).tolist() for p in c.integer.projections] for c in found.values()]
    assert weights[0] == weights[1]
    program = replace(found["settle"].program, chip=load_chip(ANY, ["noc.flow=end_to_end"]))
    assert deadlock_warnings(found["settle"].program) == deadlock_warnings(program) == []
