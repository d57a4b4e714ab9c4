"""`python -m tests.drawing.test_overlay` writes the golden picture again."""

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from fgseg.drawing import overlay
from fgseg.drawing.colors import colorize, palette
from fgseg.drawing.overlay import outline_thickness, overlay_heatmap, overlay_labels, overlay_masks
from fgseg.errors import OptionError, ShapeError
from fgseg.images.resizing import shrink
from fgseg.types import UNLABELLED

GOLDEN = Path(__file__).parents[1] / "data" / "overlay_16x24.png"
GREY = np.full((5, 5, 3), 100, np.uint8)
RED = (200, 0, 0)
IMAGES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)))


def golden_overlay():
    """Two classes, one of them with a hole, on a gradient, computed in integers."""
    rows, columns = np.mgrid[:16, :24]
    image = np.stack([rows * 16, columns * 10, rows * columns % 256], axis=2).astype(np.uint8)
    labels = np.full((16, 24), UNLABELLED, np.int32)
    labels[2:12, 3:14] = 0
    labels[5:8, 6:10] = UNLABELLED
    labels[8:16, 12:22] = 1
    return overlay_labels(image, labels, palette(2))


def greyed(image):
    """The base "grey", pixel by pixel in integers."""
    grey = [
        (77 * int(red) + 150 * int(green) + 29 * int(blue) + 128) // 256 for red, green, blue in image.reshape(-1, 3)
    ]
    return np.repeat(np.array(grey, np.uint8), 3).reshape(image.shape)


def has_other(labels, row, column, reach):
    near = labels[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return (near != labels[row, column]).any()


def slow_overlay(image, labels, colors, opacity, thickness):
    """What `overlay_labels` draws over the photograph, pixel by pixel, in exact fractions."""
    out = image.copy()
    height, width = labels.shape
    for row, column in product(range(height), range(width)):
        label = labels[row, column]
        if label == UNLABELLED:
            continue
        at_edge = has_other(labels, row, column, thickness)
        at_line = not at_edge and has_other(labels, row, column, thickness + (thickness + 1) // 2)
        weight = 256 if at_edge or at_line else round(256 * opacity)
        red, green, blue = colors[label]
        is_light = 77 * red + 150 * green + 29 * blue >= 128 * 256
        color = (0 if is_light else 255,) * 3 if at_line else colors[label]
        for channel in range(3):
            mixed = int(image[row, column, channel]) * (256 - weight) + color[channel] * weight
            out[row, column, channel] = (mixed + 128) // 256
    return out


def test_the_outline_is_the_inner_boundary_of_the_mask_and_the_rest_is_tinted():
    image, labels = np.full((7, 7, 3), 100, np.uint8), np.full((7, 7), UNLABELLED, np.int32)
    labels[1:6, 1:6] = 0
    out = overlay_labels(image, labels, [RED])
    expected = image.copy()
    expected[1:6, 1:6] = RED
    expected[2:5, 2:5] = 255
    expected[3, 3] = (150, 50, 50)
    np.testing.assert_array_equal(out, expected)
    labels[:] = 0
    labels[0] = UNLABELLED
    assert overlay_labels(image, labels, [RED])[:4, 3].tolist() == [[100] * 3, list(RED), [255] * 3, [150, 50, 50]]


@pytest.mark.parametrize(("color", "line"), [((0, 0, 0), 255), ((255, 255, 255), 0), ((240, 228, 66), 0)])
def test_a_class_of_the_color_of_its_surface_is_seen_by_the_line_inside_its_outline(color, line):
    image, labels = np.full((9, 9, 3), color, np.uint8), np.full((9, 9), UNLABELLED)
    labels[2:, :] = 0
    out = overlay_labels(image, labels, [color], base="photo")
    assert out[:, 4].tolist() == [list(color)] * 3 + [[line] * 3] + [list(color)] * 5


def test_the_grey_base_is_the_photograph_without_its_colors_also_where_nothing_is_labelled():
    image = np.random.RandomState(731).randint(0, 256, (5, 6, 3)).astype(np.uint8)
    nothing, no_map = np.full((5, 6), UNLABELLED), np.zeros((5, 6))
    for drawn in (
        overlay_labels(image, nothing, []), overlay_masks(image, [], []), overlay_heatmap(image, no_map),
        overlay_labels(image, nothing, [], base="grey"),
    ):  # fmt: skip
        np.testing.assert_array_equal(drawn, greyed(image))
    for drawn in (overlay_masks(image, [], [], base="photo"), overlay_heatmap(image, no_map, base="photo")):
        np.testing.assert_array_equal(drawn, image)


def test_touching_classes_keep_their_own_outlines_and_the_border_of_the_picture_gets_none():
    labels = np.array([[0, 0, 0, 1, 1, 1]])
    out = overlay_labels(np.zeros((1, 6, 3), np.uint8), labels, [(200, 0, 0), (0, 100, 0)])
    assert out[0].tolist() == [[100, 0, 0], [255] * 3, [200, 0, 0], [0, 100, 0], [255] * 3, [0, 50, 0]]


@given(st.data(), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_labels_are_drawn_as_by_a_slow_loop_for_any_size_of_bands(data, opacity, thickness):
    image = data.draw(IMAGES)
    labels = data.draw(arrays.arrays(np.int32, image.shape[:2], elements=st.integers(-1, 2)))
    colors = palette(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlay, "BAND_PIXELS", data.draw(st.integers(1, 20)))
        patch.setattr(overlay, "outline_thickness", lambda _: thickness)
        out = overlay_labels(image, labels, colors, opacity=opacity, base="photo")
        over_grey = overlay_labels(image, labels, colors, opacity=opacity)
    np.testing.assert_array_equal(out, slow_overlay(image, labels, colors, opacity, thickness))
    np.testing.assert_array_equal(over_grey, slow_overlay(greyed(image), labels, colors, opacity, thickness))


@given(st.data(), st.integers(1, 2))
@settings(deadline=None, max_examples=60)
def test_masks_are_drawn_one_after_the_other_as_labels_of_one_class(data, thickness):
    image = data.draw(IMAGES)
    masks = data.draw(arrays.arrays(np.bool_, (2, *image.shape[:2])))
    colors = palette(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlay, "outline_thickness", lambda _: thickness)
        out = overlay_masks(image, iter(masks), iter(colors), base="photo")
    expected = image
    for mask, color in zip(masks, colors, strict=True):
        expected = slow_overlay(expected, mask.astype(int) - 1, [color], 0.5, thickness)
    np.testing.assert_array_equal(out, expected)


@given(st.data(), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_unlabelled_pixels_are_those_of_the_image_and_arguments_are_left_unchanged(data, opacity):
    image = data.draw(IMAGES)
    labels = data.draw(arrays.arrays(np.int64, image.shape[:2], elements=st.integers(-1, 1)))
    before = image.copy(), labels.copy()
    for array in (image, labels):
        array.setflags(write=False)
    out = overlay_labels(image, labels, palette(2), opacity=opacity, base="photo")
    overlay_labels(image, labels, palette(2), opacity=opacity)
    np.testing.assert_array_equal(out[labels == UNLABELLED], image[labels == UNLABELLED])
    overlay_masks(image, [labels == 0], palette(1), opacity=opacity)
    overlay_heatmap(image, (labels == 0).astype(np.float32), opacity=opacity)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("half", [np.s_[3:], np.s_[:3], np.s_[:, 3:], np.s_[:, :3]])
def test_a_mask_that_touches_the_border_of_the_image_is_outlined_where_it_ends(half):
    image, mask = np.zeros((6, 6, 3), np.uint8), np.zeros((6, 6), bool)
    mask[half] = True
    expected = slow_overlay(image, mask.astype(int) - 1, [RED], 0.5, 1)
    np.testing.assert_array_equal(overlay_masks(image, [mask], [RED]), expected)


def test_an_opacity_of_0_draws_outlines_only_and_without_outlines_the_tint_only():
    labels = np.full((5, 5), UNLABELLED)
    labels[1:4, 1:] = 0
    assert overlay_labels(GREY, np.zeros((5, 5), int), [RED], opacity=0).tolist() == GREY.tolist()
    assert overlay_labels(GREY, labels, [RED], opacity=0)[1, 1].tolist() == list(RED)
    assert overlay_labels(GREY, labels, [RED], opacity=0, outline=False).tolist() == GREY.tolist()
    assert overlay_labels(GREY, labels, [RED], outline=False)[1, 1].tolist() == [150, 50, 50]
    assert overlay_masks(GREY, [labels == 0], [RED], outline=False)[1, 1].tolist() == [150, 50, 50]


def test_a_later_mask_is_blended_over_an_earlier_one():
    full = np.ones((1, 1), bool)
    out = overlay_masks(np.zeros((1, 1, 3), np.uint8), [full, full], [(200, 0, 0), (0, 200, 0)])
    assert out[0, 0].tolist() == [50, 100, 0]


def test_no_mask_and_an_empty_mask_leave_the_image_unchanged():
    assert overlay_masks(GREY, [], []).tolist() == GREY.tolist()
    assert overlay_masks(GREY, [np.zeros((5, 5), bool)], [RED]).tolist() == GREY.tolist()
    assert overlay_labels(GREY, np.full((5, 5), UNLABELLED), []).tolist() == GREY.tolist()


def test_more_than_65535_classes_keep_their_colors():
    labels = np.array([[70000]])
    colors = [(0, 0, 0)] * 70000 + [(2, 4, 6)]
    assert overlay_labels(GREY[:1, :1], labels, colors, opacity=1)[0, 0].tolist() == [2, 4, 6]


def test_a_heatmap_is_as_opaque_as_its_score():
    image = np.zeros((1, 3, 3), np.uint8)
    scores = np.array([[0.0, 0.5, 1.0]], np.float32)
    out = overlay_heatmap(image, scores, opacity=0.5)
    half, full = colorize(scores)[0, 1:].astype(int)
    assert out[0, 0].tolist() == [0, 0, 0]
    # 0.5 is level 128 of 255, a weight of 64 of 256
    assert out[0, 1].tolist() == ((half * 64 + 128) // 256).tolist()
    assert out[0, 2].tolist() == ((full * 128 + 128) // 256).tolist()


def test_outlines_grow_with_the_picture():
    assert [outline_thickness((side, side)) for side in (10, 64, 640, 8000)] == [1, 1, 2, 20]


@pytest.mark.parametrize(
    ("image_hw", "thickness"), [((100, 20_000), 5), ((100, 100_000), 5), ((400, 300_000), 20), ((1, 10_000), 1)]
)
def test_the_outlines_of_a_panorama_depend_on_its_shorter_side(image_hw, thickness):
    assert outline_thickness(image_hw) == outline_thickness(image_hw[::-1]) == thickness


@pytest.mark.parametrize("ratio", [1, 4 / 3, 4, 10])
def test_the_shorter_side_has_no_effect_up_to_ten_times_as_long_as_high(ratio):
    for short in range(1, 4000):
        image_hw = short, int(ratio * short)
        assert outline_thickness(image_hw) == outline_thickness(image_hw[::-1]) == -(-image_hw[1] // 400)


@pytest.mark.parametrize("image_hw", [(100, 20_000), (20_000, 100)])
def test_the_classes_of_a_panorama_are_tinted_inside_their_outlines(image_hw):
    image = np.zeros((*image_hw, 3), np.uint8)
    labels = np.zeros(image_hw, np.int32)
    # Two halves along the panorama: the boundary is its long middle line.
    half = np.s_[50:] if image_hw[0] == 100 else np.s_[:, 50:]
    labels[half] = 1
    drawn = overlay_labels(image, labels, [RED, RED])
    assert np.mean(drawn[..., 0] == RED[0]) == pytest.approx(0.1)
    np.testing.assert_array_equal(overlay_masks(image, [labels == 0, labels == 1], [RED, RED]), drawn)


def test_shrinking_averages_and_never_enlarges():
    image = np.array([[[0] * 3, [100] * 3], [[50] * 3, [50] * 3]], np.uint8)
    assert shrink(image, max_side=1).tolist() == [[[50, 50, 50]]]
    same = shrink(image, max_side=9)
    assert same.tolist() == image.tolist()
    assert not np.shares_memory(same, image)
    assert shrink(np.zeros((50, 4000, 3), np.uint8), max_side=40).shape == (1, 40, 3)


def test_the_overlay_equals_the_golden_picture():
    np.testing.assert_array_equal(golden_overlay(), cv2.imread(str(GOLDEN), cv2.IMREAD_COLOR)[..., ::-1])


LABELS = np.zeros((5, 5), np.int32)
MASK = np.ones((5, 5), bool)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: overlay_labels(GREY[..., 0], LABELS, [RED]), ShapeError, "image: expected an RGB image"),
        (lambda: overlay_labels(GREY, LABELS[:4], [RED]), ShapeError, r"labels: .*\(5, 5\).*\(4, 5\)"),
        (lambda: overlay_labels(GREY, LABELS * 1.0, [RED]), ShapeError, "labels: expected a numpy array of integers"),
        (
            lambda: overlay_labels(GREY, LABELS + 1, [RED]),
            ShapeError,
            "labels: expected values from -1 to 0, got 1",
        ),
        (lambda: overlay_labels(GREY, LABELS - 2, [RED]), ShapeError, "labels: expected values from -1 to 0, got -2"),
        (lambda: overlay_labels(GREY, LABELS, [(0, 0, 300)]), OptionError, "colors: expected .red"),
        (lambda: overlay_labels(GREY, LABELS, [RED], opacity=1.1), OptionError, "opacity: .* 0 to 1"),
        (lambda: overlay_labels(GREY, LABELS, [RED], base="gray"), OptionError, "base: expected one of grey, photo"),
        (lambda: overlay_masks(GREY, [LABELS], [RED]), ShapeError, "masks: expected a mask"),
        (lambda: overlay_masks(GREY, [MASK[:4]], [RED]), ShapeError, r"masks: .*\(5, 5\)"),
        (lambda: overlay_masks(GREY, [MASK], []), OptionError, "as many as masks, got fewer colors"),
        (lambda: overlay_masks(GREY, [], [RED]), OptionError, "as many as masks, got fewer masks"),
        (lambda: overlay_masks(GREY, [MASK], [(1, 2)]), OptionError, "colors: expected .red"),
        (lambda: overlay_masks(GREY, [MASK], [RED], opacity=-1), OptionError, "opacity: .* 0 to 1"),
        (lambda: overlay_masks(MASK, [MASK], [RED]), ShapeError, "image: expected an RGB image"),
        (lambda: overlay_heatmap(GREY, np.zeros((4, 5))), ShapeError, r"score_map: .*\(5, 5\)"),
        (lambda: overlay_heatmap(GREY, np.full((5, 5), 2.0)), ShapeError, "values: expected values in"),
        (lambda: overlay_heatmap(GREY, np.zeros((5, 5)), opacity=2), OptionError, "opacity: .* 0 to 1"),
        (
            lambda: overlay_heatmap(GREY, np.zeros((5, 5)), colormap="x"),
            OptionError,
            "colormap: expected one",
        ),
        (lambda: overlay_heatmap(MASK, np.zeros((5, 5))), ShapeError, "image: expected an RGB image"),
        (lambda: shrink(MASK, max_side=5), ShapeError, "image: expected an RGB image"),
        (lambda: shrink(GREY, max_side=0), OptionError, "max_side: expected a number from 1"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


if __name__ == "__main__":
    cv2.imwrite(str(GOLDEN), golden_overlay()[..., ::-1])
