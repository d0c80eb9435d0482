"""Surrogate-module learning: training-only ANN branches on the residual stream, and the loss that joins them.

Spiking layers pass gradients badly. During training, cheap branches without spikes read the stream early, classify
the image on their own and give the layers before them a clean gradient. They are never exported.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.stmixer import Mix, STMixer


class SurrogateBranch(nn.Module):
    """An ANN block in the shape of a spiking one: BN, GELU, 1x1 convolution, token matrices; then a classifier."""

    def __init__(self, channels: int, heads: int, tokens: int, classes: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.mix = Mix(heads, tokens)
        self.bn3 = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, stream: Tensor) -> Tensor:
        """Stream ``[T*B, C, H, W]`` to logits ``[B, classes]``.

        Time is the slow part of the first axis, so the mean over steps is taken over axis 0 of ``[T, B, ...]``;
        it never joins two images.
        """
        x = stream.unflatten(0, (self.steps, -1)).mean(dim=0)
        y = F.gelu(self.bn2(self.conv1(F.gelu(self.bn1(x)))))
        x = x + F.gelu(self.bn3(self.mix(y)))
        return self.head(x.flatten(2).mean(dim=2))


class SurrogateTraining(nn.Module):
    """An STMixer with branches before block 0 and after every odd block.

    In training mode the result is the list of logits, the network's own first; in eval mode only its own.
    """

    def __init__(self, model: STMixer) -> None:
        super().__init__()
        c = model.config
        self.model = model
        self.points = [0, *(i + 1 for i in range(1, c.depth, 2))]
        self.branches = nn.ModuleList(SurrogateBranch(c.embed_dim, c.heads, c.tokens, c.classes, c.steps) for _ in self.points)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images ``[B, in_channels, S, S]`` to logits ``[B, classes]``, one tensor per classifier."""
        if not self.training:
            return [self.model(x)]
        streams = self.model.streams(x)
        branches = [branch(streams[i]) for branch, i in zip(self.branches, self.points, strict=True)]
        return [self.model.classify(streams[-1]), *branches]


def soft_kl(a: Tensor, b: Tensor, temperature: float, alpha: float) -> Tensor:
    """``alpha * KL(b || a) + (1 - alpha) * KL(a || b)`` of softened logits ``[B, classes]``, times temperature^2."""
    log_a = F.log_softmax(a / temperature, dim=1)
    log_b = F.log_softmax(b / temperature, dim=1)
    forward = F.kl_div(log_a, log_b, reduction="batchmean", log_target=True)
    backward = F.kl_div(log_b, log_a, reduction="batchmean", log_target=True)
    return (alpha * forward + (1.0 - alpha) * backward) * temperature**2


def surrogate_loss(
    logits: list[Tensor],
    target: Tensor,
    weight: float = 0.5,
    temperature: float = 3.0,
    alpha: float = 0.5,
    label_smoothing: float = 0.0,
) -> Tensor:
    """``(1 - weight)`` times the mean cross-entropy plus ``weight`` times the mean soft KL to the branches."""
    ce = sum(F.cross_entropy(x, target, label_smoothing=label_smoothing) for x in logits) / len(logits)
    if len(logits) == 1:
        return ce
    kl = sum(soft_kl(logits[0], x, temperature, alpha) for x in logits[1:]) / (len(logits) - 1)
    return (1.0 - weight) * ce + weight * kl
