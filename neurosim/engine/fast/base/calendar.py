"""The queue of stations that will wake: a ring of buckets of time, with a heap for what lies beyond it.

A decision acts elsewhere only after the least latency L of the chip (a channel's forward or acknowledge, a wire). Stations that wake in one bucket
no wider than L may therefore act in any order (docs/machine.md, instant rule), and a bucket is a plain list: insertion and removal cost the same
however many stations wait. A bitmap of two levels finds the next bucket that is not empty, so idle time costs nothing.

``cal`` holds the queue's single figures and its bitmap, ``buckets`` the first station of every bucket and, behind them, the heap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from neurosim.engine.fast.base.compiled import jit, part
from neurosim.engine.fast.tables.columns import INF
from neurosim.engine.fast.tables.queue import BUCKETS, Z_BASE, Z_BITS, Z_HEAP, Z_SHIFT, Z_SUMMARY

A = NDArray[Any]

_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


@intrinsic
def trailing_zeros(context: Any, word: Any) -> Any:
    """Number of the lowest set bit of a word that is not 0."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@jit
def heap_up(st: A, buckets: A, place: int, station: int) -> None:
    """Move a station up the 4-ary heap from ``place``, where it may stand."""
    time = st[station].wake
    while place > 0:
        parent = (place - 1) >> 2
        other = buckets[BUCKETS + parent]
        if st[other].wake <= time:
            break
        buckets[BUCKETS + place] = other
        st[other].place = BUCKETS + place
        place = parent
    buckets[BUCKETS + place] = station
    st[station].place = BUCKETS + place


@jit
def heap_remove(st: A, cal: A, buckets: A, place: int) -> None:
    """Take the station at ``place`` out of the heap."""
    size: int = np.int64(cal[Z_HEAP]) - 1  # type: ignore[assignment]  # an int64 scalar once compiled
    cal[Z_HEAP] = np.uint64(size)
    if place == size:
        return
    station = buckets[BUCKETS + size]
    time = st[station].wake
    if place > 0 and st[buckets[BUCKETS + ((place - 1) >> 2)]].wake > time:
        heap_up(st, buckets, place, station)
        return
    while True:
        first = 4 * place + 1
        if first >= size:
            break
        child = first
        for k in range(first + 1, min(first + 4, size)):
            if st[buckets[BUCKETS + k]].wake < st[buckets[BUCKETS + child]].wake:
                child = k
        other = buckets[BUCKETS + child]
        if st[other].wake >= time:
            break
        buckets[BUCKETS + place] = other
        st[other].place = BUCKETS + place
        place = child
    buckets[BUCKETS + place] = station
    st[station].place = BUCKETS + place


@jit
def far(st: A, cal: A, buckets: A, station: int) -> None:
    """Put a station that wakes beyond the ring into the heap."""
    size: int = np.int64(cal[Z_HEAP])  # type: ignore[assignment]  # an int64 scalar once compiled
    cal[Z_HEAP] = np.uint64(size + 1)
    heap_up(st, buckets, size, station)


@part
def insert(st: A, cal: A, buckets: A, station: int, time: int) -> None:
    """Enter a station that is nowhere."""
    e = st[station]
    e.wake = time
    number = time >> np.int64(cal[Z_SHIFT])
    if e.eager != 0:
        number = np.int64(cal[Z_BASE])
    ahead = number - np.int64(cal[Z_BASE])
    if ahead >= BUCKETS:
        far(st, cal, buckets, station)
        return
    place = number & (BUCKETS - 1)
    first = buckets[place]
    buckets[place] = station
    e.place = place
    e.next = first
    e.previous = -1
    if first >= 0:
        st[first].previous = station
        return
    word = place >> 6
    cal[Z_BITS + word] |= _ONE << np.uint64(place & 63)
    cal[Z_SUMMARY] |= _ONE << np.uint64(word)


@part
def remove(st: A, cal: A, buckets: A, station: int) -> None:
    """Take a station out of its bucket or the heap."""
    e = st[station]
    place, following, previous = e.place, e.next, e.previous
    e.place = -1
    if place >= BUCKETS:
        heap_remove(st, cal, buckets, place - BUCKETS)
        return
    if following >= 0:
        st[following].previous = previous
    if previous >= 0:
        st[previous].next = following
        return
    buckets[place] = following
    if following < 0:
        word = place >> 6
        left = cal[Z_BITS + word] & ~(_ONE << np.uint64(place & 63))
        cal[Z_BITS + word] = left
        if left == 0:
            cal[Z_SUMMARY] &= ~(_ONE << np.uint64(word))


@part
def arm(st: A, cal: A, buckets: A, station: int, time: int) -> None:
    """Wake a station at ``time`` unless it wakes earlier anyway; compiled into the place of the call."""
    e = st[station]
    if e.place >= 0:
        if time >= e.wake:
            return
        remove(st, cal, buckets, station)
    insert(st, cal, buckets, station, time)


@jit
def schedule(st: A, cal: A, buckets: A, station: int, time: int) -> None:
    """Wake a station at ``time`` (less than INF) unless it wakes earlier anyway."""
    arm(st, cal, buckets, station, time)


@jit
def advance(st: A, cal: A, buckets: A) -> bool:
    """Go on to the next bucket that is not empty; False when nobody will wake. What the ring now covers moves from the heap into it."""
    base = np.int64(cal[Z_BASE])
    shift = np.int64(cal[Z_SHIFT])
    place = base & (BUCKETS - 1)
    summary = cal[Z_SUMMARY]
    following = np.int64(INF)
    if summary != 0:
        word = place >> 6
        bits = cal[Z_BITS + word] & (_ALL << np.uint64(place & 63))
        if bits == 0:
            later = summary & (_ALL << np.uint64(word)) & ~(_ONE << np.uint64(word))
            word = trailing_zeros(later if later != 0 else summary)
            bits = cal[Z_BITS + word]
        following = base + (((word << 6) + trailing_zeros(bits) - place) & (BUCKETS - 1))
    if cal[Z_HEAP] != 0:
        following = min(following, st[buckets[BUCKETS]].wake >> shift)
    elif summary == 0:
        return False
    cal[Z_BASE] = np.uint64(following)
    while cal[Z_HEAP] != 0:
        station = buckets[BUCKETS]
        if (st[station].wake >> shift) - following >= BUCKETS:
            break
        heap_remove(st, cal, buckets, 0)
        insert(st, cal, buckets, station, st[station].wake)
    return True


@jit
def first_in_order(st: A, station: int) -> int:
    """Of a bucket that begins with ``station``: the one with the flag ``ordered`` that comes first by (time, station)."""
    best, k = station, st[station].next
    while k >= 0:
        if st[k].ordered != 0 and (st[k].wake < st[best].wake or (st[k].wake == st[best].wake and k < best)):
            best = k
        k = st[k].next
    return best
