"""The files a result is saved as: one function per format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_choices
from fgseg._files import write_text
from fgseg.drawing.colors import Color
from fgseg.errors import OptionError
from fgseg.formats.coco import coco_annotations
from fgseg.formats.polygons import geojson, labelme, yolo_segments
from fgseg.formats.tables import regions_csv, regions_json
from fgseg.images.label_png import write_label_png
from fgseg.images.writing import write_image, write_mask_png
from fgseg.prompts.classes import PromptClass
from fgseg.segmentation.heatmaps import write_heatmaps
from fgseg.segmentation.summary import classes_json, json_text
from fgseg.types import Region

__all__ = ["FORMATS", "Saveable", "check_formats", "save"]


class Saveable(Protocol):
    """What the formats read of a result; `fgseg.Segmentation` is one and documents each."""

    @property
    def image(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def labels(self) -> NDArray[np.int32]: ...  # noqa: D102
    @property
    def prompts(self) -> tuple[PromptClass, ...]: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def colors(self) -> tuple[Color, ...]: ...  # noqa: D102
    @property
    def masks(self) -> Mapping[str, NDArray[np.bool_]]: ...  # noqa: D102
    @property
    def scores(self) -> Mapping[str, NDArray[np.float32]]: ...  # noqa: D102
    @property
    def regions(self) -> tuple[Region, ...]: ...  # noqa: D102
    @property
    def grid_hw(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102
    def overlay(self) -> NDArray[np.uint8]: ...  # noqa: D102


def save(result: Saveable, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write a result; arguments, files and errors as in `fgseg.Segmentation.save`."""
    check_choices("formats", formats, FORMATS)
    settings = json_text(dict(result.settings))
    written = [path for name in dict.fromkeys(formats) for path in FORMATS[name](result, folder)]
    return [*written, *_save_text(folder / "run.json", settings)]


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a format that is not one of FORMATS, or none at all.

    Raises:
        OptionError: one of these.
    """
    if not formats:
        raise OptionError(f"formats: expected at least one of {', '.join(FORMATS)}, got none")
    check_choices("formats", formats, FORMATS)


def _hw(result: Saveable) -> tuple[int, int]:
    return result.labels.shape[0], result.labels.shape[1]


def _image_name(result: Saveable) -> str:
    return str(result.settings.get("image") or "image.png")


def _save_labels(result: Saveable, folder: Path) -> list[Path]:
    write_label_png(folder / "labels.png", result.labels, colors=result.colors)
    write_text(folder / "classes.json", classes_json(result.prompts))
    return [folder / "labels.png", folder / "classes.json"]


def _save_overlay(result: Saveable, folder: Path) -> list[Path]:
    write_image(folder / "overlay.png", result.overlay())
    return [folder / "overlay.png"]


def _save_heatmaps(result: Saveable, folder: Path) -> list[Path]:
    return write_heatmaps(result.image, result.scores, result.grid_hw, folder)


def _save_regions(result: Saveable, folder: Path) -> list[Path]:
    write_text(folder / "regions.json", regions_json(result.regions))
    write_text(folder / "regions.csv", regions_csv(result.regions))
    return [folder / "regions.json", folder / "regions.csv"]


def _save_coco(result: Saveable, folder: Path) -> list[Path]:
    document = coco_annotations(result.masks, result.regions, image_hw=_hw(result), file_name=_image_name(result))
    return _save_text(folder / "coco.json", json_text(document))


def _save_geojson(result: Saveable, folder: Path) -> list[Path]:
    return _save_text(folder / "masks.geojson", json_text(geojson(result.masks, result.regions)))


def _save_yolo(result: Saveable, folder: Path) -> list[Path]:
    return _save_text(folder / "yolo.txt", yolo_segments(result.masks, result.regions, image_hw=_hw(result)))


def _save_labelme(result: Saveable, folder: Path) -> list[Path]:
    name = _image_name(result)
    with suppress(ValueError):  # on Windows there is no relative path between drives
        # LabelMe resolves the path from its file's folder, following links; the image keeps its own name.
        image = Path(name)
        name = os.path.relpath(image.parent.resolve() / image.name, folder.resolve())
    document = labelme(result.masks, result.regions, image_name=name, image_hw=_hw(result))
    return _save_text(folder / "labelme.json", json_text(document))


def _save_text(path: Path, text: str) -> list[Path]:
    write_text(path, text)
    return [path]


def _save_masks(result: Saveable, folder: Path) -> list[Path]:
    written = []
    for index, (name, mask) in enumerate(result.masks.items()):
        safe = "".join(letter if letter.isalnum() else "_" for letter in name)[:60]
        path = folder / "masks" / f"{index:03d}_{safe}.png"
        write_mask_png(path, mask)
        written.append(path)
    return written


FORMATS: Mapping[str, Callable[[Saveable, Path], list[Path]]] = {
    "labels": _save_labels,
    "overlay": _save_overlay,
    "regions": _save_regions,
    "heatmaps": _save_heatmaps,
    "masks": _save_masks,
    "coco": _save_coco,
    "geojson": _save_geojson,
    "yolo": _save_yolo,
    "labelme": _save_labelme,
}
"""What a result can be saved as: name -> function that writes it and returns the files."""
