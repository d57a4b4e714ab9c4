"""What a Segmenter is asked for: prompts, phrases and captions become unit texts, and each is encoded once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

import torch
from cachetools import LRUCache
from torch import Tensor

from fgseg.encoders.base import Encoder, check_texts
from fgseg.encoders.networks.clip import Route
from fgseg.encoders.text_features import StoredTexts
from fgseg.errors import OptionError, PromptError
from fgseg.prompts.classes import PromptClass, PromptSet, make_prompt_set
from fgseg.prompts.templates import TextPlan, expand, templates_named
from fgseg.segmentation.model_defaults import ModelDefaults

__all__ = ["PromptEncoder", "PromptTexts"]

KEPT_BYTES = 40 * 2**20
"""Bytes of unit texts kept in memory: 20,000 of width 512. Beyond that the least recently used ones are dropped."""

_Key = tuple[str, str | tuple[str, ...]]  # a caption and its route, or a query word and its templates

_LOCK = threading.Lock()  # an LRUCache is not safe for threads; a lock of each object's own could not be pickled


class PromptEncoder:
    """The texts of one encoder, the last used ones kept in memory, and all of them on disk where that pays."""

    def __init__(self, encoder: Encoder, defaults: ModelDefaults) -> None:
        """Take the encoder, and what stands for words and templates that are not given."""
        self._defaults = defaults
        self._kept: LRUCache[_Key, Tensor] = LRUCache(KEPT_BYTES, getsizeof=attrgetter("nbytes"))
        self._stored = StoredTexts(encoder)

    def prompt_set(
        self, prompts: Sequence[str | PromptClass], background: Sequence[str] | None, negatives: Sequence[str]
    ) -> PromptSet:
        """Prompts and what competes with them; arguments and errors as in `Segmenter.segment`."""
        asked = make_prompt_set(
            prompts, background=background, negatives=negatives, default_background=self._defaults.background
        )
        if len(asked.classes) == 1 and not asked.rivals:
            raise OptionError(
                "background: one prompt alone has nothing to compete with; "
                "give background words, negatives or a second prompt"
            )
        return asked

    def texts(self, asked: PromptSet, templates: str | Sequence[str] | None) -> PromptTexts:
        """Unit text of every query word, the rivals' last."""
        everyone = [*asked.classes, *([PromptClass("rivals", asked.rivals)] if asked.rivals else [])]
        return self.class_texts(everyone, templates)

    def class_texts(self, classes: Sequence[PromptClass], templates: str | Sequence[str] | None) -> PromptTexts:
        """Unit text of every query word of some classes."""
        chosen = templates_named(self._defaults.templates if templates is None else templates)
        plan = expand(classes, chosen)
        words = [word for entry in classes for word in entry.synonyms]
        return PromptTexts(self._ensembled(words, plan, chosen), plan.query_to_class, chosen)

    def phrases(self, phrases: Sequence[str], templates: str | Sequence[str]) -> Tensor:
        """(T, D) unit text of each phrase, in which commas mean nothing."""
        listed = check_texts(phrases)
        chosen = templates_named(templates)
        return self._ensembled(listed, expand([PromptClass(text, (text,)) for text in listed], chosen), chosen)

    def captions(self, captions: Sequence[str], route: Route) -> Tensor:
        """(T, D) unit text of each caption."""
        listed = check_texts(captions, name="captions")
        return self._rows(
            [(text, route) for text in listed],
            lambda new: self._stored.encode([text for text, _ in new], route=route),
        )

    @cached_property
    def digest(self) -> str:
        """Of the weights, as the cache on disk names them; read once."""
        return self._stored.digest()

    def _ensembled(self, words: Sequence[str], plan: TextPlan, templates: tuple[str, ...]) -> Tensor:
        """(Q, D) unit text of each query word."""
        groups = {word: tuple(plan.texts[index] for index in row) for word, row in zip(words, plan.rows, strict=True)}
        try:
            return self._rows(
                [(word, templates) for word in words],
                lambda new: self._stored.ensembles([groups[word] for word, _ in new], route="region"),
            )
        except PromptError as error:
            if templates == ("{}",):
                raise
            raise PromptError(f"templates: {error}; or take no templates: templates='none'") from error

    def _rows(self, keys: Sequence[_Key], encode: Callable[[Sequence[_Key]], Tensor]) -> Tensor:
        """(N, D) row of each key; `encode` makes those that are not in memory."""
        with _LOCK:
            rows = {key: self._kept[key] for key in keys if key in self._kept}
        new = [key for key in dict.fromkeys(keys) if key not in rows]
        if new:
            # copies, since a row that is a view keeps its whole batch in memory
            made = {key: row.clone() for key, row in zip(new, encode(new), strict=True)}
            rows |= made
            with _LOCK:
                self._kept.update(made)
        return torch.stack([rows[key] for key in keys])


@dataclass(frozen=True, eq=False)
class PromptTexts:
    """text: (Q, D) unit rows; query_to_class: class of each row, the rivals one class at the end; templates: used."""

    text: Tensor
    query_to_class: tuple[int, ...]
    templates: tuple[str, ...]

    def of(self, index: int) -> Tensor:
        """The rows of one class."""
        return self.text[[query for query, owner in enumerate(self.query_to_class) if owner == index]]

    def select(self, classes: Iterable[int]) -> PromptTexts:
        """The rows of some classes, which keep their indices."""
        kept = set(classes)
        rows = [row for row, index in enumerate(self.query_to_class) if index in kept]
        return replace(self, text=self.text[rows], query_to_class=tuple(self.query_to_class[row] for row in rows))

    def below(self, count: int) -> Tensor:
        """The rows of the first `count` classes."""
        return self.text[: sum(owner < count for owner in self.query_to_class)]
