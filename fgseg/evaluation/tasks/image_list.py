"""Lists of images that carry boxes or captions, and the common part of their tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fgseg._files.names import one_line
from fgseg.datasets.dataset import check_each_once
from fgseg.encoders.text_features import StoredTexts
from fgseg.errors import FgsegError
from fgseg.evaluation.provenance import file_list_hash, model_provenance
from fgseg.images.reading import read_image_hw
from fgseg.segmenter import Segmenter

__all__ = ["ImageList", "ImageListTask", "ListedImage", "images_folder"]


@dataclass(frozen=True)
class ListedImage:
    """An image file and its name, which is unique in its list."""

    name: str
    path: Path


@dataclass(frozen=True)
class ImageList:
    """Images with annotations.

    Attributes:
        name: name of the list.
        root: folder of the images.
        images: the images to measure.
        full_size: number of images before a limit was applied; None without a limit.

    Raises:
        DatasetError: two images of one name, which would share a row.
    """

    annotations: ClassVar[str]

    name: str
    root: Path
    images: Sequence[ListedImage]
    full_size: int | None = None

    def __post_init__(self) -> None:
        names = [image.name for image in self.images]
        check_each_once(f"{self.name}: expected each image once", names, "give the images distinct ids")

    def faults(self) -> tuple[str, ...]:
        """The faults of the image files as found in their headers, one line per fault."""
        if not self.images:
            return (f"{self.name}: expected images with {self.annotations}, got none; check the file",)
        faults = []
        for image in self.images:
            if not image.path.is_file():
                faults.append(f"{one_line(image.path)}: no such image; --root names the folder of the images")
                continue
            try:
                read_image_hw(image.path)
            except FgsegError as error:
                faults.append(one_line(error))
        return tuple(faults)


@dataclass(frozen=True, eq=False)
class ImageListTask:
    """The common part of tasks on an image list.

    Attributes:
        seg: the model.
        data: the images with their annotations.
    """

    seg: Segmenter
    data: ImageList

    @cached_property
    def items(self) -> dict[str, Any]:
        """The images by name."""
        return {image.name: image for image in self.data.images}

    @cached_property
    def captions(self) -> StoredTexts:
        """The text cache of the captions."""
        return StoredTexts(self.seg.encoder)

    def files(self, name: str) -> list[Path]:
        """The image."""
        return [self.items[name].path]

    def list_provenance(self, settings: dict[str, Any], annotations: int, **hashes: str) -> dict[str, Any]:
        """Model, data and settings, from the number of annotations and the hashes of what they say."""
        data = self.data
        return {
            "model": model_provenance(self.seg.encoder),
            "data": {
                "name": data.name,
                "images": len(data.images),
                "full_size": data.full_size,
                data.annotations: annotations,
                "list_sha256": file_list_hash([image.path for image in data.images], data.root),
                **hashes,
            },
            "settings": settings,
        }


def images_folder(root: Path | None, folder: Path) -> Path:
    """The folder of the images: `root` if given, else `images` in the folder of the annotations, else that folder."""
    return root or (folder / "images" if (folder / "images").is_dir() else folder)
