"""How a module is read: the options of ``load`` for PyTorch models. Nothing here imports torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from neurosim.errors import ModelError

AXES = {1: "bc", 2: "bhw", 3: "bchw", 4: "btchw"}


@dataclass(frozen=True)
class Axes:
    """How the module takes its input: one letter per axis, b batch, t steps, the rest features."""

    letters: str
    shape: tuple[int, ...]
    """without the batch axis"""
    assumed: bool = False
    """The user gave no letters."""

    @property
    def full(self) -> tuple[int, ...]:
        """Shape at batch 1."""
        at = self.letters.index("b")
        return (*self.shape[:at], 1, *self.shape[at:])

    @property
    def time(self) -> int | None:
        """Position of the time axis in the full shape."""
        return self.letters.index("t") if "t" in self.letters else None

    def hint(self, steps: int) -> str:
        """What to add to the remedy of a refusal about steps: an axis that is as long as there are steps may be the time, which nobody said."""
        if not self.assumed or self.time is not None or steps == 1 or steps not in self.shape:
            return ""
        letters = list(self.letters)
        letters[1 + self.shape.index(steps)] = "t"
        return f"; or say which axis of the input is the time: {self.letters} was assumed, input_axes={''.join(letters)!r} has {steps} steps"

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of one step."""
        return tuple(n for n, letter in zip(self.full, self.letters, strict=True) if letter not in "bt")


@dataclass(frozen=True)
class ModuleOptions:
    """How a module is read.

    ``input_shape``: one sample, without the batch axis. ``input_axes``: one letter per axis of the module's input, b batch, t steps, others features;
    by default bc, bhw, bchw or btchw. ``steps``: call the module so often and average its outputs, for modules that compute one step per call.
    ``output``: which of its output tensors. ``scale``, ``mean``, ``std``: what the module expects of an image, (pixel / scale - mean) / std;
    ``dtype`` of the pixels. ``spikes``: the input is binary events (so when it has a time axis). ``batch_mixing``: "refuse" or "ignore" modules whose
    batch 2 is not twice their batch 1. ``class_names``, ``step_time_us``: as in Network. ``name`` of the Network.
    """

    input_shape: tuple[int, ...] | None = None
    input_axes: str | None = None
    steps: int | None = None
    output: int = 0
    scale: float = 255.0
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    dtype: str = "uint8"
    spikes: bool | None = None
    batch_mixing: Literal["refuse", "ignore"] = "refuse"
    class_names: Sequence[str] = ()
    step_time_us: float | None = None
    name: str | None = None

    def axes(self) -> Axes:
        """The input's axes; raises ModelError when shape and letters do not fit."""
        if self.batch_mixing not in ("refuse", "ignore"):
            raise ModelError(f"batch_mixing {self.batch_mixing!r} must be 'refuse' or 'ignore'")
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise ModelError(f"steps {self.steps!r} must be a whole number of at least 1")
        shape = self.input_shape
        if shape is None:
            raise ModelError("a module needs input_shape, the shape of one sample without the batch axis, such as (1, 28, 28), or an example_input")
        if not shape or not all(isinstance(n, int) and n >= 1 for n in shape):
            raise ModelError(f"input_shape {shape!r} must be whole numbers of at least 1")
        letters = self.input_axes or AXES.get(len(shape), "")
        features = letters.replace("b", "").replace("t", "")
        if len(letters) != len(shape) + 1 or letters.count("b") != 1 or letters.count("t") > 1 or not 1 <= len(features) <= 3:
            raise ModelError(
                f"input_axes {letters!r} must hold one letter for each of the {len(shape)} axes of input_shape and b for the batch, t for the steps "
                "if there are any, and one to three others, such as bchw or btchw"
            )
        return Axes(letters, tuple(shape), self.input_axes is None)


def module_options(given: Mapping[str, Any], output: int, steps: int | None, example: Any) -> ModuleOptions:
    """Options by name; ``example``: an input at some batch size, for its shape. Raises ModelError with the nearest name."""
    known = [f.name for f in fields(ModuleOptions)]
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ModelError(f"option {key!r} is not known" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"))
    values = dict(given)
    shape = values.get("input_shape")
    if shape is None and example is not None:
        whole = tuple(int(n) for n in getattr(example, "shape", ()))
        letters = values.get("input_axes") or AXES.get(len(whole) - 1, "b")
        at = letters.index("b") if "b" in letters else 0
        shape = whole[:at] + whole[at + 1 :]
    values["input_shape"] = None if shape is None else tuple(int(n) for n in shape)
    return ModuleOptions(**(values | {"output": output, "steps": steps}))
