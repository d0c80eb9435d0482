"""QKFormer: gates in place of attention in the first stage, patch embeddings with a spiking shortcut.

After Zhou et al., "QKFormer: hierarchical spiking transformer using Q-K attention" (NeurIPS 2024), written anew, with
two stages (14 x 14 and 7 x 7 tokens for MNIST).

``QKFormer`` is the network as published: max-pool of the currents before the LIF where a map is halved, token
attention in the first stage, spiking self-attention in the last. Unlike the released code, the LIF behind the
projection of the self-attention sees time as time, so images of a batch do not meet.

``GateFormer`` is the variant of gates alone: strided convolutions in place of the max-pools, token attention in the
first stage and channel attention in the second. The paper has it as an ablation; no code for it was released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from models.layers import Block, ConvLIF, Former, FormerConfig, SpikingSelfAttention, heads_of


@dataclass(frozen=True)
class QKFormerConfig(FormerConfig):
    """Sizes of one QKFormer; the first stage has half of ``embed_dim`` channels and ``depth_1`` blocks, the last ``depth``."""

    depth: int = 1
    depth_1: int = 1


class PatchEmbedding(nn.Module):
    """SPEDS: two 3x3 convolutions, and the spikes of a 1x1 shortcut added; with ``halve`` all of it at half the resolution."""

    def __init__(self, config: FormerConfig, c_in: int, c_out: int, halve: bool, strided: bool) -> None:
        super().__init__()
        stride = 2 if halve else 1
        down: dict[str, int | str] = {"stride": stride} if strided or not halve else {"pool": "before"}
        self.conv1 = ConvLIF(config, c_in, c_out, 3, **down)
        self.conv2 = ConvLIF(config, c_out, c_out, 3)
        self.shortcut = ConvLIF(config, c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes or sums of spikes ``[T*B, c_in, H, W]`` to sums of spikes ``[T*B, c_out, H', W']``."""
        return self.conv2(self.conv1(x)) + self.shortcut(x)


class TokenAttention(nn.Module):
    """QKTA: a token's keys of a head pass if any of its queries of this head fires.

    The gate is a LIF with threshold 0.5 on the number of queries: one spike lifts it to 0.5 and resets it, none
    leaves it at 0, so it keeps nothing from step to step.
    """

    def __init__(self, config: FormerConfig, channels: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.q = ConvLIF(config, channels, channels)
        self.k = ConvLIF(config, channels, channels)
        self.attn_lif = config.lif(0.5)
        self.proj = ConvLIF(config, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes ``[T*B, C, H, W]`` to spikes of the same shape."""
        q, k = heads_of(self.q(x), self.heads), heads_of(self.k(x), self.heads)
        gate = self.attn_lif(q.sum(dim=2, keepdim=True))  # [T*B, heads, 1, N]
        return self.proj((gate * k).reshape(x.shape))


class ChannelAttention(nn.Module):
    """QKCA: a channel's keys pass if any of its queries fires at any token; the gate is that of ``TokenAttention``.

    With so many queries to a gate it would always be open unless queries are rare, so training starts with rare ones.
    """

    def __init__(self, config: FormerConfig, channels: int) -> None:
        super().__init__()
        self.q = ConvLIF(config, channels, channels)
        nn.init.constant_(self.q.bn.bias, -2.0)
        self.k = ConvLIF(config, channels, channels)
        self.attn_lif = config.lif(0.5)
        self.proj = ConvLIF(config, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes ``[T*B, C, H, W]`` to spikes of the same shape."""
        gate = self.attn_lif(self.q(x).sum(dim=(2, 3), keepdim=True))  # [T*B, C, 1, 1]
        return self.proj(gate * self.k(x))


class TwoStages(Former):
    """Stem, stage 1 with C/2 channels on maps of half the side, stage 2 with C channels on maps of a quarter."""

    def __init__(self, config: QKFormerConfig, strided: bool, mixer_1: Callable[[], nn.Module], mixer_2: Callable[[], nn.Module]) -> None:
        super().__init__(config)
        c = config.embed_dim
        self.stem = ConvLIF(config, config.in_channels, c // 8, 3, **({"stride": 2} if strided else {"pool": "before"}))
        self.patch_embed1 = PatchEmbedding(config, c // 8, c // 2, halve=False, strided=strided)
        self.stage1 = nn.ModuleList(Block(config, c // 2, mixer_1()) for _ in range(config.depth_1))
        self.patch_embed2 = PatchEmbedding(config, c // 2, c, halve=True, strided=strided)
        self.stage2 = nn.ModuleList(Block(config, c, mixer_2()) for _ in range(config.depth))

    def stream(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` to sums of spikes ``[T*B, C, S/4, S/4]``; the image is the input of every step."""
        x = self.patch_embed1(self.stem(x, repeat=self.config.steps))
        for block in self.stage1:
            x = block(x)
        x = self.patch_embed2(x)
        for block in self.stage2:
            x = block(x)
        return x


class QKFormer(TwoStages):
    """As published. Images ``[B, in_channels, S, S]`` to logits ``[B, classes]``."""

    def __init__(self, config: QKFormerConfig | None = None) -> None:
        c = config or QKFormerConfig()
        super().__init__(c, False, lambda: TokenAttention(c, c.embed_dim // 2), lambda: SpikingSelfAttention(c, c.embed_dim, keys_first=True))


class GateFormer(TwoStages):
    """Gates alone, no max-pool. Images ``[B, in_channels, S, S]`` to logits ``[B, classes]``."""

    def __init__(self, config: QKFormerConfig | None = None) -> None:
        c = config or QKFormerConfig()
        super().__init__(c, True, lambda: TokenAttention(c, c.embed_dim // 2), lambda: ChannelAttention(c, c.embed_dim))
