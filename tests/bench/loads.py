"""Programs and stimuli of the benchmarks: hand-mapped, so that hops and fan-out are what the benchmark says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.mapping import Mapping, Slice
from neurosim.engine.events import SPIKE, Stimulus
from neurosim.graph import Conv2d, Graph, NeuronRule, Population, Projection, SumPool
from neurosim.program import Program

NEVER = 2**14
"""A threshold that these loads do not reach."""


def stimulus(program: Program, step: NDArray[Any], source: NDArray[Any], address: NDArray[Any]) -> Stimulus:
    """Spikes of port sources (0 = the first) in the given order, all due at once; steps count in stepped disciplines only."""
    n = len(address)
    steps = np.zeros(n, np.int32) if program.sync == "free" else step.astype(np.int32)
    return Stimulus(
        np.zeros(n, np.int64), steps, np.full(n, SPIKE, np.uint8), (program.slices + source).astype(np.int32), address.astype(np.int32),
        np.ones(n, np.int64),
    )  # fmt: skip


def _rule(threshold: int, reset: Any = "subtract", floor: int | None = None) -> NeuronRule:
    return NeuronRule(
        np.full((1, 1, 1), threshold, np.int64), np.zeros((1, 1, 1), np.int64), reset=reset,
        floor=None if floor is None else np.full((1, 1, 1), floor, np.int64),
    )  # fmt: skip


def conv_weights(channels: int) -> NDArray[Any]:
    """[channels out, channels in, 3, 3] small integers, the same for engine and bare loops."""
    return np.random.default_rng(channels).integers(-20, 22, (channels, channels, 3, 3))


def conv_program(sync: str, channels: int, side: int, steps: int, threshold: int, onward: bool) -> Program:
    """A 3x3 convolution on a core four links from the port; with ``onward`` its spikes go on to a population four links further, else nowhere.

    One core holds the whole convolution, so memory.neurons and memory.bytes of the chip are passed over at 128 channels.
    """
    shape = (channels, side, side)
    populations = [Population("in", shape, "input"), Population("conv", shape, "spiking", _rule(threshold, floor=-300))]
    projections = [Projection("in", "conv", Conv2d(conv_weights(channels), padding=(1, 1)))]
    if onward:
        populations.append(Population("next", shape, "spiking", _rule(NEVER)))
        projections.append(Projection("conv", "next", SumPool(np.ones(channels, np.int64))))
    graph = Graph("conv", steps, tuple(populations), tuple(projections))
    box = (0, channels, 0, side, 0, side)
    slices = tuple(Slice(k, box) for k in range(1, len(populations)))
    chip = load_chip("async-mesh")  # 8 x 8, port on router 0: core 4 is four links east of it, core 36 four links south of core 4
    return assemble(graph, chip, sync, Mapping(slices, (4, 36)[: len(slices)], (2 if sync != "free" else 1,) * len(slices)))


def conv_stream(channels: int, side: int, steps: int, density: float) -> NDArray[Any]:
    """[spikes, 4] (step, c, y, x) of an input of the given density per step, in port order: ascending address within a step."""
    rng = np.random.default_rng(1)
    step, y, x, c = np.nonzero(rng.random((steps, side, side, channels)) < density)
    return np.stack([step, c, y, x], axis=1)


def conv_stimulus(program: Program, stream: NDArray[Any]) -> Stimulus:
    """The stream as a stimulus of ``conv_program``."""
    channels, _, side = (int(v) for v in program.source_shape[program.slices])
    step, c, y, x = stream.T
    return stimulus(program, step, np.zeros(len(stream), np.int64), (y * side + x) * channels + c)


def mesh_program(sync: str, side: int, neurons: int, steps: int, relays: NDArray[Any], readers: list[NDArray[Any]]) -> Program:
    """Packets and little else: on each of the cores ``relays`` of a side x side mesh a slice that passes every spike of a port of its own on.

    ``readers[k][i]`` is the core of the slice that relay slice i feeds in reader population k, one synapse per spike. No core should hold both, lest
    the graph of cores have cycles, on which ``free`` can deadlock.
    """
    cores, count = side * side, len(relays)
    shape = (neurons, 1, count)
    populations = [Population("in", shape, "input"), Population("relay", shape, "spiking", _rule(1))]
    projections = [Projection("in", "relay", SumPool(np.ones(neurons, np.int64)))]
    boxes = [(0, neurons, 0, 1, k, k + 1) for k in range(count)]
    slices, placed = [Slice(1, box) for box in boxes], relays.tolist()
    for k, goal in enumerate(readers):
        populations.append(Population(f"reader{k}", shape, "spiking", _rule(NEVER)))
        projections.append(Projection("relay", f"reader{k}", SumPool(np.ones(neurons, np.int64))))
        slices += [Slice(2 + k, box) for box in boxes]
        placed += goal.tolist()
    graph = Graph("mesh", steps, tuple(populations), tuple(projections))
    settings = [f"noc.width={side}", f"noc.height={side}", f"memory.cores={cores}", f"noc.ports={relays.tolist()}"]
    ports = tuple((0, box, number) for number, box in enumerate(boxes))
    banks = (2 if sync != "free" else 1,) * len(slices)
    return assemble(graph, load_chip("async-mesh", settings), sync, Mapping(tuple(slices), tuple(placed), banks, ports))


def mesh_stimulus(program: Program, spikes: int, steps: int) -> Stimulus:
    """``spikes`` random input spikes in all, spread evenly over ports and steps."""
    rng = np.random.default_rng(2)
    sources = program.control_source - program.slices
    size = int(np.prod(program.source_box[program.slices, 1::2] - program.source_box[program.slices, ::2]))
    each = max(1, spikes // (sources * steps))
    source = np.tile(np.repeat(np.arange(sources), each), steps)
    step = np.repeat(np.arange(steps), sources * each)
    address = rng.integers(0, size, len(source))
    order = np.lexsort((address, source, step))
    return stimulus(program, step[order], source[order], address[order])
