"""Templates: sentences around a query word, and the texts that an encoder sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgseg._checks import describe
from fgseg.errors import PromptError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.files import read_template_file
from fgseg.prompts.word_lists import IMAGENET_TEMPLATES
from fgseg.prompts.words import check_sequence, check_templates, places_in, quote

__all__ = ["TextPlan", "expand", "fill", "templates_named"]


@dataclass(frozen=True)
class TextPlan:
    """Which texts to encode, each once, and which of them make which query word of which class.

    Attributes:
        texts: the distinct texts, in order of first use.
        rows: per query word the indices into `texts` of its templates' texts, in template order.
        query_to_class: per query word the index of its class.

    Raises:
        PromptError: a text twice, `rows` and `query_to_class` of different lengths, or an index of no text.

    >>> TextPlan(("red", "a red thing"), rows=((0, 1),), query_to_class=(0,)).rows
    ((0, 1),)
    """

    texts: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    query_to_class: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(set(self.texts)) != len(self.texts):
            raise PromptError("texts: expected each text once; let `expand` make the plan")
        if len(self.rows) != len(self.query_to_class):
            count = len(self.query_to_class)
            raise PromptError(f"rows: expected {count}, one per entry of query_to_class, got {len(self.rows)}")
        if not all(row and all(0 <= index < len(self.texts) for index in row) for row in self.rows):
            raise PromptError(f"rows: expected indices of the {len(self.texts)} texts, at least one a query word")


_TEMPLATES = "'none', 'imagenet', a text file or a list of templates"


def templates_named(templates: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    """Templates by name, from a file, or one's own.

    Args:
        templates: "none" (the word alone), "imagenet" (the 80 of OpenAI CLIP), the path of a text file for
            `read_template_file`, or a sequence of templates.

    Returns:
        At least one template, each with exactly one "{}", no two the same.

    Raises:
        PromptError: an unknown name, a file `read_template_file` refuses, a template without "{}" or with
            several, a template twice, none.

    >>> templates_named("none"), len(templates_named("imagenet")), templates_named(["a {} on a desk"])
    (('{}',), 80, ('a {} on a desk',))
    """
    if templates == "none":
        return ("{}",)
    if templates == "imagenet":
        return IMAGENET_TEMPLATES
    if isinstance(templates, (str, os.PathLike)):
        return read_template_file(_template_path(templates))
    if not isinstance(templates, Sequence):
        raise PromptError(f"templates: expected {_TEMPLATES}, got {describe(templates)}")
    own = tuple(templates)
    check_templates(own, places_in("templates", own))
    return own


def _template_path(value: str | os.PathLike[str]) -> Path:
    if isinstance(value, str) and "{}" in value:
        raise PromptError(f"templates: expected a name or a list, got one template; write [{quote(value)}]")
    path = Path(value)
    try:
        is_there = path.is_file()
    except OSError:  # a name longer than any file's
        is_there = False
    if not is_there:
        raise PromptError(f"templates: expected {_TEMPLATES}, got {str(value)!r:.200}, and there is no such file")
    return path


def fill(templates: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Every word in every template.

    Args:
        templates: each with exactly one "{}"; nothing else in braces has a meaning.
        words: what to put there, as it is.

    Returns:
        len(words) * len(templates) texts, all of the first word, then all of the second.

    Raises:
        PromptError: a template without "{}" or with several, a template twice, none; `words` no list.

    >>> fill(["a {}.", "the {}."], ["cup", "dog"])
    ('a cup.', 'the cup.', 'a dog.', 'the dog.')
    """
    check_templates(templates, places_in("templates", templates))
    check_sequence("words", words)
    # replace, not format: a word or template may hold other braces.
    return tuple(template.replace("{}", word) for word in words for template in templates)


def expand(classes: Sequence[PromptClass], templates: Sequence[str]) -> TextPlan:
    """The distinct texts of all query words, and where each word's texts are.

    Rivals go along as one more class at the end, here of index 1:
    `expand([*made.classes, PromptClass("rivals", made.rivals)], templates)`.

    Args:
        classes: in label order, at least one; two may share a query word.
        templates: what `templates_named` returns.

    Returns:
        A plan with one row per query word, classes in order and synonyms in order, len(templates) texts each.

    Raises:
        PromptError: no class, or templates that `fill` refuses.

    >>> from fgseg.prompts import make_prompt_set
    >>> made = make_prompt_set(["cup, mug"], background=["wall"])
    >>> expand([*made.classes, PromptClass("rivals", made.rivals)], ("{}", "a {}."))
    TextPlan(texts=('cup', 'a cup.', 'mug', 'a mug.', 'wall', 'a wall.'), rows=((0, 1), (2, 3), (4, 5)), \
query_to_class=(0, 0, 1))
    """
    queries = [(word, index) for index, entry in enumerate(classes) for word in entry.synonyms]
    if not queries:
        raise PromptError("classes: expected at least one class, got none; give one word or more")
    positions: dict[str, int] = {}
    filled = fill(templates, [word for word, _ in queries])
    flat = [positions.setdefault(text, len(positions)) for text in filled]
    step = len(templates)
    rows = tuple(tuple(flat[start : start + step]) for start in range(0, len(flat), step))
    return TextPlan(tuple(positions), rows, tuple(index for _, index in queries))
