"""An image with its dense features, and the scores of texts on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_array, check_image
from fgseg.errors import ShapeError
from fgseg.scoring.resolution import Resolution
from fgseg.scoring.windows import stitch_chunks
from fgseg.similarity import cosines
from fgseg.types import DenseFeatures
from fgseg.upsample.labels import running_argmax
from fgseg.upsample.maps import draw_map

__all__ = ["EncodedImage"]


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image with its dense features. Pass it in place of the image to reuse them.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        windows: features of each window, in the order of `boxes_xyxy`.
        boxes_xyxy: where each window lies on the canvas.
        canvas_hw: (height, width) of the resized image that was cut into windows.
        resolution: how the image was resized and cut.
        model: name of the model that encoded it.
        revision: hub commit of its weights, None for a folder or the embedded model.
        recipe: how its last vision block attended, None for models with one way only.
        source: file name, None for an array.
        seconds: time of the encoder without reading the file; a mean if several images were encoded together.
        together: number of images that were encoded together. In bfloat16, labels near a tie depend on it.
        no_data: (H, W) bool, true where the image has no data; None if every pixel has data.
        reading: how the image was read, for run.json.
        guide: features of the guide for each window, (h, w, C) float32 of unit length; None without a guide.
        guided_by: name of the guide, with its revision.
        region_map: (H, W) integers that the recipe "corr" was given, negative where there is no region.

    Raises:
        ShapeError: no image, no window, or not one box per window.
    """

    image: NDArray[np.uint8]
    windows: tuple[DenseFeatures, ...]
    boxes_xyxy: tuple[tuple[int, int, int, int], ...]
    canvas_hw: tuple[int, int]
    resolution: Resolution
    model: str
    revision: str | None = None
    recipe: str | None = None
    source: str | None = None
    seconds: float = 0.0
    together: int = 1
    no_data: NDArray[np.bool_] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    guide: tuple[Tensor, ...] | None = None
    guided_by: str | None = None
    region_map: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        check_image("image", self.image)
        if self.no_data is not None:
            check_array("no_data", self.no_data, self.image.shape[:2], hint="one value per pixel of the image")
        if not self.windows or len(self.windows) != len(self.boxes_xyxy):
            raise ShapeError(
                f"windows: expected one per box and at least one, got {len(self.windows)} "
                f"for {len(self.boxes_xyxy)} boxes; "
                "let Segmenter.encode make this"
            )

    def __repr__(self) -> str:
        (height, width), (rows, columns) = self.image_hw, self.grid_hw
        name = "" if self.source is None else f", {self.source!r}"
        windows = "" if len(self.windows) == 1 else f" in {len(self.windows)} windows"
        return f"EncodedImage({height} x {width}{name}, {rows} x {columns} patches{windows}, {self.model!r})"

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def grid_hw(self) -> tuple[int, int]:
        """(height, width) of the whole canvas in patches, rounded up."""
        box, grid = self.boxes_xyxy[0], self.windows[0].grid
        rows = -(-self.canvas_hw[0] * grid.shape[0] // (box[3] - box[1]))
        columns = -(-self.canvas_hw[1] * grid.shape[1] // (box[2] - box[0]))
        return rows, columns

    def chunks(self, text: Tensor) -> Iterator[Tensor]:
        """Scores of (T, D) texts in chunks (t, h, w), on the grid or on the stitched canvas."""
        scores = [cosines(window.grid, text) for window in self.windows]
        if len(scores) == 1:
            yield scores[0]
        else:
            yield from stitch_chunks(scores, self.boxes_xyxy, self.canvas_hw)

    def label_map(self, text: Tensor) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The winning text of each pixel and its score, both (H, W)."""
        labels, best = running_argmax(self.chunks(text), self.image_hw)
        return labels.cpu().numpy(), best.cpu().numpy()

    def maps(self, text: Tensor) -> Iterator[NDArray[np.float32]]:
        """The score map (H, W) of each text, one at a time."""
        for chunk in self.chunks(text):
            for scores in chunk.cpu().numpy():
                yield draw_map(scores, self.image_hw)
