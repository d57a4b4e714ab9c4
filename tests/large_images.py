"""Tiled TIFFs, bands and an encoder for the tests of large images."""

from dataclasses import dataclass

import numpy as np
import tifffile
import torch

from fgseg.large.strips import LabelRequest
from fgseg.prompts.classes import PromptClass
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.types import DenseFeatures


def noise(seed, *shape, dtype=np.uint8):
    """Random pixels in smooth blobs, so that classes have areas."""
    height, width = shape[:2]
    coarse = np.random.RandomState(seed).randint(0, 256, (-(-height // 4), -(-width // 4), *shape[2:]))
    pixels = coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width].astype(dtype)
    return pixels if dtype == np.uint8 else pixels * 257


RGB = noise(20, 60, 70, 3)


def tiff(path, pixels, *, tile=(16, 32), **options):
    """A tiled TIFF, or one in strips with tile=None."""
    tifffile.imwrite(path, pixels, tile=tile, metadata=None, **options)
    return path


def bands_of(image, heights):
    """The image in bands of these heights, again and again."""
    top, turn = 0, 0
    while top < len(image):
        height = heights[turn % len(heights)]
        yield image[top : top + height]
        top, turn = top + height, turn + 1


@dataclass
class MeanColors:
    """An encoder of the mean colour of every patch of four pixels.

    Its features do not depend on the other images in a batch, so that results can be equal to the bit.
    """

    name: str = "mean-colors"
    revision: None = None
    recipe: None = None
    logit_scale: float = 20.0
    side: int = 16

    def encode_images(self, images, *, fit):
        assert fit == "exact"
        return [DenseFeatures(self._grid(image), image.shape[:2]) for image in images]

    def _grid(self, image):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 128 - 1
        size = max(1, image.shape[0] // 4), max(1, image.shape[1] // 4)
        means = torch.nn.functional.adaptive_avg_pool2d(pixels, size)[0].permute(1, 2, 0)
        return torch.nn.functional.normalize(torch.cat([means, torch.ones(*size, 1)], dim=2), dim=2)


def request_of(seed, counts, *, rivals, threshold):
    """Random texts: `counts` words per class, and `rivals` background words."""
    class_of_word = [index for index, count in enumerate([*counts, rivals]) for _ in range(count)]
    text = torch.from_numpy(np.random.RandomState(seed).normal(size=(len(class_of_word), 4)).astype(np.float32))
    prompts = tuple(
        PromptClass(f"class{index}", tuple(f"word{index}-{k}" for k in range(n))) for index, n in enumerate(counts)
    )
    texts = PromptTexts(torch.nn.functional.normalize(text, dim=1), tuple(class_of_word), ("{}",))
    return LabelRequest(prompts, texts, threshold)
