"""Dynamic energy from one process node and supply voltage to another.

E_to = E_from * EF_to(V_to) / EF_from(V_from) with EF(V) = a2 V**2 + a1 V + a0: fits of HSpice runs with predictive models (PTM, ITRS) by
A. Stillmaker and B. Baas, Integration 58:74-81, 2017, 10.1016/j.vlsi.2017.02.002, table 5, R2 > 0.95. The coefficients were read in a public
transcription of that table; those of 65 nm and of 32 nm (high performance) agree with the example in the authors' own corrigendum. Leakage does not
scale like this.
"""

from __future__ import annotations

from neurosim.chip.figures import Figure
from neurosim.chip.spec import Prices
from neurosim.errors import DataError

ENERGY = {
    "130": (7.171, -6.709, 2.904),
    "90": (4.762, -4.781, 2.092),
    "65": (3.755, -4.398, 1.975),
    "45hp": (1.018, -0.3107, 0.1539),
    "32hp": (0.8367, -0.4341, 0.1701),
    "20hp": (0.373, -0.1582, 0.04104),
    "16hp": (0.2958, -0.1241, 0.03024),
    "14hp": (0.2363, -0.09675, 0.02239),
    "10hp": (0.2068, -0.09311, 0.02375),
    "7hp": (0.1776, -0.09097, 0.02447),
    "45lp": (1.103, -0.362, 0.2767),
    "32lp": (0.9559, -0.7823, 0.471),
    "20lp": (0.2632, -0.14, 0.06841),
    "16lp": (0.2139, -0.1187, 0.05639),
    "14lp": (0.1556, -0.06472, 0.03066),
    "10lp": (0.1261, -0.0518, 0.02769),
    "7lp": (0.09365, -0.03409, 0.02043),
}
"""Node in nm, from 45 nm on high performance (hp) or low power (lp) -> (a2, a1, a0)."""
LOWEST_V, HIGHEST_V = 0.5, 1.8
"""Supplies that the fits are used for; the paper's own sweeps end near the nominal supply of each node."""
DYNAMIC = (
    "synop", "decode", "soma_access", "soma_update", "soma_fire", "current_write", "packet", "hop_east_west", "hop_north_south", "hop_local",
    "pair_write", "op_read",
)  # fmt: skip
"""Prices that are switching energy on the chip; pads, links between chips, host and static power are not scaled."""


def energy_factor(node: str, voltage: float) -> float:
    """EF of a node at a supply in volts. Raises DataError for an unknown node or a supply outside 0.5 V..1.8 V."""
    if node not in ENERGY:
        raise DataError(f"process node {node!r} has no scaling coefficients; there are {', '.join(ENERGY)}")
    if not LOWEST_V <= voltage <= HIGHEST_V:
        raise DataError(f"supply {voltage} V is outside of {LOWEST_V}..{HIGHEST_V} V, for which the scaling was fitted")
    a2, a1, a0 = ENERGY[node]
    return a2 * voltage**2 + a1 * voltage + a0


def scaled_prices(prices: Prices, source: tuple[str, float], target: tuple[str, float]) -> Prices:
    """Prices of (node, volts) ``source`` as they would be at ``target``: dynamic ones scaled and marked assumed, the others as they are."""
    factor = energy_factor(*target) / energy_factor(*source)
    where = f"scaled x {factor:.3g} from {source[0]} nm {source[1]:g} V to {target[0]} nm {target[1]:g} V (Stillmaker and Baas 2017)"
    changes = {}
    for name in DYNAMIC:
        figure: Figure[float] | None = getattr(prices, name)
        if figure is not None:
            bounds = {end: None if value is None else value * factor for end, value in (("low", figure.low), ("high", figure.high))}
            changes[name] = Figure[float](value=figure.value * factor, source=f"{figure.source}; {where}", status="assumed", **bounds)
    return prices.model_copy(update=changes)
