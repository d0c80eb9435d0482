"""A mapped integer Graph -> Program: neuron arrays, routes, fabric and the JSON that goes with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE, NO_CURRENT, NO_FLOOR, RESET_SUBTRACT, RESET_ZERO
from neurosim.chip import Chip
from neurosim.compiler.emit.fabric import build_fabric
from neurosim.compiler.emit.rest import BLACK, with_rest
from neurosim.compiler.emit.routes import Routes, build_routes
from neurosim.compiler.place import Box, Mapping, core_memory, map_graph, offsets, region_arrays
from neurosim.errors import ModelError
from neurosim.graph import Graph, NeuronRule, Population
from neurosim.program import Program

I64 = NDArray[np.int64]


def assemble(
    graph: Graph,
    chip: Chip,
    sync: str,
    mapping: Mapping | None = None,
    *,
    host: tuple[dict[str, Any], dict[str, NDArray[Any]]] | None = None,
    meta: dict[str, Any] | None = None,
    rest: str | Path | NDArray[Any] = BLACK,
) -> Program:
    """The Program of an integer graph, with a given mapping or, without one, the compiler's own.

    ``host`` is what ``neurosim.host.build_host`` returns; ``meta`` is added to the Program's JSON (input contract, network name, memory, warnings).
    ``rest``: settle alone, the reference of its rest state (emit.rest).
    Raises ModelError when a weight, threshold or bias is no whole number; in barrier UnsupportedLayer for a cycle with less delay than hops.
    """
    if mapping is None:
        mapping = map_graph(graph, chip, sync).mapping
    offset = offsets(graph) if sync == "barrier" else dict.fromkeys((p.name for p in graph.populations), 0)
    routes = build_routes(graph, sync, mapping)
    if routes.source_port.max() >= len(chip.noc.ports):
        raise ModelError(f"mapping.ports names port {routes.source_port.max()}, {chip.name} has {len(chip.noc.ports)} (noc.ports), numbered from 0")
    if dead := sorted(set(mapping.core) & set(chip.memory.dead_cores)):
        raise ModelError(f"the mapping uses core {dead[0]}, which {chip.name} lists in memory.dead_cores; map its slices to cores that are alive")
    fabric = build_fabric(chip, sync, axon_in_depth(chip, mapping, routes))
    host_meta, host_arrays = host if host is not None else ({}, {})
    populations = [graph.populations[piece.population] for piece in mapping.slices]
    boxes = [piece.box for piece in mapping.slices]
    parameters = [_parameters(population, box) for population, box in zip(populations, boxes, strict=True)]
    columns = [np.concatenate([np.zeros(0, np.int64)] + [p[k] for p in parameters]) for k in range(5)]
    header = {
        "name": graph.name,
        "network": graph.name,
        "sync": sync,
        "steps": graph.steps,
        "class_names": list(graph.class_names),
        "input": {},
        "populations": [
            {"name": p.name, "shape": list(p.shape), "kind": p.kind, "host": p.host, "op": "" if p.op is None else p.op.name}
            | ({} if p.order is None or not p.order.differs(p.shape) else {"module": p.order.plain()})
            for p in graph.populations
        ],
        "projections": [
            {"source": p.source, "target": p.target, "op": p.map.op, "operand": p.operand, "layers": list(p.layers)} for p in graph.projections
        ],
        "rewrites": [{"layer": r.layer, "op": r.op, "status": r.status, "text": r.text} for r in graph.rewrites],
        "warnings": list(graph.warnings),
        "memory": core_memory(graph, chip, sync, mapping, routes.entry, routes.route_ptr),
        "dense_macs": graph.dense_macs,
        "digests": {"graph": graph_digest(graph)},
        "host": host_meta,
    }
    if sync == "barrier":
        header["barrier"] = {"offsets": offset, "latency_steps": max(offset.values())}
    header.update(meta or {})
    program = Program(
        meta=header,
        chip=chip,
        slice_core=np.array(mapping.core, np.int64),
        slice_population=np.array([piece.population for piece in mapping.slices], np.int64),
        slice_box=np.array(boxes, np.int64).reshape(-1, 6),
        slice_rule=np.array([_rule(p, b) for p, b in zip(populations, mapping.banks, strict=True)], np.int64).reshape(-1, 7),
        slice_offset=np.array([offset[graph.populations[piece.population].name] for piece in mapping.slices], np.int64),
        neuron_ptr=np.cumsum([0] + [len(p[0]) for p in parameters]).astype(np.int64),
        threshold=columns[0],
        bias=columns[1],
        floor=columns[2],
        reset_by=columns[3],
        v_init=columns[4],
        **region_arrays(graph, mapping.slices),
        **vars(routes),
        **vars(fabric),
        host=host_arrays,
    )
    return with_rest(program, graph, rest) if sync == "settle" else program


def axon_in_depth(chip: Chip, mapping: Mapping, routes: Routes) -> I64:
    """[cores] depth of axon-in: fixed under link flow, one window per sender and port that has a route to the core under end-to-end flow."""
    if chip.noc.flow == "link":
        return np.full(chip.memory.cores, chip.noc.axon_in, np.int64)
    senders: list[set[int]] = [set() for _ in range(chip.memory.cores)]
    for s in range(len(routes.route_ptr) - 1):
        for core in routes.route_core[routes.route_ptr[s] : routes.route_ptr[s + 1]]:
            senders[int(core)].add(mapping.core[s] if s < len(mapping.core) else -1 - int(routes.source_port[s]))
    return np.array([max(1, chip.noc.window * len(found)) for found in senders], np.int64)


def rule_of(population: Population) -> NeuronRule:
    """The population's rule; a readout without one accumulates without leak, bias or threshold."""
    return population.rule if population.rule is not None else NeuronRule(np.zeros(1, np.int64), np.zeros(1, np.int64))


def _rule(population: Population, banks: int) -> list[int]:
    rule = rule_of(population)
    decay_i = NO_CURRENT if rule.decay_current is None else DECAY_ONE - rule.decay_current
    reset = RESET_SUBTRACT if rule.reset == "subtract" else RESET_ZERO
    readout = 0 if population.kind != "readout" else 2 if population.part_of else 1
    return [DECAY_ONE - rule.decay, decay_i, int(rule.strict), reset, readout, banks, rule.max_spikes]


def _parameters(population: Population, box: Box) -> tuple[I64, ...]:
    """Threshold, bias, floor, reset_by, v_init of the neurons of a box, in local order. A readout is never tested: threshold and reset_by 0."""
    rule = rule_of(population)
    readout = population.kind == "readout"
    threshold = np.zeros(1, np.int64) if readout else rule.threshold
    reset_by = threshold if rule.reset_by is None or readout else rule.reset_by
    floor = np.array([NO_FLOOR], np.int64) if rule.floor is None else rule.floor
    start = np.zeros(1, np.int64) if rule.v_init is None else rule.v_init
    values = (("threshold", threshold), ("bias", rule.bias), ("floor", floor), ("reset_by", reset_by), ("v_init", start))
    return tuple(_expand(population, box, name, np.asarray(value)) for name, value in values)


def _expand(population: Population, box: Box, name: str, value: NDArray[Any]) -> I64:
    whole = np.asarray(value).astype(np.int64)
    if not np.array_equal(whole, value):
        raise ModelError(f"population {population.name}: {name} is not a whole number; quantise the graph before assembling it")
    part = np.broadcast_to(whole, population.shape)[box[0] : box[1], box[2] : box[3], box[4] : box[5]]
    return np.ascontiguousarray(part.transpose(1, 2, 0)).ravel()


def graph_digest(graph: Graph) -> str:
    """SHA-256 of what the graph computes: shapes, rules, maps, delays and shifts, in hexadecimal."""
    h = hashlib.sha256(f"{graph.name} {graph.steps}".encode())
    for p in graph.populations:
        h.update(repr((p.name, p.shape, p.kind, p.host, p.op)).encode())
        _hash_fields(h, vars(p.rule) if p.rule is not None else {})
        _hash_fields(h, {"scale": p.scale})
    for q in graph.projections:
        h.update(repr((q.source, q.target, q.delay, q.shift, q.channel_offset, q.fraction_bits, q.operand, q.map.op)).encode())
        _hash_fields(h, vars(q.map))
    return h.hexdigest()


def _hash_fields(h: Any, values: dict[str, Any]) -> None:
    for name, value in sorted(values.items()):
        h.update(name.encode())
        if isinstance(value, np.ndarray):
            h.update(repr((value.dtype.str, value.shape)).encode())
            h.update(np.ascontiguousarray(value).tobytes())
        else:
            h.update(repr(value).encode())
