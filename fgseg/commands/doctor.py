"""The reports of `fgseg models` and `fgseg doctor`: installed packages, and weights on this machine."""

import os
import platform
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import torch

from fgseg._files.names import reason
from fgseg._version import __version__, version_of
from fgseg.encoders.base import Progress
from fgseg.encoders.checkpoint import MODELS, Checkpoint, damaged_files, find_checkpoint, tensor_shapes
from fgseg.encoders.devices import has_fast_bfloat16, pick_device, pick_dtype
from fgseg.encoders.hub import HubModel
from fgseg.encoders.loading import check_checkpoint, family_of
from fgseg.encoders.text_cache import cache_report
from fgseg.encoders.tokenizer import MINI_KNOWS, Tokenizer
from fgseg.errors import FgsegError, ModelNotFoundError, WeightsError
from fgseg.guides.dino import dino_family
from fgseg.guides.loading import GUIDE_MODELS, GUIDES
from fgseg.segmentation.model_defaults import check_recommendations

__all__ = ["diagnose", "guide_list", "model_card", "model_list"]

_OPTIONAL = ("supervision",)
_YES = {"1", "ON", "YES", "TRUE"}  # the values that huggingface_hub reads as true


_MINI = {"size": "12 MB", "licence": "Apache 2.0", "about": f"{MINI_KNOWS}; no other words"}
_SELF = {"size": "none", "licence": "that of the model", "about": "the middle of the model itself"}


def model_list() -> list[dict[str, str]]:
    """Each named model, its size and licence, and where its weights are. Does not use the network."""
    return [
        {"name": name, "weights": _weights(name), **(_told(known) if known else _MINI)}
        for name, known in MODELS.items()
    ]


def guide_list() -> list[dict[str, str]]:
    """Each named guide, as `model_list`."""
    own = {"name": "self", "weights": "those of the model", **_SELF}
    return [own, *({"name": name, "weights": _weights(name), **_told(known)} for name, known in GUIDES.items())]


def _told(known: HubModel) -> dict[str, str]:
    return {"size": known.size, "licence": known.licence, "about": known.about}


def model_card(name: str) -> dict[str, Any]:
    """Family, size and vocabulary of a model on this machine; a guide has no vocabulary.

    If the weights of a named model or guide are not on this machine, the card holds its repository and revision.

    Raises:
        ModelNotFoundError: the weights of any other model are not on this machine.
        WeightsError: the tensors are not those of a known model family.
    """
    try:
        checkpoint = _local(name)
    except ModelNotFoundError:
        known = GUIDES.get(name) or MODELS.get(name)
        if known is None:
            raise
        return {"name": name, **asdict(known), "weights": "not here; downloaded at first use"}
    shapes = tensor_shapes(checkpoint)
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    is_guide = name in GUIDES
    card: dict[str, Any] = {
        "name": name,
        "family": dino_family(shapes) if is_guide else family_of(shapes),
        "parameters": f"{parameters / 1e6:.1f} million",
        "revision": checkpoint.revision,
        "sha256": checkpoint.digest(),
    }
    if not is_guide:
        card["words"] = _words(checkpoint.folder)
    if name == "mini":
        card["vocabulary"] = _vocabulary(checkpoint.folder)
    return card


def diagnose(model: str | None, *, device: str, dtype: str, progress: Progress | None = None) -> dict[str, Any]:
    """A report for users and bug reports; `problems` lists what prevents a segmentation.

    The model's files are read again, whether or not they have changed; `progress` shows which.
    """
    name = (os.environ.get("FGSEG_MODEL") or "mini") if model is None else model
    required = _required_packages()
    versions = {package: version_of(package) or "not installed" for package in (*required, *_OPTIONAL)}
    missing = [package for package in required if versions[package] == "not installed"]
    problems = [f"{package} is not installed: pip install {package}" for package in missing]
    report: dict[str, Any] = {
        "fgseg": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **versions,
    }
    try:
        picked = pick_device(device)
        report["device"] = f"{picked} ({torch.get_num_threads()} threads)" if picked.type == "cpu" else str(picked)
        report["dtype"] = str(pick_dtype(dtype, picked)).removeprefix("torch.")
        report["fast bfloat16 on this CPU"] = "yes" if has_fast_bfloat16() else "no"
    except FgsegError as error:
        problems.append(str(error))
    problems += _model_problems(name, progress)
    return {
        **report,
        "model": name,
        "weights": _weights(name),
        "offline": "yes" if os.environ.get("HF_HUB_OFFLINE", "").upper() in _YES else "no",
        "text cache": _text_cache(),
        "problems": problems,
    }


def _required_packages() -> list[str]:
    """Names of the packages that the installed fgseg requires; none for a source folder that is not installed."""
    try:
        lines = requires("fgseg") or []
    except PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]


def _text_cache() -> str:
    report = cache_report()
    if report.path is None:
        return "off"
    obstacle = _obstacle(report.path.parent)
    note = f"; not in use, so texts are encoded every time: {obstacle}" if obstacle else ""
    return f"{report.path} ({report.size_bytes / 1e6:.1f} MB){note}"


def _obstacle(folder: Path) -> str:
    """Why a folder cannot be made or written to; empty if no reason is found."""
    try:
        existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
        is_folder = existing is not None and existing.is_dir()
    except OSError as error:
        return reason(error)
    if existing is None or not is_folder:
        return "there is no such drive" if existing is None else f"{existing} is a file"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"no permission to write into {existing}"


def _model_problems(name: str, progress: Progress | None) -> list[str]:
    try:
        checkpoint = find_checkpoint(name, offline=True)
        if damaged := damaged_files(checkpoint, again=True, progress=progress):
            fetched = "; it is fetched again when the model is loaded with a network" if checkpoint.revision else ""
            return [sentence + fetched for sentence in damaged.values()]
        check_checkpoint(checkpoint)
        check_recommendations(checkpoint.name, checkpoint.config)
    except FgsegError as error:
        if isinstance(error, ModelNotFoundError) and MODELS.get(name):
            return [f"model {name}: its weights are not on this machine; they are downloaded at first use"]
        return [str(error)]
    return []


def _words(folder: Path) -> list[str] | str:
    try:
        return list(Tokenizer(folder).words()) or "any"
    except ModelNotFoundError:
        return "none: the folder has no tokenizer"


def _vocabulary(folder: Path) -> dict[str, list[str]]:
    """The embedded model's words in groups; a word may be in several."""
    from fgseg.scenes.vocabulary import ANY_SHAPE, COLOR_NAMES, MATERIAL_WORDS, PATTERNS, SHAPES

    words = Tokenizer(folder).words()
    named = {"colours": COLOR_NAMES, "patterns": PATTERNS, "shapes": (*SHAPES, *ANY_SHAPE), "materials": MATERIAL_WORDS}
    parts = {group: {part for name in names for part in name.split()} for group, names in named.items()}
    groups = {group: [word for word in words if word in part] for group, part in parts.items()}
    return {**groups, "other words": [word for word in words if not any(word in part for part in parts.values())]}


def _local(name: str) -> Checkpoint:
    """The files of a model or of a named guide on this machine."""
    if name in GUIDES:
        return find_checkpoint(name, offline=True, kind=GUIDE_MODELS)
    return find_checkpoint(name, offline=True)


def _weights(name: str) -> str:
    try:
        checkpoint = _local(name)
    except ModelNotFoundError:
        return "not here"
    except WeightsError:
        return "damaged"
    return "in the package" if name == "mini" else f"here ({checkpoint.revision or checkpoint.folder})"
