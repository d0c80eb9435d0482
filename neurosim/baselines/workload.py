"""What a GPU has to do for one inference: dense arithmetic, traffic and kernel launches per layer, from the network as trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from neurosim.errors import DataError
from neurosim.network import Network

LIF_FLOP = 4
"""Leak, add, compare, reset: floating-point operations of one neuron and step."""
_KERNELS = frozenset({"conv2d", "linear", "token_mix", "attention", "lif", "li", "mean", "sum_pool", "avg_pool", "max_pool", "gate"})
_MATRIX = frozenset({"conv2d", "linear", "token_mix", "attention"})
_FREE = frozenset({"input", "spikes_input", "reshape", "concat", "delay", "batch_norm", "scale"})


@dataclass(frozen=True)
class Op:
    """One layer, per step of one sample. ``inputs``, ``outputs``, ``weights`` count values, not bytes.

    ``kernels``: launches. Normalisation is folded, sums are fused into the kernel before or after them, reshaping moves nothing: 0 launches.
    """

    layer: str
    op: str
    macs: int = 0
    weights: int = 0
    inputs: int = 0
    outputs: int = 0
    constant: bool = False
    """The same in every step (a static image before the first neuron): computed once."""

    @property
    def kernels(self) -> int:
        """Kernel launches of this layer."""
        return 1 if self.op in _KERNELS else 0

    @property
    def flop(self) -> int:
        """Floating-point operations of a step: two per MAC, four per neuron, one per value of a sum or a mean."""
        if self.op in _MATRIX:
            return 2 * self.macs
        if self.op in ("lif", "li"):
            return LIF_FLOP * self.outputs
        return 0 if self.op in _FREE else max(self.inputs, self.outputs)

    @property
    def traffic(self) -> int:
        """Values read and written besides the weights; an op that is folded or moves nothing has none."""
        if self.op in _FREE:
            return 0
        # a fused sum reads its second operand; the first and the result pass in registers
        return self.inputs // 2 if self.op == "add" else self.inputs + self.outputs


@dataclass(frozen=True)
class Workload:
    """A network as a GPU sees it: ``steps`` times the ops."""

    name: str
    steps: int
    ops: tuple[Op, ...]

    @classmethod
    def from_rows(cls, name: str, steps: int, rows: Iterable[Mapping[str, Any]]) -> Workload:
        """From dictionaries {layer, op, macs, weights, inputs, outputs}, as in Program.meta["workload"]; raises DataError on a row that lacks one."""
        ops = []
        for row in rows:
            try:
                macs, weights, inputs, outputs = (int(row[key]) for key in ("macs", "weights", "inputs", "outputs"))
                ops.append(Op(str(row["layer"]), str(row["op"]), macs, weights, inputs, outputs, bool(row.get("constant", False))))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"workload of {name}: row {dict(row)} is not {{layer, op, macs, weights, inputs, outputs}} ({error})") from None
        if not any(op.macs for op in ops):
            raise DataError(f"workload of {name} has no multiply-accumulates; compile the network again")
        return cls(name, steps, tuple(ops))

    def times(self, op: Op) -> int:
        """How often one inference computes an op."""
        return 1 if op.constant else self.steps

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of one inference, all steps."""
        return sum(self.times(op) * op.macs for op in self.ops)

    @property
    def weights(self) -> int:
        """Weights of the network."""
        return sum(op.weights for op in self.ops)


def workload_of(network: Network) -> Workload:
    """The workload of a network as trained, with zeros of weights and activations computed like any other value."""
    return Workload.from_rows(network.name, network.steps, network.workload())
