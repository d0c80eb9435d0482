"""Samples -> stimuli: what the ports inject, in port order (docs/machine.md, sections 8 and 11)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError
from neurosim.host.data import Samples
from neurosim.host.recordings import PS_PER_US, EventOptions, Recordings
from neurosim.host.section import run_host
from neurosim.host.stimulus import CURRENT, SPIKE, Stimulus
from neurosim.program import Program

I64 = NDArray[np.int64]
CHUNK = 64  # samples encoded at a time


def encode(program: Program, samples: Samples | NDArray[Any], *, streamed: bool = False) -> list[Stimulus]:
    """One Stimulus per sample. ``samples``: what ``load_data`` gave, or its array: pixels [n, c, y, x], events [n, T, c, y, x].

    Arrays and recordings at pace asap are due at 0. In free there are no steps: every packet has step 0; currents come once, times T; then the spikes
    of step 0, of step 1, ..., or a recording's events in its own order. Recordings at pace realtime are due at their own times since the start of
    the sample, the markers of a step at its end; ``streamed`` starts sample n of a stepped run n * T steps later (the engines do so in
    free and settle by rules of their own). In settle every event of a recording comes at its own time.
    Several events of one neuron and step are one packet on chips that take valued events, else as many packets of value 1; so are the several spikes
    of a host population's neuron, also one packet where neurons of the chip send such (in steps).
    Raises DataError when the array is not of the Program's kind of input.
    """
    contract = program.meta["input"]
    if isinstance(samples, Samples) and samples.recordings is not None:
        return [_recording(program, samples.recordings, samples.options, n, streamed) for n in range(len(samples))]
    data = samples.data if isinstance(samples, Samples) else np.asarray(samples)
    wanted = (program.steps, *contract["shape"]) if contract["kind"] == "spikes" else tuple(contract["shape"])
    if data.shape[1:] != wanted:
        raise DataError(f"data of shape {data.shape} do not fit the program, which wants (n, {', '.join(map(str, wanted))}); use load_data")
    result: list[Stimulus] = []
    for k in range(0, len(data), CHUNK):
        part = data[k : k + CHUNK]
        if contract["kind"] == "spikes":
            currents: dict[str, I64] = {}
            spikes = {contract["name"]: part.astype(np.uint8)}
        else:
            currents, spikes = run_host(program, part)
        result += [_stimulus(program, currents, spikes, sample) for sample in range(len(part))]
    return result


def _stimulus(program: Program, currents: dict[str, I64], spikes: dict[str, NDArray[np.uint8]], sample: int) -> Stimulus:
    names = [p["name"] for p in program.meta["populations"]]
    free = program.sync == "free"
    injected = []  # (slice, address, value) per current, of one step
    for s in range(program.slices):
        values = currents.get(names[program.slice_population[s]])
        if values is not None:
            c0, c1, y0, y1, x0, x1 = program.slice_box[s]
            local = values[sample, c0:c1, y0:y1, x0:x1].transpose(1, 2, 0).reshape(-1)
            address = np.flatnonzero(local)
            injected.append((np.full(len(address), s), address, local[address]))
    current = [np.concatenate([part[k] for part in injected]) if injected else np.zeros(0, np.int64) for k in range(3)]
    # a population may enter through several sources, each a box of it
    sources = [(s, names[program.source_population[s]], program.source_box[s].tolist()) for s in range(program.slices, program.control_source)]
    rows = []  # (step, item, slice, address, value)
    for step in range(program.steps):
        if step == 0 or not free:
            value = current[2] * program.steps if free else current[2]
            rows.append((np.full(len(value), step), np.full(len(value), CURRENT), current[0], current[1], value))
        for s, name, (c0, c1, y0, y1, x0, x1) in sources:
            if name not in spikes:
                raise DataError(f"input population {name} has no data; this program was made with another version of the host section")
            counts = spikes[name][sample, step, c0:c1, y0:y1, x0:x1].transpose(1, 2, 0).reshape(-1)
            address, value = _packets(program, name, np.flatnonzero(counts), counts[counts > 0].astype(np.int64))
            ones = np.ones(len(address), np.int64)
            rows.append((ones * (0 if free else step), ones * SPIKE, ones * s, address, value))
    step_, item, slice_, address_, value_ = (np.concatenate([row[k] for row in rows]) for k in range(5))
    return _made(np.zeros(len(step_), np.int64), step_, item, slice_, address_, value_)


def _packets(program: Program, source: str, rows: I64, counts: I64) -> tuple[I64, I64]:
    """(rows, values): one valued packet each where the chip takes them, else ``counts`` packets of value 1."""
    capabilities = program.chip.capabilities
    of_host = source in {p["name"] for p in program.meta["host"].get("populations", ())}
    if "valued" in capabilities.inputs or (of_host and program.sync != "free" and capabilities.neuron.max_spikes > 1):
        return rows, counts
    return np.repeat(rows, counts), np.ones(int(counts.sum()), np.int64)


def _made(due: I64, step: I64, item: I64, owner: I64, address: I64, value: I64, marker_due: I64 | None = None) -> Stimulus:
    return Stimulus(
        due, step.astype(np.int32), item.astype(np.uint8), owner.astype(np.int32), address.astype(np.int32), value.astype(np.int64), marker_due
    )


def _recording(program: Program, recordings: Recordings, options: EventOptions, n: int, streamed: bool) -> Stimulus:
    """Sample n of recordings; its times are relative to its first event."""
    one = recordings.part(n, n + 1)
    since = one.relative() * PS_PER_US
    owner, address = _sources(program, one)
    if program.sync == "free":
        order = np.arange(len(since))
        if options.order == "shuffled":
            order = np.lexsort((np.random.default_rng([options.order_seed, n]).random(len(since)), since))
        due = since[order] if options.pace == "realtime" else np.zeros(len(since), np.int64)
        zeros = np.zeros(len(due), np.int64)
        return _made(due, zeros, zeros + SPIKE, owner[order], address[order], zeros + 1)
    assert options.step_ps is not None, "load_data refuses recordings without steps for a stepped program"
    step = since // options.step_ps
    # one row per (step, source, neuron): its first event and how many there are
    _, first, counts = np.unique(np.stack([step, owner, address]), axis=1, return_index=True, return_counts=True)
    if options.bin == "count" and "valued" in program.chip.capabilities.inputs and program.stepped:
        rows, value = first, counts.astype(np.int64)
        due = (step[rows] + 1) * options.step_ps  # a count is known at the end of its bin
    elif options.bin == "count":
        rows, value = np.arange(len(since)), np.ones(len(since), np.int64)
        due = since
    else:
        rows, value = first, np.ones(len(first), np.int64)
        due = since[rows]
    begin = n * program.steps * options.step_ps if streamed and program.stepped else 0
    marker_due = None
    if options.pace == "realtime":
        due = due + begin
        marker_due = begin + (np.arange(program.steps, dtype=np.int64) + 1) * options.step_ps
    else:
        due = np.zeros(len(rows), np.int64)
    order = np.lexsort((rows, value, address[rows], owner[rows], due, step[rows]))
    rows = rows[order]
    return _made(due[order], step[rows], np.full(len(rows), SPIKE), owner[rows], address[rows], value[order], marker_due)


def _sources(program: Program, one: Recordings) -> tuple[I64, I64]:
    """(port source, local address) of every event."""
    name = program.meta["input"]["name"]
    names = [p["name"] for p in program.meta["populations"]]
    owner, address = np.full(len(one.t), -1, np.int64), np.zeros(len(one.t), np.int64)
    for s in range(program.slices, program.control_source):
        if names[program.source_population[s]] != name:
            raise DataError(f"input population {names[program.source_population[s]]} has no data; compile the network again")
        c0, c1, y0, y1, x0, x1 = program.source_box[s].tolist()
        mine = (one.p >= c0) & (one.p < c1) & (one.y >= y0) & (one.y < y1) & (one.x >= x0) & (one.x < x1)
        owner[mine] = s
        address[mine] = ((one.y[mine] - y0) * (x1 - x0) + one.x[mine] - x0) * (c1 - c0) + one.p[mine] - c0
    if (owner < 0).any():
        raise DataError(f"{int((owner < 0).sum())} events lie outside the sources of input {name}; use load_data, which checks them")
    return owner, address
