import numpy as np
import pytest
import torch

from fgseg.upsample.tensors import as_tensor, float32_tensor, like


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.bool_, ">f4"])
def test_an_array_of_any_dtype_becomes_a_float32_copy(dtype):
    array = np.array([[0, 1]], dtype)
    array.setflags(write=False)
    tensor = float32_tensor(array)
    assert tensor.dtype == torch.float32
    assert tensor.tolist() == [[0, 1]]


def test_a_tensor_is_detached_and_widened_and_as_tensor_leaves_it_alone():
    tensor = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    assert as_tensor(tensor) is tensor
    converted = float32_tensor(tensor)
    assert (converted.dtype, converted.requires_grad) == (torch.float32, False)


def test_as_tensor_copies_an_array_and_keeps_its_dtype():
    array = np.zeros(2)
    as_tensor(array)[0] = 1
    assert array.tolist() == [0, 0]
    assert as_tensor(array).dtype == torch.float64


def test_a_result_is_of_the_kind_of_the_example():
    result = torch.ones(2)
    assert like(result, torch.zeros(1)) is result
    assert isinstance(like(result, np.zeros(1)), np.ndarray)
