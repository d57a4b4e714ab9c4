"""Captions and whole images: recall at 1, 5 and 10, both ways, on the short or the long text route."""

import base64
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgseg._files import one_line
from fgseg.datasets.documents import read_document
from fgseg.encoders.text_features import StoredTexts
from fgseg.errors import DatasetError
from fgseg.evaluation.provenance import file_faults, file_list_hash, hash_of, model_identity
from fgseg.evaluation.statistics import place_of, share
from fgseg.evaluation.tasks.box_data import check_distinct
from fgseg.images.reading import read_image
from fgseg.segmenter import Segmenter

__all__ = ["CaptionSet", "CaptionedImage", "RetrievalTask", "caption_faults", "open_captions"]

Row = dict[str, Any]
RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class CaptionedImage:
    """An image and its captions, at least one."""

    name: str
    path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionSet:
    """Images with captions."""

    name: str
    root: Path
    images: tuple[CaptionedImage, ...]
    full_size: int | None = None

    def __post_init__(self) -> None:
        check_distinct(self.name, [image.name for image in self.images])


def open_captions(path: Path, root: Path | None) -> CaptionSet:
    """Captions from a file in the layout of COCO's captions: images with id and file_name, annotations.

    Args:
        path: the file; each annotation has `image_id` and `caption`.
        root: folder of the images; None looks for `images` beside the file, else its own folder.

    Raises:
        DatasetError: a file that cannot be read or has another form.
    """
    document = read_document(path)
    folder = root or (path.parent / "images" if (path.parent / "images").is_dir() else path.parent)
    try:
        captions = defaultdict(list)
        for row in document["annotations"]:
            captions[row["image_id"]].append(" ".join(_text(row["caption"]).split()))
        images = [
            CaptionedImage(str(row["id"]), folder / row["file_name"], tuple(captions[row["id"]]))
            for row in document["images"]
            if captions[row["id"]]
        ]
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{one_line(path)}: expected images with id and file_name and annotations with image_id and caption "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    return CaptionSet(path.stem, folder, tuple(images))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"a caption that is no text, {value!r:.80}")
    return value


def caption_faults(captions: CaptionSet) -> tuple[str, ...]:
    """What is wrong with the image files, found by their headers; a line a fault."""
    if not captions.images:
        return (f"{captions.name}: expected images with captions, got none; check the file",)
    return file_faults([image.path for image in captions.images])


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Which caption belongs to which image, among all captions and images of the set.

    Attributes:
        seg: the model.
        captions: from `open_captions`.
        route: "short" or "long".
    """

    seg: Segmenter
    captions: CaptionSet
    route: Literal["short", "long"]

    @property
    def kind(self) -> str:
        """What is measured."""
        return "retrieval"

    @cached_property
    def images(self) -> dict[str, CaptionedImage]:
        """The images by name."""
        return {image.name: image for image in self.captions.images}

    @property
    def names(self) -> Sequence[str]:
        """Names of the images, in order."""
        return list(self.images)

    @cached_property
    def texts(self) -> StoredTexts:
        """Captions through the cache; one for the task, since it checks the weights it belongs to."""
        return StoredTexts(self.seg.encoder)

    def identity(self) -> dict[str, Any]:
        """Model, data and settings."""
        images = self.captions.images
        return {
            "model": model_identity(self.seg.encoder),
            "data": {
                "name": self.captions.name,
                "images": len(images),
                "full_size": self.captions.full_size,
                "captions": sum(len(image.captions) for image in images),
                "list_sha256": file_list_hash([image.path for image in images], self.captions.root),
                "captions_sha256": hash_of(repr([[image.name, *image.captions] for image in images])),
            },
            "settings": {"route": self.route, "ties": "lower index first"},
        }

    def files(self, name: str) -> list[Path]:
        """The image."""
        return [self.images[name].path]

    def measure(self, name: str) -> Row:
        """The features of an image and its captions; a caption too long for the route fails with its image."""
        image = self.images[name]
        feature = self.seg.encoder.embed_images([read_image(image.path)])
        text = self.texts.encode(image.captions, route=self.route)
        return {"image": _packed(feature.cpu().numpy()), "texts": _packed(text.cpu().numpy())}

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Recalls with intervals over images, and what chance gives."""
        images = np.concatenate([_unpacked(row["image"]) for row in rows])
        owned = [_unpacked(row["texts"]) for row in rows]
        texts, counts = np.concatenate(owned), [len(mine) for mine in owned]
        owners = np.repeat(np.arange(len(rows)), counts)
        best = [_best_place(images[i] @ texts.T, np.flatnonzero(owners == i)) for i in range(len(rows))]
        places = list(
            _split([place_of(text @ images.T, int(i)) for text, i in zip(texts, owners, strict=True)], counts)
        )
        table: dict[str, Any] = {"model": {}, "uniform random": {}}
        for k in RECALLS:
            table["model"][f"image to text @{k}"] = share([int(place < k) for place in best], [1] * len(rows))
            chance = [1 - comb(len(texts) - own, k) / comb(len(texts), k) if k < len(texts) else 1.0 for own in counts]
            table["uniform random"][f"image to text @{k}"] = _plain(float(np.mean(chance)))
        for k in RECALLS:
            hits = [sum(place < k for place in mine) for mine in places]
            table["model"][f"text to image @{k}"] = share(hits, counts)
            table["uniform random"][f"text to image @{k}"] = _plain(min(1.0, k / len(rows)))
        return {"table": table}


def _best_place(scores: NDArray[np.float32], right: NDArray[np.intp]) -> int:
    return min(place_of(scores, int(index)) for index in right)


def _split(values: Sequence[int], counts: Sequence[int]) -> Iterator[Sequence[int]]:
    start = 0
    for count in counts:
        yield values[start : start + count]
        start += count


def _plain(value: float) -> dict[str, Any]:
    return {"value": value, "interval": None}


def _packed(features: NDArray[np.float32]) -> dict[str, Any]:
    """Float32 rows as text, bit for bit."""
    data = np.ascontiguousarray(features, "<f4")
    return {"width": data.shape[1], "float32": base64.b64encode(data.tobytes()).decode("ascii")}


def _unpacked(stored: dict[str, Any]) -> NDArray[np.float32]:
    flat = np.frombuffer(base64.b64decode(stored["float32"]), "<f4")
    return flat.reshape(-1, stored["width"]).astype(np.float32)
