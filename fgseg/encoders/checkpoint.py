"""Finds the files of a checkpoint, and reads its tensors strictly.

Only safetensors and JSON are read: no pickles, no code from the hub. The names of the tensors decide which model a
folder holds, since configs on the hub disagree about `model_type`.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fgseg._checks import describe
from fgseg.encoders.networks.config import read_config
from fgseg.errors import ModelNotFoundError, OptionError, WeightsError

__all__ = ["MODELS", "Checkpoint", "HubModel", "check_tensors", "find_checkpoint", "load_tensors", "tensor_shapes"]

SINGLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
# The files that are fetched from the hub: tensors, sizes and tokenizer; no code and no pickles.
_WANTED = (
    "*.safetensors",
    INDEX,
    CONFIG,
    "tokenizer*.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
# Buffers that old transformers versions saved; they hold 0, 1, 2, ... and not weights.
_BUFFER = ".position_ids"


@dataclass(frozen=True)
class HubModel:
    """A published model that fgseg knows by a short name.

    Attributes:
        repository: hub id.
        revision: commit that is loaded by default; None follows the main branch.
        about: one line about the model.
    """

    repository: str
    revision: str | None
    about: str


MODELS: Mapping[str, HubModel | None] = {
    "mini": None,  # in the package
    "fg-clip-base": HubModel(
        "qihoo360/fg-clip-base", "454d76372c2cf5eb48fa0d871fd0534481484d97", "FG-CLIP 1, ViT-B/16 at 224"
    ),
    "fg-clip-large": HubModel(
        "qihoo360/fg-clip-large", "5a8f0f23b5a06dc92310e907599b2a0c2d58fe6f", "FG-CLIP 1, ViT-L/14 at 336"
    ),
    "fg-clip2-base": HubModel("qihoo360/fg-clip2-base", None, "FG-CLIP 2, patch 16, any aspect ratio"),
    "fg-clip2-large": HubModel("qihoo360/fg-clip2-large", None, "FG-CLIP 2, patch 16, any aspect ratio"),
    "fg-clip2-so400m": HubModel("qihoo360/fg-clip2-so400m", None, "FG-CLIP 2, patch 16, any aspect ratio"),
}


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model.

    Attributes:
        name: the name, folder or hub id that the user gave.
        folder: folder of config.json, the tensors and the tokenizer.
        tensor_files: the safetensors files, in order.
        revision: hub commit of the files; None for a local folder and the embedded model.
    """

    name: str
    folder: Path
    tensor_files: tuple[Path, ...]
    revision: str | None

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return read_config(self.folder / CONFIG)

    def digest(self) -> str:
        """SHA-256 over the tensor files, in hex; takes about one second per gigabyte."""
        total = hashlib.sha256()
        for path in self.tensor_files:
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def size_bytes(self) -> int:
        """Bytes of the tensor files that are still there."""
        return sum(path.stat().st_size for path in self.tensor_files if path.is_file())

    def config_files(self) -> list[Path]:
        """The files that say how tensors and texts are read: config.json and all that a tokenizer may read."""
        suffixes = {".json", ".txt", ".model"}
        return sorted(path for path in self.folder.iterdir() if path.suffix in suffixes and path.is_file())

    def config_digest(self) -> str:
        """SHA-256 over names and contents of `config_files`."""
        total = hashlib.sha256()
        for path in self.config_files():
            total.update(path.name.encode("utf-8", errors="surrogatepass") + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()


def find_checkpoint(
    name: str | os.PathLike[str], *, revision: str | None = None, offline: bool | None = None
) -> Checkpoint:
    """The files of a model, fetched from the hub if they are not on this machine.

    Args:
        name: a name in `MODELS`, a folder, or a hub id `owner/name`.
        revision: hub commit, tag or branch; None takes the pinned commit.
        offline: True never uses the network; None follows HF_HUB_OFFLINE.

    Raises:
        ModelNotFoundError: an unknown name, a folder without weights, or a hub that cannot be reached.
        OptionError: a revision of a model that is not from the hub.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ModelNotFoundError(f"model: expected a name or a folder, got {describe(name)}")
    name = os.fsdecode(name)
    if name == "mini":
        _refuse_revision(name, revision)
        return _from_folder("mini", Path(str(files("fgseg") / "assets" / "mini")), None)
    folder, is_folder, is_file = Path(name), False, False
    with contextlib.suppress(RuntimeError, OSError):  # "~" of an unknown user, or too long a name for a file
        folder = folder.expanduser()
        is_folder, is_file = folder.is_dir(), folder.is_file()
    if name and is_folder:  # "" would be the working directory
        _refuse_revision(name, revision)
        return _from_folder(name, folder, None)
    if is_file:
        raise ModelNotFoundError(f"model {name!r}: expected a folder with {CONFIG} and weights, got a file")
    known = MODELS.get(name)
    if known is None and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise ModelNotFoundError(
            f"model {name!r:.200}: expected one of {', '.join(MODELS)}, a folder that exists, or a hub id owner/name"
        )
    repository = known.repository if known else name
    wanted = revision or (known.revision if known else None)
    folder = _from_hub(repository, wanted, offline=offline)
    return _from_folder(name, folder, folder.name)  # in the hub's cache, the commit names the folder of a snapshot


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise OptionError(f"revision: {name!r} is not from the hub and has no revision {revision!r}; leave it out")


def _from_folder(name: str, folder: Path, revision: str | None) -> Checkpoint:
    if not (folder / CONFIG).is_file():
        raise ModelNotFoundError(f"{folder}: expected a model folder with {CONFIG} and {SINGLE}, found no {CONFIG}")
    if (folder / SINGLE).is_file():  # takes precedence over an index, as in transformers
        tensor_files: tuple[Path, ...] = (folder / SINGLE,)
    elif (folder / INDEX).is_file():
        tensor_files = _sharded(folder)
    else:
        pickles = [path.name for path in folder.glob("*.bin")] + [path.name for path in folder.glob("*.pt*")]
        hint = f"; {pickles[0]} is a pickle, which can run code: convert it to safetensors" if pickles else ""
        raise ModelNotFoundError(f"{folder}: expected weights in {SINGLE} or {INDEX}, found neither{hint}")
    return Checkpoint(name, folder, tensor_files, revision)


def _sharded(folder: Path) -> tuple[Path, ...]:
    try:
        weight_map = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"{folder / INDEX}: expected a JSON object with a weight_map, got {error!r}; download it again"
        ) from error
    outside = [name for name in names if Path(name).name != name]
    missing = [name for name in names if not (folder / name).is_file()]
    if outside:
        raise WeightsError(f"{folder / INDEX}: weight_map names {outside[0]!r}, which is not a file of this folder")
    if missing:
        raise ModelNotFoundError(f"{folder}: {INDEX} names {missing[0]}, which is missing; download the folder again")
    return tuple(folder / name for name in names)


def _from_hub(repository: str, revision: str | None, *, offline: bool | None) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, and not needed for local models

    if offline is None:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    try:
        with _without_retry_logs():
            return Path(
                snapshot_download(repository, revision=revision, allow_patterns=list(_WANTED), local_files_only=offline)
            )
    except Exception as error:  # the client's HTTP library raises errors that share no base with OSError
        at = f"{repository} at {revision}" if revision else repository
        raise ModelNotFoundError(f"model {at}: {_hub_failure(error, revision, offline=offline)}") from error


def _hub_failure(error: Exception, revision: str | None, *, offline: bool) -> str:
    from huggingface_hub import errors

    failures = {
        errors.GatedRepoError: "its owner asks for a login; accept its terms on the hub, then `hf auth login`",
        errors.RevisionNotFoundError: f"the hub has no revision {revision!r}; leave revision out, or correct it",
        errors.RepositoryNotFoundError: f"the hub has no model of this name; known here: {', '.join(MODELS)}",
        errors.HFValidationError: f"not a hub id ({error})",
    }
    for kind, failure in failures.items():
        if isinstance(error, kind):
            return failure
    reason = "" if isinstance(error, errors.LocalEntryNotFoundError) else f" ({type(error).__name__}: {error!s:.200})"
    cause = (
        "it is not in the cache, and offline mode is on"
        if offline
        else f"the hub is out of reach and it is not in the cache{reason}"
    )
    return f"{cause}; download it once with a network, give a folder, or use the embedded model 'mini'"


@contextlib.contextmanager
def _without_retry_logs() -> Iterator[None]:
    """Keep the hub's client from logging every retry, since the error says what went wrong."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def tensor_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors, from the headers of the files.

    Raises:
        WeightsError: a file that is not safetensors, or is truncated.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in checkpoint.tensor_files:
        with _opened(path) as tensors:
            for name in tensors.keys():  # no dict: iterating it is not supported
                shapes[name] = tuple(tensors.get_slice(name).get_shape())
    return {name: shape for name, shape in shapes.items() if not name.endswith(_BUFFER)}


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: expected a safetensors file, got {error}; download it again") from error


def check_tensors(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Compare the names and shapes of a checkpoint's tensors with those of a model; reads no values.

    Raises:
        WeightsError: a missing, extra or misshaped tensor; the message names the first one.
    """
    found, wanted = tensor_shapes(checkpoint), _shapes(model)
    family = type(model).__name__.removesuffix("Model")
    where = checkpoint.folder
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    misshaped = [name for name in wanted if name in found and _without_unit(found[name]) != _without_unit(wanted[name])]
    if missing:
        raise WeightsError(f"{where}: read as {family}, but tensor {missing[0]!r} is missing ({len(missing)} in all)")
    if extra:
        raise WeightsError(f"{where}: read as {family}, which has no tensor {extra[0]!r} ({len(extra)} such in all)")
    if misshaped:
        name = misshaped[0]
        raise WeightsError(
            f"{where}: tensor {name!r}: expected shape {wanted[name]} from {CONFIG}, got {found[name]} "
            f"({len(misshaped)} such in all)"
        )


def load_tensors(model: nn.Module, checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device) -> None:
    """Fill a model on the meta device with a checkpoint's tensors, in place.

    Scalars stay float32, since a temperature in bfloat16 would be off by up to 0.4 %.

    Raises:
        WeightsError: as `check_tensors`.
    """
    check_tensors(model, checkpoint)
    wanted = _shapes(model)
    state: dict[str, Tensor] = {}
    for path in checkpoint.tensor_files:
        with _opened(path) as tensors:
            for name in tensors.keys():  # no dict: iterating it is not supported
                if name in wanted:
                    tensor = tensors.get_tensor(name).reshape(wanted[name])
                    state[name] = tensor.to(device, torch.float32 if tensor.numel() == 1 else dtype)
    model.load_state_dict(state, strict=True, assign=True)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _without_unit(shape: tuple[int, ...]) -> tuple[int, ...]:
    return () if shape == (1,) else shape  # in some checkpoints a scalar has an axis, in others it has none
