"""Heap, channels, windows, trace rows and services: what every station of the fast engine uses.

Functions here are compiled into the kernel of ``kernel.py`` and never cached on their own: a cached inner function would not notice a changed rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import SALT_JITTER, jittered
from neurosim.engine.events import ROW_PUT, ROW_SERVICE
from neurosim.engine.fast.columns import *
from neurosim.engine.fast.compiled import entry, jit

A = NDArray[Any]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_SALT = np.uint64(SALT_JITTER)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@jit
def splitmix64(x: np.uint64) -> np.uint64:
    """``arithmetic.splitmix64`` on 64-bit words."""
    x = np.uint64(x + _GOLDEN)
    x = np.uint64((x ^ (x >> _S30)) * _MIX1)
    x = np.uint64((x ^ (x >> _S27)) * _MIX2)
    return np.uint64(x ^ (x >> _S31))


@entry
def jitter_draw(seed: int, sample: int, server: int, n: int, amplitude: int) -> int:
    """``arithmetic.jitter_draw`` on 64-bit words; ``seed`` as a two's complement int64."""
    h = splitmix64(np.uint64(seed) ^ _SALT)
    h = splitmix64(h ^ np.uint64(sample))
    h = splitmix64(h ^ np.uint64(server))
    h = splitmix64(h ^ np.uint64(n))
    upper: int = np.int64((np.uint64(h >> _S32) * np.uint64(2 * amplitude + 1)) >> _S32)  # type: ignore[assignment]
    return upper - amplitude


@jit
def schedule(hp: A, station: int, time: int) -> None:
    """Wake a station at ``time`` unless it wakes earlier anyway. The order of equal times is free (the instant rule)."""
    last = hp.shape[0] - 1
    position = hp[station, H_POSITION]
    if position >= 0:
        if time >= hp[position, H_KEY]:
            return
    elif time < INF:
        position = hp[last, H_HEAP]
        hp[last, H_HEAP] = position + 1
    else:
        return
    while position > 0:
        parent = (position - 1) >> 2
        if hp[parent, H_KEY] <= time:
            break
        hp[position, H_KEY] = hp[parent, H_KEY]
        moved = hp[parent, H_HEAP]
        hp[position, H_HEAP] = moved
        hp[moved, H_POSITION] = position
        position = parent
    hp[position, H_KEY] = time
    hp[position, H_HEAP] = station
    hp[station, H_POSITION] = position


@jit
def pop(hp: A) -> int:
    """Remove and return a station with the least time."""
    last = hp.shape[0] - 1
    top = hp[0, H_HEAP]
    hp[top, H_POSITION] = -1
    size = hp[last, H_HEAP] - 1
    hp[last, H_HEAP] = size
    if size == 0:
        return top
    time, station = hp[size, H_KEY], hp[size, H_HEAP]
    position = 0
    while True:
        first = 4 * position + 1
        if first >= size:
            break
        child, least = first, hp[first, H_KEY]
        for k in range(first + 1, min(first + 4, size)):
            if hp[k, H_KEY] < least:
                child, least = k, hp[k, H_KEY]
        if least >= time:
            break
        moved = hp[child, H_HEAP]
        hp[position, H_KEY] = least
        hp[position, H_HEAP] = moved
        hp[moved, H_POSITION] = position
        position = child
    hp[position, H_KEY] = time
    hp[position, H_HEAP] = station
    hp[station, H_POSITION] = position
    return top


@jit
def wake_after(hp: A, sv: A, server: int, time: int) -> None:
    """Wake a one-server station at ``time`` or at the end of its service; one that waits for a credit looks around when it goes on."""
    if sv[server, V_OPEN] == 0:
        schedule(hp, server, max(time, sv[server, V_END]))


@jit
def credit_of(ch: A, slot: A, channel: int, ready: int) -> int:
    """First time >= ready with a credit of the channel; -1 if not known yet: the writer is then woken."""
    if ch[channel, C_PUTS] - ch[channel, C_TAKES] >= ch[channel, C_DEPTH]:
        ch[channel, C_WAITING] = 1
        return -1
    return max(ready, slot[ch[channel, C_TAIL], L_FREE])


@jit
def credit(par: A, ch: A, slot: A, wc: A, wf: A, channel: int, window: int, ready: int) -> int:
    """First time >= ready with a credit of the channel and of window row ``window``, if >= 0; -1 if not known yet: the writer is then woken."""
    time = credit_of(ch, slot, channel, ready)
    if time >= 0 and window >= 0:
        if wc[window, W_PUTS] - wc[window, W_TAKES] >= par[P_WINDOW]:
            wc[window, W_WAITING] = 1
            return -1
        time = max(time, wf[window * par[P_WINDOW] + wc[window, W_PUTS] % par[P_WINDOW]])
    return time


@jit
def enqueue(ch: A, slot: A, channel: int, time: int) -> int:
    """Put at ``time``, the credit being known; returns the slot, whose item the caller fills before ``notify``."""
    place = ch[channel, C_TAIL]
    slot[place, L_ARRIVE] = time + ch[channel, C_FORWARD]
    ch[channel, C_PUTS] += 1
    follow = place + 1
    if follow == ch[channel, C_SLOT] + ch[channel, C_DEPTH]:
        follow = ch[channel, C_SLOT]
    ch[channel, C_TAIL] = follow
    return place


@jit
def notify(par: A, hp: A, sv: A, ch: A, slot: A, rin: A, ns: A, channel: int, place: int) -> None:
    """Wake the reader for an item that is the head of its queue; behind another item it has no say yet."""
    if ch[channel, C_PUTS] - ch[channel, C_TAKES] != 1:
        return
    reader, arrival, entrance = ch[channel, C_READER], slot[place, L_ARRIVE], ch[channel, C_INPUT]
    if entrance < 0:
        wake_after(hp, sv, reader, arrival)
        return
    output = ns[reader - par[P_ROUTER0], slot[place, L_DEST]]
    rin[entrance, R_ARRIVE] = arrival
    rin[entrance, R_OUTPUT] = output
    schedule(hp, reader, max(arrival, sv[output, V_END]))


@jit
def take(hp: A, sv: A, ch: A, slot: A, channel: int, time: int, server: int) -> None:
    """Take the head at ``time`` into a server's item fields; its credit goes back and the high-water mark is kept."""
    arrived, seen = ch[channel, C_ARRIVED], ch[channel, C_SEEN]
    past = ch[channel, C_SLOT] + ch[channel, C_DEPTH]
    while arrived < ch[channel, C_PUTS] and slot[seen, L_ARRIVE] <= time:
        arrived += 1
        seen += 1
        if seen == past:
            seen = ch[channel, C_SLOT]
    ch[channel, C_ARRIVED], ch[channel, C_SEEN] = arrived, seen
    ch[channel, C_HIGH] = max(ch[channel, C_HIGH], arrived - ch[channel, C_TAKES])
    place = ch[channel, C_HEAD]
    for j in range(F_COLUMNS):
        sv[server, V_ITEM + j] = slot[place, L_ITEM + j]
    slot[place, L_FREE] = time + ch[channel, C_ACK]
    ch[channel, C_TAKES] += 1
    place += 1
    ch[channel, C_HEAD] = ch[channel, C_SLOT] if place == past else place
    if ch[channel, C_WAITING] != 0:
        ch[channel, C_WAITING] = 0
        schedule(hp, sv[ch[channel, C_WRITER], V_STATION], time + ch[channel, C_ACK])


@jit
def begin(par: A, reg: A, sv: A, server: int, time: int) -> int:
    """Begin a service at ``time``: number, start and jitter. Returns its number."""
    n = sv[server, V_SERVICES]
    sv[server, V_SERVICES] = n + 1
    sv[server, V_START] = time
    sv[server, V_SHIFT] = 0
    sv[server, V_RESULT] = 0
    sv[server, V_RESULTS] = 0
    sv[server, V_REPEAT] = 0
    sv[server, V_LAST_PUT] = -1
    sv[server, V_WAITED] = 0
    sv[server, V_SYNOPS] = 0
    jitter = 0
    if par[P_AMPLITUDE] > 0 and server > 0:
        jitter = jitter_draw(par[P_SEED], par[P_SAMPLE], server, n, par[P_AMPLITUDE])
    sv[server, V_JITTER] = jitter
    reg[G_LAST_START] = max(reg[G_LAST_START], time)
    return n


@jit
def scaled(sv: A, server: int, duration: int) -> int:
    """A nominal duration of the service with its jitter."""
    if sv[server, V_JITTER] == 0:
        return duration
    return jittered(duration, sv[server, V_JITTER])


@jit
def finish(par: A, reg: A, sv: A, rows: A, server: int, end: int) -> None:
    """The service ends at ``end``: counters and its trace row."""
    sv[server, V_END] = end
    sv[server, V_OPEN] = 0
    waited = sv[server, V_WAITED]
    sv[server, V_BUSY] += end - sv[server, V_START] - waited
    sv[server, V_BLOCKED] += waited
    reg[G_LAST_END] = max(reg[G_LAST_END], end)
    if par[P_RECORD] == 0:
        return
    k = reg[G_ROWS]
    reg[G_ROWS] = k + 1
    rows[k, 0] = sv[server, V_START]
    rows[k, 1] = server
    rows[k, 2] = ROW_SERVICE
    rows[k, 3] = sv[server, V_SERVICES] - 1
    rows[k, 4] = end
    rows[k, 5] = sv[server, V_SERVICES] - 1
    for j in range(9):
        rows[k, 6 + j] = sv[server, V_ITEM + j]
    rows[k, 15] = waited
    rows[k, 16] = sv[server, V_SYNOPS]


@jit
def deliver(
    par: A, reg: A, hp: A, sv: A, ch: A, slot: A, rin: A, ns: A, rows: A, server: int, ready: int, time: int, item: int, slice_: int, address: int,
    value: int, dest: int, origin: int, route: int, record: int,
) -> None:  # fmt: skip
    """Put a packet or item (of the service's step) into the channel of ``server`` at ``time``, ready since ``ready``; ``record``: with a row."""
    n = sv[server, V_SERVICES] - 1
    channel = sv[server, V_CHANNEL]
    place = enqueue(ch, slot, channel, time)
    slot[place, L_ITEM] = item
    slot[place, L_SLICE] = slice_
    slot[place, L_ADDRESS] = address
    slot[place, L_VALUE] = value
    slot[place, L_STEP] = sv[server, V_STEP]
    slot[place, L_DEST] = dest
    slot[place, L_ORIGIN] = origin
    slot[place, L_CAUSE_SERVER] = server
    slot[place, L_CAUSE_SERVICE] = n
    slot[place, L_ROUTE] = route
    reg[G_LAST_START] = max(reg[G_LAST_START], time)
    notify(par, hp, sv, ch, slot, rin, ns, channel, place)
    if record == 0:
        return
    index = sv[server, V_PUTS]
    sv[server, V_PUTS] = index + 1
    if par[P_RECORD] == 0:
        return
    k = reg[G_ROWS]
    reg[G_ROWS] = k + 1
    rows[k, 0] = time
    rows[k, 1] = server
    rows[k, 2] = ROW_PUT
    rows[k, 3] = index
    rows[k, 4] = ready
    rows[k, 5] = n
    for j in range(9):
        rows[k, 6 + j] = slot[place, L_ITEM + j]
    rows[k, 15] = time - ready
    rows[k, 16] = 0
