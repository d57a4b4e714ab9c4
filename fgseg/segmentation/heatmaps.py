"""The presence of each prompt, as a mapping that draws itself in a notebook."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_image
from fgseg.drawing.heatmap_sheet import heatmap_sheet
from fgseg.images.writing import encode_png
from fgseg.types import LazyMaps

__all__ = ["NOTEBOOK_SIDE", "Heatmaps"]

NOTEBOOK_SIDE = 1536
"""Pixels; about the longest side of the sheet in a notebook, which shows pictures about 1,000 pixels wide."""


class Heatmaps(LazyMaps[np.float32]):
    """Prompt -> (H, W) float32 presence in [0, 1], computed each time it is read; draws itself in a notebook.

    Attributes:
        image: (H, W, 3) uint8 RGB, the image that the maps belong to.

    >>> maps = Heatmaps(np.zeros((4, 6, 3), np.uint8), ["red"], lambda index: np.ones((4, 6), np.float32))
    >>> maps, maps["red"].shape, maps._repr_png_()[1:4]
    (Heatmaps(['red']), (4, 6), b'PNG')
    """

    def __init__(
        self, image: NDArray[np.uint8], names: Sequence[str], compute: Callable[[int], NDArray[np.float32]]
    ) -> None:
        """Keep the image, its prompts (unique) and `compute`, which returns the map of the prompt at an index."""
        check_image("image", image)
        super().__init__(names, compute)
        self.image = image

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        return encode_png(heatmap_sheet(self.image, self, max_side=NOTEBOOK_SIDE))
