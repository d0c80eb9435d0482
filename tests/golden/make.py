"""Makes the files of traces/: ``python -m tests.golden.make``. Only when docs/machine.md changes on purpose; say so in the commit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurosim import api
from tests.cli.conftest import small_network

FOLDER = Path(__file__).parents[2] / "traces"
SYNCS = ("wavefront", "free")


def main() -> None:
    """Compile the small network of the command-line tests for the tiny chip and record two images."""
    rng = np.random.default_rng(6)
    images = rng.integers(0, 256, (2, 6, 6), dtype=np.uint8)
    np.savez(FOLDER / "small-images.npz", images=images)
    for sync in SYNCS:
        program = api.build(small_network(), "tiny", sync)
        program.save(FOLDER / f"small-{sync}.nsim")
        api.simulate(program, FOLDER / "small-images.npz", engine="reference", record=FOLDER / f"small-{sync}.parquet")


if __name__ == "__main__":
    main()
