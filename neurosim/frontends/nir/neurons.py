"""NIR nodes with a state. Each function states its equation and its step; parameters may differ from neuron to neuron.

Potentials are moved so that a neuron resets to 0 (subtracting: rests at 0): v' = v - v_reset (v - v_leak), v_threshold' and floor' alike, and what
the leak toward v_leak then adds in every step is a bias. A sample begins at v_leak, where a neuron rests, unless the reader is told otherwise.
Neurons with different time constants become layers of their own, joined again behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ModelError, UnsupportedLayer
from neurosim.frontends.nir.maps import held_back, scaled, stated_bias
from neurosim.frontends.nir.reading import Reading
from neurosim.frontends.nir.source import FIRING
from neurosim.graph import Shape

Floats = NDArray[np.float64]
MOST_GROUPS = 64
"""Distinct time constants of one node: each becomes a population of its own."""


@dataclass(frozen=True)
class Rule:
    """Parameters per neuron, (c, y, x). ``rate``, ``slow``: shares of membrane and current that are renewed in a step (slow None: no current).

    ``drive``: what one unit of input adds to the membrane (or to the current, in the membrane's unit).
    """

    rate: Floats
    drive: Floats
    leak: Floats
    slow: Floats | None = None

    def of(self, which: NDArray[np.int64]) -> Rule:
        """That of some neurons, (n, 1, 1)."""
        return Rule(*(None if a is None else some(a, which) for a in (self.rate, self.drive, self.leak, self.slow)))  # type: ignore[arg-type]


def some(a: Floats, which: NDArray[np.int64]) -> Floats:
    """Entries of an array in the flat order (c, y, x), as (n, 1, 1)."""
    return a.reshape(-1)[which].reshape(-1, 1, 1)


def _integrator(b: Reading, node: str, shape: Shape) -> Rule:
    """IF, I: dv/dt = R I: v <- v + dt R I (then the test)."""
    return Rule(np.zeros(shape), b.dt * b.per_neuron(node, "r", shape, 1.0), np.zeros(shape))


def _leaky(b: Reading, node: str, shape: Shape) -> Rule:
    """LIF, LI: tau dv/dt = (v_leak - v) + R I: v <- v + dt/tau (v_leak - v + R I) (then the test)."""
    rate = _rate(b, node, "tau", shape)
    return Rule(rate, rate * b.per_neuron(node, "r", shape, 1.0), b.per_neuron(node, "v_leak", shape, 0.0))


def _current_based(b: Reading, node: str, shape: Shape) -> Rule:
    """CubaLIF, CubaLI: tau_syn dI/dt = -I + w_in S: I <- I + dt/tau_syn (w_in S - I); then as LIF with tau_mem and the new I."""
    slow, rate = _rate(b, node, "tau_syn", shape), _rate(b, node, "tau_mem", shape)
    drive = rate * b.per_neuron(node, "r", shape, 1.0) * slow * b.per_neuron(node, "w_in", shape, 1.0)
    return Rule(rate, drive, b.per_neuron(node, "v_leak", shape, 0.0), slow)


def _threshold(b: Reading, node: str, shape: Shape) -> Rule:
    """Threshold: z = 1 where x > threshold: a membrane that keeps nothing."""
    return Rule(np.ones(shape), np.ones(shape), np.zeros(shape))


RULES: dict[str, Callable[[Reading, str, Shape], Rule]] = {
    "IF": _integrator, "I": _integrator, "LIF": _leaky, "LI": _leaky, "CubaLIF": _current_based, "CubaLI": _current_based, "Threshold": _threshold,
}  # fmt: skip


def _rate(b: Reading, node: str, key: str, shape: Shape) -> Floats:
    """The share of a state that a step renews: dt / tau, at most 1; 1 - exp(-dt/tau) with the solver exact."""
    tau = b.per_neuron(node, key, shape)
    if tau.min() <= 0:
        raise ModelError(f"node {node}: {key} {tau.min():g} s is not above 0; export the graph again")
    if b.exact:
        return -np.expm1(-b.dt / tau)
    if tau.min() < b.dt * (1 - 1e-6):
        squared = f"; norse writes dt / tau_mem_inv, for which step_time is dt squared, {b.dt**2:g} s" if tau.min() >= b.dt**2 and b.dt < 1 else ""
        raise ModelError(
            f"node {node}: {key} {tau.min():g} s is shorter than step_time {b.dt:g} s, so Euler's rule diverges; use a shorter step_time or "
            f"solver exact{squared}"
        )
    return np.minimum(b.dt / tau, 1.0)


def neurons(b: Reading, node: str, source: str) -> str:
    """The layer (or layers) of one node that has a state; returns the one that holds its output."""
    kind = b.nodes[node].kind
    fires = kind in FIRING
    if fires and b.readout == "membrane" and _is_last(b, node):
        fires = False
        b.note(f"node {node} neither tests nor resets: its membranes are the scores (readout membrane)")
    if not fires:
        source = b.flat(node, source)
    shape = b.net.shape(source)
    rule = RULES[kind](b, node, shape)
    bias, source = _constant_input(b, node, source, rule)
    keys = np.stack([rule.rate.ravel(), np.zeros(rule.rate.size) if rule.slow is None else rule.slow.ravel()], axis=1)
    groups, member = np.unique(keys, axis=0, return_inverse=True)
    if len(groups) == 1:
        layer = _layer(b, node, node, source, rule, bias, _potentials(b, node, shape) if fires else None)
        b.entries[node] = [_entry(b, node, layer, rule.drive, None)] if fires else [_closed(b, node)]
        return layer
    taus = b.dt / np.maximum(groups[:, 0], 1e-30)
    if not fires or len(groups) > MOST_GROUPS:
        raise UnsupportedLayer(
            node, kind, f"tau ranges from {taus.min():g} to {taus.max():g} s within the node", value=f"{len(groups)} time constants",
            limit=MOST_GROUPS if fires else 1, remedy="split the node by its values",
        )  # fmt: skip
    b.note(f"node {node}: tau ranges from {taus.min():g} to {taus.max():g} s; its {len(groups)} time constants became layers of their own")
    potentials = _potentials(b, node, shape)
    parts, b.entries[node] = [], []
    for k in range(len(groups)):
        which = np.flatnonzero(member.ravel() == k)
        name = b.free_name(f"{node}.{k}")
        part = rule.of(which)
        mine = _gather(b, f"{name}.in", source, which)
        layer = _layer(b, node, name, mine, part, some(bias, which), {key: some(value, which) for key, value in potentials.items()})
        b.entries[node].append(_entry(b, node, layer, part.drive, which))
        indptr = np.arange(len(which) + 1)
        parts.append(b.net.sparse(b.free_name(f"{name}.out"), layer, indptr, which, np.ones(len(which)), shape))
    return b.net.add(node, *parts)


NEURONS: dict[str, Callable[[Reading, str, str], str]] = dict.fromkeys(RULES, neurons)


def _is_last(b: Reading, node: str) -> bool:
    """Whether the scores are this node's, through nothing but a Flatten."""
    waiting = b.source.behind(node)
    while len(waiting) == 1 and b.nodes[waiting[0]].kind in ("Flatten", "Identity"):
        waiting = b.source.behind(waiting[0])
    return waiting == [b.wanted]


def _potentials(b: Reading, node: str, shape: Shape) -> dict[str, Floats]:
    """v_threshold and v_reset per neuron."""
    if b.nodes[node].kind == "Threshold":
        return {"v_threshold": b.per_neuron(node, "threshold", shape), "v_reset": np.zeros(shape)}
    return {"v_threshold": b.per_neuron(node, "v_threshold", shape, 1.0), "v_reset": b.per_neuron(node, "v_reset", shape, 0.0)}


def _layer(b: Reading, node: str, name: str, source: str, rule: Rule, bias: Floats, potentials: dict[str, Floats] | None) -> str:
    """A lif layer, or without ``potentials`` an integrator whose scores are above v_leak."""
    factor = float(rule.drive.flat[0])
    if np.any(rule.drive != factor):
        source, factor = scaled(b, b.free_name(f"{name}.scale"), source, rule.drive), 1.0
    rule_of: dict[str, Any] = {
        "decay": 1.0 - float(rule.rate.flat[0]), "input_scale": factor,
        "decay_current": None if rule.slow is None else 1.0 - float(rule.slow.flat[0]),
    }  # fmt: skip
    if potentials is None:
        if np.any(rule.leak):
            b.note(f"node {node}: scores are its membranes above v_leak")
        start = None if isinstance(b.v_init, str) else _short(b.v_init - rule.leak)
        return b.net.li(name, source, bias=_short(bias) if np.any(bias) else None, v_init=start, **rule_of)
    threshold, v_reset = potentials["v_threshold"], potentials["v_reset"]
    subtract = b.reset == "subtract" and b.nodes[node].kind != "Threshold"
    origin = rule.leak if subtract else v_reset
    if np.any(origin):
        b.note(f"node {node}: potentials are shifted so that it {'rests' if subtract else 'resets'} at 0")
    total = bias + rule.rate * (rule.leak - origin)
    start = _start(b, node, rule, v_reset, origin) - origin
    if np.any(start):
        b.note(f"node {node} begins a sample at {b.v_init if not isinstance(b.v_init, str) else 'v_leak' if b.v_init == 'rest' else 'v_reset'}")
    return b.net.lif(
        name, source, threshold=_short(threshold - origin), reset="subtract" if subtract else "zero", strict=b.strict,
        floor=None if b.floor is None else _short(b.floor - origin), bias=_short(total) if np.any(total) else None,
        v_init=_short(start) if np.any(start) else None,
        reset_by=_short(threshold - v_reset) if subtract and (np.any(origin) or np.any(v_reset)) else None,
        max_spikes=1 if b.nodes[node].kind == "Threshold" else b.max_spikes, **rule_of,
    )  # fmt: skip


def _start(b: Reading, node: str, rule: Rule, v_reset: Floats, origin: Floats) -> Floats:
    """Membranes at the start of a sample: an IF without leak and a Threshold have no rest but the origin."""
    if not isinstance(b.v_init, str):
        return np.full(rule.leak.shape, float(b.v_init))
    if b.v_init == "reset":
        return v_reset
    return rule.leak if b.nodes[node].kind in ("LIF", "CubaLIF") else origin


def _constant_input(b: Reading, node: str, source: str, rule: Rule) -> tuple[Floats, str]:
    """(bias of the membrane, input) where biases need care: those that edges of a cycle bring, and those that charge a current.

    A constant current of a CUBA neuron charges its current over the steps; a neuron that fires in every step gives it as spikes.
    """
    shape = b.net.shape(source)
    extra = np.zeros(shape)
    for a in b.source.before(node):
        if b.nodes[a].kind in ("Affine", "Conv1d", "Conv2d") and held_back(b, a):
            stated = stated_bias(b, a, _outputs(b, a))
            if stated is not None:
                extra = extra + b.fit(a, "bias", stated, shape)
    if rule.slow is None:
        return rule.drive * extra, source
    inside = b.constant(source)
    source, extra = b.constants.without(f"{node}.unbiased", source), extra + inside
    if np.any(extra):
        source = b.constants.as_spikes(node, source, extra)
    return np.zeros(shape), source


def _outputs(b: Reading, node: str) -> int:
    """Outputs of a node with weights: rows of a matrix, first axis of a convolution."""
    shape = b.array(node, "weight").shape
    if len(shape) < 2:
        raise ModelError(f"node {node}: weight has shape {shape}, wanted (outputs, inputs, ...)")
    return int(shape[-2] if b.nodes[node].kind == "Affine" else shape[0])


def _entry(b: Reading, node: str, layer: str, drive: Floats, which: NDArray[np.int64] | None) -> Callable[[str, str, int], None]:
    """Leads a value of earlier steps into the neurons, as their input is led."""

    def feed(value: str, tag: str, delay: int) -> None:
        shape, wanted = b.net.shape(value), int(np.prod(b.net.shape(layer)))
        constant = b.constant(value)
        if np.any(constant):
            raise UnsupportedLayer(
                node, b.nodes[node].kind, f"a bias closes a cycle ({tag})", value=float(np.abs(constant).max()), limit=0,
                remedy="move the bias to the weights that lead into the cycle",
            )  # fmt: skip
        if which is not None:
            value = _gather(b, tag, value, which)
        elif int(np.prod(shape)) != wanted:
            raise ModelError(f"node {node} has shape {b.net.shape(layer)}, the cycle brings {shape} ({tag}); export the graph again")
        elif shape != b.net.shape(layer):
            value = b.net.reshape(tag, value, b.net.shape(layer))
        if np.any(drive != drive.flat[0]):
            value = scaled(b, b.free_name(f"{tag}.scale"), value, drive)
        b.net.connect(value, layer, delay)

    return feed


def _closed(b: Reading, node: str) -> Callable[[str, str, int], None]:
    def refuse(value: str, tag: str, delay: int) -> None:
        raise UnsupportedLayer(
            node, b.nodes[node].kind, f"a cycle closes into a neuron that does not fire ({tag})", remedy="close it into one that does"
        )

    return refuse


def _gather(b: Reading, name: str, source: str, which: NDArray[np.int64]) -> str:
    """Some values of a layer, as (n, 1, 1)."""
    n = int(np.prod(b.net.shape(source)))
    taken = np.full(n, -1)
    taken[which] = np.arange(len(which))
    kept = taken >= 0
    indptr = np.concatenate([[0], np.cumsum(kept)])
    return b.net.sparse(b.free_name(name), source, indptr, taken[kept], np.ones(len(which)), (len(which), 1, 1))


def _short(a: Floats) -> Any:
    """A number, (c, 1, 1) or (c, y, x): the least that says it."""
    if np.all(a == a.flat[0]):
        return float(a.flat[0])
    first = a[:, :1, :1]
    return np.ascontiguousarray(first) if np.all(a == first) else a
