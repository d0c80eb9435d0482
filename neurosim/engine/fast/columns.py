"""Columns of the flat tables that the fast engine runs on. All tables are int64, C-contiguous, one row per thing.

A numba kernel cannot hold objects; a table with named columns is the next best thing. ``INF`` stands for "not known yet" in every time column.
"""

from __future__ import annotations

INF = 2**62

# par: constants of a run
(
    P_DECODE, P_SYNOP, P_ACCESS, P_UPDATE, P_FIRE, P_PUT, P_SEND, P_WIRE, P_BANK, P_PORT, P_READOUT, P_LEAK,
    P_LANES, P_SKIP, P_VISIT_ALL, P_SPIKES_PER_UPDATE, P_ROUNDING, P_LOW, P_HIGH, P_WRAP, P_SMALL,
    P_FREE, P_WINDOW, P_STEPS, P_GLOBAL_STEPS, P_SLICES, P_CORES, P_SOURCES, P_ROUTER0, P_STREAMED,
    P_SAMPLE, P_SAMPLE_INDEX, P_LAST_SAMPLE, P_AMPLITUDE, P_SEED, P_MAX_TIME, P_RECORD, P_SPIKES, P_PORT_DOWN, P_PORT_DOWN_END, P_MARGIN,
    P_COLUMNS,
) = range(42)  # fmt: skip

# reg: what changes and is single
(
    G_NOW, G_ROWS, G_SPIKES, G_LAST_END, G_LAST_START, G_ARGMAX, G_DECISION_SERVER, G_DECISION_SERVICE,
    G_PHASE, G_SAMPLE, G_STEP, G_STIMULUS, G_ROUTE, G_SOURCE, G_ALLOWED, G_PREVIOUS,
    G_COLUMNS,
) = range(17)  # fmt: skip
PHASE_STEP, PHASE_STIMULI, PHASE_MARKERS, PHASE_DONE = range(4)

# hp: 4-ary heap of the stations that will wake. Row k holds the k-th place of the heap (H_KEY its time, H_HEAP its station) and, in H_POSITION, the
# place of station k, -1 if it is not in the heap; the last row holds the size in H_HEAP
H_KEY, H_HEAP, H_POSITION = range(3)

# a packet or item, in slots (from L_ITEM) and in servers (from V_ITEM)
(F_ITEM, F_SLICE, F_ADDRESS, F_VALUE, F_STEP, F_DEST, F_ORIGIN, F_CAUSE_SERVER, F_CAUSE_SERVICE, F_ROUTE, F_COLUMNS) = range(11)

# sv: servers. V_END: end of the last service (0 at first; INF at a router output that waits for a credit); V_OPEN: a service that waits for a credit
(
    V_STATION, V_CHANNEL, V_HOP, V_OWNER,
    V_SERVICES, V_PUTS, V_BUSY, V_BLOCKED, V_HELD,
    V_START, V_END, V_OPEN, V_SHIFT, V_DURATION, V_RESULT, V_RESULTS, V_REPEAT, V_LAST_PUT, V_WAITED, V_JITTER, V_SYNOPS, V_READY,
    V_ITEM,
) = range(23)  # fmt: skip
V_SLICE, V_ADDRESS, V_VALUE, V_STEP, V_DEST, V_ORIGIN, V_CAUSE_SERVER, V_CAUSE_SERVICE, V_ROUTE = range(V_ITEM + 1, V_ITEM + F_COLUMNS)
V_COLUMNS = V_ITEM + F_COLUMNS
V_DYNAMIC = V_SERVICES  # from here on set to zero at the start of a sample; counters are added up before

# ch: channels; slots C_SLOT .. C_SLOT + depth, head and tail are slots, C_SEEN the slot and C_ARRIVED the number of the next arrival to be counted
(
    C_KIND, C_WRITER, C_READER, C_DEPTH, C_FORWARD, C_ACK, C_SLOT, C_INPUT,
    C_PUTS, C_TAKES, C_HEAD, C_TAIL, C_ARRIVED, C_SEEN, C_HIGH, C_WAITING,
    C_COLUMNS,
) = range(17)  # fmt: skip

# slot: places of channels. L_FREE: when the credit of this place is usable
L_ARRIVE, L_FREE, L_ITEM = range(3)
L_SLICE, L_ADDRESS, L_VALUE, L_STEP, L_DEST, L_ORIGIN, L_CAUSE_SERVER, L_CAUSE_SERVICE, L_ROUTE = range(L_ITEM + 1, L_ITEM + F_COLUMNS)
L_COLUMNS = L_ITEM + F_COLUMNS

# wc: windows, row = (0 for the port, 1 + core) * cores + destination core
W_PUTS, W_TAKES, W_WAITING = range(3)

# sl: slices
(
    S_CORE, S_C0, S_C1, S_Y0, S_Y1, S_X0, S_X1, S_DECAY_V, S_DECAY_I, S_STRICT, S_RESET, S_READOUT, S_BANKS,
    S_NEURON, S_SIZE, S_BANK, S_RING, S_UP, S_UP_END, S_DOWN, S_DOWN_END, S_PORT_UP, S_BIASED, S_POPULATION,
    S_HISTORY, S_NEXT, S_ENDED,
    S_COLUMNS,
) = range(28)  # fmt: skip

# so: sources
(O_C0, O_C1, O_Y0, O_Y1, O_X0, O_X1, O_CHANNELS, O_HEIGHT, O_WIDTH, O_ROUTE, O_ROUTE_END, O_COLUMNS) = range(12)

# rt: routes, then words of masks (Program.carried), T_COLUMNS a row; T_MASK: the first word of a route, -1 without a mask
(T_CORE, T_C0, T_C1, T_Y0, T_Y1, T_X0, T_X1, T_ENTRY, T_ENTRY_END, T_MARK, T_MARK_END, T_MASK, T_COLUMNS) = range(13)

# co: cores
K_SLICE, K_SLICE_END, K_AXON_IN, K_AXON_OUT, K_BUFFER, K_START, K_COLUMNS = range(7)

# rr: routers. Q_OPEN: number of outputs that wait for a credit
Q_IN, Q_IN_END, Q_OUT, Q_OUT_END, Q_OPEN, Q_COLUMNS = range(6)

# rin: inputs of routers, each with what its head asks for: arrival (INF: no head), output, and the time of the take before it
R_CHANNEL, R_ARRIVE, R_OUTPUT, R_TAKE, R_COLUMNS = range(5)

# ring: S_HISTORY rows per slice, by step. B_READY: when the soma sees the bank complete; B_END: end of the last step of the row
B_END, B_READY, B_CAUSE_SERVER, B_CAUSE_SERVICE, B_MARKERS, B_COLUMNS = range(6)

# buf: results of an open burst of a core
U_SLICE, U_ADDRESS, U_NOMINAL, U_COUNT, U_COLUMNS = range(5)

# cc: counters of cores, in the order of events.CORE_COUNTERS
(
    N_SPIKE_PACKETS, N_CURRENT_PACKETS, N_MARKER_PACKETS, N_SYNOPS, N_SYNOPS_DROPPED, N_ACCESSES, N_UPDATES, N_FIRES,
    N_CURRENT_WRITES, N_SATURATIONS, N_PACKETS_SENT,
) = range(11)  # fmt: skip

# smp: figures of samples; the times begin at -1
X_SPIKES, X_SYNOPS, X_PACKETS, X_HOPS, X_FIRST_SPIKE, X_DECISION, X_COMPLETION, X_START, X_IN_SPIKES, X_IN_CURRENTS, X_COLUMNS = range(11)

# stim: what the port injects
I_DUE, I_STEP, I_ITEM, I_SLICE, I_ADDRESS, I_VALUE, I_COLUMNS = range(7)

# runs: synapses of one packet and entry that are contiguous in the weights. stride 0: targets are index[target], index[target + 1], ...
D_TARGET, D_STRIDE, D_WEIGHT, D_COUNT, D_COLUMNS = range(5)

ROW_COLUMNS = 17
"""Trace rows as int64, in the order of TRACE_DTYPE without the sample."""
SPIKE_COLUMNS = 5
