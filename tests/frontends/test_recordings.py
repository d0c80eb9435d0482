from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosim.api import build, simulate
from neurosim.errors import DataError, MissingExtra, NeurosimError
from neurosim.frontends.recordings import is_recordings, read_recordings
from neurosim.host import event_options
from neurosim.network import Network

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "nmnist" / "nmnist_test100.npz"
Event = tuple[int, int, int, int]  # t, x, y, p


def events_of(found: object, sample: int = 0) -> list[Event]:
    part = found.part(sample, sample + 1)  # type: ignore[attr-defined]
    return list(zip(part.t.tolist(), part.x.tolist(), part.y.tolist(), part.p.tolist(), strict=True))


def aer40(events: list[Event]) -> bytes:
    return b"".join(bytes([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255]) for t, x, y, p in events)


def aedat2(events: list[Event]) -> bytes:
    """As the sensor writes them: x and y are of the upright image, so the address holds 127 - y and 127 - x, and OFF is 1."""
    body = b"".join(struct.pack(">II", ((127 - x) << 8) | ((127 - y) << 1) | (1 - p), t) for t, x, y, p in events)
    return b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n" + body


def aedat3(packets: list[tuple[int, int, list[Event]]]) -> bytes:
    """Packets (type, timestamp overflow, events)."""
    raw = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    for kind, overflow, events in packets:
        raw += struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, len(events), len(events), len(events))
        raw += b"".join(struct.pack("<Ii", (x << 17) | (y << 2) | (p << 1) | 1, t) for t, x, y, p in events)
    return raw


def test_nmnist_files_and_folders(tmp_path: Path) -> None:
    first, second = [(5, 33, 0, 1), (0x7FFFFF, 0, 33, 0)], [(70000, 1, 2, 1)]
    for label, number, events in ((7, 1, first), (2, 2, second), (2, 10, second)):
        (tmp_path / "Test" / str(label)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "Test" / str(label) / f"{number:05}.bin").write_bytes(aer40(events))
    found = read_recordings(tmp_path / "Test")
    assert found.labels is not None
    assert found.labels.tolist() == [7, 2, 2]  # in the order of the data set, not class by class
    assert events_of(found) == first
    assert events_of(found, 1) == second
    assert len(read_recordings(tmp_path / "Test", samples=2)) == 2
    # an event in row 240 says that the clock went round: 2**13 us more from then on
    (tmp_path / "wrap.bin").write_bytes(aer40([(10, 1, 1, 0), (0, 0, 240, 0), (20, 2, 2, 1), (0, 0, 240, 0), (30, 3, 3, 1)]))
    wrapped = read_recordings(tmp_path / "wrap.bin")
    assert events_of(wrapped) == [(10, 1, 1, 0), (20 + 8192, 2, 2, 1), (30 + 16384, 3, 3, 1)]
    assert wrapped.labels is None


def test_a_folder_of_recordings_runs(tmp_path: Path) -> None:
    net = Network("n", steps=2)
    x = net.spikes_input("in", (2, 4, 4), step_time_us=1000.0)
    net.output(net.lif("lif", net.linear("fc", net.flatten("flat", x), np.ones((3, 32))), decay=1.0, reset="subtract"))
    program = build(net, "speck2f-like")
    for label, name, events in ((2, "1", [(5, 1, 1, 1), (9, 2, 2, 0)]), (0, "2", [(7, 3, 3, 1), (6, 0, 0, 0), (8, 4, 0, 0)]), (1, "3", [])):
        (tmp_path / str(label)).mkdir()
        (tmp_path / str(label) / f"{name}.bin").write_bytes(aer40(events))
    with pytest.raises(DataError, match="repair drops them"):
        simulate(program, tmp_path, engine="reference")
    run = simulate(program, tmp_path, engine="reference", events=event_options(repair=True, pace="realtime"))
    assert run.repaired == {"events_outside": 1, "events_unsorted": 1, "samples_empty": 1}
    assert run.labels is not None
    assert run.labels.tolist() == [2, 0]
    assert run.result.sample["injected_spikes"].tolist() == [2, 2]
    assert len(simulate(program, tmp_path, samples=1, engine="reference").readout) == 1


def test_gesture_trials_are_cut_by_their_labels(tmp_path: Path) -> None:
    events = [(100, 127, 0, 1), (199, 0, 127, 0), (200, 5, 6, 1), (900, 7, 8, 0)]
    late = [(1, 9, 10, 1)]
    path = tmp_path / "user01_lab.aedat"
    path.write_bytes(aedat3([(1, 0, events[:2]), (0, 0, [(150, 1, 1, 1)]), (1, 0, events[2:]), (1, 1, late)]))
    whole = read_recordings(path)  # without labels: one recording; the special packet (type 0) holds no events
    assert whole.labels is None
    assert events_of(whole) == [*events, (1 + (1 << 31), 9, 10, 1)]
    (tmp_path / "user01_lab_labels.csv").write_text("class,startTime_usec,endTime_usec\n3,90,200\n11,200,901\n")
    found = read_recordings(path)
    assert found.labels is not None
    assert found.labels.tolist() == [2, 10]
    assert [found.class_names[k] for k in found.labels] == ["left_hand_wave", "other_gestures"]
    assert (events_of(found), events_of(found, 1)) == (events[:2], events[2:])
    (tmp_path / "trials_to_test.txt").write_text("user01_lab.aedat\n")
    assert found.start == "first"
    assert found.relative().tolist() == [0, 99, 0, 700]
    assert replace(found, start="file").relative().tolist() == [10, 109, 0, 700]  # since the start that the labels state
    assert replace(found.part(0, 1), start="file").relative().tolist() == [10, 109]
    for place in (tmp_path / "trials_to_test.txt", tmp_path):
        assert read_recordings(place).labels.tolist() == [2, 10]  # type: ignore[union-attr]


def test_invalid_events_of_aedat3_are_none(tmp_path: Path) -> None:
    raw = bytearray(aedat3([(1, 0, [(1, 2, 3, 1), (4, 5, 6, 0)])]))
    raw[-8] &= 0xFE
    (tmp_path / "a.aedat").write_bytes(raw)
    assert events_of(read_recordings(tmp_path / "a.aedat")) == [(1, 2, 3, 1)]


def test_gesture_as_arrays(tmp_path: Path) -> None:
    for label in (10, 2):
        np.save(tmp_path / f"{label}.npy", np.array([[1, 2, 1, 0.5], [127, 0, 0, 3.0]]) + [[0, 0, 0, label]])
    found = read_recordings(tmp_path)
    assert found.labels is not None
    assert found.labels.tolist() == [2, 10]
    assert events_of(found, 1) == [(10500, 1, 2, 1), (13000, 127, 0, 0)]


def test_cifar10_dvs(tmp_path: Path) -> None:
    events = [(7, 0, 127, 1), (9, 35, 64, 0)]
    for kind, number in (("dog", 0), ("dog", 1), ("cat", 0)):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"cifar10_{kind}_{number}.aedat").write_bytes(aedat2(events))
    found = read_recordings(tmp_path)
    assert found.labels is not None
    assert (found.class_names, found.labels.tolist()) == (("cat", "dog"), [0, 1, 1])
    assert events_of(found, 2) == events
    assert read_recordings(tmp_path / "dog" / "cifar10_dog_0.aedat").labels is None


def test_shd(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="SHD is read with h5py")
    path = tmp_path / "shd_test.h5"
    with h5py.File(path, "w") as file:
        times = [np.array([0.0, 0.001, 1.25], np.float32), np.array([0.5], np.float32)]
        units = [np.array([699, 0, 3], np.uint16), np.array([12], np.uint16)]
        for name, rows, kind in (("times", times, np.float32), ("units", units, np.uint16)):
            data = file.create_dataset(f"spikes/{name}", (2,), dtype=h5py.vlen_dtype(kind))
            for k, row in enumerate(rows):
                data[k] = row
        file["labels"] = np.array([19, 0], np.uint8)
        file["extra/keys"] = np.array([b"zero", b"null"])
    found = read_recordings(path)
    assert found.labels is not None
    assert (found.sensor, found.labels.tolist(), found.class_names) == ((1, 1, 700), [19, 0], ("zero", "null"))
    assert events_of(found) == [(0, 699, 0, 0), (1000, 0, 0, 0), (1250000, 3, 0, 0)]
    assert events_of(read_recordings(path, samples=1)) == events_of(found)
    # networks are trained on bins of the file's own time, where the first spike comes late
    net = Network("n", steps=6)
    net.output(net.lif("h", net.linear("fc", net.flatten("f", net.spikes_input("in", (1, 1, 700), step_time_us=100_000.0)), np.eye(700)), decay=0.0))
    program = build(net, "ideal")
    for start, step in ((None, 5), ("file", 5), ("first", 0)):
        run = simulate(program, read_recordings(path).part(1, 2), engine="reference", events=event_options(start=start))
        assert np.argwhere(run.spikes("h").reshape(6, 700)).tolist() == [[step, 12]]
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["labels"] = np.zeros(2)
    with pytest.raises(DataError, match="lacks spikes/times"):
        read_recordings(tmp_path / "other.h5")


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(MissingExtra, match=r"pip install .* h5py"):
        read_recordings(tmp_path / "a.h5")


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    good3 = aedat3([(1, 0, [(1, 2, 3, 1)])])
    files = {
        "cut.bin": aer40([(1, 2, 3, 1)])[:4],
        "cut2.aedat": aedat2([(1, 2, 3, 1)])[:-1],
        "cut3.aedat": good3[:-1],
        "cut3head.aedat": good3[:-20],
        "noend.aedat": b"#!AER-DAT3.1",
        "other.aedat": b"#!AER-DAT4.0\r\n",
        "text.aedat": b"#!AER-DAT3.1\r\n#Format: Serial-TS\r\n#!END-HEADER\r\n",
        "a.npz": b"PK",
        "a.npy": b"no array",
        "a.csv": b"t,x,y,p\n1,2,3,1\n",
        "none.xyz": b"",
        "rows.txt": b"# t x y p\n0.000003 2 3 1\n",
        "a.aedat4": b"#!AER-DAT4.0\r\n\0",
        "a.raw": b"% date 2024-01-01 10:00:00\n% evt 3.0\n% format EVT3;height=480;width=640\n\0",
        "a.dat": b"% Data file containing CD events.\n% Version 2\n\0",
        "odd.xyz": b"anything",
        "list.txt": b"",
        "gone.txt": b"gone.aedat",
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    np.save(tmp_path / "three.npy", np.zeros((2, 3)))
    np.save(tmp_path / "nan.npy", np.full((2, 4), np.nan))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "b.raw").write_bytes(files["a.raw"])
    (tmp_path / "bad.aedat").write_bytes(good3)
    (tmp_path / "bad_labels.csv").write_text("class,start,end\n1,2\n")
    for name, message in (
        ("cut.bin", "4 bytes are no whole number of 40-bit events"),
        ("cut2.aedat", "7 bytes after the header are no whole number"),
        ("cut3.aedat", "a packet of 1 events of 8 bytes does not fit"),
        ("cut3head.aedat", "16 bytes are left where a packet"),
        ("noend.aedat", "its header has no end"),
        ("other.aedat", "begins with '#!AER-DAT4.0', .*it is AEDAT 4"),
        ("text.aedat", "format Serial-TS of AEDAT 3.1 is not read"),
        ("a.npz", "no npz of plain arrays"),
        ("a.npy", "no .npy file of numbers"),
        ("three.npy", r"shape \(2, 3\).*wanted columns x, y, p, t"),
        ("nan.npy", "NaN or infinite"),
        ("a.csv", "it is text, 4 numbers a line; read it with numpy.loadtxt"),
        ("rows.txt", "it is text, 4 numbers a line"),
        ("none.xyz", "it is empty"),
        ("odd.xyz", ".xyz is not a format that is read"),
        ("a.aedat4", "it is AEDAT 4 .*dv-processing"),
        ("a.raw", r"it is Prophesee's RAW \(EVT\)"),
        ("a.dat", "it is Prophesee's DAT"),
        ("foreign", "no .bin, .aedat or .npy file; of b.raw: it is Prophesee's RAW"),
        ("objects.npy", "no .npy file of numbers"),
        ("list.txt", "lists no recording"),
        ("gone.txt", "gone.aedat: No such file"),
        ("empty", "holds no .bin, .aedat or .npy"),
        ("missing", "do not exist"),
        ("bad.aedat", "line 2: '1,2', wanted class, start and end"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read_recordings(tmp_path / name)
        assert isinstance(caught.value, NeurosimError)
        assert "\n" not in str(caught.value)
    assert is_recordings(tmp_path)
    assert is_recordings("a.aedat")
    assert not is_recordings("a.npz")


@pytest.mark.shared
def test_real_recordings_survive_their_own_format(tmp_path: Path) -> None:
    """N-MNIST as shared, written as .bin files and read back."""
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is absent")
    whole = read_recordings(SHARED)
    assert len(whole) == 100
    assert whole.labels is not None
    for k in range(3):
        folder = tmp_path / str(whole.labels[k])
        folder.mkdir(exist_ok=True)
        (folder / f"{k + 1:05}.bin").write_bytes(aer40(events_of(whole, k)))
    found = read_recordings(tmp_path)
    for key in ("t", "x", "y", "p", "offsets", "labels"):
        np.testing.assert_array_equal(getattr(found, key), getattr(whole.part(0, 3), key))
