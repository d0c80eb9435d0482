from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.pipeline import compile_network
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import DataError
from neurosim.golden import run_graph
from neurosim.host import Recordings, Stimulus, encode, event_options, load_data
from neurosim.network import Network
from neurosim.program import Program

VALUED = ['capabilities.inputs=["spikes", "currents", "valued"]']


def event_net(steps: int = 3, weight: float = 0.4) -> Network:
    net = Network("events", steps=steps)
    x = net.spikes_input("in", (2, 4, 4), step_time_us=1000.0)
    w = np.random.default_rng(1).normal(weight, 0.5, (3, 2, 3, 3))
    net.output(net.mean("head", net.lif("lif", net.conv2d("conv", x, w, padding=1), decay=1.0, reset="subtract")))
    return net


def program_of(sync: str = "wavefront", *overrides: str, net: Network | None = None) -> Program:
    return compile_network(net or event_net(), load_chip("async-mesh", overrides), sync, audit=False).program


def recordings(*samples: list[tuple[int, int, int, int]], labels: list[int] | None = None) -> Recordings:
    t, x, y, p = (np.array([event[k] for sample in samples for event in sample], np.int64) for k in range(4))
    offsets = np.cumsum([0, *(len(sample) for sample in samples)])
    return Recordings(t, x, y, p, offsets, None if labels is None else np.array(labels), name="drawn")


# (t us, x, y, p): three events of one pixel in step 0, two equal times in step 1
EVENTS = [(500, 0, 0, 0), (600, 0, 0, 0), (601, 3, 1, 1), (1499, 0, 0, 0), (1500, 2, 2, 0), (1500, 1, 1, 1), (3499, 3, 3, 1), (3500, 1, 1, 1)]


def rows(stimulus: Stimulus) -> list[tuple[int, ...]]:
    """(due, step, address, value) as injected."""
    return list(zip(*(c.tolist() for c in (stimulus.due_ps, stimulus.step, stimulus.address, stimulus.value)), strict=True))


def address(x: int, y: int, p: int) -> int:
    return (y * 4 + x) * 2 + p


def test_realtime_keeps_the_times_and_ends_every_bin() -> None:
    program = program_of()
    samples = load_data(recordings(EVENTS), program, events=event_options(pace="realtime"))
    stimulus = encode(program, samples)[0]
    us = 10**6
    assert rows(stimulus) == [
        (0, 0, address(0, 0, 0), 1), (101 * us, 0, address(3, 1, 1), 1),
        (1000 * us, 1, address(1, 1, 1), 1), (1000 * us, 1, address(2, 2, 0), 1), (2999 * us, 2, address(3, 3, 1), 1),
    ]  # fmt: skip
    assert stimulus.marker_due_ps is not None
    assert stimulus.marker_due_ps.tolist() == [1000 * us, 2000 * us, 3000 * us]
    assert samples.events_left_out == 1
    # streamed: the second sample begins when the first has had its steps
    second = encode(program, load_data(recordings(EVENTS, EVENTS), program, events=event_options(pace="realtime")), streamed=True)[1]
    assert (second.due_ps - stimulus.due_ps).tolist() == [3000 * us] * 5
    assert second.marker_due_ps is not None
    assert (second.marker_due_ps - stimulus.marker_due_ps).tolist() == [3000 * us] * 3


def test_counts_are_packets_or_values() -> None:
    for overrides, first in (((), [(0, 0, 0, 1)] * 3), (VALUED, [(0, 0, 0, 3)])):
        program = program_of("wavefront", *overrides)
        samples = load_data(recordings(EVENTS), program, events=event_options(bin="count"))
        assert samples.data.max() == 3
        assert samples.data.sum() == 7
        stimulus = encode(program, samples)[0]
        assert rows(stimulus)[: len(first)] == first
        assert stimulus.value.sum() == 7
        assert not stimulus.due_ps.any()
        again = encode(program, load_data(samples.data, program, events=event_options(bin="count")))[0]
        assert rows(again) == rows(stimulus)
    # a count is known at the end of its bin; without values every event comes at its own time
    due = rows(encode(program, load_data(recordings(EVENTS), program, events=event_options(bin="count", pace="realtime")))[0])
    assert due[0] == (10**9, 0, 0, 3)
    plain = program_of()
    due = rows(encode(plain, load_data(recordings(EVENTS), plain, events=event_options(bin="count", pace="realtime")))[0])
    assert [row[0] // 10**6 for row in due if row[2] == 0] == [0, 100, 999]


@pytest.mark.parametrize(
    ("preset", "overrides", "sync"), [("async-mesh", (), "wavefront"), ("async-mesh", VALUED, "wavefront"), ("loihi2-like", (), "barrier")]
)
def test_counts_give_what_the_golden_model_gives(preset: str, overrides: list[str], sync: str) -> None:
    chip = load_chip(preset, overrides)
    compiled = compile_network(event_net(steps=6), chip, sync)
    rng = np.random.default_rng(3)
    drawn = [sorted(zip(rng.integers(0, 6000, 90), *(rng.integers(0, k, 90) for k in (4, 4, 2)), strict=True)) for _ in range(3)]
    for pace in ("asap", "realtime"):
        samples = load_data(recordings(*drawn), compiled.program, events=event_options(bin="count", pace=pace))
        golden = run_graph(compiled.integer, samples.data, chip)
        stimuli = encode(compiled.program, samples)
        valued = "valued" in chip.capabilities.inputs
        assert max(stimulus.value.max() for stimulus in stimuli) == (samples.data.max() if valued else 1)
        result = simulate_stimuli(compiled.program, stimuli, engine="reference")
        np.testing.assert_array_equal(result.scores, golden.scores)
        assert golden.scores.any()


def test_counts_that_a_bank_might_not_hold_are_refused() -> None:
    """The compiler's bound is sharp: one more event than it allows could overflow."""
    net = Network("heavy", steps=1, integers="floor")
    x = net.spikes_input("in", (1, 1, 1), step_time_us=1000.0)
    net.output(net.lif("lif", net.linear("fc", x, np.array([[101.0]])), decay=1.0, threshold=50.0))
    program = program_of("wavefront", "arithmetic.acc_bits=12", net=net)
    limit = program.meta["input"]["most_events"]
    assert int(program.weights.max()) == 101
    assert limit == (2**11 - 1) // 101
    event = [(k, 0, 0, 0) for k in range(limit + 1)]
    assert load_data(recordings(event[:-1]), program, events=event_options(bin="count")).data.max() == limit
    with pytest.raises(DataError, match=f"{limit + 1} events in one step, the banks of async-mesh are safe up to {limit}"):
        load_data(recordings(event), program, events=event_options(bin="count"))


def test_free_takes_events_in_their_order() -> None:
    program = program_of("free")
    order = [address(x, y, p) for _, x, y, p in EVENTS]  # also the last, which is after the last step
    for pace in ("asap", "realtime"):
        stimulus = encode(program, load_data(recordings(EVENTS), program, events=event_options(pace=pace)))[0]
        assert stimulus.address.tolist() == order  # every event, also the three of one pixel, the equal times as recorded
        assert not stimulus.step.any()
        times = [(t - 500) * 10**6 for t, *_ in EVENTS]
        assert stimulus.due_ps.tolist() == (times if pace == "realtime" else [0] * 8)
        assert stimulus.marker_due_ps is None


def test_ties_are_shuffled_by_their_seed_and_nothing_else_moves() -> None:
    program = program_of("free")
    ties = [(100 * (k // 8), k % 4, k // 4 % 4, k % 2) for k in range(32)]
    found = {
        seed: encode(program, load_data(recordings(ties), program, events=event_options(order="shuffled", order_seed=seed, pace="realtime")))[0]
        for seed in (0, 1, 2)
    }
    again = encode(program, load_data(recordings(ties), program, events=event_options(order="shuffled", pace="realtime")))[0]
    assert rows(again) == rows(found[0])
    assert len({tuple(stimulus.address.tolist()) for stimulus in found.values()}) == 3
    for stimulus in found.values():
        assert sorted(rows(stimulus)) == sorted(rows(found[0]))
        assert (np.diff(stimulus.due_ps) >= 0).all()


def test_span_and_step() -> None:
    cut = load_data(recordings(EVENTS), program_of("free"), events=event_options(span="1 ms"))
    assert load_data(recordings(EVENTS), program_of("free")).data.sum() == 5  # as with steps, for a look at them
    assert (cut.events_left_out, len(encode(program_of("free"), cut)[0].step)) == (4, 4)
    program = program_of()
    samples = load_data(recordings(EVENTS), program, events=event_options(span="1 ms"))
    assert (samples.events_left_out, int(samples.data.sum())) == (4, 2)
    fine = load_data(recordings(EVENTS), program, events=event_options(step="500us"))
    assert [tuple(map(int, k[1:])) for k in np.argwhere(fine.data)] == [(0, 0, 0, 0), (0, 1, 1, 3), (1, 0, 0, 0), (2, 0, 2, 2), (2, 1, 1, 1)]
    free = program_of("free", net=no_step_time())
    everything = load_data(recordings(EVENTS), free)
    assert everything.events_left_out == 0
    with pytest.raises(DataError, match="without a step time have no steps"):
        _ = everything.data
    with pytest.raises(DataError, match='give step, for example "1 ms"'):
        load_data(recordings(EVENTS), program_of(net=no_step_time()))


def no_step_time() -> Network:
    net = Network("free", steps=3)
    net.output(net.mean("head", net.lif("lif", net.conv2d("conv", net.spikes_input("in", (2, 4, 4)), np.ones((2, 2, 3, 3)), padding=1))))
    return net


def test_what_is_wrong_is_refused_or_repaired_and_counted() -> None:
    program = program_of()
    back, outside, empty = [EVENTS[3], *EVENTS[:3]], [*EVENTS, (600, 4, 0, 0), (601, 0, -1, 0)], []
    for bad, message in (
        ([EVENTS, back], "times of sample 1 go back, from 1499 to 500 us; .*repair does so"),
        ([outside, EVENTS], r"y from -1 to 3 leaves 0..3 .* in 1 of 18 events; repair drops them"),
        ([EVENTS, empty, empty], "2 of 3 recordings have no event, the first is sample 1; repair leaves them out"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(recordings(*bad), program)
    mended = load_data(recordings(back, outside, empty, EVENTS, [(1, 9, 9, 9)], labels=[0, 1, 2, 1, 0]), program, events=event_options(repair=True))
    assert mended.repaired == {"events_outside": 3, "events_unsorted": 3, "samples_empty": 2}
    assert mended.labels is not None
    assert mended.labels.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(mended.data[1], mended.data[2])
    sound = load_data(recordings(sorted(back)), program)
    np.testing.assert_array_equal(mended.data[0], sound.data[0])
    assert sound.repaired == {}
    with pytest.raises(DataError, match="there is nothing to run"):
        load_data(recordings(empty), program, events=event_options(repair=True))
    with pytest.raises(DataError, match="wanted 1 whole numbers"):
        load_data(recordings(EVENTS, labels=[1, 2]), program)


def test_options_name_what_is_wrong_with_them(tmp_path: Path) -> None:
    for options, message in (
        ({"bin": "sum"}, "bin 'sum' .* choose binary or count"),
        ({"pace": "fast"}, "choose asap or realtime"),
        ({"order": "random"}, "choose recording or shuffled"),
        ({"step": "1 parsec"}, "step of event recordings: time '1 parsec' not understood"),
        ({"span": "0 ms"}, "span '0 ms' .* must be longer than 0"),
        ({"order_seed": -1}, "order_seed -1"),
    ):
        with pytest.raises(DataError, match=message):
            event_options(**options)  # type: ignore[arg-type]
    program = program_of()
    with pytest.raises(DataError, match="has no times"):
        load_data(np.zeros((1, 3, 2, 4, 4), np.uint8), program, events=event_options(pace="realtime"))
    with pytest.raises(DataError, match="found 2; bin count takes several"):
        load_data(np.full((1, 3, 2, 4, 4), 2), program)
    with pytest.raises(DataError, match="must not be negative"):
        load_data(np.full((1, 3, 2, 4, 4), -1), program, events=event_options(bin="count"))
