"""Published settings of methods on the standard benchmarks.

They are taken from the public configurations of SCLIP (wangf3014/SCLIP), NACLIP (sinahmr/NACLIP), ClearCLIP
(mc-lan/ClearCLIP), ProxyCLIP (mc-lan/ProxyCLIP), CorrCLIP (zdk258/CorrCLIP) and LPOSS (vladan-stojnic/LPOSS). Their
scales are tuned to plain CLIP,
whose cosines differ from FG-CLIP's.
"""

from dataclasses import dataclass, replace
from typing import Literal

from fgseg._checks import check_choice
from fgseg.datasets.standard_sets import STANDARD_SETS
from fgseg.prompts.word_lists import BACKGROUND_WORDS, COCO_OBJECT_BACKGROUND_WORDS

__all__ = ["PRESETS", "Preset", "preset"]


@dataclass(frozen=True)
class Preset:
    """The settings of one method on one benchmark.

    Attributes:
        name: the method.
        dataset: the benchmark.
        short_side: pixels of the image's short side, or fewer if the long side would be longer than `max_side`.
        crop, stride: window side and step in pixels; None for the whole image at once.
        logit_scale: factor on the scores before the softmax over query words.
        prob_threshold: pixels of lower probability become background; 0 if there is no background.
        background: query words of class 0; empty if there is no background.
        min_foreground_share: classes with at most this share of the predicted foreground lose their pixels to the
            best other class; 0 keeps all classes.
        max_side: largest number of pixels of the long side.
        recipe: how the last vision block attends.
        guide: what the recipe attends by; None for a recipe without a guide.
        propagate: between which alike parts of the image scores flow.
        deviations: what these settings do not reproduce of the published code.
    """

    name: str
    dataset: str
    short_side: int
    crop: int | None
    stride: int | None
    logit_scale: float
    prob_threshold: float = 0.0
    background: tuple[str, ...] = ()
    min_foreground_share: float = 0.0
    max_side: int = 2048
    recipe: str = ""
    guide: str | None = None
    propagate: Literal["none", "patches", "pixels", "both"] = "none"
    deviations: tuple[str, ...] = ()


_WORD = ("background",)
_POSITIONS = "the position table is resized to the requested size, not by the factor (g + 0.1) / G"
_PADDING = "windows are resized to whole patches of the guide, not padded to 56 pixels"
_WHOLE = "a whole image keeps its trailing part of a patch, which the published code drops"

_PROXYCLIP = Preset(
    *("", "", 336, 336, 112, 40.0),
    background=BACKGROUND_WORDS,
    recipe="proxy",
    guide="dino-b8",
    deviations=(_PADDING, _POSITIONS),
)
# The settings of each method on every benchmark, and then the settings that differ on some.
_COMMON = {
    "sclip": Preset("", "", 336, 224, 112, 40.0, 0.1, BACKGROUND_WORDS, recipe="sclip", deviations=(_POSITIONS,)),
    "naclip": Preset("", "", 336, 224, 112, 40.0, 0.1, BACKGROUND_WORDS, recipe="naclip", deviations=(_POSITIONS,)),
    "clearclip": Preset("", "", 448, 448, 224, 50.0, background=_WORD, recipe="clearclip"),
    "proxyclip": _PROXYCLIP,
    "corrclip": replace(
        _PROXYCLIP,
        recipe="corr",
        deviations=(
            _PADDING,
            _POSITIONS,
            "a person is called person, not people",
            "without region maps, the published ones being of SAM 2, a patch sees the whole window",
            "labels are corrected within regions only where regions vote",
        ),
    ),
    "lposs": Preset(
        *("", "", 448, 224, 112, 40.0),
        background=BACKGROUND_WORDS,
        propagate="patches",
        guide="dino-b16",
        deviations=(
            "a patch counts as 16 pixels whatever its size",
            "scores are divided by the solution for 1, which changes no label",
        ),
    ),
}
_CORRCLIP_OBJECT_WORDS = tuple(word for word in COCO_OBJECT_BACKGROUND_WORDS if word != "bed")
_DIFFERENT: dict[tuple[str, str], dict[str, object]] = {
    ("sclip", "voc21"): {"logit_scale": 65.0, "min_foreground_share": 0.1},
    ("sclip", "context60"): {"logit_scale": 50.0, "background": _WORD},
    ("sclip", "coco-object"): {"logit_scale": 50.0},
    ("sclip", "coco-stuff"): {"short_side": 448},
    ("sclip", "cityscapes"): {"short_side": 560},
    ("naclip", "voc21"): {"crop": None, "stride": None, "deviations": (_POSITIONS, _WHOLE)},
    ("naclip", "voc20"): {"crop": None, "stride": None, "deviations": (_POSITIONS, _WHOLE)},
    ("naclip", "context60"): {"background": _WORD},
    ("naclip", "cityscapes"): {"short_side": 560},
    ("clearclip", "voc21"): {"prob_threshold": 0.5},
    ("clearclip", "context60"): {"prob_threshold": 0.15},
    ("clearclip", "coco-object"): {"prob_threshold": 0.4},
    ("clearclip", "cityscapes"): {"crop": 224},
    ("proxyclip", "voc21"): {"prob_threshold": 0.2},
    ("proxyclip", "context60"): {"prob_threshold": 0.15},
    ("proxyclip", "coco-object"): {"prob_threshold": 0.25, "background": COCO_OBJECT_BACKGROUND_WORDS},
    ("proxyclip", "cityscapes"): {"short_side": 448, "crop": 224},
    ("proxyclip", "ade20k"): {"short_side": 448},
    ("lposs", "coco-object"): {"background": COCO_OBJECT_BACKGROUND_WORDS},
}
_DIFFERENT |= {("corrclip", dataset): changes for (name, dataset), changes in _DIFFERENT.items() if name == "proxyclip"}
_DIFFERENT["corrclip", "coco-object"] = {"prob_threshold": 0.25, "background": _CORRCLIP_OBJECT_WORDS}
_WITH_BACKGROUND = ("voc21", "context60", "coco-object")

PRESETS: tuple[str, ...] = tuple(_COMMON)
"""The methods with published settings."""


def preset(name: str, dataset: str) -> Preset:
    """The published settings of a method on a benchmark.

    Args:
        name: one of `PRESETS`.
        dataset: one of `STANDARD_SETS`.

    Returns:
        The settings.

    Raises:
        OptionError: another method or benchmark.

    >>> found = preset("sclip", "voc21")
    >>> found.short_side, found.crop, found.stride, found.logit_scale, len(found.background)
    (336, 224, 112, 65.0, 26)
    >>> preset("clearclip", "voc20").prob_threshold
    0.0
    """
    check_choice("preset", name, PRESETS)
    check_choice("dataset", dataset, STANDARD_SETS)
    different = dict(_DIFFERENT.get((name, dataset), {}))
    if dataset not in _WITH_BACKGROUND:
        different |= {"prob_threshold": 0.0, "background": ()}
    return replace(_COMMON[name], name=name, dataset=dataset, **different)  # type: ignore[arg-type]  # values by name
