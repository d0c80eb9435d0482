"""Files and folders of published event data sets -> Recordings."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError, MissingExtra
from neurosim.frontends.recordings.aer import aedat2, aedat3, aedat_version, aer40, gesture_labels, read_bytes
from neurosim.graph import Shape
from neurosim.host.foreign import foreign_format
from neurosim.host.recordings import Events, Recordings, from_arrays, from_structured, join

DVS128: Shape = (2, 128, 128)
SHD_UNITS = 700
GESTURES = (
    "hand_clapping", "right_hand_wave", "left_hand_wave", "right_arm_clockwise", "right_arm_counter_clockwise", "left_arm_clockwise",
    "left_arm_counter_clockwise", "arm_roll", "air_drums", "air_guitar", "other_gestures",
)  # fmt: skip
FORMATS = (
    "a .bin file or the folder of N-MNIST, .aedat files of DVS128 Gesture (or trials_to_*.txt) and CIFAR10-DVS, "
    ".npy files with columns x, y, p, t in ms, an .h5 file of SHD, or our .npz"
)
Samples = Iterable[tuple[Events, int | None, int]]
"""(events, label, zero of the file's clock in us) of each sample."""


def is_recordings(path: str | os.PathLike[str]) -> bool:
    """True for a folder, or a file whose name only an event recording has; .npz and .npy may hold other things as well."""
    return Path(path).is_dir() or Path(path).suffix.lower() in (".bin", ".aedat", ".h5", ".hdf5", ".txt")


def read_recordings(path: str | os.PathLike[str], samples: int | None = None) -> Recordings:
    """Recordings of a user's copy of a data set, by what the path is:

    * ``.bin``: one N-MNIST recording; a folder of folders 0..9 of them: a split, in the order of the data set;
    * ``.aedat``, version 3.1: one DVS128 Gesture trial cut by the ``_labels.csv`` beside it (without it one recording, no label); a folder of them,
      or ``trials_to_train.txt`` / ``trials_to_test.txt``: all trials there or listed;
    * ``.aedat``, version 2.0: one CIFAR10-DVS recording; a folder of folders named by class: all, interleaved by their number;
    * ``.npy`` with columns x, y, p, t in ms (DVS128 Gesture cut into samples; the file's number is its class), or a folder of them; with fields
      t (us), x, y, p: one recording;
    * ``.h5``: SHD or SSC, x is the unit; ``.npz``: flat t (us), x, y, p, offsets and label.

    Time 0 of a sample is that of the file in SHD and SSC, whose networks are trained on bins of it, else the sample's first event; for
    ``start="file"`` that of a trial of DVS128 Gesture is the start that its labels state.
    ``samples``: read the first so many only. Raises DataError (unreadable, broken, another format, nothing found), MissingExtra (h5py).
    """
    place = Path(path)
    if samples is not None and samples < 1:
        raise DataError(f"{samples} samples asked for; wanted at least 1")
    if not place.exists():
        raise DataError(f"recordings {place} do not exist; give {FORMATS}")
    suffix = place.suffix.lower()
    if place.is_dir():
        return _folder(place, samples)
    if suffix == ".bin":
        return _gather([(aer40(place), _digit(place.parent.name), 0)], None, name=place.name)
    if suffix == ".aedat":
        return _aedat_files([place], samples, place.name)
    if suffix == ".txt":
        if (known := foreign_format(place)) is not None and place.stat().st_size:
            raise DataError(f"cannot read recordings {place}: {known}")
        names = read_bytes(place).decode("latin-1").split()
        return _aedat_files([place.parent / name for name in names], samples, place.name)
    if suffix == ".npy":
        table = _table(place)
        if table.dtype.names is not None:
            return from_structured(table, place.name)
        return _gather([(_columns(table, place), _digit(place.stem), 0)], None, name=place.name, sensor=DVS128, class_names=GESTURES)
    if suffix in (".h5", ".hdf5"):
        return _spoken(place, samples)
    if suffix == ".npz":
        return _npz(place, samples)
    if (known := foreign_format(place)) is not None:
        raise DataError(f"cannot read recordings {place}: {known}")
    raise DataError(f"recordings {place}: {suffix or 'a file without suffix'} is not a format that is read; give {FORMATS}")


def _folder(place: Path, samples: int | None) -> Recordings:
    for pattern in ("*.bin", "*.aedat", "*.npy"):
        files = sorted(place.rglob(pattern), key=_natural)
        if not files:
            continue
        if pattern == "*.bin":
            return _gather(((aer40(file), _digit(file.parent.name), 0) for file in files), samples, name=place.name)
        if pattern == "*.npy":
            found = ((_columns(_table(file), file), _digit(file.stem), 0) for file in files)
            return _gather(found, samples, name=place.name, sensor=DVS128, class_names=GESTURES)
        return _aedat_files(files, samples, place.name)
    others = ((file, foreign_format(file)) for file in sorted(place.rglob("*")) if file.is_file())
    first = next((f"; of {file.name}: {known}" for file, known in others if known is not None), f"; give {FORMATS}")
    raise DataError(f"folder {place} holds no .bin, .aedat or .npy file{first}")


def _natural(path: Path) -> tuple[list[int], str]:
    """By the numbers in the file's name, then by the whole path: sample 2 before 10, and the classes of a data set in turn."""
    return [int(number) for number in re.findall(r"\d+", path.stem)], str(path)


def _digit(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _gather(found: Samples, samples: int | None, *, name: str, sensor: Shape | None = None, class_names: tuple[str, ...] = ()) -> Recordings:
    parts, labels, zeros = [], [], []
    for events, label, zero in islice(found, samples):
        parts.append(events)
        labels.append(label)
        zeros.append(zero)
    if not parts:
        raise DataError(f"{name} holds no recording")
    known = [label for label in labels if label is not None]
    return join(
        parts, known if len(known) == len(labels) else None, name=name, sensor=sensor, class_names=class_names, zero=zeros if any(zeros) else None
    )


def _aedat_files(files: list[Path], samples: int | None, name: str) -> Recordings:
    """Trials of DVS128 Gesture (version 3.1) or recordings of CIFAR10-DVS (2.0): what the first file is, all are."""
    if not files:
        raise DataError(f"{name} lists no recording")
    if aedat_version(files[0]) == "3.1":
        return _gather(_trials(files), samples, name=name, sensor=DVS128, class_names=GESTURES)
    classes = tuple(sorted({file.parent.name for file in files}))
    several = len(classes) > 1
    found = ((aedat2(file), classes.index(file.parent.name) if several else None, 0) for file in files)
    return _gather(found, samples, name=name, sensor=DVS128, class_names=classes if several else ())


def _trials(files: list[Path]) -> Samples:
    for file in files:
        t, x, y, p = aedat3(file)
        labels = file.with_name(f"{file.stem}_labels.csv")
        if not labels.exists():
            yield (t, x, y, p), None, 0
            continue
        for kind, start, end in gesture_labels(labels).tolist():
            inside = (t >= start) & (t < end)
            yield (t[inside], x[inside], y[inside], p[inside]), kind - 1, start


def _table(path: Path) -> NDArray[Any]:
    """The array of a .npy."""
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) else foreign_format(path) or "it is no .npy file of numbers"
        raise DataError(f"cannot read recording {path}: {reason}") from None
    if not isinstance(table, np.ndarray):
        raise DataError(f"recording {path}: several arrays, wanted columns x, y, p, t in ms; name it .npz")
    return table


def _columns(table: NDArray[Any], path: Path) -> Events:
    """Columns x, y, p, t in ms."""
    if table.ndim != 2 or table.shape[1] < 4 or table.dtype.kind not in "iuf":
        raise DataError(f"recording {path}: shape {table.shape} and dtype {table.dtype}, wanted columns x, y, p, t in ms, or fields t (us), x, y, p")
    if not np.isfinite(table).all():
        raise DataError(f"recording {path}: holds values that are NaN or infinite")
    x, y, p, t = (table[:, k].astype(np.float64) for k in range(4))
    return whole_us(t * 1000, path), x.astype(np.int64), y.astype(np.int64), p.astype(np.int64)


def whole_us(us: NDArray[np.float64], path: Path) -> NDArray[np.int64]:
    """Times as whole microseconds; DataError for those that 64 bits do not hold."""
    if not (np.abs(us) < 2.0**63).all():  # also false for NaN
        raise DataError(f"recording {path}: a time of {us[~(np.abs(us) < 2.0**63)][0]:g} us does not fit 64 bits; it is damaged or of another unit")
    return np.rint(us).astype(np.int64)


def _spoken(path: Path, samples: int | None) -> Recordings:
    """SHD or SSC: spikes/times in seconds, spikes/units, labels; extra/keys are the names of the classes."""
    try:
        import h5py
    except ImportError:
        raise MissingExtra(f"{path} is an HDF5 file, which h5py reads; pip install 'neurosim[lava]' or h5py") from None
    try:
        with h5py.File(path, "r") as file:
            times, units, labels = file["spikes/times"], file["spikes/units"], np.asarray(file["labels"])
            if not len(times) == len(units) == len(labels):
                raise DataError(f"recordings {path}: {len(times)} rows of times, {len(units)} of units, {len(labels)} labels; they must agree")
            names = tuple(key.decode() if isinstance(key, bytes) else str(key) for key in file["extra/keys"][...]) if "extra/keys" in file else ()
            parts: list[Events] = []
            for k in range(len(times) if samples is None else min(samples, len(times))):
                t, x = whole_us(np.asarray(times[k], np.float64) * 1e6, path), np.asarray(units[k], np.int64)
                if len(t) != len(x):
                    raise DataError(f"recordings {path}: sample {k} has {len(t)} times and {len(x)} units; they must agree")
                parts.append((t, x, np.zeros(len(x), np.int64), np.zeros(len(x), np.int64)))
    except (OSError, KeyError) as error:
        reason = "it lacks spikes/times, spikes/units or labels" if isinstance(error, KeyError) else "it is no HDF5 file, or truncated"
        raise DataError(f"cannot read recordings {path}: {reason}") from None
    if not parts:
        raise DataError(f"{path.name} holds no recording")
    given = labels[: len(parts)].astype(np.int64).tolist()
    return join(parts, given, name=path.name, sensor=(1, 1, SHD_UNITS), class_names=names, start="file")


def _npz(path: Path, samples: int | None) -> Recordings:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
            arrays = {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no npz of plain arrays, or truncated"
        raise DataError(f"cannot read recordings {path}: {reason}") from None
    found = from_arrays(arrays, path.name)
    labels = next((arrays[key] for key in ("label", "labels") if key in arrays), None)
    if labels is not None:
        if labels.shape != (len(found),) or labels.dtype.kind not in "iu":
            raise DataError(f"{path.name}: labels have shape {labels.shape} and dtype {labels.dtype}, wanted {len(found)} whole numbers")
        found = replace(found, labels=labels.astype(np.int64))
    return found if samples is None else found.part(0, min(samples, len(found)))
