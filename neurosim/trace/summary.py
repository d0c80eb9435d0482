"""The figures of a run under stable names (``run --json``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import Result
from neurosim.errors import DataError
from neurosim.program import Program
from neurosim.trace.findings import findings
from neurosim.trace.stored import Priced

ROUTER_OUTPUT = 4


def summarise(
    program: Program,
    result: Result,
    energy: Priced,
    *,
    labels: NDArray[Any] | None = None,
    engine: str = "fast",
    streamed: bool = False,
    wall_s: float = 0.0,
    run_dir: str | None = None,
    realtime: bool = False,
    trace: Path | None = None,
) -> dict[str, Any]:
    """One JSON object; other people's scripts read its names (docs/trace.md).

    ``spikes``, ``synops`` (``pairs`` of them increments of activity-written synapses), ``op_reads`` (words that extra ops read), ``packets``,
    ``hops``, ``stalls_ps`` (waiting for credits, summed over all stations), ``saturations``, ``drops`` (spikes that a full FIFO discarded),
    ``losses`` (spikes that faulty links lost) and ``cut`` (samples that their window ended) are totals of the run. In settle ``spikes`` counts
    neurons whose output is not 0 at the end of their sample (``packets`` all that was sent on the way), ``retracted`` the spikes that took something
    back, ``cancelled`` the neurons that were due with nothing to say, ``unsettled`` streamed samples that still moved when the next one came.
    ``predictions`` is empty without a readout; ``latency_ps`` are medians over the samples (streamed: from the sample's first port service);
    ``energy_fj`` is per sample, and ``board_fj`` the chip's as its board sees it (None where the prices have no board); ``findings`` says in words
    what is wrong with the run (``neurosim.trace.findings``, for which ``realtime`` and ``trace`` are).
    Raises DataError when the labels do not fit the samples.
    """
    samples = len(result.scores)
    predictions = predict(result)
    if labels is not None and len(labels) != samples:
        raise DataError(f"{len(labels)} labels for {samples} samples; give one label per sample")
    hops = result.server["services"][program.server_kind == ROUTER_OUTPUT].sum()
    return {
        "samples": samples,
        "accuracy": None if labels is None or not result.scores.shape[1] else float(np.mean(predictions == np.asarray(labels))),
        "predictions": [int(p) for p in predictions],
        "spikes": int((result.sample if program.sync == "settle" else {"spikes": result.core["fires"]})["spikes"].sum()),
        "retracted": _total(result.core, "retracted"),
        "cancelled": _total(result.core, "cancelled"),
        "synops": int(result.core["synops"].sum()),
        "pairs": int(result.core["pairs"].sum()),
        "op_reads": int(result.core["op_reads"].sum()),
        "packets": int(result.core["packets_sent"].sum()),
        "hops": int(hops),
        "injected_spikes": int(result.sample["injected_spikes"].sum()),
        "injected_currents": int(result.sample["injected_currents"].sum()),
        "latency_ps": latencies(result),
        "throughput_per_s": throughput(program, result, streamed=streamed),
        "energy_fj": dict(energy.per_sample()),
        "board_fj": None if energy.board_fj is None else energy.board_fj / samples,
        "stalls_ps": int(result.server["blocked_ps"].sum()),
        "saturations": int(result.core["saturations"].sum()),
        "drops": int(result.channel["drops"].sum()),
        "losses": int(result.channel["losses"].sum()),
        "cut": int(result.sample["cut"].sum()),
        "unsettled": _total(result.sample, "unsettled"),
        "findings": [finding.plain() for finding in findings(program, result, energy, realtime=realtime, trace=trace)],
        "engine": engine,
        "sync": program.sync,
        "streamed": streamed,
        "realtime": realtime,
        "chip": program.chip.name,
        "wall_s": wall_s,
        "run_dir": run_dir,
    }


def _total(counters: Mapping[str, NDArray[np.int64]], name: str) -> int:
    """A counter that runs of before do not have."""
    return int(counters[name].sum()) if name in counters else 0


def predict(result: Result) -> NDArray[np.int64]:
    """[samples] class with the highest score, ties to the lowest; empty when the network has no readout."""
    if not result.scores.shape[1]:
        return np.zeros(0, np.int64)
    best: NDArray[np.int64] = np.argmax(result.scores, axis=1).astype(np.int64)
    return best


def latencies(result: Result) -> Mapping[str, float | None]:
    """Median first_spike, decision and completion, in ps after the sample's start.

    What came before any spike had reached the readout is no decision: such samples are left out, as those without a spike are of first_spike, and a
    median over none is None.
    """
    seen = result.first_spike_ps >= 0
    decided = seen & (result.decision_ps >= result.first_spike_ps)
    return {
        "first_spike": float(np.median((result.first_spike_ps - result.start_ps)[seen])) if seen.any() else None,
        "decision": float(np.median((result.decision_ps - result.start_ps)[decided])) if decided.any() else None,
        "completion": float(np.median(result.completion_ps - result.start_ps)),
    }


def throughput(program: Program, result: Result, *, streamed: bool) -> float | None:
    """Samples per second, only where the machine says so (docs/machine.md, section 8).

    Streamed: (N - 1) / (last - first decision). Isolated samples without steps (free, settle): 1 / (mean completion + t_reset). Else None.
    """
    samples = len(result.scores)
    if streamed:
        span = int(result.decision_ps.max() - result.decision_ps.min())
        return (samples - 1) * 1e12 / span if span > 0 else None
    if not program.stepped:
        return 1e12 / (float(result.completion_ps.mean()) + program.chip.timing.reset.value)
    return None
