"""Extra ops as formulas over whole arrays: what the cells of a step make of a population's inputs (docs/machine.md, section 12)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.ops import Coincidence, Gate, MaxPool, Op, Shape, coincide, group_of, windows

A = NDArray[Any]


def empty_cells(op: Op | None, shape: Shape, n: int, kind: type[Any]) -> dict[str, A]:
    """Cells of n samples at the beginning of a step by operand, "" being the neurons' own: [n, *shape of the operand]."""
    operands = {} if op is None else op.operands(shape)
    return {name: np.zeros((n, *cells), kind) for name, cells in {"": shape, **operands}.items()}


def op_input(op: Op | None, cells: dict[str, A], latch: A | None) -> tuple[A, A | None]:
    """(inputs of the neurons [n, c, y, x], the latch for the next step), from a step's cells: real (float64) or integer (int64).

    ``latch``: sums of a latched gate's masks over the steps before, None at first and for all else.
    """
    own = cells[""]
    match op:
        case MaxPool():
            return own + windows(cells["window"], op, _shape(own)), None
        case Coincidence():
            product = _coincide(cells["q"], cells["k"], cells["v"], op.heads)
            return own + (product * op.scale if own.dtype.kind == "f" else product << op.shift), None
        case Gate():
            total = cells["mask"] if latch is None else cells["mask"] + latch
            opened = (total >= op.count) != op.inverted
            return np.where(opened.reshape(len(own), -1)[:, group_of(op, _shape(own))], own, 0), total if op.latched else None
    return own, None


def _shape(x: A) -> Shape:
    return x.shape[1], x.shape[2], x.shape[3]


def _coincide(q: A, k: A, v: A, heads: int) -> A:
    """``coincide`` of integers by floating-point products, which BLAS computes, where no partial sum can reach 2**53."""
    most = float(q.max(initial=0)) * float(k.max(initial=0)) * float(v.max(initial=0))
    if q.dtype.kind == "f" or most * q[0:1].size / heads >= 2**53:
        return coincide(q, k, v, heads)
    return coincide(q.astype(np.float64), k.astype(np.float64), v.astype(np.float64), heads).astype(np.int64)
