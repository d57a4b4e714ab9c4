"""Finding a checkpoint's files, and reading its tensors strictly.

Only safetensors and JSON are read: no pickles, no code from the hub. Which model a folder holds is decided by its
tensors' names, since hub configs disagree about `model_type`.
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
# What is fetched from the hub: tensors, sizes and tokenizer; never code or pickles.
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
# Buffers that old transformers versions saved; they hold 0, 1, 2, ... and no weights.
_BUFFERS = ("position_ids",)


@dataclass(frozen=True)
class HubModel:
    """A published model that has a short name here.

    Attributes:
        repository: hub id.
        revision: commit that is loaded unless another is asked for; None follows the main branch.
        about: a line for people.
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
    "fg-clip2-base": HubModel("qihoo360/fg-clip2-base", None, "FG-CLIP 2, patch 16, any aspect"),
    "fg-clip2-large": HubModel("qihoo360/fg-clip2-large", None, "FG-CLIP 2, patch 16, any aspect"),
    "fg-clip2-so400m": HubModel("qihoo360/fg-clip2-so400m", None, "FG-CLIP 2, patch 16, any aspect"),
}


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model.

    Attributes:
        name: what the user called it.
        folder: where config.json, the tensors and the tokenizer lie.
        tensor_files: the safetensors files, in order.
        revision: hub commit the files are from; None for a local folder and the embedded model.
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
        """SHA-256 over the tensor files, the identity of the weights; about a second a gigabyte."""
        total = hashlib.sha256()
        for path in self.tensor_files:
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def size_bytes(self) -> int:
        """Bytes of the tensor files that are still there."""
        return sum(path.stat().st_size for path in self.tensor_files if path.is_file())

    def config_files(self) -> list[Path]:
        """What says how the tensors are read: config.json and whatever a tokenizer may read."""
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
    """Where a model's files are; fetched from the hub when they are not here yet.

    Args:
        name: a name of MODELS, a folder, or a hub id `owner/name`.
        revision: hub commit, tag or branch; None takes the pinned one.
        offline: True never asks the network; None does what HF_HUB_OFFLINE says.

    Raises:
        ModelNotFoundError: unknown name, a folder without weights, or a hub out of reach.
        OptionError: a revision of something that is not from the hub.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ModelNotFoundError(f"model: expected a name or a folder, got {describe(name)}")
    name = os.fsdecode(name)
    if name == "mini":
        _refuse_revision(name, revision)
        return _from_folder("mini", Path(str(files("fgseg") / "assets" / "mini")), None)
    folder = Path(name)
    with contextlib.suppress(RuntimeError):  # ~nobody: no such user, so no such folder
        folder = folder.expanduser()
    is_folder = is_file = False
    with contextlib.suppress(OSError):  # a name that is longer than any file's
        is_folder, is_file = folder.is_dir(), folder.is_file()
    if name and is_folder:  # "" would be the folder one is in
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
    return _from_folder(name, folder, folder.name)  # the hub's cache names a snapshot's folder by its commit


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise OptionError(f"revision: {name!r} is not from the hub and has no revision {revision!r}; leave it out")


def _from_folder(name: str, folder: Path, revision: str | None) -> Checkpoint:
    if not (folder / CONFIG).is_file():
        raise ModelNotFoundError(f"{folder}: expected a model folder with {CONFIG} and {SINGLE}, found no {CONFIG}")
    if (folder / SINGLE).is_file():  # before an index, as transformers does
        tensor_files: tuple[Path, ...] = (folder / SINGLE,)
    elif (folder / INDEX).is_file():
        tensor_files = _sharded(folder)
    else:
        pickles = [path.name for path in folder.glob("*.bin")] + [path.name for path in folder.glob("*.pt*")]
        why = f"; {pickles[0]} is a pickle, which can run code: convert it to safetensors" if pickles else ""
        raise ModelNotFoundError(f"{folder}: expected weights in {SINGLE} or {INDEX}, found neither{why}")
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
        raise ModelNotFoundError(f"{folder}: {INDEX} names {missing[0]}, which is not there; download the folder again")
    return tuple(folder / name for name in names)


def _from_hub(repository: str, revision: str | None, *, offline: bool | None) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, needed only here
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if offline is None:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    at = f"{repository} at {revision}" if revision else repository
    try:
        with _one_voice():
            return Path(
                snapshot_download(repository, revision=revision, allow_patterns=list(_WANTED), local_files_only=offline)
            )
    except GatedRepoError as error:
        raise ModelNotFoundError(
            f"model {at}: its owner asks for a login; accept its terms on the hub, then `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(
            f"model {repository}: the hub has no revision {revision!r}; leave revision out, or correct it"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"model {repository}: the hub has none of this name; known here: {', '.join(MODELS)}"
        ) from error
    except HFValidationError as error:
        raise ModelNotFoundError(f"model {repository!r}: not a hub id ({error})") from error
    except Exception as error:  # the hub's client changes its HTTP library, whose errors share no base with OSError
        reason = "" if isinstance(error, LocalEntryNotFoundError) else f" ({type(error).__name__}: {error!s:.200})"
        why = (
            "it is not in the cache, and offline was asked for"
            if offline
            else f"the hub is out of reach and it is not in the cache{reason}"
        )
        raise ModelNotFoundError(
            f"model {at}: {why}; download it once with a network, give a folder, or use the embedded model 'mini'"
        ) from error


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Keep the hub's client from logging every retry: what went wrong is told once, by the error."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def tensor_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors, from the files' headers.

    Raises:
        WeightsError: a file that is not safetensors, or is cut short.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in checkpoint.tensor_files:
        with _opened(path) as tensors:
            for name in tensors.keys():  # no dict: iterating it is not supported
                shapes[name] = tuple(tensors.get_slice(name).get_shape())
    return {name: shape for name, shape in shapes.items() if name.rsplit(".", 1)[-1] not in _BUFFERS}


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: expected a safetensors file, got {error}; download it again") from error


def check_tensors(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Hold a checkpoint's tensors, unread, to those of a model: every one there, in its shape, and nothing else.

    Raises:
        WeightsError: the first missing, extra or misshaped tensor, by name.
    """
    found, wanted = (
        tensor_shapes(checkpoint),
        {name: tuple(t.shape) for name, t in model.state_dict().items()},
    )
    family = type(model).__name__.removesuffix("Model")
    where = checkpoint.folder
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    misshaped = [name for name in wanted if name in found and _shape(found[name]) != _shape(wanted[name])]
    if missing:
        raise WeightsError(f"{where}: taken for {family}, but tensor {missing[0]!r} is missing ({len(missing)} in all)")
    if extra:
        raise WeightsError(f"{where}: taken for {family}, which has no tensor {extra[0]!r} ({len(extra)} such in all)")
    if misshaped:
        name = misshaped[0]
        raise WeightsError(
            f"{where}: tensor {name!r}: expected shape {wanted[name]} from {CONFIG}, got {found[name]} "
            f"({len(misshaped)} such in all)"
        )


def load_tensors(model: nn.Module, checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device) -> None:
    """Fill a model made on the meta device with a checkpoint's tensors, in place.

    Scalars stay float32: a temperature in bf16 would be off by up to 0.4 %.

    Raises:
        WeightsError: what `check_tensors` refuses.
    """
    check_tensors(model, checkpoint)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for path in checkpoint.tensor_files:
        with _opened(path) as tensors:
            for name in tensors.keys():  # no dict: iterating it is not supported
                if name in wanted:
                    tensor = tensors.get_tensor(name).reshape(wanted[name])
                    state[name] = tensor.to(device, torch.float32 if tensor.numel() == 1 else dtype)
    model.load_state_dict(state, strict=True, assign=True)


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return () if shape == (1,) else shape  # checkpoints disagree whether a scalar has an axis
