"""What flows along the edges of an exported graph: for every element, of which layer's value, step and position it is a copy.

An element is ``layer value + constant``. Layer values are numbered: every layer (``Source``) owns a range of ids, one per step and position and one
more set for its mean over the steps; id 0 is the number 0. So views, permutations, slices, assignments into slices and joins are the same torch
operation done on the ids, whatever axis holds the time, and loops over steps need no unrolling: equal work on another step has ids that are equal
but for the step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurosim.graph import Shape

STATIC = -1
"""The step of what is the same in every step."""


class MixedStepsError(Exception):
    """One operation reads values of several steps at once."""


@dataclass(frozen=True)
class Source:
    """A layer of the Network and its ids: start + step * size + position (``dynamic``), or start + position."""

    name: str
    shape: Shape
    start: int
    dynamic: bool

    @property
    def size(self) -> int:
        """Values per step."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: ``ids`` int64 and, where not None, ``const`` float64 of the same shape to be added.

    ``steps``: where not None, a sum over these steps, ids at step 0: what a loop over the steps has added up so far. ``late``: where not None, ids of
    an earlier step, to be added too.
    """

    ids: Any
    const: Any = None
    steps: frozenset[int] | None = None
    late: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.ids.shape)

    def moved(self, move: Callable[[Any], Any]) -> Value:
        """The same operation on ids and constants."""
        const, late = (None if part is None else move(part) for part in (self.const, self.late))
        return Value(move(self.ids), const, self.steps, late)


class Ledger:
    """All sources, and what an id means."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.mean = steps
        """The step number of a mean over all steps."""
        self.sources = [Source("", (1, 1, 1), 0, False)]
        self.end = 1
        self._tables: tuple[Any, Any, Any] | None = None

    def add(self, name: str, shape: Shape, dynamic: bool) -> Source:
        """A new source behind the others."""
        source = Source(name, shape, self.end, dynamic)
        self.sources.append(source)
        self.end += source.size * (self.steps + 1 if dynamic else 1)
        self._tables = None
        return source

    def all_steps(self, source: Source) -> Any:
        """Ids [steps, c, y, x]."""
        ids = source.start + torch.arange(source.size * self.steps if source.dynamic else source.size)
        if source.dynamic:
            return ids.reshape(self.steps, *source.shape)
        return ids.reshape(1, *source.shape).expand(self.steps, *source.shape)

    def lookup(self, ids: Any) -> Any:
        """Index of the source of every id."""
        if self._tables is None:
            starts = torch.tensor([s.start for s in self.sources])
            sizes, dynamic = torch.tensor([s.size for s in self.sources]), torch.tensor([s.dynamic for s in self.sources])
            self._tables = starts, sizes, dynamic
        ends = torch.stack(torch.aminmax(ids)) if ids.numel() else ids
        first = torch.searchsorted(self._tables[0], ends, right=True) - 1
        if len(first) and first[0] == first[-1]:  # mostly all are of one source
            return first[0].expand(ids.shape)
        return torch.searchsorted(self._tables[0], ids.contiguous(), right=True) - 1

    def label(self, ids: Any) -> tuple[Any, Any]:
        """(step, id at step 0) of every id; STATIC for what does not change."""
        which = self.lookup(ids)
        assert self._tables is not None
        if which.numel() and not any(which.stride()):
            source = self.sources[int(which.reshape(-1)[0])]
            if not source.dynamic:
                return torch.tensor(STATIC).expand(ids.shape), ids
            step = (ids - source.start) // source.size
            return step, ids - step * source.size
        starts, sizes, dynamic = self._tables
        step = torch.where(dynamic[which], (ids - starts[which]) // sizes[which], STATIC)
        return step, ids - step.clamp(min=0) * sizes[which]

    def mean_of(self, norm: Any) -> Any:
        """The ids of the means over the steps of normalised ids."""
        sizes = torch.tensor([s.size if s.dynamic else 0 for s in self.sources])
        return norm + self.steps * sizes[self.lookup(norm)]

    def source_of(self, ids: Any) -> Source | None:
        """The source whose values, all and in order, these normalised ids are."""
        flat = ids.reshape(-1)
        source = self.sources[int(self.lookup(flat[:1])[0])]
        if source.size != len(flat) or int(flat[0]) != source.start or not torch.equal(flat, torch.arange(source.start, source.start + source.size)):
            return None
        return source


@dataclass
class Split:
    """Tensors taken apart into rows (axes along which the step changes or nothing does), tokens (other leading axes) and features.

    ``steps`` [rows]; ``ids`` of each value [rows, *tokens, *features], normalised to step 0; ``extra`` likewise, [rows, *tokens].
    """

    steps: Any
    ids: list[Any]
    extra: list[Any]
    tokens: tuple[int, ...]
    restore: Callable[[Any], Any]

    def groups(self) -> list[tuple[Any, list[Any], list[Any]]]:
        """(row numbers, ids, extra) of every different pattern of a row."""
        parts = [*self.ids, *self.extra]
        if all(bool((part == part[:1]).all()) for part in parts):
            return [(torch.arange(len(self.steps)), [i[0] for i in self.ids], [e[0] for e in self.extra])]
        found: dict[bytes, list[int]] = {}
        for row in range(len(self.steps)):
            found.setdefault(b"".join(part[row].contiguous().numpy().tobytes() for part in parts), []).append(row)
        return [(torch.tensor(rows), [i[rows[0]] for i in self.ids], [e[rows[0]] for e in self.extra]) for rows in found.values()]


def split(ledger: Ledger, values: Sequence[Value], features: int, extra: Sequence[Any] = (), *, tokens: bool = True) -> Split:
    """Take tensors of one leading shape apart; the last ``features`` axes stay together. Raises MixedStepsError.

    ``extra``: labels of the leading shape that belong to the rows' pattern. ``tokens`` False: every leading axis is a row axis.
    """
    lead = values[0].shape[: len(values[0].shape) - features]
    labels = [ledger.label(v.ids) for v in values]
    norms, others = [norm for _, norm in labels], [torch.as_tensor(e).expand(lead) for e in extra]
    step = torch.stack([s.reshape(*lead, -1).amax(-1) for s, _ in labels]).amax(0)
    unfolded = _unfold(step, ledger.steps)
    if unfolded is not None:
        axis, sizes = unfolded
        wide = (*lead[:axis], *sizes, *lead[axis + 1 :])
        inner = split(
            ledger, [Value(v.ids.reshape(*wide, *v.shape[len(lead) :])) for v in values], features, [e.reshape(wide) for e in others], tokens=tokens
        )
        return Split(inner.steps, inner.ids, inner.extra, inner.tokens, lambda r: (y := inner.restore(r)).reshape(*lead, *y.shape[len(wide) :]))
    rows = [a for a in range(len(lead)) if not tokens or _varies(step, a) or all(_same(part, a) for part in (*norms, *others))]
    kept = [a for a in range(len(lead)) if a not in rows]
    order = [*rows, *kept]
    count, shape = math.prod(lead[a] for a in rows), tuple(lead[a] for a in kept)

    def take(part: Any) -> Any:
        tail = range(len(lead), part.ndim)
        return part.permute([*order, *tail]).reshape(count, *shape, *part.shape[len(lead) :])

    steps = take(step).reshape(count, -1).amax(1)
    for label, _ in labels:
        each = take(label).reshape(count, -1)
        if bool(((each != steps[:, None]) & (each != STATIC)).any()):
            raise MixedStepsError

    def restore(result: Any) -> Any:
        tail = result.shape[1 + len(shape) :]
        wide = result.reshape(*(lead[a] for a in rows), *shape, *tail)
        back = [order.index(a) for a in range(len(lead))]
        return wide.permute([*back, *range(len(lead), wide.ndim)]).reshape(*lead, *tail)

    return Split(steps, [take(norm) for norm in norms], [take(e) for e in others], shape, restore)


def _varies(step: Any, axis: int) -> bool:
    """The step changes along the axis."""
    if step.shape[axis] == 1:
        return False
    high = step.amax(axis)
    low = torch.where(step == STATIC, torch.iinfo(step.dtype).max, step).amin(axis)
    return bool(((high != low) & (high != STATIC)).any())


def _same(part: Any, axis: int) -> bool:
    return part.shape[axis] == 1 or bool((part == part.narrow(axis, 0, 1)).all())


def _unfold(step: Any, steps: int) -> tuple[int, tuple[int, int]] | None:
    """An axis into which the steps are folded together with something else, and the two sizes."""
    if steps == 1:
        return None
    for axis, length in enumerate(step.shape):
        if length <= steps or length % steps or not _varies(step, axis):
            continue
        along = step.movedim(axis, 0).reshape(length, -1).amax(1)
        for sizes, wanted in (
            ((steps, length // steps), torch.arange(steps).repeat_interleave(length // steps)),
            ((length // steps, steps), torch.arange(steps).repeat(length // steps)),
        ):
            if bool(((along == wanted) | (along == STATIC)).all()):
                return axis, sizes
    return None


def layer_shape(shape: tuple[int, ...]) -> Shape:
    """(c, y, x) for one step's tensor."""
    if len(shape) <= 3:
        c, y, x = (*shape, 1, 1, 1)[:3]
        return c, y, x
    return math.prod(shape), 1, 1


def digest(value: Any) -> str:
    """A short hash of an array's content."""
    given = np.ascontiguousarray(value.numpy() if torch.is_tensor(value) else value)
    return f"{given.shape}{hashlib.sha1(given.tobytes(), usedforsecurity=False).hexdigest()}"
