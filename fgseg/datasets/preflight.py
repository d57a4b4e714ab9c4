"""Looking through a labelled data set before a model is loaded."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_number
from fgseg._files import one_line
from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.datasets.labels import PngLabels
from fgseg.errors import FgsegError
from fgseg.images.reading import read_image_hw

__all__ = ["SAMPLE", "preflight"]

SAMPLE = 32
"""Images whose pixels and label values are read by default; of the others, only headers are."""


def preflight(dataset: Dataset, *, sample: int = SAMPLE) -> tuple[str, ...]:
    """What is wrong with a data set, found without a model and without reading it all.

    Of every image and label file: that it is there, that it is a picture or a label map by its header, that
    both have one size. Of `sample` images spread evenly over the set, always the same ones: that they can be
    decoded and that the label values are classes. An image and its label map take 0.4 ms where only headers are
    read (640 x 480, warm disk, one core).

    Args:
        dataset: what `open_dataset` made.
        sample: how many images are read in full, at least 1.

    Returns:
        One line a fault, with the file, in the order of the images; empty where all is well.

    Raises:
        OptionError: `sample` below 1.

    >>> from pathlib import Path
    >>> from fgseg.prompts import PromptClass
    >>> preflight(Dataset("pets", Path("pets"), (PromptClass("cat", ("cat",)),), ()))
    ('pets: expected images, got none in pets; check the folder and its layout',)
    """
    check_number("sample", sample, low=1, high=float("inf"))
    if not dataset.items:
        where = one_line(dataset.root)
        return (f"{dataset.name}: expected images, got none in {where}; check the folder and its layout",)
    faults = [list(_file_faults(dataset, item)) for item in dataset.items]
    sound = [index for index, found in enumerate(faults) if not found]
    chosen = [sound[place] for place in _spread(len(sound), sample)]
    note = f"({len(chosen)} of {len(dataset.items)} label files read)"
    seen: dict[str, NDArray[np.int64]] = {}
    for index in chosen:
        faults[index] += [f"{fault} {note}" for fault in _value_faults(dataset.items[index], seen)]
    flat = [fault for found in faults for fault in found]
    return tuple(flat) + tuple(f"{fault} {note}" for fault in _set_faults(dataset, list(seen.values())))


def _spread(count: int, sample: int) -> list[int]:
    """`sample` places of `count`, evenly, the first and the last among them; all where there are no more."""
    if count <= sample:
        return list(range(count))
    return [place * (count - 1) // max(sample - 1, 1) for place in range(sample)]


def _file_faults(dataset: Dataset, item: LabelledImage) -> Iterator[str]:
    name = one_line(item.image_path)
    if not item.image_path.is_file():
        yield f"{name}: no such image, for label {one_line(item.label_path)}"
        return
    if not item.label_path.is_file():
        hint = f"; {dataset.label_hint}" if dataset.label_hint else "; it has the image's name"
        yield f"{one_line(item.label_path)}: no such label file, for image {name}{hint}"
        return
    try:
        image_hw, label_hw = read_image_hw(item.image_path), item.source.image_hw()
        if image_hw != label_hw:  # a header can mislead, as in a PNG with its rotation behind the pixels
            height, width, _ = item.read_image().shape
            image_hw = height, width
    except FgsegError as error:
        yield one_line(error)
        return
    if image_hw != label_hw:
        yield (
            f"{one_line(item.label_path)}: its size is {label_hw[1]} x {label_hw[0]}, its image's "
            f"{image_hw[1]} x {image_hw[0]} (upright); labels keep the image's size and are never resized"
        )


def _value_faults(item: LabelledImage, seen: dict[str, NDArray[np.int64]]) -> Iterator[str]:
    for read in (item.read_image, item.read_labels):
        try:
            values = read()
        except FgsegError as error:
            yield one_line(error)
            return
    seen[item.name] = np.flatnonzero(np.bincount(values.ravel()))


def _set_faults(dataset: Dataset, values: Sequence[NDArray[np.int64]]) -> Iterator[str]:
    if not values:
        return
    present = set(np.concatenate(values).tolist())
    if present == {dataset.ignore}:
        yield f"{dataset.name}: expected labelled pixels, got only ignored ones; check the kind of label files"
    elif present == {0, 255} and dataset.ignore == 255 and _holds_255(dataset.items[0]):
        yield (
            f"{dataset.name}: expected labels 0 to {len(dataset.classes) - 1}, got only 0 and 255, as 0/255 masks "
            "have it, where 255 is ignored; for masks, name their folder masks instead of labels"
        )


def _holds_255(item: LabelledImage) -> bool:
    """Whether decoded 0 and 255 were stored as 0 and 255."""
    if not isinstance(item.source, PngLabels):
        return False
    index_of = item.source.ids.index_of
    return index_of.get(0) == 0 and index_of.get(255) == 255
