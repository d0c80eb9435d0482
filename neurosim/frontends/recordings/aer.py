"""40-bit address events (N-MNIST, N-Caltech101) and AEDAT 2.0 and 3.1 (CIFAR10-DVS, DVS128 Gesture): bytes -> (t in us, x, y, p)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError
from neurosim.host.foreign import foreign_format
from neurosim.host.recordings import Events

OVERFLOW_ROW, OVERFLOW_US = 240, 1 << 13
"""N-MNIST: an event in this row, which the sensor does not have, says that the clock went round; all later events are so much later."""
AEDAT_LIST = ("#!AER-DAT2.0", "#!AER-DAT3.1")
PACKET = np.dtype([("type", "<i2"), ("source", "<i2"), *((name, "<i4") for name in ("size", "ts_offset", "overflow", "capacity", "number", "valid"))])
POLARITY_EVENT = 1


def read_bytes(path: Path) -> bytes:
    """The file's bytes; raises DataError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read recording {path}: {error.strerror or error}") from None


def aer40(path: Path) -> Events:
    """One ``.bin`` file: per event 8 bits x, 8 bits y, 1 bit polarity, 23 bits time in us, most significant byte first.

    Raises DataError: unreadable, or no whole number of events.
    """
    raw = read_bytes(path)
    if len(raw) % 5:
        raise DataError(f"recording {path}: {len(raw)} bytes are no whole number of 40-bit events; the file is truncated or of another format")
    rows = np.frombuffer(raw, np.uint8).reshape(-1, 5).astype(np.int64)
    t = ((rows[:, 2] & 127) << 16) | (rows[:, 3] << 8) | rows[:, 4]
    wrap = rows[:, 1] == OVERFLOW_ROW
    t = t + OVERFLOW_US * np.cumsum(wrap)
    seen = ~wrap
    return t[seen], rows[seen, 0], rows[seen, 1], rows[seen, 2] >> 7


def aedat_version(path: Path) -> str:
    """``2.0`` or ``3.1`` by the first line; raises DataError for anything else."""
    first = read_bytes(path)[:64].split(b"\n", 1)[0].strip().decode("latin-1")
    if first not in AEDAT_LIST:
        remedy = foreign_format(path) or "convert it to one of them"
        raise DataError(f"recording {path}: begins with {first[:20]!r}, neither {' nor '.join(AEDAT_LIST)}; {remedy}")
    return first.removeprefix("#!AER-DAT")


def _body(path: Path, raw: bytes) -> int:
    """Where the events begin: after the lines that start with #."""
    position = 0
    while raw[position : position + 1] == b"#":
        end = raw.find(b"\n", position)
        if end < 0:
            raise DataError(f"recording {path}: its header has no end; the file is truncated")
        line, position = raw[position:end].strip(), end + 1
        if line.startswith(b"#Format:") and not line.endswith(b"RAW"):
            raise DataError(f"recording {path}: format {line[8:].strip().decode('latin-1')} of AEDAT 3.1 is not read; save it as RAW")
        if line == b"#!END-HEADER":
            break
    return position


def aedat2(path: Path) -> Events:
    """AEDAT 2.0 of a DVS128 as in CIFAR10-DVS: big-endian pairs (address, time in us); address bits 1-7 column, 8-14 row, 0 polarity (1 = OFF).

    The sensor was mounted turned; x = 127 - row address and y = 127 - column address put the image upright, as the field's loaders do.
    Raises DataError: unreadable, or no whole number of events.
    """
    raw = read_bytes(path)
    body = raw[_body(path, raw) :]
    if len(body) % 8:
        raise DataError(f"recording {path}: {len(body)} bytes after the header are no whole number of events; the file is truncated")
    pairs = np.frombuffer(body, ">u4").reshape(-1, 2).astype(np.int64)
    address, t = pairs[:, 0], pairs[:, 1]
    return t, 127 - ((address >> 8) & 127), 127 - ((address >> 1) & 127), 1 - (address & 1)


def aedat3(path: Path) -> Events:
    """AEDAT 3.1, polarity events of all packets: bit 0 valid, bit 1 polarity, bits 2-16 y, 17-31 x; events marked invalid are none.

    Raises DataError: unreadable, or a packet longer than the file.
    """
    raw = read_bytes(path)
    position = _body(path, raw)
    times, data = [], []
    while position < len(raw):
        if position + PACKET.itemsize > len(raw):
            raise DataError(f"recording {path}: {len(raw) - position} bytes are left where a packet of 28 bytes and more begins; it is truncated")
        header = np.frombuffer(raw, PACKET, 1, position)[0]
        position += PACKET.itemsize
        size, capacity, number = int(header["size"]), int(header["capacity"]), int(header["number"])
        if size < 1 or not 0 <= number <= capacity or position + size * capacity > len(raw):
            raise DataError(f"recording {path}: a packet of {capacity} events of {size} bytes does not fit the rest of the file; it is truncated")
        if int(header["type"]) == POLARITY_EVENT and size == 8:
            events = np.frombuffer(raw, "<u4", 2 * number, position).reshape(-1, 2).astype(np.int64)
            data.append(events[:, 0])
            times.append(events[:, 1] + (int(header["overflow"]) << 31))
        position += size * capacity
    word, t = (np.concatenate(part) if part else np.zeros(0, np.int64) for part in (data, times))
    valid = (word & 1) == 1
    word = word[valid]
    return t[valid], (word >> 17) & 0x7FFF, (word >> 2) & 0x7FFF, (word >> 1) & 1


def gesture_labels(path: Path) -> NDArray[np.int64]:
    """[n, 3] (class from 1, start, end in us) of a DVS128 Gesture ``_labels.csv``; raises DataError naming the line."""
    rows = []
    text = read_bytes(path).decode("latin-1")
    for number, line in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in line]
        if not any(cells) or (number == 1 and not cells[0].isdigit()):
            continue  # a blank line, or the names of the columns
        if len(cells) < 3 or not all(cell.isdigit() for cell in cells[:3]):
            raise DataError(f"labels {path}, line {number}: {','.join(line)!r}, wanted class, start and end in us")
        rows.append([int(cell) for cell in cells[:3]])
    return np.array(rows, np.int64).reshape(-1, 3)
