"""Small integer graphs with each extra op, for the tests of the compiler's back."""

from __future__ import annotations

import numpy as np

from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection, SumPool, pass_rule
from neurosim.ops import Coincidence, Gate, MaxPool, Op, OrPool


def rule(threshold: int = 3, **more: object) -> NeuronRule:
    """A plain neuron."""
    return NeuronRule(np.full((1, 1, 1), threshold), np.zeros((1, 1, 1), np.int64), **more)  # type: ignore[arg-type]


def ones(channels: int) -> SumPool:
    """The identity with weight 1."""
    return SumPool(np.ones(channels, np.int64))


OPS: dict[str, Op] = {
    "or_pool": OrPool(),
    "gate": Gate((1, 4, 4), count=2),
    "latched": Gate((2, 2, 2), count=60, inverted=True, latched=True),
    "max_pool": MaxPool((4, 4, 4), (3, 3), (1, 1), (1, 1)),
    "coincidence": Coincidence(2, shift=1),
}


def op_graph(name: str, steps: int = 2) -> Graph:
    """Input (2, 4, 4) -> three layers a, b, c -> the op -> readout; the op's own neurons hear ``a`` too, with a delay where delays mean something."""
    draw = np.random.default_rng(5)
    op = OPS[name]
    shape = (4, 4, 4)
    populations = [Population("in", (2, 4, 4), "input")]
    projections = []
    for layer in "abc":
        populations.append(Population(layer, shape, "spiking", rule(4)))
        projections.append(Projection("in", layer, Conv2d(draw.integers(-2, 5, (4, 2, 3, 3)), padding=(1, 1))))
    counts = op.name in ("or_pool", "gate")
    populations.append(Population("op", shape, "spiking", pass_rule() if counts else rule(6, decay=2048), op=op))
    if op.name == "or_pool":
        projections.append(Projection("a", "op", SumPool(np.ones(4, np.int64), (3, 3), (1, 1), (1, 1))))
    elif isinstance(op, Gate):
        mask = Dense(np.ones((int(np.prod(op.groups)), 64), np.int64), op.groups) if op.latched else Conv2d(np.ones((1, 4, 1, 1), np.int64))
        projections += [Projection("a", "op", ones(4)), Projection("b", "op", mask, operand="mask")]
    elif op.name == "max_pool":
        projections += [
            Projection("a", "op", Conv2d(draw.integers(-3, 4, (4, 4, 3, 3)), padding=(1, 1)), operand="window"),
            Projection("b", "op", SumPool(draw.integers(1, 4, 4)), delay=1, operand="window", shift=1),
        ]
    else:
        projections += [
            Projection("a", "op", SumPool(draw.integers(-2, 3, 4)), delay=1),
            Projection("a", "op", ones(4), operand="k"),
            Projection("b", "op", ones(4), operand="v"),
            Projection("c", "op", ones(4), operand="q"),
        ]
    populations.append(Population("out", (3, 1, 1), "readout"))
    projections.append(Projection("op", "out", Dense(draw.integers(-5, 6, (3, 64)), (3, 1, 1))))
    graph = Graph(f"with {name}", steps, tuple(populations), tuple(projections))
    graph.verify()
    return graph
