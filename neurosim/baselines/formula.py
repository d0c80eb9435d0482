"""Counting formulas: the energy of spiking-network papers, and NeuroBench's metrics in our counts."""

from __future__ import annotations

import numpy as np

from neurosim.baselines.operations import CONNECTIONS, count_operations
from neurosim.baselines.workload import Workload
from neurosim.engine.events import Result
from neurosim.host import InputActivity
from neurosim.program import E_MAP, E_REGION, E_WEIGHT, M_POOL, OP_COINCIDENCE, OP_KIND, Program

MAC_FJ, AC_FJ = 4600.0, 900.0
"""FP32 multiply-add and add at 45 nm, 0.9 V (Horowitz, ISSCC 2014): arithmetic only."""
NOT_NEURONS = frozenset({"or_pool", "gate"})
"""Ops that pass spikes on: no activations of their own."""


def paper_formula_fj(macs: float, acs: float) -> float:
    """E = 4.6 pJ * MACs + 0.9 pJ * ACs: Spikformer (appendix C.2), QKFormer (6.6) and many others.

    ``macs``: operations on real values (the first layer); ``acs``: a weight added for a spike. No memory, routing, neuron update or leak.
    """
    return MAC_FJ * macs + AC_FJ * acs


def neurobench_metrics(
    program: Program, result: Result, *, entered: InputActivity | None = None, workload: Workload | None = None
) -> dict[str, float | None]:
    """NeuroBench's metrics (Yik et al., Nat. Commun. 16:1545, 2025) of a run; per sample where it says operations.

    * ``footprint_bytes``: weights as stored on the chip and neuron states, zeros included (None for a program without its weights).
    * ``connection_sparsity``: share of stored weights that are 0, those of poolings and identities left out (None likewise, and without others).
    * ``activation_sparsity``: share of activations that are 0: of all spiking neurons and steps those without a spike. In free and settle, which have
      no steps, a sample is one: neurons of the chip that never fired in it (None where the run kept no spikes).
    * ``dense``: synaptic operations of the connection layers if nothing were skipped, all steps, from the network as trained (None without a
      workload).
    * ``effective_macs``, ``effective_acs``: see ``neurosim.baselines.operations`` (None without ``entered``, which a run that kept no spikes has not,
      or without the program's weights).
    * ``activity_products``: increments and reads of activity-written synapses, products of activations that NeuroBench does not count.
    * ``membrane_updates``: neurons updated; where every synapse tests its neuron (free, settle), synapses served as well.
    """
    samples = len(result.scores)
    has_weights = len(program.weights) > 0
    stored = len(program.weights) * program.chip.arithmetic.weight_bits + int(program.neuron_ptr[-1]) * program.chip.arithmetic.state_bits
    stepped = program.sync in ("wavefront", "barrier")
    operations = count_operations(program, result, entered, workload) if entered is not None and has_weights else None
    written = np.zeros(program.cores, bool)
    written[program.slice_core[program.slice_op[:, OP_KIND] == OP_COINCIDENCE] if len(program.slice_op) else []] = True
    core = result.core
    return {
        "footprint_bytes": stored / 8 if has_weights else None,
        "connection_sparsity": _connection_sparsity(program) if has_weights else None,
        "activation_sparsity": _activation_sparsity(program, result, entered, stepped),
        "dense": None if workload is None else float(sum(workload.times(op) * op.macs for op in workload.ops if op.op in CONNECTIONS)),
        "effective_macs": None if operations is None else operations.macs / samples,
        "effective_acs": None if operations is None else operations.acs / samples,
        "activity_products": float(core["pairs"].sum() + core["op_reads"][written].sum()) / samples,
        "membrane_updates": float(core["updates"].sum() + (0 if stepped else core["synops"].sum())) / samples,
    }


def _connection_sparsity(program: Program) -> float | None:
    kept = np.ones(len(program.weights), bool)
    for row in program.entry[program.entry[:, E_MAP] == M_POOL].tolist():
        c0, c1 = program.region_box[row[E_REGION], :2]
        kept[row[E_WEIGHT] : row[E_WEIGHT] + int(c1 - c0)] = False
    return float(np.mean(program.weights[kept] == 0)) if kept.any() else None


def _activation_sparsity(program: Program, result: Result, entered: InputActivity | None, stepped: bool) -> float | None:
    populations = program.meta["populations"]
    neurons = np.diff(program.neuron_ptr)
    neurons_of = [p["kind"] == "spiking" and p.get("op", "") not in NOT_NEURONS for p in populations]
    firing = np.array(neurons_of, bool)[program.slice_population]
    samples = len(result.scores)
    places, active = int(neurons[firing].sum()) * samples, 0
    if stepped:
        places *= program.steps
        active = int(result.slice_spikes[:, firing].sum()) if result.slice_spikes.size else int(result.core["fires"].sum())
        told = {} if entered is None else entered.spikes
        of_host = [told[str(p["name"])] for p in populations if p["kind"] == "spiking" and str(p["name"]) in told]
        places += program.steps * samples * sum(counts.size for counts in of_host)
        active += sum(int(counts.sum()) for counts in of_host)
    elif entered is None:
        return None
    else:
        spikes = result.spikes[firing[result.spikes["slice"]]] if len(result.spikes) else result.spikes
        active = len(np.unique(spikes[["sample", "slice", "address"]]))
    return 1.0 - active / places if places else None
