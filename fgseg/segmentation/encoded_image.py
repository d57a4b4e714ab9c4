"""An image with its dense features, and the scores of texts on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_array, check_image
from fgseg.errors import ShapeError
from fgseg.guides.affinity import patch_graph, patch_places, pixel_graph
from fgseg.guides.propagation import OVER_PATCHES, OVER_PIXELS, Propagate, Propagation
from fgseg.guides.region_maps import RegionMap, is_computed, region_map_of
from fgseg.scoring.resolution import Resolution, short_side_hw
from fgseg.scoring.windows import stitch_chunks
from fgseg.similarity import cosines
from fgseg.types import DenseFeatures, check_unit, has_unit_length
from fgseg.upsample.labels import running_argmax
from fgseg.upsample.maps import draw_map
from fgseg.upsample.tensors import to_host

__all__ = ["EncodedImage", "Resize"]

Resize = Literal["area", "published"]
"""How an image is resized: by the mean of areas, or bilinear between four pixels as in published evaluation code."""
_PIXELS_SHORT_SIDE = 448
"""The short side in pixels at which scores are propagated over pixels, if the canvas is not smaller: LPOSS+'s."""


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
        region_map: (H, W) int32, the regions within which the recipe "corr" mixed patches; -1 where there is none.
        regions_from: name of that region map: "array", a file, or how it was computed.

    Raises:
        ShapeError: no image, no window, or not one box, or features of the guide, per window.
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
    region_map: NDArray[np.int32] | None = None
    regions_from: str | None = None

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
        if self.guide is not None and len(self.guide) != len(self.windows):
            raise ShapeError(
                f"guide: expected features of each of {len(self.windows)} windows, got {len(self.guide)}; "
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

    @property
    def patch_pixels(self) -> float:
        """The side of a patch in pixels of the image, along its long side."""
        return max(self.image_hw) / max(self.grid_hw)

    def regions(self, region_map: RegionMap) -> NDArray[np.int32]:
        """(H, W) number of each pixel's region; arguments and errors as `fgseg.guides.region_maps.region_map_of`."""
        if self.region_map is not None:
            return self.region_map
        return _computed_regions(self, str(region_map)) if is_computed(region_map) else _regions(self, region_map)

    def chunks(self, text: Tensor, *, propagate: Propagate = "none", resize: Resize = "area") -> Iterator[Tensor]:
        """Scores of (T, D) texts in chunks (t, h, w).

        Args:
            text: unit length along D.
            propagate: "patches" compares patches by the guide's features, or the encoder's own without a guide;
                "pixels" compares the pixels of the image at the canvas's size, but at most 448 on the short side;
                "both" does one after the other.
            resize: "published" draws one window on the canvas too, and does not antialias the image for "pixels".

        Returns:
            Chunks on the grid of the only window, on the stitched canvas, or on the pixels that were compared.
        """
        scores = self._propagated_windows(text) if propagate in OVER_PATCHES else self._window_scores(text)
        on_grid = len(scores) == 1 and resize == "area"
        chunks = iter(scores) if on_grid else stitch_chunks(scores, self.boxes_xyxy, self.canvas_hw)
        return _over_pixels(self, resize).drawn(chunks) if propagate in OVER_PIXELS else chunks

    def _window_scores(self, text: Tensor) -> list[Tensor]:
        return [cosines(window.grid, text) for window in self.windows]

    def _propagated_windows(self, text: Tensor) -> list[Tensor]:
        """Scores of each window on the guide's grid, where all patches of all windows have been compared."""
        scores = [cosines(grid, text) for grid in self._grids_of_the_guide()]
        flat = _over_patches(self).propagated(torch.cat([one.flatten(1) for one in scores], dim=1))
        parts = torch.split(flat, [one[0].numel() for one in scores], dim=1)
        return [part.reshape(one.shape) for part, one in zip(parts, scores, strict=True)]

    def _grids_of_the_guide(self) -> list[Tensor]:
        """The features of each window at the guide's patches."""
        grids = [window.grid for window in self.windows]
        return grids if self.guide is None else [
            _resampled(grid, guide.shape[0], guide.shape[1]) for grid, guide in zip(grids, self.guide, strict=True)
        ]  # fmt: skip

    def label_map(
        self, text: Tensor, *, propagate: Propagate = "none"
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The winning text of each pixel and its score, both (H, W)."""
        labels, best = self._on_host(*running_argmax(self.chunks(text, propagate=propagate), self.image_hw))
        return labels, best

    def maps(self, text: Tensor, *, propagate: Propagate = "none") -> Iterator[NDArray[np.float32]]:
        """The score map (H, W) of each text, one at a time."""
        for chunk in self.chunks(text, propagate=propagate):
            (grids,) = self._on_host(chunk)
            for scores in grids:
                yield draw_map(scores, self.image_hw)

    def _on_host(self, *values: Tensor) -> list[NDArray[Any]]:
        """Values as arrays. The host waits once, also for the check of features that lie on a GPU."""
        if values[0].device.type == "cpu":  # features on the CPU were checked when they were made
            return [one.numpy() for one in values]
        features = torch.cat([window.grid.flatten(0, 1) for window in self.windows])
        *arrays, is_unit = to_host(*values, has_unit_length(features))
        check_unit(bool(is_unit))
        return arrays


def _regions(view: EncodedImage, region_map: RegionMap) -> NDArray[np.int32]:
    device = view.windows[0].grid.device
    return region_map_of(region_map, view.image, patch_pixels=view.patch_pixels, device=device)


# Regions and graphs of the last images are kept, so that other words find them. They are not kept with the image,
# because results hold their image, and a graph takes a hundred times as much memory.
@lru_cache(maxsize=2)
def _computed_regions(view: EncodedImage, region_map: str) -> NDArray[np.int32]:
    regions = _regions(view, region_map)
    regions.setflags(write=False)
    return regions


@lru_cache(maxsize=2)
def _over_patches(view: EncodedImage) -> Propagation:
    """The propagation between all patches of all windows."""
    features = [window.grid for window in view.windows] if view.guide is None else view.guide
    places = patch_places([(one.shape[0], one.shape[1]) for one in features], view.boxes_xyxy)
    rows = torch.cat([one.float().flatten(0, 1) for one in features])
    return Propagation(patch_graph(torch.nn.functional.normalize(rows, dim=-1), places))


@lru_cache(maxsize=1)
def _over_pixels(view: EncodedImage, resize: Resize) -> Propagation:
    """The propagation between the pixels of the image."""
    from fgseg.images.resizing import resize_image  # loads Pillow, which scoring does not need otherwise

    # A strip that is not cut into windows is shrunk as it is for the encoder.
    longest = min(view.resolution.max_side, max(view.canvas_hw))
    image_hw = short_side_hw(view.canvas_hw, min(_PIXELS_SHORT_SIDE, *view.canvas_hw), longest)
    image = resize_image(view.image, image_hw, antialias=resize == "area")
    return Propagation(pixel_graph(image, device=view.windows[0].grid.device))


def _resampled(grid: Tensor, height: int, width: int) -> Tensor:
    """Features (Gh, Gw, D) on another grid of the same window: bilinear, unit length along D."""
    if grid.shape[:2] == (height, width):
        return grid
    moved = torch.nn.functional.interpolate(grid.permute(2, 0, 1)[None], (height, width), mode="bilinear")
    return torch.nn.functional.normalize(moved[0].permute(1, 2, 0), dim=-1)
