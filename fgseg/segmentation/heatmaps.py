"""The presence of each prompt, as a mapping that draws itself in a notebook and saves itself."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_choice, check_image
from fgseg._files.writers import write_npz
from fgseg.drawing.overlay import Base
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.images.writing import encode_png, write_image
from fgseg.segmentation.saving import Part, save_parts
from fgseg.types import LazyMaps, watched
from fgseg.upsample.maps import shrink_map

__all__ = ["NOTEBOOK_SIDE", "Heatmaps", "heatmap_files"]

MapSize = Literal["grid", "image"]
NOTEBOOK_SIDE = 1536
"""Pixels; about the longest side of the sheet in a notebook, which shows pictures about 1,000 pixels wide."""


class Heatmaps(LazyMaps[np.float32]):
    """Prompt -> (H, W) float32 presence in [0, 1], computed each time it is read; draws itself in a notebook.

    Attributes:
        image: (H, W, 3) uint8 RGB, the image that the maps belong to.
        grid_hw: (height, width) in patches of the scores, which is the size of saved maps.
        settings: what the maps were made with; `save` writes them to run.json.

    >>> image = np.zeros((4, 6, 3), np.uint8)
    >>> maps = Heatmaps(image, ["red"], lambda index: np.ones((4, 6), np.float32), grid_hw=(2, 3))
    >>> maps, maps["red"].shape, maps._repr_png_()[1:4]
    (Heatmaps(['red']), (4, 6), b'PNG')
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        names: Sequence[str],
        compute: Callable[[int], NDArray[np.float32]],
        *,
        grid_hw: tuple[int, int],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the image, its prompts (unique) and `compute`, which returns the map of the prompt at an index."""
        check_image("image", image)
        super().__init__(names, compute)
        self.image, self.grid_hw, self.settings = image, grid_hw, settings or {}

    def save(
        self,
        folder: str | Path,
        *,
        observe: Callable[[str, NDArray[np.float32]], None] | None = None,
        record: Mapping[str, Any] | None = None,
        base: Base = "grey",
        size: MapSize = "grid",
    ) -> list[Path]:
        """Write heatmaps.png, heatmaps.npz and run.json, in place of the result that the folder holds.

        Args:
            folder: output folder, as in `Segmentation.save`.
            observe: called with each name and map when it is computed, which happens once.
            record: further entries of run.json.
            base: "grey" draws over the image without its colours, "photo" over the image as it is.
            size: of the maps in heatmaps.npz. "grid": the mean of each patch. "image": a value for each pixel.

        Returns:
            The files written, run.json last.

        Raises:
            OptionError: an unknown base or size.
            OutputError: the folder cannot be written.
        """
        check_choice("size", size, get_args(MapSize))
        maps = self if observe is None else watched(self, observe)
        parts = [heatmap_files(self.image, maps, self.grid_hw, base=base, size=size)]
        return save_parts(Path(folder), parts, self.settings, record)

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        return encode_png(heatmap_sheet(self.image, self, max_side=NOTEBOOK_SIDE))


def heatmap_files(
    image: NDArray[np.uint8],
    maps: Mapping[str, NDArray[np.float32]],
    grid_hw: tuple[int, int],
    *,
    base: Base = "grey",
    size: MapSize = "grid",
) -> Part:
    """heatmaps.png, and heatmaps.npz with the maps at the size of the grid or of the image; each map is read once."""

    def write(folder: Path) -> None:
        rows: list[NDArray[np.float16]] = []

        def keep(_: str, score_map: NDArray[np.float32]) -> None:
            rows.append(_half_precision(shrink_map(score_map, grid_hw) if size == "grid" else score_map))

        observed = watched(maps, keep)
        write_image(folder / "heatmaps.png", heatmap_sheet(image, observed, base=base))
        write_npz(
            folder / "heatmaps.npz",
            presence=np.stack(rows),
            classes=np.array(tuple(maps)),
            image_hw=np.array(image.shape[:2]),
            about=np.array(json.dumps({**_ABOUT, "size": size, "rows and columns": _ROWS[size]})),
        )

    return Part(("heatmaps.png", "heatmaps.npz"), write)


_ABOUT = {
    "presence": "(class, row, column), float16: how surely the class is there; 0.5 is a tie with the best "
    "of the words that it competes with",
    "classes": "names of the classes, in the order of presence",
    "image_hw": "height and width of the image in pixels",
    "range": [0, 1],
}
"""What the arrays of heatmaps.npz are; the file holds it as JSON."""
_ROWS = {"grid": "patches that cover the image edge to edge; a value is the mean of one", "image": "pixels"}


def _half_precision(maps: NDArray[np.float32]) -> NDArray[np.float16]:
    """Presence as float16; the smallest values become 0."""
    with np.errstate(under="ignore"):
        return maps.astype(np.float16)
