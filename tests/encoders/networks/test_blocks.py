import copy
import pickle

import pytest
import torch

from fgseg.encoders.devices import has_fast_bfloat16, is_x86
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks import blocks
from fgseg.encoders.networks.blocks import Linear, Mlp, TowerConfig, pack_weights

# inference differs from training: it works in place, moves factors into products and packs weights


def quick_mlp(dtype):
    config = TowerConfig(width=32, heads=2, layers=1, mlp_width=64, activation="quick_gelu", epsilon=1e-5)
    mlp = Mlp(config).to(dtype).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for parameter in mlp.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return mlp, torch.randn(2, 7, 32, generator=generator).to(dtype)


def test_quick_gelu_in_one_pass_equals_quick_gelu_in_three():
    mlp, x = quick_mlp(torch.float32)
    expected = mlp(x)  # with gradients the plain way is taken
    before = x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(mlp(x), expected, atol=1e-5, rtol=1e-5)  # float32, sums of 64
    assert torch.equal(x, before)


no_bfloat16 = pytest.mark.skipif(not has_fast_bfloat16(), reason="this processor does not multiply bfloat16")
no_x86 = pytest.mark.skipif(not is_x86(), reason="this processor is not of the x86 family")
packed = pytest.mark.parametrize(
    "dtype", [pytest.param(torch.bfloat16, marks=no_bfloat16), pytest.param(torch.float32, marks=no_x86)]
)


@packed
def test_packed_weights_give_the_same_as_plain_weights(dtype):
    mlp, x = quick_mlp(dtype)
    expected = mlp(x).float()
    pack_weights(mlp)
    with torch.inference_mode():
        got, linear = mlp(x).float(), mlp.fc1(x).float()
    step = 2**-8 if dtype == torch.bfloat16 else 2**-22
    torch.testing.assert_close(got, expected, atol=5 * step * float(expected.abs().max()), rtol=0)  # some of 2^-8 each
    plain = torch.nn.functional.linear(x, mlp.fc1.weight, mlp.fc1.bias).float()
    torch.testing.assert_close(linear, plain, atol=step * float(plain.abs().max()), rtol=0)
    assert None not in (mlp.fc1._packed, mlp.fc2._packed)  # the packed weights were used


@packed
def test_packed_weights_serve_any_number_of_rows_in_any_order(dtype):
    mlp, _ = quick_mlp(dtype)
    many = torch.linspace(-2, 2, 7 * 32).reshape(7, 32).to(dtype)
    expected = mlp(many).float()
    pack_weights(mlp)
    with torch.inference_mode():
        for rows in (3, 7, 7, 1, 3):
            got = mlp(many[:rows]).float()
            torch.testing.assert_close(got, expected[:rows], atol=2**-6 * float(expected.abs().max()), rtol=0)


@packed
def test_weights_are_reordered_once_for_all_numbers_of_rows(dtype):
    mlp, x = quick_mlp(dtype)
    pack_weights(mlp)
    with torch.inference_mode():
        mlp.fc1(x)
        kept = mlp.fc1._packed
        for rows in (3, 7, 1):
            mlp.fc1(x.flatten(0, 1)[:rows])
    assert mlp.fc1._packed is kept


@packed
@pytest.mark.parametrize("change", ["in place", "by data", "replaced"])
def test_packed_weights_follow_changes_of_the_plain_weights(change, dtype):
    mlp, x = quick_mlp(dtype)
    pack_weights(mlp)
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
    pack_weights(mlp)
    with torch.no_grad():
        for value in range(20):
            mlp.fc1(x)
            for number in (-1, value):  # the first is freed, and the second may get its memory
                mlp.fc1.weight = torch.nn.Parameter(torch.full_like(mlp.fc1.weight, number), requires_grad=False)
            assert torch.equal(mlp.fc1(x), torch.nn.functional.linear(x, mlp.fc1.weight, mlp.fc1.bias))


@packed
def test_a_model_with_packed_weights_can_be_copied_and_pickled(dtype):
    mlp, x = quick_mlp(dtype)
    pack_weights(mlp)
    with torch.inference_mode():
        expected = mlp(x)
        for copied in (copy.deepcopy(mlp), pickle.loads(pickle.dumps(mlp))):
            assert torch.equal(copied(x), expected)


@no_x86
def test_autocast_and_float64_use_plain_weights():
    mlp, x = quick_mlp(torch.float32)
    expected = mlp(x)
    pack_weights(mlp)
    with torch.inference_mode():
        mlp(x)
        with torch.autocast("cpu", torch.bfloat16):
            cast = mlp(x)
        assert cast.dtype == torch.bfloat16
        torch.testing.assert_close(cast.float(), expected, atol=0.05 * float(expected.abs().max()), rtol=0)
        torch.testing.assert_close(mlp.double()(x.double()).float(), expected)


@packed
def test_every_linear_layer_of_a_model_is_packed(dtype):
    model = load_encoder("mini", device="cpu", dtype=dtype).model
    assert all(dtype in module.packed_dtypes for module in model.modules() if isinstance(module, Linear))


@no_x86  # on other processors torch may lack the operators
@pytest.mark.parametrize(
    ("lacking", "served"),
    [
        ("nothing", {torch.float32, torch.bfloat16}),
        ("library", set()),
        ("family", {torch.bfloat16}),
        ("bfloat16", {torch.float32}),
    ],
)
def test_weights_are_packed_in_the_dtypes_that_the_processor_serves(monkeypatch, lacking, served):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: lacking != "library")
    monkeypatch.setattr(blocks, "is_x86", lambda: lacking != "family")
    monkeypatch.setattr(blocks, "has_fast_bfloat16", lambda: lacking != "bfloat16")
    mlp, _ = quick_mlp(torch.float32)
    pack_weights(mlp)
    assert mlp.fc1.packed_dtypes == served


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_are_multiplied_by_plain_weights_even_when_cast_later(dtype):
    mlp, x = quick_mlp(torch.float32)
    mlp.fc1.packed_dtypes = mlp.fc2.packed_dtypes = frozenset({torch.float32, torch.bfloat16} - {dtype})
    with torch.inference_mode():
        mlp.to(dtype)(x.to(dtype))
    assert mlp.fc1._packed is None


def test_packed_weights_are_used_on_the_cpu_only():
    linear = Linear(4, 4).to("meta")
    linear.packed_dtypes = frozenset({torch.float32})
    with torch.inference_mode():
        assert not linear.takes_packed(torch.empty(2, 4, device="meta"))
        assert not linear.takes_packed(torch.empty(2, 4))
