"""Columns and records of the flat tables that the fast engine runs on.

A numba kernel cannot hold objects. What every packet-hop touches is in records (structured arrays, one cache line or less each, fields by name);
the rest is in int64 tables, C-contiguous, one row per thing, with named columns. ``INF`` stands for "not known yet" in every time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

INF = 2**62

# st: stations. wake: when it wakes (INF: not scheduled); place: bucket it is in (with its neighbours there), BUCKETS + place in the heap, or -1.
# kind: STATION_*; ordered: within a bucket the stations with this flag act in order of (time, station); eager: acts at once, ahead of time, for
# nothing that happens elsewhere until then can change what it does
STATION = np.dtype(
    [("wake", "i8"), ("next", "i4"), ("previous", "i4"), ("place", "i4"), ("kind", "i2"), ("ordered", "i1"), ("eager", "i1")], align=True
)
PORT, CORE, SOMA, SENDER, ROUTER, EXPRESS = range(6)
"""EXPRESS: what a router does for its private outputs, those that only one of its inputs uses."""

# sv: servers. end: end of the last service (0 at first); open: 1 = a service that waits for a credit, 2 = a router output that looks for one at
# ``ready``; packet: row of pk that is served; ready: q of the put of a router output or port. Router outputs have ``end`` and ``services`` in ``ch``
# and fill the rest only where it is wanted: when they wait, and for trace rows
SERVER = np.dtype(
    [
        ("end", "i8"), ("start", "i8"), ("services", "i8"), ("busy", "i8"), ("blocked", "i8"), ("packet", "i4"), ("station", "i4"), ("owner", "i4"),
        ("open", "i4"), ("ready", "i8"),
        ("waited", "i8"), ("shift", "i8"), ("duration", "i8"), ("last_put", "i8"), ("puts", "i8"), ("held", "i8"), ("synops", "i8"), ("missed", "i8"),
        ("jitter", "i4"), ("result", "i4"), ("results", "i4"), ("repeat", "i4"), ("route", "i4"), ("route_end", "i4"), ("listed", "i4"),
        ("private", "i4"), ("spare", "i4", (8,)),
    ],
    align=True,
)  # fmt: skip
"""``missed``: drops and losses; ``private``: a router output that one input alone uses; ``route`` .. ``route_end``: what a sender still has to send,
rows of rt or (listed) of the lists of routes."""

# ch: channels, by the number of the one server that writes them (no channel: depth 0). Slots base .. base + depth, of which ``used`` are taken from
# ``head`` on; reader: station; waiting: the writer waits for a credit; figures: row of (hop, forward, ack) behind the columns of ``par``.
# Read by a router: arrive, output: what the head asks for (INF: no head; a private output as its complement); taken: time of the take before it;
# bit: number of the input, -1: no router.
# Written by a router output: end of its last service (INF: it waits for a credit) and number of its services. One cache line: a packet-hop touches
# that of the channel it comes from and that of the channel it goes to
CHANNEL = np.dtype(
    [
        ("used", "i4"), ("depth", "i4"), ("head", "i4"), ("base", "i4"), ("arrive", "i8"), ("taken", "i8"), ("end", "i8"), ("services", "i8"),
        ("output", "i4"), ("reader", "i4"), ("high", "i4"), ("bit", "i2"), ("figures", "u1"), ("waiting", "u1"),
    ],
    align=True,
)  # fmt: skip
# cw: what is seldom needed of channels
C_KIND, C_DROP, C_DROPS, C_LOSSES, C_COLUMNS = range(5)

# slot: places of channels: time of arrival while taken, else when its credit is usable; row of pk; destination core; when the last item left it
SLOT = np.dtype([("time", "i8"), ("packet", "i4"), ("dest", "i4"), ("left", "i8")], align=True)

# pk: packets and items. Rows 0 .. servers - 1 are the servers' own (steps, start items, what a port is about to send), the others come and go.
# sample: row of smp that it is charged to; route: row of rt (-1: a current or an item); row: of pointers of its first sparse map, or -1
PACKET = np.dtype(
    [
        ("value", "i8"), ("origin", "i8"), ("cause_service", "i8"), ("cause_server", "i4"), ("item", "i4"), ("slice", "i4"), ("address", "i4"),
        ("step", "i4"), ("dest", "i4"), ("route", "i4"), ("sample", "i4"), ("row", "i8"),
    ],
    align=True,
)  # fmt: skip

# rr: routers; mask: inputs 0 .. 63 with a head (the words behind it are in ``mask``); first: row of rin, the channels of inputs; out .. out_end:
# servers; open: number of outputs that wait
ROUTE = np.dtype([("mask", "u8"), ("first", "i4"), ("open", "i4"), ("out", "i4"), ("out_end", "i4"), ("held", "i8")], align=True)

# par: constants of a run; from P_COLUMNS on rows of (hop, forward, ack) in ps
HOP, FORWARD, ACK, FIGURES = range(4)
(
    P_DECODE, P_SYNOP, P_ACCESS, P_UPDATE, P_FIRE, P_PUT, P_SEND, P_WIRE, P_BANK, P_PORT, P_READOUT, P_LEAK,
    P_LANES, P_SKIP, P_VISIT_ALL, P_SPIKES_PER_UPDATE, P_ROUNDING, P_LOW, P_HIGH, P_WRAP, P_SMALL,
    P_FREE, P_BARRIER, P_WINDOW, P_STEPS, P_GLOBAL_STEPS, P_RUN_STEPS, P_SLICES, P_CORES, P_PORTS, P_ROUTER0, P_STREAMED,
    P_SAMPLE, P_SAMPLE_INDEX, P_LAST_SAMPLE, P_AMPLITUDE, P_SEED, P_MAX_TIME, P_RECORD, P_SPIKES, P_MARGIN,
    P_OWN, P_TREE, P_LOSS, P_UNUSUAL, P_KEEP, P_UNTIL, P_WINDOW_PS, P_TIMED, P_BARRIER_PS, P_WORDS, P_BIT_WORDS,
    P_SPARSE, P_OP_WINDOW, P_SETTLED, P_SETTLE, P_QUIET, P_BY_AGE, P_AHEAD, P_CLASSES, P_WATCH, P_COLUMNS,
) = range(62)  # fmt: skip

# values of P_RECORD beside 0: the rows of fires and of packets that ports inject, or all rows
RECORD_FIRES, RECORD_ALL = 1, 2

# reg: what changes and is single. G_NOW: start of the bucket of wakes in hand; G_SPARE: unused rows of pk; G_GLOBAL,
# G_BEGAN: global step of the barrier and its S (settle, streamed: sample and when it fell due); G_SCORED: windows of a streamed free run whose
# scores are kept; G_LOGS: rows of log
(G_NOW, G_ROWS, G_SPIKES, G_LAST_END, G_ARGMAX, G_SPARE, G_GLOBAL, G_BEGAN, G_SCORED, G_LOGS, G_COLUMNS) = range(11)

# pt: ports
(
    J_PHASE, J_SAMPLE, J_STEP, J_STIMULUS, J_ROUTE, J_SOURCE, J_ALLOWED, J_PREVIOUS,
    J_DOWN, J_DOWN_END, J_SOURCES, J_SOURCES_END,
    J_COLUMNS,
) = range(13)  # fmt: skip
PHASE_STEP, PHASE_STIMULI, PHASE_MARKERS, PHASE_DONE = range(4)

# wc: windows, one row per (sender or port, destination core) that a route or current joins
W_PUTS, W_TAKES, W_WAITING, W_SENDER, W_COLUMNS = range(5)

# sl: slices. S_CELLS: cells of one bank, its own neurons first; S_OP: OP_* of neurosim.program; S_MOST: most spikes per step; S_PERIOD: free, the
# op_window in which its op was last served
(
    S_CORE, S_C0, S_C1, S_Y0, S_Y1, S_X0, S_X1, S_DECAY_V, S_DECAY_I, S_STRICT, S_RESET, S_READOUT, S_BANKS,
    S_NEURON, S_SIZE, S_CELLS, S_BANK, S_OP, S_MOST, S_RING, S_UP, S_UP_END, S_DOWN, S_DOWN_END, S_OFFSET, S_BIASED, S_WINDOW,
    S_HISTORY, S_NEXT, S_ENDED, S_PERIOD,
    S_COLUMNS,
) = range(32)  # fmt: skip

# so: sources. O_LIST: row of lp of its address 0, -1 where the boxes of its routes are looked through
(O_C0, O_C1, O_Y0, O_Y1, O_X0, O_X1, O_CHANNELS, O_HEIGHT, O_WIDTH, O_ROUTE, O_ROUTE_END, O_LIST, O_COLUMNS) = range(13)

# rt: routes
(T_CORE, T_C0, T_C1, T_Y0, T_Y1, T_X0, T_X1, T_ENTRY, T_ENTRY_END, T_MARK, T_MARK_END, T_WINDOW, T_COLUMNS) = range(13)

# co: cores. K_LOG: the row of log, counted from 1, that waits for the end of the service under way; 0: none
K_SLICE, K_SLICE_END, K_AXON_IN, K_AXON_OUT, K_BUFFER, K_START, K_LOG, K_COLUMNS = range(8)

# ring: S_HISTORY rows per slice, by step. B_READY: when the soma sees the bank complete; B_END: end of the last step of the row
B_END, B_READY, B_CAUSE_SERVER, B_CAUSE_SERVICE, B_MARKERS, B_COLUMNS = range(6)

# op: extra ops of slices. Q_OPERAND, Q_K, Q_V, Q_Q, Q_TABLE: first cell within a bank of the mask or window, of k, v and q, and of the table of
# pairs; Q_NUMBER: cells of the mask or window. Q_READS: row of ox of the pointers of neuron 0 to the cells of mask or window that it reads;
# Q_READERS: of those of cell 0 to the neurons that read it. Q_CELL: what a place within the bank lacks to be one in ``cell``, which holds what ops
# keep: in free their operands' cells, else the sums of latched masks
(
    Q_COUNT, Q_INVERTED, Q_LATCHED, Q_HEAD, Q_SHIFT, Q_CHANNELS, Q_OPERAND, Q_NUMBER, Q_K, Q_V, Q_Q, Q_TABLE, Q_READS, Q_READERS, Q_CELL,
    Q_COLUMNS,
) = range(16)  # fmt: skip

# what a synapse of an entry does besides adding to a bank or membrane
ACT_NONE, ACT_OR, ACT_GATE, ACT_MASK, ACT_WINDOW, ACT_K, ACT_V, ACT_Q = range(8)

# buf: results of an open burst of a core; each is put U_COUNT times, with value U_VALUE
U_SLICE, U_ADDRESS, U_NOMINAL, U_COUNT, U_VALUE, U_COLUMNS = range(6)

# cc: counters of cores, in the order of events.CORE_COUNTERS
(
    N_SPIKE_PACKETS, N_CURRENT_PACKETS, N_MARKER_PACKETS, N_SYNOPS, N_SYNOPS_DROPPED, N_ACCESSES, N_UPDATES, N_FIRES,
    N_CURRENT_WRITES, N_SATURATIONS, N_PACKETS_SENT, N_PAIRS, N_OP_READS, N_CANCELLED, N_RETRACTED,
) = range(15)  # fmt: skip

# smp: figures of samples; the times begin at -1. X_BEGAN: S of its first global step; X_DECISION_*: free, the service that last changed the argmax
(
    X_SPIKES, X_SYNOPS, X_PACKETS, X_HOPS, X_FIRST_SPIKE, X_DECISION, X_COMPLETION, X_START, X_IN_SPIKES, X_IN_CURRENTS,
    X_CUT, X_BEGAN, X_DECISION_SERVER, X_DECISION_SERVICE, X_UNSETTLED, X_CANCELLED, X_RETRACTED, X_STOPPED,
    X_COLUMNS,
) = range(19)  # fmt: skip

# log: what the readout said: changes of the best class (P_WATCH: every look); with steps every step of one of its slices, LOG_BEST then being the
# slice and LOG_MARGIN the step within the sample. LOG_END: of the service, -1 as long as it is open
LOG_SAMPLE, LOG_SERVER, LOG_SERVICE, LOG_BEST, LOG_MARGIN, LOG_END, LOG_COLUMNS = range(7)
LOG_ROOM = 64
"""Rows of log that a turn of the kernel leaves free at least."""

# dl: due lists of settle, for every core a ring of as many rows as it has neurons. D_CAUSE: the service whose test put the neuron there
D_SLICE, D_ADDRESS, D_READY, D_CAUSE, D_COLUMNS = range(5)
# dc: cores of settle. L_BASE, L_ROOM: its rows of dl; L_HEAD, L_COUNT: the first in use and how many are; L_ENDED: streamed with windows, how many
# of them have been counted
L_BASE, L_ROOM, L_HEAD, L_COUNT, L_ENDED, L_COLUMNS = range(6)

# stim: what the port injects
I_DUE, I_STEP, I_ITEM, I_SLICE, I_ADDRESS, I_VALUE, I_COLUMNS = range(7)


ROW_COLUMNS = 17
"""Trace rows as int64, in the order of TRACE_DTYPE without the sample."""
SPIKE_COLUMNS = 6

LANES = 16
"""32-bit lanes that ``base.simd`` takes at a time; arrays that end within a vector are padded by as many elements."""


def padded(size: int, dtype: Any) -> NDArray[Any]:
    """Zeros, aligned to 64 bytes, with room for a vector that begins at the last element: [size + LANES], of which a view [size] is handed out."""
    item = np.dtype(dtype).itemsize
    raw = np.zeros((size + LANES) * item + 64, np.uint8)
    first = -raw.ctypes.data % 64
    whole: NDArray[Any] = raw[first : first + (size + LANES) * item].view(dtype)
    return whole[:size]
