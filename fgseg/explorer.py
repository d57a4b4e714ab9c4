"""`explore`: prompts, sliders and a mode switch beside an image, in a notebook. The image is encoded once.

    fgseg.explore("photo.jpg", ["red", "white"])

The widgets need ipywidgets, which is an optional dependency; without it `explore` returns a fixed picture.
"""

import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_choice, check_number, check_whole
from fgseg.drawing.figures import NotebookFigure, show_picture
from fgseg.drawing.overlay import Base
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.errors import FgsegError
from fgseg.guides.propagation import PROPAGATIONS, Propagate
from fgseg.guides.region_maps import RegionMap, named_region_map
from fgseg.guides.votes import check_vote
from fgseg.images.resizing import shrink
from fgseg.images.writing import encode_png
from fgseg.scoring.resolution import Resolution
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.heatmaps import NOTEBOOK_SIDE, Heatmaps
from fgseg.segmentation.image_encoder import ImageSource
from fgseg.segmentation.result import Segmentation
from fgseg.segmenter import Segmenter, load

__all__ = ["Explorer", "ExplorerMode", "explore"]

ExplorerMode = Literal["exclusive", "independent", "heatmaps"]
"""What is drawn: masks that do not overlap, masks that may overlap, or the presence of each prompt."""

FIRST_PROMPTS = ("red", "green", "blue")
"""Prompts that every model of this package knows."""
WITHOUT_WIDGETS = "explore: a picture without sliders, since ipywidgets is not installed; pip install ipywidgets"
TEXT_ROWS, NEGATIVE_ROWS = 5, 2
"""Lines of the text boxes; further lines scroll."""
AREAS = ("auto", 0, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
"""Choices of the smallest region, in pixels; "auto" is a quarter of a patch."""


@dataclass(frozen=True)
class _Options:
    """The values of the widgets."""

    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    mode: ExplorerMode
    threshold: float
    min_area: int | Literal["auto"]
    base: Base
    opacity: float
    propagate: Propagate
    vote: bool


def explore(
    image: ImageSource,
    prompts: Sequence[str] = FIRST_PROMPTS,
    *,
    segmenter: Segmenter | None = None,
    negatives: Sequence[str] = (),
    mode: ExplorerMode = "exclusive",
    threshold: float | None = None,
    min_area: int | Literal["auto"] = "auto",
    base: Base = "grey",
    opacity: float = 0.5,
    resolution: str | Resolution = "auto",
    propagate: Propagate = "none",
    region_map: RegionMap | None = None,
    vote: bool = False,
) -> "Explorer | NotebookFigure":
    """Try prompts, thresholds and modes on an image, in a notebook; the image is encoded once.

    Args:
        image: a path, an (H, W, 3) uint8 RGB array, a PIL image, or an EncodedImage of `segmenter`.
        prompts: initial lines of the text box; "cup, mug" are synonyms.
        segmenter: encodes the image and the prompts, with its own recipe and guide; None loads the default model
            (`fgseg.load()`).
        negatives: initial negative prompts.
        mode: initial mode: "exclusive" or "independent" masks, or "heatmaps".
        threshold: initial presence threshold in [0, 1]; None takes the model's default.
        min_area: initial area in pixels of the smallest region; "auto" is a quarter of a patch.
        base: what lies under masks and heatmaps at first: "grey" or "photo".
        opacity: initial opacity in [0, 1] of masks, and of heatmaps where presence is 1.
        resolution: as in `Segmenter.encode`.
        propagate: initial propagation of scores, as in `Segmenter.segment`.
        region_map: regions that can vote, as in `Segmenter.segment`, such as "superpixels". The recipe "corr" mixes
            patches within them whether or not they vote.
        vote: whether the regions vote at first.

    Returns:
        With ipywidgets an Explorer, which a notebook shows as the last value of a cell, and whose `result` is what it
        shows. Without, a figure of the same picture, after a printed line that says what to install.

    Raises:
        ImageError: a file that cannot be read.
        PromptError: an empty or duplicate prompt, or a word that the model does not know.
        OptionError: an option out of its range.
    """
    check_choice("mode", mode, get_args(ExplorerMode))
    check_choice("base", base, get_args(Base))
    check_choice("propagate", propagate, PROPAGATIONS)
    if region_map is not None:
        named_region_map(region_map)  # refuses what is none
    check_vote(has_regions=region_map is not None, vote=vote, recipe="corr")  # regions may begin to vote later
    if min_area != "auto":
        check_whole("min_area", min_area, low=0, high=np.iinfo(np.int64).max)
    check_number("opacity", opacity, low=0, high=1)
    if threshold is not None:
        check_number("threshold", threshold, low=0, high=1, hint="a presence")
    segmenter = load() if segmenter is None else segmenter
    low = segmenter.defaults.threshold if threshold is None else float(threshold)
    first = _Options(
        _tuple(prompts), _tuple(negatives), mode, low, min_area, base, float(opacity), propagate, vote
    )  # fmt: skip
    segmenter.prepare(first.prompts, negatives=first.negatives)
    started = time.perf_counter()
    mixed = region_map if segmenter.encoder.recipe == "corr" else None
    encoded = segmenter.encode(image, resolution=resolution, region_map=mixed)
    when = "before" if encoded is image else f"once, in {_milliseconds_since(started)}"
    try:
        import ipywidgets
    except ImportError:
        print(WITHOUT_WIDGETS)
        return show_picture(_draw(_result(segmenter, encoded, first, region_map), first))
    return Explorer(segmenter, encoded, first, region_map, widgets=ipywidgets, when=when)


class Explorer:
    """Widgets for one encoded image, made by `explore`.

    Attributes:
        result: the Segmentation that the picture shows, or the Heatmaps.
        prompts: text box with one prompt per line, read when it loses the focus.
        negatives: text box with one negative prompt per line.
        mode: switch between the modes of `ExplorerMode`.
        threshold: slider from 0 to 1, disabled while heatmaps are shown.
        min_area: slider over `AREAS`, disabled while heatmaps are shown.
        base: switch between "grey" and "photo".
        propagate: switch between "none", "patches", "pixels" and "both".
        vote: whether the regions vote; disabled without a region map.
        opacity: slider from 0 to 1.
        picture: the drawing, a PNG.
        message: the time that drawing took, or an error in the prompts.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        encoded: EncodedImage,
        first: _Options,
        region_map: RegionMap | None,
        *,
        widgets: ModuleType,
        when: str,
    ) -> None:
        self._segmenter, self._encoded, self._region_map, self._when = segmenter, encoded, region_map, when
        self.result: Segmentation | Heatmaps
        lines = {"continuous_update": False, "placeholder": "one per line; commas between synonyms"}
        self.prompts = widgets.Textarea("\n".join(first.prompts), rows=TEXT_ROWS, description="prompts", **lines)
        self.negatives = widgets.Textarea("\n".join(first.negatives), rows=NEGATIVE_ROWS, description="not", **lines)
        buttons = {"style": {"button_width": "auto"}}
        self.mode = widgets.ToggleButtons(options=list(get_args(ExplorerMode)), value=first.mode, **buttons)
        self.base = widgets.ToggleButtons(options=list(get_args(Base)), value=first.base, **buttons)
        self.propagate = widgets.Dropdown(options=list(PROPAGATIONS), value=first.propagate, description="propagate")
        self.vote = widgets.Checkbox(first.vote, description="regions vote", disabled=region_map is None)
        slider = {"min": 0.0, "max": 1.0, "step": 0.01}
        self.threshold = widgets.FloatSlider(first.threshold, description="threshold", **slider)
        self.opacity = widgets.FloatSlider(first.opacity, description="opacity", **slider)
        areas = [*AREAS, *({first.min_area} - set(AREAS))]
        areas.sort(key=lambda area: -1 if area == "auto" else int(area))
        self.min_area = widgets.SelectionSlider(
            options=areas, value=first.min_area, description="min area", continuous_update=False
        )
        self.picture = widgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        self.message = widgets.HTML()  # a Label would cut off a long line
        self._box = self._laid_out(widgets)
        for widget in self._controls():
            widget.observe(self._redraw, names="value")
        self._redraw()

    def _controls(self) -> tuple[Any, ...]:
        return (
            self.prompts, self.negatives, self.mode, self.base, self.threshold, self.min_area, self.opacity,
            self.propagate, self.vote,
        )  # fmt: skip

    def _laid_out(self, widgets: ModuleType) -> Any:
        words, (_, _, *others) = widgets.VBox([self.prompts, self.negatives]), self._controls()
        controls = widgets.HBox([words, widgets.VBox(others)], layout={"flex_flow": "row wrap"})
        return widgets.VBox([controls, self.message, self.picture])

    def _options(self) -> _Options:
        return _Options(
            _lines(self.prompts.value), _lines(self.negatives.value), self.mode.value, self.threshold.value,
            self.min_area.value, self.base.value, self.opacity.value, self.propagate.value, self.vote.value,
        )  # fmt: skip

    def _redraw(self, _change: Any = None) -> None:
        """Draw with the values of the widgets; after an error in the prompts, show it and keep the picture."""
        options = self._options()
        self.threshold.disabled = self.min_area.disabled = options.mode == "heatmaps"
        started = time.perf_counter()
        try:
            result = _result(self._segmenter, self._encoded, options, self._region_map)
            picture = _draw(result, options)
        except FgsegError as error:
            self.message.value = escape(f"{error} (the picture still shows the previous prompts)", quote=False)
            return
        self.result, self.picture.value = result, encode_png(picture)
        self.message.value = f"drawn in {_milliseconds_since(started)}; the image was encoded {self._when}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """What a notebook shows: the widgets, or the picture where widgets cannot run, as on a code host."""
        bundle = self._box._repr_mimebundle_(**kwargs)
        return bundle and {**bundle, "image/png": b64encode(self.picture.value).decode()}


def _result(
    segmenter: Segmenter, encoded: EncodedImage, options: _Options, region_map: RegionMap | None
) -> Segmentation | Heatmaps:
    """What is drawn with these options; regions that neither vote nor mix patches are left out."""
    is_used = options.vote or segmenter.encoder.recipe == "corr"
    how: dict[str, Any] = {
        "negatives": options.negatives, "propagate": options.propagate, "vote": options.vote,
        "region_map": region_map if is_used else None,
    }  # fmt: skip
    if options.mode == "heatmaps":
        return segmenter.heatmaps(encoded, options.prompts, **how)
    return segmenter.segment(
        encoded, options.prompts, mode=options.mode, threshold=options.threshold, min_area=options.min_area, **how
    )


def _draw(result: Segmentation | Heatmaps, options: _Options) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB drawn with these options."""
    if isinstance(result, Heatmaps):
        return heatmap_sheet(result.image, result, opacity=options.opacity, max_side=NOTEBOOK_SIDE, base=options.base)
    return shrink(result.overlay(opacity=options.opacity, base=options.base), max_side=NOTEBOOK_SIDE)


def _tuple(texts: str | Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _lines(text: str) -> tuple[str, ...]:
    """The lines that are not empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _milliseconds_since(started: float) -> str:
    return f"{1000 * (time.perf_counter() - started):.0f} ms"
