"""The recipe of the embedded model: `python -m recipes.mini.recipe --out FOLDER`.

FG-CLIP 1's architecture, a few million parameters, on scenes that are drawn while it trains: first through fixed shifts
(`recipes.mini.shifts`), then, where asked, through its own attention. What it is trained for is
`recipes.mini.objective`. Checkpoints go to FOLDER/checkpoint.pt every 200 steps; the same command goes on from the
last one.
"""

import argparse
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from fgseg._files import write_text
from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.networks.config import ClipConfig
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.errors import FgsegError, OptionError
from fgseg.scenes.composition import scene
from fgseg.scenes.vocabulary import RIVAL, words
from fgseg.training.checkpoints import METRICS, kept_metrics
from recipes.mini import shifts
from recipes.mini.batches import PATCH, SIDE, Schedule, Texts, Tokenized, loader
from recipes.mini.muon import Muon
from recipes.mini.objective import losses
from recipes.mini.towers import Seeing, seen, seen_through_shifts

__all__ = ["build_tokenizer", "train"]

log = logging.getLogger(__name__)

WIDTH = 192
CHECKPOINT_STEPS = 200
POSITIONS = "vision_model.embeddings.position_embedding.weight"

TEXT_CONFIG = {
    "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 3, "num_hidden_layers": 3,
    "max_position_embeddings": 77,
}  # fmt: skip
CONFIG = {
    "model_type": "fgclip",
    "projection_dim": WIDTH,
    "vision_config": {
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 3, "num_hidden_layers": 9,
        "image_size": SIDE, "patch_size": PATCH,
    },
}  # fmt: skip

# The threshold: the lowest in the sweep of benchmarks/results/scenes.json, on scenes of its own, at which an absent
# phrase asked for alone gets under 1 % of the pixels. The resolution: windows of the native side, the only one at which
# attention that was handed over from shifts looks where they do. What it and the refinement lose to the best on each
# data set stands in benchmarks/README.md, from benchmarks/results/peers.json.
OWN_DEFAULTS = {
    "background": [RIVAL], "templates": ["{}"], "resolution": "slide:224/224/112", "threshold": 0.6, "refine": "guided",
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
    torch.nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=(3 * PATCH**2) ** -0.5)
    return model


def _optimizers(model: FgClipModel, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    ids = {id(p) for p in inner}
    outer = [p for p in model.parameters() if p.ndim > 1 and id(p) not in ids]
    small = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": outer, "weight_decay": 0.05}, {"params": small, "weight_decay": 0.0}]
    return [
        Muon(inner, lr=rate, weight_decay=0.05),
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


def train(
    out: Path, schedule: Schedule, *, seed: int = 0, start: Path | None = None, compiled: bool = True,
    hours: float = math.inf,
) -> Path:  # fmt: skip
    """Train the embedded model and write it to `out`; goes on from `out`/checkpoint.pt where there is one.

    Args:
        out: folder for metrics.jsonl, checkpoint.pt and model/.
        schedule: steps, scenes and learning rate.
        seed: of the first weights; scenes have seeds of their own.
        start: a model's folder whose weights are the first ones instead. Where training begins with shifts, which
            need values of their own, its vision tower is taken only if it was trained through them.
        compiled: on a CPU let torch.compile fuse the vision tower: half the time a step after minutes of compiling.
        hours: the longest this run may take, with its interruptions left out: the learning rate falls by the clock
            where that is ahead of the steps.

    Returns:
        the model's folder.

    Raises:
        OptionError: no time.
    """
    limit = _in_seconds(hours)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = build_tokenizer()
    config = full_config(tokenizer)
    model = _first_model(config, schedule, start).to(device)
    optimizers = _optimizers(model, schedule.rate)
    first, spent = _resume(out, model, optimizers)
    if spent >= limit:
        return out / "model"
    ways = _ways_of_seeing(device, compiled=compiled)
    started = time.monotonic() - spent
    for step, batch in enumerate(loader(first, schedule, Texts(tokenizer)), start=first):
        seconds = time.monotonic() - started
        passed = seconds / limit
        _set_rate(optimizers, schedule.rate_at(step, done=passed))
        is_shifted = step < schedule.shifts
        if 0 < step == schedule.shifts:
            model.load_state_dict(with_attention(model).state_dict())
        model.vision_model.embeddings.position_embedding.weight.requires_grad_(not is_shifted)
        parts = _update(model, optimizers, batch, ways["shifts" if is_shifted else "attention"])
        if is_shifted:
            shifts.keep_reserved(model)
        if step % 20 == 0:
            _log(out, model, parts, {"step": step, "seconds": round(seconds)})
        is_last = step + 1 == schedule.steps or passed >= 1
        if (step + 1) % CHECKPOINT_STEPS == 0 or is_last:
            _checkpoint(out, model, optimizers, step + 1, time.monotonic() - started)
            save(with_attention(model) if is_shifted else model, tokenizer, config, out / "model")
        if is_last:
            break
    return out / "model"


def _in_seconds(hours: float) -> float:
    if not hours > 0:  # false for NaN too
        raise OptionError(f"hours: expected a number above 0, got {hours}")
    return 3600 * hours


def _set_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = rate


def _first_model(config: dict[str, object], schedule: Schedule, start: Path | None) -> FgClipModel:
    model = new_model(config)
    if schedule.shifts:
        shifts.prepare(model)
    if start:
        weights = load_file(start / "model.safetensors")
        if schedule.shifts:
            left = POSITIONS if shifts.went_through(weights) else "vision_model."
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(left)}
        model.load_state_dict(model.state_dict() | weights)
    return model


def with_attention(model: FgClipModel) -> FgClipModel:
    """A model trained through shifts as the plain one it stands for."""
    side = model.vision_model.embeddings.side * PATCH
    pictures = [scene(seed, (side, side)).image for seed in range(8)]
    pixels = torch.from_numpy(np.stack(pictures)).to(model.logit_scale.device)
    return shifts.handed_over(model, normalized_pixels(pixels))


def _ways_of_seeing(device: str, *, compiled: bool) -> dict[str, Seeing]:
    """A GPU has fused attention that is fast forth and back; a CPU has a compiler that pays."""
    if device == "cuda":
        return {"shifts": seen_through_shifts, "attention": partial(seen, through=lambda block, x: block(x))}
    ways: dict[str, Seeing] = {"shifts": seen_through_shifts, "attention": seen}
    return {name: torch.compile(see, dynamic=False) for name, see in ways.items()} if compiled else ways


def _update(
    model: FgClipModel, optimizers: Sequence[torch.optim.Optimizer], batch: Tokenized, see: Seeing
) -> dict[str, Tensor]:
    """One step of the optimizers; returns the losses before it."""
    device = model.logit_scale.device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        parts = losses(model, batch, see)
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(sum(parts.values(), torch.zeros((), device=device)))
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    with torch.no_grad():
        for scale in (model.logit_scale, model.logit_scale_finegraind, model.logit_scale_hardneg):
            scale.clamp_(0, math.log(100))  # CLIP's bound
    return parts


def _resume(out: Path, model: FgClipModel, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[int, float]:
    """Take up the checkpoint in `out`, if any; returns the next step and the seconds that were spent."""
    path = out / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location=model.logit_scale.device)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    rows = kept_metrics(out, state["step"] - 1)  # a killed run has written more than it saved
    write_text(out / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    log.info("going on from step %d", state["step"])
    return int(state["step"]), float(state["seconds"])


def _checkpoint(
    out: Path, model: FgClipModel, optimizers: Sequence[torch.optim.Optimizer], step: int, seconds: float
) -> None:
    part = out / "checkpoint.part"
    saved = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"model": model.state_dict(), "optimizers": saved, "step": step, "seconds": seconds}, part)
    part.replace(out / "checkpoint.pt")  # atomic: a killed run leaves the last whole checkpoint


def _log(out: Path, model: FgClipModel, parts: dict[str, Tensor], row: dict[str, float]) -> None:
    row = row | {name: round(value.item(), 4) for name, value in parts.items()}
    row["scale"] = round(model.logit_scale_finegraind.exp().item(), 2)
    with (out / METRICS).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shifts", type=int, default=5000, help="steps through fixed shifts")
    parser.add_argument("--attention", type=int, default=0, help="steps through the model's own attention, after them")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw scenes")
    parser.add_argument("--views", type=int, default=3, help="times each scene is shown, mirrored and moved")
    parser.add_argument("--first-seed", type=int, default=0, help="of the scenes")
    parser.add_argument(
        "--start",
        type=Path,
        help="folder of a model whose weights are the first ones (with shifts, its vision tower's if it had them too)",
    )
    parser.add_argument("--hours", type=float, default=math.inf, help="the longest the run may take")
    options = parser.parse_args()
    schedule = Schedule(
        options.shifts, options.attention, options.batch_size, options.rate, options.workers, options.views,
        options.first_seed,
    )  # fmt: skip
    try:
        train(options.out, schedule, start=options.start, hours=options.hours)
    except FgsegError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
