"""The texts of a data set's classes, and which classes a model with a closed vocabulary has words for."""

from collections.abc import Sequence
from dataclasses import replace

from fgseg.datasets.dataset import Dataset
from fgseg.errors import PromptError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.templates import expand
from fgseg.segmentation.prompt_encoder import PromptEncoder, PromptTexts
from fgseg.segmenter import Segmenter

__all__ = ["class_texts", "explained", "known_classes"]

_NAMED = 8  # classes that a message names


def class_texts(seg: Segmenter, classes: Sequence[PromptClass], templates: Sequence[str]) -> PromptTexts:
    """Unit text of every query word of some classes.

    Raises:
        PromptError: the model does not know a word, or a text is too long for it.
    """
    return PromptEncoder(seg.encoder, seg.defaults).class_texts(classes, templates)


def known_classes(seg: Segmenter, dataset: Dataset, templates: Sequence[str]) -> Dataset:
    """The data set with the classes that the model has words for, each with its known words.

    Raises:
        PromptError: no class is left.
    """
    try:
        class_texts(seg, dataset.classes, templates)
    except PromptError:
        known = _known(seg, dataset, templates)
    else:
        return dataset
    if not known:
        raise PromptError(
            f"{dataset.name}: {seg.encoder.name} has words for none of its classes; --classes FILE gives other words, "
            "--model chooses another model"
        )
    return dataset.select_classes([entry.name for entry in known]).with_classes(known)


def explained(seg: Segmenter, dataset: Dataset, templates: Sequence[str], error: PromptError) -> PromptError:
    """An error about an unknown word, extended by the classes that the model has words for and by what to do."""
    known, count = _known(seg, dataset, templates), len(dataset.classes)
    if len(known) == count:  # then the unknown word is one of the background
        return PromptError(f"{dataset.name}: background: {error}; --background gives other words")
    named = ", ".join(entry.name for entry in known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
    choice = (
        f"it has words for {len(known)} ({named}): leave out --only all to measure those"
        if known
        else "it has words for none"
    )
    return PromptError(
        f"{dataset.name}: {seg.encoder.name} does not know the words of {count - len(known)} of {count} classes; "
        f"{choice}, --only NAME measures some of them, --classes FILE gives other words, --model chooses another model "
        f"(first: {error})"
    )


def _known(seg: Segmenter, dataset: Dataset, templates: Sequence[str]) -> tuple[PromptClass, ...]:
    """The classes with at least one known word, without their unknown words."""
    known = []
    for entry in dataset.classes:
        words = tuple(word for word in entry.synonyms if _is_known(seg, word, templates))
        if words:
            known.append(replace(entry, synonyms=words))
    return tuple(known)


def _is_known(seg: Segmenter, word: str, templates: Sequence[str]) -> bool:
    try:
        seg.encoder.encode_texts(expand([PromptClass(word, (word,))], templates).texts, route="region")
    except PromptError:
        return False
    return True
