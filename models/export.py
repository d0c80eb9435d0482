"""Write a trained network as safetensors, JSON config and model card, and as a .nsnet file that needs no PyTorch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

import neurosim
from models.card import model_card
from models.evaluate import Model, accuracy, fake_quantised, firing, halting, halting_sweep, spike_change
from models.halting import HaltingSpikformer
from models.mnist import Mnist

PACKAGE = Path(__file__).resolve().parent.parent / "neurosim" / "data" / "models"
"""Networks that the package reads without PyTorch."""
WEIGHTS = Path(__file__).resolve().parent / "weights"
"""PyTorch weights of the networks that the package has as .nsnet."""
SENSITIVITY_IMAGES = 1000
HALT_COUNTS = (1, 2, 3, 4, 6, 8)
CLASS_NAMES = tuple(str(digit) for digit in range(10))


def figures(model: Model, data: Mnist) -> dict[str, Any]:
    """All figures of the model card, over the 10,000 test images and the 5,000 held-out images."""
    test, held_out = data.test.tensors(), data.held_out.tensors()
    rates, silent = firing(model, test[0])
    quantised = {
        "int8_per_channel": fake_quantised(model, 8, per_channel=True),
        "int8_per_layer": fake_quantised(model, 8, per_channel=False),
    }
    result: dict[str, Any] = {
        "test_accuracy": accuracy(model, *test),
        "heldout_accuracy": accuracy(model, *held_out),
        "test_samples": len(test[0]),
        "heldout_samples": len(held_out[0]),
        "firing_rates": {name: round(rate, 5) for name, rate in rates.items()},
        "silent_neurons": {name: round(share, 5) for name, share in silent.items()},
        "fake_quantised": {
            name: {"test_accuracy": accuracy(net, *test), "heldout_accuracy": accuracy(net, *held_out)} for name, net in quantised.items()
        },
    }
    if model.config.steps > 1:
        some = test[0][:SENSITIVITY_IMAGES]
        result["spike_change"] = {
            "samples": len(some),
            "decay_0": round(spike_change(model, some, decay=0.0), 5),
            "no_reset": round(spike_change(model, some, reset="none"), 5),
        }
    if isinstance(model, HaltingSpikformer):
        result["halting"] = halting(model, *test) | {"sweep": halting_sweep(model, *test, HALT_COUNTS)}
    return result


def checkpoint_config(model: Model, architecture: str, name: str, result: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """The JSON object that describes the weights file ``name``.safetensors."""
    sizes = asdict(model.config)
    side, channels = sizes["img_size"], sizes["in_channels"]
    return {
        "format": "neurosim-checkpoint",
        "format_version": 1,
        "architecture": architecture,
        "name": name,
        **sizes,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "class_names": list(CLASS_NAMES[: sizes["classes"]]),
        "input": {
            "shape": [channels, side, side],
            "axes": "chw",
            "dtype": "uint8",
            "scale": 255.0,
            "mean": [0.0] * channels,
            "std": [1.0] * channels,
        },
        "weights": f"{name}.safetensors",
        "figures": result,
        "training": training,
    }


def export(model: Model, architecture: str, name: str, result: dict[str, Any], training: dict[str, Any], out: Path) -> None:
    """Write the three files of a checkpoint into ``out``; only inference weights, in float32."""
    out.mkdir(parents=True, exist_ok=True)
    config = checkpoint_config(model, architecture, name, result, training)
    weights = {key: value.detach().float().contiguous() for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(weights, str(out / config["weights"]))
    (out / config["weights"]).chmod(0o644)
    (out / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(model_card(config), encoding="utf-8")


def export_network(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint (its JSON file) as ``out/name.nsnet``, with its card beside it, through neurosim's PyTorch frontend."""
    from models.registry import load_checkpoint

    config = json.loads(checkpoint.read_text(encoding="utf-8"))
    contract = config["input"]
    net = neurosim.load(
        load_checkpoint(checkpoint), name=config["name"], class_names=config["class_names"], input_shape=tuple(contract["shape"]),
        dtype=contract["dtype"], scale=contract["scale"], mean=contract["mean"], std=contract["std"],
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    net.save(out / f"{config['name']}.nsnet")
    (out / f"{config['name']}.md").write_text(model_card(config), encoding="utf-8")
