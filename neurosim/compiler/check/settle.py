"""What the discipline settle cannot run: more than one step, what goes in circles or comes late, sums that its words cannot hold."""

from __future__ import annotations

from neurosim.chip import Chip
from neurosim.compiler.place import on_chip
from neurosim.compiler.quantize import input_range, settle_sums
from neurosim.errors import ChipError, UnsupportedLayer
from neurosim.graph import Graph


def refuse_settle(graph: Graph, chip: Chip, cycle: list[str] | None) -> list[str]:
    """Warnings about what settle does to the network. Raises UnsupportedLayer or ChipError for what cannot run."""
    other = "use sync wavefront" if "wavefront" in chip.sync else "use a chip with sync wavefront"
    if chip.noc.axon_out_overflow == "drop":
        raise ChipError(f"{chip.name}: noc.axon_out_overflow drop never acts in sync settle, where a neuron without room waits; set it to stall")
    if graph.steps != 1:
        first = next((p.name for p in graph.populations if on_chip(p)), graph.name)
        raise UnsupportedLayer(
            first, "lif", "sync settle knows no steps, so it runs networks of one step", value=f"{graph.steps} steps", limit="1 step",
            remedy=f"{other}, or a model of one step (T = 1)",
        )  # fmt: skip
    if cycle is not None:
        raise UnsupportedLayer(
            cycle[-1], "connect", f"sync settle needs a network without cycles, here {' -> '.join(cycle)}", remedy=f"{other}, or unroll it"
        )
    for p in graph.projections:
        if p.delay:
            raise UnsupportedLayer(
                p.target, "delay", f"sync settle knows no steps to delay by ({p.source} -> {p.target})", value=p.delay, limit=0,
                remedy=f"{other}, or leave out the delay",
            )  # fmt: skip
    if chip.noc.overflow == "drop":
        return ["settle: a spike that is dropped (noc.overflow = drop) is never made up for, so results are not exact where FIFOs are full"]
    return []


def refuse_settle_sums(graph: Graph, chip: Chip, pixels: tuple[int, int] = (0, 255)) -> None:
    """The overflow proof of an integer graph: every membrane within ``acc_bits`` whatever has been told so far, synapse by synapse, start and bias
    included; a synaptic current that no word of ``state_bits`` can clip. Raises UnsupportedLayer."""
    a = chip.arithmetic
    for population in graph.populations:
        if not on_chip(population):
            continue
        into = graph.into(population.name)
        op = "readout" if population.kind == "readout" else "lif" if population.op is None else population.op.name
        for total in settle_sums(graph, population, into, chip, pixels):
            if not total.fits:
                raise UnsupportedLayer(
                    population.name, op, f"{chip.name}: in sync settle {total.what} must fit arithmetic.acc_bits whatever comes first",
                    value=f"{total.value:.0f}", limit=f"{total.limit:.0f}", remedy=f"raise arithmetic.acc_bits ({a.acc_bits}) or use sync wavefront",
                )  # fmt: skip
        if population.rule is not None and population.rule.decay_current is not None:
            most, limit = input_range(graph, population, into, pixels), 2 ** (a.state_bits - 1) - 1
            if most > limit:
                raise UnsupportedLayer(
                    population.name, op, f"{chip.name}: a synaptic current (CUBA) that can saturate on its own, which sync settle does not do",
                    value=f"{most:.0f}", limit=limit, remedy="use sync wavefront, neurons without synaptic current, or a chip with wider states",
                )  # fmt: skip
