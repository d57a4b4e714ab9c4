"""What is used where an argument is left out: what a model's config.json recommends, else what suits its family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fgseg._checks import check_choice, check_number
from fgseg.encoders.base import Encoder
from fgseg.errors import OptionError, PromptError, WeightsError
from fgseg.prompts.templates import templates_named
from fgseg.prompts.word_lists import BACKGROUND_WORDS, IMAGENET_TEMPLATES
from fgseg.prompts.words import check_sequence, check_words
from fgseg.scoring.presence import TIE
from fgseg.scoring.refine import OFFERED
from fgseg.scoring.resolution import parse_resolution

__all__ = ["ModelDefaults", "check_recommendations", "model_defaults"]

ONE_TEMPLATE = ("a photo of a {}.",)
"""FG-CLIP 2's sentence on a processor. Its text tower pads every text to 64 tokens and shares no prefixes, so that a
prompt, the background words and 80 templates took four minutes before the first mask (benchmarks/first_mask.py). The
published examples take a word in one sentence, too. `templates="imagenet"` takes all 80."""

_KEYS = ("background", "templates", "resolution", "threshold", "refine")


@dataclass(frozen=True)
class ModelDefaults:
    """Defaults of the arguments of `fgseg.Segmenter.segment`.

    Attributes:
        resolution: as `fgseg.scoring.parse_resolution` reads it.
        background: words that every prompt competes with.
        templates: sentences around class names.
        threshold: the presence that a mask's pixels need, 0 to 1. 0.5 is a tie with the best background word.
        refine: edge-aware refinement of score maps. "none", since refinement lowers the published recipe, unless the
            model's config.json says that the model gains from it.
    """

    resolution: str
    background: tuple[str, ...] = BACKGROUND_WORDS
    templates: tuple[str, ...] = IMAGENET_TEMPLATES
    threshold: float = TIE
    refine: str = "none"

    @property
    def benchmark_templates(self) -> tuple[str, ...]:
        """The templates of benchmarks, whose figures must not depend on the device."""
        return IMAGENET_TEMPLATES if self.templates is ONE_TEMPLATE else self.templates


def model_defaults(encoder: Encoder) -> ModelDefaults:
    """The defaults of one model.

    Models trained on squares encode windows; models trained on every aspect ratio encode the whole image in its own.
    On a processor the latter (FG-CLIP 2) put a word into one sentence, `ONE_TEMPLATE`, not into eighty.

    Raises:
        WeightsError: its config.json recommends something that fgseg cannot use.
    """
    given = check_recommendations(encoder.name, encoder.config)
    lists: dict[str, Any] = {name: tuple(given[name]) for name in ("background", "templates") if name in given}
    family: dict[str, Any] = {"resolution": "keep" if encoder.takes_any_aspect else "slide"}
    if encoder.takes_any_aspect and encoder.device.type == "cpu":
        family["templates"] = ONE_TEMPLATE
    return ModelDefaults(**family | given | lists)


def check_recommendations(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The entry `fgseg` of a model's config.json; empty where there is none.

    Raises:
        WeightsError: an entry that fgseg cannot use.
    """
    given = config.get("fgseg", {})
    place = f"{name}: config.json: fgseg"
    if not isinstance(given, dict):
        raise WeightsError(f"{place}: expected an object, got {given!r:.60}")
    if unknown := sorted(set(given) - set(_KEYS)):
        raise WeightsError(f"{place}: expected some of {', '.join(_KEYS)}, got {', '.join(unknown)}")
    try:
        check_number("threshold", given.get("threshold", 0), low=0, high=1)
        check_choice("refine", given.get("refine", "none"), OFFERED)
        check_words("background", tuple(check_sequence("background", given.get("background", ()))))
        templates_named(check_sequence("templates", given.get("templates", ("{}",))))
        parse_resolution(given.get("resolution", "keep"))
    except (OptionError, PromptError) as error:
        raise WeightsError(f"{place}.{error}") from error
    return given
