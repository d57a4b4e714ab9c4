"""fgseg: words to masks. Open-vocabulary dense segmentation with FG-CLIP.

    import fgseg

    seg = fgseg.load()
    result = seg.segment("photo.jpg", ["red", "blue circle"])

Names load on first use: importing fgseg loads neither torch nor matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fgseg._version import __version__

if TYPE_CHECKING:
    from fgseg.encoded import EncodedImage
    from fgseg.errors import (
        DeviceError,
        FgsegError,
        ImageError,
        ModelNotFoundError,
        OptionError,
        OutputError,
        PromptError,
        ShapeError,
        WeightsError,
    )
    from fgseg.explorer import explore
    from fgseg.large import LargeSegmentation
    from fgseg.prompts import PromptClass, read_class_file
    from fgseg.segmentation import Segmentation
    from fgseg.segmenter import Segmenter, load
    from fgseg.types import UNLABELLED, BoxScores, DenseFeatures, Ranking, Region
    from fgseg.windows import Resolution

__all__ = [
    "UNLABELLED",
    "BoxScores",
    "DenseFeatures",
    "DeviceError",
    "EncodedImage",
    "FgsegError",
    "ImageError",
    "LargeSegmentation",
    "ModelNotFoundError",
    "OptionError",
    "OutputError",
    "PromptClass",
    "PromptError",
    "Ranking",
    "Region",
    "Resolution",
    "Segmentation",
    "Segmenter",
    "ShapeError",
    "WeightsError",
    "__version__",
    "explore",
    "load",
    "read_class_file",
]

_HOMES = {
    "EncodedImage": "encoded",
    "explore": "explorer",
    "LargeSegmentation": "large",
    "PromptClass": "prompts",
    "read_class_file": "prompts",
    "Segmentation": "segmentation",
    "Segmenter": "segmenter",
    "load": "segmenter",
    "UNLABELLED": "types",
    "BoxScores": "types",
    "Ranking": "types",
    "DenseFeatures": "types",
    "Region": "types",
    "Resolution": "windows",
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "errors"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"fgseg.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fgseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
