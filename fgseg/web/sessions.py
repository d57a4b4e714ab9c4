"""Pictures that are kept for their sessions: found by a secret, bounded in number and bytes, gone after a while."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
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
from fgseg.web.limits import Asked, GoneError, Limits

__all__ = ["MASKS", "SCREEN_SIDE", "Result", "Session", "Sessions", "ViewState", "box_window", "screen_copy"]

MASKS = -1


@dataclass(frozen=True, eq=False)
class Result:
    """The last result of a picture.

    Attributes:
        asked: what was asked for.
        screen: the result, reduced to the size that is shown; its score maps are held, not computed when asked.
        summary: `Segmentation.to_dict` of the whole result.
        milliseconds: "encode" (0.0 where the features were there already) and "score".
        reused: whether the picture's features were there already.
    """

    asked: Asked
    screen: Segmentation
    summary: Mapping[str, object]
    milliseconds: Mapping[str, float]
    reused: bool


@dataclass(frozen=True, eq=False)
class Session:
    """One picture and what has been made of it.

    Attributes:
        name: of its file, for downloads.
        pixels: (H, W, 3) uint8 RGB.
        views: its features by resolution, the latest last.
        shown: the last result, None before the first.
    """

    name: str
    pixels: NDArray[np.uint8]
    views: Mapping[str, EncodedImage] = field(default_factory=dict)
    shown: Result | None = None

    @property
    def nbytes(self) -> int:
        """Bytes it holds, all but a little."""
        grids = [window.grid for view in self.views.values() for window in view.windows]
        held: int = self.pixels.nbytes + sum(grid.numel() * grid.element_size() for grid in grids)
        if self.shown is None:
            return held
        height, width = self.shown.screen.labels.shape
        # picture and labels, then a mask and half a float for every class
        screen: int = height * width * (7 + 3 * len(self.shown.screen.classes))
        return held + screen


@dataclass(frozen=True)
class ViewState:
    """What of a desk is looked at; kept with the desk, since an event may be answered while another is under way.

    Attributes:
        layer: index of the class whose heatmap is shown, MASKS for all masks.
        mark: the box (a point has no extent) where scores are shown, in shares of the picture.
    """

    layer: int = MASKS
    mark: tuple[float, ...] | None = None


@dataclass
class _Entry:
    desk: Session
    used: float
    owner: str | None = None
    look: ViewState = ViewState()


def _prompts(desk: Session) -> object:
    return desk.shown and desk.shown.asked.prompts


class Sessions:
    """Desks by their secrets, which the server makes; whoever has no secret reaches no picture."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take `limits`; `clock` gives seconds."""
        self._limits, self._clock = limits, clock
        self._kept: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of all desks."""
        with self._lock:
            return self._bytes()

    def add(self, desk: Session) -> str:
        """Keep a desk; returns its secret, 128 random bits."""
        secret = secrets.token_urlsafe(16)
        with self._lock:
            self._drop_idle()
            self._kept[secret] = _Entry(desk, self._clock())
            self._evict()
        return secret

    def get(self, secret: str | None) -> Session:
        """The desk of a secret, which counts as used.

        Raises:
            GoneError: there is none, or no longer.
        """
        with self._lock:
            return self._touched(secret).desk

    def replace(self, secret: str, desk: Session) -> None:
        """Put a desk in another's place; where other prompts are shown than before, all their masks are looked at.

        Raises:
            GoneError: there is no longer any.
        """
        with self._lock:
            kept = self._touched(secret)
            if _prompts(kept.desk) != _prompts(desk):
                kept.look = replace(kept.look, layer=MASKS)
            kept.desk = desk
            self._evict()

    def look(self, secret: str | None) -> ViewState:
        """What of a desk is looked at.

        Raises:
            GoneError: there is none, or no longer.
        """
        with self._lock:
            return self._touched(secret).look

    def look_at(self, secret: str | None, **changes: Any) -> ViewState:
        """Change what of a desk is looked at: some fields of its `ViewState`, which is returned.

        Raises:
            GoneError: there is none, or no longer.
        """
        with self._lock:
            kept = self._touched(secret)
            kept.look = replace(kept.look, **changes)
            return kept.look

    def claim(self, secret: str, owner: str) -> None:
        """Note whose the desk is; what the owner had before is dropped.

        Raises:
            GoneError: there is no such desk.
        """
        with self._lock:
            kept = self._touched(secret)
            self._drop(owner)
            kept.owner = owner
            self._kept[secret] = kept

    def leave(self, owner: str) -> None:
        """Drop what an owner has."""
        with self._lock:
            self._drop(owner)

    def _touched(self, secret: str | None) -> _Entry:
        self._drop_idle()
        kept = self._kept.get(secret or "")
        if kept is None:
            raise GoneError("image: this picture is not kept any longer; load it again")
        kept.used = self._clock()
        self._kept.move_to_end(secret or "")
        return kept

    def _drop(self, owner: str) -> None:
        for secret in [secret for secret, kept in self._kept.items() if kept.owner == owner]:
            del self._kept[secret]

    def _drop_idle(self) -> None:
        oldest = self._clock() - self._limits.idle_seconds
        for secret in [secret for secret, kept in self._kept.items() if kept.used < oldest]:
            del self._kept[secret]

    def _bytes(self) -> int:
        return sum(kept.desk.nbytes for kept in self._kept.values())

    def _evict(self) -> None:
        """Drop the least recently used while there are too many; the newest stays."""
        while len(self._kept) > 1 and (
            len(self._kept) > self._limits.pictures or self._bytes() > self._limits.kept_bytes
        ):
            self._kept.popitem(last=False)


SCREEN_SIDE = 1024  # pixels; the longer side of what a browser is sent


def screen_copy(result: Segmentation, *, max_side: int = SCREEN_SIDE) -> Segmentation:
    """The result on fewer pixels, with masks and score maps that are held instead of computed when asked for.

    Args:
        result: of any size.
        max_side: pixels of the longer side.

    Returns:
        The same classes: labels and masks of the nearest pixel, scores averaged, kept in half precision (3 digits).
    """
    image = shrink(result.image, max_side=max_side)
    screen_hw = image.shape[0], image.shape[1]
    nearest = np.ix_(*(_nearest(*lengths) for lengths in zip(result.labels.shape, screen_hw, strict=True)))
    labels = result.labels[nearest]
    maps = [shrink_map(score_map, screen_hw).astype(np.float16) for score_map in result.scores.values()]
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
        box: (left, top, right, bottom) as shares of width and height, in [0, 1]; a point has no extent.
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
    return _touched(top, bottom, image_hw[0]), _touched(left, right, image_hw[1])


def _nearest(length: int, wanted: int) -> NDArray[np.intp]:
    """The pixels of an axis whose centres are nearest to those of a shorter one."""
    return ((np.arange(wanted) + 0.5) * (length / wanted)).astype(np.intp)


def _touched(start: float, stop: float, length: int) -> slice:
    first = min(int(start * length), length - 1)
    return slice(first, max(first + 1, int(np.ceil(stop * length))))
