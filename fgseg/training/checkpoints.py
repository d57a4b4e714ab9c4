"""The files of a run: checkpoints that it can go on from, its metrics, and the model that comes of it.

A checkpoint is one safetensors file with the weights, AdamW's two moments, and in its header the step and the
options. Files are written beside their place and moved there, so that a run killed at any time leaves whole ones.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fgseg._files import one_line, write_text
from fgseg.encoders.checkpoint import Checkpoint, tensor_shapes
from fgseg.encoders.loading import family_of
from fgseg.errors import OptionError, TrainingError

__all__ = [
    "METRICS",
    "SAVED",
    "Saved",
    "check_binding",
    "kept_metrics",
    "read_saved",
    "restore",
    "save_model",
    "save_run",
]

SAVED, METRICS = "checkpoint.safetensors", "metrics.jsonl"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's, as torch names them
# What stands beside weights and belongs to them; never code.
_BESIDE = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model",
    "preprocessor_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """A checkpoint's header.

    Attributes:
        step: steps done.
        binding: options, data and model that the run must keep.
        bad: records that turned out to be bad while it ran: index, where, reason.
    """

    step: int
    binding: Mapping[str, Any]
    bad: tuple[tuple[int, str, str], ...]


def save_run(out: Path, saved: Saved, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the checkpoint of a run."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{moment}.{name}": state[moment] for moment in _MOMENTS if moment in state}
    header = {"step": saved.step, "binding": dict(saved.binding), "bad": saved.bad}
    _save(out / SAVED, tensors, {"run": json.dumps(header)})


def _save(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.touch()
        mode = part.stat().st_mode
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, part, metadata=header)
        part.chmod(mode)  # safetensors' files are private to their owner
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_saved(out: Path) -> Saved | None:
    """The header of a run's checkpoint; None where there is no checkpoint yet.

    Raises:
        TrainingError: a file that is no checkpoint.
    """
    if not (out / SAVED).exists():
        return None
    try:
        with safe_open(out / SAVED, framework="pt") as file:
            header = json.loads(file.metadata()["run"])
        return Saved(header["step"], header["binding"], tuple(map(tuple, header["bad"])))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{out / SAVED}: expected a checkpoint of fgseg train, got {one_line(error)}; remove it to start anew"
        ) from error


def check_binding(saved: Saved, binding: Mapping[str, Any], out: Path) -> None:
    """Refuse to go on with other options than those a run began with.

    Raises:
        OptionError: the first that differs.
    """
    for name, value in binding.items():
        if saved.binding.get(name) != value:
            raise OptionError(
                f"{name}: expected {saved.binding.get(name)!r}, which the run in {out} began with, got {value!r}; "
                "say the same to resume it, or give another folder"
            )


def restore(out: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Fill a model and its optimizer from the checkpoint, in place.

    Raises:
        TrainingError: a tensor that is missing, or of another shape.
    """
    with safe_open(out / SAVED, framework="pt") as file:
        names = set(file.keys())
        try:
            model.load_state_dict({name: file.get_tensor(f"model.{name}") for name in model.state_dict()}, strict=True)
        except (SafetensorError, RuntimeError) as error:
            raise TrainingError(f"{out / SAVED}: is another model's ({one_line(error):.200}); remove it") from error
        for name, parameter in model.named_parameters():
            moments = {m: file.get_tensor(f"{m}.{name}") for m in _MOMENTS if f"{m}.{name}" in names}
            if moments:
                # AdamW keeps its count of steps on the CPU
                optimizer.state[parameter] = {
                    m: tensor if m == "step" else tensor.to(parameter.device) for m, tensor in moments.items()
                }


def save_model(out: Path, model: nn.Module, start: Checkpoint) -> None:
    """Write what `fgseg.load(out)` reads: float32 tensors, and config and tokenizer of the model it started from."""
    config = dict(start.config)
    if family_of(tensor_shapes(start)) == "CLIP":
        config["model_type"] = "fgclip"  # a plain CLIP no longer
    for pattern in _BESIDE:
        for path in start.folder.glob(pattern):
            shutil.copyfile(path, out / path.name)
    write_text(out / "config.json", json.dumps(config, indent=2) + "\n")
    _save(out / "model.safetensors", model.state_dict(), {"format": "pt"})


def kept_metrics(out: Path, step: int) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl up to a step; a run killed after its checkpoint has written more."""
    path = out / METRICS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # a killed run may leave half a line
    return [row for row in map(json.loads, lines) if row["step"] <= step]
