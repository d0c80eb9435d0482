"""Hypothesis strategies for whole cases: a small integer Graph, a chip, a discipline, stimuli and options, assembled into a Program.

Structure (shapes, ops, depths, timings) is drawn by hypothesis, so that a fault shrinks; the many weights come from one drawn seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from neurosim.chip import Chip, load_chip
from neurosim.compiler.assemble import assemble
from neurosim.compiler.mapping import Mapping, largest_delay
from neurosim.compiler.place import map_graph
from neurosim.engine.events import CURRENT, SPIKE, Options, Stimulus
from neurosim.errors import DoesNotFit
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection, Shape, Sparse, SumPool, TokenMix
from neurosim.program import Program

TIMINGS = (
    "decode", "synop", "access", "update", "fire", "put", "send", "hop_east_west", "hop_north_south", "hop_local",
    "forward", "ack", "axon_forward", "axon_ack", "wire", "bank", "port", "readout", "reset",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One drawn simulation."""

    graph: Graph
    program: Program
    stimuli: list[Stimulus]
    options: Options

    def __repr__(self) -> str:
        spikes = [int((s.item == SPIKE).sum()) for s in self.stimuli]
        noc, timing = self.program.chip.noc, self.program.chip.timing
        times = {name: getattr(timing, name).value for name in TIMINGS}
        return (
            f"Case({self.program.sync}, {self.graph}\n slices {self.program.slices} on cores {self.program.slice_core.tolist()}, "
            f"spikes {spikes}, {self.options}\n {noc}\n {self.program.chip.arithmetic}\n {times})"
        )

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every array of the Program


@st.composite
def chips(draw: st.DrawFn, sync: str) -> Chip:
    """A chip built from ``tiny``: mesh, FIFO depths, flow control, lanes, visits, widths, timings from 1 ps up."""
    width, height = draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]))
    settings: dict[str, Any] = {
        "noc.width": width,
        "noc.height": height,
        "noc.ports": [draw(st.integers(0, width * height - 1))],
        "noc.fifo": draw(st.integers(1, 4)),
        "noc.axon_in": draw(st.integers(1, 4)),
        "noc.axon_out": draw(st.integers(1, 4)),
        "noc.flow": draw(st.sampled_from(["end_to_end", "link"])),
        "noc.window": draw(st.integers(1, 3)),
        "memory.cores": width * height,
        "memory.neurons": draw(st.sampled_from([256, 24, 8])),
        "memory.bytes": 65536,
        "memory.route_entries": 4096,
        "arithmetic.lanes": draw(st.integers(1, 4)),
        "arithmetic.state_bits": draw(st.sampled_from([16, 8, 6])),
        "arithmetic.rounding": draw(st.sampled_from(["floor", "zero", "nearest"])),
        "arithmetic.skip_zero_weights": draw(st.booleans()),
        "arithmetic.visit": draw(st.sampled_from(["all", "active"])),
        "arithmetic.spikes_per_update": draw(st.integers(1, 3)),
        "capabilities.max_delay": 2,
        "capabilities.banks": draw(st.integers(3, 6)),
        "capabilities.neuron.current": True,
        "capabilities.ops.sparse": {},
    }
    unit = draw(st.sampled_from([1, 10, 1000]))
    for name in TIMINGS:
        settings[f"timing.{name}"] = draw(st.integers(1, 9)) * unit
    if settings["noc.flow"] == "end_to_end":
        settings["timing.axon_ack"] = min(settings["timing.axon_ack"], settings["timing.wire"])
    settings["timing.leak"] = draw(st.integers(1, 200)) * unit
    return load_chip("tiny", [f"{key}={_toml(value)}" for key, value in settings.items()])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


@st.composite
def rules(draw: st.DrawFn, shape: Shape, sync: str, limit: int, weights: np.random.Generator) -> NeuronRule:
    """A neuron rule in integers, per neuron, per channel or scalar; ``limit`` is the largest membrane of the chip."""
    form = draw(st.sampled_from([(1, 1, 1), (shape[0], 1, 1), shape]))
    top = draw(st.integers(1, min(12, limit)))
    biased, floored, subtract = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    current = sync != "free" and draw(st.integers(0, 3)) == 0
    return NeuronRule(
        threshold=weights.integers(1, top + 1, form),
        bias=weights.integers(-2, 4, form) if biased else np.zeros((1, 1, 1), np.int64),
        decay=4096 - draw(st.sampled_from([0, 0, 2048, 1024, 100, 4095])),
        reset="subtract" if subtract else "zero",
        reset_by=weights.integers(1, top + 1, form) if subtract and draw(st.booleans()) else None,
        floor=weights.integers(-6, 1, form) if floored else None,
        strict=draw(st.booleans()),
        decay_current=4096 - draw(st.sampled_from([0, 2048, 700])) if current else None,
    )


def _signed(weights: np.random.Generator, shape: tuple[int, ...], gain: int) -> np.ndarray[Any, Any]:
    """Integer weights around ``gain``: some zero, some negative."""
    return weights.integers(-gain, gain + 2, shape) * (weights.random(shape) < 0.8)


@st.composite
def maps(draw: st.DrawFn, source: Shape, target: Shape | None, weights: np.random.Generator) -> Any:
    """A linear map from ``source`` onto ``target``, or onto any small shape when it is None."""
    gain = draw(st.integers(1, 7))
    channels, height, width = source
    kinds = ["dense", "sparse"]
    if target is None or target[1:] == source[1:]:
        kinds.append("pointwise")
    if target is None or target == source:
        kinds += ["identity", "token_mix"]
    if target is None:
        kinds += ["conv2d", "sum_pool"]
    kind = draw(st.sampled_from(kinds))
    out: Shape = target or (draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    if kind == "dense":
        return Dense(_signed(weights, (int(np.prod(out)), int(np.prod(source))), gain), out)
    if kind == "sparse":
        return _sparse(weights, source, out, gain)
    if kind == "pointwise":
        return Conv2d(_signed(weights, (out[0], channels, 1, 1), gain))
    if kind == "identity":
        return SumPool(weights.integers(1, gain + 2, channels))
    if kind == "token_mix":
        heads = draw(st.sampled_from([h for h in (1, 2, 3) if channels % h == 0]))
        tokens = height * width
        return TokenMix(_signed(weights, (heads, tokens, tokens), gain))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    kernel = tuple(draw(st.integers(1, min(3, side + 2 * pad))) for side, pad in zip(source[1:], padding, strict=True))
    if kind == "sum_pool":
        return SumPool(weights.integers(1, gain + 2, channels), (kernel[0], kernel[1]), stride, padding)
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    dilation = tuple(
        draw(st.integers(1, 2)) if 2 * (k - 1) + 1 <= side + 2 * pad else 1 for k, side, pad in zip(kernel, source[1:], padding, strict=True)
    )
    out_channels = groups * draw(st.integers(1, 2))
    return Conv2d(_signed(weights, (out_channels, channels // groups, *kernel), gain), stride, padding, (dilation[0], dilation[1]), groups)


def _sparse(weights: np.random.Generator, source: Shape, out: Shape, gain: int) -> Sparse:
    size, targets = int(np.prod(source)), int(np.prod(out))
    rows = [np.flatnonzero(weights.random(targets) < 0.5) for _ in range(size)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Sparse(indptr, np.concatenate(rows).astype(np.int64), _signed(weights, (int(indptr[-1]),), gain), out)


@st.composite
def graphs(draw: st.DrawFn, sync: str, chip: Chip, plain: bool = False) -> Graph:
    """A feed-forward integer Graph: one or two inputs, sometimes host currents, one to four spiking populations, mostly a readout.

    ``plain``: one input of spikes and a readout, what the clock-driven model runs from events.
    """
    weights = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limit = 2 ** (chip.arithmetic.state_bits - 1) - 1
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
    populations = [Population(f"in{k}", draw(shapes), "input") for k in range(1 if plain else draw(st.integers(1, 2)))]
    projections: list[Projection] = []
    spiking = draw(st.integers(1, 4))
    readout = plain or draw(st.integers(0, 3)) > 0
    analog = not plain and draw(st.integers(0, 2)) == 0
    for k in range(spiking + readout):
        last = k == spiking
        name = "out" if last else f"layer{k}"
        source = draw(st.sampled_from([p for p in populations if p.kind in ("input", "spiking")][-3:]))
        target = (draw(st.integers(1, 4)), 1, 1) if last else None
        linear = draw(maps(source.shape, target, weights))
        shape = linear.out_shape(source.shape)
        extra = draw(st.integers(0, 1)) if not last and shape[1:] == (1, 1) else 0  # channels that only later projections reach
        shape = (shape[0] + extra, *shape[1:])
        rule = draw(rules(shape, sync, limit, weights))
        if last:
            rule = NeuronRule(threshold=np.ones((1, 1, 1), np.int64), bias=rule.bias, decay=rule.decay)
        populations.append(Population(name, shape, "readout" if last else "spiking", rule, scale=np.ones(shape[0])))
        projections.append(Projection(source.name, name, linear, draw(_delays()), draw(st.integers(0, 1)), layers=(name,)))
        for _ in range(draw(st.integers(0, 1 if last else 2))):
            other = draw(st.sampled_from([p for p in populations[:-1] if p.kind in ("input", "spiking")]))
            part = (shape[0] - extra, *shape[1:]) if draw(st.booleans()) else shape
            projections.append(
                Projection(other.name, name, draw(maps(other.shape, part, weights)), draw(_delays()), 0, shape[0] - part[0], layers=(name,))
            )
        if analog and not last and draw(st.booleans()):
            image = Population(f"image{k}", shape, "analog")
            populations.insert(0, image)
            projections.append(Projection(image.name, name, SumPool(np.ones(shape[0], np.int64)), layers=(name,)))
    graph = Graph("drawn", draw(st.integers(1, 4)), tuple(populations), tuple(projections), class_names=())
    graph.verify()
    return graph


def _delays() -> st.SearchStrategy[int]:
    return st.sampled_from([0, 0, 0, 1, 2])


@st.composite
def stimuli_of(draw: st.DrawFn, program: Program, samples: int, realtime: bool, currents: bool = True) -> list[Stimulus]:
    """Spikes into input populations in every step and currents into slices that wait for the control source, in port order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.3, 0.8, 0.05, 0.0]))
    spread = draw(st.sampled_from([1, 50, 5000]))
    steps = 1 if program.sync == "free" else program.steps
    control = program.control_source
    fed = sorted({int(q) for s, q, _ in program.sync_pair.tolist() if s == control}) if program.sync != "free" else range(program.slices)
    fed = [q for q in fed if currents and draw(st.booleans())]
    result, clock = [], 0
    for _ in range(samples):
        rows: list[tuple[int, int, int, int, int, int]] = []
        for step in range(steps):
            now = []
            for q in fed:
                size = int(program.neuron_ptr[q + 1] - program.neuron_ptr[q])
                now += [(step, CURRENT, q, int(a), int(rng.integers(-3, 6))) for a in np.flatnonzero(rng.random(size) < density)]
            for source in range(program.slices, control):
                size = int(np.prod(program.source_shape[source]))
                now += [(step, SPIKE, source, int(a), 1) for a in np.flatnonzero(rng.random(size) < density)]
            dues = [clock + int(rng.integers(0, spread)) if realtime else 0 for _ in now]
            order = {CURRENT: 0, SPIKE: 1}
            rows += sorted(((due, *row) for due, row in zip(dues, now, strict=True)), key=lambda r: (r[0], r[1], order[r[2]], r[3], r[4], r[5]))
            clock += spread if realtime else 0
        table = np.array(rows, np.int64).reshape(-1, 6)
        kinds = (np.int64, np.int32, np.uint8, np.int32, np.int32, np.int64)
        result.append(Stimulus(*(table[:, k].astype(kind) for k, kind in enumerate(kinds))))
        clock = 0
    return result


@st.composite
def mappings(draw: st.DrawFn, graph: Graph, chip: Chip, sync: str) -> Mapping:
    """The compiler's mapping, or its slices scattered over the cores: neighbours on one core, cycles of cores, few banks."""
    try:
        mapping = map_graph(graph, chip, sync).mapping
    except DoesNotFit:
        reject()
    if draw(st.booleans()):
        return mapping
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    least = [1 + largest_delay(graph, graph.populations[piece.population].name) for piece in mapping.slices]
    core = tuple(int(c) for c in rng.integers(0, chip.memory.cores, len(least)))
    return Mapping(mapping.slices, core, tuple(1 if sync == "free" else b + int(rng.integers(0, 3)) for b in least))


@st.composite
def cases(draw: st.DrawFn, sync: str | None = None, plain: bool = False) -> Case:
    """A whole case; ``sync`` fixes the discipline, ``plain`` draws only what the clock-driven model runs."""
    sync = sync or draw(st.sampled_from(["wavefront", "free"]))
    chip = draw(chips(sync))
    graph = draw(graphs(sync, chip, plain))
    program = assemble(graph, chip, sync, draw(mappings(graph, chip, sync)))
    samples = draw(st.integers(1, 2))
    streamed = sync == "wavefront" and draw(st.booleans())
    stimuli = draw(stimuli_of(program, samples, realtime=not streamed and draw(st.booleans()), currents=not plain))
    options = Options(
        streamed=streamed,
        jitter=draw(st.sampled_from([0, 0, 1, 6554, 65535])),
        seed=draw(st.integers(0, 9)),
        first_sample=draw(st.sampled_from([0, 0, 3])),
        record=True,
        spikes=True,
        state=True,
    )
    return Case(graph, program, stimuli, options)
