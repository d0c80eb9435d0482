"""The exceptions of neurosim.

    NeurosimError                      anything a user can cause or must know; the command line prints it in one line, exit code 2
    |-- ModelError(ValueError)         a network, checkpoint or layer that is malformed or cannot be expressed
    |   `-- UnsupportedLayer           a layer that the chip (or neurosim) cannot run; carries layer, op, value, limit, remedy
    |-- ChipError(ValueError)          a chip description that is malformed or contradicts itself
    |-- DoesNotFit(ValueError)         a network larger than the chip
    |-- ProgramError(ValueError)       a Program file that is broken, truncated or of another version
    |-- DataError(ValueError)          input data that break the input contract
    |-- RunError(RuntimeError)         a simulation that cannot go on
    |   |-- Deadlock                   nothing can move; names the cycle of stations and channels, or the missing marker
    |   `-- Livelock                   the time limit was reached
    |-- AuditError(AssertionError)     a Program that does not compute its Graph: a defect of neurosim, never of the user
    `-- MissingExtra(ImportError)      an optional dependency that is not installed

A message gives the thing, its value, the limit and the remedy, in one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class NeurosimError(Exception):
    """Base class of every error that neurosim raises on purpose."""


class ModelError(NeurosimError, ValueError):
    """A network, checkpoint or layer that is malformed or cannot be expressed."""


class UnsupportedLayer(ModelError):
    """One layer that the chip lacks the means to run.

    Attributes: ``layer`` (qualified name), ``op``, ``value`` (what the layer needs), ``limit`` (what there is), ``reason``, ``remedy``.
    """

    def __init__(self, layer: str, op: str, reason: str, *, value: Any = None, limit: Any = None, remedy: str = "") -> None:
        self.layer, self.op, self.reason, self.value, self.limit, self.remedy = layer, op, reason, value, limit, remedy
        parts = [f"{layer} ({op}): {reason}"]
        if value is not None or limit is not None:
            parts.append(f"value {value}, limit {limit}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_unsupported, (self.layer, self.op, self.reason, self.value, self.limit, self.remedy)


def _rebuild_unsupported(layer: str, op: str, reason: str, value: Any, limit: Any, remedy: str) -> UnsupportedLayer:
    return UnsupportedLayer(layer, op, reason, value=value, limit=limit, remedy=remedy)


class ChipError(NeurosimError, ValueError):
    """A chip description that is malformed or contradicts itself."""


class DoesNotFit(NeurosimError, ValueError):
    """A network that is larger than the chip: the thing, its size, the limit, the remedy; in attributes where ``check`` tells them in columns.

    ``layer``: the population, or the network where it needs more cores; ``what``: the limit in words.
    """

    def __init__(
        self, message: str, *, layer: str = "", what: str = "", value: int | None = None, limit: int | None = None, remedy: str = ""
    ) -> None:
        super().__init__(message)
        self.layer, self.what, self.value, self.limit, self.remedy = layer, what, value, limit, remedy


class ProgramError(NeurosimError, ValueError):
    """A Program (or Network) file that is broken, truncated or of another version."""


class DataError(NeurosimError, ValueError):
    """Input data that break the input contract."""


class RunError(NeurosimError, RuntimeError):
    """A simulation that cannot go on."""


class Deadlock(RunError):
    """Nothing can move. ``cycle`` names the stations and channels (or markers) that wait for each other, ``time_ps`` says when."""

    def __init__(self, message: str, *, cycle: Sequence[str] = (), time_ps: int = 0, sample: int = 0) -> None:
        super().__init__(message)
        self.cycle, self.time_ps, self.sample = tuple(cycle), time_ps, sample


class Livelock(RunError):
    """The time limit ``max_time_ps`` was reached before the sample completed."""


class AuditError(NeurosimError, AssertionError):
    """A Program that does not compute its Graph."""


class MissingExtra(NeurosimError, ImportError):
    """An optional dependency that is not installed; the message says what to install."""
