"""The live view of ``neurosim run --watch``: what a run has done so far, redrawn as samples end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from neurosim.cli.console import err
from neurosim.units import format_count, format_energy, format_time

if TYPE_CHECKING:
    from neurosim.engine.run import Watch
    from neurosim.program import Program

SHOWN_CORES = 6
BAR = 24


class View:
    """Sums over the parts that have come, and how they look."""

    def __init__(self, program: Program, clock: Callable[[], float] = time.perf_counter) -> None:
        self.program, self.clock, self.began = program, clock, clock()
        self.parts: list[Any] = []
        self.done, self.total = 0, 0

    def add(self, part: Any, done: int, total: int) -> None:
        """Take the next part."""
        from neurosim.engine.run import join_results

        self.done, self.total = done, total
        light = replace(part, spikes=part.spikes[:0], trace=part.trace[:0], state_v=part.state_v[:0], state_i=part.state_i[:0])
        self.parts = [join_results([*self.parts, light])]

    def __rich__(self) -> Group:
        """The view now."""
        if not self.parts:
            return Group(Text("waiting for the first sample", style="dim"))
        from neurosim.energy import price
        from neurosim.host import host_macs

        result = self.parts[0]
        seconds = max(1e-9, self.clock() - self.began)
        per = price(self.program, result, host_macs_per_sample=host_macs(self.program)).per_sample()
        spikes, synops = int(result.core["fires"].sum()), int(result.core["synops"].sum())
        left = seconds / self.done * (self.total - self.done)
        words = Text(
            f"{self.done} of {self.total} samples, {seconds:.0f} s, {left:.0f} s left; {format_count(round(spikes / seconds))} spikes/s, "
            f"{format_count(round(synops / seconds))} synaptic operations/s simulated"
        )
        figures = Text(
            f"per sample: {format_count(round(spikes / self.done, 1))} spikes, {format_energy(per['total'])}, "
            f"decision after {format_time(float(np.median(result.decision_ps - result.start_ps)))} (median), "
            f"saturations {int(result.core['saturations'].sum())}, drops {int(result.channel['drops'].sum())}"
        )
        full = round(60 * self.done / self.total)
        return Group(Text("#" * full + "." * (60 - full)), words, figures, self._cores(result))

    def _cores(self, result: Any) -> Table:
        """The busiest cores, by their busiest station."""
        from neurosim.trace import busiest_cores

        grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("core", "busiest station", "", "populations"):
            grid.add_column(name, header_style="dim")
        for row in busiest_cores(_Counted(self.program, result), SHOWN_CORES):
            load = max(row["synapse_busy"], row["soma_busy"], row["sender_busy"])
            full = round(BAR * load)
            grid.add_row(str(row["core"]), f"{'#' * full}{'.' * (BAR - full)}", f"{100 * load:.0f} %", ", ".join(row["populations"]))
        return grid


class _Counted:
    """Program and counters, as the queries want them."""

    def __init__(self, program: Program, result: Any) -> None:
        self.program, self.result = program, result


@contextmanager
def live_view(program: Program, *, shown: bool) -> Iterator[Watch | None]:
    """Yields the ``watch`` of a simulation, None where nothing is to be shown. Without a terminal the view is printed once, at the end."""
    if not shown:
        yield None
        return
    view = View(program)
    with Live(view, console=err, refresh_per_second=4, transient=False):
        yield view.add
