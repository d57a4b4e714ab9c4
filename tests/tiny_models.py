"""Model folders for tests: the golden checkpoints, and copies of them with a tokenizer or with changes."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from fgseg.encoders.loading import load_encoder
from fgseg.guides.dino import DinoConfig, DinoModel

GOLDEN = Path(__file__).parent / "data" / "golden"
CLIP, FG_CLIP, FG_CLIP_14, FG_CLIP_2 = "clip_a", "fgclip1_a", "fgclip1_b", "fgclip2_a"
WORDS = ("red", "green", "blue", "cup", "saucer", "a", "photo", "of", "the")
SPECIAL = {CLIP: (598, 599), FG_CLIP: (49406, 49407), FG_CLIP_2: (2, 1)}
"""Ids of the start and the end token of each model."""
IMAGE = np.random.RandomState(40).randint(0, 256, (40, 56, 3), dtype=np.uint8)


@cache
def golden_encoder(name, dtype="float32"):
    """A golden checkpoint through the real loader."""
    return load_encoder(str(GOLDEN / name), device="cpu", dtype=dtype)


@cache
def golden_tensors(name, file="golden"):
    return load_file(GOLDEN / name / f"{file}.safetensors")


def model_tensors(name):
    """A golden checkpoint's own tensors, for a test to change."""
    return load_file(GOLDEN / name / "model.safetensors")


def model_config(name):
    """A golden checkpoint's own config, for a test to change."""
    return json.loads((GOLDEN / name / "config.json").read_text(encoding="utf-8"))


def saved_model(folder, tensors, config):
    """Write a model folder and return its path as text."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


def word_tokenizer(name, words=WORDS):
    """A closed vocabulary with the special tokens where the model has them."""
    start, end = SPECIAL[name]
    vocabulary = {"<start>": start, "<end>": end, "<unknown>": 5}
    vocabulary |= {word: 10 + index for index, word in enumerate(words)}
    if name == FG_CLIP_2:
        vocabulary["<pad>"] = 0
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # FG-CLIP 2's texts have no start token
    single = "$A <end>" if name == FG_CLIP_2 else "<start> $A <end>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("<start>", start), ("<end>", end)]
    )
    return tokenizer


def with_tokenizer(folder, name, words=WORDS):
    """A golden checkpoint with `word_tokenizer` beside it; returns its path as text."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "model.safetensors"):
        (folder / file).symlink_to(GOLDEN / name / file)
    word_tokenizer(name, words).save(str(folder / "tokenizer.json"))
    return str(folder)


def loaded(folder, **options):
    """The encoder of a folder, in float32 on the CPU."""
    return load_encoder(str(folder), device="cpu", dtype="float32", **options)


def assert_loads_as_the_golden(folder, name=CLIP, **options):
    """The folder's encoder gives the golden model's features; returns the encoder."""
    encoder = loaded(folder, **options)
    expected = golden_encoder(name).encode_images([IMAGE])[0].grid
    # not to the bit, since the layout of tensors in the file decides which kernels run
    np.testing.assert_allclose(encoder.encode_images([IMAGE])[0].grid, expected, atol=1e-5)
    ids = torch.full((1, encoder.model.limit("region")), 3)
    ids[:, -1] = getattr(encoder.model.config, "end_token", 3)
    with torch.inference_mode():
        expected = golden_encoder(name).model.text_features(ids)
        np.testing.assert_allclose(encoder.model.text_features(ids), expected, atol=1e-5)
    return encoder


def tiny_guide(folder):
    """A folder with a random DINO of patch 8; returns its path as text."""
    config = {
        "model_type": "vit", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2,
        "intermediate_size": 32, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    model = DinoModel(DinoConfig.from_dict(config, "DINO"))
    random = torch.Generator().manual_seed(11)
    tensors = {name: 0.3 * torch.randn(value.shape, generator=random) for name, value in model.state_dict().items()}
    return saved_model(folder, tensors, config)
