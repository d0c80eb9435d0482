"""Nodes that are no linear maps of spikes: max-pool, products with a gate, and the products of spikes of which attention is made.

A product of two matrices of spikes is no layer of its own: its elements get ids (``torch_gather.Product``), so that it may be scaled, turned and
cut like any other value. Multiplied by a third matrix it becomes ``Network.attention``; whoever else reads it makes it an op named matmul, which
``check`` refuses.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from neurosim.frontends.torch.gather import Product, operand
from neurosim.frontends.torch.linear import HANDLERS as LINEAR
from neurosim.frontends.torch.sums import Handler, bound, named, pair
from neurosim.frontends.torch.values import Source, Split, Value, digest, layer_shape
from neurosim.frontends.torch.walk import Walk, op_name
from neurosim.graph import Shape

# -- max-pool


def _max_pool(dims: int) -> Handler:
    def handler(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
        p = bound(("x", "kernel", "stride", "padding", "dilation", "ceil_mode"), args, kwargs,
                  {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False})  # fmt: skip
        kernel = pair(p["kernel"], dims)
        stride = kernel if not p["stride"] else pair(p["stride"], dims)
        padding, dilation = pair(p["padding"], dims, 0), pair(p["dilation"], dims)
        if dilation != (1, 1):
            walk.refuse("its windows have holes", op="max_pool", value=f"dilation {dilation}", limit=1, remedy="use dilation 1")
        before, after = args[0].shape[-dims:], tuple(_result(node).shape[-dims:])
        whole = tuple((n + 2 * q - k) // s + 1 for n, q, k, s in zip(before, padding, kernel, stride, strict=False))
        if after != whole:
            walk.refuse(
                "windows that reach over the edge count (ceil_mode)", op="max_pool", value=after, limit=whole, remedy="use ceil_mode=False, or pad"
            )
        return _largest(walk, node, args[0], (kernel, stride, padding), dims)

    return handler


def _adaptive(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    x, after = args[0], tuple(_result(node).shape[-2:])
    kernel = (x.shape[-2] // after[0], x.shape[-1] // after[1])
    if (kernel[0] * after[0], kernel[1] * after[1]) != x.shape[-2:]:
        walk.refuse("its windows differ in size", op="max_pool", value=f"{x.shape[-2:]} to {after}", limit="a multiple", remedy="use max_pool2d")
    return _largest(walk, node, x, (kernel, kernel, (0, 0)), 2)


def _result(node: Any) -> Any:
    val = node.meta["val"]
    return val[0] if isinstance(val, tuple | list) else val


def _largest(walk: Walk, node: Any, x: Value, window: tuple[Any, Any, Any], dims: int) -> Any:
    _single_steps(walk, "max_pool", x)
    parts = walk.split([x], dims + 1, tokens=False)
    const = _same_const(walk, "max_pool", x, parts)

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        source = walk.layer_of(ids[0], layer_shape(tuple(ids[0].shape)), const)
        made = walk.layer(window, "max_pool", [source], lambda name: walk.net.max_pool(name, source.name, *window))
        return made, torch.arange(made.size).reshape(made.shape[: dims + 1])

    result = Value(walk.emit(parts, build))
    return (result, None) if isinstance(node.meta["val"], tuple | list) else result


def _same_const(walk: Walk, op: str, x: Value, parts: Split) -> Any:
    """The constants of a row, which must be those of every row; ``parts`` without tokens."""
    if x.const is None:
        return None
    rows = x.const.reshape(len(parts.steps), -1)
    if bool((rows != rows[:1]).any()):
        walk.refuse("constants that change from step to step are added before it", op=op, remedy="add the same in every step")
    return rows[0]


def _single_steps(walk: Walk, op: str, *values: Value) -> None:
    """Refuse means over the steps: of these ops the mean is not the op of the mean."""
    for value in values:
        if bool((walk.ledger.label(value.ids)[0] == walk.ledger.mean).any()):
            walk.refuse("it reads a mean over the steps", op=op, remedy="take the mean over the steps behind it")


# -- gates


def _multiply(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    a, b = args[:2]
    if isinstance(a, Value) and isinstance(b, Value):
        result = _gated(walk, a, b)
        return named(walk, node, args, kwargs) if result is None else result
    x, factor = (a, b) if isinstance(a, Value) else (b, a)
    result = _rescaled(walk, x, factor)
    return LINEAR["mul"](walk, node, args, kwargs) if result is None else result


def _divide(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    a, b = args[:2]
    result = None
    if isinstance(a, Value) and not isinstance(b, Value) and not kwargs.get("rounding_mode"):
        result = _rescaled(walk, a, 1.0 / torch.as_tensor(b, dtype=torch.float64))
    return LINEAR["div"](walk, node, args, kwargs) if result is None else result


def _gated(walk: Walk, a: Value, b: Value) -> Value | None:
    """a * b, one of which is spikes (or 1 - spikes): a gate, the mask being the one of fewer values. None if neither is."""
    candidates = []
    for data, other in ((a, b), (b, a)):
        mask = _mask_of(walk, other)
        if mask is not None and data.const is None and data.steps is None:
            candidates.append((other.ids.unique().numel(), not mask[0], data, *mask))
    if not candidates:
        return None
    _single_steps(walk, "gate", a, b)
    _, _, data, inverted, mask_ids = min(candidates, key=lambda c: c[:2])
    shape = torch.broadcast_shapes(data.shape, tuple(mask_ids.shape))
    parts = walk.split([Value(data.ids.expand(shape)), Value(mask_ids.expand(shape))], 0)

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        flat, over = (i.reshape(-1) for i in ids)
        order, known = walk.natural(flat)
        form = known.shape if known is not None else layer_shape(tuple(n for n in ids[0].shape if n > 1))
        source = operand(walk, flat[order], form)
        full = over[order].reshape(form)
        groups = _groups(full)
        c, y, x = (n // g for n, g in zip(form, groups, strict=True))
        mask = operand(walk, full[::c, ::y, ::x], groups)
        made = walk.layer(inverted, "gate", [source, mask], lambda name: walk.net.gate(name, source.name, mask.name, inverted=inverted))
        return made, torch.argsort(order).reshape(ids[0].shape)

    return Value(walk.emit(parts, build))


def _groups(full: Any) -> Shape:
    """The fewest groups (gc, gy, gx) of equal blocks along each axis in which a mask (c, y, x) is the same."""
    found = []
    for axis, length in enumerate(full.shape):
        along = full.movedim(axis, 0)
        for count in (g for g in range(1, length + 1) if length % g == 0):
            blocks = along.reshape(count, length // count, *along.shape[1:])
            if bool((blocks == blocks[:, :1]).all()):
                found.append(count)
                break
    return found[0], found[1], found[2]


def _mask_of(walk: Walk, value: Value) -> tuple[bool, Any] | None:
    """(inverted, ids of spikes) of a value that is spikes, or 1 - spikes; None if it is neither."""
    if value.steps is not None or bool((value.ids == 0).any()):
        return None
    inverted = value.const is not None
    if inverted and not bool((value.const == 1).all()):
        return None
    ids, which = value.ids.clone(), walk.ledger.lookup(value.ids)
    for index in torch.unique(which).tolist():
        source = walk.ledger.sources[index]
        layer = walk.net.layers.get(source.name)
        if inverted and (layer is None or layer.op != "scale" or bool((layer.params["factor"] != -1).any()) or layer.params["bias"] is not None):
            return None
        if inverted:
            assert layer is not None
            below = walk.source_named(layer.inputs[0])
            ids[which == index] += below.start - source.start
            source = below
        if source.start in walk.mixes or not _fires_once(walk, source.name):
            return None
    return inverted, ids


def _fires_once(walk: Walk, name: str) -> bool:
    """The layer's values are 0 and 1."""
    layer = walk.net.layers.get(name)
    if layer is None:
        return False
    if layer.op in ("reshape", "concat", "max_pool"):
        return all(_fires_once(walk, x) for x in layer.inputs)
    if layer.op == "gate":
        return _fires_once(walk, layer.inputs[0])
    return layer.op == "spikes_input" or (layer.op == "lif" and layer.params["max_spikes"] == 1)


# -- products of matrices


def _matmul(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    a, b = args[:2]
    flowing = isinstance(a, Value) and isinstance(b, Value)
    if not flowing or min(len(a.shape), len(b.shape)) < 2 or a.const is not None or b.const is not None:
        return LINEAR["matmul"](walk, node, args, kwargs)
    _single_steps(walk, "matmul", a, b)
    (a, first), (b, second) = _unscaled(walk, a), _unscaled(walk, b)
    scale, name = first * second, walk.name(op_name(node).removeprefix("aten."))
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    parts = walk.split([Value(v.ids.expand(*lead, *v.shape[-2:])) for v in (a, b)], 2)

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        left, right = (i.reshape(-1, *i.shape[-2:]) for i in ids)
        made, positions = _attention(walk, left, right, scale) or _product(walk, left, right, scale, name)
        return made, positions.reshape(*parts.tokens, left.shape[1], right.shape[2])

    return Value(walk.emit(parts, build))


def _product(walk: Walk, a: Any, b: Any, scale: float, name: str) -> tuple[Source, Any]:
    """Ids for the elements of scale * a @ b, a [L, i, m] and b [L, m, j] ids; positions [L, i, j]."""
    key = ("product", digest(a), digest(b), scale)
    if key not in walk.cache:
        walk.cache[key] = walk.ledger.add("", (len(a), a.shape[1], b.shape[2]), True)
        walk.products[walk.cache[key].start] = Product(a, b, scale, name)
    made = walk.cache[key]
    return made, torch.arange(made.size).reshape(made.shape)


def _factors(walk: Walk, ids: Any) -> tuple[Any, Any, float] | None:
    """(a [L, i, k], b [L, k, m], scale) where ids [L, i, m] are, block by block, a product or its transpose."""
    source = walk.ledger.sources[int(walk.ledger.lookup(ids.reshape(-1)[:1])[0])]
    product = walk.products.get(source.start)
    if product is None:
        return None
    size = source.shape[1] * source.shape[2]
    blocks = (ids[:, 0, 0] - source.start) // size
    plain = source.start + blocks[:, None, None] * size + torch.arange(size).reshape(1, *source.shape[1:])
    if torch.equal(ids, plain):
        return product.a[blocks], product.b[blocks], product.scale
    return (product.b[blocks].mT, product.a[blocks].mT, product.scale) if torch.equal(ids, plain.mT) else None


def _unscaled(walk: Walk, x: Value) -> tuple[Value, float]:
    """(values, factor) of values that are all some layers' times one factor; (x, 1) of others."""
    which = walk.ledger.lookup(x.ids)
    ids, factors = x.ids.clone(), set()
    for index in torch.unique(which).tolist():
        source = walk.ledger.sources[index]
        layer = walk.net.layers.get(source.name)
        if layer is None or source.start in walk.mixes or layer.op != "scale" or layer.params["factor"].size != 1 or layer.params["bias"] is not None:
            return x, 1.0
        factors.add(float(layer.params["factor"]))
        ids[which == index] += walk.source_named(layer.inputs[0]).start - source.start
    return (Value(ids), factors.pop()) if len(factors) == 1 else (x, 1.0)


def _attention(walk: Walk, left: Any, right: Any, scale: float) -> tuple[Source, Any] | None:
    """The product of three matrices, the first two or the last two of which are multiplied already, as attention; positions [L, i, j]."""
    first, last = _factors(walk, left), _factors(walk, right)
    if (first is None) == (last is None):
        return None
    if first is not None:
        x, y, share, z = *first, right
    else:
        assert last is not None
        x, (y, z, share) = left, last
    if x.shape[1] != z.shape[1] or x.shape[2] != z.shape[2]:
        return None
    # x y z is q k^T v with tokens in rows, or v^T k q^T with tokens in columns: (q, k, v), each [L, channel, token]
    rows, columns = (x.mT, y, z.mT), (z, y.mT, x)
    turned = not _is_map(walk, rows[2]) and _is_map(walk, columns[2])
    q, k, v = columns if turned else rows
    heads, width, tokens = q.shape
    source = walk.ledger.sources[int(walk.ledger.lookup(q.reshape(-1)[:1])[0])]
    space = source.shape[1:] if source.name and math.prod(source.shape[1:]) == tokens else (tokens, 1)
    operands = [operand(walk, m, (heads * width, space[0], space[1])) for m in (q, k, v)]
    made = _attend(walk, operands, heads, scale * share)
    positions = torch.arange(made.size).reshape(heads, width, tokens)
    return made, positions if turned else positions.mT


def _is_map(walk: Walk, ids: Any) -> bool:
    """Ids [L, channel, token] whose channels are channels of one layer, token by token."""
    source = walk.ledger.sources[int(walk.ledger.lookup(ids.reshape(-1)[:1])[0])]
    tokens, rows = ids.shape[2], ids.reshape(-1, ids.shape[2])
    whole = bool(source.name) and source.shape[1] * source.shape[2] == tokens and bool(((rows[:, 0] - source.start) % tokens == 0).all())
    return whole and torch.equal(rows, rows[:, :1] + torch.arange(tokens))


def _attend(walk: Walk, operands: list[Source], heads: int, scale: float) -> Source:
    q, k, v = operands
    made = walk.layer((heads, scale), "attention", operands,
                      lambda name: walk.net.attention(name, q.name, k.name, v.name, heads=heads, scale=scale))  # fmt: skip
    walk.attentions[made.start] = (operands, heads, scale)
    return made


def _rescaled(walk: Walk, x: Value, factor: Any) -> Value | None:
    """x times a number where x is products of spikes, which take it over; None where it is anything else."""
    number = torch.as_tensor(factor, dtype=torch.float64)
    which = walk.ledger.lookup(x.ids)
    sources = {index: walk.ledger.sources[index] for index in torch.unique(which).tolist()}
    known = all(source.start in walk.products or source.start in walk.attentions for source in sources.values())
    if number.numel() != 1 or number.ndim > len(x.shape) or x.const is not None or not known or not bool(torch.isfinite(number).all()):
        return None
    share, ids = float(number), x.ids.clone()
    for index, source in sources.items():
        if source.start in walk.products:
            p = walk.products[source.start]
            made, _ = _product(walk, p.a, p.b, p.scale * share, p.name)
        else:
            operands, heads, scale = walk.attentions[source.start]
            made = _attend(walk, operands, heads, scale * share)
        ids[which == index] += made.start - source.start
    return Value(ids, None, x.steps)


HANDLERS: dict[str, Handler] = {
    **LINEAR,
    "max_pool1d": _max_pool(1), "max_pool2d": _max_pool(2), "max_pool1d_with_indices": _max_pool(1), "max_pool2d_with_indices": _max_pool(2),
    "adaptive_max_pool2d": _adaptive, "mul": _multiply, "div": _divide, "matmul": _matmul, "bmm": _matmul, "mm": _matmul,
}  # fmt: skip
