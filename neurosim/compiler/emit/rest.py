"""The state from which every sample of the discipline settle starts: the settled state of a reference input, as arrays of a Program.

Reference inputs: ``black`` (an image whose pixels are all 0, after the host section; of a network of events: no events), ``none`` (nothing at all
comes through the ports, no spikes and no currents), else the first sample of a data file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError
from neurosim.golden.settled import Settled, settle_graph
from neurosim.graph import Graph
from neurosim.host import load_data, run_host
from neurosim.ops import OPERANDS
from neurosim.program import G_MAIN, Program

I64 = NDArray[np.int64]
BLACK, NONE, FILE = "black", "none", "file"
Values = dict[str, I64]


def with_rest(program: Program, graph: Graph, rest: str | Path | NDArray[Any] = BLACK) -> Program:
    """The Program with the arrays ``rest_*`` and ``meta["rest"]`` for a reference: black, none, a data file, or an array of samples.

    Raises DataError where the file or array does not fit the program's input.
    """
    return with_reference(program, graph, *_reference(program, rest))


def with_reference(program: Program, graph: Graph, currents: Values, spikes: Values, kind: str = FILE) -> Program:
    """The Program with the rest state of what the ports tell: currents by target, spikes by population that enters through a port, [c, y, x]."""
    state = settle_graph(graph, program.chip, {name: x[None] for name, x in spikes.items()}, {name: x[None] for name, x in currents.items()})
    names = [p["name"] for p in program.meta["populations"]]
    of_slice = [(q, names[program.slice_population[q]]) for q in range(program.slices)]
    sent = [_local(state.outputs[name][0], program.slice_box[q]) for q, name in of_slice]
    told = [_local(currents[name], program.slice_box[q]) if name in currents else np.zeros(len(sent[q]), np.int64) for q, name in of_slice]
    ports = [
        _local(state.outputs[names[program.source_population[s]]][0], program.source_box[s]) for s in range(program.slices, program.control_source)
    ]
    cells = [part for q, name in of_slice for part in _cells(program, state, graph, q, name)]
    empty = [np.zeros(0, np.int64)]
    arrays = {
        "rest_sent": np.concatenate(empty + sent),
        "rest_v": np.concatenate(empty + cells),
        "rest_input": np.concatenate(empty + ports),
        "rest_current": np.concatenate(empty + told),
    }
    digest = hashlib.sha256(b"".join(arrays[name].astype("<i8").tobytes() for name in ("rest_input", "rest_current"))).hexdigest()
    meta = {**program.meta, "rest": {"kind": kind, "digest": digest}}
    return replace(
        program, meta=meta, rest_sent=arrays["rest_sent"], rest_v=arrays["rest_v"], rest_input=arrays["rest_input"],
        rest_current=arrays["rest_current"],
    )  # fmt: skip


def _reference(program: Program, rest: str | Path | NDArray[Any]) -> tuple[Values, Values, str]:
    """(currents by target, spikes by population that enters through a port, kind), arrays [c, y, x]."""
    contract = program.meta["input"]
    if isinstance(rest, str) and rest == NONE:
        return {}, {}, NONE
    if isinstance(rest, str) and rest == BLACK:
        images = program.meta["host"].get("maps") or program.meta["host"].get("populations")
        if not images:
            return {}, {}, BLACK
        shape = next((tuple(p["shape"]) for p in program.meta["populations"] if p["kind"] == "analog"), None)
        assert shape is not None, "a host section has an image"
        return *_of_pixels(program, np.zeros((1, *shape), np.uint8)), BLACK
    if isinstance(rest, str | Path) and not Path(rest).exists():
        raise DataError(f"rest {str(rest)!r} is neither black, none nor a data file that exists; give one of them")
    if not contract:
        raise DataError("the program says nothing about its input, so no reference sample can be read for it; use rest black or none")
    sample = load_data(rest, program).first(1)
    if contract["kind"] == "spikes":
        return {}, {contract["name"]: sample.data[0, 0].astype(np.int64)}, FILE
    return *_of_pixels(program, sample.images), FILE


def _of_pixels(program: Program, images: NDArray[Any]) -> tuple[Values, Values]:
    currents, spikes = run_host(program, images)
    return {name: x[0] for name, x in currents.items()}, {name: x[0, 0].astype(np.int64) for name, x in spikes.items()}


def _local(x: I64, box: I64) -> I64:
    """[c, y, x] -> the box's values by local index."""
    c0, c1, y0, y1, x0, x1 = box.tolist()
    return np.ascontiguousarray(x[c0:c1, y0:y1, x0:x1].transpose(1, 2, 0)).ravel()


def _cells(program: Program, state: Settled, graph: Graph, q: int, name: str) -> Iterator[I64]:
    """The cells of a slice in bank order."""
    yield _local(state.membranes[name][0], program.slice_box[q])
    for g in np.flatnonzero((program.region_slice == q) & (program.region_operand != G_MAIN)).tolist():  # ascending by operand, as in a bank
        yield _local(state.cells[name][OPERANDS[program.region_operand[g]]][0], program.region_box[g])
    if name in state.tables:
        table = state.tables[name][0]  # [heads, d, d]; a slice holds whole heads
        first, last = (int(bound) // table.shape[1] for bound in program.slice_box[q, :2])
        yield table[first:last].ravel()
