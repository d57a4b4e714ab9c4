"""The guide "self": a middle block of the encoder, which needs no download."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from fgseg.encoders.base import GuideKind, Image

__all__ = ["SelfGuide"]


class _OwnFeatures(Protocol):
    patch: int

    def own_features(self, images: Sequence[Image], grids_hw: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Features of a middle block."""


class SelfGuide:
    """A guide made of the encoder whose patches it mixes. Attributes as in `fgseg.encoders.base.Guide`."""

    name = "self"
    revision: str | None = None

    def __init__(self, encoder: _OwnFeatures) -> None:
        """Take the encoder, which is used without a guide of its own."""
        self._encoder = encoder
        self.patch = encoder.patch

    def features(
        self, images: Sequence[Image], grids_hw: Sequence[tuple[int, int]], *, kind: GuideKind
    ) -> list[Tensor]:
        """As `Guide.features`; one kind serves all recipes, the one that segments best (benchmarks/self_guide.py)."""
        return self._encoder.own_features(images, grids_hw)

    def settings(self, kind: GuideKind) -> dict[str, Any]:
        """As `Guide.settings`."""
        return {"name": self.name}
