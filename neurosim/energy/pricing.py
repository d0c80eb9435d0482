"""Counts times prices. Needs a Program's layout (not its weights) and a Result's counters, so a stored run can be priced again with other prices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.chip.figures import Figure
from neurosim.chip.spec import Prices
from neurosim.energy.model import Energy, PriceLine, Share
from neurosim.engine.events import Result
from neurosim.errors import DataError
from neurosim.program import Program
from neurosim.units import format_time

F64 = NDArray[np.float64]

ROUTER_OUTPUT, PORT = 4, 0  # values of Program.server_kind
HOP_PRICES = (
    (0, "hop_local", "hops to a local core"),
    (1, "hop_east_west", "hops east-west"),
    (2, "hop_north_south", "hops north-south"),
    (3, "hop_chip", "hops between chips"),
)
"""(class of the router output, price, words). On topologies without axes all links within a chip are of class 1."""
SPREAD = {"published": 1.5, "fitted": 1.25, "assumed": 2.0}
"""Factor either way for prices without a range of their own. Published: Loihi's synaptic operation is 23.6 pJ in Davies 2018 (before silicon) and
35.5 pJ in SANA-FE's fit to silicon, a factor of 1.5. Fitted: twice the 12 % by which SANA-FE misses measured energies on average. Assumed: two."""


def price(
    program: Program, result: Result, *, host_macs_per_sample: float = 0.0, prices: Prices | None = None, streamed: bool | None = None
) -> Energy:
    """Price a run: every counter times its price, and static power over the simulated window.

    ``prices`` replaces those of the program's chip. ``host_macs_per_sample``: multiply-accumulates of the host section for one sample.
    ``streamed`` only names the window; None takes it from the result (the window of an isolated run is the sum of its completion times).

    Raises DataError: a run without samples, counters of another program, a negative number of host MACs.
    """
    samples = len(result.scores)
    _check(program, result, samples, host_macs_per_sample)
    prices = prices or program.chip.prices
    core = {name: counts.astype(np.float64) for name, counts in result.core.items()}
    plain = core["synops"] - core["pairs"]
    services = result.server["services"]
    mapped = np.zeros(program.cores, bool)
    mapped[program.slice_core] = True
    powered = mapped if prices.power_gating else np.ones(program.cores, bool)
    window = float(result.window_ps)
    routers = len(program.next_server)
    served = core["spike_packets"] + core["current_packets"] + core["marker_packets"]

    lines = [
        _line("synapse", "synaptic operations", plain.sum(), prices.synop),
        *_op_lines(program, core, prices),
        _line("synapse", "packets decoded", served.sum(), prices.decode),
        _line("synapse", "current writes", core["current_writes"].sum(), prices.current_write),
        _line("soma", "neurons visited", core["accesses"].sum(), prices.soma_access),
        _line("soma", "neurons updated", core["updates"].sum(), prices.soma_update),
        _line("soma", "spikes fired", core["fires"].sum(), prices.soma_fire),
        _line("noc", "packets formed", core["packets_sent"].sum(), prices.packet),
    ]
    router_fj = np.full(routers, prices.static_router_mw.value * window)
    axes = program.chip.noc.topology in ("mesh", "torus")
    for code, name, words in HOP_PRICES:
        chosen = (program.server_kind == ROUTER_OUTPUT) & (program.server_class == code)
        figure: Figure[float] | None = getattr(prices, name)
        if (code == 2 and not axes) or (code == 3 and not chosen.any()):
            continue  # links that this chip does not have
        if figure is None:
            raise DataError(f"energy: {program.chip.name} has links between chips but the prices have no hop_chip; give prices.hop_chip")
        if code == 1 and not axes:
            words = "hops over links"
        lines.append(_line("noc", words, services[chosen].sum(), figure))
        np.add.at(router_fj, program.server_owner[chosen], services[chosen] * figure.value)
    lines += [
        _line(
            "io",
            "packets through the port" if program.ports == 1 else f"packets through {program.ports} ports",
            services[program.server_kind == PORT].sum(),
            prices.io_packet,
        ),
        _line("static", f"{int(powered.sum())} cores powered", window * powered.sum(), prices.static_core_mw, "mW"),
        _line("static", f"{routers} routers", window * routers, prices.static_router_mw, "mW"),
        _line("static", "chip", window, prices.static_chip_mw, "mW"),
        _line("host", "multiply-accumulates", host_macs_per_sample * samples, prices.host_mac),
    ]
    core_fj = {
        "synapse": plain * prices.synop.value
        + served * prices.decode.value
        + core["current_writes"] * prices.current_write.value
        + _op_fj(core, prices),
        "soma": core["accesses"] * prices.soma_access.value + core["updates"] * prices.soma_update.value + core["fires"] * prices.soma_fire.value,
        "noc": core["packets_sent"] * prices.packet.value,
        "static": powered * (prices.static_core_mw.value * window),
    }
    populations, notes = _shares(program, result, prices, core, core_fj, samples)
    if streamed is None:
        streamed = result.window_ps != int(result.completion_ps.sum())
    text = f"one streamed run of {format_time(window)}" if streamed else f"sum of {samples} completion times, {format_time(window)}"
    gating = f"{int(powered.sum())} of {program.cores} cores powered" + (" (those with a slice)" if prices.power_gating else "")
    return Energy(
        chip=program.chip.name,
        samples=samples,
        window_ps=result.window_ps,
        window=f"{text}; {gating}",
        lines=tuple(lines),
        board=None if prices.board_mw is None else _line("board", "board at rest", window, prices.board_mw, "mW"),
        core_fj=core_fj,
        router_fj=router_fj,
        populations=populations,
        left_out=_left_out(program, prices),
        notes=tuple(notes),
    )


def _check(program: Program, result: Result, samples: int, host_macs_per_sample: float) -> None:
    if samples == 0:
        raise DataError("energy: the run has 0 samples; simulate at least 1")
    for what, counters, wanted in (("server", result.server, len(program.server_kind)), ("core", result.core, program.cores)):
        for name, values in counters.items():
            if len(values) != wanted:
                raise DataError(f"energy: counter {name} has {len(values)} {what}s, the program has {wanted}; price a run with its own program")
    if not 0 <= host_macs_per_sample < float("inf"):
        raise DataError(f"energy: host_macs_per_sample {host_macs_per_sample} must be finite and not negative")


def _line(component: str, event: str, count: float, figure: Figure[float], unit: str = "fJ") -> PriceLine:
    return PriceLine(component, event, float(count), figure.value, unit, figure.source, figure.status, *price_range(figure))


def price_range(figure: Figure[float]) -> tuple[float, float]:
    """(low, high) of a figure: its own ends, else its value divided and multiplied by SPREAD of its status."""
    spread = SPREAD[figure.status]
    return figure.value / spread if figure.low is None else figure.low, figure.value * spread if figure.high is None else figure.high


def _op_prices(prices: Prices) -> tuple[Figure[float], Figure[float]]:
    """(of an increment of an activity-written synapse, of a word that an extra op reads), each a synaptic operation where the chip has no figure."""
    return prices.pair_write or prices.synop, prices.op_read or prices.synop


def _op_lines(program: Program, core: dict[str, F64], prices: Prices) -> list[PriceLine]:
    """Rows of extra ops, for programs that have some."""
    ops = {p.get("op", "") for p in program.meta["populations"]} - {"", "or_pool"}
    write, read = _op_prices(prices)
    lines = [_line("synapse", "activity-written synapses written", core["pairs"].sum(), write)] if "coincidence" in ops else []
    return [*lines, _line("synapse", "words read by extra ops", core["op_reads"].sum(), read)] if ops else lines


def _op_fj(core: dict[str, F64], prices: Prices) -> F64:
    """Energy of extra ops by core."""
    write, read = _op_prices(prices)
    return core["pairs"] * write.value + core["op_reads"] * read.value


def _shares(
    program: Program, result: Result, prices: Prices, core: dict[str, F64], core_fj: dict[str, F64], samples: int
) -> tuple[tuple[Share, ...], list[str]]:
    """Per population: the sum over its slices of their part of their core.

    A core with slices of one population needs no division. On a shared core fires are known per slice; the rest is divided by neurons
    (visits, synapses, static power; what extra ops write and read: among the populations with one) or by spikes and markers (packets), and a note
    says so.
    """
    neurons = np.diff(program.neuron_ptr).astype(np.float64)
    spikes = result.slice_spikes.sum(axis=0).astype(np.float64) if result.slice_spikes.size else np.zeros(program.slices)
    items = spikes + (program.steps * samples if program.sync == "wavefront" else 0)  # other disciplines have no markers
    if program.sync == "settle":  # these counted neurons with an output at the samples' ends; what was said on the way is known with the spikes
        items = np.bincount(result.spikes["slice"], minlength=program.slices).astype(np.float64) if len(result.spikes) else spikes
    by_size = _part(neurons, program)
    by_item = _part(items, program)
    at = program.slice_core
    of_ops = _op_fj(core, prices)
    has_op = np.array([bool(p.get("op")) for p in program.meta["populations"]])[program.slice_population]
    synapse = (core_fj["synapse"] - of_ops)[at] * by_size + of_ops[at] * _part(neurons * has_op, program)
    visits = core["accesses"] * prices.soma_access.value + core["updates"] * prices.soma_update.value
    # fires of a shared core are exact per slice only when the run kept them
    known = spikes if result.slice_spikes.size else core["fires"][at] * by_size
    fires = core["fires"][at] * by_item if program.sync == "settle" else known
    soma = visits[at] * by_size + fires * prices.soma_fire.value
    noc = core_fj["noc"][at] * by_item
    static = core_fj["static"][at] * by_size
    extra = core["pairs"] + core["op_reads"]
    synops = (core["synops"] - core["pairs"])[at] * by_size + extra[at] * _part(neurons * has_op, program)

    shared = [c for c in range(program.cores) if len(set(program.slice_population[at == c].tolist())) > 1]
    shares = []
    for index, population in enumerate(program.meta["populations"]):
        chosen = program.slice_population == index
        if chosen.any():
            cores = tuple(sorted(set(at[chosen].tolist())))
            a, b, c, d, served = (float(part[chosen].sum()) for part in (synapse, soma, noc, static, synops))
            shares.append(Share(str(population["name"]), a, b, c, d, served, cores=cores, exact=not set(cores) & set(shared)))
    notes = []
    if shared:
        listed = ", ".join(str(c) for c in shared[:8]) + (", ..." if len(shared) > 8 else "")
        notes.append(
            f"cores {listed} hold several populations; their energy is divided by neurons (packets: by spikes and markers), their totals are exact"
        )
    return tuple(shares), notes


def _part(weight: F64, program: Program) -> F64:
    """Each slice's part of its core's sum of ``weight``."""
    total = np.bincount(program.slice_core, weights=weight, minlength=program.cores)
    part: F64 = weight / np.maximum(total[program.slice_core], 1e-300)
    return part


def _left_out(program: Program, prices: Prices) -> tuple[str, ...]:
    sentences = [
        "loading the program and its weights into the chip",
        "reading the result out of the chip (no output packets are simulated)",
        "voltage conversion, clocks of the I/O side, off-chip memory"
        + (", board" if prices.board_mw is None else "; the board, whose figure stands beside the total"),
    ]
    host: dict[str, Any] = program.meta.get("host") or {}
    if host:
        sentences.append("the host beyond its multiply-accumulates: memory, control, idle power, sensor")
    if program.sync == "settle":
        sentences.append("in settle: the threshold tests, taken to be part of a synaptic operation, and restoring the rest state between samples")
    if program.sync == "free":
        sentences.append("in free mode: the threshold tests, taken to be part of a synaptic operation, and the state reset between samples")
    if program.sync == "barrier":
        sentences.append("the barrier itself: its time is in the window of the static power, its own energy is not published for any chip")
    free = [line for line in ("decode", "static_router_mw", "static_chip_mw") if getattr(prices, line).value == 0]
    if free:
        sentences.append(f"prices that are 0 in this chip: {', '.join(free)}")
    return tuple(sentences)
