"""What a figure depends on besides the settings: the model, the data, the code and the machine, in plain values."""

import ast
import hashlib
import platform
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fgseg._version import __version__, version_of
from fgseg.datasets.dataset import Dataset
from fgseg.encoders.base import Encoder, guide_settings
from fgseg.encoders.checkpoint import Checkpoint
from fgseg.encoders.text_features import StoredTexts
from fgseg.prompts.classes import PromptClass

__all__ = [
    "class_list_hash",
    "code_hash",
    "data_provenance",
    "file_list_hash",
    "hash_of",
    "model_provenance",
    "size_and_time",
]

_PACKAGE = Path(__file__).parents[1]
# No figure depends on these packages and modules.
_IRRELEVANT = (
    "__main__.py", "commands", "drawing", "evaluation/html_report.py", "evaluation/report.py", "explorer.py", "formats",
    "large", "training", "web",
)  # fmt: skip
# Packages whose version can change a figure.
_PACKAGES = ("torch", "numpy", "opencv-python", "pillow", "scikit-image", "tokenizers", "transformers", "pycocotools")


def model_provenance(encoder: Encoder) -> dict[str, Any]:
    """The model, the code and the machine."""
    return {
        "name": encoder.name,
        "revision": encoder.revision,
        "weights_sha256": StoredTexts(encoder).digest(),
        "config_sha256": _config_hash(encoder),
        "recipe": encoder.recipe,
        **guide_settings(encoder),
        "device": device_name(encoder.device),
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "code_sha256": code_hash(),
        "versions": {
            "fgseg": __version__, "python": platform.python_version(),
            **{name: version_of(name) for name in _PACKAGES},
        },
    }  # fmt: skip


def _config_hash(encoder: Encoder) -> str | None:
    """SHA-256 of the checkpoint's config and tokenizer files; None for an encoder without a checkpoint."""
    checkpoint = getattr(encoder, "checkpoint", None)
    return checkpoint.config_digest() if isinstance(checkpoint, Checkpoint) else None


@cache
def code_hash(package: Path = _PACKAGE) -> str:
    """SHA-256 of the syntax trees of the modules that compute figures, without comments and docstrings.

    The version number does not change with every edit of the code, and the figures may.
    """
    return hash_of("\n".join(f"{name}\n{_code_of(path)}" for name, path in _modules(package)))


def _modules(package: Path) -> Iterator[tuple[str, Path]]:
    """Relative names and paths of the modules that a figure may depend on."""
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.split("/")[0] not in _IRRELEVANT and name not in _IRRELEVANT:
            yield name, path


def _code_of(path: Path) -> str:
    """The syntax tree of a module as text; statements that are only a string are docstrings and are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)]
    return ast.dump(tree)


def _is_docstring(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def data_provenance(dataset: Dataset) -> dict[str, Any]:
    """The images, in order, and the classes with their query words."""
    files = [path for item in dataset.items for path in (item.image_path, item.label_path)]
    left_out = dataset.annotations_left_out
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
        **({"annotations_left_out": left_out} if left_out else {}),
    }


def class_list_hash(classes: Sequence[PromptClass]) -> str:
    """SHA-256 of the class list as a text with one class per line: the name, then the query words."""
    return hash_of("\n".join("\t".join([entry.name, *entry.synonyms]) for entry in classes))


def file_list_hash(files: Sequence[Path], root: Path) -> str:
    """SHA-256 of the relative names and the sizes of files, in order; no file is read.

    >>> file_list_hash([], Path("."))[:8]
    'e3b0c442'
    """
    names = [path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name for path in files]
    return hash_of("\n".join(f"{name} {size_and_time(path)[0]}" for name, path in zip(names, files, strict=True)))


def size_and_time(path: Path) -> list[int]:
    """Size of a file in bytes and its modification time in nanoseconds; zeros for a file that does not exist."""
    try:
        stat = path.stat()
    except OSError:
        return [0, 0]  # a procedural scene, or a missing image, whose row will hold an error
    return [stat.st_size, stat.st_mtime_ns]


def hash_of(text: str) -> str:
    """SHA-256 of a text in hex."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def device_name(device: torch.device) -> str:
    """The device with the name of the graphics card, or with the architecture of the processor.

    >>> device_name(torch.device("cpu")).startswith("cpu ")
    True
    """
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"{device} {platform.machine()}"
