"""What entered a run, neuron by neuron: enough to count the operations of the first layers without keeping the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.host.stimulus import SPIKE, Stimulus
from neurosim.program import Program

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class InputActivity:
    """Of all samples together. ``spikes``: for every population that ports inject, [c, y, x] non-zero values told: of a neuron and step, in free and
    settle of every event; ``graded``: those of them with a value outside {-1, 0, 1}. ``pixels``: of a static image, [c, y, x] samples in which the
    normalised pixel is not zero; None for other inputs."""

    spikes: dict[str, I64] = field(default_factory=dict)
    graded: frozenset[str] = frozenset()
    pixels: I64 | None = None


def input_activity(program: Program, stimuli: Sequence[Stimulus], images: NDArray[Any] | None = None) -> InputActivity:
    """Count what ``encode`` made of the samples; ``images`` are the raw pixels [n, c, y, x] of a static input."""
    names = [str(p["name"]) for p in program.meta["populations"]]
    sources = {s: names[program.source_population[s]] for s in range(program.slices, program.control_source)}
    counts = {s: np.zeros(box_size(program.source_box[s]), np.int64) for s in sources}
    graded = set()
    for stimulus in stimuli:
        told = stimulus.item == SPIKE
        owner, address, value = (column[told].astype(np.int64) for column in (stimulus.slice, stimulus.address, stimulus.value))
        if program.sync in ("wavefront", "barrier") and len(owner):
            # several packets of one neuron and step are one value
            _, first, inverse = np.unique(
                np.stack([stimulus.step[told].astype(np.int64), owner, address]), axis=1, return_index=True, return_inverse=True
            )
            value = np.bincount(inverse.ravel(), weights=value).astype(np.int64)
            owner, address = owner[first], address[first]
        for s, name in sources.items():
            mine = owner == s
            counts[s] += np.bincount(address[mine & (value != 0)], minlength=len(counts[s]))
            if np.any(np.abs(value[mine]) > 1):
                graded.add(name)
    spikes: dict[str, I64] = {}
    for s, name in sources.items():
        whole = spikes.setdefault(name, np.zeros(tuple(program.source_shape[s].tolist()), np.int64))
        c0, c1, y0, y1, x0, x1 = program.source_box[s].tolist()
        whole[c0:c1, y0:y1, x0:x1] = counts[s].reshape(y1 - y0, x1 - x0, c1 - c0).transpose(2, 0, 1)
    return InputActivity(spikes, frozenset(graded), None if images is None else _nonzero_pixels(program, images))


def box_size(box: I64) -> int:
    """Neurons of a box (c0, c1, y0, y1, x0, x1)."""
    c0, c1, y0, y1, x0, x1 = (int(v) for v in box)
    return (c1 - c0) * (y1 - y0) * (x1 - x0)


def _nonzero_pixels(program: Program, images: NDArray[Any]) -> I64:
    """[c, y, x] samples whose pixel is not the one that normalises to zero: scale * mean, where that is a whole number."""
    contract = program.meta["input"]
    mean = np.asarray(contract["mean"] or [0.0] * images.shape[1], np.float64) * contract["scale"]
    count: I64 = np.count_nonzero(images != mean[:, None, None], axis=0).astype(np.int64)
    return count
