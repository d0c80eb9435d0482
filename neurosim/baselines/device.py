"""Analytic GPU or CPU: E = P_idle T + e_flop FLOP + e_L2 bits_L2 + e_mem bits_mem, T = max(FLOP / peak, bytes_mem / bandwidth, kernels * launch).

Choi et al.'s roofline of energy with a term for the L2 and one for launches. Every constant stands in a TOML file with source, status and range.
Every choice where the model leaves one is taken in the GPU's favour (docs/baselines.md lists them).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.baselines.workload import Workload
from neurosim.energy.uncertainty import log_uniform
from neurosim.errors import DataError

LARGEST_BATCH = 4096
_CAPACITIES = frozenset({"memory_bandwidth", "memory_bytes", "l2_bytes", "peak_flops"})  # more is cheaper; of all others less is


@dataclass(frozen=True)
class Constant:
    """A number with origin and sweep range (low = high = value where none is given)."""

    value: float
    low: float
    high: float
    source: str
    status: str


@dataclass(frozen=True)
class Device:
    """One GPU or CPU at one precision: ``constants`` by name (idle_w, memory_bandwidth, memory_bytes, l2_bytes, launch_s, l2_fj_per_bit,
    memory_fj_per_bit, peak_flops, flop_fj); ``value_bytes`` per weight or activation."""

    name: str
    description: str
    note: str
    precision: str
    value_bytes: int
    constants: dict[str, Constant]

    def __getitem__(self, name: str) -> float:
        return self.constants[name].value

    def at(self, end: Literal["cheap", "dear"]) -> Device:
        """The device with every constant at that end of its range."""
        chosen = {}
        for name, constant in self.constants.items():
            low = (end == "cheap") != (name in _CAPACITIES)
            chosen[name] = replace(constant, value=constant.low if low else constant.high)
        return replace(self, constants=chosen)


@dataclass(frozen=True)
class Estimate:
    """One inference out of a batch. ``latency_ps`` is that of the whole batch, ``bound`` what sets it."""

    batch: int
    energy_gross_fj: float
    energy_dynamic_fj: float
    """Gross minus idle power times time."""
    latency_ps: float
    bound: Literal["launch", "compute", "memory"]
    parts_fj: dict[str, float]
    """idle, flop, l2, memory; they add up to the gross energy."""


def devices() -> list[str]:
    """Names of the shipped devices."""
    return sorted(entry.name.removesuffix(".toml") for entry in (resources.files(__package__) / "devices").iterdir() if entry.name.endswith(".toml"))


def load_device(name: str, precision: str = "fp16") -> Device:
    """A shipped device at a precision. Raises DataError with the names there are."""
    if name not in devices():
        raise DataError(f"device {name!r} does not exist; there are {', '.join(devices())}")
    table = _read(name)
    if precision not in table["precision"]:
        raise DataError(f"device {name} has no figures for {precision}; there are {', '.join(table['precision'])}")
    chosen = table["precision"][precision]
    figures = table["figures"] | {key: value for key, value in chosen.items() if key != "bytes"}
    constants = {key: _constant(raw) for key, raw in figures.items()}
    return Device(name, table["description"], table["unit_note"], precision, int(chosen["bytes"]), constants)


def precisions(name: str) -> list[str]:
    """Precisions of which a device has figures, the usual one first. Raises DataError for an unknown device."""
    if name not in devices():
        raise DataError(f"device {name!r} does not exist; there are {', '.join(devices())}")
    return list(_read(name)["precision"])


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / "devices" / f"{name}.toml").read_text("utf-8"))


def _constant(raw: dict[str, Any]) -> Constant:
    value = float(raw["value"])
    return Constant(value, float(raw.get("low", value)), float(raw.get("high", value)), str(raw["source"]), str(raw["status"]))


def infer(device: Device, workload: Workload, batch: int = 1) -> Estimate:
    """Energy and latency of one inference in a batch; the steps of a layer are one launch (they share weights and go through it as one batch).

    Raises DataError when the batch is not positive or its tensors do not fit into the device's memory.
    """
    if batch < 1:
        raise DataError(f"batch {batch} must be at least 1")
    if _footprint(device, workload, batch) > device["memory_bytes"]:
        raise DataError(
            f"batch {batch} of {workload.name} needs more than the {device['memory_bytes'] / 1e9:.0f} GB of {device.name}; take a smaller one"
        )
    flop = batch * sum(workload.times(op) * op.flop for op in workload.ops)
    l2_bytes = device.value_bytes * sum(op.weights + batch * workload.times(op) * op.traffic for op in workload.ops)
    memory_bytes = _memory_bytes(device, workload, batch)
    launch = sum(op.kernels for op in workload.ops) * device["launch_s"]
    compute, memory = flop / device["peak_flops"], memory_bytes / device["memory_bandwidth"]
    seconds = max(launch, compute, memory)
    parts = {
        "idle": device["idle_w"] * seconds * 1e15,
        "flop": device["flop_fj"] * flop,
        "l2": device["l2_fj_per_bit"] * 8 * l2_bytes,
        "memory": device["memory_fj_per_bit"] * 8 * memory_bytes,
    }
    parts = {name: value / batch for name, value in parts.items()}
    gross = sum(parts.values())
    return Estimate(
        batch=batch,
        energy_gross_fj=gross,
        energy_dynamic_fj=gross - parts["idle"],
        latency_ps=seconds * 1e12,
        bound="launch" if seconds == launch else "compute" if seconds == compute else "memory",
        parts_fj=parts,
    )


def energy_draws(device: Device, workload: Workload, batch: int, draws: int, seed: int = 0) -> NDArray[np.float64]:
    """[draws] gross energy per inference in fJ with every constant drawn from its range around its value; sizes of memories stay as they are."""
    names = ("idle_w", "memory_bandwidth", "launch_s", "l2_fj_per_bit", "memory_fj_per_bit", "peak_flops", "flop_fj")
    low, value, high = (np.array([getattr(device.constants[name], end) for name in names]) for end in ("low", "value", "high"))
    idle, bandwidth, launch, l2, memory, peak, flop = log_uniform(low, value, high, draws, seed).T
    work = batch * sum(workload.times(op) * op.flop for op in workload.ops)
    l2_bytes = device.value_bytes * sum(op.weights + batch * workload.times(op) * op.traffic for op in workload.ops)
    memory_bytes = _memory_bytes(device, workload, batch)
    seconds = np.maximum(np.maximum(sum(op.kernels for op in workload.ops) * launch, work / peak), memory_bytes / bandwidth)
    energy: NDArray[np.float64] = (idle * seconds * 1e15 + flop * work + 8 * (l2 * l2_bytes + memory * memory_bytes)) / batch
    return energy


def best_batch(device: Device, workload: Workload) -> Estimate:
    """The least gross energy per inference over the batches 1, 2, 4, ... 4096 that fit into the memory."""
    sizes = [1 << k for k in range(LARGEST_BATCH.bit_length())]
    fitting = [size for size in sizes if _footprint(device, workload, size) <= device["memory_bytes"]]
    return min((infer(device, workload, size) for size in fitting or [1]), key=lambda estimate: estimate.energy_gross_fj)


def _footprint(device: Device, workload: Workload, batch: int) -> int:
    """Bytes of all weights and of the largest layer's tensors."""
    return device.value_bytes * (workload.weights + batch * max(workload.times(op) * (op.inputs + op.outputs) for op in workload.ops))


def _memory_bytes(device: Device, workload: Workload, batch: int) -> int:
    """Traffic beyond the L2: the input once; weights unless they stay in the L2 from one inference to the next; tensors of layers that do not fit."""
    size = device.value_bytes
    entry = sum(op.outputs for op in workload.ops if op.op in ("input", "spikes_input"))
    traffic = [batch * workload.times(op) * op.traffic for op in workload.ops]
    resident = size * (workload.weights + max(traffic)) <= device["l2_bytes"]
    spilled = sum(values for values in traffic if size * values > device["l2_bytes"])
    return size * (batch * entry + (0 if resident else workload.weights) + spilled)
