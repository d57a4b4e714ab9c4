"""The recipe of the embedded model: `python -m fgseg.training.mini --out FOLDER`.

FG-CLIP 1's architecture, a few million parameters, on scenes that are drawn while it trains. Four losses: FG-CLIP's
global contrast (short and long captions) and region contrast, and per patch the choice among the image's own phrases
and the presence of right and wrong ones. Checkpoints go to FOLDER/checkpoint.pt every 200 steps; the same command
goes on from the last one.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from fgseg.encoders.clip import Route
from fgseg.encoders.config import ClipConfig
from fgseg.encoders.fgclip import FgClipModel
from fgseg.training.captions import changed, long_caption, narrowed, random_phrase, short_caption
from fgseg.training.losses import info_nce, patch_choice, patch_presence
from fgseg.training.scenes import Scene, Thing, phrase_truth, scene
from fgseg.training.vocabulary import RIVAL, Phrase, words

__all__ = ["PIXEL_MEAN", "PIXEL_STD", "build_tokenizer", "train"]

log = logging.getLogger(__name__)

SIDE, PATCH, WIDTH = 128, 8, 192
# Small pictures first, half the cost a step; then the native side among others, so that interpolated positions work.
EARLY_SIZES = ((96, 96), (80, 112), (112, 80))
LATE_SIZES = ((128, 128), (128, 128), (96, 176), (176, 96), (160, 160), (128, 128))
EARLY = 0.6  # share of the steps
PHRASES = 12  # an image: the full names of its things, then narrowed, changed and random ones
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
OWNED = 0.6  # share of a patch one thing must own for the patch to be taught
NEGATIVE_WEIGHT = 4.0
WORKERS = 2  # processes that draw scenes
CHECKPOINT_STEPS = 200

TEXT_CONFIG = {
    "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 3, "num_hidden_layers": 4,
    "max_position_embeddings": 77,
}  # fmt: skip
CONFIG = {
    "model_type": "fgclip",
    "projection_dim": WIDTH,
    "vision_config": {
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 3, "num_hidden_layers": 6,
        "image_size": SIDE, "patch_size": PATCH,
    },
}  # fmt: skip


def build_tokenizer() -> Tokenizer:
    """One token a word; a word it does not know becomes [UNK], which the encoder refuses."""
    vocabulary = {token: index for index, token in enumerate(("[UNK]", "<start>", ",", ".", *words(), "<end>"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    start, end = vocabulary["<start>"], vocabulary["<end>"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", start), ("<end>", end)]
    )
    return tokenizer


def full_config(tokenizer: Tokenizer) -> dict[str, object]:
    """CONFIG with the tokenizer's sizes, and the defaults fgseg reads from it."""
    text = {
        **TEXT_CONFIG,
        "vocab_size": tokenizer.get_vocab_size(),
        "eos_token_id": tokenizer.token_to_id("<end>"),
    }
    return {**CONFIG, "text_config": text, "fgseg": {"background": [RIVAL], "templates": ["{}"]}}


@dataclass(frozen=True)
class Batch:
    """Scenes of one size, ready for the model.

    Attributes:
        pixels: (B, H, W, 3) uint8.
        owner: (B, Gh*Gw) int64, index into the batch's things of the thing that owns a patch, -1 where none does.
        phrases: unique phrase texts of the batch, the rival first.
        own: (B, PHRASES) int64, rows of `phrases` said about each image.
        truth: (N, B's phrases) int8, of every thing and every phrase.
        full: (N,) int64, row of `phrases` that names each thing in full.
        captions: B captions, short ones and long ones in turn.
        route: "short" or "long".
    """

    pixels: Tensor
    owner: Tensor
    phrases: tuple[str, ...]
    own: Tensor
    truth: Tensor
    full: Tensor
    captions: tuple[str, ...]
    route: Route


def make_batch(seeds: Sequence[int], image_hw: tuple[int, int]) -> Batch:
    """Draw the scenes of these seeds and say things about them."""
    scenes = [scene(seed, image_hw) for seed in seeds]
    is_long = bool(seeds[0] // len(seeds) % 2)  # turn and turn about: half the cost of both at once
    rng = np.random.default_rng([17, *seeds[:1]])
    things: list[Thing] = []
    owners, said = [], []
    for drawn in scenes:
        owners.append(_patch_owner(drawn, len(things)))
        things += drawn.things
        said.append(_said_about(rng, drawn))
    rows: dict[Phrase, int] = {}
    own = [[rows.setdefault(phrase, len(rows)) for phrase in image] for image in said]
    full = [rows.setdefault(thing.phrase, len(rows)) for thing in things]
    return Batch(
        pixels=torch.from_numpy(np.stack([drawn.image for drawn in scenes])),
        owner=torch.from_numpy(np.stack(owners)),
        phrases=(RIVAL, *(phrase.text for phrase in rows)),
        own=torch.tensor(own) + 1,
        truth=torch.from_numpy(np.pad(phrase_truth(things, list(rows)), ((0, 0), (1, 0)), constant_values=-1)),
        full=torch.tensor(full) + 1,
        captions=tuple((long_caption if is_long else short_caption)(drawn) for drawn in scenes),
        route="long" if is_long else "short",
    )


def _patch_owner(drawn: Scene, offset: int) -> np.ndarray:
    """(Gh*Gw,) int64: the thing that owns OWNED of the patch, counted from `offset`, or -1."""
    height, width = drawn.owners.shape
    patches = (
        drawn.owners.reshape(height // PATCH, PATCH, width // PATCH, PATCH).swapaxes(1, 2).reshape(-1, PATCH * PATCH)
    )
    shares = (patches[:, :, None] == np.arange(len(drawn.things))).mean(1)
    return np.where(shares.max(1) >= OWNED, shares.argmax(1) + offset, -1)


def _said_about(rng: np.random.Generator, drawn: Scene) -> list[Phrase]:
    phrases = [thing.phrase for thing in drawn.things]
    for make in (narrowed, narrowed):
        phrases.append(make(rng, drawn.things[rng.integers(len(drawn.things))]))
    phrases += [changed(rng, drawn.things[rng.integers(len(drawn.things))].phrase) for _ in range(2)]
    phrases += [random_phrase(rng) for _ in range(PHRASES - len(phrases))]
    return phrases[:PHRASES]


class _Stream(IterableDataset[Batch]):
    """Batches from `first` on, drawn in worker processes; batch k is the same whoever draws it."""

    def __init__(self, first: int, last: int, batch_size: int) -> None:
        self.first, self.last, self.batch_size = first, last, batch_size

    def _size(self, index: int) -> tuple[int, int]:
        sizes = EARLY_SIZES if index < EARLY * self.last else LATE_SIZES
        return sizes[index % len(sizes)]

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:
            torch.set_num_threads(1)
        for index in range(self.first + start, self.last, step):
            yield make_batch(range(index * self.batch_size, (index + 1) * self.batch_size), self._size(index))


class _Texts:
    """Token ids for texts, padded to the longest."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end = tokenizer.token_to_id("<end>")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        longest = max(map(len, ids))
        return torch.tensor([row + [self.end] * (longest - len(row)) for row in ids])


def losses(model: FgClipModel, batch: Batch, texts: _Texts) -> dict[str, Tensor]:
    """The four losses of a batch, by name."""
    device = model.logit_scale.device
    pixels = batch.pixels.to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    hidden, grid_hw = model.vision_model.before_last((pixels - mean) / std)
    dense = F.normalize(
        model.visual_projection(model.vision_model.patch_tokens(hidden, grid_hw, "value")).float(), dim=-1
    )
    image = F.normalize(model.visual_projection(model.vision_model.global_token(hidden)).float(), dim=-1)
    phrase = F.normalize(model.text_features(texts(batch.phrases).to(device), route="region").float(), dim=-1)
    caption = F.normalize(model.text_features(texts(batch.captions).to(device), route=batch.route).float(), dim=-1)
    scale, region_scale = model.logit_scale.exp(), model.logit_scale_finegraind.exp()

    # bf16 keeps 8 bits of a cosine, too few for differences that a scale of 50 multiplies: float32 from here on.
    with torch.autocast(device.type, enabled=False):
        return _compared(batch, (dense, image, phrase, caption), (scale, region_scale))


def _compared(batch: Batch, features: tuple[Tensor, ...], scales: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    (dense, image, phrase, caption), (scale, region_scale) = features, scales
    device = dense.device
    owner, own, truth, full = (part.to(device) for part in (batch.owner, batch.own, batch.truth, batch.full))
    patch_truth = truth[owner.clamp(min=0)[:, :, None], own[:, None, :]].masked_fill(owner[:, :, None] < 0, -1)
    cosine = dense @ phrase[own].transpose(1, 2)
    pooled, seen = _pooled(dense, owner, len(full))
    same = truth[seen][:, full[seen]] != 0
    return {
        "global": info_nce(image, caption, scale),
        "region": info_nce(pooled, phrase[full[seen]], region_scale, ignored=same),
        "choice": patch_choice(cosine, patch_truth, region_scale),
        "presence": patch_presence(
            cosine, dense @ phrase[0], patch_truth, region_scale, negative_weight=NEGATIVE_WEIGHT
        ),
    }


def _pooled(dense: Tensor, owner: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Unit mean feature of each thing's patches, for things that own one; and those things' indices."""
    rows, index = dense.flatten(0, 1), owner.flatten()
    total = torch.zeros(count, dense.shape[-1], device=dense.device).index_add(0, index[index >= 0], rows[index >= 0])
    seen = torch.bincount(index[index >= 0], minlength=count).nonzero()[:, 0]
    return F.normalize(total[seen], dim=-1), seen


def new_model(config: dict[str, object]) -> FgClipModel:
    """Fresh weights: CLIP's initialisation in its plain form, normal of 0.02 and residual outputs scaled down."""
    model = FgClipModel(ClipConfig.from_dict(config))
    depth = (2 * model.config.vision.layers) ** -0.5
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
        if parameter.ndim > 1 or name.endswith("class_embedding"):
            torch.nn.init.normal_(
                parameter, std=0.02 * (depth if name.endswith(("out_proj.weight", "fc2.weight")) else 1)
            )
    for projection in (model.text_projection, model.text_filip_projection, model.visual_projection):
        torch.nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
    for embeddings in (model.vision_model.embeddings.patch_embedding,):
        torch.nn.init.normal_(embeddings.weight, std=(3 * PATCH**2) ** -0.5)
    return model


def _optimizer(model: FgClipModel, rate: float) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def _rate(step: int, steps: int, warmup: int = 200) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def save(model: FgClipModel, tokenizer: Tokenizer, config: dict[str, object], folder: Path) -> None:
    """Write config.json, model.safetensors (bf16, the scales float32) and tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (t if t.ndim == 0 else t.bfloat16()).detach().cpu().contiguous() for name, t in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))


def train(out: Path, *, images: int, batch_size: int, rate: float, seed: int = 0) -> Path:
    """Train the embedded model and write it to `out`; goes on from `out`/checkpoint.pt where there is one.

    Args:
        out: folder for metrics.jsonl, checkpoint.pt and model/.
        images: scenes to draw in all; with `batch_size` it fixes the number of steps and the schedule.
        batch_size: scenes a step.
        rate: peak learning rate of AdamW, after 200 steps of warm-up; a cosine takes it to 2 % of that.
        seed: of the first weights; scenes have seeds of their own, 0 to `images` - 1.

    Returns:
        the model's folder.
    """
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = build_tokenizer()
    config, texts, steps = full_config(tokenizer), _Texts(tokenizer), images // batch_size
    model = new_model(config).to(device)
    optimizer = _optimizer(model, rate)
    first = _resume(out, model, optimizer)
    prefetch = 2 if WORKERS else None
    stream = _Stream(first, steps, batch_size)
    loader = DataLoader(stream, batch_size=None, num_workers=WORKERS, prefetch_factor=prefetch)
    started = time.monotonic()
    for step, batch in enumerate(loader, start=first):
        for group in optimizer.param_groups:
            group["lr"] = rate * _rate(step, steps)
        parts = _update(model, optimizer, batch, texts)
        if step % 20 == 0:
            _log(out, model, parts, {"step": step, "seconds": round(time.monotonic() - started)})
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == steps:
            _checkpoint(out, model, optimizer, step + 1)
            save(model, tokenizer, config, out / "model")
    return out / "model"


def _update(model: FgClipModel, optimizer: torch.optim.Optimizer, batch: Batch, texts: _Texts) -> dict[str, Tensor]:
    """One step of the optimizer; returns the losses before it."""
    device = model.logit_scale.device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        parts = losses(model, batch, texts)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(sum(parts.values(), torch.zeros((), device=device)))
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        for scale in (model.logit_scale, model.logit_scale_finegraind, model.logit_scale_hardneg):
            scale.clamp_(0, math.log(100))  # CLIP's bound
    return parts


def _resume(out: Path, model: FgClipModel, optimizer: torch.optim.Optimizer) -> int:
    """Take up the checkpoint in `out`, if any; returns the next step."""
    path = out / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location=model.logit_scale.device)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("going on from step %d", state["step"])
    return int(state["step"])


def _checkpoint(out: Path, model: FgClipModel, optimizer: torch.optim.Optimizer, step: int) -> None:
    part = out / "checkpoint.part"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part)
    part.replace(out / "checkpoint.pt")  # atomic: a killed run leaves the last whole checkpoint


def _log(out: Path, model: FgClipModel, parts: dict[str, Tensor], row: dict[str, float]) -> None:
    row = row | {name: round(value.item(), 4) for name, value in parts.items()}
    row["scale"] = round(model.logit_scale_finegraind.exp().item(), 2)
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    options = parser.parse_args()
    train(options.out, images=options.images, batch_size=options.batch_size, rate=options.rate)


if __name__ == "__main__":
    main()
