"""Labels by strips: equal to those of the whole image, with bounded memory."""

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from large_images import MeanColors, bands_of, noise, request_of

from fgseg.errors import OptionError
from fgseg.images.resizing import resize_image
from fgseg.large import strips as large_strips
from fgseg.large.bands import Shrinker
from fgseg.large.plan import WindowPlan, plan_windows
from fgseg.large.strips import label_strips
from fgseg.prompts.classes import make_prompt_set
from fgseg.scoring.resolution import Resolution
from fgseg.scoring.windows import crops, window_boxes
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.score_field import ScoreField, Sharpening
from fgseg.types import UNLABELLED

SEEDS = st.integers(0, 2**32 - 1)


def whole_result(image, plan, encoder, request, *, rivals):
    """The labels that a Segmenter gives an image in memory."""
    canvas = resize_image(image, plan.canvas_hw, antialias=True)
    boxes = window_boxes(plan.canvas_hw, crop=plan.crop, stride=plan.stride)
    features = tuple(encoder.encode_images(crops(canvas, boxes), fit="exact"))
    view = EncodedImage(image, features, boxes, plan.canvas_hw, Resolution("slide"), encoder.name)
    prompt_set = make_prompt_set(
        request.prompts, background=[f"rival{k}" for k in range(rivals)], default_background=()
    )
    return ScoreField(
        view, request.texts, prompt_set, logit_scale=encoder.logit_scale, sharpening=Sharpening()
    ).exclusive(request.threshold)


@given(
    seed=SEEDS,
    canvas_hw=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    crop=st.integers(6, 18),
    stride=st.integers(2, 18),
    reduction=st.integers(1, 3),
    how=st.tuples(st.integers(3, 50), st.integers(0, 2), st.sampled_from([0.0, 0.5, 0.6])),
)
@settings(deadline=None, max_examples=60)
def test_the_labels_of_strips_are_those_of_a_whole_image_bit_for_bit(seed, canvas_hw, crop, stride, reduction, how):
    block, rivals, threshold = how
    plan = WindowPlan((canvas_hw[0] * reduction, canvas_hw[1] * reduction), reduction, crop, min(stride, crop))
    assume(plan.windows > 1)  # a single window is drawn on the image straight away when it is in memory
    image, encoder = noise(seed, *plan.image_hw, 3), MeanColors()
    request = request_of(seed, [1, 2, 1], rivals=rivals, threshold=threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_strips, "_BLOCK", block)
        patch.setattr(large_strips, "_CHUNK_VALUES", 1500)
        heights = np.random.RandomState(seed).randint(1, 20, 3)
        strips = list(label_strips(bands_of(image, heights), encoder, request, plan))
    labels = np.concatenate([labels for labels, _ in strips])
    np.testing.assert_array_equal(labels, whole_result(image, plan, encoder, request, rivals=rivals))
    present = np.concatenate([present for _, present in strips])
    assert present.shape == labels.shape
    assert (present[labels != UNLABELLED] >= threshold).all()


def test_an_image_of_one_window_differs_from_memory_by_rounding_alone():
    plan, encoder = WindowPlan((14, 15), 1, 16, 8), MeanColors()
    image, request = noise(1, 14, 15, 3), request_of(1, [1, 1], rivals=1, threshold=0.5)
    ((labels, _),) = label_strips(iter([image]), encoder, request, plan)
    assert (labels == whole_result(image, plan, encoder, request, rivals=1)).mean() >= 0.99


def test_sides_that_the_reduction_does_not_divide_keep_their_last_pixels():
    plan, encoder = WindowPlan((37, 26), 4, 6, 3), MeanColors()
    image, request = noise(2, 37, 26, 3), request_of(2, [1, 1], rivals=1, threshold=0.0)
    assert plan.canvas_hw == (10, 7)
    labels = np.concatenate([labels for labels, _ in label_strips(iter([image]), encoder, request, plan)])
    padded = np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="edge")
    whole = WindowPlan((40, 28), 4, 6, 3)
    np.testing.assert_array_equal(labels, whole_result(padded, whole, encoder, request, rivals=1)[:37, :26])


@given(seed=SEEDS, hw=st.tuples(st.integers(1, 30), st.integers(1, 30)), factor=st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_shrinking_does_not_depend_on_the_heights_of_the_bands(seed, hw, factor):
    image = noise(seed, *hw, 3)
    heights = np.random.RandomState(seed).randint(1, 9, 3)
    shrink = Shrinker(factor, hw[0])
    rows = np.concatenate([shrink.add(band) for band in bands_of(image, heights)])
    at_once = Shrinker(factor, hw[0]).add(image)
    np.testing.assert_array_equal(rows, at_once)
    assert rows.shape == (-(-hw[0] // factor), -(-hw[1] // factor), 3)


def test_windows_cover_the_canvas_and_other_resolutions_are_refused():
    plan = plan_windows((1000, 600), Resolution("slide", crop=200), native=224, reduction=2)
    assert (plan.canvas_hw, plan.crop, plan.stride) == ((500, 300), 200, 100)
    assert (plan.rows[-1], plan.columns) == ((300, 500), ((0, 200), (100, 300)))
    for resolution in (Resolution("keep"), Resolution("squash", 32), Resolution("slide", 448)):
        with pytest.raises(OptionError, match=r"resolution: .*own scale.*slide:auto/CROP/STRIDE.*--reduction"):
            plan_windows((10, 10), resolution, native=224)
    for reduction in (0, 1.5, "2"):
        with pytest.raises(OptionError, match="reduction: expected a"):
            plan_windows((10, 10), None, native=224, reduction=reduction)


def test_memory_does_not_grow_with_the_height_of_the_image(monkeypatch):
    held, drawn, encoded = [], [], []
    stitch, labelled = large_strips.stitch_chunks, large_strips._labelled

    def spied_stitch(scores, boxes, canvas_hw, chunk):
        drawn.append(chunk * canvas_hw[0] * canvas_hw[1])
        return stitch(scores, boxes, canvas_hw, chunk)

    def spied_labelled(rows, *rest):
        held.append(len(rows))
        return labelled(rows, *rest)

    class Counting(MeanColors):
        def encode_images(self, images, *, fit):
            encoded.append(len(images))
            return super().encode_images(images, fit=fit)

    monkeypatch.setattr(large_strips, "stitch_chunks", spied_stitch)
    monkeypatch.setattr(large_strips, "_labelled", spied_labelled)
    monkeypatch.setattr(large_strips, "_CHUNK_VALUES", 4096)
    monkeypatch.setattr(large_strips, "_BLOCK", 32)
    monkeypatch.setattr(large_strips, "_WINDOWS_AT_ONCE", 5)
    plan, read = WindowPlan((160, 100), 1, 16, 8), []

    def bands():
        for band in bands_of(noise(3, 160, 100, 3), [16]):
            read.append(len(band))
            yield band

    strips = label_strips(bands(), Counting(), request_of(3, [1] * 12, rivals=1, threshold=0.5), plan)
    next(strips)
    assert sum(read) == 16  # nothing is read ahead of what the first strip needs
    list(strips)
    assert max(held) == 2  # rows of windows over a strip at half overlap
    assert max(drawn) <= 4096
    assert max(encoded) == 5
