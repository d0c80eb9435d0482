"""Ids -> a layer of the Network: the layer itself, a join of layers, chosen channels, a padded layer, token mixing put together, or a sparse map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurosim.frontends.torch.values import Source, digest
from neurosim.frontends.torch.walking import Walking
from neurosim.graph import Shape


@dataclass(frozen=True)
class Mix:
    """y[c] = weight x[first + c] over the pixels of ``source``, for ``count`` channels; weight (out, pixels), square. ``name`` for its layer."""

    source: Source
    first: int
    count: int
    weight: Any
    name: str


@dataclass(frozen=True)
class Product:
    """scale * a b, block by block; ids a [blocks, i, m] and b [blocks, m, j], normalised. ``name`` for its layer, should it have to become one."""

    a: Any
    b: Any
    scale: float
    name: str


def layer_of(walk: Walking, ids: Any, shape: Shape, const: Any = None) -> Source:
    """A layer with exactly these values: normalised ids and constants, in the order (c, y, x) of ``shape``."""
    flat = _resolved(walk, _multiplied(walk, ids.reshape(-1)))
    source = _joined(walk, flat, shape) or _gathered(walk, flat, shape)
    if const is None or not bool((const != 0).any()):
        return source
    bias = const.reshape(shape).numpy()
    per_channel = bias[:, :1, :1]
    bias = per_channel if np.all(bias == per_channel) else bias
    return walk.layer(digest(bias), "bias", [source], lambda name: walk.net.scale(name, source.name, 1.0, bias=bias))


def operand(walk: Walking, ids: Any, shape: Shape) -> Source:
    """As ``layer_of``, for what takes spikes as they are: some channels of a layer get there by one weight each, not by a 1x1 convolution of all."""
    flat = _resolved(walk, _multiplied(walk, ids.reshape(-1)))
    source = _source_at(walk, flat, 0)
    first = int(flat[0]) - source.start
    part = bool(source.name) and len(flat) < source.size - first + 1 and torch.equal(flat, torch.arange(len(flat)) + flat[0])
    if not part or len(flat) == source.size:
        return layer_of(walk, flat, shape)
    targets = torch.arange(len(flat))
    return walk.sparse(source, targets + first, targets, torch.ones(len(flat), dtype=torch.float64), shape, "part")


def _source_at(walk: Walking, flat: Any, at: int) -> Source:
    return walk.ledger.sources[int(walk.ledger.lookup(flat[at : at + 1])[0])]


def _is_whole(source: Source, chunk: Any) -> bool:
    return bool(torch.equal(chunk, torch.arange(source.start, source.start + source.size)))


# -- products of spikes that are no attention, token mixing of slices


def _multiplied(walk: Walking, flat: Any) -> Any:
    """Ids without those of products, which become ops of the name matmul."""
    which = walk.ledger.lookup(flat)
    for index in torch.unique(which).tolist():
        source = walk.ledger.sources[index]
        if source.start in walk.products:
            layer = _named_product(walk, source, walk.products[source.start])
            flat = torch.where(which == index, flat + layer.start - source.start, flat)
    return flat


def _named_product(walk: Walking, source: Source, product: Product) -> Source:
    a, b = (layer_of(walk, ids, (ids.shape[0], ids.shape[1], ids.shape[2])) for ids in (product.a, product.b))
    name = walk.free(product.name)
    made = walk.layer((source.shape, name), "matmul", [a, b], lambda _: walk.net.op(name, "matmul", a.name, b.name, shape=source.shape), name=name)
    if made.name not in walk.named_ops:
        walk.named_ops.append(made.name)
    if product.scale == 1.0:
        return made
    return walk.layer(product.scale, "scale", [made], lambda name: walk.net.scale(name, made.name, product.scale))


def _resolved(walk: Walking, flat: Any) -> Any:
    """Ids without those of token mixings that are no layers yet: neighbouring ones over one source become one layer with several heads."""
    which = walk.ledger.lookup(flat)
    if not any(walk.ledger.sources[k].start in walk.mixes for k in torch.unique(which).tolist()):
        return flat
    flat, at = flat.clone(), 0
    runs: list[tuple[int, list[Mix]]] = []
    for index, length in zip(*(part.tolist() for part in torch.unique_consecutive(which, return_counts=True)), strict=True):
        source = walk.ledger.sources[index]
        mix = walk.mixes.get(source.start)
        if mix is not None and length == source.size and _is_whole(source, flat[at : at + length]):
            last = runs[-1][1][-1] if runs else None
            if last is not None and last.source == mix.source and last.first + last.count == mix.first and _end(runs[-1]) == at:
                runs[-1][1].append(mix)
            else:
                runs.append((at, [mix]))
        elif mix is not None:
            flat[at : at + length] += _mixed(walk, [mix]).start - source.start
        at += length
    for first, mixes in runs:
        layer = _mixed(walk, mixes)
        flat[first : first + layer.size] = torch.arange(layer.start, layer.start + layer.size)
    return flat


def _end(run: tuple[int, list[Mix]]) -> int:
    return run[0] + sum(mix.count * len(mix.weight) for mix in run[1])


def _mixed(walk: Walking, mixes: list[Mix]) -> Source:
    """One token mixing for neighbouring slices of a source."""
    source, first = mixes[0].source, mixes[0].first
    count = sum(mix.count for mix in mixes)
    step = math.gcd(*(mix.count for mix in mixes))
    weight = np.stack([mix.weight for mix in mixes for _ in range(mix.count // step)])
    if count < source.shape[0]:
        pixels = source.shape[1] * source.shape[2]
        ids = torch.arange(source.start + first * pixels, source.start + (first + count) * pixels)
        source = layer_of(walk, ids, (count, *source.shape[1:]))
    name = mixes[0].name.rpartition(".")[0] if len(mixes) > 1 else mixes[0].name
    name = walk.free(f"{name}.token_mix" if len(mixes) > 1 else name)
    return walk.layer(digest(weight), "token_mix", [source], lambda _: walk.net.token_mix(name, source.name, weight), name=name)


# -- joins, choices, padding, and the rest


def _joined(walk: Walking, flat: Any, shape: Shape) -> Source | None:
    """Whole layers, one or several joined by channels."""
    whole = walk.ledger.source_of(flat)
    if whole is not None and whole.name:
        return walk.shaped(whole, shape)
    pixels, parts, at = shape[1] * shape[2], [], 0
    while at < len(flat):
        source = _source_at(walk, flat, at)
        if not source.name or source.size % pixels or not _is_whole(source, flat[at : at + source.size]):
            return None
        parts.append(walk.shaped(source, (source.size // pixels, *shape[1:])))
        at += source.size
    return walk.layer((), "concat", parts, lambda name: walk.net.concat(name, *(p.name for p in parts)))


def _gathered(walk: Walking, flat: Any, shape: Shape) -> Source:
    """Chosen values of layers: whole channels by 1x1 convolutions, a frame of zeros by padding, else by sparse maps; summed if several."""
    which = walk.ledger.lookup(flat)
    parts = []
    for index in torch.unique(which).tolist():
        source = walk.ledger.sources[index]
        if source.name:
            own = torch.where(which == index, flat - source.start, -1)
            parts.append(_padded(walk, source, own, shape) or _selected(walk, source, own, shape) or _sparse(walk, source, own, shape))
    if not parts:
        walk.refuse("it reads nothing but constants", remedy="remove it: its output does not depend on the input")
    return walk.total(parts)


def _selected(walk: Walking, source: Source, own: Any, shape: Shape) -> Source | None:
    """Channels of a layer, each whole, in any order, or zeros."""
    pixels = shape[1] * shape[2]
    if pixels < 2 or source.shape[1] * source.shape[2] != pixels:
        return None
    rows = own.reshape(shape[0], pixels)
    channels = rows[:, 0]
    wanted = torch.where(channels[:, None] < 0, -1, channels[:, None] + torch.arange(pixels))
    if not torch.equal(rows, wanted) or bool((channels[channels >= 0] % pixels).any()):
        return None
    weight = np.zeros((shape[0], source.shape[0], 1, 1))
    used = torch.nonzero(channels >= 0).reshape(-1)
    weight[used.numpy(), (channels[used] // pixels).numpy()] = 1.0
    base = walk.shaped(source, (source.shape[0], *shape[1:]))
    return walk.layer((shape, weight.tobytes()), "select", [base], lambda name: walk.net.conv2d(name, base.name, weight))


def _padded(walk: Walking, source: Source, own: Any, shape: Shape) -> Source | None:
    """A layer with as many zeros on one side as on the other."""
    (c, height, width), (y, x) = source.shape, ((shape[1] - source.shape[1]), (shape[2] - source.shape[2]))
    if c != shape[0] or min(y, x) < 0 or y % 2 or x % 2 or y + x == 0:
        return None
    y, x = y // 2, x // 2
    frame = torch.full(shape, -1, dtype=torch.int64)
    frame[:, y : y + height, x : x + width] = torch.arange(source.size).reshape(source.shape)
    if not torch.equal(frame.reshape(-1), own):
        return None
    weight = np.ones((c, 1, 1, 1))
    return walk.layer((y, x), "pad", [source], lambda name: walk.net.conv2d(name, source.name, weight, padding=(y, x), groups=c))


def _sparse(walk: Walking, source: Source, own: Any, shape: Shape) -> Source:
    targets = torch.nonzero(own >= 0).reshape(-1)
    return walk.sparse(source, own[targets], targets, torch.ones(len(targets), dtype=torch.float64), shape, "gather")
