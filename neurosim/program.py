"""Program: what the chip is loaded with. The only thing the engines read; flat integer arrays, picklable, one ``.nsim`` file.

Layout (docs/program.md has the picture). Indices are into the arrays of this class; a CSR pair ``x_ptr`` has one entry more than its owner.

*Slices* 0..S-1 live on cores; *sources* are the slices followed by the port sources S..S+I (one per input population, then one control source that
only sends markers). Local index of a neuron in a box (c0, c1, y0, y1, x0, x1): ((y - y0) * (x1 - x0) + (x - x0)) * (c1 - c0) + (c - c0), so
ascending local index is (y, x, c), channel last. The box of a port source is its whole population.

*Routes*: a spike of source s goes to core ``route_core[r]`` for every r in route_ptr[s]..route_ptr[s+1] whose ``route_box`` (population coordinates)
contains it and that ``carried`` does not exclude; markers go to all of them. Cores ascend. At the destination the *entries*
entry_ptr[r]..entry_ptr[r+1] are served in order.

*Regions*: the cells that synapses reach. Regions 0..S-1 are the slices' own neurons (box = slice_box, first cell 0); after them those of the
operands of extra ops (neurosim.ops), ascending by (slice, operand): ``region_box`` in coordinates of the operand, whose whole shape is
``region_shape``; its cells begin at ``region_first`` of the slice's bank. A bank of slice q has ``slice_cells[q]`` cells; of a coincidence the last
(channels of the slice) * d are the table M[head][k channel][v channel], heads counted within the slice, d = OP_HEAD. A coincidence's slice holds
whole heads and all pixels.

*Entries*: one row of ``entry`` per (route, projection, destination region); columns ``E_*`` below; "target" and "box" are those of the region,
indices of targets count from its first cell. Weights are in ``weights`` from ``E_WEIGHT``:

* ``M_CONV``: input channel i = c; group g = i // cig; output channels g*cog .. (g+1)*cog at target channels + co0, cut to the target box.
  Per input channel, weights [ky][kx][width]; index = weight + (((i - ic0) * kh + ky) * kw + kx) * width + (o - first(g)), first(g) being the first
  output channel of group g inside the target box. With E_INDEX >= 0 the kernel sees a pooling of the source of height H: row y as
  index[E_INDEX + y], column x as index[E_INDEX + H + x]; -1: it does not see it. Else E_INDEX is -1.
* ``M_DENSE``: row = population-flat index of the source neuron, (y * W + x) * C + c; per row the targets of the box that the map covers (channels
  co0 .. co0 + cog of the target, cut to the box), ascending: index = weight + row * width + k.
* ``M_MIX``: head h = c // cig; token n = y * W + x; targets are channel c + co0 (if the box has it) of every pixel of the box:
  index = weight + ((h - ic0) * kh + n) * width + pixel, kh = number of source tokens, width = pixels of the box, ic0 = first head stored.
* ``M_POOL``: target channel c + co0 (if the box has it), every window that contains the pixel; index = weight + (c + co0 - c0 of the box).
* ``M_SPARSE``: row as M_DENSE; targets ``index[a:b]`` (local) and weights[weight + (a - start) ...] with
  a, b = index[E_INDEX + row], index[E_INDEX + row + 1] and start = index[E_INDEX].

A contribution is (weight * value) << E_SHIFT.

*Rest* (settle): from the sum of ``slice_cells`` of the slices before, ``rest_v`` holds the cells of a slice as the reference leaves them; the own
cell of a neuron is its membrane, that of an or_pool or gate what its synapses sum to.

*Fabric*: servers are numbered ports, then synapse (in free and settle: core), soma and sender of every core, then router outputs; ``channel_*``
describes every bounded FIFO; ``next_server[router, core]`` is the router output that leads to a core. Inputs of a router are numbered ports, local
cores, links by ascending source router; outputs local cores, links by ascending destination router.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.errors import ProgramError
from neurosim.files import content_digest, read_zip, write_zip
from neurosim.order import ModuleOrder, read_order

FORMAT, FORMAT_VERSION = "neurosim-program", 4
READABLE = (3, FORMAT_VERSION)
"""Version 3 lacks ``v_init``, every membrane starts at 0, and has no poolings, all its convolutions have E_INDEX -1."""

M_CONV, M_DENSE, M_MIX, M_POOL, M_SPARSE = range(5)
ENTRY_COLUMNS = (
    "region", "map", "weight", "width", "shift", "delay", "projection",
    "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw", "cig", "cog", "ic0", "co0", "index",
)  # fmt: skip
(
    E_REGION, E_MAP, E_WEIGHT, E_WIDTH, E_SHIFT, E_DELAY, E_PROJECTION,
    E_KH, E_KW, E_SH, E_SW, E_PH, E_PW, E_DH, E_DW, E_CIG, E_COG, E_IC0, E_CO0, E_INDEX,
) = range(len(ENTRY_COLUMNS))  # fmt: skip

# rules of slices, columns of ``slice_rule``; R_READOUT: 1 a readout, 2 one whose membranes the host adds to those of the readout
R_DECAY_V, R_DECAY_I, R_STRICT, R_RESET, R_READOUT, R_BANKS, R_MAX_SPIKES = range(7)

# ops of slices, columns of ``slice_op``: kind; of a gate count and its switches; of a coincidence channels per head, shift; of a max_pool the window
OP_KIND, OP_COUNT, OP_INVERTED, OP_LATCHED, OP_HEAD, OP_SHIFT, OP_KH, OP_KW, OP_SH, OP_SW, OP_PH, OP_PW = range(12)
OP_COLUMNS = 12
OP_NONE, OP_OR, OP_GATE, OP_MAX, OP_COINCIDENCE = range(5)
# operands of regions, in the order of neurosim.ops.OPERANDS
G_MAIN, G_MASK, G_WINDOW, G_K, G_V, G_Q = range(6)

# kinds of channels
C_PORT, C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK = range(5)

REST = ("rest_sent", "rest_v", "rest_input", "rest_current")
"""Arrays that only Programs of the discipline settle have."""

I64 = NDArray[np.int64]


def is_stepped(sync: str) -> bool:
    """Whether a discipline has steps (wavefront, barrier), and its cores a synapse and a soma station; those of free and settle have one station."""
    return sync in ("wavefront", "barrier")


@dataclass(frozen=True)
class Program:
    """One network on one chip. Arrays are int64 unless said otherwise; see the module's docstring for the layout."""

    meta: dict[str, Any]
    """JSON: name, network, sync, steps, class_names, input (contract), populations [{name, shape, kind, host}], projections [{source, target, op,
    layers}], rewrites, warnings, memory (per core), digests, host (the host section's structure), clock-free figures such as dense_macs."""
    chip: Chip

    slice_core: I64  # [S]
    slice_population: I64  # [S] index into meta["populations"]
    slice_box: I64  # [S, 6]
    slice_rule: I64  # [S, 7] columns R_*
    slice_op: I64  # [S, OP_COLUMNS] columns OP_*
    slice_cells: I64  # [S] cells of one bank
    slice_offset: I64  # [S] barrier discipline: offset o of the slice in global steps, else 0
    neuron_ptr: I64  # [S + 1]
    threshold: I64  # [neurons]
    bias: I64  # [neurons] per step
    floor: I64  # [neurons] NO_FLOOR where the rule has none
    reset_by: I64  # [neurons]
    v_init: I64  # [neurons] membrane at the start of every sample

    region_slice: I64  # [G]
    region_operand: I64  # [G] G_*
    region_box: I64  # [G, 6]
    region_shape: I64  # [G, 3] whole shape of the operand (the population's for G_MAIN)
    region_first: I64  # [G] first cell within the slice's bank

    source_population: I64  # [S + I + 1] population of each source; -1 for the control source
    source_box: I64  # [S + I + 1, 6]
    source_shape: I64  # [S + I + 1, 3] shape of the whole population
    source_port: I64  # [S + I + 1] port of each port source (0 for the control source); -1 for slices
    route_ptr: I64  # [S + I + 2]
    route_core: I64  # [R]
    route_box: I64  # [R, 6]
    entry_ptr: I64  # [R + 1]
    entry: I64  # [E, len(ENTRY_COLUMNS)]
    weights: NDArray[np.integer[Any]]  # int8, int16 or int32
    index: I64

    sync_pair: I64  # [P, 3] (source, slice, delay), sorted by slice, source, delay: the markers each slice waits for

    server_kind: I64  # [V] 0 port, 1 synapse or core, 2 soma, 3 sender, 4 router output
    server_owner: I64  # [V] port, core or router
    server_hop_ps: I64  # [V] t_hop of router outputs, else 0
    server_class: I64  # [V] router outputs: 0 local, 1 east-west (and all links of other topologies), 2 north-south, 3 between chips; else -1
    server_channel: I64  # [V] channel the server puts into (soma: axon-out; synapse of a stepped chip: -1)
    channel: I64  # [K, 7] (kind, writer server, reader owner, reader input, depth, forward_ps, ack_ps); owner: core, or router for PORT/INJECT/LINK
    channel_drop: I64  # [K] 1 where a spike that finds the channel full is dropped, else 0
    next_server: NDArray[np.signedinteger[Any]]  # [routers, cores], int32 (int64 in files before version 4)
    port_router: I64  # [ports]
    core_router: I64  # [cores]

    host: dict[str, NDArray[Any]]
    """Arrays of the host section, named in meta["host"]."""

    # settle: the settled state of the reference input (meta["rest"]) from which every sample, or a streamed run, begins; empty in other disciplines
    rest_sent: I64 = field(default_factory=lambda: np.zeros(0, np.int64))  # [neurons] output last sent, 0 .. most spikes
    rest_v: I64 = field(default_factory=lambda: np.zeros(0, np.int64))  # [cells] slice by slice, its slice_cells in bank order; own cells: v
    rest_input: I64 = field(default_factory=lambda: np.zeros(0, np.int64))  # [neurons of port sources S .. control - 1, by source] value told
    rest_current: I64 = field(default_factory=lambda: np.zeros(0, np.int64))  # [neurons] host current told

    @property
    def slices(self) -> int:
        """Number of slices S."""
        return len(self.slice_core)

    @property
    def regions(self) -> int:
        """Number of regions G."""
        return len(self.region_slice)

    @property
    def cores(self) -> int:
        """Number of cores of the chip (mapped or not)."""
        return len(self.core_router)

    @property
    def score_parts(self) -> int:
        """How many readout populations the host adds up to the scores: 1, or more where no core holds all that leads to one class."""
        return 1 + len(set(self.slice_population[self.slice_rule[:, R_READOUT] == 2].tolist()))

    def scores_of(self, readouts: NDArray[Any]) -> NDArray[Any]:
        """[..., classes] from the membranes of all readout populations, one after the other: parts are added up."""
        parts = self.score_parts
        return readouts if parts == 1 else readouts.reshape(*readouts.shape[:-1], parts, -1).sum(axis=-2)

    @property
    def steps(self) -> int:
        """Steps T per sample."""
        return int(self.meta["steps"])

    @property
    def sync(self) -> str:
        """Discipline: free, settle, wavefront or barrier."""
        return str(self.meta["sync"])

    @property
    def stepped(self) -> bool:
        """Whether its discipline has steps (wavefront, barrier)."""
        return is_stepped(self.sync)

    @property
    def ports(self) -> int:
        """Number of I/O ports P: servers 0..P-1; the synapse (core) station of core c is server P + 3c, soma + 1, sender + 2."""
        return len(self.port_router)

    @property
    def barrier_ps(self) -> int:
        """Duration of the global barrier for the tiles (routers) on which a slice lies; 0 in other disciplines."""
        if self.sync != "barrier":
            return 0
        tiles = len(set(self.core_router[self.slice_core].tolist()))
        return max((row.tiles, row.duration.value) for row in self.chip.timing.barrier if row.tiles <= max(1, tiles))[1]

    @property
    def control_source(self) -> int:
        """Index of the control source of port 0."""
        return len(self.source_population) - 1

    def population_index(self, name: str) -> int:
        """Index of a population by name; raises ProgramError with the names there are."""
        names = [p["name"] for p in self.meta["populations"]]
        if name not in names:
            raise ProgramError(f"population {name!r} does not exist; there are {', '.join(names)}")
        return names.index(name)

    @cached_property
    def module_orders(self) -> dict[int, ModuleOrder]:
        """By population, how its neurons lie in the tensor of the module that it was read from; others lie as (c, y, x)."""
        found = ((k, p["module"], math.prod(p["shape"])) for k, p in enumerate(self.meta["populations"]) if "module" in p)
        return {k: read_order(plain, neurons) for k, plain, neurons in found}

    def in_module_order(self, population: int, values: NDArray[Any]) -> NDArray[Any]:
        """[..., c, y, x] of a population -> [..., *shape of its module's tensor], or as it is where that is none."""
        order = self.module_orders.get(population)
        return values if order is None else order.arrange(values)

    def carried(self, source: int, route: int) -> NDArray[np.bool_] | None:
        """[neurons of the source, by local index] which of them send their spikes along a route as far as its entries decide; None: all do.

        Only sparse maps decide: a neuron without a synapse in any entry of the route sends nothing there. A zero weight counts as a synapse.
        """
        rows = self.entry[self.entry_ptr[route] : self.entry_ptr[route + 1]]
        if not len(rows) or np.any(rows[:, E_MAP] != M_SPARSE):
            return None
        c0, c1, y0, y1, x0, x1 = (int(v) for v in self.source_box[source])
        channels, _, columns = (int(v) for v in self.source_shape[source])
        pixels = np.arange(y0, y1)[:, None] * columns + np.arange(x0, x1)
        flat = (pixels.reshape(-1, 1) * channels + np.arange(c0, c1)).ravel()
        first = rows[:, E_INDEX][:, None] + flat
        found: NDArray[np.bool_] = (self.index[first] < self.index[first + 1]).any(axis=0)
        return None if found.all() else found

    def facts(self) -> list[tuple[str, str]]:
        """What one wants to know at a glance, name and words."""
        used = len(set(self.slice_core.tolist()))
        firing = [p for p in self.meta["populations"] if p["kind"] == "spiking" and not p["host"]]
        return [
            ("network", f"{self.meta.get('network', '')}, {self.steps} step(s)"),
            ("chip", f"{self.chip.name}, {self.sync}"),
            ("cores", f"{used} of {self.cores} for {self.slices} slices"),
            ("populations on the chip", str(len(firing))),
            ("neurons", str(int(self.neuron_ptr[-1]))),
            ("stored weights", str(len(self.weights))),
            ("memory", f"{sum(row['bytes'] for row in self.meta.get('memory', []))} bytes in all"),
            ("digest", self.digest()[:16]),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {words}" for name, words in self.facts())

    def _repr_html_(self) -> str:
        """Table for notebooks."""
        return html_table("Program", self.facts())

    def digest(self) -> str:
        """SHA-256 over everything that the engines read, in hexadecimal. Of a Program read from a file it is that of the file, whatever its version:
        the runs made of it know it by that."""
        found: str | None = vars(self).get("_digest")
        return content_digest(self._header(), self._arrays()) if found is None else found

    def _header(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": FORMAT_VERSION, "meta": self.meta, "chip": self.chip.model_dump(mode="json")}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("meta", "chip", "host")}
        if self.sync != "settle":
            named = {name: array for name, array in named.items() if name not in REST}
        return named | {f"host.{name}": array for name, array in self.host.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ``.nsim`` file, whole or not at all (temporary name, then renamed). The bytes depend on the content only."""
        write_zip(Path(path), self._header(), self._arrays())


def html_table(title: str, rows: list[tuple[str, str]]) -> str:
    """Two columns of text as HTML, for notebooks."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(words)}</td></tr>" for name, words in rows
    )
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"


def load_program(path: str | os.PathLike[str]) -> Program:
    """Read a ``.nsim`` file. Raises ProgramError: missing, broken, truncated, another kind of file, another version."""
    header, arrays = read_zip(Path(path), FORMAT, READABLE, "compile the network again with this version of neurosim")
    digest = content_digest(header, arrays)
    if header["version"] < 4 and "bias" in arrays:
        arrays["v_init"] = np.zeros(len(arrays["bias"]), np.int64)
    host = {name.removeprefix("host."): array for name, array in arrays.items() if name.startswith("host.")}
    wanted = [f.name for f in fields(Program) if f.name not in ("meta", "chip", "host")]
    if header["meta"].get("sync") != "settle":
        wanted = [name for name in wanted if name not in REST]
    lacking = [name for name in wanted if name not in arrays]
    if lacking:
        raise ProgramError(f"program file {path}: array {lacking[0]} is missing; the file is damaged, compile again")
    try:
        chip = Chip.model_validate(header["chip"])
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ProgramError(f"program file {path}: its chip is not valid in this version ({reason}); compile the network again") from None
    program = Program(meta=header["meta"], chip=chip, host=host, **{name: arrays[name] for name in wanted})
    object.__setattr__(program, "_digest", digest)  # no field, so that a changed copy (dataclasses.replace) has a digest of its own
    return program
