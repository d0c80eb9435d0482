"""Extra ops in the fast engine, in 32 and in 64 bits, against the reference row for row; by hand they are in test_ops.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.engine.compare import first_difference
from neurosim.engine.events import Options
from neurosim.engine.fast import run_fast
from neurosim.engine.fast.tables.cells import most_fires
from neurosim.engine.fast.tables.maps import is_narrow
from neurosim.engine.reference import run_reference
from neurosim.graph import Graph
from neurosim.ops import Coincidence, Gate, MaxPool, Op, OrPool
from neurosim.program import G_MASK, G_Q, G_WINDOW, Program
from tests.engine.networks import spikes
from tests.golden.test_ops import op_graph

NARROW = ("arithmetic.weight_bits=8", "arithmetic.state_bits=24", "arithmetic.acc_bits=24")
OPS = (OrPool(), Gate((2, 1, 3), 2), Gate((4, 1, 1), 9, True, True), MaxPool((4, 3, 5), (2, 3), (2, 2), (1, 1)), Coincidence(2, shift=1))


def program(op: Op, sync: str, wide: bool) -> Program:
    graph: Graph = op_graph(op, op.operands((4, 2, 3)))
    # axon-out deep: in free one synapse may make many neurons fire, and without room for them the loop of packets on one core would block
    chip = load_chip("ideal", ["noc.axon_out=256", "timing.op_window=400000", *([] if wide else NARROW)])
    made = assemble(graph, chip, sync)
    assert is_narrow(made) != wide
    return made


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize("sync", ["free", "wavefront", "barrier"])
@pytest.mark.parametrize("op", OPS, ids=str)
def test_agrees_with_the_reference(op: Op, sync: str, wide: bool) -> None:
    made = program(op, sync, wide)
    rng = np.random.default_rng(4)
    given = [spikes(made, np.argwhere(rng.random((1 if sync == "free" else 4, 6)) < 0.7).tolist()) for _ in range(2)]
    options = Options(record=True, state=True, jitter=3000, seed=8)
    fast = run_fast(made, given, options)
    assert first_difference(run_reference(made, given, options), fast) is None
    quiet = run_fast(made, given, replace(options, streamed=sync != "free", record=False), budget=9)
    assert np.array_equal(quiet.slice_spikes, fast.slice_spikes)
    at_op = made.slice_core[made.slice_op[:, 0] != 0]
    reads, pairs = (int(fast.core[name][at_op].sum()) for name in ("op_reads", "pairs"))
    assert fast.slice_spikes[:, made.slice_op[:, 0] != 0].sum() > 0
    assert (reads > 0) == (op.name in ("max_pool", "coincidence") or (op.name == "gate" and sync != "free"))
    assert (pairs > 0) == (op.name == "coincidence")


def test_buffers_hold_what_one_entry_can_make_fire() -> None:
    """A mask its whole slice; a window every neuron that reads each of its cells; a row of pairs for every cell of q."""
    found = {}
    for op, operand in ((OPS[1], G_MASK), (OPS[3], G_WINDOW), (OPS[4], G_Q)):
        made = program(op, "free", False)
        found[operand] = most_fires(made)[made.region_operand == operand].sum()
    # windows of 2 x 3 pixels, stride 2: rows -1..0 and 1..2, columns -1..1, 1..3 and 3..5 of a 3 x 5 map: (1 + 2) * (2 + 3 + 2) words, 4 channels
    assert found == {G_MASK: 24, G_WINDOW: 4 * 3 * 7, G_Q: 24 * 2}
