"""What a simulation is given and what it gives: stimuli, trace rows, counters. docs/machine.md states the meaning of every field.

Both engines produce exactly these arrays; ``neurosim.engine.compare`` says where two results differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neurosim.host.stimulus import CURRENT, DUE, ITEM_NAMES, MARKER, SPIKE, START, STEP, Stimulus
from neurosim.program import Program

__all__ = [
    "ANYTIME_DTYPE", "CHANNEL_COUNTERS", "CORE_COUNTERS", "CURRENT", "DUE", "ITEM_NAMES", "MARKER", "ROW_DROP", "ROW_LOSS", "ROW_NAMES", "ROW_PUT",
    "ROW_SERVICE", "ROW_STOP",
    "SERVER_COUNTERS", "SORT_KEYS",
    "SPIKE", "SPIKE_DTYPE", "START", "STEP", "TRACE_DTYPE", "Engine", "Options", "Progress", "Result", "Sink", "Stimulus",
]  # fmt: skip

# kinds of trace rows
ROW_SERVICE, ROW_PUT, ROW_DROP, ROW_LOSS, ROW_STOP = range(5)
ROW_NAMES = ("service", "put", "drop", "loss", "stop")

TRACE_DTYPE = np.dtype([
    ("sample", "<i4"),  # number of the sample; 0 throughout a streamed run
    ("time", "<i8"),  # ps; service: start; put: the instant of the put
    ("server", "<i4"),
    ("kind", "u1"),  # ROW_*
    ("index", "<i8"),  # service: n; put: running number of the server's puts
    ("end", "<i8"),  # service: end (-1: open when the run stopped); put: q_k, when it was ready
    ("service", "<i8"),  # n of the service
    ("item", "u1"),
    ("slice", "<i4"),  # source slice of a packet; target slice of a current; the slice of a step; -1 for a start
    ("address", "<i4"),  # local index; -1 for markers, steps and starts
    ("value", "<i8"),
    ("step", "<i4"),  # global step of the source slice: sample * T + step in wavefront when streamed, else the step within the sample
    ("dest", "<i4"),  # destination core; -1 where there is none
    ("origin", "<i8"),  # service of the soma, core or port in which the packet's spike, current or marker arose; -1 else
    ("cause_server", "<i4"),  # the service of the item's latest put (a step: the synapse service that completed its bank); -1 where there is none
    ("cause_service", "<i8"),
    ("blocked", "<i8"),  # ps; service: time spent waiting for credits; put: its own wait
    ("synops", "<i8"),  # synapses served (synapse and core services); words that its op read (steps of slices with one); else 0
])  # fmt: skip

SPIKE_DTYPE = np.dtype([("sample", "<i4"), ("step", "<i4"), ("slice", "<i4"), ("address", "<i4"), ("time", "<i8"), ("value", "<i4")])

ANYTIME_DTYPE = np.dtype([("sample", "<i4"), ("time", "<i8"), ("best", "<i4"), ("margin", "<i8")])
"""The best class from ``time`` on, and its lead over the next best at that time."""

SERVER_COUNTERS = ("services", "busy_ps", "blocked_ps", "held_ps")
"""Per server. held_ps is of soma servers, in settle of cores."""
CORE_COUNTERS = (
    "spike_packets", "current_packets", "marker_packets",  # served at the synapse (or core) station
    "synops", "synops_dropped",  # served; served but not added (beyond the sample's end)
    "accesses", "updates", "fires",  # soma; free: accesses = updates = 0 except for the start item; settle: due services, those that fire
    "current_writes", "saturations",
    "packets_sent",  # by the sender
    "pairs",  # of the synops: increments of activity-written synapses
    "op_reads",  # words that extra ops read: groups, windows, rows of activity-written synapses
    "cancelled", "retracted",  # settle: due services without a spike; fires of a negative value
)  # fmt: skip
CHANNEL_COUNTERS = ("puts", "high_water", "drops", "losses")
"""drops: spikes discarded for want of a credit; losses: spikes that a faulty link lost. Neither is a put."""

SORT_KEYS = ("sample", "time", "server", "kind", "index")


@dataclass(frozen=True)
class Options:
    """How to simulate. ``jitter``: relative spread of service times in 1/65536 (0..65535). ``max_time_ps``: the livelock limit per sample or run."""

    streamed: bool = False
    jitter: int = 0
    seed: int = 0
    max_time_ps: int = 10**15
    record: bool = False
    """Keep the trace (else ``Result.trace`` is empty) or hand it to ``sink``."""
    fires_only: bool = False
    """Of the trace only the puts and drops of spikes by cores and somas, and the services of ports for spikes and currents: costs far less."""
    spikes: bool = True
    """Keep every fire of a slice (``Result.spikes``)."""
    state: bool = False
    """Keep the final membranes of every sample."""
    link_loss: int = 0
    """Probability, in 1/2**32, that a link between routers loses a spike."""
    window_ps: int = 0
    """Free and settle: length of a sample; 0 = until quiescence. Free needs one with recurrence and for streaming."""
    stop_margin: int = 0
    """Free and settle, isolated: a sample ends when the best class has led by at least this much for ``stop_after_ps``; 0 = never."""
    stop_after_ps: int = 0
    first_sample: int = 0
    """Number of the first stimulus, for runs that are split over workers: it enters the jitter hash and the sample columns."""


class Sink(Protocol):
    """Receives trace rows in sorted order, chunk by chunk.

    One that also has ``write_columns(columns)`` may be given the columns of a chunk instead, by the names of TRACE_DTYPE, which saves making records.
    """

    def write(self, rows: NDArray[Any]) -> None:
        """Take the next rows (TRACE_DTYPE)."""
        ...


@dataclass
class Result:
    """What both engines return. Arrays over N samples; totals over the whole run."""

    scores: NDArray[np.int64]
    """[N, classes] membranes of the readout."""
    start_ps: NDArray[np.int64]
    """[N] isolated: 0. Streamed: start of the sample's first port service; in settle and free when the sample's stimuli fall due."""
    first_spike_ps: NDArray[np.int64]
    """[N] start of the first service of a spike packet with a synapse into a readout slice; -1 if there was none."""
    decision_ps: NDArray[np.int64]
    completion_ps: NDArray[np.int64]
    """[N] isolated: last end of a service or put. Streamed: latest end of a soma service of the sample's last step; settle: of any of the sample."""
    window_ps: int
    """Simulated time in all: the sum of completions (isolated) or the last end (streamed)."""
    server: dict[str, NDArray[np.int64]]
    core: dict[str, NDArray[np.int64]]
    channel: dict[str, NDArray[np.int64]]
    sample: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Per sample [N]: spikes (fires of slices; settle: neurons whose output is not 0 at its end), synops, packets (sender), injected_spikes,
    injected_currents, hops (router-output services).
    A streamed run charges synops, packets and hops to the sample of the packet's step (free: of the service's start).
    cut: 1 where the window ended before the sample did; unsettled: streamed settle, 1 where something still moved when the next sample fell due.
    cancelled, retracted: settle, as the counters of cores. stopped: 1 where its margin ended a sample."""
    slice_spikes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """[N, S] spikes of ``sample`` by slice."""
    slice_cancelled: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """[N, S] settle: due services without a spike; zeros elsewhere."""
    slice_retracted: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """[N, S] settle: spikes of a negative value; zeros elsewhere."""
    spikes: NDArray[Any] = field(default_factory=lambda: np.zeros(0, SPIKE_DTYPE))
    """SPIKE_DTYPE sorted by (sample, step, slice, address, time); step counts within the sample; time is that of the put into axon-out."""
    anytime: NDArray[Any] = field(default_factory=lambda: np.zeros(0, ANYTIME_DTYPE))
    """ANYTIME_DTYPE, by sample: the best class when it begins, then every change of it; empty without a readout."""
    trace: NDArray[Any] = field(default_factory=lambda: np.zeros(0, TRACE_DTYPE))
    """Sorted by SORT_KEYS."""
    state_v: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """[N, neurons] final membranes of each sample in Program order, when asked for (streamed: [1, neurons], at the end). ``state_i``: the synaptic
    currents; in settle the outputs last sent."""
    state_i: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))


Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all); it may raise KeyboardInterrupt to stop the run."""


class Engine(Protocol):
    """The whole contract of an engine."""

    def __call__(
        self, program: Program, stimuli: list[Stimulus], options: Options, *, sink: Sink | None = None, progress: Progress | None = None
    ) -> Result:
        """Simulate the stimuli, one per sample."""
        ...
