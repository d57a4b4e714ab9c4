"""What a Segmenter is asked for: prompts, phrases and captions become unit texts, and each is encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fgseg.encoders.base import Encoder, check_texts
from fgseg.encoders.networks.clip import Route
from fgseg.encoders.text_features import StoredTexts
from fgseg.errors import OptionError, PromptError
from fgseg.prompts.classes import PromptClass, PromptSet, make_prompt_set
from fgseg.prompts.templates import TextPlan, expand, templates_named
from fgseg.segmentation.model_defaults import ModelDefaults

__all__ = ["PromptEncoder", "PromptTexts"]


class PromptEncoder:
    """The texts of one encoder, kept for as long as this lives, and on disk where that pays."""

    def __init__(self, encoder: Encoder, defaults: ModelDefaults) -> None:
        """Take the encoder, and what stands for words and templates that are not given."""
        self._defaults = defaults
        self._texts: dict[tuple[str, str], Tensor] = {}
        self._ensembles: dict[tuple[str, ...], Tensor] = {}
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
        return PromptTexts(self._ensembled(plan, chosen), plan.query_to_class, chosen)

    def phrases(self, phrases: Sequence[str], templates: str | Sequence[str]) -> Tensor:
        """(T, D) unit text of each phrase, in which commas mean nothing."""
        listed = check_texts(phrases)
        chosen = templates_named(templates)
        return self._ensembled(expand([PromptClass(text, (text,)) for text in listed], chosen), chosen)

    def captions(self, captions: Sequence[str], route: Route) -> Tensor:
        """(T, D) unit text of each caption."""
        listed = check_texts(captions, name="captions")
        new = [text for text in dict.fromkeys(listed) if (route, text) not in self._texts]
        if new:
            for text, row in zip(new, self._stored.encode(new, route=route), strict=True):
                self._texts[route, text] = row
        return torch.stack([self._texts[route, text] for text in listed])

    @cached_property
    def digest(self) -> str:
        """Of the weights, as the cache on disk names them; read once."""
        return self._stored.digest()

    def _ensembled(self, plan: TextPlan, templates: Sequence[str]) -> Tensor:
        """Unit text of each query word."""
        groups = [tuple(plan.texts[index] for index in row) for row in plan.rows]
        new = [group for group in dict.fromkeys(groups) if group not in self._ensembles]
        try:
            made = self._stored.ensembles(new, route="region") if new else ()
        except PromptError as error:
            if tuple(templates) == ("{}",):
                raise
            raise PromptError(f"templates: {error}; or take no templates: templates='none'") from error
        self._ensembles.update(zip(new, made, strict=True))
        return torch.stack([self._ensembles[group] for group in groups])


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
