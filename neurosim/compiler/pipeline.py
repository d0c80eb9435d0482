"""Network -> Program: a list of named passes, each with a check before and after and one line of log."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip, load_chip
from neurosim.compiler.audit import AuditReport, audit
from neurosim.compiler.check import CheckRow, choose_sync, low_precision, refuse, refuse_settle_sums, require_supported
from neurosim.compiler.emit import assemble, deadlock_warnings
from neurosim.compiler.lower import Rewrites, read_rewrites
from neurosim.compiler.place import Assignment, Mapped, assign, place_slices
from neurosim.compiler.quantize import Measured, Precision, measure_readout, most_events, quantize, split_readout
from neurosim.compiler.report import build_report
from neurosim.errors import ModelError
from neurosim.graph import Graph
from neurosim.host import build_host
from neurosim.network import Network
from neurosim.program import Program

T = TypeVar("T")
log = logging.getLogger("neurosim.compiler")


@dataclass(frozen=True)
class PassLog:
    """One pass: its name, wall time and effect in words."""

    name: str
    seconds: float
    effect: str


@dataclass(frozen=True)
class Compilation:
    """Everything the compiler knows: ``graph`` in real numbers, ``integer`` as on the chip, ``rows`` of the check, ``snr`` of every projection."""

    program: Program
    graph: Graph
    integer: Graph
    rows: list[CheckRow]
    snr: list[Precision]
    audit: AuditReport | None
    passes: tuple[PassLog, ...]
    report: dict[str, Any]


@dataclass
class _State:
    """What the passes hand on."""

    network: Network
    chip: Chip
    sync: str
    seed: int
    rewrites: Rewrites
    rest: str | Path | None
    calibrate: str | Path | NDArray[Any] | None
    allow_low_snr: bool
    measured: Measured | None = None
    rows: list[CheckRow] = field(default_factory=list)
    graph: Graph | None = None
    integer: Graph | None = None
    snr: list[Precision] = field(default_factory=list)
    assignment: Assignment | None = None
    mapped: Mapped | None = None
    program: Program | None = None
    audit: AuditReport | None = None


def compile_network(
    network: Network,
    chip: str | Path | Chip,
    sync: str | None = None,
    *,
    audit: bool = True,
    seed: int = 0,
    rewrite: Mapping[str, str] | None = None,
    rest: str | Path | None = None,
    calibrate: str | Path | NDArray[Any] | None = None,
    allow_low_snr: bool = False,
) -> Compilation:
    """Compile a Network for a chip (a preset's name, a TOML file or a Chip).

    ``sync``: free, settle, wavefront or barrier, by default the chip's first. ``seed``: of the placement. ``audit`` False skips the proof that
    the Program computes its graph. ``rewrite``: ops to be written otherwise, maxpool=or_pool, gate=neurons, avgpool=sum (compiler.op_rewrites).
    ``rest`` (settle): the reference input from whose settled state samples start: black (the default), none or a data file.
    ``calibrate``: images or event arrays, or a file of them, whose scores set the scale of the readout's state. ``allow_low_snr``: weights of real
    numbers may lose all but 3 dB.
    Raises UnsupportedLayer, ModelError, ChipError, DoesNotFit; AuditError is a defect of neurosim.
    """
    spec = load_chip(chip)
    if rest is not None and choose_sync(spec, sync) != "settle":
        raise ModelError(f"rest {str(rest)!r} belongs to sync settle, this is {choose_sync(spec, sync)}; leave it out or choose settle")
    state = _State(network, spec, choose_sync(spec, sync), seed, read_rewrites(rewrite), rest, calibrate, allow_low_snr)
    passes: tuple[tuple[str, Callable[[_State], str]], ...] = (
        ("check", _check),
        ("lower", _lower),
        ("quantize", _quantize),
        ("partition", _partition),
        ("place", _place),
        ("assemble", _assemble),
        ("static check", _static_check),
        *((("audit", _audit),) if audit else ()),
    )
    done = []
    for name, work in passes:
        began = time.perf_counter()
        effect = work(state)
        done.append(PassLog(name, time.perf_counter() - began, effect))
        log.info("%-12s %7.3f s  %s", name, done[-1].seconds, effect)
    graph, integer, mapped, program = _have(state.graph), _have(state.integer), _have(state.mapped), _have(state.program)
    report = build_report(program, integer, mapped, state.snr)
    report["passes"] = [{"name": p.name, "seconds": round(p.seconds, 4), "effect": p.effect} for p in done]
    return Compilation(program, graph, integer, state.rows, state.snr, state.audit, tuple(done), report)


def _have(value: T | None) -> T:
    assert value is not None, "a pass was left out"
    return value


def _check(state: _State) -> str:
    state.network.verify()
    state.rows, state.graph = require_supported(state.network, state.chip, state.rewrites)
    native = sum(row.status == "native" for row in state.rows)
    return f"{len(state.rows)} layers, {native} native, {len(state.rows) - native} rewritten"


def _lower(state: _State) -> str:
    graph = _have(state.graph)  # the check has lowered it: it judges what the layers become
    graph = graph.with_(warnings=graph.warnings + tuple(refuse(graph, state.chip, state.sync)))
    state.graph = graph
    return f"{len(graph.populations)} populations, {len(graph.projections)} projections"


def _quantize(state: _State) -> str:
    contract = state.network.input_contract
    pixels = {"pixels": contract.pixel_range()} if contract.kind == "image" else {}
    if state.calibrate is not None:
        state.measured = measure_readout(_have(state.graph), state.calibrate)
    state.integer, state.snr = quantize(_have(state.graph), state.chip, **pixels, measured=state.measured)
    state.integer = state.integer.with_(warnings=(*state.integer.warnings, *low_precision(state.integer, state.snr, state.chip, state.allow_low_snr)))
    state.integer.verify()
    if state.sync == "settle":
        refuse_settle_sums(state.integer, state.chip, **pixels)
    for projection in state.integer.projections:
        if not np.issubdtype(np.asarray(projection.map.weight).dtype, np.integer):
            raise ModelError(f"projection {projection.source} -> {projection.target} still has real weights after quantising")
    finite = [p.snr_db for p in state.snr if math.isfinite(p.snr_db)]
    quality = f"lowest SNR {min(finite):.1f} dB" if finite else "exact"
    return f"{state.chip.arithmetic.weight_bits}-bit weights, {quality}"


def _partition(state: _State) -> str:
    contract = state.network.input_contract
    pixels = {"pixels": contract.pixel_range()} if contract.kind == "image" else {}
    state.integer = split_readout(_have(state.integer), state.chip, state.sync, **pixels)
    state.assignment = assign(_have(state.integer), state.chip, state.sync)
    count = len(state.assignment.partition.slices)
    return f"{count} slices on {len(set(state.assignment.core))} of {state.chip.memory.cores} cores ({state.assignment.strategy})"


def _place(state: _State) -> str:
    state.mapped = place_slices(_have(state.integer), state.chip, state.sync, _have(state.assignment), state.seed)
    before, after = state.mapped.traffic_hops
    return f"traffic x hops {before} -> {after}"


def _assemble(state: _State) -> str:
    graph, network = _have(state.integer), state.network
    contract = network.input_contract.as_dict()
    if contract["kind"] == "spikes" and state.sync != "free":
        contract["most_events"] = most_events(graph, state.chip, sync=state.sync)
    meta = {"name": network.name, "network": network.name, "input": contract, "workload": network.workload()}
    if state.measured is not None:
        meta["calibration"] = state.measured.as_dict()
    program = assemble(
        graph,
        state.chip,
        state.sync,
        _have(state.mapped).mapping,
        host=build_host(graph),
        meta=meta,
        rest="black" if state.rest is None else state.rest,
    )
    state.program = program
    return f"{len(program.route_core)} routes, {len(program.entry)} entries, {len(program.weights)} weights"


def _static_check(state: _State) -> str:
    program = _have(state.program)
    warnings = deadlock_warnings(program)
    state.program = replace(program, meta={**program.meta, "warnings": [*program.meta["warnings"], *warnings]})
    return f"{len(warnings)} possible deadlocks"


def _audit(state: _State) -> str:
    state.audit = report = audit(_have(state.program), _have(state.integer))
    return f"{report.synapses} of {report.synapses_in_all} synapses, {report.routes} routes, {report.neurons} neurons"
