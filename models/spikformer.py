"""Spikformer: spiking self-attention on a residual stream of spike sums.

After Zhou et al., "Spikformer: when spiking neural network meets transformer" (ICLR 2023), written anew: patch
splitting (SPS) by convolutions whose max-pools come after the LIF, a convolution for the position of the tokens (RPE),
blocks of spiking self-attention and MLP. The released code's unused layer norms are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.layers import Block, ConvLIF, Former, FormerConfig, SpikingSelfAttention


@dataclass(frozen=True)
class SpikformerConfig(FormerConfig):
    """Sizes of one Spikformer; the defaults are those of the MNIST network."""


class PatchSplitting(nn.Module):
    """SPS and RPE: four 3x3 convolutions to C/8, C/4, C/2, C channels, then a fifth whose spikes are added.

    The first and the third halve the map with a max-pool of their spikes (released code: the last two for CIFAR, all
    four for ImageNet).
    """

    def __init__(self, config: FormerConfig, strided: bool = False) -> None:
        super().__init__()
        c = config.embed_dim
        half = {"stride": 2} if strided else {"pool": "after"}
        self.steps = config.steps
        self.conv1 = ConvLIF(config, config.in_channels, c // 8, 3, **half)
        self.conv2 = ConvLIF(config, c // 8, c // 4, 3)
        self.conv3 = ConvLIF(config, c // 4, c // 2, 3, **half)
        self.conv4 = ConvLIF(config, c // 2, c, 3)
        self.rpe = ConvLIF(config, c, c, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` to sums of spikes ``[T*B, C, S/4, S/4]``; the image is the input of every step."""
        x = self.conv4(self.conv3(self.conv2(self.conv1(x, repeat=self.steps))))
        return x + self.rpe(x)


class Spikformer(Former):
    """Images ``[B, in_channels, S, S]`` to logits ``[B, classes]``."""

    def __init__(self, config: SpikformerConfig | None = None) -> None:
        config = config or SpikformerConfig()
        super().__init__(config)
        c = config.embed_dim
        self.patch_embed = PatchSplitting(config)
        self.blocks = nn.ModuleList(Block(config, c, SpikingSelfAttention(config, c)) for _ in range(config.depth))

    def stream(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` to sums of spikes ``[T*B, C, S/4, S/4]``."""
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return x
