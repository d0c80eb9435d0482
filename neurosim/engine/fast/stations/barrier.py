"""Barrier: when nothing moves any more, the global step is over and the next begins (docs/machine.md, sections 7 and 11)."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.engine.fast.base.calendar import schedule
from neurosim.engine.fast.base.compiled import jit
from neurosim.engine.fast.tables.columns import *

A = NDArray[Any]


@jit
def next_step(par: A, reg: A, st: A, cal: A, buckets: A, sv: A, co: A, smp: A, spare: A) -> bool:
    """Close the global step, barrier_ps after its last end open the next: somas with slices and the ports wake. False: the run is over or stuck."""
    if reg[G_SPARE] != spare.shape[0]:  # a packet is left in a channel or in a blocked service
        return False
    g = reg[G_GLOBAL] + 1
    if g >= par[P_RUN_STEPS]:
        return False
    reg[G_GLOBAL] = g
    began = max(reg[G_LAST_END], reg[G_BEGAN]) + par[P_BARRIER_PS]
    reg[G_BEGAN] = began
    if g < par[P_GLOBAL_STEPS] and g % par[P_STEPS] == 0:
        smp[g // par[P_STEPS], X_BEGAN] = began
    for k in range(par[P_PORTS]):
        schedule(st, cal, buckets, k, began)
    for core in range(par[P_CORES]):
        if co[core, K_SLICE] != co[core, K_SLICE_END]:
            schedule(st, cal, buckets, par[P_PORTS] + 3 * core + 1, began)
    return True
