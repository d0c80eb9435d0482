"""Instants over SimPy (docs/machine.md section 1, the instant rule).

SimPy's Environment is the clock and the agenda; its Store and Resource are not used, because their ties are broken by insertion order. An instant is
one SimPy event of two phases: first every message due (arrivals, credits, wires) is applied, then every woken station decides once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

import simpy

PRIORITY = 2  # after simpy.events.NORMAL = 1, so that a user's own timeouts come first


class Decides(Protocol):
    """What the kernel knows of a station."""

    def decide(self, now: int) -> None:
        """Do everything that is due at this instant; touch no other station."""


class Instant(simpy.Event):  # type: ignore[misc]  # simpy is untyped here
    """What is due at one time: messages, and the stations to wake (a dict serves as an ordered set)."""

    def __init__(self, env: simpy.Environment, happen: Callable[[Instant], None]) -> None:
        self.env, self.callbacks = env, [happen]
        self._ok, self._value = True, None  # triggered on creation: the agenda alone says when it happens
        self.messages: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.stations: dict[Decides, None] = {}


class Kernel:
    """The agenda. ``shuffle``: an optional random source that permutes messages and stations within every instant; results must not change."""

    def __init__(self, shuffle: random.Random | None = None) -> None:
        self.env = simpy.Environment(initial_time=-1)  # so that time 0 lies ahead while the machine is built
        self.now = -1
        self.closing: Callable[[int], None] | None = None  # called at the end of every instant: the global barrier
        self._shuffle = shuffle
        self._due: dict[int, Instant] = {}
        self._deciding = False

    def post(self, time: int, receive: Callable[..., None], *arguments: Any) -> None:
        """Call ``receive(*arguments)`` in the message phase of ``time``, which lies at least 1 ps ahead."""
        assert time > self.now, f"message for {time} ps at {self.now} ps: an effect elsewhere is due at t + 1 ps or later"
        self._at(time).messages.append((receive, arguments))

    def wake(self, station: Decides, time: int) -> None:
        """Let a station decide at ``time``: later, or in this instant while its messages are being applied."""
        assert time > self.now or (time == self.now and not self._deciding), f"{station} would decide twice at {self.now} ps"
        self._at(time).stations[station] = None

    def run(self) -> None:
        """Until nothing is due."""
        self.env.run()

    def _at(self, time: int) -> Instant:
        instant = self._due.get(time)
        if instant is None:
            instant = self._due[time] = Instant(self.env, self._happen)
            self.env.schedule(instant, PRIORITY, time - self.now)
        return instant

    def _happen(self, instant: Instant) -> None:
        self.now = self.env.now
        if self._shuffle:
            self._shuffle.shuffle(instant.messages)
        for receive, arguments in instant.messages:
            receive(*arguments)
        stations = list(instant.stations)
        if self._shuffle:
            self._shuffle.shuffle(stations)
        self._deciding = True
        for station in stations:
            station.decide(self.now)
        self._deciding = False
        del self._due[self.now]
        if self.closing is not None:
            self.closing(self.now)
