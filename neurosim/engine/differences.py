"""What the ports send in the discipline settle: how a sample differs from what they have told before (docs/machine.md, section 13)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import CURRENT, SPIKE, Stimulus
from neurosim.errors import DataError
from neurosim.program import Program

I64 = NDArray[np.int64]

MOST_TOLD = 255
"""Largest value of an input neuron: a byte."""


def differences(program: Program, stimuli: list[Stimulus], streamed: bool, first_sample: int = 0) -> list[Stimulus]:
    """The changes that the ports send for each of ``stimuli``, which hold whole inputs: against the reference, or, streamed, the sample before.

    All that a stimulus has for one neuron at due time 0 is one change; every row due later is a change of its own. Zeros are left out. Changes due at
    0 keep the order of the stimulus; neurons that it does not name, whose value is taken back, are put before the first that comes after them in
    (currents before spikes, slice, address). Values of spikes may be negative.
    Raises DataError where an input neuron's value leaves 0 .. 255.
    """
    first = _Keys(program)
    rest = np.concatenate([program.rest_current, program.rest_input])
    told, result = rest, []
    for n, stimulus in enumerate(stimuli):
        keys = first.of(stimulus)
        value = np.asarray(stimulus.value, np.int64)
        due = np.asarray(stimulus.due_ps, np.int64)
        at_once, whole = due == 0, np.zeros(len(rest), np.int64)
        np.add.at(whole, keys[at_once], value[at_once])
        change = whole - told
        order = _order(keys[at_once], np.flatnonzero(change))
        order = order[change[order] != 0]
        later = np.flatnonzero(~at_once & (value != 0))
        np.add.at(whole, keys[later], value[later])
        told_inputs = whole[len(program.rest_current) :]
        if len(told_inputs) and (told_inputs.min() < 0 or told_inputs.max() > MOST_TOLD or (value[later][keys[later] >= first.currents] < 0).any()):
            raise DataError(
                f"stimulus of sample {first_sample + n}: the spikes of an input neuron add up to {told_inputs.min()}..{told_inputs.max()}, "
                f"in settle 0..{MOST_TOLD} can be told, and later events only add; count fewer events"
            )
        item, owner, address = first.rows(order)
        result.append(
            replace(
                stimulus,
                due_ps=np.concatenate([np.zeros(len(order), np.int64), due[later]]),
                step=np.zeros(len(order) + len(later), np.int32),
                item=np.concatenate([item, stimulus.item[later]]).astype(np.uint8),
                slice=np.concatenate([owner, stimulus.slice[later]]).astype(np.int32),
                address=np.concatenate([address, stimulus.address[later]]).astype(np.int32),
                value=np.concatenate([change[order], value[later]]),
                marker_due_ps=None,
            )
        )
        told = whole if streamed else rest
    return result


class _Keys:
    """Numbers of all that a port can tell: neurons that take currents, then those of the port sources, each by slice or source and address."""

    def __init__(self, program: Program) -> None:
        slices, self.currents = program.slices, int(program.neuron_ptr[-1])
        sizes = np.prod(program.source_box[slices:-1, 1::2] - program.source_box[slices:-1, ::2], axis=1)
        inputs = np.cumsum(np.append(0, sizes)) + self.currents
        self.slices = slices
        self.begin = np.concatenate([program.neuron_ptr[:-1], inputs]).astype(np.int64)  # of every slice and port source

    def of(self, stimulus: Stimulus) -> I64:
        """[rows] the number of each."""
        return self.begin[np.asarray(stimulus.slice, np.int64)] + np.asarray(stimulus.address, np.int64)

    def rows(self, keys: I64) -> tuple[I64, I64, I64]:
        """(item, slice or source, address) of each number."""
        owner = np.searchsorted(self.begin, keys, "right") - 1
        return np.where(owner < self.slices, CURRENT, SPIKE), owner, keys - self.begin[owner]


def _order(named: I64, changed: I64) -> I64:
    """``named`` as first met, and what of ``changed``, which ascends, it lacks, each before the first that is larger."""
    _, where = np.unique(named, return_index=True)
    kept = named[np.sort(where)]
    lacking = np.setdiff1d(changed, kept, assume_unique=True)
    return np.insert(kept, np.searchsorted(np.maximum.accumulate(kept), lacking, "right"), lacking)
