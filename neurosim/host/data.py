"""User data -> Samples, checked against the input contract of a Program; what breaks it is refused with the value, the limit and the remedy."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError
from neurosim.program import Program

EVENT_KEYS = ("t", "x", "y", "p", "offsets")


@dataclass(frozen=True)
class Samples:
    """``data``: raw pixels [n, c, y, x] of the contract's dtype, or binary events [n, T, c, y, x] uint8. ``labels``: int64 [n] or None."""

    data: NDArray[Any]
    labels: NDArray[np.int64] | None = None
    name: str = "array"
    events_left_out: int = 0
    """Events of recordings after the last step."""

    @property
    def images(self) -> NDArray[Any]:
        """The array itself, under the name that images go by."""
        return self.data

    def __len__(self) -> int:
        return len(self.data)

    def first(self, n: int) -> Samples:
        """The first n samples; raises DataError when there are fewer."""
        if not 1 <= n <= len(self.data):
            raise DataError(f"{n} samples asked for, {self.name} has {len(self.data)}")
        return replace(self, data=self.data[:n], labels=None if self.labels is None else self.labels[:n])


def load_data(data: str | Path | NDArray[Any] | Samples, program: Program, *, labels: NDArray[Any] | None = None) -> Samples:
    """A DATA.npz, a .npy of images, or an array, as Samples. The npz holds ``images``, or recordings ``t, x, y, p, offsets``, or binary ``events``
    [n, T, c, y, x] or [n, T, neurons]; and ``label`` or ``labels``.

    Raises DataError: file missing or broken, wrong shape, dtype, range, no samples, labels that do not fit.
    """
    if isinstance(data, Samples):
        return data if labels is None else replace(data, labels=_labels(labels, len(data), program, data.name))
    contract, name = program.meta["input"], "array"
    if isinstance(data, str | Path):
        name = Path(data).name
        arrays = _read(Path(data))
        if labels is None:
            labels = next((arrays[key] for key in ("label", "labels") if key in arrays), None)
        if contract["kind"] == "spikes" and "events" in arrays:
            samples = Samples(_binary(arrays["events"], contract, program.steps, name), name=name)
        elif contract["kind"] == "spikes":
            samples = _recordings(arrays, contract, program.steps, name)
        elif "images" in arrays:
            samples = Samples(_images(arrays["images"], contract, name), name=name)
        elif all(key in arrays for key in EVENT_KEYS):
            raise DataError(f"{name} holds event recordings, the program wants images {contract['shape']}; give an npz with images")
        else:
            raise DataError(f"{name} has no array 'images', only {', '.join(sorted(arrays)) or 'nothing'}; name the array [n, c, y, x] images")
    elif contract["kind"] == "spikes":
        samples = Samples(_binary(np.asarray(data), contract, program.steps, name), name=name)
    else:
        samples = Samples(_images(np.asarray(data), contract, name), name=name)
    return replace(samples, labels=_labels(labels, len(samples), program, name))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # an open file, because np.load leaves one behind that it opened itself when the zip is broken
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"images": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no npz or npy file, or truncated"
        if "allow_pickle" in str(error):
            reason = "it holds Python objects (pickle), which are not read; save plain arrays of numbers"
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


def _binary(events: NDArray[Any], contract: dict[str, Any], steps: int, name: str) -> NDArray[np.uint8]:
    wanted = (steps, *contract["shape"])
    if events.ndim == 3 and events.shape[1:] == (steps, int(np.prod(contract["shape"]))):  # neurons in the flat order (c, y, x)
        events = events.reshape(-1, *wanted)
    if events.shape[1:] != wanted or not len(events):
        raise DataError(f"{name}: events have shape {events.shape}, the program wants (n, {', '.join(map(str, wanted))}) with n of at least 1")
    if not np.isin(events, (0, 1)).all():
        raise DataError(f"{name}: events must be 0 or 1, at most one per neuron and step; found {events.max()}")
    return events.astype(np.uint8)


def _recordings(arrays: dict[str, NDArray[Any]], contract: dict[str, Any], steps: int, name: str) -> Samples:
    """Recordings binned per step: step = floor((t - t0) / step_time), t0 the sample's first event; several events of one bin count once."""
    lacking = [key for key in EVENT_KEYS if key not in arrays]
    if lacking:
        raise DataError(f"{name} has no array {lacking[0]!r}; event recordings need t (us), x, y, p and offsets")
    if not contract["step_time_us"]:
        raise DataError(f"{name}: the network states no step time, so recordings cannot be binned; set step_time_us in its spikes_input")
    for key in EVENT_KEYS:
        if arrays[key].ndim != 1 or (arrays[key].size and arrays[key].dtype.kind not in "biu"):
            raise DataError(f"{name}: {key} has shape {arrays[key].shape} and dtype {arrays[key].dtype}, wanted a flat array of whole numbers")
    t, x, y, p, offsets = (arrays[key].astype(np.int64) for key in EVENT_KEYS)
    if not len(t) == len(x) == len(y) == len(p):
        raise DataError(f"{name}: t, x, y, p have lengths {len(t)}, {len(x)}, {len(y)}, {len(p)}; they must agree")
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(t) or (np.diff(offsets) < 0).any():
        raise DataError(f"{name}: offsets must ascend from 0 to {len(t)}, the number of events, one more than samples")
    shape = tuple(contract["shape"])
    for key, values, limit in (("p", p, shape[0]), ("y", y, shape[1]), ("x", x, shape[2])):
        if len(values) and (values.min() < 0 or values.max() >= limit):
            raise DataError(f"{name}: {key} from {values.min()} to {values.max()} leaves 0..{limit - 1} of the program's input {list(shape)}")
    data = np.zeros((len(offsets) - 1, steps, *shape), np.uint8)
    left_out = 0
    for sample, (a, b) in enumerate(pairwise(offsets)):
        times = t[a:b]
        if (np.diff(times) < 0).any():
            raise DataError(f"{name}: times of sample {sample} go back; sort its events by t")
        step = np.floor((times - times[:1]) / contract["step_time_us"]).astype(np.int64)
        inside = step < steps
        left_out += int((~inside).sum())
        data[sample, step[inside], p[a:b][inside], y[a:b][inside], x[a:b][inside]] = 1
    return Samples(data, name=name, events_left_out=left_out)


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
