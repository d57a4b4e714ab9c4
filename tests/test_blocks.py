import copy
import pickle

import pytest
import torch

from fgseg.encoders import blocks, load_encoder
from fgseg.encoders.base import has_fast_bfloat16
from fgseg.encoders.blocks import Linear, Mlp, TowerConfig, pack

# what inference does otherwise than training: in place, with factors moved into products, with packed weights


def quick_mlp(dtype):
    config = TowerConfig(width=32, heads=2, layers=1, mlp_width=64, activation="quick_gelu", epsilon=1e-5)
    mlp = Mlp(config).to(dtype).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for parameter in mlp.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return mlp, torch.randn(2, 7, 32, generator=generator).to(dtype)


def test_quick_gelu_in_one_pass_is_that_of_three():
    mlp, x = quick_mlp(torch.float32)
    expected = mlp(x)  # gradients are on: the plain way
    before = x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(mlp(x), expected, atol=1e-5, rtol=1e-5)  # float32, sums of 64
    assert torch.equal(x, before)


no_bfloat16 = pytest.mark.skipif(not has_fast_bfloat16(), reason="this processor does not multiply bfloat16")
no_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch has no MKL")
packed = pytest.mark.parametrize(
    "dtype", [pytest.param(torch.bfloat16, marks=no_bfloat16), pytest.param(torch.float32, marks=no_mkl)]
)


@packed
def test_packed_weights_give_what_plain_ones_give(dtype):
    mlp, x = quick_mlp(dtype)
    expected = mlp(x).float()
    pack(mlp, dtype)
    with torch.inference_mode():
        got, linear = mlp(x).float(), mlp.fc1(x).float()
    step = 2**-8 if dtype == torch.bfloat16 else 2**-22
    torch.testing.assert_close(got, expected, atol=5 * step * float(expected.abs().max()), rtol=0)  # some of 2^-8 each
    plain = torch.nn.functional.linear(x, mlp.fc1.weight, mlp.fc1.bias).float()
    torch.testing.assert_close(linear, plain, atol=step * float(plain.abs().max()), rtol=0)
    assert None not in (mlp.fc1._packed, mlp.fc2._packed)  # it was they that were multiplied


@packed
def test_packed_weights_serve_any_number_of_rows_in_any_order(dtype):
    mlp, _ = quick_mlp(dtype)
    many = torch.linspace(-2, 2, 7 * 32).reshape(7, 32).to(dtype)
    expected = mlp(many).float()
    pack(mlp, dtype)
    with torch.inference_mode():
        for rows in (3, 7, 7, 1, 3):
            got = mlp(many[:rows]).float()
            torch.testing.assert_close(got, expected[:rows], atol=2**-6 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("dtype", "sorted_for"),
    [
        pytest.param(torch.bfloat16, [blocks._ROWS_EXPECTED], marks=no_bfloat16),
        pytest.param(torch.float32, [3, 7, 3], marks=no_mkl),  # MKL's order is for one number of rows
    ],
)
def test_weights_are_sorted_again_only_where_the_order_is_for_another_number_of_rows(monkeypatch, dtype, sorted_for):
    mlp, x = quick_mlp(dtype)
    pack(mlp, dtype)
    order, seen = blocks._ordered, []
    monkeypatch.setattr(blocks, "_ordered", lambda weight, rows: seen.append(rows) or order(weight, rows))
    with torch.inference_mode():
        for rows in (3, 3, 7, 3):
            mlp.fc1(x.flatten(0, 1)[:rows])
    assert seen == sorted_for


@packed
@pytest.mark.parametrize("change", ["in place", "by data", "replaced"])
def test_packed_weights_follow_the_plain_ones(change, dtype):
    mlp, x = quick_mlp(dtype)
    pack(mlp, dtype)
    with torch.no_grad():
        before = mlp.fc1(x).float()
        if change == "in place":
            mlp.fc1.weight.mul_(2)
            mlp.fc1.bias.mul_(2)
        elif change == "by data":
            mlp.fc1.weight.data, mlp.fc1.bias.data = 2 * mlp.fc1.weight.data, 2 * mlp.fc1.bias.data
        else:
            for name in ("weight", "bias"):
                doubled = 2 * getattr(mlp.fc1, name).detach()
                setattr(mlp.fc1, name, torch.nn.Parameter(doubled, requires_grad=False))
        torch.testing.assert_close(mlp.fc1(x).float(), 2 * before, atol=0, rtol=0)  # a power of two is exact


@packed
def test_packed_weights_are_not_those_of_a_tensor_that_had_the_same_address(dtype):
    mlp, x = quick_mlp(dtype)
    pack(mlp, dtype)
    with torch.no_grad():
        for value in range(20):
            mlp.fc1(x)
            for number in (-1, value):  # the first is freed, and the second may get its memory
                mlp.fc1.weight = torch.nn.Parameter(torch.full_like(mlp.fc1.weight, number), requires_grad=False)
            assert torch.equal(mlp.fc1(x), torch.nn.functional.linear(x, mlp.fc1.weight, mlp.fc1.bias))


@packed
def test_a_model_that_has_packed_can_be_copied_and_pickled(dtype):
    mlp, x = quick_mlp(dtype)
    pack(mlp, dtype)
    with torch.inference_mode():
        expected = mlp(x)
        for copied in (copy.deepcopy(mlp), pickle.loads(pickle.dumps(mlp))):
            assert torch.equal(copied(x), expected)


@no_mkl
def test_what_packed_weights_cannot_do_is_done_the_plain_way():
    mlp, x = quick_mlp(torch.float32)
    expected = mlp(x)
    pack(mlp, torch.float32)
    with torch.inference_mode():
        mlp(x)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(mlp(x).float(), expected, atol=0.05 * float(expected.abs().max()), rtol=0)
        torch.testing.assert_close(mlp.double()(x.double()).float(), expected)


@no_bfloat16
def test_a_bfloat16_model_packs_all_of_it():
    model = load_encoder("mini", device="cpu", dtype="bfloat16").model
    assert all(module.packs for module in model.modules() if isinstance(module, Linear))


@no_mkl
def test_a_float32_model_packs_its_vision_tower():
    model = load_encoder("mini", device="cpu", dtype="float32").model
    towers = [
        [m.packs for m in tower.modules() if isinstance(m, Linear)] for tower in (model.vision_model, model.text_model)
    ]
    assert [{*packs} for packs in towers] == [{True}, {False}]


def test_a_torch_without_the_products_packs_nothing(monkeypatch):
    mlp, x = quick_mlp(torch.float32)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    pack(mlp, torch.float32)
    with torch.inference_mode():
        mlp(x)
    assert mlp.fc1._packed is None
