"""Networks with random weights whose batch norms are set so that every layer fires at a sensible rate.

    model = calibrated("qkformer", steps=4, seed=1)

They need no training and exist at every number of steps; tests of exactness use them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.halting import Halt, HaltingSpikformer
from models.layers import LIF, ConvLIF, Former, SpikingSelfAttention
from models.msvit import MultiScaleTokenAttention
from models.qkformer import ChannelAttention, TokenAttention
from models.registry import FORMERS, build

IMAGES = Path(__file__).resolve().parent.parent / "neurosim" / "data" / "mnist200.npz"
RATE = 0.15
"""Spikes per neuron and step that a layer gets unless ``wanted_rates`` says otherwise."""


def mnist200() -> Tensor:
    """The shipped images ``[200, 1, 28, 28]`` in 0..1."""
    with np.load(IMAGES) as file:
        return torch.from_numpy(file["images"])[:, None].float() / 255.0


def wanted_rates(model: nn.Module) -> dict[str, float]:
    """Rates of the layers in front of counters, by the name of their batch norm: many spikes for high thresholds, few for low ones."""
    rates: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, SpikingSelfAttention):
            rates |= dict.fromkeys((f"{name}.q.bn", f"{name}.k.bn", f"{name}.v.bn"), 0.18 if module.attn_lif.threshold < 1.0 else 0.24)
        elif isinstance(module, MultiScaleTokenAttention):
            rates |= dict.fromkeys((f"{name}.q.bn", f"{name}.p_bn"), 0.08)
        elif isinstance(module, TokenAttention):
            rates[f"{name}.q.bn"] = 0.04
        elif isinstance(module, ChannelAttention):
            rates[f"{name}.q.bn"] = 0.025
        elif isinstance(module, Halt):
            rates[f"{name}.score.bn"] = 0.15 if module.lif.steps == 1 else 0.24 / module.lif.steps
    return rates


def pairs(model: nn.Module) -> dict[str, tuple[nn.Module, LIF]]:
    """Each batch norm's name with it and the LIF behind it."""
    modules = dict(model.named_modules())
    found = {}
    for name, module in modules.items():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            lif = modules[name.removesuffix("bn") + "lif"]
            if not isinstance(lif, LIF):
                raise TypeError(f"{name} has no LIF behind it")
            found[name] = (module, lif)
    return found


def set_rate(norm: nn.Module, parent: nn.Module | None, lif: LIF, x: Tensor, rate: float, repeat: int) -> None:
    """Statistics of ``norm`` from its input ``x [n, C, ...]``; then a common shift of its bias so that ``lif`` fires at ``rate``."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    norm.running_mean.copy_(x.mean(dim=axes))
    norm.running_var.copy_(x.var(dim=axes).clamp(min=1e-3))
    y = norm.forward(x)  # not through the hook that called this
    if isinstance(parent, ConvLIF):
        y = parent.pool_before(y)
    y = y.repeat(repeat, *[1] * (y.ndim - 1))
    low, high = -20.0, 20.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if float(lif(y + middle).mean()) > rate else (middle, high)
    norm.bias.add_(low - 1e-3)  # neurons without input are alike: the search ends where they would fire all at once, a tie for each


@torch.no_grad()
def calibrated(architecture: str, steps: int = 1, seed: int = 0, images: Tensor | None = None, **sizes: int) -> Former:
    """A network of one of ``registry.FORMERS`` with random weights, in eval mode; every layer fires at 2 to 40 % on ``images``.

    ``images [n, 1, S, S]`` in 0..1, default 100 of the shipped ones. ``sizes``: other fields of the configuration.
    """
    if architecture not in FORMERS:
        raise ValueError(f"architecture {architecture!r} is not known; use one of {', '.join(FORMERS)}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(architecture, steps=steps, **sizes).eval()
        for norm, _ in pairs(model).values():
            nn.init.uniform_(norm.weight, 1.5, 2.5)
            nn.init.uniform_(norm.bias, -0.3, 0.3)
        for module in model.modules():
            if isinstance(module, ChannelAttention):  # the same few queries in fewer channels leave more gates shut
                nn.init.uniform_(module.q.bn.bias, -8.0, 0.0)
    rates, modules, handles = wanted_rates(model), dict(model.named_modules()), []
    for name, (norm, lif) in pairs(model).items():
        parent = modules.get(name.rpartition(".")[0])
        first = name in ("patch_embed.conv1.bn", "stem.bn")

        def hook(
            norm: nn.Module, inputs: tuple[Tensor], name: str = name, lif: LIF = lif, parent: nn.Module | None = parent, first: bool = first
        ) -> None:
            set_rate(norm, parent, lif, inputs[0], rates.get(name, RATE), steps if first else 1)

        handles.append(norm.register_forward_pre_hook(hook))
    model(mnist200()[:100] if images is None else images)
    for handle in handles:
        handle.remove()
    if isinstance(model, HaltingSpikformer):
        model.project()
    return model
