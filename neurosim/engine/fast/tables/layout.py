"""Program -> the flat tables of ``columns.py``, and their state at the start of a run or sample. ``mesh.py`` does stations and channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import CORE_COUNTERS, CURRENT, Options
from neurosim.engine.fast.tables import columns as c
from neurosim.engine.fast.tables.ahead import eager_stations
from neurosim.engine.fast.tables.cells import bank_places, most_fires
from neurosim.engine.fast.tables.columns import padded
from neurosim.engine.fast.tables.maps import maps_of
from neurosim.engine.fast.tables.mesh import build_fabric, clear_fabric, mask_words, records
from neurosim.engine.fast.tables.queue import awake_at_start
from neurosim.engine.fast.tables.wiring import lists, markers, needs, neighbours, port_table, windows
from neurosim.program import C_AXON_IN, C_AXON_OUT, E_MAP, E_REGION, M_SPARSE, OP_KIND, R_MAX_SPIKES, Program

A = NDArray[Any]
ROWS, SPIKES = 1 << 16, 1 << 15
"""Rows that the buffers of trace and spikes hold at least."""


@dataclass
class Tables:
    """Arguments of the kernel, by name and in order after ``budget``."""

    par: A
    reg: A
    st: A
    cal: A
    buckets: A
    sv: A
    ch: A
    cw: A
    slot: A
    pk: A
    bits: A
    spare: A
    wc: A
    wf: A
    rin: A
    mask: A
    ns: A
    rr: A
    pt: A
    ps: A
    lp: A
    lr: A
    sl: A
    op: A
    ox: A
    cell: A
    so: A
    rt: A
    en: A
    axis: A
    index: A
    w8: A
    w32: A
    mk: A
    up: A
    dn: A
    co: A
    csl: A
    need: A
    ring: A
    v: A
    cur: A
    v32: A
    cur32: A
    tlast: A
    thr: A
    bias: A
    flo: A
    rby: A
    ini: A
    flat: A
    high: A
    floor32: A
    bias32: A
    ini32: A
    acc32: A
    acc64: A
    touched: A
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
    log: A
    along: A
    """[samples * steps, classes] with steps: the readout after each."""

    def arguments(self) -> tuple[A, ...]:
        """The arrays in the kernel's order."""
        return tuple(vars(self).values())

    def make_room(self) -> None:
        """Twice the log where it is nearly full."""
        if self.reg[c.G_LOGS] + c.LOG_ROOM > len(self.log):
            self.log = np.concatenate([self.log, np.zeros_like(self.log)])

    def state(self) -> tuple[A, A]:
        """Membranes and currents of all neurons, int64 copies."""
        v, cur = (self.v32, self.cur32) if self.par[c.P_SMALL] else (self.v, self.cur)
        return v.astype(np.int64), cur.astype(np.int64)


def _table(*columns: Any) -> A:
    return np.ascontiguousarray(np.stack([np.asarray(x, np.int64) for x in columns], axis=1))


def build(program: Program, options: Options, samples: int, stim: A, stim_ptr: A, marker_due: A) -> Tables:
    """All tables of a run over ``samples`` samples; ``reset`` must follow before the kernel starts."""
    free, stepless = program.sync == "free", not program.stepped
    noc = program.chip.noc
    slices = _slices(program, options, program.steps * (samples if options.streamed else 1))
    mk, route_mark = markers(program)
    up, dn, port_down = neighbours(program, slices)
    co, csl, buffers = _cores(program, slices)
    fabric = build_fabric(program, stepless)
    currents = program.slice_core[np.unique(stim[stim[:, c.I_ITEM] == CURRENT, c.I_SLICE])]
    ahead = eager_stations(program, options, currents, fabric.st, fabric.sv, fabric.ns, fabric.rr)
    sparse = bool((program.entry[:, E_MAP] == M_SPARSE).any())
    window = noc.window if noc.flow == "end_to_end" else 0
    wc, route_window = windows(program, slices, window)
    so = _table(*program.source_box.T, *program.source_shape.T, program.route_ptr[:-1], program.route_ptr[1:], np.full(len(program.source_box), -1))
    lp, lr = lists(program, so)
    pt, ps = port_table(program, port_down)
    maps = maps_of(program)
    small = maps.narrow
    servers, slots = len(fabric.sv), len(fabric.slot)
    bit_words = (int(np.diff(program.route_ptr).max(initial=1)) + 63) // 64 if noc.multicast == "tree" else 1
    room = slots + 2 * servers  # a packet lies in a slot or is being served; a head that branches may hold one more per output
    banks = int((slices[:, c.S_BANKS] * slices[:, c.S_CELLS]).sum())
    neurons = int(program.neuron_ptr[-1])
    readout = readout_neurons(program)
    rank = np.full(max(1, neurons), -1, np.int64)
    rank[readout] = np.arange(len(readout))
    # rows that one wake-up of a station may write: all that its channels hold, a service and a put each, and drops beyond them
    rr = fabric.rr
    margin = 2 * int(program.channel[:, 4].max()) + 16 + int((rr["out_end"] - rr["out"]).max()) * 4
    if program.channel_drop.any():
        margin += 2 * buffers + 2 * len(program.route_core)
    tables = Tables(
        par=np.append(_parameters(program, options, samples, window, small, bit_words, margin, slices, sparse), fabric.figures),
        reg=np.zeros(c.G_COLUMNS, np.int64),
        st=fabric.st,
        cal=fabric.cal,
        buckets=fabric.buckets,
        sv=fabric.sv,
        ch=fabric.ch,
        cw=fabric.cw,
        slot=fabric.slot,
        pk=records(servers + room, c.PACKET),
        bits=np.zeros((servers + room if noc.multicast == "tree" else 1) * bit_words, np.uint64),
        spare=np.zeros(room, np.int32),
        wc=wc,
        wf=np.zeros(max(1, len(wc) * window), np.int64),
        rin=fabric.rin,
        mask=fabric.mask,
        ns=fabric.ns,
        rr=rr,
        pt=pt,
        ps=ps,
        lp=lp,
        lr=lr,
        sl=slices,
        op=maps.ops,
        ox=maps.joins,
        cell=np.zeros(max(1, maps.kept), np.int64),
        so=so,
        rt=_table(
            program.route_core, *program.route_box.T, program.entry_ptr[:-1], program.entry_ptr[1:], route_mark[:-1], route_mark[1:], route_window
        ),
        en=maps.entry,
        axis=maps.axis,
        index=maps.index,
        w8=maps.w8,
        w32=maps.w32,
        mk=mk,
        up=up,
        dn=dn,
        co=co,
        csl=csl,
        need=needs(program),
        ring=np.zeros((max(1, int(slices[:, c.S_HISTORY].sum())), c.B_COLUMNS), np.int64),
        v=np.zeros(1 if small else neurons, np.int64),
        cur=np.zeros(1 if small else neurons, np.int64),
        v32=padded(neurons if small else 1, np.int32),
        cur32=padded(neurons if small else 1, np.int32),
        tlast=np.zeros(neurons if free else 1, np.int64),
        thr=np.ascontiguousarray(program.threshold, np.int64),
        bias=np.ascontiguousarray(program.bias, np.int64),
        flo=np.ascontiguousarray(program.floor, np.int64),
        rby=np.ascontiguousarray(program.reset_by, np.int64),
        ini=np.ascontiguousarray(program.v_init, np.int64),
        flat=maps.flat,
        high=maps.threshold,
        floor32=maps.floor,
        bias32=maps.bias,
        ini32=maps.start,
        acc32=padded(banks if small and not stepless else 1, np.int32),
        acc64=np.zeros(banks if not small and not stepless else 1, np.int64),
        touched=np.zeros(1 if stepless or small else banks, np.uint8),
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
        log=np.zeros((1 << 10, c.LOG_COLUMNS), np.int64),
        along=np.zeros((samples * program.steps if program.stepped else 1, max(1, len(readout))), np.int64),
    )
    tables.par[c.P_AHEAD] = ahead
    tables.par[c.P_CLASSES] = len(readout) // program.score_parts
    tables.smp[:, [c.X_FIRST_SPIKE, c.X_START, c.X_BEGAN, c.X_DECISION_SERVER]] = -1
    return tables


def _parameters(
    program: Program, options: Options, samples: int, window: int, small: bool, bit_words: int, margin: int, slices: A, sparse: bool
) -> A:
    time, arithmetic = program.chip.timing, program.chip.arithmetic
    par = np.zeros(c.P_COLUMNS, np.int64)
    for column, figure in (
        (c.P_DECODE, time.decode), (c.P_SYNOP, time.synop), (c.P_ACCESS, time.access), (c.P_UPDATE, time.update), (c.P_FIRE, time.fire),
        (c.P_PUT, time.put), (c.P_SEND, time.send), (c.P_WIRE, time.wire), (c.P_BANK, time.bank), (c.P_PORT, time.port),
        (c.P_READOUT, time.readout),
    ):  # fmt: skip
        par[column] = figure.value
    par[c.P_LEAK] = time.leak.value if time.leak is not None else 0
    par[c.P_OP_WINDOW] = time.op_window.value if time.op_window is not None else 0
    par[c.P_LANES] = arithmetic.lanes
    par[c.P_SKIP] = arithmetic.skip_zero_weights
    par[c.P_VISIT_ALL] = arithmetic.visit == "all"
    par[c.P_SPIKES_PER_UPDATE] = arithmetic.spikes_per_update
    par[c.P_ROUNDING] = program.chip.rounding
    par[c.P_LOW], par[c.P_HIGH] = -(2 ** (arithmetic.state_bits - 1)), 2 ** (arithmetic.state_bits - 1) - 1
    par[c.P_WRAP] = 64 - arithmetic.acc_bits
    par[c.P_SMALL] = small
    par[c.P_FREE], par[c.P_SETTLED] = not program.stepped, program.sync == "settle"
    par[c.P_SETTLE], par[c.P_QUIET], par[c.P_BY_AGE] = time.settle.value, time.quiet.value, arithmetic.settle_order == "age"
    par[c.P_BARRIER] = program.sync == "barrier"
    par[c.P_BARRIER_PS] = program.barrier_ps
    par[c.P_WINDOW] = window
    par[c.P_STEPS] = program.steps
    par[c.P_GLOBAL_STEPS] = program.steps * (samples if options.streamed else 1)
    par[c.P_RUN_STEPS] = par[c.P_GLOBAL_STEPS] + int(slices[:, c.S_OFFSET].max(initial=0))
    par[c.P_SLICES], par[c.P_CORES], par[c.P_PORTS] = program.slices, program.cores, program.ports
    par[c.P_ROUTER0] = program.ports + 3 * program.cores
    par[c.P_OWN] = len(program.server_kind)
    par[c.P_STREAMED] = options.streamed
    par[c.P_AMPLITUDE] = options.jitter
    par[c.P_SEED] = (options.seed + 2**63) % 2**64 - 2**63
    par[c.P_MAX_TIME] = options.max_time_ps
    par[c.P_RECORD] = (c.RECORD_FIRES if options.fires_only else c.RECORD_ALL) if options.record else 0
    par[c.P_SPIKES] = options.spikes
    par[c.P_MARGIN] = margin
    par[c.P_KEEP] = options.record or (not program.stepped and options.streamed)
    par[c.P_TREE] = program.chip.noc.multicast == "tree"
    par[c.P_LOSS] = options.link_loss
    par[c.P_UNUSUAL] = options.link_loss > 0 or bool(program.channel_drop.any())
    par[c.P_UNTIL] = c.INF
    if not program.stepped and options.window_ps:
        par[c.P_WINDOW_PS] = options.window_ps
        par[c.P_UNTIL] = options.window_ps * (samples if options.streamed else 1)
    par[c.P_TIMED] = not program.stepped and options.streamed and options.window_ps > 0
    par[c.P_WORDS] = mask_words(program)
    par[c.P_BIT_WORDS] = bit_words
    par[c.P_SPARSE] = sparse
    return par


def _slices(program: Program, options: Options, steps: int) -> A:
    table = np.zeros((program.slices, c.S_COLUMNS), np.int64)
    table[:, c.S_CORE] = program.slice_core
    table[:, c.S_C0 : c.S_X1 + 1] = program.slice_box
    table[:, c.S_DECAY_V : c.S_BANKS + 1] = program.slice_rule[:, :6]
    table[:, c.S_NEURON] = program.neuron_ptr[:-1]
    table[:, c.S_SIZE] = np.diff(program.neuron_ptr)
    table[:, c.S_CELLS], table[:, c.S_OP], table[:, c.S_MOST] = program.slice_cells, program.slice_op[:, OP_KIND], program.slice_rule[:, R_MAX_SPIKES]
    table[:, c.S_BANK] = bank_places(program)
    # A slice whose banks need no markers may run far ahead of its upstream. The end of a step is kept until its wire has been heard: further steps
    # overwrite it, and no soma service is shorter than ``shortest``.
    timing, shortest = program.chip.timing, np.ones(program.slices, np.int64)
    if program.chip.arithmetic.visit == "all":
        nominal = table[:, c.S_SIZE] * timing.access.value
        shortest = np.maximum(1, nominal - ((nominal * options.jitter) >> 16) - 1)
    table[:, c.S_HISTORY] = np.clip(table[:, c.S_BANKS] + timing.wire.value // shortest + 2, 1, steps)
    table[:, c.S_RING] = np.cumsum(table[:, c.S_HISTORY]) - table[:, c.S_HISTORY]
    table[:, c.S_OFFSET] = program.slice_offset
    biased = np.concatenate([[0], np.cumsum(program.bias != 0)])
    table[:, c.S_BIASED] = np.diff(biased[program.neuron_ptr]) > 0
    return table


def _cores(program: Program, slices: A) -> tuple[A, A, int]:
    """Cores, their slices, and the size of the burst buffers: the most results that one service can have, per core."""
    table = np.zeros((program.cores, c.K_COLUMNS), np.int64)
    order = np.argsort(program.slice_core, kind="stable").astype(np.int64)
    table[:, c.K_SLICE] = np.searchsorted(program.slice_core[order], np.arange(program.cores), "left")
    table[:, c.K_SLICE_END] = np.searchsorted(program.slice_core[order], np.arange(program.cores), "right")
    kind, writer, owner = program.channel.T[:3]
    for what, column in ((C_AXON_IN, c.K_AXON_IN), (C_AXON_OUT, c.K_AXON_OUT)):
        table[owner[kind == what], column] = writer[kind == what]
    most = np.ones(program.cores, np.int64)
    sizes = slices[:, c.S_SIZE]
    if program.sync == "free":
        total = np.concatenate([[0], np.cumsum(most_fires(program)[program.entry[:, E_REGION]])])
        np.maximum.at(most, program.route_core, total[program.entry_ptr[1:]] - total[program.entry_ptr[:-1]])
        biased = np.zeros(program.cores, np.int64)
        np.add.at(biased, program.slice_core, sizes * slices[:, c.S_BIASED])
        table[:, c.K_START] = biased > 0
        most = np.maximum(most, biased)
    elif program.sync != "settle":
        np.maximum.at(most, program.slice_core, sizes + 1)
    table[:, c.K_BUFFER] = np.cumsum(most) - most
    return table, order if len(order) else np.zeros(1, np.int64), int(most.sum())


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
    for array in (t.reg, t.wf, t.cur, t.cur32, t.tlast, t.acc32, t.acc64, t.touched, t.ring, t.mask, t.cell):
        array.fill(0)
    if t.par[c.P_SMALL]:
        t.v32[:] = t.ini32
    else:
        t.v[:] = t.ini
    if program.sync == "free" and len(t.readout):
        t.reg[c.G_ARGMAX] = np.argmax(program.scores_of(t.ini[t.readout]))
    t.wc[:, : c.W_SENDER] = 0
    t.co[:, c.K_LOG] = 0
    t.reg[c.G_SCORED] = sample
    t.pt[:, : c.J_DOWN] = 0
    t.pt[:, c.J_SAMPLE], t.pt[:, [c.J_PREVIOUS, c.J_ROUTE]] = sample, -1
    t.ring[:, c.B_READY] = c.INF
    t.ring[:, [c.B_CAUSE_SERVER, c.B_CAUSE_SERVICE]] = -1
    t.sl[:, [c.S_NEXT, c.S_ENDED, c.S_PERIOD]] = 0
    clear_fabric(t.st, t.cal, t.buckets, t.sv, t.ch, t.cw, t.slot, t.rr)
    for field in ("cause_server", "cause_service", "route", "row"):
        t.pk[field][: len(t.sv)] = -1
    t.spare[:] = np.arange(len(t.sv), len(t.pk))
    t.reg[c.G_SPARE] = len(t.spare)
    t.smp[sample, c.X_BEGAN] = 0
    # at time 0 the ports, every soma with a slice and every core with a start item look around
    stepless = not program.stepped
    mapped = np.flatnonzero(t.co[:, c.K_START] if stepless else t.co[:, c.K_SLICE_END] > t.co[:, c.K_SLICE])
    station = program.ports + 3 * mapped + (0 if stepless else 1)
    awake_at_start(t.st, t.cal, t.buckets, np.concatenate([np.arange(program.ports), station]))
