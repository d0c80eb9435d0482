"""What asynchrony does to a trained network: the same chip with steps and without, steady and with jitter.

python examples/asynchrony.py
"""

from importlib import resources

import numpy as np

import neurosim
from neurosim.units import format_energy, format_time

with resources.as_file(resources.files("neurosim") / "data" / "mnist200.npz") as path, np.load(path) as arrays:
    images, labels = arrays["images"][::20], arrays["label"][::20]

for sync in ("wavefront", "free"):
    program = neurosim.build("stmixer-mnist-t1", chip="async-mesh", sync=sync)
    for jitter in (0, 6554, 32768):  # relative spread of every service time: none, 10 %, 50 %
        summary = neurosim.simulate(program, images, labels=labels, jitter=jitter, seed=1).summary()
        print(
            f"{sync:9} jitter {jitter / 65536:4.0%}: {summary['accuracy']:4.0%} right, {summary['spikes'] / len(images):7.0f} spikes, "
            f"decision after {format_time(summary['latency_ps']['decision'])}, {format_energy(summary['energy_fj']['total'])} per image"
        )
