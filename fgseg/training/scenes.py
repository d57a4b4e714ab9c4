"""Procedural labelled images: coloured, patterned shapes on backgrounds, lit and worn like photographs.

Unlimited and seeded: `scene(seed)` is the same picture on every machine with the same numpy. Every pixel belongs to
one thing, backgrounds included, so a scene is also a labelled image for benchmarks and tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.training.outlines import OUTLINES
from fgseg.training.vocabulary import (
    ANY_SHAPE,
    BACKGROUND,
    BASIC_COLORS,
    BASIC_SAMPLES,
    COLOR_NAMES,
    NAMED_RGB,
    PATTERNS,
    SHAPES,
    Phrase,
    color_truth,
)

__all__ = ["Scene", "Thing", "is_held_out", "phrase_truth", "scene", "truth_table"]

Floats = NDArray[np.floating[Any]]
_NOISE_SIDE = 512


@dataclass(frozen=True)
class Thing:
    """One thing of a scene.

    Attributes:
        rgb: (r, g, b) its own colour in [0, 1], before light.
        second_rgb: the other colour of its pattern; equals `rgb` when plain.
        pattern: one of PATTERNS.
        shape: one of SHAPES, or "background".
        phrase: what a person would call it in full.
    """

    rgb: tuple[float, float, float]
    second_rgb: tuple[float, float, float]
    pattern: str
    shape: str
    phrase: Phrase


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        owners: (H, W) int32, index into `things` at every pixel.
        things: the things, backgrounds first, later ones in front.
    """

    image: NDArray[np.uint8]
    owners: NDArray[np.int32]
    things: tuple[Thing, ...]


def is_held_out(color: str, pattern: str, shape: str) -> bool:
    """Whether a combination never occurs in training scenes: about one in twelve, for ever the same ones.

    Survey colours are never held out; the rule is about basic colour, pattern and shape.

    Examples:
        >>> is_held_out("red", "striped", "circle"), is_held_out("red", "striped", "background")
        (False, False)
    """
    if color not in BASIC_COLORS or shape not in SHAPES:
        return False
    code = 7 * BASIC_COLORS.index(color) + 5 * PATTERNS.index(pattern) + 3 * SHAPES.index(shape)
    return code % 12 == 1


def scene(seed: int, image_hw: tuple[int, int] = (128, 128), *, held_out: bool = False) -> Scene:
    """Draw one scene.

    Args:
        seed: any integer >= 0; the same seed and size give the same scene.
        image_hw: (height, width) in pixels.
        held_out: let the combinations that training never shows appear, one at least as the front thing.
    """
    rng = np.random.default_rng([seed, image_hw[0], image_hw[1], int(held_out)])
    areas = [_background(rng) for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))]
    count = int(rng.integers(1, 7 - len(areas)))
    front = [_shaped(rng, held_out=held_out and index == count - 1) for index in range(count)]
    things = (*areas, *front)
    picture = np.zeros((*image_hw, 3), np.float32)
    owners = np.zeros(image_hw, np.int32)
    for index, thing in enumerate(things):
        coverage = _area(rng, image_hw, index) if index < len(areas) else _coverage(rng, image_hw, thing.shape, count)
        _paint(rng, picture, coverage, thing, in_front=index >= len(areas))
        owners[coverage > 0.5] = index
    return Scene(_photographed(rng, picture), owners, things)


def _color(rng: np.random.Generator) -> tuple[tuple[float, float, float], str]:
    """A colour and a name that fits it: half the time a basic term."""
    if rng.random() < 0.5:
        name = BASIC_COLORS[rng.integers(len(BASIC_COLORS))]
        samples = BASIC_SAMPLES[name]
        while True:
            rgb = _jittered(rng, samples[rng.integers(len(samples))])
            if color_truth(np.array([rgb]), [name])[0, 0] == 1:
                return rgb, name
    name = COLOR_NAMES[rng.integers(len(COLOR_NAMES))]
    return _jittered(rng, NAMED_RGB[name], 0.012), name


def _jittered(rng: np.random.Generator, rgb: Sequence[float], spread: float = 0.04) -> tuple[float, float, float]:
    r, g, b = np.clip(np.array(rgb) + rng.normal(0, spread, 3), 0, 1)
    return float(r), float(g), float(b)


def _second(rng: np.random.Generator, rgb: Sequence[float], pattern: str) -> tuple[float, float, float]:
    """The pattern's other colour: white, black, a shade of the first, or any."""
    first = np.array(rgb)
    if pattern == "plain":
        return tuple(first.tolist())
    shade = first * 0.45 if first.mean() > 0.45 else 1 - (1 - first) * 0.45
    others = [np.full(3, 0.97), np.full(3, 0.04), shade, rng.random(3)]
    distances = [np.abs(other - first).sum() for other in others]
    far = [other for other, distance in zip(others, distances, strict=True) if distance > 0.5]
    chosen = far[rng.integers(len(far))] if far else others[int(np.argmax(distances))]
    return tuple(chosen.tolist())


def _background(rng: np.random.Generator) -> Thing:
    rgb, name = _color(rng)
    pattern = "plain" if rng.random() < 0.75 else PATTERNS[rng.integers(len(PATTERNS))]
    said = None if pattern == "plain" else pattern
    return Thing(rgb, _second(rng, rgb, pattern), pattern, BACKGROUND, Phrase(name, said, BACKGROUND))


def _shaped(rng: np.random.Generator, *, held_out: bool) -> Thing:
    while True:
        rgb, name = _color(rng)
        pattern = "plain" if rng.random() < 0.5 else PATTERNS[rng.integers(len(PATTERNS))]
        shape = SHAPES[rng.integers(len(SHAPES))]
        if any(is_held_out(basic, pattern, shape) for basic in _basic_names(rgb)) == held_out:
            break
    said = None if pattern == "plain" and rng.random() < 0.8 else pattern
    return Thing(rgb, _second(rng, rgb, pattern), pattern, shape, Phrase(name, said, shape))


def _basic_names(rgb: Sequence[float]) -> list[str]:
    fits = color_truth(np.array([rgb]), BASIC_COLORS)[0] == 1
    return [name for name, fit in zip(BASIC_COLORS, fits, strict=True) if fit]


# --- where a thing is -------------------------------------------------------------------------------------------


def _axes(image_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Pixel centres (H, 1) and (1, W), in units of the shorter side, zero in the middle."""
    height, width = image_hw
    short = min(image_hw)
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / short
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / short
    return y[:, None], x[None, :]


def _area(rng: np.random.Generator, image_hw: tuple[int, int], index: int) -> Floats:
    """Coverage of a background area: everything for the first, one side of a bent line for the others."""
    if index == 0:
        return np.ones(image_hw, np.float32)
    y, x = _axes(image_hw)
    turn, shift = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.2)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    bend = rng.uniform(0, 0.08) * np.sin(along * rng.uniform(2, 12))
    return _edge(across + bend - shift, image_hw)


def _edge(inside: Floats, image_hw: tuple[int, int]) -> Floats:
    """Signed distance (positive inside, shorter side = 1) to coverage in [0, 1], one pixel wide."""
    return np.clip(inside * min(image_hw) + 0.5, 0, 1).astype(np.float32)


def _coverage(rng: np.random.Generator, image_hw: tuple[int, int], shape: str, count: int) -> Floats:
    height, width = image_hw
    y, x = _axes(image_hw)
    radius = rng.uniform(0.09, 0.42 if count < 3 else 0.28)
    reach_y, reach_x = height / 2 / min(image_hw), width / 2 / min(image_hw)
    y = y - rng.uniform(-0.9, 0.9) * max(reach_y - radius * 0.6, 0.05)
    x = x - rng.uniform(-0.9, 0.9) * max(reach_x - radius * 0.6, 0.05)
    turn = rng.normal(0, 0.35)
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / radius, (y * np.cos(turn) - x * np.sin(turn)) / radius
    return _edge(OUTLINES[shape](rng, u, v) * radius, image_hw)


# --- what it looks like -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _noise_bank() -> tuple[Floats, ...]:
    """Periodic 1/f noise, zero mean and unit variance: cloudy, streaky (wood, brushed), and fine."""
    rng = np.random.default_rng(20250505)
    fy, fx = np.fft.fftfreq(_NOISE_SIDE)[:, None], np.fft.fftfreq(_NOISE_SIDE)[None, :]
    bank = []
    for squeeze, power in ((1.0, 1.6), (8.0, 1.3), (1.0, 0.7)):
        falloff = np.maximum(np.hypot(fy * squeeze, fx), 1 / _NOISE_SIDE) ** -power
        waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(_NOISE_SIDE, _NOISE_SIDE))) * falloff).real
        bank.append(((waves - waves.mean()) / waves.std()).astype(np.float32))
    return tuple(bank)


def _noise(rng: np.random.Generator, image_hw: tuple[int, int], kind: int) -> Floats:
    """(H, W) crop of the bank, turned a quarter at random."""
    bank = _noise_bank()[kind]
    bank = bank.T if rng.random() < 0.5 else bank
    rows = (rng.integers(_NOISE_SIDE) + np.arange(image_hw[0])) % _NOISE_SIDE
    columns = (rng.integers(_NOISE_SIDE) + np.arange(image_hw[1])) % _NOISE_SIDE
    return bank[rows[:, None], columns]


def _paint(rng: np.random.Generator, picture: Floats, coverage: Floats, thing: Thing, *, in_front: bool) -> None:
    """Draw a thing into the picture, in place."""
    image_hw = coverage.shape[0], coverage.shape[1]
    if in_front and rng.random() < 0.35:
        _cast_shadow(rng, picture, coverage)
    first, second = np.array(thing.rgb, np.float32), np.array(thing.second_rgb, np.float32)
    mix = _pattern(rng, image_hw, thing.pattern)[..., None]
    surface: Floats = first + mix * (second - first)
    if rng.random() < 0.6:
        grain = _noise(rng, image_hw, int(rng.integers(3)))[..., None]
        surface = surface * (1 + rng.uniform(0.02, 0.16) * grain)
    if in_front:
        surface = surface * _shading(rng, coverage)[..., None] + _highlight(rng, coverage)[..., None]
    picture += coverage[..., None] * (surface - picture)


def _pattern(rng: np.random.Generator, image_hw: tuple[int, int], pattern: str) -> Floats:
    """(H, W) in [0, 1]: how much of the second colour shows. The first colour covers more than half."""
    if pattern == "plain":
        return np.zeros(image_hw, np.float32)
    if pattern == "speckled":
        return (_noise(rng, image_hw, 2) > rng.uniform(0.5, 0.9)).astype(np.float32)
    y, x = _axes(image_hw)
    turn, period = rng.uniform(0, np.pi), rng.uniform(0.07, 0.16)
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / period, (y * np.cos(turn) - x * np.sin(turn)) / period
    if pattern == "wavy":
        v = v + 0.9 * np.sin(u * rng.uniform(1.5, 2.5))
    if pattern in ("striped", "wavy"):
        return np.clip((np.cos(2 * np.pi * v) - rng.uniform(0.0, 0.4)) * 3 + 0.5, 0, 1)
    if pattern == "checkered":
        return np.clip(np.sin(np.pi * u) * np.sin(np.pi * v) * 6 + 0.5, 0, 1)
    spot = np.hypot(u - np.round(u), v - np.round(v))
    return np.clip((rng.uniform(0.22, 0.34) - spot) * 8 + 0.5, 0, 1)


def _shading(rng: np.random.Generator, coverage: Floats) -> Floats:
    """Light falling off across a thing, from one side."""
    y, x = _axes((coverage.shape[0], coverage.shape[1]))
    turn, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.2)
    return np.clip(1 + strength * (x * np.cos(turn) + y * np.sin(turn)), 0.35, 1.3).astype(np.float32)


def _highlight(rng: np.random.Generator, coverage: Floats) -> Floats:
    """A white spot of gloss somewhere on the thing, on one in three."""
    if rng.random() > 0.33 or coverage.max() < 0.5:
        return np.zeros_like(coverage)
    rows, columns = np.nonzero(coverage > 0.5)
    spot = rng.integers(len(rows))
    y, x = (
        np.arange(coverage.shape[0])[:, None] - rows[spot],
        np.arange(coverage.shape[1])[None] - columns[spot],
    )
    spread = min(coverage.shape) * rng.uniform(0.015, 0.05)
    return (rng.uniform(0.3, 0.9) * np.exp(-(y**2 + (x * rng.uniform(0.4, 1)) ** 2) / (2 * spread**2))).astype(
        np.float32
    )


def _cast_shadow(rng: np.random.Generator, picture: Floats, coverage: Floats) -> None:
    shift = rng.integers(2, 9, 2) * rng.choice([-1, 1], 2)
    shadow = _blurred(np.roll(coverage, tuple(shift.tolist()), (0, 1)), 3)
    picture *= 1 - rng.uniform(0.2, 0.7) * shadow[..., None]


def _blurred(values: Floats, radius: int) -> Floats:
    """Box blur along the first two axes, edges repeated."""
    for axis in (0, 1):
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(values.ndim)]
        total = np.cumsum(np.pad(values, pad, mode="edge"), axis=axis, dtype=np.float32)
        total = np.insert(total, 0, 0, axis=axis)
        size = 2 * radius + 1
        ends = [slice(None)] * values.ndim
        starts = list(ends)
        ends[axis], starts[axis] = slice(size, None), slice(None, -size)
        values = (total[tuple(ends)] - total[tuple(starts)]) / size
    return values


def _photographed(rng: np.random.Generator, picture: Floats) -> NDArray[np.uint8]:
    """Light, colour cast, shadow, blur and sensor noise over the whole picture."""
    image_hw = picture.shape[0], picture.shape[1]
    y, x = _axes(image_hw)
    turn = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.5) * (x * np.cos(turn) + y * np.sin(turn))
    if rng.random() < 0.3:
        light = light * (1 - rng.uniform(0.2, 0.6) * np.clip(_noise(rng, image_hw, 0) - 0.3, 0, 1))
    picture = picture * (light * rng.uniform(0.75, 1.15))[..., None] * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.4:
        picture = _blurred(picture, 1)
    picture = picture + rng.normal(0, rng.uniform(0, 0.035), picture.shape).astype(np.float32)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


# --- what is true of it -----------------------------------------------------------------------------------------


def phrase_truth(things: Sequence[Thing], phrases: Sequence[Phrase]) -> NDArray[np.int8]:
    """Whether each phrase is true of each thing.

    Args:
        things: N things, of one scene or of many.
        phrases: P phrases.

    Returns:
        (N, P) int8: 1 true, 0 false, -1 left open (a borderline colour, or the second colour of a pattern).
    """
    names = sorted({phrase.color for phrase in phrases if phrase.color})
    column = {name: index for index, name in enumerate(names)}
    colors = _thing_color_truth(things, names) if names else np.ones((len(things), 0), np.int8)
    truth = np.ones((len(things), len(phrases)), np.int8)
    patterns = np.array([thing.pattern for thing in things])
    shapes = np.array([thing.shape for thing in things])
    for index, phrase in enumerate(phrases):
        fits = colors[:, column[phrase.color]] if phrase.color else truth[:, index]
        denied = np.zeros(len(things), bool)
        if phrase.pattern:
            denied |= patterns != phrase.pattern
        if phrase.noun in ANY_SHAPE:
            denied |= shapes == BACKGROUND
        elif phrase.noun:
            denied |= shapes != phrase.noun
        truth[:, index] = np.where(denied, 0, fits)
    return truth


def _thing_color_truth(things: Sequence[Thing], names: Sequence[str]) -> NDArray[np.int8]:
    first = color_truth(np.array([thing.rgb for thing in things]), names)
    second = color_truth(np.array([thing.second_rgb for thing in things]), names)
    return np.where((first == 0) & (second != 0), -1, first).astype(np.int8)


def truth_table(drawn: Scene, phrases: Sequence[Phrase]) -> NDArray[np.int8]:
    """(P, H, W) int8: whether each phrase is true at each pixel of a scene; 1, 0, or -1 left open."""
    return phrase_truth(drawn.things, phrases).T[:, drawn.owners]
