"""COCO's run-length code against pycocotools' own encoder."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fgseg.errors import OptionError, ShapeError
from fgseg.formats.coco import decode_mask, encode_mask
from fgseg.regions.run_lengths import run_lengths


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_a_mask_is_the_same_after_its_code(mask):
    decoded = decode_mask(encode_mask(mask), image_hw=mask.shape)
    assert decoded.dtype == np.bool_
    assert (decoded == mask).all()


def test_long_runs_and_differences_are_read():
    mask = np.zeros((3000, 2000), bool)
    mask[10:2000, 5:1900:3] = True
    assert (decode_mask(encode_mask(mask), image_hw=mask.shape) == mask).all()
    assert run_lengths(encode_mask(mask))[:3].tolist() == [5 * 3000 + 10, 1990, 7010]


@pytest.mark.parametrize("counts", [b"", b"\x00", b"P", b"~~~~"])
@pytest.mark.parametrize("read", [run_lengths, lambda counts: decode_mask(counts, image_hw=(1, 3))])
def test_bytes_that_are_no_code_are_refused(counts, read):
    with pytest.raises(OptionError, match="counts: expected COCO's string of run lengths"):
        read(counts)


@given(st.integers(1, 5), st.integers(1, 5))
def test_a_code_of_another_size_is_refused(height, width):
    with pytest.raises(ShapeError, match=rf"counts: expected runs of {height * width + 1} pixels"):
        decode_mask(encode_mask(np.ones((height, width), bool)), image_hw=(1, height * width + 1))
