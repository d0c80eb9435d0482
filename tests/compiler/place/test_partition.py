"""Any graph on any chip: the Program computes the graph (the audit expands both), within the chip's limits, and is the same every time."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurosim.compiler.audit.program import audit
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.cores import assign
from neurosim.compiler.place.geometry import Box, reach, volume, whole
from neurosim.compiler.place.memory import MemoryModel
from neurosim.compiler.place.partition import boxes_of, split_of
from neurosim.compiler.place.placement import map_graph, place
from neurosim.compiler.place.topology import hop_matrix
from neurosim.errors import DoesNotFit
from neurosim.graph import Conv2d, Dense, Graph, NeuronRule, Population, Projection
from neurosim.program import R_BANKS, load_program
from tests.compiler.graphs import OPS, chip_of, draw_graph, draw_map, stmixer_like


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    ops=st.lists(st.sampled_from(OPS), min_size=1, max_size=4),
    neurons=st.integers(1, 80),
    kilobytes=st.sampled_from([0.3, 0.6, 1.2, 2.5, 5, 1000]),
    side=st.sampled_from([1, 2, 4, 6]),
    sync=st.sampled_from(["wavefront", "free", "barrier"]),
    flow=st.sampled_from(["link", "end_to_end"]),
)
def test_any_graph_on_any_chip(seed: int, ops: list[str], neurons: int, kilobytes: float, side: int, sync: str, flow: str) -> None:
    graph = draw_graph(seed, ops, loops=seed % 2 == 1)
    largest = max(p.size for p in graph.populations)
    deep = ("capabilities.max_delay=6", "capabilities.banks=8", "timing.barrier=[{tiles=1,duration=1000}]") if sync == "barrier" else ()
    chip = chip_of(max(1, largest * neurons // 40), int(1000 * kilobytes), side, flow, *deep)
    try:
        program = assemble(graph, chip, sync)
    except DoesNotFit:
        assume(side < 6 or kilobytes < 2)
        return
    report = audit(program, graph)
    assert report.synapses == report.synapses_in_all > 0
    assert program.digest() == assemble(graph, chip, sync).digest()


def test_one_network_takes_from_one_core_to_a_hundred() -> None:
    graph = draw_graph(3, ["conv", "depthwise", "mix", "grouped"])
    used = []
    for neurons in (100_000, 60, 24, 8, 2):
        chip = chip_of(neurons, side=1 if neurons > 1000 else 12)
        program = assemble(graph, chip, "wavefront")
        audit(program, graph)
        used.append(len(set(program.slice_core.tolist())))
    assert used[0] == 1
    assert used == sorted(used)
    assert used[-1] >= 100


def test_bytes_alone_force_slices() -> None:
    graph = Graph(
        "wide", 1,
        (Population("in", (32, 1, 1), "input"), Population("out", (64, 1, 1), "readout")),
        (Projection("in", "out", Dense(np.ones((64, 32), np.int64), (64, 1, 1))),),
    )  # fmt: skip
    roomy, tight = (assemble(graph, chip_of(bytes_=size), "wavefront") for size in (1 << 20, 1024))
    assert roomy.slices == 1
    assert tight.slices == 3  # 32 weights, 2 + 2 * 3 bytes of state and banks, 2 of bias: 42 bytes of 1,016 per neuron
    assert max(row["bytes"] for row in tight.meta["memory"]) <= 1024
    audit(tight, graph)


def test_boxes_of_free_cores_have_no_cycle() -> None:
    """More slices than cores: in free a core then holds slices of one depth, so that the graph of cores stays acyclic."""
    rule = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
    layers = [Population("in", (4, 4, 4), "input")] + [Population(f"l{k}", (4, 4, 4), "spiking", rule) for k in range(4)]
    maps = [Projection(a.name, b.name, Conv2d(np.ones((4, 4, 3, 3), np.int64), padding=(1, 1))) for a, b in pairwise(layers)]
    graph = Graph("chain", 1, tuple(layers), tuple(maps))
    program = assemble(graph, chip_of(64, 1 << 20, 2, "end_to_end"), "free")
    arcs = nx.DiGraph()
    for s in range(program.slices):
        arcs.add_edges_from((int(program.slice_core[s]), c) for c in program.route_core[program.route_ptr[s] : program.route_ptr[s + 1]].tolist())
    assert nx.is_directed_acyclic_graph(arcs)
    # every layer twice: eight slices for four cores
    assert assign(graph, chip_of(32, 1 << 20, 4, "end_to_end"), "free").strategy == "spread"
    doubled = Graph("twice", 1, (*layers, *(Population(p.name + "b", p.shape, p.kind, p.rule) for p in layers[1:])), (
        *maps, *(Projection("in" if p.source == "in" else p.source + "b", p.target + "b", p.map) for p in maps),
    ))  # fmt: skip
    packed = assign(doubled, chip_of(128, 1 << 20, 2, "end_to_end"), "free")
    assert packed.strategy == "depth"
    assert sorted(packed.core) == [0, 0, 1, 1, 2, 2, 3, 3]
    audit(assemble(doubled, chip_of(128, 1 << 20, 2, "end_to_end"), "free"), doubled)


def test_one_slice_more_than_cores_joins_two_and_leaves_the_others_alone() -> None:
    rule = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
    layers = [Population("in", (2, 4, 4), "input")] + [Population(f"l{k}", (2 + k % 2, 4, 4), "spiking", rule) for k in range(5)]
    maps = [Projection(a.name, b.name, Conv2d(np.ones((b.shape[0], a.shape[0], 3, 3), np.int64), padding=(1, 1))) for a, b in pairwise(layers)]
    chip = chip_of(128, 1 << 20, 2, "end_to_end")
    spread = assign(Graph("chain", 1, tuple(layers), tuple(maps)), chip, "wavefront")
    assert (spread.strategy, spread.core) == ("order", (0, 0, 1, 2, 3))  # 32 + 48 neurons, as any two neighbours, the first of them


def test_spikes_that_go_to_many_cores_make_it_cut_by_pixels_where_cores_are_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 1 x 1 convolution of 12 KB onto 12,288 neurons: by channels every spike goes to 6 cores, by pixels to one, and each stores all weights."""
    monkeypatch.setattr("neurosim.compiler.place.cores.MANY_PACKETS", 1)
    rule = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
    maps = (Projection("in", "wide", Conv2d(np.ones((192, 64, 1, 1), np.int64))),)
    graph = Graph("wide", 1, (Population("in", (64, 8, 8), "input"), Population("wide", (192, 8, 8), "spiking", rule)), maps)
    few = "memory.dead_cores=[0, 1, 2, 3]"
    roomy, tight = (assign(graph, chip_of(1024, 1 << 17, 4, "link", *more), "wavefront").partition for more in ((), (few,)))
    assert (roomy.splits[0].channels, roomy.splits[0].duplicated_packets) == (1, 0)
    assert roomy.splits[0].duplicated_weight_bytes == 12288 * (len(roomy.slices) - 1)
    assert tight.splits[0].channels > 1  # cores are not left over
    for part in (roomy, tight):
        covered = sum(volume(piece.box) for piece in part.slices)
        assert covered == 192 * 64


def test_what_a_grid_duplicates_is_what_its_boxes_say() -> None:
    """Sums over axes against sums over boxes, for every op."""
    draw = np.random.default_rng(5)
    for op in OPS:
        for _ in range(4):
            source = (4, int(draw.integers(4, 7)), int(draw.integers(4, 7)))
            linear = draw_map(draw, op, source)
            rule = NeuronRule(np.full((1, 1, 1), 9), np.zeros((1, 1, 1), np.int64))
            populations = Population("in", source, "input"), Population("out", linear.out_shape(source), "spiking", rule)
            graph = Graph("one", 1, populations, (Projection("in", "out", linear),))
            model, shape = MemoryModel(graph, chip_of(), "wavefront"), populations[1].shape
            grid = tuple(int(draw.integers(1, n + 1)) for n in shape)
            projection, uncut = graph.projections[0], (0, shape[0], 0, shape[1], 0, shape[2])
            boxes = boxes_of(populations[1], grid)  # type: ignore[arg-type]  # three numbers
            reached = [reach(projection, source, (0, source[0], 0, source[1], 0, source[2]), box) for box in (*boxes, uncut)]
            heard = [0 if box is None else volume(box) for box in reached]
            bits = [model.block_bits(projection, source, box) for box in (*boxes, uncut)]
            split = split_of(model, 1, grid)  # type: ignore[arg-type]
            assert split.duplicated_packets == max(0, sum(heard[:-1]) - heard[-1])
            assert split.duplicated_weight_bytes == max(0, sum(bits[:-1]) - bits[-1]) // 8


def test_does_not_fit_names_thing_size_limit_remedy() -> None:
    graph = draw_graph(3, ["conv", "mix"])
    with pytest.raises(DoesNotFit, match=r"needs \d+ cores, tiny has 1 \(memory.cores\); use a larger chip"):
        assemble(graph, chip_of(20, side=1), "wavefront")
    with pytest.raises(
        DoesNotFit, match=r"population p\d+ .* one channel at one pixel needs \d+ bytes, a core of tiny has 40 .*chip with more memory"
    ):
        assemble(graph, chip_of(bytes_=40, side=12), "wavefront")
    with pytest.raises(DoesNotFit, match=r"core \d+ needs \d+ route entries, tiny has 1 \(memory.route_entries\)"):
        assemble(stmixer_like(), chip_of(4096, 196608, 8, "link", "memory.route_entries=1"), "wavefront")
    with pytest.raises(DoesNotFit, match=r"population \S+: a slice sends to \d+ cores, tiny allows 2 \(capabilities.fan_out\)"):
        assemble(stmixer_like(), chip_of(4096, 196608, 8, "link", "capabilities.fan_out=2"), "wavefront")


@given(seed=st.integers(0, 2**16), op=st.sampled_from(OPS), cuts=st.lists(st.integers(0, 100), min_size=12, max_size=12))
def test_reach_is_the_hull_of_the_synapses(seed: int, op: str, cuts: list[int]) -> None:
    """Against unit pulses through the map itself."""
    draw = np.random.default_rng(seed)
    source = (int(draw.integers(1, 4)), int(draw.integers(3, 6)), int(draw.integers(3, 6)))
    linear = draw_map(draw, op, source)
    offset = int(draw.integers(0, 3)) if op != "dense" else 0
    out = linear.out_shape(source)
    full = (out[0] + offset, *out[1:])

    def box(shape: tuple[int, ...], numbers: list[int]) -> Box:
        ends = [sorted((a % n, b % n)) for n, a, b in zip(shape, numbers[::2], numbers[1::2], strict=True)]
        return tuple(v for a, b in ends for v in (a, b + 1))  # type: ignore[return-value]

    inside, target = box(source, cuts[:6]), box(full, cuts[6:])
    projection = Projection("a", "b", linear, channel_offset=offset)
    hits = []
    for c in range(inside[0], inside[1]):
        for y in range(inside[2], inside[3]):
            for x in range(inside[4], inside[5]):
                one = reach(projection, source, (c, c + 1, y, y + 1, x, x + 1), target)
                if one is not None:
                    hits.append((c, y, x))
    found = reach(projection, source, inside, target)
    if not hits:
        assert found is None
        return
    low, high = np.min(hits, axis=0), np.max(hits, axis=0) + 1
    assert found == (low[0], high[0], low[1], high[1], low[2], high[2])
    assert reach(projection, source, whole(source), whole(full)) is not None


def test_split_axis_follows_cost() -> None:
    """Small kernels over a large map are cut by rows, wide layers of few pixels by channels."""
    chip = chip_of(1024, 1 << 17, 6)
    early = Graph("early", 1, (Population("in", (4, 32, 32), "input"), Population("out", (4, 32, 32), "readout")), (
        Projection("in", "out", Conv2d(np.ones((4, 4, 3, 3), np.int64), padding=(1, 1))),
    ))  # fmt: skip
    wide = Graph("wide", 1, (Population("in", (64, 4, 4), "input"), Population("out", (256, 4, 4), "readout")), (
        Projection("in", "out", Conv2d(np.ones((256, 64, 1, 1), np.int64))),
    ))  # fmt: skip
    assert [s.kind for s in map_graph(early, chip, "wavefront").partition.splits] == ["space"]
    split = map_graph(wide, chip, "wavefront").partition.splits[0]
    assert split.kind == "channel"
    assert split.duplicated_weight_bytes == 0
    assert split.duplicated_packets == 3 * 64 * 16


def test_banks_follow_skips_while_memory_lasts() -> None:
    graph = stmixer_like()
    mapped = map_graph(graph, chip_of(4096, 196608, 8), "wavefront")
    named = {graph.populations[s.population].name: b for s, b in zip(mapped.mapping.slices, mapped.mapping.banks, strict=True)}
    assert named["l2"] == 2
    assert named["head"] == 6  # capabilities.banks
    bound = {(b.population, b.source): b for b in mapped.banks}
    # ten populations lie between l4 and the head on the longest path: mix1, mix2, mix3, ffn1, ffn2, twice
    assert bound["head", "l4"].between == 10
    assert bound["head", "l4"].wanted == 13
    assert bound["head", "l4"].bound == pytest.approx(6 / 13, abs=1e-4)
    # the port feeds the stream's readers too
    assert bound["head", "port 0"].between == 13


def test_placement_is_better_than_order_and_no_swap_helps() -> None:
    draw = np.random.default_rng(0)
    chip = chip_of(side=4)
    traffic = np.where(draw.random((16, 16)) < 0.2, draw.integers(0, 100, (16, 16)), 0).astype(float)
    port = draw.integers(0, 50, 16).astype(float)
    site, before, after = place(traffic, port[None], chip)
    assert sorted(site.tolist()) == list(range(16))
    assert after < before
    hops = hop_matrix(chip)

    def cost(s: np.ndarray) -> float:
        return float((traffic * hops[np.ix_(s, s)]).sum() - (np.diag(traffic) * 0).sum() + (port * hops[0, s]).sum())

    assert round(cost(site)) == after
    for i in range(16):
        for j in range(i):
            swapped = site.copy()
            swapped[[i, j]] = swapped[[j, i]]
            assert cost(swapped) >= cost(site)


def test_stmixer_on_the_mesh(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The network of the demo: more than 16 cores, cut by channel and by space, proved, saved, loaded."""
    graph, chip = stmixer_like(), chip_of(4096, 196608, 8, "end_to_end", "capabilities.banks=4")
    mapped = map_graph(graph, chip, "wavefront")
    program = assemble(graph, chip, "wavefront", mapped.mapping)
    assert len(set(program.slice_core.tolist())) >= 16
    assert {"channel", "space"} <= {s.kind for s in mapped.partition.splits}
    assert program.slice_rule[:, R_BANKS].max() == 4
    assert program.weights.dtype == np.int8
    report = audit(program, graph, synapses=200_000)
    assert report.synapses_in_all > 10_000_000
    program.save(tmp_path / "p.nsim")
    assert load_program(tmp_path / "p.nsim").digest() == program.digest()
