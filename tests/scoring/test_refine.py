from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fgseg.errors import OptionError, ShapeError
from fgseg.scoring.refine import REFINEMENTS, guided_filter, pamr, refined

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "clip_a" / "pamr.safetensors"


def noise(seed, height, width):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def looped_pamr(image, score_map, iterations, dilations):
    """PAMR pixel by pixel, in float64; image (3, H, W)."""
    _, height, width = image.shape
    ring = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    for _ in range(iterations):
        refined = np.zeros_like(score_map)
        for row, column in np.ndindex(height, width):
            near, own = [], []
            for d in dilations:
                for y, x in ring:
                    at = np.clip(row + d * y, 0, height - 1), np.clip(column + d * x, 0, width - 1)
                    own.append(image[:, at[0], at[1]])
                    if (y, x) != (0, 0):
                        near.append(at)
            scale = 1e-8 + 0.1 * np.std(own, axis=0, ddof=1)
            logits = np.array([-(np.abs(image[:, row, column] - image[:, y, x]) / scale).mean() for y, x in near])
            weights = np.exp(logits - logits.max())
            scores = np.array([score_map[y, x] for y, x in near])
            refined[row, column] = (weights * scores).sum() / weights.sum()
        score_map = refined
    return score_map


def looped_guided(image, score_map, radius, epsilon):
    """The guided filter with a colour guide, window by window, in float64."""
    height, width = score_map.shape
    guide = image / 255.0
    slope, offset = np.zeros((height, width, 3)), np.zeros((height, width))

    def window(row, column):
        return np.s_[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]

    for at in np.ndindex(height, width):
        colors, scores = guide[window(*at)].reshape(-1, 3), score_map[window(*at)].ravel()
        covariance = ((colors - colors.mean(0)) * (scores - scores.mean())[:, None]).mean(0)
        variance = np.cov(colors.T, bias=True) if len(colors) > 1 else np.zeros((3, 3))
        slope[at] = np.linalg.solve(variance + epsilon * np.eye(3), covariance)
        offset[at] = scores.mean() - slope[at] @ colors.mean(0)
    fitted = np.zeros((height, width))
    for at in np.ndindex(height, width):
        fitted[at] = slope[window(*at)].reshape(-1, 3).mean(0) @ guide[at] + offset[window(*at)].mean()
    return fitted


# pamr


def test_pamr_equals_naclips_golden_file():
    golden = load_file(GOLDEN)
    refined = pamr(golden["image"][0], golden["logits"][0])
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, golden["refined"][0], atol=1e-4)


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (2, 3, 9)])
def test_pamr_equals_a_loop_over_pixels(dilations):
    rng = np.random.RandomState(1)
    image, scores = rng.normal(size=(3, 5, 6)), rng.normal(size=(2, 5, 6))
    refined = pamr(image, scores, iterations=2, dilations=dilations)
    for index in range(2):
        np.testing.assert_allclose(refined[index], looped_pamr(image, scores[index], 2, dilations), atol=1e-5)


def test_an_image_and_its_normalised_channels_first_tensor_refine_alike():
    rng = np.random.RandomState(2)
    image, scores = noise(2, 20, 24), torch.from_numpy(rng.normal(size=(2, 20, 24)))
    normalised = (torch.from_numpy(image).permute(2, 0, 1) / 255 - 0.45) / 0.27
    from_image, from_tensor = pamr(image, scores), pamr(normalised, scores)
    assert isinstance(from_image, torch.Tensor)
    np.testing.assert_allclose(from_image, from_tensor, atol=1e-4)  # ten iterations of float32 weights


def test_each_prompt_is_refined_as_if_alone():
    scores = np.random.RandomState(3).normal(size=(3, 12, 9))
    together = pamr(noise(3, 12, 9), scores, iterations=3)
    for index in range(3):
        np.testing.assert_array_equal(together[index], pamr(noise(3, 12, 9), scores[index][None], iterations=3)[0])


def test_scores_stay_in_their_range_and_a_constant_map_stays_constant():
    image = noise(4, 10, 10)
    image[:5] = 7  # flat: no standard deviation to divide by
    scores = np.stack([np.random.RandomState(4).uniform(size=(10, 10)), np.full((10, 10), 0.5)])
    refined = pamr(image, scores)
    np.testing.assert_allclose(refined[1], 0.5, atol=1e-5)  # ten sums of sixteen weights
    assert scores[0].min() - 1e-5 <= refined[0].min()
    assert refined[0].max() <= scores[0].max() + 1e-5


def test_scores_do_not_cross_an_edge_of_the_image_and_spread_inside():
    image = np.zeros((6, 12, 3), np.uint8)
    image[:, 6:] = 255
    scores = np.zeros((1, 6, 12))
    scores[0, 3, 2] = 1
    refined = pamr(image, scores, dilations=(1, 2))[0]
    assert refined[:, :6].min() > 1e-3
    assert refined[:, 6:].max() < 1e-2 * refined[:, :6].max()


def test_no_iteration_changes_nothing_and_arguments_are_left_alone():
    image, scores = noise(5, 4, 4), np.random.RandomState(5).normal(size=(1, 4, 4)).astype(np.float32)
    before = scores.copy()
    np.testing.assert_array_equal(pamr(image, scores, iterations=0), scores)
    pamr(image, scores)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize(
    ("image", "scores", "options", "error", "message"),
    [
        (noise(0, 4, 4), np.zeros((4, 4)), {}, ShapeError, r"scores: expected .*\(T, H, W\)"),
        (noise(0, 4, 4), np.zeros((0, 4, 4)), {}, ShapeError, "scores: expected at least one score map"),
        (noise(0, 4, 5), np.zeros((1, 4, 4)), {}, ShapeError, r"image: expected .*\(4, 4, 3\).*upsample"),
        (np.zeros((4, 4, 3)), np.zeros((1, 4, 4)), {}, ShapeError, r"image: expected .*\(3, 4, 4\)"),
        (noise(0, 4, 4), np.zeros((1, 4, 4)), {"iterations": -1}, OptionError, "iterations"),
        (noise(0, 4, 4), np.zeros((1, 4, 4)), {"dilations": ()}, OptionError, "dilations"),
        (noise(0, 4, 4), np.zeros((1, 4, 4)), {"dilations": (1, 0)}, OptionError, "dilations"),
    ],
)
def test_pamr_refuses_other_shapes_and_options(image, scores, options, error, message):
    with pytest.raises(error, match=message):
        pamr(image, scores, **options)


# guided_filter


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 1e-2), (2, 1e-4), (9, 1e-3)])
def test_the_guided_filter_equals_a_loop_over_windows(radius, epsilon):
    image, score_map = noise(6, 7, 5), np.random.RandomState(6).uniform(size=(7, 5))
    fitted = guided_filter(image, score_map, radius=radius, epsilon=epsilon)
    assert fitted.dtype == np.float32
    np.testing.assert_allclose(fitted, looped_guided(image, score_map, radius, epsilon), atol=1e-6)


def test_a_blurred_edge_is_moved_to_the_images_edge():
    image = np.zeros((9, 16, 3), np.uint8)
    image[:, 8:] = (200, 40, 90)
    blurred = np.tile(np.clip(np.arange(16) / 10 - 0.25, 0, 1), (9, 1))
    fitted = guided_filter(image, blurred, radius=8, epsilon=1e-4)
    assert np.ptp(fitted[:, 4:8]) < 0.05
    assert fitted[4, 8] - fitted[4, 7] > 0.5


def test_a_score_map_that_is_a_linear_function_of_colour_is_unchanged():
    image = noise(7, 12, 12)
    score_map = image @ np.array([0.001, -0.002, 0.0005]) + 0.3
    np.testing.assert_allclose(guided_filter(image, score_map, radius=3, epsilon=1e-8), score_map, atol=1e-4)


def test_a_flat_image_gives_the_mean_of_means_and_one_pixel_is_itself():
    flat = np.full((3, 3, 3), 90, np.uint8)
    np.testing.assert_allclose(guided_filter(flat, np.eye(3), radius=5, epsilon=1e-4), 1 / 3, atol=1e-6)
    one = guided_filter(flat[:1, :1], np.array([[0.7]]), radius=1, epsilon=1e-4)
    np.testing.assert_allclose(one, [[0.7]], atol=1e-6)


def test_the_fast_guided_filter_is_near_the_whole_one_and_follows_edges_at_the_full_size():
    image = np.full((96, 120, 3), 40, np.uint8)
    image[20:70, 33:90] = (200, 120, 60)
    truth = (image[..., 0] == 200).astype(np.float32)
    blurred = cv2.GaussianBlur(truth, (0, 0), 6)
    whole = guided_filter(image, blurred, radius=12, epsilon=1e-3)
    fast = guided_filter(image, blurred, radius=12, epsilon=1e-3, subsampling=3)
    assert np.abs(fast - whole).mean() < 0.02
    edge = ((cv2.blur(truth, (3, 3)) > 0) & (cv2.blur(truth, (3, 3)) < 1)).nonzero()
    assert ((fast > 0.5)[edge] == truth[edge]).mean() > 0.99 > ((blurred > 0.5)[edge] == truth[edge]).mean()
    level = np.full((50, 70), 0.3)
    np.testing.assert_allclose(
        guided_filter(noise(3, 50, 70), level, radius=8, epsilon=1e-3, subsampling=4), 0.3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("score_map", "options", "error", "message"),
    [
        (np.zeros((4, 5)), {"radius": 1, "epsilon": 0.1}, ShapeError, r"score_map: expected .*\(4, 4\)"),
        (np.zeros((4, 4)), {"radius": 0, "epsilon": 0.1}, OptionError, "radius"),
        (np.zeros((4, 4)), {"radius": 1, "epsilon": 0}, OptionError, "epsilon"),
        (np.zeros((4, 4)), {"radius": 2, "epsilon": 0.1, "subsampling": 3}, OptionError, "subsampling"),
    ],
)
def test_the_guided_filter_refuses_other_shapes_and_options(score_map, options, error, message):
    with pytest.raises(error, match=message):
        guided_filter(noise(8, 4, 4), score_map, **options)


def test_the_guide_is_an_rgb_image():
    with pytest.raises(ShapeError, match="image: expected an RGB image"):
        guided_filter(np.zeros((4, 4)), np.zeros((4, 4)), radius=1, epsilon=0.1)


# --- superpixels, and all of them by name


def test_superpixels_take_their_mean_score_and_end_where_colours_do():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 250
    scores = np.random.RandomState(1).uniform(size=(32, 32)).astype(np.float32)
    (voted,) = refined(image, [scores], method="superpixel", patch_pixels=16)  # 8 superpixels
    np.testing.assert_allclose(voted.sum(), scores.sum(), rtol=1e-5)
    assert voted.min() >= scores.min()
    assert voted.max() <= scores.max()
    assert len(np.unique(voted)) <= 16
    assert not set(np.unique(voted[:, :16])) & set(np.unique(voted[:, 16:]))


def test_each_refinement_by_name_applies_its_function_to_every_map():
    image, maps = noise(4, 24, 30), list(np.random.RandomState(5).uniform(size=(11, 24, 30)).astype(np.float32))
    made = {name: list(refined(image, maps, method=name, patch_pixels=6)) for name in REFINEMENTS}
    assert all(np.array_equal(a, b) for a, b in zip(made["none"], maps, strict=True))
    np.testing.assert_array_equal(made["pamr"], pamr(image, np.stack(maps)))
    np.testing.assert_array_equal(
        made["guided"][10], guided_filter(image, maps[10], radius=9, epsilon=1e-3, subsampling=2)
    )


def test_an_unknown_refinement_is_refused():
    with pytest.raises(OptionError, match="method: expected one of none, guided, pamr, superpixel"):
        refined(noise(0, 4, 4), [], method="crf", patch_pixels=2)


@pytest.mark.parametrize("method", REFINEMENTS)
def test_a_map_of_another_size_than_the_image_is_refused(method):
    maps = refined(noise(0, 8, 8), [np.zeros((8, 9), np.float32)], method=method, patch_pixels=2)
    with pytest.raises(ShapeError, match=r"maps: expected an array of shape \(8, 8\), got .*upsample"):
        next(maps)


@pytest.mark.parametrize(
    ("dilations", "message"), [([], "got list"), (3, "got int 3"), ([0], "got 0"), (np.array([1.5, 2]), "got .*1.5")]
)
def test_dilations_are_whole_numbers(dilations, message):
    with pytest.raises(OptionError, match=f"dilations: expected .*whole number.*{message}"):
        pamr(noise(0, 4, 4), np.zeros((1, 4, 4)), dilations=dilations)


def test_dilations_may_be_an_array():
    scores = np.random.RandomState(0).uniform(size=(1, 6, 6))
    np.testing.assert_array_equal(
        pamr(noise(0, 6, 6), scores, dilations=np.array([1, 2])), pamr(noise(0, 6, 6), scores, dilations=[1, 2])
    )
