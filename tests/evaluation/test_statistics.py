"""Counts of images, figures, baselines and intervals."""

import zlib

import numpy as np
import pytest
from evaluation_data import labelled_maps
from hypothesis import given, settings, strategies as st

from fgseg.evaluation.statistics import SEED, bootstrap, figures, image_row, pixel_counts, total_confusion
from fgseg.metrics import boundary_counts, boundary_iou, confusion, iou, mean_accuracy, mean_iou

few = settings(deadline=None, max_examples=40)


def mean_of(per_class):
    there = per_class[np.isfinite(per_class)]
    return there.mean() if len(there) else np.nan


@few
@given(images=st.lists(labelled_maps(), min_size=1, max_size=4))
def test_the_figures_are_those_of_the_metrics_on_the_summed_confusion(images):
    rows = [
        image_row(labels, truth, num_classes=3, ignore=255, name=str(i), prompted=[0, 1, 2])
        for i, (labels, truth) in enumerate(images)
    ]
    made = pixel_counts(rows, 3, prompts="all", has_background=True)
    values = figures(made["model"].sum(0))
    counts = sum(confusion(np.where(p < 0, 3, p), t, 4) for p, t in images)
    edges = sum(boundary_counts(np.where(p < 0, 3, p), t, 4) for p, t in images)
    np.testing.assert_array_equal(total_confusion(rows, 3), counts[:3])
    # The column of unlabelled pixels is not a class, so that its IoU is left out.
    np.testing.assert_allclose(values["miou"], mean_of(iou(counts)[:3]))
    np.testing.assert_allclose(values["macc"], mean_accuracy(counts))
    np.testing.assert_allclose(values["boundary_iou"], mean_of(boundary_iou(edges)[:3]))
    if not any((p < 0).any() for p, _ in images):
        np.testing.assert_allclose(values["miou"], mean_iou(counts))


@few
@given(images=st.lists(labelled_maps(), min_size=1, max_size=4))
def test_the_random_baseline_is_counted_like_a_prediction(images):
    def guess(index, truth):
        seed = [SEED, zlib.crc32(str(index).encode())]
        return np.random.default_rng(seed).integers(0, 3, truth.shape).astype(np.int32)

    options = {"num_classes": 3, "ignore": 255, "prompted": [0, 1, 2]}
    rows = [image_row(t, t, name=str(i), **options) for i, (_, t) in enumerate(images)]
    guesses = [image_row(guess(i, t), t, name="", **options) for i, (_, t) in enumerate(images)]
    expected = pixel_counts(guesses, 3, prompts="all", has_background=False)["model"]
    made = pixel_counts(rows, 3, prompts="all", has_background=False)["uniform random"]
    np.testing.assert_array_equal(made, expected)


def test_the_stored_counts_of_the_random_baseline_grow_with_the_number_of_classes():
    truth = np.random.RandomState(0).randint(0, 60, (64, 64)).astype(np.int32)
    row = image_row(truth, truth, num_classes=60, ignore=255, name="a", prompted=range(60))
    assert len(row["random"]["classes"]) == 60


@few
@given(images=st.lists(labelled_maps(), min_size=1, max_size=4), has_background=st.booleans())
def test_constant_baselines_have_the_counts_of_predicting_one_class_everywhere(images, has_background):
    rows = [
        image_row(labels, truth, num_classes=3, ignore=255, name=str(i), prompted=[0, 1, 2])
        for i, (labels, truth) in enumerate(images)
    ]
    made = pixel_counts(rows, 3, prompts="all", has_background=has_background)
    totals = sum(np.bincount(t[t != 255], minlength=3) for _, t in images)
    wanted = {"most frequent class": int(totals.argmax())} | ({"all background": 0} if has_background else {})
    assert set(made) == {"model", *wanted, "uniform random"}
    for name, index in wanted.items():
        drawn = [
            image_row(np.full_like(t, index), t, num_classes=3, ignore=255, name="", prompted=[0]) for _, t in images
        ]
        np.testing.assert_array_equal(made[name], pixel_counts(drawn, 3, prompts="all", has_background=False)["model"])


def test_the_frequent_baseline_takes_the_most_frequent_present_class_if_only_those_are_prompted():
    images = [np.full((4, 4), 0, np.int32), np.full((2, 2), 1, np.int32)]
    rows = [image_row(t, t, num_classes=2, ignore=255, name=str(i), prompted=[0]) for i, t in enumerate(images)]
    made = pixel_counts(rows, 2, prompts="present", has_background=False)["most frequent class"]
    assert made[:, 0].tolist() == [[16, 0], [0, 4]]
    assert pixel_counts(rows, 2, prompts="all", has_background=False)["most frequent class"][1, 0].sum() == 0


def test_an_interval_excludes_two_and_a_half_percent_on_either_side():
    """With 1 of 1 pixel right in half of 400 images and 0 of 1 in the others: a half +- 1.96 * sqrt(0.25 / 400)."""
    per_image = np.zeros((400, 6, 1), np.int64)
    per_image[:, 1:3], per_image[::2, 0] = 1, 1
    low, high = bootstrap(per_image)["aacc"]
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


def test_an_interval_contains_the_figure_and_has_no_width_if_all_images_are_equal():
    rng = np.random.RandomState(3)
    per_image = rng.randint(1, 50, (30, 6, 2))
    per_image[:, 1:3] += per_image[:, :1]
    per_image[:, 4:] += per_image[:, 3:4]
    for name, (low, high) in bootstrap(per_image).items():
        assert low < figures(per_image.sum(0))[name] < high
    same = np.repeat(per_image[:1], 5, 0)
    for name, (low, high) in bootstrap(same).items():
        np.testing.assert_allclose([low, high], figures(same.sum(0))[name])
