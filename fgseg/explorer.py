"""`explore`: prompts, sliders and a mode switch beside an image, in a notebook. The image is encoded once.

    fgseg.explore("photo.jpg", ["red", "white"])

The widgets need ipywidgets, which is an optional dependency; without it `explore` returns a fixed picture.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_choice, check_number
from fgseg.drawing.figures import NotebookFigure, show_picture
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.errors import FgsegError
from fgseg.images.resizing import shrink
from fgseg.images.writing import encode_png
from fgseg.scoring.resolution import Resolution
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.heatmaps import NOTEBOOK_SIDE
from fgseg.segmentation.image_encoder import ImageSource
from fgseg.segmenter import Segmenter, load

__all__ = ["Explorer", "ExplorerMode", "explore"]

ExplorerMode = Literal["exclusive", "independent", "heatmaps"]
"""What is drawn: masks that do not overlap, masks that may overlap, or the presence of each prompt."""

FIRST_PROMPTS = ("red", "green", "blue")
"""Prompts that every model of this package knows."""
WITHOUT_WIDGETS = "explore: a picture without sliders, since ipywidgets is not installed; pip install ipywidgets"
TEXT_ROWS = 5
"""Lines of the text box; further lines scroll."""


@dataclass(frozen=True)
class _Options:
    """The values of the widgets."""

    prompts: tuple[str, ...]
    mode: ExplorerMode
    threshold: float
    opacity: float


def explore(
    image: ImageSource,
    prompts: Sequence[str] = FIRST_PROMPTS,
    *,
    segmenter: Segmenter | None = None,
    mode: ExplorerMode = "exclusive",
    threshold: float | None = None,
    opacity: float = 0.5,
    resolution: str | Resolution = "auto",
) -> "Explorer | NotebookFigure":
    """Try prompts, thresholds and modes on an image, in a notebook; the image is encoded once.

    Args:
        image: a path, an (H, W, 3) uint8 RGB array, a PIL image, or an EncodedImage of `segmenter`.
        prompts: initial lines of the text box; "cup, mug" are synonyms.
        segmenter: encodes the image and the prompts; None loads the default model (`fgseg.load()`).
        mode: initial mode: "exclusive" or "independent" masks, or "heatmaps".
        threshold: initial presence threshold in [0, 1]; None takes the model's default.
        opacity: initial opacity in [0, 1] of masks, and of heatmaps where presence is 1.
        resolution: as in `Segmenter.encode`.

    Returns:
        With ipywidgets an Explorer, which a notebook shows as the last value of a cell. Without, a figure of the same
        picture, after a printed line that says what to install.

    Raises:
        ImageError: a file that cannot be read.
        PromptError: an empty or duplicate prompt, or a word that the model does not know.
        OptionError: an option out of its range.
    """
    check_choice("mode", mode, get_args(ExplorerMode))
    check_number("opacity", opacity, low=0, high=1)
    if threshold is not None:
        check_number("threshold", threshold, low=0, high=1, hint="a presence")
    segmenter = load() if segmenter is None else segmenter
    low = segmenter.defaults.threshold if threshold is None else float(threshold)
    first = _Options((prompts,) if isinstance(prompts, str) else tuple(prompts), mode, low, float(opacity))
    segmenter.prepare(first.prompts)
    started = time.perf_counter()
    encoded = segmenter.encode(image, resolution=resolution)
    when = "before" if encoded is image else f"once, in {_milliseconds_since(started)}"
    try:
        import ipywidgets
    except ImportError:
        print(WITHOUT_WIDGETS)
        return show_picture(_draw(segmenter, encoded, first))
    return Explorer(segmenter, encoded, first, widgets=ipywidgets, when=when)


class Explorer:
    """Widgets for one encoded image, made by `explore`.

    Attributes:
        prompts: text box with one prompt per line, read when it loses the focus.
        mode: switch between the modes of `ExplorerMode`.
        threshold: slider from 0 to 1, disabled while heatmaps are shown.
        opacity: slider from 0 to 1.
        picture: the drawing, a PNG.
        message: the time that drawing took, or an error in the prompts.
    """

    def __init__(
        self, segmenter: Segmenter, encoded: EncodedImage, first: _Options, *, widgets: ModuleType, when: str
    ) -> None:
        self._segmenter, self._encoded, self._when = segmenter, encoded, when
        self.prompts = widgets.Textarea("\n".join(first.prompts), rows=TEXT_ROWS, continuous_update=False)
        self.prompts.description = "prompts"
        self.prompts.placeholder = "one prompt per line; commas between synonyms"
        self.mode = widgets.ToggleButtons(
            options=list(get_args(ExplorerMode)), value=first.mode, style={"button_width": "auto"}
        )
        slider = {"min": 0.0, "max": 1.0, "step": 0.01}
        self.threshold = widgets.FloatSlider(first.threshold, description="threshold", **slider)
        self.opacity = widgets.FloatSlider(first.opacity, description="opacity", **slider)
        self.picture = widgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        self.message = widgets.HTML()  # a Label would cut off a long line
        controls = widgets.HBox(
            [self.prompts, widgets.VBox([self.mode, self.threshold, self.opacity])], layout={"flex_flow": "row wrap"}
        )
        self._box = widgets.VBox([controls, self.message, self.picture])
        for widget in (self.prompts, self.mode, self.threshold, self.opacity):
            widget.observe(self._redraw, names="value")
        self._redraw()

    def _options(self) -> _Options:
        lines = (line.strip() for line in self.prompts.value.splitlines())
        prompts = tuple(line for line in lines if line)
        return _Options(prompts, self.mode.value, self.threshold.value, self.opacity.value)

    def _redraw(self, _change: Any = None) -> None:
        """Draw with the values of the widgets; after an error in the prompts, show it and keep the picture."""
        options = self._options()
        self.threshold.disabled = options.mode == "heatmaps"
        started = time.perf_counter()
        try:
            picture = _draw(self._segmenter, self._encoded, options)
        except FgsegError as error:
            self.message.value = escape(f"{error} (the picture still shows the previous prompts)", quote=False)
            return
        self.picture.value = encode_png(picture)
        self.message.value = f"drawn in {_milliseconds_since(started)}; the image was encoded {self._when}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """What a notebook shows: the widgets."""
        return self._box._repr_mimebundle_(**kwargs)


def _draw(segmenter: Segmenter, encoded: EncodedImage, options: _Options) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB drawn with these options."""
    if options.mode == "heatmaps":
        maps = segmenter.heatmaps(encoded, options.prompts)
        return heatmap_sheet(encoded.image, maps, opacity=options.opacity, max_side=NOTEBOOK_SIDE)
    result = segmenter.segment(encoded, options.prompts, mode=options.mode, threshold=options.threshold)
    return shrink(result.overlay(opacity=options.opacity), max_side=NOTEBOOK_SIDE)


def _milliseconds_since(started: float) -> str:
    return f"{1000 * (time.perf_counter() - started):.0f} ms"
