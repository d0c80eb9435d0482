"""The run directory: ``run.json``, ``counters.parquet``, ``outputs.npz``, optionally ``trace.parquet``. Reports are rebuilt from it alone.

Written beside its place under a temporary name, then renamed: it is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.engine.events import ANYTIME_DTYPE, SPIKE_DTYPE, Options, Result
from neurosim.errors import DataError, RunError
from neurosim.program import Program
from neurosim.trace.names import population_names, server_names
from neurosim.trace.stored import Priced, StoredRun
from neurosim.trace.summary import predict

FORMAT, FORMAT_VERSION = "neurosim-run", 3
RUN, COUNTERS, OUTPUTS, TRACE = "run.json", "counters.parquet", "outputs.npz", "trace.parquet"
_OURS = {RUN, COUNTERS, OUTPUTS, TRACE}
_PICTURES = {".svg", ".png", ".pdf", ".html"}
_LAYOUT = (
    "slice_core", "slice_population", "slice_box", "slice_rule", "slice_op", "slice_cells", "slice_offset", "neuron_ptr", "source_population",
    "source_box", "source_shape", "source_port", "sync_pair", "channel_drop",
    "server_kind", "server_owner", "server_hop_ps", "server_class", "server_channel", "channel", "next_server", "port_router", "core_router",
)  # fmt: skip
_NEEDED = ("options", "window_ps", "host_macs_per_sample", "summary", "chip", "meta")
_NEEDED_META = ("sync", "steps", "populations")
_PER_SAMPLE = ("scores", "start_ps", "first_spike_ps", "decision_ps", "completion_ps")


def write_run(
    path: str | os.PathLike[str],
    program: Program,
    result: Result,
    options: Options,
    summary: dict[str, Any],
    *,
    energy: Priced,
    labels: NDArray[Any] | None = None,
    command: Sequence[str] = (),
    trace_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the run directory, whole or not at all; returns its path.

    An older run directory of that name (with its pictures) is replaced. Anything else that is in the way is left alone.
    ``trace_path``: a finished trace file, linked or copied into the directory.
    Raises RunError: the place is taken, the disk is full, no permission, no trace there; the message says what to do.
    """
    target = Path(path)
    refuse_foreign(target)
    if trace_path is not None and not Path(trace_path).exists():
        raise RunError(f"trace {trace_path} of this run is gone; simulate again, or save without it (trace_path = None)")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        _write_outputs(temporary / OUTPUTS, program, result, labels)
        pq.write_table(_counters(program, result), str(temporary / COUNTERS), compression="zstd")
        if trace_path is not None:
            _link_or_copy(Path(trace_path), temporary / TRACE)
        info = _info(program, result, options, summary | {"run_dir": str(target)}, energy, command)
        (temporary / RUN).write_text(json.dumps(info, indent=1) + "\n", "utf-8")
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
    except OSError as error:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise RunError(
            f"cannot write run directory {target}: {error.strerror or error}; nothing was kept, free space or choose another path"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return target


def load_run(path: str | os.PathLike[str]) -> StoredRun:
    """Read a run directory. Raises DataError: no run directory, another version, a file that is missing or damaged."""
    folder = Path(path)
    info = _read_info(folder)
    try:
        # opened here, for numpy leaves a file open that is no whole zip
        with (folder / OUTPUTS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        table = pq.ParquetFile(str(folder / COUNTERS)).read(use_threads=False)
        program = _layout_program(info, arrays)
        result = _result(info, arrays, table)
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name if error.filename else COUNTERS  # Arrow names no file
        raise DataError(f"run directory {folder}: {name} is missing; run again") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, pa.ArrowException) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise DataError(f"run directory {folder} is damaged ({reason}); run again") from None
    trace = folder / TRACE
    return StoredRun(
        path=folder,
        info=info,
        program=program,
        result=result,
        labels=arrays.get("labels"),
        predictions=arrays["predictions"],
        host_macs_per_sample=float(info["host_macs_per_sample"]),
        trace_path=trace if trace.exists() else None,
    )


def refuse_foreign(path: str | os.PathLike[str]) -> None:
    """RunError unless the place is free, empty, or an older run directory that holds nothing of somebody else's.

    ``write_run`` asks this too; a caller that simulates for long asks before.
    """
    target = Path(path)
    if target.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise RunError(f"{str(path)!r} is the current directory or one above it; give the run directory a name of its own")
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise RunError(f"{target} exists and is no directory; choose another path")
    entries = sorted(target.iterdir())
    if not entries:
        return
    try:
        _read_info(target, any_version=True)
    except DataError:
        raise RunError(f"{target} exists, is not empty and is no run directory; it is left alone, choose another path") from None
    for entry in entries:
        if entry.name not in _OURS and entry.suffix not in _PICTURES:
            raise RunError(f"run directory {target} also holds {entry.name}, which a new run would delete; move it or choose another path")


def _read_info(folder: Path, *, any_version: bool = False) -> dict[str, Any]:
    try:
        info = json.loads((folder / RUN).read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder} is no run directory (no {RUN}); `neurosim run ... -o {folder}` writes one") from None
    except OSError as error:
        raise DataError(f"cannot read {folder / RUN}: {error.strerror}") from None
    except ValueError:
        raise DataError(f"{folder / RUN} is damaged or of another program (not valid JSON); run again") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise DataError(f"{folder / RUN} is not of a neurosim run; give a directory that `neurosim run -o` wrote")
    if any_version:
        return info
    if info.get("version") != FORMAT_VERSION:
        raise DataError(f"run directory {folder} has version {info.get('version')}, this neurosim reads version {FORMAT_VERSION}; run again")
    lacking = [key for key in _NEEDED if key not in info] + [f"meta.{key}" for key in _NEEDED_META if key not in info.get("meta", {})]
    if lacking:
        raise DataError(f"{folder / RUN} is damaged: key {lacking[0]} is missing; run again")
    return info


def _info(program: Program, result: Result, options: Options, summary: dict[str, Any], energy: Priced, command: Sequence[str]) -> dict[str, Any]:
    samples = len(result.scores)
    table = energy.table()
    host = sum(float(row["count"]) for row in table if row["component"] == "host")
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "versions": {
            "python": sys.version.split()[0],
            "platform": platform.machine(),
            **{name: _version(name) for name in ("neurosim", "numpy", "numba", "pyarrow")},
        },
        "command": list(command),
        "digests": {"program": program.digest(), **program.meta.get("digests", {})},
        "seed": options.seed,
        "options": asdict(options),
        "samples": samples,
        "window_ps": int(result.window_ps),
        "host_macs_per_sample": host,
        "summary": summary,
        "prices": table,
        "chip": program.chip.model_dump(mode="json"),
        "meta": program.meta,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _write_outputs(path: Path, program: Program, result: Result, labels: NDArray[Any] | None) -> None:
    arrays: dict[str, NDArray[Any]] = {name: getattr(result, name) for name in _PER_SAMPLE}
    arrays["predictions"] = predict(result)
    if labels is not None:
        arrays["labels"] = np.asarray(labels, np.int64)
    arrays["slice_spikes"] = result.slice_spikes
    if len(result.spikes):
        arrays["spikes"] = result.spikes
    if len(result.anytime):
        arrays["anytime"] = result.anytime
    arrays |= {f"sample.{name}": values for name, values in result.sample.items()}
    arrays |= {f"layout.{name}": getattr(program, name) for name in _LAYOUT}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options


def _counters(program: Program, result: Result) -> pa.Table:
    """One row per counter: scope (server, core, channel, slice), index, name in words, counter, value; easy to query with SQL."""
    names = population_names(program)
    slices = [f"{names[p]} on core {c}" for p, c in zip(program.slice_population.tolist(), program.slice_core.tolist(), strict=True)]
    kinds = ("port of router", "axon-in of core", "axon-out of core", "inject of router", "link into router")
    channels = [f"{kinds[row[0]]} {row[2]}" for row in program.channel.tolist()]
    cores = [f"core {c}" for c in range(program.cores)]
    spikes = result.slice_spikes.sum(axis=0) if result.slice_spikes.size else np.zeros(0, np.int64)
    groups = (
        ("server", server_names(program), result.server),
        ("core", cores, result.core),
        ("channel", channels, result.channel),
        ("slice", slices, {"spikes": spikes} if len(spikes) else {}),
    )
    columns: dict[str, list[Any]] = {"scope": [], "index": [], "name": [], "counter": [], "value": []}
    for scope, words, counters in groups:
        for counter, values in counters.items():
            columns["scope"] += [scope] * len(values)
            columns["index"] += range(len(values))
            columns["name"] += words
            columns["counter"] += [counter] * len(values)
            columns["value"] += values.tolist()
    schema = pa.schema([("scope", pa.string()), ("index", pa.int32()), ("name", pa.string()), ("counter", pa.string()), ("value", pa.int64())])
    return pa.table(columns, schema=schema).replace_schema_metadata({"format": f"{FORMAT}-counters", "version": str(FORMAT_VERSION)})


def _layout_program(info: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Program:
    """The Program of a stored run: layout arrays as they were, the rest empty."""
    rest = {f.name: np.zeros(0, np.int64) for f in fields(Program) if f.name not in ("meta", "chip", "host", *_LAYOUT)}
    stored = {name: arrays[f"layout.{name}"] for name in _LAYOUT}
    return Program(meta=info["meta"], chip=Chip.model_validate(info["chip"]), host={}, **stored, **rest)


def _result(info: dict[str, Any], arrays: dict[str, NDArray[Any]], table: pa.Table) -> Result:
    scope, counter = np.array(table["scope"].to_pylist()), np.array(table["counter"].to_pylist())
    values = table["value"].to_numpy()
    counters: dict[str, dict[str, NDArray[np.int64]]] = {}
    for group in ("server", "core", "channel"):
        inside = scope == group
        counters[group] = {name: values[inside & (counter == name)] for name in dict.fromkeys(counter[inside].tolist())}
    return Result(
        scores=arrays["scores"],
        start_ps=arrays["start_ps"],
        first_spike_ps=arrays["first_spike_ps"],
        decision_ps=arrays["decision_ps"],
        completion_ps=arrays["completion_ps"],
        window_ps=int(info["window_ps"]),
        server=counters["server"],
        core=counters["core"],
        channel=counters["channel"],
        sample={name.removeprefix("sample."): values for name, values in arrays.items() if name.startswith("sample.")},
        slice_spikes=arrays["slice_spikes"],
        spikes=arrays.get("spikes", np.zeros(0, SPIKE_DTYPE)),
        anytime=arrays.get("anytime", np.zeros(0, ANYTIME_DTYPE)),
    )


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows one, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
