"""lava-dl's ``.net`` files (HDF5, written by ``export_hdf5`` of its slayer networks) -> Network in Loihi's integers.

Read are chains of ``dense`` layers (and ``flatten``, which does nothing to one-dimensional ones) of CUBA neurons. Their rule, in the file's numbers:

    i <- dec(i, iDecay) + 64 * (W s)        v <- dec(v, vDecay) + i        a spike if v > 64 * vThMant, then v <- 0
    dec(x, d) = sign(x) * ((abs(x) * (4096 - d)) >> 12)

The test is that of Loihi, and of lava-dl's netx, which runs such files; SLAYER, which trains them, spikes from v >= 64 * vThMant on (test reach). So
weights and thresholds are the file's times 64 and decays round toward zero (``Network.integers``). The network has no latency: a layer of step t
reads the spikes of step t. lava-dl delays the output of every block by one step (``delay_shift``), because on Loihi a spike that is sent in a step is
received in the next; after L layers it records the output of step t at t + L. In sync barrier that is the global step in which the output layer
handles its step t, Program.slice_offset later.

``delay`` of a layer, whole steps per neuron, is its axons' and acts on the layer behind. Convolutions are refused: the file does not say how large
their input is. So is everything else that this page does not name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE
from neurosim.errors import MissingExtra, ModelError, UnsupportedLayer
from neurosim.network import Network

OPTIONS = ("test",)
"""Options of ``load`` that belong to .net files."""
SCALE = 64
"""Loihi adds weights and compares thresholds in units of 2**6."""
LAYER_KEYS = {"type", "shape", "inFeatures", "outFeatures", "weight", "delay", "neuron"}
NEURON_KEYS = {"type", "iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike"}
MOST_DELAYS = 16
"""Distinct delays of one layer: each becomes a projection of its own."""


def lava_net(path: str | os.PathLike[str], steps: int, *, test: Literal["above", "reach"] = "above") -> Network:
    """Read a ``.net`` file for samples of ``steps`` steps; layers are called by their number. The scores count the spikes of the last layer.

    ``test``: above, v > threshold as Loihi and netx have it, or reach, v >= threshold as SLAYER has it in training.

    Raises ModelError (missing or broken file, an unknown test), UnsupportedLayer (a layer or field that is not known), MissingExtra without h5py.
    """
    if test not in ("above", "reach"):
        raise ModelError(f".net option test {test!r} is unknown; choose above (v > threshold, Loihi's) or reach (v >= threshold, SLAYER's)")
    layers = _read(Path(path))
    net = Network(Path(path).stem, steps, integers="zero")
    source = ""
    delays: NDArray[np.int64] | None = None
    for name, layer in layers:
        kind = _text(layer.get("type"))
        if kind == "flatten" and source:
            continue
        if kind != "dense":
            raise UnsupportedLayer(name, kind or "layer without a type", "only dense layers and flatten are read from .net files")
        _refuse_unknown(name, kind, layer)
        outputs, inputs = _whole(name, "outFeatures", layer), _whole(name, "inFeatures", layer)
        weight = _array(name, "weight", layer)
        if weight.shape != (outputs, inputs) or np.any(weight != np.round(weight)):
            what = f"shape {weight.shape}" if weight.shape != (outputs, inputs) else "values that are not whole"
            raise ModelError(f"layer {name}: weight has {what}, wanted whole numbers ({outputs}, {inputs}); export the network again")
        if not source:
            source = net.spikes_input("input", (inputs, 1, 1))
        elif net.shape(source) != (inputs, 1, 1):
            raise ModelError(f"layer {name}: inFeatures {inputs} are not the {net.shape(source)[0]} neurons of the layer before")
        current = _synapses(net, name, source, SCALE * weight, delays)
        source = _neurons(net, name, current, layer["neuron"], test == "above")
        delays = _delays(name, layer, outputs)
    if not source:
        raise ModelError(f"{path} has no layers; export the network again")
    if delays is not None and delays.any():
        raise UnsupportedLayer(
            layers[-1][0], "delay", "the last layer's axons are delayed, and nothing on the chip reads them", value=int(delays.max()), limit=0,
            remedy="train the last layer without delay",
        )  # fmt: skip
    net.output(source)
    blocks = sum(layer.op == "lif" for layer in net.layers.values())
    net.notes.append("a neuron fires above its threshold, as on Loihi" if test == "above" else "a neuron fires from its threshold on, as in SLAYER")
    net.notes.append(f"spikes of the last layer in step t are those that lava-dl records at t + {blocks} (a step per layer)")
    return net


def _read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(number, fields) of every layer in order; groups as nested dictionaries, datasets as arrays."""
    try:
        import h5py
    except ImportError:
        raise MissingExtra("reading .net files needs h5py: pip install 'neurosim[lava]'") from None
    if not path.is_file():
        raise ModelError(f"{path} does not exist; give a .net file of lava-dl")

    def content(item: Any) -> Any:
        return {key: content(value) for key, value in item.items()} if isinstance(item, h5py.Group) else item[()]

    try:
        with h5py.File(path, "r") as file:
            table = content(file)
    except OSError as error:
        raise ModelError(f"{path} is no HDF5 file, or truncated ({str(error).splitlines()[0]}); export the network again") from None
    unknown = sorted(set(table) - {"layer"})
    layers = table.get("layer")
    if unknown or not isinstance(layers, dict) or sorted(layers) != sorted(str(k) for k in range(len(layers))):
        found = f"has {unknown[0]!r}" if unknown else "has no layers 0, 1, ..."
        raise ModelError(f"{path} {found}, which a .net file of lava-dl does not; export the network again")
    return [(str(k), layers[str(k)]) for k in range(len(layers))]


def _refuse_unknown(name: str, kind: str, layer: dict[str, Any]) -> None:
    unknown = sorted(set(layer) - LAYER_KEYS)
    if unknown:
        raise UnsupportedLayer(name, kind, f"field {unknown[0]} is not known", remedy="train without it, or build the Network by hand")
    neuron = layer.get("neuron")
    if not isinstance(neuron, dict):
        raise UnsupportedLayer(name, kind, "it has no neuron", remedy="only layers of CUBA neurons are read")
    if _text(neuron.get("type")) != "CUBA":
        raise UnsupportedLayer(
            name, kind, "its neuron is not CUBA", value=_text(neuron.get("type")), limit="CUBA", remedy="train with slayer.block.cuba"
        )
    unknown = sorted(set(neuron) - NEURON_KEYS)
    if unknown:
        raise UnsupportedLayer(name, kind, f"neuron field {unknown[0]} is not known", remedy="train without it, or build the Network by hand")
    if bool(neuron.get("gradedSpike", False)):
        raise UnsupportedLayer(name, kind, "its spikes are graded", value="gradedSpike", limit="binary spikes", remedy="train with binary spikes")
    refractory = int(neuron.get("refDelay", 1))
    if refractory > 1:
        raise UnsupportedLayer(name, kind, "its neurons have a refractory period", value=refractory, limit=1, remedy="train with refDelay 1")


def _synapses(net: Network, name: str, source: str, weight: NDArray[np.float64], delays: NDArray[np.int64] | None) -> str:
    """One linear layer, or one for every delay of the axons that it reads, with the weights of the others 0."""
    if delays is None or not delays.any():
        return net.linear(f"{name}.weight", source, weight)
    parts = []
    for delay in np.unique(delays).tolist():
        late = net.delay(f"{name}.delay{delay}", source, delay) if delay else source
        parts.append(net.linear(f"{name}.weight{delay}", late, weight * (delays == delay)))
    return parts[0] if len(parts) == 1 else net.add(f"{name}.sum", *parts)


def _neurons(net: Network, name: str, current: str, neuron: dict[str, Any], strict: bool) -> str:
    decays = {}
    for key in ("iDecay", "vDecay"):
        value = _whole(name, key, neuron)
        if value > DECAY_ONE:
            raise ModelError(f"layer {name}: {key} {value} is above {DECAY_ONE}; export the network again")
        decays[key] = (DECAY_ONE - value) / DECAY_ONE
    threshold = SCALE * _whole(name, "vThMant", neuron)
    return net.lif(name, current, decay=decays["vDecay"], decay_current=decays["iDecay"], threshold=threshold, strict=strict)


def _delays(name: str, layer: dict[str, Any], neurons: int) -> NDArray[np.int64] | None:
    if "delay" not in layer:
        return None
    delays = _array(name, "delay", layer).ravel()
    if len(delays) not in (1, neurons) or np.any(delays != np.floor(delays)) or delays.min() < 0:
        raise ModelError(f"layer {name}: delay has {len(delays)} values from {delays.min():g}, wanted whole steps, 1 or {neurons} of them")
    if len(np.unique(delays)) > MOST_DELAYS:
        raise UnsupportedLayer(
            name, "delay", "its axons have many different delays, each of which is a projection of its own", value=len(np.unique(delays)),
            limit=MOST_DELAYS, remedy="train with fewer delays (a smaller max_delay)",
        )  # fmt: skip
    return np.broadcast_to(delays.astype(np.int64), (neurons,))


def _text(value: Any) -> str:
    """The text of a dataset of bytes, a scalar or an array of one."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")


def _array(name: str, key: str, fields: dict[str, Any]) -> NDArray[np.float64]:
    value = fields.get(key)
    if not isinstance(value, np.ndarray | np.number) or np.asarray(value).dtype.kind not in "iuf":
        raise ModelError(f"layer {name}: {key} is missing or no array of numbers; export the network again")
    return np.asarray(value, np.float64)


def _whole(name: str, key: str, fields: dict[str, Any]) -> int:
    value = _array(name, key, fields)
    if value.size != 1 or value.ravel()[0] != np.floor(value.ravel()[0]) or value.ravel()[0] < 0:
        raise ModelError(f"layer {name}: {key} {value.tolist()} must be one whole number of at least 0; export the network again")
    return int(value.ravel()[0])
