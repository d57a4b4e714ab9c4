"""Retrieval of captions and whole images: recall at 1, 5 and 10 in both directions, on the short or long text route."""

import base64
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fgseg.datasets.documents import expect_layout, read_document
from fgseg.evaluation.provenance import hash_of
from fgseg.evaluation.rows import Row
from fgseg.evaluation.statistics import answer_accuracy, rank_of
from fgseg.evaluation.tasks.image_list import ImageList, ImageListTask, ListedImage, images_folder
from fgseg.images.reading import read_image

__all__ = ["CaptionSet", "CaptionedImage", "RetrievalTask", "open_captions"]

RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class CaptionedImage(ListedImage):
    """An image and its captions, at least one."""

    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionSet(ImageList):
    """Images with captions; attributes as `ImageList`."""

    annotations: ClassVar[str] = "captions"

    images: tuple[CaptionedImage, ...]


def open_captions(path: Path, root: Path | None) -> CaptionSet:
    """Captions from a file in COCO's layout: images with `id` and `file_name`, and annotations.

    Args:
        path: the file; each annotation has `image_id` and `caption`.
        root: folder of the images; None takes `images` beside the file if it exists, or else the folder of the file.

    Raises:
        DatasetError: the file cannot be read or has another format.
    """
    document = read_document(path)
    folder = images_folder(root, path.parent)
    with expect_layout(path, "images with id and file_name and annotations with image_id and caption"):
        captions = defaultdict(list)
        for row in document["annotations"]:
            captions[row["image_id"]].append(_caption(row["caption"]))
        images = [
            CaptionedImage(str(row["id"]), folder / row["file_name"], tuple(captions[row["id"]]))
            for row in document["images"]
            if captions[row["id"]]
        ]
    return CaptionSet(path.stem, folder, tuple(images))


def _caption(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"a caption that is no text, {value!r:.80}")
    return " ".join(value.split())


@dataclass(frozen=True, eq=False)
class RetrievalTask(ImageListTask):
    """Which caption belongs to which image among all captions and images of a set.

    Attributes:
        seg: the model.
        data: from `open_captions`.
        route: "short" or "long".
    """

    data: CaptionSet
    route: Literal["short", "long"]
    kind: ClassVar[str] = "retrieval"

    def provenance(self) -> dict[str, Any]:
        """Model, data and settings."""
        images = self.data.images
        return self.list_provenance(
            {"route": self.route, "ties": "lower index first"},
            sum(len(image.captions) for image in images),
            captions_sha256=hash_of(repr([[image.name, *image.captions] for image in images])),
        )

    def measure(self, name: str) -> Row:
        """The features of an image and its captions; a caption that is too long for the route fails its image."""
        image = self.items[name]
        feature = self.seg.encoder.embed_images([read_image(image.path)])
        text = self.captions.encode(image.captions, route=self.route)
        return {"image": _packed(feature.cpu().numpy()), "texts": _packed(text.cpu().numpy())}

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Recalls with intervals over images, and those of chance."""
        images = np.concatenate([_unpacked(row["image"]) for row in rows])
        per_image = [_unpacked(row["texts"]) for row in rows]
        texts, counts = np.concatenate(per_image), [len(captions) for captions in per_image]
        image_of = np.repeat(np.arange(len(rows)), counts)
        best_caption = [_best_rank(images[i] @ texts.T, np.flatnonzero(image_of == i)) for i in range(len(rows))]
        ranks = np.array([rank_of(text @ images.T, int(i)) for text, i in zip(texts, image_of, strict=True)])
        model, chance = {}, {}
        for k in RECALLS:
            model[f"image to text @{k}"] = answer_accuracy([int(rank < k) for rank in best_caption], [1] * len(rows))
            misses = [comb(len(texts) - own, k) / comb(len(texts), k) if k < len(texts) else 0.0 for own in counts]
            chance[f"image to text @{k}"] = {"value": float(np.mean([1 - miss for miss in misses])), "interval": None}
        for k in RECALLS:
            hits = np.bincount(image_of[ranks < k], minlength=len(rows)).tolist()
            model[f"text to image @{k}"] = answer_accuracy(hits, counts)
            chance[f"text to image @{k}"] = {"value": min(1.0, k / len(rows)), "interval": None}
        return {"table": {"model": model, "uniform random": chance}}


def _best_rank(scores: NDArray[np.float32], right: NDArray[np.intp]) -> int:
    return min(rank_of(scores, int(index)) for index in right)


def _packed(features: NDArray[np.float32]) -> dict[str, Any]:
    """Float32 rows as text, without loss."""
    data = np.ascontiguousarray(features, "<f4")
    return {"width": data.shape[1], "float32": base64.b64encode(data.tobytes()).decode("ascii")}


def _unpacked(stored: dict[str, Any]) -> NDArray[np.float32]:
    flat = np.frombuffer(base64.b64decode(stored["float32"]), "<f4")
    return flat.reshape(-1, stored["width"]).astype(np.float32)
