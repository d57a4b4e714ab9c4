"""The work behind the page and the endpoint: images are opened, segmented, scored in boxes, drawn and written."""

import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fgseg._files.names import one_line
from fgseg.drawing.overlay import overlay_heatmap
from fgseg.errors import ImageError, OptionError
from fgseg.formats.coco import coco_annotations
from fgseg.guides.votes import check_vote
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_cutout
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.result import Segmentation
from fgseg.segmenter import Segmenter
from fgseg.web.examples import Example
from fgseg.web.limits import BusyError, GoneError, LimitError, Limits, SegmentationRequest
from fgseg.web.models import Models, needs_download
from fgseg.web.sessions import Result, Session, Sessions, box_window, make_preview

__all__ = ["CUTOUT", "FILES", "SegmentationService", "WorkQueue"]

ENCODED_KEPT = 2  # per image: of two resolutions, recipes or guides
NAME_LENGTH = 100  # characters of a file name
FINE = 3  # short side of the finer windows, in native sides; "slide" itself takes 1.5

FILES: Mapping[str, tuple[str, str, str]] = {
    "labels.png": ("labels", "image/png", "Label map (PNG)"),
    "overlay.png": ("overlay", "image/png", "Overlay (PNG)"),
    "coco.json": ("coco", "application/json", "Masks (COCO JSON)"),
    "regions.csv": ("regions", "text/csv", "Regions (CSV)"),
}
"""The downloads: file name -> (name in `fgseg.segmentation.result.FORMATS`, media type, title of the link)."""


CUTOUT = "cutout.png"
"""The name of the download that `SegmentationService.cutout` makes."""


class SegmentationService:
    """A Segmenter with the sessions of its users and the queue of their requests.

    Methods raise LimitError, ImageError, PromptError or OptionError for a wrong request, GoneError if an image or its
    result is not kept any longer, and BusyError if too many requests wait.
    """

    def __init__(
        self,
        seg: Segmenter,
        limits: Limits,
        folder: Path,
        examples: Mapping[str, Example],
        *,
        offline: bool | None = None,
    ) -> None:
        """Keep the model, the limits, a folder for temporary files, and the examples by name.

        Guides are downloaded when they are first asked for, unless `offline` says not to, as in `fgseg.load`.
        """
        self.limits, self.examples = limits, examples
        self.sessions, self.queue = Sessions(limits), WorkQueue(limits.in_flight)
        self.segmenter, self._models, self._folder = seg, Models(seg, offline=offline), folder

    @property
    def model_name(self) -> str:
        """Name of the model, without the path of its folder."""
        return Path(self.segmenter.encoder.name).name

    @property
    def resolutions(self) -> tuple[str, ...]:
        """The resolutions that a request may have; they limit the work of one request."""
        return ("auto", "squash", "keep", "slide", f"slide:{FINE * self.segmenter.encoder.side}")

    def open(self, data: bytes, name: str) -> str:
        """Start a session with an uploaded image; returns its secret."""
        file_name = _file_name(name)
        pixels = self.queue.run(lambda: self._read(data, file_name))
        return self.sessions.add(Session(file_name, pixels))

    def open_example(self, name: str) -> str:
        """Start a session with an example; returns its secret."""
        if name not in self.examples:
            raise OptionError(f"example: expected one of {', '.join(self.examples)}, got {name!r:.60}")
        return self.sessions.add(Session(name, self.queue.run(self.examples[name].load)))

    def segment(self, secret: str | None, request: SegmentationRequest) -> Result:
        """Segment the image of a session; its features are computed once per resolution, recipe and guide."""
        self.sessions.get(secret)
        self._check(request)
        return self.queue.run(lambda: self._segment(secret or "", request))

    def result(self, secret: str | None) -> Result:
        """The latest result of a session."""
        result = self.sessions.get(secret).result
        if result is None:
            raise GoneError("result: there is none yet; segment the image first")
        return result

    def heatmap(self, secret: str | None, layer: int) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB: the image under the heatmap of one class, opaque where the presence is 1."""
        preview = self.result(secret).preview
        _check_class("layer", layer, len(preview.classes))
        return overlay_heatmap(preview.image, preview.scores[preview.classes[layer]], opacity=1)

    def score(self, secret: str | None, box: Sequence[float]) -> dict[str, tuple[float, float]]:
        """The presence of each class in a box: class name -> (mean, peak), 0 to 1. The box is as in `box_window`."""
        preview = self.result(secret).preview
        window = box_window(box, preview.labels.shape)
        return {name: _mean_and_peak(score_map[window]) for name, score_map in preview.scores.items()}

    def file(self, secret: str | None, name: str) -> bytes:
        """One of FILES of the full result, computed again from the features."""
        if name not in FILES:
            raise GoneError(f"file: expected one of {', '.join(FILES)}, got {name!r:.60}")
        request = self.result(secret).request
        return self.queue.run(lambda: self._file(self.sessions.get(secret), request, name))

    def cutout(self, secret: str | None, classes: Sequence[int]) -> bytes:
        """PNG of the full image, transparent outside the masks of some classes, given by index."""
        result = self.result(secret)
        chosen = sorted(set(classes))
        for index in chosen:
            _check_class("classes", index, len(result.preview.classes))
        return self.queue.run(lambda: self._cutout(self.sessions.get(secret), result.request, chosen))

    def answer(
        self, data: bytes, name: str, request: SegmentationRequest, boxes_xyxy: Sequence[Sequence[float]]
    ) -> dict[str, Any]:
        """Everything about one image, for JSON; nothing is kept.

        Args:
            data: content of the image file.
            name: of the file.
            request: prompts and options.
            boxes_xyxy: (left, top, right, bottom) in pixels; every class is scored in each.
        """
        self._check(request)
        file_name = _file_name(name)
        return self.queue.run(
            lambda: self._answer(Session(file_name, self._read(data, file_name)), request, boxes_xyxy)
        )

    def _segment(self, secret: str, request: SegmentationRequest) -> Result:
        session = self.sessions.get(secret)
        image, encoding = self._encode(session, request)
        started = time.perf_counter()
        full = self._result(image, request)
        preview, summary = make_preview(full), full.to_dict()
        result = Result(request, preview, summary, {"encode": encoding, "score": _milliseconds(started)})
        key = self._depends_on(request)
        others = [item for item in session.encoded.items() if item[0] != key]
        encoded = dict([*others, (key, image)][-ENCODED_KEPT:])
        self.sessions.replace(secret, replace(session, encoded=encoded, result=result))
        return result

    def _file(self, session: Session, request: SegmentationRequest, name: str) -> bytes:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            image, _ = self._encode(session, request)
            self._result(image, request).save(folder, formats=[FILES[name][0]])
            return Path(folder, name).read_bytes()

    def _cutout(self, session: Session, request: SegmentationRequest, classes: Sequence[int]) -> bytes:
        image, _ = self._encode(session, request)
        result = self._result(image, request)
        shown = np.zeros(result.labels.shape, bool)
        for index in classes:
            shown |= result.masks[result.classes[index]]
        return encode_cutout(session.pixels, shown)

    def _answer(
        self, session: Session, request: SegmentationRequest, boxes_xyxy: Sequence[Sequence[float]]
    ) -> dict[str, Any]:
        image_hw = session.pixels.shape[0], session.pixels.shape[1]
        windows = [box_window(_fractions(box, image_hw), image_hw) for box in boxes_xyxy]
        image, encoding = self._encode(session, request)
        started = time.perf_counter()
        result = self._result(image, request)
        masks = coco_annotations(result.masks, result.regions, image_hw=image_hw, file_name=session.name)
        return result.to_dict() | {
            "settings": {**result.settings, "model": self.model_name},
            "image": session.name,
            "coco": masks,
            "scores": _scores(result, windows, boxes_xyxy),
            "milliseconds": {"encode": encoding, "score": _milliseconds(started)},
        }

    def _read(self, data: bytes, file_name: str) -> NDArray[np.uint8]:
        """The image of an upload. In errors the name of the file takes the place of the argument."""
        try:
            self.limits.check_upload(len(data))
            return read_image(data, max_pixels=self.limits.pixels)
        except (LimitError, ImageError) as error:
            raise type(error)(f"{file_name}: {str(error).partition(': ')[2]}") from error

    def _check(self, request: SegmentationRequest) -> None:
        self.limits.check_request(request)
        if not request.prompts:
            raise OptionError(
                "prompts: expected at least one, got none; write one word or phrase per line, such as red"
            )
        if request.resolution not in self.resolutions:
            expected = ", ".join(self.resolutions)
            raise OptionError(f"resolution: expected one of {expected}, got {request.resolution!r:.60}")
        recipe = request.recipe or (None if request.guide else self.segmenter.encoder.recipe)
        check_vote(has_regions=request.region_map is not None, vote=request.vote, recipe=recipe)
        self._models.fetch(request)

    def _depends_on(self, request: SegmentationRequest) -> Hashable:
        """What the features of an image depend on."""
        mixes = self._models.segmenter(request).encoder.recipe == "corr"
        return request.resolution, request.guide, request.recipe, request.region_map if mixes else None

    def _encode(self, session: Session, request: SegmentationRequest) -> tuple[EncodedImage, float]:
        """The features of the image, and the milliseconds that it took to compute them; 0 if they were kept."""
        key = self._depends_on(request)
        if key in session.encoded:
            return session.encoded[key], 0.0
        started, seg = time.perf_counter(), self._models.segmenter(request)
        regions = request.region_map if seg.encoder.recipe == "corr" else None
        with needs_download(request):
            image = seg.encode(session.pixels, resolution=request.resolution, region_map=regions)
        return replace(image, source=session.name), _milliseconds(started)

    def _result(self, image: EncodedImage, request: SegmentationRequest) -> Segmentation:
        with needs_download(request):
            return self._models.segmenter(request).segment(
                image,
                request.prompts,
                negatives=request.negatives,
                mode=request.mode,
                threshold=request.threshold,
                propagate=request.propagate,
                region_map=request.region_map,
                vote=request.vote,
                min_area=request.min_area,
                max_hole="auto" if request.min_area == "auto" else 0,
            )


def _check_class(argument: str, index: object, count: int) -> None:
    """Refuse anything but the index of one of `count` classes."""
    if type(index) is not int or not 0 <= index < count:
        raise OptionError(f"{argument}: expected a class from 0 to {count - 1}, got {index!r:.60}")


def _fractions(box_xyxy: Sequence[float], image_hw: tuple[int, int]) -> tuple[float, ...]:
    height, width = image_hw
    left, top, right, bottom = box_xyxy
    if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
        raise OptionError(
            f"box: expected left, top, right, bottom within {width} x {height} pixels, got {list(box_xyxy)!r:.80}"
        )
    return left / width, top / height, right / width, bottom / height


def _scores(
    result: Segmentation, windows: Sequence[tuple[slice, slice]], boxes_xyxy: Sequence[Sequence[float]]
) -> list[dict[str, Any]]:
    """The mean and peak presence of each class, in the whole image and in each box."""
    return [
        {
            "name": name,
            **_rounded(score_map),
            "boxes": [
                {"box_xyxy": list(box), **_rounded(score_map[window])}
                for box, window in zip(boxes_xyxy, windows, strict=True)
            ],
        }
        for name, score_map in result.scores.items()
    ]


def _rounded(score_map: NDArray[np.float32]) -> dict[str, float]:
    mean, peak = _mean_and_peak(score_map)
    return {"mean": round(mean, 6), "peak": round(peak, 6)}


def _mean_and_peak(score_map: NDArray[np.float32]) -> tuple[float, float]:
    return float(score_map.mean(dtype=np.float64)), float(score_map.max())


def _milliseconds(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 1)


def _file_name(name: str) -> str:
    """The last part of a path, short and on one line, for downloads and messages."""
    last = one_line(name.replace("\\", "/").rsplit("/", 1)[-1]).strip()
    return last[-NAME_LENGTH:] or "image.png"


T = TypeVar("T")


class WorkQueue:
    """Does the work of one request at a time; a limited number of requests wait, and more are refused at once.

    One at a time because torch uses every core for one image: two images together would take as long and need twice the
    memory. Always in the same thread because torch gives each thread that calls it threads and memory of its own:
    sixteen users on sixteen threads took 400 MB more.
    """

    def __init__(self, in_flight: int) -> None:
        """Accept `in_flight` requests at a time, including the one that is worked on."""
        self._room = threading.BoundedSemaphore(in_flight)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fgseg-web")
        self._in_flight = in_flight

    def run(self, work: Callable[[], T]) -> T:
        """Wait until the work is done.

        Raises:
            BusyError: too many requests wait. Also what `work` raises.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError(f"the server is busy with {self._in_flight} requests; try again in a moment")
        try:
            return self._worker.submit(work).result()
        finally:
            self._room.release()

    def close(self) -> None:
        """Accept no more work."""
        self._worker.shutdown(wait=False, cancel_futures=True)
