"""Recordings that are not as a program wants them: mended without loss, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.api import simulate
from neurosim.errors import DataError
from neurosim.host import Recordings, encode, event_options, load_data
from neurosim.host.recordings import from_arrays
from tests.host.test_recordings import EVENTS, program_of, recordings, rows

REPAIR = event_options(repair=True)
TURN = 1 << 32


def at(times: list[int] | np.ndarray, **more: object) -> Recordings:
    """Events of one sample at those times, all of one neuron."""
    t = np.asarray(times, np.int64)
    zeros = np.zeros(len(t), np.int64)
    return Recordings(t, zeros, zeros, zeros, np.array([0, len(t)]), name="drawn", **more)  # type: ignore[arg-type]


def test_polarities_of_minus_one_become_zero_and_no_event_goes() -> None:
    program, sound = program_of(), load_data(recordings(EVENTS), program_of())
    coded = recordings([(t, x, y, 2 * p - 1) for t, x, y, p in EVENTS])
    with pytest.raises(DataError, match=r"polarities are -1 and 1, .*make p \(p \+ 1\) // 2, repair does so"):
        load_data(coded, program)
    mended = load_data(coded, program, events=REPAIR)
    np.testing.assert_array_equal(mended.data, sound.data)
    assert mended.repaired == {"polarities_mapped": sum(p == 0 for *_, p in EVENTS)}
    only_off = load_data(recordings([(t, x, y, -1) for t, x, y, _ in EVENTS]), program, events=REPAIR)
    assert only_off.data[:, :, 0].sum() == only_off.data.sum() > 0
    for codes in ((-1, 0), (1, 2)):  # a repair that drops what is outside would lose one polarity
        with pytest.raises(DataError, match=f"polarities are {codes[0]}, {codes[1]}, which does not say"):
            load_data(recordings([(t, x, y, codes[p]) for t, x, y, p in EVENTS]), program, events=REPAIR)


@pytest.mark.parametrize("signed", [False, True])
def test_a_32_bit_clock_that_went_round_once_is_unwrapped(signed: bool) -> None:
    program, times = program_of(), [0, 10, 1500, 1600, 2900]
    wrapped = [(t + (1 << (31 if signed else 32)) - 1550) % TURN for t in times]
    if signed:
        wrapped = [t - TURN if t >= 1 << 31 else t for t in wrapped]
    with pytest.raises(DataError, match=r"sample 1 go back by nearly 2\*\*32 us, a clock of 32 bits that went round"):
        load_data(recordings(EVENTS, [(t, 0, 0, 0) for t in wrapped]), program)
    mended = load_data(recordings(EVENTS, [(t, 0, 0, 0) for t in wrapped]), program, events=REPAIR)
    assert mended.repaired == {"times_unwrapped": 2}
    assert mended.recordings is not None
    assert mended.recordings.part(1, 2).relative().tolist() == times
    # around the turn out of order as well: put in order behind it
    swapped = [wrapped[k] for k in (0, 1, 3, 2, 4)]
    again = load_data(recordings([(t, 0, 0, 0) for t in swapped]), program, events=REPAIR)
    assert again.repaired == {"times_unwrapped": 2, "events_unsorted": 1}
    assert again.recordings is not None
    assert again.recordings.relative().tolist() == times


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([TURN - 5, 3, 1 << 31, TURN - 5, 4], r"2\*\*32 us, 4294967291 to 3: a clock of 32 bits that went round more than once"),
        ([65_000, 65_530, 7, 900], r"2\*\*16 us, 65530 to 7: a clock of 16 bits"),
        ([9, (1 << 24) - 3, 5], r"2\*\*24 us, 16777213 to 5: a clock of 24 bits"),
    ],
)
def test_clocks_that_went_round_otherwise_are_refused_even_with_repair(times: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data(at([*times]), program_of(), events=REPAIR)


def test_times_that_64_bits_of_picoseconds_do_not_hold_are_refused() -> None:
    program = program_of()
    longest = (2**63 - 1) // 10**6
    assert load_data(at([7, 7 + longest]), program).events_left_out == 1
    late = load_data(at([2**61, 2**61 + 1500]), program)  # a late clock is no matter
    assert np.argwhere(late.data)[:, 1].tolist() == [0, 1]
    for times in ([7, 8 + longest], [0, 2**60], [-(2**63), 2**63 - 1]):
        with pytest.raises(DataError, match=f"lies {times[1] - times[0]} us after its start, .*another unit"):
            load_data(at(times), program)
    with pytest.raises(DataError, match=r"span .* is longer than"):
        event_options(span="1000000000 s")
    with pytest.raises(DataError, match=r"3 steps of .* give a shorter step"):
        load_data(at([0]), program, events=event_options(step="9000000 s"))
    flat = {"t": np.zeros(1, np.uint64), "x": np.zeros(1, int), "y": np.zeros(1, int), "p": np.zeros(1, int), "offsets": np.array([0, 1])}
    with pytest.raises(DataError, match="t reaches 9223372036854775808, at most 9223372036854775807"):
        from_arrays(flat | {"t": np.array([2**63], np.uint64)}, "big")
    with pytest.raises(DataError, match=r"wanted a flat array of whole microseconds; of seconds make np.rint\(t \* 1e6\)"):
        from_arrays(flat | {"t": np.array([0.25])}, "seconds")


def test_time_0_is_the_first_event_or_the_zero_of_the_file() -> None:
    program = program_of()
    late = recordings([(1600, 0, 0, 0), (2999, 1, 1, 1), (3000, 2, 2, 0)], EVENTS)
    steps = {start: load_data(late, program, events=event_options(start=start)).data for start in ("first", "file", None)}
    assert np.argwhere(steps["file"][0])[:, 0].tolist() == [1, 2]
    assert np.argwhere(steps["first"][0])[:, 0].tolist() == [0, 1, 1]
    np.testing.assert_array_equal(steps[None], steps["first"])
    due = encode(program, load_data(late, program, events=event_options(start="file", pace="realtime")))[0].due_ps
    assert (due // 10**6).tolist() == [1600, 2999]
    early = at([-5, 10], start="file")
    with pytest.raises(DataError, match="1 events lie before time 0 of their file, the first in sample 0; count from the first event"):
        load_data(early, program)
    assert load_data(early, program, events=REPAIR).repaired == {"events_early": 1}
    with pytest.raises(DataError, match=r"no event lies within the first 3.00 ms .* \(start first\)"):
        load_data(at([10**9, 10**9 + 5], start="file"), program)


@pytest.mark.parametrize("sync", ["wavefront", "free"])
def test_recordings_without_events_are_samples_where_asked(sync: str) -> None:
    program = program_of(sync)
    drawn = recordings([], EVENTS, [], labels=[0, 1, 2])
    with pytest.raises(DataError, match=r"2 of 3 recordings have no event, .*keep_empty keeps them"):
        load_data(drawn, program)
    kept = event_options(keep_empty=True)
    assert encode(program, load_data(drawn, program, events=event_options(keep_empty=True, bin="count", pace="realtime")))[0].step.size == 0
    found = {engine: simulate(program, drawn, engine=engine, events=kept) for engine in ("reference", "fast")}
    for run in found.values():
        assert run.labels is not None
        assert run.labels.tolist() == [0, 1, 2]
        assert [int(run.spikes("lif")[k].sum()) > 0 for k in range(3)] == [False, True, False]
        np.testing.assert_array_equal(run.readout, found["reference"].readout)
    only = load_data(recordings([], []), program, events=kept)
    assert [rows(stimulus) for stimulus in encode(program, only)] == [[], []]
    # what a repair leaves of a sample may be nothing
    outside = load_data(recordings(EVENTS, [(1, 9, 9, 9)]), program, events=event_options(keep_empty=True, repair=True))
    assert (len(outside), outside.repaired) == (2, {"events_outside": 1})


def test_an_array_with_fields_is_one_recording() -> None:
    program = program_of()
    fields = np.zeros(len(EVENTS), [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")])
    for k, key in enumerate("txyp"):
        fields[key] = [event[k] for event in EVENTS]
    np.testing.assert_array_equal(load_data(fields, program).data, load_data(recordings(EVENTS), program).data)
    with pytest.raises(DataError, match=r"fields x, y, wanted a flat one with fields t \(us\), x, y, p"):
        load_data(fields[["x", "y"]], program)
