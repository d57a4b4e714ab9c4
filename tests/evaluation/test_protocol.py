from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file

from fgseg.encoders.loading import load_encoder
from fgseg.errors import ShapeError
from fgseg.evaluation.tasks.protocol import protocol_label_maps
from fgseg.scoring.windows import stitch_chunks, window_boxes
from fgseg.similarity import patch_scores, unit
from fgseg.upsample.labels import label_map
from fgseg.upsample.maps import upsample_maps

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "clip_a"
SEEDS = st.integers(0, 2**32 - 1)


def protocol_label_map(scores, query_to_class, image_hw, *, logit_scale, threshold=0, losers=()):
    """Labels and probabilities at one scale, where pixels below the threshold become class 0."""
    chunks = [scores] if isinstance(scores, torch.Tensor) else scores
    ((labels, probability),) = protocol_label_maps(
        chunks, query_to_class, image_hw, logit_scales=[logit_scale], losers=losers
    )
    return labels.masked_fill(probability < threshold, 0), probability


def plain_labels(scores, query_to_class, image_hw, logit_scale, threshold):
    """Steps 4 and 5 of the protocol as in published code, which holds every map."""
    maps = torch.nn.functional.interpolate(scores[None], image_hw, mode="bilinear", align_corners=False)[0]
    words = (maps * logit_scale).softmax(0)
    query_to_class = np.array(query_to_class)
    classes = torch.stack(
        [words[torch.from_numpy(query_to_class == c)].amax(0) for c in range(query_to_class.max() + 1)]
    )
    labels = classes.argmax(0)
    labels[classes.amax(0) < threshold] = 0
    return labels, classes.amax(0)


@given(seed=SEEDS, classes=st.integers(1, 4), extra=st.integers(0, 4), threshold=st.sampled_from([0, 0.1, 0.5, 1]))
@settings(deadline=None, max_examples=60)
def test_streamed_labels_and_probabilities_equal_those_of_all_maps_at_once(seed, classes, extra, threshold):
    rng = np.random.RandomState(seed)
    query_to_class = rng.permutation(np.append(np.arange(classes), rng.randint(0, classes, extra))).tolist()
    scores = torch.from_numpy(rng.uniform(-0.1, 0.4, (len(query_to_class), 3, 4)).astype(np.float32))
    options = {"logit_scale": 40.0, "threshold": threshold}
    labels, probability = protocol_label_map(scores, query_to_class, (11, 9), **options)
    expected_labels, expected = plain_labels(scores, query_to_class, (11, 9), *options.values())
    assert labels.dtype == torch.int32
    assert probability.dtype == torch.float32
    np.testing.assert_allclose(probability, expected, atol=1e-5)  # exp of 40 x float32 rounding
    clear = (expected - threshold).abs() > 1e-5
    top = torch.stack(list(upsample_maps(scores, (11, 9)))).topk(min(2, len(query_to_class)), dim=0).values
    clear &= (top[0] - top[-1] > 1e-6) | (len(query_to_class) == 1) | (expected < threshold)
    assert torch.equal(labels[clear].long(), expected_labels[clear])
    chunks = iter(scores.split(2))
    assert torch.equal(protocol_label_map(chunks, query_to_class, (11, 9), **options)[0], labels)


@given(seed=SEEDS, losers=st.sets(st.integers(0, 2), max_size=2))
@settings(deadline=None, max_examples=40)
def test_losers_count_in_the_softmax_and_win_no_pixel(seed, losers):
    rng = np.random.RandomState(seed)
    query_to_class = [0, 1, 1, 2, 0]
    scores = torch.from_numpy(rng.uniform(-0.1, 0.4, (5, 3, 4)).astype(np.float32))
    labels, probability = protocol_label_map(scores, query_to_class, (6, 8), logit_scale=30, losers=losers)
    maps = (30 * torch.stack(list(upsample_maps(scores, (6, 8))))).softmax(0)
    classes = torch.stack([maps[[q for q, index in enumerate(query_to_class) if index == c]].amax(0) for c in range(3)])
    classes[sorted(losers)] = 0
    np.testing.assert_allclose(probability, classes.amax(0), atol=1e-5)
    clear = classes.topk(2, dim=0).values.diff(dim=0)[0].abs() > 1e-5
    assert torch.equal(labels[clear].long(), classes.argmax(0)[clear])


def test_several_scales_in_one_pass_give_the_labels_of_each_scale_alone():
    scores = torch.from_numpy(np.random.RandomState(8).uniform(size=(4, 3, 5)).astype(np.float32))
    several = protocol_label_maps(iter(scores.split(3)), [0, 1, 1, 2], (9, 9), logit_scales=[5, 40])
    for scale, (labels, probability) in zip((5, 40), several, strict=True):
        alone = protocol_label_map(scores, [0, 1, 1, 2], (9, 9), logit_scale=scale)
        assert torch.equal(labels, alone[0])
        assert torch.equal(probability, alone[1])


def test_a_pixel_below_the_threshold_becomes_class_0_and_keeps_its_probability():
    # softmax of ln 1, ln 2, ln 5: the best word of class 2 has 5/8
    scores = torch.log(torch.tensor([1.0, 2.0, 5.0])).reshape(3, 1, 1)
    for threshold, label in ((0, 2), (0.62, 2), (0.63, 0)):
        labels, probability = protocol_label_map(scores, [0, 1, 2], (2, 2), logit_scale=1, threshold=threshold)
        assert labels.tolist() == [[label] * 2] * 2
        np.testing.assert_allclose(probability, 0.625, atol=1e-6)


def test_a_pixel_exactly_at_the_threshold_keeps_its_class():
    labels, probability = protocol_label_map(torch.zeros(2, 1, 1), [1, 2], (1, 1), logit_scale=40, threshold=0.5)
    assert (labels.item(), probability.item()) == (1, 0.5)


def test_synonyms_compete_in_the_softmax_and_are_not_summed():
    scores = torch.zeros(4, 1, 1)
    assert protocol_label_map(scores, [0, 1, 1, 1], (1, 1), logit_scale=9)[1].item() == 0.25


def test_a_tie_goes_to_the_lowest_class_in_any_order_of_the_words():
    scores = torch.full((3, 2, 2), 0.25)
    assert not protocol_label_map(scores, [2, 0, 1], (5, 5), logit_scale=40)[0].any()


def test_large_logits_do_not_overflow():
    scores = torch.tensor([900.0, -900.0, 899.0]).reshape(3, 1, 1)
    _, probability = protocol_label_map(scores, [0, 1, 2], (1, 1), logit_scale=100)
    assert probability.item() == 1


def test_without_a_threshold_the_labels_are_those_of_label_map():
    scores = torch.from_numpy(np.random.RandomState(3).uniform(size=(6, 4, 5)).astype(np.float32))
    labels, _ = protocol_label_map(scores, range(6), (30, 41), logit_scale=40)
    assert torch.equal(labels, label_map(scores, (30, 41))[0])


@pytest.mark.parametrize(
    ("scores", "message"), [(torch.zeros(2, 2), "scores"), (torch.full((1, 2, 2), torch.nan), "NaN")]
)
def test_scores_of_other_axes_or_with_nan_are_refused(scores, message):
    with pytest.raises(ShapeError, match=message):
        protocol_label_map(scores, range(len(scores)), (4, 4), logit_scale=40)


@pytest.fixture(scope="module")
def golden_windows():
    """Scores of the golden windows, their boxes, the canvas size, and the tensors of the golden file."""
    golden = load_file(GOLDEN / "protocol.safetensors")
    model = load_encoder(str(GOLDEN), device="cpu", dtype="float32").model
    pixels, text = golden["pixel_values"], unit(golden["text"])
    canvas_hw = tuple(pixels.shape[2:])
    boxes = window_boxes(canvas_hw, crop=96, stride=48)
    with torch.inference_mode():
        grids = [
            model.dense_features(pixels[..., top:bottom, left:right], recipe="naclip")[0]
            for left, top, right, bottom in boxes
        ]
        scores = [patch_scores(unit(grid), text) for grid in grids]
    return scores, boxes, canvas_hw, golden


def test_the_protocol_on_windows_with_naclip_gives_the_golden_labels(golden_windows):
    scores, boxes, canvas_hw, golden = golden_windows
    labels, _ = protocol_label_map(
        stitch_chunks(scores, boxes, canvas_hw, chunk=3),
        golden["query_to_class"].tolist(),
        (200, 280),
        logit_scale=40,
        threshold=0.5,
    )
    assert (labels == golden["labels"]).float().mean() >= 0.9999


def test_the_scores_of_windows_with_naclip_give_the_golden_probabilities(golden_windows):
    scores, boxes, canvas_hw, golden = golden_windows
    canvas = torch.cat(list(stitch_chunks(scores, boxes, canvas_hw)))
    words = (40 * torch.stack(list(upsample_maps(canvas, (200, 280))))).softmax(0)
    owners = golden["query_to_class"]
    classes = torch.stack([words[owners == index].amax(0) for index in range(int(owners.max()) + 1)])
    # The file holds the class maxima divided by their sum.
    np.testing.assert_allclose(classes / classes.sum(0), golden["probabilities"], atol=1e-4)
