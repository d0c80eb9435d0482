"""A Graph in real numbers comes in, a Graph in the chip's integers goes out, with what each projection kept of its precision.

``scales`` is the pass; ``exact`` takes whole numbers as they are, ``ranges`` and ``sums`` prove bounds, ``adapt`` writes maps that the chip lacks
with maps that it has, ``headroom`` says how many events of one neuron the banks can take."""

from neurosim.compiler.quantize.adapt import adapt
from neurosim.compiler.quantize.headroom import most_events
from neurosim.compiler.quantize.measured import Measured, measure_readout
from neurosim.compiler.quantize.parts import split_readout
from neurosim.compiler.quantize.ranges import largest_parameter, span
from neurosim.compiler.quantize.scales import Precision, quantize
from neurosim.compiler.quantize.sums import bank_sums, counts_spikes, input_range, settle_sums

__all__ = [
    "Measured", "Precision", "adapt", "bank_sums", "counts_spikes", "input_range", "largest_parameter", "measure_readout", "most_events", "quantize",
    "settle_sums", "span", "split_readout",
]  # fmt: skip
