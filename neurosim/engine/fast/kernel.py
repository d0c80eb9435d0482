"""The compiled loop: pop the earliest station, let it act, until nothing is left or the budget is spent.

numba stamps a cache entry with the kernel's own file only, so a changed rule in another file would go unnoticed. The kernel is therefore closed over
a digest of every file it is compiled from: numba's index key includes closure cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from numba import njit

from neurosim import arithmetic, program
from neurosim.engine import events
from neurosim.engine.fast.columns import *
from neurosim.engine.fast.compiled import OPTIONS
from neurosim.engine.fast.cores import core_station, soma, synapse
from neurosim.engine.fast.fabric import pop
from neurosim.engine.fast.stations import port, router, sender
from neurosim.host import stimulus

DONE, MORE, LATE = range(3)
"""What the kernel returns: nothing left to wake; budget spent or a buffer full; something happens after max_time_ps."""


def rules_digest() -> int:
    """First 56 bits of the SHA-256 over every source file that the kernel is compiled from."""
    digest = hashlib.sha256()
    sources = [Path(str(module.__file__)) for module in (arithmetic, program, events, stimulus)]
    for path in sources + sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")


def _build(rules: int) -> Callable[..., int]:
    def kernel(  # type: ignore[no-untyped-def]
        budget, par, reg, hp, sv, ch, slot, wc, wf, sl, so, rt, en, mk, up, dn, co, csl, rr, rin, ns, need, ring, v, cur, tlast, thr, bias, flo, rby,
        acc32, acc64, touched, w8, w32, index, runs, buf, cc, smp, sspk, stim, stim_ptr, marker_due, rows, spk, readout, scores, rank,
    ):  # fmt: skip
        left = budget + rules * 0  # the one use that makes the digest part of numba's key
        size = hp.shape[0] - 1
        margin = par[P_MARGIN]
        while left > 0:
            if max(reg[G_LAST_END], reg[G_LAST_START]) > par[P_MAX_TIME]:
                return LATE
            if hp[size, H_HEAP] == 0:
                return DONE
            if par[P_RECORD] != 0 and reg[G_ROWS] + margin > rows.shape[0]:
                return MORE
            if par[P_SPIKES] != 0 and reg[G_SPIKES] + margin > spk.shape[0]:
                return MORE
            time = hp[0, H_KEY]
            station = pop(hp)
            reg[G_NOW] = time
            left -= 1
            if station >= par[P_ROUTER0]:
                router(par, reg, hp, sv, ch, slot, rin, ns, rows, smp, rr, station - par[P_ROUTER0], time)
            elif station == 0:
                port(par, reg, hp, sv, ch, slot, rin, ns, wc, wf, rows, smp, sl, so, rt, dn, ring, stim, stim_ptr, marker_due)
            elif station % 3 == 0:
                sender(par, reg, hp, sv, ch, slot, rin, ns, wc, wf, rows, smp, cc, co, so, rt, station, time)
            elif station % 3 == 2:
                soma(
                    par, reg, hp, sv, ch, slot, rin, ns, wc, wf, rows, spk, smp, sspk, cc, sl, up, dn, ring, need, co, csl, buf, v, cur, thr, bias,
                    flo, rby, acc32, acc64, touched, scores, rank, station, time,
                )  # fmt: skip
            elif par[P_FREE] == 0:
                synapse(
                    par, reg, hp, sv, ch, slot, wc, wf, rows, smp, cc, sl, so, rt, en, mk, need, ring, co, acc32, acc64, touched, w8, w32, index,
                    runs, station, time,
                )  # fmt: skip
            else:
                core_station(
                    par, reg, hp, sv, ch, slot, rin, ns, wc, wf, rows, spk, smp, sspk, cc, sl, so, rt, en, up, ring, co, csl, buf, v, tlast, thr,
                    bias, flo, rby, w8, w32, index, runs, readout, station, time,
                )  # fmt: skip
        return MORE

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
