"""The compiled loop of settle: ``kernel.py`` with the core station of that discipline instead of those of the others, compiled apart from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit

from neurosim.engine.fast.base.calendar import advance, first_in_order, remove
from neurosim.engine.fast.base.compiled import OPTIONS
from neurosim.engine.fast.kernel import DONE, LATE, MORE, rules_digest
from neurosim.engine.fast.stations.ports import port, sender
from neurosim.engine.fast.stations.router import express, router
from neurosim.engine.fast.stations.settle import next_sample, settle_core
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.queue import BUCKETS, Z_BASE, Z_SHIFT


def _build(rules: int) -> Callable[..., int]:
    def kernel(  # type: ignore[no-untyped-def]  # eighty arrays, typed by numba
        budget, par, reg, st, cal, buckets, sv, ch, cw, slot, pk, bits, spare, wc, wf, rin, mask, ns, rr, pt, ps, lp, lr, sl, op, ox, cell, so, rt,
        en, axis, index, w8, w32, mk, up, dn, co, csl, need, ring, v, cur, v32, cur32, tlast, thr, bias, flo, rby, ini, flat, high, floor32, bias32,
        ini32, acc32, acc64, touched, buf, cc, smp, sspk, stim, stim_ptr, marker_due, rows, spk, readout, scores, rank, log, along, lo, hi, lo32,
        hi32, told, due, dl, dc, gone, back, found,
    ):  # fmt: skip
        left = budget + rules * 0  # the one use that makes the digest part of numba's key
        margin, router0 = par[P_MARGIN], par[P_ROUTER0]
        in_samples = par[P_STREAMED] != 0 and par[P_TIMED] == 0
        while left > 0:
            first = buckets[np.int64(cal[Z_BASE]) & (BUCKETS - 1)]
            if first < 0:
                if reg[G_LAST_END] > par[P_MAX_TIME]:
                    return LATE
                if advance(st, cal, buckets):
                    reg[G_NOW] = np.int64(cal[Z_BASE]) << np.int64(cal[Z_SHIFT])
                elif not in_samples or not next_sample(
                    par, reg, st, cal, buckets, sv, pt, sl, co, csl, dc, cc, smp, sspk, v, v32, flo, told, rank, scores, spare
                ):
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
            elif kind == PORT:
                port(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, wc, wf, pk, bits, spare, rin, mask, ns, rr, rows, smp, pt, ps, sl, so, rt, lp, lr,
                    dn, ring, stim, stim_ptr, marker_due, station, time,
                )  # fmt: skip
            else:
                settle_core(
                    par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, wc, wf, rows, spk, smp, sspk, cc, sl, op, ox, cell,
                    so, rt, en, co, csl, v, v32, thr, flo, axis, index, w8, w32, readout, scores, rank, log, lo, hi, lo32, hi32, told, due, dl, dc,
                    gone, back, found, station, time,
                )  # fmt: skip
        return LATE if reg[G_LAST_END] > par[P_MAX_TIME] else MORE

    return kernel


@cache
def settle_kernel() -> Callable[..., int]:
    """The compiled loop, from numba's cache where there is a writable one."""
    try:
        return njit(cache=True, **OPTIONS)(_build(rules_digest()))
    except RuntimeError:  # no place for a cache: a read-only installation with a read-only home
        return settle_kernel_without_cache()


@cache
def settle_kernel_without_cache() -> Callable[..., int]:
    """The compiled loop, compiled anew in every process: for when a cache cannot be written (a full disk shows only at the first call)."""
    return njit(**OPTIONS)(_build(rules_digest()))
