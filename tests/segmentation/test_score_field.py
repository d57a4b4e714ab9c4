import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fgseg.guides.votes import vote
from fgseg.prompts.classes import make_prompt_set
from fgseg.scoring.presence import TIE
from fgseg.scoring.resolution import Resolution
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.segmentation.score_field import ScoreField, Sharpening
from fgseg.types import DenseFeatures
from fgseg.upsample.argmax import top_two


def test_top_two_names_winner_score_and_runner_up_with_ties_to_the_lowest_index():
    maps = [np.array([[0.5, 0.1, 0.2]], np.float32), np.array([[0.5, 0.3, 0.1]], np.float32),
            np.array([[0.2, 0.2, 0.4]], np.float32)]  # fmt: skip
    winner, best, second = top_two(iter(maps))
    assert winner.tolist() == [[0, 1, 2]]
    np.testing.assert_array_equal(best, np.array([[0.5, 0.3, 0.4]], np.float32))
    np.testing.assert_array_equal(second, np.array([[0.5, 0.2, 0.2]], np.float32))


def test_top_two_leaves_its_maps_as_they_were():
    first = np.array([[0.1]], np.float32)
    top_two(iter([first, np.array([[0.9]], np.float32)]))
    assert first[0, 0] == np.float32(0.1)


def random_field(seed, *, no_data=None, **sharpening):
    rng = np.random.RandomState(seed)
    rows = [torch.from_numpy(rng.normal(size=(*shape, 8)).astype(np.float32)) for shape in ((3, 4), (3, 4), (5,))]
    left, right, text = (torch.nn.functional.normalize(row, dim=-1) for row in rows)
    windows = tuple(DenseFeatures(grid, (30, 40)) for grid in (left, right))
    boxes = ((0, 0, 40, 30), (20, 0, 60, 30))
    view = EncodedImage(np.zeros((45, 90, 3), np.uint8), windows, boxes, (30, 60), Resolution("slide"), "random",
                        no_data=no_data)  # fmt: skip
    prompt_set = make_prompt_set(["a", "b, c"], background=["d", "e"])
    texts = PromptTexts(text, (0, 1, 1, 2, 2), ("{}",))
    return ScoreField(view, texts, prompt_set, logit_scale=100.0, sharpening=Sharpening(**sharpening))


@pytest.mark.parametrize("seed", range(4))
def test_at_a_tie_comparing_all_words_at_once_gives_what_prompts_against_rivals_give(seed, monkeypatch):
    at_once = random_field(seed).exclusive(TIE)
    monkeypatch.setattr("fgseg.segmentation.score_field.TIE", -1.0)  # no threshold is a tie now
    apart = random_field(seed).exclusive(TIE)
    assert {-1, 0, 1} <= set(apart.ravel().tolist())
    assert at_once.dtype == np.int32
    np.testing.assert_array_equal(at_once, apart)


def test_a_mask_includes_the_pixels_at_the_threshold_itself(monkeypatch):
    field = random_field(0)
    monkeypatch.setattr(ScoreField, "presence", lambda self, index: np.float32([[0.25, 0.5, 0.7]]))
    np.testing.assert_array_equal(field.mask(0, 0.5), [[False, True, True]])


def test_pixels_without_data_do_not_vote():
    regions = np.zeros((45, 90), np.int32)
    no_data = np.zeros((45, 90), bool)
    no_data[:, :60] = True
    field = random_field(0, region_map=regions, vote=True)
    whole = field.exclusive(0.0)
    part = random_field(0, region_map=regions, vote=True, no_data=no_data).exclusive(0.0)
    raw = random_field(0).exclusive(0.0)
    assert np.unique(part[:, :60]).tolist() == [-1]
    assert np.unique(part[:, 60:]).tolist() == [np.bincount(raw[:, 60:].ravel() + 1).argmax() - 1]
    assert len(np.unique(whole)) == 1


def test_a_region_has_the_mean_presence_of_its_pixels_and_no_region_keeps_its_own():
    regions = np.full((45, 90), -1, np.int32)
    regions[:, 40:] = 3
    plain = random_field(1).presence(0)
    voted = random_field(1, region_map=regions, vote=True).presence(0)
    np.testing.assert_array_equal(voted[:, :40], plain[:, :40])
    np.testing.assert_allclose(voted[:, 40:], plain[:, 40:].mean(dtype=np.float64), atol=1e-6)


@pytest.mark.parametrize("threshold", [TIE, 0.7, "auto"])
def test_a_threshold_cuts_pixels_before_regions_vote(threshold):
    regions = (np.arange(45)[:, None] // 9 * 10 + np.arange(90) // 9).astype(np.int32)
    for seed in range(3):
        voted = random_field(seed, region_map=regions, vote=True).exclusive(threshold)
        np.testing.assert_array_equal(voted, vote(random_field(seed).exclusive(threshold), regions))


class LargestTensor(TorchDispatchMode):
    """The bytes of the largest tensor that is made while it is active."""

    def __init__(self):
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            sizes = [one.nbytes for one in tree_leaves(made) if isinstance(one, torch.Tensor)]
            self.nbytes = max(self.nbytes, *sizes, 0)
        return made


IMAGE_HW, MANY = (60, 90), 171
BANDS = (np.arange(IMAGE_HW[0])[:, None] // 10).repeat(IMAGE_HW[1], 1)


def field_of_many_words(**sharpening):
    rng = np.random.RandomState(1)
    grids, text = (
        torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=size).astype(np.float32)), dim=-1)
        for size in ((2, 6, 6, 8), (MANY, 8))
    )
    height, width = IMAGE_HW
    boxes = ((0, 0, height, height), (width - height, 0, width, height))
    windows = tuple(DenseFeatures(grid, (height, height)) for grid in grids)
    image = rng.randint(0, 256, (*IMAGE_HW, 3), dtype=np.uint8)
    view = EncodedImage(image, windows, boxes, IMAGE_HW, Resolution("slide"), "random")
    prompt_set = make_prompt_set([f"word {index}" for index in range(MANY - 1)], background=["background"])
    texts = PromptTexts(text, tuple(range(MANY)), ("{}",))
    return ScoreField(view, texts, prompt_set, logit_scale=100.0, sharpening=Sharpening(**sharpening))


ONE_MAP = 4 * IMAGE_HW[0] * IMAGE_HW[1]  # bytes


@pytest.mark.parametrize("threshold", [TIE, 0.7])
@pytest.mark.parametrize("propagate", ["patches", "pixels", "both"])
def test_a_label_map_of_many_words_never_holds_a_propagated_map_of_each(propagate, threshold, monkeypatch):
    monkeypatch.setattr("fgseg.scoring.windows._CHUNK_BYTES", 20 * ONE_MAP)
    monkeypatch.setattr("fgseg.guides.propagation._MAPS_BYTES", 20 * ONE_MAP)
    monkeypatch.setattr("fgseg.guides.propagation.STEPS", 1)
    field = field_of_many_words(propagate=propagate)
    list(field.view.chunks(field.texts.text[:1], propagate=propagate))  # builds graphs, which hold no words
    with LargestTensor() as largest:
        field.exclusive(threshold)
    assert 0 < largest.nbytes < MANY / 4 * ONE_MAP


@pytest.mark.parametrize("refine", ["none", "guided"])
def test_a_vote_on_many_words_never_holds_a_map_of_each(refine):
    field = field_of_many_words(region_map=BANDS, vote=True, refine=refine)
    field.exclusive(0.7)  # imports what is imported late
    tracemalloc.start()
    field.exclusive(0.7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ONE_MAP < peak < MANY / 4 * ONE_MAP
