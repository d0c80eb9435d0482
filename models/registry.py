"""Every architecture by name, and loading of any checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
