"""Counting formulas: the energy of spiking-network papers, and NeuroBench's metrics in our counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.baselines.workload import Workload
from neurosim.engine.events import Result
from neurosim.program import Program

MAC_FJ, AC_FJ = 4600.0, 900.0
"""FP32 multiply-add and add at 45 nm, 0.9 V (Horowitz, ISSCC 2014): arithmetic only."""


def paper_formula_fj(macs: float, acs: float) -> float:
    """E = 4.6 pJ * MACs + 0.9 pJ * ACs: Spikformer (appendix C.2), QKFormer (6.6) and many others.

    ``macs``: operations on real values (the first layer); ``acs``: a weight added for a spike. No memory, routing, neuron update or leak.
    """
    return MAC_FJ * macs + AC_FJ * acs


def neurobench_metrics(program: Program, result: Result, *, host_macs_per_sample: float = 0.0, workload: Workload | None = None) -> dict[str, Any]:
    """NeuroBench's metrics (Yik et al., Nat. Commun. 16:1545, 2025) from counted events; per sample where it says operations.

    * ``footprint_bytes``: weights as stored on the chip and neuron states, zeros included (None for a program without its weights).
    * ``connection_sparsity``: share of stored weights that are 0 (None likewise).
    * ``activation_sparsity``: 1 - spikes / (neurons * steps * samples) over the populations on the chip that fire.
    * ``dense``: synaptic operations if nothing were skipped, all steps, from the network as trained (None without a workload).
    * ``effective_macs``: multiply-accumulates on values that are not binary: the host's, zero pixels included.
    * ``effective_acs``: synapses served for spikes and words that extra ops read; zero weights are in it on a chip that does not skip them.
    * ``membrane_updates``: neurons updated.
    """
    samples = len(result.scores)
    has_weights = len(program.weights) > 0
    neurons = np.diff(program.neuron_ptr)
    firing = np.array([program.meta["populations"][p]["kind"] == "spiking" for p in program.slice_population.tolist()], bool)
    steps = 1 if program.sync == "free" else program.steps
    places = int(neurons[firing].sum()) * steps * samples
    stored = len(program.weights) * program.chip.arithmetic.weight_bits + int(neurons.sum()) * program.chip.arithmetic.state_bits
    return {
        "footprint_bytes": stored / 8 if has_weights else None,
        "connection_sparsity": float(np.mean(program.weights == 0)) if has_weights else None,
        "activation_sparsity": 1.0 - float(result.core["fires"].sum()) / places if places else None,
        "dense": None if workload is None else workload.macs,
        "effective_macs": host_macs_per_sample,
        "effective_acs": float(result.core["synops"].sum() + result.core["op_reads"].sum()) / samples,
        "membrane_updates": float(result.core["updates"].sum()) / samples,
    }
