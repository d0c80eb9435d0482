"""Modules as users write them: neurons of several time layouts, and a spiking token mixer in the style of published research code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FoldedLIF(nn.Module):
    """Time folded into the batch, time slow: [T * B, ...]. One plain test at T = 1, as research code does."""

    def __init__(self, steps: int, decay: float = 0.5, threshold: float = 1.0) -> None:
        super().__init__()
        self.T, self.decay, self.thresh = steps, decay, threshold

    def forward(self, x: Tensor) -> Tensor:
        if self.T == 1:
            return (x >= self.thresh).to(x.dtype)
        frames = x.view(self.T, -1, *x.shape[1:])
        mem, out = torch.zeros_like(frames[0]), []
        for t in range(self.T):
            mem = mem * self.decay + frames[t]
            spike = (mem - self.thresh >= 0).to(x.dtype)
            mem = mem * (1 - spike)
            out.append(spike)
        return torch.cat(out, 0)


class LeadingLIF(nn.Module):
    """[T, B, ...], strict, subtracting, with a threshold per channel and a floor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.linspace(0.5, 1.0, channels))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        th = self.threshold.reshape(-1, *[1] * (x.ndim - 3))
        v, out = torch.zeros_like(x[0]), []
        for current in x:
            v = torch.clamp(0.75 * v + current, min=-0.5)
            s = (v > th).to(x.dtype)
            v = v - s * th
            out.append(s)
        return torch.stack(out)


class StepLIF(nn.Module):
    """One step per call; keeps its membrane until reset."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold, self.v = threshold, None

    def forward(self, x: Tensor) -> Tensor:
        v = x if self.v is None else 0.5 * self.v + x
        s = (v >= self.threshold).to(x.dtype)
        self.v = v * (1 - s)
        return s

    def reset(self) -> None:
        self.v = None


def rule_folded(m: FoldedLIF) -> dict[str, Any]:
    return {"decay": m.decay, "threshold": m.thresh, "layout": "time_batch", "steps": m.T}


def rule_leading(m: LeadingLIF) -> dict[str, Any]:
    return {"decay": 0.75, "threshold": m.threshold.reshape(-1, 1, 1), "reset": "subtract", "strict": True, "floor": -0.5, "layout": "time"}


def rule_step(m: StepLIF) -> dict[str, Any]:
    return {"decay": 0.5, "threshold": m.threshold, "layout": "step"}


def settle(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms as after training, so that every layer fires; eval mode."""
    torch.manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(m.weight, 0.8, 2.0)
            nn.init.uniform_(m.bias, 0.1, 0.6)
            nn.init.uniform_(m.running_mean, -0.2, 0.2)
            nn.init.uniform_(m.running_var, 0.2, 0.6)
            m.num_batches_tracked.fill_(100)
    return model.eval()


def enliven(model: nn.Module, x: Tensor, rates: dict[str, float] | None = None, seed: int = 0) -> nn.Module:
    """Batch norms such that about a quarter of what follows each is above 2, the threshold of spikingjelly's neurons at rest, on a batch ``x``.

    ``rates``: other shares, by the end of the batch norm's name.
    """
    settle(model, seed)

    def hook(name: str) -> Any:
        rate = next((rate for end, rate in (rates or {}).items() if name.endswith(end)), 0.25)

        def before(norm: Any, inputs: Any) -> None:
            y = inputs[0].detach()
            if getattr(norm, "step_mode", "s") == "m":  # spikingjelly's, of [T, B, C, ...]
                y = y.flatten(0, 1)
            axes = [axis for axis in range(y.ndim) if axis != 1]
            norm.running_mean.copy_(y.mean(axes))
            norm.running_var.copy_(y.var(axes) + 0.01)
            norm.bias.zero_()
            norm.bias.add_(2.0 - float(norm.forward(inputs[0]).quantile(1.0 - rate)))

        return before

    handles = [m.register_forward_pre_hook(hook(name)) for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    reset_all(model)
    return model


# -- in the style of published code: frames are tiled, time stays folded, the head fills slices, a list comes out


class ExpandTime(nn.Module):
    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = T

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1).flatten(0, 1)


class HeadMix(nn.Module):
    """A bias-free Linear over the tokens for each head; the heads' results are written into slices."""

    def __init__(self, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.w = nn.ModuleList(nn.Linear(tokens, tokens, bias=False) for _ in range(heads))

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[1] // self.heads
        y = torch.zeros_like(x)
        for h, layer in enumerate(self.w):
            y[:, h * width : (h + 1) * width] = layer(x[:, h * width : (h + 1) * width])
        return y


class MixBlock(nn.Module):
    def __init__(self, dim: int, heads: int, tokens: int, T: int) -> None:
        super().__init__()
        self.lif1, self.lif2, self.lif3 = FoldedLIF(T), FoldedLIF(T), FoldedLIF(T)
        self.conv1, self.bn1 = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim)
        self.mix = HeadMix(heads, tokens)
        self.conv2, self.bn2 = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lif2(self.bn1(self.conv1(self.lif1(x))))
        return x + self.bn2(self.conv2(self.lif3(self.mix(y))))


class AuxBranch(nn.Module):
    """Only for training: no spikes, a layer norm."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.gelu(self.norm(x.mean(-1))))


class ResearchMixer(nn.Module):
    """Images [B, C, S, S] to [logits, branch, branch]; logits are the mean over T of a head that runs step by step."""

    def __init__(self, T: int = 2, dim: int = 8, heads: int = 2, size: int = 6, classes: int = 3, channels: int = 2) -> None:
        super().__init__()
        self.T, self.dim, self.classes = T, dim, classes
        self.expand = ExpandTime(T)
        self.stem = nn.Sequential(nn.Conv2d(channels, dim, 3, 1, 1, bias=False), nn.BatchNorm2d(dim), FoldedLIF(T), nn.AvgPool2d(2))
        self.down = nn.Sequential(nn.Conv2d(dim, dim - 2, 1, bias=False), nn.BatchNorm2d(dim - 2))
        self.short = nn.Sequential(nn.Conv2d(channels, 2, 2, 2, bias=False), nn.BatchNorm2d(2))
        self.blocks = nn.ModuleList(MixBlock(dim, heads, (size // 2) ** 2, T) for _ in range(2))
        self.aux = nn.ModuleList(AuxBranch(dim, classes) for _ in range(2))
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        B = x.shape[0]
        x = self.expand(x)
        x = torch.cat([self.short(x), self.down(self.stem(x))], dim=1).flatten(2)
        branches = []
        for block, aux in zip(self.blocks, self.aux, strict=True):
            branches.append(aux(x).view(self.T, B, -1).mean(0))
            x = block(x)
        x = x.mean(-1).view(self.T, B, -1)
        y = torch.zeros(self.T, B, self.classes, device=x.device)
        for t in range(self.T):
            y[t] = self.head(x[t])
        return [y.mean(0), *branches]


class StepNet(nn.Module):
    """A loop over steps inside forward, around neurons of one step per call."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(12, 10), StepLIF(), nn.Linear(10, 4), StepLIF(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out = 0.0
        for t in range(self.steps):
            out = out + self.lif2(self.fc2(self.lif1(self.fc1(x[:, t]))))
        return out


def reset_all(model: nn.Module) -> None:
    """Every module with a reset() back to its initial state."""
    for module in model.modules():
        if callable(getattr(module, "reset", None)):
            module.reset()


def module_spikes(
    model: nn.Module, x: Tensor, kinds: tuple[type, ...], steps: int, reset: Callable[[nn.Module], object] = reset_all
) -> tuple[dict[str, Any], Tensor]:
    """Spikes [n, T, values] of every neuron layer of the module in float64, sample by sample, and its outputs (the first of several)."""
    found: dict[str, list[Tensor]] = {}
    outputs = []
    model = model.double()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)

    def recorder(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, y: Any) -> Any:
            spikes = (y[0] if isinstance(y, tuple) else y).double()  # some libraries fire float32
            found.setdefault(name, []).append(spikes.reshape(-1))
            return (spikes, *y[1:]) if isinstance(y, tuple) else spikes

        return hook

    handles = [module.register_forward_hook(recorder(name)) for name, module in model.named_modules() if isinstance(module, kinds)]
    with torch.no_grad():
        for sample in x:
            reset(model)
            y = model(sample[None])
            outputs.append(y[0] if isinstance(y, list | tuple) else y)
    for handle in handles:
        handle.remove()
    torch.set_default_dtype(before)
    return {name: torch.cat(v).reshape(len(x), steps, -1).numpy().astype(np.uint8) for name, v in found.items()}, torch.stack(outputs)


def flat(spikes: dict[str, Any]) -> dict[str, Any]:
    """Arrays [n, T, ...] as [n, T, values]."""
    return {name: s.reshape(*s.shape[:2], -1) for name, s in spikes.items()}
