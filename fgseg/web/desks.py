"""Pictures that are kept for their sessions: found by a secret, bounded in number and bytes, gone after a while."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.result import Segmentation
from fgseg.web.limits import Asked, GoneError, Limits

__all__ = ["MASKS", "Desk", "Desks", "Look", "Shown"]

MASKS = -1


@dataclass(frozen=True, eq=False)
class Shown:
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
class Desk:
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
    shown: Shown | None = None

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
class Look:
    """What of a desk is looked at; kept with the desk, since an event may be answered while another is under way.

    Attributes:
        layer: index of the class whose heatmap is shown, MASKS for all masks.
        mark: the box (a point has no extent) where scores are shown, in shares of the picture.
    """

    layer: int = MASKS
    mark: tuple[float, ...] | None = None


@dataclass
class _Kept:
    desk: Desk
    used: float
    owner: str | None = None
    look: Look = Look()


def _prompts(desk: Desk) -> object:
    return desk.shown and desk.shown.asked.prompts


class Desks:
    """Desks by their secrets, which the server makes; whoever has no secret reaches no picture."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take `limits`; `clock` gives seconds."""
        self._limits, self._clock = limits, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of all desks."""
        with self._lock:
            return self._bytes()

    def add(self, desk: Desk) -> str:
        """Keep a desk; returns its secret, 128 random bits."""
        secret = secrets.token_urlsafe(16)
        with self._lock:
            self._drop_idle()
            self._kept[secret] = _Kept(desk, self._clock())
            self._evict()
        return secret

    def get(self, secret: str | None) -> Desk:
        """The desk of a secret, which counts as used.

        Raises:
            GoneError: there is none, or no longer.
        """
        with self._lock:
            return self._touched(secret).desk

    def replace(self, secret: str, desk: Desk) -> None:
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

    def look(self, secret: str | None) -> Look:
        """What of a desk is looked at.

        Raises:
            GoneError: there is none, or no longer.
        """
        with self._lock:
            return self._touched(secret).look

    def look_at(self, secret: str | None, **changes: Any) -> Look:
        """Change what of a desk is looked at: some fields of its `Look`, which is returned.

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

    def _touched(self, secret: str | None) -> _Kept:
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
