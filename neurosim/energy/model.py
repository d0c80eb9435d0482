"""What pricing gives: lines of count times price, totals by component, shares of cores and populations. Energies are float femtojoules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.units import format_count, format_energy, format_time

COMPONENTS = ("synapse", "soma", "noc", "io", "static")
"""Components of the chip; ``host`` stands beside them."""


@dataclass(frozen=True)
class PriceLine:
    """One kind of event. ``count`` is over the whole run; for static power it is the time in ps and ``price`` the power in mW (1 mW ps = 1 fJ)."""

    component: str
    event: str
    count: float
    price: float
    unit: str
    source: str
    status: str
    low: float
    high: float
    """Range of the price: the figure's own, or a spread by its status."""

    @property
    def energy_fj(self) -> float:
        """Count times price over the whole run, in fJ."""
        return self.count * self.price


@dataclass(frozen=True)
class Share:
    """The part of one population or layer, over the whole run, in fJ. ``noc`` holds the packets that its cores form, not the hops of packets."""

    name: str
    synapse: float
    soma: float
    noc: float
    static: float
    synops: float
    """Synaptic operations served for it, and words that its op read."""
    cores: tuple[int, ...]
    exact: bool
    """True when its cores hold no other population, so that nothing had to be divided."""

    @property
    def total(self) -> float:
        """The four parts together, in fJ."""
        return self.synapse + self.soma + self.noc + self.static


@dataclass(frozen=True)
class Energy:
    """The priced run: ``lines`` add up to everything; ``per_sample()`` is what summaries print."""

    chip: str
    samples: int
    window_ps: int
    window: str
    """What the static power was multiplied with, in words."""
    lines: tuple[PriceLine, ...]
    board: PriceLine | None
    """The board at rest over the window, where the prices have a figure; not among ``lines``."""
    core_fj: dict[str, NDArray[np.float64]]
    """Per core of the chip, whole run: ``synapse``, ``soma``, ``noc`` (packets formed), ``static``."""
    router_fj: NDArray[np.float64]
    """Per router, whole run: its hops and its static power."""
    populations: tuple[Share, ...]
    """Populations on the chip in Program order."""
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def component_fj(self, component: str) -> float:
        """Energy of one component (or ``host``) over the whole run."""
        return sum(line.energy_fj for line in self.lines if line.component == component)

    @property
    def chip_fj(self) -> float:
        """Synapse, soma, noc, io and static over the whole run."""
        return sum(self.component_fj(component) for component in COMPONENTS)

    @property
    def total_fj(self) -> float:
        """Chip and host over the whole run."""
        return self.chip_fj + self.component_fj("host")

    @property
    def board_fj(self) -> float | None:
        """The chip as its board's supply sees it, whole run: the dynamic components, and the board at rest in place of the static power of the cores
        in use, which it contains. Without the host; None where the prices have no figure of a board."""
        return None if self.board is None else self.chip_fj - self.component_fj("static") + self.board.energy_fj

    def per_sample(self) -> dict[str, float]:
        """fJ per sample under the stable names: synapse, soma, noc, io, static, chip, host, total."""
        parts = {component: self.component_fj(component) / self.samples for component in COMPONENTS}
        chip = sum(parts.values())
        host = self.component_fj("host") / self.samples
        return parts | {"chip": chip, "host": host, "total": chip + host}

    def layers(self) -> tuple[Share, ...]:
        """Populations grouped by module: ``blocks.0.ffn.lif1`` counts for ``blocks.0.ffn``; a name without a dot stands for itself."""
        groups: dict[str, list[Share]] = {}
        for share in self.populations:
            groups.setdefault(share.name.rpartition(".")[0] or share.name, []).append(share)
        return tuple(_merged(name, members) for name, members in groups.items())

    def table(self) -> list[dict[str, str | float]]:
        """One row per price: component, event, count per sample, price, energy_fj per sample, share of the total, source, status."""
        total = self.total_fj or 1.0
        return [
            {
                "component": line.component,
                "event": line.event,
                "count": line.count / self.samples,
                "price": line.price,
                "unit": line.unit,
                "energy_fj": line.energy_fj / self.samples,
                "share": line.energy_fj / total,
                "source": line.source,
                "status": line.status,
            }
            for line in self.lines
        ]

    def __str__(self) -> str:
        rows = [("component", "event", "count", "price", "energy", "share", "status", "source")]
        for line in self.lines:
            static = line.component == "static"
            rows.append(
                (
                    line.component,
                    line.event,
                    format_time(line.count / self.samples) if static else format_count(round(line.count / self.samples, 1)),
                    f"{line.price:.3g} mW" if static else format_energy(line.price),
                    format_energy(line.energy_fj / self.samples),
                    f"{100 * line.energy_fj / (self.total_fj or 1.0):.1f} %",
                    line.status,
                    line.source,
                )
            )
        widths = [max(len(row[k]) for row in rows) for k in range(7)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[7]]) for row in rows]
        per = self.per_sample()
        lines.append(f"per sample: chip {format_energy(per['chip'])}, host {format_energy(per['host'])}, total {format_energy(per['total'])}")
        if self.board is not None and self.board_fj is not None:
            at_rest = f"{self.board.price:.3g} mW at rest ({self.board.status}; {self.board.source})"
            lines.append(f"at the board: {format_energy(self.board_fj / self.samples)} per sample, static power replaced by {at_rest}")
        lines.append(f"static window: {self.window}")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"left out: {sentence}" for sentence in self.left_out]
        return "\n".join(lines)


def _merged(name: str, members: list[Share]) -> Share:
    cores = tuple(sorted({core for share in members for core in share.cores}))
    return Share(
        name=name,
        synapse=sum(share.synapse for share in members),
        soma=sum(share.soma for share in members),
        noc=sum(share.noc for share in members),
        static=sum(share.static for share in members),
        synops=sum(share.synops for share in members),
        cores=cores,
        exact=all(share.exact for share in members),
    )
