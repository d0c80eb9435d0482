"""A run once it is over: what is read back from its directory, and what it needs of its price."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import Result
from neurosim.program import Program


class Priced(Protocol):
    """What the summary and the run directory need of an Energy."""

    @property
    def board_fj(self) -> float | None:
        """The whole run at the chip's board, None without a figure of it."""
        ...

    def per_sample(self) -> dict[str, float]:
        """fJ per sample by component."""
        ...

    def table(self) -> list[dict[str, Any]]:
        """Rows of the price table."""
        ...


@dataclass(frozen=True)
class StoredRun:
    """A run read back. ``program`` has everything but routes, weights and neuron parameters: enough to price, query and draw, not to simulate."""

    path: Path
    info: dict[str, Any]
    """run.json: versions, digests, seed, options, command, chip, meta, summary, prices."""
    program: Program
    result: Result
    labels: NDArray[np.int64] | None
    predictions: NDArray[np.int64]
    host_macs_per_sample: float
    trace_path: Path | None

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of ``run --json`` as they were at the end of the run; ``run_dir`` is where it lies now."""
        return {**self.info["summary"], "run_dir": str(self.path)}

    @property
    def streamed(self) -> bool:
        """Whether samples followed each other in one run."""
        return bool(self.info["options"]["streamed"])
