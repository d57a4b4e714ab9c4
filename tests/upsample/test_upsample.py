import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fgseg.errors import OptionError, ShapeError
from fgseg.upsample import argmax, labels as upsample
from fgseg.upsample.labels import label_map, running_label_map
from fgseg.upsample.maps import shrink_map, upsample_map, upsample_maps

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 6)
# Bilinear values of scores in [-1, 1] in float32, by two orders of the same additions.
ROUNDING = 1e-6


def plain_label_map(scores, image_hw):
    """The oracle: every map whole, by OpenCV, compared in order; a tie stays with the lower index."""
    height, width = image_hw
    best, labels = np.full(image_hw, -np.inf, np.float32), np.zeros(image_hw, np.int32)
    for index, grid in enumerate(scores):
        score_map = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
        better = score_map > best
        best[better], labels[better] = score_map[better], index
    return labels, best


def assert_wins(scores, image_hw, labels, best):
    """The chosen map is the highest at every pixel but for rounding, and `best` is its value."""
    height, width = image_hw
    maps = np.stack([cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR) for grid in scores])
    tolerance = ROUNDING * max(1, float(np.abs(scores).max()))
    chosen = np.take_along_axis(maps, labels[None].astype(np.int64), 0)[0]
    np.testing.assert_allclose(chosen, maps.max(0), atol=tolerance, rtol=0)
    np.testing.assert_allclose(best, maps.max(0), atol=tolerance, rtol=0)


def scores_of(kind, rng, prompts, gh, gw):
    if kind == "random":
        scores = rng.uniform(-1, 1, (prompts, gh, gw))
    elif kind == "smooth":
        scores = np.stack([cv2.resize(rng.normal(size=(2, 2)), (gw, gh)).reshape(gh, gw) for _ in range(prompts)])
    elif kind == "ties":
        scores = rng.randint(-1, 2, (prompts, gh, gw))
    elif kind == "one ulp apart":
        scores = np.float32(0.3) + np.spacing(np.float32(0.3)) * rng.randint(0, 3, (prompts, gh, gw))
    else:  # regions: every patch has one prompt well above the others
        scores = rng.uniform(0, 0.1, (prompts, gh, gw))
        np.put_along_axis(scores, rng.randint(0, prompts, (1, gh, gw)), 1, axis=0)
    return scores.astype(np.float32)


KINDS = ["random", "smooth", "ties", "one ulp apart", "regions"]

# upsample_map


def test_two_patches_over_four_pixels_are_what_half_integer_centres_give():
    np.testing.assert_array_equal(upsample_map(np.array([[0, 1]]), (1, 4)), [[0, 0.25, 0.75, 1]])


def test_a_square_of_patches_is_bilinear_by_hand():
    # pixel centres at -.25 (clamped to 0), .25, .75, 1.25 (clamped to 1) patches
    weight = np.array([0, 0.25, 0.75, 1])
    expected = 4 * weight[:, None] + 8 * weight
    np.testing.assert_array_equal(upsample_map(np.array([[0, 8], [4, 12]]), (4, 4)), expected)


@given(seed=SEEDS, grid_hw=st.tuples(SIDES, SIDES), image_hw=st.tuples(st.integers(1, 30), st.integers(1, 30)))
@settings(deadline=None, max_examples=60)
def test_a_map_equals_torchs_and_stays_in_the_range_of_its_patches(seed, grid_hw, image_hw):
    grid = np.random.RandomState(seed).uniform(-1, 1, grid_hw).astype(np.float32)
    score_map = upsample_map(grid, image_hw)
    other = torch.nn.functional.interpolate(torch.from_numpy(grid)[None, None], image_hw, mode="bilinear")[0, 0]
    assert score_map.shape == image_hw
    np.testing.assert_allclose(score_map, other, atol=ROUNDING)
    assert score_map.min() >= grid.min() - ROUNDING
    assert score_map.max() <= grid.max() + ROUNDING


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.float16, np.float64])
def test_any_real_dtype_and_memory_order_is_accepted(dtype):
    grid = np.arange(12).reshape(3, 4).astype(dtype)
    expected = upsample_map(grid.astype(np.float32), (7, 9))
    np.testing.assert_array_equal(upsample_map(grid, (7, 9)), expected)
    np.testing.assert_array_equal(upsample_map(np.asfortranarray(grid), (7, 9)), expected)


def test_flipping_the_grid_flips_the_map():
    grid = np.random.RandomState(1).uniform(size=(3, 5)).astype(np.float32)
    flipped = upsample_map(grid[::-1, ::-1], (14, 9))
    np.testing.assert_allclose(flipped, upsample_map(grid, (14, 9))[::-1, ::-1], atol=ROUNDING)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (np.zeros((2, 2, 1)), r"score_map_on_grid: expected .*\(H, W\)"),
        (np.zeros((0, 2)), "score_map_on_grid: expected finite scores, got .*shape"),
        (np.array([[0, np.nan]]), "score_map_on_grid: .*with NaN or infinity"),
        (np.array([[0, np.inf]]), "score_map_on_grid: .*with NaN or infinity"),
    ],
)
def test_a_grid_that_cannot_be_drawn_is_refused(grid, message):
    with pytest.raises(ShapeError, match=message):
        upsample_map(grid, (4, 4))


@pytest.mark.parametrize("image_hw", [(0, 4), (4,), (4.0, 4), 4, (-1, 2)])
def test_a_size_that_is_not_two_whole_numbers_is_refused_everywhere(image_hw):
    scores = np.zeros((1, 2, 2))
    for call in (upsample_maps, label_map, lambda s, hw: upsample_map(s[0], hw), lambda s, hw: shrink_map(s[0], hw)):
        with pytest.raises(OptionError, match=r"image_hw: expected \(height, width\)"):
            call(scores, image_hw)


# upsample_maps


def test_streamed_maps_equal_single_maps_in_order_and_have_the_kind_of_the_scores():
    scores = np.random.RandomState(2).uniform(size=(3, 2, 4)).astype(np.float32)
    arrays, tensors = upsample_maps(scores, (5, 9)), upsample_maps(torch.from_numpy(scores), (5, 9))
    assert iter(arrays) is arrays
    for index, (array, tensor) in enumerate(zip(arrays, tensors, strict=True)):
        np.testing.assert_array_equal(array, upsample_map(scores[index], (5, 9)))
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_allclose(tensor, array, atol=ROUNDING)


def test_a_bad_stack_is_refused_before_the_first_map():
    with pytest.raises(ShapeError, match="NaN"):
        upsample_maps(np.full((1, 2, 2), np.nan), (4, 4))
    with pytest.raises(ShapeError, match=r"scores: expected .*\(T, h, w\)"):
        upsample_maps(np.zeros((2, 2)), (4, 4))


# shrink_map


def test_shrinking_takes_means_and_growing_interpolates():
    score_map = np.array([[0, 4, 4, 8], [4, 4, 8, 8]])
    np.testing.assert_array_equal(shrink_map(score_map, (1, 2)), [[3, 7]])
    np.testing.assert_array_equal(shrink_map(score_map, (4, 2)), [[2, 6], [2.5, 6.5], [3.5, 7.5], [4, 8]])
    np.testing.assert_array_equal(shrink_map(score_map, (2, 4)), score_map)


@given(seed=SEEDS, factor=st.integers(1, 4), size_hw=st.tuples(SIDES, SIDES))
@settings(deadline=None, max_examples=60)
def test_shrinking_by_a_whole_factor_is_the_mean_of_tiles(seed, factor, size_hw):
    height, width = size_hw
    score_map = np.random.RandomState(seed).uniform(size=(height * factor, width * factor))
    expected = score_map.reshape(height, factor, width, factor).mean((1, 3))
    np.testing.assert_allclose(shrink_map(score_map, size_hw), expected, atol=1e-6)  # float32, 16 adds


def test_a_map_with_nan_is_not_shrunk():
    with pytest.raises(ShapeError, match=r"score_map: .*NaN"):
        shrink_map(np.array([[np.nan]]), (1, 1))


# label_map


def test_two_prompts_that_cross_change_over_where_they_are_equal_and_the_lower_index_keeps_the_tie():
    # 0, 1/4, 3/4, 1 against 1, 3/4, 1/4, 0; and against a constant half
    labels, best = label_map(np.array([[[0, 1]], [[1, 0]]]), (1, 4))
    np.testing.assert_array_equal(labels, [[1, 1, 0, 0]])
    np.testing.assert_array_equal(best, [[1, 0.75, 0.75, 1]])
    labels, _ = label_map(np.array([[[0, 1, 0]], [[0, 1, 0]], [[0.5, 0.5, 0.5]]]), (1, 6))
    # centres at -.25, .25, .75, 1.25, 1.75, 2.25 patches: 0, .25, .75, .75, .25, 0
    np.testing.assert_array_equal(labels, [[2, 2, 0, 0, 2, 2]])


@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=SEEDS,
    prompts=st.integers(1, 6),
    grid_hw=st.tuples(SIDES, SIDES),
    image_hw=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
@settings(deadline=None, max_examples=60)
def test_dropping_prompts_changes_nothing(kind, seed, prompts, grid_hw, image_hw):
    scores = scores_of(kind, np.random.RandomState(seed), prompts, *grid_hw)
    grids = torch.from_numpy(scores)
    whole_labels, whole_best = argmax.compare_maps(grids, image_hw)
    labels, best = argmax.compare_blocks(grids, image_hw)
    assert torch.equal(labels, whole_labels)
    assert torch.equal(best, whole_best)
    assert_wins(scores, image_hw, labels.numpy(), best.numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("prompts", "grid_hw", "image_hw"),
    [
        (1, (3, 4), (40, 50)),
        (2, (1, 1), (33, 1)),
        (300, (4, 5), (150, 301)),
        (5, (1, 2), (400, 300)),  # blocks cut to the coarse size
        (4, (40, 30), (7, 9)),  # an image smaller than the grid
        (3, (9, 9), (9, 9)),
        (7, (2, 3), (1, 1)),
        (6, (13, 17), (97, 251)),
    ],
)
def test_a_label_map_equals_comparing_every_map(kind, prompts, grid_hw, image_hw):
    scores = scores_of(kind, np.random.RandomState(11), prompts, *grid_hw)
    labels, best = label_map(scores, image_hw)
    assert labels.shape == best.shape == image_hw
    assert labels.dtype == np.int32
    assert best.dtype == np.float32
    assert_wins(scores, image_hw, labels, best)
    dropped = argmax.compare_blocks(torch.from_numpy(scores), image_hw)
    np.testing.assert_array_equal(dropped[0], labels)
    np.testing.assert_array_equal(dropped[1], best)


def test_a_prompt_that_leads_only_by_rounding_does_not_win_a_block_unseen():
    """Between patches the two round to the same score in places, and there the lower index has the pixel."""
    low = torch.rand(6, 7, generator=torch.Generator().manual_seed(0))
    grids = torch.stack([low, torch.nextafter(low, torch.ones(()))])
    labels, best = argmax.compare_blocks(grids, (48, 56))
    whole_labels, whole_best = argmax.compare_maps(grids, (48, 56))
    assert 0 < int((whole_labels == 0).sum()) < whole_labels.numel()
    torch.testing.assert_close(labels, whole_labels, rtol=0, atol=0)
    torch.testing.assert_close(best, whole_best, rtol=0, atol=0)


@pytest.mark.parametrize("factor", [1, 2, 4, 32])
@pytest.mark.parametrize("grid_hw", [(4, 8), (1, 4), (16, 16)])
def test_on_data_exact_in_float32_labels_and_scores_equal_opencvs_exactly(factor, grid_hw):
    # small whole numbers at power-of-two factors: every product and sum is exact
    scores = np.random.RandomState(12).randint(-8, 9, (9, *grid_hw)).astype(np.float32)
    image_hw = grid_hw[0] * factor, grid_hw[1] * factor
    labels, best = plain_label_map(scores, image_hw)
    for compare in (label_map, argmax.compare_blocks):
        result = compare(torch.from_numpy(scores), image_hw)
        np.testing.assert_array_equal(result[0], labels)
        np.testing.assert_array_equal(result[1], best)


def test_exactly_equal_prompts_leave_every_pixel_to_the_first():
    scores = np.repeat(np.random.RandomState(13).uniform(size=(1, 3, 4)), 5, axis=0)
    assert not label_map(scores, (60, 90))[0].any()


def test_permuting_prompts_permutes_labels_and_keeps_the_best_score():
    rng = np.random.RandomState(14)
    scores, order = rng.uniform(size=(6, 4, 5)), rng.permutation(6)
    labels, best = label_map(scores, (50, 80))
    permuted_labels, permuted_best = label_map(scores[order], (50, 80))
    np.testing.assert_array_equal(order[permuted_labels], labels)
    np.testing.assert_array_equal(permuted_best, best)


def test_scores_far_from_zero_keep_the_order_that_float32_has():
    scores = 1000 + np.random.RandomState(15).uniform(0, 1e-3, (20, 5, 5)).astype(np.float32)
    assert_wins(scores, (90, 110), *label_map(scores, (90, 110)))
    assert_wins(-scores, (90, 110), *label_map(-scores, (90, 110)))


def test_tensors_come_back_as_tensors_and_arrays_as_arrays_with_the_same_values():
    scores = np.random.RandomState(16).uniform(size=(9, 4, 5)).astype(np.float16)
    scores.setflags(write=False)
    arrays = label_map(scores, (60, 70))
    tensors = label_map(torch.tensor(scores).requires_grad_(), (60, 70))
    assert [tensor.dtype for tensor in tensors] == [torch.int32, torch.float32]
    for array, tensor in zip(arrays, tensors, strict=True):
        assert not tensor.requires_grad
        np.testing.assert_array_equal(tensor, array)


def test_both_comparisons_give_the_same_labels_at_every_cost(monkeypatch):
    scores = np.random.RandomState(17).uniform(size=(12, 3, 4)).astype(np.float32)
    results = []
    for price in (0, 1000):
        monkeypatch.setattr("fgseg.upsample.labels._DROPPING_A_PIXEL", price)
        results.append(label_map(scores, (45, 61)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_a_gpu_compares_stacks_of_maps():
    for prompts in (1, 171):
        scores = torch.zeros(prompts, 4, 4, device="meta")
        assert upsample._fastest(scores, (200, 200)) is argmax.compare_stacks


@pytest.mark.parametrize("way", [argmax.compare_maps, argmax.compare_stacks])
def test_whole_maps_are_compared_on_the_device_of_the_scores(way):
    scores = torch.empty(3, 4, 5, device="meta")  # which, as a GPU, takes no second tensor of the CPU's
    for result in way(scores, (20, 30)):
        assert (result.device.type, result.shape) == ("meta", (20, 30))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stacked", [1, 3 * 45 * 61, 2**24])  # a map at a time, three, all
def test_any_number_of_maps_at_a_time_gives_the_same_labels(monkeypatch, kind, stacked):
    monkeypatch.setattr(argmax, "_STACKED", stacked)
    grids = torch.from_numpy(scores_of(kind, np.random.RandomState(19), 8, 6, 7))
    grids = torch.cat([grids, grids[2:4]])  # ties, in another stack too: the lowest index has them
    labels, best = argmax.compare_stacks(grids, (45, 61))
    whole_labels, whole_best = argmax.compare_maps(grids, (45, 61))
    assert labels.dtype == torch.int32
    assert torch.equal(labels, whole_labels)
    assert torch.equal(best, whole_best)


def test_stacks_of_the_maps_of_several_images_give_the_labels_of_each(monkeypatch):
    monkeypatch.setattr(argmax, "_STACKED", 2 * 3 * 45 * 61)  # two prompts of three images at a time
    grids = torch.from_numpy(scores_of("random", np.random.RandomState(23), 15, 6, 7)).reshape(5, 3, 6, 7)
    labels, best = argmax.compare_stacks(grids, (45, 61))
    for index in range(3):
        one_labels, one_best = argmax.compare_maps(grids[:, index], (45, 61))
        assert torch.equal(labels[index], one_labels)
        assert torch.equal(best[index], one_best)


@pytest.mark.parametrize(
    ("prompts", "grid_hw", "image_hw", "way"),
    [
        (5, (4, 4), (200, 200), "compare_maps"),  # too few prompts
        (6, (4, 4), (200, 200), "compare_blocks"),
        (9, (40, 40), (120, 120), "compare_blocks"),
        (9, (40, 40), (40, 40), "compare_maps"),  # as many patches as pixels
    ],
)
def test_the_comparison_is_chosen_by_the_work_that_dropping_saves(monkeypatch, prompts, grid_hw, image_hw, way):
    taken = []
    for name in ("compare_maps", "compare_blocks"):
        monkeypatch.setattr(
            f"fgseg.upsample.labels.{name}", lambda *args, name=name: taken.append(name) or (None, None)
        )
    label_map(torch.zeros(prompts, *grid_hw), image_hw)
    assert taken == [way]


def test_any_number_of_blocks_at_a_time_gives_the_same_labels(monkeypatch):
    grids = torch.from_numpy(scores_of("random", np.random.RandomState(18), 5, 6, 7))
    whole = argmax.compare_maps(grids, (120, 90))
    for pixels, pairs in ((1, 2**18), (3000, 2**18), (2**19, 1), (2**19, 100)):
        monkeypatch.setattr(argmax, "_PIXELS", pixels)
        monkeypatch.setattr(argmax, "_PAIRS", pairs)
        for part, expected in zip(argmax.compare_blocks(grids, (120, 90)), whole, strict=True):
            assert torch.equal(part, expected)


def test_prompts_that_cannot_win_are_dropped_before_pixels_are_compared(monkeypatch):
    """Characterises the speed: along the border of two regions only their two prompts are left."""
    scores = np.random.RandomState(19).uniform(0, 0.1, (50, 8, 8)).astype(np.float32)
    scores[3, :, :4] = 1
    scores[7, :, 4:] = 1
    seen = []
    compare = argmax._compare_runs

    def spy(candidates, counts, *weights):
        seen.append(counts)
        return compare(candidates, counts, *weights)

    monkeypatch.setattr(argmax, "_compare_runs", spy)
    labels, _ = argmax.compare_blocks(torch.from_numpy(scores), (256, 256))
    counts = torch.cat(seen)
    assert counts.min() == 1
    assert counts.max() == 2
    assert counts.float().mean() < 1.1
    np.testing.assert_array_equal(np.unique(labels), [3, 7])


def test_only_blocks_without_one_winner_all_around_are_compared(monkeypatch):
    """Characterises the speed, and holds what is read off the grid to what is compared."""
    scores = np.zeros((3, 8, 8), np.float32)
    scores[0, :, :4] = scores[2, :, 4:] = 1
    scores[1, 0, 0] = 1  # a tie
    compared = []
    compare = argmax._candidates

    def spy(grids, rows, columns, blocks, margin):
        compared.append((blocks // len(columns), blocks % len(columns)))
        return compare(grids, rows, columns, blocks, margin)

    monkeypatch.setattr(argmax, "_candidates", spy)
    labels, best = argmax.compare_blocks(torch.from_numpy(scores), (32, 32))
    down, across = (torch.cat(parts).tolist() for parts in zip(*compared, strict=True))
    # 9 blocks an axis, from beyond the first patch to beyond the last: the border's column, and around the tie
    assert set(zip(down, across, strict=True)) == {(row, 4) for row in range(9)} | {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert_wins(scores, (32, 32), labels.numpy(), best.numpy())


@pytest.mark.parametrize("level", [0, -10])
@pytest.mark.parametrize(
    ("corners", "left"),
    [
        # the prompt that is highest at the centre beats the last; four that are high at a corner each stay
        ([[5, 5, 5, 5], [9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9], [4, 4, 4, 4]], [0, 1, 2, 3, 4]),
        # neither of two regions' prompts beats the last at all corners, their mean does
        ([[9, 9, 0, 0], [0, 0, 9, 9], [4, 4, 4, 4]], [0, 1]),
        ([[9, 9, 0, 0], [0, 0, 9, 9], [5, 5, 5, 5]], [0, 1, 2]),
        ([[3, 3, 3, 3], [3, 3, 3, 3], [3, 3, 3, 2], [2, 2, 2, 2]], [0, 1, 2]),  # ties stay
    ],
)
def test_a_prompt_is_dropped_where_the_best_at_the_centre_or_the_mean_of_the_corners_beats_it(corners, left, level):
    pairs = torch.tensor(corners, dtype=torch.float32).T + level
    block = torch.zeros(len(corners), dtype=torch.int64)
    assert argmax._contenders(pairs, block, 1, 1e-3).tolist() == left
    # blocks do not see each other
    twice, blocks = torch.cat([pairs, pairs + 100], 1), torch.cat([block, block + 1])
    expected = left + [index + len(corners) for index in left]
    assert argmax._contenders(twice, blocks, 2, 1e-3).tolist() == expected


class LargestTensor(TorchDispatchMode):
    """Remembers how many numbers the largest tensor made under it holds."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else [result]
        self.numel = max([self.numel, *(tensor.numel() for tensor in made if isinstance(tensor, torch.Tensor))])
        return result


@pytest.mark.parametrize("grid_hw", [(8, 8), (200, 200)])
def test_no_tensor_as_large_as_a_stack_of_maps_is_allocated(grid_hw):
    scores = torch.from_numpy(scores_of("regions", np.random.RandomState(20), 40, *grid_hw))
    with LargestTensor() as largest:
        label_map(scores, (256, 256))
    # the grids themselves, their finite flags, or a few values a pixel; a stack would hold 40 a pixel
    assert largest.numel <= max(scores.numel(), 4 * 256 * 256)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros((2, 2)), r"scores: expected .*\(T, h, w\)"),
        (np.zeros((0, 2, 2)), "scores: expected finite scores of at least one prompt"),
        (np.full((1, 2, 2), np.nan), "with NaN or infinity"),
        (torch.full((1, 2, 2), -torch.inf), "with NaN or infinity"),
    ],
)
def test_scores_without_a_winner_are_refused(scores, message):
    with pytest.raises(ShapeError, match=message):
        label_map(scores, (4, 4))


# running_label_map


@given(seed=SEEDS, sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=60)
def test_chunks_give_the_label_map_of_all_their_prompts(seed, sizes, kind):
    scores = scores_of(kind, np.random.RandomState(seed), sum(sizes), 3, 4)
    chunks = np.split(scores, np.cumsum(sizes)[:-1])
    expected = label_map(scores, (20, 17))
    for part, whole in zip(running_label_map(iter(chunks), (20, 17)), expected, strict=True):
        assert isinstance(part, np.ndarray)
        np.testing.assert_array_equal(part, whole)
    tensors = running_label_map((torch.from_numpy(chunk) for chunk in chunks), (20, 17))
    assert tensors[0].dtype == torch.int32
    np.testing.assert_array_equal(tensors[0], expected[0])


def test_no_chunk_at_all_is_refused():
    with pytest.raises(ShapeError, match="chunks: expected at least one chunk"):
        running_label_map([], (4, 4))
