"""Channels, windows, trace rows and services: what every station of the fast engine uses.

Functions here are compiled into the kernel of ``kernel.py`` and never cached on their own: a cached inner function would not notice a changed rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import SALT_JITTER, SALT_LOSS, jittered
from neurosim.engine.events import MARKER, ROW_DROP, ROW_PUT, ROW_SERVICE, SPIKE
from neurosim.engine.fast.base.calendar import arm, schedule
from neurosim.engine.fast.base.compiled import entry, jit, part, prefetch
from neurosim.engine.fast.tables.columns import *

A = NDArray[Any]

UNKNOWN, DROPPED = -1, -2
"""Instead of the time of a put: not known yet, the station is woken; the spike finds no credit and is dropped."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_JITTER, _LOSS = np.uint64(SALT_JITTER), np.uint64(SALT_LOSS)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@jit
def splitmix64(x: np.uint64) -> np.uint64:
    """``arithmetic.splitmix64`` on 64-bit words."""
    x = np.uint64(x + _GOLDEN)
    x = np.uint64((x ^ (x >> _S30)) * _MIX1)
    x = np.uint64((x ^ (x >> _S27)) * _MIX2)
    return np.uint64(x ^ (x >> _S31))


@jit
def upper_hash(seed: int, sample: int, server: int, n: int, salt: np.uint64) -> np.uint64:
    """Upper 32 bits of ``arithmetic.hash_draw``; ``seed`` as a two's complement int64."""
    h = splitmix64(np.uint64(seed) ^ salt)
    h = splitmix64(h ^ np.uint64(sample))
    h = splitmix64(h ^ np.uint64(server))
    h = splitmix64(h ^ np.uint64(n))
    return np.uint64(h >> _S32)


@entry
def jitter_draw(seed: int, sample: int, server: int, n: int, amplitude: int) -> int:
    """``arithmetic.jitter_draw`` on 64-bit words."""
    product = upper_hash(seed, sample, server, n, _JITTER) * np.uint64(2 * amplitude + 1)
    upper: int = np.int64(product >> _S32)  # type: ignore[assignment]  # an int64 scalar once compiled
    return upper - amplitude


@entry
def is_lost(seed: int, sample: int, server: int, n: int, probability: int) -> bool:
    """``arithmetic.is_lost`` on 64-bit words."""
    return bool(upper_hash(seed, sample, server, n, _LOSS) < np.uint64(probability))


@jit
def sample_at(par: A, time: int) -> int:
    """Row of ``smp`` of a service that begins at ``time`` in a streamed run with windows."""
    return 0 if time == 0 else (time - 1) // par[P_WINDOW_PS]


@jit
def late(par: A, smp: A, first: int, time: int) -> None:
    """Streamed settle with windows: what was under way since window ``first`` moves on at ``time``: windows that ended in between are unsettled.

    A put or end under way goes on after the last window, to which no row belongs.
    """
    if par[P_SETTLED] != 0:
        for row in range(first, min(sample_at(par, time), smp.shape[0])):
            smp[row, X_UNSETTLED] = 1


@jit
def ends_at(par: A, smp: A, start: int, end: int, first: int) -> None:
    """Streamed with windows: the end of a service that began at ``start`` for sample ``first`` or a later one."""
    row = sample_at(par, start)
    smp[row, X_COMPLETION] = max(smp[row, X_COMPLETION], end)
    late(par, smp, max(row, first), end)


@part
def charged(par: A, pk: A, packet: int, start: int) -> int:
    """Row of ``smp`` to which a service that begins at ``start`` and its packet are charged."""
    if par[P_TIMED] != 0:
        return sample_at(par, start)
    return pk[packet].sample


@jit
def wake_after(st: A, cal: A, buckets: A, sv: A, server: int, time: int) -> None:
    """Wake a one-server station at ``time`` or at the end of its service; one that waits for a credit looks around when it goes on."""
    if sv[server].open == 0:
        arm(st, cal, buckets, server, max(time, sv[server].end))


@part
def new_packet(reg: A, spare: A) -> int:
    """An unused row of ``pk``."""
    k = reg[G_SPARE] - 1
    reg[G_SPARE] = k
    return spare[k]


@part
def release(par: A, reg: A, spare: A, packet: int) -> None:
    """The packet is no more; the servers' own rows stay."""
    if packet >= par[P_OWN]:
        k = reg[G_SPARE]
        spare[k] = packet
        reg[G_SPARE] = k + 1


@part
def copy_packet(pk: A, source: int, copy: int) -> None:
    """All fields of a packet into another row."""
    pk[copy] = pk[source]


@part
def free_place(ch: A, channel: int) -> int:
    """Slot of the next put; behind the last item, or the head itself where all are taken."""
    c = ch[channel]
    place = c.head + c.used
    return place - c.depth if place >= c.base + c.depth else place


@part
def head_is(rr: A, mask: A, words: int, k: int, bit: int) -> None:
    """Input ``bit`` of router ``k`` has a head."""
    if words == 1:
        rr[k].mask |= np.uint64(1) << np.uint64(bit)
    else:
        mask[k * words + (bit >> 6)] |= np.uint64(1) << np.uint64(bit & 63)


@part
def no_head(rr: A, mask: A, words: int, k: int, bit: int) -> None:
    """Input ``bit`` of router ``k`` has no head any more."""
    if words == 1:
        rr[k].mask &= ~(np.uint64(1) << np.uint64(bit))
    else:
        mask[k * words + (bit >> 6)] &= ~(np.uint64(1) << np.uint64(bit & 63))


@part
def heads(rr: A, mask: A, words: int, k: int, word: int) -> np.uint64:
    """Which of the inputs 64 * word .. of router ``k`` have a head."""
    if words == 1:
        return rr[k].mask
    return mask[k * words + word]


@jit
def credit(
    st: A, cal: A, buckets: A, ch: A, cw: A, slot: A, channel: int, ready: int, time: int, station: int, item: int,
) -> int:  # fmt: skip
    """First time >= ready with a credit of the channel, or DROPPED, or UNKNOWN: ``station``, which decides at ``time``, is woken for it.

    A put whose credit is not known yet may still find one; only at ``ready`` itself is it certain that there is none and the spike is dropped.
    """
    c = ch[channel]
    drops = cw[channel, C_DROP] != 0 and item == SPIKE
    if c.used >= c.depth:
        if drops:
            if time >= ready:
                return DROPPED
            schedule(st, cal, buckets, station, ready)
        else:
            c.waiting = 1
        return UNKNOWN
    usable = slot[free_place(ch, channel)].time
    if usable <= ready:
        return ready
    return DROPPED if drops else usable


@jit
def window_credit(par: A, wc: A, wf: A, window: int, ready: int) -> int:
    """First time >= ready with a credit of window row ``window`` (none if < 0); UNKNOWN: its sender is then woken."""
    if window < 0:
        return ready
    if wc[window, W_PUTS] - wc[window, W_TAKES] >= par[P_WINDOW]:
        wc[window, W_WAITING] = 1
        return UNKNOWN
    return max(ready, wf[window * par[P_WINDOW] + wc[window, W_PUTS] % par[P_WINDOW]])


@jit
def return_credit(par: A, st: A, cal: A, buckets: A, wc: A, wf: A, window: int, time: int) -> None:
    """A credit of window row ``window``, if >= 0, is usable again t_wire after ``time``.

    Credits are kept in order of time: those of lost spikes come from anywhere on the way, and may overtake others.
    """
    if window < 0:
        return
    base, size, usable = window * par[P_WINDOW], par[P_WINDOW], time + par[P_WIRE]
    k = wc[window, W_TAKES] + size
    while k > wc[window, W_PUTS] and wf[base + (k - 1) % size] > usable:
        wf[base + k % size] = wf[base + (k - 1) % size]
        k -= 1
    wf[base + k % size] = usable
    wc[window, W_TAKES] += 1
    if wc[window, W_WAITING] != 0:
        if par[P_UNUSUAL] == 0:  # else an earlier credit may come back later on
            wc[window, W_WAITING] = 0
        schedule(st, cal, buckets, wc[window, W_SENDER], time + par[P_WIRE])


@part
def enqueue(
    par: A, st: A, cal: A, buckets: A, sv: A, ch: A, slot: A, pk: A, mask: A, ns: A, rr: A, words: int, cores: int, router0: int, channel: int,
    place: int, time: int, packet: int, dest: int,
) -> None:  # fmt: skip
    """Put at ``time`` into slot ``place``, the credit being known. The reader is woken for an item that is the head of its queue; behind another it
    has no say yet.

    ``dest`` -1: the item may need several outputs of the router that reads, which finds them out itself.
    """
    c = ch[channel]
    arrival = time + par[P_COLUMNS + FIGURES * c.figures + FORWARD]
    at = slot[place]
    at.time = arrival
    at.packet = packet
    at.dest = dest
    c.used += 1
    if c.used != 1:
        return
    reader = c.reader
    wake = arrival
    if c.bit < 0:
        prefetch(pk[packet])  # long untouched, and soon served
        if sv[reader].open != 0:
            return
        wake = max(arrival, sv[reader].end)
    else:
        k = reader - router0
        c.arrive = arrival
        head_is(rr, mask, words, k, c.bit)
        if dest >= 0:
            local = ns[k * cores + dest]
            if local < 0:
                output = rr[k].out + ~local
                c.output = ~output
                reader = sv[output].station
            else:
                output = rr[k].out + local
                c.output = output
            wake = max(max(arrival, c.taken), ch[output].end)
            if wake == INF:
                return
    arm(st, cal, buckets, reader, wake)


@part
def take(par: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, channel: int, time: int) -> int:
    """Take the head at ``time``: its credit goes back and the high-water mark is kept. Returns the packet."""
    c = ch[channel]
    place, past = c.head, c.base + c.depth
    at = slot[place]
    packet, arrival = at.packet, at.time
    # how many there were when it arrived: itself and those before it that left then or later
    high, before = 1, place
    while high < c.depth:
        before = (past if before == c.base else before) - 1
        if slot[before].left < arrival:
            break
        high += 1
    c.high = max(c.high, high)
    at.left = time
    usable = time + par[P_COLUMNS + FIGURES * c.figures + ACK]
    at.time = usable
    c.used -= 1
    place += 1
    c.head = c.base if place == past else place
    if c.waiting != 0:
        c.waiting = 0
        arm(st, cal, buckets, sv[channel].station, usable)
    return packet


@jit
def begin(par: A, sv: A, server: int, time: int, packet: int) -> int:
    """Begin a service at ``time``: number, start and jitter. Returns its number."""
    v = sv[server]
    n = v.services
    v.services = n + 1
    v.start = time
    v.packet = packet
    v.shift = 0
    v.result = 0
    v.results = 0
    v.repeat = 0
    v.last_put = -1
    v.waited = 0
    v.synops = 0
    v.jitter = 0
    if par[P_AMPLITUDE] > 0 and server >= par[P_PORTS]:
        v.jitter = jitter_draw(par[P_SEED], par[P_SAMPLE], server, n, par[P_AMPLITUDE])
    return n


@part
def scaled(sv: A, server: int, duration: int) -> int:
    """A nominal duration of the service with its jitter."""
    if sv[server].jitter == 0:
        return duration
    return jittered(duration, sv[server].jitter)


@jit
def item_columns(rows: A, k: int, pk: A, packet: int) -> None:
    """The packet's columns of a trace row."""
    p = pk[packet]
    rows[k, 6] = p.item
    rows[k, 7] = p.slice
    rows[k, 8] = p.address
    rows[k, 9] = p.value
    rows[k, 10] = p.step
    rows[k, 11] = p.dest
    rows[k, 12] = p.origin
    rows[k, 13] = p.cause_server
    rows[k, 14] = p.cause_service


@jit
def service_row(reg: A, sv: A, pk: A, rows: A, server: int, n: int, end: int, packet: int, waited: int) -> None:
    """Trace row of the service that has just ended."""
    k = reg[G_ROWS]
    reg[G_ROWS] = k + 1
    v = sv[server]
    rows[k, 0] = v.start
    rows[k, 1] = server
    rows[k, 2] = ROW_SERVICE
    rows[k, 3] = n
    rows[k, 4] = end
    rows[k, 5] = n
    item_columns(rows, k, pk, packet)
    rows[k, 15] = waited
    rows[k, 16] = v.synops


@jit
def put_row(reg: A, pk: A, rows: A, server: int, kind: int, index: int, n: int, packet: int, ready: int, time: int) -> None:
    """Trace row of a put, drop or loss of service ``n``."""
    k = reg[G_ROWS]
    reg[G_ROWS] = k + 1
    rows[k, 0] = time
    rows[k, 1] = server
    rows[k, 2] = kind
    rows[k, 3] = index
    rows[k, 4] = ready
    rows[k, 5] = n
    item_columns(rows, k, pk, packet)
    rows[k, 15] = time - ready
    rows[k, 16] = 0


@jit
def finish(par: A, reg: A, sv: A, pk: A, spare: A, rows: A, smp: A, server: int, end: int) -> None:
    """The service ends at ``end``: counters, its trace row, and its packet is no more."""
    v = sv[server]
    v.end = end
    v.open = 0
    v.busy += end - v.start - v.waited
    v.blocked += v.waited
    reg[G_LAST_END] = max(reg[G_LAST_END], end)
    if par[P_TIMED] != 0:
        ends_at(par, smp, v.start, end, pk[v.packet].sample if server < par[P_PORTS] else 0)
    if par[P_RECORD] == RECORD_ALL or (par[P_RECORD] != 0 and server < par[P_PORTS] and pk[v.packet].item != MARKER):
        service_row(reg, sv, pk, rows, server, v.services - 1, end, v.packet, v.waited)
    release(par, reg, spare, v.packet)


@jit
def puts_fires(par: A, server: int) -> bool:
    """Whether a server's puts are the fires of neurons: a core or soma, no port, sender or router output."""
    return par[P_PORTS] <= server < par[P_ROUTER0] and (server - par[P_PORTS]) % 3 != 2


@jit
def missed(par: A, reg: A, sv: A, cw: A, pk: A, rows: A, server: int, n: int, kind: int, packet: int, time: int) -> None:
    """Count a drop or loss of ``server`` (its service in hand) at ``time``, with its row."""
    v = sv[server]
    index = v.missed
    v.missed = index + 1
    cw[server, C_DROPS if kind == ROW_DROP else C_LOSSES] += 1
    if par[P_RECORD] == RECORD_ALL or (par[P_RECORD] != 0 and puts_fires(par, server)):
        put_row(reg, pk, rows, server, kind, index, n, packet, time, time)


@part
def deliver(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, pk: A, spare: A, rin: A, mask: A, ns: A, rr: A, rows: A, server: int,
    ready: int, time: int, packet: int,
) -> None:  # fmt: skip
    """Put ``packet``, whose fields are set but for its cause, into the channel of ``server`` at ``time`` (or drop it at ``ready``: time DROPPED)."""
    v, p = sv[server], pk[packet]
    p.cause_server = server
    p.cause_service = v.services - 1
    if time == DROPPED:
        missed(par, reg, sv, cw, pk, rows, server, v.services - 1, ROW_DROP, packet, ready)
        release(par, reg, spare, packet)
        return
    if (par[P_RECORD] == RECORD_ALL and server >= par[P_PORTS]) or (par[P_RECORD] != 0 and p.item == SPIKE and puts_fires(par, server)):
        put_row(reg, pk, rows, server, ROW_PUT, v.puts, v.services - 1, packet, ready, time)
    v.puts += 1
    enqueue(
        par, st, cal, buckets, sv, ch, slot, pk, mask, ns, rr, par[P_WORDS], par[P_CORES], par[P_ROUTER0], server, free_place(ch, server), time,
        packet,
        p.dest if par[P_TREE] == 0 else -1,
    )  # fmt: skip
