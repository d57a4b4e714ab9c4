"""The embedded model and its training.

The model has FG-CLIP 1's architecture and a few million parameters. It is trained on scenes that are drawn during
training, first with fixed shifts (`recipes.mini.shifts`) and then, optionally, with its own attention. The objective is
`recipes.mini.objective`. A checkpoint is written every 200 steps, and an interrupted run is resumed from it.
"""

import json
import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from fgseg._files.writers import write_text
from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.networks.config import ClipConfig
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.errors import OptionError
from fgseg.scenes.composition import scene
from fgseg.scenes.vocabulary import RIVAL, words
from fgseg.training import checkpoints
from recipes.mini import shifts
from recipes.mini.batches import PATCH, SIDE, Schedule, Tokenized, loader
from recipes.mini.muon import Muon
from recipes.mini.objective import losses
from recipes.mini.towers import VisionTower, attention_features, shift_features

__all__ = ["build_tokenizer", "full_config", "new_model", "save", "train"]

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

# The threshold is the lowest one of the sweep in benchmarks/results/scenes.json, on separate scenes, at which a single
# absent phrase gets less than 1 % of the pixels. The resolution is windows of the native side, the only one at which
# attention written from shifts attends to the offsets of the shifts. benchmarks/README.md compares both and the
# refinement with the best settings for each data set (benchmarks/results/peers.json).
OWN_DEFAULTS = {
    "background": [RIVAL], "templates": ["{}"], "resolution": "slide:224/224/112", "threshold": 0.6, "refine": "guided",
}  # fmt: skip


def build_tokenizer() -> Tokenizer:
    """A tokenizer with one token per word. An unknown word becomes [UNK], which the encoder refuses."""
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
    """CONFIG with the vocabulary of the tokenizer and the model's default settings."""
    vocabulary = {"vocab_size": tokenizer.get_vocab_size(), "eos_token_id": tokenizer.token_to_id("<end>")}
    return {**CONFIG, "text_config": TEXT_CONFIG | vocabulary, "fgseg": OWN_DEFAULTS}


def new_model(config: dict[str, object]) -> FgClipModel:
    """A model with random weights: normal of deviation 0.02, with smaller weights at the end of each block."""
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
    """Muon for the matrices inside the blocks, and AdamW for the rest."""
    inner = {name: p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name}
    outer = [p for name, p in model.named_parameters() if p.ndim > 1 and name not in inner]
    small = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": outer, "weight_decay": 0.05}, {"params": small, "weight_decay": 0.0}]
    return [Muon(inner.values(), lr=rate, weight_decay=0.05), torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]


def save(model: FgClipModel, tokenizer: Tokenizer, config: dict[str, object], folder: Path) -> None:
    """Write config.json, model.safetensors (bf16, with the scales in float32) and tokenizer.json."""
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    tensors = {name: t if t.ndim == 0 else t.bfloat16() for name, t in model.state_dict().items()}
    checkpoints.write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))


def train(
    out: Path, schedule: Schedule, *, seed: int = 0, initial_model: Path | None = None, compiled: bool = True,
    hours: float = math.inf,
) -> Path:  # fmt: skip
    """Train the embedded model. A checkpoint in `out` is resumed.

    Args:
        out: folder for metrics.jsonl, checkpoint.safetensors and model/.
        schedule: steps, scenes and learning rate.
        seed: of the random weights; scenes have seeds of their own.
        initial_model: folder of a model whose weights the run begins with; None for random weights. If the run begins
            with shifts, the weights of the vision tower are used only if they were trained with shifts.
        compiled: on a CPU, compile the vision tower. This takes minutes, and then half the time per step.
        hours: time limit of the run, without interruptions. The learning rate decays with the time if that is ahead of
            the steps.

    Returns:
        the folder of the model.

    Raises:
        OptionError: `hours` is not above 0.
        TrainingError: the checkpoint in `out` is damaged or of another model.
    """
    limit = _in_seconds(hours)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = build_tokenizer()
    config = full_config(tokenizer)
    model = _initialised(config, schedule, initial_model).to(device)
    optimizers = _optimizers(model, schedule.rate)
    first, spent = _resume(out, model, optimizers)
    if spent >= limit:
        return out / "model"
    towers = _vision_towers(device, compiled=compiled)
    started = time.monotonic() - spent
    for step, batch in enumerate(loader(first, schedule, tokenizer), start=first):
        seconds = time.monotonic() - started
        passed = seconds / limit
        _set_rate(optimizers, schedule.rate_at(step, done=passed))
        is_shifted = step < schedule.shifts
        if 0 < step == schedule.shifts:
            model.load_state_dict(_plain_model(model).state_dict())
        model.vision_model.embeddings.position_embedding.weight.requires_grad_(not is_shifted)
        values = _update(model, optimizers, batch, towers["shifts" if is_shifted else "attention"])
        if is_shifted:
            shifts.reset_reserved(model)
        if step % 20 == 0:
            _log(out, model, values, {"step": step, "seconds": round(seconds)})
        is_last = step + 1 == schedule.steps or passed >= 1
        if (step + 1) % CHECKPOINT_STEPS == 0 or is_last:
            header = {"step": step + 1, "seconds": time.monotonic() - started}
            checkpoints.save_checkpoint(out, header, model, optimizers)
            save(_plain_model(model) if is_shifted else model, tokenizer, config, out / "model")
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


def _initialised(config: dict[str, object], schedule: Schedule, initial_model: Path | None) -> FgClipModel:
    model = new_model(config)
    if schedule.shifts:
        shifts.initialise(model)
    if initial_model:
        weights = load_file(initial_model / "model.safetensors")
        if schedule.shifts:
            unused = POSITIONS if shifts.are_shift_weights(weights) else "vision_model."
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(unused)}
        model.load_state_dict(model.state_dict() | weights)
    return model


def _plain_model(model: FgClipModel) -> FgClipModel:
    """The FG-CLIP with attention that is equivalent to a model trained with shifts."""
    side = model.vision_model.embeddings.side * PATCH
    pictures = [scene(seed, (side, side)).image for seed in range(8)]
    pixels = torch.from_numpy(np.stack(pictures)).to(model.logit_scale.device)
    return shifts.to_attention(model, normalized_pixels(pixels))


def _vision_towers(device: str, *, compiled: bool) -> dict[str, VisionTower]:
    """The fastest implementations: torch's fused attention on a GPU, and compiled softmax attention on a CPU."""
    if device == "cuda":
        fused = partial(attention_features, run_block=lambda block, x: block(x))
        return {"shifts": shift_features, "attention": fused}
    towers: dict[str, VisionTower] = {"shifts": shift_features, "attention": attention_features}
    return {name: torch.compile(tower, dynamic=False) for name, tower in towers.items()} if compiled else towers


def _update(
    model: FgClipModel, optimizers: Sequence[torch.optim.Optimizer], batch: Tokenized, tower: VisionTower
) -> dict[str, Tensor]:
    """Perform a step of the optimizers; returns the losses before it."""
    device = model.logit_scale.device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        values = losses(model, batch, tower)
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(sum(values.values(), torch.zeros((), device=device)))
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    with torch.no_grad():
        for scale in (model.logit_scale, model.logit_scale_finegraind, model.logit_scale_hardneg):
            scale.clamp_(0, math.log(100))  # the bound of CLIP
    return values


def _resume(out: Path, model: FgClipModel, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[int, float]:
    """Restore the checkpoint in `out`, if any; returns the next step and the seconds of training so far."""
    header = checkpoints.read_header(out, ("step", "seconds"))
    if header is None:
        return 0, 0.0
    checkpoints.restore(out, model, optimizers)
    checkpoints.write_metrics(out, checkpoints.kept_metrics(out, header["step"] - 1))
    log.info("resuming from step %d", header["step"])
    return header["step"], header["seconds"]


def _log(out: Path, model: FgClipModel, values: dict[str, Tensor], row: dict[str, float]) -> None:
    rounded = {name: round(value.item(), 4) for name, value in values.items()}
    checkpoints.append_metrics(out, row | rounded | {"scale": round(model.logit_scale_finegraind.exp().item(), 2)})
