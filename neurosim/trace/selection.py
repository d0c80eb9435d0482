"""What a trace keeps of a run while it is recorded: a level, and a window of time, cores and populations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import CURRENT, ROW_DROP, ROW_PUT, ROW_SERVICE, SPIKE
from neurosim.errors import DataError
from neurosim.program import Program
from neurosim.trace.names import PORT, SENDER, SOMA, SYNAPSE

Level = Literal["counters", "spikes", "events"]
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class Selection:
    """Which rows a trace keeps. ``spikes``: the fires of neurons (put or dropped) and what ports inject; ``events``: every row.

    The window: rows that begin at ``from_ps`` or later and before ``to_ps``; of servers of ``cores``; about ``populations``. None = no limit.
    """

    level: Level = "events"
    from_ps: int | None = None
    to_ps: int | None = None
    cores: tuple[int, ...] | None = None
    populations: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise DataError(f"record level {self.level!r} does not exist; there are {', '.join(LEVELS)}")
        if self.from_ps is not None and self.to_ps is not None and self.from_ps >= self.to_ps:
            raise DataError(f"recording from {self.from_ps} ps to {self.to_ps} ps keeps nothing; the end must lie after the start")

    @property
    def whole(self) -> bool:
        """Whether every row is kept."""
        return self == Selection()

    def describe(self) -> dict[str, Any]:
        """As it stands in the metadata of a trace."""
        return {
            "level": self.level,
            "from_ps": self.from_ps,
            "to_ps": self.to_ps,
            "cores": None if self.cores is None else list(self.cores),
            "populations": None if self.populations is None else list(self.populations),
        }


class Sieve:
    """A Selection applied to the rows of one Program."""

    def __init__(self, program: Program, selection: Selection) -> None:
        """Raises DataError: a core or population that the program does not have."""
        self.selection = selection
        self._server: NDArray[np.bool_] | None = None
        self._source: NDArray[np.bool_] | None = None
        if selection.cores is not None:
            self._server = np.isin(server_core(program), known_cores(server_core(program), selection.cores, "program"))
        if selection.populations is not None:
            names = [str(p["name"]) for p in program.meta["populations"]]
            chosen = [names.index(name) for name in known_populations(names, selection.populations, "program")]
            self._source = np.isin(program.source_population, chosen)
        station = SOMA if program.stepped else SYNAPSE
        self._fires = program.server_kind == station
        self._ports = program.server_kind == PORT

    def keep(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The rows of TRACE_DTYPE that the selection wants."""
        return rows if self.selection.whole else rows[self.wanted(rows)]

    def wanted(self, rows: Mapping[str, NDArray[Any]] | NDArray[Any]) -> NDArray[np.bool_]:
        """[rows] which of them the selection wants; ``rows``: records or columns."""
        chosen = self.selection
        kept = np.ones(len(rows["time"]), np.bool_)
        if chosen.level != "events":
            kind, item, server = rows["kind"], rows["item"], rows["server"]
            fires = ((kind == ROW_PUT) | (kind == ROW_DROP)) & (item == SPIKE) & self._fires[server]
            kept &= fires | ((kind == ROW_SERVICE) & ((item == SPIKE) | (item == CURRENT)) & self._ports[server])
        if chosen.from_ps is not None:
            kept &= rows["time"] >= chosen.from_ps
        if chosen.to_ps is not None:
            kept &= rows["time"] < chosen.to_ps
        if self._server is not None:
            kept &= self._server[rows["server"]]
        if self._source is not None:
            kept &= self._source[rows["slice"]] & (rows["slice"] >= 0)
        return kept


def server_core(program: Program) -> NDArray[np.int64]:
    """The core of each server, -1 for ports and router outputs."""
    station = (program.server_kind >= SYNAPSE) & (program.server_kind <= SENDER)
    return np.where(station, program.server_owner, -1)


def known_cores(at: NDArray[Any], cores: Sequence[int], where: str) -> list[int]:
    """The cores asked for, ascending; ``at``: the core of each server. Raises DataError for one that does not exist."""
    chosen = sorted(set(cores))
    for core in chosen:
        if core < 0 or not np.any(at == core):
            raise DataError(f"{where}: core {core} does not exist; cores are 0 to {int(at.max())}")
    return chosen


def known_populations(names: Sequence[str], populations: Sequence[str], where: str) -> list[str]:
    """The populations asked for. Raises DataError for one that does not exist."""
    for name in populations:
        if name not in names:
            raise DataError(f"{where}: population {name!r} does not exist; there are {', '.join(names)}")
    return list(populations)
