"""Procedural labelled images: coloured, patterned shapes and materials, with the light and noise of photographs.

`scene(seed)` is the same picture on every machine with the same numpy and OpenCV. Every pixel belongs to one thing,
backgrounds included, so a scene is also a labelled image for benchmarks and tests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgseg.scenes.appearance import as_pixels, cast_shadow, form_shadow, highlight, pattern, photographed, shading
from fgseg.scenes.landscapes import Layer, collage, outdoors, room, side
from fgseg.scenes.materials import PAINTERS, facing
from fgseg.scenes.shapes import OUTLINES
from fgseg.scenes.textures import axes, crop
from fgseg.scenes.vocabulary import (
    ANY_SHAPE,
    BACKGROUND,
    BASIC_COLORS,
    BASIC_SAMPLES,
    CLUTTER,
    COLOR_NAMES,
    MATERIAL_WORDS,
    MATERIALS,
    MAYBE,
    NAMED_RGB,
    PATTERNS,
    SHAPES,
    Phrase,
    color_truth,
)

__all__ = [
    "KINDS",
    "Kind",
    "Scene",
    "Thing",
    "is_held_out",
    "is_held_out_phrase",
    "phrase_truth",
    "scene",
    "truth_table",
]

Floats = NDArray[np.floating[Any]]
Rgb = tuple[float, float, float]
Window = tuple[slice, slice]
WHOLE: Window = (slice(None), slice(None))
Kind = Literal["shapes", "outdoors", "room", "collage", "sheet"]
KINDS: dict[Kind, float] = {"shapes": 0.6, "outdoors": 0.26, "room": 0.06, "collage": 0.08, "sheet": 0.0}
GRAPHIC_SHARE = 0.2  # of the pictures: graphics without shading or camera effects
MATERIAL_SHARE, PAPER_SHARE = 0.25, 0.15  # of the backgrounds: a material, and a pale grey without hue
SHEET_CELL = 56  # minimum side of a cell of a sheet, in pixels
MIN_VISIBLE, MIN_VISIBLE_AREA = 0.6, 0.2  # share of a shape, and of a background, that each later shape leaves visible


@dataclass(frozen=True)
class Thing:
    """One thing of a scene.

    Attributes:
        rgb: (r, g, b) in [0, 1], the colour before lighting.
        second_rgb: the second colour of its pattern; equals `rgb` when plain.
        pattern: one of PATTERNS.
        shape: one of SHAPES, "background", a material, or "clutter".
        phrase: the full name of the thing.
    """

    rgb: Rgb
    second_rgb: Rgb
    pattern: str
    shape: str
    phrase: Phrase


@dataclass(frozen=True)
class Scene:
    """A picture and its things.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) int32, index into `things` at every pixel.
        things: the things, backgrounds first; later ones lie in front.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    things: tuple[Thing, ...]


def is_held_out(color: str, pattern: str, shape: str) -> bool:
    """Whether a combination is held out, that is, never occurs in training scenes.

    About one in twelve combinations of a basic colour, a pattern and a shape is held out, always the same ones.

    Examples:
        >>> is_held_out("red", "striped", "circle"), is_held_out("red", "striped", "background")
        (False, False)
    """
    if color not in BASIC_COLORS or shape not in SHAPES:
        return False
    code = 7 * BASIC_COLORS.index(color) + 5 * PATTERNS.index(pattern) + 3 * SHAPES.index(shape)
    return code % 12 == 1


def is_held_out_phrase(phrase: Phrase) -> bool:
    """Whether a phrase may name a held-out combination. A phrase without a pattern counts as plain.

    Examples:
        >>> is_held_out_phrase(Phrase("red", "striped", "circle")), is_held_out_phrase(Phrase(noun="circle"))
        (False, False)
    """
    if phrase.color is None or phrase.noun not in SHAPES:
        return False
    names = [phrase.color] if phrase.color in BASIC_COLORS else _fitting_names(NAMED_RGB[phrase.color], BASIC_COLORS)
    return any(is_held_out(name, phrase.pattern or "plain", phrase.noun) for name in names)


def scene(
    seed: int, image_hw: tuple[int, int] = (128, 128), *, kind: Kind | None = None, held_out: bool = False
) -> Scene:
    """Draw one scene.

    Args:
        seed: any integer >= 0; the same seed and size give the same scene.
        image_hw: (height, width) in pixels.
        kind: "shapes" on backgrounds, "outdoors", "room", or materials side by side ("collage"); None draws one of
            these by its share in KINDS. "sheet" is many shapes in rows, for training only.
        held_out: draw a scene of shapes whose front shape is a combination that training never shows.
    """
    rng = np.random.default_rng([seed, image_hw[0], image_hw[1], int(held_out)])
    drawn = rng.choice(list(KINDS), p=list(KINDS.values()))
    kind = "shapes" if held_out else kind or drawn
    canvas = _Canvas(image_hw, is_lit=rng.random() >= GRAPHIC_SHARE)
    if kind == "shapes":
        _shapes(rng, canvas, held_out=held_out)
    elif kind == "sheet":
        _sheet(rng, canvas)
    else:
        for layer in {"outdoors": outdoors, "room": room, "collage": collage}[kind](rng, image_hw):
            canvas.lay(_of_material(layer), layer.color, layer.coverage, extent=layer.extent)
    image = photographed(rng, canvas.picture) if canvas.is_lit else as_pixels(canvas.picture)
    return Scene(image, canvas.labels, tuple(canvas.things))


class _Canvas:
    """A picture under construction, with the index of the thing at each pixel; without light there is no shading."""

    def __init__(self, image_hw: tuple[int, int], *, is_lit: bool) -> None:
        self.image_hw, self.is_lit = image_hw, is_lit
        self.picture = np.zeros((*image_hw, 3), np.float32)
        self.labels = np.zeros(image_hw, np.int32)
        self.things: list[Thing] = []

    def lay(
        self, thing: Thing, color: Floats, coverage: Floats, where: Window = WHOLE, *, extent: Floats | None = None
    ) -> None:
        """Draw a thing into a window of the picture. A thing with the phrase of an earlier one extends that one.

        Pixels with more than half of `extent` get its label; without `extent`, those with more than half of `coverage`.
        """
        known = [other.phrase for other in self.things]
        same = known.index(thing.phrase) if thing.phrase in known else len(known)
        if same == len(known):
            self.things.append(thing)
        self.picture[where] += coverage[..., None] * (color - self.picture[where])
        self.labels[where][(coverage if extent is None else extent) > 0.5] = same


def _of_material(layer: Layer) -> Thing:
    """The thing of a layer, named by its material."""
    inside = layer.color[layer.coverage > 0.5]
    mean = inside.mean(0) if len(inside) else np.zeros(3)
    other = np.clip(mean + (inside - mean).std(0), 0, 1) if len(inside) else mean
    noun = "thing" if layer.material == CLUTTER else layer.material
    return Thing(_rgb(mean), _rgb(other), "plain", layer.material, Phrase(noun=noun))


def _rgb(color: Floats) -> Rgb:
    r, g, b = np.clip(color, 0, 1).tolist()
    return r, g, b


def _shapes(rng: np.random.Generator, canvas: _Canvas, *, held_out: bool) -> None:
    """Draw shapes on one to three backgrounds."""
    image_hw = canvas.image_hw
    areas = _add_distinct(rng, [], int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])), _background)
    for index, thing in enumerate(areas):
        color = _surface(rng, image_hw, thing, is_lit=canvas.is_lit)
        canvas.lay(thing, color, side(rng, image_hw) if index else np.ones(image_hw, np.float32))
    count = int(rng.integers(1, 7 - len(areas)))
    for index in range(count):
        is_last = index == count - 1
        make = partial(_random_shape, held_out=held_out and is_last)
        thing = _add_distinct(rng, canvas.things, 1, make)[-1]
        coverage = _place(rng, canvas.labels, len(areas), thing.shape, count, must=is_last)
        if coverage is not None:
            color = _surface(rng, image_hw, thing, is_lit=canvas.is_lit)
            if canvas.is_lit:
                if rng.random() < 0.35:
                    cast_shadow(rng, canvas.picture, coverage)
                light = shading(rng, axes(image_hw)) * form_shadow(rng, coverage)
                color = light[..., None] * color + highlight(rng, coverage)[..., None]
            canvas.lay(thing, color, coverage)


def _sheet(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Draw rows of shapes of similar size on one background, several times as many as in other scenes."""
    image_hw = canvas.image_hw
    ground = _background(rng)
    color = _surface(rng, image_hw, ground, is_lit=canvas.is_lit)
    canvas.lay(ground, color, np.ones(image_hw, np.float32))
    most = max(1, min(image_hw) // SHEET_CELL)
    rows = int(rng.integers((most + 1) // 2, most + 1))
    columns = max(1, round(rows * image_hw[1] / image_hw[0]))
    cell_hw = image_hw[0] / rows, image_hw[1] / columns
    for index in rng.permutation(rows * columns).tolist():
        center = tuple((place + 0.5) * side for place, side in zip(divmod(index, columns), cell_hw, strict=True))
        _lay_shape(rng, canvas, center, min(cell_hw))


def _lay_shape(rng: np.random.Generator, canvas: _Canvas, center: tuple[float, ...], cell: float) -> None:
    """Draw a shape near the centre of a cell; it fills most of the cell, or reaches a little beyond it."""
    short = min(canvas.labels.shape)
    radius = cell * rng.uniform(0.3, 0.56)
    room = max(0.08 * cell, cell / 2 - radius)
    spans, at = [], []
    for middle, size in zip(center, canvas.labels.shape, strict=True):
        middle = middle + rng.uniform(-room, room)
        span = slice(max(0, int(middle - 1.15 * radius)), min(size, int(middle + 1.15 * radius) + 1))
        spans.append(span)
        at.append((np.arange(span.start, span.stop, dtype=np.float32) + 0.5 - middle) / short)
    where, (y, x) = (spans[0], spans[1]), (at[0][:, None], at[1][None])
    thing = _contrasting_shape(rng, canvas, canvas.picture[where].mean((0, 1)))
    color = _pattern_color(rng, (y, x), thing)
    coverage = _shape_coverage(rng, (y, x), thing.shape, radius / short, short)
    if canvas.is_lit:
        color = (shading(rng, (y, x)) * form_shadow(rng, coverage))[..., None] * color
    canvas.lay(thing, color, coverage, where)


def _contrasting_shape(rng: np.random.Generator, canvas: _Canvas, beneath: Floats) -> Thing:
    """A shape whose colour differs from the colour beneath it and whose name no other thing has."""
    while True:
        thing = _random_shape(rng, held_out=False)
        if np.abs(thing.rgb - beneath).sum() > 0.3 and all(thing.phrase != other.phrase for other in canvas.things):
            return thing


def _add_distinct(
    rng: np.random.Generator, things: Sequence[Thing], count: int, make: Callable[[np.random.Generator], Thing]
) -> list[Thing]:
    """`things` and `count` more. Each is redrawn until every phrase is true of its own thing and of no other."""
    together = list(things)
    while len(together) < len(things) + count:
        thing = make(rng)
        truth = phrase_truth([*together, thing], [*(other.phrase for other in together), thing.phrase])
        if not (truth[-1, :-1].any() or truth[:-1, -1].any()):
            together.append(thing)
    return together


def _place(
    rng: np.random.Generator, labels: NDArray[np.int32], areas: int, shape: str, count: int, *, must: bool
) -> Floats | None:
    """Coverage of a shape at a position that leaves enough of every earlier thing visible.

    None if four tries find no such position; with `must`, the last of fifty tries.
    """
    image_hw = labels.shape[0], labels.shape[1]
    before = np.bincount(labels.ravel(), minlength=areas)
    share = np.where(np.arange(len(before)) < areas, MIN_VISIBLE_AREA, MIN_VISIBLE)
    for _ in range(50 if must else 4):
        coverage = _random_coverage(rng, image_hw, shape, count)
        after = np.bincount(labels[coverage <= 0.5], minlength=len(before))
        if (after >= np.maximum(before * share, 1)).all() and (coverage > 0.5).any():
            return coverage
    return coverage if must else None


def _color(rng: np.random.Generator) -> tuple[Rgb, str]:
    """A colour and a name that fits it; half of the names are basic terms."""
    if rng.random() < 0.5:
        name = BASIC_COLORS[rng.integers(len(BASIC_COLORS))]
        samples = BASIC_SAMPLES[name]
        while True:
            rgb = _jittered(rng, samples[rng.integers(len(samples))])
            if color_truth(np.array([rgb]), [name])[0, 0] == 1:
                return rgb, name
    name = COLOR_NAMES[rng.integers(len(COLOR_NAMES))]
    return _jittered(rng, NAMED_RGB[name], 0.012), name


def _paper(rng: np.random.Generator) -> tuple[Rgb, str]:
    """A pale grey without hue, as most pale surfaces have, and a name that fits it."""
    level = float(rng.uniform(0.7, 1))
    rgb = level, level, level
    names = _fitting_names(rgb, ("white", "grey"))
    return rgb, names[rng.integers(len(names))]


def _jittered(rng: np.random.Generator, rgb: Sequence[float], spread: float = 0.04) -> Rgb:
    return _rgb(np.array(rgb) + rng.normal(0, spread, 3))


def _second(rng: np.random.Generator, rgb: Rgb, pattern: str) -> Rgb:
    """The second colour of a pattern: white, black, a shade of the first, or a random colour."""
    if pattern == "plain":
        return rgb
    first = np.array(rgb)
    shade = first * 0.45 if first.mean() > 0.45 else 1 - (1 - first) * 0.45
    others = [np.full(3, 0.97), np.full(3, 0.04), shade, rng.random(3)]
    distances = [np.abs(other - first).sum() for other in others]
    far = [other for other, distance in zip(others, distances, strict=True) if distance > 0.5]
    return _rgb(far[rng.integers(len(far))] if far else others[int(np.argmax(distances))])


def _background(rng: np.random.Generator) -> Thing:
    if rng.random() < MATERIAL_SHARE:
        material = list(MATERIALS)[rng.integers(len(MATERIALS))]
        grey = (0.5, 0.5, 0.5)
        return Thing(grey, grey, "plain", material, Phrase(noun=material))
    rgb, name = _paper(rng) if rng.random() < PAPER_SHARE / (1 - MATERIAL_SHARE) else _color(rng)
    pattern = "plain" if rng.random() < 0.75 else PATTERNS[rng.integers(len(PATTERNS))]
    named_pattern = None if pattern == "plain" else pattern
    return Thing(rgb, _second(rng, rgb, pattern), pattern, BACKGROUND, Phrase(name, named_pattern, BACKGROUND))


def _random_shape(rng: np.random.Generator, *, held_out: bool) -> Thing:
    while True:
        rgb, name = _color(rng)
        pattern = "plain" if rng.random() < 0.5 else PATTERNS[rng.integers(len(PATTERNS))]
        shape = SHAPES[rng.integers(len(SHAPES))]
        if any(is_held_out(basic, pattern, shape) for basic in _fitting_names(rgb, BASIC_COLORS)) == held_out:
            break
    named_pattern = None if pattern == "plain" and rng.random() < 0.8 else pattern
    return Thing(rgb, _second(rng, rgb, pattern), pattern, shape, Phrase(name, named_pattern, shape))


@lru_cache(maxsize=2048)
def _fitting_names(rgb: Rgb, names: tuple[str, ...]) -> list[str]:
    fits = color_truth(np.array([rgb]), names)[0] == 1
    return [name for name, fit in zip(names, fits, strict=True) if fit]


# --- position and extent


def _shape_coverage(
    rng: np.random.Generator, at: tuple[Floats, Floats], shape: str, radius: float, short: int
) -> Floats:
    """(H, W) coverage in [0, 1] of a slightly rotated shape centred at the origin of `at`, with a pixel-wide edge."""
    y, x = at
    turn = rng.normal(0, 0.35)
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / radius, (y * np.cos(turn) - x * np.sin(turn)) / radius
    return np.clip(OUTLINES[shape](rng, u, v) * radius * short + 0.5, 0, 1).astype(np.float32)


def _random_coverage(rng: np.random.Generator, image_hw: tuple[int, int], shape: str, count: int) -> Floats:
    height, width = image_hw
    y, x = axes(image_hw)
    radius = rng.uniform(0.11, 0.42 if count < 3 else 0.28)
    reach_y, reach_x = height / 2 / min(image_hw), width / 2 / min(image_hw)
    y = y - rng.uniform(-0.9, 0.9) * max(reach_y - radius * 0.6, 0.05)
    x = x - rng.uniform(-0.9, 0.9) * max(reach_x - radius * 0.6, 0.05)
    return _shape_coverage(rng, (y, x), shape, radius, min(image_hw))


# --- appearance


def _pattern_color(rng: np.random.Generator, at: tuple[Floats, Floats], thing: Thing) -> Floats:
    """(H, W, 3) the two colours of a thing in its pattern, at coordinates of `axes`."""
    first, second = np.array(thing.rgb, np.float32), np.array(thing.second_rgb, np.float32)
    color: Floats = first + pattern(rng, at, thing.pattern)[..., None] * (second - first)
    return color


def _surface(rng: np.random.Generator, image_hw: tuple[int, int], thing: Thing, *, is_lit: bool) -> Floats:
    """(H, W, 3) the material or pattern of a thing over the whole picture; often slightly uneven if lit."""
    if thing.shape in MATERIALS:
        return PAINTERS[thing.shape](rng, facing(rng, image_hw))
    surface = _pattern_color(rng, axes(image_hw), thing)
    if is_lit and rng.random() < 0.6:
        surface = surface * (1 + rng.uniform(0.02, 0.16) * crop(rng, image_hw, int(rng.integers(3)))[..., None])
    return surface


# --- truth of phrases


def phrase_truth(things: Sequence[Thing], phrases: Sequence[Phrase]) -> NDArray[np.int8]:
    """Whether each phrase is true of each thing.

    Args:
        things: N things, of one scene or of many.
        phrases: P phrases.

    Returns:
        (N, P) int8: 1 true, 0 false, -1 open (a borderline colour, or the second colour of a pattern).
    """
    names = sorted({phrase.color for phrase in phrases if phrase.color})
    column = {name: index for index, name in enumerate(names)}
    colors = _thing_color_truth(things, names) if names else np.ones((len(things), 0), np.int8)
    patterns = {pattern: _pattern_truth(things, pattern) for pattern in {phrase.pattern for phrase in phrases}}
    nouns = {noun: _noun_truth(things, noun) for noun in {phrase.noun for phrase in phrases}}
    any_color = np.ones(len(things), np.int8)
    attributes = np.array(
        [
            [patterns[phrase.pattern] for phrase in phrases],
            [nouns[phrase.noun] for phrase in phrases],
            [colors[:, column[phrase.color]] if phrase.color else any_color for phrase in phrases],
        ]
    )
    truth: NDArray[np.int8] = np.where((attributes == 0).any(0), 0, attributes.min(0)).T.astype(np.int8)
    return truth.reshape(len(things), len(phrases))


def _pattern_truth(things: Sequence[Thing], pattern: str | None) -> NDArray[np.int8]:
    """(N,) int8. Any pattern is open for a material."""
    if pattern is None:
        return np.ones(len(things), np.int8)
    unpatterned = (*MATERIALS, CLUTTER)
    return np.array([-1 if thing.shape in unpatterned else thing.pattern == pattern for thing in things], np.int8)


def _noun_truth(things: Sequence[Thing], noun: str | None) -> NDArray[np.int8]:
    if noun is None:
        return np.array([-1 if thing.shape == CLUTTER else 1 for thing in things], np.int8)
    return np.array([_is_called(thing.shape, noun) for thing in things], np.int8)


@cache
def _is_called(shape: str, noun: str) -> int:
    """1 if `noun` names a thing of this shape or material, 0 if not, -1 if open."""
    if noun in MATERIAL_WORDS:
        return 1 if noun in MATERIALS.get(shape, ()) else -1 if noun in MAYBE.get(shape, ()) else 0
    if shape == CLUTTER or (noun == BACKGROUND and shape in MATERIALS):
        return -1
    return int(shape in SHAPES if noun in ANY_SHAPE else shape == noun)


def _thing_color_truth(things: Sequence[Thing], names: Sequence[str]) -> NDArray[np.int8]:
    first = color_truth(np.array([thing.rgb for thing in things]), names)
    second = color_truth(np.array([thing.second_rgb for thing in things]), names)
    return np.where((first == 0) & (second != 0), -1, first).astype(np.int8)


def truth_table(drawn: Scene, phrases: Sequence[Phrase]) -> NDArray[np.int8]:
    """(P, H, W) int8: whether each phrase is true at each pixel of a scene: 1 true, 0 false, -1 open."""
    return phrase_truth(drawn.things, phrases).T[:, drawn.labels]
