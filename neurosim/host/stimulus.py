"""What port 0 injects: the meeting point of the host section, which makes stimuli, and the engines, which consume them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# items: what a packet or a service is about
SPIKE, CURRENT, MARKER, STEP, START, DUE = range(6)
ITEM_NAMES = ("spike", "current", "marker", "step", "start", "due")


@dataclass(frozen=True)
class Stimulus:
    """What port 0 injects for one sample, in port order (docs/machine.md). All arrays have one length.

    ``due_ps`` int64; ``step`` int32; ``item`` uint8 (CURRENT or SPIKE); ``slice`` int32: the port source of a spike, the target slice of a current;
    ``address`` int32: local index in it; ``value`` int64: 1 for a binary spike, the integer to add for a current.
    """

    due_ps: NDArray[np.int64]
    step: NDArray[np.int32]
    item: NDArray[np.uint8]
    slice: NDArray[np.int32]
    address: NDArray[np.int32]
    value: NDArray[np.int64]
    marker_due_ps: NDArray[np.int64] | None = None
    """[T] when the markers of each step are due (``realtime``: the end of its bin); None: 0, they follow the last packet of their step."""
