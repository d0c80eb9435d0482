"""Presets and TOML files -> Chip, with ``--set table.key=value`` overrides."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neurosim.chip.spec import Chip
from neurosim.errors import ChipError


def presets() -> list[str]:
    """Names of the shipped chips."""
    folder = resources.files("neurosim.chip") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_chip(chip: str | Path | Chip, overrides: Iterable[str] = ()) -> Chip:
    """A Chip from a preset's name, a TOML file or a Chip; ``overrides`` are texts ``noc.fifo=4``.

    A file may begin with ``base = "PRESET"`` and give only what differs.

    Raises ChipError: unknown preset, missing or broken file, unknown key, value out of range.
    """
    if isinstance(chip, Chip):
        table: dict[str, Any] = chip.model_dump()
        where = f"chip {chip.name}"
    elif not isinstance(chip, str | Path):
        raise ChipError(f"chip of type {type(chip).__name__} is not understood; give a preset ({', '.join(presets())}), a TOML file or a Chip")
    elif str(chip) in presets():
        where = f"chip {chip}"
        table = _read_preset(str(chip))
    else:
        table, where = _read_file(Path(chip)), f"chip file {chip}"
    table = _with_base(table, where)
    for text in overrides:
        _override(table, text)
    try:
        return Chip.model_validate(table)
    except ValidationError as error:
        raise ChipError(f"{where}: {_explain(error)}") from None


def _read_preset(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("neurosim.chip") / "presets" / f"{name}.toml").read_text("utf-8"))


def _with_base(table: dict[str, Any], where: str) -> dict[str, Any]:
    """``table`` over the preset that it names as its base, if it does."""
    base = table.pop("base", None)
    if base is None:
        return table
    if base not in presets():
        raise ChipError(f"{where}: base {base!r} is not a preset; presets are {', '.join(presets())}")
    return _merged(_with_base(_read_preset(base), f"chip {base}"), table)


def _merged(base: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """``table`` over ``base``, table by table; a figure or a list replaces its base as a whole."""
    result = dict(base)
    for key, value in table.items():
        below = result.get(key)
        nested = isinstance(value, dict) and isinstance(below, dict) and "value" not in value and "value" not in below
        result[key] = _merged(below, value) if nested and isinstance(below, dict) else value
    return result


def _read_file(path: Path) -> dict[str, Any]:
    if path.suffix != ".toml" and not path.exists():
        near = difflib.get_close_matches(str(path), presets(), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ChipError(f"chip {str(path)!r} is neither a preset ({', '.join(presets())}) nor a TOML file{hint}")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ChipError(f"chip file {path}: {error.strerror}; presets are {', '.join(presets())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ChipError(f"chip file {path}: not valid TOML: {error}") from None


def _override(table: dict[str, Any], text: str) -> None:
    """Set one key of a nested table from ``a.b.c=value``; the value is read as TOML, else as text."""
    path, equals, raw = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ChipError(f"override {text!r} is not of the form table.key=value, for example noc.fifo=4")
    try:
        value = tomllib.loads(f"x = {raw.strip()}")["x"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ChipError(f"override {text!r}: {key} is not a table of the chip file")
    table[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    """All mistakes of a chip file, in one line."""
    parts = []
    for item in error.errors():
        place = ".".join(str(step) for step in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), _siblings(item["loc"]), n=1)
            parts.append(f"unknown key {place}" + (f", did you mean {near[0]}?" if near else "; remove it"))
        elif item["type"] == "missing":
            parts.append(f"key {place} is missing")
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
            given = item["input"]
            own = item["type"] == "value_error"  # our own messages name the value
            value = "" if own or isinstance(given, dict | list) else f"{given!r} "
            parts.append(f"{place}: {value}{message}" if place else message)
    return "; ".join(parts)


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at the place of an unknown key."""
    model: Any = Chip
    for step in location[:-1]:
        field = getattr(model, "model_fields", {}).get(str(step))
        model = field.annotation if field is not None else None
    return list(getattr(model, "model_fields", {}))
