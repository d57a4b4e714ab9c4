"""The resolution an image is encoded at: a square, the image's own aspect ratio, or windows over it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from fgseg._checks import check_choice, check_side, describe
from fgseg.errors import OptionError

__all__ = ["MAX_SIDE", "Resolution", "check_stride", "parse_resolution", "short_side_hw", "whole_image"]

Mode = Literal["squash", "keep", "slide"]


MAX_SIDE = 2048
"""Pixels; a panorama is shrunk to this long side unless another is given."""


_SPELLING = "write squash, keep or slide, then :SIDE, for slide also :SIDE/CROP/STRIDE, such as slide:336/224/112"


@dataclass(frozen=True)
class Resolution:
    """How an image is resized and cut for the encoder. Sizes that are None are the encoder's own (see `resolved`).

    Attributes:
        mode: "squash" resizes to a square, as in FG-CLIP's model card; "keep" keeps the aspect ratio of the image, as
            one window; "slide" keeps it, in overlapping square windows.
        short_side: the image's short side after resizing, in pixels; the side of the square for "squash". FG-CLIP 2's
            "keep" takes as many patches as a square of this side has.
        crop: side of a window in pixels, "slide" only.
        stride: pixels from one window to the next, at most `crop`, "slide" only.
        max_side: largest long side after resizing, in pixels; for "slide", and for "keep" of other encoders
            than FG-CLIP 2, which is limited by its number of patches.

    Raises:
        OptionError: unknown mode, a size that is not a whole number of at least 1, `crop` or `stride` without
            "slide", windows that leave gaps, or (except for "squash") a short side above `max_side`.

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
                object.__setattr__(self, name, int(side))  # JSON cannot hold numpy's integers
        if self.mode != "slide" and (self.crop, self.stride) != (None, None):
            raise OptionError(f'crop: expected windows only with mode "slide", got {self.mode!r}; drop crop and stride')
        if self.crop is not None and self.stride is not None:
            check_stride(self.stride, self.crop)
        if self.mode != "squash" and self.short_side is not None and self.short_side > self.max_side:
            raise OptionError(f"short_side: expected at most max_side {self.max_side}, got {self.short_side}")

    def __str__(self) -> str:
        """The text that `parse_resolution` reads; it does not contain `max_side`."""
        sizes = [self.short_side, self.crop, self.stride]
        if sizes[1:] == [None, None]:
            del sizes[1:]
        if sizes == [None]:
            return self.mode
        return f"{self.mode}:{'/'.join('auto' if size is None else str(size) for size in sizes)}"

    def resolved(self, native: int) -> Resolution:
        """The resolution with every size filled in for an encoder trained on `native` x `native` pixels.

        Windows have the native size and half overlap, and the short side is one and a half times as long: the setting
        of SCLIP and NACLIP (336, 224, 112), whose encoder was trained at 224. Other modes take the native side.
        If `max_side` is smaller, windows and "keep" take that.
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
    """Read a resolution as it is written on the command line.

    Args:
        text: MODE, MODE:SIDE or slide:SIDE/CROP/STRIDE; "auto" as a size takes the encoder's own.

    Returns:
        The resolution; sizes that are not given are None, the encoder's own.

    Raises:
        OptionError: any other text, or no text.

    Example:
        >>> parse_resolution("slide:448/224/112").stride
        112
        >>> print(parse_resolution("slide:auto/224/112"))
        slide:auto/224/112
        >>> parse_resolution("keep").short_side is None
        True
    """
    if not isinstance(text, str):
        raise OptionError(f"resolution: expected text such as 'keep:448', got {describe(text)}; {_SPELLING}")
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
    except OptionError as error:  # it names a field, but the user wrote numbers in order
        raise OptionError(f"resolution: expected sizes that fit together, got {text!r:.60}; {error}") from error


def whole_image(resolution: str) -> str:
    """The resolution for a whole image, which boxes need, instead of one in windows.

    Args:
        resolution: as in `parse_resolution`.

    Returns:
        "squash" for windows, else `resolution` itself.

    Raises:
        OptionError: as `parse_resolution`.

    Example:
        >>> whole_image("slide:448/224/112"), whole_image("keep:336")
        ('squash', 'keep:336')
    """
    return "squash" if parse_resolution(resolution).mode == "slide" else resolution


def short_side_hw(image_hw: tuple[int, int], short_side: int, max_side: int = MAX_SIDE) -> tuple[int, int]:
    """The size to resize an image to: its aspect ratio, the given short side, and a long side of at most `max_side`.

    Each side is ``int(side * scale + 0.5)``, rounded as in mmcv, so that benchmark images get the published
    sizes.

    Args:
        image_hw: (height, width) in pixels.
        short_side: the shorter side in pixels.
        max_side: the largest longer side in pixels.

    Returns:
        (height, width) in pixels, at least 1 each.

    Example:
        >>> short_side_hw((375, 500), 336)
        (336, 448)
        >>> short_side_hw((50, 4000), 336)
        (26, 2048)
    """
    height, width = image_hw
    scale = min(short_side / min(height, width), max_side / max(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def check_stride(stride: int, crop: int) -> None:
    """Refuse a stride larger than the window, which would leave gaps."""
    check_side("stride", stride)
    if stride > crop:
        raise OptionError(f"stride: expected at most the crop, {crop}, got {stride}; the windows would leave gaps")
