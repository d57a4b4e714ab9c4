r"""Classes with synonyms, background words and negative words, from strings.

A *class* has a name and one or more *query words*, its synonyms. Every query word is put into every *template*, which
makes the *texts* that an encoder sees.

    >>> from fgseg.prompts import expand
    >>> classes = parse_classes(["person, man, woman", "dog"])
    >>> plan = expand(classes, ["a photo of a {}."])
    >>> plan.texts
    ('a photo of a person.', 'a photo of a man.', 'a photo of a woman.', 'a photo of a dog.')
    >>> plan.query_to_class
    (0, 0, 0, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fgseg._checks import describe
from fgseg.errors import OptionError, PromptError
from fgseg.prompts.word_lists import BACKGROUND_WORDS
from fgseg.prompts.words import (
    check_sequence,
    check_word,
    check_words,
    first_repeat,
    is_color,
    places_in,
    quote,
    same_key,
    split_words,
)

__all__ = [
    "PromptClass",
    "PromptSet",
    "SharedSynonyms",
    "check_distinct",
    "make_class",
    "make_prompt_set",
    "parse_classes",
    "parse_words",
]

SharedSynonyms = Literal["refuse", "allow"]
"""Whether two classes may have the same query word; see `parse_classes`."""


@dataclass(frozen=True)
class PromptClass:
    """A class: its name and the words that find it.

    A comma in a query word has no meaning here, unlike in `parse_classes`.

    Attributes:
        name: the name of the class in results. The model sees it only if it is also one of `synonyms`.
        synonyms: the query words, at least one. The score of a pixel is the best of their scores.
        color: (red, green, blue), each 0 to 255, for pictures; None takes a color of the palette.

    Raises:
        PromptError: a name or query word that is empty, has space around it or several lines; the same query
            word twice; another kind of color.

    >>> PromptClass("sitting dog", ("a dog, sitting",), color=(255, 0, 0)).synonyms
    ('a dog, sitting',)
    """

    name: str
    synonyms: tuple[str, ...]
    color: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        check_word("name", self.name)
        check_words("synonyms", self.synonyms)
        if not self.synonyms:
            raise PromptError("synonyms: expected at least one query word, got none; the name does not count as one")
        if not (self.color is None or is_color(self.color)):
            raise PromptError(f"color: expected three whole numbers from 0 to 255, got {self.color!r:.60}")


@dataclass(frozen=True)
class PromptSet:
    """The classes to look for and the words that compete with them.

    Attributes:
        classes: the classes, in label order.
        background: words for "anything else". A pixel where one of them scores best belongs to no class.
        negatives: words for what is not meant. They compete like background words and never label a pixel.

    Raises:
        PromptError: no class, two classes of one name, the same word twice in a list, or a background or
            negative word that is also a query word of a class.

    >>> PromptSet(parse_classes(["cup"]), background=("table",), negatives=("plate", "Table")).rivals
    ('table', 'plate')
    """

    classes: tuple[PromptClass, ...]
    background: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        is_tuple = isinstance(self.classes, tuple) and self.classes
        if not (is_tuple and all(isinstance(entry, PromptClass) for entry in self.classes)):
            raise PromptError(
                f"classes: expected a tuple of at least one PromptClass, got {describe(self.classes)}; "
                "make_prompt_set takes strings"
            )
        check_distinct(self.classes, places_in("classes", self.classes), shared_synonyms="allow")
        for kind, words in (("background", self.background), ("negatives", self.negatives)):
            check_words(kind, words)
            self._check_rivals(kind, words)

    def _check_rivals(self, kind: str, words: Sequence[str]) -> None:
        class_of = {same_key(word): entry.name for entry in self.classes for word in entry.synonyms}
        for place, word in zip(places_in(kind, words), words, strict=True):
            if same_key(word) in class_of:
                raise PromptError(
                    f"{place}: expected a word that no class looks for, got {quote(word)}, a query word of class "
                    f"{quote(class_of[same_key(word)])}; take it out of one of the two"
                )

    @property
    def rivals(self) -> tuple[str, ...]:
        """The words that compete with the classes: background words, then negatives that are not among them."""
        known = {same_key(word) for word in self.background}
        return self.background + tuple(word for word in self.negatives if same_key(word) not in known)


def parse_classes(
    values: Sequence[str | PromptClass], *, shared_synonyms: SharedSynonyms = "refuse"
) -> tuple[PromptClass, ...]:
    r"""Make classes from strings, one class per string, in label order.

    A comma separates synonyms, and the first synonym is the name of the class. `\,` is a comma inside a query word.
    A `PromptClass` is kept unchanged.

    Args:
        values: strings or `PromptClass`, at least one, in label order.
        shared_synonyms: "refuse" two classes with the same query word, because pixels of that word would all go
            to the first; or "allow" it, for published class lists that have one (SCLIP's coco-object has "bed" as
            a background word and as a class).

    Returns:
        One class per value, in the same order.

    Raises:
        PromptError: no value, something that is not a string, an empty synonym, two classes of one name, or a
            query word given twice.
        OptionError: another value of `shared_synonyms`.

    >>> [entry.synonyms for entry in parse_classes(["red", "blue circle", "person,man", "a dog\\, sitting"])]
    [('red',), ('blue circle',), ('person', 'man'), ('a dog, sitting',)]
    """
    items = check_sequence("prompts", values)
    places = places_in("prompts", items)
    if not items:
        raise PromptError("prompts: expected at least one, got none; write ['red']")
    classes = tuple(_parse_class(place, item) for place, item in zip(places, items, strict=True))
    check_distinct(classes, places, shared_synonyms=shared_synonyms)
    return classes


def make_prompt_set(
    prompts: Sequence[str | PromptClass],
    *,
    background: Sequence[str] | None = None,
    negatives: Sequence[str] = (),
    default_background: Sequence[str] = BACKGROUND_WORDS,
    shared_synonyms: SharedSynonyms = "refuse",
) -> PromptSet:
    """Make classes and the words that compete with them.

    Args:
        prompts: the classes, as `parse_classes` takes them.
        background: background words; `()` for none. None takes `default_background` without the query words of
            the classes, so that a class "sky" does not compete with the default word "sky".
        negatives: words for what is not meant. Commas separate words in `background` and `negatives` too.
        default_background: the model's own background words.
        shared_synonyms: as in `parse_classes`.

    Returns:
        The prompt set. Its background is empty if `background` is, or if the classes use all default words.

    Raises:
        PromptError: as `parse_classes`; the same word twice in a list; a word of `background` or `negatives` that
            is also a query word of a class.
        OptionError: as `parse_classes`.

    >>> made = make_prompt_set(["Sky", "cup"], negatives=["plate"], default_background=("sky", "wall"))
    >>> made.background, made.negatives
    (('wall',), ('plate',))
    """
    classes = parse_classes(prompts, shared_synonyms=shared_synonyms)
    if background is None:
        queries = {same_key(word) for entry in classes for word in entry.synonyms}
        defaults = parse_words("default_background", default_background)
        background_words = tuple(word for word in defaults if same_key(word) not in queries)
    else:
        background_words = parse_words("background", background)
    return PromptSet(classes, background=background_words, negatives=parse_words("negatives", negatives))


def parse_words(name: str, values: object) -> tuple[str, ...]:
    """The words of a list of strings, in which commas separate words.

    Args:
        name: the argument's name, for messages.
        values: a list of strings.

    Raises:
        PromptError: one string instead of a list, or an entry without a word.

    >>> parse_words("background", ["sky, wall", "floor"])
    ('sky', 'wall', 'floor')
    """
    items = check_sequence(name, values)
    places = places_in(name, items)
    return tuple(word for place, item in zip(places, items, strict=True) for word in split_words(place, item))


def _parse_class(place: str, value: object) -> PromptClass:
    if isinstance(value, PromptClass):
        return value
    words = split_words(place, value)
    return make_class(place, words[0], words)


def make_class(
    place: str, name: str, synonyms: tuple[str, ...], color: tuple[int, int, int] | None = None
) -> PromptClass:
    """A `PromptClass` whose errors name the place that it was read from."""
    try:
        return PromptClass(name, synonyms, color)
    except PromptError as error:
        raise PromptError(f"{place}: {error}") from None


def check_distinct(classes: Sequence[PromptClass], places: Sequence[str], *, shared_synonyms: str) -> None:
    """Refuse two classes of one name and, unless allowed, a query word of two classes."""
    if shared_synonyms not in ("refuse", "allow"):
        raise OptionError(f"shared_synonyms: expected 'refuse' or 'allow', got {shared_synonyms!r:.60}")
    if repeat := first_repeat(entry.name for entry in classes):
        first, second = (places[index] for index in repeat)
        name = quote(classes[repeat[1]].name)
        raise PromptError(f"{first} and {second}: expected each class once, got {name} twice; rename or drop one")
    if shared_synonyms == "allow":
        return
    queries = [(place, word) for place, entry in zip(places, classes, strict=True) for word in entry.synonyms]
    if repeat := first_repeat(word for _, word in queries):
        (first, _), (second, word) = (queries[index] for index in repeat)
        raise PromptError(
            f"{first} and {second}: expected a query word in one class, got {quote(word)} in both, where "
            "only the first could ever win; drop one (shared_synonyms='allow' keeps both)"
        )
