"""The result of a segmentation: labels, masks, scores, regions, pictures, and its files, one function per format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import (
    check_array,
    check_choice,
    check_choices,
    check_image,
    check_integers,
    check_labels,
    check_whole,
)
from fgseg._files.writers import write_text
from fgseg.drawing.overlay import Base, overlay_labels, overlay_masks
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.errors import OptionError, ShapeError
from fgseg.formats.coco import coco_annotations
from fgseg.formats.polygons import geojson, labelme, yolo_segments
from fgseg.formats.supervision_detections import detections
from fgseg.formats.tables import regions_csv, regions_frame, regions_json
from fgseg.images.label_png import write_label_png
from fgseg.images.resizing import shrink
from fgseg.images.writing import encode_png, write_image, write_mask_png
from fgseg.prompts.classes import PromptClass
from fgseg.regions.table import region_table
from fgseg.segmentation.heatmaps import heatmap_files
from fgseg.segmentation.saving import RUN_FILE, Part, path_from, save_parts
from fgseg.segmentation.summary import ClassResult, classes_json, json_text
from fgseg.types import UNLABELLED, Region

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections

    from fgseg.drawing.figures import NotebookFigure

__all__ = ["FORMATS", "Mode", "Segmentation", "check_formats", "checked_sizes", "speck_line", "written_files"]

Mode = Literal["exclusive", "independent"]
Size = int | Literal["auto"]  # in pixels
Masks = Mapping[str, NDArray[np.bool_]]
ScoreMaps = Mapping[str, NDArray[np.float32]]
_NO_FILE = "image.png"  # the name of an image that was not read from a file
_COCO_PATHS = "file_name is the path of the image, relative to the folder of this file"
_COCO_NO_FILE = "the image was not read from a file"
NOTEBOOK_SIDE = 1024  # pixels; a result that draws itself in a notebook is shrunk to this


@dataclass(frozen=True, eq=False)
class Segmentation(ClassResult):
    """Which class each pixel of an image belongs to, and how surely.

    The same type when nothing is found: `labels` is then UNLABELLED everywhere and `regions` is empty.

    Attributes:
        image: (H, W, 3) uint8 RGB, the image that was segmented.
        labels: (H, W) int32, index into `classes`; UNLABELLED (-1) where no class wins. In independent mode the
            winner among the masks that hold the pixel.
        prompts: the classes with their query words and colours, in label order.
        masks: class name -> (H, W) bool, computed when read. They may overlap in independent mode.
        scores: class name -> (H, W) float32 presence in [0, 1], computed when read; 0.5 is as likely as the best of
            the words it competes with.
        mode: "exclusive" or "independent".
        grid_hw: (height, width) in patches of the scores, which is the size of saved heatmaps.
        settings: what the result was made with; `save` writes them to run.json.
        min_area: in pixels; smaller regions are not listed.
        no_data: (H, W) bool, true where the image has no data; None if every pixel has data. These pixels are
            unlabelled, and shares do not count them.

    Raises:
        ShapeError: image and labels of different sizes, labels outside the classes, or not one mask and one score map
            per class, in their order.
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
    no_data: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        check_image("image", self.image)
        check_array("labels", self.labels, self.image.shape[:2], hint="one label per pixel of the image")
        check_choice("mode", self.mode, get_args(Mode))
        check_labels(self.labels)
        check_integers("labels", self.labels, low=UNLABELLED, high=len(self.prompts) - 1)
        for kind, maps in (("masks", self.masks), ("scores", self.scores)):
            if tuple(maps) != self.classes:
                raise ShapeError(f"{kind}: expected the classes {self.classes!r:.200}, got {tuple(maps)!r:.200}")

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Connected components of every class, by class, then by decreasing area."""
        return region_table(self.masks, self.scores, min_area=self.min_area)

    def overlay(
        self, *, opacity: float = 0.5, outline: bool = True, legend: bool = True, base: Base = "grey"
    ) -> NDArray[np.uint8]:
        """The image with its masks drawn over it.

        Args:
            opacity: of the tint, 0 to 1.
            outline: whether to draw the border of every mask.
            legend: whether to name the classes that were found, beside or below the image.
            base: "grey" draws over the image without its colours, "photo" over the image as it is.

        Returns:
            (H', W', 3) uint8 RGB, as large as the image. A legend enlarges it to the right or below.
        """
        if self.mode == "exclusive":
            drawn = overlay_labels(self.image, self.labels, self.colors, opacity=opacity, outline=outline, base=base)
        else:
            masks = self.masks.values()
            drawn = overlay_masks(self.image, masks, self.colors, opacity=opacity, outline=outline, base=base)
        return self._with_legend(drawn, self._pixel_counts) if legend else drawn

    def figure(
        self, *, opacity: float = 0.5, outline: bool = True, legend: bool = True, base: Base = "grey"
    ) -> NotebookFigure:
        """The overlay as a matplotlib figure whose legend is vector text of one size, for a paper.

        Args:
            opacity: as in `overlay`.
            outline: as in `overlay`.
            legend: whether to name the classes that were found, below the image.
            base: as in `overlay`.

        Returns:
            A figure 6 inches wide; `figure.savefig("figure.pdf")` and `"figure.svg"` keep the text as text.
        """
        from fgseg.drawing.figures import figure_with_legend  # matplotlib's figures take a while to import

        drawn = self.overlay(opacity=opacity, outline=outline, base=base, legend=False)
        found = [index for index, count in enumerate(self._pixel_counts) if count and legend]
        return figure_with_legend(drawn, [self.classes[i] for i in found], [self.colors[i] for i in found])

    def heatmap_sheet(self, *, base: Base = "grey") -> NDArray[np.uint8]:
        """The presence of every class over the image, with a colour bar.

        Args:
            base: as in `overlay`.

        Returns:
            (H', W', 3) uint8 RGB. One class is shown beside the image; several are shown in a grid after the image.
            No picture is longer than 1024 pixels, and the sheet is at most about 4096 pixels long.
        """
        return heatmap_sheet(self.image, self.scores, base=base)

    def save(
        self,
        folder: str | Path,
        *,
        formats: Sequence[str] = ("labels", "overlay", "regions"),
        record: Mapping[str, Any] | None = None,
        base: Base = "grey",
    ) -> list[Path]:
        """Write the result's files, in place of those of the result that the folder holds.

        run.json lists the files. Those of another result are removed, and so no file is left that does not belong to
        run.json. Files that fgseg did not write stay, unless they have the name of a new one.

        Args:
            folder: output folder, created if needed.
            formats: names in FORMATS. run.json is always written.
            record: further entries of run.json.
            base: of the overlay and the heatmaps, as in `overlay`.

        Returns:
            The files written, run.json last.

        Raises:
            OptionError: an unknown format or base.
            OutputError: the folder cannot be written.
        """
        check_choices("formats", formats, FORMATS)
        check_choice("base", base, get_args(Base))
        parts = [Part(_file_names(form, self.classes), partial(FORMATS[form], self, base)) for form in formats]
        return save_parts(Path(folder), parts, self.settings, record)

    def to_dict(self) -> dict[str, Any]:
        """A summary for JSON: size, mode, classes with the pixels of their masks, regions, settings.

        Pixels without data do not count as unlabelled. In independent mode masks may overlap, so shares may add up to
        more than 1.
        """
        missing = 0 if self.no_data is None else int(self.no_data.sum())
        unlabelled = int(np.count_nonzero(self.labels == UNLABELLED)) - missing
        return self._summary(
            self._image_hw(), self.mode, self._pixel_counts, self.regions,
            unlabelled_pixels=unlabelled, no_data_pixels=missing,
        )  # fmt: skip

    def to_dataframe(self) -> DataFrame:
        """The regions as a pandas DataFrame, one row each, with the columns of regions.csv.

        Raises:
            OptionError: pandas is not installed.
        """
        return regions_frame(self.regions)

    def to_detections(self) -> Detections:
        """`supervision.Detections` with one row per region.

        Raises:
            OptionError: the package supervision is not installed.
        """
        return detections(self.masks, self.regions, image_hw=self._image_hw())

    @cached_property
    def _pixel_counts(self) -> tuple[int, ...]:
        """Number of pixels of each class's mask."""
        if self.mode == "independent":
            return tuple(int(mask.sum()) for mask in self.masks.values())
        return tuple(np.bincount(self.labels.ravel() + 1, minlength=len(self.prompts) + 1)[1:].tolist())

    def _image_hw(self) -> tuple[int, int]:
        return self.labels.shape[0], self.labels.shape[1]

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        return encode_png(shrink(self.overlay(), max_side=NOTEBOOK_SIDE))

    def __repr__(self) -> str:
        height, width = self.labels.shape
        found = self._found(self._pixel_counts)
        specks = speck_line(self.settings.get("changed_pixels", 0), self.labels.size)
        line = f"Segmentation({height} x {width}, {self.mode}, {len(self.prompts)} classes, found: {found}"
        return f"{line}{'; ' if specks else ''}{specks})"


def speck_line(changed: int, pixels: int, *, keep: str = "min_area=0, max_hole=0") -> str:
    """How many of so many pixels were changed because of specks, and how to keep them; "" if none was.

    >>> speck_line(1234, 100_000)
    'specks changed 1.2 % of the pixels, min_area=0, max_hole=0 keeps them'
    """
    if not changed:
        return ""
    share = 100 * changed / pixels
    return f"specks changed {'<0.1' if share < 0.1 else f'{share:.1f}'} % of the pixels, {keep} keeps them"


def checked_sizes(mode: str, *, min_area: Size, max_hole: Size) -> tuple[Size, Size]:
    """The sizes of specks as plain numbers or "auto".

    Raises:
        OptionError: an unknown mode, another size, or a number for `max_hole` in exclusive mode.
    """
    check_choice("mode", mode, get_args(Mode))
    sizes = [_checked_size(name, size) for name, size in (("min_area", min_area), ("max_hole", max_hole))]
    if sizes[1] not in (0, "auto") and mode == "exclusive":
        raise OptionError(
            'max_hole: filling a hole would take pixels from other classes; use mode="independent", or "auto" or 0'
        )
    return sizes[0], sizes[1]


def _checked_size(name: str, size: Size) -> Size:
    if isinstance(size, str) and size == "auto":
        return "auto"
    return check_whole(name, size, low=0, high=2**62, hint="or 'auto'")


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a format that is not one of FORMATS, or none at all.

    Raises:
        OptionError: one of these.
    """
    if not formats:
        raise OptionError(f"formats: expected at least one of {', '.join(FORMATS)}, got none")
    check_choices("formats", formats, FORMATS)


def written_files(formats: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The names of the files that a result with these classes is saved as, relative to its folder, run.json last."""
    names = [name for form in formats for name in _file_names(form, classes)]
    return [*dict.fromkeys(names), RUN_FILE]


def _file_names(form: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The files of one format."""
    if form != "masks":
        return _FILES[form]
    safe = ["".join(letter if letter.isalnum() else "_" for letter in name)[:60] for name in classes]
    return tuple(f"masks/{index:03d}_{name}.png" for index, name in enumerate(safe))


_FILES = {
    "labels": ("labels.png", "classes.json"),
    "overlay": ("overlay.png",),
    "regions": ("regions.json", "regions.csv"),
    "heatmaps": ("heatmaps.png", "heatmaps.npz"),
    "coco": ("coco.json",),
    "geojson": ("masks.geojson",),
    "yolo": ("yolo.txt",),
    "labelme": ("labelme.json",),
}


def _labels(result: Segmentation, _: Base, folder: Path) -> None:
    write_label_png(folder / "labels.png", result.labels, colors=result.colors)
    write_text(folder / "classes.json", classes_json(result.prompts))


def _overlay(result: Segmentation, base: Base, folder: Path) -> None:
    write_image(folder / "overlay.png", result.overlay(base=base))


def _heatmaps(result: Segmentation, base: Base, folder: Path) -> None:
    heatmap_files(result.image, result.scores, result.grid_hw, base=base).write(folder)


def _regions(result: Segmentation, _: Base, folder: Path) -> None:
    write_text(folder / "regions.json", regions_json(result.regions))
    write_text(folder / "regions.csv", regions_csv(result.regions))


def _masks(result: Segmentation, _: Base, folder: Path) -> None:
    for name, mask in zip(_file_names("masks", result.classes), result.masks.values(), strict=True):
        write_mask_png(folder / name, mask)


def _coco(result: Segmentation, _: Base, folder: Path) -> None:
    path = _image_path(result, folder)
    name = path or result.settings.get("image") or _NO_FILE
    document = coco_annotations(result.masks, result.regions, image_hw=result._image_hw(), file_name=name)
    described = {"info": {"description": _COCO_PATHS if path else _COCO_NO_FILE}, **document}
    write_text(folder / "coco.json", json_text(described))


def _geojson(result: Segmentation, _: Base, folder: Path) -> None:
    write_text(folder / "masks.geojson", json_text(geojson(result.masks, result.regions)))


def _yolo(result: Segmentation, _: Base, folder: Path) -> None:
    write_text(folder / "yolo.txt", yolo_segments(result.masks, result.regions, image_hw=result._image_hw()))


def _labelme(result: Segmentation, _: Base, folder: Path) -> None:
    path = _image_path(result, folder)
    document = labelme(
        result.masks,
        result.regions,
        image_name=path or result.settings.get("image") or _NO_FILE,
        image_hw=result._image_hw(),
        image_data=encode_png(result.image) if path is None else None,
    )
    write_text(folder / "labelme.json", json_text(document))


def _image_path(result: Segmentation, folder: Path) -> str | None:
    """The path of the image's file as seen from a folder.

    None for an array, and for a bare name that is no file here, as that of a picture sent to the web page.
    """
    image = result.settings.get("image") or None
    is_sent = image is not None and Path(image).name == image and not Path(image).is_file()
    return None if is_sent else path_from(folder, image)


FORMATS: Mapping[str, Callable[[Segmentation, Base, Path], None]] = {
    "labels": _labels,
    "overlay": _overlay,
    "regions": _regions,
    "heatmaps": _heatmaps,
    "masks": _masks,
    "coco": _coco,
    "geojson": _geojson,
    "yolo": _yolo,
    "labelme": _labelme,
}
"""What a result can be saved as: name -> what writes its files into a folder, where pictures are drawn over a base."""
