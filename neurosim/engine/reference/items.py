"""Items and services: what stations pass on and what they do with it (docs/machine.md, sections 2 and 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurosim.engine.events import MARKER


@dataclass(slots=True)
class Item:
    """A packet, an item in axon-out, or what a service is about. Fields as in a trace row; ``cause``: (server, service) of the latest put.

    ``dests``: the cores that a packet serves, ascending, ``dest`` being the first; several only on chips with multicast trees.
    """

    item: int
    slice: int
    address: int
    value: int
    step: int
    dest: int
    origin: int
    cause: tuple[int, int]
    dests: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.dests and self.dest >= 0:
            self.dests = (self.dest,)

    def sent(self, cause: tuple[int, int]) -> Item:
        """The same item after a put."""
        return replace(self, cause=cause)

    def towards(self, dests: tuple[int, ...]) -> Item:
        """The copy for some cores, ascending."""
        return replace(self, dest=dests[0], dests=dests)


Results = list[tuple[int, Item]]


class Service:
    """One service: what is served, its nominal duration and results, and how far the puts have come."""

    __slots__ = ("blocked", "duration", "end", "item", "last_put", "made", "n", "nominal", "ready", "results", "shift", "start", "synops")

    def __init__(self, n: int, start: int, item: Item, duration: int, results: Results, synops: int) -> None:
        self.n, self.start, self.item, self.duration, self.results, self.synops = n, start, item, duration, results, synops
        self.made = 0  # results put so far
        self.shift = self.blocked = 0
        self.end = -1  # known when it has ended
        self.nominal = self.ready = self.last_put = start


def row_of(item: Item) -> tuple[int, int, int, int, int, int, int, int, int]:
    """The item's columns of a trace row, from ``item`` to ``cause_service``."""
    return item.item, item.slice, item.address, item.value, item.step, item.dest, item.origin, item.cause[0], item.cause[1]


def marker(source: int, step: int, origin: int) -> Item:
    """A marker of ``source`` without a destination yet; its cause is set by the put."""
    return Item(MARKER, source, -1, 0, step, -1, origin, (-1, -1))
