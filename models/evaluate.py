"""Figures of a trained network: accuracy, firing rates, fake quantisation, sensitivity to leak and reset, halting."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.halting import HaltingSpikformer, live
from models.layers import LIF, Former
from models.stmixer import STMixer

Model = STMixer | Former


def lif_layers(model: nn.Module) -> dict[str, LIF]:
    """The spiking layers by qualified name, in the order in which they were defined."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LIF)}


@contextmanager
def record_spikes(model: nn.Module, spikes: dict[str, Tensor]) -> Iterator[None]:
    """While open, each forward pass writes every LIF's output ``[T*B, ...]`` into ``spikes`` under its name."""

    def keep(name: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            spikes[name] = output

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in lif_layers(model).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def accuracy(model: Model, images: Tensor, labels: Tensor, batch: int = 250) -> float:
    """Share of correct predictions over images ``[n, 1, S, S]``."""
    model.eval()
    correct = sum(int((model(images[i : i + batch]).argmax(dim=1) == labels[i : i + batch]).sum()) for i in range(0, len(images), batch))
    return correct / len(images)


@torch.no_grad()
def firing(model: Model, images: Tensor, batch: int = 250) -> tuple[dict[str, float], dict[str, float]]:
    """Mean spikes per neuron and step of each LIF layer, and the share of its neurons that never fired."""
    model.eval()
    counts: dict[str, Tensor] = {}
    steps = model.config.steps
    for i in range(0, len(images), batch):
        spikes: dict[str, Tensor] = {}
        with record_spikes(model, spikes):
            model(images[i : i + batch])
        for name, s in spikes.items():
            total = s.sum(dim=0, dtype=torch.float64)
            counts[name] = counts[name] + total if name in counts else total
    rates = {name: float(c.mean()) / (len(images) * steps) for name, c in counts.items()}
    silent = {name: float((c == 0).double().mean()) for name, c in counts.items()}
    return rates, silent


@torch.no_grad()
def spike_change(model: Model, images: Tensor, batch: int = 250, **changes: float | str) -> float:
    """Run with altered LIF attributes: number of spike entries that differ over the original number of spikes.

    Layers that never reset (halting neurons) keep theirs.
    """
    model.eval()
    altered = copy.deepcopy(model)
    for layer in (layer for layer in lif_layers(altered).values() if layer.reset != "none"):
        for name, value in changes.items():
            setattr(layer, name, value)
    different, spikes_before = 0.0, 0.0
    for i in range(0, len(images), batch):
        before: dict[str, Tensor] = {}
        after: dict[str, Tensor] = {}
        with record_spikes(model, before), record_spikes(altered, after):
            model(images[i : i + batch])
            altered(images[i : i + batch])
        different += sum(float((before[name] != after[name]).sum()) for name in before)
        spikes_before += sum(float(s.sum()) for s in before.values())
    return different / spikes_before


def quantise(w: Tensor, bits: int, dim: int | tuple[int, ...]) -> Tensor:
    """Round to a symmetric grid of ``2**bits - 1`` values with one scale per slice that ``dim`` reduces."""
    top = 2 ** (bits - 1) - 1
    scale = w.abs().amax(dim=dim, keepdim=True).clamp(min=1e-12) / top
    return (w / scale).round().clamp(-top, top) * scale


def norm_pairs(model: nn.Module) -> list[tuple[nn.Conv1d | nn.Conv2d, nn.BatchNorm1d | nn.BatchNorm2d]]:
    """Each convolution with the batch norm behind it."""
    modules = dict(model.named_modules())
    pairs = []
    for name, module in modules.items():
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            parent, _, last = name.rpartition(".")
            norm = modules[f"{parent}.{last.replace('conv', 'bn')}"]
            if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                raise TypeError(f"{name} has no batch norm behind it")
            pairs.append((module, norm))
    return pairs


@torch.no_grad()
def fake_quantised(model: Model, bits: int = 8, per_channel: bool = True) -> Model:
    """A copy whose weights, with batch norm folded in, lie on integer grids; biases stay as they are.

    One scale per output channel (per head and output token in the token matrices) or, with ``per_channel`` false,
    one per layer. The classifier always has one scale over all classes.
    """
    result = copy.deepcopy(model).eval()
    for conv, norm in norm_pairs(result):
        axes = tuple(range(conv.weight.ndim))
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).reshape(-1, *[1] * (len(axes) - 1))
        folded = quantise(conv.weight * factor, bits, axes[1:] if per_channel else axes)
        conv.weight.copy_(torch.where(factor == 0, conv.weight, folded / factor))
    for name, parameter in result.named_parameters():
        if name.endswith("mix.weight"):
            parameter.copy_(quantise(parameter, bits, (2,) if per_channel else (0, 1, 2)))
    result.head.weight.copy_(quantise(result.head.weight, bits, (0, 1)))
    return result


@torch.no_grad()
def halting(model: HaltingSpikformer, images: Tensor, labels: Tensor, batch: int = 250) -> dict[str, object]:
    """Accuracy, and the share of tokens that each block gets in each step: ``live_by_block`` (depth lists of steps), ``live`` their mean."""
    model.eval()
    total = torch.zeros(model.config.depth, model.config.steps, dtype=torch.float64)
    for i in range(0, len(images), batch):
        spikes: dict[str, Tensor] = {}
        with record_spikes(model, spikes):
            model(images[i : i + batch])
        kept = live([spikes[f"halts.{block}.lif"] for block in range(model.config.depth)])
        total += kept.unflatten(1, (model.config.steps, -1)).flatten(2).sum(dim=2, dtype=torch.float64)
    shares = total / (len(images) * model.config.tokens)
    return {
        "test_accuracy": accuracy(model, images, labels, batch),
        "live": round(float(shares.mean()), 5),
        "live_by_block": [[round(share, 5) for share in block] for block in shares.tolist()],
    }


def halting_sweep(model: HaltingSpikformer, images: Tensor, labels: Tensor, counts: tuple[int, ...]) -> list[dict[str, object]]:
    """``halting`` with the halting neurons at other counts of score spikes; the network is trained for ``halt_count``."""
    rows = []
    for count in counts:
        altered = copy.deepcopy(model)
        for halt in altered.halts:
            halt.lif.input_scale = 1.0 / count
        rows.append({"halt_count": count, **halting(altered, images, labels)})
    return rows
