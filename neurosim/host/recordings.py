"""Recordings of event sensors: flat arrays with real timestamps, the options of their use, checks, repairs, steps.

A recording is what the sensor wrote. Times stay in microseconds and in the sensor's order until a Stimulus is made of them; only a stepped
discipline bins them: step = floor((t - t0) / step), t0 being the sample's first event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ChipError, DataError
from neurosim.graph import Shape
from neurosim.units import parse_time_ps

I64 = NDArray[np.int64]
Bin = Literal["binary", "count"]
Pace = Literal["asap", "realtime"]
TieOrder = Literal["recording", "shuffled"]
Events = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""(t in us, x, y, p) of one sample."""
PS_PER_US = 10**6


@dataclass(frozen=True)
class EventOptions:
    """How recordings are used. Times are int picoseconds; ``event_options`` makes one from text such as "1 ms".

    ``step_ps``: length of a step; None: the network's own step time. ``bin``: several events of one neuron and step count once (binary) or each
    (count). ``span_ps``: only the first so much of every recording; None: as long as the steps last, or all of it where there are none.
    ``pace``: packets are due at their own times (realtime) or at once (asap). ``order``: events of equal time as recorded, or shuffled with
    ``order_seed``. ``repair``: sort, drop and leave out what would be refused, and count it.
    """

    step_ps: int | None = None
    bin: Bin = "binary"
    span_ps: int | None = None
    pace: Pace = "asap"
    order: TieOrder = "recording"
    order_seed: int = 0
    repair: bool = False


def event_options(
    *, step: str | int | None = None, bin: str = "binary", span: str | int | None = None, pace: str = "asap", order: str = "recording",
    order_seed: int = 0, repair: bool = False,
) -> EventOptions:  # fmt: skip
    """EventOptions from what a user writes: times as text with a unit or int picoseconds. Raises DataError naming the option."""
    for name, value, known in (("bin", bin, ("binary", "count")), ("pace", pace, ("asap", "realtime")), ("order", order, ("recording", "shuffled"))):
        if value not in known:
            raise DataError(f"{name} {value!r} of event recordings is unknown; choose {' or '.join(known)}")
    if isinstance(order_seed, bool) or not isinstance(order_seed, int) or order_seed < 0:
        raise DataError(f"order_seed {order_seed!r} must be a whole number of at least 0")
    return EventOptions(_duration("step", step), bin, _duration("span", span), pace, order, order_seed, bool(repair))  # type: ignore[arg-type]


def _duration(name: str, text: str | int | None) -> int | None:
    if text is None:
        return None
    try:
        ps = parse_time_ps(text)
    except ChipError as error:
        raise DataError(f"{name} of event recordings: {error}") from None
    if ps < 1:
        raise DataError(f'{name} {text!r} of event recordings must be longer than 0, for example "1 ms"')
    return ps


@dataclass(frozen=True)
class Recordings:
    """n recordings, one after the other: sample i is offsets[i]:offsets[i + 1] of ``t`` (us), ``x``, ``y``, ``p``, int64. ``labels``: int64 [n].

    ``sensor``: (polarities, rows, columns) of the sensor where the format states it. ``class_names``: of the labels, where known.
    """

    t: I64
    x: I64
    y: I64
    p: I64
    offsets: I64
    labels: I64 | None = None
    sensor: Shape | None = None
    name: str = "recordings"
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def part(self, first: int, last: int) -> Recordings:
        """Samples first .. last - 1."""
        a, b = int(self.offsets[first]), int(self.offsets[last])
        labels = None if self.labels is None else self.labels[first:last]
        return self.chosen(slice(a, b), self.offsets[first : last + 1] - a, labels)

    def chosen(self, events: Any, offsets: I64, labels: I64 | None) -> Recordings:
        """Some events (a slice, mask or order) with the offsets and labels that then hold."""
        return replace(self, t=self.t[events], x=self.x[events], y=self.y[events], p=self.p[events], offsets=offsets, labels=labels)

    def relative(self) -> I64:
        """[events] microseconds since the first event of their own sample."""
        counts = np.diff(self.offsets)
        return self.t - np.repeat(self.t[np.minimum(self.offsets[:-1], max(len(self.t) - 1, 0))], counts) if len(self.t) else self.t


def join(
    parts: Sequence[Events], labels: Sequence[int] | None, *, name: str, sensor: Shape | None = None, class_names: tuple[str, ...] = ()
) -> Recordings:
    """Recordings from the (t, x, y, p) of each sample."""
    t, x, y, p = (np.concatenate([np.asarray(part[k], np.int64) for part in parts] or [np.zeros(0, np.int64)]) for k in range(4))
    offsets = np.concatenate([[0], np.cumsum([len(part[0]) for part in parts])]).astype(np.int64)
    return Recordings(t, x, y, p, offsets, None if labels is None else np.asarray(labels, np.int64), sensor, name, class_names)


def from_arrays(arrays: dict[str, NDArray[Any]], name: str) -> Recordings:
    """Recordings from the flat arrays of a DATA.npz: t (us), x, y, p, offsets. Raises DataError when they are no such thing."""
    keys = ("t", "x", "y", "p", "offsets")
    lacking = [key for key in keys if key not in arrays]
    if lacking:
        raise DataError(f"{name} has no array {lacking[0]!r}; event recordings need t (us), x, y, p and offsets")
    for key in keys:
        if arrays[key].ndim != 1 or (arrays[key].size and arrays[key].dtype.kind not in "biu"):
            raise DataError(f"{name}: {key} has shape {arrays[key].shape} and dtype {arrays[key].dtype}, wanted a flat array of whole numbers")
    t, x, y, p, offsets = (arrays[key].astype(np.int64) for key in keys)
    return Recordings(t, x, y, p, offsets, name=name)


@dataclass(frozen=True)
class Checked:
    """Recordings that a program can take, and what had to be done to them: repairs by kind."""

    recordings: Recordings
    repaired: dict[str, int] = field(default_factory=dict)


def check(found: Recordings, shape: Shape, repair: bool) -> Checked:
    """The recordings for an input of ``shape`` (p, y, x): sorted, inside the sensor, none empty.

    With ``repair`` events outside are dropped, times sorted (stable) and empty samples left out, and ``repaired`` counts them as ``events_outside``,
    ``events_unsorted`` (events earlier than one before them) and ``samples_empty``. Raises DataError for the first of them otherwise, and for
    arrays that do not fit each other or hold no event at all.
    """
    name, n = found.name, len(found.t)
    if not n == len(found.x) == len(found.y) == len(found.p):
        raise DataError(f"{name}: t, x, y, p have lengths {n}, {len(found.x)}, {len(found.y)}, {len(found.p)}; they must agree")
    offsets = found.offsets
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        raise DataError(f"{name}: offsets must ascend from 0 to {n}, the number of events, one more than samples")
    if found.labels is not None and found.labels.shape != (len(found),):
        raise DataError(f"{name}: labels have shape {found.labels.shape} and dtype {found.labels.dtype}, wanted {len(found)} whole numbers")
    repaired = dict.fromkeys(("events_outside", "events_unsorted", "samples_empty"), 0)
    inside = np.ones(n, np.bool_)
    for key, values, limit in (("p", found.p, shape[0]), ("y", found.y, shape[1]), ("x", found.x, shape[2])):
        wrong = (values < 0) | (values >= limit)
        if wrong.any() and not repair:
            raise DataError(
                f"{name}: {key} from {values.min()} to {values.max()} leaves 0..{limit - 1} of the program's input {list(shape)} "
                f"in {wrong.sum()} of {n} events; repair drops them"
            )
        inside &= ~wrong
    owner = np.repeat(np.arange(len(found)), np.diff(offsets))[inside]
    t = found.t[inside]
    repaired["events_outside"] = n - len(t)
    late = np.flatnonzero((np.diff(t) < 0) & (np.diff(owner) == 0))
    if len(late) and not repair:
        raise DataError(f"{name}: times of sample {owner[late[0]]} go back; sort its events by t, repair does so")
    repaired["events_unsorted"] = _behind(t, owner) if len(late) else 0
    counts = np.bincount(owner, minlength=len(found))
    empty = np.flatnonzero(counts == 0)
    if len(empty) and not (repair and len(empty) < len(found)):
        remedy = "repair leaves them out" if len(empty) < len(found) else "there is nothing to run"
        raise DataError(f"{name}: {len(empty)} of {len(found)} recordings have no event, the first is sample {empty[0]}; {remedy}")
    repaired["samples_empty"] = len(empty)
    kept = np.flatnonzero(counts)
    order = np.flatnonzero(inside)[np.lexsort((t, owner))]  # lexsort is stable
    labels = None if found.labels is None else found.labels[kept]
    result = found.chosen(order, np.concatenate([[0], np.cumsum(counts[kept])]).astype(np.int64), labels)
    return Checked(result, {key: count for key, count in repaired.items() if count})


def _behind(t: I64, owner: I64) -> int:
    """Events earlier than an event before them in the same sample."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    return sum(int((t[a:b] < np.maximum.accumulate(t[a:b])).sum()) for a, b in pairwise([*starts.tolist(), len(t)]))


def first_span(found: Recordings, span_ps: int | None) -> tuple[Recordings, int]:
    """(the events within ``span_ps`` of the start of their sample, how many lie later). None: all."""
    if span_ps is None:
        return found, 0
    inside = found.relative() * PS_PER_US < span_ps
    if inside.all():
        return found, 0
    owner = np.repeat(np.arange(len(found)), np.diff(found.offsets))[inside]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(found)))]).astype(np.int64)
    return found.chosen(inside, offsets, found.labels), int((~inside).sum())


def most_in_a_step(found: Recordings, step_ps: int, shape: Shape) -> int:
    """Most events of one neuron in one step."""
    most = 0
    step = found.relative() * PS_PER_US // step_ps
    neuron = (found.p * shape[1] + found.y) * shape[2] + found.x
    for a, b in pairwise(found.offsets.tolist()):
        if b > a:
            most = max(most, int(np.unique(step[a:b] * np.int64(np.prod(shape)) + neuron[a:b], return_counts=True)[1].max()))
    return most


def dense(found: Recordings, step_ps: int, steps: int, shape: Shape, count: bool) -> NDArray[np.uint8]:
    """[n, T, p, y, x] events per step: 0 or 1, or how many; those after the last step are left out."""
    result = np.zeros((len(found), steps, *shape), np.uint8)
    owner, step = np.repeat(np.arange(len(found)), np.diff(found.offsets)), found.relative() * PS_PER_US // step_ps
    inside = step < steps
    where = tuple(values[inside] for values in (owner, step, found.p, found.y, found.x))
    if count:
        np.add.at(result, where, 1)
    else:
        result[where] = 1
    return result
