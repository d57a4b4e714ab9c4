"""Images of any sizes as one batch of pixels on a device."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from os import cpu_count
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_choice
from fgseg.encoders.base import Image, in_batches
from fgseg.errors import OptionError
from fgseg.images.resizing import resize_bicubic, resize_bilinear
from fgseg.upsample.tensors import full_precision, stream_of, to_device

__all__ = ["Filter", "Resizing", "filter_weights", "pixel_batch", "resize_pixels"]

Filter = Literal["bicubic", "bilinear"]
Resizing = Literal["pillow", "threads", "device"]
"""Where images are resized, always with the same result: by Pillow, by Pillow in threads, or on the device."""

_ONE = 2.0**22  # Pillow's weights are whole numbers of 2**-22
_SIDE = 32  # pixels of the squares in which `in_batches` counts


def pixel_batch(
    images: Sequence[Image],
    image_hw: tuple[int, int],
    *,
    filter: Filter,
    resizing: Resizing = "pillow",
    device: torch.device,
) -> Tensor:
    """Images at one size on a device.

    Args:
        images: (H, W, 3) uint8 RGB, of any sizes, at least one.
        image_hw: (height, width) of the batch in pixels; an image of that size is not resized.
        filter: Pillow's filter, which antialiases an axis that shrinks.
        resizing: "pillow"; "threads", which resizes several images at once; or "device".
        device: of the result.

    Returns:
        (B, H, W, 3) uint8, the same for every `resizing`.

    Raises:
        OptionError: an unknown `resizing`, or "device" on Apple's mps, which has no float64.
    """
    check_choice("resizing", resizing, get_args(Resizing))
    if resizing == "device":
        if device.type == "mps":
            raise OptionError("resizing: expected pillow or threads on mps, which has no float64, got 'device'")
        resize = partial(_resized_on_device, image_hw=image_hw, filter=filter, device=device)
        return torch.stack(in_batches(resize, [(image.shape[0], image.shape[1]) for image in images], _SIDE, images))
    by_pillow = partial(_resized, image_hw=image_hw, filter=filter)
    if resizing == "pillow" or len(images) == 1:
        return _stacked([by_pillow(image) for image in images], device)
    with ThreadPoolExecutor(min(len(images), cpu_count() or 1)) as pool:
        return _stacked(list(pool.map(by_pillow, images)), device)


def _resized(image: Image, *, image_hw: tuple[int, int], filter: Filter) -> Image:
    if image.shape[:2] == image_hw:
        return image
    return resize_bicubic(image, image_hw) if filter == "bicubic" else resize_bilinear(image, image_hw)


def _resized_on_device(
    images: Sequence[Image], _: tuple[int, int], *, image_hw: tuple[int, int], filter: Filter, device: torch.device
) -> Sequence[Tensor]:
    return resize_pixels(_stacked(images, device), image_hw, filter=filter).unbind()


def _stacked(images: Sequence[Image], device: torch.device) -> Tensor:
    """Images of one size on a device; for CUDA they are stacked in pinned memory, so that the host does not wait."""
    if device.type != "cuda":
        return torch.from_numpy(np.stack(images)).to(device)
    pinned = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(images, out=pinned.numpy())
    return pinned.to(device, non_blocking=True)


@full_precision
def resize_pixels(pixels: Tensor, image_hw: tuple[int, int], *, filter: Filter) -> Tensor:
    """Resize by Pillow's filters in torch: the same values as `fgseg.images.resize_bicubic` and `resize_bilinear`.

    Pillow multiplies by weights that are whole numbers of 2**-22, first along rows, then along columns, and rounds to
    uint8 after both. In float64 such sums are exact in any order, so a product of matrices gives the same values.

    Args:
        pixels: (B, H, W, 3) uint8 on any device with float64.
        image_hw: the new (height, width), in pixels.
        filter: "bicubic" or "bilinear".

    Returns:
        (B, height, width, 3) uint8 on the same device.
    """
    planes = pixels.permute(0, 3, 1, 2)
    for axis, size in ((-1, image_hw[1]), (-2, image_hw[0])):
        if planes.shape[axis] != size:
            weights = _weights_on(filter, planes.shape[axis], size, planes.device, stream_of(planes.device))
            wide = planes.double()
            sums = wide @ weights.T if axis == -1 else weights @ wide
            planes = sums.add_(_ONE / 2).div_(_ONE).floor_().clamp_(0, 255)
    return planes.permute(0, 2, 3, 1).to(torch.uint8)


@lru_cache(maxsize=32)
def _weights_on(filter: Filter, before: int, after: int, device: torch.device, stream: int) -> Tensor:
    return to_device(torch.from_numpy(filter_weights(filter, before, after)), device)


def filter_weights(filter: Filter, before: int, after: int) -> NDArray[np.float64]:
    """The weights by which Pillow resizes one axis.

    Args:
        filter: "bicubic" or "bilinear".
        before: pixels of the axis.
        after: pixels of the result.

    Returns:
        (after, before) whole numbers of 2**-22; each row adds to about 2**22.

    >>> filter_weights("bilinear", 2, 4) / 2**22
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    reach = 2.0 if filter == "bicubic" else 1.0
    scale = before / after
    stretch = max(scale, 1.0)  # an axis that shrinks takes a wider filter
    centre = (np.arange(after) + 0.5) * scale
    first = np.maximum((centre - reach * stretch + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + reach * stretch + 0.5).astype(np.int64), before)
    pixel = first[:, None] + np.arange((stop - first).max())
    distance = (pixel - centre[:, None] + 0.5) * (1 / stretch)
    shape = _bicubic(distance) if filter == "bicubic" else np.maximum(1 - np.abs(distance), 0)
    is_inside = pixel < stop[:, None]
    weight = np.where(is_inside, shape, 0)
    weight /= np.cumsum(weight, axis=1)[:, -1:]  # added one after the other, as Pillow adds them
    whole = np.trunc(weight * _ONE + np.copysign(0.5, weight))
    matrix = np.zeros((after, before))
    matrix[np.nonzero(is_inside)[0], pixel[is_inside]] = whole[is_inside]
    return matrix


def _bicubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -0.5, in Pillow's order of operations."""
    a, x = -0.5, np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))
