"""MSViT: QKFormer whose gates also look at the neighbouring tokens.

After MSViT (IJCAI 2025, arXiv:2505.14719), written anew: the token attention has a third branch p, a convolution of
width 3 along the flattened tokens (row by row, so that it wraps from the end of a row to the start of the next), and
its gate adds the spikes of p to those of q. All stages before the last have C/2 channels.

The gate's threshold is 1.0 and so is that of the self-attention: the released code asks for 0.5, but the function
that builds its neurons drops the argument. With the membrane v/2 + x/2 the gate then opens from two spikes on, not from
one (in float32 also at the 25th step in a row with one). Unlike the released code, images of a batch do not meet.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.layers import ConvLIF, FormerConfig, SpikingSelfAttention, heads_of
from models.qkformer import QKFormerConfig, TwoStages

THRESHOLD = 1.0
"""Of the gate and of the self-attention, as the released code has it in effect."""


@dataclass(frozen=True)
class MSViTConfig(QKFormerConfig):
    """Sizes of one MSViT, with QKFormer's meaning."""


class MultiScaleTokenAttention(nn.Module):
    """A token's keys of a head pass if this head's queries at it and the spikes of p, which sees three tokens, are at least two."""

    def __init__(self, config: FormerConfig, channels: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.q = ConvLIF(config, channels, channels)
        self.k = ConvLIF(config, channels, channels)
        self.p_conv = nn.Conv1d(channels, channels, 3, padding=1, bias=False)
        self.p_bn = nn.BatchNorm1d(channels, eps=config.bn_eps)
        nn.init.constant_(self.p_bn.weight, 2.0)
        self.p_lif = config.lif()
        self.attn_lif = config.lif(THRESHOLD)
        self.proj = ConvLIF(config, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes ``[T*B, C, H, W]`` to spikes of the same shape."""
        q, k = heads_of(self.q(x), self.heads), heads_of(self.k(x), self.heads)
        p = self.p_lif(self.p_bn(self.p_conv(x.flatten(2)))).unflatten(1, (self.heads, -1))
        gate = self.attn_lif(q.sum(dim=2, keepdim=True) + p.sum(dim=2, keepdim=True))  # [T*B, heads, 1, N]
        return self.proj((gate * k).reshape(x.shape))


class MSViT(TwoStages):
    """Images ``[B, in_channels, S, S]`` to logits ``[B, classes]``."""

    def __init__(self, config: MSViTConfig | None = None) -> None:
        c = config or MSViTConfig()
        super().__init__(
            c, False, lambda: MultiScaleTokenAttention(c, c.embed_dim // 2),
            lambda: SpikingSelfAttention(c, c.embed_dim, keys_first=True, threshold=THRESHOLD),
        )  # fmt: skip
