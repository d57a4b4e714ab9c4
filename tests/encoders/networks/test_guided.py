"""Attention by a guide, against what the published code of ProxyCLIP and CorrCLIP returns, and plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file
from tiny_models import CLIP, FG_CLIP, FG_CLIP_2, golden_encoder, golden_tensors
from torch.nn import functional as F

from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks import guided
from fgseg.encoders.networks.guided import (
    UNSEGMENTED,
    corr_weights,
    merged_regions,
    mixed,
    nearest,
    proxy_weights,
    resized,
)
from fgseg.errors import OptionError, ShapeError

DATA = Path(__file__).parents[2] / "data" / "guides"
PROXY = load_file(DATA / "proxyclip.safetensors")
CORR = load_file(DATA / "corrclip.safetensors")
CLOSE = {"atol": 1e-5, "rtol": 0}  # float32 sums of 12 layers in another order
ALL = slice(None)


def grid(seed, height, width, channels=6):
    return torch.from_numpy(np.random.RandomState(seed).normal(size=(height, width, channels)).astype(np.float32))


def published_regions(case):
    """The region map on the guide's grid; the published code takes the smallest number for "no region"."""
    regions, guide = CORR[f"{case}.regions"].long(), CORR[f"{case}.guide"]
    regions[regions == regions.min()] = UNSEGMENTED
    return nearest(regions, guide.shape[:2])


@pytest.mark.parametrize("case", ["guide_rect", "rect"])
def test_proxy_attends_as_published(case):
    beta, gamma = PROXY[f"{case}.beta_gamma"].tolist()
    for guide, expected in zip(PROXY[f"{case}.guide"], PROXY[f"{case}.attention"], strict=True):
        weights = proxy_weights(guide.permute(1, 2, 0), beta=beta, gamma=gamma)(ALL)
        np.testing.assert_allclose(weights, expected, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("case", ["square", "guide_rect", "rect"])
def test_proxy_features_are_those_of_the_published_code(case):
    guide = PROXY[f"{case}.guide"].permute(0, 2, 3, 1)
    dense = golden_encoder(CLIP).model.guided_features(PROXY[f"{case}.pixel_values"], recipe="proxy", guide=guide)
    np.testing.assert_allclose(dense, PROXY[f"{case}.dense"], **CLOSE)


@torch.inference_mode()
def test_each_window_of_a_batch_has_its_own_mean():
    """The published code takes one mean over all windows of a batch, which its own runs never have."""
    pixels, guide = PROXY["square.pixel_values"], PROXY["square.guide"].permute(0, 2, 3, 1)
    dense = golden_encoder(CLIP).model.guided_features(pixels, recipe="proxy", guide=guide)
    assert not np.allclose(dense, PROXY["square.dense_joint"], atol=1e-3)


@pytest.mark.parametrize("case", ["square", "rect", "none"])
def test_corr_attends_as_published(case):
    guide = CORR[f"{case}.guide"]
    weights = corr_weights(guide, merged_regions(guide, published_regions(case)))(ALL)
    np.testing.assert_allclose(weights, CORR[f"{case}.attention"], atol=1e-6)


@pytest.fixture(scope="module")
def clip_12():
    """A CLIP of 12 blocks, of which CorrCLIP's middle branch averages five."""
    return load_encoder(str(DATA / "clip_12"), device="cpu", dtype="float32").model


@torch.inference_mode()
@pytest.mark.parametrize("case", ["square", "rect", "none"])
def test_corr_features_are_those_of_the_published_code(clip_12, case):
    pixels, guide, regions = CORR[f"{case}.pixel_values"], CORR[f"{case}.guide"][None], published_regions(case)[None]
    dense = clip_12.guided_features(pixels, recipe="corr", guide=guide, regions=regions)
    np.testing.assert_allclose(dense[0], CORR[f"{case}.dense"], **CLOSE)


@torch.inference_mode()
def test_windows_with_different_regions_share_a_batch_and_change_nothing(clip_12):
    names = ("square", "none")
    pixels = torch.cat([CORR[f"{name}.pixel_values"] for name in names])
    guide = torch.stack([CORR["square.guide"], resized(CORR["none.guide"][None], (12, 12))[0]])
    regions = torch.stack([published_regions("square"), torch.full((12, 12), UNSEGMENTED)])
    for recipe in ("proxy", "corr"):
        together = clip_12.guided_features(pixels, recipe=recipe, guide=guide, regions=regions)
        for index in range(2):
            one = slice(index, index + 1)
            alone = clip_12.guided_features(pixels[one], recipe=recipe, guide=guide[one], regions=regions[one])
            np.testing.assert_allclose(together[one], alone, atol=1e-5)


@torch.inference_mode()
def test_no_region_map_is_one_without_regions(clip_12):
    pixels, guide = CORR["none.pixel_values"], CORR["none.guide"][None]
    dense = clip_12.guided_features(pixels, recipe="corr", guide=guide)
    np.testing.assert_allclose(dense[0], CORR["none.dense"], **CLOSE)


def softmax_of(logits, seen):
    seen[range(len(seen)), range(len(seen))] = True
    weights = np.exp(np.where(seen, logits, -np.inf))
    return weights / weights.sum(1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6), st.booleans())
def test_weights_are_those_of_a_plain_loop_on_any_grid(seed, height, width, has_regions):
    guide = grid(seed, height, width).double()
    rows = guide.flatten(0, 1).numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    mean = cosines.mean()
    expected = softmax_of(3 * (cosines - 1.2 * mean), cosines >= 1.2 * mean)
    np.testing.assert_allclose(proxy_weights(guide)(ALL), expected, atol=1e-5)
    regions = (
        np.random.RandomState(seed).randint(-1, 3, (height, width)) if has_regions else np.full((height, width), -1)
    )
    region = regions.ravel()
    free = (region[:, None] < 0) | (region < 0)
    seen = np.where(free, cosines > mean, region[:, None] == region)
    found = corr_weights(guide, torch.from_numpy(regions))(ALL)
    np.testing.assert_allclose(found, softmax_of(4 * cosines, seen), atol=1e-5)


@pytest.mark.parametrize("values", [1.0, 0.0])
@pytest.mark.parametrize("recipe", ["proxy", "corr"])
def test_a_constant_guide_gives_the_mean_over_the_window(values, recipe):
    guide = torch.full((3, 4, 5), values)
    weights = guided.mixture(recipe, guide, torch.full((3, 4), UNSEGMENTED))
    found = mixed(grid(1, 3, 4).flatten(0, 1), weights)
    np.testing.assert_allclose(found, grid(1, 3, 4).mean((0, 1)).expand(12, -1), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.0, 1e-20, 1.0, 1e20]))
def test_every_row_of_weights_sums_to_one_whatever_the_guide(seed, height, width, size):
    guide = size * grid(seed, height, width)
    guide[0] = 0.0
    regions = torch.from_numpy(np.random.RandomState(seed).randint(-2, 3, (height, width)))
    for recipe in ("proxy", "corr"):
        weights = guided.mixture(recipe, guide, regions)(ALL)
        assert bool((weights >= 0).all())
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


def test_a_guide_that_is_nearly_constant_empties_no_row():
    """With a mean above 1 / 1.2 the published code gives NaN."""
    guide = torch.ones(3, 4, 6) + 0.3 * grid(2, 3, 4)
    rows = F.normalize(guide.flatten(0, 1), dim=-1)
    assert (rows @ rows.T).mean() > 1 / 1.2
    weights = proxy_weights(guide)(ALL)
    np.testing.assert_array_equal(weights, np.eye(12))  # no other patch is 1.2 times as like it as the mean


@pytest.mark.parametrize("recipe", ["proxy", "corr"])
def test_weights_held_in_parts_give_the_same(monkeypatch, recipe):
    guide, values = grid(3, 5, 6), grid(4, 5, 6).flatten(0, 1)
    weights = guided.mixture(recipe, guide, torch.arange(30).reshape(5, 6) // 8 - 1)
    whole = mixed(values, weights)
    np.testing.assert_allclose(whole, weights(ALL) @ values, atol=1e-6)
    monkeypatch.setattr(guided, "_WEIGHTS_AT_ONCE", 70)  # two rows at a time
    np.testing.assert_allclose(mixed(values, weights), whole, atol=1e-6)


def test_regions_that_look_alike_are_joined_also_over_a_third():
    angles = torch.tensor([0.0, 0.6, 1.2, 2.4])  # cosines of neighbours are 0.83, of the first and the third 0.36
    guide = torch.stack([angles.cos(), angles.sin()], 1)[:, None].expand(4, 3, 2)
    regions = torch.tensor([[2, 2, -5], [9, 9, 9], [4, 4, 4], [7, 7, -1]])
    merged = merged_regions(guide, regions)
    assert (merged[regions < 0] == UNSEGMENTED).all()
    assert merged[0, 0] == merged[1, 0] == merged[2, 0] >= 0
    assert merged[3, 0] not in (merged[0, 0], UNSEGMENTED)


def test_the_smallest_region_is_one_like_any_other():
    """The published code takes it for "no region" where every pixel has one."""
    guide = torch.eye(4).reshape(2, 2, 4)
    regions = torch.tensor([[0, 1], [2, 3]])
    assert len(merged_regions(guide, regions).unique()) == 4
    weights = corr_weights(guide, merged_regions(guide, regions))(ALL)
    np.testing.assert_array_equal(weights, np.eye(4))


def test_a_map_without_regions_stays_without():
    regions = torch.tensor([[-1, -3], [-1, -2]])
    assert (merged_regions(grid(5, 2, 2), regions) == UNSEGMENTED).all()


@torch.inference_mode()
def test_fg_clip_keeps_the_residual_and_the_mlp():
    """With a guide that tells every patch from every other, `proxy` is FG-CLIP's own `value` recipe."""
    pixels = golden_tensors(FG_CLIP)["pixel_values"]
    model = golden_encoder(FG_CLIP).model
    value = model.dense_features(pixels)
    rows, columns = value.shape[1:3]
    guide = torch.eye(rows * columns).reshape(1, rows, columns, -1).expand(len(pixels), -1, -1, -1)
    np.testing.assert_allclose(model.guided_features(pixels, recipe="proxy", guide=guide), value, **CLOSE)
    clip = golden_encoder(CLIP).model
    pixels = PROXY["square.pixel_values"]
    guide = torch.eye(36).reshape(1, 6, 6, -1).expand(len(pixels), -1, -1, -1)
    block, (x, _) = clip.vision_model.encoder.layers[-1], clip.vision_model.before_last(pixels)
    values = block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(x[:, 1:])))
    expected = clip.visual_projection(clip.vision_model.post_layernorm(values))
    found = clip.guided_features(pixels, recipe="proxy", guide=guide)
    np.testing.assert_allclose(found.flatten(1, 2), expected, **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize("recipe", ["proxy", "corr"])
def test_fg_clip_2_mixes_the_values_of_its_dense_head(recipe):
    encoder = golden_encoder(FG_CLIP_2)
    model, image = encoder.model, np.random.RandomState(6).randint(0, 256, (48, 80, 3), dtype=np.uint8)
    patches = encoder._patches([image, image], (48, 80))._asdict()
    guides = [grid(7, 3, 5), grid(8, 5, 7)]
    regions = [torch.arange(15).reshape(3, 5) // 4 - 1, torch.arange(35).reshape(5, 7) // 9 - 1]
    found = model.guided_features(**patches, recipe=recipe, guide=guides, regions=regions)
    head, (x, _) = model.dense_feature_head, model.vision_model(encoder._patches([image, image], (48, 80)))
    width = x.shape[-1]
    for index, (guide, region, dense) in enumerate(zip(guides, regions, found, strict=True)):
        assert dense.shape[:2] == guide.shape[:2]
        values = F.linear(
            x[index], head.attention.in_proj_weight[2 * width :], head.attention.in_proj_bias[2 * width :]
        )
        drawn = F.interpolate(values.T.reshape(1, -1, 3, 5), guide.shape[:2], mode="bilinear").flatten(2)[0].T
        y = head.attention.out_proj(guided.mixture(recipe, guide, region)(ALL) @ drawn)
        np.testing.assert_allclose(dense.flatten(0, 1), y + head.mlp(head.layernorm(y)), **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize("name", [CLIP, FG_CLIP, FG_CLIP_2])
def test_own_features_are_a_middle_state_of_the_tower(name):
    encoder = golden_encoder(name)
    image = np.random.RandomState(9).randint(0, 256, (48, 80, 3), dtype=np.uint8)
    (found,) = encoder.own_features([image], [(3, 5)])
    states = []
    layers = encoder.model.vision_model.encoder.layers
    handles = [layer.register_forward_hook(lambda _module, _given, out: states.append(out)) for layer in layers]
    encoder.encode_images([image], fit="exact")
    for handle in handles:
        handle.remove()
    patch_side = encoder.patch
    assert found.shape[:2] == (3, 5) if patch_side == 16 else found.ndim == 3
    np.testing.assert_allclose(found.norm(dim=-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", [CLIP, FG_CLIP])
def test_guides_that_do_not_fit_are_refused(name):
    model, pixels = golden_encoder(name).model, torch.zeros(2, 3, 96, 96)
    with pytest.raises(ShapeError, match=r"guide: expected an array of shape \(2, Hg, Wg, C\)"):
        model.guided_features(pixels, recipe="proxy", guide=torch.zeros(1, 6, 6, 4))
    with pytest.raises(ShapeError, match=r"regions: expected an array of shape \(2, 6, 6\)"):
        model.guided_features(pixels, recipe="corr", guide=torch.zeros(2, 6, 6, 4), regions=torch.zeros(2, 6, 5))
    with pytest.raises(OptionError, match="recipe: expected one of proxy, corr, got 'value'"):
        model.guided_features(pixels, recipe="value", guide=torch.zeros(2, 6, 6, 4))
