"""Places made of materials: outdoors under a horizon, rooms, and materials side by side.

Each maker returns layers, back to front, to be laid over each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.training.materials import PAINTERS, Surface, facing, ground
from fgseg.training.textures import CLOUDY, FINE, axes, lookup
from fgseg.training.vocabulary import CLUTTER, MATERIALS, MAYBE

__all__ = ["Layer", "collage", "outdoors", "room", "side"]

Floats = NDArray[np.floating[Any]]
SOFT = ("grass", "sand", "snow", "dirt", "gravel")  # grounds one can walk on
HARD = ("road", "pavement", "concrete")
WET = ("sea", "river")
GROUNDS = SOFT + HARD + WET
UPRIGHT = ("wall", "brick wall", "stone wall", "wood", "tiles", "concrete")
FLOORS = ("wood", "tiles", "concrete", "pavement")


@dataclass(frozen=True)
class Layer:
    """One material somewhere.

    Attributes:
        material: a key of MATERIALS, or CLUTTER.
        color: (H, W, 3) what it looks like.
        coverage: (H, W) in [0, 1] where it is.
    """

    material: str
    color: Floats
    coverage: Floats


def outdoors(rng: np.random.Generator, image_hw: tuple[int, int]) -> list[Layer]:
    """Sky over a skyline over one to three grounds, with trees, buildings and clutter on them."""
    view = rng.choice(["level", "down", "up"], p=[0.76, 0.16, 0.08])
    horizon = {"level": rng.uniform(0.12, 0.78), "down": rng.uniform(-0.5, -0.05), "up": rng.uniform(1.0, 1.2)}[view]
    grounds = _grounds(rng, image_hw, horizon)
    used = [layer.material for layer in grounds]
    layers = [Layer("sky", PAINTERS["sky"](rng, facing(rng, image_hw)), np.ones(image_hw, np.float32))]
    layers += _skyline(rng, image_hw, horizon, used)
    layers += [layer for layer in grounds if horizon < 1]
    used = [layer.material for layer in layers]
    if "tree" not in used and _fits("tree", used) and rng.random() < 0.5:
        layers += [_standing_tree(rng, image_hw, horizon) for _ in range(rng.integers(1, 4))]
    elif _fits("bush", used) and rng.random() < 0.4:
        layers += [_bush(rng, image_hw, horizon) for _ in range(rng.integers(1, 3))]
    if rng.random() < 0.6:
        layers += [_clutter(rng, image_hw, horizon) for _ in range(rng.integers(1, 5))]
    return layers


def room(rng: np.random.Generator, image_hw: tuple[int, int]) -> list[Layer]:
    """One or two walls over a floor, with clutter before them."""
    walls = _choose(rng, UPRIGHT, [], int(rng.integers(1, 3)))
    layers = [Layer(walls[0], PAINTERS[walls[0]](rng, facing(rng, image_hw)), np.ones(image_hw, np.float32))]
    if len(walls) > 1:
        layers.append(Layer(walls[1], PAINTERS[walls[1]](rng, facing(rng, image_hw)), side(rng, image_hw)))
    if rng.random() < 0.75:
        (floor,) = _choose(rng, FLOORS, walls, 1) or [""]
        if floor:
            top = rng.uniform(0.45, 0.9)
            surface = ground(rng, image_hw, top - rng.uniform(0.2, 0.5))
            layers.append(Layer(floor, PAINTERS[floor](rng, surface), _below(image_hw, top, rng.normal(0, 0.08))))
    return layers + [_clutter(rng, image_hw, 0.3) for _ in range(rng.integers(0, 5))]


def collage(rng: np.random.Generator, image_hw: tuple[int, int]) -> list[Layer]:
    """Two to four materials side by side, in no natural order."""
    layers = []
    for index, material in enumerate(_choose(rng, tuple(MATERIALS), [], int(rng.integers(2, 5)))):
        flat = material in GROUNDS and rng.random() < 0.5
        surface = ground(rng, image_hw, rng.uniform(-0.8, -0.1)) if flat else facing(rng, image_hw)
        coverage = side(rng, image_hw) if index else np.ones(image_hw, np.float32)
        layers.append(Layer(material, PAINTERS[material](rng, surface), coverage))
    return layers


def _fits(material: str, used: Sequence[str]) -> bool:
    """Whether no word of either could be meant for the other."""
    return all(
        material != other
        and not set(MATERIALS[material]) & {*MATERIALS[other], *MAYBE.get(other, ())}
        and not set(MATERIALS[other]) & set(MAYBE.get(material, ()))
        for other in used
        if other != CLUTTER
    )


def _choose(rng: np.random.Generator, among: Sequence[str], used: Sequence[str], count: int) -> list[str]:
    """Up to `count` materials that can be told from each other and from `used`."""
    chosen: list[str] = []
    for index in rng.permutation(len(among)):
        if len(chosen) < count and _fits(among[index], [*used, *chosen]):
            chosen.append(among[index])
    return chosen


# --- grounds


def _grounds(rng: np.random.Generator, image_hw: tuple[int, int], horizon: float) -> list[Layer]:
    surface = ground(rng, image_hw, horizon)
    flat = np.broadcast_to(_below(image_hw, horizon, 0.0), image_hw)
    plan = rng.choice(["one", "street", "shore", "path"], p=[0.3, 0.35, 0.12, 0.23])
    if plan == "street":
        return _street(rng, surface, flat)
    first = (
        ["sand", "grass", "dirt", "snow"][rng.integers(4)] if plan == "shore" else GROUNDS[rng.integers(len(GROUNDS))]
    )
    layers = [Layer(first, PAINTERS[first](rng, surface), flat)]
    if plan == "one":
        return layers
    others = _choose(rng, WET if plan == "shore" else SOFT + HARD, [first], 1)
    for second in others:
        bend = lookup(rng, CLOUDY, surface.u * 0.1, surface.v * 0.1) * 0.4
        if plan == "shore":
            inside = (surface.v - rng.uniform(1.0, 5.0) + bend) * 3
        else:
            slope, width = rng.normal(0, 0.5), rng.uniform(0.3, 1.5)
            inside = width - np.abs(surface.u - slope * surface.v - rng.normal(0, 1) + bend)
        layers.append(Layer(second, PAINTERS[second](rng, surface), _sharp(inside, surface) * flat))
    return layers


def _street(rng: np.random.Generator, s: Surface, flat: Floats) -> list[Layer]:
    """A road with a pavement on one or both sides, and something softer beyond."""
    heading = s.u - rng.normal(0, 0.35) * s.v - rng.normal(0, 1.0)
    turned = Surface(heading, s.v, s.grain, s.rise)
    beyond = [*_choose(rng, SOFT, ["road", "pavement"], 1), "road"][0]
    layers = [Layer(beyond, PAINTERS[beyond](rng, s), flat)]
    half, side = rng.uniform(0.9, 3.5), rng.uniform(0.5, 2.5)
    if rng.random() < 0.8:
        to = half + side if rng.random() < 0.5 else half + 30
        strip = to - np.abs(heading) if rng.random() < 0.6 else np.minimum(to - heading, heading + half)
        layers.append(Layer("pavement", PAINTERS["pavement"](rng, turned), _sharp(strip, s) * flat))
    layers.append(Layer("road", PAINTERS["road"](rng, turned), _sharp(half - np.abs(heading), s) * flat))
    return layers


def _sharp(inside: Floats, s: Surface) -> Floats:
    """Coverage from a distance along the ground, a pixel or so wide at the edge wherever it is seen."""
    return np.clip(inside / np.maximum(0.012 * s.v, 1e-3) + 0.5, 0, 1)


# --- what stands


def _skyline(rng: np.random.Generator, image_hw: tuple[int, int], horizon: float, used: Sequence[str]) -> list[Layer]:
    layers: list[Layer] = []
    for material in ("mountain", "building", "tree", "bush", "wall", "brick wall", "stone wall"):
        odds = {"mountain": 0.22, "building": 0.35, "tree": 0.6, "bush": 0.3}.get(material, 0.06)
        taken = ["sky", *used, *(layer.material for layer in layers)]
        if rng.random() > odds or not _fits(material, taken):
            continue
        tall = {"mountain": 0.25, "building": 0.45, "tree": 0.5, "bush": 0.12}.get(material, 0.3) * rng.uniform(
            0.3, 1.5
        )
        top = _rooftops(rng, image_hw, tall) if material == "building" else _ridge(rng, image_hw, material, tall)
        y, _ = axes(image_hw)
        rise = (top + horizon - 0.5) * image_hw[0] / min(image_hw)
        coverage = np.clip((y - rise) * min(image_hw) + 0.5, 0, 1)
        layers.append(
            Layer(material, PAINTERS[material](rng, facing(rng, image_hw)), np.broadcast_to(coverage, image_hw))
        )
    return layers


def _ridge(rng: np.random.Generator, image_hw: tuple[int, int], material: str, tall: float) -> Floats:
    """(1, W): how far above the horizon the outline is, as a negative share of the height; gaps for trees."""
    _, x = axes(image_hw)
    zero = np.zeros_like(x)
    smooth = lookup(rng, CLOUDY, x * 0.25, zero) * 0.5
    rough = lookup(rng, FINE, x * 0.5, zero) * (0.12 if material == "tree" else 0.03)
    if "wall" in material:
        return np.full_like(x, -tall)
    gap = -0.6 if material in ("tree", "bush") and rng.random() < 0.6 else 0.15
    return np.minimum(-tall * np.maximum(1 + smooth + rough, gap), 0.02 if gap < 0 else -0.01)


def _rooftops(rng: np.random.Generator, image_hw: tuple[int, int], tall: float) -> Floats:
    """(1, W): the flat tops of a row of houses, some of the street left open."""
    cuts = np.sort(rng.integers(0, image_hw[1], rng.integers(1, 6)))
    heights = -tall * rng.uniform(0.4, 1.3, len(cuts) + 1)
    heights[rng.random(len(heights)) < 0.25] = 0.02
    return heights[np.searchsorted(cuts, np.arange(image_hw[1]))][None].astype(np.float32)


def _standing_tree(rng: np.random.Generator, image_hw: tuple[int, int], horizon: float) -> Layer:
    y, x = axes(image_hw)
    foot = (np.clip(horizon, 0.2, 0.9) - 0.5 + rng.uniform(0.02, 0.3)) * image_hw[0] / min(image_hw)
    size = rng.uniform(0.12, 0.45)
    middle = rng.uniform(-0.5, 0.5) * image_hw[1] / min(image_hw)
    crown = foot - size * rng.uniform(1.2, 2.0)
    shape = 1 - np.hypot((x - middle) / size, (y - crown) / (size * rng.uniform(0.8, 1.4)))
    ragged = shape + 0.22 * lookup(rng, FINE, x * 0.6, y * 0.6) + 0.2 * lookup(rng, CLOUDY, x * 0.7, y * 0.7)
    leaves = np.clip(ragged * size * min(image_hw) * 0.3 + 0.5, 0, 1)
    thick = size * rng.uniform(0.06, 0.14)
    trunk = (np.abs(x - middle) < thick) & (y > crown) & (y < foot)
    bark = np.array([0.24, 0.18, 0.13], np.float32) * rng.uniform(0.5, 1.6)
    surface = facing(rng, image_hw)
    rough = bark * (1 + 0.2 * lookup(rng, FINE, surface.u, surface.v * 0.3)[..., None])
    color = np.where((trunk & (leaves < 0.5))[..., None], rough, PAINTERS["tree"](rng, surface))
    return Layer("tree", color, np.maximum(leaves, trunk.astype(np.float32)))


def _bush(rng: np.random.Generator, image_hw: tuple[int, int], horizon: float) -> Layer:
    y, x = axes(image_hw)
    foot = (np.clip(horizon, 0.2, 0.9) - 0.5 + rng.uniform(0.0, 0.35)) * image_hw[0] / min(image_hw)
    wide, tall = rng.uniform(0.1, 0.5), rng.uniform(0.06, 0.2)
    middle = rng.uniform(-0.5, 0.5) * image_hw[1] / min(image_hw)
    shape = 1 - np.maximum(np.abs((x - middle) / wide) ** 3, 0) ** 0.5 - np.maximum((foot - tall - y) / tall, 0) ** 2
    ragged = shape + 0.15 * lookup(rng, FINE, x * 0.6, y * 0.6)
    coverage = np.clip(ragged * tall * min(image_hw) * 0.5 + 0.5, 0, 1) * (y < foot)
    return Layer("bush", PAINTERS["bush"](rng, facing(rng, image_hw)), coverage.astype(np.float32))


def _clutter(rng: np.random.Generator, image_hw: tuple[int, int], horizon: float) -> Layer:
    """Something without a name here, a person, a car, a lamp: one to four rounded parts of any colour."""
    y, x = axes(image_hw)
    size = rng.uniform(0.04, 0.3)
    foot = (np.clip(horizon, 0.1, 0.8) - 0.5 + rng.uniform(0.0, 0.5)) * image_hw[0] / min(image_hw)
    middle = rng.uniform(-0.55, 0.55) * image_hw[1] / min(image_hw)
    color = np.zeros((*image_hw, 3), np.float32)
    coverage = np.zeros(image_hw, np.float32)
    for _ in range(rng.integers(1, 5)):
        half_h, half_w = size * rng.uniform(0.15, 0.6, 2)
        cy, cx = foot - half_h - rng.uniform(0, 1) * size, middle + rng.normal(0, 0.3) * size
        power = rng.choice([2.0, 4.0, 10.0])
        inside = 1 - (np.abs((y - cy) / half_h) ** power + np.abs((x - cx) / half_w) ** power)
        part = np.clip(inside * min(half_h, half_w) * min(image_hw) * 0.5 + 0.5, 0, 1)
        light = 1 + rng.uniform(-0.6, 0.6) * (y - cy) / half_h + 0.1 * lookup(rng, FINE, x, y)
        tint = rng.random(3) * rng.uniform(0.2, 1.0)
        color = color + part[..., None] * (np.clip(light, 0.2, 1.6)[..., None] * tint - color)
        coverage = np.maximum(coverage, part)
    return Layer(CLUTTER, color, coverage)


def _below(image_hw: tuple[int, int], top: float, tilt: float) -> Floats:
    """(H, W) coverage of what lies below a line at `top`, a share of the height."""
    y, x = axes(image_hw)
    line = (top - 0.5) * image_hw[0] / min(image_hw)
    return np.clip((y - line - tilt * x) * min(image_hw) + 0.5, 0, 1)


def side(rng: np.random.Generator, image_hw: tuple[int, int]) -> Floats:
    """Coverage of one side of a bent line somewhere."""
    y, x = axes(image_hw)
    turn, shift = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.2)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    bend = rng.uniform(0, 0.08) * np.sin(along * rng.uniform(2, 12))
    return np.clip((across + bend - shift) * min(image_hw) + 0.5, 0, 1).astype(np.float32)
