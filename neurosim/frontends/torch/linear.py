"""Nodes with weights: convolution, batch norm, linear, and matrix products with constants; each stays one compact layer of the Network."""

from __future__ import annotations

from typing import Any

import torch

from neurosim.frontends.torch.gather import Mix
from neurosim.frontends.torch.sums import HANDLERS as SUMS
from neurosim.frontends.torch.sums import Handler, bound, named, pair, plus, written_out
from neurosim.frontends.torch.values import Source, Value, digest, layer_shape
from neurosim.frontends.torch.walk import Walk

# -- convolution and batch norm


def _conv(rank: int) -> Handler:
    def handler(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
        if str(node.target).endswith("convolution.default"):
            names: tuple[str, ...] = ("x", "weight", "bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups")
        else:
            names = ("x", "weight", "bias", "stride", "padding", "dilation", "groups")
        p = bound(names, args, kwargs, {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "transposed": False})
        p["x"] = p.pop("input", p["x"])
        dims = p["weight"].ndim - 2 if not isinstance(p["weight"], Value) else rank
        if p["transposed"] and dims <= 2:
            return written_out(walk, node, args, kwargs)
        if isinstance(p["weight"], Value) or isinstance(p["bias"], Value) or dims > 2:
            return named(walk, node, args, kwargs)
        return _convolve(walk, node, args, kwargs, p, dims)

    return handler


def _convolve(walk: Walk, node: Any, args: Any, kwargs: Any, p: dict[str, Any], dims: int) -> Any:
    x, weight, bias = p["x"], p["weight"], p["bias"]
    batched = Value(x.ids, x.const) if len(x.shape) == dims + 2 else x.moved(lambda a: a[None])
    parts = walk.split([batched], dims + 1, tokens=False)
    stride, dilation = (pair(p[key], dims) for key in ("stride", "dilation"))
    kernel = (*weight.shape[2:], 1)[:2]
    if isinstance(p["padding"], str):
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)] if p["padding"] == "same" else [0, 0]
        if any(n % 2 for n in total):
            walk.refuse("padding 'same' of an even kernel pads one side more", op="conv2d", value=kernel, limit="odd kernels", remedy="give padding=")
        padding = (total[0] // 2, total[1] // 2)
    else:
        padding = pair(p["padding"], dims, 0)
    wide = weight.reshape(*weight.shape[:2], *kernel)

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        source = walk.layer_of(ids[0], layer_shape(ids[0].shape))
        key = (digest(weight), None if bias is None else digest(bias), stride, padding, dilation, p["groups"])
        made = walk.layer(key, "conv2d", [source], lambda name: walk.net.conv2d(
            name, source.name, wide.numpy(), None if bias is None else bias.numpy(), stride=stride, padding=padding, dilation=dilation,
            groups=p["groups"],
        ))  # fmt: skip
        return made, torch.arange(made.size).reshape(made.shape[: dims + 1])

    ids = walk.emit(parts, build)
    result = Value(ids if batched.ids is x.ids else ids[0])
    if x.const is None:
        return result
    f = torch.nn.functional.conv1d if dims == 1 else torch.nn.functional.conv2d
    return plus(result, f(x.const, weight, None, p["stride"], p["padding"], p["dilation"], p["groups"]))


def _batch_norm(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    """aten._native_batch_norm_legit_no_training: x, weight, bias, mean, var, momentum, eps."""
    x, weight, bias, mean, var, _, eps = args
    _trained(walk, mean, var)
    c = x.shape[1]
    weight = torch.ones(c, dtype=torch.float64) if weight is None else weight
    bias = torch.zeros(c, dtype=torch.float64) if bias is None else bias
    parts = walk.split([x], len(x.shape) - 1)

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        leading = len(parts.tokens)  # rows of tokens, when they are folded into the batch axis: pixels of the channels
        pattern = ids[0].movedim(leading, 0)
        known = walk.ledger.source_of(pattern)
        shape = known.shape if known is not None and known.name and known.shape[0] == c else layer_shape(tuple(pattern.shape))
        source = walk.layer_of(pattern, shape if shape[0] == c else (c, pattern.numel() // c, 1))
        w, b, m, v = (a.numpy() for a in (weight, bias, mean, var))
        key = (*map(digest, (w, b, m, v)), eps)
        made = walk.layer(key, "batch_norm", [source], lambda name: walk.net.batch_norm(name, source.name, w, b, m, v, eps))
        return made, torch.arange(made.size).reshape(pattern.shape).movedim(0, leading)

    result = Value(walk.emit(parts, build))
    if x.const is not None:
        result = plus(result, x.const * (weight / torch.sqrt(var + eps)).reshape(1, -1, *[1] * (len(x.shape) - 2)))
    return (result, None, None)


def _trained(walk: Walk, mean: Any, var: Any) -> None:
    module = walk.model.get_submodule(walk.path)
    count = getattr(module, "num_batches_tracked", None)
    if count is not None and int(count) == 0 and not bool((mean != 0).any()) and bool((var == 1).all()):
        walk.refuse(
            "its running statistics are still at their initial values", op="batch_norm", value="num_batches_tracked 0",
            limit="statistics of training data", remedy="load the trained weights (weights=), or train it",
        )  # fmt: skip


def _batch_norm_training(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    walk.refuse("it normalises with the statistics of the batch", op="batch_norm", value="training mode",
                remedy="call .eval() and use track_running_stats=True")  # fmt: skip


# -- linear and matrix products


def _linear(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    p = bound(("input", "weight", "bias"), args, kwargs, {"bias": None})
    if not isinstance(p["input"], Value) or isinstance(p["weight"], Value) or isinstance(p["bias"], Value):
        return named(walk, node, args, kwargs)
    return product(walk, p["input"], p["weight"].t(), p["bias"])


def _addmm(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    bias, x, weight = args
    if isinstance(bias, Value) or not isinstance(x, Value) or isinstance(weight, Value) or kwargs or bias.ndim != 1:
        return named(walk, node, args, kwargs)
    return product(walk, x, weight, bias)


def _matmul(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    a, b = args[:2]
    if isinstance(a, Value) and isinstance(b, Value):
        return named(walk, node, args, kwargs)
    if isinstance(a, Value):
        if b.ndim == 1:
            return product(walk, a, b[:, None]).moved(lambda y: y[..., 0])
        if len(a.shape) == 1:
            return product(walk, a.moved(lambda y: y[None]), b).moved(lambda y: y[..., 0, :])
        return product(walk, a, b)
    if len(b.shape) == 1:
        result = product(walk, b.moved(lambda y: y[None]), a.mT if a.ndim > 1 else a[:, None])
        return result.moved(lambda y: y[..., 0, :] if a.ndim > 1 else y[0, 0])
    if a.ndim == 1:
        return product(walk, b.moved(lambda y: y.mT), a[:, None]).moved(lambda y: y[..., 0])
    return product(walk, b.moved(lambda y: y.mT), a.mT).moved(lambda y: y.mT)


def product(walk: Walk, x: Value, weight: Any, bias: Any = None) -> Value:
    """x [..., m, K] @ weight [..., K, n] (+ bias [n]); batch axes of the weight broadcast to those of x."""
    kept, out = weight.shape[-2:]
    if weight.ndim > 2:
        lead = torch.broadcast_shapes(weight.shape[:-2], x.shape[:-2])
        shape = (*lead, *x.shape[-2:])
        x = x.moved(lambda a: a.expand(shape))
        slices = weight.reshape(-1, kept, out)
        unique, index = _unique(slices)
        which = index.reshape(weight.shape[:-2]).expand(lead)[..., None].expand(shape[:-1])
    else:
        unique, which = weight[None], torch.zeros(x.shape[:-1], dtype=torch.int64)
    parts = walk.split([x], 1, (which,))

    def build(ids: list[Any], extra: list[Any]) -> tuple[Source, Any]:
        rows, labels = ids[0].reshape(-1, kept), extra[0].reshape(-1)
        source, positions = _contract(walk, rows, labels, unique, bias)
        return source, positions.reshape(*parts.tokens, out)

    result = Value(walk.emit(parts, build))
    return result if x.const is None else plus(result, x.const @ weight)


def _unique(slices: Any) -> tuple[Any, Any]:
    """Different slices [g, K, n] in order of their first use, and the number of each."""
    found: dict[str, int] = {}
    index = torch.tensor([found.setdefault(digest(s), len(found)) for s in slices])
    first = [int((index == g).nonzero()[0]) for g in range(len(found))]
    return slices[first], index


def _contract(walk: Walk, rows: Any, labels: Any, weights: Any, bias: Any) -> tuple[Source, Any]:
    """y[r] = weights[labels[r]]^T rows[r] as a compact layer: linear, token mixing, or a 1x1 convolution; positions [rows, out]."""
    used = torch.unique_consecutive(labels)
    groups, (count, kept), out = len(used), rows.shape, weights.shape[-1]
    per = count // groups
    blocks = count % groups == 0 and torch.equal(labels, used.repeat_interleave(per))
    plain = None if bias is None else bias.numpy()
    if count == 1:
        order, _ = walk.natural(rows.reshape(-1))  # of a layer in another order, the columns are put in its order
        source = walk.layer_of(rows.reshape(-1)[order], (kept, 1, 1))
        weight = weights[used[0]].t()[:, order].contiguous().numpy()
        made = walk.layer((digest(weight), None if bias is None else digest(bias)), "linear", [source],
                          lambda name: walk.net.linear(name, source.name, weight, plain))  # fmt: skip
        return made, torch.arange(out)[None]
    if not blocks or len(torch.unique(used)) != groups:
        return _blockwise(walk, rows, labels, weights, bias)
    mixable = kept == out and bias is None
    part = _slice_of(walk, rows) if mixable and groups == 1 else None
    if part is not None:
        source, first = part
        mix = weights[used[0]].t().contiguous().numpy()
        key = ("mix", source.name, first, count, digest(mix))
        if key not in walk.cache:
            walk.cache[key] = walk.ledger.add(source.name, (count, kept, 1), source.dynamic)
            walk.mixes[walk.cache[key].start] = Mix(source, first, count, mix, walk.path or "token_mix")
        mixed = walk.cache[key]
        return mixed, torch.arange(count * out).reshape(count, out)
    columns = rows.reshape(groups, per, kept).permute(0, 2, 1)  # (group, feature), then the rows of a group as pixels
    known = walk.ledger.source_of(columns.reshape(-1))
    token_form = walk.ledger.source_of(rows.reshape(-1))
    as_tokens = token_form is not None and bool(token_form.name)
    if mixable and as_tokens and (known is None or groups > 1 or per > 1):
        assert token_form is not None
        shape = token_form.shape if token_form.shape[0] == count else (count, kept, 1)
        source = walk.layer_of(rows, shape)
        mix = weights[used].mT.contiguous().numpy()
        made = walk.layer(digest(mix), "token_mix", [source], lambda name: walk.net.token_mix(name, source.name, mix))
        return made, torch.arange(count * out).reshape(count, out)
    shape = known.shape if known is not None and known.name and known.shape[0] == groups * kept else (groups * kept, per, 1)
    source = walk.layer_of(columns, shape)
    kernel = weights[used].mT.reshape(groups * out, kept, 1, 1).contiguous().numpy()
    many = None if plain is None else torch.as_tensor(plain).repeat(groups).numpy()
    made = walk.layer((digest(kernel), None if bias is None else digest(bias), groups), "conv2d", [source],
                      lambda name: walk.net.conv2d(name, source.name, kernel, many, groups=groups))  # fmt: skip
    return made, torch.arange(made.size).reshape(groups, out, per).permute(0, 2, 1).reshape(count, out)


def _slice_of(walk: Walk, rows: Any) -> tuple[Source, int] | None:
    """(layer, first channel) when the rows are some, but not all, consecutive channels of a layer, pixel by pixel."""
    flat = rows.reshape(-1)
    source = walk.ledger.sources[int(walk.ledger.lookup(flat[:1])[0])]
    first, pixels = int(flat[0]) - source.start, source.shape[1] * source.shape[2]
    whole = pixels == rows.shape[1] and pixels > 1 and first % pixels == 0 and len(flat) < source.size
    if not source.name or not whole or source.start in walk.mixes or not torch.equal(flat, torch.arange(len(flat)) + flat[0]):
        return None
    return (source, first // pixels) if first + len(flat) <= source.size else None


def _blockwise(walk: Walk, rows: Any, labels: Any, weights: Any, bias: Any) -> tuple[Source, Any]:
    """The same as one sparse map, row after row."""
    (count, kept), out = rows.shape, weights.shape[-1]
    source = walk.layer_of(rows, (count * kept, 1, 1))
    reads = (torch.arange(count)[:, None, None] * kept + torch.arange(kept)[None, :, None]).expand(count, kept, out)
    writes = (torch.arange(count)[:, None, None] * out + torch.arange(out)[None, None, :]).expand(count, kept, out)
    made = walk.sparse(source, reads.reshape(-1), writes.reshape(-1), weights[labels].reshape(-1), (count * out, 1, 1))
    if bias is not None:
        added = bias.repeat(count).reshape(-1, 1, 1).numpy()
        base = made
        made = walk.layer(digest(added), "bias", [base], lambda name: walk.net.scale(name, base.name, 1.0, bias=added))
    return made, torch.arange(count * out).reshape(count, out)


HANDLERS: dict[str, Handler] = {
    **SUMS,
    "conv1d": _conv(1), "conv2d": _conv(2), "convolution": _conv(2), "conv3d": _conv(3), "_native_batch_norm_legit_no_training": _batch_norm,
    "_native_batch_norm_legit": _batch_norm_training, "_native_batch_norm_legit_functional": _batch_norm_training,
    "linear": _linear, "addmm": _addmm, "mm": _matmul, "bmm": _matmul, "matmul": _matmul,
}  # fmt: skip
