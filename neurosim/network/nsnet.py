"""``.nsnet``: a Network as a versioned zip of JSON and arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from neurosim.errors import ModelError, ProgramError
from neurosim.files import read_zip, write_zip
from neurosim.graph import Rounding
from neurosim.network.layers import InputContract, Layer
from neurosim.order import read_order

FORMAT, FORMAT_VERSION = "neurosim-network", 2
READABLE = (1, FORMAT_VERSION)
"""Version 1: neurons start where they reset to (subtracting: where they rest)."""


class Saved(Protocol):
    """What of a Network a file holds."""

    name: str
    steps: int
    class_names: tuple[str, ...]
    integers: Rounding | None
    layers: dict[str, Layer]
    connections: list[tuple[str, str, int]]
    output_name: str | None
    notes: list[str]
    _contract: InputContract | None


N = TypeVar("N", bound=Saved)


def save_network(net: Saved, path: Path) -> None:
    """Write the file, whole or not at all."""
    arrays: dict[str, Any] = {}
    layers: list[dict[str, Any]] = []
    for k, layer in enumerate(net.layers.values()):
        plain = {key: value for key, value in layer.params.items() if not isinstance(value, np.ndarray)}
        arrays |= {f"{k}.{key}": value for key, value in layer.params.items() if isinstance(value, np.ndarray)}
        order = {} if layer.order is None else {"order": layer.order.plain()}
        layers.append({"name": layer.name, "op": layer.op, "inputs": layer.inputs, "shape": layer.shape, "params": plain} | order)
    contract = net._contract
    header = {
        "format": FORMAT, "version": FORMAT_VERSION, "name": net.name, "steps": net.steps, "class_names": net.class_names, "layers": layers,
        "integers": net.integers, "connections": net.connections, "output": net.output_name, "notes": net.notes,
        "input": None if contract is None else asdict(contract),
    }  # fmt: skip
    write_zip(path, header, arrays)


def read_network(path: str | os.PathLike[str], make: Callable[..., N]) -> N:
    """What ``make``, the class Network, is from a ``.nsnet`` file; raises ModelError when it is missing, broken or of another version."""
    try:
        header, arrays = read_zip(Path(path), FORMAT, READABLE, "save the network again with this version of neurosim")
    except ProgramError as error:
        raise ModelError(str(error)) from None
    try:
        net = make(header["name"], header["steps"], header["class_names"], header.get("integers"))
        for k, entry in enumerate(header["layers"]):
            prefix = f"{k}."
            params: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry["params"].items()}
            params |= {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
            shape = tuple(entry["shape"])
            order = read_order(entry["order"], math.prod(shape)) if "order" in entry else None
            net.layers[entry["name"]] = Layer(entry["name"], entry["op"], tuple(entry["inputs"]), shape, params, order)
        net.connections = [(s, t, d) for s, t, d in header["connections"]]
        net.output_name, net.notes = header["output"], list(header.get("notes", ()))
        if header["input"] is not None:
            contract: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in header["input"].items()}
            net._contract = InputContract(**contract)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is broken ({error!r}); save the network again") from None
    return net
