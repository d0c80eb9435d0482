"""STMixer, a spiking transformer that mixes tokens with fixed matrices instead of attention.

The network follows Deng et al., "Spiking Token Mixer: an event-driven friendly former structure for spiking
neural networks" (NeurIPS 2024), written anew. It has no product of two spike trains and no max-pool: between two
spiking layers everything is linear. Its residual stream carries real-valued currents.

Shapes: B images, T time steps, C channels, N = H * W tokens. Time is folded into the batch axis, time-major:
entry ``t * B + b`` of a ``[T*B, ...]`` tensor is step ``t`` of image ``b``. Only ``LIF`` and the final mean look
across entries, and only along the steps of one image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.layers import LIF, Mix


@dataclass(frozen=True)
class STMixerConfig:
    """Sizes and neuron constants of one STMixer; the defaults are those of the MNIST networks."""

    img_size: int = 28
    in_channels: int = 1
    downsample: int = 2
    embed_dim: int = 64
    steps: int = 1
    mlp_ratio: int = 4
    depth: int = 2
    heads: int = 4
    classes: int = 10
    decay: float = 0.5
    threshold: float = 1.0
    reset: str = "zero"
    bn_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.embed_dim % 8 or self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be a multiple of 8 and of heads ({self.heads})")
        if self.downsample not in (2, 4):
            raise ValueError(f"downsample must be 2 or 4, not {self.downsample}")
        if self.img_size % self.patch:
            raise ValueError(f"img_size {self.img_size} must be a multiple of the patch size {self.patch}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")

    @property
    def patch(self) -> int:
        """Side of the square of pixels that one token covers."""
        return 2**self.downsample

    @property
    def tokens(self) -> int:
        """Number of tokens N."""
        return (self.img_size // self.patch) ** 2

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> STMixerConfig:
        """Take the fields of this class from a checkpoint's JSON object and ignore the others."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


def _lif(config: STMixerConfig) -> LIF:
    return LIF(config.steps, config.decay, config.threshold, config.reset)


class PatchEmbed(nn.Module):
    """Image to residual stream: five convolutions with spikes in between, and a short path beside them.

    The short path is one convolution whose kernel equals its stride (a linear patch embedding); it gives the first
    C/8 channels of the stream, the last of the five convolutions gives the other 7C/8. With ``downsample`` 2 the
    strides are 1, 1, 1, 2, 2; with 4 they are 1, 2, 2, 2, 2.
    """

    def __init__(self, config: STMixerConfig) -> None:
        super().__init__()
        c, eps = config.embed_dim, config.bn_eps
        inner = 2 if config.downsample == 4 else 1
        self.steps = config.steps
        self.conv1 = nn.Conv2d(config.in_channels, c // 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c // 8, eps=eps)
        self.lif1 = _lif(config)
        self.conv2 = nn.Conv2d(c // 8, c // 4, 3, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c // 4, eps=eps)
        self.lif2 = _lif(config)
        self.conv3 = nn.Conv2d(c // 4, c // 2, 3, inner, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c // 2, eps=eps)
        self.lif3 = _lif(config)
        self.conv4 = nn.Conv2d(c // 2, c, 3, 2, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(c, eps=eps)
        self.lif4 = _lif(config)
        self.conv5 = nn.Conv2d(c, c - c // 8, 3, 2, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(c - c // 8, eps=eps)
        self.short_conv = nn.Conv2d(config.in_channels, c // 8, config.patch, config.patch, bias=False)
        self.short_bn = nn.BatchNorm2d(c // 8, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` to currents ``[T*B, C, H, W]``; the image is the input of every step."""
        short = self.short_bn(self.short_conv(x)).repeat(self.steps, 1, 1, 1)
        y = self.bn1(self.conv1(x)).repeat(self.steps, 1, 1, 1)
        y = self.bn2(self.conv2(self.lif1(y)))
        y = self.bn3(self.conv3(self.lif2(y)))
        y = self.bn4(self.conv4(self.lif3(y)))
        y = self.bn5(self.conv5(self.lif4(y)))
        return torch.cat((short, y), dim=1)


class TokenMixing(nn.Module):
    """Spiking token mixing: LIF, 1x1 convolution, LIF, token matrices, LIF, 1x1 convolution."""

    def __init__(self, config: STMixerConfig) -> None:
        super().__init__()
        c = config.embed_dim
        self.lif1 = _lif(config)
        self.conv1 = nn.Conv2d(c, c, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c, eps=config.bn_eps)
        self.lif2 = _lif(config)
        self.mix = Mix(config.heads, config.tokens)
        self.lif3 = _lif(config)
        self.conv2 = nn.Conv2d(c, c, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c, eps=config.bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Stream ``[T*B, C, H, W]`` to the current that is added to it."""
        y = self.bn1(self.conv1(self.lif1(x)))
        y = self.mix(self.lif2(y))
        return self.bn2(self.conv2(self.lif3(y)))


class FFN(nn.Module):
    """Per-token network: LIF, 1x1 convolution C to r*C, LIF, 1x1 convolution r*C to C."""

    def __init__(self, config: STMixerConfig) -> None:
        super().__init__()
        c, hidden = config.embed_dim, config.embed_dim * config.mlp_ratio
        self.lif1 = _lif(config)
        self.conv1 = nn.Conv2d(c, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden, eps=config.bn_eps)
        self.lif2 = _lif(config)
        self.conv2 = nn.Conv2d(hidden, c, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c, eps=config.bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Stream ``[T*B, C, H, W]`` to the current that is added to it."""
        y = self.bn1(self.conv1(self.lif1(x)))
        return self.bn2(self.conv2(self.lif2(y)))


class Block(nn.Module):
    """Token mixing and per-token network, each adding a current to the residual stream."""

    def __init__(self, config: STMixerConfig) -> None:
        super().__init__()
        self.token_mix = TokenMixing(config)
        self.ffn = FFN(config)

    def forward(self, x: Tensor) -> Tensor:
        """``[T*B, C, H, W]`` to the same shape."""
        x = x + self.token_mix(x)
        return x + self.ffn(x)


class STMixer(nn.Module):
    """The inference network: images ``[B, in_channels, S, S]`` to logits ``[B, classes]``."""

    def __init__(self, config: STMixerConfig | None = None) -> None:
        super().__init__()
        config = config or STMixerConfig()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.embed_dim, config.classes)

    def streams(self, x: Tensor) -> list[Tensor]:
        """The residual stream ``[T*B, C, H, W]`` before block 0 and after each block."""
        streams = [self.patch_embed(x)]
        for block in self.blocks:
            streams.append(block(streams[-1]))
        return streams

    def classify(self, stream: Tensor) -> Tensor:
        """Final stream ``[T*B, C, H, W]`` to logits ``[B, classes]``: mean over tokens, linear, mean over steps."""
        logits = self.head(stream.flatten(2).mean(dim=2))
        return logits.unflatten(0, (self.config.steps, -1)).mean(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` in 0..1 to logits ``[B, classes]``."""
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return self.classify(x)


def load_checkpoint(config_path: str | Path) -> STMixer:
    """Build the network of a checkpoint's JSON file and load the weights that lie beside it, in eval mode."""
    path = Path(config_path)
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("architecture") != "stmixer":
        raise ValueError(f"{path.name}: architecture {data.get('architecture')!r} is not 'stmixer'")
    model = STMixer(STMixerConfig.from_dict(data))
    load_weights(model, path.with_name(data["weights"]))
    return model.eval()


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load inference weights; every parameter and statistic must be there, and nothing else."""
    result = model.load_state_dict(load_file(str(path)), strict=False)
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise ValueError(f"{Path(path).name}: missing {missing}, unexpected {result.unexpected_keys}")


def stmixer_mnist_t1() -> STMixer:
    """Factory of the one-step MNIST network, without weights."""
    return STMixer(STMixerConfig(steps=1)).eval()


def stmixer_mnist_t4() -> STMixer:
    """Factory of the four-step MNIST network, without weights."""
    return STMixer(STMixerConfig(steps=4)).eval()
