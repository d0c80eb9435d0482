"""Compute side of the fast engine: walks against the reference's decoding, wide layers and odd arithmetic against the reference engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from neurosim import arithmetic
from neurosim.chip import load_chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.engine.compare import first_difference
from neurosim.engine.events import SPIKE, Options, Stimulus
from neurosim.engine.fast import run_fast
from neurosim.engine.fast.base.simd import load, store
from neurosim.engine.fast.stations.neurons import decayed
from neurosim.engine.fast.tables import maps
from neurosim.engine.fast.tables.columns import LANES, padded
from neurosim.engine.reference import run_reference
from neurosim.engine.synapses import box_of, coordinates, decode
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection, Sparse, SumPool, TokenMix, windows_of
from neurosim.program import Program
from tests.engine.networks import rule


def walked(built: maps.Maps, e: int, c: int, y: int, x: int) -> tuple[list[int], list[int]]:
    """Targets and weights of entry ``e`` for the source's local (c, y, x), as the compiled loops go through the tables."""
    row, weights = built.entry[e].tolist(), built.w8 if built.narrow else built.w32
    lines = built.axis[[row[maps.Y_CHANNEL] + c, row[maps.Y_ROW] + y, row[maps.Y_COLUMN] + x]]
    target, weight = int(lines[:, maps.A_TARGET].sum()), int(lines[:, maps.A_WEIGHT].sum())
    if row[maps.Y_SPARSE]:
        first, end = built.index[row[maps.Y_INDEX] + weight : row[maps.Y_INDEX] + weight + 2].tolist()
        return built.index[first:end].tolist(), weights[row[maps.Y_WEIGHT] + first : row[maps.Y_WEIGHT] + end].tolist()
    count, rows, columns = lines[:, maps.A_NUMBER].tolist()
    if row[maps.Y_MERGED]:
        count, columns = count * columns, 1
    targets: list[int] = []
    found: list[int] = []
    for r in range(rows):
        for k in range(columns):
            t = target + r * row[maps.Y_ROW_T] + k * row[maps.Y_COL_T]
            s = row[maps.Y_WEIGHT] + weight + r * row[maps.Y_ROW_W] + k * row[maps.Y_COL_W]
            targets += range(t, t + count)
            found += weights[s : s + count].tolist()
    return targets, found


@st.composite
def layers(draw: st.DrawFn) -> Program:
    """One linear map of any kind, cut into slices by a small core memory."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    source = draw(st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)))
    channels, height, width = source
    kind = draw(st.sampled_from(["conv", "conv", "pooled", "pool", "dense", "mix", "sparse"]))
    linear: Any
    if kind in ("conv", "pooled", "pool"):
        window = (draw(st.integers(1, height)), draw(st.integers(1, width)))
        pool = windows_of(source, window) if kind == "pooled" else None
        read = (source if pool is None else pool.out_shape(source))[1:]
        axes = [(draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.just(1) if kind == "pool" else st.integers(1, 3))) for _ in range(2)]
        stride, padding, dilation = zip(*axes, strict=True)
        kernel = [draw(st.integers(1, max(1, min(4, (side + 2 * pad - 1) // d + 1)))) for side, (_, pad, d) in zip(read, axes, strict=True)]
        if kind == "pool":
            linear = SumPool(rng.integers(1, 9, channels), (kernel[0], kernel[1]), stride, padding)
        else:
            groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
            out = groups * draw(st.integers(1, 4))
            linear = Conv2d(rng.integers(-99, 99, (out, channels // groups, *kernel)), stride, padding, dilation, groups, pool)
    elif kind == "mix":
        heads = draw(st.sampled_from([h for h in (1, 2, 3) if channels % h == 0]))
        linear = TokenMix(rng.integers(-99, 99, (heads, height * width, height * width)))
    else:
        target = draw(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)))
        size, end = int(np.prod(source)), int(np.prod(target))
        linear = Dense(rng.integers(-99, 99, (end, size)), target)
        if kind == "sparse":
            rows = [np.flatnonzero(rng.random(end) < 0.4) for _ in range(size)]
            indptr = np.cumsum([0] + [len(r) for r in rows])
            linear = Sparse(indptr, np.concatenate(rows).astype(np.int64), rng.integers(-99, 99, int(indptr[-1])), target)
    shape = linear.out_shape(source)
    populations = (Population("in", source, "input"), Population("out", shape, "spiking", rule()))
    graph = Graph("layer", 1, populations, (Projection("in", "out", linear),))
    chip = load_chip("tiny", ["noc.width=8", "noc.height=8", "memory.cores=64", f"memory.neurons={max(4, int(np.prod(shape)) // 5)}"])
    return assemble(graph, chip, "free")


@settings(max_examples=60, deadline=None)
@given(layers())
def test_walks_are_what_the_reference_decodes(program: Program) -> None:
    built = maps.build_maps(program)
    source = program.slices
    box = box_of(program.source_box[source])
    for route in range(int(program.route_ptr[source]), int(program.route_ptr[source + 1])):
        part = program.route_box[route]
        for address in range(int(np.prod([box[1] - box[0], box[3] - box[2], box[5] - box[4]]))):
            place = coordinates(box, address)
            if not all(part[2 * k] <= place[k] < part[2 * k + 1] for k in range(3)):
                continue
            c, y, x = (place[k] - box[2 * k] for k in range(3))
            for e, expected in enumerate(decode(program, route, source, address, False), int(program.entry_ptr[route])):
                assert walked(built, e, c, y, x) == (expected.targets.tolist(), expected.weights.tolist())


@njit
def _decayed(x: Any, factor: int, rounding: int) -> None:
    for j in range(0, len(x), LANES):
        store(x, j, decayed(load(x, j), factor, rounding))


def test_decay_of_vectors_is_that_of_the_rules() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.integers(-(2**29), 2**29, 200), np.arange(-40, 40), [2**29 - 1, -(2**29)]])
    for rounding in (arithmetic.ROUND_FLOOR, arithmetic.ROUND_ZERO, arithmetic.ROUND_NEAREST):
        for factor in (0, 1, 7, 100, 2048, 4095, 4096):
            x = padded(len(values), np.int32)
            x[:] = values
            _decayed(x, factor, rounding)
            assert x.tolist() == [arithmetic.decay(v, factor, rounding) for v in values.tolist()]


def broad(sync: str, uneven: bool, shift: int = 0, **rules: Any) -> tuple[list[str], Graph]:
    """in (3, 5, 5) -> conv to 21 channels -> strided conv to 40 -> dense readout of 19: runs of one vector and of several, with and without rest."""
    rng = np.random.default_rng(7)
    shapes = [(3, 5, 5), (21, 5, 5), (40, 3, 3), (19, 1, 1)]
    populations = [Population("in", shapes[0], "input")]
    for k, shape in enumerate(shapes[1:]):
        form = shape if uneven else (1, 1, 1)
        floor = -rng.integers(5, 30, form)
        neuron = NeuronRule(rng.integers(8, 40, form), rng.integers(-2, 4, form) if uneven else np.zeros(form, np.int64), floor=floor, **rules)
        populations.append(Population(f"p{k}", shape, "readout" if k == 2 else "spiking", neuron, scale=np.ones(shape[0])))
    linear = (
        Conv2d(rng.integers(-9, 14, (21, 3, 3, 3)), padding=(1, 1)),
        Conv2d(rng.integers(-9, 12, (40, 21, 3, 3)) * (rng.random((40, 21, 3, 3)) < 0.7), stride=(2, 2), padding=(1, 1)),
        Dense(rng.integers(-9, 10, (19, 360)), (19, 1, 1)),
    )
    projections = tuple(Projection(populations[k].name, populations[k + 1].name, m, shift=shift) for k, m in enumerate(linear))
    settings = ["memory.neurons=4096", "memory.bytes=1000000", "noc.axon_in=64", "noc.axon_out=64", "noc.fifo=64", "capabilities.recurrence=true"]
    return settings, Graph("broad", 3, tuple(populations), projections)


CASES = [
    ("free", False, (), {}),
    ("free", True, ("arithmetic.state_bits=7", "arithmetic.spikes_per_update=2", "arithmetic.lanes=3"), {"reset": "subtract", "strict": True}),
    ("free", True, ("arithmetic.skip_zero_weights=true", "timing.leak=30000"), {"decay": 4000}),
    ("free", False, ("timing.leak=30000",), {"decay": 4000, "reset": "subtract", "shift": 2}),
    ("wavefront", False, (), {}),
    ("wavefront", True, ("arithmetic.state_bits=7", 'arithmetic.visit="all"'), {"reset": "subtract", "strict": True, "decay": 3000}),
    ("wavefront", True, ("arithmetic.skip_zero_weights=true", 'arithmetic.rounding="zero"'), {"decay": 3000, "decay_current": 2000}),
    ("wavefront", False, ('arithmetic.rounding="nearest"', "arithmetic.state_bits=8"), {"decay": 3000, "decay_current": 700, "shift": 2}),
]


@pytest.mark.parametrize(("sync", "uneven", "chip", "rules"), CASES)
def test_broad_layers_agree_with_the_reference(sync: str, uneven: bool, chip: tuple[str, ...], rules: dict[str, Any]) -> None:
    settings_, graph = broad(sync, uneven, **rules)
    program = assemble(graph, load_chip("tiny", [*settings_, *chip]), sync)
    assert maps.is_narrow(program)
    rng = np.random.default_rng(2)
    step, address = np.nonzero(rng.random((1 if sync == "free" else 3, 75)) < 0.6)
    n = len(step)
    stimulus = Stimulus(
        np.zeros(n, np.int64), step.astype(np.int32), np.full(n, SPIKE, np.uint8), np.full(n, program.slices, np.int32), address.astype(np.int32),
        np.ones(n, np.int64),
    )  # fmt: skip
    options = Options(record=True, state=True)
    fast = run_fast(program, [stimulus], options)
    assert first_difference(run_reference(program, [stimulus], options), fast) is None
    assert fast.sample["spikes"][0] > 20
    if any("state_bits=7" in text for text in chip):
        assert fast.core["saturations"].sum() > 0
    wide = replace(program, weights=program.weights.astype(np.int32))
    assert not maps.is_narrow(wide)
    assert first_difference(fast, run_fast(wide, [stimulus], options)) is None
