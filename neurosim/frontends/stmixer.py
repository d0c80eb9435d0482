"""STMixer: its checkpoint's names and sizes -> Network (definition in models/stmixer.py, Deng et al., NeurIPS 2024)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ModelError
from neurosim.frontends.checkpoint import Weights
from neurosim.network import Network

SIZES = {
    "img_size": int, "in_channels": int, "downsample": int, "embed_dim": int, "steps": int, "mlp_ratio": int, "depth": int, "heads": int,
    "classes": int, "decay": float, "threshold": float, "bn_eps": float,
}  # fmt: skip

AUTHORS = {
    **{f"patch_embd.proj_conv.{3 * k}": f"patch_embed.conv{k + 1}" for k in range(5)},
    **{f"patch_embd.proj_conv.{3 * k + 1}": f"patch_embed.bn{k + 1}" for k in range(5)},
    "patch_embd.short_proj1.0": "patch_embed.short_conv", "patch_embd.short_proj1.1": "patch_embed.short_bn",
    **{f"{part}.fc{k}.{at}": f"{ours}.{kind}{k}" for part, ours in (("token_mix", "token_mix"), ("channel_mix", "ffn"))
       for k in (1, 2) for at, kind in ((1, "conv"), (2, "bn"))},
}  # fmt: skip
"""Ends of the module names of the authors' code -> ours."""


def stmixer(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], origin: str) -> Network:
    """Build the network from its sizes and its weights; both must be complete and nothing may be left over. Raises ModelError."""
    sizes = {}
    for key, kind in SIZES.items():
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float) or (kind is int and value < 1):
            raise ModelError(f"{origin}: {key} {value!r} is missing or no {'whole number of at least 1' if kind is int else 'number'}")
        sizes[key] = kind(value)
    c, heads = sizes["embed_dim"], sizes["heads"]
    if c % 8 or c % heads:
        raise ModelError(f"{origin}: embed_dim {c} must be a multiple of 8 and of heads {heads}")
    if sizes["downsample"] not in (2, 4) or sizes["img_size"] % 2 ** sizes["downsample"]:
        raise ModelError(f"{origin}: downsample {sizes['downsample']} must be 2 or 4 and its patch must divide img_size {sizes['img_size']}")
    if config.get("reset", "zero") != "zero":
        raise ModelError(f"{origin}: reset {config['reset']!r} is not 'zero'; STMixer resets to zero")
    weights = Weights(renamed(arrays, origin), origin)
    net = _Builder(sizes, weights).build(str(config.get("name", "stmixer")), config)
    weights.finish()
    return net


def renamed(arrays: Mapping[str, NDArray[Any]], origin: str) -> Mapping[str, NDArray[Any]]:
    """A checkpoint of the authors' code (class STMixerV3) under the names of models/stmixer.py; any other as it is. Raises ModelError.

    Its 1x1 convolutions are of one dimension, each head's mixing is a Linear of its own, and branches that only training needs (sml) are left out.
    """
    if not any(name.startswith("patch_embd.") for name in arrays):
        return arrays
    found: dict[str, NDArray[Any]] = {}
    heads: dict[str, dict[int, NDArray[Any]]] = {}
    for name, value in arrays.items():
        if name.startswith("sml") or name.endswith("num_batches_tracked"):
            continue
        module, _, key = re.sub(r"^block\.", "blocks.", name).rpartition(".")
        mix = re.fullmatch(r"(.+)\.attn\.linear_mix\.(\d+)", module)
        if mix is not None:
            heads.setdefault(f"{mix[1]}.mix.weight", {})[int(mix[2])] = value
            continue
        ours = next((module.removesuffix(theirs) + new for theirs, new in AUTHORS.items() if module.endswith(theirs)), module)
        found[f"{ours}.{key}"] = value[..., None] if value.ndim == 3 else value
    for name, mixes in heads.items():
        if sorted(mixes) != list(range(len(mixes))):
            raise ModelError(f"{origin}: {name} has the heads {sorted(mixes)}, some are missing; copy the file again")
        found[name] = np.stack([mixes[head] for head in range(len(mixes))])
    return found


class _Builder:
    """Layer names are those of the PyTorch modules, so that spikes can be compared layer by layer."""

    def __init__(self, sizes: dict[str, Any], weights: Weights) -> None:
        self.sizes, self.weights = sizes, weights

    def build(self, name: str, config: Mapping[str, Any]) -> Network:
        s = self.sizes
        self.net = net = Network(name, steps=s["steps"], class_names=config.get("class_names", ()))
        contract = config.get("input", {})
        shape = (s["in_channels"], s["img_size"], s["img_size"])
        if tuple(contract.get("shape", shape)) != shape:
            raise ModelError(f"{self.weights.origin}: input shape {contract['shape']} contradicts in_channels and img_size {list(shape)}")
        image = net.input(
            "image", shape, contract.get("dtype", "uint8"), contract.get("scale", 255.0), contract.get("mean") or None, contract.get("std") or None
        )
        x = self._patch_embed(image)
        for block in range(s["depth"]):
            x = self._token_mixing(f"blocks.{block}", x)
            x = self._ffn(f"blocks.{block}", x)
        c = s["embed_dim"]
        head = {"weight": self.weights.take("head.weight", (s["classes"], c)), "bias": self.weights.take("head.bias", (s["classes"],))}
        net.output(net.linear("head", net.mean("head.mean", x), **head))
        return net

    def _patch_embed(self, image: str) -> str:
        s, c, p = self.sizes, self.sizes["embed_dim"], "patch_embed"
        inner = 2 if s["downsample"] == 4 else 1
        widths = (s["in_channels"], c // 8, c // 4, c // 2, c, c - c // 8)
        patch = 2 ** s["downsample"]
        x = image
        for k, stride in enumerate((1, inner, inner, 2, 2), start=1):
            x = self._conv_norm(f"{p}.conv{k}", f"{p}.bn{k}", x, widths[k - 1], widths[k], 3, stride, 1)
            if k < 5:
                x = self._lif(f"{p}.lif{k}", x)
        short = self._conv_norm(f"{p}.short_conv", f"{p}.short_bn", image, s["in_channels"], c // 8, patch, patch, 0)
        return self.net.concat(f"{p}.concat", short, x)

    def _token_mixing(self, block: str, x: str) -> str:
        p, c, heads = f"{block}.token_mix", self.sizes["embed_dim"], self.sizes["heads"]
        tokens = (self.sizes["img_size"] // 2 ** self.sizes["downsample"]) ** 2
        y = self._conv_norm(f"{p}.conv1", f"{p}.bn1", self._lif(f"{p}.lif1", x), c, c)
        y = self.net.token_mix(f"{p}.mix", self._lif(f"{p}.lif2", y), self.weights.take(f"{p}.mix.weight", (heads, tokens, tokens)))
        y = self._conv_norm(f"{p}.conv2", f"{p}.bn2", self._lif(f"{p}.lif3", y), c, c)
        return self.net.add(f"{p}.add", x, y)

    def _ffn(self, block: str, x: str) -> str:
        p, c = f"{block}.ffn", self.sizes["embed_dim"]
        hidden = c * self.sizes["mlp_ratio"]
        y = self._conv_norm(f"{p}.conv1", f"{p}.bn1", self._lif(f"{p}.lif1", x), c, hidden)
        y = self._conv_norm(f"{p}.conv2", f"{p}.bn2", self._lif(f"{p}.lif2", y), hidden, c)
        return self.net.add(f"{p}.add", x, y)

    def _conv_norm(self, conv: str, norm: str, x: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0) -> str:
        weight = self.weights.take(f"{conv}.weight", (outputs, inputs, kernel, kernel))
        y = self.net.conv2d(conv, x, weight, stride=stride, padding=padding)
        gain, shift, mean, var = (self.weights.take(f"{norm}.{key}", (outputs,)) for key in ("weight", "bias", "running_mean", "running_var"))
        return self.net.batch_norm(norm, y, gain, shift, mean, var, self.sizes["bn_eps"])

    def _lif(self, name: str, x: str) -> str:
        return self.net.lif(name, x, decay=self.sizes["decay"], threshold=self.sizes["threshold"])


def sizes_of(config: Any) -> dict[str, Any]:
    """The sizes of a PyTorch STMixer's ``config`` object as a dictionary."""
    return {key: getattr(config, key, None) for key in (*SIZES, "reset")}


def as_arrays(state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """A torch state dictionary as float64 arrays, without the counters of batch norm."""
    return {k: np.asarray(v.detach().cpu().double().numpy()) for k, v in state.items() if not k.endswith("num_batches_tracked")}
