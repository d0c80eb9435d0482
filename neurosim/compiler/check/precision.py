"""Layers whose weights keep too little of what was trained, told before the network runs."""

from __future__ import annotations

from collections.abc import Sequence

from neurosim.chip import Chip
from neurosim.compiler.quantize import Precision
from neurosim.errors import UnsupportedLayer
from neurosim.graph import Graph

WARN_DB, LEAST_DB = 10.0, 3.0
"""Signal-to-noise ratio of a projection's weights below which there is a warning, and below which there is a refusal: at 3 dB half is noise."""
WEIGHTED = ("conv2d", "linear", "token_mix", "sum_pool", "avg_pool", "mean", "sparse")
"""Ops of layers to which a projection is put down."""


def low_precision(graph: Graph, snr: Sequence[Precision], chip: Chip, allowed: bool) -> list[str]:
    """A warning per population of the integer graph for its worst projection below WARN_DB; whole numbers are exempt.

    Raises UnsupportedLayer for the worst below LEAST_DB, unless that is ``allowed``.
    """
    worst: dict[str, tuple[Precision, str]] = {}
    for found, projection in zip(snr, graph.projections, strict=True):
        if graph.integers is not None or found.target in graph.exact or graph.population(found.source).kind == "analog":
            continue
        if found.snr_db < (worst[found.target][0].snr_db if found.target in worst else WARN_DB):
            layers = [r.layer for r in graph.rewrites if r.layer in projection.layers and r.op in WEIGHTED]
            worst[found.target] = found, layers[-1] if layers else found.target
    warnings = []
    for target, (found, layer) in sorted(worst.items(), key=lambda item: item[1][0].snr_db):
        readout = graph.population(target).kind == "readout"
        remedy = (
            "set the readout's scale from data (--calibrate DATA), or use more bits (--set arithmetic.state_bits, arithmetic.weight_bits)"
            if readout
            else "use more bits (--set arithmetic.weight_bits, arithmetic.state_bits), or train with quantised weights"
        )
        reason = f"its weights from {found.source} to {target} keep an SNR of {found.snr_db:.1f} dB, {found.bits} bits, on {chip.name}"
        if found.snr_db < LEAST_DB and not allowed:
            raise UnsupportedLayer(
                layer, "weights", reason, value=f"{found.snr_db:.1f} dB", limit=f"{LEAST_DB:g} dB", remedy=f"{remedy}, or allow it (--allow-low-snr)"
            )
        warnings.append(f"{layer}: {reason}; {remedy}")
    return warnings
