"""Example images and words: photographs that come with scikit-image, scenes that are drawn, words of a small model.

Nothing is downloaded.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray

from fgseg.errors import ModelNotFoundError, PromptError
from fgseg.images.reading import read_image
from fgseg.scenes.composition import Kind, scene
from fgseg.scenes.vocabulary import BASIC_COLORS, MATERIALS, PATTERNS, SHAPES
from fgseg.segmenter import Segmenter

__all__ = [
    "FULL_MODEL_COMMAND",
    "Example",
    "examples",
    "known_prompts",
    "unknown_words",
    "vocabulary",
    "word_groups",
]

FULL_MODEL_COMMAND = "fgseg serve --model fg-clip-base"
"""The command that starts the page with a model that takes any word."""
GROUPS = {"colours": BASIC_COLORS, "patterns": PATTERNS, "shapes": SHAPES, "materials": tuple(MATERIALS)}

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


def vocabulary(seg: Segmenter) -> frozenset[str]:
    """The words of a model with a closed vocabulary; empty for a model that takes any word."""
    tokenizer = getattr(seg.encoder, "tokenizer", None)
    try:
        return frozenset(tokenizer.words() if tokenizer else ())
    except ModelNotFoundError:  # a model without a tokenizer; its error appears with the first prompt
        return frozenset()


def unknown_words(seg: Segmenter, texts: Sequence[str]) -> list[str]:
    """The words of some texts that a model with a closed vocabulary does not know, in their order."""
    known = vocabulary(seg)
    words = (word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower()))
    return [word for word in words if word not in known] if known else []


def word_groups(seg: Segmenter) -> dict[str, tuple[str, ...]]:
    """Words to propose for a model with a closed vocabulary, by their kind; only words that it knows."""
    known = vocabulary(seg)
    groups = {
        title: tuple(phrase for phrase in phrases if known.issuperset(phrase.split()))
        for title, phrases in GROUPS.items()
    }
    return {title: phrases for title, phrases in groups.items() if phrases}


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
