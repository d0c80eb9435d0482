"""The reference engine: docs/machine.md as code that a person can read, single-step and extend.

``kernel``: instants over SimPy's Environment. ``plan``: the Program's tables as Python objects. ``fabric``: channels, servers, the put rule.
``stations``: port, sender, router. ``synapse``, ``soma``, ``barrier``: the stepped disciplines. ``core``: the station of the free discipline.
``settle``: the station of that discipline and its samples.
``record``: trace rows and counters.
``engine``: ``run_reference``.
"""

from neurosim.engine.reference.core import Core
from neurosim.engine.reference.engine import run_reference
from neurosim.engine.reference.fabric import Channel, Server, Station
from neurosim.engine.reference.items import Item, Service
from neurosim.engine.reference.machine import Machine
from neurosim.engine.reference.record import Probe
from neurosim.engine.reference.settle import Settler
from neurosim.engine.reference.soma import BarrierSoma, Soma
from neurosim.engine.reference.stations import Port, Router, Sender
from neurosim.engine.reference.synapse import Synapse

__all__ = [
    "BarrierSoma",
    "Channel",
    "Core",
    "Item",
    "Machine",
    "Port",
    "Probe",
    "Router",
    "Sender",
    "Server",
    "Service",
    "Settler",
    "Soma",
    "Station",
    "Synapse",
    "run_reference",
]
