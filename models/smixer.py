"""SMixer: Spikformer's shape with one learned token matrix in place of self-attention.

After the description of SMixer (ICLR 2026, OpenReview 78glEsQB0v), whose code is not public: SMixer(X) = SN(W_M X)
between the convolutions that surround self-attention elsewhere. The full matrix W_M is used at inference; the paper's
pruning of steps and tokens, which ranks them by their spike counts, is left out. The map is halved by strided
convolutions, so that between two spiking layers everything is linear.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.layers import Block, ConvLIF, Former, FormerConfig, Mix
from models.spikformer import PatchSplitting


@dataclass(frozen=True)
class SMixerConfig(FormerConfig):
    """Sizes of one SMixer; ``heads`` is the number of token matrices, each for its share of the channels."""

    heads: int = 1


class SpikingMixing(nn.Module):
    """Convolution with batch norm and LIF; token matrix and LIF, SN(W_M X); convolution with batch norm and LIF."""

    def __init__(self, config: FormerConfig, channels: int) -> None:
        super().__init__()
        self.value = ConvLIF(config, channels, channels)
        self.mix = Mix(config.heads, config.tokens)
        nn.init.normal_(self.mix.weight, std=2.0 * (6.0 / config.tokens) ** 0.5)  # half of it reaches the membrane
        self.mix_lif = config.lif()
        self.proj = ConvLIF(config, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes ``[T*B, C, H, W]`` to spikes of the same shape."""
        return self.proj(self.mix_lif(self.mix(self.value(x))))


class SMixer(Former):
    """Images ``[B, in_channels, S, S]`` to logits ``[B, classes]``."""

    def __init__(self, config: SMixerConfig | None = None) -> None:
        config = config or SMixerConfig()
        super().__init__(config)
        c = config.embed_dim
        self.patch_embed = PatchSplitting(config, strided=True)
        self.blocks = nn.ModuleList(Block(config, c, SpikingMixing(config, c)) for _ in range(config.depth))

    def stream(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` to sums of spikes ``[T*B, C, S/4, S/4]``."""
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return x
