"""Images that are kept for the users of the page: found by a secret, limited in number, bytes and idle time.

`Sessions` has its own dictionary because there are two limits (number and bytes), an entry grows while it is kept, and
use prolongs its time. `TTLCache` of cachetools has one limit, refuses an entry above it, and counts from insertion.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.errors import OptionError
from fgseg.images.resizing import shrink
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.result import Segmentation
from fgseg.types import LazyMaps
from fgseg.upsample.maps import shrink_map
from fgseg.web.limits import GoneError, Limits, SegmentationRequest

__all__ = ["MASKS", "PREVIEW_SIDE", "Result", "Session", "Sessions", "ViewState", "box_window", "make_preview"]

MASKS = -1
PREVIEW_SIDE = 1024
"""Longer side of an image on the page, in pixels."""


@dataclass(frozen=True, eq=False)
class Result:
    """The latest result of an image.

    Attributes:
        request: the prompts and options.
        preview: the result at the size of the page; it holds its masks and score maps instead of computing them.
        summary: `Segmentation.to_dict` of the full result.
        milliseconds: "encode" (0.0 if the features were kept from before) and "score".
    """

    request: SegmentationRequest
    preview: Segmentation
    summary: Mapping[str, Any]
    milliseconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Session:
    """One image, its features and its latest result.

    Attributes:
        name: file name, for downloads.
        pixels: (H, W, 3) uint8 RGB.
        encoded: features by what they depend on besides the image, the latest last.
        result: the latest result, None before the first.
    """

    name: str
    pixels: NDArray[np.uint8]
    encoded: Mapping[Hashable, EncodedImage] = field(default_factory=dict)
    result: Result | None = None

    @property
    def nbytes(self) -> int:
        """Approximate size in bytes."""
        images = self.encoded.values()
        grids = [window.grid for image in images for window in image.windows]
        grids += [grid for image in images for grid in image.guide or ()]
        size: int = self.pixels.nbytes + sum(grid.numel() * grid.element_size() for grid in grids)
        size += sum(image.region_map.nbytes for image in images if image.region_map is not None)
        if self.result is None:
            return size
        height, width = self.result.preview.labels.shape
        # 7 bytes per pixel of image and labels; 3 per pixel and class of its mask and half-precision scores
        preview: int = height * width * (7 + 3 * len(self.result.preview.classes))
        return size + preview


@dataclass(frozen=True)
class ViewState:
    """What the user looks at. It is kept beside the session, since it can change while the session is computed.

    Attributes:
        layer: index of the class whose heatmap is shown, or MASKS for all masks.
        mark: the box where scores are shown, as fractions of width and height; a point is a box without extent.
    """

    layer: int = MASKS
    mark: tuple[float, ...] | None = None


@dataclass
class _Entry:
    session: Session
    used: float
    owner: str | None = None
    view: ViewState = ViewState()


def _prompts(session: Session) -> object:
    return session.result and session.result.request.prompts


class Sessions:
    """Sessions by secret. Without its secret, a session cannot be reached.

    Methods that take a secret count as use of its session. They raise GoneError if the session is not kept any longer.
    """

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep the limits; `clock` returns seconds."""
        self._limits, self._clock = limits, clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the most recently used last
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Size of all sessions in bytes."""
        with self._lock:
            return sum(entry.session.nbytes for entry in self._entries.values())

    def add(self, session: Session) -> str:
        """Keep a session; returns its secret of 128 random bits."""
        secret = secrets.token_urlsafe(16)
        with self._lock:
            self._drop_idle()
            self._entries[secret] = _Entry(session, self._clock())
            self._evict()
        return secret

    def get(self, secret: str | None) -> Session:
        """The session of a secret."""
        with self._lock:
            return self._use(secret).session

    def replace(self, secret: str, session: Session) -> None:
        """Replace a session by its next state. If the prompts have changed, the view goes back to all masks."""
        with self._lock:
            entry = self._use(secret)
            if _prompts(entry.session) != _prompts(session):
                entry.view = replace(entry.view, layer=MASKS)
            entry.session = session
            self._evict()

    def view(self, secret: str | None, **changes: Any) -> ViewState:
        """The view of a session, after changes to the named fields of `ViewState`."""
        with self._lock:
            entry = self._use(secret)
            entry.view = replace(entry.view, **changes)
            return entry.view

    def claim(self, secret: str, owner: str) -> None:
        """Set the owner of a session; the owner's other sessions are dropped."""
        with self._lock:
            entry = self._use(secret)
            self.drop(owner)
            entry.owner = owner
            self._entries[secret] = entry

    def drop(self, owner: str) -> None:
        """Drop the sessions of an owner."""
        with self._lock:
            self._drop_where(lambda entry: entry.owner == owner)

    def _use(self, secret: str | None) -> _Entry:
        self._drop_idle()
        entry = self._entries.get(secret or "")
        if entry is None:
            raise GoneError("image: this image is not kept any longer; load it again")
        entry.used = self._clock()
        self._entries.move_to_end(secret or "")
        return entry

    def _drop_idle(self) -> None:
        oldest = self._clock() - self._limits.idle_seconds
        self._drop_where(lambda entry: entry.used < oldest)

    def _drop_where(self, condition: Callable[[_Entry], bool]) -> None:
        for secret in [secret for secret, entry in self._entries.items() if condition(entry)]:
            del self._entries[secret]

    def _evict(self) -> None:
        """Drop the least recently used sessions above the limits; the newest one always stays."""
        while len(self) > 1 and (len(self) > self._limits.pictures or self.nbytes > self._limits.kept_bytes):
            self._entries.popitem(last=False)


def make_preview(result: Segmentation, *, max_side: int = PREVIEW_SIDE) -> Segmentation:
    """A smaller copy of a result that holds its masks and score maps.

    Args:
        result: of any size.
        max_side: longer side of the copy in pixels.

    Returns:
        The same classes; labels and masks of the nearest pixel, scores averaged and kept in half precision (3 digits).
    """
    image = shrink(result.image, max_side=max_side)
    preview_hw = image.shape[0], image.shape[1]
    nearest = np.ix_(*(_nearest(*lengths) for lengths in zip(result.labels.shape, preview_hw, strict=True)))
    labels = result.labels[nearest]
    maps = [shrink_map(score_map, preview_hw).astype(np.float16) for score_map in result.scores.values()]
    if result.mode == "exclusive":
        masks = LazyMaps(result.classes, lambda index: labels == index)
    else:
        held = [mask[nearest] for mask in result.masks.values()]
        masks = LazyMaps(result.classes, lambda index: held[index])
    scores = LazyMaps(result.classes, lambda index: maps[index].astype(np.float32))
    return replace(result, image=image, labels=labels, masks=masks, scores=scores)


def box_window(box: Sequence[float], image_hw: tuple[int, ...]) -> tuple[slice, slice]:
    """The pixels that a box touches, at least one.

    Args:
        box: (left, top, right, bottom) as fractions of width and height, in [0, 1]; a point has no extent.
        image_hw: (height, width) in pixels.

    Returns:
        Slices of rows and of columns.

    Raises:
        OptionError: not such a box.

    >>> box_window((0.5, 0.0, 0.5, 1.0), (10, 20))
    (slice(0, 10, None), slice(10, 11, None))
    """
    is_box = len(box) == 4 and all(isinstance(side, (int, float)) and 0 <= side <= 1 for side in box)
    if not (is_box and box[0] <= box[2] and box[1] <= box[3]):
        raise OptionError(f"box: expected left <= right and top <= bottom, all from 0 to 1, got {list(box)!r:.80}")
    left, top, right, bottom = box
    return _pixels(top, bottom, image_hw[0]), _pixels(left, right, image_hw[1])


def _nearest(length: int, new_length: int) -> NDArray[np.intp]:
    """The pixels of an axis whose centres are nearest to those of a shorter axis."""
    return ((np.arange(new_length) + 0.5) * (length / new_length)).astype(np.intp)


def _pixels(start: float, stop: float, length: int) -> slice:
    first = min(int(start * length), length - 1)
    return slice(first, max(first + 1, int(np.ceil(stop * length))))
