"""Options that several commands share: how a model is read, how recordings are used. Each decorator adds its options to a command's signature."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Annotated, Any

import typer

from neurosim.errors import ModelError
from neurosim.units import parse_time_ps

Command = Callable[..., Any]
RewriteOption = Annotated[
    list[str] | None,
    typer.Option("--rewrite", metavar="OP=FORM", help="Write ops otherwise: maxpool=or_pool, gate=neurons, avgpool=sum (repeatable)."),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="channels: cut layers too large for a core; the same as --set memory.split=channels.")
]

QuantizeOption = Annotated[
    str | None,
    typer.Option("--quantize", help="search or sinabs: how real numbers become the chip's words; the same as --set arithmetic.quantize=..."),
]

MODEL_OPTIONS: dict[str, tuple[Any, Any]] = {
    "weights": (Annotated[str | None, typer.Option(help="Weights: .safetensors, or .pt without code.")], None),
    "input_shape": (Annotated[str | None, typer.Option(help="Shape of one sample without the batch axis: 1,28,28.")], None),
    "input_axes": (Annotated[str | None, typer.Option(help="A letter per axis of a module's input: b batch, t steps, others (btchw).")], None),
    "steps": (Annotated[int | None, typer.Option(min=1, help="Steps per sample, where the model states none.")], None),
    "step_time": (Annotated[str | None, typer.Option("--step-time", "--nir-dt", help='Time of one step, for example "1 ms" (.nir).')], None),
    "output_index": (Annotated[int, typer.Option(min=0, help="Which output of a model with several.")], 0),
    "batch_mixing": (Annotated[str | None, typer.Option(help="refuse or ignore modules whose state mixes across the batch.")], None),
    "pixel_scale": (Annotated[float | None, typer.Option(help="A module's images are (pixel / scale - mean) / std; 255 by default.")], None),
    "dtype": (Annotated[str | None, typer.Option(help="Type of a module's pixels: uint8 by default.")], None),
    "spikes": (Annotated[bool | None, typer.Option("--spikes/--image", help="A module's input is binary events: so when it has an axis t.")], None),
    "mean": (Annotated[str | None, typer.Option(help="Means by channel: 0.5,0.5,0.5.")], None),
    "std": (Annotated[str | None, typer.Option(help="Deviations by channel.")], None),
    "nir_reset": (Annotated[str | None, typer.Option(help="zero or subtract: NIR does not say.")], None),
    "nir_floor": (Annotated[float | None, typer.Option(help="Least membrane, in the unit of v_threshold: NIR does not say.")], None),
    "test": (Annotated[str | None, typer.Option("--test", "--nir-test", help="above (v > threshold) or reach (>=): .nir, .net.")], None),
    "nir_max_spikes": (Annotated[int | None, typer.Option(min=1, max=255, help="Most spikes of a neuron per step; 1 by default.")], None),
    "nir_solver": (Annotated[str | None, typer.Option(help="euler or exact: how NIR's differential equations become steps.")], None),
    "nir_image": (Annotated[float | None, typer.Option(help="The input is images, whose pixels are divided by this.")], None),
    "nir_v_init": (Annotated[str | None, typer.Option(help="Where a sample begins: rest (v_leak), reset (v_reset) or a membrane.")], None),
    "class_names": (Annotated[str | None, typer.Option(help="Names of the classes: cat,dog.")], None),
    "nir_readout": (Annotated[str | None, typer.Option(help="spikes (counts of the last layer) or membrane.")], None),
}
RECORDING_OPTIONS: dict[str, tuple[Any, Any]] = {
    "step": (Annotated[str | None, typer.Option(help='Recordings: length of a step, for example "1 ms"; by default the network\'s.')], None),
    "bin_": (Annotated[str, typer.Option("--bin", help="Recordings: events of one neuron and step count once (binary) or each (count).")], "binary"),
    "span": (Annotated[str | None, typer.Option(help="Recordings: only the first so much of each.")], None),
    "pace": (Annotated[str, typer.Option(help="Recordings: packets due at their own times (realtime) or at once (asap).")], "asap"),
    "order": (Annotated[str, typer.Option(help="Recordings: events of equal time as recorded (recording) or shuffled.")], "recording"),
    "order_seed": (Annotated[int, typer.Option(min=0, help="Recordings: seed of the shuffle.")], 0),
    "start": (
        Annotated[str | None, typer.Option(help="Recordings: time 0 is the zero of the file (file: SHD) or the first event (first).")],
        None,
    ),
    "keep_empty": (Annotated[bool, typer.Option("--keep-empty", help="Recordings: one without any event is a sample like others.")], False),
    "repair": (Annotated[bool, typer.Option("--repair", help="Recordings: mend, sort and leave out what would be refused, and count it.")], False),
}
OTHER_NAMES = {
    "scale": "pixel_scale", "output": "output_index", "reset": "nir_reset", "floor": "nir_floor", "test": "nir_test", "readout": "nir_readout",
    "solver": "nir_solver", "image": "nir_image", "max_spikes": "nir_max_spikes",
}  # fmt: skip
"""Options of ``load`` that the command calls otherwise; the others are LOAD_OPTIONS."""
LOAD_OPTIONS = ("weights", "input_shape", "input_axes", "steps", "step_time", "batch_mixing", "dtype", "mean", "std", "class_names")


def with_options(options: dict[str, tuple[Any, Any]], name: str) -> Callable[[Command], Command]:
    """Add ``options`` to a command, which receives their values as the dictionary ``name``."""

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != name]
        more = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind) for key, (kind, value) in options.items()]

        @functools.wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            chosen = {key: kwargs.pop(key, options[key][1]) for key in options}
            return command(*args, **kwargs, **{name: chosen})

        plain = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        wrapped.__signature__ = signature.replace(parameters=[*plain, *more])  # type: ignore[attr-defined]  # where typer looks first
        wrapped.__annotations__ = {p.name: p.annotation for p in [*plain, *more]} | {"return": None}
        del wrapped.__wrapped__  # typer reads annotations through it
        return wrapped

    return decorate


with_model_options = with_options(MODEL_OPTIONS, "reading")
with_recording_options = with_options(RECORDING_OPTIONS, "recordings")


def read_model(model: str, reading: dict[str, Any]) -> Any:
    """The Network of MODEL with the options of ``with_model_options``, only those that were given being passed on."""
    from neurosim.frontends import load

    options: dict[str, Any] = {
        "weights": reading["weights"], "input_shape": _whole("input-shape", reading["input_shape"]), "input_axes": reading["input_axes"],
        "steps": reading["steps"], "step_time": None if reading["step_time"] is None else parse_time_ps(reading["step_time"]) / 1e12,
        "batch_mixing": reading["batch_mixing"], "scale": reading["pixel_scale"], "mean": _numbers("mean", reading["mean"]),
        "std": _numbers("std", reading["std"]), "reset": reading["nir_reset"], "floor": reading["nir_floor"], "test": reading["test"],
        "readout": reading["nir_readout"], "solver": reading["nir_solver"], "image": reading["nir_image"],
        "max_spikes": reading["nir_max_spikes"], "v_init": _start(reading["nir_v_init"]), "spikes": reading["spikes"], "dtype": reading["dtype"],
        "class_names": None if reading["class_names"] is None else tuple(reading["class_names"].split(",")),
    }  # fmt: skip
    try:
        with redirect_stdout(sys.stderr):  # what the user's code prints while it is run is none of our output
            return load(model, output=reading["output_index"], **{key: value for key, value in options.items() if value is not None})
    except ModelError as error:
        raise ModelError(_with_flags(str(error))) from None


def _with_flags(text: str) -> str:
    """A message with the options of ``load`` as those of the command: batch_mixing='ignore' as --batch-mixing ignore, steps= as --steps."""

    def flag(match: re.Match[str]) -> str:
        value = (match["value"] or "").strip("'")
        return f"--{OTHER_NAMES.get(match['key'], match['key']).replace('_', '-')}{' ' if value else ''}{value}"

    given = "|".join([*LOAD_OPTIONS, *OTHER_NAMES])
    text = re.sub(rf"(?<![\w.])(?<!\w\()(?P<key>{given})=(?P<value>'[\w ]+'|\d+)?(?![\w=])", flag, text)
    return re.sub(rf"(?<![\w.-])(?P<key>{'|'.join(key for key in LOAD_OPTIONS if '_' in key)})(?P<value>)(?!\w)", flag, text)


def read_rewrite(given: list[str] | None) -> dict[str, str]:
    """``["maxpool=or_pool"]`` as a dictionary. Raises ModelError for a text without ``=``."""
    pairs = [text.partition("=") for text in given or ()]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise ModelError(f"--rewrite {name}{equals}{value} is not of the form op=form, for example maxpool=or_pool")
    return {name: value for name, _, value in pairs}


def overrides_of(set_: list[str] | None, split: str | None, quantize: str | None = None) -> list[str]:
    """``--set``, ``--split`` and ``--quantize`` together."""
    short = {"memory.split": split, "arithmetic.quantize": quantize}
    return [*(set_ or ()), *(f"{key}={value}" for key, value in short.items() if value is not None)]


def _start(text: str | None) -> str | float | None:
    """A number, or a word that the reader of NIR knows or refuses."""
    try:
        return text if text is None else float(text)
    except ValueError:
        return text


def _whole(name: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ModelError(f"--{name} {text!r} is no list of whole numbers; write for example 1,28,28") from None


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ModelError(f"--{name} {text!r} is no list of numbers; write for example 0.5,0.5,0.5") from None
