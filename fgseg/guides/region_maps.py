"""Region maps: which region of the image each pixel belongs to, from a map, a file, superpixels or a mask model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, describe
from fgseg._files.names import one_line
from fgseg.errors import DatasetError, OptionError, ShapeError
from fgseg.guides.mask_model import EOMT, predicted_segments
from fgseg.scoring.superpixels import superpixels

__all__ = ["NO_REGION", "RegionMap", "is_computed", "named_region_map", "region_map_for", "region_map_of"]

NO_REGION = -1
"""Number of a pixel that belongs to no region."""
RegionMap = NDArray[np.integer] | str | os.PathLike[str]
"""An array (H, W), a label PNG, a JSON file with COCO masks, "superpixels", or "eomt" (":" and a folder or hub id)."""

SUPERPIXELS, _EOMT = "superpixels", "eomt"
_FILES = (".png", ".json", ".tif")
_KINDS = 'an integer array (H, W), a label PNG, a JSON file with COCO masks, "superpixels" or "eomt"'
_LAYOUT = "an object with `annotations`, a list of objects with a `segmentation`"


def named_region_map(region_map: RegionMap) -> str:
    """A region map in one line, for run.json: its name or file, or "array".

    Raises:
        OptionError: no kind of region map.

    >>> named_region_map("superpixels"), named_region_map(np.zeros((2, 2), int))
    ('superpixels', 'array')
    """
    if isinstance(region_map, np.ndarray):
        return "array"
    if not isinstance(region_map, (str, os.PathLike)) or not str(region_map):
        raise OptionError(f"region_map: expected {_KINDS}, got {describe(region_map)}")
    return str(region_map)


def is_computed(region_map: RegionMap) -> bool:
    """Whether regions are computed from the image itself, which takes long.

    >>> is_computed("superpixels"), is_computed("regions.png")
    (True, False)
    """
    return isinstance(region_map, str) and region_map.partition(":")[0] in (SUPERPIXELS, _EOMT)


def region_map_for(region_map: str, image: str) -> str:
    """The region map of one of several images: the file of its name in a folder, or the region map itself.

    Args:
        region_map: as in `region_map_of`, or a folder with a file for each image, such as a.png or a.json for a.jpg.
            The file of an image in a subfolder lies in the subfolder of the same name, if the folder has that.
        image: name or path of the image.

    Raises:
        OptionError: the folder has no file for the image.
    """
    if is_computed(region_map) or not Path(region_map).is_dir():
        return region_map
    folder, names = _folder_for(Path(region_map), image), [f"{Path(image).stem}{suffix}" for suffix in _FILES]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise OptionError(f"region_map: expected {' or '.join(names)} in {one_line(folder)}, got none; add the file")
    return str(found)


def _folder_for(folder: Path, image: str) -> Path:
    """The subfolder with the most folder names of the end of the image's path, so that a/1.jpg is not b/1.jpg."""
    path = Path(image).parent
    names = path.relative_to(path.anchor).parts
    places = (folder.joinpath(*names[start:]) for start in range(len(names)) if ".." not in names[start:])
    return next((place for place in places if place.is_dir()), folder)


def region_map_of(
    region_map: RegionMap, image: NDArray[np.uint8], *, patch_pixels: float, device: torch.device | str = "cpu"
) -> NDArray[np.int32]:
    """The region of each pixel of an image.

    Args:
        region_map: regions of any number, of which a negative one is no region; or what makes them:
            a file: a palette or grey PNG, in which 255 (65535 in 16 bits) is no region;
            a file ending in .json: the masks of one image in COCO's layout, of which the smaller lies on top;
            "superpixels": about two per patch, without a model;
            "eomt": the segments of EoMT-L, which was trained on COCO's panoptic labels. The model takes 1.3 GB, and
            about a minute for each image on two cores. "eomt:NAME" is another EoMT, in a folder or on the hub.
        image: (H, W, 3) uint8 RGB.
        patch_pixels: side of a patch of the encoder in image pixels, for superpixels.
        device: of the mask model.

    Returns:
        (H, W) int32: regions counted from 0, in the order of their numbers, and -1 where there is none.

    Raises:
        OptionError: no kind of region map.
        ShapeError: a map of another size, or one that does not hold integers.
        ImageError, DatasetError: a file that cannot be read.
        ModelNotFoundError, WeightsError: the mask model cannot be loaded.

    >>> region_map_of(np.array([[7, 3], [-1, 7]]), np.zeros((2, 2, 3), np.uint8), patch_pixels=1)
    array([[ 1,  0],
           [-1,  1]], dtype=int32)
    """
    name, image_hw = named_region_map(region_map), (image.shape[0], image.shape[1])
    if isinstance(region_map, np.ndarray):
        return _counted(region_map, image_hw, "region_map")
    if name == SUPERPIXELS:
        return _counted(superpixels(image, patch_pixels=patch_pixels), image_hw, name)
    kind, _, model = name.partition(":")
    if kind == _EOMT:
        return _counted(predicted_segments(image, model or EOMT, device=device), image_hw, name)
    return _counted(_regions_in_file(Path(name), image_hw), image_hw, name)


def _regions_in_file(path: Path, image_hw: tuple[int, int]) -> NDArray[np.int32]:
    from fgseg.images.label_png import read_label_png  # loads Pillow, which scoring does not need otherwise

    if not path.is_file():
        raise OptionError(f"region_map: expected {_KINDS}, got {one_line(path)!r}, which is no file")
    return _coco_regions(path, image_hw) if path.suffix.lower() == ".json" else read_label_png(path)


def _counted(regions: NDArray[np.integer], image_hw: tuple[int, int], name: str) -> NDArray[np.int32]:
    """The regions counted from 0, in the order of their numbers, and NO_REGION where the number is negative."""
    if regions.dtype.kind not in "iu":
        raise ShapeError(f"{name}: expected integers, the number of each pixel's region, got {describe(regions)}")
    check_array(name, regions, image_hw, hint="a region map is as large as the image")
    numbers, index = np.unique(regions, return_inverse=True)
    below = int(np.count_nonzero(numbers < 0))
    return np.maximum(index.reshape(image_hw) - below, NO_REGION).astype(np.int32)


def _coco_regions(path: Path, image_hw: tuple[int, int]) -> NDArray[np.int32]:
    from fgseg.datasets.annotations import UnusableError
    from fgseg.datasets.coco_masks import checked_mask, draw_masks
    from fgseg.datasets.documents import expect_layout, read_document

    document = read_document(path)
    with expect_layout(path, _LAYOUT):
        annotations: list[dict[str, Any]] = list(document["annotations"])
        images = {str(one.get("image_id")) for one in annotations}
        segmentations = [one["segmentation"] for one in annotations]
    if len(images) > 1:
        raise DatasetError(f"{one_line(path)}: expected the masks of one image, got those of {len(images)}; split it")
    try:
        masks = [checked_mask(segmentation, image_hw) for segmentation in segmentations]
    except UnusableError as error:
        raise DatasetError(f"{one_line(path)}: expected {error.expected}, got {error.got}") from error
    drawn = draw_masks(((number, mask) for number, mask in enumerate(masks, start=1) if mask is not None), image_hw)
    return drawn - 1  # 0 is no mask
