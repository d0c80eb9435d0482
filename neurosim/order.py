"""How the neurons of a layer lie in the tensor that its own module returns, where that is not the (c, y, x) of its population.

Everything on a chip is addressed as (c, y, x). A module may return other axes: channels last, a shuffled map, tokens. Arrays for the user, spikes and
membranes by layer, have the module's shape; addresses in a trace stay (c, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ModelError

I64 = NDArray[np.int64]
MOST_AXES = 32
"""Of an array, by NumPy before version 2; digits of a permutation likewise."""


@dataclass(frozen=True)
class ModuleOrder:
    """``shape`` of the module's tensor in one step of one sample; ``index``: int64 [neurons], where in the flat (c, y, x) each of its elements lies.

    Raises ModelError when ``index`` is no permutation, or not of that shape.
    """

    shape: tuple[int, ...]
    index: I64

    def __post_init__(self) -> None:
        n = math.prod(self.shape)
        if len(self.shape) > MOST_AXES or self.index.shape != (n,) or not np.array_equal(np.sort(self.index), np.arange(n)):
            raise ModelError(f"the order of {len(self.index)} neurons in a module's tensor of shape {self.shape} is no permutation of them")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleOrder) and self.shape == other.shape and np.array_equal(self.index, other.index)

    def __hash__(self) -> int:
        return hash((self.shape, self.index.tobytes()))

    @cached_property
    def permutes(self) -> bool:
        """Whether more differs than the shape."""
        return not np.array_equal(self.index, np.arange(len(self.index)))

    def differs(self, population: tuple[int, int, int]) -> bool:
        """Whether the module's tensor is another than (c, y, x) of that shape."""
        return self.shape != population or self.permutes

    @cached_property
    def _inverse(self) -> I64:
        return np.argsort(self.index)

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """[..., c, y, x] -> [..., *shape]."""
        lead = values.shape[:-3]
        flat = values.reshape(*lead, -1)
        return (flat[..., self.index] if self.permutes else flat).reshape(*lead, *self.shape)

    def position(self, flat: int) -> tuple[int, ...]:
        """Where in the module's tensor the neuron of a flat (c, y, x) lies."""
        return tuple(int(k) for k in np.unravel_index(int(self._inverse[flat]), self.shape))

    def positions(self, flat: I64) -> I64:
        """The same of many, [n, axes]."""
        return np.stack(np.unravel_index(self._inverse[flat], self.shape), axis=-1).astype(np.int64)

    def flat(self, position: Sequence[int]) -> int:
        """The flat (c, y, x) of a place in the module's tensor."""
        return int(self.index[np.ravel_multi_index(tuple(position), self.shape)])

    def plain(self) -> dict[str, Any]:
        """As JSON: shape, and sizes and strides of the digits of the index (slowest first), or the index itself where it has no such form."""
        found = _digits(self.index)
        rest = {"index": self.index.tolist()} if found is None else {"sizes": found[0], "strides": found[1]}
        return {"shape": list(self.shape), **rest}


def read_order(plain: Any, neurons: int) -> ModuleOrder:
    """What ``ModuleOrder.plain`` gave, for a population of so many neurons. Raises ModelError for anything else."""
    try:
        shape = tuple(int(n) for n in plain["shape"])
        if len(shape) > MOST_AXES or min(shape, default=1) < 1 or math.prod(shape) != neurons:
            raise ValueError
        if "index" in plain:
            index = np.array(plain["index"], np.int64)
        else:
            sizes, strides = [int(n) for n in plain["sizes"]], [int(n) for n in plain["strides"]]
            if len(sizes) != len(strides) or len(sizes) > MOST_AXES or min(sizes, default=1) < 1 or math.prod(sizes) != neurons:
                raise ValueError
            index = np.zeros(1, np.int64)
            for size, stride in zip(sizes, strides, strict=True):
                index = (index[:, None] + stride * np.arange(size)).reshape(-1)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ModelError(f"the order of a module's {neurons} neurons is broken; load and compile the network again") from None
    return ModuleOrder(shape, index)


def _digits(index: I64) -> tuple[list[int], list[int]] | None:
    """Sizes and strides with index = sum of digit times stride over the digits of its place; None if there are none."""
    sizes, strides, rest = list[int](), list[int](), index
    if len(index) and index[0]:
        return None
    while len(rest) > 1:
        stride = int(rest[1] - rest[0])
        breaks = np.flatnonzero(np.diff(rest) != stride)
        run = int(breaks[0]) + 1 if len(breaks) else len(rest)
        if len(rest) % run or len(sizes) == MOST_AXES:
            return None
        blocks = rest.reshape(-1, run)
        if (blocks != blocks[:, :1] + stride * np.arange(run)).any():
            return None
        sizes.insert(0, run)
        strides.insert(0, stride)
        rest = blocks[:, 0]
    return sizes, strides
