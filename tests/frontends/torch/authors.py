"""Look-alikes of published spiking transformers: their classes, names, layouts and quirks, not their code, in small sizes.

Every tensor between layers is [T, B, ...]; time is folded into the batch for convolutions and batch norms alone. The neuron is that of spikingjelly's
clock_driven package, which these codes import; ``load`` knows it by its library and name.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# -- spikingjelly.clock_driven.neuron


class BaseNode(nn.Module):
    __module__ = "spikingjelly.clock_driven.neuron"

    def __init__(self, v_threshold: float, v_reset: float | None) -> None:
        super().__init__()
        self.v_threshold, self.v_reset, self.surrogate_function = v_threshold, v_reset, None

    def reset(self) -> None:
        self.v = 0.0


class MultiStepLIFNode(BaseNode):
    __module__ = "spikingjelly.clock_driven.neuron"

    def __init__(self, tau: float = 2.0, v_threshold: float = 1.0, detach_reset: bool = False, backend: str = "torch") -> None:
        super().__init__(v_threshold, 0.0)
        self.tau, self.detach_reset, self.backend = tau, detach_reset, backend
        self.v = 0.0

    def forward(self, x_seq: Tensor) -> Tensor:
        spikes = []
        for x in x_seq:
            self.v = self.v + (x - self.v) / self.tau
            spike = (self.v >= self.v_threshold).to(x)
            self.v = self.v * (1.0 - spike)
            spikes.append(spike)
        return torch.stack(spikes)


Lif = partial(MultiStepLIFNode, tau=2.0, detach_reset=True, backend="cupy")


def lif_node_builder(kind: str, tau: float, detach_reset: bool, v_threshold: float = 1.0) -> nn.Module:
    """Builds the neuron of MSViT; the threshold is not handed on."""
    return MultiStepLIFNode(tau=tau, detach_reset=detach_reset, backend="cupy")


# -- Spikformer, as for CIFAR: Linear over the tokens, (q k^T) scaled, then v; max-pool after the neurons


class SpikformerMLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1_linear, self.fc1_bn, self.fc1_lif = nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), Lif()
        self.fc2_linear, self.fc2_bn, self.fc2_lif = nn.Linear(hidden, dim), nn.BatchNorm1d(dim), Lif()
        self.c_hidden, self.c_output = hidden, dim

    def forward(self, x: Tensor) -> Tensor:
        T, B, N, C = x.shape
        x = self.fc1_linear(x.flatten(0, 1))
        x = self.fc1_bn(x.transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, self.c_hidden).contiguous()
        x = self.fc2_linear(self.fc1_lif(x).flatten(0, 1))
        x = self.fc2_bn(x.transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, C).contiguous()
        return self.fc2_lif(x)


class SpikformerSSA(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, 0.125
        self.q_linear, self.q_bn, self.q_lif = nn.Linear(dim, dim), nn.BatchNorm1d(dim), Lif()
        self.k_linear, self.k_bn, self.k_lif = nn.Linear(dim, dim), nn.BatchNorm1d(dim), Lif()
        self.v_linear, self.v_bn, self.v_lif = nn.Linear(dim, dim), nn.BatchNorm1d(dim), Lif()
        self.attn_lif = Lif(v_threshold=0.5)
        self.proj_linear, self.proj_bn, self.proj_lif = nn.Linear(dim, dim), nn.BatchNorm1d(dim), Lif()

    def branch(self, x: Tensor, name: str, T: int, B: int) -> Tensor:
        linear, bn, lif = (getattr(self, f"{name}_{part}") for part in ("linear", "bn", "lif"))
        N, C = x.shape[-2:]
        out = bn(linear(x).transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, C).contiguous()
        return lif(out).reshape(T, B, N, self.num_heads, C // self.num_heads).permute(0, 1, 3, 2, 4).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        T, B, N, C = x.shape
        flat = x.flatten(0, 1)
        q, k, v = (self.branch(flat, name, T, B) for name in "qkv")
        attn = (q @ k.transpose(-2, -1)) * self.scale
        x = attn @ v
        x = self.attn_lif(x.transpose(2, 3).reshape(T, B, N, C).contiguous()).flatten(0, 1)
        return self.proj_lif(self.proj_bn(self.proj_linear(x).transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, C))


class SpikformerConvSSA(nn.Module):
    """As for ImageNet: [T, B, C, H, W], 1x1 convolutions over the flattened tokens, k^T v first."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, 0.125
        self.q_conv, self.q_bn, self.q_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.k_conv, self.k_bn, self.k_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.v_conv, self.v_bn, self.v_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.attn_lif = Lif(v_threshold=0.5)
        self.proj_conv, self.proj_bn, self.proj_lif = nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim), Lif()

    def forward(self, x: Tensor) -> Tensor:
        T, B, N, C = x.shape
        flat = x.transpose(-1, -2).flatten(0, 1)

        def heads(name: str) -> Tensor:
            conv, bn, lif = (getattr(self, f"{name}_{part}") for part in ("conv", "bn", "lif"))
            out = lif(bn(conv(flat)).reshape(T, B, C, N).contiguous())
            return out.transpose(-1, -2).reshape(T, B, N, self.num_heads, C // self.num_heads).permute(0, 1, 3, 2, 4).contiguous()

        q, k, v = heads("q"), heads("k"), heads("v")
        x = q @ (k.transpose(-2, -1) @ v)
        x = self.attn_lif((x * self.scale).transpose(3, 4).reshape(T, B, C, N).contiguous()).flatten(0, 1)
        return self.proj_lif(self.proj_bn(self.proj_conv(x)).reshape(T, B, C, N)).transpose(-1, -2)


class SpikformerBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int, attn: type[nn.Module] = SpikformerSSA, ratio: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)  # never used
        self.attn, self.mlp = attn(dim, num_heads), SpikformerMLP(dim, ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class SPS(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_conv, self.proj_bn, self.proj_lif = nn.Conv2d(2, dim // 2, 3, padding=1, bias=False), nn.BatchNorm2d(dim // 2), Lif()
        self.proj_conv1, self.proj_bn1, self.proj_lif1 = nn.Conv2d(dim // 2, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), Lif()
        self.maxpool1 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False)
        self.rpe_conv, self.rpe_bn, self.rpe_lif = nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), Lif()

    def forward(self, x: Tensor) -> Tensor:
        T, B, _, H, W = x.shape
        x = self.proj_bn(self.proj_conv(x.flatten(0, 1))).reshape(T, B, -1, H, W).contiguous()
        x = self.proj_lif(x).flatten(0, 1).contiguous()
        x = self.proj_bn1(self.proj_conv1(x)).reshape(T, B, -1, H, W).contiguous()
        x = self.maxpool1(self.proj_lif1(x).flatten(0, 1).contiguous())
        feat = x.reshape(T, B, -1, H // 2, W // 2).contiguous()
        x = self.rpe_lif(self.rpe_bn(self.rpe_conv(x)).reshape(T, B, -1, H // 2, W // 2).contiguous())
        return (x + feat).flatten(-2).transpose(-1, -2)  # T, B, N, C


class Spikformer(nn.Module):
    def __init__(
        self, T: int, dim: int = 12, num_heads: int = 2, depths: int = 2, num_classes: int = 3, attn: Any = SpikformerSSA,
        patch_embed: nn.Module | None = None, ratio: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.T = T
        self.patch_embed = SPS(dim) if patch_embed is None else patch_embed
        self.block = nn.ModuleList([SpikformerBlock(dim, num_heads, attn, ratio) for _ in range(depths)])
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x = self.patch_embed(x)
        for block in self.block:
            x = block(x)
        return self.head(x.mean(2).mean(0))


SpikformerConv = partial(Spikformer, attn=SpikformerConvSSA)

# -- QKFormer and MSViT: 1x1 convolutions, max-pool before the neurons, gates; k^T v first


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.mlp1_conv, self.mlp1_bn, self.mlp1_lif = nn.Conv2d(dim, hidden, 1), nn.BatchNorm2d(hidden), Lif()
        self.mlp2_conv, self.mlp2_bn, self.mlp2_lif = nn.Conv2d(hidden, dim, 1), nn.BatchNorm2d(dim), Lif()
        self.c_hidden, self.c_output = hidden, dim

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        x = self.mlp1_lif(self.mlp1_bn(self.mlp1_conv(x.flatten(0, 1))).reshape(T, B, self.c_hidden, H, W))
        return self.mlp2_lif(self.mlp2_bn(self.mlp2_conv(x.flatten(0, 1))).reshape(T, B, C, H, W))


class Token_QK_Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_conv, self.q_bn, self.q_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.k_conv, self.k_bn, self.k_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.attn_lif = Lif(v_threshold=0.5)
        self.proj_conv, self.proj_bn, self.proj_lif = nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim), Lif()

    def heads(self, x: Tensor, name: str, T: int, B: int) -> Tensor:
        conv, bn, lif = (getattr(self, f"{name}_{part}") for part in ("conv", "bn", "lif"))
        out = lif(bn(conv(x)).reshape(T, B, -1, x.shape[-1]))
        return out.unsqueeze(2).reshape(T, B, self.num_heads, -1, x.shape[-1])

    def gate(self, x: Tensor, T: int, B: int) -> Tensor:
        return self.attn_lif(torch.sum(self.heads(x, "q", T, B), dim=3, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        flat = x.flatten(3).flatten(0, 1)
        x = torch.mul(self.gate(flat, T, B), self.heads(flat, "k", T, B)).flatten(2, 3)
        return self.proj_lif(self.proj_bn(self.proj_conv(x.flatten(0, 1))).reshape(T, B, C, H, W))


class Token_MS_Attention(Token_QK_Attention):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads)
        self.p_conv, self.p_bn, self.p_lif = nn.Conv1d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.attn_lif = lif_node_builder("lif", tau=2.0, detach_reset=True, v_threshold=0.5)

    def gate(self, x: Tensor, T: int, B: int) -> Tensor:
        q, p = (torch.sum(self.heads(x, name, T, B), dim=3, keepdim=True) for name in "qp")
        return self.attn_lif(q + p)


class Spiking_Self_Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int, attn_lif: nn.Module, mixing: bool) -> None:
        super().__init__()
        self.num_heads, self.scale, self.mixing = num_heads, 0.125, mixing
        self.q_conv, self.q_bn, self.q_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.k_conv, self.k_bn, self.k_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.v_conv, self.v_bn, self.v_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Lif()
        self.attn_lif = attn_lif
        self.proj_conv, self.proj_bn, self.proj_lif = nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim), Lif()
        self.qkv_mp = nn.MaxPool1d(4)  # never used

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        N, flat = H * W, x.flatten(3).flatten(0, 1)

        def heads(name: str) -> Tensor:
            conv, bn, lif = (getattr(self, f"{name}_{part}") for part in ("conv", "bn", "lif"))
            out = lif(bn(conv(flat)).reshape(T, B, C, N).contiguous())
            return out.transpose(-1, -2).reshape(T, B, N, self.num_heads, C // self.num_heads).permute(0, 1, 3, 2, 4).contiguous()

        q, k, v = heads("q"), heads("k"), heads("v")
        x = k.transpose(-2, -1) @ v
        x = (q @ x) * self.scale
        x = self.attn_lif(x.transpose(3, 4).reshape(T, B, C, N).contiguous()).flatten(0, 1)
        x = self.proj_bn(self.proj_conv(x))
        if self.mixing:  # the released code: the neuron takes [T * B, C, N] for [steps, ...]
            return self.proj_lif(x).reshape(T, B, C, H, W)
        return self.proj_lif(x.reshape(T, B, C, H, W))


class TransformerBlock(nn.Module):
    def __init__(self, dim: int, attn: nn.Module, ratio: int = 2) -> None:
        super().__init__()
        self.attn, self.mlp = attn, MLP(dim, ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class PatchEmbedInit(nn.Module):
    def __init__(self, dim: int, channels: int = 2) -> None:
        super().__init__()
        self.proj_conv, self.proj_bn, self.proj_lif = nn.Conv2d(channels, dim // 2, 3, padding=1, bias=False), nn.BatchNorm2d(dim // 2), Lif()
        self.proj1_conv, self.proj1_bn, self.proj1_lif = nn.Conv2d(dim // 2, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), Lif()
        self.proj_res_conv, self.proj_res_bn, self.proj_res_lif = nn.Conv2d(dim // 2, dim, 1, bias=False), nn.BatchNorm2d(dim), Lif()

    def forward(self, x: Tensor) -> Tensor:
        T, B, _, H, W = x.shape
        x = self.proj_lif(self.proj_bn(self.proj_conv(x.flatten(0, 1))).reshape(T, B, -1, H, W)).flatten(0, 1)
        feat = self.proj_res_lif(self.proj_res_bn(self.proj_res_conv(x)).reshape(T, B, -1, H, W).contiguous())
        return self.proj1_lif(self.proj1_bn(self.proj1_conv(x)).reshape(T, B, -1, H, W).contiguous()) + feat


class PatchEmbeddingStage(nn.Module):
    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.proj3_conv, self.proj3_bn, self.proj3_lif = nn.Conv2d(dim, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), Lif()
        self.proj4_conv, self.proj4_bn = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.proj4_maxpool, self.proj4_lif = nn.MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False), Lif()
        self.proj_res_conv, self.proj_res_bn, self.proj_res_lif = nn.Conv2d(dim, out, 1, 2, bias=False), nn.BatchNorm2d(out), Lif()

    def forward(self, x: Tensor) -> Tensor:
        T, B, _, H, W = x.shape
        feat = x = x.flatten(0, 1).contiguous()
        x = self.proj3_lif(self.proj3_bn(self.proj3_conv(x)).reshape(T, B, -1, H, W).contiguous()).flatten(0, 1).contiguous()
        x = self.proj4_maxpool(self.proj4_bn(self.proj4_conv(x))).reshape(T, B, -1, H // 2, W // 2).contiguous()
        feat = self.proj_res_bn(self.proj_res_conv(feat)).reshape(T, B, -1, H // 2, W // 2).contiguous()
        return self.proj4_lif(x) + self.proj_res_lif(feat)


def last_lif(attention: Any) -> nn.Module:
    """The neuron behind the self-attention."""
    return Lif(v_threshold=0.5) if attention is Token_QK_Attention else lif_node_builder("lif", 2.0, True, v_threshold=0.5)


class Hierarchical(nn.Module):
    """QKFormer: ``attention`` Token_QK_Attention; MSViT: Token_MS_Attention, and no threshold of 0.5 anywhere."""

    def __init__(
        self, T: int, attention: Any = Token_QK_Attention, dim: int = 16, num_heads: int = 2, num_classes: int = 3, mixing: bool = False
    ) -> None:
        super().__init__()
        self.T = T
        half = dim // 2
        last = last_lif(attention)
        self.patch_embed1 = PatchEmbedInit(half)
        self.stage1 = nn.ModuleList([TransformerBlock(half, attention(half, num_heads))])
        self.patch_embed2 = PatchEmbeddingStage(half, dim)
        self.stage2 = nn.ModuleList([TransformerBlock(dim, Spiking_Self_Attention(dim, num_heads, last, mixing))])
        self.head = nn.Linear(dim, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.patch_embed1(x)
        for block in self.stage1:
            x = block(x)
        x = self.patch_embed2(x)
        for block in self.stage2:
            x = block(x)
        return x.flatten(3).mean(3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        return self.head(self.forward_features(x).mean(0))
