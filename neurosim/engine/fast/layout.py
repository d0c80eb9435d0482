"""Program -> the flat tables of ``columns.py``, and their state at the start of a run or sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import CORE_COUNTERS, Options
from neurosim.engine.fast import columns as c
from neurosim.program import C_AXON_IN, C_AXON_OUT, E_SLICE, Program

A = NDArray[Any]
ROWS, SPIKES = 1 << 16, 1 << 15
"""Rows that the buffers of trace and spikes hold at least."""


@dataclass
class Tables:
    """Arguments of the kernel, by name and in order after ``budget``."""

    par: A
    reg: A
    hp: A
    sv: A
    ch: A
    slot: A
    wc: A
    wf: A
    sl: A
    so: A
    rt: A
    en: A
    mk: A
    up: A
    dn: A
    co: A
    csl: A
    rr: A
    rin: A
    ns: A
    need: A
    ring: A
    v: A
    cur: A
    tlast: A
    thr: A
    bias: A
    flo: A
    rby: A
    acc32: A
    acc64: A
    touched: A
    w8: A
    w32: A
    index: A
    runs: A
    buf: A
    cc: A
    smp: A
    sspk: A
    stim: A
    stim_ptr: A
    marker_due: A
    rows: A
    spk: A
    readout: A
    scores: A
    rank: A

    def arguments(self) -> tuple[A, ...]:
        """The arrays in the kernel's order."""
        return tuple(vars(self).values())


def _table(*columns: Any) -> A:
    return np.ascontiguousarray(np.stack([np.asarray(x, np.int64) for x in columns], axis=1))


def build(program: Program, options: Options, samples: int, stim: A, stim_ptr: A, marker_due: A) -> Tables:
    """All tables of a run over ``samples`` samples; ``reset`` must follow before the kernel starts."""
    free = program.sync == "free"
    slices = _slices(program, options, program.steps * (samples if options.streamed else 1))
    mk, route_mark = _markers(program)
    up, dn, port_down = _neighbours(program, slices)
    co, csl, buffers = _cores(program, slices, free)
    sv, ch, slots, rr, rin = _fabric(program)
    window = program.chip.noc.window if program.chip.noc.flow == "end_to_end" else 0
    small = program.weights.dtype == np.int8 and program.chip.arithmetic.acc_bits <= 32
    stations = 1 + 3 * program.cores + len(rr)
    banks = int((slices[:, c.S_BANKS] * slices[:, c.S_SIZE]).sum())
    neurons = int(program.neuron_ptr[-1])
    box = program.slice_box
    pixels = int(((box[:, 3] - box[:, 2]) * (box[:, 5] - box[:, 4])).max(initial=1))
    readout = readout_neurons(program)
    rank = np.full(max(1, neurons), -1, np.int64)
    rank[readout] = np.arange(len(readout))
    one8, one32 = np.zeros(1, np.int8), np.zeros(1, np.int32)
    margin = int(program.channel[:, 4].max()) + 16 + int((rr[:, c.Q_OUT_END] - rr[:, c.Q_OUT]).max()) * 2
    tables = Tables(
        par=_parameters(program, options, samples, window, small, port_down, margin),
        reg=np.zeros(c.G_COLUMNS, np.int64),
        hp=np.zeros((stations + 1, 3), np.int64),
        sv=sv,
        ch=ch,
        slot=np.zeros((slots, c.L_COLUMNS), np.int64),
        wc=np.zeros(((program.cores + 1) * program.cores if window else 1, 3), np.int64),
        wf=np.zeros((program.cores + 1) * program.cores * window if window else 1, np.int64),
        sl=slices,
        so=_table(*program.source_box.T, *program.source_shape.T, program.route_ptr[:-1], program.route_ptr[1:]),
        rt=_routes(program, route_mark),
        en=np.ascontiguousarray(program.entry, np.int64),
        mk=mk,
        up=up,
        dn=dn,
        co=co,
        csl=csl,
        rr=rr,
        rin=rin,
        ns=np.ascontiguousarray(program.next_server, np.int64),
        need=_needs(program),
        ring=np.zeros((max(1, int(slices[:, c.S_HISTORY].sum())), c.B_COLUMNS), np.int64),
        v=np.zeros(neurons, np.int64),
        cur=np.zeros(neurons, np.int64),
        tlast=np.zeros(neurons if free else 1, np.int64),
        thr=np.ascontiguousarray(program.threshold, np.int64),
        bias=np.ascontiguousarray(program.bias, np.int64),
        flo=np.ascontiguousarray(program.floor, np.int64),
        rby=np.ascontiguousarray(program.reset_by, np.int64),
        acc32=np.zeros(banks if small and not free else 1, np.int32),
        acc64=np.zeros(banks if not small and not free else 1, np.int64),
        touched=np.zeros(1 if free else banks, np.uint8),
        w8=np.ascontiguousarray(program.weights) if small else one8,
        w32=one32 if small else np.ascontiguousarray(program.weights, np.int32),
        index=np.ascontiguousarray(program.index, np.int64) if len(program.index) else np.zeros(1, np.int64),
        runs=np.zeros((pixels + 1, c.D_COLUMNS), np.int64),
        buf=np.zeros((buffers, c.U_COLUMNS), np.int64),
        cc=np.zeros((program.cores, len(CORE_COUNTERS)), np.int64),
        smp=np.zeros((samples, c.X_COLUMNS), np.int64),
        sspk=np.zeros((samples, program.slices), np.int64),
        stim=stim,
        stim_ptr=stim_ptr,
        marker_due=marker_due,
        rows=np.zeros((ROWS + margin if options.record else 1, c.ROW_COLUMNS), np.int64),
        spk=np.zeros((SPIKES + margin if options.spikes else 1, c.SPIKE_COLUMNS), np.int64),
        readout=readout,
        scores=np.zeros((samples, len(readout)), np.int64),
        rank=rank,
    )
    tables.smp[:, [c.X_FIRST_SPIKE, c.X_START]] = -1
    return tables


def _parameters(program: Program, options: Options, samples: int, window: int, small: bool, port_down: tuple[int, int], margin: int) -> A:
    time, arithmetic = program.chip.timing, program.chip.arithmetic
    par = np.zeros(c.P_COLUMNS, np.int64)
    for column, figure in (
        (c.P_DECODE, time.decode), (c.P_SYNOP, time.synop), (c.P_ACCESS, time.access), (c.P_UPDATE, time.update), (c.P_FIRE, time.fire),
        (c.P_PUT, time.put), (c.P_SEND, time.send), (c.P_WIRE, time.wire), (c.P_BANK, time.bank), (c.P_PORT, time.port),
        (c.P_READOUT, time.readout),
    ):  # fmt: skip
        par[column] = figure.value
    par[c.P_LEAK] = time.leak.value if time.leak is not None else 0
    par[c.P_LANES] = arithmetic.lanes
    par[c.P_SKIP] = arithmetic.skip_zero_weights
    par[c.P_VISIT_ALL] = arithmetic.visit == "all"
    par[c.P_SPIKES_PER_UPDATE] = arithmetic.spikes_per_update
    par[c.P_ROUNDING] = program.chip.rounding
    par[c.P_LOW], par[c.P_HIGH] = -(2 ** (arithmetic.state_bits - 1)), 2 ** (arithmetic.state_bits - 1) - 1
    par[c.P_WRAP] = 64 - arithmetic.acc_bits
    par[c.P_SMALL] = small
    par[c.P_FREE] = program.sync == "free"
    par[c.P_WINDOW] = window
    par[c.P_STEPS] = program.steps
    par[c.P_GLOBAL_STEPS] = program.steps * (samples if options.streamed else 1)
    par[c.P_SLICES], par[c.P_CORES], par[c.P_SOURCES] = program.slices, program.cores, len(program.source_population)
    par[c.P_ROUTER0] = 1 + 3 * program.cores
    par[c.P_STREAMED] = options.streamed
    par[c.P_AMPLITUDE] = options.jitter
    par[c.P_SEED] = (options.seed + 2**63) % 2**64 - 2**63
    par[c.P_MAX_TIME] = options.max_time_ps
    par[c.P_RECORD], par[c.P_SPIKES] = options.record, options.spikes
    par[c.P_PORT_DOWN], par[c.P_PORT_DOWN_END] = port_down
    par[c.P_MARGIN] = margin
    return par


def _slices(program: Program, options: Options, steps: int) -> A:
    table = np.zeros((program.slices, c.S_COLUMNS), np.int64)
    table[:, c.S_CORE] = program.slice_core
    table[:, c.S_C0 : c.S_X1 + 1] = program.slice_box
    table[:, c.S_DECAY_V : c.S_BANKS + 1] = program.slice_rule
    table[:, c.S_NEURON] = program.neuron_ptr[:-1]
    table[:, c.S_SIZE] = np.diff(program.neuron_ptr)
    table[:, c.S_BANK] = np.cumsum(table[:, c.S_BANKS] * table[:, c.S_SIZE]) - table[:, c.S_BANKS] * table[:, c.S_SIZE]
    # A slice whose banks need no markers may run far ahead of its upstream. The end of a step is kept until its wire has been heard: further steps
    # overwrite it, and no soma service is shorter than ``shortest``.
    timing, shortest = program.chip.timing, np.ones(program.slices, np.int64)
    if program.chip.arithmetic.visit == "all":
        nominal = table[:, c.S_SIZE] * timing.access.value
        shortest = np.maximum(1, nominal - ((nominal * options.jitter) >> 16) - 1)
    table[:, c.S_HISTORY] = np.clip(table[:, c.S_BANKS] + timing.wire.value // shortest + 2, 1, steps)
    table[:, c.S_RING] = np.cumsum(table[:, c.S_HISTORY]) - table[:, c.S_HISTORY]
    table[:, c.S_POPULATION] = program.slice_population
    for q in range(program.slices):
        table[q, c.S_BIASED] = np.any(program.bias[program.neuron_ptr[q] : program.neuron_ptr[q + 1]] != 0)
    return table


def _routes(program: Program, route_mark: A) -> A:
    """Table of the routes and, below it, the masks of those that some neurons in their box do not take."""
    source_of = np.repeat(np.arange(len(program.route_ptr) - 1), np.diff(program.route_ptr))
    masks, first, place = [], np.full(len(source_of), -1, np.int64), len(source_of) * c.T_COLUMNS
    for r, s in enumerate(source_of.tolist()):
        if (mask := program.carried(s, r)) is not None:
            masks.append(mask.astype(np.int64))
            first[r], place = place, place + len(mask)
    ends = program.entry_ptr
    table = _table(program.route_core, *program.route_box.T, ends[:-1], ends[1:], route_mark[:-1], route_mark[1:], first)
    words = np.concatenate([np.zeros(0, np.int64), *masks])
    below = np.zeros((-(-len(words) // c.T_COLUMNS), c.T_COLUMNS), np.int64)
    below.ravel()[: len(words)] = words
    return np.ascontiguousarray(np.concatenate([table, below]))


def _markers(program: Program) -> tuple[A, A]:
    """Per route the (slice, delay) that its markers count for: table and pointers."""
    waiting: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for source, q, delay in program.sync_pair.tolist():
        waiting.setdefault((source, int(program.slice_core[q])), []).append((q, delay))
    source_of = np.repeat(np.arange(len(program.route_ptr) - 1), np.diff(program.route_ptr))
    groups = [waiting.get((int(s), int(core)), []) for s, core in zip(source_of, program.route_core, strict=True)]
    pointers = np.cumsum([0] + [len(group) for group in groups])
    return np.array([pair for group in groups for pair in group] or [(0, 0)], np.int64), pointers.astype(np.int64)


def _neighbours(program: Program, slices: A) -> tuple[A, A, tuple[int, int]]:
    """Soma servers upstream of every slice, (slice, largest delay) downstream of every slice and of the port; fills the columns of ``slices``."""
    above: list[set[int]] = [set() for _ in range(program.slices)]
    below: list[dict[int, int]] = [{} for _ in range(program.slices + 1)]  # the last: the port
    for source, q, delay in program.sync_pair.tolist():
        if source < program.slices:
            above[q].add(2 + 3 * int(program.slice_core[source]))
        else:
            slices[q, c.S_PORT_UP] = 1
        reader = below[min(source, program.slices)]
        reader[q] = max(reader.get(q, 0), delay)
    up_ptr = np.cumsum([0] + [len(x) for x in above])
    down_ptr = np.cumsum([0] + [len(x) for x in below])
    slices[:, c.S_UP], slices[:, c.S_UP_END] = up_ptr[:-1], up_ptr[1:]
    slices[:, c.S_DOWN], slices[:, c.S_DOWN_END] = down_ptr[:-2], down_ptr[1:-1]
    up = np.array([s for found in above for s in sorted(found)] or [0], np.int64)
    dn = np.array([pair for found in below for pair in sorted(found.items())] or [(0, 0)], np.int64)
    return up, dn, (int(down_ptr[-2]), int(down_ptr[-1]))


def _needs(program: Program) -> A:
    """[slices * steps] markers that complete the bank of each step."""
    need = np.zeros((program.slices, program.steps), np.int64)
    for _, q, delay in program.sync_pair.tolist():
        need[q, delay:] += 1
    return need.ravel()


def _cores(program: Program, slices: A, free: bool) -> tuple[A, A, int]:
    """Cores, their slices, and the size of the burst buffers: the most results that one service can have, per core."""
    table = np.zeros((program.cores, c.K_COLUMNS), np.int64)
    order = np.argsort(program.slice_core, kind="stable").astype(np.int64)
    table[:, c.K_SLICE] = np.searchsorted(program.slice_core[order], np.arange(program.cores), "left")
    table[:, c.K_SLICE_END] = np.searchsorted(program.slice_core[order], np.arange(program.cores), "right")
    for number, (kind, _, owner, *_) in enumerate(program.channel.tolist()):
        if kind == C_AXON_IN:
            table[owner, c.K_AXON_IN] = number
        elif kind == C_AXON_OUT:
            table[owner, c.K_AXON_OUT] = number
    most = np.ones(program.cores, np.int64)
    sizes = slices[:, c.S_SIZE]
    if free:
        total = np.concatenate([[0], np.cumsum(sizes[program.entry[:, E_SLICE]])])
        np.maximum.at(most, program.route_core, total[program.entry_ptr[1:]] - total[program.entry_ptr[:-1]])
        biased = np.zeros(program.cores, np.int64)
        np.add.at(biased, program.slice_core, sizes * slices[:, c.S_BIASED])
        table[:, c.K_START] = biased > 0
        most = np.maximum(most, biased)
    else:
        np.maximum.at(most, program.slice_core, sizes + 1)
    table[:, c.K_BUFFER] = np.cumsum(most) - most
    return table, order if len(order) else np.zeros(1, np.int64), int(most.sum())


def _fabric(program: Program) -> tuple[A, A, int, A, A]:
    """Servers, channels, number of slots, routers and their inputs."""
    router0 = 1 + 3 * program.cores
    servers, routers = len(program.server_kind), len(program.next_server)
    sv = np.zeros((servers, c.V_COLUMNS), np.int64)
    numbers = np.arange(servers)
    sv[:, c.V_STATION] = np.where(numbers < router0, numbers, router0 + program.server_owner)
    sv[:, c.V_CHANNEL], sv[:, c.V_HOP], sv[:, c.V_OWNER] = program.server_channel, program.server_hop_ps, program.server_owner
    kind, writer, reader, number, depth, forward, ack = program.channel.T
    ch = np.zeros((len(program.channel), c.C_COLUMNS), np.int64)
    ch[:, c.C_KIND], ch[:, c.C_WRITER] = kind, writer
    ch[:, c.C_READER] = np.select([kind == C_AXON_IN, kind == C_AXON_OUT], [1 + 3 * reader, 3 + 3 * reader], router0 + reader)
    ch[:, c.C_DEPTH], ch[:, c.C_FORWARD], ch[:, c.C_ACK] = depth, forward, ack
    ch[:, c.C_SLOT] = np.cumsum(depth) - depth
    ch[:, c.C_INPUT] = -1
    rr = np.zeros((routers, c.Q_COLUMNS), np.int64)
    inputs: list[int] = []
    outputs = program.server_owner[router0:]
    for k in range(routers):
        mine = np.flatnonzero((kind != C_AXON_IN) & (kind != C_AXON_OUT) & (reader == k))
        rr[k, c.Q_IN] = len(inputs)
        inputs += mine[np.argsort(number[mine])].tolist()
        rr[k, c.Q_IN_END] = len(inputs)
        rr[k, c.Q_OUT], rr[k, c.Q_OUT_END] = router0 + np.searchsorted(outputs, k, "left"), router0 + np.searchsorted(outputs, k, "right")
    rin = np.zeros((max(1, len(inputs)), c.R_COLUMNS), np.int64)
    rin[: len(inputs), c.R_CHANNEL] = inputs
    ch[inputs, c.C_INPUT] = np.arange(len(inputs))
    return sv, ch, int(depth.sum()), rr, rin


def readout_neurons(program: Program) -> A:
    """Neurons of the readout populations in class order: by population, then flat (c, y, x)."""
    found: list[tuple[int, int, int]] = []
    shapes = [p["shape"] for p in program.meta["populations"]]
    for q in np.flatnonzero(program.slice_rule[:, 4] != 0).tolist():
        population = int(program.slice_population[q])
        _, height, width = shapes[population]
        c0, c1, y0, y1, x0, x1 = program.slice_box[q].tolist()
        y, x, channel = np.meshgrid(np.arange(y0, y1), np.arange(x0, x1), np.arange(c0, c1), indexing="ij")
        flat = ((channel * height + y) * width + x).ravel()
        first = int(program.neuron_ptr[q])
        found += [(population, int(f), first + k) for k, f in enumerate(flat)]
    return np.array([neuron for _, _, neuron in sorted(found)], np.int64)


def reset(tables: Tables, program: Program, sample: int, last: int, hash_sample: int) -> None:
    """The chip in its initial state, ready for samples [sample, last) of the run; counters of servers and channels begin at zero."""
    t = tables
    t.par[c.P_SAMPLE], t.par[c.P_SAMPLE_INDEX], t.par[c.P_LAST_SAMPLE] = hash_sample, sample, last
    for array in (t.reg, t.slot, t.wc, t.wf, t.v, t.cur, t.tlast, t.acc32, t.acc64, t.touched, t.ring):
        array.fill(0)
    t.reg[c.G_SAMPLE], t.reg[c.G_STIMULUS] = sample, t.stim_ptr[sample]
    t.reg[[c.G_PREVIOUS, c.G_ROUTE, c.G_DECISION_SERVER]] = -1
    t.ring[:, c.B_READY] = c.INF
    t.ring[:, [c.B_CAUSE_SERVER, c.B_CAUSE_SERVICE]] = -1
    t.sl[:, [c.S_NEXT, c.S_ENDED]] = 0
    t.sv[:, c.V_DYNAMIC :] = 0
    t.ch[:, c.C_PUTS :] = 0
    for column in (c.C_HEAD, c.C_TAIL, c.C_SEEN):
        t.ch[:, column] = t.ch[:, c.C_SLOT]
    t.rin[:, c.R_ARRIVE], t.rin[:, c.R_TAKE] = c.INF, -1
    t.rr[:, c.Q_OPEN] = 0
    stations = len(t.hp) - 1
    t.hp[:, c.H_POSITION] = -1
    # at time 0 the port, every soma with a slice and every core with a start item look around; equal times leave the heap in station order
    mapped = t.co[:, c.K_SLICE_END] > t.co[:, c.K_SLICE]
    free = program.sync == "free"
    awake = np.concatenate([[0], 1 + 3 * np.flatnonzero(t.co[:, c.K_START]) if free else 2 + 3 * np.flatnonzero(mapped)])
    t.hp[: len(awake), c.H_HEAP] = awake
    t.hp[awake, c.H_POSITION] = np.arange(len(awake))
    t.hp[: len(awake), c.H_KEY] = 0
    t.hp[stations, c.H_HEAP] = len(awake)
