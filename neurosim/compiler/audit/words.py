"""Audit: what only some chips limit: words of kernels and neurons, one layer per core, read-out cores, axons, destinations of a neuron."""

from __future__ import annotations

import math

import numpy as np

from neurosim.errors import AuditError
from neurosim.graph import Conv2d, Dense, Graph, Projection, Sparse, SumPool, TokenMix
from neurosim.program import Program


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_words(program: Program, graph: Graph) -> None:
    """Chips with one layer per core: every core holds one slice of the right kind, and its kernel and neurons fit its words."""
    memory = program.chip.memory
    if not memory.layer_per_core:
        return
    sizes = np.bincount(program.slice_core, minlength=program.cores)
    if sizes.max() > 1:
        _fail(f"core {sizes.argmax()} holds {sizes.max()} slices, the chip one layer per core")
    rows = {row["core"]: row for row in program.meta["memory"]}
    for q, core in enumerate(program.slice_core.tolist()):
        population = graph.populations[int(program.slice_population[q])]
        counts_only = bool(memory.readout_cores) and population.kind == "readout"
        if memory.readout_cores and counts_only != (core in memory.readout_cores):
            _fail(f"{population.name} lies on core {core}, readouts belong on {memory.readout_cores} and nothing else does")
        c0, c1, y0, y1, x0, x1 = program.slice_box[q].tolist()
        if memory.split == "none" and (c0, c1) != (0, population.shape[0]):
            _fail(f"{population.name} is cut, the chip does not split layers")
        kernel = 0
        if not counts_only:
            for projection in graph.into(population.name):
                channels, area = _kernel(projection, graph, program)
                kernel += channels * _rounded(program, area) * _rounded(program, c1 - c0)
        found = {"kernel_words": kernel, "neuron_words": (c1 - c0) * _rounded(program, y1 - y0) * _rounded(program, x1 - x0)}
        for name, words in found.items():
            figure = getattr(memory, name)
            limit = None if figure is None else figure.value[core % len(figure.value)]
            if limit is not None and words > limit:
                _fail(f"core {core} holds {words} {name.replace('_', ' ')}, the chip allows {limit}")
            if rows[core][name] != words:
                _fail(f"core {core} holds {words} {name.replace('_', ' ')}, its memory row says {rows[core][name]}")


def _rounded(program: Program, n: int) -> int:
    return 2 ** math.ceil(math.log2(n)) if program.chip.memory.rounding == "power_of_two" else n


def _kernel(projection: Projection, graph: Graph, program: Program) -> tuple[int, int]:
    """(input channels, kernel positions): the smallest kernel that a pooling of the chip leaves, weights compared one by one."""
    m, (channels, height, width) = projection.map, graph.population(projection.source).shape
    limits = program.chip.capabilities.ops.get("sum_pool")
    pools = [1] if limits is None else sorted({1, *(limits.kernels or range(1, (limits.kernel or 1) + 1))})
    if isinstance(m, SumPool):
        return channels, 1
    if isinstance(m, Dense):
        full = np.asarray(m.weight).reshape(-1, channels, height, width)
    else:
        assert isinstance(m, Conv2d), f"{projection.source} -> {projection.target} is no layer"
        full = np.asarray(m.weight)
        pools = [p for p in pools if not any(n % p for n in (*m.stride, *m.padding)) and (p == 1 or m.dilation == (1, 1))]
    best = full.shape[2] * full.shape[3]
    for p in pools:
        if any(n % p for n in (height, width, *full.shape[2:])):
            continue
        small = full[:, :, ::p, ::p]
        if np.array_equal(np.kron(small, np.ones((1, 1, p, p), small.dtype)), full):
            best = min(best, small.shape[2] * small.shape[3])
    return channels, best


def check_weight_values(program: Program, graph: Graph) -> None:
    """No neuron has more different non-zero weights than the chip has; maps that share weights in another way than by rows are counted by targets."""
    most = program.chip.arithmetic.weight_values
    if most is None:
        return
    for population in graph.populations:
        if population.host or population.kind not in ("spiking", "readout"):
            continue
        found = 0
        for projection in graph.into(population.name):
            m = projection.map
            if isinstance(m, Sparse):
                groups = [m.weight[m.targets == target] for target in np.unique(m.targets)]
            elif isinstance(m, TokenMix):
                groups = list(m.weight.reshape(-1, m.weight.shape[2]))
            else:
                groups = list(m.weight)
            found += max(len(set(np.ravel(group).tolist()) - {0}) for group in groups)
        if found > most:
            _fail(f"a neuron of {population.name} has {found} different weights, the chip allows {most}")


def check_axons(program: Program) -> None:
    """No core listens to more neurons than it has axons, no neuron sends to more cores than it can."""
    axons, per_neuron = program.chip.memory.axons, program.chip.capabilities.neuron_fan_out
    heard = np.zeros(program.cores, np.int64)
    for s in range(program.slices):
        goals = np.zeros(program.source_shape[s].tolist(), np.int64)
        for r in range(int(program.route_ptr[s]), int(program.route_ptr[s + 1])):
            c0, c1, y0, y1, x0, x1 = program.route_box[r].tolist()
            goals[c0:c1, y0:y1, x0:x1] += 1
        if per_neuron is not None and goals.max(initial=0) > per_neuron.value:
            _fail(f"a neuron of slice {s} sends to {goals.max()} cores, the chip allows {per_neuron.value}")
    for r, (c0, c1, y0, y1, x0, x1) in enumerate(program.route_box.tolist()):
        heard[program.route_core[r]] += (c1 - c0) * (y1 - y0) * (x1 - x0)
    if axons is not None and heard.max(initial=0) > axons.value:
        _fail(f"core {heard.argmax()} listens to {heard.max()} neurons, the chip has {axons.value} axons per core")
