"""``export``: a window of a run for other tools, the format by the name of the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import DataError, RunError
from neurosim.report.chrome import write_chrome
from neurosim.report.perfetto import write_perfetto
from neurosim.report.timeline import Timeline
from neurosim.report.vcd import write_vcd
from neurosim.trace import StoredRun

WRITERS: dict[str, Callable[[Timeline, Path], None]] = {".pftrace": write_perfetto, ".json": write_chrome, ".vcd": write_vcd}
FORMATS = ".pftrace (Perfetto), .json (Chrome), .vcd (GTKWave, Surfer), .npz (spikes of a population)"


def export(
    run: StoredRun,
    path: str | os.PathLike[str],
    *,
    sample: int | None = None,
    from_ps: int | None = None,
    to_ps: int | None = None,
    core: int | None = None,
    population: str | None = None,
) -> Path:
    """Write a window of a sample (of a streamed run: of all samples) to ``path``, whole or not at all; returns it.

    ``sample``: None is sample 0, for ``.npz`` all. ``core``: only its stations and FIFOs. ``population``: whose spikes, for ``.npz`` alone (arrays
    as of ``population_spikes``).
    Raises DataError: another suffix, no whole trace (``.npz``: no spikes kept), an empty window; RunError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".npz" and target.suffix not in WRITERS:
        raise DataError(f"export {target}: the end of the name says the format, and {target.suffix or 'none'} is not one; there are {FORMATS}")
    if (target.suffix == ".npz") != (population is not None):
        raise DataError(f"export {target}: .npz holds the spikes of one population and no other format does; give both or neither")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if population is not None:
            arrays = population_spikes(run, population, sample=sample, from_ps=from_ps, to_ps=to_ps)
            with temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
        else:
            timeline = Timeline(run, sample or 0, from_ps=from_ps, to_ps=to_ps, cores=None if core is None else [core])
            WRITERS[target.suffix](timeline, temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}; nothing was kept, free space or choose another path") from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def population_spikes(
    run: StoredRun, population: str, *, sample: int | None = None, from_ps: int | None = None, to_ps: int | None = None
) -> dict[str, NDArray[Any]]:
    """The spikes of a population on the chip: sample, step, time_ps, c, y, x, value (arrays of one length, by sample and time) and shape (c, y, x).

    Of a layer whose module has another order or shape also in_module [spikes, axes], the place of each in ``Run.spikes``, and module_shape.
    ``sample``: of that sample alone. Raises DataError: no such population, or a run that kept no spikes.
    """
    program = run.program
    index = program.population_index(population)
    if not run.info["options"].get("spikes", True):
        raise DataError(f"run {run.path} kept no spikes; run again with spikes=True")
    spikes = run.result.spikes
    kept = np.isin(spikes["slice"], np.flatnonzero(program.slice_population == index))
    if sample is not None:
        kept &= spikes["sample"] == int(run.info["options"].get("first_sample", 0)) + sample
    if from_ps is not None:
        kept &= spikes["time"] >= from_ps
    if to_ps is not None:
        kept &= spikes["time"] < to_ps
    spikes = spikes[kept]
    spikes = spikes[np.lexsort((spikes["time"], spikes["sample"]))]
    c0, c1, y0, _, x0, x1 = program.slice_box[spikes["slice"]].T
    pixel, c = np.divmod(spikes["address"].astype(np.int64), c1 - c0)
    y, x = np.divmod(pixel, x1 - x0)
    shape, order = program.meta["populations"][index]["shape"], program.module_orders.get(index)
    c, y, x = c + c0, y + y0, x + x0
    own = {}
    if order is not None:
        own = {"in_module": order.positions((c * shape[1] + y) * shape[2] + x), "module_shape": np.array(order.shape, np.int64)}
    return own | {
        "sample": spikes["sample"],
        "step": spikes["step"],
        "time_ps": spikes["time"],
        "c": c,
        "y": y,
        "x": x,
        "value": spikes["value"],
        "shape": np.array(shape, np.int64),
    }
