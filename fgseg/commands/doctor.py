"""What is installed, and which models' weights are on this machine."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from fgseg._files import reason
from fgseg._version import __version__, version_of
from fgseg.encoders.checkpoint import MODELS, find_checkpoint, tensor_shapes
from fgseg.encoders.devices import has_fast_bfloat16, pick_device, pick_dtype
from fgseg.encoders.loading import check_checkpoint, family_of
from fgseg.encoders.text_cache import cache_report
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.errors import FgsegError, ModelNotFoundError, WeightsError
from fgseg.segmentation.model_defaults import check_recommendations

__all__ = ["diagnose", "model_card", "model_list"]

_PACKAGES = (
    "torch",
    "transformers",
    "pillow",
    "opencv-python",
    "numpy",
    "scikit-image",
    "matplotlib",
    "safetensors",
    "tokenizers",
    "huggingface_hub",
    "scipy",
    "tifffile",
    "pycocotools",
    "pyyaml",
    "tqdm",
    "typer",
)
_OPTIONAL = ("supervision",)
_YES = {"1", "ON", "YES", "TRUE"}  # what the hub's client takes for yes


def model_list() -> list[dict[str, str]]:
    """Every named model with where its weights are; asks no network."""
    return [{"name": name, "weights": _weights(name), "about": _about(name)} for name in MODELS]


def model_card(name: str) -> dict[str, Any]:
    """Family, size and words of a model on this machine.

    Of a named model whose weights are not here, what is known without them.

    Raises:
        ModelNotFoundError: another model whose weights are not here.
        WeightsError: its tensors are not those of a known model.
    """
    try:
        checkpoint = find_checkpoint(name, offline=True)
    except ModelNotFoundError:
        known = MODELS.get(name)
        if known is None:
            raise
        pinned = {"repository": known.repository, "revision": known.revision or "the newest"}
        return {"name": name, "about": known.about, **pinned, "weights": "not here; fetched when it is first used"}
    shapes = tensor_shapes(checkpoint)
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    return {
        "name": name,
        "family": family_of(shapes),
        "parameters": f"{parameters / 1e6:.1f} million",
        "revision": checkpoint.revision,
        "sha256": checkpoint.digest(),
        "words": _words(checkpoint.folder),
    }


def diagnose(model: str | None, *, device: str, dtype: str) -> dict[str, Any]:
    """A report for people and bug threads; `problems` lists what stands in the way of a mask."""
    problems: list[str] = []
    name = (os.environ.get("FGSEG_MODEL") or "mini") if model is None else model
    report: dict[str, Any] = {
        "fgseg": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    report |= {package: _version(package) for package in (*_PACKAGES, *_OPTIONAL)}
    problems += [
        f"{package} is not installed: pip install {package}"
        for package in _PACKAGES
        if _version(package) == "not installed"
    ]
    try:
        picked = pick_device(device)
        report["device"] = f"{picked} ({torch.get_num_threads()} threads)" if picked.type == "cpu" else str(picked)
        report["dtype"] = str(pick_dtype(dtype, picked)).removeprefix("torch.")
        report["fast bfloat16 on this CPU"] = "yes" if has_fast_bfloat16() else "no"
    except FgsegError as error:
        problems.append(str(error))
    report["model"], report["weights"] = name, _weights(name)
    problems += _model_problems(name)
    report["offline"] = "yes" if os.environ.get("HF_HUB_OFFLINE", "").upper() in _YES else "no"
    report["text cache"] = _cache()
    return {**report, "problems": problems}


def _cache() -> str:
    report = cache_report()
    if report.path is None:
        return "off"
    obstacle = _obstacle(report.path.parent)
    told = f"; texts are encoded every time, for it cannot be kept there: {obstacle}" if obstacle else ""
    return f"{report.path} ({report.size_bytes / 1e6:.1f} MB){told}"


def _obstacle(folder: Path) -> str:
    """Why nothing can be written to a folder that may have to be made first; empty where nothing is seen."""
    try:
        there = next((place for place in (folder, *folder.parents) if place.exists()), None)
        is_folder = there is not None and there.is_dir()
    except OSError as error:
        return reason(error)
    if there is None or not is_folder:
        return "there is no such drive" if there is None else f"{there} is a file"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"no permission to write into {there}"


def _model_problems(name: str) -> list[str]:
    try:
        checkpoint = find_checkpoint(name, offline=True)
        check_checkpoint(checkpoint)
        check_recommendations(checkpoint.name, checkpoint.config)
    except ModelNotFoundError as error:
        if MODELS.get(name):
            return [f"model {name}: its weights are not on this machine; with a network they are fetched at first use"]
        return [str(error)]
    except FgsegError as error:
        return [str(error)]
    return []


def _words(folder: Path) -> list[str] | str:
    try:
        return list(Tokenizer(folder).words()) or "any"
    except ModelNotFoundError:
        return "none: there is no tokenizer beside the weights"


def _weights(name: str) -> str:
    try:
        checkpoint = find_checkpoint(name, offline=True)
    except ModelNotFoundError:
        return "not here"
    except WeightsError:
        return "damaged"
    return "in the package" if name == "mini" else f"here ({checkpoint.revision or checkpoint.folder})"


def _about(name: str) -> str:
    known = MODELS[name]
    return known.about if known else "FG-CLIP 1's architecture, small: colours, patterns, shapes and materials"


def _version(package: str) -> str:
    return version_of(package) or "not installed"
