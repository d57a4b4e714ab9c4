"""How often the host waits for a GPU on the way from an image to labels, counted without one.

Tensors on torch's device "meta" have sizes and no values. There, whatever would read a value fails, so a way to labels
that ends in one `to_host` waits once. Copies to a device make the host wait too, unless `to_device` makes them.
"""

import sys

import numpy as np
import pytest
import torch
from tiny_models import FG_CLIP, FG_CLIP_2, GOLDEN, IMAGE, loaded
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fgseg.errors import ShapeError
from fgseg.prompts.classes import make_prompt_set
from fgseg.scoring.presence import TIE
from fgseg.segmentation import encoded_image
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.segmentation.score_field import ScoreField, Sharpening
from fgseg.segmenter import Segmenter
from fgseg.similarity import patch_scores
from fgseg.types import DenseFeatures

META = torch.device("meta")
COPIERS = {"to_device", "_stacked"}  # they copy to CUDA from pinned memory, without waiting


class Copies(TorchDispatchMode):
    """Notes operations that mix tensors of the CPU with those of the device, outside of COPIERS."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        flat = torch.utils._pytree.tree_leaves((args, kwargs, result))
        devices = {value.device.type for value in flat if isinstance(value, torch.Tensor) and value.dim()}
        if len(devices) > 1 and not self._is_known():
            self.found.append(str(func))
        return result

    def __enter__(self):
        self._numbers = Numbers(self.found)
        self._numbers.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._numbers.__exit__(*error)

    @staticmethod
    def _is_known():
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_name not in COPIERS:
            frame = frame.f_back
        return frame is not None


class Numbers(TorchFunctionMode):
    """Notes tensors of the device that are made of Python's numbers, also as an index."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        is_made = func in (torch.tensor, torch.as_tensor)
        is_index = func == torch.Tensor.__getitem__ and any(
            isinstance(one, list) for one in (args[1], *_parts(args[1]))
        )
        if (is_made or is_index) and result.device != torch.device("cpu"):
            self.found.append(str(func))
        return result


def _parts(index):
    return index if isinstance(index, tuple) else ()


def on_meta(name, recipe="value"):
    """The segmenter of a golden checkpoint whose tensors have no values."""
    options = {} if recipe is None else {"recipe": recipe}
    encoder = loaded(GOLDEN / name, **options)
    encoder.model.to(META)
    encoder.device = META
    return Segmenter(encoder)


@pytest.fixture
def reads(monkeypatch):
    """The shapes of what is read at once, at each read."""
    noted = []

    def to_host(*values):
        noted.append([tuple(value.shape) for value in values])
        arrays = [torch.zeros(value.shape, dtype=value.dtype).numpy() for value in values]
        return [*arrays[:-1], np.array(True)]  # the last says that the features are of unit length

    monkeypatch.setattr(encoded_image, "to_host", to_host)
    return noted


@pytest.mark.parametrize("resizing", ["pillow", "device"])
@pytest.mark.parametrize("resolution", ["squash", "keep", "slide"])
@pytest.mark.parametrize(
    ("name", "recipe"), [(FG_CLIP, "value"), (FG_CLIP, "naclip"), (FG_CLIP, "clearclip"), (FG_CLIP_2, "value")]
)
@pytest.mark.parametrize("background", [("sky",), ()])
def test_the_host_waits_once_from_an_image_to_its_labels(name, recipe, resolution, resizing, background, reads):
    seg = on_meta(name, recipe)
    seg.encoder.resizing = resizing
    prompt_set = make_prompt_set(["red", "green, blue"], background=background)
    classes = (0, 1, 1, 2)[: 3 + len(background)]
    width = seg.encoder.model.config.width if name == FG_CLIP else seg.encoder.model.config.vision.width
    texts = PromptTexts(torch.empty(len(classes), width, device=META), classes, ("{}",))
    with Copies() as copies:
        view = seg.encode(IMAGE, resolution=resolution)
        field = ScoreField(view, texts, prompt_set, logit_scale=100.0, sharpening=Sharpening())
        labels = field.exclusive(TIE)
    assert labels.shape == IMAGE.shape[:2]
    assert copies.found == []
    assert reads == [[IMAGE.shape[:2], IMAGE.shape[:2], ()]]


def test_a_batch_is_encoded_without_a_wait(reads):
    seg = on_meta(FG_CLIP)
    with Copies() as copies:
        views = seg.encode_batch([IMAGE] * 3, resolution="squash")
    assert (len(views), copies.found, reads) == (3, [], [])


def test_what_the_test_counts_as_a_copy_is_one():
    with Copies() as copies:
        torch.ones(2).to(META)
        torch.empty(3, device=META)[torch.tensor([0, 2])]
        torch.empty(3, device=META)[[0, 2]]
        torch.tensor([0, 2], device=META)
    assert len(copies.found) == 4


def test_features_on_a_gpu_are_refused_when_their_scores_are_read(monkeypatch):
    monkeypatch.setattr(encoded_image, "to_host", lambda *values: [*[None] * (len(values) - 1), np.array(False)])
    view = on_meta(FG_CLIP).encode(IMAGE, resolution="squash")
    with pytest.raises(ShapeError, match="grid: expected unit length along D at every patch and no NaN"):
        view.label_map(torch.empty(2, view.windows[0].grid.shape[-1], device=META))
    with pytest.raises(ShapeError, match="grid: expected unit length"):
        next(view.maps(torch.empty(2, view.windows[0].grid.shape[-1], device=META)))


def test_features_on_a_gpu_are_checked_when_scores_of_them_are_asked_for(monkeypatch):
    looked_at = []
    monkeypatch.setattr("fgseg.similarity.has_unit_length", lambda grid: looked_at.append(grid.shape) or False)
    features = DenseFeatures(torch.empty(2, 3, 4, device=META), (8, 8))
    monkeypatch.setattr("fgseg.similarity._check_unit", lambda name, rows: None)
    with pytest.raises(ShapeError, match="grid: expected unit length"):
        patch_scores(features, torch.empty(1, 4, device=META))
    assert looked_at == [(2, 3, 4)]
