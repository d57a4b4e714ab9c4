"""Periodic noise to draw surfaces with: made once, looked up at any coordinates."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["CLOUDY", "FINE", "SIDE", "STREAKY", "Cells", "axes", "cells", "crop", "lookup"]

Floats = NDArray[np.floating[Any]]
SIDE = 512
CLOUDY, STREAKY, FINE = 0, 1, 2
_CELLS = 700  # in a tile


def axes(image_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Pixel centres (H, 1) and (1, W), in units of the shorter side, zero in the middle."""
    height, width = image_hw
    short = min(image_hw)
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / short
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / short
    return y[:, None], x[None, :]


@lru_cache(maxsize=1)
def _bank() -> tuple[Floats, ...]:
    """1/f noise, zero mean and unit variance: cloudy, streaky along v (wood, blades), and fine."""
    rng = np.random.default_rng(20250505)
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :]
    bank = []
    for squeeze, power in ((1.0, 1.6), (8.0, 1.3), (1.0, 0.7)):
        falloff = np.maximum(np.hypot(fy * squeeze, fx), 1 / SIDE) ** -power
        waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIDE, SIDE))) * falloff).real
        bank.append(((waves - waves.mean()) / waves.std()).astype(np.float32))
    return tuple(bank)


def crop(rng: np.random.Generator, image_hw: tuple[int, int], kind: int) -> Floats:
    """(H, W) of noise a pixel a texel, from anywhere in the tile, turned a quarter at random."""
    bank = _bank()[kind]
    bank = bank.T if rng.random() < 0.5 else bank
    rows = (rng.integers(SIDE) + np.arange(image_hw[0])) % SIDE
    columns = (rng.integers(SIDE) + np.arange(image_hw[1])) % SIDE
    return bank[rows[:, None], columns]


def lookup(rng: np.random.Generator, kind: int, u: Floats, v: Floats) -> Floats:
    """(H, W) of noise at texture coordinates, a tile a unit, from a random origin."""
    return _at(_bank()[kind], u + rng.random(), v + rng.random(), cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Cells:
    """Irregular cells, as of pebbles or rubble.

    Attributes:
        edge: (H, W) from 0 at a border between two cells upwards, in widths of a cell.
        tone: (H, W) in [-1, 1], one value a cell.
    """

    edge: Floats
    tone: Floats


@lru_cache(maxsize=1)
def _cell_bank() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(20250506)
    points = rng.random((_CELLS, 2)) * SIDE
    shifts = np.array([(dy, dx) for dy in (-SIDE, 0, SIDE) for dx in (-SIDE, 0, SIDE)])
    tree = cKDTree((points[None] + shifts[:, None]).reshape(-1, 2))
    pixels = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).reshape(-1, 2) + 0.5
    distance, nearest = tree.query(pixels, k=2)
    edge = (distance[:, 1] - distance[:, 0]) / (SIDE / np.sqrt(_CELLS))
    tone = rng.uniform(-1, 1, _CELLS)[nearest[:, 0] % _CELLS]
    return edge.reshape(SIDE, SIDE).astype(np.float32), tone.reshape(SIDE, SIDE).astype(np.float32)


def cells(rng: np.random.Generator, u: Floats, v: Floats) -> Cells:
    """Cells at texture coordinates, 26 or so a unit."""
    edge, tone = _cell_bank()
    u, v = u + rng.random(), v + rng.random()
    return Cells(_at(edge, u, v, cv2.INTER_LINEAR), _at(tone, u, v, cv2.INTER_NEAREST))


def _at(tile: Floats, u: Floats, v: Floats, interpolation: int) -> Floats:
    u, v = (_wrapped(part * SIDE) for part in np.broadcast_arrays(u, v))
    return np.asarray(cv2.remap(tile, u, v, interpolation, borderMode=cv2.BORDER_WRAP), np.float32)


def _wrapped(texels: Floats) -> Floats:
    """Modulo SIDE: exact, since SIDE is a power of two, and several times as fast as np.mod."""
    return (texels - SIDE * np.floor(texels / SIDE)).astype(np.float32)
