"""What the spiking networks are built from: LIF neurons, convolution with batch norm and LIF, attention, MLP, gates.

Shapes: B images, T time steps, C channels, N = H * W tokens (row-major). Time is folded into the batch axis,
time-major: entry ``t * B + b`` of a ``[T*B, ...]`` tensor is step ``t`` of image ``b``. Only ``LIF`` and the mean
before the classifier look across entries, and only along the steps of one image. Spikes keep the floating-point type
of their input, so ``model.double()`` gives a float64 reference.

The networks after Spikformer use the neuron of spikingjelly, ``v <- v/2 + x/2``; STMixer uses ``v <- v/2 + x``.
Channels belong to heads in order: head h owns the channels h*C/heads to (h+1)*C/heads - 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import neurosim

ATTENTION_SCALE = 0.125
"""Factor of (q k^T) v, whatever the width of a head."""


class _Spike(torch.autograd.Function):
    """Heaviside step with a triangular surrogate gradient of height 1 and half-width 1 around the threshold."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(v)
        ctx.threshold = threshold
        return (v >= threshold).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        slope = (v - ctx.threshold).abs_().neg_().add_(1.0).clamp_(min=0.0)
        return slope.mul_(grad), None


class LIF(nn.Module):
    """Leaky integrate-and-fire layer that keeps its membranes for the steps of one forward pass.

    Per step: ``v <- decay * v + input_scale * x``, ``s = (v >= threshold)``, ``v <- v * (1 - s)``; v starts at 0.
    With ``reset`` "none" v stays as it is. With one step this is a plain Heaviside of the scaled input. The spikes
    have the floating-point type of the input.
    """

    def __init__(self, steps: int = 1, decay: float = 0.5, threshold: float = 1.0, reset: str = "zero", input_scale: float = 1.0) -> None:
        super().__init__()
        if reset not in ("zero", "none"):
            raise ValueError(f"reset must be 'zero' or 'none', not {reset!r}")
        self.steps = steps
        self.decay = decay
        self.threshold = threshold
        self.reset = reset
        self.input_scale = input_scale

    def forward(self, x: Tensor) -> Tensor:
        """Turn currents ``[T*B, ...]`` into spikes of the same shape."""
        if self.input_scale != 1.0:
            x = x * self.input_scale
        if self.steps == 1:
            return _Spike.apply(x, self.threshold)
        spikes = []
        v: Tensor | None = None
        for current in x.unflatten(0, (self.steps, -1)).unbind(0):
            v = current if v is None else self.decay * v + current
            s = _Spike.apply(v, self.threshold)
            spikes.append(s)
            if self.reset == "zero":
                v = v * (1.0 - s.detach())
        return torch.cat(spikes)

    def extra_repr(self) -> str:
        """Text inside the brackets of ``repr``."""
        text = f"steps={self.steps}, decay={self.decay}, threshold={self.threshold}, reset={self.reset!r}"
        return text if self.input_scale == 1.0 else f"{text}, input_scale={self.input_scale}"


def lif_rule(lif: LIF) -> dict[str, Any]:
    """The neuron as ``neurosim.register_neuron`` wants it; no reset is a reset by subtracting 0."""
    reset = {"reset": "zero"} if lif.reset == "zero" else {"reset": "subtract", "reset_by": 0.0}
    return {
        "decay": lif.decay, "threshold": lif.threshold, "input_scale": lif.input_scale, "layout": "time_batch", "steps": lif.steps,
    } | reset  # fmt: skip


neurosim.register_neuron(LIF, lif_rule)


@dataclass(frozen=True)
class FormerConfig:
    """Sizes that all networks built here have in common."""

    img_size: int = 28
    in_channels: int = 1
    embed_dim: int = 64
    steps: int = 1
    mlp_ratio: int = 2
    depth: int = 2
    heads: int = 4
    classes: int = 10
    bn_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.embed_dim % 8 or self.embed_dim % self.heads:
            raise ValueError(f"embed_dim {self.embed_dim} must be a multiple of 8 and of heads ({self.heads})")
        if self.img_size % 4:
            raise ValueError(f"img_size {self.img_size} must be a multiple of 4")
        for name in ("steps", "depth", "mlp_ratio", "classes", "in_channels", "embed_dim", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def tokens(self) -> int:
        """Number of tokens N of the last stage, whose maps have a quarter of the image's side."""
        return (self.img_size // 4) ** 2

    def lif(self, threshold: float = 1.0) -> LIF:
        """spikingjelly's neuron with tau = 2 and hard reset: ``v <- v/2 + x/2``."""
        return LIF(self.steps, 0.5, threshold, "zero", 0.5)


class ConvLIF(nn.Module):
    """Convolution without bias, batch norm, LIF; ``pool`` "before" or "after" puts a 3x3 max-pool of stride 2 beside the LIF.

    After the LIF it is an OR of spikes; before it, a maximum of currents.
    """

    def __init__(self, config: FormerConfig, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, pool: str | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=config.bn_eps)
        nn.init.constant_(self.bn.weight, 2.0)  # half of it reaches the membrane: one neuron in six fires at first
        self.pool_before = nn.MaxPool2d(3, 2, 1) if pool == "before" else nn.Identity()
        self.lif = config.lif()
        self.pool_after = nn.MaxPool2d(3, 2, 1) if pool == "after" else nn.Identity()

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        """``[n, c_in, H, W]`` to spikes ``[repeat * n, c_out, H', W']``; ``repeat``: steps for which one input holds."""
        x = self.pool_before(self.bn(self.conv(x)))
        return self.pool_after(self.lif(x.repeat(repeat, 1, 1, 1) if repeat > 1 else x))


def heads_of(x: Tensor, heads: int) -> Tensor:
    """Maps ``[n, C, H, W]`` as ``[n, heads, C/heads, N]``."""
    return x.flatten(2).unflatten(1, (heads, -1))


class SpikingSelfAttention(nn.Module):
    """q, k, v spikes; LIF of (q k^T) v * 0.125; convolution with batch norm and LIF.

    ``keys_first`` multiplies as q (k^T v), which gives the same integers with fewer operations. The last LIF gets the
    tensor folded time-major like every other, so no membrane passes from image to image (released QKFormer and MSViT
    code feeds it [T*B, ...] as if that axis were time).
    """

    def __init__(self, config: FormerConfig, channels: int, keys_first: bool = False, threshold: float = 0.5) -> None:
        super().__init__()
        self.heads = config.heads
        self.keys_first = keys_first
        self.q = ConvLIF(config, channels, channels)
        self.k = ConvLIF(config, channels, channels)
        self.v = ConvLIF(config, channels, channels)
        self.attn_lif = config.lif(threshold)
        self.proj = ConvLIF(config, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes ``[T*B, C, H, W]`` to spikes of the same shape."""
        q, k, v = (heads_of(branch(x), self.heads).transpose(2, 3) for branch in (self.q, self.k, self.v))  # [T*B, heads, N, d]
        y = q @ (k.transpose(2, 3) @ v) if self.keys_first else (q @ k.transpose(2, 3)) @ v
        y = (y * ATTENTION_SCALE).transpose(2, 3).reshape(x.shape)
        return self.proj(self.attn_lif(y))


class MLP(nn.Module):
    """Per-token network C to r*C to C, each half with batch norm and LIF."""

    def __init__(self, config: FormerConfig, channels: int) -> None:
        super().__init__()
        self.fc1 = ConvLIF(config, channels, channels * config.mlp_ratio)
        self.fc2 = ConvLIF(config, channels * config.mlp_ratio, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes ``[T*B, C, H, W]`` to spikes of the same shape."""
        return self.fc2(self.fc1(x))


class Block(nn.Module):
    """A token mixer and an MLP, each adding its spikes to the residual stream (SEW add: the stream holds small integers)."""

    def __init__(self, config: FormerConfig, channels: int, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        self.mlp = MLP(config, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[T*B, C, H, W]`` to the same shape."""
        x = x + self.mixer(x)
        return x + self.mlp(x)


class Mix(nn.Module):
    """One N x N matrix per head over the tokens."""

    def __init__(self, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.tokens = tokens
        self.weight = nn.Parameter(torch.randn(heads, tokens, tokens) * (6.0 / tokens) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``y[b, c, n'] = sum_n weight[h(c), n', n] * x[b, c, n]`` on maps ``[T*B, C, H, W]``, tokens row-major."""
        tokens = x.reshape(x.shape[0], self.heads, -1, self.tokens)
        return torch.matmul(tokens, self.weight.transpose(1, 2)).reshape(x.shape)


class Former(nn.Module, ABC):
    """A network that turns images into a stream of spike sums ``[T*B, C, H, W]`` and reads its mean with a linear layer."""

    def __init__(self, config: FormerConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(config.embed_dim, config.classes)

    @abstractmethod
    def stream(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` to the stream after the last block."""

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, in_channels, S, S]`` in 0..1 to logits ``[B, classes]``: mean over tokens, linear, mean over steps."""
        logits = self.head(self.stream(x).flatten(2).mean(dim=2))
        return logits.unflatten(0, (self.config.steps, -1)).mean(dim=0)
