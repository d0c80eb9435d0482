"""Nodes that move values, compute element by element, or have no rule: what becomes of each ATen operation.

Weighted operations (convolution, linear, matrix products, batch norm, pooling, sums) are in ``torch_linear``, products of spikes and max-pool in
``torch_events``. A handler gets (walk, node, args, kwargs).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from neurosim.frontends.torch.events import HANDLERS as COMPUTING
from neurosim.frontends.torch.values import MixedStepsError, Value, layer_shape
from neurosim.frontends.torch.walk import Membrane, Walk, op_name

MOVES = (
    "view", "reshape", "_unsafe_view", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "expand_as", "repeat", "repeat_interleave",
    "select", "slice", "narrow", "unflatten", "flatten", "flip", "roll", "index_select", "index", "gather", "take_along_dim", "movedim", "swapaxes",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "split", "split_with_sizes", "unbind", "chunk", "unfold", "as_strided", "tile",
    "view_as", "diagonal", "tensor_split", "unsafe_split", "alias", "clone", "detach", "contiguous", "lift_fresh_copy", "numpy_T", "rot90",
)  # fmt: skip
"""Their output holds elements of their first argument only."""
VIEWS = ("aten.view", "aten._unsafe_view")
"""Among them those that want memory in order, which ids need not have."""
MERGES = (
    "cat",
    "concat",
    "stack",
    "select_scatter",
    "slice_scatter",
    "copy",
    "where",
    "constant_pad_nd",
    "pad",
    "index_put",
    "scatter",
    "masked_fill",
)
"""Their output holds elements of several arguments, or numbers."""
NEW = (
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided",
)  # fmt: skip
CASTS = ("_to_copy", "to", "type_as", "float", "double")
DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "feature_alpha_dropout")
COMPARISONS = (
    "ge", "gt", "le", "lt", "eq", "ne", "heaviside", "sign", "floor", "round", "trunc", "ceil", "greater", "less", "floor_divide", "argmax",
    "logical_not",
)  # fmt: skip
"""Ops by which neurons written out by hand are known."""
NAMES = {
    "_softmax": "softmax", "_log_softmax": "log_softmax", "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm", "mul": "multiply", "bmm": "matmul", "mm": "matmul", "scaled_dot_product_attention": "softmax",
    "_scaled_dot_product_attention_math": "softmax", "instance_norm": "instance_norm", "pow": "power",
}  # fmt: skip
"""ATen names as the check knows them."""


def _tensor_value(given: Any) -> Value:
    """A constant tensor as a value."""
    return given if isinstance(given, Value) else Value(torch.zeros(given.shape, dtype=torch.int64), given.double())


def _move(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    value, *rest = args
    if not isinstance(value, Value) or any(isinstance(leaf, Value) for leaf in pytree.tree_leaves((rest, kwargs))):
        return _unknown(walk, node, args, kwargs)
    move = torch.reshape if op_name(node) in VIEWS else node.target
    ids = move(value.ids, *rest, **kwargs)
    const = None if value.const is None else move(value.const, *rest, **kwargs)
    if isinstance(ids, tuple | list):
        if value.late is not None:
            walk.mixed(op_name(node))
        return tuple(Value(part, None if const is None else const[k]) for k, part in enumerate(ids))
    return Value(ids, const, value.steps, None if value.late is None else move(value.late, *rest, **kwargs))


def _nearest(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    """Repeats whole values: done on the ids as floating point numbers, which hold them exactly."""
    return args[0].moved(lambda a: node.target(a.double(), *args[1:], **kwargs).to(a.dtype))


def _merge(walk: Walk, node: Any, args: Any, kwargs: Any) -> Value:
    """Ids and constants merged alike; where a number is put in, its ids are 0."""
    name = op_name(node)
    data = {"cat": 1, "concat": 1, "stack": 1, "constant_pad_nd": 1, "pad": 1, "masked_fill": 1}.get(name.removeprefix("aten."), 2)
    spots = (0, 2) if name in ("aten.index_put",) else (1, 2) if name == "aten.where" else (0, 3) if name == "aten.scatter" else tuple(range(data))
    if name == "aten.index_put" and (kwargs.get("accumulate") or (len(args) > 3 and args[3])):
        return _unknown(walk, node, args, kwargs)  # type: ignore[no-any-return]
    if any(isinstance(leaf, Value) for k, arg in enumerate(args) if k not in spots for leaf in pytree.tree_leaves(arg)):
        return _unknown(walk, node, args, kwargs)  # type: ignore[no-any-return]

    def part(of: Callable[[Value], Any], number: bool) -> Any:
        given = [
            pytree.tree_map(lambda a: of(_tensor_value(a)) if isinstance(a, Value) or torch.is_tensor(a) else a, arg, is_leaf=_is_value)
            if k in spots else arg for k, arg in enumerate(args)
        ]  # fmt: skip
        named = dict(kwargs)
        if not number:  # a number that is put in has no id
            for k, arg in enumerate(given):
                if isinstance(arg, float | int) and (k, name) in ((2, "aten.constant_pad_nd"), (3, "aten.pad"), (2, "aten.masked_fill")):
                    given[k] = 0
            if "value" in named:
                named["value"] = 0
        return node.target(*given, **named)

    ids = part(lambda v: v.ids, False)
    const = part(lambda v: torch.zeros(v.shape, dtype=torch.float64) if v.const is None else v.const, True)
    return Value(ids, const if bool((const != 0).any()) else None)


def _is_value(leaf: Any) -> bool:
    return isinstance(leaf, Value)


def _new(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    return node.target(torch.zeros(args[0].shape, dtype=torch.float64), *args[1:], **kwargs)


def _cast(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    wanted = node.meta["val"].dtype
    if wanted.is_floating_point:
        return args[0]
    walk.refuse(f"it turns values into {wanted}", op=op_name(node), remedy="keep activations in floating point")


def _dropout(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    train = args[2] if len(args) > 2 else kwargs.get("train", True)
    if train and (args[1] if len(args) > 1 else 0.5):
        walk.refuse("dropout is active", op="dropout", remedy="call .eval(), and give functional dropout training=self.training")
    return (args[0], None) if op_name(node).endswith("native_dropout") else args[0]


def _getitem(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    return args[0][args[1]]


def _neuron(walk: Walk, node: Any, args: Any, kwargs: Any) -> Value:
    x, layer, call = args
    return walk.neuron(node, x, layer, call)


def _state(walk: Walk, node: Any, args: Any, kwargs: Any) -> Membrane:
    return Membrane(walk.neurons[args[1]].name)


def _comparison(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    kind = walk.kind
    walk.refuse(
        "it compares or rounds activations, as neurons do, and is no neuron that is known", op=op_name(node), value=kind, limit="a registered class",
        remedy=f"register its class: neurosim.register_neuron({kind}, to_rule)",
    )  # fmt: skip


def _unknown(walk: Walk, node: Any, args: Any, kwargs: Any) -> Any:
    """An op without a rule becomes a layer of its name, which no chip has: ``check`` refuses it by name and goes on behind it."""
    leaves = [leaf for leaf in pytree.tree_leaves((args, kwargs), is_leaf=_is_value) if isinstance(leaf, Value)]
    plain = op_name(node).removeprefix("aten.")
    op = NAMES.get(plain, plain)
    result = node.meta["val"]
    shape = tuple((result[0] if isinstance(result, tuple | list) else result).shape)
    rank = len(shape)
    same_rank = [v for v in leaves if len(v.shape) == rank]
    if not same_rank or len(same_rank) != len(leaves):
        walk.refuse("neurosim has no rule for this op", op=op, value=shape, remedy="express it with convolutions, linear layers, pools and neurons")
    lead = 1
    steps = walk.ledger.label(same_rank[0].ids)[0]
    while lead < rank and steps.shape[lead - 1] == 1 and shape[lead] == walk.net.steps and bool((steps.reshape(-1) >= 0).any()):
        lead += 1  # [batch, steps, ...]
    if any(v.shape[:lead] != shape[:lead] for v in same_rank):
        walk.refuse("neurosim has no rule for this op", op=op, value=shape, remedy="express it with convolutions, linear layers, pools and neurons")
    try:
        rows = [walk.split([v], rank - lead, tokens=False) for v in same_rank]
    except MixedStepsError:
        walk.mixed(op)
    consts = [None if v.const is None else v.const.reshape(len(rows[0].steps), -1)[0] for v in same_rank]
    sources = [
        walk.layer_of(part.ids[0][0], layer_shape(part.ids[0][0].shape), const) for part, const in zip(rows, consts, strict=True)
    ]  # fmt: skip
    numbers = {f"arg{k}": list(a) if isinstance(a, tuple | list) else a for k, a in enumerate(args) if isinstance(a, int | float | tuple | list)
               and not any(isinstance(leaf, Value) or torch.is_tensor(leaf) for leaf in pytree.tree_leaves(a, is_leaf=_is_value))}  # fmt: skip
    form = layer_shape(shape[lead:])
    source = walk.layer(
        (node.name, form), op, sources, lambda name: walk.net.op(name, op, *(s.name for s in sources), shape=form, **numbers), name=walk.name(op)
    )
    if source.name not in walk.named_ops:
        walk.named_ops.append(source.name)
    times = rows[0].steps
    for part in rows[1:]:
        times = torch.maximum(times, part.steps)
    ids = source.start + torch.arange(source.size)[None] + (times.clamp(min=0) * source.size if source.dynamic else 0 * times)[:, None]
    value = Value(ids.reshape(shape))
    return (value, None, None) if isinstance(result, tuple | list) else value


def handlers() -> dict[str, Callable[..., Any]]:
    """Op name -> handler; "" for the rest."""
    table: dict[str, Callable[..., Any]] = {"": _unknown, "getitem": _getitem, operator.getitem.__name__: _getitem}
    for names, handler in (
        (MOVES, _move), (MERGES, _merge), (NEW, _new), (CASTS, _cast), (DROPOUTS, _dropout), (COMPARISONS, _comparison),
    ):  # fmt: skip
        table |= {f"aten.{name}": handler for name in names}
    table |= {f"aten.upsample_nearest{d}d": _nearest for d in (1, 2)}
    table |= {"neurosim.neuron": _neuron, "neurosim.state": _state}
    return table | {f"aten.{name}": handler for name, handler in COMPUTING.items()}
