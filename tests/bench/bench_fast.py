"""Speed of the fast engine: synaptic operations and packet-hops per second. Run it by name: python tests/bench/bench_fast.py

Not collected by pytest (its name does not begin with test_).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from neurosim.chip import load_chip
from neurosim.compiler.assemble import assemble
from neurosim.engine.events import SPIKE, Options, Stimulus
from neurosim.engine.fast import run_fast
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection
from neurosim.program import Program

Shape = tuple[int, int, int]


def conv_program(sync: str, channels: int, side: int, layers: int, steps: int) -> Program:
    """A chain of 3x3 convolutions on async-mesh."""
    rng = np.random.default_rng(0)
    shape = (channels, side, side)
    populations = [Population("in", shape, "input")]
    projections = []
    for k in range(layers):
        rule = NeuronRule(np.full((1, 1, 1), 600, np.int64), np.zeros((1, 1, 1), np.int64))
        populations.append(Population(f"conv{k}", shape, "spiking", rule))
        weight = rng.integers(-20, 28, (channels, channels, 3, 3))
        projections.append(Projection(populations[-2].name, f"conv{k}", Conv2d(weight, padding=(1, 1))))
    populations.append(Population("out", (10, 1, 1), "readout"))
    projections.append(Projection(populations[-2].name, "out", Dense(rng.integers(-9, 10, (10, channels * side * side)), (10, 1, 1))))
    graph = Graph("bench", steps, tuple(populations), tuple(projections))
    return assemble(graph, load_chip("async-mesh"), sync)


def hops_program(sync: str, steps: int) -> Program:
    """Many sparse one-synapse packets across the mesh: an identity of a large map spread over many cores."""
    shape = (16, 48, 48)
    rule = NeuronRule(np.ones((1, 1, 1), np.int64), np.zeros((1, 1, 1), np.int64))
    populations = [Population("in", shape, "input")]
    projections = []
    for k in range(3):
        populations.append(Population(f"copy{k}", shape, "spiking", rule))
        weight = np.eye(16, dtype=np.int64).reshape(16, 16, 1, 1)[:, :1]
        projections.append(Projection(populations[-2].name, f"copy{k}", Conv2d(weight, groups=16)))
    return assemble(Graph("hops", steps, tuple(populations), tuple(projections)), load_chip("async-mesh"), sync)


def stimulus(program: Program, density: float, seed: int) -> Stimulus:
    """Random spikes into the first port source, in every step of a stepped program."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(program.source_shape[program.slices]))
    steps = 1 if program.sync == "free" else program.steps
    step, address = np.nonzero(rng.random((steps, size)) < density)
    n = len(step)
    return Stimulus(
        np.zeros(n, np.int64), step.astype(np.int32), np.full(n, SPIKE, np.uint8), np.full(n, program.slices, np.int32), address.astype(np.int32),
        np.ones(n, np.int64),
    )  # fmt: skip


def measure(name: str, program: Program, stimuli: list[Stimulus], **options: Any) -> None:
    """Best of three runs, in processor time of this (single-threaded) process."""
    run_fast(program, stimuli[:1], Options(**options))
    walls = []
    for _ in range(3):
        began = time.process_time()
        result = run_fast(program, stimuli, Options(**options))
        walls.append(time.process_time() - began)
    wall = min(walls)
    synops, hops, spikes = (int(result.sample[key].sum()) for key in ("synops", "hops", "spikes"))
    print(
        f"{name:28} {wall:7.3f} s  {synops / wall:9.3g} synops/s  {hops / wall:9.3g} hops/s  spikes {spikes}  synops {synops}  hops {hops}  "
        f"cores {len(np.unique(program.slice_core))}"
    )


def main() -> None:
    """Compile time first, then throughput."""
    program = conv_program("wavefront", 64, 8, 2, 2)
    began = time.process_time()
    run_fast(program, [stimulus(program, 0.1, 0)], Options())
    print(f"first call (compile, or load from the cache): {time.process_time() - began:.2f} s")
    for sync in ("wavefront", "free"):
        for channels, side in ((32, 8), (64, 8), (128, 4)):
            program = conv_program(sync, channels, side, 2, 4)
            measure(f"conv {channels} channels {sync}", program, [stimulus(program, 0.4, k) for k in range(4)])
        program = hops_program(sync, 4)
        measure(f"hops {sync}", program, [stimulus(program, 0.5, k) for k in range(2)])
    measure("hops wavefront, recorded", hops_program("wavefront", 4), [stimulus(program, 0.1, k) for k in range(2)], record=True)


if __name__ == "__main__":
    main()
