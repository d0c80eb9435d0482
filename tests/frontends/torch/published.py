"""The published networks in their published sizes: look-alikes of the authors' classes, names and layouts, with random weights and calibrated norms.

STMixer as its code has it (time folded into the batch, maps flattened before the neurons); Spikformer, QKFormer and MSViT put together from
``authors``. Parameter counts are those of the papers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.frontends.torch import authors
from tests.frontends.torch.authors import Lif

# -- STMixer: LIFSpike folds the steps into the batch, slowest first; at T = 1 it is a step function


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: float) -> Tensor:
        return (x >= 0).float()


class LIFSpike(nn.Module):
    def __init__(self, T: int = 1, thresh: float = 1.0, tau: float = 0.5, gamma: float = 2.5, use_ann: bool = False) -> None:
        super().__init__()
        self.T, self.thresh, self.tau, self.gamma, self.use_ann = T, thresh, tau, gamma, use_ann
        self.act_ann, self.snn_act, self.soft_reset = nn.ReLU(), _Step.apply, False

    def forward(self, x: Tensor) -> Tensor:
        if self.use_ann:
            return self.act_ann(x)
        if self.T == 1:
            return self.snn_act(x - self.thresh, self.gamma)
        frames = x.view(self.T, -1, *x.shape[1:])
        mem, spikes = torch.zeros_like(frames[0]), torch.zeros_like(frames)
        for t in range(self.T):
            mem = mem * self.tau + frames[t]
            spike = self.snn_act(mem - self.thresh, self.gamma)
            spikes[t] = spike
            mem = mem - self.thresh * spike if self.soft_reset else mem * (1 - spike)
        return spikes.view(-1, *frames.shape[2:])


def norm_conv(rank: int, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[rank - 1]
    return [conv(inputs, outputs, kernel, stride, padding, bias=False), norm(outputs)]


class SPSV2(nn.Module):
    def __init__(self, downsample: int, channels: int, dim: int, T: int) -> None:
        super().__init__()
        inner, widths = (1 if downsample == 2 else 2), (channels, dim // 8, dim // 4, dim // 2, dim)
        layers: list[nn.Module] = []
        for k, stride in enumerate((1, inner, inner, 2)):
            layers += [*norm_conv(2, widths[k], widths[k + 1], 3, stride, 1), LIFSpike(T=T)]
        self.proj_conv = nn.Sequential(*layers, *norm_conv(2, dim, dim // 8 * 7, 3, 2, 1))
        self.short_proj1 = nn.Sequential(*norm_conv(2, channels, dim // 8, 2**downsample, 2**downsample))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.short_proj1(x), self.proj_conv(x)], dim=1).flatten(-2)


class STM(nn.Module):
    def __init__(self, dim: int, tokens: int, num_head: int) -> None:
        super().__init__()
        self.num_head = num_head
        self.linear_mix = nn.ModuleList([nn.Linear(tokens, tokens, bias=False) for _ in range(num_head)])

    def forward(self, x: Tensor) -> Tensor:
        heads = x.reshape(x.size(0), self.num_head, x.size(1) // self.num_head, -1)
        y = torch.zeros_like(heads)
        for i, linear in enumerate(self.linear_mix):
            y[:, i, :, :] = linear(heads[:, i, :, :])
        return y.reshape(x.shape)


class TokenMixer(nn.Module):
    def __init__(self, dim: int, tokens: int, num_head: int, T: int) -> None:
        super().__init__()
        self.fc1 = nn.Sequential(LIFSpike(T=T), *norm_conv(1, dim, dim), LIFSpike(T=T))
        self.attn = STM(dim, tokens, num_head)
        self.fc2 = nn.Sequential(LIFSpike(T=T), *norm_conv(1, dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.attn(self.fc1(x)))


class FFN(nn.Module):
    def __init__(self, dim: int, ratio: int, T: int) -> None:
        super().__init__()
        self.fc1 = nn.Sequential(LIFSpike(T=T), *norm_conv(1, dim, dim * ratio))
        self.fc2 = nn.Sequential(LIFSpike(T=T), *norm_conv(1, dim * ratio, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x))


class Encoder(nn.Module):
    def __init__(self, dim: int, tokens: int, ratio: int, num_head: int, T: int) -> None:
        super().__init__()
        self.token_mix, self.channel_mix = TokenMixer(dim, tokens, num_head, T), FFN(dim, ratio, T)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mix(x)
        return x + self.channel_mix(x)


class ExpandTime(nn.Module):
    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = T

    def forward(self, x: Tensor) -> Tensor:
        frames = x[None].repeat(self.T, 1, 1, 1, 1)
        return frames.view(-1, *frames.shape[2:])


class STMixerV3(nn.Module):
    def __init__(
        self, img_size: int = 32, downsample_times: int = 2, embd_dims: int = 384, T: int = 1, mlp_ratio: int = 4, depths: int = 4,
        num_head: int = 16, num_classes: int = 100,
    ) -> None:  # fmt: skip
        super().__init__()
        self.T, self.expand = T, ExpandTime(T)
        self.patch_embd = SPSV2(downsample_times, 3, embd_dims, T)
        tokens = (img_size // 2**downsample_times) ** 2
        self.block = nn.ModuleList([Encoder(embd_dims, tokens, mlp_ratio, num_head, T) for _ in range(depths)])
        self.head = nn.Linear(embd_dims, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embd(self.expand(x))
        for block in self.block:
            x = block(x)
        x = x.mean(dim=-1)
        return self.head(x.reshape(self.T, -1, x.shape[-1])).mean(dim=0)


# -- Spikformer: four convolutions, max-pools of spikes behind the last two (CIFAR) or all (ImageNet)


class SPS(nn.Module):
    def __init__(self, dim: int, pools: tuple[bool, ...]) -> None:
        super().__init__()
        widths, self.pools = (3, dim // 8, dim // 4, dim // 2, dim), pools
        for k, end in enumerate(("", "1", "2", "3")):
            conv = nn.Conv2d(widths[k], widths[k + 1], 3, padding=1, bias=False)
            for kind, layer in (("conv", conv), ("bn", nn.BatchNorm2d(widths[k + 1])), ("lif", Lif())):
                setattr(self, f"proj_{kind}{end}", layer)
            setattr(self, f"maxpool{end}", nn.MaxPool2d(3, 2, 1))
        self.rpe_conv, self.rpe_bn, self.rpe_lif = nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), Lif()

    def forward(self, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        x = x.flatten(0, 1)
        for end, pooled in zip(("", "1", "2", "3"), self.pools, strict=True):
            x = getattr(self, f"proj_bn{end}")(getattr(self, f"proj_conv{end}")(x))
            x = getattr(self, f"proj_lif{end}")(x.reshape(T, B, *x.shape[1:]).contiguous()).flatten(0, 1).contiguous()
            x = getattr(self, f"maxpool{end}")(x) if pooled else x
        feat = x.reshape(T, B, *x.shape[1:]).contiguous()
        x = self.rpe_lif(self.rpe_bn(self.rpe_conv(x)).reshape(feat.shape).contiguous())
        return (x + feat).flatten(-2).transpose(-1, -2)  # T, B, N, C


def spikformer(T: int, dim: int, heads: int, depths: int, classes: int, *, imagenet: bool = False) -> nn.Module:
    """``imagenet``: 1x1 convolutions for q, k, v and four max-pools."""
    stem = SPS(dim, (imagenet, imagenet, True, True))
    attention = authors.SpikformerConvSSA if imagenet else authors.SpikformerSSA
    return authors.Spikformer(T, dim, heads, depths, classes, attention, stem, ratio=4)


# -- QKFormer-HST and MSViT for CIFAR: three stages of 1, 1 and 2 blocks


class HST(nn.Module):
    """``widths`` of the three stages; ``attention`` of the first two: Token_QK_Attention (QKFormer) or Token_MS_Attention (MSViT)."""

    def __init__(self, T: int, widths: tuple[int, int, int], attention: Any, classes: int = 10, heads: int = 8) -> None:
        super().__init__()
        self.T = T
        self.patch_embed1 = authors.PatchEmbedInit(widths[0], 3)
        self.patch_embed2, self.patch_embed3 = (authors.PatchEmbeddingStage(widths[k], widths[k + 1]) for k in (0, 1))
        self.stage1, self.stage2 = (nn.ModuleList([authors.TransformerBlock(w, attention(w, heads), 4)]) for w in widths[:2])
        self.stage3 = nn.ModuleList([
            authors.TransformerBlock(widths[2], authors.Spiking_Self_Attention(widths[2], heads, authors.last_lif(attention), False), 4)
            for _ in range(2)
        ])  # fmt: skip
        self.head = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        for embed, stage in ((self.patch_embed1, self.stage1), (self.patch_embed2, self.stage2), (self.patch_embed3, self.stage3)):
            x = embed(x)
            for block in stage:
                x = block(x)
        return self.head(x.flatten(3).mean(3).mean(0))


# -- the table


@dataclass(frozen=True)
class Published:
    """``make``: the module. ``size``: side of the image. ``parameters`` as published, in millions. ``rates``: shares of currents above the threshold
    where they are not ``rate``, by the end of the norm's name. ``gains`` of norms likewise."""

    make: Callable[[], nn.Module]
    size: int
    parameters: float
    steps: int
    threshold: float = 2.0
    rate: float = 0.12
    rates: dict[str, float] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)


STREAM = {"patch_embd.proj_conv.13": 1.0, "short_proj1.1": 1.0, "fc2.2": 0.3}
QUIET = {"stage1.0.attn.q_bn": 0.02, "stage2.0.attn.q_bn": 0.02, "attn.p_bn": 0.02}
NETWORKS: dict[str, Published] = {
    "stmixer-4-384": Published(STMixerV3, 32, 8.26, 1, 1.0, 0.15, gains=STREAM),
    "spikformer-4-384": Published(lambda: spikformer(4, 384, 12, 4, 10), 32, 9.33, 4),
    "qkformer-hst-4-384": Published(lambda: HST(4, (96, 192, 384), authors.Token_QK_Attention), 32, 6.706, 4, rates=QUIET),
    "msvit-4-384": Published(lambda: HST(4, (192, 192, 384), authors.Token_MS_Attention), 32, 7.559, 4, rates=QUIET),
    "stmixer-8-768": Published(lambda: STMixerV3(224, 4, 768, 1, 4, 8, 8, 1000), 224, 58.7, 1, 1.0, 0.15, gains=STREAM),
    "spikformer-8-512": Published(lambda: spikformer(4, 512, 8, 8, 1000, imagenet=True), 224, 29.71, 4),
}


def images(name: str, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images [count, 3, y, x] of coloured blots, smooth as photographs are."""
    size, rng = NETWORKS[name].size, np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-60, 315, (count, 3, size // 4, size // 4)))
    fine = nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic") + torch.from_numpy(rng.normal(0, 8, (count, 3, size, size)))
    return fine.clamp(0, 255).round().numpy().astype(np.uint8)


def calibrated(name: str, seed: int = 0) -> nn.Module:
    """The module in eval mode, with norms as after training: about ``rate`` of what follows each is above the threshold at rest."""
    spec = NETWORKS[name]
    torch.manual_seed(seed)
    model = spec.make().eval()
    rng = torch.Generator().manual_seed(seed)

    def share(path: str, table: dict[str, float], default: float) -> float:
        return next((value for end, value in table.items() if path.endswith(end)), default)

    def hook(path: str) -> Any:
        def before(norm: Any, inputs: Any) -> None:
            x = inputs[0].detach()
            axes = [axis for axis in range(x.ndim) if axis != 1]
            norm.running_mean.copy_(x.mean(axes))
            norm.running_var.copy_(x.var(axes) + 1e-3)
            norm.num_batches_tracked.fill_(100)
            norm.weight.copy_(share(path, spec.gains, 1.0) * torch.empty(norm.weight.shape).uniform_(0.8, 1.2, generator=rng))
            norm.bias.zero_()
            if share(path, spec.gains, 1.0) != 1.0:
                return  # it writes into a stream of currents, and leaves its mean alone
            y = norm.forward(x).flatten()
            some = y[torch.randperm(len(y), generator=rng)[: 2**20]]
            norm.bias.fill_(spec.threshold - float(some.quantile(1.0 - share(path, spec.rates, spec.rate))))

        return before

    for m in model.modules():
        if isinstance(m, STM):  # no norm stands behind the mixing: sums of about the rate of the spikes, as wide as the threshold
            for linear in m.linear_mix:
                nn.init.normal_(linear.weight, 0.0, (spec.rate * linear.in_features) ** -0.5)
    norms = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    handles = [m.register_forward_pre_hook(hook(path)) for path, m in norms]
    with torch.no_grad():
        model(torch.from_numpy(images(name, 1, seed=100)) / 255.0)
    for handle in handles:
        handle.remove()
    for m in model.modules():
        if isinstance(m, authors.BaseNode):
            m.reset()
    return model


def spikes_of(model: nn.Module, x: NDArray[np.uint8], steps: int) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float64]]:
    """What the module itself fires in float64, image by image: neuron layer -> [n, T, ...] in its own axes; and its scores [n, classes]."""
    kept: dict[str, list[Tensor]] = {}

    def recorder(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, y: Tensor) -> Tensor:
            kept.setdefault(path, []).append(y.reshape(steps, *y.shape[1 if isinstance(module, LIFSpike) else 2 :]).to(torch.uint8))
            return y.double()  # STMixer fires float32

        return hook

    model, scores = model.double(), []
    handles = [m.register_forward_hook(recorder(path)) for path, m in model.named_modules() if isinstance(m, LIFSpike | authors.BaseNode)]
    with torch.no_grad():
        for image in x:
            for m in model.modules():
                if isinstance(m, authors.BaseNode):
                    m.reset()
            scores.append(model(torch.from_numpy(image[None]).double() / 255.0)[0])
    for handle in handles:
        handle.remove()
    model.float()
    return {path: torch.stack(parts).numpy() for path, parts in kept.items()}, torch.stack(scores).numpy()
