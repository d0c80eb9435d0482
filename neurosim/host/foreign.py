"""Files of other formats, told by their first bytes: what they are and how to bring them here."""

from __future__ import annotations

from pathlib import Path

PICKLE = "it holds Python objects (pickle), which are not read; save plain arrays of numbers"
_NPZ = "arrays t (us), x, y, p and offsets with numpy.savez"
_PICTURE = "it is a picture; stack pictures into images [n, channels, rows, columns] uint8 and save them with numpy.savez(file, images=...)"
_MAGIC = (
    (b"#!AER-DAT4", f"it is AEDAT 4 (iniVation's DV); read it with dv-processing, aedat or tonic.io and save {_NPZ}"),
    (b"\x89HDF\r\n", f"it is HDF5; SHD or SSC (spikes/times, spikes/units, labels) name .h5, another layout read with h5py and save {_NPZ}"),
    (b"#ROSBAG", f"it is a ROS bag; read it with rosbags and save {_NPZ}"),
    (b"MATLAB 5.0", "it is a MATLAB file; read it with scipy.io.loadmat and save its arrays with numpy.savez"),
    (b"\x89PNG", _PICTURE),
    (b"\xff\xd8\xff", _PICTURE),
    (b"\x00\x00\x08\x03", "it is IDX, MNIST's own format; save numpy.fromfile(file, 'u1')[16:].reshape(-1, 1, 28, 28) as images with numpy.savez"),
    (b"\x1f\x8b", "it is packed by gzip; unpack it first"),
    *((bytes([0x80, protocol]), PICKLE) for protocol in range(2, 6)),
)
_HEAD = 512


def foreign_format(path: Path) -> str | None:
    """What a file that is not read is, and how to convert it, in one clause; None for a format that is not known, and for one that is read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if not head:
        return "it is empty"
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return words
    if head.startswith(b"% "):
        return _prophesee(head)
    return _text(head)


def _prophesee(head: bytes) -> str | None:
    """Files of Prophesee's cameras begin with lines ``% key value``: ``.raw`` in words of EVT 2, 2.1 or 3, ``.dat`` in fixed rows."""
    header = head.lower()
    if b"% evt" in header or b"% format evt" in header:
        kind, tool = "RAW (EVT)", "metavision_sdk or expelliarmus"
    elif b"% version" in header or b"% data file" in header:
        kind, tool = "DAT", "expelliarmus or metavision_sdk"
    else:
        return None
    return f"it is Prophesee's {kind}; read it with {tool} and save {_NPZ}"


def _text(head: bytes) -> str | None:
    """Rows of numbers as text, with or without a line of names."""
    lines = [line for line in head.split(b"\0", 1)[0].decode("latin-1").splitlines() if line.strip() and not line.startswith("#")]
    for line in lines[:2]:
        cells = line.replace(",", " ").replace(";", " ").split()
        if len(cells) > 1 and all(map(_number, cells)):
            return f"it is text, {len(cells)} numbers a line; read it with numpy.loadtxt and save {_NPZ}"
    return None


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
