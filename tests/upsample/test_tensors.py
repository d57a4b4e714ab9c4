from types import SimpleNamespace
from unittest.mock import Mock, call

import numpy as np
import pytest
import torch

from fgseg.upsample.tensors import as_tensor, float32_tensor, like, to_device, to_host


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


def test_values_stay_as_they_are_on_the_cpu_and_are_pinned_on_the_way_to_cuda():
    values = torch.arange(3)
    assert to_device(values, torch.device("cpu")) is values
    values, cuda = Mock(), torch.device("cuda:1")
    assert to_device(values, cuda) is values.pin_memory().to.return_value
    values.pin_memory().to.assert_called_once_with(cuda, non_blocking=True)


def test_several_values_reach_the_host_in_one_wait(monkeypatch):
    assert [one.tolist() for one in to_host(torch.ones(1), torch.zeros(1))] == [[1], [0]]
    done, cuda = Mock(), torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: done.stream(device))
    values = [SimpleNamespace(device=cuda, to=getattr(done, name)) for name in ("first", "second")]
    to_host(*values)
    steps = [step for step in done.mock_calls if "numpy" not in str(step)]
    copied = {"non_blocking": True}
    assert steps == [
        call.first("cpu", **copied), call.second("cpu", **copied), call.stream(cuda), call.stream().synchronize()
    ]  # fmt: skip
