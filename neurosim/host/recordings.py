"""Recordings of event sensors: flat arrays with real timestamps, the options of their use, steps.

A recording is what the sensor wrote. Times stay in microseconds and in the sensor's order until a Stimulus is made of them; only a stepped
discipline bins them: step = floor((t - t0) / step), t0 being the sample's first event or the zero of its file. ``checks`` says what is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
Start = Literal["file", "first"]
Events = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""(t in us, x, y, p) of one sample."""
PS_PER_US = 10**6
MOST_PS = 2**63 - 1
"""Of any time: they are int64 picoseconds, which is 106 days."""


@dataclass(frozen=True)
class EventOptions:
    """How recordings are used. Times are int picoseconds; ``event_options`` makes one from text such as "1 ms".

    ``step_ps``: length of a step; None: the network's own step time. ``bin``: several events of one neuron and step count once (binary) or each
    (count). ``span_ps``: only the first so much of every recording; None: as long as the steps last, or all of it where there are none.
    ``pace``: packets are due at their own times (realtime) or at once (asap). ``order``: events of equal time as recorded, or shuffled with
    ``order_seed``. ``start``: what time 0 of a sample is, its first event (first) or the zero of its file's own clock (file); None: what its format
    says, ``Recordings.start``. ``keep_empty``: a recording without any event is a sample like others. ``repair``: mend, sort, drop and leave out what
    would be refused, and count it.
    """

    step_ps: int | None = None
    bin: Bin = "binary"
    span_ps: int | None = None
    pace: Pace = "asap"
    order: TieOrder = "recording"
    order_seed: int = 0
    start: Start | None = None
    keep_empty: bool = False
    repair: bool = False


def event_options(
    *, step: str | int | None = None, bin: str = "binary", span: str | int | None = None, pace: str = "asap", order: str = "recording",
    order_seed: int = 0, start: str | None = None, keep_empty: bool = False, repair: bool = False,
) -> EventOptions:  # fmt: skip
    """EventOptions from what a user writes: times as text with a unit or int picoseconds. Raises DataError naming the option."""
    for name, value, known in (
        ("bin", bin, ("binary", "count")),
        ("pace", pace, ("asap", "realtime")),
        ("order", order, ("recording", "shuffled")),
        ("start", start, ("file", "first", None)),
    ):
        if value not in known:
            raise DataError(f"{name} {value!r} of event recordings is unknown; choose {' or '.join(filter(None, known))}")
    if isinstance(order_seed, bool) or not isinstance(order_seed, int) or order_seed < 0:
        raise DataError(f"order_seed {order_seed!r} must be a whole number of at least 0")
    chosen: Any = {"bin": bin, "pace": pace, "order": order, "start": start}  # looked at above
    return EventOptions(
        _duration("step", step), span_ps=_duration("span", span), order_seed=order_seed, keep_empty=bool(keep_empty), repair=bool(repair), **chosen
    )


def _duration(name: str, text: str | int | None) -> int | None:
    if text is None:
        return None
    try:
        ps = parse_time_ps(text)
    except ChipError as error:
        raise DataError(f"{name} of event recordings: {error}") from None
    if ps < 1:
        raise DataError(f'{name} {text!r} of event recordings must be longer than 0, for example "1 ms"')
    if ps > MOST_PS:
        raise DataError(f"{name} {text!r} of event recordings is longer than {MOST_PS} ps, the longest time there is (106 days); make it shorter")
    return ps


@dataclass(frozen=True)
class Recordings:
    """n recordings, one after the other: sample i is offsets[i]:offsets[i + 1] of ``t`` (us), ``x``, ``y``, ``p``, int64. ``labels``: int64 [n].

    ``sensor``: (polarities, rows, columns) of the sensor where the format states it. ``class_names``: of the labels, where known. ``start``: what is
    time 0 of a sample, its first event or the zero of its file; ``zero``: int64 [n], where that lies in ``t``, None for 0.
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
    start: Start = "first"
    zero: I64 | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def part(self, first: int, last: int) -> Recordings:
        """Samples first .. last - 1."""
        a, b = int(self.offsets[first]), int(self.offsets[last])
        return self.chosen(slice(a, b), self.offsets[first : last + 1] - a, slice(first, last))

    def chosen(self, events: Any, offsets: I64, samples: Any = slice(None)) -> Recordings:
        """Some events (a slice, mask or order) of some samples (likewise), with the offsets that then hold."""
        labels, zero = (None if values is None else values[samples] for values in (self.labels, self.zero))
        t, x, y, p = (values[events] for values in (self.t, self.x, self.y, self.p))
        return replace(self, t=t, x=x, y=y, p=p, offsets=offsets, labels=labels, zero=zero)

    def owners(self) -> I64:
        """[events] the sample of each."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def relative(self) -> I64:
        """[events] microseconds since time 0 of their own sample, by ``start``."""
        if not len(self.t):
            return self.t
        if self.start == "file":
            return self.t if self.zero is None else self.t - self.zero[self.owners()]
        return self.t - self.t[self.offsets[self.owners()]]


def join(
    parts: Sequence[Events], labels: Sequence[int] | None, *, name: str, sensor: Shape | None = None, class_names: tuple[str, ...] = (),
    start: Start = "first", zero: Sequence[int] | None = None,
) -> Recordings:  # fmt: skip
    """Recordings from the (t, x, y, p) of each sample."""
    t, x, y, p = (np.concatenate([np.asarray(part[k], np.int64) for part in parts] or [np.zeros(0, np.int64)]) for k in range(4))
    offsets = np.concatenate([[0], np.cumsum([len(part[0]) for part in parts])]).astype(np.int64)
    labels_, zero_ = (None if values is None else np.asarray(values, np.int64) for values in (labels, zero))
    return Recordings(t, x, y, p, offsets, labels_, sensor, name, class_names, start, zero_)


def from_arrays(arrays: dict[str, NDArray[Any]], name: str) -> Recordings:
    """Recordings from the flat arrays of a DATA.npz: t (us), x, y, p, offsets. Raises DataError when they are no such thing."""
    keys = ("t", "x", "y", "p", "offsets")
    lacking = [key for key in keys if key not in arrays]
    if lacking:
        raise DataError(f"{name} has no array {lacking[0]!r}; event recordings need t (us), x, y, p and offsets")
    for key in keys:
        values = arrays[key]
        if values.ndim != 1 or (values.size and values.dtype.kind not in "biu"):
            remedy = ""
            if values.ndim == 1 and values.dtype.kind == "f":
                remedy = "; of seconds make np.rint(t * 1e6).astype(np.int64)" if key == "t" else f"; make {key}.astype(np.int64)"
            wanted = "whole microseconds" if key == "t" else "whole numbers"
            raise DataError(f"{name}: {key} has shape {values.shape} and dtype {values.dtype}, wanted a flat array of {wanted}{remedy}")
        if values.dtype == np.uint64 and values.size and values.max() > MOST_PS:
            raise DataError(f"{name}: {key} reaches {values.max()}, at most {MOST_PS} fits 64 bits; it is damaged or of another unit")
    t, x, y, p, offsets = (arrays[key].astype(np.int64) for key in keys)
    return Recordings(t, x, y, p, offsets, name=name)


def from_structured(rows: NDArray[Any], name: str) -> Recordings:
    """One recording from an array of events with fields t (us), x, y, p, as tonic and others hand them out. Raises DataError."""
    fields = rows.dtype.names or ()
    if rows.ndim != 1 or not {"t", "x", "y", "p"} <= set(fields):
        raise DataError(f"{name}: an array of shape {rows.shape} with fields {', '.join(fields)}, wanted a flat one with fields t (us), x, y, p")
    return from_arrays({**{key: rows[key] for key in "txyp"}, "offsets": np.array([0, len(rows)])}, name)


def first_span(found: Recordings, span_ps: int | None) -> tuple[Recordings, int]:
    """(the events within ``span_ps`` of the start of their sample, how many lie later). None: all."""
    if span_ps is None:
        return found, 0
    inside = found.relative() * PS_PER_US < span_ps
    if inside.all():
        return found, 0
    cut = np.concatenate([[0], np.cumsum(np.bincount(found.owners()[inside], minlength=len(found)))]).astype(np.int64)
    return found.chosen(inside, cut), int((~inside).sum())


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
    owner, step = found.owners(), found.relative() * PS_PER_US // step_ps
    inside = step < steps
    where = tuple(values[inside] for values in (owner, step, found.p, found.y, found.x))
    if count:
        np.add.at(result, where, 1)
    else:
        result[where] = 1
    return result
