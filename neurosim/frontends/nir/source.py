"""What a ``.nir`` file holds, as one flat graph of nodes and edges. Files are read as they are, because their writers disagree and ``nir.read``
refuses what it cannot type: shapes that are missing or count a batch (norse, rockpool), ``v_reset`` that is missing (snnTorch), unknown nodes.

Every node keeps its type and its fields; ``nir_file`` gives the missing ones their values. Whatever is put right here is a note.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import MissingExtra, ModelError

Floats = NDArray[np.float64]
Edge = tuple[str, str]
SUBGRAPH = "NIRGraph"
FIRING = ("IF", "LIF", "CubaLIF", "Threshold")
INTEGRATING = ("I", "LI", "CubaLI")
STATES = FIRING + INTEGRATING
"""Node types with a state (a Threshold: with a spike of its own), between which everything is linear."""


@dataclass(frozen=True)
class Node:
    """One node: its type as the file calls it, and its fields (arrays, numbers, texts)."""

    kind: str
    fields: dict[str, Any]


@dataclass
class Source:
    """A flat graph: ``nodes`` by qualified name (sub-graph.node), ``edges`` without repetition, ``notes`` of what was put right."""

    name: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def before(self, name: str) -> list[str]:
        """Nodes that feed ``name``, in the order of the edges."""
        return [a for a, b in self.edges if b == name]

    def behind(self, name: str) -> list[str]:
        """Nodes that ``name`` feeds, in the order of the edges."""
        return [b for a, b in self.edges if a == name]

    def numbers(self, name: str, key: str) -> Floats | None:
        """A field as float64, None where it is missing. Raises ModelError: no numbers, none at all, NaN."""
        value = self.nodes[name].fields.get(key)
        if value is None:
            return None
        try:
            result = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise ModelError(f"node {name}: {key} of type {type(value).__name__} is no array of numbers; export the graph again") from None
        if not result.size or not np.isfinite(result).all():
            what = "is empty" if not result.size else f"has {int((~np.isfinite(result)).sum())} values that are NaN or infinite"
            raise ModelError(f"node {name}: {key} {what}; export the graph again")
        return result

    def sizes(self, name: str, key: str) -> tuple[int, ...]:
        """A field of whole numbers, () where it is missing."""
        value = self.numbers(name, key)
        if value is None:
            return ()
        if np.any(value != np.round(value)):
            raise ModelError(f"node {name}: {key} {np.ravel(value).tolist()} must be whole numbers; export the graph again")
        return tuple(int(n) for n in np.ravel(value))

    def of_kind(self, *kinds: str) -> list[str]:
        """Names of the nodes of some types."""
        return [name for name, node in self.nodes.items() if node.kind in kinds]


def read_source(model: Any) -> Source:
    """The graph of a ``.nir`` file, or of a ``nir.NIRGraph`` in memory. Raises ModelError (missing, broken), MissingExtra without h5py."""
    if hasattr(model, "nodes") and hasattr(model, "to_dict"):
        name, table = "nir", model.to_dict()
    else:
        name, table = Path(model).stem, _read(Path(model))
    if str(table.get("type")) != SUBGRAPH:
        table = {"type": SUBGRAPH, "nodes": {"node": table}, "edges": []}  # a file may hold a single node
    source = Source(name)
    _unfold(table, "", source)
    once = list(dict.fromkeys(source.edges))
    if len(once) < len(source.edges):
        source.notes.append(f"{len(source.edges) - len(once)} edges occur twice and are taken once")
    source.edges = once
    for a, b in source.edges:
        for end in (a, b):
            if end not in source.nodes:
                raise ModelError(f"edge {a} -> {b}: node {end} does not exist; export the graph again")
    _close_ends(source)
    return source


def _read(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError:
        raise MissingExtra("reading .nir files needs h5py, which comes with nir: pip install 'neurosim[nir]'") from None
    if not path.is_file():
        raise ModelError(f"{path} does not exist; give a .nir file")

    def content(item: Any) -> Any:
        if isinstance(item, h5py.Group):
            return {str(key): content(value) for key, value in item.items()}
        value = item[()]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    try:
        with h5py.File(os.fspath(path), "r") as file:
            table = content(file)
    except (OSError, RuntimeError, KeyError) as error:
        raise ModelError(f"{path} is no NIR graph: not HDF5, or truncated ({str(error).splitlines()[0]}); export it again") from None
    node = table.get("node")
    if not isinstance(node, dict) or "type" not in node:
        raise ModelError(f"{path} is no NIR graph: it has no node with a type; export it again with nir.write")
    return node


def _unfold(table: dict[str, Any], prefix: str, source: Source) -> None:
    """Add the nodes and edges of one (sub-)graph; the Inputs and Outputs of sub-graphs become identities."""
    inner = table.get("nodes")
    if not isinstance(inner, dict) or not inner:
        raise ModelError(f"{prefix.rstrip('.') or 'the graph'} has no nodes; export the graph again")
    for name, node in inner.items():
        kind = node.get("type") if isinstance(node, dict) else None
        if not isinstance(kind, str | bytes):
            raise ModelError(f"node {prefix}{name} has no type; export the graph again")
        kind = kind.decode() if isinstance(kind, bytes) else kind
        if kind == SUBGRAPH:
            _unfold(node, f"{prefix}{name}.", source)
            continue
        fields = {key: value for key, value in node.items() if key not in ("type", "metadata")}
        source.nodes[prefix + name] = Node("Identity" if prefix and kind in ("Input", "Output") else kind, fields)
    graphs = {name: node for name, node in inner.items() if node.get("type") in (SUBGRAPH, SUBGRAPH.encode())}
    listed = np.asarray(table.get("edges", []), object)
    if listed.size and (listed.ndim != 2 or listed.shape[1] != 2):
        raise ModelError(f"the edges of {prefix.rstrip('.') or 'the graph'} are no pairs of names; export the graph again")
    for pair in listed.reshape(-1, 2).tolist():
        a, b = (end.decode() if isinstance(end, bytes) else str(end) for end in pair)
        a = _end(a, "Output", graphs, prefix)
        b = _end(b, "Input", graphs, prefix)
        source.edges.append((prefix + a, prefix + b))


def _end(name: str, kind: str, graphs: dict[str, Any], prefix: str) -> str:
    """An edge to or from a sub-graph leads to its Input or comes from its Output."""
    if name not in graphs:
        return name
    nodes = graphs[name]["nodes"]
    found = [n for n, node in nodes.items() if node.get("type") in (kind, kind.encode())]
    if len(found) != 1:
        raise ModelError(f"sub-graph {prefix}{name} has {len(found)} {kind} nodes ({', '.join(found) or 'none'}); an edge to it needs one")
    return _end(f"{name}.{found[0]}", kind, {f"{name}.{n}": node for n, node in nodes.items() if node.get("type") == SUBGRAPH}, prefix)


def _close_ends(source: Source) -> None:
    """Give a graph without Input or Output the ones that its open ends call for."""
    for kind, inner, open_end in (("Input", 1, {a for a, _ in source.edges}), ("Output", 0, {b for _, b in source.edges})):
        if source.of_kind(kind):
            continue
        taken = {edge[inner] for edge in source.edges}
        ends = [n for n in source.nodes if n not in taken and (n in open_end or len(source.nodes) - len(source.of_kind("Input", "Output")) == 1)]
        ends = [n for n in ends if source.nodes[n].kind not in ("Input", "Output")]
        if len(ends) != 1:
            raise ModelError(f"the graph has no {kind} node and {len(ends)} open ends ({', '.join(ends) or 'none'}); export it with an {kind}")
        name = kind.lower() if kind.lower() not in source.nodes else f"{kind.lower()}_{ends[0]}"
        source.nodes[name] = Node(kind, {})
        source.edges.append((name, ends[0]) if kind == "Input" else (ends[0], name))
        source.notes.append(f"the graph has no {kind}: one was put at {ends[0]}")
