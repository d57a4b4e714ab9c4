"""Finds the files of a checkpoint, and reads its tensors strictly.

Only safetensors and JSON are read: no pickles, no code from the hub. The names of the tensors decide which model a
folder holds, since configs on the hub disagree about `model_type`.
"""

import contextlib
import hashlib
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
from fgseg.encoders.base import Progress
from fgseg.encoders.file_records import damage, file_digest, unlike
from fgseg.encoders.hub import (
    CONFIG,
    INDEX,
    MAIN,
    SINGLE,
    HubModel,
    ModelKind,
    cached_snapshot,
    damaged_lists,
    fetch_model,
    has_tensors,
    is_commit,
    is_complete,
    shards,
    storage_folder,
)
from fgseg.encoders.networks.config import read_config
from fgseg.errors import ModelNotFoundError, OptionError, WeightsError

__all__ = [
    "MODELS",
    "Checkpoint",
    "check_tensors",
    "damaged_files",
    "find_checkpoint",
    "load_tensors",
    "tensor_shapes",
    "verified_checkpoint",
]

# Buffers that old transformers versions saved; they hold 0, 1, 2, ... and not weights.
_BUFFER = ".position_ids"
_MINI_SHA256 = "e49d299fc2a393efdee243156ac202ab6aa60c27483f10b6fb15d8a30f6549de"  # of the embedded model's tensors

log = logging.getLogger("fgseg")


_ANY, _LARGE = "FG-CLIP 2, patch 16, any aspect ratio", "several GB"
MODELS: Mapping[str, HubModel | None] = {
    "mini": None,  # in the package
    "fg-clip-base": HubModel(
        "qihoo360/fg-clip-base", "454d76372c2cf5eb48fa0d871fd0534481484d97", "FG-CLIP 1, ViT-B/16 at 224", "601 MB"
    ),
    "fg-clip-large": HubModel(
        "qihoo360/fg-clip-large", "5a8f0f23b5a06dc92310e907599b2a0c2d58fe6f", "FG-CLIP 1, ViT-L/14 at 336", "1.7 GB"
    ),
    "fg-clip2-base": HubModel("qihoo360/fg-clip2-base", "430fbc8a912c86fd4de601381b6245a0edab22f0", _ANY, "1.5 GB"),
    "fg-clip2-large": HubModel("qihoo360/fg-clip2-large", "4d1d5dc35c716902f07c172dbfc23b82a7bc6bf3", _ANY, _LARGE),
    "fg-clip2-so400m": HubModel("qihoo360/fg-clip2-so400m", "d57d30fe94a107dd6a2610eb4e9a135004d823a4", _ANY, _LARGE),
}


def _check_towers(config: Mapping[str, Any]) -> None:
    """Refuse the config.json of a model that is not of CLIP's kind.

    Raises:
        WeightsError: it describes no pair of towers.
    """
    if not any(config.get(key) for key in ("text_config", "vision_config", "text_config_dict", "vision_config_dict")):
        kind = config.get("model_type") or "unknown"
        raise WeightsError(
            f"model: expected CLIP or FG-CLIP, got a model of type {kind!r}, whose config.json has no vision_config; "
            "`fgseg models` lists models that fgseg knows"
        )


_ENCODERS = ModelKind(
    "model", "CLIP", MODELS, _check_towers, has_tokenizer=True, naming="with --revision refs/pr/NUMBER"
)


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
        """SHA-256 over the digests of the tensor files, in hex; only files that have changed are read."""
        total = hashlib.sha256()
        for path in self.tensor_files:
            total.update(bytes.fromhex(file_digest(path)))
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
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
    kind: ModelKind = _ENCODERS,
) -> Checkpoint:
    """The files of a model, fetched from the hub if they are not on this machine.

    Args:
        name: a name in `MODELS` or of another kind, a folder, or a hub id `owner/name`.
        revision: hub commit, tag or branch; None takes the pinned commit, or the copy in the cache of a model without
            one. Only a branch or tag that is named is looked up again once it is in the cache.
        offline: True never uses the network; None follows HF_HUB_OFFLINE.
        progress: shows downloads; None shows the bars of the hub's client.
        kind: which models the name may stand for.

    Raises:
        ModelNotFoundError: an unknown name, a folder without weights, or a hub that cannot be reached.
        WeightsError: a model of another kind, or a damaged file that cannot be fetched again.
        OptionError: a revision of a model that is not from the hub.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ModelNotFoundError(f"{kind.noun}: expected a name or a folder, got {describe(name)}")
    name = os.fsdecode(name)
    if name in kind.known and kind.known[name] is None:
        _refuse_revision(name, revision)
        return _from_folder(name, Path(str(files("fgseg") / "assets" / name)), None)
    folder, is_folder, is_file = Path(name), False, False
    with contextlib.suppress(RuntimeError, OSError):  # "~" of an unknown user, or too long a name for a file
        folder = folder.expanduser()
        is_folder, is_file = folder.is_dir(), folder.is_file()
    if name and is_folder:  # "" would be the working directory
        _refuse_revision(name, revision)
        return _from_folder(name, folder, None)
    if is_file:
        raise ModelNotFoundError(f"{kind.noun} {name!r}: expected a folder with {CONFIG} and weights, got a file")
    if name not in kind.known and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise ModelNotFoundError(
            f"{kind.noun} {name!r:.200}: expected one of {', '.join(kind.known)}, a folder that exists, or a hub id "
            "owner/name"
        )
    folder = _from_hub(kind, name, revision, offline=_is_offline(offline), progress=progress)
    return _from_folder(name, folder, folder.name)  # in the hub's cache, the commit names the folder of a snapshot


def verified_checkpoint(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
    kind: ModelKind = _ENCODERS,
) -> Checkpoint:
    """As `find_checkpoint`, with the content of the files checked; a damaged file of the hub is fetched again.

    Raises:
        WeightsError: a damaged file that cannot be fetched again. Other errors as `find_checkpoint`.
    """
    checkpoint = find_checkpoint(name, revision=revision, offline=offline, progress=progress, kind=kind)
    found = damaged_files(checkpoint, progress=progress)
    if found and checkpoint.revision and not _is_offline(offline):
        for sentence in found.values():
            log.warning("%s; it is fetched again", sentence)
        repository = kind.repository(checkpoint.name)
        fetch_model(repository, checkpoint.revision, kind=kind, damaged=found, progress=progress)
        if found := damaged_files(checkpoint, progress=progress):
            first, *_ = found.values()
            raise WeightsError(f"{first}, also after it was fetched again; run it again later, or give a folder")
    if found:
        first, *_ = found.values()
        raise WeightsError(f"{first}{_remedy(checkpoint, kind)}")
    return checkpoint


def damaged_files(checkpoint: Checkpoint, *, again: bool = False, progress: Progress | None = None) -> dict[str, str]:
    """Names of damaged files, each with a sentence.

    Args:
        checkpoint: the files. In a folder of the user's own only the tensors are checked.
        again: read files too that have not changed since they were checked.
        progress: shows which file is read.
    """
    tokenizer = checkpoint.folder / "tokenizer.json"
    paths = [*checkpoint.tensor_files, *([tokenizer] if checkpoint.revision and tokenizer.exists() else [])]
    found = {}
    for path in paths:
        if progress:
            progress(f"checking {path.name}", 0, 1)
        with contextlib.suppress(OSError):  # its reader reports a file that cannot be read
            if sentence := _damage(checkpoint, path, again=again):
                found[path.name] = sentence
        if progress:
            progress(f"checking {path.name}", 1, 1)
    return found


def _damage(checkpoint: Checkpoint, path: Path, *, again: bool) -> str | None:
    if checkpoint.name == "mini":  # so small that it needs no record
        wrong = unlike(path, file_digest(path), _MINI_SHA256)
        return wrong and f"{wrong}; install fgseg again: pip install --force-reinstall --no-deps fgseg"
    return damage(path, again=again)


def _remedy(checkpoint: Checkpoint, kind: ModelKind) -> str:
    if checkpoint.revision is None:
        return ""
    folder = storage_folder(kind.repository(checkpoint.name))
    return f"; offline mode is on, so remove the folder {folder} and load it once with a network"


def _is_offline(offline: bool | None) -> bool:
    if offline is None:
        return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return offline


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
    names = shards(folder / INDEX)
    outside = [name for name in names if Path(name).name != name]
    missing = [name for name in names if not (folder / name).is_file()]
    if outside:
        raise WeightsError(f"{folder / INDEX}: weight_map names {outside[0]!r}, which is not a file of this folder")
    if missing:
        raise ModelNotFoundError(f"{folder}: {INDEX} names {missing[0]}, which is missing; download the folder again")
    return tuple(folder / name for name in names)


def _from_hub(kind: ModelKind, name: str, revision: str | None, *, offline: bool, progress: Progress | None) -> Path:
    """The folder of a model in the hub's cache. A copy that is complete is used without asking the hub."""
    known, repository = kind.known.get(name), kind.repository(name)
    wanted = revision or (known.revision if known else MAIN)
    cached = cached_snapshot(repository, wanted)
    if offline:
        return _offline(cached, repository, wanted, kind)
    is_usable = cached is not None and has_tensors(cached)
    if (
        cached is not None
        and is_complete(cached, has_tokenizer=kind.has_tokenizer)
        and (revision is None or is_commit(wanted))
    ):
        return cached
    try:
        return fetch_model(
            repository, wanted, kind=kind, is_default=revision is None, glance=is_usable, progress=progress
        )
    except ModelNotFoundError as error:
        if cached is None or not is_usable or damaged_lists(cached):
            raise
        log.warning("%s; the copy in the cache is used", error)
        return cached


def _offline(cached: Path | None, repository: str, wanted: str, kind: ModelKind) -> Path:
    at = repository if wanted == MAIN else f"{repository} at {wanted}"
    if cached is not None and (broken := damaged_lists(cached)):
        raise WeightsError(
            f"{broken[0]}: it is damaged, and offline mode is on; remove the folder {storage_folder(repository)} and "
            "load it once with a network"
        )
    if cached is None or not has_tensors(cached):
        part = "only a part of it is in the cache" if cached else "it is not in the cache"
        instead = "the embedded model 'mini'" if kind is _ENCODERS else "guide 'self', which needs no download"
        raise ModelNotFoundError(
            f"{kind.noun} {at}: {part}, and offline mode is on; download it once with a network, give a folder, or use "
            f"{instead}"
        )
    return cached


def tensor_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors, from the headers of the files.

    Raises:
        WeightsError: a file that is not safetensors, or is truncated.
    """
    tensors = _tensors(checkpoint)
    return {name: tuple(file.get_slice(name).get_shape()) for name, file in tensors if not name.endswith(_BUFFER)}


def _tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, Any]]:
    """The name of each tensor, and the file that holds it, which is open until the next file is."""
    for path in checkpoint.tensor_files:
        try:
            opened = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: expected a safetensors file, got {error}; download it again") from error
        with opened as file:
            for name in file.keys():  # no dict: iterating it is not supported
                yield name, file


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
    for name, file in _tensors(checkpoint):
        if name in wanted:
            tensor = file.get_tensor(name).reshape(wanted[name])
            state[name] = tensor.to(device, torch.float32 if tensor.numel() == 1 else dtype)
    model.load_state_dict(state, strict=True, assign=True)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _without_unit(shape: tuple[int, ...]) -> tuple[int, ...]:
    return () if shape == (1,) else shape  # in some checkpoints a scalar has an axis, in others it has none
