"""The host section: the linear ops from a static image up to and including the first spike layer, as data inside a Program.

``meta["host"]``: {"input", "steps", "maps": [{source, target, operand, op, shape, weight, stride, ..., fraction_bits, channel_offset}],
"populations": [{name, shape, decay, decay_current, reset, strict, max_spikes, pool, ...}], "macs"}; ``pool``: the max_pool of a population or None;
``window_bias``: what its windows' cells begin with, or None; values named ``weight``, ``threshold``, ... are names of arrays in ``Program.host``.
Everything is integer: pixels times int64 weights in int64, bounded below 2**62 by the compiler, so no result depends on machine, order or threads.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE, ROUND_FLOOR, decay
from neurosim.errors import ModelError
from neurosim.graph import Conv2d, Dense, Graph, LinearMap, Pooling, Shape, Sparse, SumPool, TokenMix
from neurosim.ops import MaxPool, windows
from neurosim.program import Program

I64 = NDArray[np.int64]


def build_host(graph: Graph) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(JSON, arrays) of the host section of an integer Graph; without a static image both lists in the JSON are empty.

    Raises ModelError for a real-valued projection into an operand of a population on the chip: currents fill neurons' own cells.
    """
    arrays: dict[str, NDArray[Any]] = {}
    analog = {p.name for p in graph.populations if p.kind == "analog"}
    maps, macs = [], 0
    for k, p in enumerate(q for q in graph.projections if q.source in analog):
        shape = graph.population(p.source).shape
        out = p.map.out_shape(shape)
        if p.operand and not graph.population(p.target).host:
            raise ModelError(
                f"projection {p.source} -> {p.target} brings currents to the operand {p.operand!r} of a population on the chip, which has none for "
                "them; let the host compute the population"
            )
        arrays[f"map{k}.weight"] = np.asarray(p.map.weight, np.int64)
        entry = {
            "source": p.source, "target": p.target, "operand": p.operand, "op": p.map.op, "shape": list(out), "weight": f"map{k}.weight",
            "fraction_bits": p.fraction_bits, "channel_offset": p.channel_offset,
        }  # fmt: skip
        for key in ("stride", "padding", "dilation", "kernel"):
            if hasattr(p.map, key):
                entry[key] = list(getattr(p.map, key))
        if isinstance(p.map, Conv2d):
            entry["groups"] = p.map.groups
            if p.map.pool is not None:
                arrays[f"map{k}.rows"], arrays[f"map{k}.columns"] = p.map.pool.axes
                entry |= {"rows": f"map{k}.rows", "columns": f"map{k}.columns"}
        if isinstance(p.map, Sparse):
            arrays[f"map{k}.indptr"], arrays[f"map{k}.targets"] = p.map.indptr, p.map.targets
            entry |= {"indptr": f"map{k}.indptr", "targets": f"map{k}.targets"}
        maps.append(entry)
        macs += _macs(p.map, shape, out)
    populations = []
    for k, population in enumerate(q for q in graph.populations if q.host):
        rule = population.rule
        assert rule is not None
        entry = {
            "name": population.name, "shape": list(population.shape), "decay": rule.decay, "decay_current": rule.decay_current, "reset": rule.reset,
            "strict": rule.strict, "max_spikes": rule.max_spikes, "pool": None,
            "window_bias": None if population.window_bias is None else f"population{k}.window_bias",
        }  # fmt: skip
        if population.window_bias is not None:
            arrays[f"population{k}.window_bias"] = np.asarray(population.window_bias, np.int64)
        if isinstance(population.op, MaxPool):
            entry["pool"] = asdict(population.op)
        for key in ("threshold", "bias", "reset_by", "floor", "v_init"):
            value = getattr(rule, key)
            entry[key] = None if value is None else f"population{k}.{key}"
            if value is not None:
                arrays[f"population{k}.{key}"] = np.asarray(value, np.int64)
        populations.append(entry)
    return {"input": next(iter(analog), None), "steps": graph.steps, "maps": maps, "populations": populations, "macs": macs}, arrays


def host_macs(program: Program) -> float:
    """Multiply-accumulates of the host section for one sample: dense, once per image, whatever the number of steps."""
    return float(program.meta["host"].get("macs", 0))


def run_host(program: Program, images: NDArray[Any]) -> tuple[dict[str, I64], dict[str, NDArray[np.uint8]]]:
    """(currents, spikes) for raw pixels [n, c, y, x].

    Currents: population on the chip -> int64 [n, c, y, x], the same in every step. Spikes: host population -> uint8 [n, T, c, y, x], values of up to
    max_spikes.
    """
    meta, arrays = program.meta["host"], program.host
    shapes = {p["name"]: tuple(p["shape"]) for p in program.meta["populations"]}
    pools = {p["name"]: _pool(p["pool"]) for p in meta["populations"] if p["pool"] is not None}
    pixels = images.astype(np.int64)
    sums: dict[str, I64] = {}
    seen: dict[str, I64] = {}  # what a max_pool chooses from
    for entry in meta["maps"]:
        part = apply_integer(_map(entry, arrays), pixels)
        bits = entry["fraction_bits"]
        if bits:
            part = (part + (1 << (bits - 1))) >> bits  # to the nearest unit of the target, halves upward
        target = entry["target"]
        cells, shape = (seen, pools[target].source) if entry["operand"] else (sums, shapes[target])
        total = cells.setdefault(target, np.zeros((len(pixels), *shape), np.int64))
        total[:, entry["channel_offset"] : entry["channel_offset"] + part.shape[1]] += part
    spikes = {}
    for p in meta["populations"]:
        current = sums.pop(p["name"], np.zeros((len(pixels), *p["shape"]), np.int64))
        if p["name"] in pools:
            wide = seen.get(p["name"], np.zeros((len(pixels), *pools[p["name"]].source), np.int64))
            if p["window_bias"] is not None:
                wide = wide + arrays[p["window_bias"]]
            current = current + windows(wide, pools[p["name"]], shapes[p["name"]])
        spikes[p["name"]] = _fire(p, arrays, current, meta["steps"])
    return sums, spikes


def _pool(entry: dict[str, Any]) -> MaxPool:
    return MaxPool(*(tuple(entry[name]) for name in ("source", "kernel", "stride", "padding")))


# The decay is written for one neuron; with floor rounding it has no branch on values, so it acts on whole arrays (hence the ignores).
def _fire(entry: dict[str, Any], arrays: dict[str, NDArray[Any]], current: I64, steps: int) -> NDArray[np.uint8]:
    """T steps of a host population under a constant current, by the rule of docs/machine.md section 4 with floor rounding and no saturation."""
    threshold, bias = arrays[entry["threshold"]], arrays[entry["bias"]]
    reset_by = threshold if entry["reset_by"] is None else arrays[entry["reset_by"]]
    start = entry.get("v_init")  # Programs of version 3 have none
    v, i = np.zeros_like(current) if start is None else np.broadcast_to(arrays[start], current.shape), np.zeros_like(current)
    result = np.zeros((len(current), steps, *current.shape[1:]), np.uint8)
    for step in range(steps):
        kept = entry["decay_current"]
        i = current if kept is None else decay(i, DECAY_ONE - kept, ROUND_FLOOR) + current  # type: ignore[arg-type]
        v = decay(v, DECAY_ONE - entry["decay"], ROUND_FLOOR) + i + bias  # type: ignore[arg-type]
        if entry["floor"] is not None:
            v = np.maximum(v, arrays[entry["floor"]])
        count = np.clip((v - int(entry["strict"])) // threshold, 0, entry["max_spikes"])  # arithmetic.spike_count over an array
        result[:, step] = count
        v = np.where(count > 0, 0 if entry["reset"] == "zero" else v - count * reset_by, v)
    return result


def host_map(program: Program, number: int) -> LinearMap:
    """Map ``number`` of the host section, in the order of the projections of real-valued inputs."""
    return _map(program.meta["host"]["maps"][number], program.host)


def _map(entry: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LinearMap:
    weight, shape = arrays[entry["weight"]], tuple(entry["shape"])

    def two(key: str) -> tuple[int, int]:
        return entry[key][0], entry[key][1]

    match entry["op"]:
        case "conv2d" | "pooled_conv2d":
            pool = Pooling(arrays[entry["rows"]], arrays[entry["columns"]]) if "rows" in entry else None
            return Conv2d(weight, two("stride"), two("padding"), two("dilation"), entry["groups"], pool)
        case "dense":
            return Dense(weight, shape)
        case "token_mix":
            return TokenMix(weight)
        case "sparse":
            return Sparse(arrays[entry["indptr"]], arrays[entry["targets"]], weight, shape)
    return SumPool(weight, two("kernel"), two("stride"), two("padding"))


def _macs(m: LinearMap, source: Shape, out: Shape) -> int:
    match m:
        case Conv2d():
            sums = 0 if m.pool is None else math.prod(m.pooled(source))  # as those of a sum-pool: one per output
            return sums + math.prod(out) * int(np.prod(m.weight.shape[1:]))
        case TokenMix():
            return math.prod(out) * source[1] * source[2]
        case SumPool():
            return math.prod(out)
    return int(m.weight.size)


def _pooled(x: I64, pool: Pooling) -> I64:
    """Rows and columns added up as the pooling says."""
    n, (channels, height, width) = len(x), pool.out_shape(x.shape[1:])
    rows, columns = (np.flatnonzero(axis >= 0) for axis in pool.axes)
    total = np.zeros((height, width, n, channels), np.int64)
    np.add.at(total, (pool.rows[rows][:, None], pool.columns[columns]), x[:, :, rows[:, None], columns].transpose(2, 3, 0, 1))
    return total.transpose(2, 3, 0, 1)


def apply_integer(m: LinearMap, x: I64) -> I64:
    """m(x) for int64 [n, c, y, x], tap by tap in int64."""
    n, shape = len(x), m.out_shape(x.shape[1:])
    match m:
        case Dense():
            return np.asarray(x.reshape(n, -1) @ m.weight.T).reshape(n, *shape)
        case TokenMix():
            heads, tokens, _ = m.weight.shape
            return np.asarray(np.matmul(x.reshape(n, heads, -1, tokens), m.weight.transpose(0, 2, 1))).reshape(n, *shape)
        case Sparse():
            y = np.zeros((math.prod(shape), n), np.int64)
            rows = np.repeat(np.arange(len(m.indptr) - 1), np.diff(m.indptr))
            np.add.at(y, m.targets, x.reshape(n, -1).T[rows] * m.weight[:, None])
            return np.ascontiguousarray(y.T).reshape(n, *shape)
        case Conv2d():
            x = x if m.pool is None else _pooled(x, m.pool)
            kernel, dilation, groups = m.weight.shape[2:], m.dilation, m.groups
            weight = m.weight.reshape(groups, shape[0] // groups, -1, *kernel)
        case SumPool():
            kernel, dilation, groups = m.kernel, (1, 1), len(m.weight)
            weight = np.broadcast_to(m.weight[:, None, None, None, None], (groups, 1, 1, *kernel))
    padded = np.pad(x, ((0, 0), (0, 0), (m.padding[0],) * 2, (m.padding[1],) * 2))
    total = np.zeros((n, groups, shape[0] // groups, shape[1] * shape[2]), np.int64)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            rows = ky * dilation[0] + m.stride[0] * np.arange(shape[1])
            columns = kx * dilation[1] + m.stride[1] * np.arange(shape[2])
            seen = padded[:, :, rows[:, None], columns].reshape(n, groups, -1, shape[1] * shape[2])
            total += np.matmul(weight[..., ky, kx], seen)
    return total.reshape(n, *shape)
