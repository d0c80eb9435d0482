"""``load``: whatever a user calls a model -> Network."""

from __future__ import annotations

import copy
import difflib
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from neurosim.errors import MissingExtra, ModelError
from neurosim.frontends.checkpoint import read_safetensors
from neurosim.frontends.lava import OPTIONS as LAVA_OPTIONS
from neurosim.frontends.lava import lava_net
from neurosim.frontends.nir import OPTIONS as NIR_OPTIONS
from neurosim.frontends.nir import nir_file
from neurosim.frontends.stmixer import SIZES, as_arrays, sizes_of, stmixer
from neurosim.frontends.torch.options import module_options
from neurosim.network import Network, load_network

ARCHITECTURES = {"stmixer": stmixer}
READS = "a shipped model's name, a .json config with its .safetensors, a .nsnet, .net or .nir file, a Network, a torch.nn.Module, or module:factory"


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(_shipped())


def _shipped() -> dict[str, str]:
    """Name -> file, a config or a saved Network."""
    folder = resources.files("neurosim") / "data" / "models"
    files = [entry.name for entry in folder.iterdir() if entry.name.endswith((".json", ".nsnet"))]
    return {name.rpartition(".")[0]: name for name in files}


def load(
    model: Any,
    example_input: Any = None,
    *,
    weights: str | Path | None = None,
    output: int = 0,
    steps: int | None = None,
    step_time: float | None = None,
    **options: Any,
) -> Network:
    """A Network from a shipped model's name, a ``.safetensors`` or ``.json`` checkpoint, a ``.nsnet`` file, lava-dl's ``.net``, a ``.nir`` graph, a
    Network, a ``torch.nn.Module`` in eval mode, or ``package.module:factory`` or ``file.py:factory``, which returns one.

    Modules: ``options`` are those of ``torch_options.ModuleOptions`` (input_shape, input_axes, scale, mean, std, batch_mixing, ...); ``output`` is
    the number of the output tensor; ``steps`` calls a module of one step per call so often; ``weights``: a .safetensors file, or a .pt without code.
    Every module is compared with its Network on random inputs before it is returned.

    ``steps`` per sample: for ``.net`` and ``.nir``, which state none (``.nir``: 1 by default). ``step_time`` in seconds: for ``.nir``, whose
    equations are continuous; its ``options`` are those of ``nir_file`` (reset, floor, test, max_spikes, readout, input_shape, ...), that of ``.net``
    is ``test``; a ``nir.NIRGraph`` is read as its file. ``weights``: the .safetensors file where the config does not name it. ``example_input`` is
    checked against the network's input shape.
    ``output``: which output of a model with several; the kinds read here have one, so 0. Raises ModelError in one line.
    """
    read = _module(model, example_input, None if weights is None else Path(weights), output, steps, options)
    if read is not None:
        return read
    if _is_nir(model):
        unknown = [key for key in options if key not in NIR_OPTIONS]
        if unknown:
            raise ModelError(f"option {unknown[0]} does not belong to NIR graphs, which take {', '.join(NIR_OPTIONS)}")
        net = nir_file(model, step_time, 1 if steps is None else steps, output=output, **options)
        return _shaped(net, example_input)
    own = LAVA_OPTIONS if _is_net(model) else ()
    if unknown := [key for key in options if key not in own]:
        where = f"belongs to PyTorch modules and factories; {model!r} is none"
        if own:
            where = f"does not belong to .net files, which take {', '.join(own)}"
        raise ModelError(f"option {unknown[0]} {where}")
    if output != 0:
        raise ModelError(f"output {output} does not exist; the model has one output, number 0")
    return _shaped(_load(model, None if weights is None else Path(weights), steps, step_time, options), example_input)


def _is_net(model: Any) -> bool:
    return isinstance(model, str | Path) and Path(model).suffix == ".net"


def _is_nir(model: Any) -> bool:
    return type(model).__name__ == "NIRGraph" if not isinstance(model, str | Path) else Path(model).suffix == ".nir"


def _shaped(net: Network, example_input: Any) -> Network:
    """The network, whose input must have the shape of the example."""
    if example_input is not None:
        given, wanted = tuple(getattr(example_input, "shape", ())), net.input_contract.shape
        if given[-3:] != wanted and not (wanted[0] == 1 and given[-2:] == wanted[1:]):
            raise ModelError(f"example_input has shape {given}, the network {net.name} wants (n, {', '.join(map(str, wanted))})")
    return net


def _load(model: Any, weights: Path | None, steps: int | None, step_time: float | None, options: dict[str, Any]) -> Network:
    if steps is not None and not _is_net(model):
        raise ModelError(f"steps {steps} belongs to .net and .nir files; this model states its own number of steps")
    if step_time is not None:
        raise ModelError(f"step_time {step_time} belongs to .nir files; this model is written in steps")
    if _is_net(model):
        if steps is None:
            raise ModelError(f"{model} states no number of steps per sample; give steps")
        return lava_net(model, steps, **options)
    if isinstance(model, Network):
        return model
    if isinstance(model, str | Path):
        return _load_text(str(model), weights)
    raise ModelError(f"model of type {type(model).__name__} is not understood; give {READS}")


def _module(model: Any, example: Any, weights: Path | None, output: int, steps: int | None, options: dict[str, Any]) -> Network | None:
    """The Network of a module or a factory; None when ``model`` is neither."""
    torch = sys.modules.get("torch")
    given = torch is not None and isinstance(model, torch.nn.Module)
    factory = isinstance(model, str) and ":" in model and model not in shipped_models() and not Path(model).exists()
    if not given and not factory:
        return None
    if (
        given
        and type(model).__name__ == "STMixer"
        and not options
        and steps is None
        and all(hasattr(getattr(model, "config", None), key) for key in SIZES)
    ):
        if model.training:
            raise ModelError("module STMixer is in training mode; call .eval() first, batch norm is folded with its running statistics")
        arrays = as_arrays(model.state_dict()) if weights is None else read_safetensors(weights)
        return stmixer(sizes_of(model.config), arrays, "module STMixer")
    try:
        from neurosim.frontends.torch.module import from_module, load_weights, module_of
    except ImportError as error:
        raise MissingExtra(f"{model}: reading PyTorch models needs torch ({error}); install neurosim[torch]") from None
    chosen = module_options(options, output, steps, example)
    if factory:
        return from_module(module_of(model, weights), chosen)
    if weights is not None:
        model = copy.deepcopy(model)
        load_weights(model, weights)
    return from_module(model, chosen)


def _load_text(model: str, weights: Path | None) -> Network:
    if model in (shipped := _shipped()):
        with resources.as_file(resources.files("neurosim") / "data" / "models") as folder:
            path = folder / shipped[model]
            return _load_config(path, weights) if path.suffix == ".json" else _load_network(path, weights)
    path = Path(model)
    if path.suffix == ".nsnet":
        return _load_network(path, weights)
    if path.suffix == ".json":
        return _load_config(path, weights)
    if path.suffix == ".safetensors":
        config = path.with_suffix(".json")
        if not config.is_file():
            raise ModelError(f"{path} needs its config {config.name} beside it (sizes, input contract)")
        return _load_config(config, path if weights is None else weights)
    if path.suffix or path.exists():
        raise ModelError(f"{path}: file kind {path.suffix or 'without a suffix'} is not read; give {READS}")
    near = difflib.get_close_matches(model, shipped_models(), n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ModelError(f"model {model!r} is neither a file nor a shipped model ({', '.join(shipped_models())}){hint}")


def _load_network(path: Path, weights: Path | None) -> Network:
    if weights is not None:
        raise ModelError(f"weights {weights}: {path.name} holds its weights itself; leave weights out")
    return load_network(path)


def _load_config(path: Path, weights: Path | None) -> Network:
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelError(f"config {path}: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(f"config {path} is no JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != "neurosim-checkpoint":
        raise ModelError(f"config {path} is no neurosim-checkpoint; its key 'format' must say so")
    if config.get("format_version") != 1:
        raise ModelError(f"config {path} has format_version {config.get('format_version')!r}, this neurosim reads 1")
    architecture = config.get("architecture")
    if architecture not in ARCHITECTURES:
        raise ModelError(f"config {path}: architecture {architecture!r} is unknown; known are {', '.join(ARCHITECTURES)}")
    if weights is None:
        if not isinstance(config.get("weights"), str):
            raise ModelError(f"config {path} names no weights file; give weights=")
        weights = path.with_name(config["weights"])
    return ARCHITECTURES[architecture](config, read_safetensors(weights), path.name)
