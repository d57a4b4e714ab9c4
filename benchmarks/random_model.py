"""Makes a model folder of the size of a published FG-CLIP or FG-CLIP 2 with random weights, for timing only.

The tokenizer of an FG-CLIP is a byte-pair tokenizer with CLIP's 49,408 entries. It encodes each of the given words as
one token, as CLIP's own tokenizer does for common words, so that texts have realistic lengths. FG-CLIP 2 pads all texts
to one length, so its tokenizer has only the given words.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from fgseg.encoders.networks.config import ClipConfig, FgClip2Config
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.encoders.networks.fgclip2 import FgClip2Model

VOCABULARY = 49408
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Sizes:
    """The entries of config.json in which the published sizes differ."""

    vision_width: int
    vision_layers: int
    vision_heads: int
    side: int
    patch: int
    text_width: int
    text_heads: int
    width: int

    def config(self) -> dict:
        """The content of a config.json."""
        text = {
            "hidden_size": self.text_width, "intermediate_size": 4 * self.text_width, "num_hidden_layers": 12,
            "num_attention_heads": self.text_heads, "vocab_size": VOCABULARY, "max_position_embeddings": 77,
            "eos_token_id": VOCABULARY - 1, "bos_token_id": VOCABULARY - 2,
        }  # fmt: skip
        vision = {
            "hidden_size": self.vision_width, "intermediate_size": 4 * self.vision_width,
            "num_hidden_layers": self.vision_layers, "num_attention_heads": self.vision_heads,
            "image_size": self.side, "patch_size": self.patch,
        }  # fmt: skip
        return {"model_type": "clip", "projection_dim": self.width, "text_config": text, "vision_config": vision}


SIZES = {
    "base": Sizes(768, 12, 12, 224, 16, 512, 8, 512),
    "large": Sizes(1024, 24, 16, 336, 14, 768, 12, 768),
}


FG_CLIP_2_TOWERS = {"base": (768, 12, 12, 3072), "large": (1024, 24, 16, 4096), "so400m": (1152, 27, 16, 4304)}
"""Width, layers, heads and width of the MLP, which are the same for images and texts."""


def make_model(folder: Path, words: Iterable[str], *, size: str | Sizes = "base", seed: int = 0) -> Path:
    """Write config.json, model.safetensors and tokenizer.json; equal arguments give equal bytes.

    Args:
        folder: the folder to write, which is made if needed.
        words: words that the tokenizer encodes as one token.
        size: "base", "large", or other sizes.
        seed: seed of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = (SIZES[size] if isinstance(size, str) else size).config()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(random_tensors(config, seed), folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(words)), encoding="utf-8")
    return folder


def make_fg_clip_2(folder: Path, words: Iterable[str], *, size: str = "base", seed: int = 0) -> Path:
    """As `make_model`, for a size of `FG_CLIP_2_TOWERS`."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    tower = dict(zip(keys, FG_CLIP_2_TOWERS[size], strict=True))
    config = {"model_type": "fgclip2", "text_config": tower, "vision_config": tower}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(random_tensors(config, seed), folder / "model.safetensors")
    _word_tokenizer(words).save(str(folder / "tokenizer.json"))
    return folder


def _word_tokenizer(words: Iterable[str]) -> Tokenizer:
    """One token per word, and SigLIP 2's end token after each text."""
    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
    vocabulary |= {word: 3 + index for index, word in enumerate(sorted({*words, *map(chr, range(33, 127))}))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return backend


def random_tensors(config: dict, seed: int) -> dict[str, torch.Tensor]:
    """Weights that give activations of realistic size: standard deviation 1 / sqrt(inputs), norms 1, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        is_second = config["model_type"] == "fgclip2"
        model = (
            FgClip2Model(FgClip2Config.from_dict(config)) if is_second else FgClipModel(ClipConfig.from_dict(config))
        )
    return {name: _random(name, tensor.shape, generator) for name, tensor in model.state_dict().items()}


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if name.startswith("logit_scale"):
        return torch.tensor(math.log(1 / 0.01))
    if "norm" in name or "layrnorm" in name:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    if name.endswith("bias"):
        return torch.zeros(shape)
    scale = 0.02 if "embedding" in name and len(shape) < 4 else 1 / math.sqrt(math.prod(shape[1:]) or 1)
    return scale * torch.randn(shape, generator=generator)


def tokenizer(words: Iterable[str]) -> dict:
    """The content of a tokenizer.json in CLIP's layout: byte pairs, lower case, and an end-of-word suffix."""
    backend = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=1,
        show_progress=False,
    )
    backend.train_from_iterator(sorted({*words, *map(chr, range(33, 127))}), trainer)
    content = json.loads(backend.to_str())
    return _filled_up(content)


def _filled_up(content: dict) -> dict:
    """The tokenizer with unused entries up to CLIP's size and the two special tokens last, as in CLIP's own file."""
    vocabulary = content["model"]["vocab"]
    for index in range(len(vocabulary), VOCABULARY - 2):
        vocabulary[f"<unused {index}>"] = index
    specials = {START: VOCABULARY - 2, END: VOCABULARY - 1}
    vocabulary.update(specials)
    content["added_tokens"] = [
        {"id": id_, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for token, id_ in specials.items()
    ]  # fmt: skip
    backend = Tokenizer.from_str(json.dumps(content))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=list(specials.items())
    )
    return json.loads(backend.to_str())
