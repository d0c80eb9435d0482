"""What the files that turn ids into layers (``gather``, ``recurrence``) may ask of the walk along the graph (``walk``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from neurosim.frontends.constants import Constants
from neurosim.frontends.torch.values import Ledger, Source
from neurosim.graph import Shape
from neurosim.network import Network


class Walking(Protocol):
    """The Network so far, who owns which ids, and how layers are added and named."""

    net: Network
    ledger: Ledger
    constants: Constants
    mixes: dict[int, Any]
    products: dict[int, Any]
    named_ops: list[str]

    def free(self, base: str) -> str:
        """A layer name that is not taken."""

    def refuse(self, reason: str, *, op: str = "", value: Any = None, limit: Any = None, remedy: str = "") -> NoReturn:
        """Raise UnsupportedLayer for the node in hand."""

    def layer(self, key: Any, op: str, inputs: list[Source], build: Callable[[str], str], *, dynamic: bool | None = None, name: str = "") -> Source:
        """A layer, made once per ``key``."""

    def layer_of(self, ids: Any, shape: Shape, const: Any = None) -> Source:
        """A layer whose values are those ids."""

    def source_named(self, name: str) -> Source:
        """The ids of a layer."""

    def shaped(self, source: Source, shape: Shape) -> Source:
        """The layer under another shape."""

    def total(self, parts: list[Source]) -> Source:
        """The sum of layers."""

    def sparse(self, source: Source, columns: Any, rows: Any, weight: Any, shape: Shape, op: str = "sparse") -> Source:
        """A sparse map of a layer."""

    def natural(self, flat: Any) -> tuple[Any, Source | None]:
        """The order in which ids become neurons, and the layer that they are."""
