"""Materials that resemble photographs, computed from noise textures and simple models of light.

Each painter takes a random generator and a Surface, and returns (H, W, 3) float32 sRGB, roughly in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.scenes.textures import CLOUDY, FINE, STREAKY, axes, cells, lookup

__all__ = ["PAINTERS", "Surface", "facing", "ground"]

Floats = NDArray[np.floating[Any]]
Painter = Callable[[np.random.Generator, "Surface"], Floats]


@dataclass(frozen=True)
class Surface:
    """The projection of a plane into the picture.

    Attributes:
        u: (H, W) coordinate to the right; one unit is about the height of a person.
        v: (H, W) coordinate upwards on a wall, and away from the viewer on the ground.
        grain: (H, W) in [0, 1], how much of the fine structure is visible at that distance.
        rise: (H, W) from 0 at the bottom of the picture to 1 at its top.
    """

    u: Floats
    v: Floats
    grain: Floats
    rise: Floats


def facing(rng: np.random.Generator, image_hw: tuple[int, int]) -> Surface:
    """A wall or a canopy that faces the viewer, or nearly so."""
    y, x = axes(image_hw)
    scale = rng.uniform(0.6, 3.0)
    slant = 1 + rng.normal(0, 0.15) * x
    u, v = np.broadcast_arrays(x * scale * slant, -y * scale * slant)
    grain = np.full(image_hw, np.clip(2.5 / scale, 0.5, 1), np.float32)
    return Surface(u, v, grain, _rise(image_hw))


def ground(rng: np.random.Generator, image_hw: tuple[int, int], horizon: float) -> Surface:
    """The ground below a horizon at `horizon`, a fraction of the height from the top; may be negative."""
    y, x = axes(image_hw)
    below = np.maximum(y + image_hw[0] / 2 / min(image_hw) - horizon * image_hw[0] / min(image_hw), 0.012)
    eye = rng.uniform(0.35, 0.9)
    distance = eye / below
    u, v = np.broadcast_arrays(x * distance, distance + 0 * x)
    grain = np.broadcast_to(np.clip(0.9 / distance, 0, 1), image_hw).astype(np.float32)
    return Surface(u.astype(np.float32), v.astype(np.float32), grain, _rise(image_hw))


def _rise(image_hw: tuple[int, int]) -> Floats:
    return np.broadcast_to(np.linspace(1, 0, image_hw[0], dtype=np.float32)[:, None], image_hw)


def _between(rng: np.random.Generator, low: tuple[float, ...], high: tuple[float, ...]) -> Floats:
    """A colour between two, with a little noise."""
    share = rng.random()
    mixed = np.array(low) + (np.array(high) - np.array(low)) * share + rng.normal(0, 0.02, 3)
    return np.clip(mixed, 0, 1).astype(np.float32)


def _mix(first: Floats, second: Floats, share: Floats) -> Floats:
    share = np.clip(share, 0, 1)[..., None]
    return first * (1 - share) + second * share


def _toned(color: Floats, tone: Floats) -> Floats:
    """The colour, lighter or darker by the relative amount `tone`."""
    return color * (1 + tone[..., None])


def _clouds(rng: np.random.Generator, s: Surface, scale: float) -> Floats:
    return lookup(rng, CLOUDY, s.u * scale, s.v * scale)


def _sky(rng: np.random.Generator, s: Surface) -> Floats:
    kind = rng.choice(["clear", "cloudy", "overcast", "dusk"], p=[0.35, 0.35, 0.24, 0.06])
    if kind == "overcast":
        grey = _between(rng, (0.62, 0.66, 0.70), (0.97, 0.97, 0.98))
        return _toned(grey, _clouds(rng, s, 0.3) * rng.uniform(0, 0.06) + (s.rise - 0.5) * rng.uniform(-0.2, 0.1))
    zenith = _between(rng, (0.10, 0.30, 0.68), (0.50, 0.72, 0.95))
    low = _between(rng, (0.62, 0.78, 0.92), (0.93, 0.95, 0.97))
    if kind == "dusk":
        zenith = _between(rng, (0.15, 0.18, 0.35), (0.45, 0.4, 0.55))
        low = _between(rng, (0.95, 0.5, 0.25), (0.98, 0.8, 0.6))
    sky = _mix(low, zenith, s.rise ** rng.uniform(0.6, 1.6))
    if kind == "clear" and rng.random() < 0.7:
        return sky
    flat = lookup(rng, CLOUDY, s.u * 0.25, s.v * rng.uniform(0.3, 0.8))
    thick = np.clip((flat - rng.uniform(-0.6, 1.0)) * rng.uniform(0.6, 2.0), 0, 1)
    cloud = _toned(_between(rng, (0.75, 0.76, 0.8), (1, 1, 1)), -0.15 * np.clip(thick - 0.6, 0, 1))
    return _mix(sky, cloud, thick)


def _grass(rng: np.random.Generator, s: Surface) -> Floats:
    kind = rng.choice(["lawn", "meadow", "dry"], p=[0.3, 0.45, 0.25])
    color = {
        "lawn": _between(rng, (0.16, 0.30, 0.07), (0.52, 0.68, 0.27)),
        "meadow": _between(rng, (0.10, 0.16, 0.06), (0.50, 0.58, 0.28)),
        "dry": _between(rng, (0.36, 0.34, 0.16), (0.68, 0.61, 0.38)),
    }[kind]
    dry = _between(rng, (0.50, 0.48, 0.22), (0.62, 0.58, 0.34))
    field = _mix(color, dry, 0.1 + _clouds(rng, s, 0.13) * rng.uniform(0.03, 0.25))
    blades = lookup(rng, STREAKY, s.u * 1.2, s.v * 0.5) * 0.5 + lookup(rng, FINE, s.u * 0.9, s.v * 0.6) * 0.7
    strength = rng.uniform(0.02, 0.12) if kind == "lawn" else rng.uniform(0.08, 0.36)
    field = _toned(field, blades * s.grain * strength + _clouds(rng, s, 0.3) * rng.uniform(0.02, 0.1))
    if kind == "lawn" and rng.random() < 0.25:  # mowing stripes
        field = _toned(field, np.sign(np.sin(s.u * rng.uniform(1.5, 4))) * rng.uniform(0.02, 0.08))
    if rng.random() < 0.3:  # fallen leaves
        litter = lookup(rng, FINE, s.u * 0.5, s.v * 0.5) - rng.uniform(0.4, 1.6)
        brown = _between(rng, (0.35, 0.24, 0.14), (0.70, 0.55, 0.36))
        return _mix(field, brown, litter * 2 * np.clip(s.grain, 0.3, 1))
    return field


def _leaves(rng: np.random.Generator, s: Surface, size: float) -> Floats:
    """Clumps of leaves, lit from above and dark between the clumps."""
    clump = lookup(rng, CLOUDY, s.u * 0.35 / size, s.v * 0.35 / size)
    leaf = lookup(rng, FINE, s.u * 0.35 / size, s.v * 0.35 / size)
    light = clump * rng.uniform(0.4, 0.9) + leaf * rng.uniform(0.4, 0.9)
    dark = _between(rng, (0.03, 0.05, 0.02), (0.12, 0.15, 0.07))
    lit = _between(rng, (0.22, 0.32, 0.08), (0.66, 0.74, 0.42))
    if rng.random() < 0.15:
        lit = _between(rng, (0.45, 0.25, 0.08), (0.72, 0.55, 0.2))  # autumn
    return _mix(dark, lit, 0.35 + rng.uniform(-0.15, 0.25) + light * 0.38)


def _tree(rng: np.random.Generator, s: Surface) -> Floats:
    return _leaves(rng, s, rng.uniform(0.7, 2.0))


def _bush(rng: np.random.Generator, s: Surface) -> Floats:
    return _toned(_leaves(rng, s, rng.uniform(0.4, 0.8)), np.float32(0.15) + 0 * s.u)


def _water(rng: np.random.Generator, s: Surface, near: Floats, far: Floats, swell: float) -> Floats:
    depth = np.clip(s.v / 10, 0, 1)
    ripples = lookup(rng, STREAKY, s.v * 0.8, s.u * 0.12) + 0.6 * lookup(rng, FINE, s.u * 0.12, s.v * 0.5)
    water = _toned(_mix(near, far, depth), ripples * swell * (0.35 + 0.65 * s.grain))
    if rng.random() < 0.3:
        water = _mix(water, np.ones(3, np.float32), np.clip(ripples - rng.uniform(1.6, 2.4), 0, 1) * 1.5)
    return water


def _sea(rng: np.random.Generator, s: Surface) -> Floats:
    near = _between(rng, (0.10, 0.28, 0.38), (0.40, 0.58, 0.64))
    return _water(rng, s, near, _between(rng, (0.20, 0.38, 0.58), (0.60, 0.72, 0.82)), rng.uniform(0.06, 0.2))


def _river(rng: np.random.Generator, s: Surface) -> Floats:
    near = _between(rng, (0.16, 0.20, 0.16), (0.42, 0.46, 0.44))
    return _water(rng, s, near, _between(rng, (0.34, 0.40, 0.40), (0.70, 0.76, 0.80)), rng.uniform(0.04, 0.16))


def _sand(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.62, 0.52, 0.38), (0.88, 0.80, 0.66))
    ripple = lookup(rng, STREAKY, s.v * 0.5, s.u * 0.1) * s.grain * rng.uniform(0, 0.08)
    fine = lookup(rng, FINE, s.u * 0.8, s.v * 0.8) * s.grain * rng.uniform(0.02, 0.07)
    return _toned(color, ripple + fine + _clouds(rng, s, 0.15) * 0.05)


def _snow(rng: np.random.Generator, s: Surface) -> Floats:
    white = _between(rng, (0.78, 0.82, 0.90), (0.98, 0.98, 1.0))
    drift = _clouds(rng, s, 0.12) * rng.uniform(0.01, 0.08) + lookup(rng, FINE, s.u * 0.4, s.v * 0.4) * s.grain * 0.02
    shade = np.clip(-drift * 6, 0, 1)
    return _mix(_toned(white, drift), white * np.array([0.72, 0.80, 0.95], np.float32), shade * 0.5)


def _dirt(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.30, 0.21, 0.14), (0.66, 0.52, 0.38))
    clods = _clouds(rng, s, 0.4) * rng.uniform(0.05, 0.15)
    fine = lookup(rng, FINE, s.u * 0.5, s.v * 0.5) * s.grain * rng.uniform(0.06, 0.18)
    return _toned(color, clods + fine)


def _gravel(rng: np.random.Generator, s: Surface) -> Floats:
    stones = cells(rng, s.u * 0.8, s.v * 0.8)
    color = _between(rng, (0.35, 0.33, 0.30), (0.68, 0.66, 0.63))
    return _toned(color, (stones.tone * 0.28 - np.exp(-stones.edge * 6) * 0.5) * s.grain)


def _road(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.20, 0.20, 0.22), (0.56, 0.55, 0.54))
    fine = lookup(rng, FINE, s.u * 1.2, s.v * 1.2) * s.grain * rng.uniform(0.03, 0.12)
    wear = lookup(rng, STREAKY, s.u * 0.25, s.v * 0.02) * rng.uniform(0, 0.07) + _clouds(rng, s, 0.1) * 0.04
    road = _toned(color, fine + wear)
    if rng.random() < 0.5:
        lane = np.mod(s.u + rng.random(), rng.uniform(1.0, 2.5))
        dashed = (np.mod(s.v + rng.random() * 3, 3.0) < 1.6) | (rng.random() < 0.4)
        paint = (0.95, 0.95, 0.92) if rng.random() < 0.7 else (0.85, 0.68, 0.2)
        road = _mix(road, np.array(paint, np.float32), ((lane < 0.07) & dashed) * 0.85)
    return road


def _joints(u: Floats, v: Floats, width: float, shift: float) -> tuple[Floats, Floats]:
    """Rows of 1 x 1 slabs or bricks: (H, W) 1 in the joints and 0 elsewhere, and (H, W) a tone in [-1, 1] per slab."""
    row = np.floor(v)
    across = u + shift * np.mod(row, 2)
    to_edge = np.minimum(np.abs(across - np.round(across)), np.abs(v - np.round(v)))
    return np.clip((width - to_edge) / width * 2, 0, 1), _cell_noise(row, np.floor(across)) * 2 - 1


def _cell_noise(row: Floats, column: Floats) -> Floats:
    """A pseudo-random value in [0, 1) per cell."""
    return np.mod(np.sin(column * 12.9898 + row * 78.233) * 43758.5453, 1)


def _pavement(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.45, 0.43, 0.40), (0.80, 0.77, 0.72))
    if rng.random() < 0.2:
        color = _between(rng, (0.50, 0.32, 0.26), (0.68, 0.50, 0.42))  # red bricks
    size = rng.uniform(1.0, 2.5) if rng.random() < 0.6 else rng.uniform(3.5, 7)
    joint, tone = _joints(s.u * size, s.v * size * rng.uniform(0.6, 1.2), 0.05, rng.choice([0, 0.5]))
    fine = lookup(rng, FINE, s.u, s.v) * s.grain * rng.uniform(0.02, 0.07)
    return _toned(color, fine + tone * s.grain * rng.uniform(0.02, 0.1) - joint * s.grain * rng.uniform(0.15, 0.5))


def _concrete(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.42, 0.42, 0.41), (0.78, 0.77, 0.74))
    stains = _clouds(rng, s, 0.35) * rng.uniform(0.03, 0.09) + lookup(rng, STREAKY, s.u * 0.4, s.v * 0.4) * 0.03
    return _toned(color, stains + lookup(rng, FINE, s.u, s.v) * s.grain * 0.03)


def _rock(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.28, 0.26, 0.24), (0.66, 0.60, 0.54))
    warp = _clouds(rng, s, 0.3) * 0.05
    facets = cells(rng, s.u * 0.10 + warp, s.v * 0.16 + warp)
    cracks = np.exp(-facets.edge * 9) * rng.uniform(0.3, 0.8)
    rough = lookup(rng, FINE, s.u * 0.4, s.v * 0.4) * rng.uniform(0.06, 0.16)
    return _toned(color, facets.tone * rng.uniform(0.15, 0.35) + rough - cracks)


def _mountain(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.22, 0.30, 0.22), (0.50, 0.46, 0.42))
    haze = _between(rng, (0.50, 0.58, 0.68), (0.72, 0.78, 0.86))
    ridges = np.abs(lookup(rng, CLOUDY, s.u * 0.5, s.v * 0.3)) - 0.8
    slope = _toned(color, ridges * rng.uniform(0.1, 0.35) + lookup(rng, FINE, s.u * 0.5, s.v * 0.5) * 0.06)
    return _mix(slope, haze, np.float32(rng.uniform(0, 0.75)) + 0 * s.u)


def _stone_wall(rng: np.random.Generator, s: Surface) -> Floats:
    warp = _clouds(rng, s, 0.5) * 0.01
    stones = cells(rng, s.u * 0.16 + warp, s.v * 0.24 + warp)
    color = _between(rng, (0.36, 0.33, 0.29), (0.68, 0.63, 0.56))
    mortar = _between(rng, (0.20, 0.19, 0.17), (0.75, 0.72, 0.66))
    face = _toned(color, stones.tone * rng.uniform(0.12, 0.3) + lookup(rng, FINE, s.u * 0.5, s.v * 0.5) * 0.08)
    return _mix(face, mortar, np.exp(-stones.edge * 9))


def _brick_wall(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.38, 0.17, 0.12), (0.72, 0.42, 0.32))
    if rng.random() < 0.25:
        color = _between(rng, (0.55, 0.47, 0.38), (0.90, 0.88, 0.84))
    mortar = _between(rng, (0.45, 0.42, 0.38), (0.85, 0.82, 0.78))
    size = rng.uniform(2, 5)
    joint, tone = _joints(s.u * size, s.v * size * 2.6, 0.07, 0.5)
    uneven = tone * rng.uniform(0.05, 0.22) + lookup(rng, FINE, s.u, s.v) * 0.06 + _clouds(rng, s, 0.2) * 0.05
    return _mix(_toned(color, uneven), mortar, joint)


def _wood(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.26, 0.15, 0.08), (0.80, 0.62, 0.42))
    along, across = (s.v, s.u) if rng.random() < 0.5 else (s.u, s.v)
    size = rng.uniform(2, 7)
    joint, tone = _joints(along * 0.3, across * size, 0.03, 0.37)
    grain = lookup(rng, STREAKY, across * 0.9, along * 0.12 + np.floor(across * size) * 0.37)
    return _toned(
        color, grain * rng.uniform(0.06, 0.2) + tone * rng.uniform(0.02, 0.14) - joint * rng.uniform(0.2, 0.6)
    )


def _tiles(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.75, 0.75, 0.75), (0.97, 0.97, 0.96)) if rng.random() < 0.6 else rng.random(3) * 0.8 + 0.1
    grout = _between(rng, (0.35, 0.34, 0.33), (0.88, 0.87, 0.85))
    size = rng.uniform(1.5, 5)
    joint, tone = _joints(s.u * size, s.v * size, 0.03, 0)
    shine = _clouds(rng, s, 0.15) * rng.uniform(0, 0.08)
    return _mix(_toned(color.astype(np.float32), shine + tone * rng.uniform(0, 0.06)), grout, joint)


def _wall(rng: np.random.Generator, s: Surface) -> Floats:
    color = _between(rng, (0.60, 0.56, 0.50), (0.96, 0.95, 0.92)) if rng.random() < 0.6 else rng.random(3) * 0.6 + 0.3
    light = (s.rise - 0.5) * rng.normal(0, 0.25) + s.u * rng.normal(0, 0.12) + _clouds(rng, s, 0.08) * 0.02
    return _toned(color.astype(np.float32), light + lookup(rng, FINE, s.u, s.v) * rng.uniform(0, 0.02))


def _building(rng: np.random.Generator, s: Surface) -> Floats:
    base = rng.choice(["light", "brick", "grey"])
    low, high = {
        "light": ((0.62, 0.55, 0.45), (0.92, 0.88, 0.80)),
        "brick": ((0.40, 0.22, 0.17), (0.68, 0.46, 0.36)),
        "grey": ((0.30, 0.32, 0.35), (0.70, 0.71, 0.72)),
    }[base]
    front = _toned(_between(rng, low, high), _clouds(rng, s, 0.2) * 0.05 + lookup(rng, FINE, s.u, s.v) * 0.03)
    floors, bays = rng.uniform(1.2, 4), rng.uniform(1.5, 5)
    tall, wide = rng.uniform(0.45, 0.75), rng.uniform(0.4, 0.75)
    up, along = np.mod(s.v * floors, 1), np.mod(s.u * bays, 1)
    window = (up < tall) & (along < wide)
    tone = _cell_noise(np.floor(s.u * bays), np.floor(s.v * floors))
    glass = _toned(_between(rng, (0.08, 0.09, 0.11), (0.45, 0.55, 0.65)), tone * rng.uniform(0, 0.9))
    frame = window & ((up < 0.06) | (up > tall - 0.05) | (along < 0.05) | (along > wide - 0.05))
    front = _mix(front, glass, window.astype(np.float32))
    return _mix(front, _between(rng, (0.2, 0.2, 0.2), (0.95, 0.95, 0.93)), frame * 0.8)


PAINTERS: dict[str, Painter] = {
    "sky": _sky, "grass": _grass, "tree": _tree, "bush": _bush, "sea": _sea, "river": _river, "sand": _sand,
    "snow": _snow, "dirt": _dirt, "gravel": _gravel, "road": _road, "pavement": _pavement, "concrete": _concrete,
    "rock": _rock, "mountain": _mountain, "stone wall": _stone_wall, "brick wall": _brick_wall, "wood": _wood,
    "tiles": _tiles, "wall": _wall, "building": _building,
}  # fmt: skip
