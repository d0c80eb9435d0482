"""What an engine demands of a stimulus before it runs it: sorted steps, and nothing named that the Program lacks."""

from __future__ import annotations

import numpy as np

from neurosim.engine.events import CURRENT, SPIKE, Stimulus
from neurosim.errors import DataError
from neurosim.program import Program


def check_stimulus(program: Program, stimulus: Stimulus, sample: int) -> None:
    """Raise DataError, naming the first event that is wrong, for a stimulus that does not fit the Program; ``sample`` is its number in messages."""
    columns = (stimulus.due_ps, stimulus.step, stimulus.item, stimulus.slice, stimulus.address, stimulus.value)
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise DataError(f"stimulus of sample {sample}: its arrays have lengths {', '.join(str(len(column)) for column in columns)}; they must agree")
    _, steps, item, owner, address, _ = (np.asarray(column, np.int64) for column in columns)
    if program.sync != "free":
        if len(steps) and (np.any(np.diff(steps) < 0) or steps[0] < 0 or steps[-1] >= program.steps):
            raise DataError(
                f"stimulus of sample {sample}: steps must ascend within 0..{program.steps - 1}, got {steps.min()}..{steps.max()}; sort by step"
            )
        if stimulus.marker_due_ps is not None and stimulus.marker_due_ps.shape != (program.steps,):
            raise DataError(
                f"stimulus of sample {sample}: marker_due_ps has shape {stimulus.marker_due_ps.shape}, the program has {program.steps} steps"
            )
    sizes = np.prod(program.source_box[:, 1::2] - program.source_box[:, ::2], axis=1)
    low = np.where(item == CURRENT, 0, program.slices)
    high = np.where(item == CURRENT, program.slices, program.control_source)
    wrong = ((item != CURRENT) & (item != SPIKE)) | (owner < low) | (owner >= high)
    wrong |= (address < 0) | (address >= sizes[np.where(wrong, 0, owner)])
    if np.any(wrong):
        k = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"stimulus of sample {sample}, event {k}: item {item[k]}, slice {owner[k]}, address {address[k]} does not exist in the program "
            f"({program.slices} slices, port sources {program.slices}..{program.control_source - 1}); encode the input for this program"
        )
