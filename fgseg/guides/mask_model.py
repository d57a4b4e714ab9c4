"""Segments of an image from EoMT, a mask model of transformers that needs no words and no torchvision."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._files.names import one_line
from fgseg.errors import ModelNotFoundError, WeightsError

__all__ = ["EOMT", "predicted_segments"]

EOMT = "tue-mps/coco_panoptic_eomt_large_640"
"""Hub id of EoMT-L (Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025), 1.3 GB."""


@torch.inference_mode()
def predicted_segments(image: NDArray[np.uint8], name: str, *, device: torch.device | str = "cpu") -> NDArray[np.int32]:
    """The panoptic segments of an image, in float32.

    Args:
        image: (H, W, 3) uint8 RGB.
        name: a folder with config.json, preprocessor_config.json and model.safetensors, or a hub id.
        device: where the model computes.

    Returns:
        (H, W) int32 segment numbers, -1 where there is no segment.

    Raises:
        ModelNotFoundError: there is no such model, or the hub cannot be reached.
        WeightsError: the model has no safetensors, or lacks tensors.
    """
    model, processor = _loaded(name, str(device))
    inputs = processor(images=image, return_tensors="pt")
    outputs = model(pixel_values=inputs["pixel_values"].to(device))
    (found,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[image.shape[:2]])
    return np.asarray(found["segmentation"].cpu().numpy(), np.int32)


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> tuple[Any, Any]:
    """The model and its image processor. A copy in the hub's cache is used without asking the hub."""
    try:
        try:
            processor, loaded = _read(name, local=True)
        except OSError:
            processor, loaded = _read(name, local=False)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"region_map: expected the folder or the hub id of an EoMT, got {name!r:.80} ({one_line(error)}); "
            "give eomt:FOLDER, or another region map"
        ) from error
    model, info = loaded
    if lacking := sorted(info["missing_keys"] or info["mismatched_keys"]):
        raise WeightsError(f"{name}: expected the tensors of an EoMT, got none for {lacking[0]}; download it again")
    return model.eval().requires_grad_(False).to(device), processor


def _read(name: str, *, local: bool) -> tuple[Any, Any]:
    """The image processor, and the model with what is known of its tensors; `local` never uses the network."""
    from transformers import EomtForUniversalSegmentation  # takes seconds
    from transformers.models.eomt import EomtImageProcessorPil

    processor = EomtImageProcessorPil.from_pretrained(name, local_files_only=local)
    return processor, EomtForUniversalSegmentation.from_pretrained(
        name, use_safetensors=True, output_loading_info=True, dtype=torch.float32, local_files_only=local
    )
