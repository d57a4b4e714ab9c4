"""Checks of words and lists of words. Their messages name the place where a word was given.

Two words are the same word when they differ only in case, in the width of their spaces or in how an accent is written
(Unicode's NFC), because CLIP's tokenizer makes the same vector of both. FG-CLIP 2 lower-cases its text too.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from fgseg._checks import describe
from fgseg.errors import PromptError

__all__ = [
    "check_characters",
    "check_sequence",
    "check_templates",
    "check_word",
    "check_words",
    "first_repeat",
    "is_color",
    "places_in",
    "quote",
    "same_key",
    "split_words",
    "strip_word",
]

_SYNONYM_COMMA = re.compile(r"(?<!\\),")


def same_key(word: str) -> str:
    """A key that is equal for all spellings of one word."""
    return " ".join(unicodedata.normalize("NFC", word).lower().split())


def first_repeat(words: Iterable[str]) -> tuple[int, int] | None:
    """The indices of the first word that occurs again and of its second occurrence; None if all words differ."""
    seen: dict[str, int] = {}
    for index, word in enumerate(words):
        first = seen.setdefault(same_key(word), index)
        if first != index:
            return first, index
    return None


def quote(text: str, limit: int = 40) -> str:
    """The text in quotes. A text longer than `limit` characters is cut and ends in …."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def places_in(name: str, items: Sequence[object]) -> list[str]:
    """The name of each item in messages: name[0], name[1], ..."""
    return [f"{name}[{index}]" for index in range(len(items))]


def is_color(value: object) -> bool:
    """Whether the value is a tuple of three ints from 0 to 255."""
    # type, not isinstance: True is an int and not a color level.
    return isinstance(value, tuple) and len(value) == 3 and all(type(c) is int and 0 <= c <= 255 for c in value)


def strip_word(place: str, value: object) -> str:
    """The string without leading and trailing space. Anything but one line with a word is refused."""
    if not isinstance(value, str):
        raise PromptError(f"{place}: expected a string, got {describe(value)}; write it in quotes")
    word = value.strip()
    if not word:
        raise PromptError(f"{place}: expected a word or phrase, got an empty string; fill it in or leave it out")
    if len(word.splitlines()) > 1:
        raise PromptError(f"{place}: expected one line, got {quote(word)}; take the line break out")
    check_characters(place, word)
    return word


def check_characters(place: str, text: str) -> None:
    """Refuse lone surrogates, which undecodable file names and broken JSON contain and no tokenizer accepts."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"{place}: expected valid Unicode, got {text!a:.60}; write it in UTF-8") from error


def split_words(place: str, value: object) -> tuple[str, ...]:
    r"""The words between the commas of a string. `\,` is a comma inside a word."""
    line = strip_word(place, value)
    words = tuple(part.replace("\\,", ",").strip() for part in _SYNONYM_COMMA.split(line))
    if not all(words):
        raise PromptError(f"{place}: expected a word on each side of a comma, got {quote(line)}; drop a comma")
    return words


def check_words(name: str, words: object) -> None:
    """Refuse anything but a tuple of distinct words without space around them."""
    if not isinstance(words, tuple):
        raise PromptError(f"{name}: expected a tuple of strings, got {describe(words)}; write ('red',)")
    for place, word in zip(places_in(name, words), words, strict=True):
        check_word(place, word)
    if repeat := first_repeat(words):
        raise PromptError(f"{name}: expected each word once, got {quote(words[repeat[1]])} twice; drop one")


def check_word(place: str, value: object) -> None:
    """Refuse anything but a word or phrase without space around it."""
    if strip_word(place, value) != value:
        raise PromptError(f"{place}: expected no space around it, got {value!r:.60}; strip it")


def check_sequence(name: str, values: object) -> Sequence[Any]:
    """The value itself. Anything but a list or tuple is refused."""
    # Neither a set nor a dict: the order is the label order, and the values of a dict would be lost.
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise PromptError(f"{name}: expected a list of strings, got {describe(values)}; write ['red', 'dog']")
    return values


def check_templates(templates: Sequence[Any], places: Sequence[str]) -> None:
    """Refuse an empty list, a template without exactly one "{}", and a template given twice."""
    if isinstance(templates, str) or not templates:
        raise PromptError(f"templates: expected a list, got {describe(templates)}; ['{{}}'] is the word alone")
    for place, template in zip(places, templates, strict=True):
        if not isinstance(template, str) or template.count("{}") != 1:
            raise PromptError(f"{place}: expected one {{}} where the word goes, got {describe(template)}; write one")
        check_characters(place, template)
    if repeat := first_repeat(templates):
        first, second = (places[index] for index in repeat)
        raise PromptError(
            f"{first} and {second}: expected each template once, got {quote(templates[repeat[1]])} twice; "
            "drop one, because it would count double in the mean"
        )
