"""Weights of a checkpoint: reading safetensors, and taking every array exactly once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from neurosim.errors import ModelError


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a .safetensors file; raises ModelError when it is missing, truncated or not numeric."""
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist; give the .safetensors file with weights=")
    try:
        with safe_open(str(path), framework="np") as file:
            return {key: np.asarray(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118  (the file object is no mapping)
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        raise ModelError(f"weights {path} are truncated or no safetensors file ({error}); copy the file again") from None


class Weights:
    """A checkpoint whose arrays are taken one by one, with their expected shapes; ``finish`` refuses what nobody took."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], origin: str) -> None:
        self.arrays, self.origin = arrays, origin
        self.taken: set[str] = set()

    def take(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """One array as float64; raises ModelError when it is missing, of another shape, or holds NaN."""
        if name not in self.arrays:
            near = difflib.get_close_matches(name, set(self.arrays) - self.taken, n=1)
            raise ModelError(f"{self.origin}: weight {name} {shape} is missing" + (f"; did you mean {near[0]}?" if near else ""))
        value = np.asarray(self.arrays[name], np.float64)
        if value.shape != shape:
            raise ModelError(f"{self.origin}: weight {name} has shape {value.shape}, the config wants {shape}")
        if not np.isfinite(value).all():
            raise ModelError(f"{self.origin}: weight {name} has {int((~np.isfinite(value)).sum())} values that are NaN or infinite; export it again")
        self.taken.add(name)
        return value

    def finish(self) -> None:
        """Raises ModelError naming what nobody took."""
        unused = sorted(set(self.arrays) - self.taken)
        if unused:
            more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
            raise ModelError(f"{self.origin}: weight {unused[0]}{more} belongs to no layer; remove it, or correct the config (depth, names)")
