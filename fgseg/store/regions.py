"""The regions of the images of a batch run, and the name by which a run knows them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgseg._files.opening import open_image_file
from fgseg.errors import ImageError, OptionError
from fgseg.guides.region_maps import RegionMap, is_computed, named_region_map, region_map_for

__all__ = ["Regions", "regions_of"]


@dataclass(frozen=True)
class Regions:
    """Where the regions of each image come from.

    Attributes:
        source: "superpixels", "eomt", "eomt:NAME", a file for all images, or a folder with a file for each image.
        name: the source in the settings of a run. Files count by their content, so that they may be moved.
    """

    source: str
    name: str

    def of(self, image_id: str) -> str:
        """The region map of an image, as `Segmenter.segment` takes it.

        Raises:
            ImageError: the folder has no file for the image.
        """
        try:
            return region_map_for(self.source, image_id)
        except OptionError as error:
            raise ImageError(str(error)) from error


def regions_of(region_map: RegionMap | None) -> Regions | None:
    """The regions that a batch run is asked for; None for none.

    Raises:
        OptionError: an array, or neither a file or folder that is there nor what computes regions.
        ImageError: a file that cannot be read.

    >>> regions_of("superpixels")
    Regions(source='superpixels', name='superpixels')
    """
    if region_map is None:
        return None
    source = named_region_map(region_map)
    if not isinstance(region_map, np.ndarray):
        kind, sign, place = source.partition(":") if is_computed(source) else ("", "", source)
        if place and Path(place).exists():
            path = Path(place).resolve()  # a worker on another machine has another current folder
            return Regions(f"{kind}{sign}{path}", f"{kind}{sign}sha256:{_digest(path)}")
        if kind:
            return Regions(source, source)
    raise OptionError(
        'region_map: expected "superpixels", "eomt", a label PNG, a JSON file with COCO masks or a folder with one for '
        f"each image, got {source!r:.80}, which is no file; write the regions to a file"
    )


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files in a folder; hidden ones do not count."""
    if not path.is_dir():
        with open_image_file(path, "name the files in it") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        below = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in below.parts):
            whole.update(os.fsencode(below.as_posix()) + b"\0" + bytes.fromhex(_digest(file)))
    return whole.hexdigest()
