"""The images of a unit to its rows.

What is wrong with an image becomes an error row. What is wrong with the machine (disk, network, memory, device) never
does: it is tried again, and then ends the run, which can be continued.
"""

from __future__ import annotations

import gc
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._files.names import one_line
from fgseg.errors import BatchError, DatasetError, FgsegError, ImageError, OptionError, ShapeError
from fgseg.formats.coco import encode_mask
from fgseg.images.label_png import encode_label_png
from fgseg.images.reading import Picture, read_picture
from fgseg.prompts.classes import PromptClass
from fgseg.segmentation.result import Segmentation
from fgseg.segmenter import Segmenter
from fgseg.store.contents import Frames, content
from fgseg.store.regions import Regions
from fgseg.store.schema import ClassRow, Item, RegionRow, Row
from fgseg.store.sources import local_path, video_frame
from fgseg.types import UNLABELLED
from fgseg.upsample.maps import shrink_map

__all__ = ["UnitOptions", "error_row", "run_unit"]

_ABOUT_THE_IMAGE = (ImageError, ShapeError, DatasetError)  # the last for the COCO masks that are its regions
_FEWER = "use fewer --workers, or a larger --gpus-per-worker, and give the same command again to go on"


@dataclass(frozen=True)
class UnitOptions:
    """What is done with each image.

    Attributes:
        prompts: the classes.
        segment: further arguments of `Segmenter.segment`.
        reading: arguments of `fgseg.images.read_picture`.
        scores: whether rows keep the presence of every class on the grid.
        regions: where the region map of each image comes from; None for none.
    """

    prompts: tuple[PromptClass, ...]
    segment: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    scores: bool = False
    regions: Regions | None = None


@dataclass(frozen=True)
class _Read:
    """An image as it was read, or why it could not be; the digest of its bytes, and the time of reading."""

    item: Item
    picture: Picture | None
    sha256: str
    error: Exception | None
    seconds: float


def run_unit(
    segmenter: Segmenter, items: Sequence[Item], options: UnitOptions, *, seen: Callable[[Row], None] | None = None
) -> list[Row]:
    """Segment images, and make the row of each.

    Args:
        segmenter: the model.
        items: the images. A thread reads the next one while an image is segmented.
        options: what is done with each.
        seen: called with each row as soon as it is made.

    Returns:
        One row per image, in order. An image that cannot be read has an error row.

    Raises:
        BatchError: the disk, the network, the memory or the device fails, also when asked again.
        OptionError: an option that fits no image.
    """
    rows: list[Row] = []
    with Frames() as frames:
        for read in _one_ahead(partial(_read, frames, options.reading), items):
            rows.append(_row(segmenter, read, options))
            if seen is not None:
                seen(rows[-1])
    return rows


def error_row(item: Item, kind: str, message: str, *, sha256: str = "", seconds: float = 0.0) -> Row:
    """The row of an image without a result.

    Args:
        item: the image.
        kind: name of the error's class.
        message: what is wrong, in one line.
        sha256: of its bytes, "" if they are not known.
        seconds: that it took.
    """
    return Row(
        item.image_id, item.uri, item.size, item.mtime_ns, item.etag, sha256, "error",
        error_type=kind, error=one_line(message), seconds=seconds,
    )  # fmt: skip


def _one_ahead(read: Callable[[Item], _Read], items: Sequence[Item]) -> Iterator[_Read]:
    """Read images one after the other, always one more than was asked for."""
    ahead: Future[_Read] | None = None
    for item in items:
        before = ahead.result() if ahead is not None else None
        ahead = _in_thread(read, item)
        if before is not None:
            yield before
    if ahead is not None:
        yield ahead.result()


def _in_thread(read: Callable[[Item], _Read], item: Item) -> Future[_Read]:
    """Read in a daemon thread: a file that blocks must not keep the process alive."""
    future: Future[_Read] = Future()

    def work() -> None:
        try:
            future.set_result(read(item))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="read", daemon=True).start()
    return future


def _read(frames: Frames, reading: Mapping[str, Any], item: Item) -> _Read:
    """Read an image from a file, an address or a video."""
    started = time.perf_counter()
    picture, digest, problem = None, "", None
    try:
        frame = video_frame(item.uri)
        source = content(item.uri) if frame is None else _frame(frames, *frame)
        digest = hashlib.sha256(source if isinstance(source, bytes) else source.tobytes()).hexdigest()
        picture = _picture(source, reading, item)
    except (ImageError, ShapeError) as error:
        if isinstance(error.__cause__, MemoryError):  # of this machine, not of the image
            raise BatchError(f"{one_line(item.uri)}: out of memory; {_FEWER}") from error
        problem = error
    return _Read(item, picture, digest, problem, time.perf_counter() - started)


def _frame(frames: Frames, uri: str, number: int) -> NDArray[np.uint8]:
    path = local_path(uri)
    if path is None:
        raise ImageError(f"{uri}: a video is read from this machine only; copy it here")
    return frames.frame(Path(path), number)


def _picture(source: bytes | NDArray[np.uint8], reading: Mapping[str, Any], item: Item) -> Picture:
    try:
        picture = read_picture(source, name=item.uri, **reading)
    except OptionError as error:  # bands that other images have
        raise ImageError(f"{one_line(item.uri)}: {error}") from error
    return replace(picture, source=item.uri)


def _row(segmenter: Segmenter, read: _Read, options: UnitOptions) -> Row:
    started = time.perf_counter()
    problem = read.error
    if read.picture is not None:
        try:
            return _result_row(_segmented(segmenter, read.picture, read.item, options), read, options, started)
        except FgsegError as error:
            if not isinstance(error, _ABOUT_THE_IMAGE):
                raise
            problem = error
        except (OSError, MemoryError, RuntimeError):  # RuntimeError: also of torch's devices
            raise
        except Exception as error:  # of this image alone, and the others go on
            problem = error
    seconds = read.seconds + time.perf_counter() - started
    message = str(problem) if isinstance(problem, FgsegError) else f"{read.item.uri}: unexpected error: {problem}"
    return error_row(read.item, type(problem).__name__, message, sha256=read.sha256, seconds=seconds)


def _segmented(segmenter: Segmenter, picture: Picture, item: Item, options: UnitOptions) -> Segmentation:
    """Segment a picture; a device or memory that is full is tried once more.

    Raises:
        BatchError: it is full again.
    """
    region_map = None if options.regions is None else options.regions.of(item.image_id)
    for is_last in (False, True):
        try:
            return segmenter.segment(picture, options.prompts, region_map=region_map, **options.segment)
        except (MemoryError, torch.OutOfMemoryError) as error:
            if is_last:
                where = f"{picture.source}: out of memory on {segmenter.encoder.device}"
                raise BatchError(f"{where}; {_FEWER}") from error
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise AssertionError("unreachable")


def _result_row(result: Segmentation, read: _Read, options: UnitOptions, started: float) -> Row:
    item, (height, width) = read.item, result.labels.shape
    no_data = 0 if result.no_data is None else int(result.no_data.sum())
    return Row(
        item.image_id, item.uri, item.size, item.mtime_ns, item.etag, read.sha256, "ok",
        height=height,
        width=width,
        unlabelled=int((result.labels == UNLABELLED).sum()) - no_data,
        no_data=no_data,
        classes=_class_rows(result, height * width - no_data),
        regions=tuple(
            RegionRow(
                region.class_index, *region.box_xyxy, region.area, *region.centroid_yx,
                region.mean_score, region.peak_score, region.holes,
            )
            for region in result.regions
        ),
        labels=encode_label_png(result.labels, colors=result.colors),
        scores=_grid_scores(result) if options.scores else None,
        seconds=read.seconds + time.perf_counter() - started,
    )  # fmt: skip


def _class_rows(result: Segmentation, pixels_with_data: int) -> tuple[ClassRow, ...]:
    peaks = dict.fromkeys(result.classes, 0.0)
    for region in result.regions:
        peaks[region.class_name] = max(peaks[region.class_name], region.peak_score)
    rows = []
    for index, (name, mask) in enumerate(result.masks.items()):
        pixels = int(mask.sum())
        share = round(pixels / max(1, pixels_with_data), 6)
        rows.append(ClassRow(index, name, pixels, share, peaks[name], encode_mask(mask)))
    return tuple(rows)


def _grid_scores(result: Segmentation) -> NDArray[np.float32]:
    """(T, Gh, Gw) float32: the presence of each class on the grid, as in heatmaps.npz but in full precision."""
    return np.stack([shrink_map(score_map, result.grid_hw) for score_map in result.scores.values()])
