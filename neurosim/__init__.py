"""neurosim: a trained spiking network, compiled to a chip of asynchronous cores, run event by event, counted and priced.

    import neurosim
    net = neurosim.load("stmixer-mnist-t1")
    prog = neurosim.build(net, chip="async-mesh", sync="wavefront")
    run = neurosim.simulate(prog, "images.npz")
    print(run.summary())

Names are loaded when first used, so that ``import neurosim`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load": "neurosim.frontends",
    "register_neuron": "neurosim.frontends.torch.neurons",
    "to_nir": "neurosim.frontends",
    "Network": "neurosim.network",
    "Chip": "neurosim.chip",
    "load_chip": "neurosim.chip",
    "presets": "neurosim.chip",
    "check": "neurosim.api",
    "build": "neurosim.api",
    "compile": "neurosim.api",
    "simulate": "neurosim.api",
    "Run": "neurosim.api",
    "Program": "neurosim.program",
    "load_program": "neurosim.program",
    "load_run": "neurosim.trace",
    "Faults": "neurosim.engine.faults",
    "first_difference": "neurosim.engine.compare",
    "NeurosimError": "neurosim.errors",
}
# `compile` would shadow the builtin, so `import *` leaves it out
__all__ = sorted(name for name in _HOMES if name != "compile")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'neurosim' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
