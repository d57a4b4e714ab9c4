"""The result of a segmentation: labels, masks, scores, regions, pictures and files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_choice, check_choices, check_image
from fgseg._files import write_npz, write_text
from fgseg.drawing.colors import class_colors
from fgseg.drawing.heatmap_sheet import heatmap_sheet
from fgseg.drawing.legend import with_legend
from fgseg.drawing.overlay import overlay_labels, overlay_masks
from fgseg.errors import OptionError, ShapeError
from fgseg.formats.coco import coco_annotations
from fgseg.formats.detections import detections
from fgseg.formats.polygons import geojson, labelme, yolo_segments
from fgseg.formats.tables import regions_csv, regions_json
from fgseg.images.label_png import write_label_png
from fgseg.images.resizing import shrink
from fgseg.images.writing import encode_png, write_image, write_mask_png
from fgseg.prompts.classes import PromptClass
from fgseg.regions.table import region_table
from fgseg.types import UNLABELLED, Region, unlabelled_value, watched
from fgseg.upsample.maps import shrink_map

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["FORMATS", "Segmentation", "check_formats", "check_mode", "classes_json"]

Mode = Literal["exclusive", "independent"]
Masks = Mapping[str, NDArray[np.bool_]]
ScoreMaps = Mapping[str, NDArray[np.float32]]
NOTEBOOK_SIDE = 1024  # pixels; a result that draws itself in a notebook is shrunk to this


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Which class each pixel of an image belongs to, and how surely.

    The same type when nothing is found: `labels` is then UNLABELLED everywhere and `regions` is empty.

    Attributes:
        image: (H, W, 3) uint8 RGB, the image that was segmented.
        labels: (H, W) int32, index into `classes`; UNLABELLED (-1) where nothing wins. In independent mode the
            winner among the masks that hold the pixel.
        prompts: the classes with their query words and colours, in label order.
        masks: class name -> (H, W) bool, computed when asked. They overlap in independent mode.
        scores: class name -> (H, W) float32 presence in [0, 1], computed when asked; 0.5 is as likely as the
            best of the words it competes with.
        mode: "exclusive" or "independent".
        grid_hw: (height, width) in patches that the scores were made at, for the size of saved heatmaps.
        settings: what the result was made with, as it goes into run.json.
        min_area: pixels a region needs to be listed.

    Raises:
        ShapeError: image and labels of different sizes, labels outside the classes, or masks or scores that are not
            one a class, in their order.
        OptionError: an unknown mode.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    prompts: tuple[PromptClass, ...]
    masks: Masks
    scores: ScoreMaps
    mode: Mode
    grid_hw: tuple[int, int]
    settings: Mapping[str, Any]
    min_area: int = 1

    def __post_init__(self) -> None:
        check_image("image", self.image)
        check_array("labels", self.labels, self.image.shape[:2], hint="one label a pixel of the image")
        check_choice("mode", self.mode, get_args(Mode))
        low, high = int(self.labels.min()), int(self.labels.max())
        if self.labels.dtype != np.int32 or low < UNLABELLED or high >= len(self.prompts):
            raise ShapeError(
                f"labels: expected int32 from {UNLABELLED} to {len(self.prompts) - 1}, "
                f"got {self.labels.dtype} from {low} to {high}"
            )
        for kind, maps in (("masks", self.masks), ("scores", self.scores)):
            if tuple(maps) != self.classes:
                raise ShapeError(f"{kind}: expected the classes {self.classes!r:.200}, got {tuple(maps)!r:.200}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(prompt.name for prompt in self.prompts)

    @cached_property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """(red, green, blue) of each class: its own, or the palette's."""
        return class_colors(self.prompts)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Connected parts of every class, by class, then by falling area."""
        return region_table(self.masks, self.scores, min_area=self.min_area)

    def overlay(self, *, opacity: float = 0.5, outline: bool = True, legend: bool = True) -> NDArray[np.uint8]:
        """The image with its masks drawn over it.

        Args:
            opacity: of the tint, 0 to 1.
            outline: draw the border of every mask.
            legend: name the classes that are there, beside or below the image.

        Returns:
            (H', W', 3) uint8 RGB; without a legend as large as the image, with one the image is its top left part.
        """
        if self.mode == "exclusive":
            drawn = overlay_labels(self.image, self.labels, self.colors, opacity=opacity, outline=outline)
        else:
            drawn = overlay_masks(self.image, self.masks.values(), self.colors, opacity=opacity, outline=outline)
        present = self._present()
        if not legend or not present:
            return drawn
        return with_legend(drawn, [self.classes[index] for index in present], [self.colors[index] for index in present])

    def heatmaps(self) -> NDArray[np.uint8]:
        """Every class's presence over the image, with a colour bar.

        Returns:
            (H', W', 3) uint8 RGB: for one class the image beside its heatmap, for several a grid, the image first.
            Pictures are at most 1024 pixels long, and shorter where many would make a sheet over 4096.
        """
        return heatmap_sheet(self.image, self.scores)

    def save(self, folder: str | Path, *, formats: Sequence[str] = ("labels", "overlay", "regions")) -> list[Path]:
        """Write the result's files.

        Args:
            folder: where to; made if needed, files of the same name are replaced.
            formats: names of FORMATS; run.json is always written.

        Returns:
            the files written.

        Raises:
            OptionError: an unknown format.
            OutputError: the folder cannot be written.
        """
        check_choices("formats", formats, FORMATS)
        settings = _json(self.settings)
        written = [path for name in dict.fromkeys(formats) for path in FORMATS[name](self, Path(folder))]
        run = Path(folder) / "run.json"
        write_text(run, settings)
        return [*written, run]

    def to_dict(self) -> dict[str, Any]:
        """A summary that JSON can hold: size, mode, classes with the pixels of their masks, regions, settings.

        In independent mode masks overlap, so shares may add up to more than 1.
        """
        height, width = self.labels.shape
        classes = [
            {"index": index, "name": name, "pixels": count, "share": round(count / self.labels.size, 6)}
            for index, (name, count) in enumerate(zip(self.classes, self._pixel_counts, strict=True))
        ]
        regions = json.loads(regions_json(self.regions))
        return {
            "height": height,
            "width": width,
            "mode": self.mode,
            "classes": classes,
            "regions": regions,
            "settings": dict(self.settings),
        }

    def to_detections(self) -> Detections:
        """One `supervision.Detections` row a region.

        Raises:
            OptionError: the package supervision is not installed.
        """
        return detections(self.masks, self.regions, image_hw=self._image_hw())

    @cached_property
    def _pixel_counts(self) -> tuple[int, ...]:
        """Pixels of each class's mask."""
        if self.mode == "independent":
            return tuple(int(mask.sum()) for mask in self.masks.values())
        return tuple(np.bincount(self.labels.ravel() + 1, minlength=len(self.prompts) + 1)[1:].tolist())

    def _image_hw(self) -> tuple[int, int]:
        return self.labels.shape[0], self.labels.shape[1]

    def _present(self) -> list[int]:
        """Indices of the classes that hold a pixel."""
        return [index for index, count in enumerate(self._pixel_counts) if count]

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(shrink(self.overlay(), max_side=NOTEBOOK_SIDE))

    def __repr__(self) -> str:
        height, width = self.labels.shape
        found = ", ".join(self.classes[index] for index in self._present())
        return f"Segmentation({height} x {width}, {self.mode}, {len(self.prompts)} classes, found: {found or 'none'})"


def classes_json(prompts: Sequence[PromptClass]) -> str:
    """What the values of a label map stand for, as the text of classes.json."""
    classes = [
        {"index": index, "name": prompt.name, "prompts": list(prompt.prompts), "color": list(color)}
        for index, (prompt, color) in enumerate(zip(prompts, class_colors(prompts), strict=True))
    ]
    return _json({"unlabelled": unlabelled_value(len(prompts)), "classes": classes})


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _name(result: Segmentation) -> str:
    return str(result.settings.get("image") or "image.png")


def _save_labels(result: Segmentation, folder: Path) -> list[Path]:
    write_label_png(folder / "labels.png", result.labels, colors=result.colors)
    write_text(folder / "classes.json", classes_json(result.prompts))
    return [folder / "labels.png", folder / "classes.json"]


def _save_overlay(result: Segmentation, folder: Path) -> list[Path]:
    write_image(folder / "overlay.png", result.overlay())
    return [folder / "overlay.png"]


def _save_heatmaps(result: Segmentation, folder: Path) -> list[Path]:
    rows: list[NDArray[np.float32]] = []
    maps = watched(result.scores, lambda _, score_map: rows.append(shrink_map(score_map, result.grid_hw)))
    write_image(folder / "heatmaps.png", heatmap_sheet(result.image, maps))
    write_npz(
        folder / "heatmaps.npz",
        presence=np.stack(rows).astype(np.float16),
        classes=np.array(result.classes),
        image_hw=np.array(result.labels.shape),
    )
    return [folder / "heatmaps.png", folder / "heatmaps.npz"]


def _save_regions(result: Segmentation, folder: Path) -> list[Path]:
    write_text(folder / "regions.json", regions_json(result.regions))
    write_text(folder / "regions.csv", regions_csv(result.regions))
    return [folder / "regions.json", folder / "regions.csv"]


def _save_coco(result: Segmentation, folder: Path) -> list[Path]:
    document = coco_annotations(result.masks, result.regions, image_hw=result._image_hw(), file_name=_name(result))
    write_text(folder / "coco.json", _json(document))
    return [folder / "coco.json"]


def _save_geojson(result: Segmentation, folder: Path) -> list[Path]:
    write_text(folder / "masks.geojson", _json(geojson(result.masks, result.regions)))
    return [folder / "masks.geojson"]


def _save_yolo(result: Segmentation, folder: Path) -> list[Path]:
    write_text(folder / "yolo.txt", yolo_segments(result.masks, result.regions, image_hw=result._image_hw()))
    return [folder / "yolo.txt"]


def _save_labelme(result: Segmentation, folder: Path) -> list[Path]:
    name = _name(result)
    with suppress(ValueError):  # another drive of Windows: no way leads there from the folder
        # LabelMe looks for it from its file's folder, wherever links lead; the image keeps its own name.
        image = Path(name)
        name = os.path.relpath(image.parent.resolve() / image.name, folder.resolve())
    document = labelme(result.masks, result.regions, image_name=name, image_hw=result._image_hw())
    write_text(folder / "labelme.json", _json(document))
    return [folder / "labelme.json"]


def _save_masks(result: Segmentation, folder: Path) -> list[Path]:
    written = []
    for index, (name, mask) in enumerate(result.masks.items()):
        safe = "".join(letter if letter.isalnum() else "_" for letter in name)[:60]
        path = folder / "masks" / f"{index:03d}_{safe}.png"
        write_mask_png(path, mask)
        written.append(path)
    return written


FORMATS: Mapping[str, Callable[[Segmentation, Path], list[Path]]] = {
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


def check_mode(mode: str, *, max_hole: int) -> None:
    """Refuse an unknown mode, and holes to fill where masks share no pixel.

    Raises:
        OptionError: one of these.
    """
    check_choice("mode", mode, get_args(Mode))
    if max_hole and mode == "exclusive":
        raise OptionError('max_hole: filling a hole would take pixels from other classes; use mode "independent", or 0')


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a format that is not one of FORMATS, or none at all.

    Raises:
        OptionError: one of these.
    """
    if not formats:
        raise OptionError(f"formats: expected at least one of {', '.join(FORMATS)}, got none")
    check_choices("formats", formats, FORMATS)
