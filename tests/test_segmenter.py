import copy
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import fgseg
from fgseg.errors import ImageError, OptionError, PromptError, ShapeError
from fgseg.images.reading import read_image
from fgseg.prompts.classes import PromptClass
from fgseg.regions.components import fill_holes, remove_small, remove_small_labels
from fgseg.regions.specks import join_gaps, join_parts, quarter_patch
from fgseg.scenes.composition import scene
from fgseg.scoring.presence import automatic_threshold
from fgseg.scoring.resolution import Resolution
from fgseg.scoring.superpixels import superpixels
from fgseg.segmentation.kept_masks import KeptMasks
from fgseg.segmentation.score_field import ScoreField
from fgseg.types import UNLABELLED

RESOLUTIONS = ("squash", "keep", "slide")
HAND_DRAWN = "tests/data/coffee_red.png"


@pytest.fixture(scope="module")
def seg():
    return fgseg.load("mini", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def picture():
    """A small scene: a few shapes on a background."""
    return scene(12_345, (96, 128)).image


def share(mask):
    return float(np.mean(mask))


# --- the embedded model


def test_red_covers_the_saucer_and_cup_of_the_coffee_photograph(seg, request):
    drawn = read_image(request.config.rootpath / HAND_DRAWN)[:, :, 0] > 0
    found = seg.segment(data.coffee(), ["red"]).masks["red"]
    assert (found & drawn).sum() / (found | drawn).sum() >= 0.6


def test_the_embedded_model_finds_a_shape_by_its_colour(seg):
    image = np.full((128, 128, 3), 240, np.uint8)
    image[32:96, 32:96] = (220, 20, 20)
    mask = seg.segment(image, ["red"]).masks["red"]
    assert share(mask[40:88, 40:88]) > 0.95
    assert share(mask[:24]) < 0.05


@pytest.fixture
def red_square():
    image = np.full((128, 128, 3), 240, np.uint8)
    image[32:96, 32:96] = (220, 20, 20)
    return image


@pytest.mark.parametrize("color", ["green", "yellow", "black", "blue"])
def test_an_absent_colour_wins_under_one_percent(seg, red_square, color):
    assert share(seg.segment(red_square, [color]).labels != UNLABELLED) < 0.01


@pytest.mark.parametrize("color", ["green", "yellow", "black", "blue"])
def test_an_absent_colour_is_nowhere_as_hot_as_a_tie(seg, red_square, color):
    assert seg.heatmaps(red_square, [color], refine="none")[color].max() < 0.5


def test_heatmaps_are_the_maps_that_masks_are_cut_from(seg, picture):
    for refine in ("auto", "none", "guided"):
        scores = seg.segment(picture, ["red", "white"], refine=refine).scores
        for name, heatmap in seg.heatmaps(picture, ["red", "white"], refine=refine).items():
            np.testing.assert_array_equal(heatmap, scores[name])
    assert (seg.heatmaps(picture, ["red"], refine="none")["red"] != seg.heatmaps(picture, ["red"])["red"]).any()
    with pytest.raises(OptionError, match="refine: expected one of auto, none, guided, pamr, got 'sharp'"):
        seg.heatmaps(picture, ["red"], refine="sharp")


def test_a_word_the_embedded_model_has_never_seen_is_refused_naming_real_models(seg, picture):
    with pytest.raises(PromptError, match=r"never seen the word 'giraffe'.*fg-clip-base"):
        seg.segment(picture, ["red", "blue giraffe"])


def test_the_embedded_model_is_small_enough_for_the_package(seg):
    assert sum(path.stat().st_size for path in seg.encoder.checkpoint.tensor_files) < 12_000_000


# --- shapes and resolutions


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("image_hw", [(1, 1), (16, 16), (333, 77), (600, 9), (9, 600)])
def test_labels_have_the_size_of_the_image_whatever_its_shape(seg, resolution, image_hw):
    image = np.random.RandomState(3).randint(0, 255, (*image_hw, 3), np.uint8)
    result = seg.segment(image, ["red", "blue"], resolution=resolution)
    assert result.labels.shape == image_hw
    assert result.scores["red"].shape == image_hw


@pytest.mark.parametrize("image_hw", [(4000, 50), (50, 4000), (333, 777)])
def test_panoramas_and_towers_work_at_the_default_resolution(seg, image_hw):
    image = np.random.RandomState(4).randint(0, 255, (*image_hw, 3), np.uint8)
    assert seg.segment(image, ["red"]).labels.shape == image_hw


def test_flipping_the_image_flips_the_mask_at_squash_resolution(seg, picture):
    # Positions are learnt, so a flip is not exact: the masks agree on nearly all pixels.
    square = np.ascontiguousarray(picture[:96, :96])
    straight = seg.segment(square, ["red", "green", "blue"], resolution="squash").labels
    flipped = seg.segment(np.ascontiguousarray(square[:, ::-1]), ["red", "green", "blue"], resolution="squash").labels
    assert share(straight == flipped[:, ::-1]) > 0.9


def test_windows_cover_the_canvas_and_their_grid_is_the_canvas_in_patches(seg, picture):
    view = seg.encode(picture, resolution="slide:192/128/64")
    assert view.canvas_hw == (192, 256)
    assert len(view.windows) == 2 * 3
    assert view.grid_hw == (24, 32)


def test_a_resolution_can_be_given_as_words_or_as_sizes(seg, picture):
    words = seg.encode(picture, resolution="slide:192/128/64")
    sizes = seg.encode(picture, resolution=Resolution("slide", 192, 128, 64))
    for one, other in zip(words.windows, sizes.windows, strict=True):
        torch.testing.assert_close(one.grid, other.grid)


# --- exclusive masks


def test_permuting_prompts_permutes_labels(seg, picture):
    names = ["red", "green", "blue", "yellow"]
    straight = seg.segment(picture, names)
    turned = seg.segment(picture, names[::-1])
    named = np.array([*names, "nothing"], object)[straight.labels]
    turned_named = np.array([*names[::-1], "nothing"], object)[turned.labels]
    np.testing.assert_array_equal(named, turned_named)


def test_exclusive_masks_never_overlap_and_are_where_labels_say(seg, picture):
    result = seg.segment(picture, ["red", "green", "circle", "square"])
    total = sum(mask.astype(int) for mask in result.masks.values())
    assert total.max() <= 1
    for index, mask in enumerate(result.masks.values()):
        np.testing.assert_array_equal(mask, result.labels == index)


def test_every_labelled_pixel_is_at_least_as_present_as_the_threshold(seg, picture):
    result = seg.segment(picture, ["red", "green", "blue"], threshold=0.8)
    for name, mask in result.masks.items():
        # label_map and OpenCV agree within 1e-5 of cosine, times a temperature of at most 100.
        assert not mask.any() or result.scores[name][mask].min() >= 0.8 - 1e-3


def test_presence_of_a_prompt_does_not_depend_on_the_other_prompts(seg, picture):
    alone = seg.heatmaps(picture, ["red"])["red"]
    among = seg.heatmaps(picture, ["green", "red", "circle"])["red"]
    np.testing.assert_allclose(alone, among, atol=1e-6)  # the same products in another order


def test_presence_is_the_softmax_of_a_prompt_and_its_best_rival(seg, picture):
    view = seg.encode(picture, resolution="squash")
    prompt, rival = seg.encoder.encode_texts(["red", "anything else"])
    grid = view.windows[0].grid
    margin = seg.encoder.logit_scale * (grid @ prompt - grid @ rival)
    expected = torch.nn.functional.interpolate(
        (seg.encoder.logit_scale * torch.stack([grid @ prompt, grid @ rival]))[None], (96, 128), mode="bilinear"
    ).softmax(1)[0, 0]
    assert margin.shape == (28, 28)
    # float32 through two bilinear implementations: 3e-7 of cosine, times the temperature.
    np.testing.assert_allclose(seg.heatmaps(view, ["red"], refine="none")["red"], expected.numpy(), atol=1e-4)


def test_negative_prompts_compete_and_never_win_a_pixel(seg):
    image = np.full((96, 96, 3), 240, np.uint8)
    image[16:80, 16:80] = (220, 20, 20)
    without = seg.segment(image, ["square"])
    against = seg.segment(image, ["square"], negatives=["red square"])
    assert against.classes == ("square",)
    assert share(against.labels == 0) <= share(without.labels == 0)
    assert set(np.unique(against.labels)) <= {UNLABELLED, 0}


def test_a_background_word_takes_the_pixels_it_wins(seg):
    image = np.full((96, 96, 3), (220, 20, 20), np.uint8)
    assert share(seg.segment(image, ["red"]).labels == 0) > 0.9
    assert share(seg.segment(image, ["red"], background=["red background"]).labels == 0) < 0.9


def test_without_background_every_pixel_goes_to_a_prompt(seg, picture):
    result = seg.segment(picture, ["red", "blue"], background=())
    assert (result.labels != UNLABELLED).all()
    for name, mask in result.masks.items():
        assert not mask.any() or result.scores[name][mask].min() >= 0.5 - 1e-3


def test_synonyms_give_the_class_the_best_of_their_scores(seg, picture):
    one, other = seg.heatmaps(picture, ["red", "blue"], refine="none").values()
    both = seg.heatmaps(picture, ["red, blue"], refine="none")["red"]
    np.testing.assert_allclose(both, np.maximum(one, other), atol=1e-6)


def test_more_than_255_classes_keep_their_order(seg, picture):
    from fgseg.scenes.vocabulary import COLOR_NAMES

    names = list(COLOR_NAMES[:300])
    result = seg.segment(picture, names, resolution="squash")
    assert result.classes == tuple(names)
    assert result.labels.max() < 300


def test_synonyms_label_pixels_with_their_class(seg):
    image = np.full((96, 96, 3), 240, np.uint8)
    image[16:80, 16:80] = (20, 40, 220)
    result = seg.segment(image, ["red, blue", "green, yellow"])
    assert share(result.labels[24:72, 24:72] == 0) > 0.9


def test_two_prompts_without_background_are_each_others_rival(seg, picture):
    one, other = seg.heatmaps(picture, ["red", "blue"], background=(), refine="none").values()
    np.testing.assert_allclose(one + other, 1, atol=1e-5)  # a softmax of two, through float32
    assert abs(one - 0.5).max() > 0.1


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
def test_without_background_a_threshold_measures_against_the_other_prompts(seg, picture, mode):
    result = seg.segment(picture, ["red", "blue", "green"], background=(), threshold=0.9, mode=mode)
    for name, mask in result.masks.items():
        assert not mask.any() or result.scores[name][mask].min() >= 0.9 - 1e-3
    assert (result.labels == UNLABELLED).any()
    assert (result.labels != UNLABELLED).any()


@pytest.mark.parametrize("min_area", [5, 500])
def test_small_parts_are_dropped(seg, picture, min_area):
    names = ["red", "green", "blue", "pink", "brown", "yellow"]
    whole = seg.segment(picture, names)
    cleaned = seg.segment(picture, names, min_area=min_area, max_hole=0)
    np.testing.assert_array_equal(cleaned.labels, remove_small_labels(whole.labels, min_area=min_area))
    assert all(region.area >= min_area for region in cleaned.regions)
    if min_area == 500:
        assert (cleaned.labels != whole.labels).any()


@pytest.mark.parametrize("threshold", [None, 0.7, "auto"])
def test_specks_join_what_is_around_them_unless_the_sizes_are_0(seg, threshold):
    picture = np.random.RandomState(731).randint(0, 256, (96, 128, 3)).astype(np.uint8)
    names = ["red", "green", "blue", "pink", "brown", "yellow"]
    raw = seg.segment(picture, names, threshold=threshold, min_area=0, max_hole=0)
    joined = seg.segment(picture, names, threshold=threshold)
    quarter = quarter_patch(raw.labels.shape, raw.grid_hw)
    expected = join_gaps(join_parts(raw.labels, min_area=quarter), max_area=quarter - 1)
    np.testing.assert_array_equal(joined.labels, expected)
    changed = np.count_nonzero(expected != raw.labels)
    assert changed
    facts = {name: joined.settings[name] for name in ("min_area", "max_hole", "quarter_patch", "changed_pixels")}
    assert facts == {"min_area": "auto", "max_hole": "auto", "quarter_patch": quarter, "changed_pixels": changed}
    assert f"specks changed {100 * changed / expected.size:.1f} % of the pixels, min_area=0" in repr(joined)
    assert raw.settings["changed_pixels"] == 0
    assert "specks" not in repr(raw)
    assert all(region.area >= quarter for region in joined.regions)


def test_labels_with_sizes_of_0_and_1_are_those_of_the_scores_to_the_bit(seg, picture):
    names = ["red", "green", "blue", "pink"]
    stack = np.stack([seg.segment(picture, names, min_area=size, max_hole=0).labels for size in (0, 1)])
    scores = seg.segment(picture, names).scores
    best = np.stack([scores[name] for name in names])
    ties = (np.sort(best, 0)[-1] - np.sort(best, 0)[-2]) < 1e-6  # presence saturates where scores still differ
    expected = np.where(best.max(0) >= seg.defaults.threshold, best.argmax(0), UNLABELLED)
    np.testing.assert_array_equal(stack[0], stack[1])
    np.testing.assert_array_equal(stack[0][~ties], expected[~ties])


def test_specks_of_independent_masks_are_dropped_and_their_small_holes_filled(seg):
    picture = np.random.RandomState(731).randint(0, 256, (96, 128, 3)).astype(np.uint8)
    names = ["red", "green", "blue", "pink"]
    raw = seg.segment(picture, names, mode="independent", min_area=0, max_hole=0)
    joined = seg.segment(picture, names, mode="independent")
    quarter = joined.settings["quarter_patch"]
    for name in names:
        expected = fill_holes(remove_small(raw.masks[name], min_area=quarter), max_area=quarter - 1)
        np.testing.assert_array_equal(joined.masks[name], expected)
    changed = sum(int((joined.masks[name] != raw.masks[name]).sum()) for name in names)
    assert joined.settings["changed_pixels"] == changed > 0


# --- independent masks


def test_independent_masks_threshold_their_own_presence_and_may_overlap(seg):
    image = np.full((96, 96, 3), 240, np.uint8)
    image[16:80, 16:80] = (220, 20, 20)
    result = seg.segment(
        image, ["red", "red square", "blue"], mode="independent", threshold=0.4, min_area=0, max_hole=0
    )
    for name, mask in result.masks.items():
        np.testing.assert_array_equal(mask, result.scores[name] >= 0.4)
    assert (result.masks["red"] & result.masks["red square"]).any()
    np.testing.assert_array_equal(result.labels == UNLABELLED, ~np.any(list(result.masks.values()), axis=0))


def test_independent_labels_are_the_most_present_mask(seg, picture):
    result = seg.segment(picture, ["red", "green", "blue"], mode="independent")
    stack = np.stack([np.where(result.masks[name], result.scores[name], -1) for name in result.classes])
    held = stack.max(0) >= 0
    ties = (np.sort(stack, 0)[-1] - np.sort(stack, 0)[-2]) < 1e-6  # presence saturates where scores still differ
    np.testing.assert_array_equal(result.labels[held & ~ties], stack.argmax(0)[held & ~ties])


def test_holes_are_filled_up_to_their_size(seg):
    image = np.full((96, 96, 3), (220, 20, 20), np.uint8)
    image[40:56, 40:56] = (20, 20, 220)
    plain = seg.segment(image, ["red"], mode="independent").masks["red"]
    filled = seg.segment(image, ["red"], mode="independent", max_hole=1000).masks["red"]
    assert not plain[48, 48]
    assert filled[48, 48]


def test_the_automatic_threshold_is_each_classs_own(seg, picture):
    names = ["red", "green", "blue", "brown"]
    own = seg.defaults.threshold
    everything = seg.segment(picture, names, threshold=0.0)
    automatic = seg.segment(picture, names, threshold="auto")
    expected = everything.labels.copy()
    for index, name in enumerate(names):
        score_map = everything.scores[name]
        assert automatic_threshold(score_map) >= 0.5
        limit = automatic_threshold(score_map, low=own)
        expected[(everything.labels == index) & (score_map < limit)] = UNLABELLED
        assert automatic.settings["chosen_thresholds"][name] == limit
    np.testing.assert_array_equal(automatic.labels, expected)
    assert (automatic.labels != UNLABELLED).any()


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
def test_an_automatic_threshold_is_no_laxer_than_the_models_own(seg, picture, mode):
    seg = fgseg.Segmenter(seg.encoder, replace(seg.defaults, threshold=0.97))
    names = ["red", "green", "blue", "brown"]
    own, automatic = (seg.segment(picture, names, mode=mode, threshold=limit) for limit in (None, "auto"))
    assert own.settings["threshold"] == 0.97
    for name in names:
        assert not (automatic.masks[name] & ~own.masks[name]).any()
    assert any(mask.any() for mask in automatic.masks.values())
    without = seg.segment(picture, names, mode=mode, threshold="auto", background=())
    assert any(without.scores[name][without.masks[name]].min(initial=1) < 0.97 for name in names)


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
@pytest.mark.parametrize("refine", ["guided", "pamr"])
def test_refinement_gives_a_result_of_the_same_kind(seg, picture, mode, refine):
    result = seg.segment(picture, ["red", "green"], mode=mode, refine=refine)
    assert result.labels.shape == picture.shape[:2]
    assert result.settings["refine"] == refine


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
@pytest.mark.parametrize("propagate", ["patches", "pixels", "both"])
def test_propagated_scores_give_a_result_of_the_same_kind(seg, picture, mode, propagate):
    result = seg.segment(picture, ["red", "blue"], mode=mode, propagate=propagate)
    assert result.labels.shape == picture.shape[:2]
    assert result.settings["propagate"] == propagate
    maps = seg.heatmaps(picture, ["red", "blue"], propagate=propagate)
    np.testing.assert_array_equal(maps["blue"], result.scores["blue"])
    assert np.abs(maps["blue"] - seg.heatmaps(picture, ["red", "blue"])["blue"]).max() > 0.01


@pytest.mark.parametrize("propagate", ["patches", "pixels"])
def test_presence_of_a_propagated_prompt_does_not_depend_on_the_other_prompts(seg, picture, propagate):
    view = seg.encode(picture)
    alone, among = (seg.heatmaps(view, words, propagate=propagate)["red"] for words in (["red"], ["blue", "red"]))
    np.testing.assert_allclose(alone, among, atol=1e-5)


HALVES = np.repeat([[0, 1]], 96, 0).repeat(64, 1)


def test_a_vote_gives_every_region_one_label(seg, picture):
    words, sizes = ["red", "blue", "green"], {"min_area": 0, "max_hole": 0}
    view = seg.encode(picture)
    result = seg.segment(view, words, region_map=HALVES, vote=True, threshold=0.1, **sizes)
    before = seg.segment(view, words, threshold=0.1, **sizes).labels
    for number in (0, 1):
        half = HALVES == number
        assert np.unique(result.labels[half]).tolist() == [np.bincount(before[half] + 1).argmax() - 1]
    assert (result.settings["region_map"], result.settings["vote"]) == ("array", True)


def test_masks_and_heatmaps_of_a_vote_are_the_means_of_regions(seg, picture):
    view = seg.encode(picture)
    plain, voted = (seg.heatmaps(view, ["red"], region_map=regions, vote=regions is not None)["red"]
                    for regions in (None, HALVES))  # fmt: skip
    means = [float(plain[HALVES == number].mean(dtype=np.float64)) for number in (0, 1)]
    np.testing.assert_allclose(voted, np.take(means, HALVES), atol=1e-6)
    low, high = sorted(means)
    result = seg.segment(
        view, ["red", "blue"], mode="independent", region_map=HALVES, vote=True, threshold=(low + high) / 2
    )
    np.testing.assert_array_equal(result.masks["red"], HALVES == np.argmax(means))
    assert len(np.unique(result.labels[HALVES == 0])) == 1


def test_superpixels_are_computed_once_for_an_image(seg, picture, monkeypatch):
    calls, original = [], superpixels

    def counted(*args, **options):
        calls.append(args)
        return original(*args, **options)

    monkeypatch.setattr("fgseg.guides.region_maps.superpixels", counted)
    view = seg.encode(picture)
    for words in (["red"], ["blue"]):
        seg.segment(view, words, region_map="superpixels", vote=True)
    assert len(calls) == 1


def test_similarity_is_the_cosine_of_every_patch_of_the_whole_image_with_every_text(seg, picture):
    scores = seg.similarity(picture, ["red", "blue"])
    (window,) = seg.encode(picture, resolution="squash").windows
    text = seg.encoder.encode_texts(["red", "blue"])
    expected = torch.einsum("hwd,td->thw", window.grid, text)
    assert (scores.dtype, scores.shape) == (np.float32, (2, *window.grid.shape[:2]))
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)  # float32 sums of 128 products in another order
    np.testing.assert_array_equal(seg.similarity(seg.encode(picture), ["red", "blue"]), scores)


def test_a_numpy_threshold_acts_like_a_python_float(seg, picture):
    # 0.7 in float64 lies above 0.7 in float32, so comparing in float64 would drop pixels at the threshold.
    for mode in ("exclusive", "independent"):
        result, same = (
            seg.segment(picture, ["red", "blue"], mode=mode, threshold=limit) for limit in (0.7, np.float64(0.7))
        )
        np.testing.assert_array_equal(result.labels, same.labels)
        assert type(same.settings["threshold"]) is float  # numpy.float64 is a subclass


# --- work that is not done


def test_each_independent_mask_is_computed_once_for_a_saved_result(seg, picture, tmp_path, monkeypatch):
    computed = []
    original = ScoreField.mask
    monkeypatch.setattr(
        ScoreField, "mask", lambda self, index, limit: computed.append(index) or original(self, index, limit)
    )
    result = seg.segment(picture, ["red", "green", "blue"], mode="independent", min_area=4)
    result.save(tmp_path)
    result.to_dict()
    assert sorted(computed) == [0, 1, 2]


def test_masks_beyond_the_room_that_is_kept_for_them_are_computed_anew(monkeypatch):
    monkeypatch.setattr("fgseg.segmentation.kept_masks.KEPT_BYTES", 3)
    computed = []
    first, second = np.array([[True] * 17]), np.array([[False] * 17])
    masks = KeptMasks(["a", "b"], lambda index: computed.append(index) or (first, second)[index])
    for _ in range(2):
        np.testing.assert_array_equal(masks["a"], first)
        np.testing.assert_array_equal(masks["b"], second)
    assert computed == [0, 1, 1]


def test_weights_are_not_hashed_to_answer_a_prompt(picture, tiny_model, monkeypatch):
    monkeypatch.setenv("FGSEG_CACHE", "off")  # the cache on disk finds texts by the hash of the weights
    seg = fgseg.load(tiny_model)
    monkeypatch.setattr(type(seg.encoder), "digest", lambda self: pytest.fail("hashed"))
    monkeypatch.setattr("fgseg.segmentation.run_record.version_of", lambda name: pytest.fail("looked up"))
    result = seg.segment(picture, ["red", "green"])
    assert result.regions
    assert result.overlay().size
    assert result.settings["mode"] == "exclusive"
    assert "weights_sha256" in result.settings


@pytest.mark.parametrize("own", ["none", "guided"])
def test_without_a_word_about_it_masks_are_refined_as_the_model_asks(seg, picture, own):
    seg = fgseg.Segmenter(seg.encoder, replace(seg.defaults, refine=own))
    result = seg.segment(picture, ["red", "green"])
    assert result.settings["refine"] == own
    np.testing.assert_array_equal(result.labels, seg.segment(picture, ["red", "green"], refine=own).labels)


# --- reuse


def test_an_encoded_image_takes_the_place_of_the_image_everywhere(seg, picture):
    view = seg.encode(picture)
    np.testing.assert_array_equal(seg.segment(view, ["red"]).labels, seg.segment(picture, ["red"]).labels)
    np.testing.assert_array_equal(seg.heatmaps(view, ["red"])["red"], seg.heatmaps(picture, ["red"])["red"])
    boxes = [[10, 10, 60, 60]]
    np.testing.assert_array_equal(
        seg.score_boxes(view, boxes, ["red", "blue"]).cosine, seg.score_boxes(picture, boxes, ["red", "blue"]).cosine
    )
    np.testing.assert_array_equal(seg.rank([view], ["red", "blue"]).cosine, seg.rank([picture], ["red", "blue"]).cosine)


def test_new_prompts_on_an_encoded_image_do_not_encode_it_again(seg, picture, monkeypatch):
    view = seg.encode(picture)
    monkeypatch.setattr(seg.encoder, "encode_images", lambda *_, **__: pytest.fail("encoded again"))
    seg.segment(view, ["green"])
    seg.heatmaps(view, ["blue"])["blue"]


def test_a_text_is_encoded_once(seg, picture, monkeypatch):
    seg.segment(picture, ["teal"])
    monkeypatch.setattr(seg.encoder, "encode_texts", lambda *_, **__: pytest.fail("encoded again"))
    seg.segment(picture, ["teal"])


def test_an_encoded_image_of_another_resolution_or_model_is_refused(seg, picture):
    view = seg.encode(picture, resolution="squash")
    with pytest.raises(OptionError, match="resolution: the image was encoded with"):
        seg.segment(view, ["red"], resolution="keep")
    other = fgseg.EncodedImage(**{**vars(view), "model": "fg-clip-base"})
    with pytest.raises(OptionError, match="encoded with 'fg-clip-base', recipe value; this is 'mini', recipe value"):
        seg.segment(other, ["red"])


def test_features_of_another_recipe_or_revision_are_refused(seg, picture):
    view = fgseg.load("mini", dtype="float32", device="cpu", recipe="clearclip").encode(picture)
    with pytest.raises(OptionError, match="encoded with 'mini', recipe clearclip; this is 'mini', recipe value"):
        seg.segment(view, ["red"])
    other = fgseg.EncodedImage(**{**vars(seg.encode(picture, resolution="squash")), "revision": "abc"})
    with pytest.raises(OptionError, match="encoded with 'mini', revision abc, recipe value; this is"):
        seg.score_boxes(other, [[0, 0, 9, 9]], ["red"])


def test_a_result_keeps_its_picture_when_the_caller_draws_over_it(seg, picture):
    frame = picture.copy()
    result = seg.segment(frame, ["red", "green"], mode="independent")
    before = {name: mask.copy() for name, mask in result.masks.items()}
    frame[:] = 255 - frame
    np.testing.assert_array_equal(result.image, picture)
    for name, mask in before.items():
        np.testing.assert_array_equal(result.masks[name], mask)


def test_numbers_of_numpy_are_numbers(seg, picture, tmp_path):
    result = seg.segment(
        picture, ["red"], threshold=np.float32(0.5), min_area=np.int64(5), mode="independent", max_hole=np.uint8(3),
        resolution=Resolution("keep", short_side=np.int64(96)),
    )  # fmt: skip
    result.save(tmp_path)
    saved = json.loads((tmp_path / "run.json").read_text())
    assert (saved["threshold"], saved["min_area"], saved["max_hole"]) == (0.5, 5, 3)
    assert saved["resolution"]["short_side"] == 96


def test_the_longest_side_of_a_resolution_is_kept(seg):
    view = seg.encode(np.zeros((64, 1024, 3), np.uint8), resolution=Resolution("keep", short_side=64, max_side=512))
    assert view.grid_hw == (4, 64)


def test_an_encoded_image_has_a_box_for_each_window(seg, picture):
    view = seg.encode(picture)
    with pytest.raises(ShapeError, match="windows: expected one per box and at least one, got 0 for"):
        fgseg.EncodedImage(**{**vars(view), "windows": ()})


def test_heatmaps_are_computed_when_asked_and_read_only(seg, picture):
    maps = seg.heatmaps(picture, ["red", "green"])
    assert list(maps) == ["red", "green"]
    assert maps["red"].dtype == np.float32
    assert 0 <= maps["red"].min() <= maps["red"].max() <= 1
    with pytest.raises(ValueError, match="read-only"):
        maps["red"][0, 0] = 1


# --- boxes and captions


def test_boxes_name_what_they_hold(seg):
    image = np.full((128, 128, 3), 245, np.uint8)
    image[16:56, 16:56] = (220, 20, 20)
    image[72:112, 72:112] = (20, 40, 220)
    scores = seg.score_boxes(image, [[16, 16, 56, 56], [72, 72, 112, 112]], ["red square", "blue square"])
    assert scores.cosine.argmax(1).tolist() == [0, 1]
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-6)


def test_a_box_of_the_whole_image_is_the_mean_of_the_grid(seg, picture):
    view = seg.encode(picture, resolution="squash")
    grid = view.windows[0].grid
    text = seg.encoder.encode_texts(["red"])
    mean = torch.nn.functional.normalize(grid.mean((0, 1)), dim=0)
    scores = seg.score_boxes(view, [[0, 0, 128, 96]], ["red"])
    # RoIAlign samples cell centres once each: the plain mean.
    np.testing.assert_allclose(scores.cosine[0, 0], float(mean @ text[0]), atol=1e-5)


def test_boxes_see_the_whole_image_of_a_model_whose_own_resolution_is_windows_of_some_size(seg, picture):
    boxes = [[10, 10, 60, 60]]
    seg = fgseg.Segmenter(seg.encoder, replace(seg.defaults, resolution="slide:336/224/112"))
    expected = seg.score_boxes(picture, boxes, ["red"], resolution="squash").cosine
    np.testing.assert_array_equal(seg.score_boxes(picture, boxes, ["red"]).cosine, expected)
    view = seg.encode(picture)
    assert len(view.windows) > 1
    np.testing.assert_array_equal(seg.score_boxes(view, boxes, ["red"]).cosine, expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", [np.asarray, np.ndarray.tolist, np.float64])
def test_boxes_may_be_any_numbers_in_any_memory(seg, picture, change):
    boxes = np.float32([[0, 0, 50, 60], [10, 10, 60, 60]])
    expected = seg.score_boxes(picture, boxes, ["red"]).cosine
    boxes.setflags(write=False)
    np.testing.assert_array_equal(seg.score_boxes(picture, change(boxes), ["red"]).cosine, expected)
    turned = seg.score_boxes(picture, boxes[::-1], ["red"]).cosine
    np.testing.assert_allclose(turned, expected[::-1], atol=1e-6)


def test_boxes_of_an_encoded_image_are_those_of_its_own_resolution(seg, picture):
    view, boxes = seg.encode(picture, resolution="squash"), [[10, 10, 60, 60]]
    expected = seg.score_boxes(picture, boxes, ["red"], resolution="squash").cosine
    np.testing.assert_array_equal(seg.score_boxes(view, boxes, ["red"]).cosine, expected)
    with pytest.raises(OptionError, match="resolution: the image was encoded with squash"):
        seg.score_boxes(view, boxes, ["red"], resolution="keep")


def test_no_boxes_give_an_empty_table(seg, picture):
    assert seg.score_boxes(picture, np.zeros((0, 4)), ["red", "blue"]).cosine.shape == (0, 2)


@pytest.mark.parametrize("route", ["short", "long"])
def test_ranking_orders_captions_by_cosine(seg, picture, route):
    captions = ["a red circle on a blue background", "a green star on a white background"]
    ranking = seg.rank([picture], captions, route=route)
    assert ranking.cosine.shape == (1, 2)
    assert ranking.cosine[0, ranking.order[0, 0]] >= ranking.cosine[0, ranking.order[0, 1]]
    np.testing.assert_allclose(ranking.probabilities.sum(), 1, atol=1e-6)


# --- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s, i: s.segment(i, ["red"], mode="both"), OptionError, "mode: expected one of exclusive, independent"),
        (lambda s, i: s.segment(i, ["red"], threshold=1.5), OptionError, "threshold: expected a number from 0 to 1"),
        (lambda s, i: s.segment(i, ["red"], threshold=float("nan")), OptionError, "threshold: expected a number"),
        (
            lambda s, i: s.segment(i, ["red"], refine="crf"),
            OptionError,
            "refine: expected one of auto, none, guided, pamr",
        ),
        (
            lambda s, i: s.segment(i, ["red"], propagate="lposs"),
            OptionError,
            "propagate: expected one of none, patches, pixels, both, got 'lposs'",
        ),
        (lambda s, i: s.segment(i, ["red"], vote=True), OptionError, "vote: expected regions that vote, got none"),
        (
            lambda s, i: s.heatmaps(i, ["red"], region_map="superpixels"),
            OptionError,
            "region_map: nothing uses the regions unless they vote; give vote=True too",
        ),
        (
            lambda s, i: s.segment(i, ["red"], region_map="slic", vote=True),
            OptionError,
            "region_map: expected an integer array.*got 'slic', which is no file",
        ),
        (
            lambda s, i: s.segment(i, ["red"], region_map=np.zeros((3, 4), int), vote=True),
            ShapeError,
            r"region_map: expected an array of shape \(96, 128\)",
        ),
        (lambda s, i: s.segment(i, ["red"], min_area=-1), OptionError, "min_area: expected a whole number from 0"),
        (lambda s, i: s.segment(i, ["red"], min_area=2.7), OptionError, "min_area: expected a whole number.*got 2.7"),
        (lambda s, i: s.segment(i, ["red"], min_area="small"), OptionError, "min_area: .*or 'auto'"),
        (lambda s, i: s.segment(i, ["red"], max_hole=5), OptionError, 'max_hole: .*mode="independent"'),
        (lambda s, i: s.segment(i, ["red"], background=()), OptionError, "one prompt alone has nothing to compete"),
        (lambda s, i: s.segment(i, []), PromptError, "prompts: expected at least one"),
        (lambda s, i: s.segment(i, ["red", "Red"]), PromptError, "expected each class once, got .Red. twice"),
        (lambda s, i: s.segment(i, ["red"], negatives=["red"]), PromptError, "negatives"),
        (lambda s, i: s.segment(i, ["red " * 80]), PromptError, "expected at most 77 tokens"),
        (lambda s, i: s.segment(i, ["red"], resolution="native"), OptionError, "resolution: expected a mode"),
        (lambda s, i: s.segment("nowhere.png", ["red"]), ImageError, "nowhere.png: there is no such file"),
        (lambda s, i: s.segment(np.zeros((4, 4, 2), np.uint8), ["red"]), ShapeError, "source: expected"),
        (lambda s, i: s.rank([i], ["red"], route="region"), OptionError, "route: expected one of short, long"),
        (lambda s, i: s.rank([], ["red"]), OptionError, "images: expected at least one"),
        (lambda s, i: s.rank(i, ["red"]), OptionError, "images: expected a list of images, got ndarray"),
        (lambda s, i: s.rank(s.encode(i), ["red"]), OptionError, "images: expected a list of images, got EncodedImage"),
        (lambda s, i: s.similarity(i, ["red"], resolution="slide"), OptionError, "resolution: the whole image"),
        (lambda s, i: s.similarity(i, []), PromptError, "texts: expected at least one"),
        (lambda s, i: s.rank([i], [""]), PromptError, r"captions\[0\]: expected words"),
        (lambda s, i: s.rank([i], 5), PromptError, "captions: expected a list of texts, got int 5"),
        (lambda s, i: s.score_boxes(i, [[0, 0, 9, 9]], None), PromptError, "texts: expected a list of texts, got None"),
        (
            lambda s, i: s.segment(i, ["red\ud83d"]),
            PromptError,
            r"prompts\[0\]: expected valid Unicode, got 'red.ud",
        ),
        (lambda s, i: s.rank([i], ["red\ud83d"]), PromptError, r"captions\[0\]: expected valid Unicode"),
        (
            lambda s, i: s.segment(i, ["red"], templates=["a {}\ud83d"]),
            PromptError,
            r"templates\[0\]: expected valid Unicode",
        ),
        (lambda s, i: s.segment(i, ["red"], mode=np.array(["exclusive"])), OptionError, "mode: expected one of"),
        (lambda s, i: s.segment(i, ["red"], threshold=np.complex64(0.5)), OptionError, "threshold: expected a number"),
        (lambda s, i: s.segment_large(None, ["red"], "x"), OptionError, "image: expected the path of a tiled TIFF"),
        (lambda s, i: s.segment_large("x", ["red"], i), OptionError, "labels_path: expected the path of a tiled TIFF"),
        (lambda s, i: s.rank([i], []), PromptError, "captions: expected at least one"),
        (lambda s, i: s.encode(i, resolution="keep:1"), OptionError, "resolution: expected a side of .* got keep:1"),
        (lambda s, i: s.encode(i, resolution=448), OptionError, "resolution: expected text such as 'keep:448'"),
        (lambda s, i: s.encode(i, resolution="keep:" + "9" * 5000), OptionError, "resolution: expected a mode"),
        (lambda s, i: s.encode_batch(Image.fromarray(i)), OptionError, "images: expected a list of images"),
        (lambda s, i: s.score_boxes(i, [[0, 0, 9, 9]], []), PromptError, "texts: expected at least one"),
        (lambda s, i: s.score_boxes(i, [[0, 0, 9, 9]], ["red", ""]), PromptError, r"texts\[1\]: expected words"),
        (lambda s, i: s.score_boxes(i, [[50, 10, 20, 40]], ["red"]), ShapeError, r"left < right.*got \[50.0, 10.0"),
        (lambda s, i: s.score_boxes(i, [[0, 0, 5, 5], [1, 2]], ["red"]), ShapeError, "boxes_xyxy: expected .left, top"),
        (
            lambda s, i: s.score_boxes(i, [[0, 0, 500, 9]], ["red"]),
            ShapeError,
            "boxes_xyxy: expected a box within the image",
        ),
        (lambda s, i: s.score_boxes(i, [[5, 5, 5, 9]], ["red"]), ShapeError, "left < right"),
        (lambda s, i: s.score_boxes(i, [[1, 2, 3]], ["red"]), ShapeError, "boxes_xyxy: expected an array of shape"),
        (
            lambda s, i: s.score_boxes(i, [[0, 0, 9, 9]], ["red"], resolution="slide"),
            OptionError,
            "resolution: the whole image is needed at once, got slide",
        ),
    ],
)
def test_wrong_arguments_are_refused_saying_what_to_do(seg, picture, call, error, message):
    with pytest.raises(error, match=message):
        call(seg, picture)


def test_a_class_keeps_its_own_colour_and_words(seg, picture):
    result = seg.segment(picture, [PromptClass("warm", ("red", "orange"), (1, 2, 3)), "blue"])
    assert result.classes == ("warm", "blue")
    assert result.colors[0] == (1, 2, 3)


def test_the_model_comes_from_the_environment_when_none_is_named(monkeypatch):
    monkeypatch.setenv("FGSEG_MODEL", "no-such-model")
    with pytest.raises(fgseg.ModelNotFoundError, match="FGSEG_MODEL: model 'no-such-model': expected one of mini"):
        fgseg.load()
    with pytest.raises(fgseg.ModelNotFoundError, match=r"^model 'nothing': expected one of mini"):
        fgseg.load("nothing")


@pytest.mark.parametrize(("model", "got"), [("", "''"), (3, "int 3"), (b"mini", "bytes"), ("x" * 5000, "'xxx")])
def test_a_model_that_is_no_name_is_refused(model, got, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(fgseg.ModelNotFoundError, match=f"model.*expected .*{got}|model {got}.*: expected"):
        fgseg.load(model)


def test_a_model_may_be_a_path_and_is_named_by_its_text(tiny_model, picture, tmp_path):
    result = fgseg.load(Path(tiny_model)).segment(picture, ["red", "blue"])
    result.save(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["model"] == tiny_model


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
def test_results_can_be_pickled_and_copied_and_are_then_their_own(seg, picture, mode):
    result = seg.segment(picture, ["red", "blue"], mode=mode)
    sent, copied = pickle.loads(pickle.dumps(result)), copy.deepcopy(result)
    expected = {name: mask.copy() for name, mask in result.masks.items()}
    result.labels[:] = UNLABELLED
    for other in (sent, copied):
        assert {name: mask.sum() for name, mask in other.masks.items()} == {n: m.sum() for n, m in expected.items()}
        assert other.to_dict()["classes"] == sent.to_dict()["classes"]
        np.testing.assert_array_equal(other.scores["red"], result.scores["red"])


def test_space_around_a_phrase_means_nothing(seg, picture):
    spaced, plain = (
        seg.score_boxes(picture, [[0, 0, 50, 50]], texts) for texts in ([" red ", "blue"], ["red", "blue"])
    )
    assert spaced.texts == plain.texts
    np.testing.assert_array_equal(spaced.cosine, plain.cosine)
    lines, line = (seg.rank([picture], texts) for texts in (["red\nand blue"], np.array(["red and blue"])))
    assert lines.captions == line.captions == ("red and blue",)
    np.testing.assert_array_equal(lines.cosine, line.cosine)


def test_results_say_what_they_were_made_with(seg, picture):
    settings = seg.segment(picture, ["red"], negatives=["blue"]).settings
    assert settings["model"] == "mini"
    assert settings["negatives"] == ["blue"]
    assert settings["background"] == ["anything else"]
    assert settings["weights_sha256"] == seg.encoder.digest()
    assert settings["seconds"] > 0
    assert settings["versions"]["fgseg"] == fgseg.__version__


def test_templates_in_words_the_model_has_never_seen_are_named_as_the_cause(seg, picture):
    with pytest.raises(PromptError, match=r"templates: .*never seen the words .*templates='none'"):
        seg.segment(picture, ["red"], templates="imagenet")


def test_templates_of_phrases_are_named_as_the_cause_too(seg, picture):
    with pytest.raises(PromptError, match=r"^templates: .*never seen the words .*templates='none'"):
        seg.score_boxes(picture, [[0, 0, 9, 9]], ["red"], templates="imagenet")


def test_the_bare_network_takes_float32_pixels_whatever_it_computes_in():
    model = fgseg.load("mini", dtype="bfloat16", device="cpu").encoder.model
    pixels = torch.zeros(1, 3, 32, 32)
    assert model.dense_features(pixels).dtype == torch.bfloat16
    assert model.image_features(pixels).shape == (1, 192)


def test_run_settings_hold_the_sizes_that_windows_had(seg, picture):
    settings = seg.segment(picture, ["red"], resolution="slide").settings
    assert settings["resolution"]["short_side"] == 336
    assert settings["resolution"]["crop"] == 224
    assert settings["resolution"]["stride"] == 112


def test_one_caption_or_phrase_may_stand_without_a_list(seg, picture):
    assert seg.rank([picture], "a red circle").captions == ("a red circle",)
    assert seg.score_boxes(picture, [[0, 0, 9, 9]], "red circle").texts == ("red circle",)


def test_what_is_shown_of_a_segmenter_and_an_image_is_one_useful_line(seg, picture):
    assert re.fullmatch(r"Segmenter\('\S+', cpu, (float32|bfloat16)\)", repr(seg))
    view = seg.encode(picture, resolution="squash")
    height, width = view.image_hw
    rows, columns = view.grid_hw
    expected = f"EncodedImage({height} x {width}, {rows} x {columns} patches, {view.model!r})"
    assert repr(view) == expected
    windows = seg.encode(picture, resolution="slide:64/32/16")
    assert f" patches in {len(windows.windows)} windows, " in repr(windows)
