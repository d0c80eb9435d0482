"""A Network as a PyTorch module, dense, as a GPU or CPU would run it: the baseline that is measured. Needs torch.

Time is folded into the batch axis (entry t * B + b is step t of sample b), so a layer is one launch for all steps and only neurons, delays and
latched gates look across steps; layers that a static image reaches without a neuron are computed once. Networks with ``connect`` run step by step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurosim.errors import ModelError
from neurosim.network import Layer, Network


class TorchNetwork(nn.Module):  # type: ignore[misc]  # torch comes without types here
    """Images [B, c, y, x] (raw pixels) or events [B, T, c, y, x] -> scores [B, classes], in the type of the input.

    ``ann``: the network of the same shape without time: relu in place of every neuron, one step; for its cost, not for its answers.
    """

    def __init__(self, net: Network, *, ann: bool = False) -> None:
        super().__init__()
        net.verify()
        self.net, self.ann = net, ann
        self.steps = 1 if ann else net.steps
        self.constant = net.constant_layers()
        for k, layer in enumerate(net.layers.values()):
            if layer.op == "sparse":
                raise ModelError(f"layer {layer.name}: a sparse map is run as no GPU library would; measure the model that it came from")
            for key, value in layer.params.items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    self.register_buffer(f"p{k}_{key}", torch.from_numpy(np.array(value)))

    def forward(self, x: Tensor) -> Tensor:
        """Scores: mean of the output over the steps, or the membrane of an integrator after the last."""
        net = self.net
        last = str(net.output_name)
        if not net.connections:
            return self._score(self._pass(x, 0, self.steps, {}, {})[last], x.shape[0], net.layers[last])
        memory: dict[str, Tensor] = {}
        past: list[dict[str, Tensor]] = []
        total: Tensor | None = None
        for step in range(self.steps):
            values = self._pass(x, step, 1, memory, {t: past[step - d][s] for s, t, d in net.connections if step >= d})
            past.append(values)
            total = values[last] if total is None or net.layers[last].op == "li" else total + values[last]
        assert total is not None
        return total.flatten(1) / (1 if net.layers[last].op == "li" else self.steps)

    def _score(self, y: Tensor, samples: int, layer: Layer) -> Tensor:
        if layer.name in self.constant:
            return y.flatten(1)
        steps = y.flatten(1).unflatten(0, (self.steps, samples))
        return steps[-1] if layer.op == "li" else steps.mean(dim=0)

    def _pass(self, x: Tensor, first: int, steps: int, memory: dict[str, Tensor], extra: dict[str, Tensor]) -> dict[str, Tensor]:
        """Values of all layers for ``steps`` steps from ``first``; constant layers hold one value per sample, the others one per step and sample."""
        values: dict[str, Tensor] = {}
        for k, layer in enumerate(self.net.layers.values()):
            p = {key: getattr(self, f"p{k}_{key}", value) for key, value in layer.params.items()}
            if layer.op == "input":
                values[layer.name] = self._image(x)
            elif layer.op == "spikes_input":
                values[layer.name] = x[:, first : first + steps].transpose(0, 1).flatten(0, 1)
            else:
                inputs = [values[name] for name in layer.inputs]
                if layer.name not in self.constant:
                    inputs = [
                        v.repeat(steps, 1, 1, 1) if name in self.constant and steps > 1 else v for name, v in zip(layer.inputs, inputs, strict=True)
                    ]
                if layer.name in extra:
                    inputs[0] = inputs[0] + extra[layer.name]
                values[layer.name] = self._layer(layer, p, inputs, steps, memory)
        return values

    def _image(self, x: Tensor) -> Tensor:
        contract = self.net.input_contract
        weight, bias = (torch.as_tensor(a, dtype=x.dtype, device=x.device).view(-1, 1, 1) for a in contract.affine())
        return x * weight + bias

    def _layer(self, layer: Layer, p: dict[str, Any], xs: list[Tensor], steps: int, memory: dict[str, Tensor]) -> Tensor:
        x = xs[0]
        match layer.op:
            case "lif":
                return functional.relu(x) if self.ann else self._over_steps(layer, p, x, steps, memory, fires=True)
            case "li":
                return x if self.ann else self._over_steps(layer, p, x, steps, memory, fires=False)
            case "delay":
                return x if self.ann else _delayed(layer.name, x, steps, int(p["steps"]), memory)
            case "gate":
                return self._gate(layer, p, xs, steps, memory)
            case "attention":
                return _attention(p, *xs)
            case "conv2d":
                return functional.conv2d(x, p["weight"], p["bias"], p["stride"], p["padding"], p["dilation"], p["groups"])
            case "linear":
                return functional.linear(x.flatten(1), p["weight"], p["bias"])[:, :, None, None]
            case "batch_norm":
                return functional.batch_norm(x, p["mean"], p["var"], p["weight"], p["bias"], False, 0.0, p["eps"])
            case "token_mix":
                heads = x.flatten(2).unflatten(1, (len(p["weight"]), -1))
                return torch.matmul(heads, p["weight"].transpose(1, 2)).reshape(x.shape)
            case "add":
                return torch.stack(xs).sum(dim=0) if len(xs) > 2 else xs[0] + xs[-1] if len(xs) == 2 else x
            case "concat":
                return torch.cat(xs, dim=1)
            case "reshape":
                return x.reshape(len(x), *layer.shape)
            case "mean":
                return x.mean(dim=(2, 3), keepdim=True)
            case "avg_pool":
                return functional.avg_pool2d(x, p["kernel"], p["stride"], p["padding"])
            case "sum_pool":
                return functional.avg_pool2d(x, p["kernel"], p["stride"], p["padding"], divisor_override=1)
            case "max_pool":
                return functional.max_pool2d(x, p["kernel"], p["stride"], p["padding"])
            case "scale":
                y = x * p["factor"].reshape(-1, 1, 1)
                return y if p["bias"] is None else y + p["bias"]
        raise ModelError(f"layer {layer.name}: op {layer.op} cannot be measured in PyTorch; leave this layer out of the model")

    def _over_steps(self, layer: Layer, p: dict[str, Any], x: Tensor, steps: int, memory: dict[str, Tensor], *, fires: bool) -> Tensor:
        """Neurons of a layer through the steps; membranes stay in ``memory`` for the next call."""
        rest, name = float(p["v_rest"]), layer.name
        hard = fires and p["reset"] == "zero"
        v = memory.get(name)
        i = memory.get(f"{name} current")
        out = []
        for current in (p["input_scale"] * x).unflatten(0, (steps, -1)).unbind(0):
            if p["decay_current"] is not None:
                current = i = current if i is None else p["decay_current"] * i + current
            if v is None:
                v = torch.full_like(current, float(p["v_reset"]) if hard else rest) if p.get("v_init") is None else p["v_init"].expand_as(current)
            v = rest + p["decay"] * (v - rest) + current
            if p["bias"] is not None:
                v = v + p["bias"]
            if not fires:
                out.append(v - rest)
                continue
            if p["floor"] is not None:
                v = torch.maximum(v, p["floor"])
            threshold = p["threshold"]
            most = int(p.get("max_spikes", 1))
            if most > 1:
                count = torch.ceil(v / threshold) - 1 if p["strict"] else torch.floor(v / threshold)
                s = count.clamp(0, most)
            else:
                s = (v > threshold if p["strict"] else v >= threshold).to(v.dtype)
            v = torch.where(s > 0, float(p["v_reset"]), v) if hard else v - s * (threshold if p["reset_by"] is None else p["reset_by"])
            out.append(s)
        assert v is not None
        memory[name] = v
        if i is not None:
            memory[f"{name} current"] = i
        return torch.cat(out)

    def _gate(self, layer: Layer, p: dict[str, Any], xs: list[Tensor], steps: int, memory: dict[str, Tensor]) -> Tensor:
        data, mask = xs
        if p["latched"] and not self.ann:
            sums = mask.unflatten(0, (steps, -1)).cumsum(dim=0)
            if layer.name in memory:
                sums = sums + memory[layer.name]
            memory[layer.name], mask = sums[-1], sums.flatten(0, 1)
        opened = (mask >= p["count"]) != p["inverted"]
        c, y, x = (n // g for n, g in zip(data.shape[1:], mask.shape[1:], strict=True))
        return data * opened.to(data.dtype).repeat_interleave(c, 1).repeat_interleave(y, 2).repeat_interleave(x, 3)


def _attention(p: dict[str, Any], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a, b, d = (m.flatten(2).unflatten(1, (int(p["heads"]), -1)) for m in (k, v, q))
    tokens, width = a.shape[-1], a.shape[2]
    a = a.transpose(2, 3)
    product = torch.matmul(b, torch.matmul(a, d)) if tokens < width else torch.matmul(torch.matmul(b, a), d)  # the cheaper of the two orders
    return float(p["scale"]) * product.reshape(q.shape)


def _delayed(name: str, x: Tensor, steps: int, by: int, memory: dict[str, Tensor]) -> Tensor:
    now = x.unflatten(0, (steps, -1))
    before = memory.get(name)
    if before is None:
        before = torch.zeros((by, *now.shape[1:]), dtype=x.dtype, device=x.device)
    both = torch.cat((before, now))
    memory[name] = both[-by:]
    return both[:steps].flatten(0, 1)


def example_input(net: Network, batch: int, rate: float = 0.1, seed: int = 0) -> Tensor:
    """Random input of the network's contract, float32: pixels of its dtype's range, or events at a rate per neuron and step."""
    rng = np.random.default_rng(seed)
    contract = net.input_contract
    if contract.kind == "spikes":
        return torch.from_numpy((rng.random((batch, net.steps, *contract.shape)) < rate).astype(np.float32))
    low, high = contract.pixel_range() if contract.dtype.startswith(("int", "uint")) else (0, 1)
    return torch.from_numpy(rng.integers(low, high, (batch, *contract.shape), endpoint=True).astype(np.float32))


def tensor_bytes(module: TorchNetwork) -> int:
    """Bytes of all weights."""
    return sum(math.prod(b.shape) * b.element_size() for b in module.buffers())
