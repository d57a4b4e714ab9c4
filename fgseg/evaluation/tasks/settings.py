"""The settings of a segmentation run: all of the protocol that a number depends on, resolved before it starts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from fgseg._checks import check_choice, check_number
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.presets import Preset, preset
from fgseg.encoders.base import Encoder
from fgseg.errors import OptionError
from fgseg.prompts.classes import PromptClass, make_prompt_set, parse_words
from fgseg.prompts.templates import templates_named
from fgseg.scoring.refine import REFINEMENTS
from fgseg.scoring.resolution import Resolution, parse_resolution
from fgseg.segmenter import Segmenter

__all__ = ["Decision", "Prompted", "SegmentationSettings", "deviations_of", "settings_for"]

Decision = Literal["protocol", "presence"]
Prompted = Literal["all", "present"]
_OTHER_RECIPE = "recipe "
_BY_PRESENCE = "decided by presence at the model's own scale, not by softmax and the published thresholds"
_PAMR_INPUT = "pamr sees the image, not the network's input resized to it"
_RECIPES_OF = {"sclip": "sclip", "naclip": "naclip", "clearclip": "clearclip"}


@dataclass(frozen=True)
class SegmentationSettings:
    """How images become labels.

    Attributes:
        resolution: sizes and windows, as far as the encoder does not choose them by image.
        resize: "published": OpenCV's bilinear, windows always stitched on the canvas, as the field's code does it;
            "area": as `Segmenter.encode` does it.
        templates: sentences around query words.
        decision: "protocol": softmax over all query words, maximum of each class's, argmax, then the threshold where
            class 0 is a background; "presence": as `Segmenter.segment` decides, pixels of no class becoming
            class 0 where that is a background, and else counting as missed.
        logit_scale: factor on the scores.
        threshold: least probability ("protocol", 0 for none) or presence.
        background: "protocol": query words of class 0 where it is a background; "presence": what classes compete with.
        min_foreground_share: classes that cover no more of the predicted foreground win nothing; 0 for none.
        prompts: "all" classes, or those "present" in each image, which is easier and must be said.
        refine: one of `fgseg.scoring.refine.REFINEMENTS`.
        preset: published settings that these began as.
        deviations: what the preset's own code does otherwise.

    Raises:
        OptionError: a value outside those named, or numbers out of range.
    """

    resolution: Resolution
    resize: Literal["published", "area"]
    templates: tuple[str, ...]
    decision: Decision
    logit_scale: float
    threshold: float
    background: tuple[str, ...] = ()
    min_foreground_share: float = 0.0
    prompts: Prompted = "all"
    refine: str = "none"
    preset: str | None = None
    deviations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("resize", self.resize, ("published", "area"))
        check_choice("decision", self.decision, get_args(Decision))
        check_choice("prompts", self.prompts, get_args(Prompted))
        check_choice("refine", self.refine, REFINEMENTS)
        check_number("logit_scale", self.logit_scale, low=1e-6, high=1e6)
        check_number("threshold", self.threshold, low=0, high=1)
        check_number("min_foreground_share", self.min_foreground_share, low=0, high=1)
        if self.decision == "presence" and not self.background:
            raise OptionError("background: presence is a comparison with background words, got none; give some")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `resolution` as its sizes."""
        return asdict(self)

    def classes(self, dataset: Dataset) -> tuple[PromptClass, ...]:
        """The data set's classes in label order, the background with these settings' words.

        In "presence" the background is no class that is looked for; it keeps its place all the same.
        """
        if self.decision == "presence" or not (dataset.has_background and self.background):
            return dataset.classes
        first, *others = dataset.classes
        return (replace(first, synonyms=self.background), *others)


def settings_for(
    seg: Segmenter,
    dataset: Dataset,
    *,
    preset_name: str | None = None,
    resolution: str | Resolution = "auto",
    templates: str | Sequence[str] | None = None,
    background: Sequence[str] | None = None,
    **given: Any,
) -> SegmentationSettings:
    """Settings with every default filled in: the preset's, else the model's own.

    Args:
        seg: what will be measured.
        dataset: what it will be measured on.
        preset_name: one of `fgseg.datasets.PRESETS`, for a standard set.
        resolution: as `Segmenter.encode` takes it; "auto" is the preset's or the model's.
        templates: as `fgseg.prompts.templates.templates_named` takes them; None is the model's own.
        background: None is the preset's words, else the class list's ("protocol") or the model's ("presence").
        given: other attributes of `SegmentationSettings` that take the place of defaults; None leaves the default.

    Raises:
        OptionError: unknown names, numbers out of range, a preset for one's own data, a background, threshold or
            least share of the foreground where class 0 is no background, or the last with "presence".
        PromptError: templates or background words that are none.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    decision = chosen.setdefault("decision", "protocol")
    check_choice("decision", decision, get_args(Decision))
    published = None if preset_name is None else preset(preset_name, dataset.name)
    base = _own_settings(seg, decision) if published is None else _published(published)
    if published is not None and decision == "presence":
        # The preset's scale and thresholds are of a softmax over all words; presence is another quantity.
        base |= {"logit_scale": seg.encoder.logit_scale, "threshold": seg.defaults.threshold}
        base |= {"min_foreground_share": 0.0, "deviations": (*base["deviations"], _BY_PRESENCE)}
    if resolution != "auto":
        base["resolution"] = _resolved(seg.encoder, resolution)
        is_published = published is not None and base["resolution"].mode == "slide"
        base["resize"] = "published" if is_published else "area"
    base["templates"] = templates_named(seg.defaults.templates if templates is None else templates)
    base["background"] = _background(seg, dataset, decision, published, background)
    settings = SegmentationSettings(**{**base, **chosen})
    _check_meaning(settings, dataset)
    return replace(settings, deviations=deviations_of(settings, seg.encoder.recipe))


def deviations_of(settings: SegmentationSettings, recipe: str | None) -> tuple[str, ...]:
    """What differs from the preset's publication with this recipe, beside what the preset itself says."""
    if settings.preset is None:
        return ()
    own = _RECIPES_OF.get(settings.preset)
    kept = tuple(line for line in settings.deviations if line != _PAMR_INPUT and not line.startswith(_OTHER_RECIPE))
    other = () if recipe == own or own is None else (f"{_OTHER_RECIPE}{recipe} in place of {own}",)
    return (*kept, *other, *((_PAMR_INPUT,) if settings.refine == "pamr" else ()))


def _own_settings(seg: Segmenter, decision: Decision) -> dict[str, Any]:
    threshold = seg.defaults.threshold if decision == "presence" else 0.0
    resolution = _resolved(seg.encoder, seg.defaults.resolution)
    return {
        "resolution": resolution, "resize": "area", "logit_scale": seg.encoder.logit_scale, "threshold": threshold,
        "refine": seg.defaults.refine,
    }  # fmt: skip


def _published(published: Preset) -> dict[str, Any]:
    mode: Literal["keep", "slide"] = "keep" if published.crop is None else "slide"
    return {
        "resolution": Resolution(
            mode, published.short_side, published.crop, published.stride, max_side=published.max_side
        ),
        "resize": "published",
        "logit_scale": published.logit_scale,
        "threshold": published.prob_threshold,
        "min_foreground_share": published.min_foreground_share,
        "preset": published.name,
        "deviations": tuple(published.deviations),
    }


def _resolved(encoder: Encoder, resolution: str | Resolution) -> Resolution:
    chosen = parse_resolution(resolution) if isinstance(resolution, str) else resolution
    return chosen.resolved(encoder.side) if chosen.mode == "slide" else chosen


def _background(
    seg: Segmenter, dataset: Dataset, decision: Decision, published: Preset | None, given: Sequence[str] | None
) -> tuple[str, ...]:
    if decision == "presence":
        looked_for = dataset.classes[1:] if dataset.has_background else dataset.classes
        default = seg.defaults.background
        asked = make_prompt_set(looked_for, background=given, default_background=default, shared_synonyms="allow")
        return asked.background
    if given is not None:
        return parse_words("background", given)
    if published is not None and published.background:
        return published.background
    return dataset.classes[0].synonyms if dataset.has_background else ()


def _check_meaning(settings: SegmentationSettings, dataset: Dataset) -> None:
    if settings.decision == "presence" and settings.min_foreground_share:
        raise OptionError(
            "min_foreground_share: expected 0 with decision='presence', where no class is left out for its size, got "
            f"{settings.min_foreground_share}; leave it out"
        )
    if settings.decision == "presence" or dataset.has_background:
        return
    for name in ("background", "threshold", "min_foreground_share"):
        if value := getattr(settings, name):
            raise OptionError(
                f"{name}: {dataset.name} has no background class for it to send pixels to, got {value!r:.80}; "
                "leave it out, or use decision='presence'"
            )
