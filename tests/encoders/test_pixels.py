"""Batches of pixels: Pillow in turn, Pillow in threads, and the same filters in torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny_models import CLIP, FG_CLIP_2, GOLDEN, loaded

from fgseg.encoders import pixels
from fgseg.encoders.pixels import filter_weights, pixel_batch, resize_pixels
from fgseg.errors import OptionError
from fgseg.images.resizing import resize_bicubic, resize_bilinear

CPU = torch.device("cpu")
BY_PILLOW = {"bicubic": resize_bicubic, "bilinear": resize_bilinear}
SIDES = st.integers(1, 40)


def picture(image_hw, seed=0, kind="noise"):
    random = np.random.RandomState(seed)
    if kind == "black and white":  # so that bicubic overshoots on both ends
        return (255 * random.randint(0, 2, (*image_hw, 3))).astype(np.uint8)
    return random.randint(0, 256, (*image_hw, 3)).astype(np.uint8)


@pytest.mark.parametrize("filter_", BY_PILLOW)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["noise", "black and white"]), *[SIDES] * 4)
@settings(deadline=None)
def test_a_product_of_matrices_gives_pillows_values(filter_, seed, kind, height, width, new_height, new_width):
    image = picture((height, width), seed, kind)
    found = resize_pixels(torch.from_numpy(image)[None], (new_height, new_width), filter=filter_)
    np.testing.assert_array_equal(found[0], BY_PILLOW[filter_](image, (new_height, new_width)))


@pytest.mark.parametrize("filter_", BY_PILLOW)
@pytest.mark.parametrize("image_hw", [(480, 640), (333, 1001), (224, 500), (97, 131)])
def test_photographs_of_usual_sizes_are_resized_as_by_pillow(filter_, image_hw):
    image = picture(image_hw)
    found = resize_pixels(torch.from_numpy(image)[None], (224, 224), filter=filter_)
    np.testing.assert_array_equal(found[0], BY_PILLOW[filter_](image, (224, 224)))


def test_an_axis_of_the_right_length_is_left_alone(monkeypatch):
    asked = []
    whole = pixels._weights_on
    monkeypatch.setattr(pixels, "_weights_on", lambda *given: asked.append(given[1:3]) or whole(*given))
    resize_pixels(torch.zeros(1, 8, 9, 3, dtype=torch.uint8), (8, 5), filter="bicubic")
    assert asked == [(9, 5)]


def test_weights_of_a_row_add_to_one_and_lie_within_the_filters_reach():
    weights = filter_weights("bicubic", 40, 10)  # a filter of 2 pixels, stretched by 4
    np.testing.assert_allclose(weights.sum(1), 2**22, atol=8)  # each of 17 weights is rounded
    assert (np.count_nonzero(weights, axis=1) <= 17).all()
    assert (weights == np.round(weights)).all()


@pytest.mark.parametrize("resizing", ["pillow", "threads", "device"])
@pytest.mark.parametrize("filter_", BY_PILLOW)
def test_a_batch_holds_each_image_in_order_however_it_is_resized(resizing, filter_):
    images = [picture(size, seed) for seed, size in enumerate([(30, 40), (32, 48), (64, 20), (30, 40)])]
    batch = pixel_batch(images, (32, 48), filter=filter_, resizing=resizing, device=CPU)
    assert (batch.dtype, batch.shape) == (torch.uint8, (4, 32, 48, 3))
    for image, found in zip(images, batch, strict=True):
        np.testing.assert_array_equal(found, BY_PILLOW[filter_](image, (32, 48)))


def test_unknown_places_and_a_device_without_float64_are_refused():
    images = [picture((4, 4))]
    with pytest.raises(OptionError, match="resizing: expected one of pillow, threads, device, got 'gpu'"):
        pixel_batch(images, (2, 2), filter="bicubic", resizing="gpu", device=CPU)
    with pytest.raises(OptionError, match="resizing: expected pillow or threads on mps"):
        pixel_batch(images, (2, 2), filter="bicubic", resizing="device", device=torch.device("mps"))


@pytest.mark.parametrize("name", [CLIP, FG_CLIP_2])
def test_an_encoder_gives_the_same_features_wherever_images_are_resized(name):
    encoder, images = loaded(GOLDEN / name), [picture((50, 70), 1), picture((90, 60), 2)]
    expected = [features.grid for features in encoder.encode_images(images)]
    for resizing in ("threads", "device"):
        encoder.resizing = resizing
        for found, grid in zip(encoder.encode_images(images), expected, strict=True):
            assert torch.equal(found.grid, grid)


def test_another_recipe_of_an_encoder_resizes_at_the_same_place():
    encoder = loaded(GOLDEN / CLIP)
    encoder.resizing = "device"
    assert encoder.with_recipe("kk").resizing == "device"
    assert loaded(GOLDEN / CLIP).resizing == "pillow"


def test_features_of_a_batch_share_no_memory():
    found = loaded(GOLDEN / CLIP).encode_images([picture((96, 96), seed) for seed in range(3)])
    assert len({features.grid.untyped_storage().data_ptr() for features in found}) == 3
    assert all(features.grid.untyped_storage().nbytes() == features.grid.nbytes for features in found)
