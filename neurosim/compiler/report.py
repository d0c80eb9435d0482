"""What ``compile --json`` prints: cores, memory against limits, synapses, splits, banks, rewrites, warnings, the host's share."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from neurosim.compiler.place import Mapped, chip_projections, slowest_loop, synapses
from neurosim.compiler.quantize import Precision
from neurosim.graph import Graph
from neurosim.host import host_macs
from neurosim.program import R_BANKS, Program


def build_report(program: Program, graph: Graph, mapped: Mapped, snr: list[Precision]) -> dict[str, Any]:
    """The report of one compilation as JSON; names are stable. ``exact``: populations whose numbers went to the chip as they are. ``ops``:
    populations with an extra op, their slices, and the cells of one bank of all of these.

    In barrier: offsets of the populations in steps, and their greatest as the latency."""
    memory, meta = program.chip.memory, program.meta
    served = [graph.projections[k] for k in chip_projections(graph)]
    on_host = host_macs(program)
    loop = slowest_loop(graph) if program.sync == "wavefront" else None
    dense = graph.dense_macs * graph.steps
    return {
        "network": meta["network"],
        "chip": program.chip.name,
        "sync": program.sync,
        "steps": program.steps,
        "cores_used": len(set(program.slice_core.tolist())),
        "cores": program.cores,
        "slices": program.slices,
        "neurons": int(program.neuron_ptr[-1]),
        "synapses": sum(synapses(p.map, graph.population(p.source).shape) for p in served),
        "weights": len(program.weights),
        "route_entries": int(program.route_ptr[program.slices]),
        "limits": {
            "neurons": memory.neurons.value,
            "bytes": memory.bytes.value,
            "route_entries": memory.route_entries.value,
            **{name: list(figure.value) for name in ("kernel_words", "neuron_words") if (figure := getattr(memory, name)) is not None},
        },
        "ops": _ops(program),
        "memory": meta["memory"],
        "splits": [
            {
                "population": s.population,
                "slices": s.channels * s.rows * s.columns,
                "axis": s.kind,
                "channels": s.channels,
                "rows": s.rows,
                "columns": s.columns,
                "duplicated_weight_bytes": s.duplicated_weight_bytes,
                "duplicated_packets": s.duplicated_packets,
            }
            for s in mapped.partition.splits
            if s.kind != "none"
        ],
        "banks": {
            "per_slice": program.slice_rule[:, R_BANKS].tolist(),
            "limited_by": [asdict(b) for b in mapped.banks],
            "loop": None if loop is None else asdict(loop),
            "rate_bound": min((b.bound for b in (*mapped.banks, *(() if loop is None else (loop,)))), default=1.0),
        },
        **({"barrier": {**meta["barrier"], "barrier_ps": program.barrier_ps}} if program.sync == "barrier" else {}),
        "placement": {"packing": mapped.strategy, "traffic_hops_before": mapped.traffic_hops[0], "traffic_hops": mapped.traffic_hops[1]},
        "exact": list(graph.exact),
        "precision": [
            {
                "source": p.source,
                "target": p.target,
                "op": p.op,
                "bits": p.bits,
                "shift": p.shift,
                "exact": math.isinf(p.snr_db),
                "snr_db": p.snr_db if math.isfinite(p.snr_db) else None,
            }
            for p in snr
        ],
        "rewrites": meta["rewrites"],
        "warnings": meta["warnings"],
        "host": {"macs": on_host, "dense_macs": dense, "share": on_host / dense if dense else 0.0},
        "digests": meta["digests"],
    }


def _ops(program: Program) -> list[dict[str, Any]]:
    rows = []
    for number, population in enumerate(program.meta["populations"]):
        chosen = program.slice_population == number
        if population["op"] and chosen.any():
            cells, neurons = int(program.slice_cells[chosen].sum()), int(np.diff(program.neuron_ptr)[chosen].sum())
            rows.append({"population": population["name"], "op": population["op"], "slices": int(chosen.sum()), "neurons": neurons, "cells": cells})
    return rows
