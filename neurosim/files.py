"""Versioned zip files of arrays and JSON, never pickle: the container of ``.nsim`` (Program) and ``.nsnet`` (Network).

A checksum over header and arrays lies in the header: what neurosim did not write, or what was changed since, is refused, not half understood.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ProgramError

CHECKSUM = "sha256"
SAMPLES, SAMPLE = 16, 2**13
"""Places of an array, and bytes at each, by which is judged whether to pack it."""
MOST_PLAIN = 2**31 - 2**16
"""Bytes from which on a file inside the zip needs the long form of its header."""


def write_zip(path: Path, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """A zip of ``header.json`` and one ``.npy`` per array, with fixed dates, written under a temporary name and renamed.

    Raises ProgramError when the file cannot be written.
    """
    if not path.name:
        raise ProgramError(f"cannot write {str(path)!r}: it names no file; give a file name")
    header = {**header, CHECKSUM: content_digest(header, arrays)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(_member("header.json", zipfile.ZIP_DEFLATED), json.dumps(header, sort_keys=True))
            for name, array in sorted(arrays.items()):
                plain = np.asarray(array, order="C")
                with archive.open(_member(f"{name}.npy", _method(plain)), "w", force_zip64=plain.nbytes > MOST_PLAIN) as file:
                    np.lib.format.write_array(file, plain, allow_pickle=False)
        os.replace(temporary, path)
    except OSError as error:
        raise ProgramError(f"cannot write {path}: {error.strerror}; nothing was written, free space or choose another path") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A UTF-8 text file, written under a temporary name and renamed. Raises ProgramError when it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise ProgramError(f"cannot write {path}: {error.strerror}; nothing was written, free space or choose another path") from None
    finally:
        temporary.unlink(missing_ok=True)


def content_digest(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> str:
    """SHA-256, in hexadecimal, over a JSON header and arrays: names, types, shapes and values."""
    h = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        h.update(name.encode())
        h.update(str((array.dtype.str, array.shape)).encode())
        h.update(np.asarray(array, order="C").reshape(-1).view(np.uint8).data)
    return h.hexdigest()


def _member(name: str, method: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = method
    return info


def _method(array: NDArray[Any]) -> int:
    """Whether packing saves a quarter, judged by samples: trained weights are noise, which only costs time."""
    data = array.reshape(-1).view(np.uint8)
    samples = b"".join(data[len(data) * k // SAMPLES :][:SAMPLE].tobytes() for k in range(SAMPLES))
    return zipfile.ZIP_DEFLATED if len(zlib.compress(samples, 1)) < 0.75 * len(samples) else zipfile.ZIP_STORED


def read_zip(path: Path, expected_format: str, versions: tuple[int, ...], remedy: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and arrays of a file that ``write_zip`` wrote; raises ProgramError when it is not whole or not of this format and these versions."""
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read("header.json"))
            if not isinstance(header, dict):
                raise ProgramError(f"{path} is no {expected_format} file; {remedy}")
            if header.get("format") != expected_format:
                raise ProgramError(f"{path} is a {header.get('format', 'foreign')} file, not a {expected_format} file")
            if header.get("version") not in versions:
                found, known = header.get("version"), " and ".join(map(str, versions))
                raise ProgramError(f"{path} has version {found} of {expected_format}, this neurosim reads version {known}; {remedy}")
            arrays = {
                name.removesuffix(".npy"): np.lib.format.read_array(BytesIO(archive.read(name)), allow_pickle=False)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
    except ProgramError:
        raise
    except OSError as error:
        raise ProgramError(f"cannot read {path}: {error.strerror}") from None
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        # zipfile reports damaged fields of an entry as unknown versions (NotImplementedError) and passwords (RuntimeError)
        raise ProgramError(f"{path} is broken or truncated ({str(error) or type(error).__name__}); {remedy}") from None
    if CHECKSUM not in header:
        raise ProgramError(f"{path} has no checksum, so it was not written by this version of neurosim; {remedy}")
    if header.pop(CHECKSUM) != content_digest(header, arrays):
        raise ProgramError(f"{path} is damaged or was changed by hand (its checksum does not fit); {remedy}")
    return header, arrays
