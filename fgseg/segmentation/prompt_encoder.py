"""Prompts, phrases and captions to unit text features, each encoded once."""

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
from fgseg.upsample.tensors import to_device

__all__ = ["PromptEncoder", "PromptTexts"]

KEPT_BYTES = 40 * 2**20
"""Bytes of unit texts kept in memory: 20,000 of width 512. Beyond that the least recently used ones are dropped."""

_Key = tuple[str, str | tuple[str, ...]]  # a caption and its route, or a query word and its templates

_LOCK = threading.Lock()  # LRUCache is not thread-safe; a lock in each object could not be pickled


class PromptEncoder:
    """Texts to features with one encoder. Recent features stay in memory; those of large models also go to disk."""

    def __init__(self, encoder: Encoder, defaults: ModelDefaults) -> None:
        """Keep the encoder, and the defaults of background words and templates."""
        self._defaults = defaults
        self._kept: LRUCache[_Key, Tensor] = LRUCache(KEPT_BYTES, getsizeof=attrgetter("nbytes"))
        self._stored = StoredTexts(encoder)

    def prompt_set(
        self, prompts: Sequence[str | PromptClass], background: Sequence[str] | None, negatives: Sequence[str]
    ) -> PromptSet:
        """Prompts and the words that compete with them; arguments and errors as in `Segmenter.segment`."""
        prompt_set = make_prompt_set(
            prompts, background=background, negatives=negatives, default_background=self._defaults.background
        )
        if len(prompt_set.classes) == 1 and not prompt_set.rivals:
            raise OptionError(
                "background: one prompt alone has nothing to compete with; "
                "give background words, negatives or a second prompt"
            )
        return prompt_set

    def texts(self, prompt_set: PromptSet, templates: str | Sequence[str] | None) -> PromptTexts:
        """Unit text of every query word; rivals are one class at the end."""
        rivals = [PromptClass("rivals", prompt_set.rivals)] if prompt_set.rivals else []
        return self.class_texts([*prompt_set.classes, *rivals], templates)

    def class_texts(self, classes: Sequence[PromptClass], templates: str | Sequence[str] | None) -> PromptTexts:
        """Unit text of every query word of some classes."""
        sentences = templates_named(self._defaults.templates if templates is None else templates)
        plan = expand(classes, sentences)
        words = [word for entry in classes for word in entry.synonyms]
        return PromptTexts(self._ensembled(words, plan, sentences), plan.query_to_class, sentences)

    def phrases(self, phrases: Sequence[str], templates: str | Sequence[str]) -> Tensor:
        """(T, D) unit text of each phrase, in which commas do not separate synonyms."""
        return self.class_texts([PromptClass(text, (text,)) for text in check_texts(phrases)], templates).text

    def captions(self, captions: Sequence[str], route: Route) -> Tensor:
        """(T, D) unit text of each caption."""
        listed = check_texts(captions, name="captions")
        return self._rows(
            [(text, route) for text in listed],
            lambda new: self._stored.encode([text for text, _ in new], route=route),
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights, which also identifies them in the cache on disk."""
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
        """(N, D) row of each key; `encode` computes those that are not in memory."""
        with _LOCK:
            rows = {key: self._kept[key] for key in keys if key in self._kept}
        new = [key for key in dict.fromkeys(keys) if key not in rows]
        if new:
            # A row that is a view would keep its whole batch in memory.
            made = {key: row.clone() for key, row in zip(new, encode(new), strict=True)}
            rows |= made
            with _LOCK:
                self._kept.update(made)
        return torch.stack([rows[key] for key in keys])


@dataclass(frozen=True, eq=False)
class PromptTexts:
    """Encoded query words.

    Attributes:
        text: (Q, D) float32 unit rows, one per query word.
        query_to_class: class index of each row; rivals have the index after the last class.
        templates: the sentences that were averaged.
    """

    text: Tensor
    query_to_class: tuple[int, ...]
    templates: tuple[str, ...]

    def select(self, classes: Iterable[int]) -> PromptTexts:
        """The texts of some classes, which keep their indices."""
        kept = set(classes)
        rows = [row for row, index in enumerate(self.query_to_class) if index in kept]
        index = to_device(torch.tensor(rows, dtype=torch.long, device="cpu"), self.text.device)  # there may be none
        return replace(self, text=self.text[index], query_to_class=tuple(self.query_to_class[row] for row in rows))
