"""Images that are read, encoded or segmented before they are needed, by a thread or by other processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from fgseg.commands.terminal.output import blaming_the_image
from fgseg.errors import ImageError
from fgseg.guides.region_maps import RegionMap
from fgseg.images.reading import Picture, read_picture
from fgseg.scoring.resolution import Resolution
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmenter import Segmenter
from fgseg.store.engines.local import Done, Work, WorkerDied, ended_by, run_tasks

__all__ = ["Pooled", "Prefetcher", "read_file"]

_TRIES = 2  # of an image whose process dies


class Prefetcher:
    """Encodes image files in order, while a thread reads the next files."""

    def __init__(
        self,
        seg: Segmenter,
        paths: Sequence[Path],
        *,
        resolution: str | Resolution = "auto",
        batch_size: int = 1,
        bands: Sequence[int] | None = None,
        stretch: Sequence[float] | None = None,
        region_map: Callable[[Path], RegionMap | None] | None = None,
    ) -> None:
        """Start to read.

        Args:
            seg: the encoder.
            paths: image files, each once.
            resolution: as in `Segmenter.encode`.
            batch_size: number of files that are encoded together; the same number is read in the meantime.
            bands: as in `fgseg.images.read_picture`.
            stretch: as in `fgseg.images.read_picture`.
            region_map: the region map of a file, for the recipe that mixes patches within regions.
        """
        self._region_map = region_map if seg.encoder.recipe == "corr" else None
        self._read_file = partial(read_file, bands=bands, stretch=stretch)
        self._seg, self._resolution = seg, resolution
        self._batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
        self._encoded: dict[Path, EncodedImage | Exception] = {}
        self._read_next()

    def take(self, path: Path) -> EncodedImage:
        """The encoded image of the next file; it is not kept.

        Raises:
            ImageError: the file cannot be read; the other files can still be taken.
        """
        if path not in self._encoded:
            self._encode_next()
        image = self._encoded.pop(path)
        if isinstance(image, Exception):
            raise image
        return image

    def _read_next(self) -> None:
        # A daemon thread: a file that blocks, such as a pipe, must not keep the program alive.
        self._read: dict[Path, Picture | Exception] = {}
        paths = self._batches.pop(0) if self._batches else ()
        self._thread = Thread(target=_read_files, args=(paths, self._read_file, self._read), name="read", daemon=True)
        self._thread.start()

    def _encode_next(self) -> None:
        self._thread.join()
        read = self._read
        self._read_next()
        self._encoded |= {path: error for path, error in read.items() if isinstance(error, Exception)}
        images = {path: image for path, image in read.items() if not isinstance(image, Exception)}
        if not images:
            return
        try:
            maps = [] if self._region_map is None else [one for one in map(self._region_map, images) if one is not None]
            batch = self._seg.encode_batch(list(images.values()), resolution=self._resolution, region_maps=maps or None)
        except Exception as error:  # `take` raises it for each file of the batch
            self._encoded |= dict.fromkeys(images, error)
        else:
            self._encoded |= {path: replace(image, source=str(path)) for path, image in zip(images, batch, strict=True)}


class Pooled:
    """Results that other processes make, in the order in which they are asked for."""

    def __init__(self, make_work: Callable[[int], Work], tasks: Mapping[Path, Any], *, workers: int) -> None:
        """Start no process yet.

        Args:
            make_work: as in `fgseg.store.engines.local.run_tasks`; its work returns errors of an image.
            tasks: the task of each image, in the order in which the results are taken.
            workers: number of processes.
        """
        self._tasks = tasks
        self._events = run_tasks(make_work, list(tasks.values()), workers=workers, tries=_TRIES)
        self._done: dict[Any, Any] = {}

    def close(self) -> None:
        """End the processes."""
        self._events.close()

    def take(self, path: Path) -> Any:
        """The result of an image; it is not kept.

        Raises:
            ImageError: its process died twice.
            Exception: the error that the work returned.
        """
        task = self._tasks[path]
        while task not in self._done:
            event = next(self._events)
            if isinstance(event, Done):
                self._done[event.task] = event.value
            elif isinstance(event, WorkerDied):
                ended = f"its process died {_TRIES} times ({ended_by(event.exit_code)})"
                self._done[event.task] = ImageError(f"{event.task.path}: {ended}; look at it, or use fewer --workers")
        result = self._done.pop(task)
        if isinstance(result, Exception):
            raise result
        return result


def read_file(path: Path, *, bands: Sequence[int] | None, stretch: Sequence[float] | None) -> Picture:
    """Read an image file; arguments as in `fgseg.images.read_picture`.

    Raises:
        ImageError: the file cannot be read, or has no such bands.
    """
    with blaming_the_image():
        return read_picture(path, bands=bands, stretch=stretch)


def _read_files(
    paths: Sequence[Path], read: Callable[[Path], Picture], images: dict[Path, Picture | Exception]
) -> None:
    """Put the image of each file, or the error, into `images`."""
    for path in paths:
        try:
            images[path] = read(path)
        except Exception as error:  # `take` raises it for this file
            images[path] = error
