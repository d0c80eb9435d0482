"""The chip: capabilities, memories, network-on-chip, arithmetic, timing, prices. A validated, frozen description read from TOML.

Every figure is a table ``{value = ..., source = "...", status = "published|fitted|assumed"}`` or, in a user's own file, a bare number or text with a
unit (``"3.5 ns"``, ``"23.6 pJ"``), which then counts as assumed. Unknown keys are refused, so a misspelt one cannot be silently ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from neurosim import arithmetic
from neurosim.chip.edges import check_edges
from neurosim.chip.figures import Count, Delay, Duration, Figure, Power, Price, Strict, Whole, Words

Sync = Literal["free", "settle", "wavefront", "barrier"]


MOST_ROUTERS = 4096
"""Of one chip: tables of routes and placement grow with its square."""
MOST_DEPTH = 4096
"""Of a FIFO or window."""


class Memory(Strict):
    """Limits of one core. ``bytes`` covers weights, states, accumulation banks, neuron parameters and route entries together."""

    cores: Whole = Field(ge=1)
    dead_cores: tuple[Annotated[Whole, Field(ge=0)], ...] = ()
    """Cores known to be broken: nothing is placed on them."""
    neurons: Count
    bytes: Count
    route_entries: Count
    fan_in: Count | None = None
    """Most synapses into one neuron; none = no limit."""
    axons: Count | None = None
    """Most source neurons that one core listens to; none = no limit."""
    layer_per_core: bool = False
    """A core convolves, fires and pools, in this order, for one layer or a part of one; layers are matched to cores that are large enough. The limits
    of ops are then those of layers, a sum-pool before a convolution takes no weights, and all that enters a population passes kernels of one size,
    stride and padding. The keys below belong to such chips."""
    split: Literal["none", "channels"] = "none"
    """Whether a layer too large for a core may be cut by output channels."""
    rounding: Literal["none", "power_of_two"] = "none"
    """How words are counted: kernel size, features, height and width as they are, or each rounded up to a power of two."""
    kernel_words: Words | None = None
    """Words of ``weight_bits`` for the kernel of a core: input channels x kernel size x features. One number, or one per core."""
    neuron_words: Words | None = None
    """Words of ``state_bits`` for the neurons of a core: features x height x width. One number, or one per core."""
    readout_cores: tuple[Annotated[Whole, Field(ge=0)], ...] = ()
    """Cores that only count the spikes of the network's output; if there are any, readouts go nowhere else."""

    def words_of(self, name: Literal["kernel_words", "neuron_words"], core: int) -> int | None:
        """What one core has; None = no limit."""
        figure: Figure[tuple[int, ...]] | None = getattr(self, name)
        if figure is None:
            return None
        return figure.value[core] if len(figure.value) > 1 else figure.value[0]


Edge = tuple[Whole, Whole] | tuple[Whole, Whole, Literal["link", "chip"]]


class Noc(Strict):
    """Network-on-chip. Core c sits on router c // cores_per_router.

    Routers: width x height, row by row, on a mesh or torus; width * height of them on a ring, star (router 0 is the hub) and tree (parent of router k
    is (k - 1) // arity); those that ``edges`` names on a graph. ``fifo``: depth of router inputs. ``flow``: link credits only, or end-to-end windows
    on top. ``multicast``: one packet per destination core, or one packet that branches.
    """

    topology: Literal["mesh", "torus", "ring", "star", "tree", "graph"] = "mesh"
    width: Whole = Field(ge=1)
    height: Whole = Field(ge=1)
    arity: Whole = Field(default=2, ge=1)
    """Children per router of a tree."""
    edges: tuple[Edge, ...] = ()
    """Undirected links of a graph: [a, b] or [a, b, "chip"] for one between chips; ``neurosim.chip.edges_of`` makes them from a networkx graph."""
    cores_per_router: Whole = Field(default=1, ge=1)
    chip_width: Annotated[Whole, Field(ge=1)] | None = None
    chip_height: Annotated[Whole, Field(ge=1)] | None = None
    """Size in routers of one chip of a mesh or torus made of several; links that cross its border are links between chips. None = one chip."""
    multicast: Literal["unicast", "tree"] = "unicast"
    fifo: Whole = Field(ge=1, le=MOST_DEPTH)
    axon_in: Whole = Field(ge=1, le=MOST_DEPTH)
    """Depth of axon-in under link flow; under end-to-end flow it is max(1, window * sources)."""
    axon_out: Whole = Field(ge=1, le=MOST_DEPTH)
    flow: Literal["link", "end_to_end"] = "link"
    window: Whole = Field(default=1, ge=1, le=MOST_DEPTH)
    overflow: Literal["stall", "drop"] = "stall"
    """What a full channel of the network (port, sender and router outputs) does to a spike."""
    axon_out_overflow: Literal["stall", "drop"] = "stall"
    """What a full axon-out does to a spike."""
    ports: tuple[Annotated[Whole, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    """Routers to which the I/O ports 0, 1, ... are attached."""

    @property
    def routers(self) -> int:
        """Number of routers."""
        if self.topology == "graph":
            return 1 + max((max(edge[0], edge[1]) for edge in self.edges), default=0)
        return self.width * self.height


class Barrier(Strict):
    """Duration of the barrier from ``tiles`` mapped tiles on, up to the next row."""

    tiles: Whole = Field(ge=1)
    duration: Duration


class Timing(Strict):
    """Durations of the machine model (docs/machine.md); all at least 1 ps but ``settle``."""

    decode: Duration
    synop: Duration
    access: Duration
    update: Duration
    fire: Duration
    put: Duration
    send: Duration
    hop_east_west: Duration
    hop_north_south: Duration
    hop_local: Duration
    forward: Duration
    ack: Duration
    axon_forward: Duration
    axon_ack: Duration
    wire: Duration
    bank: Duration
    port: Duration
    readout: Duration
    reset: Duration
    leak: Duration | None = None
    """Period of the leak by local time in the free discipline; none = no leak there."""
    settle: Delay = Figure(value=0, source="no wait: a core speaks as soon as it may; sweep")
    """Settle discipline: how long a neuron that changed its mind waits before it may say so; 0 is allowed, for this is no service."""
    quiet: Duration = Figure(value=100_000, source="no published figure; sweep")
    """Settle discipline, streamed: from quiescence to the next sample, what finding it out takes."""
    barrier: tuple[Barrier, ...] = ()
    """Duration of the global barrier by number of tiles (routers with a mapped core); barrier discipline only."""
    port_forward: Duration | None = None
    """Through the pads and what lies before the first router; none = ``forward``."""
    op_window: Duration | None = None
    """Free discipline: period after which extra ops forget (latches, counts, activity-written synapses); none = at the end of the sample."""
    hop_chip: Duration | None = None
    chip_forward: Duration | None = None
    chip_ack: Duration | None = None
    """Figures of links between chips."""


class Arithmetic(Strict):
    """Word widths and rules. ``lanes`` synapses are served per ``timing.synop``."""

    weight_bits: Whole = Field(ge=2, le=32)
    state_bits: Whole = Field(ge=4, le=64)
    acc_bits: Whole = Field(ge=4, le=64)
    current_bits: Whole = Field(default=16, ge=4, le=64)
    """Width of the value field of a current packet."""
    max_shift: Whole = Field(default=15, ge=0, le=30)
    lanes: Whole = Field(ge=1)
    rounding: Literal["floor", "zero", "nearest"] = "floor"
    quantize: Literal["search", "sinabs"] = "search"
    """How real numbers become the chip's words: the scale with the least expected error (search), or as the chip's own tool-chain makes them. Whole
    numbers that fit go to the chip as they are."""
    weight_values: Annotated[Whole, Field(ge=1)] | None = None
    """Most different weights, zero apart, into one neuron; none = no limit."""
    skip_zero_weights: bool = False
    visit: Literal["all", "active"] = "all"
    """Which neurons the soma visits in a step."""
    spikes_per_update: Whole = Field(default=1, ge=1)
    """Free discipline: most spikes per served synapse."""
    settle_order: Literal["input", "age"] = "input"
    """Settle discipline, what an idle core does first: ``input`` packets while there are any, ``age`` the packet or neuron that waits longest."""


class MapLimits(Strict):
    """Limits of one linear op; an absent limit is no limit."""

    kernel: Annotated[Whole, Field(ge=0)] | None = None
    stride: tuple[Annotated[Whole, Field(ge=1)], ...] | None = None
    padding: Annotated[Whole, Field(ge=0)] | None = None
    dilation: Annotated[Whole, Field(ge=0)] | None = None
    groups: Annotated[Whole, Field(ge=0)] | None = None
    map_size: Annotated[Whole, Field(ge=0)] | None = None
    """Largest height or width of the output map."""
    source_size: Annotated[Whole, Field(ge=0)] | None = None
    """Largest height or width of the map that is read."""
    channels: Annotated[Whole, Field(ge=0)] | None = None
    kernels: tuple[Annotated[Whole, Field(ge=1)], ...] | None = None
    """The only kernel sizes that there are."""
    tiled: bool = False
    """Windows do not overlap: the stride is the kernel."""


class Neuron(Strict):
    """What a neuron of this chip can do."""

    leak: bool
    resets: tuple[Literal["zero", "subtract"], ...]
    floor: bool
    strict: bool
    bias: bool
    per_channel_threshold: bool
    reset_by: bool = True
    """A reset by subtraction may subtract another amount than the threshold."""
    current: bool = False
    """A synaptic current with its own decay (CUBA)."""
    max_spikes: Whole = Field(default=1, ge=1, le=255)
    """Most spikes of a neuron per step, sent as one of that value."""


class Capabilities(Strict):
    """What the chip can run; what is not listed is not supported."""

    ops: dict[
        Literal["conv2d", "pooled_conv2d", "dense", "sum_pool", "identity", "token_mix", "sparse", "or_pool", "gate", "max_pool", "coincidence"],
        MapLimits,
    ]
    """Linear maps (pooled_conv2d: a convolution or dense layer behind a pooling, for which a spike's row and column are looked up in a table on
    arrival), and the extra ops of neurosim.ops (of whose limits or_pool and max_pool know kernel, stride and padding, coincidence channels)."""
    neuron: Neuron
    inputs: tuple[Literal["spikes", "currents", "valued"], ...]
    readout: bool
    recurrence: bool = False
    max_delay: Whole = Field(default=0, ge=0)
    banks: Whole = Field(default=2, ge=1)
    """Most accumulation banks per slice."""
    fan_out: Count | None = None
    """Most destination cores per slice; none = limited by route entries only."""
    neuron_fan_out: Count | None = None
    """Most destination cores per neuron; none = no limit of its own."""
    input_fan_out: Count | None = None
    """Most destination layers of the input; none = no limit."""
    readout_ops: tuple[Literal["conv2d", "pooled_conv2d", "dense", "sum_pool", "identity", "token_mix", "sparse"], ...] | None = None
    """Maps that may lead into a readout; none = all that the chip has. ["identity"]: it counts spikes, all with one weight."""
    classes: Count | None = None
    """Most classes of a readout; none = no limit."""


class Prices(Strict):
    """Dynamic energy per counted event, static power, and the boundary they stand for."""

    synop: Price
    decode: Price
    soma_access: Price
    soma_update: Price
    soma_fire: Price
    current_write: Price
    packet: Price
    """Axon-out: forming one packet at the sender."""
    hop_east_west: Price
    hop_north_south: Price
    hop_local: Price
    hop_chip: Price | None = None
    """Through a link between chips."""
    pair_write: Price | None = None
    """One increment of an activity-written synapse; none = as a synaptic operation."""
    op_read: Price | None = None
    """One word read by an extra op; none = as a synaptic operation."""
    io_packet: Price
    """One packet through the I/O port, either direction."""
    host_mac: Price
    static_core_mw: Power
    static_router_mw: Power
    static_chip_mw: Power
    board_mw: Power | None = None
    """What the chip's board draws at rest, the leakage of all its cores and the processors that drive it included; none = not known."""
    power_gating: bool = True
    """Cores without a slice draw no static power."""


class Chip(Strict):
    """One chip. ``name`` and ``sync`` (the disciplines it offers) head the file; see the tables for the rest."""

    name: str
    description: str
    process: str
    node: str | None = None
    voltage: Annotated[float, Field(gt=0, le=5)] | None = None
    """Node (as in neurosim.energy.scaling) and supply in volts that the prices belong to; none = they cannot be scaled."""
    sync: tuple[Sync, ...]
    memory: Memory
    noc: Noc
    timing: Timing
    arithmetic: Arithmetic
    capabilities: Capabilities
    prices: Prices
    sources: dict[str, str] = Field(default_factory=dict)
    """What the abbreviations in the figures' sources stand for."""

    @field_validator("sync")
    @classmethod
    def _some_sync(cls, sync: tuple[Sync, ...]) -> tuple[Sync, ...]:
        if not sync:
            raise ValueError("sync lists no discipline; give at least one of free, settle, wavefront, barrier")
        return sync

    @model_validator(mode="after")
    def _consistent(self) -> Chip:
        noc, routers = self.noc, self.noc.routers
        if routers > MOST_ROUTERS:
            raise ValueError(f"noc.topology {noc.topology} has {routers} routers, at most {MOST_ROUTERS} can be simulated")
        if (noc.topology == "graph") != bool(noc.edges):
            raise ValueError(
                f"noc.edges holds {len(noc.edges)} links with noc.topology {noc.topology}; edges belong to topology graph and to no other"
            )
        check_edges(noc.edges, routers if noc.edges else 1)
        if self.memory.cores > routers * noc.cores_per_router:
            raise ValueError(
                f"memory.cores {self.memory.cores} > {routers} routers x noc.cores_per_router {noc.cores_per_router}; "
                "enlarge the network or the clusters"
            )
        if max(noc.ports) >= routers:
            raise ValueError(f"noc.ports {max(noc.ports)} >= {routers} routers; routers are numbered from 0, row by row")
        if max(self.memory.dead_cores, default=0) >= self.memory.cores:
            raise ValueError(f"memory.dead_cores {max(self.memory.dead_cores)} >= memory.cores {self.memory.cores}; cores are numbered from 0")
        if len(set(self.memory.dead_cores)) >= self.memory.cores:
            raise ValueError(f"memory.dead_cores lists all {self.memory.cores} cores; leave at least one alive")
        self._check_layers()
        if "barrier" in self.sync and not self.timing.barrier:
            raise ValueError("sync lists barrier but timing.barrier is missing; give its duration by number of tiles")
        tiles = [row.tiles for row in self.timing.barrier]
        if tiles and (tiles[0] != 1 or tiles != sorted(set(tiles))):
            raise ValueError(f"timing.barrier has tiles {tiles}; they must ascend and begin at 1")
        several = noc.chip_width is not None or noc.chip_height is not None or any(len(edge) == 3 and edge[2] == "chip" for edge in noc.edges)
        if (noc.chip_width is not None or noc.chip_height is not None) and noc.topology not in ("mesh", "torus"):
            raise ValueError(f"noc.chip_width and noc.chip_height cut a mesh or torus, not a {noc.topology}; mark links between chips in noc.edges")
        if several and None in (self.timing.hop_chip, self.timing.chip_forward, self.timing.chip_ack, self.prices.hop_chip):
            raise ValueError("links between chips need timing.hop_chip, timing.chip_forward, timing.chip_ack and prices.hop_chip")
        if self.noc.flow == "end_to_end" and self.timing.axon_ack.value > self.timing.wire.value:
            raise ValueError(
                f"timing.axon_ack {self.timing.axon_ack.value} ps > timing.wire {self.timing.wire.value} ps; "
                "with noc.flow = end_to_end the slot must be free before the credit is back, so axon_ack <= wire"
            )
        return self

    def _check_layers(self) -> None:
        memory = self.memory
        for name in ("kernel_words", "neuron_words", "readout_cores"):
            given = getattr(memory, name)
            if given and not memory.layer_per_core:
                raise ValueError(f"memory.{name} belongs to chips with one layer per core; set memory.layer_per_core = true")
        for name, words in (("kernel_words", memory.kernel_words), ("neuron_words", memory.neuron_words)):
            if words is not None and len(words.value) not in (1, memory.cores):
                raise ValueError(f"memory.{name} lists {len(words.value)} cores, memory.cores is {memory.cores}; give one number or one per core")
        if max(memory.readout_cores, default=0) >= memory.cores:
            raise ValueError(f"memory.readout_cores {max(memory.readout_cores)} >= memory.cores {memory.cores}; cores are numbered from 0")
        if memory.layer_per_core and set(memory.readout_cores) | set(memory.dead_cores) >= set(range(memory.cores)):
            raise ValueError(f"memory.readout_cores and memory.dead_cores leave none of {memory.cores} cores for layers; leave at least one")

    @property
    def rounding(self) -> int:
        """Rounding code of neurosim.arithmetic."""
        return arithmetic.ROUNDINGS[self.arithmetic.rounding]
