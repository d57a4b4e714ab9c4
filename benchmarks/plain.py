"""The straightforward implementations that `speed.py` and `peers.py` compare with, as users would write them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from fgseg.encoders.checkpoint import Checkpoint

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
CAPTION_LENGTH = 77


class QuickStart:
    """The quick start of FG-CLIP's model card on transformers' CLIP (float32): tower, then last block again."""

    def __init__(self, folder: Path) -> None:
        config = Checkpoint("", folder, (), None).config
        self.model = CLIPModel(CLIPConfig(**config)).eval()
        tensors = load_file(folder / "model.safetensors")
        if lacking := self.model.load_state_dict(tensors, strict=False).missing_keys:
            raise SystemExit(f"{folder.name}: expected the tensors of CLIP, found no {', '.join(lacking[:3])}")
        self.end = config["text_config"]["eos_token_id"]
        self.side = config["vision_config"]["image_size"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_padding(length=CAPTION_LENGTH, pad_id=self.end)

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> torch.Tensor:
        """(T, D) unit features of captions, which are padded to 77 tokens."""
        ids = torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(list(captions))])
        hidden = self.model.text_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        ends = (ids == self.end).int().argmax(1)
        return F.normalize(self.model.text_projection(hidden[torch.arange(len(ids)), ends]), dim=-1)

    @torch.no_grad()
    def dense(self, picture: Image.Image) -> torch.Tensor:
        """(Gh, Gw, D) unit features of a picture resized to the native square."""
        pixels = np.asarray(picture.resize((self.side, self.side), Image.Resampling.BICUBIC), np.float32) / 255
        pixel_values = torch.from_numpy((pixels - MEAN) / STD).permute(2, 0, 1)[None]
        vision = self.model.vision_model
        x = vision(pixel_values=pixel_values, output_hidden_states=True).hidden_states[-2]
        block = vision.encoder.layers[-1]
        x = x + block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(x)))
        x = x + block.mlp(block.layer_norm2(x))
        dense = F.normalize(self.model.visual_projection(vision.post_layernorm(x[0, 1:])), dim=-1)
        side = round(len(dense) ** 0.5)
        return dense.reshape(side, side, -1)

    def heatmap(self, image: np.ndarray, caption: str) -> np.ndarray:
        """(H, W) cosine of every pixel with one caption."""
        picture = Image.fromarray(image)
        similarity = (self.dense(picture) @ self.texts([caption]).T)[..., 0]
        large = F.interpolate(similarity[None, None], image.shape[:2], mode="bilinear")
        return large[0, 0].numpy()

    def label_map(self, image: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """(H, W) index of the best caption of every pixel; all score maps are in memory."""
        scores = (self.dense(Image.fromarray(image)) @ self.texts(captions).T).permute(2, 0, 1)
        return upsample_all_then_argmax(scores, image.shape[:2])[0].numpy()

    def class_by_class(self, classes: Sequence[str], templates: Sequence[str]) -> torch.Tensor:
        """(T, D) unit features: the mean over the templates of each class, one class at a time."""
        rows = []
        for name in classes:
            mean = self.texts([template.format(name) for template in templates]).mean(0)
            rows.append(F.normalize(mean, dim=-1))
        return torch.stack(rows)

    def window_by_window(
        self, image: np.ndarray, text: torch.Tensor, *, short_side: int, crop: int, stride: int
    ) -> np.ndarray:
        """(H, W) label of every pixel from overlapping windows, one window at a time; all score maps are in memory."""
        height, width = image.shape[:2]
        scale = short_side / min(height, width)
        rows, columns = int(height * scale + 0.5), int(width * scale + 0.5)
        canvas = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        scores = torch.zeros(len(text), rows, columns)
        coverage = torch.zeros(rows, columns)
        for i in range(max(rows - crop + stride - 1, 0) // stride + 1):
            for j in range(max(columns - crop + stride - 1, 0) // stride + 1):
                top, left = max(min(i * stride, rows - crop), 0), max(min(j * stride, columns - crop), 0)
                window = canvas[top : top + crop, left : left + crop]
                similarity = (self.dense(Image.fromarray(window)) @ text.T).permute(2, 0, 1)
                large = F.interpolate(similarity[None], window.shape[:2], mode="bilinear")[0]
                scores[:, top : top + crop, left : left + crop] += large
                coverage[top : top + crop, left : left + crop] += 1
        return upsample_all_then_argmax(scores / coverage, (height, width))[0].numpy()


def upsample_all_then_argmax(scores: torch.Tensor, image_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and best scores (H, W) of (T, h, w) scores, with every map in memory."""
    maps = F.interpolate(scores[None], image_hw, mode="bilinear", align_corners=False)[0]
    best, labels = maps.max(0)
    return labels, best
