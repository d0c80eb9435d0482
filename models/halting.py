"""Spikformer whose tokens halt: a token that has collected enough spikes of its score is dropped from then on.

After the idea of STAS (arXiv:2508.14138), of which no code and no formulas are public. In front of every block a few
score neurons read each token; a halting neuron per token counts their spikes over the steps of the sample and is
never reset, so that once it fires it fires in every later step. All spikes of a halted token are dropped there:
x * (1 - halt). Batch norms inside the blocks are kept such that without input they bring no neuron to its threshold,
so a dropped token stays silent in this block and in all later ones of the step.

Differences from the paper: the sum of sigmoid scores is a count of spikes; a token that halts in a later block still
passes the earlier blocks in the next step (a serial scan over blocks and steps would need a way back in time); the
average of a token's outputs weighted by its scores is not taken, what it gave until then counts; steps do not share
one patch embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers import LIF, ConvLIF, FormerConfig
from models.spikformer import Spikformer

SILENCE = 0.9
"""Largest share of the threshold that a batch norm may give without input."""


@dataclass(frozen=True)
class HaltingConfig(FormerConfig):
    """Sizes of one halting Spikformer; a token halts after ``halt_count`` spikes of its ``scores`` score neurons."""

    steps: int = 2
    scores: int = 4
    halt_count: int = 2


class Halt(nn.Module):
    """Score neurons and halting neuron in front of one block; ``lif`` counts: no leak, no reset, a spike from halt_count on."""

    def __init__(self, config: HaltingConfig) -> None:
        super().__init__()
        self.score = ConvLIF(config, config.embed_dim, config.scores)
        self.lif = LIF(config.steps, 1.0, 1.0, "none", 1.0 / config.halt_count)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes ``[T*B, C, H, W]`` to ``[T*B, 1, H, W]``: 1 where the token has halted, in this step or before."""
        return self.lif(self.score(x).sum(dim=1, keepdim=True))


class HaltingSpikformer(Spikformer):
    """Images ``[B, in_channels, S, S]`` to logits ``[B, classes]``."""

    config: HaltingConfig

    def __init__(self, config: HaltingConfig | None = None) -> None:
        config = config or HaltingConfig()
        super().__init__(config)
        self.halts = nn.ModuleList(Halt(config) for _ in range(config.depth))

    def stream(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` to sums of spikes ``[T*B, C, S/4, S/4]``, 0 for halted tokens."""
        x = self.patch_embed(x)
        for halt, block in zip(self.halts, self.blocks, strict=True):
            x = block(x * (1.0 - halt(x)))
        return x

    @torch.no_grad()
    def project(self) -> None:
        """Bring the batch norms inside the blocks back to where an input of zeros fires no neuron; called after every change of them."""
        for module in self.blocks.modules():
            if isinstance(module, ConvLIF):
                norm, lif = module.bn, module.lif
                # constant current x: v -> x * input_scale / (1 - decay)
                limit = SILENCE * lif.threshold * (1.0 - lif.decay) / lif.input_scale
                shift = norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps)
                norm.bias.copy_(torch.minimum(norm.bias, limit + shift))


def live(halts: list[Tensor]) -> Tensor:
    """Which tokens each block still gets, ``[depth, T*B, 1, H, W]``, from the halting spikes in front of every block."""
    return torch.cumprod(1.0 - torch.stack(halts), dim=0)
