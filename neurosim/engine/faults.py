"""Faults: cores that died after compilation, stuck or flipped weight bits, lossy links (docs/machine.md section 11, drops and losses).

All but the links is a change of the Program before an engine starts, so both engines and any number of workers see the same faults:

* **Weights.** A core stores its own copy of every block of weights that it serves, in the order of the Program's ``weights`` array, as words of
  ``arithmetic.weight_bits`` in two's complement. Bit b of word k of core c draws ``h = hash_draw(seed, c, k, b, SALT_WEIGHT)``: it is stuck at 0 if
  the upper 32 bits of h lie below the probability of that (in 1/2**32), stuck at 1 if they lie below the sum of both stuck probabilities; if it is
  neither, it is flipped if the lower 32 bits of h lie below the probability of that. Stuck wins over flipped. The Program is then marked
  ``meta["faulty"]``: the compiler's proof that no bank overflows no longer holds, and banks wrap around in ``acc_bits``.
* **Dead cores.** Handshakes, markers and steps go on, so that the network does not hang, but the core computes nothing: routes to it have no
  synapses, its neurons no bias and thresholds out of reach, and ``silence`` sets the host's currents into it to 0. Along a route of sparse maps alone
  all neurons of its box then send, because nothing is left that says which had a synapse. (Cores known to be broken before compilation belong in the
  chip's ``memory.dead_cores``: the compiler places around them.)
* **Links.** ``Faults.link_loss_draw`` is what ``Options.link_loss`` takes; spikes are lost in the engines, by the same hash with another salt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import MASK64, SALT_WEIGHT, splitmix64
from neurosim.errors import RunError
from neurosim.host.stimulus import CURRENT, Stimulus
from neurosim.program import E_WEIGHT, Program

OUT_OF_REACH = 2**62
"""Threshold of a dead neuron: its membrane stays 0."""
ONE = 2**32
WORDS = 1 << 16  # words drawn at a time: 16 bits of them are 8 MB of hashes

U64 = NDArray[np.uint64]


@dataclass(frozen=True)
class Faults:
    """What is broken. Probabilities lie in 0..1: of a spike on a link between routers, of a stored weight bit. ``dead_cores``: numbers of cores.

    ``seed`` draws the weight bits; spikes are lost by the seed of the run. Raises RunError on a value that is none of these.
    """

    link_loss: float = 0
    dead_cores: tuple[int, ...] = ()
    weight_flip: float = 0
    weight_stuck_at_0: float = 0
    weight_stuck_at_1: float = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("link_loss", "weight_flip", "weight_stuck_at_0", "weight_stuck_at_1"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and 0 <= value <= 1):
                raise RunError(f"{name} {value!r} is no probability; give a number from 0 to 1")
        if self.weight_stuck_at_0 + self.weight_stuck_at_1 > 1:
            raise RunError(
                f"weight_stuck_at_0 {self.weight_stuck_at_0} + weight_stuck_at_1 {self.weight_stuck_at_1} > 1; "
                "a bit is stuck at one value only, so together they are at most 1"
            )
        for core in self.dead_cores:
            if isinstance(core, bool) or not isinstance(core, int) or core < 0:
                raise RunError(f"dead_cores holds {core!r}; give numbers of cores, from 0")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise RunError(f"seed {self.seed!r} must be a whole number")

    @property
    def link_loss_draw(self) -> int:
        """``link_loss`` in 1/2**32, for ``Options.link_loss``."""
        return round(self.link_loss * ONE)

    @property
    def any(self) -> bool:
        """Whether anything is broken."""
        return any(getattr(self, f.name) for f in fields(self) if f.name != "seed")

    @property
    def weights(self) -> bool:
        """Whether weight bits are faulty."""
        return any(round(p * ONE) for p in (self.weight_flip, self.weight_stuck_at_0, self.weight_stuck_at_1))


def apply_faults(program: Program, faults: Faults) -> Program:
    """The Program as the broken chip holds it; the same object where nothing of it is broken (lossy links are not of the Program).

    Raises RunError: a dead core that the chip lacks, weights wider than its words.
    """
    if faults.dead_cores and max(faults.dead_cores) >= program.cores:
        raise RunError(f"dead_cores holds {max(faults.dead_cores)}, the chip has {program.cores} cores, numbered from 0; leave it out")
    if faults.weights:
        program = _break_weights(program, faults)
    return _kill(program, faults.dead_cores) if faults.dead_cores else program


def silence(program: Program, stimuli: Sequence[Stimulus], faults: Faults) -> list[Stimulus]:
    """The stimuli with the value 0 for every current into a dead core; its packets go on."""
    if not faults.dead_cores:
        return list(stimuli)
    dead = np.append(np.isin(program.slice_core, faults.dead_cores), np.zeros(len(program.source_population) - program.slices, bool))
    return [replace(one, value=np.where((one.item == CURRENT) & dead[one.slice], 0, one.value)) for one in stimuli]


def _kill(program: Program, cores: tuple[int, ...]) -> Program:
    """No synapses, no bias, thresholds out of reach."""
    size = np.diff(program.entry_ptr)
    kept = ~np.isin(program.route_core, cores)
    neurons = np.repeat(np.isin(program.slice_core, cores), np.diff(program.neuron_ptr))
    return replace(
        program,
        entry_ptr=np.concatenate([[0], np.cumsum(np.where(kept, size, 0))]).astype(np.int64),
        entry=program.entry[np.repeat(kept, size)],
        threshold=np.where(neurons, OUT_OF_REACH, program.threshold),
        bias=np.where(neurons, 0, program.bias),
    )


def _break_weights(program: Program, faults: Faults) -> Program:
    """Every core's own copy of its blocks, one core after the other, with the faults of its bits."""
    # a block reaches from the offset that its entries name to the next such offset
    starts = np.unique(program.entry[:, E_WEIGHT])
    ends = np.append(starts[1:], len(program.weights))
    core_of_entry = np.repeat(program.route_core, np.diff(program.entry_ptr))
    bits = program.chip.arithmetic.weight_bits
    if len(program.weights) and not -(1 << (bits - 1)) <= int(program.weights.min()) <= int(program.weights.max()) < 1 << (bits - 1):
        raise RunError(
            f"weights {program.weights.min()}..{program.weights.max()} do not fit arithmetic.weight_bits {bits}; compile the network for this chip"
        )
    entry, parts, total = program.entry.copy(), [np.zeros(0, np.int64)], 0
    for core in np.unique(core_of_entry).tolist():
        mine = core_of_entry == core
        blocks = np.searchsorted(starts, np.unique(entry[mine, E_WEIGHT]))
        sizes = ends[blocks] - starts[blocks]
        words = np.concatenate([program.weights[starts[b] : ends[b]] for b in blocks]).astype(np.int64)
        place = total + np.cumsum(sizes) - sizes
        entry[mine, E_WEIGHT] = place[np.searchsorted(starts[blocks], entry[mine, E_WEIGHT])]
        parts.append(faulty_words(words, bits, core, faults))
        total += len(words)
    kind: type[Any] = np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32
    return replace(program, entry=entry, weights=np.concatenate(parts).astype(kind), meta=program.meta | {"faulty": True})


def faulty_words(words: NDArray[np.int64], bits: int, core: int, faults: Faults) -> NDArray[np.int64]:
    """int64 [n] -> int64 [n]: the words of ``bits`` bits that core number ``core`` holds, in its order, with their faults."""
    flip, zero, one = (np.uint64(round(p * ONE)) for p in (faults.weight_flip, faults.weight_stuck_at_0, faults.weight_stuck_at_1))
    result = np.empty_like(words)
    for a in range(0, len(words), WORDS):
        part = words[a : a + WORDS].view(np.uint64)
        number = np.arange(a, a + len(part), dtype=np.uint64)
        held = np.zeros(len(part), np.uint64)
        for b in range(bits):
            h = _draws(faults.seed, core, number, b)
            upper, lower = h >> np.uint64(32), h & np.uint64(0xFFFFFFFF)
            bit = (part >> np.uint64(b)) & np.uint64(1)
            bit = np.where(upper < zero, np.uint64(0), np.where(upper < zero + one, np.uint64(1), np.where(lower < flip, bit ^ np.uint64(1), bit)))
            held |= bit << np.uint64(b)
        high = np.int64(1) << np.int64(bits - 1)
        result[a : a + WORDS] = (held.view(np.int64) ^ high) - high  # sign of the top bit
    return result


def _draws(seed: int, core: int, words: U64, bit: int) -> U64:
    """``hash_draw(seed, core, word, bit, SALT_WEIGHT)`` of many words at once."""
    head = np.uint64(splitmix64(splitmix64((seed ^ SALT_WEIGHT) & MASK64) ^ core))
    return _mix(_mix(head ^ words) ^ np.uint64(bit))


def _mix(x: U64) -> U64:
    """``neurosim.arithmetic.splitmix64`` over an array; products wrap around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
