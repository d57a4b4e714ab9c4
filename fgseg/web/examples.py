"""Example images: photographs that come with scikit-image, and scenes that are drawn. Nothing is downloaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray

from fgseg.errors import PromptError
from fgseg.images.reading import read_image
from fgseg.scenes.composition import Kind, scene
from fgseg.segmenter import Segmenter

__all__ = ["Example", "examples", "known_prompts"]

SCENE_HW = (320, 480)
SCENES: tuple[tuple[Kind, int], ...] = (("shapes", 35), ("outdoors", 29))
PHRASES_PER_SCENE = 4
COLORS = ("blue", "green", "white", "grey")  # every model knows these


@dataclass(frozen=True)
class Example:
    """An example image.

    Attributes:
        name: file name.
        title: a description, for users who cannot see the image.
        load: makes the image, (H, W, 3) uint8 RGB.
        prompts: lists of prompts; the first list whose words the model knows is proposed.
    """

    name: str
    title: str
    load: Callable[[], NDArray[np.uint8]]
    prompts: tuple[tuple[str, ...], ...]


def examples() -> dict[str, Example]:
    """The examples by name, in the order of the page."""
    listed = (
        _photo("coffee.png", "a cup of coffee", (("cup, mug", "spoon", "table"), ("red", "white", "brown, tan"))),
        _photo("astronaut.png", "an astronaut", (("face", "space suit", "flag"), ("orange", "white", "blue"))),
        _photo("chelsea.png", "a cat's face", (("eye", "nose", "ear"), ("orange, brown", "pink", "green"))),
        _photo("rocket.jpg", "a rocket before its launch", (("rocket", "tower", "sky"), ("blue", "white", "yellow"))),
        *(_drawn(kind, seed) for kind, seed in SCENES),
    )
    return {example.name: example for example in listed}


def known_prompts(seg: Segmenter, example: Example) -> tuple[str, ...]:
    """The first list of prompts of an example whose words the model knows, or an empty list.

    The embedded model refuses words that it was not trained on.
    """
    for prompts in example.prompts:
        try:
            seg.prepare(prompts)
        except PromptError:
            continue
        return prompts
    return ()


def _photo(file: str, title: str, prompts: tuple[tuple[str, ...], ...]) -> Example:
    path = Path(skimage.__file__).parent / "data" / file
    return Example(file, title, lambda: read_image(path), prompts)


def _drawn(kind: Kind, seed: int) -> Example:
    # Things in the foreground come last in a scene, and first among the prompts.
    things = reversed(scene(seed, SCENE_HW, kind=kind).things)
    phrases = [phrase for phrase in dict.fromkeys(thing.phrase.text for thing in things) if phrase != "thing"]
    prompts = tuple(phrases[:PHRASES_PER_SCENE])
    title = f"a drawn scene: {', '.join(prompts)}"
    return Example(f"{kind}.png", title, lambda: scene(seed, SCENE_HW, kind=kind).image, (prompts, COLORS))
