"""How a class of neurons is read: what ``neurons`` keeps for registered classes and ``libraries`` lists for known ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NeuronClass:
    """How to read one class: ``to_rule`` of an instance, ``reset`` to bring an instance back to its initial state."""

    to_rule: Callable[[Any], Mapping[str, Any]]
    reset: Callable[[Any], object] = field(default=lambda module: None)
