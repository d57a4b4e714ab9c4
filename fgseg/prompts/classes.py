r"""Words in, texts to encode out: classes, synonyms, templates, background words and class files.

A *class* has a name and one or more *query words* (its synonyms); every query word is put into every
*template*, which makes the *texts* that an encoder sees. Strings only.

Two words are the same word when they differ only in case or in the width of their spaces, because CLIP's
tokenizer (and FG-CLIP 2, which lower-cases its text) makes the same vector of both.

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
    "SharedPrompts",
    "check_distinct",
    "make_class",
    "make_prompt_set",
    "parse_classes",
    "parse_words",
]

SharedPrompts = Literal["refuse", "allow"]
"""Whether two classes may hold the same query word; see `parse_classes`."""


@dataclass(frozen=True)
class PromptClass:
    """One class: what it is called and the words that find it.

    Commas mean nothing here, so this is one way to write a prompt that holds one.

    Attributes:
        name: what results call the class; never shown to the model unless it is also among `synonyms`.
        synonyms: its query words, at least one; a pixel's score is the best of theirs.
        color: (red, green, blue), each 0 to 255, for pictures; None lets the palette choose.

    Raises:
        PromptError: a name or prompt that is empty, has space around it or more than one line; the same
            prompt twice; another kind of color.

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
            raise PromptError("synonyms: expected at least one query word, got none; the name is not one by itself")
        if not (self.color is None or is_color(self.color)):
            raise PromptError(f"color: expected three whole numbers from 0 to 255, got {self.color!r:.60}")


@dataclass(frozen=True)
class PromptSet:
    """What to look for, and what competes with it.

    Attributes:
        classes: the classes, in label order.
        background: words for "anything else"; a pixel that they win belongs to no class.
        negatives: words for "not this"; they compete like background words and never win a pixel.

    Raises:
        PromptError: no class, two classes of one name, the same word twice in a list, or a background or
            negative word that is also a prompt of a class.

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
        check_distinct(self.classes, places_in("classes", self.classes), shared_prompts="allow")
        for kind, words in (("background", self.background), ("negatives", self.negatives)):
            check_words(kind, words)
            self._check_rivals(kind, words)

    def _check_rivals(self, kind: str, words: Sequence[str]) -> None:
        owners = {same_key(word): entry.name for entry in self.classes for word in entry.synonyms}
        for place, word in zip(places_in(kind, words), words, strict=True):
            if same_key(word) in owners:
                raise PromptError(
                    f"{place}: expected a word that no class looks for, got {quote(word)}, a prompt of class "
                    f"{quote(owners[same_key(word)])}; take it out of one of the two"
                )

    @property
    def rivals(self) -> tuple[str, ...]:
        """Background words, then the negatives that are not among them."""
        known = {same_key(word) for word in self.background}
        return self.background + tuple(word for word in self.negatives if same_key(word) not in known)


def parse_classes(
    values: Sequence[str | PromptClass], *, shared_prompts: SharedPrompts = "refuse"
) -> tuple[PromptClass, ...]:
    r"""Classes from strings, one string a class, in label order.

    A comma separates synonyms, and the first is the class's name. `\,` keeps a comma inside a prompt, and a
    `PromptClass` is taken as it is, whatever it holds.

    Args:
        values: strings or `PromptClass`, at least one, in label order.
        shared_prompts: "refuse" two classes that hold the same query word, for the pixels of that word could
            only go to the first; "allow" it for published class lists that do (SCLIP's coco-object has "bed"
            as background word and as class).

    Returns:
        One class a value, in the same order.

    Raises:
        PromptError: no value, something that is not a string, an empty prompt or synonym, two classes of one
            name, a query word twice.
        OptionError: another word for `shared_prompts`.

    >>> [entry.synonyms for entry in parse_classes(["red", "blue circle", "person,man", "a dog\\, sitting"])]
    [('red',), ('blue circle',), ('person', 'man'), ('a dog, sitting',)]
    """
    items = check_sequence("prompts", values)
    places = places_in("prompts", items)
    if not items:
        raise PromptError("prompts: expected at least one, got none; write ['red']")
    classes = tuple(_parse_class(place, item) for place, item in zip(places, items, strict=True))
    check_distinct(classes, places, shared_prompts=shared_prompts)
    return classes


def make_prompt_set(
    prompts: Sequence[str | PromptClass],
    *,
    background: Sequence[str] | None = None,
    negatives: Sequence[str] = (),
    default_background: Sequence[str] = BACKGROUND_WORDS,
    shared_prompts: SharedPrompts = "refuse",
) -> PromptSet:
    """Classes together with the words that compete with them.

    Args:
        prompts: what `parse_classes` takes.
        background: background words; `()` for none. None takes `default_background` without the words that a
            class looks for: who asks for "sky" does not compete with the default word "sky".
        negatives: words for "not this". In `background` and `negatives` a comma separates words as it does
            in `prompts`.
        default_background: the model's own background words.
        shared_prompts: as in `parse_classes`.

    Returns:
        The checked set. Its background may be empty: when asked for, or when classes took all default words.

    Raises:
        PromptError: what `parse_classes` refuses; the same word twice in a list; a negative, or a background
            word given in `background`, that is also a prompt of a class.
        OptionError: another word for `shared_prompts`.

    >>> made = make_prompt_set(["Sky", "cup"], negatives=["plate"], default_background=("sky", "wall"))
    >>> made.background, made.negatives
    (('wall',), ('plate',))
    """
    classes = parse_classes(prompts, shared_prompts=shared_prompts)
    if background is None:
        taken = {same_key(word) for entry in classes for word in entry.synonyms}
        default = parse_words("default_background", default_background)
        chosen = tuple(word for word in default if same_key(word) not in taken)
    else:
        chosen = parse_words("background", background)
    return PromptSet(classes, background=chosen, negatives=parse_words("negatives", negatives))


def parse_words(name: str, values: object) -> tuple[str, ...]:
    """The words of a list, in whose entries commas separate words.

    Args:
        name: of the argument, for messages.
        values: a list of texts.

    Raises:
        PromptError: one text in place of a list, or an entry without a word.

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
    place: str, name: str, prompts: tuple[str, ...], color: tuple[int, int, int] | None = None
) -> PromptClass:
    """A class from parts that were read; the errors of `PromptClass` name the place they come from."""
    try:
        return PromptClass(name, prompts, color)
    except PromptError as error:
        raise PromptError(f"{place}: {error}") from None


def check_distinct(classes: Sequence[PromptClass], places: Sequence[str], *, shared_prompts: str) -> None:
    """Refuse two classes of one name and, unless allowed, a query word of two classes."""
    if shared_prompts not in ("refuse", "allow"):
        raise OptionError(f"shared_prompts: expected 'refuse' or 'allow', got {shared_prompts!r:.60}")
    repeat = first_repeat(entry.name for entry in classes)
    if repeat:
        first, second = (places[index] for index in repeat)
        name = quote(classes[repeat[1]].name)
        raise PromptError(f"{first} and {second}: expected each class once, got {name} twice; rename or drop one")
    if shared_prompts == "allow":
        return
    owned = [(place, word) for place, entry in zip(places, classes, strict=True) for word in entry.synonyms]
    repeat = first_repeat(word for _, word in owned)
    if repeat:
        (first, _), (second, word) = (owned[index] for index in repeat)
        raise PromptError(
            f"{first} and {second}: expected a query word in one class, got {quote(word)} in both, where "
            "only the first could ever win; drop one (shared_prompts='allow' keeps both)"
        )
