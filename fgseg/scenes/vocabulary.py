"""The vocabulary of the embedded model: colours, patterns, shapes, materials, and phrases of them.

Colour names are those of the xkcd color name survey (R. Munroe, 2010; CC0; matplotlib has the table) and the eleven
basic terms of English (Berlin and Kay, 1969). Whether a name fits a colour depends on their distance in CIE L*a*b*.
Colour terms overlap, so there is a range between yes and no where the truth is left open.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import XKCD_COLORS, to_rgb
from numpy.typing import NDArray

__all__ = [
    "ANY_SHAPE",
    "BACKGROUND",
    "BASIC_COLORS",
    "BASIC_SAMPLES",
    "CLUTTER",
    "COLOR_NAMES",
    "MATERIALS",
    "MATERIAL_WORDS",
    "MAYBE",
    "NAMED_RGB",
    "PATTERNS",
    "RIVAL",
    "SHAPES",
    "Phrase",
    "color_truth",
    "lab",
    "words",
]

BASIC_COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
PATTERNS = ("plain", "striped", "checkered", "dotted", "speckled", "wavy")
SHAPES = (
    "circle", "oval", "square", "rectangle", "triangle", "diamond",
    "pentagon", "hexagon", "star", "cross", "ring", "crescent", "heart", "blob",
)  # fmt: skip
BACKGROUND = "background"
ANY_SHAPE = ("shape", "thing")  # nouns that fit every shape, but not the background
CLUTTER = "clutter"  # the shape of things without a name in this vocabulary
# The names of each material. MAYBE holds further names that some people would use.
MATERIALS: dict[str, tuple[str, ...]] = {
    "sky": ("sky",),
    "grass": ("grass", "lawn"),
    "tree": ("tree", "trees", "foliage", "leaves"),
    "bush": ("bush", "hedge", "foliage", "leaves"),
    "sea": ("sea", "water"),
    "river": ("river", "water"),
    "sand": ("sand", "beach"),
    "snow": ("snow",),
    "dirt": ("dirt", "dirt ground", "soil", "earth"),
    "gravel": ("gravel",),
    "road": ("road", "street", "asphalt"),
    "pavement": ("pavement", "sidewalk"),
    "concrete": ("concrete",),
    "rock": ("rock", "stone"),
    "mountain": ("mountain", "hill"),
    "stone wall": ("stone wall", "stone"),
    "brick wall": ("brick wall", "brick"),
    "wood": ("wood", "wooden floor", "wooden wall", "planks"),
    "tiles": ("tiles", "tiled wall", "tiled floor"),
    "wall": ("wall", "painted wall"),
    "building": ("building", "house"),
}
MAYBE: dict[str, tuple[str, ...]] = {
    "grass": ("hill",),
    "tree": ("bush", "hedge", "hill", "mountain"),
    "bush": ("tree", "trees", "grass"),
    "sea": ("river",),
    "river": ("sea",),
    "sand": ("dirt", "dirt ground", "soil", "earth", "gravel"),
    "dirt": ("sand", "gravel", "road", "hill"),
    "gravel": ("stone", "rock", "dirt", "dirt ground", "road"),
    "road": ("concrete",),
    "pavement": ("concrete", "stone", "tiles", "tiled floor"),
    "concrete": ("wall", "pavement", "sidewalk", "stone", "road", "street"),
    "rock": ("mountain", "stone wall", "hill"),
    "mountain": ("rock", "stone", "tree", "trees", "grass"),
    "stone wall": ("wall", "rock", "brick", "brick wall"),
    "brick wall": ("wall", "stone wall", "stone", "building", "house"),
    "wood": ("wall",),
    "tiles": ("wall", "stone"),
    "wall": ("concrete", "building", "house"),
    "building": ("wall", "painted wall", "brick", "brick wall", "concrete", "stone wall"),
}
MATERIAL_WORDS = tuple(dict.fromkeys(word for names in MATERIALS.values() for word in names))
RIVAL = "anything else"  # competes with every prompt; never the name of a thing in training

_COARSE = re.compile(r"shit|poo|puke|vomit|barf|snot|booger|piss|diarrhea|bile", re.IGNORECASE)
# Basic terms of names that do not end in one.
_BASIC_OF_NAME = {
    "navy": "blue", "cobalt": "blue", "azure": "blue", "cerulean": "blue", "sapphire": "blue",
    "maroon": "red", "crimson": "red", "scarlet": "red", "burgundy": "red", "ruby": "red", "vermillion": "red",
    "cherry": "red", "claret": "red", "lime": "green", "emerald": "green", "olive": "green", "forest": "green",
    "violet": "purple", "lavender": "purple", "lilac": "purple", "plum": "purple", "grape": "purple",
    "fuchsia": "pink", "rose": "pink", "salmon": "pink", "chocolate": "brown", "sienna": "brown", "umber": "brown",
    "coffee": "brown", "mocha": "brown", "cream": "white", "ivory": "white", "eggshell": "white", "silver": "grey",
    "slate": "grey", "charcoal": "grey", "gunmetal": "grey", "tangerine": "orange", "pumpkin": "orange",
    "mustard": "yellow", "lemon": "yellow", "gold": "yellow", "canary": "yellow",
}  # fmt: skip

NAMED_RGB: dict[str, tuple[float, float, float]] = {
    key.removeprefix("xkcd:").replace("/", " ").replace("'", ""): to_rgb(value)
    for key, value in XKCD_COLORS.items()
    if not _COARSE.search(key) and key.removeprefix("xkcd:") not in MATERIAL_WORDS  # "grass" is a material, not a green
}
COLOR_NAMES = tuple(NAMED_RGB)

# Distances in L*a*b*. A survey name fits colours up to FITS away, and does not fit those more than MISFITS away.
FITS, MISFITS = 8.0, 20.0
# The same for a basic term: how much farther its nearest sample is than the nearest sample of all terms.
BASIC_FITS, BASIC_MISFITS = 6.0, 10.0
FAINT = 4.5  # chroma in L*a*b* up to which a colour has no hue; only white, grey and black can fit it
WHITISH = 97.0  # lightness from which a colour without hue is not grey
HUELESS = ("white", "grey", "black")


def lab(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """Convert sRGB to CIE L*a*b* (D65).

    `skimage.color.rgb2lab` differs by up to 0.005 and changes 31 of 18 million results of `color_truth`, and so the
    pictures of some seeds.

    Args:
        rgb: (..., 3) in [0, 1].

    Examples:
        >>> lab(np.array([1.0, 1.0, 1.0])).round(1).tolist()
        [100.0, 0.0, 0.0]
    """
    rgb = np.asarray(rgb, np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ matrix.T / matrix.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _basic_of(name: str) -> str | None:
    last = name.split()[-1].replace("gray", "grey")
    return last if last in BASIC_COLORS else _BASIC_OF_NAME.get(last)


def _is_faint(colors: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.hypot(colors[..., 1], colors[..., 2]) <= FAINT


def _sample_of(name: str, color: NDArray[np.float64]) -> str | None:
    """The basic term that the colour of a survey name is a sample of.

    "very light pink" and "pale grey" are samples of none: seen alone, the survey's colours for them look white.
    """
    basic = _basic_of(name)
    if basic != "white" and _is_faint(color) and (color[0] >= WHITISH or basic not in HUELESS):
        return None
    return basic


_NAMED_LAB = lab(np.array(list(NAMED_RGB.values())))
_SAMPLE_OF = tuple(map(_sample_of, COLOR_NAMES, _NAMED_LAB))
_IS_SAMPLE = tuple(np.array([term == basic for term in _SAMPLE_OF]) for basic in BASIC_COLORS)
BASIC_SAMPLES: dict[str, tuple[tuple[float, float, float], ...]] = {
    basic: tuple(rgb for rgb, term in zip(NAMED_RGB.values(), _SAMPLE_OF, strict=True) if term == basic)
    for basic in BASIC_COLORS
}
_INDEX = {name: index for index, name in enumerate(COLOR_NAMES)}


def color_truth(rgb: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.int8]:
    """Whether each name fits each colour.

    Args:
        rgb: (N, 3) sRGB in [0, 1].
        names: P colour names, basic or from the survey.

    Returns:
        (N, P) int8: 1 fits, 0 does not fit, -1 open.

    Examples:
        >>> color_truth(np.array([[0.9, 0.0, 0.0]]), ["red", "cherry red", "blue"]).tolist()
        [[1, -1, 0]]
    """
    colors = lab(rgb)
    distance = np.linalg.norm(colors[:, None] - _NAMED_LAB, axis=-1)
    to_basic = np.stack([distance[:, is_sample].min(1) for is_sample in _IS_SAMPLE], 1)
    excess = to_basic - to_basic.min(1, keepdims=True)
    columns = []
    for name in names:
        if name in BASIC_COLORS:
            far, fits, misfits = excess[:, BASIC_COLORS.index(name)], BASIC_FITS, BASIC_MISFITS
            if name not in HUELESS:
                far = np.where(_is_faint(colors), np.inf, far)
        else:
            far, fits, misfits = distance[:, _INDEX[name]], FITS, MISFITS
        columns.append(np.where(far <= fits, 1, np.where(far > misfits, 0, -1)))
    return np.stack(columns, 1).astype(np.int8)


@dataclass(frozen=True)
class Phrase:
    """A description of things by up to three attributes; None leaves an attribute open.

    Attributes:
        color: a basic or survey colour name.
        pattern: one of PATTERNS.
        noun: a shape, a material, "background", or one of ANY_SHAPE.
    """

    color: str | None = None
    pattern: str | None = None
    noun: str | None = None

    @property
    def text(self) -> str:
        """The phrase in English word order."""
        return " ".join(filter(None, (self.color, self.pattern, self.noun)))


def words() -> tuple[str, ...]:
    """All words of the embedded model, sorted."""
    others = (
        "a an the is are there and in of on at picture image photo with large small one two three four five six things"
    )
    others += " top bottom left right center this shows it gray anything else behind front under above between"
    sources = [*COLOR_NAMES, *BASIC_COLORS, *PATTERNS, *SHAPES, *ANY_SHAPE, *MATERIAL_WORDS, BACKGROUND, others]
    return tuple(sorted({word for source in sources for word in source.split()}))
