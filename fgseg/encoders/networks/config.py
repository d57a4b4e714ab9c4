"""The sizes in a checkpoint's config.json.

Configs on the hub disagree about `model_type`, have `auto_map` and `trust_remote_code` fields, and leave out the
defaults of transformers. Only sizes and special tokens are read; nothing in a config is imported or run.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgseg.encoders.networks.blocks import TowerConfig
from fgseg.errors import WeightsError

__all__ = ["ClipConfig", "FgClip2Config", "checked_section", "read_config"]

CLIP_VOCABULARY = 49408
CLIP_END = 49407
LEGACY_END = 2  # eos_token_id of the first CLIP configs on the hub, although their tokenizers end texts with 49407

# Values a config may leave out: the defaults of transformers' CLIPTextConfig, CLIPVisionConfig, CLIPConfig and of
# their SigLIP 2 counterparts, which FG-CLIP 2 keeps.
_VIT_B = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "intermediate_size": 3072}
_CLIP = {**_VIT_B, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_SIGLIP2 = {**_VIT_B, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_CLIP_TEXT = {
    **_CLIP,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "vocab_size": CLIP_VOCABULARY,
    "max_position_embeddings": 77,
    "eos_token_id": CLIP_END,
}
_CLIP_VISION = {**_CLIP, "image_size": 224, "patch_size": 32}
_SIGLIP2_TEXT = {**_SIGLIP2, "vocab_size": 256000, "max_position_embeddings": 64, "longtext_len": 196}
_SIGLIP2_VISION = {**_SIGLIP2, "num_patches": 256, "patch_size": 16}


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of a CLIP or FG-CLIP 1 checkpoint.

    Attributes:
        text: the text tower.
        vision: the vision tower.
        width: D, channels of the joint space.
        vocabulary: entries of the token table.
        positions: rows of the short position table, which is the limit of the short route in tokens.
        end_token: id of the token that ends a text; the text feature is read at its first occurrence.
        side: native image side in pixels.
        patch: patch side in pixels.
    """

    text: TowerConfig
    vision: TowerConfig
    width: int
    vocabulary: int
    positions: int
    end_token: int
    side: int
    patch: int

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "ClipConfig":
        """Read the sizes from the content of a config.json.

        Raises:
            WeightsError: a field that is not a number, an end token outside the vocabulary, or a patch larger than
                the image.
        """
        text = _section(config, "text_config", _CLIP_TEXT)
        vision = _section(config, "vision_config", _CLIP_VISION)
        vocabulary, end = int(text["vocab_size"]), int(text["eos_token_id"])
        if end == LEGACY_END and vocabulary == CLIP_VOCABULARY:
            end = CLIP_END
        if not 0 <= end < vocabulary:
            raise WeightsError(
                f"config.json: eos_token_id {end} is not in a vocabulary of {vocabulary} tokens; correct one of them"
            )
        side, patch = int(vision["image_size"]), int(vision["patch_size"])
        if not 1 <= patch <= side:
            raise WeightsError(f"config.json: expected a patch_size from 1 to image_size, {side}, got {patch}")
        return cls(
            text=_tower(text),
            vision=_tower(vision),
            width=int(checked_section(config, {"projection_dim": 512})["projection_dim"]),
            vocabulary=vocabulary,
            positions=int(text["max_position_embeddings"]),
            end_token=end,
            side=side,
            patch=patch,
        )


@dataclass(frozen=True)
class FgClip2Config:
    """Sizes of an FG-CLIP 2 checkpoint.

    Attributes:
        text: the text tower.
        vision: the vision tower; its width is D.
        vocabulary: entries of the token table.
        positions: tokens of the short and region routes; texts are padded to it.
        long_positions: tokens of the long route; texts are padded to it.
        patches: rows of the square position table.
        patch: patch side in pixels.
    """

    text: TowerConfig
    vision: TowerConfig
    vocabulary: int
    positions: int
    long_positions: int
    patches: int
    patch: int

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "FgClip2Config":
        """As `ClipConfig.from_dict`.

        Raises:
            WeightsError: a field that is not a number.
        """
        text = _section(config, "text_config", _SIGLIP2_TEXT)
        vision = _section(config, "vision_config", _SIGLIP2_VISION)
        return cls(
            text=_tower(text),
            vision=_tower(vision),
            vocabulary=int(text["vocab_size"]),
            positions=int(text["max_position_embeddings"]),
            long_positions=int(text["longtext_len"]),
            patches=int(vision["num_patches"]),
            patch=int(vision["patch_size"]),
        )


def read_config(path: Path) -> dict[str, Any]:
    """The content of a config.json.

    Raises:
        WeightsError: not a JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path}: expected JSON, got {error}; download the file again") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: expected a JSON object, got a {type(config).__name__}; download the file again")
    return config


def _section(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    # Old CLIP configs keep a second copy under NAME_dict, which wins in transformers too.
    merged: dict[str, Any] = {}
    for key in (name, f"{name}_dict"):
        section = config.get(key) or {}
        if not isinstance(section, dict):
            raise WeightsError(f"config.json: {key}: expected an object, got {section!r:.60}")
        merged.update(section)
    return checked_section(merged, defaults, f"{name}.")


def checked_section(section: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`section` over `defaults`; what is a number in `defaults` must be one that a size can be.

    Raises:
        WeightsError: it is not; the message names the field after `prefix`.
    """
    merged = {**defaults, **section}
    for key, default in defaults.items():
        if isinstance(default, str):
            continue
        value = merged[key]
        if not isinstance(value, (int, float)):
            raise WeightsError(f"config.json: {prefix}{key}: expected a number, got {value!r:.60}")
        minimum = 0 if isinstance(default, float) or key.endswith("token_id") else 1
        is_whole = isinstance(default, float) or value == value // 1
        if not (math.isfinite(value) and value >= minimum and is_whole):
            kind = "number" if isinstance(default, float) else "whole number"
            raise WeightsError(
                f"config.json: {prefix}{key}: expected a {kind} of at least {minimum}, got {value!r:.60}"
            )
    return merged


def _tower(section: Mapping[str, Any]) -> TowerConfig:
    return TowerConfig(
        width=int(section["hidden_size"]),
        heads=int(section["num_attention_heads"]),
        layers=int(section["num_hidden_layers"]),
        mlp_width=int(section["intermediate_size"]),
        activation=str(section["hidden_act"]),
        epsilon=float(section["layer_norm_eps"]),
    )
