"""Samples -> stimuli: what the ports inject, in port order (docs/machine.md, sections 8 and 11)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError
from neurosim.host.data import Samples
from neurosim.host.section import run_host
from neurosim.host.stimulus import CURRENT, SPIKE, Stimulus
from neurosim.program import Program

CHUNK = 64  # samples encoded at a time


def encode(program: Program, samples: Samples | NDArray[Any]) -> list[Stimulus]:
    """One Stimulus per sample, all due at 0 (asap). ``samples``: what ``load_data`` gave, or its array: pixels [n, c, y, x], events [n, T, c, y, x].

    In free there are no steps: every packet has step 0, currents come once, times T, then the spikes of step 0, of step 1, ...
    Raises DataError when the array is not of the Program's kind of input.
    """
    data = samples.data if isinstance(samples, Samples) else np.asarray(samples)
    contract = program.meta["input"]
    wanted = (program.steps, *contract["shape"]) if contract["kind"] == "spikes" else tuple(contract["shape"])
    if data.shape[1:] != wanted:
        raise DataError(f"data of shape {data.shape} do not fit the program, which wants (n, {', '.join(map(str, wanted))}); use load_data")
    result: list[Stimulus] = []
    for k in range(0, len(data), CHUNK):
        part = data[k : k + CHUNK]
        if contract["kind"] == "spikes":
            currents: dict[str, NDArray[np.int64]] = {}
            spikes = {contract["name"]: part.astype(np.uint8)}
        else:
            currents, spikes = run_host(program, part)
        result += [_stimulus(program, currents, spikes, sample) for sample in range(len(part))]
    return result


def _stimulus(program: Program, currents: dict[str, NDArray[np.int64]], spikes: dict[str, NDArray[np.uint8]], sample: int) -> Stimulus:
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
            address = np.flatnonzero(spikes[name][sample, step, c0:c1, y0:y1, x0:x1].transpose(1, 2, 0))
            ones = np.ones(len(address), np.int64)
            rows.append((ones * (0 if free else step), ones * SPIKE, ones * s, address, ones))
    step_, item, slice_, address_, value_ = (np.concatenate([row[k] for row in rows]) for k in range(5))
    return Stimulus(
        np.zeros(len(step_), np.int64), step_.astype(np.int32), item.astype(np.uint8), slice_.astype(np.int32), address_.astype(np.int32),
        value_.astype(np.int64),
    )  # fmt: skip
