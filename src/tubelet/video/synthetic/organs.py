"""Make an array file of small gray volumes in which eleven stand-in organs can be told apart.

The file has the layout of MedMNIST's 28x28x28 volumes, so that everything that reads `organmnist3d.npz` reads it. An
organ is a bent ellipsoid: its place, its extent, its density and the density of its middle (a heart and a bladder are
filled, a bone is hard outside) vary from volume to volume around the values of its kind. No number says it all: right
and left differ in place alone, liver and spleen in size and place, bladder and heart in texture.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8

from tubelet.errors import ConfigError
from tubelet.files import write_whole
from tubelet.video.synthetic.folder import seed_clip

__all__ = ["ORGANS", "ORGANS_EXPECTED", "Organ", "draw_organ", "make_organs"]

SIDE = 28


class Organ(NamedTuple):
    """Hold the mean appearance of one kind: lengths as shares of the half side, axes as (depth, height, width)."""

    place: tuple[float, float, float]
    radius: tuple[float, float, float]
    density: float
    """Gray level (0 to 255) of the outer part."""
    middle: float
    """Gray level of the inner half."""
    bend: float
    """How far the ends are shifted sideways, as a share of the half side."""


ORGANS: Mapping[str, Organ] = MappingProxyType(
    {
        "liver": Organ((0.0, -0.15, -0.25), (0.60, 0.50, 0.55), 150, 150, 0.2),
        "kidney-right": Organ((0.0, 0.30, -0.35), (0.42, 0.26, 0.24), 170, 125, 0.25),
        "kidney-left": Organ((0.0, 0.30, 0.35), (0.42, 0.26, 0.24), 170, 125, -0.25),
        "femur-right": Organ((0.2, 0.0, -0.35), (0.75, 0.22, 0.22), 225, 165, 0.15),
        "femur-left": Organ((0.2, 0.0, 0.35), (0.75, 0.22, 0.22), 225, 165, -0.15),
        "bladder": Organ((0.3, -0.1, 0.0), (0.38, 0.38, 0.42), 120, 100, 0.0),
        "heart": Organ((-0.2, -0.1, 0.1), (0.42, 0.44, 0.42), 145, 185, 0.1),
        "lung-right": Organ((-0.1, 0.0, -0.35), (0.75, 0.50, 0.36), 40, 25, 0.1),
        "lung-left": Organ((-0.1, 0.0, 0.35), (0.75, 0.50, 0.33), 40, 25, -0.1),
        "spleen": Organ((-0.05, 0.15, 0.35), (0.40, 0.32, 0.30), 150, 150, 0.2),
        "pancreas": Organ((0.0, 0.0, 0.05), (0.22, 0.20, 0.60), 140, 140, 0.35),
    }
)
"""The eleven kinds, in the index order of OrganMNIST3D."""

ORGANS_EXPECTED: Mapping[str, float] = MappingProxyType(
    {"majority": 1 / 11, "histogram": 0.29, "middle_slice": 0.87, "linear": 0.94, "convolution_3d": 0.97}
)
"""Test accuracies measured with the default counts and seed: logistic regression on the gray-level histogram, on the
middle slice and on all voxels averaged over 2x2x2, and two 3-D convolutions (16 and 32 channels) after ten epochs."""

COUNTS: Mapping[str, int] = MappingProxyType({"train": 971, "val": 161, "test": 610})
"""Volumes in each split of OrganMNIST3D."""


def _cloud(generator: np.random.Generator) -> Float64[np.ndarray, "28 28 28"]:
    """Draw smooth unevenness: random values on a coarse grid, interpolated."""
    coarse = generator.normal(0, 1, (5, 5, 5))
    place = np.linspace(0, 4, SIDE)
    weight = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(5)))
    cloud: Float64[np.ndarray, "28 28 28"] = np.einsum(
        "abc,za,yb,xc->zyx", coarse, weight, weight, weight, optimize=True
    )
    return cloud


def draw_organ(label: str, generator: np.random.Generator) -> UInt8[np.ndarray, "28 28 28"]:
    """Draw one volume, (depth, height, width).

    Example:
        >>> draw_organ("heart", np.random.default_rng(0)).shape
        (28, 28, 28)
    """
    organ = ORGANS[label]
    place = np.array(organ.place) + generator.normal(0, 0.08, 3)
    radius = np.array(organ.radius) * np.exp(generator.normal(0, 0.15, 3))
    bend = organ.bend + generator.normal(0, 0.1)
    axis = (np.arange(SIDE) - (SIDE - 1) / 2) / (SIDE / 2)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    z, y, x = ((way - middle) / extent for way, middle, extent in zip((z, y, x), place, radius, strict=True))
    x = x - bend * (z**2 - 0.5) / radius[2]
    reach = np.sqrt(z**2 + y**2 + x**2)
    steep = 0.25 * SIDE * radius.min()
    outside = np.clip(0.5 + steep * (reach - 1), 0, 1)
    inside = np.clip(0.5 - steep * (reach - 0.6), 0, 1)
    surround = generator.normal(90, 15)
    tissue = organ.density + (organ.middle - organ.density) * inside + generator.normal(0, 10)
    volume = tissue + (surround - tissue) * outside
    volume += 12 * _cloud(generator) + generator.normal(0, 18, (SIDE, SIDE, SIDE))
    voxels: UInt8[np.ndarray, "28 28 28"] = np.clip(np.rint(volume), 0, 255).astype(np.uint8)
    return voxels


def make_organs(
    path: str | os.PathLike[str],
    *,
    seed: int = 42,
    counts: Mapping[str, int] = COUNTS,
) -> Path:
    """Write volumes of all eleven kinds as an .npz file in MedMNIST's layout.

    The arrays are `{train,val,test}_images`, uint8 (count, 28, 28, 28), and `{train,val,test}_labels`, uint8
    (count, 1). Each volume depends on the seed, its split and its number alone; the kinds take turns. The file appears
    whole or not at all, and replaces one that is there.

    Args:
        path: of the file; must end in `.npz`.
        seed: start of everything random.
        counts: volumes in each split; by default as many as OrganMNIST3D has.

    Returns:
        The path of the file.

    Raises:
        ConfigError: a path that does not end in `.npz`, or a negative count.

    Cost: about 1 ms and 15 kB a volume.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise ConfigError(f"volumes were to go to '{target}' - MedMNIST files end in .npz - add the ending.")
    if min(counts.values(), default=-1) < 0:
        raise ConfigError(f"counts must not be negative - found {dict(counts)} - give volumes for each split.")
    arrays: dict[str, np.ndarray] = {}
    for split, count in counts.items():
        labels = np.arange(count) % len(ORGANS)
        volumes = [
            draw_organ(list(ORGANS)[label], seed_clip("fake-organs", split, index, seed))
            for index, label in enumerate(labels)
        ]
        arrays[f"{split}_images"] = np.stack(volumes) if volumes else np.zeros((0, SIDE, SIDE, SIDE), np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    with write_whole(target) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return target
