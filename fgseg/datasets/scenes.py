"""Procedural scenes as labelled data sets, on which `fgseg bench` runs without data."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_choice, check_whole
from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.prompts.classes import PromptClass
from fgseg.scenes.composition import Kind, Scene, scene, truth_table
from fgseg.scenes.vocabulary import BACKGROUND, BASIC_COLORS, MATERIALS, NAMED_RGB, PATTERNS, SHAPES, Phrase

__all__ = ["MEASURED_SEED", "SCENE_SETS", "SWEPT_SEED", "SceneLabels", "open_scenes"]

MEASURED_SEED = 10_000_000
"""First seed of the scenes for reported figures. Training uses seeds from 0, below 10,000,000."""
SWEPT_SEED = 20_000_000
"""First seed of the scenes on which settings are chosen."""
_IGNORE = 255

_PHRASES = {
    "scenes-colors": tuple(Phrase(color=color) for color in BASIC_COLORS),
    "scenes-materials": tuple(Phrase(noun=material) for material in MATERIALS),
    "scenes-patterns": tuple(Phrase(pattern=pattern) for pattern in PATTERNS),
    "scenes-shapes": (Phrase(noun=BACKGROUND), *(Phrase(noun=shape) for shape in SHAPES)),
}

_MATERIAL_KINDS: tuple[Kind, ...] = ("outdoors", "collage", "outdoors", "room")
"""Kinds of the scenes with materials, in turn. Scenes of the other sets are of shapes."""

SCENE_SETS: tuple[str, ...] = tuple(_PHRASES)
"""Names of the procedural data sets."""


@dataclass(frozen=True)
class SceneLabels:
    """The phrase that is true at each pixel of a scene. Pixels without exactly one true phrase are ignored."""

    seed: int
    size_hw: tuple[int, int]
    kind: Kind
    phrases: tuple[Phrase, ...]

    @property
    def path(self) -> Path:
        """A name instead of a file."""
        return Path(f"{self.seed}.labels")

    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.size_hw

    def meaning(self) -> str:
        """The scene and its phrases, as text."""
        return f"{self.seed} {self.size_hw} {self.phrases}"

    def scene(self) -> Scene:
        """The scene, drawn on demand."""
        return _draw(self.seed, self.size_hw, self.kind)

    def read(self) -> NDArray[np.int32]:
        """Draw the scene and label its pixels."""
        truth = truth_table(self.scene(), self.phrases)
        is_one = (truth == 1).sum(0) == 1
        return np.where(is_one, (truth == 1).argmax(0), _IGNORE).astype(np.int32)


@dataclass(frozen=True)
class SceneImage(LabelledImage):
    """The picture of a scene, drawn on demand."""

    scene_labels: SceneLabels

    def read_image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        return self.scene_labels.scene().image


def open_scenes(name: str, *, count: int = 200, side: int = 224, first_seed: int = MEASURED_SEED) -> Dataset:
    """A labelled data set of procedural scenes that are not used in training; each is drawn when it is read.

    Args:
        name: one of `SCENE_SETS`. "scenes-shapes" has a background, the areas that no shape covers. In
            "scenes-colors", pixels of a colour between two color terms are ignored.
        count: number of scenes.
        side: side of the square scenes, in pixels.
        first_seed: seed of the first scene. Choose settings on the scenes from `SWEPT_SEED`; no figure is
            reported on them.

    Raises:
        OptionError: an unknown name, or numbers below 1.

    >>> data = open_scenes("scenes-shapes", count=2, side=32)
    >>> data.classes[0].name, len(data.items), data.items[0].read_labels().shape
    ('background', 2, (32, 32))
    """
    check_choice("name", name, SCENE_SETS)
    for option, value in (("count", count), ("side", side)):
        check_whole(option, value, low=1, high=1_000_000)
    phrases = _PHRASES[name]
    seeds = range(first_seed, first_seed + count)
    items = tuple(_item(seed, (side, side), name) for seed in seeds)
    has_background = phrases[0] == Phrase(noun=BACKGROUND)
    return Dataset(name, Path(f"{side}"), _classes(phrases), items, _IGNORE, has_background)


def _classes(phrases: Sequence[Phrase]) -> tuple[PromptClass, ...]:
    return tuple(PromptClass(phrase.text, (phrase.text,), _rgb(phrase)) for phrase in phrases)


def _rgb(phrase: Phrase) -> tuple[int, int, int] | None:
    """The colour of a phrase that names a colour alone, for pictures."""
    if phrase.color is None or phrase.pattern or phrase.noun:
        return None
    red, green, blue = (round(255 * level) for level in NAMED_RGB[phrase.color])
    return red, green, blue


def _item(seed: int, size_hw: tuple[int, int], name: str) -> SceneImage:
    kind: Kind = _MATERIAL_KINDS[seed % len(_MATERIAL_KINDS)] if name == "scenes-materials" else "shapes"
    source = SceneLabels(seed, size_hw, kind, _PHRASES[name])
    return SceneImage(str(seed), Path(f"{seed}.scene"), source, source)


@lru_cache(maxsize=2)  # an image and its labels are read one after the other
def _draw(seed: int, size_hw: tuple[int, int], kind: Kind) -> Scene:
    return scene(seed, size_hw, kind=kind)
