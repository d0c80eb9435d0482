"""What may be done ahead of time, from the Program alone.

A station with one input and no choices (port, synapse, sender, the core of ``free``) does the same whatever happens elsewhere meanwhile: its services
follow from arrivals and credits, whose times are known. So does a router output that only one of the router's inputs ever uses: it is *private*.
Such stations act as soon as they can know what they will do; packets then pass along private outputs in one go. Outputs that several inputs use
choose by time of request and keep to the order of time.

Not where spikes are dropped or lost (whether there is a credit shows only at the time itself) and not for trees (copies wait for each other).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import Options
from neurosim.engine.fast.tables import columns as c
from neurosim.program import C_AXON_IN, E_MAP, M_SPARSE, Program

A = NDArray[Any]


def private_outputs(program: Program, currents: A) -> A:
    """[servers] 1 for router outputs that exactly one input channel uses; ``currents`` [..]: cores to which port 0 sends host currents."""
    source = np.repeat(np.arange(len(program.route_ptr) - 1), np.diff(program.route_ptr))
    core = program.slice_core[np.minimum(source, max(0, program.slices - 1))] if program.slices else source * 0
    writer = np.where(source < program.slices, program.ports + 3 * core + 2, program.source_port[source])
    pairs = np.unique(np.concatenate([writer * program.cores + program.route_core, np.asarray(currents, np.int64)]))
    channel, dest = program.server_channel[pairs // program.cores], pairs % program.cores
    user = np.full(len(program.server_kind), -1, np.int64)  # the one channel that uses an output; -2: several do
    while len(channel):
        output = program.next_server[program.channel[channel, 2], dest]
        order = np.unique(output * len(program.channel) + channel)
        outputs, channels = order // len(program.channel), order % len(program.channel)
        several = np.bincount(outputs, minlength=len(user)) > 1
        known = user[outputs]
        user[outputs] = np.where((known >= 0) & (known != channels) | (known == -2), -2, channels)
        user[several] = -2
        channel = program.server_channel[output]
        onward = program.channel[channel, 0] != C_AXON_IN
        state = np.unique(channel[onward] * program.cores + dest[onward])
        channel, dest = state // program.cores, state % program.cores
    return (user >= 0).astype(np.int32)


def eager_stations(program: Program, options: Options, currents: A, st: A, sv: A, ns: A, rr: A) -> bool:
    """Set the flags of stations and outputs in ``st`` and ``sv``, and mark private outputs in ``ns`` by their complement. False: nobody is eager."""
    if options.link_loss > 0 or program.channel_drop.any() or program.chip.noc.multicast == "tree":
        return False
    ports, routers = program.ports, len(rr)
    router0 = ports + 3 * program.cores
    private = private_outputs(program, currents)
    sv["private"] = private
    owner = program.server_owner
    chosen = np.flatnonzero(private)
    sv["station"][chosen] = router0 + routers + owner[chosen]
    table = ns.reshape(routers, -1)
    outputs = rr["out"][:, None] + table
    table[...] = np.where(private[outputs] != 0, ~table, table)
    kind = st["kind"]
    # a port of a recorded run keeps to the time, so that the rows that lie ahead of it stay few
    # a core of settle may only sometimes (stations.settle)
    eager = (kind == c.SENDER) | ((kind == c.CORE) & (program.sync != "settle")) | (kind == c.EXPRESS) | ((kind == c.PORT) & (not options.record))
    st["eager"] = eager & (st["ordered"] == 0)
    if program.stepped and (program.entry[:, E_MAP] == M_SPARSE).any():
        st["eager"][kind == c.CORE] = 0  # their rows are asked for one packet ahead, so packets had better queue
    return True
