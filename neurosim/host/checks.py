"""Recordings that a program can take: what is wrong with others is refused by name, or mended and counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError
from neurosim.graph import Shape
from neurosim.host.recordings import I64, MOST_PS, PS_PER_US, Recordings

REPAIRS = {
    "polarities_mapped": "polarities of -1 taken as 0",
    "times_unwrapped": "times after a 32-bit clock went round put behind those before",
    "events_early": "events before time 0 of their file dropped",
    "events_outside": "events outside the sensor dropped",
    "events_unsorted": "unsorted events put in order",
    "samples_empty": "samples without events left out",
}
"""What ``repaired`` counts, in words."""
CLOCKS = (32, 24, 16)
"""Widths in bits of the sensors' clocks whose going round is recognised."""
NEAR = 64
"""A jump back by a whole turn of a clock, less at most one part in so many, is the clock going round: with 32 bits, a gap of up to 67 s."""


@dataclass(frozen=True)
class Checked:
    """Recordings that a program can take, and what had to be done to them: repairs by kind."""

    recordings: Recordings
    repaired: dict[str, int] = field(default_factory=dict)


def check(found: Recordings, shape: Shape, repair: bool, keep_empty: bool = False) -> Checked:
    """The recordings for an input of ``shape`` (p, y, x): sorted, inside the sensor, none empty but with ``keep_empty``.

    With ``repair`` polarities -1 and 1 become 0 and 1, times that went round at 2**32 are unwrapped, events outside (or before the zero of their
    file, where that counts) dropped, times sorted (stable) and empty samples left out; ``repaired`` counts them by the keys of REPAIRS.
    Raises DataError for the first of them otherwise. Whatever ``repair``: for arrays that do not fit each other or hold no event at all, polarities
    of no convention, clocks that went round otherwise, times that 64 bits of picoseconds do not hold.
    """
    _fit(found)
    repaired = dict.fromkeys(REPAIRS, 0)
    p = _polarities(found, shape[0])
    if p is not found.p:
        if not repair:
            raise DataError(f"{found.name}: polarities are -1 and 1, the program wants 0 (OFF) and 1 (ON); make p (p + 1) // 2, repair does so")
        repaired["polarities_mapped"], found = int((found.p == -1).sum()), replace(found, p=p)
    t = _unwrapped(found)
    if t is not found.t:
        if not repair:
            sample = found.owners()[np.flatnonzero(t != found.t)[0]]
            raise DataError(
                f"{found.name}: times of sample {sample} go back by nearly 2**32 us, a clock of 32 bits that went round; add 2**32 to the "
                "later ones, repair does so"
            )
        repaired["times_unwrapped"], found = int((t != found.t).sum()), replace(found, t=t)
    inside = _inside(found, shape, repair)
    repaired["events_outside"] = int((~inside).sum())
    if found.start == "file":
        early = inside & (found.t < (0 if found.zero is None else found.zero[found.owners()]))
        if early.any() and not repair:
            raise DataError(
                f"{found.name}: {early.sum()} events lie before time 0 of their file, the first in sample {found.owners()[early][0]}; count from the "
                "first event (start first), or repair drops them"
            )
        repaired["events_early"], inside = int(early.sum()), inside & ~early
    owner, t = found.owners()[inside], found.t[inside]
    late = np.flatnonzero((t[1:] < t[:-1]) & (owner[1:] == owner[:-1]))
    if len(late) and not repair:
        raise DataError(
            f"{found.name}: times of sample {owner[late[0]]} go back, from {t[late[0]]} to {t[late[0] + 1]} us; sort its events by t, repair does so"
        )
    repaired["events_unsorted"] = _behind(t, owner) if len(late) else 0
    counts = np.bincount(owner, minlength=len(found))
    kept = np.arange(len(found)) if keep_empty else np.flatnonzero(counts)
    empty = np.setdiff1d(np.arange(len(found)), kept)
    if len(empty) and not (repair and len(kept)):
        remedy = "repair leaves them out, keep_empty keeps them as samples" if len(kept) else "there is nothing to run"
        raise DataError(f"{found.name}: {len(empty)} of {len(found)} recordings have no event, the first is sample {empty[0]}; {remedy}")
    repaired["samples_empty"] = len(empty)
    order = np.flatnonzero(inside)[np.lexsort((t, owner))]  # lexsort is stable
    result = found.chosen(order, np.concatenate([[0], np.cumsum(counts[kept])]).astype(np.int64), kept)
    _refuse_long(result)
    return Checked(result, {key: count for key, count in repaired.items() if count})


def _fit(found: Recordings) -> None:
    name, n, offsets = found.name, len(found.t), found.offsets
    if not n == len(found.x) == len(found.y) == len(found.p):
        raise DataError(f"{name}: t, x, y, p have lengths {n}, {len(found.x)}, {len(found.y)}, {len(found.p)}; they must agree")
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        raise DataError(f"{name}: offsets must ascend from 0 to {n}, the number of events, one more than samples")
    if found.labels is not None and found.labels.shape != (len(found),):
        raise DataError(f"{name}: labels have shape {found.labels.shape} and dtype {found.labels.dtype}, wanted {len(found)} whole numbers")


def _polarities(found: Recordings, limit: int) -> I64:
    """Polarities as 0 and 1, the array itself where they are. DataError for codes that would lose a polarity when what is outside is dropped."""
    p = found.p
    codes = set(np.unique(p).tolist())
    if -1 in codes and codes <= {-1, 1}:
        return (p + 1) // 2
    if limit == 2 and codes in ({-1, 0}, {-1, 0, 1}, {1, 2}):
        listed = ", ".join(map(str, sorted(codes)))
        raise DataError(f"{found.name}: polarities are {listed}, which does not say what is OFF and what ON; make p 0 for OFF and 1 for ON")
    return p


def _unwrapped(found: Recordings) -> I64:
    """Times of which those after a 32-bit clock went round, once in a sample, are a turn later; the array itself where none did.

    DataError for clocks of other widths and for more than one turn: sorting such times would mix what lies far apart.
    """
    t, turns = found.t, np.zeros(len(found.t), np.int64)
    if not len(t):
        return t
    ends = found.offsets[1:-1]
    for a, b in pairwise([0, *ends[(ends > 0) & (ends < len(t))].tolist(), len(t)]):
        jumps = np.diff(t[a:b].astype(np.float64))  # of times of 64 bits the difference may have 65
        if not (jumps < 0).any():
            continue
        span = float(t[a:b].max()) - float(t[a:b].min())
        for bits in CLOCKS:
            turn = 1 << bits
            least = turn - turn // NEAR
            back, forth = jumps <= -least, jumps >= least
            if span >= turn or not back.any():
                continue
            laps = np.concatenate([[0], np.cumsum(back.astype(np.int64) - forth)])
            if bits != 32 or laps.min() < 0 or laps.max() > 1:
                at = int(np.flatnonzero(back)[0])
                raise DataError(
                    f"{found.name}: times of sample {found.owners()[a]} go back by nearly 2**{bits} us, {t[a + at]} to {t[a + at + 1]}: a clock of "
                    f"{bits} bits that went round{' more than once' if bits == 32 else ''}; unwrap its times first, sorting would mix its rounds "
                    "(if they are only out of order, sort them by t)"
                )
            turns[a:b] = laps
            break
    return t + (turns << 32) if turns.any() else t


def _inside(found: Recordings, shape: Shape, repair: bool) -> NDArray[np.bool_]:
    """[events] whether they lie on the program's input; DataError without ``repair`` unless all do."""
    inside = np.ones(len(found.t), np.bool_)
    for key, values, limit in (("p", found.p, shape[0]), ("y", found.y, shape[1]), ("x", found.x, shape[2])):
        wrong = (values < 0) | (values >= limit)
        if wrong.any() and not repair:
            raise DataError(
                f"{found.name}: {key} from {values.min()} to {values.max()} leaves 0..{limit - 1} of the program's input {list(shape)} "
                f"in {wrong.sum()} of {len(values)} events; repair drops them"
            )
        inside &= ~wrong
    return inside


def _refuse_long(found: Recordings) -> None:
    """DataError when a time of a sample, in picoseconds, leaves 64 bits."""
    owner = found.owners()
    if not len(owner):
        return
    begin = found.t[found.offsets[owner]] if found.start == "first" else np.zeros(len(owner), np.int64) if found.zero is None else found.zero[owner]
    # sorted times: the difference of 64-bit numbers in the right order, read without a sign, is exact
    since = found.t.astype(np.uint64) - begin.astype(np.uint64)
    if since.max() > MOST_PS // PS_PER_US:
        at = int(np.argmax(since))
        raise DataError(
            f"{found.name}: an event of sample {owner[at]} lies {since[at]} us after its start, a sample lasts at most {MOST_PS // PS_PER_US} us "
            "(106 days); times are in microseconds, are these of another unit, or damaged?"
        )


def _behind(t: NDArray[Any], owner: I64) -> int:
    """Events earlier than an event before them in the same sample."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    return sum(int((t[a:b] < np.maximum.accumulate(t[a:b])).sum()) for a, b in pairwise([*starts.tolist(), len(t)]))
