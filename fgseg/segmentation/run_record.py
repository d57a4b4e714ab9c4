"""What a result was made with: the settings that go into run.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from fgseg._version import __version__, version_of
from fgseg.encoders.base import Encoder, guide_settings
from fgseg.prompts.classes import PromptSet
from fgseg.scoring.resolution import Resolution
from fgseg.segmentation.encoded_image import EncodedImage

__all__ = ["RunRecord", "image_settings", "model_settings", "prompt_settings"]

_PACKAGES = ("torch", "tokenizers", "transformers", "numpy", "opencv-python", "pillow")
"""Packages whose version can change a result."""


class RunRecord(Mapping[str, Any]):
    """Settings by name; a value given as a function is computed when it is first read.

    Hashing the weights and reading the versions of packages take longer than a prompt does, and few callers read them.

    >>> record = RunRecord({"mode": "exclusive", "weights_sha256": lambda: "3e74"})
    >>> record["weights_sha256"], dict(record)
    ('3e74', {'mode': 'exclusive', 'weights_sha256': '3e74'})
    """

    def __init__(self, values: Mapping[str, Any | Callable[[], Any]]) -> None:
        """Keep the values in their order."""
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if callable(value):
            value = self._values[name] = value()
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._values  # Mapping's own would compute the value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[type[RunRecord], tuple[dict[str, Any]]]:
        """Pickle the values, not the model that would compute them."""
        return RunRecord, (dict(self),)


def image_settings(view: EncodedImage, sizes: Resolution) -> dict[str, Any]:
    """How an image was encoded; `sizes` is its resolution with every size filled in."""
    return {
        "image": view.source,
        "image_hw": list(view.image_hw),
        "reading": dict(view.reading),
        "resolution": asdict(sizes),
        "windows": len(view.windows),
        "grid_hw": list(view.grid_hw),
        "encoding_seconds": round(view.seconds, 4),
        "encoded_together": view.together,
    }


def model_settings(encoder: Encoder, digest: Callable[[], str]) -> dict[str, Any]:
    """Which model computed a result, on what; `digest` hashes its weights."""
    return {
        "model": encoder.name,
        "revision": encoder.revision,
        "weights_sha256": digest,
        "recipe": encoder.recipe,
        **guide_settings(encoder),
        "device": str(encoder.device),
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "logit_scale": encoder.logit_scale,
        "versions": _versions,
    }


def prompt_settings(prompt_set: PromptSet, templates: tuple[str, ...]) -> dict[str, Any]:
    """What was looked for."""
    return {
        "classes": [{"name": entry.name, "prompts": list(entry.synonyms)} for entry in prompt_set.classes],
        "background": list(prompt_set.background),
        "negatives": list(prompt_set.negatives),
        "templates": list(templates),
    }


@cache
def _versions() -> dict[str, str | None]:
    return {"fgseg": __version__, **{name: version_of(name) for name in _PACKAGES}}
