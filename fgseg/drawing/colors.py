"""Colors of classes, and color tables for score maps.

Score maps hold presence in [0, 1] and are drawn on that fixed range, never stretched to their own range, so that an
absent object stays dark.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_choice, check_color, check_number, check_shares, describe
from fgseg.errors import OptionError, ShapeError
from fgseg.prompts.classes import PromptClass
from fgseg.scenes.vocabulary import BASIC_COLORS, NAMED_RGB, lab

__all__ = [
    "COLORMAPS",
    "Color",
    "check_colors",
    "class_colors",
    "color_table",
    "colorize",
    "distinct_colors",
    "palette",
    "to_uint8",
    "word_color",
]

Color = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

COLORMAPS = ("cool", "viridis", "plasma", "magma", "inferno", "cividis", "turbo")
"""Color tables for score maps; all except cool and turbo are perceptually uniform.

The first is the default. It goes from cyan to magenta, which neither skin nor wood, leaves, sky or greyed photographs
show. The yellow, orange or red in which the others end is a color of skin and wood."""

FIRST_COLORS: tuple[Color, ...] = (
    *((40, 255, 200), (200, 0, 160), (240, 228, 66), (200, 40, 0), (86, 180, 233)),
    *((0, 158, 115), (120, 120, 255), (230, 159, 0), (204, 121, 167), (160, 200, 120)),
    *((0, 114, 178), (255, 200, 255), (80, 0, 230), (160, 120, 80), (120, 80, 120)),
    *((160, 0, 40), (230, 160, 160), (213, 94, 0), (160, 160, 80), (255, 200, 160)),
    *((40, 80, 0), (0, 80, 80), (100, 60, 0), (180, 220, 220), (240, 20, 100)),
    *((160, 160, 200), (100, 120, 100), (60, 140, 0), (0, 140, 160), (160, 100, 100)),
    *((0, 240, 0), (120, 100, 0), (60, 60, 120), (220, 80, 240), (100, 60, 60)),
    *((140, 0, 80), (80, 80, 60), (0, 200, 200), (240, 100, 80), (140, 80, 200)),
    *((140, 120, 140), (180, 160, 140), (140, 160, 140), (0, 80, 220), (120, 20, 140)),
    *((220, 220, 180), (0, 120, 80), (20, 200, 120), (80, 80, 100), (40, 80, 100)),
    *((240, 140, 80), (80, 180, 0), (100, 100, 160), (180, 200, 220), (60, 140, 240)),
    *((120, 40, 0), (160, 120, 200), (240, 140, 240), (160, 80, 0), (180, 240, 0)),
    *((120, 100, 80), (240, 200, 120), (180, 240, 200), (180, 80, 120)),
)
"""Seven colors of Okabe and Ito (2008); each further color up to the 20th is the farthest from those before it by
CIEDE2000, taking the smallest distance over normal sight and the three dichromacies (Machado 2009). All 20 are at
least 13 apart in normal sight and 6 in each of the others. The 20 are ordered in the same way, after three that are
rare in photographs, so that a few classes are easy to tell apart. From the 21st on, each color is the farthest by
CIEDE2000 in normal sight on a grid with a step of 20 in each channel; all are at least 12 apart."""

APART = 22.0
"""Distance in CIE L*a*b* from which two colors look different under a tint."""
_ALTERNATIVES = 64
"""Colors of the palette that are looked at for one that differs from those taken."""
OVERSHOOT = 1e-6
"""How far rounding takes values interpolated in float32 out of [0, 1]."""


@cache
def palette(count: int) -> tuple[Color, ...]:
    """Distinct colors for any number of classes, the same in every call.

    The first 20 also differ for color-blind readers, and the next 44 differ in normal sight. Later colors follow a
    low-discrepancy sequence over hue, lightness and chroma in Oklab (Ottosson 2020), which scikit-image does not
    have. No color is close to black or white.

    Args:
        count: number of colors, at least 0.

    Returns:
        (red, green, blue) of each color; `palette(k)` is the beginning of `palette(n)` for k <= n.

    Raises:
        OptionError: `count` is negative.

    >>> palette(2)
    ((40, 255, 200), (200, 0, 160))
    """
    check_number("count", count, low=0, high=10**6)
    colors = dict.fromkeys(FIRST_COLORS[:count])
    start = 0
    while len(colors) < count:
        # The sequence may repeat a color; the missing ones are taken from farther on.
        missing = count - len(colors)
        colors.update(dict.fromkeys(_oklab_sequence(start, missing)))
        start += missing
    return tuple(colors)


def to_uint8(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Numbers in [0, 1] as bytes from 0 to 255, rounded to the nearest.

    Args:
        values: floating point, any shape; values up to 1e-6 outside [0, 1] are clipped.

    Returns:
        uint8 of the same shape.

    Raises:
        ShapeError: not a floating point array, NaN, or a value farther outside [0, 1].

    >>> to_uint8(np.array([0, 0.5, 1])).tolist()
    [0, 128, 255]
    """
    if not (isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating)):
        raise ShapeError(f"values: expected a floating point array in [0, 1], got {describe(values)}")
    check_shares("values", values, slack=OVERSHOOT, hint="give presence, not logits")
    return np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def colorize(score_map: NDArray[np.floating], *, colormap: str = COLORMAPS[0]) -> NDArray[np.uint8]:
    """Draw a score map in colors, on the fixed range [0, 1].

    Args:
        score_map: (H, W) floating point presence in [0, 1].
        colormap: one of `COLORMAPS`.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ShapeError: not (H, W), NaN, or a score outside [0, 1].
        OptionError: an unknown colormap.

    >>> colorize(np.array([[0.0, 1.0]])).tolist()
    [[[0, 255, 255], [255, 0, 255]]]
    """
    check_array("score_map", score_map, ("H", "W"))
    return color_table(colormap)[to_uint8(score_map)]


def check_colors(colors: Sequence[Color], count: int) -> None:
    """Refuse anything but `count` colors of three whole numbers from 0 to 255.

    Raises:
        OptionError: another number of colors, or a color that is not RGB.

    >>> check_colors([(255, 0, 0)], 1)
    """
    if len(colors) != count:
        raise OptionError(
            f"colors: expected one color per class, {count}, got {len(colors)}; palette({count}) returns them"
        )
    for color in colors:
        check_color("colors", color)


@cache
def color_table(colormap: str) -> NDArray[np.uint8]:
    """The colors of levels 0 to 255, (256, 3) uint8, read-only."""
    import matplotlib  # takes a tenth of a second, and overlays need none of it

    check_choice("colormap", colormap, COLORMAPS)
    table = np.asarray(matplotlib.colormaps[colormap](np.arange(256), bytes=True)[:, :3], np.uint8)
    table.setflags(write=False)
    return table


def _oklab_sequence(start: int, count: int) -> list[Color]:
    """Colors `start` to `start + count` of a low-discrepancy sequence (Roberts 2018: powers of 1 / 1.2207)."""
    steps = np.arange(start + 1, start + count + 1)[:, None] * 1.2207440846057596 ** -np.arange(1, 4)
    hue, light, strength = (steps % 1).T
    lightness, chroma, angle = 0.5 + 0.35 * light, 0.08 + 0.12 * strength, 2 * np.pi * hue
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=1)
    lms = (lab @ np.array(_OKLAB_TO_LMS).T) ** 3
    linear = np.clip(lms @ np.array(_LMS_TO_RGB).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [(int(red), int(green), int(blue)) for red, green, blue in np.rint(encoded * 255)]


_OKLAB_TO_LMS = (
    (1, 0.3963377774, 0.2158037573),
    (1, -0.1055613458, -0.0638541728),
    (1, -0.0894841775, -1.2914855480),
)
_LMS_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)


def class_colors(prompts: Sequence[PromptClass]) -> tuple[Color, ...]:
    """The color of each class: its own, else that of its color word, else one of the palette.

    The color word is the first of the name and the query words that `word_color` knows. The other classes take colors
    of the palette that differ from those of the classes before them, so that a class at the end recolors none. The
    colors close to a basic color word come last, because such a word may follow.

    >>> from fgseg.prompts.classes import parse_classes
    >>> class_colors(parse_classes(["cat", "red", "dog"]))
    ((40, 255, 200), (229, 0, 0), (200, 0, 160))
    """
    return distinct_colors([entry.color or word_color(entry.name, *entry.synonyms) for entry in prompts])


def word_color(*words: str) -> Color | None:
    """The color of the first word that names one ("red", "dark green", "blue-green", "Gray"); None if none does.

    The colors are those of the xkcd survey. A phrase that names a thing, such as "red cup", is no color word: "red cup"
    and "red plate" would look the same.

    >>> word_color("cup", "blue-green"), word_color("red cup")
    ((19, 126, 109), None)
    """
    for word in words:
        name = " ".join(word.casefold().replace("-", " ").replace("gray", "grey").split())
        if name in NAMED_RGB:
            red, green, blue = (round(255 * level) for level in NAMED_RGB[name])
            return red, green, blue
    return None


def distinct_colors(own: Sequence[Color | None]) -> tuple[Color, ...]:
    """A color for each place: its own, or for None one of the palette that differs from all before it.

    Args:
        own: one entry per place.

    Returns:
        One color per place; the first k depend on the first k entries alone.

    >>> distinct_colors([None, (200, 0, 160), None])
    ((40, 255, 200), (200, 0, 160), (86, 180, 233))
    """
    spare = list(reversed(_palette_by_words(len(own) + _ALTERNATIVES)))
    taken = np.empty((0, 3))
    colors: list[Color] = []
    for color in own:
        if color is not None:
            taken = np.concatenate([taken, lab(np.array([color]) / 255)])
        colors.append(_next_apart(spare, taken) if color is None else color)
    return tuple(colors)


def _next_apart(spare: list[Color], taken: NDArray[np.float64]) -> Color:
    """Take the first color off the end of `spare` that is APART from those taken, else the farthest of a few."""
    if not len(taken):
        return spare.pop()
    nearest = spare[: -_ALTERNATIVES - 1 : -1]
    distances = np.linalg.norm(lab(np.array(nearest) / 255)[:, None] - taken, axis=2).min(axis=1)
    index = int(np.argmax(np.minimum(distances, APART)))
    return spare.pop(-1 - index)


@cache
def _palette_by_words(count: int) -> tuple[Color, ...]:
    """`palette`, but of its fixed colors those close to a basic color word come after the others."""
    fixed = np.array(FIRST_COLORS) / 255
    basic = lab(np.array([NAMED_RGB[word] for word in BASIC_COLORS]))
    is_close = np.linalg.norm(lab(fixed)[:, None] - basic, axis=2).min(axis=1) < APART
    order = np.argsort(is_close, kind="stable").tolist()
    return (*(FIRST_COLORS[index] for index in order), *palette(max(count, len(order)))[len(order) :])[:count]
