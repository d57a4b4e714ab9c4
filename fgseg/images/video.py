"""Frames of video files, read by OpenCV."""

from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fgseg._files.names import one_line
from fgseg._files.opening import open_image_file
from fgseg.errors import ImageError

__all__ = ["VIDEO_SUFFIXES", "Video"]

VIDEO_SUFFIXES: tuple[str, ...] = tuple(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .ts".split())
"""File name suffixes of videos, in lower case; upper case counts too."""

_NEAR = 64  # frames; up to this distance decoding on is quicker than a jump, which decodes from a key frame


class Video(AbstractContextManager["Video"]):
    """A video file whose frames are read by number; close it, or use it in a `with` block. Reading forward is quick."""

    def __init__(self, path: str | Path) -> None:
        """Open the file.

        Raises:
            ImageError: it is missing, a folder, or no video that OpenCV reads.
        """
        self._name = one_line(path)
        with open_image_file(Path(path), "name a video in it"):
            pass  # OpenCV does not say why a file cannot be opened
        # FFmpeg alone: other backends read a name with a percent sign as a pattern of picture files
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise ImageError(f"{self._name}: not a video that OpenCV reads; convert it (ffmpeg -i IN OUT.mp4)")
        self._next = 0

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    @property
    def frame_count(self) -> int:
        """Number of frames, as the file says; where it does not say, the frames are counted."""
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if stated > 0:
            return stated
        self._go_to(0)
        while self._capture.grab():
            self._next += 1
        return self._next

    def frame(self, number: int) -> NDArray[np.uint8]:
        """One frame, turned upright.

        Args:
            number: of the frame, from 0.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            ImageError: there is no such frame, or it is damaged.
        """
        if not 0 <= number - self._next <= _NEAR:
            self._go_to(number)
        while self._next < number and self._capture.grab():
            self._next += 1
        bgr = self._capture.read()[1] if self._next == number else None
        if bgr is None:
            self._go_to(0)  # where the decoder stands now is not known
            raise ImageError(f"{self._name}: frame {number} cannot be read; the video ends before it or is damaged")
        self._next += 1
        return np.ascontiguousarray(bgr[:, :, ::-1])

    def _go_to(self, number: int) -> None:
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        self._next = number
