"""The resolution an image is encoded at: resized, in windows, and the windows' scores put back together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, check_choice, check_image, check_side, check_size, describe
from fgseg.errors import OptionError, ShapeError

__all__ = [
    "MAX_SIDE",
    "BoxXyxy",
    "Resolution",
    "crops",
    "parse_resolution",
    "short_side_hw",
    "stitch",
    "stitch_chunks",
    "whole_image",
    "window_boxes",
]

Mode = Literal["squash", "keep", "slide"]
BoxXyxy = tuple[int, int, int, int]
"""(left, top, right, bottom) pixels, half open."""

MAX_SIDE = 2048
"""Pixels; a panorama is shrunk to this long side unless another is given."""
_CHUNK_BYTES = 2**26  # of a canvas; each chunk is compared on every pixel of the image once
_SPELLING = "write squash, keep or slide, then :SIDE, for slide also :SIDE/CROP/STRIDE, such as slide:336/224/112"


@dataclass(frozen=True)
class Resolution:
    """How an image becomes what the encoder sees. Sizes left None are the encoder's own (see `resolved`).

    Attributes:
        mode: "squash" a square, whatever the image's shape (the model card's quick start); "keep" the image's
            shape, as one window; "slide" the image's shape, in overlapping square windows.
        short_side: pixels of the image's short side after resizing; of the square for "squash". FG-CLIP 2's "keep"
            takes as many patches as a square of it has.
        crop: side of a window in pixels, "slide" only.
        stride: pixels from one window to the next, at most `crop`, "slide" only.
        max_side: the long side is not made longer than this, in pixels; for "slide", and "keep" of other encoders
            than FG-CLIP 2's, which is bound by its number of patches.

    Raises:
        OptionError: unknown mode, a size that is not a whole number of at least 1, `crop` or `stride` without
            "slide", windows that leave gaps, or a short side above `max_side` but for "squash".

    Example:
        >>> Resolution("slide", short_side=448).resolved(224)
        Resolution(mode='slide', short_side=448, crop=224, stride=112, max_side=2048)
    """

    mode: Mode
    short_side: int | None = None
    crop: int | None = None
    stride: int | None = None
    max_side: int = MAX_SIDE

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        for name in ("short_side", "crop", "stride", "max_side"):
            if (side := getattr(self, name)) is not None or name == "max_side":
                check_side(name, side)
                object.__setattr__(self, name, int(side))  # numpy's whole numbers go into no JSON
        if self.mode != "slide" and (self.crop, self.stride) != (None, None):
            raise OptionError(f'crop: expected windows only with mode "slide", got {self.mode!r}; drop crop and stride')
        if self.crop is not None and self.stride is not None:
            _check_stride(self.stride, self.crop)
        if self.mode != "squash" and self.short_side is not None and self.short_side > self.max_side:
            raise OptionError(f"short_side: expected at most max_side {self.max_side}, got {self.short_side}")

    def __str__(self) -> str:
        """As `parse_resolution` reads it; `max_side` is not spelled."""
        sizes = (
            (self.short_side, self.crop, self.stride)
            if (self.crop, self.stride) != (None, None)
            else (self.short_side,)
        )
        if sizes == (None,):
            return self.mode
        return f"{self.mode}:{'/'.join('auto' if size is None else str(size) for size in sizes)}"

    def resolved(self, native: int) -> Resolution:
        """The same with every size filled in for an encoder trained on `native` x `native` pixels.

        Windows have the native size, half overlap, and a short side one and a half times as long: the setting
        of SCLIP and NACLIP (336, 224, 112), whose encoder is native to 224. Other modes take the native side.
        Where `max_side` is less, windows and "keep" take that.
        """
        check_side("native", native)
        if self.mode == "squash":
            return replace(self, short_side=self.short_side or native)
        if self.mode == "keep":
            return replace(self, short_side=self.short_side or min(native, self.max_side))
        crop = self.crop or native
        stride = self.stride or max(crop // 2, 1)
        return replace(self, short_side=self.short_side or min(crop * 3 // 2, self.max_side), crop=crop, stride=stride)


def parse_resolution(text: str) -> Resolution:
    """A resolution as the command line spells it.

    Args:
        text: MODE, MODE:SIDE or slide:SIDE/CROP/STRIDE; "auto" for a size is the encoder's own.

    Returns:
        The resolution; sizes not written are None, the encoder's own.

    Raises:
        OptionError: anything else.

    Example:
        >>> parse_resolution("slide:448/224/112").stride
        112
        >>> print(parse_resolution("slide:auto/224/112"))
        slide:auto/224/112
        >>> parse_resolution("keep").short_side is None
        True
    """
    mode, colon, rest = text.partition(":")
    sizes = rest.split("/") if colon else []
    allowed = (0, 1, 3) if mode == "slide" else (0, 1)
    readable = all(size == "auto" or (size.isascii() and size.isdigit() and len(size) < 10) for size in sizes)
    if mode not in get_args(Mode) or len(sizes) not in allowed or not readable:
        raise OptionError(f"resolution: expected a mode and sizes, got {text!r:.60}; {_SPELLING}")
    numbers = [None if size == "auto" else int(size) for size in sizes]
    short_side, crop, stride = [*numbers, None, None, None][:3]
    try:
        return Resolution(cast(Mode, mode), short_side, crop, stride)
    except OptionError as error:  # names a field, and what was typed are numbers in order
        raise OptionError(f"resolution: expected sizes that fit together, got {text!r:.60}; {error}") from error


def whole_image(resolution: str) -> str:
    """The resolution to take a whole image at, as boxes need it, where `resolution` suits an encoder.

    Args:
        resolution: as `parse_resolution` reads it.

    Returns:
        "squash" for any windows, else `resolution` itself.

    Raises:
        OptionError: not a resolution.

    Example:
        >>> whole_image("slide:448/224/112"), whole_image("keep:336")
        ('squash', 'keep:336')
    """
    return "squash" if parse_resolution(resolution).mode == "slide" else resolution


def short_side_hw(image_hw: tuple[int, int], short_side: int, max_side: int = MAX_SIDE) -> tuple[int, int]:
    """The size to resize an image to: its aspect, a short side, and no long side above `max_side`.

    Each side is ``int(side * scale + 0.5)``, as mmcv rounds, so that benchmark images get the published
    sizes.

    Args:
        image_hw: (height, width) in pixels.
        short_side: pixels of the shorter side.
        max_side: most pixels of the longer side.

    Returns:
        (height, width) in pixels, at least 1 each.

    Raises:
        OptionError: a size that is not a whole number of at least 1.

    Example:
        >>> short_side_hw((375, 500), 336)
        (336, 448)
        >>> short_side_hw((50, 4000), 336)
        (26, 2048)
    """
    height, width = check_size("image_hw", image_hw)
    check_side("short_side", short_side)
    check_side("max_side", max_side)
    scale = min(short_side / min(height, width), max_side / max(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def window_boxes(image_hw: tuple[int, int], *, crop: int, stride: int) -> tuple[BoxXyxy, ...]:
    """Overlapping square windows that cover an image, row by row.

    Per axis ``max(size - crop + stride - 1, 0) // stride + 1`` windows; the last is moved back inside. An
    axis shorter than the crop is covered by one window of its own length.

    Args:
        image_hw: (height, width) in pixels.
        crop: side of a window in pixels.
        stride: pixels from one window to the next, at most `crop`.

    Returns:
        Boxes (left, top, right, bottom) in pixels, half open; every pixel is in at least one.

    Raises:
        OptionError: a size that is not a whole number of at least 1, or a stride that leaves gaps.

    Example:
        >>> window_boxes((4, 7), crop=4, stride=2)
        ((0, 0, 4, 4), (2, 0, 6, 4), (3, 0, 7, 4))
    """
    height, width = check_size("image_hw", image_hw)
    check_side("crop", crop)
    _check_stride(stride, crop)
    spans = [_spans(height, crop, stride), _spans(width, crop, stride)]
    return tuple((left, top, right, bottom) for top, bottom in spans[0] for left, right in spans[1])


def crops(image: NDArray[np.uint8], boxes: Sequence[BoxXyxy]) -> tuple[NDArray[np.uint8], ...]:
    """The image's windows.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (left, top, right, bottom) pixels, half open, inside the image.

    Returns:
        One (bottom - top, right - left, 3) uint8 view of the image a box; nothing is copied.

    Raises:
        ShapeError: not an RGB image.
        OptionError: a box outside the image or without pixels.

    Example:
        >>> [window.shape for window in crops(np.zeros((4, 7, 3), np.uint8), [(0, 0, 4, 4), (3, 0, 7, 4)])]
        [(4, 4, 3), (4, 4, 3)]
    """
    check_image("image", image)
    _check_boxes(boxes, image.shape[:2])
    return tuple(image[top:bottom, left:right] for left, top, right, bottom in boxes)


def stitch(window_scores: Sequence[torch.Tensor], boxes: Sequence[BoxXyxy], canvas_hw: tuple[int, int]) -> torch.Tensor:
    """One canvas of scores from the scores of overlapping windows.

    Each window's scores are upsampled to its box (bilinear, pixel centres at half integers), added, and
    divided by how many windows cover the pixel. Holds (T, h, w); `stitch_chunks` does not.

    Args:
        window_scores: (T, Gh, Gw) scores a window, on one device; T the same in all, the grids may differ.
        boxes: each window's box on the canvas, as `window_boxes` gives them.
        canvas_hw: (height, width) of the canvas, in pixels.

    Returns:
        (T, h, w) float32 on the windows' device.

    Raises:
        ShapeError: no window, or scores of other axes or another T.
        OptionError: not one box a window, a box outside the canvas, or a pixel that no window covers.

    Example:
        >>> left, right = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        >>> stitch([left, right], [(0, 0, 2, 1), (1, 0, 3, 1)], (1, 3))
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    coverage = _check_windows(window_scores, boxes, canvas_hw)
    return _stitched(window_scores, boxes, coverage)


def stitch_chunks(
    window_scores: Sequence[torch.Tensor],
    boxes: Sequence[BoxXyxy],
    canvas_hw: tuple[int, int],
    chunk: int | None = None,
) -> Iterator[torch.Tensor]:
    """`stitch`, some prompts at a time: holds (chunk, h, w) a few times, whatever T is.

    Args:
        window_scores: as for `stitch`.
        boxes: as for `stitch`.
        canvas_hw: as for `stitch`.
        chunk: prompts at a time, at least 1; None takes as many as 64 MB hold.

    Returns:
        An iterator over (t, h, w) float32, t = `chunk` but in the last, in prompt order.

    Raises:
        ShapeError: as `stitch`, before the first chunk is made.
        OptionError: as `stitch`, or `chunk` below 1.

    Example:
        >>> [len(canvas) for canvas in stitch_chunks([torch.zeros(5, 2, 2)], [(0, 0, 8, 8)], (8, 8), chunk=2)]
        [2, 2, 1]
    """
    coverage = _check_windows(window_scores, boxes, canvas_hw)
    if chunk is None:
        chunk = max(_CHUNK_BYTES // (4 * coverage.numel()), 1)
    check_side("chunk", chunk)
    starts = range(0, len(window_scores[0]), chunk)
    return (_stitched([scores[s : s + chunk] for scores in window_scores], boxes, coverage) for s in starts)


def _stitched(window_scores: Sequence[torch.Tensor], boxes: Sequence[BoxXyxy], coverage: torch.Tensor) -> torch.Tensor:
    """The sum of all windows' maps over the coverage.

    A bilinear map is the grid between two matrices, and windows of one row share the one that grows it downwards: they
    are added before.
    """
    rows: dict[tuple[int, int, int], torch.Tensor] = {}
    for scores, (left, top, right, bottom) in zip(window_scores, boxes, strict=True):
        place = (top, bottom, scores.shape[1])
        if place not in rows:
            rows[place] = coverage.new_zeros(len(scores), scores.shape[1], coverage.shape[1])
        across = _bilinear(scores.shape[2], right - left).to(coverage.device)
        rows[place][:, :, left:right].baddbmm_(scores.detach().float(), across.T.expand(len(scores), -1, -1))
    canvas = coverage.new_zeros(len(window_scores[0]), *coverage.shape)
    for (top, bottom, patches), row in rows.items():
        down = _bilinear(patches, bottom - top).to(coverage.device)
        canvas[:, top:bottom].baddbmm_(down.expand(len(row), -1, -1), row)
    return canvas.div_(coverage)


def _bilinear(patches: int, pixels: int) -> torch.Tensor:
    """(pixels, patches) float32 weights of the patches of one axis at each of its pixels."""
    weights = torch.nn.functional.interpolate(torch.eye(patches)[None], pixels, mode="linear", align_corners=False)
    return weights[0].T


def _check_windows(
    window_scores: Sequence[torch.Tensor], boxes: Sequence[BoxXyxy], canvas_hw: tuple[int, int]
) -> torch.Tensor:
    """How many windows cover each pixel, (h, w) float32, once everything was found in order."""
    height, width = check_size("canvas_hw", canvas_hw)
    if not len(window_scores):
        raise ShapeError("window_scores: expected the scores of at least one window, got none")
    if len(window_scores) != len(boxes):
        raise OptionError(f"boxes: expected one a window, {len(window_scores)}, got {len(boxes)}")
    for scores in window_scores:
        check_array("window_scores", scores, (len(window_scores[0]), "Gh", "Gw"), hint="the same prompts everywhere")
        if not scores.numel():
            raise ShapeError(f"window_scores: expected at least one prompt and patch, got {describe(scores)}")
    _check_boxes(boxes, (height, width))
    coverage = torch.zeros(height, width, device=window_scores[0].device)
    for left, top, right, bottom in boxes:
        coverage[top:bottom, left:right] += 1
    if not bool(coverage.all()):
        row, column = (coverage == 0).nonzero()[0].tolist()
        raise OptionError(f"boxes: expected every pixel covered, got none over row {row}, column {column}")
    return coverage


def _spans(size: int, crop: int, stride: int) -> list[tuple[int, int]]:
    count = max(size - crop + stride - 1, 0) // stride + 1
    stops = [min(index * stride + crop, size) for index in range(count)]
    return [(max(stop - crop, 0), stop) for stop in stops]


def _check_boxes(boxes: Sequence[BoxXyxy], image_hw: tuple[int, ...]) -> None:
    height, width = image_hw
    for box in boxes:
        left, top, right, bottom = box
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise OptionError(
                "boxes: expected (left, top, right, bottom) with pixels, inside height "
                f"{height} and width {width}, got {tuple(box)}"
            )


def _check_stride(stride: int, crop: int) -> None:
    check_side("stride", stride)
    if stride > crop:
        raise OptionError(f"stride: expected at most the crop, {crop}, got {stride}; the windows would leave gaps")
