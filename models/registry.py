"""Every architecture by name, and loading of any checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from models import stmixer
from models.halting import HaltingConfig, HaltingSpikformer
from models.layers import Former, FormerConfig
from models.msvit import MSViT, MSViTConfig
from models.qkformer import GateFormer, QKFormer, QKFormerConfig
from models.smixer import SMixer, SMixerConfig
from models.spikformer import Spikformer, SpikformerConfig
from models.stmixer import STMixer, STMixerConfig

FORMERS: dict[str, tuple[type[FormerConfig], type[Former]]] = {
    "spikformer": (SpikformerConfig, Spikformer),
    "qkformer": (QKFormerConfig, QKFormer),
    "qkformer-gates": (QKFormerConfig, GateFormer),
    "msvit": (MSViTConfig, MSViT),
    "smixer": (SMixerConfig, SMixer),
    "spikformer-halting": (HaltingConfig, HaltingSpikformer),
}
"""Configuration and network of each architecture beside STMixer."""

ARCHITECTURES = ("stmixer", *FORMERS)


def build(architecture: str, **sizes: Any) -> STMixer | Former:
    """An untrained network; ``sizes`` are fields of its configuration. ValueError for an unknown architecture or impossible sizes."""
    if architecture == "stmixer":
        return STMixer(STMixerConfig(**sizes))
    if architecture not in FORMERS:
        raise ValueError(f"architecture {architecture!r} is not known; use one of {', '.join(ARCHITECTURES)}")
    config, network = FORMERS[architecture]
    return network(config(**sizes))


def load_checkpoint(config_path: str | Path) -> STMixer | Former:
    """Build the network of a checkpoint's JSON file and load the weights that lie beside it, in eval mode."""
    path = Path(config_path)
    data = json.loads(path.read_text(encoding="utf-8"))
    architecture = data.get("architecture")
    if architecture not in FORMERS:
        return stmixer.load_checkpoint(path)
    fields = FORMERS[architecture][0].__dataclass_fields__
    model = build(architecture, **{name: data[name] for name in fields if name in data})
    stmixer.load_weights(model, path.with_name(data["weights"]))
    return model.eval()


def load_shared(model: nn.Module, path: str | Path) -> list[str]:
    """Take over what a checkpoint of another architecture has with the same name and shape; the keys that it lacks.

    ValueError when it has nothing in common with the model.
    """
    own = model.state_dict()
    common = {key: value for key, value in load_file(str(path)).items() if key in own and own[key].shape == value.shape}
    if not common:
        raise ValueError(f"{Path(path).name} has no weight with the name and shape of one of {type(model).__name__}")
    return [key for key in model.load_state_dict(common, strict=False).missing_keys if not key.endswith("num_batches_tracked")]
