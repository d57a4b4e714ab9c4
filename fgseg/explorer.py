"""`explore`: words, sliders and a mode switch beside an image, in a notebook. The image is encoded once.

    fgseg.explore("photo.jpg", ["red", "white"])

The sliders are ipywidgets', which is not among the package's dependencies; without it the same picture stands still.
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
from fgseg.drawing.figures import NotebookFigure, show_heatmaps, show_masks
from fgseg.drawing.heatmap_sheet import heatmap_sheet
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
"""What is drawn: masks that share the pixels out, masks that may overlap, or each prompt's presence."""

FIRST_WORDS = ("red", "green", "blue")
"""Words that every model here knows."""
WITHOUT_WIDGETS = "explore: a picture without sliders, since ipywidgets is not installed; pip install ipywidgets"
TEXT_ROWS = 5
"""Lines of the text box: more scroll."""


@dataclass(frozen=True)
class _Choice:
    """What the widgets say."""

    prompts: tuple[str, ...]
    mode: ExplorerMode
    threshold: float
    opacity: float


def explore(
    image: ImageSource,
    prompts: Sequence[str] = FIRST_WORDS,
    *,
    segmenter: Segmenter | None = None,
    mode: ExplorerMode = "exclusive",
    threshold: float | None = None,
    opacity: float = 0.5,
    resolution: str | Resolution = "auto",
) -> "Explorer | NotebookFigure":
    """Try words, thresholds and modes on an image, in a notebook; the image is encoded once.

    Args:
        image: a path, an (H, W, 3) uint8 RGB array, a PIL image, or an EncodedImage of `segmenter`.
        prompts: what the text box says at first; "cup, mug" are synonyms.
        segmenter: who encodes; None loads the default model (`fgseg.load()`).
        mode: what is drawn at first: "exclusive" or "independent" masks, or "heatmaps".
        threshold: presence in [0, 1] at first; None takes the model's own.
        opacity: of masks, and of heatmaps where presence is 1, in [0, 1], at first.
        resolution: as in `Segmenter.encode`.

    Returns:
        With ipywidgets an Explorer, which shows itself as the last value of a cell. Without, a figure of the same
        picture, after a printed line that says what to install.

    Raises:
        ImageError: a file that cannot be read.
        PromptError: an empty or duplicate prompt, or a word the model does not know.
        OptionError: an option out of its range.
    """
    check_choice("mode", mode, get_args(ExplorerMode))
    check_number("opacity", opacity, low=0, high=1)
    if threshold is not None:
        check_number("threshold", threshold, low=0, high=1, hint="a presence")
    chosen = load() if segmenter is None else segmenter
    least = chosen.defaults.threshold if threshold is None else float(threshold)
    words = (prompts,) if isinstance(prompts, str) else tuple(prompts)
    first = _Choice(words, mode, least, float(opacity))
    chosen.prepare(first.prompts)
    started = time.perf_counter()
    view = chosen.encode(image, resolution=resolution)
    when = "before" if view is image else f"once, in {_milliseconds_since(started)}"
    try:
        import ipywidgets
    except ImportError:
        print(WITHOUT_WIDGETS)
        return _figure(chosen, view, first)
    return Explorer(chosen, view, first, widgets=ipywidgets, encoded=when)


class Explorer:
    """Widgets around one encoded image; `explore` makes it.

    Attributes:
        prompts: text box, a prompt a line, read when one leaves it.
        mode: switch between the modes of `ExplorerMode`.
        threshold: slider from 0 to 1; rests while heatmaps are shown.
        opacity: slider from 0 to 1.
        picture: what is drawn, a PNG.
        message: how long drawing took, or what is wrong with the words.
    """

    def __init__(
        self, segmenter: Segmenter, view: EncodedImage, first: _Choice, *, widgets: ModuleType, encoded: str
    ) -> None:
        self._segmenter, self._view, self._encoded = segmenter, view, encoded
        self.prompts = widgets.Textarea(
            "\n".join(first.prompts), description="prompts", rows=TEXT_ROWS, continuous_update=False,
            placeholder="a prompt a line; a comma between synonyms",
        )  # fmt: skip
        self.mode = widgets.ToggleButtons(
            options=list(get_args(ExplorerMode)), value=first.mode, style={"button_width": "auto"}
        )
        slider = {"min": 0.0, "max": 1.0, "step": 0.01}
        self.threshold = widgets.FloatSlider(first.threshold, description="threshold", **slider)
        self.opacity = widgets.FloatSlider(first.opacity, description="opacity", **slider)
        self.picture = widgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        self.message = widgets.HTML()  # a Label would cut a long line off
        controls = widgets.HBox(
            [self.prompts, widgets.VBox([self.mode, self.threshold, self.opacity])], layout={"flex_flow": "row wrap"}
        )
        self._box = widgets.VBox([controls, self.message, self.picture])
        for widget in (self.prompts, self.mode, self.threshold, self.opacity):
            widget.observe(self._redraw, names="value")
        self._redraw()

    def _choice(self) -> _Choice:
        lines = (line.strip() for line in self.prompts.value.splitlines())
        return _Choice(tuple(line for line in lines if line), self.mode.value, self.threshold.value, self.opacity.value)

    def _redraw(self, _change: Any = None) -> None:
        """Draw what the widgets say; where the words are at fault, say so and leave the picture."""
        choice = self._choice()
        self.threshold.disabled = choice.mode == "heatmaps"
        started = time.perf_counter()
        try:
            picture = _drawn(self._segmenter, self._view, choice)
        except FgsegError as error:
            self.message.value = escape(f"{error} (the picture is that of the words before)", quote=False)
            return
        self.picture.value = encode_png(picture)
        self.message.value = f"drawn in {_milliseconds_since(started)}; the image was encoded {self._encoded}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """What a notebook shows: the widgets."""
        return self._box._repr_mimebundle_(**kwargs)


def _drawn(segmenter: Segmenter, view: EncodedImage, choice: _Choice) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of what was chosen."""
    if choice.mode == "heatmaps":
        maps = segmenter.heatmaps(view, choice.prompts)
        return heatmap_sheet(view.image, maps, opacity=choice.opacity, max_side=NOTEBOOK_SIDE)
    result = segmenter.segment(view, choice.prompts, mode=choice.mode, threshold=choice.threshold)
    return shrink(result.overlay(opacity=choice.opacity), max_side=NOTEBOOK_SIDE)


def _figure(segmenter: Segmenter, view: EncodedImage, choice: _Choice) -> NotebookFigure:
    """The same as a figure that stands still."""
    if choice.mode == "heatmaps":
        return show_heatmaps(view.image, segmenter.heatmaps(view, choice.prompts), opacity=choice.opacity)
    result = segmenter.segment(view, choice.prompts, mode=choice.mode, threshold=choice.threshold)
    return show_masks(view.image, result.masks.values(), result.classes, result.colors, opacity=choice.opacity)


def _milliseconds_since(started: float) -> str:
    return f"{1000 * (time.perf_counter() - started):.0f} ms"
