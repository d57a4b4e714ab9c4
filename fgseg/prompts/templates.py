"""Templates: sentences around a query word, and the texts for the encoder that they make."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fgseg._checks import describe
from fgseg.errors import PromptError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.files import read_template_file
from fgseg.prompts.word_lists import IMAGENET_TEMPLATES
from fgseg.prompts.words import check_templates, places_in, quote

__all__ = ["TextPlan", "expand", "templates_named"]

_TEMPLATES = "'none', 'imagenet', a text file or a list of templates"


@dataclass(frozen=True)
class TextPlan:
    """The texts to encode, and which of them belong to which query word of which class; `expand` makes it.

    Attributes:
        texts: the distinct texts, in order of first use.
        rows: per query word the indices into `texts` of its texts, one per template, in template order.
        query_to_class: per query word the index of its class.
    """

    texts: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    query_to_class: tuple[int, ...]


def templates_named(templates: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    """Templates by name, from a file or from a list.

    Args:
        templates: "none" (the word alone), "imagenet" (the 80 of OpenAI CLIP), the path of a text file for
            `read_template_file`, or a list of templates.

    Returns:
        At least one template, each with exactly one "{}", all different.

    Raises:
        PromptError: an unknown name, a file that `read_template_file` refuses, an empty list, a template without
            exactly one "{}", or a template given twice.

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
    checked = tuple(templates)
    check_templates(checked, places_in("templates", checked))
    return checked


def _template_path(value: str | os.PathLike[str]) -> Path:
    if isinstance(value, str) and "{}" in value:
        raise PromptError(f"templates: expected a name or a list, got one template; write [{quote(value)}]")
    path = Path(value)
    with suppress(OSError):  # the name is too long for a file
        if path.is_file():
            return path
    raise PromptError(f"templates: expected {_TEMPLATES}, got {str(value)!r:.200}, and there is no such file")


def expand(classes: Sequence[PromptClass], templates: Sequence[str]) -> TextPlan:
    """Put every query word into every template.

    The words that compete with the classes are given as one more class at the end:
    `expand([*made.classes, PromptClass("rivals", made.rivals)], templates)`.

    Args:
        classes: in label order, at least one. Two of them may have the same query word.
        templates: as `templates_named` returns them. Braces other than "{}" are part of the text.

    Returns:
        A plan with one row per query word, in the order of the classes and of their synonyms.

    Raises:
        PromptError: no class, or templates as `templates_named` refuses them.

    >>> from fgseg.prompts import make_prompt_set
    >>> made = make_prompt_set(["cup, mug"], background=["wall"])
    >>> expand([*made.classes, PromptClass("rivals", made.rivals)], ("{}", "a {}."))
    TextPlan(texts=('cup', 'a cup.', 'mug', 'a mug.', 'wall', 'a wall.'), rows=((0, 1), (2, 3), (4, 5)), \
query_to_class=(0, 0, 1))
    """
    queries = [(word, index) for index, entry in enumerate(classes) for word in entry.synonyms]
    if not queries:
        raise PromptError("classes: expected at least one class, got none; give one word or more")
    check_templates(templates, places_in("templates", templates))
    indices: dict[str, int] = {}
    rows = tuple(
        # replace, not format: a word or template may hold other braces.
        tuple(indices.setdefault(template.replace("{}", word), len(indices)) for template in templates)
        for word, _ in queries
    )
    return TextPlan(tuple(indices), rows, tuple(index for _, index in queries))
