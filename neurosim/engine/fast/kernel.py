"""The compiled loop: take a station of the earliest bucket, let it act, until nothing is left or the budget is spent.

numba stamps a cache entry with the kernel's own file only, so a changed rule in another file would go unnoticed. The kernel is therefore closed over
a digest of every file it is compiled from: numba's index key includes closure cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numba import njit

import neurosim
from neurosim.engine.fast.base.calendar import advance, first_in_order, remove
from neurosim.engine.fast.base.compiled import OPTIONS
from neurosim.engine.fast.stations.barrier import next_step
from neurosim.engine.fast.stations.cores import core_station, soma, synapse
from neurosim.engine.fast.stations.ports import port, sender
from neurosim.engine.fast.stations.router import express, router
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.queue import BUCKETS, Z_BASE, Z_SHIFT

DONE, MORE, LATE = range(3)
"""What the kernel returns: nothing left to wake; budget spent or a buffer full; something happens after max_time_ps."""


RULES = ("arithmetic.py", "ops.py", "program.py", "engine/events.py", "host/stimulus.py")
"""Files outside the fast engine whose functions and constants are compiled in."""


def rules_digest(package: Path = Path(neurosim.__file__).parent) -> int:
    """First 56 bits of the SHA-256 over every source file that the kernel is compiled from; ``package``: the folder of neurosim."""
    digest = hashlib.sha256()
    for path in [package / name for name in RULES] + sorted((package / "engine" / "fast").rglob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")


def _build(rules: int) -> Callable[..., int]:
    def kernel(  # type: ignore[no-untyped-def]  # seventy arrays, typed by numba
        budget, par, reg, st, cal, buckets, sv, ch, cw, slot, pk, bits, spare, wc, wf, rin, mask, ns, rr, pt, ps, lp, lr, sl, op, ox, cell, so, rt,
        en, axis, index, w8, w32, mk, up, dn, co, csl, need, ring, v, cur, v32, cur32, tlast, thr, bias, flo, rby, ini, flat, high, floor32, bias32,
        ini32, acc32, acc64, touched, buf, cc, smp, sspk, stim, stim_ptr, marker_due, rows, spk, readout, scores, rank, log,
        along,
    ):  # fmt: skip
        left = budget + rules * 0  # the one use that makes the digest part of numba's key
        margin, router0, free = par[P_MARGIN], par[P_ROUTER0], par[P_FREE]
        while left > 0:
            first = buckets[np.int64(cal[Z_BASE]) & (BUCKETS - 1)]
            if first < 0:
                if reg[G_LAST_END] > par[P_MAX_TIME]:
                    return LATE
                if advance(st, cal, buckets):
                    reg[G_NOW] = np.int64(cal[Z_BASE]) << np.int64(cal[Z_SHIFT])
                elif par[P_BARRIER] == 0 or not next_step(par, reg, st, cal, buckets, sv, co, smp, spare):
                    return DONE
                continue
            if par[P_RECORD] != 0 and reg[G_ROWS] + margin > rows.shape[0]:
                return MORE
            if par[P_SPIKES] != 0 and reg[G_SPIKES] + margin > spk.shape[0]:
                return MORE
            if reg[G_LOGS] + LOG_ROOM > log.shape[0]:
                return MORE
            station = first
            if st[station].ordered != 0:
                station = first_in_order(st, station)
            kind = st[station].kind
            if kind == ROUTER and st[station + rr.shape[0]].place >= 0:  # its private outputs first: they may give it new heads
                station += rr.shape[0]
                kind = EXPRESS
            time = st[station].wake
            remove(st, cal, buckets, station)
            left -= 1
            if kind == ROUTER:
                router(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, wc, wf, pk, bits, spare, rin, mask, ns, rr, sl, so, rt, rows, smp,
                    station - router0, station, time,
                )  # fmt: skip
            elif kind == EXPRESS:
                express(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, pk, rin, mask, ns, rr, rows, smp, station - router0 - rr.shape[0], station
                )  # fmt: skip
            elif kind == SENDER:
                sender(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, wc, wf, pk, bits, spare, rin, mask, ns, rr, rows, spk, smp, cc, co, sl, so, rt, lp,
                    lr, en, axis, index, station, time,
                )  # fmt: skip
            elif kind == SOMA:
                soma(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, rows, spk, smp, sspk, cc, sl, op, ox, cell, up, dn,
                    ring, need, co, csl, buf, v, cur, v32, cur32, thr, bias, flo, rby, ini, flat, high, floor32, bias32, ini32, acc32, acc64, touched,
                    scores, rank, log, along, station, time,
                )  # fmt: skip
            elif kind == PORT:
                port(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, wc, wf, pk, bits, spare, rin, mask, ns, rr, rows, smp, pt, ps, sl, so, rt, lp, lr,
                    dn, ring, stim, stim_ptr, marker_due, station, time,
                )  # fmt: skip
            elif free == 0:
                synapse(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, wc, wf, rows, smp, cc, sl, so, op, rt, en, axis, index, w8, w32, mk,
                    need, ring, co, acc32, acc64, touched, station, time,
                )  # fmt: skip
            else:
                core_station(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, wc, wf, rows, spk, smp, sspk, cc, sl, op, ox, cell,
                    so, rt, en, up, ring, co, csl, buf, v, v32, tlast, thr, bias, flo, rby, flat, high, floor32, axis, index, w8, w32, readout,
                    scores, log, station, time,
                )  # fmt: skip
        return LATE if reg[G_LAST_END] > par[P_MAX_TIME] else MORE

    return kernel


@cache
def kernel() -> Callable[..., int]:
    """The compiled loop, from numba's cache where there is a writable one."""
    try:
        return njit(cache=True, **OPTIONS)(_build(rules_digest()))
    except RuntimeError:  # no place for a cache: a read-only installation with a read-only home
        return kernel_without_cache()


@cache
def kernel_without_cache() -> Callable[..., int]:
    """The compiled loop, compiled anew in every process: for when a cache cannot be written (a full disk shows only at the first call)."""
    return njit(**OPTIONS)(_build(rules_digest()))
