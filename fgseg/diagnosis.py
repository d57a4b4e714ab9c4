"""What is installed, and which models' weights are on this machine."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from fgseg._version import __version__
from fgseg.encoders import MODELS, family_of
from fgseg.encoders.base import has_fast_bfloat16, pick_device, pick_dtype
from fgseg.encoders.tokens import Tokenizer
from fgseg.encoders.weights import find_checkpoint, tensor_shapes
from fgseg.errors import FgsegError, ModelNotFoundError

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
)
_OPTIONAL = ("supervision",)


def model_list() -> list[dict[str, str]]:
    """Every named model with where its weights are; asks no network."""
    return [{"name": name, "weights": _weights(name), "about": _about(name)} for name in MODELS]


def model_card(name: str) -> dict[str, Any]:
    """Family, size and words of a model on this machine.

    Raises:
        ModelNotFoundError: its weights are not here.
        WeightsError: its tensors are not those of a known model.
    """
    checkpoint = find_checkpoint(name, offline=True)
    shapes = tensor_shapes(checkpoint)
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    words = Tokenizer(checkpoint.folder).words()
    return {
        "name": name,
        "family": family_of(shapes),
        "parameters": f"{parameters / 1e6:.1f} million",
        "revision": checkpoint.revision,
        "sha256": checkpoint.digest(),
        "words": list(words) if words else "any",
    }


def diagnose(model: str | None, *, device: str, dtype: str) -> dict[str, Any]:
    """A report for people and bug threads; `problems` lists what stands in the way of a mask."""
    problems: list[str] = []
    name = model or os.environ.get("FGSEG_MODEL") or "mini"
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
    if report["weights"].startswith("no"):
        problems.append(
            f"model {name}: its weights are not on this machine; they are fetched when it is first used with a network"
        )
    report["offline"] = "yes" if os.environ.get("HF_HUB_OFFLINE") else "no"
    report["interactive"] = "yes" if sys.stdout.isatty() else "no"
    return {**report, "problems": problems or []}


def _weights(name: str) -> str:
    try:
        checkpoint = find_checkpoint(name, offline=True)
    except ModelNotFoundError:
        return "not here"
    return "in the package" if name == "mini" else f"here ({checkpoint.revision or checkpoint.folder})"


def _about(name: str) -> str:
    known = MODELS[name]
    return known.about if known else "FG-CLIP 1's architecture, 4.8 million parameters: colours, patterns and shapes"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
