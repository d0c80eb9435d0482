"""Programs with extra ops: the audit passes them as compiled and catches every damage to ops, regions and cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from neurosim.compiler.audit.program import audit
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.geometry import Box
from neurosim.compiler.place.mapping import Slice
from neurosim.compiler.place.memory import MemoryModel
from neurosim.compiler.place.placement import map_graph
from neurosim.compiler.place.regions import regions_of
from neurosim.compiler.report import build_report
from neurosim.errors import AuditError, DoesNotFit, ModelError
from neurosim.graph import Graph, pass_rule
from neurosim.ops import OPERANDS
from neurosim.program import (
    E_PROJECTION,
    E_REGION,
    OP_COUNT,
    OP_HEAD,
    OP_INVERTED,
    OP_KIND,
    OP_LATCHED,
    OP_PH,
    OP_SHIFT,
    R_MAX_SPIKES,
    Program,
)
from tests.compiler.graphs import chip_of
from tests.compiler.op_graphs import OPS, op_graph

Damage = Callable[[Program], Program]
CHIP = chip_of(40, 1 << 16, flow="end_to_end")
GRAPHS = {name: op_graph(name) for name in OPS}
PROGRAMS = {name: assemble(graph, CHIP, "wavefront") for name, graph in GRAPHS.items()}


def _slice(program: Program) -> int:
    """The second slice of the op's population."""
    return int(np.flatnonzero(program.slice_population == 4)[1])


def _region(program: Program, operand: str) -> int:
    return int(np.flatnonzero((program.region_slice == _slice(program)) & (program.region_operand == OPERANDS.index(operand)))[0])


def _change(name: str, at: Callable[[Program], tuple[int, ...]], by: int) -> Damage:
    """Add to one number of one array."""

    def damage(program: Program) -> Program:
        array = getattr(program, name).copy()
        array[at(program)] += by
        return replace(program, **{name: array})

    return damage


def _op(column: int, by: int) -> Damage:
    return _change("slice_op", lambda p: (_slice(p), column), by)


def _exchange(program: Program) -> Program:
    """Entries into k fill v instead, and the other way round."""
    entry, k, v = program.entry.copy(), _region(program, "k"), _region(program, "v")
    at = entry[:, E_REGION]
    entry[:, E_REGION] = np.where(at == k, v, np.where(at == v, k, at))
    return replace(program, entry=entry)


def _rename(program: Program) -> Program:
    operand, k, v = program.region_operand.copy(), _region(program, "k"), _region(program, "v")
    operand[[k, v]] = operand[[v, k]]
    return replace(program, region_operand=operand)


def _one_region_less(program: Program) -> Program:
    names = ("region_slice", "region_operand", "region_box", "region_shape", "region_first")
    keep = program.entry[:, E_REGION].max()  # no entry names the region that goes
    assert keep == program.regions - 1
    return replace(program, **{name: getattr(program, name)[:-1] for name in names}, entry=np.where(program.entry == keep, keep - 1, program.entry))


def _projection(program: Program) -> Program:
    """The first entry into q says that it is of the projection into v."""
    entry = program.entry.copy()
    row = int(np.flatnonzero(entry[:, E_REGION] == _region(program, "q"))[0])
    entry[row, E_PROJECTION] -= 1
    return replace(program, entry=entry)


DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "region_box of a mask": ("gate", _change("region_box", lambda p: (_region(p, "mask"), 2), -1), "region_box"),
    "region_box of a window": ("max_pool", _change("region_box", lambda p: (_region(p, "window"), 3), -1), "region_box"),
    "region_shape": ("latched", _change("region_shape", lambda p: (_region(p, "mask"), 0), 1), "region_shape"),
    "region_first": ("coincidence", _change("region_first", lambda p: (_region(p, "q"),), 1), "region_first"),
    "region_slice": ("coincidence", _change("region_slice", lambda p: (_region(p, "q"),), -1), "region_slice"),
    "region_operand": ("coincidence", _rename, "region_operand"),
    "a region missing": ("coincidence", _one_region_less, "regions"),
    "slice_cells without the table": ("coincidence", _change("slice_cells", lambda p: (_slice(p),), -4), "slice_cells"),
    "kind of op": ("or_pool", _op(OP_KIND, 1), "slice_op"),
    "count": ("gate", _op(OP_COUNT, -1), "slice_op"),
    "inverted": ("latched", _op(OP_INVERTED, -1), "slice_op"),
    "latched": ("latched", _op(OP_LATCHED, -1), "slice_op"),
    "padding of a window": ("max_pool", _op(OP_PH, -1), "slice_op"),
    "channels per head": ("coincidence", _op(OP_HEAD, 2), "slice_op"),
    "shift of a coincidence": ("coincidence", _op(OP_SHIFT, 1), "slice_op"),
    "most spikes of a step": ("gate", _change("slice_rule", lambda p: (_slice(p), R_MAX_SPIKES), 1), "max_spikes"),
    "operands exchanged": ("coincidence", _exchange, "entries"),
    "projection of another operand": ("coincidence", _projection, "entries"),
    "last weight": ("max_pool", _change("weights", lambda p: (0,), 1), "synapse from neuron"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_caught(name: str) -> None:
    which, damage, words = DAMAGES[name]
    with pytest.raises(AuditError, match=words):
        audit(damage(PROGRAMS[which]), GRAPHS[which])


@pytest.mark.parametrize("sync", ["wavefront", "barrier", "free"])
@pytest.mark.parametrize("name", OPS)
def test_the_programs_themselves_pass(name: str, sync: str) -> None:
    graph = GRAPHS[name]
    report = audit(assemble(graph, CHIP, sync), graph)
    assert report.synapses == report.synapses_in_all


def _with_values(graph: Graph, source: str, most: int) -> Graph:
    """One population passes on spikes of values up to ``most``."""
    return graph.with_(populations=tuple(replace(p, rule=replace(pass_rule(most), decay=4096)) if p.name == source else p for p in graph.populations))


@pytest.mark.parametrize(
    ("name", "source", "fits", "too_much", "words"),
    [
        ("or_pool", "a", 28, 29, r"a bank of population op can reach 261, 9 bits hold 255"),
        ("latched", "b", 127, 128, r"the latched sum of population op can reach 16384, 15 bits hold 16383"),
        ("coincidence", "c", 15, 16, r"an input of population op can reach 102[0-9], 11 bits hold 1023"),
    ],
)
def test_cells_hold_the_largest_values_that_spikes_can_have(name: str, source: str, fits: int, too_much: int, words: str) -> None:
    """or_pool: 9 taps into registers of 8 bits. A latched mask: 64 spikes per step, 2 steps. Coincidence: q * 2 channels * 16 tokens << 1."""
    bits = {"or_pool": 16, "latched": 15, "coincidence": 11}[name]
    chip = chip_of(40, 1 << 16, 4, "end_to_end", f"arithmetic.acc_bits={bits}")
    for most in (fits, too_much):
        graph = _with_values(GRAPHS[name], source, most)
        program = assemble(graph, chip, "wavefront")
        if most == fits:
            audit(program, graph)
        else:
            with pytest.raises(AuditError, match=words):
                audit(program, graph)


def test_a_head_stays_whole() -> None:
    graph = GRAPHS["coincidence"]
    program = assemble(graph, chip_of(32, 1 << 16), "wavefront")
    boxes = program.slice_box[program.slice_population == 4].tolist()
    assert boxes == [[0, 2, 0, 4, 0, 4], [2, 4, 0, 4, 0, 4]]
    with pytest.raises(DoesNotFit, match=r"one head.*has 32 neurons.*31"):
        assemble(graph, chip_of(31, 1 << 16), "wavefront")
    with pytest.raises(DoesNotFit, match=r"one head.*bytes"):
        assemble(graph, chip_of(32, 600), "wavefront")


@pytest.mark.parametrize("box", [(0, 3, 0, 4, 0, 4), (0, 2, 0, 2, 0, 4), (1, 3, 0, 4, 0, 4)])
def test_a_mapping_that_cuts_a_head_is_refused(box: Box) -> None:
    graph = GRAPHS["coincidence"]
    with pytest.raises(ModelError, match="cuts a head of 2 channels"):
        regions_of(graph, [Slice(4, box)])


def test_layers_are_cut_finer_around_whole_heads() -> None:
    """259 neurons on 7 cores of 40: only boxes of 8 fill up the two cores with a head of 32."""
    graph, chip = GRAPHS["coincidence"], chip_of(40, 1 << 16, 3, "link", "memory.cores=7")
    program = assemble(graph, chip, "wavefront")
    audit(program, graph)
    assert set(np.diff(program.neuron_ptr).tolist()) == {32, 8, 3}


@pytest.mark.parametrize(
    ("name", "sync", "bits"),
    [
        # per bank and, behind the plus, besides: cells of section 12 on a slice of 2 channels and 16 pixels (4 x 2 x 4 where space is cut)
        ("or_pool", "wavefront", (32 * 8, 0)),
        ("gate", "wavefront", (32 * 8 + 8 * 16, 0)),
        ("latched", "wavefront", (32 * 8 + 4 * 16, 4 * 16)),
        ("max_pool", "wavefront", (32 * 16 + 32 * 16, 0)),
        ("coincidence", "wavefront", (32 * 16 + 3 * 32 * 8 + 4 * 16, 0)),
        ("or_pool", "free", (0, 0)),
        ("gate", "free", (0, 8 * 16)),
        ("latched", "free", (0, 4 * 16)),
        ("max_pool", "free", (0, 32 * 16)),
        ("coincidence", "free", (0, 3 * 32 * 8 + 4 * 16)),
    ],
)
def test_bits_of_cells(name: str, sync: str, bits: tuple[int, int]) -> None:
    graph, chip = GRAPHS[name], chip_of(40, 1 << 16, 4, "link", "arithmetic.acc_bits=16")
    model = MemoryModel(graph, chip, sync)
    held = model.contents(4, assemble(graph, chip, sync).slice_box[_slice(PROGRAMS[name])].tolist())
    assert (held.bank, held.kept) == bits


def test_the_report_lists_ops() -> None:
    mapped = map_graph(GRAPHS["gate"], CHIP, "wavefront")
    report = build_report(assemble(GRAPHS["gate"], CHIP, "wavefront", mapped.mapping), GRAPHS["gate"], mapped, [])
    # groups are columns of channels: each of the two slices has the masks of its own 8 pixels
    assert report["ops"] == [{"population": "op", "op": "gate", "slices": 2, "neurons": 64, "cells": 64 + 16}]
