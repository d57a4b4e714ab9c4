"""Windows over a large image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fgseg._checks import check_whole
from fgseg.errors import OptionError
from fgseg.scoring.resolution import Resolution
from fgseg.scoring.windows import spans

__all__ = ["WindowPlan", "plan_windows"]


@dataclass(frozen=True)
class WindowPlan:
    """The windows of a large image.

    Attributes:
        image_hw: (height, width) of the image in pixels.
        reduction: number of image pixels, along one side, in one pixel of the canvas.
        crop: side of a window in pixels of the canvas.
        stride: canvas pixels from one window to the next.
    """

    image_hw: tuple[int, int]
    reduction: int
    crop: int
    stride: int

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """(height, width) of the canvas in pixels; its last row and column may cover fewer image pixels."""
        return -(-self.image_hw[0] // self.reduction), -(-self.image_hw[1] // self.reduction)

    @cached_property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """(top, bottom) of each row of windows."""
        return spans(self.canvas_hw[0], self.crop, self.stride)

    @cached_property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """(left, right) of each column of windows."""
        return spans(self.canvas_hw[1], self.crop, self.stride)

    @property
    def windows(self) -> int:
        """The number of windows."""
        return len(self.rows) * len(self.columns)


def plan_windows(
    image_hw: tuple[int, int], resolution: Resolution | None, *, native: int, reduction: int = 1
) -> WindowPlan:
    """The windows over an image that is read by region.

    Args:
        image_hw: (height, width) in pixels.
        resolution: "slide"; only its crop and stride are used. None takes the encoder's sizes.
        native: side of the images that the encoder was trained on, in pixels.
        reduction: whole number that each side is divided by; 1 keeps the image's own scale.

    Raises:
        OptionError: another mode, a short side to resize to, or a reduction below 1.

    Example:
        >>> plan = plan_windows((16_384, 16_384), None, native=224, reduction=4)
        >>> plan.canvas_hw, plan.crop, plan.stride, plan.windows
        ((4096, 4096), 224, 112, 1296)
    """
    factor = check_whole("reduction", reduction, low=1, high=2**20, hint="images are shrunk by whole numbers")
    windows = resolution or Resolution("slide")
    if windows.mode != "slide" or windows.short_side is not None:
        raise OptionError(
            f"resolution: an image read by region is cut into windows at its own scale, got {windows}; "
            "use auto, slide or slide:auto/CROP/STRIDE, and a reduction (--reduction) to shrink it"
        )
    sizes = windows.resolved(native)
    assert sizes.crop is not None
    assert sizes.stride is not None
    return WindowPlan(image_hw, factor, sizes.crop, sizes.stride)
