"""The files of a run: its checkpoint, its metrics, and the model.

A checkpoint is one safetensors file. It holds the weights and the optimizers' states, and its header holds the step and
the options. Files are written next to their place and moved there, so an interrupted run leaves no partial file.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fgseg._files.names import one_line
from fgseg._files.writers import append_bytes, replacing_path, write_bytes, write_text
from fgseg.encoders.checkpoint import Checkpoint, tensor_shapes
from fgseg.encoders.loading import family_of
from fgseg.errors import OptionError, TrainingError

__all__ = [
    "CHECKPOINT",
    "METRICS",
    "append_metrics",
    "check_binding",
    "kept_metrics",
    "read_header",
    "restore",
    "save_checkpoint",
    "save_model",
    "write_metrics",
    "write_tensors",
]

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
# The files beside the weights that belong to a model; never code.
_MODEL_FILES = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model",
    "preprocessor_config.json",
)  # fmt: skip


def save_checkpoint(
    out: Path, header: Mapping[str, Any], model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Write the checkpoint of a run.

    Args:
        out: folder of the run.
        header: values that `read_header` returns.
        model: its weights are saved.
        optimizers: their states are saved.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            tensors |= {f"{key}.{name}": tensor for key, tensor in optimizer.state.get(parameter, {}).items()}
    write_tensors(out / CHECKPOINT, tensors, {"run": json.dumps(header)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, replacing the old one only when the new one is complete.

    Raises:
        OutputError: the file cannot be written.
    """
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(cpu, temporary, metadata=metadata)
        except SafetensorError as error:
            raise _system_error(error) from error
        temporary.chmod(mode)  # safetensors makes files that only their owner can read


def _system_error(error: SafetensorError) -> OSError:
    """What the system reported to safetensors, which gives its number in the message alone."""
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))


def read_header(out: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """The header of a run's checkpoint; None if there is no checkpoint yet.

    Args:
        out: folder of the run.
        keys: values that the header must hold.

    Raises:
        TrainingError: the file is not a checkpoint, or lacks a value.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["run"])
        return {key: header[key] for key in keys}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path}: expected a checkpoint of this training, got {one_line(error)}; remove the file to begin a new run"
        ) from error


def check_binding(saved: Mapping[str, Any], binding: Mapping[str, Any], out: Path) -> None:
    """Refuse options that differ from those of the run that is resumed.

    Args:
        saved: the binding of the checkpoint.
        binding: the binding of the resumed run.
        out: folder of the run.

    Raises:
        OptionError: names the first option that differs.
    """
    for name, value in binding.items():
        if saved.get(name) != value:
            raise OptionError(
                f"{name}: expected {saved.get(name)!r} as in the run in {out}, got {value!r}; "
                "give the same value to resume it, or give another folder"
            )


def restore(out: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Load the checkpoint into a model and its optimizers, in place.

    Raises:
        TrainingError: a tensor is missing or has another shape.
    """
    path = out / CHECKPOINT
    tensors = load_file(path)
    try:
        model.load_state_dict({key.removeprefix("model."): t for key, t in tensors.items() if key.startswith("model.")})
    except RuntimeError as error:
        raise TrainingError(f"{path}: belongs to another model ({one_line(error):.200}); remove it") from error
    parameters = dict(model.named_parameters())
    optimizer_of = {
        p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]
    }
    for key, tensor in tensors.items():
        kind, _, name = key.partition(".")
        if kind != "model":
            parameter = parameters[name]
            on_device = tensor if kind == "step" else tensor.to(parameter.device)  # AdamW counts steps on the CPU
            optimizer_of[parameter].state[parameter][kind] = on_device


def save_model(out: Path, model: nn.Module, initial: Checkpoint) -> None:
    """Write the model for `fgseg.load`: float32 weights, with the configuration and tokenizer of the initial model."""
    config = dict(initial.config)
    if family_of(tensor_shapes(initial)) == "CLIP":
        config["model_type"] = "fgclip"  # training has made an FG-CLIP of it
    for pattern in _MODEL_FILES:
        for path in initial.folder.glob(pattern):
            write_bytes(out / path.name, path.read_bytes())
    write_text(out / "config.json", json.dumps(config, indent=2) + "\n")
    write_tensors(out / "model.safetensors", model.state_dict(), {"format": "pt"})


def kept_metrics(out: Path, step: int) -> list[dict[str, Any]]:
    """The rows of the metrics file up to a step. A run that was killed may have written rows after its checkpoint."""
    path = out / METRICS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last line may be incomplete
    return [row for row in map(json.loads, lines) if row["step"] <= step]


def write_metrics(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the metrics file, one row per line."""
    write_text(out / METRICS, "".join(json.dumps(row) + "\n" for row in rows))


def append_metrics(out: Path, row: Mapping[str, Any]) -> None:
    """Add a row to the metrics file."""
    append_bytes(out / METRICS, (json.dumps(row) + "\n").encode())
