"""Edge-aware refinement of score maps by the image.

A refinement helps one method and harms another: PAMR gives NACLIP +3.1 mIoU and SCLIP +1.9, MaskCLIP
(FG-CLIP's own recipe) -1.5 and ProxyCLIP nothing (tables of their papers). A refinement therefore runs only if the
caller requests it or the defaults of the model name it. Defaults name one only where a benchmark of that model shows a
gain: those of the embedded model name the guided filter (benchmarks/results/peers.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, check_choice, check_image, check_number, check_whole, describe
from fgseg.errors import OptionError, ShapeError
from fgseg.scoring.superpixels import region_means, superpixels
from fgseg.upsample.tensors import Values, float32_tensor, like

__all__ = ["OFFERED", "REFINEMENTS", "guided_filter", "pamr", "refined"]

REFINEMENTS = ("none", "guided", "pamr", "superpixel")
# Superpixels serve as a comparison: the guided filter beats them on every data set of benchmarks/results/peers.json.
OFFERED = REFINEMENTS[:3]
"""The methods of `refined` that `Segmenter.segment` offers: those with a measured gain or common in the field."""

_RING = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
# The constants of PAMR's code (Araslanov and Roth 2020): the scale of differences in standard deviations, and a
# number that prevents division by zero in a flat part of the image.
_SOFTNESS, _FLAT = 0.1, 1e-8
_MAPS_AT_ONCE = 8
# The colour variance below which the guided filter counts a window as flat, on colours in [0, 1]; in its paper's range.
_GUIDED_EPSILON = 1e-3
# The best of 0.5, 0.75, 1, 1.5 and 2 for the embedded model on scenes kept for choosing settings.
_RADIUS_IN_PATCHES = 1.5
_RADIUS_OVER_SUBSAMPLING = 4  # as the paper of the fast guided filter recommends


def refined(
    image: NDArray[np.uint8], maps: Iterable[NDArray[np.float32]], *, method: str, patch_pixels: float
) -> Iterator[NDArray[np.float32]]:
    """Score maps, refined one after another; work that depends only on the image is done once, or once per few maps.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: (H, W) float32 score maps on the image's pixels.
        method: one of `REFINEMENTS`.
        patch_pixels: side of a patch in image pixels; sets the radius of the guided filter and the size of superpixels.

    Returns:
        An iterator over (H, W) float32, one per map.

    Raises:
        OptionError: another method.
        ShapeError: a map of another size, when it is reached; or as the methods.

    Example:
        >>> image = np.zeros((4, 4, 3), np.uint8)
        >>> [float(m[0, 0]) for m in refined(image, [np.ones((4, 4), np.float32)], method="none", patch_pixels=2)]
        [1.0]
    """
    check_choice("method", method, REFINEMENTS)
    maps = _sized(maps, image.shape[:2])
    if method == "guided":
        radius = min(1000, max(1, round(_RADIUS_IN_PATCHES * patch_pixels)))
        guide = _Guide(image, radius, _GUIDED_EPSILON, max(1, radius // _RADIUS_OVER_SUBSAMPLING))
        return (guide.filtered(one) for one in maps)
    if method == "superpixel":
        segments = superpixels(image, patch_pixels=patch_pixels)
        return (region_means(one, segments) for one in maps)
    return _pamr_in_runs(image, maps) if method == "pamr" else maps


def _sized(maps: Iterable[NDArray[np.float32]], image_hw: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    for one in maps:
        check_array("maps", one, image_hw, hint="a score map on the image's pixels (fgseg.upsample.labels)")
        yield one


def _pamr_in_runs(image: NDArray[np.uint8], maps: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    # The maps of one call share the affinities of the image, which take longer to compute than to apply.
    while few := list(islice(maps, _MAPS_AT_ONCE)):
        yield from pamr(image, np.stack(few))


def pamr(
    image: torch.Tensor | NDArray[Any], scores: Values, *, iterations: int = 10, dilations: Sequence[int] = (8, 16)
) -> Values:
    """Pixel-adaptive mask refinement: each score becomes the mean of similar neighbours, repeatedly.

    Neighbours are the 8 around a pixel at each dilation (edge pixels are repeated outside). Their weights are a
    softmax of ``-mean over channels of |I - I_n| / (1e-8 + 0.1 s)``. Here s is the unbiased standard deviation per
    channel of all neighbours and of the centre, which counts once per dilation. Araslanov and Roth, "Single-Stage
    Semantic Segmentation from Image Labels", CVPR 2020, as NACLIP runs it; equal to it within 1e-4. The weights do not
    change when a channel is scaled or shifted, so a normalised input gives the same result as the plain image.

    In published figures it lowers the result of FG-CLIP's recipe (see the module).

    Args:
        image: (H, W, 3) uint8 RGB array, or (3, H, W) of any float dtype (array or tensor).
        scores: (T, H, W) score maps on the image's pixels; (T, H, W) of any float dtype.
        iterations: number of repetitions; 10 in the published results.
        dilations: distances to the neighbours in pixels, each at least 1.

    Returns:
        (T, H, W) float32, inside the range of each map; a tensor or an array like `scores`. Prompts are refined one at
        a time; besides the result, the memory is that of 8 * len(dilations) score maps and about 25 more.

    Raises:
        ShapeError: other axes, another size than the image's, or no prompt.
        OptionError: `iterations` below 0, no dilation, or one below 1.

    Example:
        >>> image = np.zeros((1, 4, 3), np.uint8)
        >>> image[:, 2:] = 255
        >>> pamr(image, np.array([[[0.0, 1.0, 0.0, 0.0]]]), iterations=1, dilations=[1]).round(2)
        array([[[0.38, 0.4 , 0.  , 0.  ]]], dtype=float32)
    """
    check_array("scores", scores, ("T", "H", "W"))
    if not np.prod(scores.shape):
        raise ShapeError(f"scores: expected at least one score map with pixels, got {describe(scores)}")
    repeats = check_whole("iterations", iterations, low=0, high=1000)
    if not isinstance(dilations, (Sequence, np.ndarray)) or not len(dilations):
        raise OptionError(f"dilations: expected a list of whole numbers of at least 1, got {describe(dilations)}")
    dilations = [check_whole("dilations", one, low=1, high=2**31 - 1) for one in dilations]
    maps = float32_tensor(scores)
    weights = _affinities(_channels_first(image, tuple(maps.shape[1:])).to(maps.device), dilations)
    refined = torch.empty_like(maps)
    for index, score_map in enumerate(maps):
        for _ in range(repeats):
            near = _neighbours(score_map[None], dilations)
            score_map = sum((w * n[0] for w, n in zip(weights, near, strict=True)), torch.zeros_like(score_map))
        refined[index] = score_map
    return like(refined, scores)


def guided_filter(
    image: NDArray[np.uint8],
    score_map: NDArray[np.floating[Any]],
    *,
    radius: int,
    epsilon: float,
    subsampling: int = 1,
) -> NDArray[np.float32]:
    """Smooth a score map but not across edges of the image: in each window, a linear function of the colours is fitted.

    He, Sun and Tang, "Guided Image Filtering", ECCV 2010, with a colour guide (their equations 19 to 21);
    windows are cut at the border of the image. With `subsampling` it is He and Sun's "Fast Guided Filter" (2015,
    arXiv:1505.00996): the fits are computed on a smaller image and interpolated to the full size.

    Args:
        image: (H, W, 3) uint8 RGB.
        score_map: (H, W) scores on the image's pixels, any float dtype.
        radius: windows are (2 * radius + 1) pixels square, cut at the border; 1 to 1000.
        epsilon: colour variance below which a window counts as flat and is averaged, on colours in [0, 1]; at
            least 1e-8. Their figures use 0.01 to 0.0001.
        subsampling: factor by which the image for the fits is smaller, 1 to `radius`; the paper recommends
            a quarter of the radius.

    Returns:
        (H, W) float32; may leave the range of `score_map` a little at edges, as a linear fit does. Takes
        about 30 bytes per pixel, and 320 per pixel of the smaller image (float64 means of colours and their
        products).

    Raises:
        ShapeError: not an RGB image, or a score map of another size.
        OptionError: `radius`, `epsilon` or `subsampling` out of range.

    Example:
        >>> image = np.zeros((1, 6, 3), np.uint8)
        >>> image[:, 3:] = 255
        >>> guided_filter(image, np.array([[0, 0.2, 0.1, 0.9, 1, 0.8]]), radius=5, epsilon=1e-6).round(2)
        array([[0.1, 0.1, 0.1, 0.9, 0.9, 0.9]], dtype=float32)
    """
    check_image("image", image)
    check_array("score_map", score_map, image.shape[:2], hint="upsample it to the image first")
    radius = check_whole("radius", radius, low=1, high=1000)
    epsilon = check_number("epsilon", epsilon, low=1e-8, high=1e6)
    subsampling = check_whole("subsampling", subsampling, low=1, high=radius)
    return _Guide(image, radius, epsilon, subsampling).filtered(score_map)


class _Guide:
    """The part of the guided filter that depends only on the image, computed once for all score maps."""

    def __init__(self, image: NDArray[np.uint8], radius: int, epsilon: float, subsampling: int) -> None:
        self.image, self.radius = image, max(1, round(radius / subsampling))
        height, width = image.shape[:2]
        self.small_hw = -(-height // subsampling), -(-width // subsampling)
        # float64: variances are differences of similar numbers, and their error must stay below an epsilon of 1e-8.
        self.small = self._shrunk(image.astype(np.float32)).astype(np.float64) / 255
        self.color = _window_mean(self.small, self.radius)
        products = _window_mean(self.small[..., :, None] * self.small[..., None, :], self.radius)
        variance = products - self.color[..., :, None] * self.color[..., None, :]
        self.inverse = np.linalg.inv(variance + epsilon * np.eye(3))

    def filtered(self, score_map: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """The score map (H, W), filtered: (H, W) float32."""
        scores = self._shrunk(np.asarray(score_map, np.float64))
        level = _window_mean(scores, self.radius)
        covariance = _window_mean(self.small * scores[..., None], self.radius) - self.color * level[..., None]
        slope = np.einsum("hwij,hwj->hwi", self.inverse, covariance)
        offset = level - (slope * self.color).sum(-1)
        fit = _window_mean(np.concatenate([slope, offset[..., None]], -1), self.radius)
        if self.small_hw == self.image.shape[:2]:
            return np.asarray((fit[..., :3] * self.small).sum(-1) + fit[..., 3], np.float32)
        height, width = self.image.shape[:2]
        drawn = cv2.resize(fit.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        result = np.ascontiguousarray(drawn[..., 3], np.float32)
        for channel in range(3):
            result += drawn[..., channel] * (self.image[..., channel] * np.float32(1 / 255))
        return result

    def _shrunk(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.small_hw == values.shape[:2]:
            return values
        return cv2.resize(values, self.small_hw[::-1], interpolation=cv2.INTER_AREA)


def _window_mean(values: NDArray[Any], radius: int) -> NDArray[np.float64]:
    """Mean of (H, W, ...) values over the window around each pixel, cut at the border."""
    height, width = values.shape[:2]
    size = (2 * int(radius) + 1,) * 2
    layers = np.ascontiguousarray(values.reshape(height, width, -1), np.float64)
    total, count = (
        cv2.boxFilter(layer, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
        for layer in (layers, np.ones((height, width)))
    )
    # OpenCV drops a last axis of one.
    return np.asarray(np.reshape(total, layers.shape) / count[..., None], np.float64).reshape(values.shape)


def _affinities(image: torch.Tensor, dilations: Sequence[int]) -> torch.Tensor:
    """Weight of each neighbour of each pixel, (8 * len(dilations), H, W), adding to 1; image (3, H, W)."""
    # The 3x3 ring of each dilation counts with its centre, which makes 9 values per dilation.
    values = 9 * len(dilations)
    centre = len(dilations) * image
    mean = sum(_neighbours(image, dilations), centre) / values
    squares = sum(((n - mean).square() for n in _neighbours(image, dilations)), torch.zeros_like(image))
    spread = ((squares + len(dilations) * (image - mean).square()) / (values - 1)).sqrt()
    scale = _FLAT + _SOFTNESS * spread
    weights = image.new_empty(8 * len(dilations), *image.shape[1:])
    for weight, n in zip(weights, _neighbours(image, dilations), strict=True):
        weight.copy_((image - n).abs_().div_(scale).mean(0).neg_())
    # The softmax in place: torch's own needs a second copy.
    weights.sub_(weights.amax(0)).exp_()
    return weights.div_(weights.sum(0))


def _neighbours(maps: torch.Tensor, dilations: Sequence[int]) -> Iterator[torch.Tensor]:
    """The (C, H, W) maps shifted by each neighbour's offset, edge pixels repeated outside."""
    _, height, width = maps.shape
    for dilation in dilations:
        padded = torch.nn.functional.pad(maps[None], (dilation,) * 4, mode="replicate")[0]
        for down, across in _RING:
            top, left = dilation * (1 + down), dilation * (1 + across)
            yield padded[:, top : top + height, left : left + width]


def _channels_first(image: torch.Tensor | NDArray[Any], image_hw: tuple[int, ...]) -> torch.Tensor:
    hint = "upsample the scores to the image first"
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        check_array("image", image, (*image_hw, 3), hint=hint)
        return float32_tensor(image.transpose(2, 0, 1))
    check_array("image", image, (3, *image_hw), hint=hint)
    return float32_tensor(image)
