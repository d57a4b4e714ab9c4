"""Scenes of materials: outdoors with a horizon, rooms, and materials side by side.

Each public function but `side` returns layers from back to front.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.scenes.materials import PAINTERS, Surface, facing, ground
from fgseg.scenes.textures import CLOUDY, FINE, STREAKY, axes, lookup
from fgseg.scenes.trees import bare_tree, crown
from fgseg.scenes.vocabulary import CLUTTER, MATERIALS, MAYBE

__all__ = ["Layer", "collage", "outdoors", "room", "side"]

Floats = NDArray[np.floating[Any]]
SOFT = ("grass", "sand", "snow", "dirt", "gravel")
HARD = ("road", "pavement", "concrete")
WET = ("sea", "river")
GROUNDS = SOFT + HARD + WET
UPRIGHT = ("wall", "brick wall", "stone wall", "wood", "tiles", "concrete")
FLOORS = ("wood", "tiles", "concrete", "pavement")
SKYLINE: dict[str, tuple[float, float]] = {  # probability on the horizon, and usual height as a share of the picture's
    "mountain": (0.22, 0.25), "building": (0.35, 0.45), "tree": (0.6, 0.5), "bush": (0.3, 0.12),
    "wall": (0.06, 0.3), "brick wall": (0.06, 0.3), "stone wall": (0.06, 0.3),
}  # fmt: skip
WINTER = 0.15  # share of outdoor scenes where trees have no leaves
SHADED = 0.35  # share of outdoor scenes with shadows on the ground
MISTY = 0.15  # share of outdoor scenes with a pale skyline


@dataclass(frozen=True)
class Layer:
    """One material in the picture.

    Attributes:
        material: a key of MATERIALS, or CLUTTER.
        color: (H, W, 3) colour.
        coverage: (H, W) in [0, 1], the share of each pixel that it covers.
        extent: (H, W) in [0, 1], above 0.5 at the pixels that get its label; None for those it covers by more than
            half. The crown of a bare tree includes the sky between its twigs.
    """

    material: str
    color: Floats
    coverage: Floats
    extent: Floats | None = None


def outdoors(rng: np.random.Generator, image_hw: tuple[int, int]) -> list[Layer]:
    """Sky, a skyline and one to three grounds, with trees, bushes and clutter on them."""
    view = rng.choice(["level", "down", "up"], p=[0.76, 0.16, 0.08])
    horizon = {"level": rng.uniform(0.12, 0.78), "down": rng.uniform(-0.5, -0.05), "up": rng.uniform(1.0, 1.2)}[view]
    is_winter = rng.random() < WINTER
    surface = ground(rng, image_hw, horizon)
    grounds = _grounds(rng, surface, np.broadcast_to(_below(image_hw, horizon, 0.0), image_hw))
    if rng.random() < SHADED:
        grounds = _shaded(rng, surface, grounds)
    used = [layer.material for layer in grounds]
    layers = [Layer("sky", PAINTERS["sky"](rng, facing(rng, image_hw)), np.ones(image_hw, np.float32))]
    far = _skyline(rng, image_hw, horizon, used, is_winter=is_winter)
    layers += _misty(rng, far) if rng.random() < MISTY else far
    layers += [layer for layer in grounds if horizon < 1]
    used = [layer.material for layer in layers]
    if ("tree" not in used or is_winter) and _fits("tree", [m for m in used if m != "tree"]) and rng.random() < 0.5:
        stand = _bare_tree if is_winter else _standing_tree
        layers += [stand(rng, image_hw, horizon) for _ in range(rng.integers(1, 4))]
    elif _fits("bush", used) and rng.random() < 0.4:
        layers += [_bush(rng, image_hw, horizon) for _ in range(rng.integers(1, 3))]
    if rng.random() < 0.6:
        layers += [_clutter(rng, image_hw, horizon) for _ in range(rng.integers(1, 5))]
    return layers


def room(rng: np.random.Generator, image_hw: tuple[int, int]) -> list[Layer]:
    """One or two walls, most often a floor, and clutter in front of them."""
    walls = _compatible(rng, UPRIGHT, [], int(rng.integers(1, 3)))
    layers = [Layer(walls[0], PAINTERS[walls[0]](rng, facing(rng, image_hw)), np.ones(image_hw, np.float32))]
    if len(walls) > 1:
        layers.append(Layer(walls[1], PAINTERS[walls[1]](rng, facing(rng, image_hw)), side(rng, image_hw)))
    if rng.random() < 0.75:
        for floor in _compatible(rng, FLOORS, walls, 1):
            top = rng.uniform(0.45, 0.9)
            surface = ground(rng, image_hw, top - rng.uniform(0.2, 0.5))
            layers.append(Layer(floor, PAINTERS[floor](rng, surface), _below(image_hw, top, rng.normal(0, 0.08))))
    return layers + [_clutter(rng, image_hw, 0.3) for _ in range(rng.integers(0, 5))]


def collage(rng: np.random.Generator, image_hw: tuple[int, int]) -> list[Layer]:
    """Two to four materials side by side, in a random arrangement."""
    layers = []
    for index, material in enumerate(_compatible(rng, tuple(MATERIALS), [], int(rng.integers(2, 5)))):
        flat = material in GROUNDS and rng.random() < 0.5
        surface = ground(rng, image_hw, rng.uniform(-0.8, -0.1)) if flat else facing(rng, image_hw)
        coverage = side(rng, image_hw) if index else np.ones(image_hw, np.float32)
        layers.append(Layer(material, PAINTERS[material](rng, surface), coverage))
    return layers


def _fits(material: str, used: Sequence[str]) -> bool:
    """Whether no name of the material may mean a used one, and no name of a used one may mean the material."""
    return all(
        material != other
        and not set(MATERIALS[material]) & {*MATERIALS[other], *MAYBE.get(other, ())}
        and not set(MATERIALS[other]) & set(MAYBE.get(material, ()))
        for other in used
        if other != CLUTTER
    )


def _compatible(rng: np.random.Generator, materials: Sequence[str], used: Sequence[str], count: int) -> list[str]:
    """Up to `count` materials whose names cannot mean each other or those in `used`."""
    found: list[str] = []
    for index in rng.permutation(len(materials)):
        if len(found) < count and _fits(materials[index], [*used, *found]):
            found.append(materials[index])
    return found


# --- grounds


def _grounds(rng: np.random.Generator, surface: Surface, flat: Floats) -> list[Layer]:
    layout = rng.choice(["one", "street", "shore", "path"], p=[0.3, 0.35, 0.12, 0.23])
    if layout == "street":
        return _street(rng, surface, flat)
    choices = ("sand", "grass", "dirt", "snow") if layout == "shore" else GROUNDS
    first = choices[rng.integers(len(choices))]
    layers = [Layer(first, PAINTERS[first](rng, surface), flat)]
    if layout == "one":
        return layers
    for second in _compatible(rng, WET if layout == "shore" else SOFT + HARD, [first], 1):
        bend = lookup(rng, CLOUDY, surface.u * 0.1, surface.v * 0.1) * 0.4
        if layout == "shore":
            inside = (surface.v - rng.uniform(1.0, 5.0) + bend) * 3
        else:
            slope, width = rng.normal(0, 0.5), rng.uniform(0.3, 1.5)
            inside = width - np.abs(surface.u - slope * surface.v - rng.normal(0, 1) + bend)
        layers.append(Layer(second, PAINTERS[second](rng, surface), _sharp(inside, surface) * flat))
    return layers


def _street(rng: np.random.Generator, s: Surface, flat: Floats) -> list[Layer]:
    """A road, most often with a pavement on one or both sides, and a soft ground beyond."""
    heading = s.u - rng.normal(0, 0.35) * s.v - rng.normal(0, 1.0)
    turned = Surface(heading, s.v, s.grain, s.rise)
    beyond = [*_compatible(rng, SOFT, ["road", "pavement"], 1), "road"][0]
    layers = [Layer(beyond, PAINTERS[beyond](rng, s), flat)]
    half, side = rng.uniform(0.9, 3.5), rng.uniform(0.5, 2.5)
    if rng.random() < 0.8:
        to = half + side if rng.random() < 0.5 else half + 30
        strip = to - np.abs(heading) if rng.random() < 0.6 else np.minimum(to - heading, heading + half)
        layers.append(Layer("pavement", PAINTERS["pavement"](rng, turned), _sharp(strip, s) * flat))
    layers.append(Layer("road", PAINTERS["road"](rng, turned), _sharp(half - np.abs(heading), s) * flat))
    return layers


def _shaded(rng: np.random.Generator, s: Surface, layers: list[Layer]) -> list[Layer]:
    """The same grounds under bluish shadows of objects outside the picture."""
    blotches = lookup(rng, CLOUDY, s.u * rng.uniform(0.05, 0.3), s.v * rng.uniform(0.05, 0.3))
    shadow = np.clip((blotches - rng.uniform(-1.2, 1.0)) * rng.uniform(0.8, 6.0), 0, 1)[..., None]
    skylight = rng.uniform(0.25, 0.65) * np.array([0.92, 0.98, 1.1], np.float32)
    return [replace(layer, color=layer.color * (1 - shadow * (1 - skylight))) for layer in layers]


def _sharp(inside: Floats, s: Surface) -> Floats:
    """Coverage from a distance along the ground, with an edge about one pixel wide at every depth."""
    return np.clip(inside / np.maximum(0.012 * s.v, 1e-3) + 0.5, 0, 1)


# --- upright objects


def _skyline(
    rng: np.random.Generator, image_hw: tuple[int, int], horizon: float, used: Sequence[str], *, is_winter: bool
) -> list[Layer]:
    layers: list[Layer] = []
    for material, (probability, usual) in SKYLINE.items():
        taken = ["sky", *used, *(layer.material for layer in layers)]
        if rng.random() > probability or not _fits(material, taken):
            continue
        tall = usual * rng.uniform(0.3, 1.5)
        top = _rooftops(rng, image_hw, tall) if material == "building" else _ridge(rng, image_hw, material, tall)
        y, _ = axes(image_hw)
        rise = (top + horizon - 0.5) * image_hw[0] / min(image_hw)
        coverage = np.broadcast_to(np.clip((y - rise) * min(image_hw) + 0.5, 0, 1), image_hw)
        if material == "tree" and is_winter:
            layers.append(_bare_wood(rng, coverage, y - rise))
        else:
            layers.append(Layer(material, PAINTERS[material](rng, facing(rng, image_hw)), coverage))
    return layers


def _bare_wood(rng: np.random.Generator, extent: Floats, below_top: Floats) -> Layer:
    """Distant bare trees: a web of twigs that is denser further down."""
    surface = facing(rng, (extent.shape[0], extent.shape[1]))
    web = lookup(rng, STREAKY, surface.u * 0.5, surface.v * 0.2) + lookup(rng, FINE, surface.u * 0.4, surface.v * 0.4)
    thick = np.clip(web * 0.35 + rng.uniform(0.2, 0.6) + below_top * rng.uniform(1, 5), 0, 1)
    return Layer("tree", _bark(rng, surface), (extent * thick).astype(np.float32), extent)


def _bark(rng: np.random.Generator, s: Surface) -> Floats:
    brown, grey = np.array([0.24, 0.18, 0.13], np.float32), np.array([0.25, 0.24, 0.23], np.float32)
    color = (brown + (grey - brown) * rng.random()) * rng.uniform(0.4, 1.7)
    return color * (1 + 0.2 * lookup(rng, FINE, s.u, s.v * 0.3)[..., None])


def _misty(rng: np.random.Generator, layers: list[Layer]) -> list[Layer]:
    """The same layers behind mist."""
    air = np.array([0.78, 0.81, 0.85], np.float32) * rng.uniform(0.85, 1.1)
    share = rng.uniform(0.2, 0.65)
    return [replace(layer, color=layer.color + share * (air - layer.color)) for layer in layers]


def _ridge(rng: np.random.Generator, image_hw: tuple[int, int], material: str, tall: float) -> Floats:
    """(1, W): height of the outline above the horizon, as a negative fraction of the picture's; trees may have gaps."""
    _, x = axes(image_hw)
    zero = np.zeros_like(x)
    smooth = lookup(rng, CLOUDY, x * 0.25, zero) * 0.5
    rough = lookup(rng, FINE, x * 0.5, zero) * (0.12 if material == "tree" else 0.03)
    if "wall" in material:
        return np.full_like(x, -tall)
    gap = -0.6 if material in ("tree", "bush") and rng.random() < 0.6 else 0.15
    return np.minimum(-tall * np.maximum(1 + smooth + rough, gap), 0.02 if gap < 0 else -0.01)


def _rooftops(rng: np.random.Generator, image_hw: tuple[int, int], tall: float) -> Floats:
    """(1, W): the flat roofs of a row of houses, with gaps; as `_ridge`."""
    cuts = np.sort(rng.integers(0, image_hw[1], rng.integers(1, 6)))
    heights = -tall * rng.uniform(0.4, 1.3, len(cuts) + 1)
    heights[rng.random(len(heights)) < 0.25] = 0.02
    return heights[np.searchsorted(cuts, np.arange(image_hw[1]))][None].astype(np.float32)


def _standing_tree(rng: np.random.Generator, image_hw: tuple[int, int], horizon: float) -> Layer:
    y, x = axes(image_hw)
    foot = (np.clip(horizon, 0.2, 0.9) - 0.5 + rng.uniform(0.02, 0.3)) * image_hw[0] / min(image_hw)
    size = rng.uniform(0.12, 0.45)
    middle = rng.uniform(-0.5, 0.5) * image_hw[1] / min(image_hw)
    center = foot - size * rng.uniform(1.2, 2.0)
    shape = 1 - np.hypot((x - middle) / size, (y - center) / (size * rng.uniform(0.8, 1.4)))
    ragged = shape + 0.22 * lookup(rng, FINE, x * 0.6, y * 0.6) + 0.2 * lookup(rng, CLOUDY, x * 0.7, y * 0.7)
    leaves = np.clip(ragged * size * min(image_hw) * 0.3 + 0.5, 0, 1)
    thick = size * rng.uniform(0.06, 0.14)
    trunk = (np.abs(x - middle) < thick) & (y > center) & (y < foot)
    surface = facing(rng, image_hw)
    color = np.where((trunk & (leaves < 0.5))[..., None], _bark(rng, surface), PAINTERS["tree"](rng, surface))
    return Layer("tree", color, np.maximum(leaves, trunk.astype(np.float32)))


def _bare_tree(rng: np.random.Generator, image_hw: tuple[int, int], horizon: float) -> Layer:
    """A tree without leaves; the openings in its crown are labelled tree too, as people label photographs."""
    tall = image_hw[0] * rng.uniform(0.35, 1.1)
    foot = image_hw[0] * (np.clip(horizon, 0.2, 0.9) + rng.uniform(0.02, 0.3)), image_hw[1] * rng.uniform(0.02, 0.98)
    coverage = bare_tree(rng, image_hw, foot, tall)
    return Layer("tree", _bark(rng, facing(rng, image_hw)), coverage, crown(coverage, tall))


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
    """An object without a name in the vocabulary, such as a person or a car: one to four rounded bodies."""
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
        body = np.clip(inside * min(half_h, half_w) * min(image_hw) * 0.5 + 0.5, 0, 1)
        light = 1 + rng.uniform(-0.6, 0.6) * (y - cy) / half_h + 0.1 * lookup(rng, FINE, x, y)
        tint = rng.random(3) * rng.uniform(0.2, 1.0)
        color = color + body[..., None] * (np.clip(light, 0.2, 1.6)[..., None] * tint - color)
        coverage = np.maximum(coverage, body)
    return Layer(CLUTTER, color, coverage)


def _below(image_hw: tuple[int, int], top: float, tilt: float) -> Floats:
    """(H, W) coverage of the region below a line at `top`, a fraction of the height."""
    y, x = axes(image_hw)
    line = (top - 0.5) * image_hw[0] / min(image_hw)
    return np.clip((y - line - tilt * x) * min(image_hw) + 0.5, 0, 1)


def side(rng: np.random.Generator, image_hw: tuple[int, int]) -> Floats:
    """(H, W) coverage of one side of a random bent line."""
    y, x = axes(image_hw)
    turn, shift = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.2)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    bend = rng.uniform(0, 0.08) * np.sin(along * rng.uniform(2, 12))
    return np.clip((across + bend - shift) * min(image_hw) + 0.5, 0, 1).astype(np.float32)
