"""The work behind the page and the endpoint: pictures opened, segmented, scored at a point, drawn, written."""

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fgseg._files import one_line
from fgseg.drawing.overlay import overlay_heatmap
from fgseg.errors import OptionError
from fgseg.formats.coco import coco_annotations
from fgseg.images.reading import read_image
from fgseg.images.resizing import shrink
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.result import Segmentation
from fgseg.segmenter import Segmenter
from fgseg.web.examples import Example
from fgseg.web.limits import Asked, BusyError, GoneError, Limits
from fgseg.web.sessions import SCREEN_SIDE, Result, Session, Sessions, box_window, screen_copy

__all__ = ["FILES", "BoxScore", "SegmentationService", "WorkQueue"]

VIEWS_KEPT = 2  # resolutions of one picture
NAME_LENGTH = 100  # letters of a file's name
FINE = 3  # short side of the finer windows, in native sides; "slide" itself takes 1.5

FILES: Mapping[str, tuple[str, str, str]] = {
    "labels.png": ("labels", "image/png", "Label map (PNG)"),
    "overlay.png": ("overlay", "image/png", "Overlay (PNG)"),
    "coco.json": ("coco", "application/json", "Masks (COCO JSON)"),
    "regions.csv": ("regions", "text/csv", "Regions (CSV)"),
}
"""What can be downloaded: file name -> (name in `fgseg.segmentation.saving.FORMATS`, media type, title of its link)."""


@dataclass(frozen=True)
class BoxScore:
    """How present a prompt is in a box of the picture.

    Attributes:
        name: the class.
        mean: mean presence over the box, 0 to 1.
        peak: largest presence in it, 0 to 1.
    """

    name: str
    mean: float
    peak: float


class SegmentationService:
    """A Segmenter, the pictures that sessions have on their desks, and the turns they take."""

    def __init__(self, seg: Segmenter, limits: Limits, folder: Path, examples: Mapping[str, Example]) -> None:
        """Take the model, the limits, a folder for files while they are sent, and the examples by name."""
        self.limits, self.examples = limits, examples
        self.desks, self.turns = Sessions(limits), WorkQueue(limits.in_flight)
        self._seg, self._folder = seg, folder

    @property
    def segmenter(self) -> Segmenter:
        """The Segmenter in use."""
        return self._seg

    @property
    def resolutions(self) -> tuple[str, ...]:
        """What a request may ask for; others would let it choose how much work it is."""
        return ("auto", "squash", "keep", "slide", f"slide:{FINE * self._seg.encoder.side}")

    def open(self, data: bytes, name: str) -> str:
        """Put an uploaded picture on a new desk; returns its secret.

        Raises:
            LimitError: too many bytes.
            ImageError: not a picture, or too many pixels.
            BusyError: too many requests.
        """
        pixels = self.turns.take(lambda: self._read(data))
        return self.desks.add(Session(_file_name(name), pixels))

    def open_example(self, name: str) -> str:
        """Put an example on a new desk; returns its secret.

        Raises:
            OptionError: there is no such example.
            BusyError: too many requests.
        """
        if name not in self.examples:
            raise OptionError(f"example: expected one of {', '.join(self.examples)}, got {name!r:.60}")
        return self.desks.add(Session(name, self.turns.take(self.examples[name].load)))

    def segment(self, secret: str | None, asked: Asked) -> Result:
        """Segment the picture on a desk; its features are made once a resolution.

        Raises:
            LimitError, PromptError, OptionError: prompts or options that cannot be taken.
            GoneError: the picture is not kept any longer.
            BusyError: too many requests.
        """
        self.desks.get(secret)
        self._check(asked)
        return self.turns.take(lambda: self._segment(secret or "", asked))

    def picture(self, secret: str | None) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB: the picture on a desk at the size it is shown in.

        Raises:
            GoneError: it is not kept any longer.
        """
        return shrink(self.desks.get(secret).pixels, max_side=SCREEN_SIDE)

    def shown(self, secret: str | None) -> Result:
        """The last result of the picture on a desk.

        Raises:
            GoneError: the picture is not kept any longer, or has no result yet.
        """
        shown = self.desks.get(secret).shown
        if shown is None:
            raise GoneError("result: there is none yet; segment the picture first")
        return shown

    def draw(self, secret: str | None, opacity: float, layer: int | None) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB: the picture on a desk under its masks, or under the heatmap of one class.

        Raises:
            OptionError: no such class, or an opacity out of range.
            GoneError: the picture or its result is not kept any longer.
        """
        screen = self.shown(secret).screen
        if layer is None:
            return screen.overlay(opacity=opacity, legend=False)
        if not 0 <= layer < len(screen.classes):
            raise OptionError(f"layer: expected a class from 0 to {len(screen.classes) - 1}, got {layer}")
        return overlay_heatmap(screen.image, screen.scores[screen.classes[layer]], opacity=opacity)

    def score(self, secret: str | None, box: Sequence[float]) -> list[BoxScore]:
        """Every prompt's presence at a point or in a box, as shares of the picture's width and height.

        Args:
            secret: of the desk.
            box: (left, top, right, bottom) in [0, 1]; a point is a box without extent.

        Raises:
            OptionError: not such a box.
            GoneError: the picture or its result is not kept any longer.
        """
        screen = self.shown(secret).screen
        window = box_window(box, screen.labels.shape)
        return [
            BoxScore(name, float(score_map[window].mean(dtype=np.float64)), float(score_map[window].max()))
            for name, score_map in screen.scores.items()
        ]

    def file(self, secret: str | None, name: str) -> bytes:
        """A file of the whole result, made again from the picture's features.

        Raises:
            GoneError: no such file, or the picture or its result is not kept any longer.
            BusyError: too many requests.
        """
        if name not in FILES:
            raise GoneError(f"file: expected one of {', '.join(FILES)}, got {name!r:.60}")
        asked = self.shown(secret).asked
        return self.turns.take(lambda: self._file(self.desks.get(secret), asked, name))

    def once(self, data: bytes, name: str, asked: Asked, boxes_xyxy: Sequence[Sequence[float]]) -> dict[str, Any]:
        """Everything about one picture in a value that JSON can hold; nothing is kept.

        Args:
            data: of the picture's file.
            name: of the file.
            asked: what to look for.
            boxes_xyxy: pixels (left, top, right, bottom), to score every prompt in.

        Raises:
            LimitError, ImageError, PromptError, OptionError, BusyError: as `open` and `segment`.
        """
        self._check(asked)
        answer = self.turns.take(lambda: self._once(Session(_file_name(name), self._read(data)), asked, boxes_xyxy))
        return answer | {"settings": answer["settings"] | {"model": Path(self._seg.encoder.name).name}}

    def _segment(self, secret: str, asked: Asked) -> Result:
        desk = self.desks.get(secret)
        view, encoding = self._view(desk, asked.resolution)
        started = time.perf_counter()
        result = self._result(view, asked)
        shown = Result(
            asked,
            screen_copy(result),
            result.to_dict(),
            {"encode": encoding, "score": _milliseconds(started)},
            reused=asked.resolution in desk.views,
        )
        others = [(name, kept) for name, kept in desk.views.items() if name != asked.resolution]
        latest = [*others, (asked.resolution, view)][-VIEWS_KEPT:]
        self.desks.replace(secret, replace(desk, views=dict(latest), shown=shown))
        return shown

    def _file(self, desk: Session, asked: Asked, name: str) -> bytes:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            view, _ = self._view(desk, asked.resolution)
            self._result(view, asked).save(folder, formats=[FILES[name][0]])
            return Path(folder, name).read_bytes()

    def _once(self, desk: Session, asked: Asked, boxes_xyxy: Sequence[Sequence[float]]) -> dict[str, Any]:
        height, width = desk.pixels.shape[:2]
        shares = [_shares(box, (height, width)) for box in boxes_xyxy]
        view, encoding = self._view(desk, asked.resolution)
        started = time.perf_counter()
        result = self._result(view, asked)
        masks = coco_annotations(result.masks, result.regions, image_hw=(height, width), file_name=desk.name)
        return result.to_dict() | {
            "image": desk.name,
            "coco": masks,
            "scores": _scores(result, shares, boxes_xyxy),
            "milliseconds": {"encode": encoding, "score": _milliseconds(started)},
        }

    def _read(self, data: bytes) -> NDArray[np.uint8]:
        self.limits.check_upload(len(data))
        return read_image(data, max_pixels=self.limits.pixels)

    def _check(self, asked: Asked) -> None:
        self.limits.check_asked(asked)
        if not asked.prompts:
            raise OptionError("prompts: expected at least one, got none; write a word or phrase a line, such as red")
        if asked.resolution not in self.resolutions:
            raise OptionError(
                f"resolution: expected one of {', '.join(self.resolutions)}, got {asked.resolution!r:.60}"
            )

    def _view(self, desk: Session, resolution: str) -> tuple[EncodedImage, float]:
        """The picture's features, and the milliseconds it took to make them; 0 where they were there."""
        if resolution in desk.views:
            return desk.views[resolution], 0.0
        started = time.perf_counter()
        view = self._seg.encode(desk.pixels, resolution=resolution)
        return replace(view, source=desk.name), _milliseconds(started)

    def _result(self, view: EncodedImage, asked: Asked) -> Segmentation:
        return self._seg.segment(
            view, asked.prompts, negatives=asked.negatives, mode=asked.mode, threshold=asked.threshold
        )


def _shares(box_xyxy: Sequence[float], image_hw: tuple[int, int]) -> tuple[float, ...]:
    height, width = image_hw
    left, top, right, bottom = box_xyxy
    if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
        raise OptionError(
            f"box: expected left, top, right, bottom within {width} x {height} pixels, got {list(box_xyxy)!r:.80}"
        )
    return left / width, top / height, right / width, bottom / height


def _scores(
    result: Segmentation, shares: Sequence[Sequence[float]], boxes_xyxy: Sequence[Sequence[float]]
) -> list[dict[str, Any]]:
    """Of each class its mean and peak presence, over the picture and in each box."""
    rows = []
    for name, score_map in result.scores.items():
        windows = [score_map[box_window(box, score_map.shape)] for box in shares]
        boxes = [
            {"box_xyxy": list(box), "mean": _rounded(part.mean(dtype=np.float64)), "peak": _rounded(part.max())}
            for box, part in zip(boxes_xyxy, windows, strict=True)
        ]
        mean, peak = _rounded(score_map.mean(dtype=np.float64)), _rounded(score_map.max())
        rows.append({"name": name, "mean": mean, "peak": peak, "boxes": boxes})
    return rows


def _rounded(value: Any) -> float:
    return round(float(value), 6)


def _milliseconds(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 1)


def _file_name(name: str) -> str:
    """The last part of a name, short and on one line, for downloads and messages."""
    last = one_line(name.replace("\\", "/").rsplit("/", 1)[-1]).strip()
    return last[-NAME_LENGTH:] or "image.png"


T = TypeVar("T")


class WorkQueue:
    """One request is worked on at a time, a bounded number waits, more are refused at once.

    One at a time because torch uses every core for one picture already: side by side they would take as long and hold
    the memory of all. Always by the same thread, since each thread that torch meets gets threads and memory of its own:
    sixteen users on sixteen threads held 400 MB more.
    """

    def __init__(self, in_flight: int) -> None:
        """Take `in_flight`, requests at a time including the one worked on."""
        self._room = threading.BoundedSemaphore(in_flight)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fgseg-web")
        self._in_flight = in_flight

    def take(self, work: Callable[[], T]) -> T:
        """Wait for this request's turn, and do its work.

        Raises:
            BusyError: too many wait already. Also what `work` raises.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError(f"the server is busy with {self._in_flight} requests; try again in a moment")
        try:
            return self._worker.submit(work).result()
        finally:
            self._room.release()

    def close(self) -> None:
        """Take no further work."""
        self._worker.shutdown(wait=False, cancel_futures=True)
