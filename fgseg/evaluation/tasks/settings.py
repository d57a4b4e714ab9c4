"""The settings of a segmentation run: everything in the protocol that a figure depends on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from fgseg._checks import check_choice, check_number
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.presets import Preset, preset
from fgseg.encoders.base import Encoder, guided
from fgseg.errors import OptionError
from fgseg.guides.propagation import PROPAGATIONS, Propagate
from fgseg.guides.region_maps import is_computed
from fgseg.guides.votes import check_vote
from fgseg.prompts.classes import PromptClass, make_prompt_set, parse_words
from fgseg.prompts.templates import templates_named
from fgseg.scoring.refine import REFINEMENTS
from fgseg.scoring.resolution import Resolution, parse_resolution
from fgseg.segmentation.encoded_image import Resize
from fgseg.segmenter import Segmenter

__all__ = ["SegmentationSettings", "deviations_of", "resolution_settings", "settings_for"]

Decision = Literal["protocol", "presence"]
Prompted = Literal["all", "present"]
Specks = Literal["keep", "join"]
_OTHER_RECIPE, _OTHER_GUIDE = "recipe ", "guide "
_BY_PRESENCE = "decided by presence at the model's own scale, not by softmax and the published thresholds"
_PAMR_INPUT = "pamr sees the image, not the network's input resized to it"


@dataclass(frozen=True)
class SegmentationSettings:
    """How images become labels.

    Attributes:
        resolution: sizes and windows, except those that the encoder chooses for each image.
        resize: "published": OpenCV's bilinear resizing, and scores always stitched on the canvas, as in published
            evaluation code; "area": as `Segmenter.encode`.
        templates: sentences around query words.
        decision: "protocol": softmax over all query words, maximum over the words of each class, argmax, then the
            threshold if class 0 is a background; "presence": as `Segmenter.segment`, where pixels without a class
            become class 0 if that is a background, and count as missed otherwise.
        logit_scale: factor on the scores.
        threshold: lowest probability ("protocol", 0 for none) or lowest presence ("presence").
        background: "protocol": query words of class 0 if it is a background; "presence": words that classes compete
            with.
        min_foreground_share: classes that cover no more than this share of the predicted foreground win no pixel; 0 for
            none.
        prompts: "all" classes, or those "present" in each image, which is an easier task.
        refine: one of `fgseg.scoring.refine.REFINEMENTS`.
        propagate: between which alike parts of the image scores flow, as `Segmenter.segment`.
        region_map: "none", "superpixels", "eomt" or "eomt:NAME" as in `fgseg.guides.region_map_of`, or a folder with a
            file for each image, such as a.png or a.json for a.jpg.
        vote: whether every region takes its most frequent label.
        specks: "keep" every part and gap, as published evaluations do, or "join" small ones, as `Segmenter.segment`.
        preset: name of the published settings that these started from.
        deviations: how these settings differ from the published code.

    Raises:
        OptionError: an unknown value, or a number out of range.
    """

    resolution: Resolution
    resize: Resize
    templates: tuple[str, ...]
    decision: Decision
    logit_scale: float
    threshold: float
    background: tuple[str, ...] = ()
    min_foreground_share: float = 0.0
    prompts: Prompted = "all"
    refine: str = "none"
    propagate: Propagate = "none"
    region_map: str = "none"
    vote: bool = False
    specks: Specks = "keep"
    preset: str | None = None
    deviations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("resize", self.resize, get_args(Resize))
        check_choice("decision", self.decision, get_args(Decision))
        check_choice("prompts", self.prompts, get_args(Prompted))
        check_choice("refine", self.refine, REFINEMENTS)
        check_choice("propagate", self.propagate, PROPAGATIONS)
        _check_regions(self.region_map, vote=self.vote)
        check_choice("specks", self.specks, get_args(Specks))
        check_number("logit_scale", self.logit_scale, low=1e-6, high=1e6)
        check_number("threshold", self.threshold, low=0, high=1)
        check_number("min_foreground_share", self.min_foreground_share, low=0, high=1)
        if self.decision == "presence" and not self.background:
            raise OptionError("background: expected words for presence to compare with, got none; give some")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `resolution` becomes its attributes."""
        return asdict(self)

    def classes(self, dataset: Dataset) -> tuple[PromptClass, ...]:
        """The data set's classes in label order, where the background has the words of these settings.

        With "presence" the background class wins no pixel and keeps its index and its words.
        """
        if self.decision == "presence" or not (dataset.has_background and self.background):
            return dataset.classes
        first, *others = dataset.classes
        return (replace(first, synonyms=self.background), *others)


def _check_regions(region_map: str, *, vote: bool) -> None:
    if vote and region_map == "none":
        check_vote(has_regions=False, vote=vote, recipe=None)
    if region_map != "none" and not is_computed(region_map) and not Path(region_map).is_dir():
        raise OptionError(
            "region_map: expected none, superpixels, eomt or a folder with a file for each image, got "
            f"{region_map!r:.80}"
        )


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
    """Settings with every default filled in: that of the preset, or else that of the model.

    Args:
        seg: the model.
        dataset: the data set.
        preset_name: one of `fgseg.datasets.PRESETS`, for a standard set.
        resolution: as `Segmenter.encode` takes it; "auto" takes the default.
        templates: as `fgseg.prompts.templates.templates_named` takes them; None takes those of the model.
        background: None takes the words of the preset, or else of the class list ("protocol") or the model
            ("presence").
        given: other attributes of `SegmentationSettings`; None takes the default.

    Raises:
        OptionError: an unknown name, a number out of range, a preset for a data set that is not standard, a background,
            threshold or minimum share of the foreground without a background class, or that share with "presence".
        PromptError: invalid templates or background words.
    """
    options = {name: value for name, value in given.items() if value is not None}
    decision = options.setdefault("decision", "protocol")
    check_choice("decision", decision, get_args(Decision))
    published = None if preset_name is None else preset(preset_name, dataset.name)
    base = {
        **resolution_settings(seg.encoder, seg.defaults.resolution, is_published=False),
        "logit_scale": seg.encoder.logit_scale,
        "threshold": seg.defaults.threshold if decision == "presence" else 0.0,
        "refine": seg.defaults.refine,
        **({} if published is None else _published(published, decision)),
    }
    if resolution != "auto":
        base |= resolution_settings(seg.encoder, resolution, is_published=published is not None)
    base["templates"] = templates_named(seg.defaults.benchmark_templates if templates is None else templates)
    base["background"] = _background(seg, dataset, decision, published, background)
    settings = SegmentationSettings(**{**base, **options})
    _check_meaning(settings, dataset)
    check_vote(has_regions=settings.region_map != "none", vote=settings.vote, recipe=seg.encoder.recipe)
    return replace(settings, deviations=deviations_of(settings, dataset, seg.encoder))


def deviations_of(
    settings: SegmentationSettings, dataset: Dataset, encoder: Encoder, recipe: str | None = None
) -> tuple[str, ...]:
    """How these settings with this encoder differ from the published code, including what the preset itself says.

    Args:
        settings: of the run.
        dataset: the data set that the preset is for.
        encoder: of the images.
        recipe: in place of the encoder's own.
    """
    if settings.preset is None:
        return ()
    published, with_guide = preset(settings.preset, dataset.name), guided(encoder)
    guide = None if with_guide is None or with_guide.guide is None else with_guide.guide.name
    used = {_OTHER_RECIPE: recipe or encoder.recipe, _OTHER_GUIDE: guide}
    wanted = {_OTHER_RECIPE: published.recipe, _OTHER_GUIDE: published.guide}
    kept = tuple(line for line in settings.deviations if line != _PAMR_INPUT and not line.startswith(tuple(used)))
    other = tuple(
        f"{name}{used[name]} in place of {value}" for name, value in wanted.items() if value and used[name] != value
    )
    return (*kept, *other, *((_PAMR_INPUT,) if settings.refine == "pamr" else ()))


def _published(published: Preset, decision: Decision) -> dict[str, Any]:
    mode: Literal["keep", "slide"] = "keep" if published.crop is None else "slide"
    sizes = Resolution(mode, published.short_side, published.crop, published.stride, max_side=published.max_side)
    base = {
        "resolution": sizes, "resize": "published", "refine": "none", "propagate": published.propagate,
        "preset": published.name,
    }  # fmt: skip
    if decision == "presence":
        # The scale and the thresholds of a preset apply to a softmax over all words, and presence is another quantity.
        return {**base, "deviations": (*published.deviations, _BY_PRESENCE)}
    return {
        **base,
        "logit_scale": published.logit_scale,
        "threshold": published.prob_threshold,
        "min_foreground_share": published.min_foreground_share,
        "deviations": published.deviations,
    }


def resolution_settings(encoder: Encoder, resolution: str | Resolution, *, is_published: bool) -> dict[str, Any]:
    """`resolution` and `resize` of the settings; windows get the encoder's own sizes where none are given.

    Args:
        encoder: encoder of the images.
        resolution: as `Segmenter.encode` takes it.
        is_published: whether windows are resized as by published evaluation code.

    Raises:
        OptionError: not a resolution.
    """
    chosen = parse_resolution(resolution) if isinstance(resolution, str) else resolution
    if chosen.mode != "slide":
        return {"resolution": chosen, "resize": "area"}
    return {"resolution": chosen.resolved(encoder.side), "resize": "published" if is_published else "area"}


def _background(
    seg: Segmenter, dataset: Dataset, decision: Decision, published: Preset | None, given: Sequence[str] | None
) -> tuple[str, ...]:
    if decision == "presence":
        classes = dataset.classes[1:] if dataset.has_background else dataset.classes
        default = seg.defaults.background
        prompt_set = make_prompt_set(classes, background=given, default_background=default, shared_synonyms="allow")
        return prompt_set.background
    if given is not None:
        return parse_words("background", given)
    if published is not None and published.background:
        return published.background
    return dataset.classes[0].synonyms if dataset.has_background else ()


def _check_meaning(settings: SegmentationSettings, dataset: Dataset) -> None:
    if settings.decision == "presence" and settings.min_foreground_share:
        raise OptionError(
            "min_foreground_share: expected 0 with decision='presence', which drops no class for its size, got "
            f"{settings.min_foreground_share}; leave it out"
        )
    if settings.decision == "presence" or dataset.has_background:
        return
    for name in ("background", "threshold", "min_foreground_share"):
        if value := getattr(settings, name):
            raise OptionError(
                f"{name}: {dataset.name} has no background class that could take pixels, got {value!r:.80}; "
                "leave it out, or use decision='presence'"
            )
