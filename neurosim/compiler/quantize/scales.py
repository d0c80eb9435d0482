"""Real Graph + Chip -> integer Graph: whole numbers as they are (``exact``), else scales, shifts, weights and thresholds; the host's fixed point;
and how much precision each projection keeps.

One unit of a population's integers is worth ``scale`` (per channel where the chip has per-channel thresholds, shared where channels share weights;
one for a readout). A projection's real weight is ``weight * 2**shift * scale``. Proved for every possible input: banks fit ``acc_bits``, currents fit
``current_bits``, nothing leaves int64. Membranes of a chip with wide words cannot saturate; where narrow words leave no room a warning says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import DECAY_ONE
from neurosim.chip import Chip
from neurosim.compiler.quantize.adapt import adapt
from neurosim.compiler.quantize.exact import HEADROOM, exact_integers, whole_projection
from neurosim.compiler.quantize.measured import MARGIN, Measured
from neurosim.compiler.quantize.ranges import (
    Reach,
    largest_parameter,
    membrane_bound,
    outputs_per_channel,
    over_channels,
    per_weight,
    rounding_error,
    span,
)
from neurosim.compiler.quantize.sums import bank_sums, cell_bounds, counts_spikes, input_bounds, most_coincidences, reach
from neurosim.compiler.quantize.toolchain import common_factor, whole
from neurosim.errors import ModelError, UnsupportedLayer
from neurosim.graph import Graph, NeuronRule, Population, Projection, TokenMix
from neurosim.ops import Coincidence, Gate, OrPool

Floats = NDArray[np.float64]

WIDE = 24
"""From so many weight bits on a scale is a power of two and no search is made: the network is then exact to rounding."""
RATE = 0.15
"""Share of active inputs assumed when errors of weights are weighed against those of thresholds and biases."""
READOUT_SHARE = 0.4
"""Share of a readout's proven bound that must fit its state. A readout sums so many inputs that its bound is far from what happens: trained STMixers
reach 0.11 to 0.13 of it, the networks with residual sums of spikes 0.18 to 0.35. Saturations are counted in every run."""
SEARCH = np.concatenate([np.linspace(0.8, 1.0, 9)[:-1], np.linspace(1.0, 1.3, 25)])
"""Multiples of the scale at which the largest weight just fits; below 1 the largest weights are clipped."""
COARSE = 256
"""Units that the threshold of a coincidence should have, so that decays round well, even where its proven bound then does not fit its state: reaching
the upper end of the state it fires and is reset as it would have been."""


@dataclass(frozen=True)
class Precision:
    """Signal-to-noise ratio of one projection's weights: 10 log10(sum w^2 / sum (w - quantised w)^2); infinite when exact."""

    source: str
    target: str
    op: str
    bits: int
    shift: int
    snr_db: float


def quantize(graph: Graph, chip: Chip, *, pixels: tuple[int, int] = (0, 255), measured: Measured | None = None) -> tuple[Graph, list[Precision]]:
    """(integer Graph, precision of every projection). ``pixels``: least and greatest pixel of an image input. ``measured``: the readout's range.

    Limits of precision are added to ``graph.warnings``. Raises ModelError when a population cannot be expressed in the chip's words at all.
    """
    adapted = adapt(graph, chip)
    populations: list[Population] = []
    projections: dict[int, Projection] = {}
    warnings = list(graph.warnings)
    exact: list[str] = []
    if graph.integers not in (None, chip.arithmetic.rounding) and any(_rounds(p) for p in graph.populations):
        warnings.append(
            f"{graph.name} is made for decays rounded by {graph.integers}, {chip.name} rounds by {chip.arithmetic.rounding}: spikes may differ; "
            f"set arithmetic.rounding={graph.integers}"
        )
    positions = {id(p): k for k, p in enumerate(adapted.projections)}
    for population in adapted.populations:
        if population.rule is None:
            populations.append(population)
            continue
        work = _Work(adapted, population, chip, pixels, warnings, measured)
        done, into = work.run()
        if work.exact:
            exact.append(population.name)
        populations.append(done)
        for real, integer in into:
            projections[positions[id(real)]] = integer
    ordered = tuple(projections[k] for k in range(len(projections)))
    result = replace(adapted, populations=tuple(populations), projections=ordered, warnings=tuple(warnings), exact=tuple(exact))
    precision = [_precision(adapted, real, integer, result) for real, integer in zip(adapted.projections, ordered, strict=True)]
    return result, precision


def _rounds(population: Population) -> bool:
    rule = population.rule
    return rule is not None and not {rule.decay, rule.decay_current} <= {0, DECAY_ONE, None}


class _Work:
    """One population and the projections into it."""

    def __init__(
        self, graph: Graph, population: Population, chip: Chip, pixels: tuple[int, int], warnings: list[str], measured: Measured | None
    ) -> None:
        assert population.rule is not None
        self.measured = measured
        self.graph, self.population, self.rule, self.chip, self.pixels, self.warnings = graph, population, population.rule, chip, pixels, warnings
        into = graph.into(population.name)
        self.analog = [p for p in into if graph.population(p.source).kind == "analog"]
        self.counts = [p for p in into if counts_spikes(population, p.operand)]
        self.spiking = [p for p in into if graph.population(p.source).kind != "analog" and not counts_spikes(population, p.operand)]
        self.reach: Reach = reach(graph, population, pixels)
        self.exact = False
        self.factor: np.float32 | None = None
        """Units per 1.0, where the chip's tool-chain says so."""
        self.largest = 2 ** (chip.arithmetic.weight_bits - 1) - 1
        self.word = next(t for t in (np.int8, np.int16, np.int32, np.int64) if np.iinfo(t).max >= self.largest)  # of a stored weight

    def run(self) -> tuple[Population, list[tuple[Projection, Projection]]]:
        """The integer population and (real, integer) pairs of projections."""
        if self.population.host:
            bound = float(membrane_bound(self.population, self.reach, self.graph.steps).max())
            scale = np.full(self.population.shape[0], 2.0 ** math.ceil(math.log2(bound / HEADROOM)))
            return self._population(scale), [(p, self._analog(p, scale, host=True)) for p in self.analog]
        done = exact_integers(self.graph, self.population, self.chip, self.reach)
        if not isinstance(done, str):
            self.exact = True
            self._warn_of_saturation(np.asarray(done[0].scale))
            return done
        if isinstance(self.population.op, OrPool | Gate):
            raise UnsupportedLayer(
                self.population.name, self.population.op.name, f"a population that passes spikes on does not fit {self.chip.name}: {done}",
                remedy="use a chip with wider words",
            )  # fmt: skip
        if done:
            self.warnings.append(f"{self.population.name}: its whole numbers do not fit {self.chip.name} and are scaled: {done}")
        scale, shifts = self._toolchain() or self._scale()
        counts = [(p, whole_projection(p)) for p in self.counts]
        while True:
            quantised = [(p, self._weights(p, scale, shift)) for p, shift in zip(self.spiking, shifts, strict=True)]
            currents = [(p, self._analog(p, scale, host=False)) for p in self.analog]
            population = self._population(scale)
            if self._fits(population, [p for _, p in (*currents, *quantised, *counts)]):
                break
            scale, self.factor = scale * 2, None
            shifts = self._shifts(scale)
        self._warn(scale)
        return population, [*currents, *quantised, *counts]

    # -- scale

    def _toolchain(self) -> tuple[Floats, list[int]] | None:
        """(scale per channel, shift per projection) as the chip's tool-chain has them; None where it has no rule: for readouts and extra ops."""
        if self.chip.arithmetic.quantize == "search" or self.population.kind != "spiking" or self.population.op is not None or self.analog:
            return None
        self.factor = common_factor(self.rule, [p.map.weight for p in self.spiking], self.chip)
        return None if self.factor is None else (np.full(self.population.shape[0], 1.0 / float(self.factor)), [0] * len(self.spiking))

    def _groups(self) -> NDArray[np.int64]:
        """Channels that must have one scale carry one number."""
        channels = self.population.shape[0]
        one = self.population.kind == "readout" or isinstance(self.population.op, Coincidence)
        if one or not self.chip.capabilities.neuron.per_channel_threshold:
            return np.zeros(channels, np.int64)
        group = np.arange(channels)
        for p in self.spiking:
            if isinstance(p.map, TokenMix):
                count = self.graph.population(p.source).shape[0]
                size = count // len(p.map.weight)
                for first in range(p.channel_offset, p.channel_offset + count, size):
                    members = np.isin(group, group[first : first + size])
                    group[members] = group[members].min()
        return group

    def _scale(self) -> tuple[Floats, list[int]]:
        """(scale per channel, shift per projection): the finest unit that weights, states and currents allow, then the best of a small search."""
        group = self._groups()
        channels = self.population.shape[0]

        def shared(values: Floats) -> Floats:
            result = np.zeros(channels)
            np.maximum.at(result, group, values)
            return result[group]

        def per_channel(values: Floats) -> Floats:
            return shared(values.reshape(channels, -1).max(axis=1))

        peaks = []  # largest weight of each projection per channel
        for p in self.spiking:
            peak = np.zeros(channels)
            top = over_channels(p.map, np.abs(p.map.weight), self._outputs(p), np.maximum)
            peak[p.channel_offset : p.channel_offset + len(top)] = top
            peaks.append(shared(peak))
        a = self.chip.arithmetic
        state = min(2 ** (a.state_bits - 1) - 1, HEADROOM)
        needed = per_channel(largest_parameter(self.population, self.rule)) / state  # else a parameter does not fit
        repeat = self.graph.steps if "free" in self.chip.sync else 1  # in free a current is injected once, times T
        current = per_channel(self.reach.current) * repeat / (2 ** (a.current_bits - 1) - 1)
        needed = np.maximum(needed, current * 1.001)
        if isinstance(self.population.op, Coincidence):
            return self._coincidence_scale(self.population.op, float(needed.max()))
        plain = np.max([np.zeros(channels), *(peak / self.largest for peak in peaks)], axis=0)
        shifts = self._wanted_shifts(peaks)
        fine = np.max([np.zeros(channels), *(peak / (self.largest * 2.0**s) for peak, s in zip(peaks, shifts, strict=True))], axis=0)
        bound = per_channel(membrane_bound(self.population, self.reach, self.graph.steps)) / state
        if self.population.kind == "readout":
            needed = np.maximum(needed, bound * READOUT_SHARE if self.measured is None else MARGIN * self.measured.largest / state)
        scale = np.maximum(np.maximum(fine, np.minimum(bound, plain)), needed)
        scale = np.where(scale > 0, scale, per_channel(largest_parameter(self.population, self.rule)) / min(state, 2**28))
        scale = np.where(scale > 0, scale, 1.0)
        if a.weight_bits >= WIDE:
            scale = np.maximum(scale, bound)
            scale = np.asarray(2.0 ** np.ceil(np.log2(scale)))
            return scale, self._shifts(scale)
        # clipping and coarser units help weights; the floor of all that must fit stays
        shifts, best, best_error = self._shifts(scale), scale, np.full(channels, np.inf)
        for factor in SEARCH:
            trial = np.maximum(scale * factor, needed)
            error = shared(self._error(trial, shifts))
            better = error < best_error
            best, best_error = np.where(better, trial, best), np.where(better, error, best_error)
        return best, shifts

    def _coincidence_scale(self, op: Coincidence, needed: float) -> tuple[Floats, list[int]]:
        """(scale per channel, shift per projection): the unit is ``op.scale / 2**shift``, so a count is exact; the finest one that membranes allow,
        or COARSE units per threshold, and that parameters, currents and banks allow."""
        a = self.chip.arithmetic
        state, bank = min(2 ** (a.state_bits - 1) - 1, HEADROOM), min(2.0 ** (a.acc_bits - 1) - 1, HEADROOM * 2.0**11)
        cells = cell_bounds(self.graph, self.population, self.graph.into(self.population.name), self.pixels)
        up, down = input_bounds(self.population, cells, op.scale)
        bound = float(membrane_bound(self.population, self.reach, self.graph.steps).max())
        threshold = float(np.min(np.asarray(self.rule.threshold)))

        def shift_of(ratio: float) -> int:
            return math.floor(math.log2(ratio))

        wanted = max(shift_of(state * op.scale / bound), -shift_of(threshold / (COARSE * op.scale)))
        allowed = min(shift_of(bank * op.scale / max(float(up.max()), float(down.max()), op.scale)), shift_of(op.scale / needed))
        shift = min(wanted, allowed)
        if shift < 0:
            most = float(most_coincidences(self.population, cells).max())
            raise UnsupportedLayer(
                self.population.name, op.name, f"coincidences of scale {op.scale:.3g} beside a threshold of {threshold:.3g} and other inputs",
                value=f"{most:.3g} coincidences", limit=f"{a.state_bits} bits of state, {a.acc_bits} of a bank",
                remedy="use fewer tokens or channels per head, or a chip with wider words",
            )  # fmt: skip
        scale = np.full(self.population.shape[0], op.scale / 2.0**shift)
        return scale, self._shifts(scale)

    def _wanted_shifts(self, peaks: list[Floats]) -> list[int]:
        """Shifts that bring projections of different ranges to the same number of bits."""
        typical = [float(np.median(peak[peak > 0])) if np.any(peak > 0) else 0.0 for peak in peaks]
        least = min((t for t in typical if t > 0), default=1.0)
        return [min(max(0, round(math.log2(t / least))), self.chip.arithmetic.max_shift) if t > 0 else 0 for t in typical]

    def _shifts(self, scale: Floats) -> list[int]:
        """The least shifts with which the weights fit unclipped."""
        result = []
        for p in self.spiking:
            unit = self._unit(p, scale)
            top = over_channels(p.map, np.abs(p.map.weight), self._outputs(p), np.maximum)
            excess = float(np.max(top / unit, initial=0)) / (self.largest + 0.49)
            result.append(min(max(0, math.ceil(math.log2(excess))) if excess > 0 else 0, self.chip.arithmetic.max_shift))
        return result

    def _error(self, scale: Floats, shifts: list[int]) -> Floats:
        """Expected squared error of a neuron's input and parameters, per channel."""
        channels = self.population.shape[0]
        total = np.zeros(channels)
        for p, shift in zip(self.spiking, shifts, strict=True):
            unit = self._unit(p, scale) * 2.0**shift
            sums = rounding_error(p.map, unit, self.largest) / outputs_per_channel(p.map, self.graph.population(p.source))
            total[p.channel_offset : p.channel_offset + len(sums)] += RATE * sums
        parameters = [self.rule.bias] if self.population.kind == "readout" else [self.rule.threshold, self.rule.bias]
        for value in parameters:
            whole = np.broadcast_to(np.asarray(value, np.float64), self.population.shape).reshape(channels, -1)
            off = whole - np.round(whole / scale[:, None]) * scale[:, None]
            total += (off * off).mean(axis=1)
        return total

    # -- integers

    def _outputs(self, p: Projection) -> int:
        return p.map.out_shape(self.graph.population(p.source).shape)[0]

    def _unit(self, p: Projection, scale: Floats) -> Floats:
        return scale[p.channel_offset : p.channel_offset + self._outputs(p)]

    def _weights(self, p: Projection, scale: Floats, shift: int) -> Projection:
        if self.factor is not None:
            return replace(p, map=replace(p.map, weight=whole(p.map.weight, self.factor)), shift=shift)
        step = per_weight(p.map, self._unit(p, scale) * 2.0**shift)
        weight = p.map.weight / step
        np.clip(np.round(weight, out=weight), -self.largest, self.largest, out=weight)
        weight = weight.astype(self.word)
        return replace(p, map=replace(p.map, weight=weight), shift=shift)

    def _analog(self, p: Projection, scale: Floats, *, host: bool) -> Projection:
        """Fixed point of the host: as many fraction bits as keep every sum below HEADROOM."""
        unit = per_weight(p.map, self._unit(p, scale))
        bits = 0
        if not host:
            most, least = span(replace(p, map=replace(p.map, weight=np.abs(p.map.weight / unit))), self.graph.population(p.source), self.pixels)
            bound = float(np.maximum(np.abs(most), np.abs(least)).max(initial=1.0))
            bits = max(0, min(40, math.floor(math.log2(HEADROOM / max(bound, 1.0)))))
        return replace(p, map=replace(p.map, weight=np.round(p.map.weight / unit * 2.0**bits).astype(np.int64)), fraction_bits=bits)

    def _population(self, scale: Floats) -> Population:
        per = scale[:, None, None]

        def units(value: Any) -> NDArray[np.int64]:
            if self.factor is not None:
                return whole(value, self.factor)
            return np.round(np.asarray(value, np.float64) / per).astype(np.int64)

        rule = self.rule
        readout = self.population.kind == "readout"
        threshold = np.ones((1, 1, 1), np.int64) if readout else np.maximum(units(rule.threshold), 1)
        integer = NeuronRule(
            threshold, units(rule.bias), rule.decay, rule.reset, None if rule.reset_by is None else units(rule.reset_by),
            None if rule.floor is None else units(rule.floor), rule.strict, rule.decay_current, rule.max_spikes,
            None if rule.v_init is None else units(rule.v_init),
        )  # fmt: skip
        op = self.population.op
        if isinstance(op, Coincidence):
            op = replace(op, shift=max(0, round(math.log2(op.scale / float(scale[0])))))
        window_bias = None if self.population.window_bias is None else units(self.population.window_bias)
        return replace(self.population, rule=integer, scale=scale, op=op, window_bias=window_bias)

    def _warn_of_saturation(self, scale: Floats) -> None:
        limit = 2 ** (self.chip.arithmetic.state_bits - 1) - 1
        name = self.population.name
        bound = float((membrane_bound(self.population, self.reach, self.graph.steps) / scale[:, None, None]).max())
        if bound > limit:
            bits = self.chip.arithmetic.state_bits
            self.warnings.append(f"{name}: membranes may saturate; their proven bound is {bound:.3g} units, the limit of {bits} bits {limit}")

    def _warn(self, scale: Floats) -> None:
        self._warn_of_saturation(scale)
        name = self.population.name
        if self.population.kind != "readout":
            least = float((np.broadcast_to(np.asarray(self.rule.threshold), self.population.shape) / scale[:, None, None]).min())
            if least < 16:
                self.warnings.append(f"{name}: the smallest threshold is {least:.3g} units, so it is off by up to {50 / max(least, 0.5):.0f} %")

    def _fits(self, population: Population, into: list[Projection]) -> bool:
        """True when every bank fits acc_bits; raises ModelError when no scale can do that."""
        acc_bits = self.chip.arithmetic.acc_bits
        over = [s for s in bank_sums(self.graph, population, into, acc_bits, self.pixels) if s.value > min(s.limit, HEADROOM * 2**11)]
        if not over:
            return True
        scale = np.asarray(population.scale)
        if isinstance(population.op, Coincidence) and float(scale[0]) >= population.op.scale:
            raise UnsupportedLayer(
                population.name, "coincidence", over[0].what, value=f"{over[0].value:.3g}", limit=f"{over[0].limit:.3g}",
                remedy="use fewer tokens or channels per head, or a chip with wider banks (arithmetic.acc_bits)",
            )  # fmt: skip
        if float(scale.max()) > 1e12 * float(np.abs(np.asarray(self.rule.threshold)).max()):
            raise ModelError(f"{self.population.name}: {over[0].what} need {over[0].value:.3g} units, acc_bits {acc_bits} end at {over[0].limit:.3g}")
        text = f"{self.population.name}: scale coarsened because {over[0].what} could leave the {acc_bits}-bit banks"
        if text not in self.warnings:
            self.warnings.append(text)
        return False


def _precision(graph: Graph, real: Projection, integer: Projection, result: Graph) -> Precision:
    target = result.population(real.target)
    assert target.scale is not None
    channels = real.map.out_shape(graph.population(real.source).shape)[0]
    unit: Any = 1.0  # of spikes that are counted
    if not counts_spikes(target, real.operand):
        unit = per_weight(real.map, target.scale[real.channel_offset : real.channel_offset + channels]) * 2.0 ** (
            integer.shift - integer.fraction_bits
        )
    noise = float(((real.map.weight - integer.map.weight * unit) ** 2).sum())
    signal = float((np.asarray(real.map.weight, np.float64) ** 2).sum())
    bits = int(np.abs(integer.map.weight).max(initial=0)).bit_length() + 1
    snr = math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)
    return Precision(real.source, real.target, real.map.op, bits, integer.shift, snr)
