"""Network: built layer by layer by hand or by a frontend; every method checks names, shapes and numbers and returns the new layer's name."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurosim.arithmetic import ROUNDINGS
from neurosim.errors import ModelError
from neurosim.graph import Rounding, Shape
from neurosim.network import nsnet
from neurosim.network.layers import (
    EVENT_OPS,
    INTEGER_DTYPES,
    KNOWN_OPS,
    InputContract,
    Layer,
    array,
    conv_shape,
    layer_macs,
    mix_shape,
    number,
    pair,
    per_channel,
    per_neuron,
    pool_shape,
    share,
    whole,
)
from neurosim.ops import pooled


class Network:
    """The model as trained. Layers are kept in the order of definition, which is topological; cycles only through ``connect``.

    ``layers``: name -> Layer. ``connections``: (source, target lif, delay in steps) of ``connect``. ``output_name``: the layer whose mean over the
    steps gives the scores. ``input_contract``: what the user's data must look like. ``integers``: the numbers are whole and meant as they are on the
    chip, decays rounded floor, zero (toward it) or nearest; None: they are real, and the compiler scales them.
    ``notes``: what a frontend chose, repaired or left out, in words.
    """

    def __init__(self, name: str, steps: int = 1, class_names: Sequence[str] = (), integers: Rounding | None = None) -> None:
        if not isinstance(steps, int | np.integer) or steps < 1:
            raise ModelError(f"network {name}: steps {steps!r} must be a whole number of at least 1")
        if integers is not None and integers not in ROUNDINGS:
            raise ModelError(f"network {name}: integers {integers!r} must be None or the rounding of its decays, {', '.join(ROUNDINGS)}")
        self.integers = integers
        self.name, self.steps, self.class_names = name, int(steps), tuple(str(c) for c in class_names)
        self.layers: dict[str, Layer] = {}
        self.connections: list[tuple[str, str, int]] = []
        self.notes: list[str] = []
        self.output_name: str | None = None
        self._contract: InputContract | None = None

    @property
    def input_contract(self) -> InputContract:
        """The contract of the one input; raises ModelError when there is none."""
        if self._contract is None:
            raise ModelError(f"network {self.name} has no input; call input() or spikes_input() first")
        return self._contract

    def shape(self, name: str) -> Shape:
        """(c, y, x) of a layer's output; raises ModelError with the nearest name."""
        return self._get(name, "asked for").shape

    def _get(self, name: str, reader: str) -> Layer:
        if name not in self.layers:
            near = difflib.get_close_matches(str(name), self.layers, n=1)
            raise ModelError(f"layer {name!r} ({reader}) does not exist" + (f"; did you mean {near[0]!r}?" if near else "; define it first"))
        return self.layers[name]

    def _add(self, name: str, op: str, inputs: Iterable[str], shape: Shape, params: dict[str, Any]) -> str:
        if not name or not isinstance(name, str):
            raise ModelError(f"layer name {name!r} must be a non-empty text")
        if name in self.layers:
            raise ModelError(f"layer name {name!r} occurs twice; give every layer its own name")
        self.layers[name] = Layer(name, op, tuple(inputs), shape, params)
        return name

    # -- inputs and output

    def input(
        self,
        name: str,
        shape: Shape,
        dtype: str = "uint8",
        scale: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> str:
        """A static image (c, y, x), repeated in every step: value = (pixel / scale - mean) / std per channel."""
        shape = self._input_shape(name, shape)
        means, stds = (per_channel(name, k, v, shape[0]) for k, v in (("mean", mean), ("std", std)))
        if number(name, "scale", scale) == 0 or any(s <= 0 for s in stds):
            raise ModelError(f"input {name}: scale {scale} must not be 0, std {list(stds)} must lie above 0")
        if not isinstance(dtype, str) or dtype not in (*INTEGER_DTYPES, "float32", "float64"):
            raise ModelError(f"input {name}: dtype {dtype!r} is not known; use one of {', '.join(INTEGER_DTYPES)}")
        self._contract = InputContract(name, shape, "image", dtype, float(scale), means, stds)
        return self._add(name, "input", (), shape, {})

    def spikes_input(self, name: str, shape: Shape, step_time_us: float | None = None) -> str:
        """Binary events (c, y, x), at most one per neuron and step; polarity is the channel. ``step_time_us`` bins recordings."""
        shape = self._input_shape(name, shape)
        if step_time_us is not None and number(name, "step_time_us", step_time_us) <= 0:
            raise ModelError(f"input {name}: step_time_us {step_time_us} must lie above 0")
        self._contract = InputContract(name, shape, "spikes", "uint8", step_time_us=step_time_us)
        return self._add(name, "spikes_input", (), shape, {})

    def _input_shape(self, name: str, shape: Shape) -> Shape:
        if self._contract is not None:
            raise ModelError(f"network {self.name} has the input {self._contract.name!r} already; a second input {name!r} is not supported")
        if not isinstance(shape, tuple | list) or len(shape) != 3 or not all(isinstance(n, int | np.integer) and n >= 1 for n in shape):
            raise ModelError(f"input {name}: shape {shape!r} must be (channels, height, width), whole numbers of at least 1")
        return int(shape[0]), int(shape[1]), int(shape[2])

    def output(self, x: str) -> None:
        """Scores = mean over the steps of layer ``x`` (an integrator: its membrane after the last), whose shape must be (classes, 1, 1)."""
        shape = self._get(x, "output").shape
        if shape[1:] != (1, 1):
            raise ModelError(f"output {x} has shape {shape}, wanted (classes, 1, 1); end the network with mean() or reshape() and linear()")
        if self.class_names and len(self.class_names) != shape[0]:
            raise ModelError(f"output {x} has {shape[0]} classes, class_names has {len(self.class_names)}")
        self.output_name = x

    # -- linear ops

    def conv2d(
        self, name: str, x: str, weight: Any, bias: Any = None, *, stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1, groups: int = 1,
    ) -> str:  # fmt: skip
        """Convolution; weight (out, in / groups, ky, kx), bias (out)."""
        shape = self._get(x, name).shape
        w = array(name, "weight", weight, (None, None, None, None))
        params = {
            "weight": w, "bias": None if bias is None else array(name, "bias", bias, (w.shape[0],)), "stride": pair(name, "stride", stride, 1),
            "padding": pair(name, "padding", padding, 0), "dilation": pair(name, "dilation", dilation, 1), "groups": whole(name, "groups", groups, 1),
        }  # fmt: skip
        return self._add(name, "conv2d", (x,), conv_shape(name, x, shape, params), params)

    def linear(self, name: str, x: str, weight: Any, bias: Any = None) -> str:
        """Fully connected; x must be flat, (features, 1, 1); weight (out, features), bias (out)."""
        shape = self._get(x, name).shape
        w = array(name, "weight", weight, (None, None))
        if shape != (w.shape[1], 1, 1):
            remedy = "; flatten it first" if math.prod(shape) == w.shape[1] else ""
            raise ModelError(f"layer {name}: weight {w.shape} takes shape ({w.shape[1]}, 1, 1), its input {x} has shape {shape}{remedy}")
        params = {"weight": w, "bias": None if bias is None else array(name, "bias", bias, (w.shape[0],))}
        return self._add(name, "linear", (x,), (w.shape[0], 1, 1), params)

    def batch_norm(self, name: str, x: str, weight: Any, bias: Any, mean: Any, var: Any, eps: float = 1e-5) -> str:
        """Normalisation by running statistics: weight * (x - mean) / sqrt(var + eps) + bias per channel."""
        shape = self._get(x, name).shape
        given = {"weight": weight, "bias": bias, "mean": mean, "var": var}
        params: dict[str, Any] = {key: array(name, key, value, (shape[0],)) for key, value in given.items()}
        eps = number(name, "eps", eps)
        if (params["var"] + eps <= 0).any():
            raise ModelError(f"layer {name}: var {params['var'].min():.6g} + eps {eps} is not above 0")
        return self._add(name, "batch_norm", (x,), shape, params | {"eps": float(eps)})

    def add(self, name: str, *xs: str) -> str:
        """Sum of layers of one shape."""
        shapes = [self._get(x, name).shape for x in xs]
        if not shapes or any(s != shapes[0] for s in shapes):
            raise ModelError(
                f"layer {name}: cannot add {', '.join(f'{x} {s}' for x, s in zip(xs, shapes, strict=True)) or 'nothing'}; shapes must agree"
            )
        return self._add(name, "add", xs, shapes[0], {})

    def concat(self, name: str, *xs: str) -> str:
        """Layers one after the other on the channel axis."""
        shapes = [self._get(x, name).shape for x in xs]
        if not shapes or any(s[1:] != shapes[0][1:] for s in shapes):
            given = ", ".join(f"{x} {s}" for x, s in zip(xs, shapes, strict=True)) or "nothing"
            raise ModelError(f"layer {name}: cannot join {given}; height and width must agree")
        return self._add(name, "concat", xs, (sum(s[0] for s in shapes), *shapes[0][1:]), {})

    def reshape(self, name: str, x: str, shape: Shape) -> str:
        """The same values, in the order (c, y, x), under another shape."""
        before = self._get(x, name).shape
        if len(shape) != 3 or any(n < 1 for n in shape) or math.prod(shape) != math.prod(before):
            raise ModelError(f"layer {name}: cannot reshape {x} {before} to {tuple(shape)}")
        return self._add(name, "reshape", (x,), (int(shape[0]), int(shape[1]), int(shape[2])), {})

    def flatten(self, name: str, x: str) -> str:
        """(c, y, x) -> (c * y * x, 1, 1)."""
        return self.reshape(name, x, (math.prod(self._get(x, name).shape), 1, 1))

    def token_mix(self, name: str, x: str, weight: Any) -> str:
        """y[c, n'] = sum_n weight[head(c), n', n] x[c, n]; tokens are pixels row by row; weight (heads, tokens, tokens)."""
        w = array(name, "weight", weight, (None, None, None))
        return self._add(name, "token_mix", (x,), mix_shape(name, x, self._get(x, name).shape, w), {"weight": w})

    def mean(self, name: str, x: str) -> str:
        """Mean over all pixels (tokens): (c, y, x) -> (c, 1, 1)."""
        return self._add(name, "mean", (x,), (self._get(x, name).shape[0], 1, 1), {})

    def sum_pool(
        self, name: str, x: str, kernel: int | tuple[int, int], stride: int | tuple[int, int] | None = None, padding: int | tuple[int, int] = 0
    ) -> str:
        """Sum over windows."""
        return self._pool("sum_pool", name, x, kernel, stride, padding)

    def avg_pool(
        self, name: str, x: str, kernel: int | tuple[int, int], stride: int | tuple[int, int] | None = None, padding: int | tuple[int, int] = 0
    ) -> str:
        """Mean over windows, padding counted as zeros (count_include_pad)."""
        return self._pool("avg_pool", name, x, kernel, stride, padding)

    def max_pool(
        self, name: str, x: str, kernel: int | tuple[int, int], stride: int | tuple[int, int] | None = None, padding: int | tuple[int, int] = 0
    ) -> str:
        """Largest of every window, padding left out; of spikes it is their OR."""
        result = self._pool("max_pool", name, x, kernel, stride, padding)
        layer = self.layers[name]
        try:
            pooled(self.shape(x), layer.params["kernel"], layer.params["stride"], layer.params["padding"])
        except ModelError as error:
            del self.layers[name]
            raise ModelError(f"layer {name}: {error}") from None
        return result

    def gate(self, name: str, data: str, mask: str, *, count: int = 1, inverted: bool = False, latched: bool = False) -> str:
        """``data`` where ``mask`` is at least ``count`` (``inverted``: below it), else 0; mask counts spikes (whole numbers of at least 0).

        The mask's shape (gc, gy, gx) divides that of data (C, H, W) axis by axis and is spread over it: value (c, y, x) has the mask's
        (c // (C / gc), y // (H / gy), x // (W / gx)). ``latched``: the mask is summed over the steps of the sample so far, this one included.
        """
        shape, groups = self._get(data, name).shape, self._get(mask, name).shape
        if any(n % g for n, g in zip(shape, groups, strict=True)):
            raise ModelError(f"layer {name}: the mask {mask} {groups} does not divide the data {data} {shape}")
        params = {"count": whole(name, "count", count, 1), "inverted": bool(inverted), "latched": bool(latched)}
        return self._add(name, "gate", (data, mask), shape, params)

    def attention(self, name: str, q: str, k: str, v: str, *, heads: int, scale: float = 1.0) -> str:
        """Product of three spike layers of one shape (c, y, x), without softmax: scale * (q k^T) v over the tokens (pixels), head by head.

        out[h d + b, n] = scale * sum_a q[h d + a, n] * sum_m k[h d + a, m] * v[h d + b, m], d = c / heads.
        """
        shapes = [self._get(x, name).shape for x in (q, k, v)]
        if len(set(shapes)) != 1 or shapes[0][0] % whole(name, "heads", heads, 1):
            raise ModelError(f"layer {name}: q, k and v have shapes {shapes}; they must agree, and {heads} heads divide their channels")
        return self._add(name, "attention", (q, k, v), shapes[0], {"heads": int(heads), "scale": number(name, "scale", scale)})

    def _pool(self, op: str, name: str, x: str, kernel: Any, stride: Any, padding: Any) -> str:
        shape = self._get(x, name).shape
        window = pair(name, "kernel", kernel, 1)
        params = {
            "kernel": window,
            "stride": window if stride is None else pair(name, "stride", stride, 1),
            "padding": pair(name, "padding", padding, 0),
        }
        return self._add(name, op, (x,), pool_shape(name, shape, params), params)

    def scale(self, name: str, x: str, factor: Any, bias: Any = None) -> str:
        """Times a number, or a number per channel, plus a bias: a number, per channel, or (c, y, x)."""
        shape = self._get(x, name).shape
        value = array(name, "factor", factor)
        if value.shape not in ((), (shape[0],)):
            raise ModelError(f"layer {name}: factor has shape {value.shape}, its input {x} has {shape[0]} channels")
        params = {"factor": value, "bias": None if bias is None else per_neuron(name, "bias", bias, shape)}
        return self._add(name, "scale", (x,), shape, params)

    def sparse(self, name: str, x: str, indptr: Any, targets: Any, weight: Any, shape: Shape, bias: Any = None) -> str:
        """Any linear map with few weights: y[targets[k]] += weight[k] * x[i] for k in indptr[i]..indptr[i + 1], over flattened (c, y, x).

        indptr (values of x + 1), targets and weight (weights), ``shape`` of y, bias that broadcasts to it.
        """
        before, after = self._get(x, name).shape, (int(shape[0]), int(shape[1]), int(shape[2]))
        rows, columns = np.asarray(indptr, np.int64), np.asarray(targets, np.int64)
        values = np.array(weight, np.float64)
        wrong = len(rows) != math.prod(before) + 1 or rows[0] != 0 or rows[-1] != len(columns) or np.any(np.diff(rows) < 0)
        if wrong or values.shape != columns.shape:
            raise ModelError(f"layer {name}: indptr, targets and weight do not describe a map of {x} {before}")
        if len(columns) and (columns.min() < 0 or columns.max() >= math.prod(after)):
            raise ModelError(f"layer {name}: targets reach {columns.max()}, its shape {after} has {math.prod(after)} values")
        if not np.isfinite(values).all():
            raise ModelError(f"layer {name}: weight has values that are NaN or infinite")
        params = {"indptr": rows, "targets": columns, "weight": values, "bias": None if bias is None else per_neuron(name, "bias", bias, after)}
        return self._add(name, "sparse", (x,), after, params)

    def delay(self, name: str, x: str, steps: int = 1) -> str:
        """The value of ``x`` some steps ago, 0 before."""
        return self._add(name, "delay", (x,), self._get(x, name).shape, {"steps": whole(name, "delay", steps, 1)})

    def connect(self, source: str, target: str, delay: int = 1) -> None:
        """Add the value of ``source``, ``delay`` steps ago, to the input of the lif layer ``target``; the only way to close a cycle."""
        from_shape, to = self._get(source, f"connect to {target}").shape, self._get(target, f"connect from {source}")
        into = self.layers[to.inputs[0]].shape if to.op == "lif" else None
        if into is None or delay < 1 or from_shape != into:
            raise ModelError(
                f"connect {source} {from_shape} -> {target} ({to.op}, input {into}), delay {delay}: wanted a lif of that shape, delay >= 1"
            )
        self.connections.append((source, target, int(delay)))

    # -- neurons and foreign ops

    def lif(
        self, name: str, x: str, *, decay: float = 0.5, threshold: Any = 1.0, reset: Literal["zero", "subtract"] = "zero", strict: bool = False,
        floor: Any = None, bias: Any = None, v_rest: float = 0.0, v_reset: float | None = None, reset_by: Any = None, input_scale: float = 1.0,
        decay_current: float | None = None, max_spikes: int = 1, v_init: Any = None,
    ) -> str:  # fmt: skip
        """Leaky integrate and fire, one test per step.

        v <- v_rest + decay * (v - v_rest) + input_scale * x + bias;  v <- max(v, floor);  spike if v >= threshold (> when strict);
        v <- v_reset (reset zero; default v_rest) or v - n * reset_by (subtract; default threshold). A sample starts at
        v = v_init (default v_reset; subtract: v_rest).
        n is 1, or with ``max_spikes`` above 1 (at most 255) the largest n <= max_spikes with v >= n * threshold; the output is then n.
        With ``decay_current`` x is replaced by i <- decay_current * i + x. Threshold, floor, bias, reset_by, v_init: a number, per
        channel, or (c, y, x).
        spikingjelly's LIF(tau) is decay = 1 - 1/tau, input_scale = 1/tau.
        """
        shape = self._get(x, name).shape
        if reset not in ("zero", "subtract"):
            raise ModelError(f"layer {name}: reset {reset!r} must be 'zero' or 'subtract'")
        params: dict[str, Any] = {
            "decay": share(name, "decay", decay), "reset": reset, "strict": bool(strict), "v_rest": number(name, "v_rest", v_rest),
            "v_reset": number(name, "v_reset", v_rest if v_reset is None else v_reset), "input_scale": number(name, "input_scale", input_scale),
            "decay_current": None if decay_current is None else share(name, "decay_current", decay_current),
            "max_spikes": whole(name, "max_spikes", max_spikes, 1),
        }  # fmt: skip
        if max_spikes > 255:
            raise ModelError(f"layer {name}: max_spikes {max_spikes} is above 255, the largest value of a spike")
        if max_spikes > 1 and (v_rest != 0 or params["v_reset"] != 0):
            raise ModelError(
                f"layer {name}: max_spikes {max_spikes} with v_rest {v_rest}, v_reset {params['v_reset']}; thresholds are counted from 0"
            )
        for label, value in (("threshold", threshold), ("floor", floor), ("bias", bias), ("reset_by", reset_by), ("v_init", v_init)):
            params[label] = None if value is None else per_neuron(name, label, value, shape)
        return self._add(name, "lif", (x,), shape, params)

    def li(
        self, name: str, x: str, *, decay: float, bias: Any = None, v_rest: float = 0.0, input_scale: float = 1.0,
        decay_current: float | None = None, v_init: Any = None,
    ) -> str:  # fmt: skip
        """Leaky integrator that never fires, as the output of the network: its scores are v - v_rest after the last step. As ``lif`` without test;
        it starts at v_init (default v_rest)."""
        shape = self._get(x, name).shape
        params: dict[str, Any] = {
            "decay": share(name, "decay", decay), "decay_current": None if decay_current is None else share(name, "decay_current", decay_current),
            "bias": None if bias is None else per_neuron(name, "bias", bias, shape), "v_rest": number(name, "v_rest", v_rest),
            "input_scale": number(name, "input_scale", input_scale), "v_init": None if v_init is None else per_neuron(name, "v_init", v_init, shape),
        }  # fmt: skip
        return self._add(name, "li", (x,), shape, params)

    def op(self, name: str, op: str, *xs: str, shape: Shape | None = None, **params: Any) -> str:
        """Any other op (softmax, layer_norm, multiply, gelu, ...): kept by name, so that ``check`` can refuse it by name."""
        shapes = [self._get(x, name).shape for x in xs]
        if op in KNOWN_OPS:
            raise ModelError(f"layer {name}: {op} has its own method, Network.{op}()")
        if not shapes:
            raise ModelError(f"layer {name}: op {op} needs at least one input")
        return self._add(name, op, xs, shapes[0] if shape is None else shape, params)

    # -- whole network

    def verify(self) -> None:
        """Raises ModelError when input or output is missing, or a layer reads an integrator."""
        _ = self.input_contract
        if self.output_name is None:
            raise ModelError(f"network {self.name} has no output; call output() with the layer of the class scores")
        for reader, read in [*((name, x) for name, layer in self.layers.items() for x in layer.inputs), *((t, s) for s, t, _ in self.connections)]:
            if self.layers[read].op == "li":
                raise ModelError(f"layer {reader} reads {read}, an integrator (li), which can only be the output; use lif, or linear ops before it")

    def dense_macs(self) -> int:
        """Multiply-accumulates of one step when every layer is computed densely."""
        return sum(layer_macs(layer, [self.layers[x].shape for x in layer.inputs]) for layer in self.layers.values())

    def constant_layers(self) -> set[str]:
        """Layers whose value is the same in every step: those that a static image reaches without neuron or delay."""
        result: set[str] = set()
        for layer in self.layers.values():
            if layer.op == "input" or (layer.op not in ("lif", "li", "delay", "spikes_input", *EVENT_OPS) and all(x in result for x in layer.inputs)):
                result.add(layer.name)
        return result

    def workload(self) -> list[dict[str, Any]]:
        """What a GPU would compute per step: {layer, op, macs, weights, inputs, outputs, constant} of every layer; sizes count values.

        A ``constant`` layer is the same in every step, so it is computed once.
        """
        rows = []
        constant = self.constant_layers()
        for layer in self.layers.values():
            shapes = [self.layers[x].shape for x in layer.inputs]
            matrices = (layer.params.get("weight"), layer.params.get("bias")) if layer.op in ("conv2d", "linear", "token_mix") else ()
            rows.append({
                "layer": layer.name,
                "op": layer.op,
                "macs": layer_macs(layer, shapes),
                "weights": sum(int(np.size(m)) for m in matrices if m is not None),
                "inputs": sum(math.prod(shape) for shape in shapes),
                "outputs": layer.size,
                "constant": layer.name in constant,
            })  # fmt: skip
        return rows

    def parameters(self) -> int:
        """Number of weights and other array values."""
        return sum(p.size for layer in self.layers.values() for p in layer.params.values() if isinstance(p, np.ndarray))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.nsnet`` file."""
        nsnet.save_network(self, Path(path))

    def __str__(self) -> str:
        lines = [
            f"network {self.name}: {self.steps} step(s), {len(self.layers)} layers, {self.parameters()} parameters, {self.dense_macs()} MAC/step"
        ]
        for layer in self.layers.values():
            lines.append(f"  {layer.name} {layer.shape} = {layer.describe()}" + (f" of {', '.join(layer.inputs)}" if layer.inputs else ""))
        lines += [f"  {source} -> {target} after {delay} step(s)" for source, target, delay in self.connections]
        return "\n".join(lines + [f"  output {self.output_name}"])
