"""Multicast: packets that serve a set of destinations and branch at routers.

The set is a bitmap over the routes of the packet's source, ``P_BIT_WORDS`` words per row of ``pk``; routes ascend by core. A router splits it by the
output that leads to each destination: copies get the bits behind their output, the head keeps what has not been copied yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import CURRENT
from neurosim.engine.fast.base.calendar import trailing_zeros
from neurosim.engine.fast.base.compiled import jit
from neurosim.engine.fast.base.fabric import UNKNOWN, copy_packet, heads, new_packet, return_credit, window_credit
from neurosim.engine.fast.tables.columns import *

A = NDArray[Any]

_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


@jit
def next_dest(par: A, bits: A, packet: int, k: int) -> int:
    """First destination >= ``k`` (a route, counted from the first of its source) of the packet; -1 if none."""
    words = par[P_BIT_WORDS]
    word = k >> 6
    if word >= words:
        return -1
    left = bits[packet * words + word] & (_ALL << np.uint64(k & 63))
    while left == 0:
        word += 1
        if word == words:
            return -1
        left = bits[packet * words + word]
    return (word << 6) + trailing_zeros(left)


@jit
def add_dest(par: A, bits: A, packet: int, k: int) -> None:
    """Add a destination to the packet's set."""
    bits[packet * par[P_BIT_WORDS] + (k >> 6)] |= _ONE << np.uint64(k & 63)


@jit
def no_dests(par: A, bits: A, packet: int) -> None:
    """The empty set."""
    for word in range(par[P_BIT_WORDS]):
        bits[packet * par[P_BIT_WORDS] + word] = np.uint64(0)


@jit
def set_lowest(par: A, pk: A, bits: A, so: A, rt: A, packet: int) -> None:
    """``route`` and ``dest`` of a packet are those of the lowest core that it serves."""
    p = pk[packet]
    route = so[p.slice, O_ROUTE] + next_dest(par, bits, packet, 0)
    p.route = route
    p.dest = rt[route, T_CORE]


@jit
def least_pair(
    par: A, sv: A, slot: A, ch: A, pk: A, bits: A, so: A, rt: A, rin: A, mask: A, ns: A, rr: A, k: int, time: int, soonest: int
) -> tuple[int, int, int]:  # fmt: skip
    """Among heads and the outputs that they still need: (channel, output) of the least startable pair, or (-1, -1); when the next may start."""
    best, chosen, earliest, wake = -1, -1, INF, soonest
    words, first, cores = par[P_WORDS], rr[k].first, par[P_CORES]
    for w in range(words):
        left = heads(rr, mask, words, k, w)
        while left != 0:
            j = rin[first + (w << 6) + trailing_zeros(left)]
            left &= left - _ONE
            e = ch[j]
            request = max(e.arrive, e.taken)
            packet = slot[e.head].packet
            p = pk[packet]
            d = -1
            while True:
                core = p.dest
                if p.item != CURRENT:
                    d = next_dest(par, bits, packet, d + 1)
                    if d < 0:
                        break
                    core = rt[so[p.slice, O_ROUTE] + d, T_CORE]
                output = rr[k].out + ns[k * cores + core]
                start = max(e.arrive, ch[output].end)
                if start > time:
                    wake = min(wake, start)
                elif request < earliest or (request == earliest and j == best and output < chosen):
                    best, chosen, earliest = j, output, request
                if p.item == CURRENT:
                    break
    return best, chosen, wake


@jit
def branch(
    par: A, reg: A, ch: A, slot: A, pk: A, bits: A, spare: A, so: A, rt: A, ns: A, rr: A, k: int, inlet: int, output: int
) -> int:  # fmt: skip
    """The copy of the head of channel ``inlet`` that goes to ``output``: the head itself if nothing else is left of it."""
    head = slot[ch[inlet].head].packet
    p = pk[head]
    if p.item == CURRENT:
        return head
    base, towards, row = so[p.slice, O_ROUTE], output - rr[k].out, k * par[P_CORES]
    rest = 0
    d = next_dest(par, bits, head, 0)
    while d >= 0:
        if ns[row + rt[base + d, T_CORE]] != towards:
            rest += 1
        d = next_dest(par, bits, head, d + 1)
    if rest == 0:
        set_lowest(par, pk, bits, so, rt, head)
        return head
    copy = new_packet(reg, spare)
    copy_packet(pk, head, copy)
    no_dests(par, bits, copy)
    d = next_dest(par, bits, head, 0)
    while d >= 0:
        if ns[row + rt[base + d, T_CORE]] == towards:
            add_dest(par, bits, copy, d)
            bits[head * par[P_BIT_WORDS] + (d >> 6)] &= ~(_ONE << np.uint64(d & 63))
        d = next_dest(par, bits, head, d + 1)
    set_lowest(par, pk, bits, so, rt, copy)
    return copy


@jit
def all_windows(par: A, wc: A, wf: A, pk: A, bits: A, so: A, rt: A, packet: int, ready: int) -> int:
    """First time >= ready with a window credit of every destination; UNKNOWN: the sender is woken."""
    base, d, time = so[pk[packet].slice, O_ROUTE], next_dest(par, bits, packet, 0), ready
    while d >= 0:
        found = window_credit(par, wc, wf, rt[base + d, T_WINDOW], ready)
        if found == UNKNOWN:
            return UNKNOWN
        time = max(time, found)
        d = next_dest(par, bits, packet, d + 1)
    return time


@jit
def await_windows(par: A, wc: A, pk: A, bits: A, so: A, rt: A, packet: int) -> None:
    """The packet's sender wants to hear of any credit that comes back."""
    base, d = so[pk[packet].slice, O_ROUTE], next_dest(par, bits, packet, 0)
    while d >= 0:
        wc[rt[base + d, T_WINDOW], W_WAITING] = 1
        d = next_dest(par, bits, packet, d + 1)


@jit
def use_windows(par: A, wc: A, pk: A, bits: A, so: A, rt: A, packet: int) -> None:
    """The put uses a window credit of every destination."""
    base, d = so[pk[packet].slice, O_ROUTE], next_dest(par, bits, packet, 0)
    while d >= 0:
        wc[rt[base + d, T_WINDOW], W_PUTS] += 1
        wc[rt[base + d, T_WINDOW], W_WAITING] = 0
        d = next_dest(par, bits, packet, d + 1)


@jit
def dest_windows(par: A, st: A, cal: A, buckets: A, wc: A, wf: A, pk: A, bits: A, so: A, rt: A, packet: int, time: int) -> None:
    """The window credits of every destination of a copy that was dropped or lost at ``time`` go back."""
    base, d = so[pk[packet].slice, O_ROUTE], next_dest(par, bits, packet, 0)
    while d >= 0:
        return_credit(par, st, cal, buckets, wc, wf, rt[base + d, T_WINDOW], time)
        d = next_dest(par, bits, packet, d + 1)
