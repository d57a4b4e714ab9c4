"""Captions of a scene, and false phrases for its things."""

import numpy as np

from fgseg.scenes.composition import Scene
from fgseg.scenes.vocabulary import (
    ANY_SHAPE,
    BACKGROUND,
    BASIC_COLORS,
    COLOR_NAMES,
    MATERIAL_WORDS,
    MATERIALS,
    PATTERNS,
    SHAPES,
    Phrase,
)

__all__ = ["change_phrase", "long_caption", "random_phrase", "short_caption"]

_COUNTS = ("", "one", "two", "three", "four", "five", "six")


def _front_and_ground(drawn: Scene) -> tuple[list[int], list[int]]:
    """Indices of the shapes, and of the backgrounds and materials."""
    front = [index for index, thing in enumerate(drawn.things) if thing.shape in SHAPES]
    return front, [i for i, thing in enumerate(drawn.things) if thing.shape in (BACKGROUND, *MATERIALS)]


def short_caption(drawn: Scene) -> str:
    """Names the shapes and their first background, or the materials of a landscape."""
    front, ground = ([drawn.things[index].phrase.text for index in group] for group in _front_and_ground(drawn))
    if not front:
        return f"a picture of {' and '.join(dict.fromkeys(ground))}"
    return f"a {' and a '.join(front)}" + (f" on a {ground[0]}" if ground else "")


def long_caption(drawn: Scene) -> str:
    """One sentence per thing, with its position and size; for at most six shapes."""
    front, ground = _front_and_ground(drawn)
    sentences = [f"this image shows {_COUNTS[len(front)]} things"] if front else []
    sentences += [f"a {_size(drawn, i)}{drawn.things[i].phrase.text} is {_position(drawn, i)}" for i in front]
    for index in ground:
        where = f" {_position(drawn, index)}" if len(ground) > 1 else ""
        sentences.append(f"there is a {drawn.things[index].phrase.text}{where}")
    return " . ".join(sentences) + " ."


def _size(drawn: Scene, index: int) -> str:
    share = np.count_nonzero(drawn.labels == index) / drawn.labels.size
    return "large " if share > 0.12 else "small " if share < 0.03 else ""


def _position(drawn: Scene, index: int) -> str:
    mask = drawn.labels == index
    area = np.count_nonzero(mask)
    if not area:
        return "in the picture"
    row, column = (float(mask.sum(axis) @ np.arange(mask.shape[1 - axis])) / area for axis in (1, 0))
    height, width = drawn.labels.shape
    vertical = _third(row / height, "top", "bottom")
    horizontal = _third(column / width, "left", "right")
    return f"at the {' '.join(filter(None, (vertical, horizontal))) or 'center'}"


def _third(fraction: float, low: str, high: str) -> str:
    return low if fraction < 0.38 else high if fraction > 0.62 else ""


def change_phrase(rng: np.random.Generator, phrase: Phrase) -> Phrase:
    """The phrase with one attribute changed, as a hard negative."""
    if phrase.noun in MATERIAL_WORDS:
        return Phrase(phrase.color, phrase.pattern, _other(rng, MATERIAL_WORDS, phrase.noun))
    attribute = rng.choice(["color", "pattern", "noun"], p=[0.4, 0.25, 0.35])
    if attribute == "noun" and phrase.noun in SHAPES:
        return Phrase(phrase.color, phrase.pattern, _other(rng, SHAPES, phrase.noun))
    if attribute == "pattern":
        return Phrase(phrase.color, _other(rng, PATTERNS, phrase.pattern or "plain"), phrase.noun)
    return Phrase(_other(rng, BASIC_COLORS, phrase.color), phrase.pattern, phrase.noun)


def random_phrase(rng: np.random.Generator) -> Phrase:
    """A random phrase, which most scenes do not contain."""
    if rng.random() < 0.2:
        return Phrase(noun=MATERIAL_WORDS[rng.integers(len(MATERIAL_WORDS))])
    palette = BASIC_COLORS if rng.random() < 0.6 else COLOR_NAMES
    color = palette[rng.integers(len(palette))] if rng.random() < 0.8 else None
    pattern = PATTERNS[rng.integers(1, len(PATTERNS))] if rng.random() < 0.25 else None
    noun = (*SHAPES, *ANY_SHAPE, BACKGROUND)[rng.integers(len(SHAPES) + 3)] if rng.random() < 0.5 else None
    return Phrase(color, pattern, noun) if color or pattern or noun else Phrase(noun=SHAPES[rng.integers(len(SHAPES))])


def _other(rng: np.random.Generator, words: tuple[str, ...], word: str | None) -> str:
    others = [candidate for candidate in words if candidate != word]
    return others[rng.integers(len(others))]
