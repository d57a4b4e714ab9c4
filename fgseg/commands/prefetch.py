"""Many files, read and encoded ahead of what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from fgseg.images.reading import read_image
from fgseg.scoring.resolution import Resolution
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmenter import Segmenter

__all__ = ["EncodedAhead"]


class EncodedAhead:
    """Encoded images of files, taken in their order, while a thread reads those that come next."""

    def __init__(
        self, seg: Segmenter, paths: Sequence[Path], *, resolution: str | Resolution = "auto", batch_size: int = 1
    ) -> None:
        """Begin to read.

        Args:
            seg: the encoder.
            paths: image files, each once.
            resolution: as in `Segmenter.encode`.
            batch_size: files encoded together, as `Segmenter.encode_batch` does; as many again are being read.
        """
        self._seg, self._resolution = seg, resolution
        self._batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
        self._made: dict[Path, EncodedImage | Exception] = {}
        self._reading = self._read_next()

    def take(self, path: Path) -> EncodedImage:
        """The encoded image of the next file; the features go with it.

        Raises:
            ImageError: the file cannot be read; the others are not touched by that.
        """
        if path not in self._made:
            self._encode_next()
        made = self._made.pop(path)
        if isinstance(made, Exception):
            raise made
        return made

    def _read_next(self) -> _Reading:
        return _Reading(self._batches.pop(0) if self._batches else ())

    def _encode_next(self) -> None:
        read, self._reading = self._reading.wait(), self._read_next()
        images = {path: image for path, image in read.items() if not isinstance(image, Exception)}
        self._made |= {path: error for path, error in read.items() if isinstance(error, Exception)}
        if not images:
            return
        try:
            views = self._seg.encode_batch(list(images.values()), resolution=self._resolution)
        except Exception as error:  # all of them were asked for; each `take` tells why it has none
            self._made |= dict.fromkeys(images, error)
        else:
            self._made |= {path: replace(view, source=str(path)) for path, view in zip(images, views, strict=True)}


class _Reading:
    """Files that a thread reads. It does not outlive the program: one that waits for a pipe is no reason to."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._read: dict[Path, NDArray[np.uint8] | Exception] = {}
        self._thread = Thread(target=self._run, name="read", daemon=True)
        self._thread.start()

    def wait(self) -> dict[Path, NDArray[np.uint8] | Exception]:
        """What was read, or why not, of every file."""
        self._thread.join()
        return self._read

    def _run(self) -> None:
        for path in self._paths:
            try:
                self._read[path] = read_image(path)
            except Exception as error:  # `take` raises it where it can be told
                self._read[path] = error
