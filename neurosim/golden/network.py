"""Float64 evaluator of a Network as trained: no folding, no lowering, layer by layer, step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError, UnsupportedLayer
from neurosim.golden.kernels import real_spikes
from neurosim.golden.maps import apply_map
from neurosim.graph import Conv2d, Dense, Shape, Sparse, SumPool, TokenMix
from neurosim.network import Layer, Network
from neurosim.network.layers import EVENT_OPS
from neurosim.ops import Gate, MaxPool, coincide, group_of, windows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NetworkResult:
    """``scores`` [n, classes] float64: mean of the output over the steps (an integrator: its membrane after the last step).

    Arrays [n, T, c, y, x] by layer, of layers with a ``ModuleOrder`` [n, T, *shape of the module's tensor]: ``spikes`` (uint8, the value of each) of
    every lif, ``values`` of the layers asked for, and, when asked for, ``margins`` of every lif: |v - k * threshold| / threshold before the test for
    the nearest k of 1 .. max_spikes.
    """

    scores: Floats
    spikes: dict[str, NDArray[np.uint8]]
    values: dict[str, Floats]
    margins: dict[str, Floats]


Watch = Callable[[str, int, Floats, Floats], None]
"""(lif, step, what it fires [n, ...], margins [n, ...]), in the shape of its module's tensor where it has one."""


def run_network(
    net: Network,
    data: NDArray[Any],
    *,
    values: Collection[str] = (),
    spikes: bool = True,
    margins: bool = False,
    batch: int = 64,
    watch: Watch | None = None,
) -> NetworkResult:
    """Evaluate images [n, c, y, x] (raw pixels; [n, y, x] for one channel) or binary events [n, T, c, y, x].

    ``values``: layers whose outputs are kept. ``watch`` is told of every lif, step after step, layer after layer, whatever is kept. Raises DataError
    on a wrong shape, UnsupportedLayer on an op without a rule.
    """
    net.verify()
    contract = net.input_contract
    x = np.asarray(data)
    if contract.kind == "image" and x.ndim == 3 and contract.shape[0] == 1:
        x = x[:, None]
    wanted = contract.shape if contract.kind == "image" else (net.steps, *contract.shape)
    if x.shape[1:] != wanted:
        raise DataError(f"data has shape {x.shape}, the network {net.name} wants (n, {', '.join(map(str, wanted))})")
    parts = [_run_batch(net, x[k : k + batch], set(values), spikes, margins, watch) for k in range(0, max(len(x), 1), batch)]
    return NetworkResult(
        np.concatenate([p.scores for p in parts]),
        *(
            {name: np.concatenate([getattr(p, field)[name] for p in parts]) for name in getattr(parts[0], field)}
            for field in ("spikes", "values", "margins")
        ),
    )


def _run_batch(net: Network, data: NDArray[Any], keep: set[str], keep_spikes: bool, keep_margins: bool, watch: Watch | None) -> NetworkResult:
    n = len(data)
    constant = net.constant_layers()
    done = _last_readers(net, constant, keep)
    now: dict[str, Floats] = {}
    membranes: dict[str, Floats] = {}
    currents: dict[str, Floats] = {}
    past: dict[str, deque[Floats]] = {}
    scores = np.zeros((n, net.shape(str(net.output_name))[0]))
    spikes: dict[str, list[NDArray[np.uint8]]] = {}
    values: dict[str, list[Floats]] = {name: [] for name in keep}
    margins: dict[str, list[Floats]] = {}
    for step in range(net.steps):
        for layer in net.layers.values():
            if step and layer.name in constant:
                continue
            if layer.op in ("input", "spikes_input"):
                now[layer.name] = _input(net, data, step)
            elif layer.op == "lif":
                extra = sum((past[f"{s}->{t} {d}"][0] for s, t, d in net.connections if t == layer.name and step >= d), np.zeros(()))
                wanted = keep_margins or watch is not None
                now[layer.name], margin = step_lif(layer, now[layer.inputs[0]] + extra, membranes, currents, wanted)
                if keep_spikes:
                    spikes.setdefault(layer.name, []).append(now[layer.name].astype(np.uint8))
                if margin is not None and keep_margins:
                    margins.setdefault(layer.name, []).append(margin)
                if margin is not None and watch is not None:
                    watch(layer.name, step, _in_order(layer, now[layer.name]), _in_order(layer, margin))
            elif layer.op == "li":
                now[layer.name] = _li(layer, now[layer.inputs[0]], membranes, currents)
            elif layer.op == "delay":
                buffer = past.setdefault(layer.name, deque(maxlen=layer.params["steps"]))
                now[layer.name] = buffer[0] if len(buffer) == buffer.maxlen else np.zeros((n, *layer.shape))
                buffer.append(now[layer.inputs[0]])
            elif layer.op in EVENT_OPS:
                now[layer.name] = _event_op(layer, [now[x] for x in layer.inputs], membranes)
            else:
                now[layer.name] = linear_layer(layer, [now[x] for x in layer.inputs])
            for name in done.get(layer.name, ()):
                del now[name]
        for source, target, steps in net.connections:
            past.setdefault(f"{source}->{target} {steps}", deque(maxlen=steps)).append(now[source])
        for name in keep:
            values[name].append(now[name])
        scores += now[str(net.output_name)].reshape(n, -1)
    last = net.layers[str(net.output_name)].op == "li"
    return NetworkResult(
        now[str(net.output_name)].reshape(n, -1) if last else scores / net.steps,
        *({name: _in_order(net.layers[name], np.stack(parts, axis=1)) for name, parts in kept.items()} for kept in (spikes, values, margins)),
    )


def _last_readers(net: Network, constant: set[str], keep: set[str]) -> dict[str, list[str]]:
    """Layer -> the layers whose values nobody needs any more in a step once it is computed; what is constant is computed in the first step alone."""
    last = {x: layer.name for layer in net.layers.values() for x in layer.inputs}
    needed = {*keep, *(source for source, _, _ in net.connections), str(net.output_name)}
    needed |= {x for layer in net.layers.values() if layer.name not in constant for x in layer.inputs if x in constant}
    result: dict[str, list[str]] = {}
    for name, reader in last.items():
        if name not in needed:
            result.setdefault(reader, []).append(name)
    return result


def _in_order(layer: Layer, found: NDArray[Any]) -> NDArray[Any]:
    return found if layer.order is None else layer.order.arrange(found)


def _input(net: Network, data: NDArray[Any], step: int) -> Floats:
    contract = net.input_contract
    if contract.kind == "spikes":
        return np.array(data[:, step], np.float64)
    value = np.asarray(data, np.float64) / contract.scale
    if contract.mean:
        value = value - np.asarray(contract.mean)[:, None, None]
    if contract.std:
        value = value / np.asarray(contract.std)[:, None, None]
    return value


def linear_layer(layer: Layer, xs: list[Floats], *, bias: bool = True) -> Floats:
    """Output of a linear layer without memory for inputs [n, c, y, x]; without its bias when asked. Raises UnsupportedLayer for other ops."""
    x, p = xs[0], layer.params
    match layer.op:
        case "conv2d":
            y = apply_map(Conv2d(p["weight"], p["stride"], p["padding"], p["dilation"], p["groups"]), x)
            return y + p["bias"][:, None, None] if bias and p["bias"] is not None else y
        case "linear":
            y = apply_map(Dense(p["weight"], layer.shape), x)
            return y + p["bias"][:, None, None] if bias and p["bias"] is not None else y
        case "sparse":
            y = apply_map(Sparse(p["indptr"], p["targets"], p["weight"], layer.shape), x)
            return y + p["bias"] if bias and p["bias"] is not None else y
        case "batch_norm":
            weight, shift, mean, deviation = (a[:, None, None] for a in (p["weight"], p["bias"], p["mean"], np.sqrt(p["var"] + p["eps"])))
            return np.asarray((x - mean) / deviation * weight + shift if bias else x / deviation * weight)
        case "add":
            return np.asarray(sum(xs[1:], xs[0]))
        case "concat":
            return np.concatenate(xs, axis=1)
        case "reshape":
            return x.reshape(len(x), *layer.shape)
        case "token_mix":
            return apply_map(TokenMix(p["weight"]), x)
        case "mean":
            return np.asarray(x.mean(axis=(2, 3), keepdims=True))
        case "sum_pool" | "avg_pool":
            y = apply_map(SumPool(np.ones(x.shape[1]), p["kernel"], p["stride"], p["padding"]), x)
            return np.asarray(y / (p["kernel"][0] * p["kernel"][1])) if layer.op == "avg_pool" else y
        case "scale":
            y = np.asarray(x * p["factor"].reshape(-1, 1, 1))
            return y + p["bias"] if bias and p.get("bias") is not None else y
    raise UnsupportedLayer(layer.name, layer.op, "neurosim has no rule for this op", remedy="remove the layer or express it with linear ops and lif")


def _event_op(layer: Layer, xs: list[Floats], sums: dict[str, Floats]) -> Floats:
    """Output of max_pool, gate or attention for inputs [n, c, y, x]; ``sums`` keeps the masks of latched gates under their names."""
    p = layer.params
    if layer.op == "max_pool":
        return windows(xs[0], MaxPool(_shape(xs[0]), p["kernel"], p["stride"], p["padding"]), layer.shape)
    if layer.op == "attention":
        q, k, v = xs
        return np.asarray(p["scale"] * coincide(q, k, v, p["heads"]))
    data, mask = xs
    if p["latched"]:
        mask = sums[layer.name] = mask + sums.get(layer.name, np.zeros(()))
    groups = group_of(Gate(_shape(mask), p["count"]), layer.shape)
    opened = (mask >= p["count"]) != p["inverted"]
    return np.where(opened.reshape(len(mask), -1)[:, groups], data, 0.0)


def _shape(x: Floats) -> Shape:
    return x.shape[1], x.shape[2], x.shape[3]


def _li(layer: Layer, x: Floats, membranes: dict[str, Floats], currents: dict[str, Floats]) -> Floats:
    """The membrane above rest."""
    p, name = layer.params, layer.name
    current = p["input_scale"] * x
    if p["decay_current"] is not None:
        current = currents[name] = p["decay_current"] * currents.get(name, np.zeros(())) + current
    start = np.zeros(()) if p.get("v_init") is None else p["v_init"] - p["v_rest"]
    v = p["decay"] * membranes.get(name, start) + current + (0.0 if p["bias"] is None else p["bias"])
    membranes[name] = np.asarray(v)
    return membranes[name]


def start_membrane(layer: Layer) -> Floats:
    """Membrane of a lif layer at the start of a sample; broadcasts to its shape."""
    p = layer.params
    given = p.get("v_init")
    return np.asarray(p["v_reset"] if p["reset"] == "zero" else p["v_rest"], np.float64) if given is None else np.asarray(given)


def step_lif(layer: Layer, x: Floats, membranes: dict[str, Floats], currents: dict[str, Floats], margin: bool) -> tuple[Floats, Floats | None]:
    """One step of a lif layer for inputs [n, c, y, x]: (spikes, margins as in NetworkResult when asked); its state is kept under its name."""
    p, name = layer.params, layer.name
    hard = p["reset"] == "zero"
    current = p["input_scale"] * x
    if p["decay_current"] is not None:
        current = currents[name] = p["decay_current"] * currents.get(name, np.zeros(())) + current
    v = membranes.get(name, start_membrane(layer))
    v = p["v_rest"] + p["decay"] * (v - p["v_rest"]) + current if p["v_rest"] else p["decay"] * v + current
    if p["bias"] is not None:
        v = v + p["bias"]
    if p["floor"] is not None:
        v = np.maximum(v, p["floor"])
    threshold, most = p["threshold"], p.get("max_spikes", 1)
    fired = real_spikes(v, threshold, p["strict"], most)
    nearest = np.clip(np.round(v / threshold), 1, most) if most > 1 else 1
    distance = np.abs(v - nearest * threshold) / np.abs(threshold) if margin else None
    membranes[name] = np.where(fired > 0, p["v_reset"], v) if hard else v - fired * (threshold if p["reset_by"] is None else p["reset_by"])
    return fired, distance
