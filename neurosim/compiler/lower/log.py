"""What became of every layer, in words: the log of the ``lower`` pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from neurosim.graph import Graph, Projection, Rewrite
from neurosim.network import Layer, Network
from neurosim.network.layers import EVENT_OPS

NATIVE = {"conv2d": "conv2d", "linear": "dense", "token_mix": "token_mix", "sum_pool": "sum_pool", "sparse": "sparse"}
STRUCTURE = ("input", "add", "concat", "reshape", "delay", "lif", "li", *EVENT_OPS)
"""Ops that bring no weights of their own."""
REASONS = {
    "batch_norm": "folded into the weights of {where}; its shift became the bias of the target",
    "add": "no sum is built: each branch feeds each reader, {where}",
    "concat": "no join is built: each branch writes its own channels, {where}",
    "mean": "1/pixels folded into the weights of {where}",
    "avg_pool": "the mean became weights of {where}",
    "scale": "folded into the weights of {where}",
    "reshape": "only the numbering of {where}",
    "delay": "became the delay of {where}",
}


class Log:
    """Derives the list of Rewrites from the finished Graph."""

    def __init__(self, net: Network) -> None:
        self.net = net

    def rewrites(self, graph: Graph, needed: set[str], notes: Mapping[str, Rewrite]) -> tuple[Rewrite, ...]:
        """One Rewrite per layer, in the order of the network; ``notes``: those that lowering has written itself."""
        carriers: dict[str, list[Projection]] = {name: [] for name in self.net.layers}
        for projection in graph.projections:
            for name in projection.layers:
                carriers[name].append(projection)
        populations = {p.name: p for p in graph.populations}
        result = []
        for layer in self.net.layers.values():
            if layer.name not in needed:
                result.append(Rewrite(layer.name, layer.op, "dropped", "the output does not depend on it"))
            elif layer.name in notes and (layer.op != "lif" or layer.name not in populations):
                result.append(notes[layer.name])
            elif layer.op in ("lif", "li", "spikes_input"):
                result.append(self._neurons(layer, populations[layer.name].host))
            else:
                result.append(self._linear(layer, carriers[layer.name], graph))
        return tuple(result)

    def _neurons(self, layer: Layer, host: bool) -> Rewrite:
        if layer.op == "spikes_input":
            return Rewrite(layer.name, layer.op, "native", "events enter through the port as they are")
        if host:
            return Rewrite(layer.name, layer.op, "host", "reads only the static image: the host computes it and injects its spikes")
        p = layer.params
        notes = []
        if p["v_rest"] != 0 or p.get("v_reset", 0) != 0:
            notes.append(f"potentials shifted so that it {'resets' if p.get('reset') == 'zero' else 'rests'} at 0")
        if p.get("v_init") is not None:
            notes.append("starts every sample at a membrane of its own")
        if p["input_scale"] != 1:
            notes.append(f"input scale {p['input_scale']:.6g} folded into the weights before it")
        return Rewrite(layer.name, layer.op, "rewritten" if notes else "native", "; ".join(notes) or "a population of neurons")

    def _linear(self, layer: Layer, carriers: list[Projection], graph: Graph) -> Rewrite:
        if not carriers:
            return Rewrite(layer.name, layer.op, "rewritten", "a constant: it became biases")
        where = _names(carriers)
        analog = [p for p in carriers if graph.population(p.source).kind == "analog"]
        hosted = len(analog) == len(carriers)
        if layer.op == "input":
            return Rewrite(
                layer.name, layer.op, "host", f"(pixel / scale - mean) / std folded into the weights of {where}; the host reads raw pixels"
            )
        text = REASONS.get(layer.op, "folded with {others} into the weights of {where}")
        around = dict.fromkeys(x for p in carriers for x in p.layers)
        others = [x for x in around if x != layer.name and self.net.layers[x].op not in STRUCTURE]
        status: Literal["native", "rewritten", "host"] = "host" if hosted else "rewritten"
        if not others and len(carriers) == 1 and layer.op in NATIVE and carriers[0].map.op == NATIVE[layer.op] and not hosted:
            return Rewrite(layer.name, layer.op, "native", f"the weights of {where}")
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "") if others else "nothing"
        text = text.format(where=where, others=shown)
        if hosted:
            text += "; computed by the host" + (", injected as currents" if any(not graph.population(p.target).host for p in analog) else "")
        elif analog:
            text += "; the part that reads the static image is computed by the host"
        return Rewrite(layer.name, layer.op, status, text)


def _names(carriers: list[Projection]) -> str:
    pairs = list(dict.fromkeys(f"{p.source} -> {p.target}" for p in carriers))
    return ", ".join(pairs[:4]) + (f" and {len(pairs) - 4} more" if len(pairs) > 4 else "")
