"""A network built by hand, on a chip of four cores, looked at event by event.

python examples/by_hand.py
"""

import numpy as np

import neurosim

rng = np.random.default_rng(0)

net = neurosim.Network("by hand", steps=3, class_names=("left", "right"))
x = net.input("image", shape=(1, 8, 8), dtype="uint8", scale=255.0)
x = net.conv2d("conv1", x, rng.normal(0.2, 0.8, (3, 1, 3, 3)), padding=1)
x = net.lif("lif1", x, decay=0.5, threshold=1.0)  # sees the image only: the host computes it and injects its spikes
x = net.conv2d("conv2", x, rng.normal(0.0, 0.5, (4, 3, 3, 3)), stride=2, padding=1)
x = net.lif("lif2", x, decay=0.5, threshold=1.0, reset="subtract")
net.output(net.linear("head", net.flatten("flat", x), rng.normal(0, 0.3, (2, 64))))

for row in neurosim.check(net, "tiny"):
    print(f"{row.layer:8} {row.op:10} {row.status:10} {row.reason}")

program = neurosim.build(net, chip="tiny", sync="wavefront")
images = rng.integers(0, 256, (4, 8, 8), dtype=np.uint8)

events = []
run = neurosim.simulate(program, images, engine="reference", observe=events.append)
rows = np.concatenate(events)

print(f"\n{len(rows)} events; predictions {run.predictions.tolist()}")
print(f"lif2 fired {int(run.spikes('lif2').sum())} spikes in 4 images x 3 steps")
print(f"energy per image by component, fJ: {run.energy().per_sample()}")
print("\nthe first ten events of image 0 (time in ps, server, item, step):")
for row in rows[rows["sample"] == 0][:10]:
    print(f"{row['time']:8} {row['server']:4} {row['item']:3} {row['step']:3}")
