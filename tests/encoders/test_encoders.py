"""The contract of every encoder, how images are fitted, and recipes."""

from functools import partial

import numpy as np
import pytest
import torch
from tiny_models import (
    CLIP,
    FG_CLIP,
    FG_CLIP_2,
    GOLDEN,
    golden_encoder,
    with_tokenizer,
)

from fgseg.encoders import pixels
from fgseg.encoders.base import Encoder
from fgseg.encoders.encoder import ClipEncoder, FgClip2Encoder
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks.fgclip2 import patch_budget
from fgseg.encoders.networks.prefix_trees import group_texts
from fgseg.errors import OptionError, PromptError, ShapeError
from fgseg.images.resizing import resize_bicubic

SIZES = [(16, 16), (63, 177), (1, 1), (96, 96), (40, 130), (63, 177), (130, 40)]
TEXTS = ["red", "a photo of a red cup", "the saucer", "blue cup"]


def picture(image_hw, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (*image_hw, 3), dtype=np.uint8)


PICTURES = [picture(image_hw, seed) for seed, image_hw in enumerate(SIZES)]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Every family with a tokenizer, in float32 on the CPU."""
    folder = tmp_path_factory.mktemp("models")
    sources = {name: with_tokenizer(folder / name, name) for name in (CLIP, FG_CLIP, FG_CLIP_2)}
    sources["mini"] = "mini"
    return {name: load_encoder(source, device="cpu", dtype="float32") for name, source in sources.items()}


class TestContract:
    """The contract of every encoder."""

    @pytest.fixture(params=[CLIP, FG_CLIP, FG_CLIP_2, "mini"])
    def encoder(self, request, encoders):
        return encoders[request.param]

    @pytest.fixture
    def texts(self, encoder):
        return ["red", "a red circle", "blue"] if encoder.name == "mini" else TEXTS

    def test_it_is_an_encoder(self, encoder):
        assert isinstance(encoder, Encoder)
        assert isinstance(encoder, ClipEncoder | FgClip2Encoder)
        assert (encoder.device, encoder.dtype) == (torch.device("cpu"), torch.float32)
        assert encoder.side % encoder.patch == 0
        assert encoder.logit_scale > 0

    @pytest.mark.parametrize("fit", ["squash", "keep", "exact"])
    def test_patches_have_unit_length_in_float32_and_cover_their_image(self, encoder, fit):
        for features, image in zip(encoder.encode_images(PICTURES, fit=fit), PICTURES, strict=True):
            assert features.image_hw == image.shape[:2]
            assert features.grid.dtype == torch.float32
            np.testing.assert_allclose(features.grid.norm(dim=-1), 1, atol=1e-5)

    @pytest.mark.parametrize("fit", ["squash", "keep", "exact"])
    def test_images_of_mixed_sizes_together_equal_one_by_one_in_order(self, encoder, fit):
        for features, image in zip(encoder.encode_images(PICTURES, fit=fit), PICTURES, strict=True):
            alone = encoder.encode_images([image], fit=fit)[0].grid
            np.testing.assert_allclose(features.grid, alone, atol=1e-5)

    def test_different_images_have_different_features(self, encoder):
        first, second = encoder.encode_images([PICTURES[1], PICTURES[5]], fit="squash")
        assert (first.grid - second.grid).abs().max() > 1e-3

    def test_batches_stay_within_the_bound_in_patches_and_change_nothing(self, encoder, monkeypatch):
        side, dense, batches = 3 * encoder.patch, encoder._dense, []
        together = encoder.encode_images(PICTURES, side=side)
        monkeypatch.setattr("fgseg.encoders.base.PATCHES_PER_BATCH", 30)  # of images of 9 patches
        monkeypatch.setattr(encoder, "_dense", lambda images, hw: batches.append(len(images)) or dense(images, hw))
        for one, other in zip(encoder.encode_images(PICTURES, side=side), together, strict=True):
            np.testing.assert_allclose(one.grid, other.grid, atol=1e-5)
        assert batches == [3, 3, 1]

    @pytest.mark.parametrize("fit", ["squash", "keep", "exact"])
    @pytest.mark.parametrize("image_hw", [(16, 16), (333, 777), (4000, 50), (50, 4000), (1, 1), (1, 900)])
    def test_an_image_of_any_shape_becomes_a_grid_of_whole_patches(self, encoder, fit, image_hw):
        features = encoder.encode_images([picture(image_hw)], fit=fit)[0]
        grid_hw = tuple(features.grid.shape[:2])
        patch = encoder.patch
        if fit == "squash":
            assert grid_hw == (encoder.side // patch,) * 2
        elif fit == "exact":
            for cells, side in zip(grid_hw, image_hw, strict=True):
                assert cells == 1 or abs(cells * patch - side) <= patch / 2
        elif isinstance(encoder, FgClip2Encoder):
            assert grid_hw[0] * grid_hw[1] <= patch_budget(image_hw)
        else:
            assert min(grid_hw) * patch == encoder.side or max(grid_hw) * patch == 2048

    def test_the_side_argument_is_the_side_of_the_square(self, encoder):
        side = 3 * encoder.patch
        assert encoder.encode_images([PICTURES[1]], side=side)[0].grid.shape[:2] == (3, 3)

    def test_whole_images_have_unit_length_and_keep_their_order(self, encoder):
        together = encoder.embed_images(PICTURES)
        assert together.dtype == torch.float32
        np.testing.assert_allclose(together.norm(dim=-1), 1, atol=1e-5)
        for row, image in zip(together, PICTURES, strict=True):
            np.testing.assert_allclose(row, encoder.embed_images([image])[0], atol=1e-5)

    def test_texts_have_unit_length_and_together_equal_one_by_one_in_order(self, encoder, texts):
        together = encoder.encode_texts(texts)
        assert together.dtype == torch.float32
        assert together.shape == (len(texts), encoder.encode_images(PICTURES[:1])[0].grid.shape[-1])
        np.testing.assert_allclose(together.norm(dim=-1), 1, atol=1e-5)
        for row, text in zip(together, texts, strict=True):
            np.testing.assert_allclose(row, encoder.encode_texts([text])[0], atol=1e-5)

    def test_batches_of_texts_stay_within_the_bound_in_tokens_and_change_nothing(self, encoder, texts, monkeypatch):
        repeated, sizes = [*texts, texts[0]], []
        together = encoder.encode_texts(repeated)
        longest = max(3 * text.count(" ") for text in texts)
        for name, size in (("TOKENS_PER_BATCH", longest), ("TREES_PER_BATCH", 1)):
            monkeypatch.setattr(f"fgseg.encoders.encoder.{name}", size)
        monkeypatch.setattr("fgseg.encoders.encoder.group_texts", partial(group_texts, budget=longest))
        read = encoder.model.text_model.forward if encoder.recipe is None else encoder.model.text_model.shared
        name = "forward" if encoder.recipe is None else "shared"

        def counted(tokens, *rest):
            sizes.append(tokens.shape if encoder.recipe is None else tokens.tokens.shape)
            return read(tokens, *rest)

        monkeypatch.setattr(encoder.model.text_model, name, counted)
        np.testing.assert_allclose(encoder.encode_texts(repeated), together, atol=1e-5)
        assert len(sizes) > 1
        assert all(rows == 1 or rows * length <= longest for rows, length in sizes)

    def test_the_same_input_gives_the_same_bits(self, encoder, texts):
        for encode, given_ in ((encoder.embed_images, PICTURES), (encoder.encode_texts, texts)):
            assert torch.equal(encode(given_), encode(given_))
        grids = [encoder.encode_images(PICTURES[:2])[1].grid for _ in range(2)]
        assert torch.equal(*grids)
        assert encoder.digest() == encoder.digest()

    def test_a_tuple_and_a_generator_give_the_same_as_a_list(self, encoder, texts):
        expected = encoder.encode_images(PICTURES[:2])
        for images in (tuple(PICTURES[:2]), (image for image in PICTURES[:2])):
            for one, other in zip(encoder.encode_images(images), expected, strict=True):
                assert torch.equal(one.grid, other.grid)
        assert torch.equal(encoder.encode_texts(text for text in texts), encoder.encode_texts(texts))

    def test_arguments_are_left_as_they_were_and_may_be_read_only(self, encoder):
        image = picture((20, 30))
        before = image.copy()
        image.setflags(write=False)
        for fit in ("squash", "exact"):
            encoder.encode_images([image, image], fit=fit)
        assert np.array_equal(image, before)

    @pytest.mark.parametrize(
        ("images", "error", "message"),
        [
            (PICTURES[0], OptionError, r"images: expected a list of images, got ndarray of shape \(16, 16, 3\)"),
            (np.zeros((2, 8, 8, 3), np.uint8), OptionError, "images: expected a list of images"),
            (7, OptionError, "images: expected a list of images, got int 7"),
            ([], OptionError, "images: expected at least one image, got none"),
            ("cup.png", ShapeError, r"images\[0\]: expected an RGB image"),
            ([PICTURES[0], PICTURES[0] / 255], ShapeError, r"images\[1\]: expected an RGB image.*float64"),
            ([PICTURES[0][..., 0]], ShapeError, r"images\[0\]: expected an RGB image.*\(16, 16\)"),
            ([np.zeros((0, 4, 3), np.uint8)], ShapeError, r"images\[0\]: .* at least one pixel"),
            ([torch.zeros(8, 8, 3, dtype=torch.uint8)], ShapeError, r"images\[0\]: expected an RGB image"),
        ],
    )
    def test_anything_but_a_list_of_rgb_images_is_refused(self, encoder, images, error, message):
        for encode in (encoder.encode_images, encoder.embed_images):
            with pytest.raises(error, match=message):
                encode(images)

    def test_errors_about_wrong_options_name_the_option(self, encoder, texts):
        with pytest.raises(OptionError, match="fit: expected one of squash, keep, exact, got 'crop'"):
            encoder.encode_images(PICTURES, fit="crop")
        with pytest.raises(OptionError, match=f"side: expected at least one patch, {encoder.patch} pixels, got 4"):
            encoder.encode_images(PICTURES, side=4)
        with pytest.raises(OptionError, match=r"route: expected one of region, short.*got 'box'"):
            encoder.encode_texts(texts, route="box")
        with pytest.raises(PromptError, match="put it into a list"):
            encoder.encode_texts("red")


# how images are fitted


def grid_hw(name, image, **options):
    return tuple(golden_encoder(name).encode_images([image], **options)[0].grid.shape[:2])


@pytest.mark.parametrize(
    ("image_hw", "options", "expected"),
    [
        ((50, 200), {}, (6, 6)),
        ((50, 200), {"side": 40}, (2, 2)),  # 2.5 patches: to the even one
        ((50, 200), {"fit": "keep"}, (6, 24)),
        ((200, 50), {"fit": "keep", "side": 32}, (8, 2)),
        ((100, 6000), {"fit": "keep"}, (2, 128)),  # a long side of 2048 at most: 34 x 2048 pixels
        ((50, 200), {"fit": "keep", "max_side": 96}, (2, 6)),  # 24 x 96 pixels, 1.5 patches: to the even number
        ((50, 200), {"fit": "exact"}, (3, 12)),  # 3.1 and 12.5 patches
        ((7, 9), {"fit": "exact"}, (1, 1)),
    ],
)
def test_clip_grids_have_the_sizes_computed_by_hand(image_hw, options, expected):
    assert grid_hw(CLIP, picture(image_hw), **options) == expected


@pytest.mark.parametrize(
    ("image_hw", "options", "expected"),
    [
        ((50, 200), {}, (8, 8)),
        ((50, 200), {"side": 64}, (4, 4)),
        ((64, 256), {"fit": "keep", "side": 64}, (2, 8)),  # 16 patches as in a square of that side
        ((320, 320), {"fit": "keep"}, (24, 24)),  # 400 patches: the budget is 576
        ((16, 16), {"fit": "keep"}, (11, 11)),  # 1 patch: the budget is 128
        ((50, 200), {"fit": "exact"}, (3, 12)),
    ],
)
def test_fgclip_2_grids_have_the_sizes_computed_by_hand(image_hw, options, expected):
    assert grid_hw(FG_CLIP_2, picture(image_hw), **options) == expected


def test_an_image_of_the_models_native_size_is_not_resized(monkeypatch):
    clip, fgclip2 = golden_encoder(CLIP), golden_encoder(FG_CLIP_2)
    monkeypatch.setattr(pixels, "resize_bicubic", None)
    monkeypatch.setattr(pixels, "resize_bilinear", None)
    assert clip.encode_images([picture((96, 96))])[0].grid.shape[:2] == (6, 6)
    assert fgclip2.encode_images([picture((128, 128))])[0].grid.shape[:2] == (8, 8)


def test_pixels_are_scaled_by_clips_mean_and_deviation():
    image = picture((96, 96))
    pixels = golden_encoder(CLIP)._pixels([image], (96, 96))
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0), (image / 255 - mean) / deviation, atol=1e-6)


def test_squashing_is_pillows_bicubic_resize():
    image = picture((70, 140))
    clip = golden_encoder(CLIP)
    whole = clip.encode_images([image])[0].grid
    np.testing.assert_allclose(clip.encode_images([resize_bicubic(image, (96, 96))])[0].grid, whole, atol=1e-6)


# recipes


def test_the_recipe_of_an_encoder_is_used_by_its_model(tmp_path):
    image = picture((96, 96))
    grids = {}
    for recipe in ("value", "vanilla", "sclip", "naclip", "kk", "clearclip"):
        loaded = load_encoder(str(GOLDEN / FG_CLIP), device="cpu", dtype="float32", recipe=recipe)
        assert loaded.recipe == recipe
        grids[recipe] = loaded.encode_images([image])[0].grid
        with torch.inference_mode():
            raw = loaded.model.dense_features(loaded._pixels([image], (96, 96)), recipe=recipe)[0]
        np.testing.assert_allclose(grids[recipe], torch.nn.functional.normalize(raw, dim=-1), atol=1e-6)
    assert len({tuple(grid.flatten().tolist()) for grid in grids.values()}) == 6


# number format


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
def test_features_are_float32_of_unit_length_for_any_dtype_of_the_computation(tmp_path, name, dtype):
    half = load_encoder(with_tokenizer(tmp_path / name, name), device="cpu", dtype=dtype)
    exact = load_encoder(half.name, device="cpu", dtype="float32")
    for encode in (
        lambda e: e.encode_images([PICTURES[1]], fit="keep")[0].grid,
        lambda e: e.embed_images([PICTURES[1]]),
        lambda e: e.encode_texts(TEXTS),
    ):
        features = encode(half)
        assert features.dtype == torch.float32
        np.testing.assert_allclose(features.norm(dim=-1), 1, atol=1e-5)
        assert torch.cosine_similarity(features, encode(exact), dim=-1).min() > 0.999


@pytest.mark.parametrize("name", [CLIP, FG_CLIP_2])
def test_progress_is_told_how_many_texts_are_encoded(tmp_path, monkeypatch, name):
    monkeypatch.setattr("fgseg.encoders.encoder.TREES_PER_BATCH", 1)
    monkeypatch.setattr("fgseg.encoders.encoder.TOKENS_PER_BATCH", 64)
    told = []
    folder = with_tokenizer(tmp_path / name, name)
    loaded = load_encoder(folder, device="cpu", dtype="float32", progress=lambda *step: told.append(step))
    assert {step for step, _, _ in told} == {"checking model.safetensors"}
    told.clear()
    loaded.encode_texts(["red", "green cup", "blue saucer of the cup"])
    assert {(step, total) for step, _, total in told} == {("encoding texts", 3)}
    done = [count for _, count, _ in told]
    assert (done[0], done[-1]) == (0, 3)
    assert done == sorted(done)
    assert name == CLIP or done == [0, 1, 2, 3]
