"""What a number depends on besides the settings: the model, the data and the machine, in plain values."""

import hashlib
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fgseg._files import one_line
from fgseg._version import __version__, version_of
from fgseg.datasets.dataset import Dataset
from fgseg.encoders.base import Encoder
from fgseg.encoders.checkpoint import Checkpoint
from fgseg.encoders.text_features import StoredTexts
from fgseg.errors import FgsegError
from fgseg.images.reading import read_image_hw
from fgseg.prompts.classes import PromptClass

__all__ = [
    "class_list_hash",
    "data_identity",
    "device_name",
    "file_faults",
    "file_list_hash",
    "hash_of",
    "model_identity",
    "size_and_time",
]

_PACKAGE = Path(__file__).parents[1]
# Packages whose version can change a number.
_PACKAGES = ("torch", "numpy", "opencv-python", "pillow", "scikit-image", "tokenizers", "transformers", "pycocotools")


def model_identity(encoder: Encoder) -> dict[str, Any]:
    """The model and what runs it."""
    return {
        "name": encoder.name,
        "revision": encoder.revision,
        "weights_sha256": StoredTexts(encoder).digest(),
        "config_sha256": _config_hash(encoder),
        "recipe": encoder.recipe,
        "device": device_name(encoder.device),
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "code_sha256": code_hash(),
        "versions": {
            "fgseg": __version__, "python": platform.python_version(),
            **{name: version_of(name) for name in _PACKAGES},
        },
    }  # fmt: skip


def _config_hash(encoder: Encoder) -> str | None:
    """SHA-256 of what the tensors are read by, config and tokenizer; None for an encoder that has no checkpoint."""
    checkpoint = getattr(encoder, "checkpoint", None)
    return checkpoint.config_digest() if isinstance(checkpoint, Checkpoint) else None


@cache
def code_hash() -> str:
    """SHA-256 of this package's modules: a version is the same all through its making, and its numbers are not."""
    modules = sorted((path.relative_to(_PACKAGE).as_posix(), path) for path in _PACKAGE.rglob("*.py"))
    return hash_of("\n".join(f"{name}\n{path.read_text(encoding='utf-8')}" for name, path in modules))


def data_identity(dataset: Dataset) -> dict[str, Any]:
    """The images, in order, and the classes with their words."""
    files = [path for item in dataset.items for path in (item.image_path, item.label_path)]
    return {
        "name": dataset.name,
        "images": len(dataset.items),
        "full_size": dataset.full_size,
        "list_sha256": file_list_hash(files, dataset.root),
        "labels_sha256": hash_of("\n".join(item.source.meaning() for item in dataset.items)),
        "classes": [[entry.name, *entry.synonyms] for entry in dataset.classes],
        "classes_left_out": list(dataset.left_out),
        "classes_sha256": class_list_hash(dataset.classes),
        "ignore": dataset.ignore,
        "has_background": dataset.has_background,
    }


def class_list_hash(classes: Sequence[PromptClass]) -> str:
    """SHA-256 of the class list as a text file would hold it, a class a line: names first, then query words."""
    return hash_of("\n".join("\t".join([entry.name, *entry.synonyms]) for entry in classes))


def file_list_hash(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over the relative names and sizes of files, in order; reads none of them.

    >>> file_list_hash([], Path("."))[:8]
    'e3b0c442'
    """
    return hash_of("\n".join(f"{_relative(path, root)} {size_and_time(path)[0]}" for path in files))


def size_and_time(path: Path) -> list[int]:
    """Bytes of a file, and when it was last written in nanoseconds; zeros where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return [0, 0]  # a procedural scene, or a missing image, which becomes a row of its own
    return [stat.st_size, stat.st_mtime_ns]


def file_faults(paths: Sequence[Path]) -> tuple[str, ...]:
    """What is wrong with image files, found by their headers; a line a fault."""
    faults = []
    for path in paths:
        if not path.is_file():
            faults.append(f"{one_line(path)}: no such image; --root names the folder of the images")
            continue
        try:
            read_image_hw(path)
        except FgsegError as error:
            faults.append(one_line(error))
    return tuple(faults)


def hash_of(text: str) -> str:
    """SHA-256 of a text in hex."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def device_name(device: torch.device) -> str:
    """What computed: the card's name, or the processor's architecture.

    >>> device_name(torch.device("cpu")).startswith("cpu ")
    True
    """
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"{device} {platform.machine()}"


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
