"""Nodes that add and scale: sums and means over features or steps, pools, products with constants, sums of two values; linear ops written out.

The constant part of a value (``Value.const``) is pushed through the same torch operation, so that only the ids need a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neurosim.errors import ModelError
from neurosim.frontends.torch.gather import operand
from neurosim.frontends.torch.recurrence import with_late
from neurosim.frontends.torch.values import MixedStepsError, Source, Value, digest, layer_shape
from neurosim.frontends.torch.walk import SPARSE_LIMIT, Walk, op_name

Handler = Callable[..., Any]
WINDOW = 8
"""Longest side of a map whose sum is a pool; chips have no longer windows, so a longer one's is a sparse map."""


def plus(value: Value, const: Any) -> Value:
    """A value with more constants added; None adds nothing."""
    if const is None:
        return value
    return Value(value.ids, const if value.const is None else value.const + const)


def bound(names: tuple[str, ...], args: Any, kwargs: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """Positional and keyword arguments by name."""
    return defaults | dict(zip(names, args, strict=False)) | dict(kwargs)


def only_first(walk: Walk, node: Any, args: Any, kwargs: Any, *others: Any) -> bool:
    """The first argument flows, the others are constants."""
    return isinstance(args[0], Value) and not any(isinstance(o, Value) for o in others)


def named(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    """As an op without a rule: a layer of its name."""
    return walk.handlers[""](walk, node, args, kwargs)


def pair(value: Any, dims: int, filler: int = 1) -> tuple[int, int]:
    """(rows, columns) of a number or a list; ``filler`` for the columns of one dimension."""
    given = list(value) if isinstance(value, list | tuple) else [value]
    given = given * dims if len(given) == 1 else given
    return int(given[0]), int(given[1]) if dims == 2 else filler


def written_out(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    """An op known to be linear that has no compact form: its matrix is what it makes of the unit vectors, kept as a sparse map."""
    x = args[0]
    if not only_first(walk, node, args, kwargs, *args[1:], *kwargs.values()):
        return named(walk, node, args, kwargs)
    parts = walk.split([x], len(x.shape) - 1, tokens=False)
    inputs = math.prod(x.shape[1:])
    outputs = math.prod(node.meta["val"].shape[1:])
    if inputs * outputs > SPARSE_LIMIT:
        walk.refuse("it has no compact form, and its matrix is too large", op=op_name(node), value=inputs * outputs, limit=SPARSE_LIMIT,
                    remedy="use a convolution or a regular pool")  # fmt: skip
    matrix = node.target(torch.eye(inputs, dtype=torch.float64).reshape(inputs, *x.shape[1:]), *args[1:], **kwargs)
    zero = node.target(torch.zeros((1, *x.shape[1:]), dtype=torch.float64), *args[1:], **kwargs)
    shape = tuple(matrix.shape[1:])
    flat = (matrix - zero).reshape(inputs, outputs)
    columns, rows = torch.nonzero(flat, as_tuple=True)

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        known = walk.ledger.source_of(ids[0])
        source = walk.layer_of(ids[0], known.shape if known is not None and known.name else layer_shape(tuple(ids[0].shape)))
        made = walk.sparse(source, columns, rows, flat[columns, rows], layer_shape(shape))
        return made, torch.arange(made.size).reshape(shape)

    result = plus(Value(walk.emit(parts, build)), zero.expand(x.shape[0], *shape) if bool((zero != 0).any()) else None)
    return result if x.const is None else plus(result, node.target(x.const, *args[1:], **kwargs) - zero)


WRITTEN_OUT = (
    "upsample_bilinear2d", "upsample_linear1d", "upsample_bicubic2d", "conv_transpose1d", "conv_transpose2d", "cumsum", "im2col", "col2im",
    "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
)  # fmt: skip
"""Linear ops without a compact form."""


# -- sums and means


def _reduce(mean: bool) -> Handler:
    def handler(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
        p = bound(("x", "dim", "keepdim"), args, kwargs, {"dim": None, "keepdim": False})
        x = p["x"]
        dims = (
            p["dim"]
            if isinstance(p["dim"], list | tuple) and len(p["dim"])
            else range(len(x.shape))
            if p["dim"] is None or p["dim"] == []
            else [p["dim"]]
        )
        result = x
        todo = sorted({d % max(len(x.shape), 1) for d in dims})
        for d in [d for d in todo if _is_time(walk, result, d)]:
            result = _over_time(walk, result, d, mean)
            todo.remove(d)
        if todo:
            result = _over_features(walk, result, todo, mean)
        if not p["keepdim"]:
            drop = sorted({d % max(len(x.shape), 1) for d in dims}, reverse=True)
            for d in drop:
                result = result.moved(lambda a, d=d: a.squeeze(d))
        return result

    return handler


def _is_time(walk: Walk, x: Value, dim: int) -> bool:
    steps = walk.ledger.label(x.ids)[0]
    low, high = torch.where(steps < 0, walk.ledger.mean + 1, steps).amin(dim), steps.amax(dim)
    return bool(((low != high) & (high >= 0)).any())


def _over_time(walk: Walk, x: Value, dim: int, mean: bool) -> Value:
    """All steps of the same values become their mean; a sum is the mean times the number of steps."""
    steps, norm = walk.ledger.label(x.ids)
    count = walk.net.steps
    steps, norm = steps.movedim(dim, 0), norm.movedim(dim, 0)
    wanted = torch.arange(count).reshape(-1, *[1] * (steps.ndim - 1))
    complete = len(steps) == count and bool(((steps.sort(0).values == wanted) | (steps < 0)).all()) and bool((norm == norm[:1]).all())
    if not complete:
        walk.refuse("it joins some of the steps, or different values of them", op="mean", value=f"{len(steps)} of them", limit=f"all {count}",
                    remedy="take the mean over all steps at the end")  # fmt: skip
    ids = walk.ledger.mean_of(norm[0]).unsqueeze(dim)
    const = None if x.const is None else x.const.mean(dim, keepdim=True)
    averaged = Value(ids, const)
    return averaged if mean else scaled(walk, averaged, torch.tensor(float(count), dtype=torch.float64))


def _over_features(walk: Walk, x: Value, dims: list[int], mean: bool) -> Value:
    """Sum or mean over axes of one step, kept with length 1."""
    rest = [d for d in range(len(x.shape)) if d not in dims]
    count = math.prod(x.shape[d] for d in dims)
    kept = tuple(1 if d in dims else n for d, n in enumerate(x.shape))
    const = None if x.const is None else (x.const.mean(dims, keepdim=True) if mean else x.const.sum(dims, keepdim=True))
    if count == 1:
        return Value(x.ids, const)
    flat = Value(x.ids.permute(*rest, *dims).reshape(*(x.shape[d] for d in rest), count))
    parts = walk.split([flat], 1)
    factor = 1.0 / count if mean else 1.0

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        rows = ids[0].reshape(-1, count)
        order, known = walk.natural(rows.reshape(-1))
        in_order = known is not None and torch.equal(order, torch.arange(rows.numel()))
        if known is not None and in_order:
            shape = known.shape if known.shape[0] == len(rows) else (len(rows), count, 1)
            source = operand(walk, rows, shape)
            if mean:
                made = walk.layer((), "mean", [source], lambda name: walk.net.mean(name, source.name))
            elif max(shape[1:]) <= WINDOW:
                made = walk.layer(shape, "sum", [source], lambda name: walk.net.sum_pool(name, source.name, shape[1:], 1))
            else:
                every = torch.arange(source.size)
                made = walk.sparse(source, every, every // count, torch.ones(source.size, dtype=torch.float64), (len(rows), 1, 1), "sum")
        elif known is not None and (positions := _by_head(known, rows)) is not None:
            source = operand(walk, rows.reshape(-1)[order], known.shape)
            weight = np.full((source.shape[0] // count, count, 1, 1), factor)
            made = walk.layer((count, mean), "sum", [source], lambda name: walk.net.conv2d(name, source.name, weight, groups=len(weight)))
            return made, positions.reshape(parts.tokens)
        elif len(rows) * count == rows.unique().numel():
            source = walk.layer_of(rows, (len(rows), count, 1))
            made = walk.layer(mean, "mean", [source], lambda name: walk.net.mean(name, source.name))
            if not mean:
                base = made
                made = walk.layer(count, "scale", [base], lambda name: walk.net.scale(name, base.name, float(count)))
        else:
            flat_source = walk.layer_of(rows, (rows.numel(), 1, 1))
            made = walk.sparse(flat_source, torch.arange(rows.numel()), torch.arange(len(rows)).repeat_interleave(count),
                               torch.full((rows.numel(),), factor, dtype=torch.float64), (len(rows), 1, 1))  # fmt: skip
        return made, torch.arange(len(rows)).reshape(parts.tokens)

    return Value(walk.emit(parts, build).reshape(kept), const)


def _by_head(known: Source, rows: Any) -> Any:
    """Position of each row in (groups, y, x) when a row is one pixel of neighbouring channels: a grouped 1x1 convolution. None if not."""
    pixels, count = known.shape[1] * known.shape[2], rows.shape[1]
    own = (rows - known.start).sort(1).values
    aligned = torch.equal(own, own[:, :1] + pixels * torch.arange(count)) and bool((own[:, 0] // pixels % count == 0).all())
    return own[:, 0] // (pixels * count) * pixels + own[:, 0] % pixels if pixels > 1 and aligned else None


def _pool(dims: int) -> Handler:
    def handler(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
        p = bound(("x", "kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"), args, kwargs,
                   {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True, "divisor_override": None})  # fmt: skip
        x = p["x"]
        kernel = pair(p["kernel"], dims)
        stride = kernel if not p["stride"] else pair(p["stride"], dims)
        padding = pair(p["padding"], dims, 0)
        sums = p["divisor_override"] == 1
        regular = not p["ceil_mode"] and (p["count_include_pad"] or padding == (0, 0) or sums) and p["divisor_override"] in (None, 1)
        if not regular:
            return written_out(walk, node, args, kwargs)
        return _averaged(walk, node, x, (kernel, stride, padding), dims, "sum_pool" if sums else "avg_pool", args, kwargs)

    return handler


def _adaptive(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    x, size = args[:2]
    height, width = x.shape[-2:]
    rows, columns = (n if n is not None else full for n, full in zip(pair(size, 2), (height, width), strict=True))
    if height % rows or width % columns:
        return written_out(walk, node, args, kwargs)
    kernel = (height // rows, width // columns)
    return _averaged(walk, node, x, (kernel, kernel, (0, 0)), 2, "avg_pool", args, kwargs)


def _averaged(walk: Walk, node: Any, x: Value, window: tuple[Any, Any, Any], dims: int, op: str, args: Any, kwargs: Any) -> Value:
    """A regular pool; ``window``: kernel, stride, padding."""
    parts = walk.split([x], dims + 1, tokens=False)
    method = getattr(walk.net, op)

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        source = walk.layer_of(ids[0], layer_shape(tuple(ids[0].shape)))
        made = walk.layer(window, op, [source], lambda name: method(name, source.name, *window))
        return made, torch.arange(made.size).reshape(made.shape[: dims + 1])

    result = Value(walk.emit(parts, build))
    return result if x.const is None else plus(result, node.target(x.const, *args[1:], **kwargs))


# -- element by element


def scaled(walk: Walk, x: Value, factor: Any) -> Value:
    """x times constants that broadcast to its shape."""
    shape = torch.broadcast_shapes(x.shape, factor.shape)
    x, full = x.moved(lambda a: a.expand(shape)), factor.double().expand(shape)
    if not bool(torch.isfinite(full).all()):
        raise ModelError(f"layer {walk.path or 'forward'}: a factor is NaN or infinite")
    const = None if x.const is None else x.const * full
    if bool((full == 1).all()):
        return Value(x.ids, const)
    parts = walk.split([x], 0, (torch.where(x.ids == 0, 1.0, full),))

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        flat = ids[0].reshape(-1)
        order, known = walk.natural(flat)
        form = known.shape if known is not None else layer_shape(tuple(n for n in ids[0].shape if n > 1))
        source = walk.layer_of(flat[order], form)
        values = extra[0].reshape(-1)[order].reshape(form)
        per_channel = values[:, :1, :1]
        if bool((values == per_channel).all()):
            one = values.reshape(-1)[0] if bool((values == values.reshape(-1)[0]).all()) else per_channel.reshape(-1)
            made = walk.layer(digest(one), "scale", [source], lambda name: walk.net.scale(name, source.name, one.numpy()))
        else:
            every = torch.arange(source.size)
            made = walk.sparse(source, every, every, values.reshape(-1), form)
        return made, torch.argsort(order).reshape(ids[0].shape)

    return Value(torch.where(x.ids == 0, 0, walk.emit(parts, build)), const)


def added(walk: Walk, a: Value, b: Value) -> Value:
    """a + b, broadcast."""
    shape = torch.broadcast_shapes(a.shape, b.shape)
    a, b = (v.moved(lambda t: t.expand(shape)) for v in (a, b))
    late = [v.late for v in (a, b) if v.late is not None]
    if late:
        now = added(walk, *(replace(v, late=None) for v in (a, b)))
        if now.late is not None:
            late.append(now.late)
        return replace(now, late=late[0] if len(late) == 1 else added(walk, Value(late[0]), Value(late[1])).ids)
    const = b.const if a.const is None else a.const if b.const is None else a.const + b.const
    if not bool(((a.ids != 0) & (b.ids != 0)).any()):
        return Value(a.ids + b.ids, const, a.steps or b.steps)
    if a.steps or b.steps:
        return _added_up(walk, a, b, const)
    try:
        parts = walk.split([a, b], 0)
    except MixedStepsError:
        try:
            return _added_up(walk, a, b, const)
        except MixedStepsError:
            return with_late(walk, a, b, const)

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        a, b = (i.reshape(-1) for i in ids)
        order, known = walk.natural(a)
        if known is None:
            order, known = walk.natural(b)
        form = known.shape if known is not None else layer_shape(tuple(n for n in ids[0].shape if n > 1))
        made = walk.total([walk.layer_of(i[order], form) for i in (a, b)])
        return made, torch.argsort(order).reshape(ids[0].shape)

    return Value(walk.emit(parts, build), const)


def _added_up(walk: Walk, a: Value, b: Value, const: Any) -> Value:
    """The same values of different steps, added one after the other: once all are there, their mean times their number. Raises MixedStepsError."""
    found = []
    for value in (a, b):
        step, norm = walk.ledger.label(value.ids)
        single = step.unique().tolist()
        if value.steps is None and (len(single) != 1 or not 0 <= single[0] < walk.net.steps):
            raise MixedStepsError
        found.append((norm, value.steps or frozenset(single)))
    (first, some), (second, others) = found
    if some & others or not torch.equal(first, second):
        raise MixedStepsError
    if len(some | others) < walk.net.steps:
        return Value(first, const, some | others)
    mean = scaled(walk, Value(walk.ledger.mean_of(first)), torch.tensor(float(walk.net.steps), dtype=torch.float64))
    return Value(mean.ids, const)


def _number(value: Any) -> Any:
    return value if torch.is_tensor(value) else torch.tensor(float(value), dtype=torch.float64)


def _add(sign: int, *, swap: bool = False) -> Handler:
    def handler(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
        a, b = (args[1], args[0]) if swap else args[:2]
        alpha = float(kwargs.get("alpha", args[2] if len(args) > 2 else 1)) * sign
        if isinstance(b, Value):
            b = scaled(walk, b, torch.tensor(alpha, dtype=torch.float64)) if alpha != 1 else b
        else:
            b = _constant(_number(b) * alpha)
        return added(walk, a if isinstance(a, Value) else _constant(_number(a)), b)

    return handler


def _constant(tensor: Any) -> Value:
    return Value(torch.zeros(tensor.shape, dtype=torch.int64), tensor.double())


def _multiply(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    a, b = args[:2]
    if isinstance(a, Value) and isinstance(b, Value):
        return named(walk, node, args, kwargs)
    return scaled(walk, a, _number(b)) if isinstance(a, Value) else scaled(walk, b, _number(a))


def _divide(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    a, b = args[:2]
    if not isinstance(a, Value) or isinstance(b, Value) or kwargs.get("rounding_mode"):
        return named(walk, node, args, kwargs)
    return scaled(walk, a, 1.0 / _number(b).double())


def _negative(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    return scaled(walk, args[0], torch.tensor(-1.0, dtype=torch.float64))


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(WRITTEN_OUT, written_out),
    "mean": _reduce(True), "sum": _reduce(False), "avg_pool1d": _pool(1), "avg_pool2d": _pool(2), "_adaptive_avg_pool2d": _adaptive,
    "adaptive_avg_pool2d": _adaptive, "add": _add(1), "sub": _add(-1), "rsub": _add(-1, swap=True), "mul": _multiply, "div": _divide,
    "neg": _negative,
}  # fmt: skip
