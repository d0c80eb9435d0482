"""What the readout says along the way: changes of the best class, and when a margin has stood long enough to stop (docs/machine.md, section 14)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import ROW_STOP, START
from neurosim.errors import RunError
from neurosim.program import Program


@dataclass(frozen=True)
class Stop:
    """The stop of a sample: when; the service since whose end the margin has stood; best class and margin at the stop."""

    time: int
    server: int
    service: int
    best: int
    margin: int

    def columns(self) -> tuple[int, ...]:
        """Its trace row, from ``time`` on."""
        item = (START, -1, self.best, self.margin, 0, -1, -1, self.server, self.service)
        return (self.time, self.server, ROW_STOP, 0, self.time, self.service, *item, 0, 0)


def best_and_margin(scores: NDArray[np.int64]) -> tuple[int, int]:
    """(lowest class with the largest score, its lead over the next best; of one class alone its score). ``scores`` [classes], at least one."""
    best = int(scores.argmax())
    rest = np.delete(scores, best)
    return best, int(scores[best]) - (int(rest.max()) if len(rest) else 0)


def stop_time(seen: Iterable[tuple[int, int]], margin: int, after: int) -> tuple[int, int, int] | None:
    """(when a sample stops, number of the look since which its margin has stood, that of the last look before), None: never.

    ``seen``: (end, margin) of the services that touched the readout, in their order; a look is at the latest end so far. The margin must have been at
    least ``margin`` for ``after`` ps, from the first look on.
    """
    since, first, last, time = -1, -1, -1, 0
    for k, (end, now) in enumerate(seen):
        time = max(time, end)
        if since >= 0 and time >= since + after:
            break
        if now < margin:
            since = -1
        elif since < 0:
            since, first = time, k
        last = k
    return None if since < 0 else (since + after, first, last)


def check_stop(program: Program, margin: int, after: int, streamed: bool) -> None:
    """Raise RunError where a run cannot stop by its margin."""
    if not margin and not after:
        return
    if margin < 1 or not 1 <= after < 2**62:
        raise RunError(
            f"stop_margin {margin} and stop_after_ps {after} go together: a margin of at least 1 that has stood for at least 1 ps; give both"
        )
    if program.stepped:
        raise RunError(f"stop_margin {margin} belongs to sync free and settle; in sync {program.sync} a sample ends with its last step")
    if streamed:
        raise RunError(f"stop_margin {margin}: a streamed run does not stop within a sample; use isolated samples")
