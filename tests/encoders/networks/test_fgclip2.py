"""NaFlex sizes and patches, and the inputs that FG-CLIP 2 refuses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny_models import FG_CLIP_2, golden_encoder, golden_tensors

from fgseg.encoders.networks.fgclip2 import fit_to_patches, patch_budget, patchify
from fgseg.errors import OptionError, ShapeError


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), budget=st.sampled_from([1, 7, 128, 256, 1024]))
@settings(deadline=None, max_examples=60)
def test_a_naflex_size_is_whole_patches_within_the_budget(height, width, budget):
    fitted = fit_to_patches((height, width), patch=16, max_patches=budget)
    assert all(side >= 16 and side % 16 == 0 for side in fitted)
    assert fitted[0] * fitted[1] <= budget * 256
    assert fit_to_patches((width, height), patch=16, max_patches=budget) == fitted[::-1]


def test_a_naflex_size_with_a_budget_of_zero_is_refused():
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
    image = torch.from_numpy(100 * rows + 10 * columns + channels)
    both = patchify(torch.stack([image, image + 1000]), patch=2)
    assert torch.equal(both[1], both[0] + 1000)
    patches = both[0]
    assert patches.shape == (6, 12)
    assert patches[1].tolist() == [20, 21, 22, 30, 31, 32, 120, 121, 122, 130, 131, 132]
    assert patches[3, 0] == 200


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
