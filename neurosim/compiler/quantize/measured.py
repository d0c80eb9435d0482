"""What data say about a readout, for its scale: the proven bound of a membrane that sums thousands of inputs is far from what happens.

Only the readout's state rests on it. Banks keep their proof for every input, and saturations are counted in every run.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError
from neurosim.files import content_digest
from neurosim.golden import run_graph
from neurosim.graph import Graph

MARGIN = 1.5
"""How far beyond the largest membrane measured the state reaches: other data, quantised spikes, and membranes on their way to a score."""


@dataclass(frozen=True)
class Measured:
    """``largest``: greatest magnitude of a readout's membrane after the last step, in real units, in ``samples`` samples; ``digest``: of it."""

    largest: float
    samples: int
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as in a Program's meta."""
        return asdict(self)


def measure_readout(graph: Graph, data: str | Path | NDArray[Any]) -> Measured:
    """Scores of the real graph on images [n, c, y, x] or events [n, T, c, y, x]: an array, a .npy, or a .npz with ``images`` or ``events``.

    Raises DataError: file missing or broken, recordings, another shape, no samples.
    """
    array, name = (_read(Path(data)), Path(data).name) if isinstance(data, str | Path) else (np.asarray(data), "array")
    kinds = [p for p in graph.populations if p.kind in ("analog", "input")]
    wanted = [(p.shape if p.kind == "analog" else (graph.steps, *p.shape)) for p in kinds]
    if len(wanted) == 1 and array.ndim == 3 and wanted[0][0] == 1 and kinds[0].kind == "analog":
        array = array[:, None]
    if len(wanted) != 1 or array.shape[1:] != wanted[0] or not len(array):
        shape = " or ".join(f"(n, {', '.join(map(str, w))})" for w in wanted)
        raise DataError(f"calibration data {name} have shape {array.shape}, the network wants {shape} with n of at least 1")
    scores = run_graph(graph, array).scores
    return Measured(float(np.abs(scores).max(initial=0)), len(array), content_digest({}, {"data": array}))


def _read(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no npz or npy file, or truncated"
        raise DataError(f"cannot read calibration data {path}: {reason}") from None
    found = next((arrays[key] for key in ("images", "events") if key in arrays), None)
    if found is None:
        raise DataError(
            f"calibration data {path} have no array images or events, only {', '.join(sorted(arrays)) or 'nothing'}; bin recordings first"
        )
    return found
