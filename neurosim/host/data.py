"""User data -> Samples, checked against the input contract of a Program; what breaks it is refused with the value, the limit and the remedy."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError
from neurosim.graph import Shape
from neurosim.host.checks import check
from neurosim.host.foreign import PICKLE, foreign_format
from neurosim.host.recordings import MOST_PS, PS_PER_US, EventOptions, Recordings, dense, first_span, from_arrays, from_structured, most_in_a_step
from neurosim.program import Program
from neurosim.units import format_time

EVENT_KEYS = ("t", "x", "y", "p", "offsets")
MOST_EVENTS = 255
"""Of one neuron in one step, whatever the banks of the chip could hold: the width of a count."""


@dataclass(frozen=True)
class Samples:
    """What a Program is given. ``values``: raw pixels [n, c, y, x] of the contract's dtype, or events [n, T, c, y, x] uint8; None for recordings.

    ``labels``: int64 [n] or None. ``options`` says how recordings become packets; ``step_ps`` is None where they have no steps (free).
    """

    values: NDArray[Any] | None
    labels: NDArray[np.int64] | None = None
    name: str = "array"
    events_left_out: int = 0
    """Events of recordings after the last step, or after the span asked for."""
    recordings: Recordings | None = None
    options: EventOptions = field(default_factory=EventOptions)
    steps: int = 1
    shape: Shape = (1, 1, 1)
    repaired: dict[str, int] = field(default_factory=dict)
    """What ``repair`` did, by the keys of ``checks.REPAIRS``; only those that occurred."""

    @cached_property
    def data(self) -> NDArray[Any]:
        """The array; of recordings the events per step [n, T, c, y, x], made when first asked for. DataError without a step time."""
        if self.recordings is None:
            assert self.values is not None, "samples are an array or recordings"
            return self.values
        if self.options.step_ps is None:
            raise DataError(f"{self.name}: recordings without a step time have no steps; give step")
        return dense(self.recordings, self.options.step_ps, self.steps, self.shape, self.options.bin == "count")

    @property
    def images(self) -> NDArray[Any]:
        """The array itself, under the name that images go by."""
        return self.data

    def __len__(self) -> int:
        if self.recordings is not None:
            return len(self.recordings)
        return 0 if self.values is None else len(self.values)

    def first(self, n: int) -> Samples:
        """The first n samples; raises DataError when there are fewer."""
        if not 1 <= n <= len(self):
            raise DataError(f"{n} samples asked for, {self.name} has {len(self)}")
        return replace(
            self,
            values=None if self.values is None else self.values[:n],
            labels=None if self.labels is None else self.labels[:n],
            recordings=None if self.recordings is None else self.recordings.part(0, n),
        )


def load_data(
    data: str | Path | NDArray[Any] | Samples | Recordings,
    program: Program,
    *,
    labels: NDArray[Any] | None = None,
    events: EventOptions | None = None,
) -> Samples:
    """A DATA.npz, a .npy of images, an array or Recordings, as Samples.

    The npz holds ``images``, or recordings ``t, x, y, p, offsets``, or ``events`` [n, T, c, y, x] or [n, T, neurons]; and ``label`` or ``labels``.
    An array (or .npy) with fields t, x, y, p is one recording.
    ``events``: how recordings are used (``event_options``).
    Raises DataError: file missing or broken, wrong shape, dtype, range, no samples, labels that do not fit; recordings with unsorted times, events
    outside the program's input, or without any event.
    """
    if isinstance(data, Samples):
        return data if labels is None else replace(data, labels=_labels(labels, len(data), program, data.name))
    contract, name, options = program.meta["input"], "array", events or EventOptions()
    arrays: dict[str, NDArray[Any]] | None = None
    if isinstance(data, str | Path):
        name = Path(data).name
        arrays = _read(Path(data))
        if labels is None:
            labels = next((arrays[key] for key in ("label", "labels") if key in arrays), None)
    rows = arrays.get("images") if arrays is not None else data
    if isinstance(rows, np.ndarray) and rows.dtype.names is not None:
        data = from_structured(rows, name)
    if isinstance(data, Recordings):
        name = data.name
        if contract["kind"] != "spikes":
            raise DataError(f"{name} holds event recordings, the program wants images {contract['shape']}; give an npz with images")
    if isinstance(data, Recordings) or (arrays is not None and contract["kind"] == "spikes" and "events" not in arrays):
        found = data if isinstance(data, Recordings) else from_arrays(arrays or {}, name)
        if labels is not None:
            found = replace(found, labels=np.asarray(labels))
        return _recordings(found, program, options)
    if options != EventOptions(bin=options.bin if contract["kind"] == "spikes" else "binary", repair=options.repair):
        raise DataError(
            f"{name} has no times: bin, step, span, pace, order, start and keep_empty are for recordings (t, x, y, p, offsets); leave them out"
        )
    if contract["kind"] == "spikes":
        samples = _events(np.asarray(data) if arrays is None else arrays["events"], program, options, name)
    elif arrays is None:
        samples = Samples(_images(np.asarray(data), contract, name), name=name)
    elif "images" in arrays:
        samples = Samples(_images(arrays["images"], contract, name), name=name)
    elif all(key in arrays for key in EVENT_KEYS):
        raise DataError(f"{name} holds event recordings, the program wants images {contract['shape']}; give an npz with images")
    else:
        raise DataError(f"{name} has no array 'images', only {', '.join(sorted(arrays)) or 'nothing'}; name the array [n, c, y, x] images")
    return replace(samples, labels=_labels(labels, len(samples), program, name))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # an open file, because np.load leaves one behind that it opened itself when the zip is broken
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"images": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif (known := foreign_format(path)) is not None:
            reason = known
        elif str(error).startswith("Object arrays"):
            reason = PICKLE
        else:
            reason = "it is no npz or npy file, or truncated"
        raise DataError(f"cannot read data {path}: {reason}") from None


def _images(images: NDArray[Any], contract: dict[str, Any], name: str) -> NDArray[Any]:
    shape, dtype = tuple(contract["shape"]), np.dtype(contract["dtype"])
    if images.dtype.kind not in "iu":
        raise DataError(f"{name}: images have dtype {images.dtype}, the program wants raw pixels as {dtype}; it scales them itself")
    if images.ndim == 3 and shape[0] == 1:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1:] != shape:
        moved = images.ndim == 4 and (images.shape[3], *images.shape[1:3]) == shape
        remedy = "; move the channels to the front, images.transpose(0, 3, 1, 2)" if moved else ""
        raise DataError(f"{name}: images have shape {images.shape}, the program wants (n, {', '.join(map(str, shape))}){remedy}")
    if not len(images):
        raise DataError(f"{name}: there are no images")
    info = np.iinfo(dtype)
    if images.min() < info.min or images.max() > info.max:
        raise DataError(f"{name}: pixels from {images.min()} to {images.max()} leave the range of {dtype}, {info.min}..{info.max}")
    return images.astype(dtype)


def _events(events: NDArray[Any], program: Program, options: EventOptions, name: str) -> Samples:
    """Events [n, T, c, y, x] or [n, T, neurons]: 0 or 1, or with bin count how many."""
    contract, steps = program.meta["input"], program.steps
    wanted = (steps, *contract["shape"])
    if events.ndim == 3 and events.shape[1:] == (steps, int(np.prod(contract["shape"]))):  # neurons in the flat order (c, y, x)
        events = events.reshape(-1, *wanted)
    if events.shape[1:] != wanted or not len(events):
        raise DataError(f"{name}: events have shape {events.shape}, the program wants (n, {', '.join(map(str, wanted))}) with n of at least 1")
    if options.bin == "binary" and not np.isin(events, (0, 1)).all():
        raise DataError(f"{name}: events must be 0 or 1, at most one per neuron and step; found {events.max()}; bin count takes several")
    if events.dtype.kind not in "biu" and not (events == np.floor(events)).all():
        raise DataError(f"{name}: events must be whole numbers, found dtype {events.dtype} with fractions")
    if events.min() < 0:
        raise DataError(f"{name}: events must not be negative, found {events.min()}")
    _refuse_counts(int(events.max()), program, name)
    return Samples(events.astype(np.uint8), name=name, options=options, steps=steps, shape=tuple(contract["shape"]))


def _recordings(found: Recordings, program: Program, options: EventOptions) -> Samples:
    """Recordings checked and cut to their span; a stepped program needs a step time, its own or that of the options."""
    contract, name = program.meta["input"], found.name
    shape = tuple(contract["shape"])
    checked = check(found if options.start is None else replace(found, start=options.start), shape, options.repair, options.keep_empty)
    labels = checked.recordings.labels
    if labels is not None:
        labels = _labels(labels, len(checked.recordings), program, name)
    step = options.step_ps if options.step_ps is not None else round((contract["step_time_us"] or 0) * PS_PER_US) or None
    if step is None and program.sync != "free":
        raise DataError(f'{name}: the network states no step time, so recordings cannot be binned; give step, for example "1 ms"')
    lasts = program.steps * step if step is not None and program.sync != "free" else None
    if lasts is not None and lasts * len(checked.recordings) > MOST_PS:
        raise DataError(
            f"{name}: {program.steps} steps of {step} ps for {len(checked.recordings)} samples take longer than {MOST_PS} ps (106 days), the longest "
            "time there is; give a shorter step"
        )
    spans = [span for span in (options.span_ps, lasts) if span is not None]
    cut, left_out = first_span(checked.recordings, min(spans, default=None))
    if left_out and not len(cut.t):
        raise DataError(
            f"{name}: no event lies within the first {format_time(min(spans))} of its recording from the zero of its file; count from the "
            "first event (start first), or give a longer step or span"
        )
    if program.sync != "free" and options.bin == "count" and step is not None:
        _refuse_counts(most_in_a_step(cut, step, shape), program, name)
    return Samples(None, labels, name, left_out, cut, replace(options, step_ps=step), program.steps, shape, checked.repaired)


def _refuse_counts(most: int, program: Program, name: str) -> None:
    """The compiler proves that no bank overflows for up to ``most_events`` of a neuron in a step."""
    limit = min(MOST_EVENTS, program.meta["input"].get("most_events", 1) if program.sync != "free" else MOST_EVENTS)
    if most > limit:
        raise DataError(
            f"{name}: a neuron has {most} events in one step, the banks of {program.chip.name} are safe up to {limit}; "
            "use a shorter step, bin binary, or a chip with more arithmetic.acc_bits"
        )


def _labels(labels: NDArray[Any] | None, n: int, program: Program, name: str) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    values = np.asarray(labels)
    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise DataError(f"{name}: labels have shape {values.shape} and dtype {values.dtype}, wanted {n} whole numbers")
    classes = next((p["shape"][0] for p in program.meta["populations"] if p["kind"] == "readout"), None)
    if classes is not None and (values.min() < 0 or values.max() >= classes):
        raise DataError(f"{name}: labels from {values.min()} to {values.max()} leave the program's classes 0..{classes - 1}")
    return values.astype(np.int64)
