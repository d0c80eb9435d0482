"""Recurrence written as a loop over steps: what a neuron layer reads of earlier steps becomes ``Network.connect``.

``Value.late`` holds ids of an earlier step that are added to a value; only additions and views may come between them and the neurons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from neurosim.frontends.torch.values import STATIC, MixedStepsError, Value
from neurosim.frontends.torch.walking import Walking


@dataclass(frozen=True)
class Loop:
    """What comes to a neuron layer from ``lag`` steps before: normalised ids, and the constants that they bring, both in the module's order."""

    norm: Any
    lag: int
    const: Any

    def same_as(self, other: Loop) -> bool:
        """It brings the same values from as many steps before."""
        return self.lag == other.lag and torch.equal(self.norm, other.norm)


def with_late(walk: Walking, a: Value, b: Value, const: Any) -> Value:
    """a + b where all of one is of a step before the other's. Raises MixedStepsError where it is not so."""
    steps = []
    for value in (a, b):
        found = [step for step in walk.ledger.label(value.ids)[0].unique().tolist() if step != STATIC]
        if value.steps or len(found) != 1 or found[0] >= walk.net.steps:
            raise MixedStepsError
        steps.append(found[0])
    now, late = (a, b) if steps[0] > steps[1] else (b, a)
    if steps[0] == steps[1]:
        raise MixedStepsError
    return Value(now.ids, const, late=late.ids)


def apart(walk: Walking, x: Value, call: int) -> Value:
    """The input of a neuron layer at step ``call`` with its late part apart, where a sum of something static and something late is one layer."""
    step, norm = walk.ledger.label(x.ids)
    found = step.unique().tolist()
    if x.late is not None or len(found) != 1 or not 0 <= found[0] < call:
        return x
    _, known = walk.natural(norm.reshape(-1))
    layer = walk.net.layers.get(known.name) if known is not None else None
    if known is None or layer is None or layer.op != "add" or known.size != layer.size:
        return x
    parts = [walk.source_named(name) for name in layer.inputs]
    now, late = ([part for part in parts if part.dynamic == moves] for moves in (False, True))
    if len(now) != 1 or len(late) != 1:
        return x
    own = norm - known.start
    return Value(now[0].start + own, x.const, late=late[0].start + own + found[0] * late[0].size)


def loop_of(walk: Walking, late: Any, call: int) -> Loop | None:
    """The loop that these ids close at step ``call``; None if they are not all of one earlier step, as many before as the first time."""
    step, norm = walk.ledger.label(late.reshape(-1))
    found = step.unique().tolist()
    if len(found) != 1 or not 0 <= found[0] < call:
        return None
    order, known = walk.natural(norm)
    source = walk.layer_of(norm[order], known.shape if known is not None else (len(norm), 1, 1))
    const = torch.empty(len(norm), dtype=torch.float64)
    const[order] = torch.from_numpy(walk.constants.of(source.name).reshape(-1).copy())
    return Loop(norm, call - int(found[0]), const)


def connect(walk: Walking, loop: Loop, target: str, order: Any) -> None:
    """Lead the loop into the lif layer ``target``, whose neurons are the module's in ``order``; without constants, which are in its input already."""
    shape = walk.net.shape(target)
    source = walk.layer_of(loop.norm[order], shape)
    walk.net.connect(walk.constants.without(f"{target}.recurrent", source.name), target, loop.lag)
