"""The contract of every encoder, how images are fitted, and the device and number format picked."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny_models import (
    CLIP,
    FG_CLIP,
    FG_CLIP_2,
    GOLDEN,
    golden_encoder,
    golden_tensors,
    model_config,
    model_tensors,
    saved_model,
    with_tokenizer,
)

from fgseg.encoders import devices, encoder
from fgseg.encoders.base import Encoder
from fgseg.encoders.encoder import ClipEncoder, FgClip2Encoder
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks.clip import gaussian_window
from fgseg.encoders.networks.fgclip import stretch_positions
from fgseg.encoders.networks.fgclip2 import fit_to_patches, patch_budget, patchify
from fgseg.encoders.networks.prefix_trees import group_texts
from fgseg.errors import DeviceError, OptionError, PromptError, ShapeError, WeightsError
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
    """What holds for every encoder."""

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

    def test_images_are_told_apart(self, encoder):
        first, second = encoder.encode_images([PICTURES[1], PICTURES[5]], fit="squash")
        assert (first.grid - second.grid).abs().max() > 1e-3

    def test_batches_stay_within_the_bound_in_patches_and_change_nothing(self, encoder, monkeypatch):
        side, dense, batches = 3 * encoder.patch, encoder._dense, []
        together = encoder.encode_images(PICTURES, side=side)
        monkeypatch.setattr("fgseg.encoders.encoder.PATCHES_PER_BATCH", 30)  # of images of 9 patches
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

    def test_a_side_that_is_asked_for_is_the_side_of_the_square(self, encoder):
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

    def test_texts_stay_within_the_bound_in_tokens_a_batch_and_that_changes_nothing(self, encoder, texts, monkeypatch):
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

    def test_a_tuple_and_a_generator_are_taken_as_a_list_is(self, encoder, texts):
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
    def test_what_is_no_list_of_rgb_images_is_refused(self, encoder, images, error, message):
        for encode in (encoder.encode_images, encoder.embed_images):
            with pytest.raises(error, match=message):
                encode(images)

    def test_wrong_options_are_refused_by_name(self, encoder, texts):
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
def test_clip_grids_worked_by_hand(image_hw, options, expected):
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
def test_fgclip_2_grids_worked_by_hand(image_hw, options, expected):
    assert grid_hw(FG_CLIP_2, picture(image_hw), **options) == expected


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), budget=st.sampled_from([1, 7, 128, 256, 1024]))
@settings(deadline=None, max_examples=60)
def test_a_naflex_size_is_whole_patches_within_the_budget(height, width, budget):
    fitted = fit_to_patches((height, width), patch=16, max_patches=budget)
    assert all(side >= 16 and side % 16 == 0 for side in fitted)
    assert fitted[0] * fitted[1] <= budget * 256
    assert fit_to_patches((width, height), patch=16, max_patches=budget) == fitted[::-1]


def test_a_naflex_size_needs_a_budget():
    with pytest.raises(OptionError, match="max_patches: expected at least 1, got 0"):
        fit_to_patches((10, 10), patch=16, max_patches=0)


@pytest.mark.parametrize(
    ("count", "budget"),
    [(1, 128), (128, 128), (129, 256), (256, 256), (257, 576), (576, 576), (577, 784), (784, 784), (785, 1024)],
)
def test_the_patch_budget_steps_where_the_published_code_does(count, budget):
    assert patch_budget((16, 16 * count + 15)) == budget  # what is left of a patch does not count


def test_patches_run_row_by_row_and_hold_rows_columns_channels():
    rows, columns, channels = np.meshgrid(range(4), range(6), range(3), indexing="ij")
    patches = patchify((100 * rows + 10 * columns + channels).astype(np.float32), patch=2)
    assert patches.shape == (6, 12)
    assert patches[1].tolist() == [20, 21, 22, 30, 31, 32, 120, 121, 122, 130, 131, 132]
    assert patches[3, 0] == 200


def test_an_image_at_the_models_own_size_goes_in_without_a_resize(monkeypatch):
    clip, fgclip2 = golden_encoder(CLIP), golden_encoder(FG_CLIP_2)
    monkeypatch.setattr(encoder, "resize_bicubic", None)
    monkeypatch.setattr(encoder, "resize_bilinear", None)
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


# recipes, and what a model refuses


def test_the_recipe_of_an_encoder_is_the_models(tmp_path):
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


def test_the_neighbourhood_window_falls_off_with_the_distance_on_a_grid_that_is_not_square():
    window = gaussian_window((2, 3), sigma=2.0)
    for first in range(6):
        for second in range(6):
            squared = (first // 3 - second // 3) ** 2 + (first % 3 - second % 3) ** 2
            assert window[first, second] == pytest.approx(np.exp(-squared / 8), abs=1e-6)


def test_the_long_positions_start_from_the_short_ones_by_the_published_formula():
    table = torch.from_numpy(np.random.RandomState(2).normal(size=(77, 3)).astype(np.float32))
    long = stretch_positions(table)
    assert long.shape == (248, 3)
    assert torch.equal(long[:20], table[:20])
    for i in range(57):
        for j in range(4):
            step = table[21 + i] - table[20 + i] if i < 56 else table[76] - table[75]
            np.testing.assert_allclose(long[20 + 4 * i + j], table[20 + i] + j / 4 * step, atol=1e-6)


def test_clip_refuses_pixels_and_ids_it_cannot_take():
    model = golden_encoder(CLIP).model
    with pytest.raises(ShapeError, match=r"pixel_values: expected an array of shape \(B, 3, H, W\)"):
        model.dense_features(torch.zeros(3, 96, 96))
    with pytest.raises(ShapeError, match=r"pixel_values: expected sides of at least 16, got \(96, 15\)"):
        model.image_features(torch.zeros(1, 3, 96, 15))
    with pytest.raises(OptionError, match="recipe: expected one of value"):
        model.dense_features(torch.zeros(1, 3, 96, 96), recipe="proxy")
    with pytest.raises(ShapeError, match="expected the end token 599 in every row, row 1 has none"):
        model.text_features(torch.tensor([[598, 599], [598, 7]]))
    with pytest.raises(ShapeError, match="input_ids: expected at most 77 tokens on the region route, got 78"):
        model.text_features(torch.tensor([[598, *[7] * 76, 599]]))
    with pytest.raises(ShapeError, match=r"input_ids: expected an array of shape \(T, L\)"):
        model.text_features(torch.tensor([598, 599]))
    with pytest.raises(OptionError, match="route: expected one of region, short, got 'long'"):
        model.limit("long")


def test_fgclip_2_refuses_patches_and_ids_that_do_not_fit():
    model, golden = golden_encoder(FG_CLIP_2).model, golden_tensors(FG_CLIP_2)
    whole = {key: golden[key] for key in ("pixel_values", "spatial_shapes", "pixel_attention_mask")}
    with pytest.raises(ShapeError, match="spatial_shapes: expected at most 40 patches per image"):
        model.dense_features(**{**whole, "spatial_shapes": torch.tensor([[5, 7], [6, 7]])})
    with pytest.raises(ShapeError, match=r"spatial_shapes: expected an array of shape \(2, 2\)"):
        model.image_features(**{**whole, "spatial_shapes": torch.tensor([[5, 7]])})
    with pytest.raises(ShapeError, match=r"pixel_attention_mask: expected an array of shape \(2, 40\)"):
        model.image_features(**{**whole, "pixel_attention_mask": torch.ones(2, 39)})
    with pytest.raises(
        ShapeError, match=r"expected 64 tokens on the short route, got 10; .* pad it to the full length"
    ):
        model.text_features(torch.zeros(1, 10, dtype=torch.long), route="short")
    with pytest.raises(OptionError, match="route: expected one of region, short, long, got 'box'"):
        model.text_features(torch.zeros(1, 64, dtype=torch.long), route="box")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("projection_dim", -3, "projection_dim: expected a whole number of at least 1, got -3"),
        ("projection_dim", float("nan"), "projection_dim: expected a whole number of at least 1, got nan"),
        ("projection_dim", 3.5, "projection_dim: expected a whole number of at least 1, got 3.5"),
    ],
)
def test_a_size_that_no_model_has_is_refused(tmp_path, key, value, message):
    folder = saved_model(tmp_path / "own", model_tensors(CLIP), model_config(CLIP) | {key: value})
    with pytest.raises(WeightsError, match=message):
        load_encoder(folder, device="cpu", dtype="float32")


# device and number format


@pytest.mark.parametrize(("is_fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_bfloat16_where_the_processor_multiplies_it_natively(monkeypatch, is_fast, expected):
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda: is_fast)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or is_fast
    )
    assert devices.pick_dtype("auto", torch.device("cpu")) == expected
    assert devices.pick_dtype("auto", torch.device("cuda")) == expected  # a card that emulates it does not count
    assert devices.pick_dtype("auto", torch.device("mps")) == torch.float32
    assert load_encoder(str(GOLDEN / CLIP), device="cpu").dtype == expected


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_number_format_is_taken_by_name_and_by_torchs_own(name):
    for dtype in (name, getattr(torch, name)):
        assert devices.pick_dtype(dtype, torch.device("cpu")) == getattr(torch, name)


@pytest.mark.parametrize("dtype", ["float64", "int8", torch.float64, "", None])
def test_another_number_format_is_refused(dtype):
    with pytest.raises(DeviceError, match="dtype: expected one of auto, float32, bfloat16, float16, got"):
        load_encoder(str(GOLDEN / CLIP), device="cpu", dtype=dtype)


@pytest.mark.parametrize(
    ("flags", "limit", "is_fast"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16 sse", "", True),
        ("flags : fpu amx_bf16 amx_tile", "", True),
        ("flags : fpu avx2 avx512f avx512_bf16x", "", False),
        ("flags : fpu amx_bf16 avx512_bf16", "AVX512_CORE_VNNI", False),
        ("flags : fpu amx_bf16 avx512_bf16", "avx2", False),
        ("flags : fpu amx_bf16 avx512_bf16", "AVX512_CORE_BF16", True),
    ],
)
def test_native_bfloat16_is_read_from_the_processors_flags_and_what_onednn_may_use(
    monkeypatch, tmp_path, flags, limit, is_fast
):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(devices, "Path", lambda path: {"/proc/cpuinfo": tmp_path / "cpuinfo"}[path])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert devices.has_fast_bfloat16() == is_fast
    (tmp_path / "cpuinfo").unlink()
    assert not devices.has_fast_bfloat16()


@pytest.mark.parametrize(
    ("name", "expected"), [("x86_64", True), ("AMD64", True), ("aarch64", False), ("arm64", False)]
)
def test_the_family_of_the_processor_is_told_by_its_name(monkeypatch, name, expected):
    monkeypatch.setattr(devices.platform, "machine", lambda: name)
    assert devices.is_x86() == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x", "xpu", "", None])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(DeviceError, match=r"device: (expected auto, cpu, cuda, cuda:N or mps, got|.* is not on this)"):
        load_encoder(str(GOLDEN / CLIP), device=device)


def test_the_message_about_a_missing_card_says_what_the_machine_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(
        DeviceError, match=r"'cuda:2' is not on this machine, which has cpu \(1\), cuda \(2\); use device"
    ):
        devices.pick_device("cuda:2")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.pick_device("auto") == torch.device(expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
def test_features_come_in_float32_and_unit_length_whatever_is_computed_in(tmp_path, name, dtype):
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
