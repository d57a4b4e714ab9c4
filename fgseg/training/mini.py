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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from fgseg.encoders.blocks import Block
from fgseg.encoders.clip import Route
from fgseg.encoders.config import ClipConfig
from fgseg.encoders.fgclip import FgClipModel
from fgseg.training.captions import changed, long_caption, narrowed, random_phrase, short_caption
from fgseg.training.losses import info_nce, patch_choice, patch_presence
from fgseg.training.scenes import Scene, is_held_out_phrase, phrase_truth, scene
from fgseg.training.vocabulary import CLUTTER, RIVAL, SHAPES, Phrase, words

__all__ = ["PIXEL_MEAN", "PIXEL_STD", "build_tokenizer", "train"]

log = logging.getLogger(__name__)

Seeing = Callable[[FgClipModel, Tensor], tuple[Tensor, Tensor]]

SIDE, PATCH, WIDTH = 224, 8, 192
# Small pictures first, a third of the cost a step; then the native side among others: positions are interpolated.
EARLY_SIZES = ((112, 112), (96, 128), (128, 128), (128, 96))
LATE_SIZES = ((224, 224), (192, 256), (256, 192))
LATE_SHARE = 0.5  # scenes in a step of large pictures, beside one of small ones
PHRASES = 14  # an image: the full names of its things, then narrowed, changed and random ones
CHANGED = 4  # of them, beside what chance adds
FALSE = 5  # captions of each shape with one attribute changed, against which its box is held
UNSAID = 0.12  # share of things whose full name is not among them: there the rival is right
SAMPLE = 4  # pixels between the places that the per-pixel losses look at
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
NEGATIVE_WEIGHT = 2.0
WORKERS = 2  # processes that draw scenes
CHECKPOINT_STEPS = 200

TEXT_CONFIG = {
    "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 3, "num_hidden_layers": 3,
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

# The threshold: the lowest in the sweep of benchmarks/results/scenes.json at which a lone absent phrase gets under 1 %.
# The resolution and the refinement: on each data set of benchmarks/results/peers.json the best or within 1.3 points of
# it. Pamr is too, but takes far longer on large images.
OWN_DEFAULTS = {
    "background": [RIVAL], "templates": ["{}"], "resolution": "keep", "threshold": 0.6, "refine": "guided",
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
    return {**CONFIG, "text_config": text, "fgseg": OWN_DEFAULTS}


@dataclass(frozen=True)
class Batch:
    """Scenes of one size, ready for the model.

    Attributes:
        pixels: (B, H, W, 3) uint8.
        owner: (B, H/SAMPLE * W/SAMPLE) int64, index into the batch's things of the thing at each place.
        pooling: (B, K, Gh*Gw) float32, of each thing of an image the weights of the patches in its box (of a
            background the patches it owns); zero rows where an image has fewer than K.
        things: (B, K) int64, index into the batch's things, -1 where an image has fewer.
        phrases: unique phrase texts of the batch, the rival first.
        own: (B, PHRASES) int64, rows of `phrases` said about each image.
        truth: (N, B's phrases) int8, of every thing and every phrase.
        full: (N,) int64, row of `phrases` that names each thing in full.
        captions: B captions, short ones and long ones in turn.
        route: "short" or "long".
    """

    pixels: Tensor
    owner: Tensor
    pooling: Tensor
    things: Tensor
    phrases: tuple[str, ...]
    own: Tensor
    truth: Tensor
    full: Tensor
    captions: tuple[str, ...]
    route: Route


@lru_cache(maxsize=2)
def _drawn(seeds: range, image_hw: tuple[int, int]) -> tuple[Scene, ...]:
    return tuple(scene(seed, image_hw) for seed in seeds)


def make_batch(seeds: range, image_hw: tuple[int, int], *, mirrored: bool = False) -> Batch:
    """Draw the scenes of these seeds, or their mirror images, and say things about them."""
    scenes = _drawn(seeds, image_hw)
    if mirrored:
        scenes = tuple(Scene(one.image[:, ::-1], one.owners[:, ::-1], one.things) for one in scenes)
    rng = np.random.default_rng([17, seeds[0], int(mirrored)])
    is_long = bool(rng.random() < 0.5)  # by turns: half the cost of both at once
    things = [thing for drawn in scenes for thing in drawn.things]
    offsets = np.cumsum([0, *(len(drawn.things) for drawn in scenes)])
    rows: dict[Phrase, int] = {}
    own = [[rows.setdefault(phrase, len(rows)) for phrase in _said_about(rng, drawn)] for drawn in scenes]
    full = [rows.setdefault(thing.phrase, len(rows)) for thing in things]
    for shape in (thing.phrase for thing in things if thing.shape in SHAPES):
        for _ in range(FALSE):
            rows.setdefault(_trained(partial(changed, rng, shape)), len(rows))
    most = max(len(drawn.things) for drawn in scenes)
    members = [np.arange(most) + first for first in offsets[:-1]]
    return Batch(
        pixels=torch.from_numpy(np.stack([drawn.image for drawn in scenes])),
        owner=torch.from_numpy(np.stack([_sampled(rng, drawn) + k for drawn, k in zip(scenes, offsets, strict=False)])),
        pooling=torch.from_numpy(np.stack([_pooling(drawn, most) for drawn in scenes])),
        things=torch.from_numpy(
            np.stack([np.where(row < stop, row, -1) for row, stop in zip(members, offsets[1:], strict=True)])
        ),
        phrases=(RIVAL, *(phrase.text for phrase in rows)),
        own=torch.tensor(own) + 1,
        truth=torch.from_numpy(np.pad(phrase_truth(things, list(rows)), ((0, 0), (1, 0)), constant_values=-1)),
        full=torch.tensor(full) + 1,
        captions=tuple((long_caption if is_long else short_caption)(drawn) for drawn in scenes),
        route="long" if is_long else "short",
    )


def _sampled(rng: np.random.Generator, drawn: Scene) -> NDArray[np.int64]:
    """The owner at every SAMPLE-th pixel. A place lies between two pixels; which of them it takes is a throw."""
    top, left = rng.integers(SAMPLE // 2 - 1, SAMPLE // 2 + 1, 2)
    return drawn.owners[top::SAMPLE, left::SAMPLE].ravel().astype(np.int64)


def _pooling(drawn: Scene, most: int) -> NDArray[np.float32]:
    """(most, Gh*Gw): how much each patch counts in the feature of each thing."""
    height, width = drawn.owners.shape
    weights = np.zeros((most, height // PATCH, width // PATCH), np.float32)
    for index, thing in enumerate(drawn.things):
        mask = drawn.owners == index
        if thing.shape in SHAPES and mask.any():
            rows, columns = mask.any(1), mask.any(0)
            rows[rows.argmax() : len(rows) - rows[::-1].argmax()] = True
            columns[columns.argmax() : len(columns) - columns[::-1].argmax()] = True
            mask = rows[:, None] & columns
        shares = mask.reshape(height // PATCH, PATCH, width // PATCH, PATCH).mean((1, 3))
        weights[index] = shares / max(float(shares.sum()), 1e-6)
    return weights.reshape(most, -1)


def _said_about(rng: np.random.Generator, drawn: Scene) -> list[Phrase]:
    phrases = [thing.phrase for thing in drawn.things if thing.shape != CLUTTER and rng.random() >= UNSAID]
    named = [thing for thing in drawn.things if thing.shape != CLUTTER]
    for make in (narrowed, narrowed):
        phrases.append(make(rng, named[rng.integers(len(named))]))
    for _ in range(CHANGED):
        phrases.append(_trained(lambda: changed(rng, named[rng.integers(len(named))].phrase)))
    phrases += [_trained(lambda: random_phrase(rng)) for _ in range(PHRASES - len(phrases))]
    return phrases[:PHRASES]


def _trained(make: Callable[[], Phrase]) -> Phrase:
    """A phrase that is no held-out combination: said only where it is false, one would be learned to be never true."""
    while is_held_out_phrase(phrase := make()):
        pass
    return phrase


class _Stream(IterableDataset[Batch]):
    """Batches from `first` on, drawn in worker processes; batch k is the same whoever draws it."""

    def __init__(self, first: int, schedule: "Schedule") -> None:
        self.first, self.schedule = first, schedule

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:
            torch.set_num_threads(1)
        for index in range(self.first + start, self.schedule.steps, step):
            seeds, image_hw, mirrored = self.schedule.scenes(index)
            yield make_batch(seeds, image_hw, mirrored=mirrored)


@dataclass(frozen=True)
class Schedule:
    """Which scenes a step sees, and at which rate.

    Attributes:
        early: steps of small pictures.
        late: steps of large pictures, after them.
        batch_size: scenes a step of small pictures; a step of large ones takes LATE_SHARE of it.
        rate: peak learning rate.
    """

    early: int
    late: int
    batch_size: int
    rate: float

    @property
    def steps(self) -> int:
        """All steps."""
        return self.early + self.late

    def scenes(self, step: int) -> tuple[range, tuple[int, int], bool]:
        """Seeds and size of the scenes of a step, and whether they are mirrored.

        Drawing costs as much as training, so scenes are shown twice: in each four steps two lots, then both mirrored.
        """
        lot, mirrored = step // 4 * 2 + step % 2, step % 4 > 1
        is_early = step - step % 4 < self.early
        count = self.batch_size if is_early else max(1, int(self.batch_size * LATE_SHARE))
        sizes = EARLY_SIZES if is_early else LATE_SIZES
        return range(lot * self.batch_size, lot * self.batch_size + count), sizes[lot % len(sizes)], mirrored

    def rate_at(self, step: int, warmup: int = 100) -> float:
        """Linear warm-up, then a cosine to 2 % of the peak."""
        if step < warmup:
            return self.rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


class _Texts:
    """Token ids for texts, padded to the longest."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end = tokenizer.token_to_id("<end>")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        longest = max(map(len, ids))
        return torch.tensor([row + [self.end] * (longest - len(row)) for row in ids])


def losses(model: FgClipModel, batch: Batch, texts: _Texts, see: Seeing) -> dict[str, Tensor]:
    """The four losses of a batch, by name."""
    device = model.logit_scale.device
    pixels = batch.pixels.to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    dense, image = see(model, (pixels - mean) / std)
    phrase = F.normalize(model.text_features(texts(batch.phrases).to(device), route="region").float(), dim=-1)
    caption = F.normalize(model.text_features(texts(batch.captions).to(device), route=batch.route).float(), dim=-1)
    scale, region_scale = model.logit_scale.exp(), model.logit_scale_finegraind.exp()

    # bf16 keeps 8 bits of a cosine, too few for differences that a scale of 50 multiplies: float32 from here on.
    with torch.autocast(device.type, enabled=False):
        return _compared(batch, (dense, image, phrase, caption), (scale, region_scale))


def seen(model: FgClipModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Unit patch features (B, Gh*Gw, D) and unit image features (B, D), float32.

    The blocks are written out with plain softmax attention: the compiler fuses it, and its gradient takes a third of
    the time of torch's fused attention on a CPU. Tests hold both to the model's own methods.
    """
    vision = model.vision_model
    x, grid_hw = vision.embeddings(pixel_values)
    x = vision.pre_layrnorm(x)
    for block in vision.encoder.layers[:-1]:
        x = _through(block, x)
    dense = model.visual_projection(vision.patch_tokens(x, grid_hw, "value"))
    image = model.visual_projection(vision.post_layernorm(_through(vision.encoder.layers[-1], x)[:, 0]))
    return F.normalize(dense.float(), dim=-1), F.normalize(image.float(), dim=-1)


def _through(block: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(block, Block)
    attention, normed = block.self_attn, block.layer_norm1(x)
    q, k, v = (attention.split(project(normed)) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
    return block.add_mlp(x + attention.merge(weights.to(v.dtype) @ v))


def _compared(batch: Batch, features: tuple[Tensor, ...], scales: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    (dense, image, phrase, caption), (scale, region_scale) = features, scales
    owner, own, truth = (part.to(dense.device) for part in (batch.owner, batch.own, batch.truth))
    height, width = batch.pixels.shape[1:3]
    words = torch.cat([phrase[:1].expand(len(own), 1, -1), phrase[own]], 1)
    grid = (words @ dense.transpose(1, 2)).reshape(*words.shape[:2], height // PATCH, width // PATCH)
    cosine = F.interpolate(grid, scale_factor=PATCH / SAMPLE, mode="bilinear", align_corners=False)
    rival, cosine = cosine[:, 0].flatten(1), cosine[:, 1:].flatten(2).transpose(1, 2)
    place_truth = truth[owner[:, :, None], own[:, None, :]]
    return {
        "global": info_nce(image, caption, scale),
        "region": _region_loss(batch, dense, phrase, region_scale),
        "choice": patch_choice(cosine, rival, place_truth, region_scale, weight=_small_things_count(owner)),
        "presence": patch_presence(cosine, rival, place_truth, region_scale, negative_weight=NEGATIVE_WEIGHT),
    }


def _region_loss(batch: Batch, dense: Tensor, phrase: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE of every thing's box against all phrases of the batch, hard negatives among them, and the other way."""
    things, full, truth = (part.to(dense.device) for part in (batch.things, batch.full, batch.truth))
    held = batch.pooling.to(dense.device).sum(-1) > 0.5  # a thing that is hidden has no feature
    counted = held & (things >= 0)
    index = things[counted]
    pooled = F.normalize((batch.pooling.to(dense.device) @ dense)[counted], dim=-1)
    target = full[index]
    logits = scale * pooled @ phrase[1:].T
    own = F.one_hot(target - 1, logits.shape[1]).bool()
    logits = logits.masked_fill((truth[index][:, 1:] != 0) & ~own, -torch.inf)
    named = truth[index, target] == 1  # clutter is called nothing
    forth = F.cross_entropy(logits[named], target[named] - 1)
    back = info_nce(pooled[named], phrase[target[named]], scale, ignored=truth[index[named]][:, target[named]] != 0)
    return (forth + back) / 2


def _small_things_count(owner: Tensor) -> Tensor:
    """(B, N) weights: each thing counts as the root of its area, between a pixel each and a thing each."""
    area = torch.zeros(int(owner.max()) + 1, device=owner.device)
    area.index_add_(0, owner.flatten(), torch.ones(owner.numel(), device=owner.device))
    return area[owner].rsqrt()


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


def _optimizers(model: FgClipModel, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    ids = {id(p) for p in inner}
    outer = [p for p in model.parameters() if p.ndim > 1 and id(p) not in ids]
    small = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": outer, "weight_decay": 0.05}, {"params": small, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98)),
    ]


def save(model: FgClipModel, tokenizer: Tokenizer, config: dict[str, object], folder: Path) -> None:
    """Write config.json, model.safetensors (bf16, the scales float32) and tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (t if t.ndim == 0 else t.bfloat16()).detach().cpu().contiguous() for name, t in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))


def train(out: Path, schedule: Schedule, *, seed: int = 0, compiled: bool = True) -> Path:
    """Train the embedded model and write it to `out`; goes on from `out`/checkpoint.pt where there is one.

    Args:
        out: folder for metrics.jsonl, checkpoint.pt and model/.
        schedule: steps, scenes and learning rate.
        seed: of the first weights; scenes have seeds of their own, from 0 up.
        compiled: let torch.compile fuse the vision tower: half the time a step after minutes of compiling.

    Returns:
        the model's folder.
    """
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = build_tokenizer()
    config, texts = full_config(tokenizer), _Texts(tokenizer)
    model = new_model(config).to(device)
    optimizers = _optimizers(model, schedule.rate)
    first = _resume(out, model, optimizers)
    see: Seeing = torch.compile(seen, dynamic=False) if compiled else seen
    loader = DataLoader(
        _Stream(first, schedule), batch_size=None, num_workers=WORKERS, prefetch_factor=4 if WORKERS else None
    )
    started = time.monotonic()
    for step, batch in enumerate(loader, start=first):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = schedule.rate_at(step)
        parts = _update(model, optimizers, batch, texts, see)
        if step % 20 == 0:
            _log(out, model, parts, {"step": step, "seconds": round(time.monotonic() - started)})
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == schedule.steps:
            _checkpoint(out, model, optimizers, step + 1)
            save(model, tokenizer, config, out / "model")
    return out / "model"


def _update(
    model: FgClipModel, optimizers: Sequence[torch.optim.Optimizer], batch: Batch, texts: _Texts, see: Seeing
) -> dict[str, Tensor]:
    """One step of the optimizers; returns the losses before it."""
    device = model.logit_scale.device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        parts = losses(model, batch, texts, see)
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(sum(parts.values(), torch.zeros((), device=device)))
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    with torch.no_grad():
        for scale in (model.logit_scale, model.logit_scale_finegraind, model.logit_scale_hardneg):
            scale.clamp_(0, math.log(100))  # CLIP's bound
    return parts


def _resume(out: Path, model: FgClipModel, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Take up the checkpoint in `out`, if any; returns the next step."""
    path = out / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location=model.logit_scale.device)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    log.info("going on from step %d", state["step"])
    return int(state["step"])


def _checkpoint(out: Path, model: FgClipModel, optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
    part = out / "checkpoint.part"
    saved = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"model": model.state_dict(), "optimizers": saved, "step": step}, part)
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
    parser.add_argument("--early", type=int, default=2600, help="steps of small pictures")
    parser.add_argument("--late", type=int, default=800, help="steps of large pictures")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    options = parser.parse_args()
    train(options.out, Schedule(options.early, options.late, options.batch_size, options.rate))


if __name__ == "__main__":
    main()
