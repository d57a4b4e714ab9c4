"""The words of a run as features, and which of them a model with a closed vocabulary knows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from fgseg.datasets.dataset import Dataset
from fgseg.encoders.base import Encoder
from fgseg.encoders.text_features import StoredTexts
from fgseg.errors import PromptError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.templates import expand
from fgseg.similarity import ensemble

__all__ = ["ClassWords", "class_words", "explained", "known_classes"]

_NAMED = 8  # classes that a message names


@dataclass(frozen=True, eq=False)
class ClassWords:
    """text: (Q, D) unit rows; query_to_class: the class of each row, in rising order."""

    text: Tensor
    query_to_class: tuple[int, ...]

    def of(self, classes: Sequence[int]) -> "ClassWords":
        """The rows of some classes, which keep their indices."""
        kept = set(classes)
        rows = [row for row, owner in enumerate(self.query_to_class) if owner in kept]
        return ClassWords(self.text[rows], tuple(self.query_to_class[row] for row in rows))


def class_words(encoder: Encoder, classes: Sequence[PromptClass], templates: Sequence[str]) -> ClassWords:
    """The features of every query word of some classes, its templates averaged.

    Raises:
        PromptError: a word that the model does not know, or a text too long for it.
    """
    plan = expand(classes, templates)
    rows = StoredTexts(encoder).encode(plan.texts, route="region")
    flat = [index for row in plan.rows for index in row]
    groups = [query for query, row in enumerate(plan.rows) for _ in row]
    return ClassWords(ensemble(rows[flat], groups), plan.query_to_class)


def known_classes(encoder: Encoder, dataset: Dataset, templates: Sequence[str]) -> Dataset:
    """The data set with those classes alone that the model has words for, each with its known words.

    Raises:
        PromptError: no class is left.
    """
    try:
        class_words(encoder, dataset.classes, templates)
    except PromptError:
        return _known_part_of(encoder, dataset, templates)
    return dataset


def _known_part_of(encoder: Encoder, dataset: Dataset, templates: Sequence[str]) -> Dataset:
    known = [_known_part(encoder, entry, templates) for entry in dataset.classes]
    names = [entry.name for entry in known if entry is not None]
    if not names:
        raise PromptError(
            f"{dataset.name}: {encoder.name} has words for none of its classes; --classes FILE gives other words, "
            "--model another model"
        )
    return dataset.select_classes(names).with_classes(tuple(entry for entry in known if entry is not None))


def explained(encoder: Encoder, dataset: Dataset, templates: Sequence[str], error: PromptError) -> PromptError:
    """An error about a word, with what to do when the data set has other classes that the model has words for."""
    known = [entry for entry in dataset.classes if _known_part(encoder, entry, templates) is not None]
    if len(known) == len(dataset.classes):  # then it is one of the words that compete with them
        return PromptError(f"{dataset.name}: background: {error}; --background gives other words")
    named = ", ".join(entry.name for entry in known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
    choice = (
        f"it has words for {len(known)} ({named}): leave out --only all to measure those"
        if known
        else "it has words for none"
    )
    return PromptError(
        f"{dataset.name}: {encoder.name} does not know the words of {len(dataset.classes) - len(known)} of "
        f"{len(dataset.classes)} classes; {choice}, --only NAME some of them, --classes FILE gives other words, "
        f"--model another model (first: {error})"
    )


def _known_part(encoder: Encoder, entry: PromptClass, templates: Sequence[str]) -> PromptClass | None:
    words = tuple(word for word in entry.synonyms if _is_known(encoder, word, templates))
    return replace(entry, synonyms=words) if words else None


def _is_known(encoder: Encoder, word: str, templates: Sequence[str]) -> bool:
    try:
        encoder.encode_texts([template.replace("{}", word) for template in templates], route="region")
    except PromptError:
        return False
    return True
