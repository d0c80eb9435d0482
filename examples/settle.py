"""Right without steps: a neuron that spoke too early takes it back, and a digit that moves costs only what changes.

python examples/settle.py
"""

from importlib import resources

import numpy as np

import neurosim
from neurosim.units import format_energy, format_time

with resources.as_file(resources.files("neurosim") / "data" / "mnist200.npz") as path, np.load(path) as arrays:
    images, labels = arrays["images"][:4], arrays["label"][:4]

# the same chip in steps, without steps, and without steps but with second thoughts
steps = neurosim.simulate(neurosim.build("stmixer-mnist-t1", chip="async-mesh", sync="wavefront"), images, labels=labels)
for sync, changes in (("free", ()), ("settle", ()), ("settle", ("noc.window=256",))):
    program = neurosim.build("stmixer-mnist-t1", chip="async-mesh", sync=sync, overrides=changes)
    run = neurosim.simulate(program, images, labels=labels)
    s, same = run.summary(), np.array_equal(run.readout, steps.readout)
    print(
        f"{sync} {', '.join(changes)}: {s['accuracy']:.0%} right, scores {'equal to' if same else 'unlike'} wavefront's, "
        f"{s['packets'] / steps.summary()['packets']:.1f} times its packets, {s['retracted'] / 4:.0f} spikes taken back, "
        f"complete after {format_time(s['latency_ps']['completion'])}, {format_energy(s['energy_fj']['total'])} per image"
    )

# a digit that moves to the right by one pixel per frame: the port sends what changes, nothing is reset between frames
frames = np.stack([np.roll(images[0], shift, axis=1) for shift in range(4)])
program = neurosim.build("stmixer-mnist-t1", chip="async-mesh", sync="settle", overrides=("noc.window=256",))
moving = neurosim.simulate(program, frames, streamed=True)
alone = neurosim.simulate(program, frames)
for k, (took, reset) in enumerate(zip(moving.result.completion_ps - moving.result.start_ps, alone.result.completion_ps, strict=True)):
    work, fresh = (int(run.counters["sample"]["synops"][k]) for run in (moving, alone))
    print(
        f"frame {k}: {work / 1e6:.1f} M synaptic operations in {format_time(int(took))}; from rest {fresh / 1e6:.1f} M in {format_time(int(reset))}"
    )
assert np.array_equal(moving.readout, alone.readout)  # and every frame is right
