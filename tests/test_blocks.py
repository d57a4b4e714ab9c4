import copy
import pickle

import pytest
import torch

from fgseg.encoders import blocks, load_encoder
from fgseg.encoders.blocks import PARTS_FROM, Attention, Linear, Mlp, TowerConfig, attend_in_parts, pack
from fgseg.encoders.processor import has_fast_bfloat16, is_x86

# what inference does otherwise than training: in place, with factors moved into products, with packed weights, with
# attention in parts


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
no_x86 = pytest.mark.skipif(not is_x86(), reason="no processor of the x86 family")
packed = pytest.mark.parametrize(
    "dtype", [pytest.param(torch.bfloat16, marks=no_bfloat16), pytest.param(torch.float32, marks=no_x86)]
)


@packed
def test_packed_weights_give_what_plain_ones_give(dtype):
    mlp, x = quick_mlp(dtype)
    expected = mlp(x).float()
    pack(mlp)
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
    pack(mlp)
    with torch.inference_mode():
        for rows in (3, 7, 7, 1, 3):
            got = mlp(many[:rows]).float()
            torch.testing.assert_close(got, expected[:rows], atol=2**-6 * float(expected.abs().max()), rtol=0)


@packed
def test_weights_are_sorted_once_for_all_numbers_of_rows(dtype):
    mlp, x = quick_mlp(dtype)
    pack(mlp)
    with torch.inference_mode():
        mlp.fc1(x)
        kept = mlp.fc1._packed
        for rows in (3, 7, 1):
            mlp.fc1(x.flatten(0, 1)[:rows])
    assert mlp.fc1._packed is kept


@packed
@pytest.mark.parametrize("change", ["in place", "by data", "replaced"])
def test_packed_weights_follow_the_plain_ones(change, dtype):
    mlp, x = quick_mlp(dtype)
    pack(mlp)
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
    pack(mlp)
    with torch.no_grad():
        for value in range(20):
            mlp.fc1(x)
            for number in (-1, value):  # the first is freed, and the second may get its memory
                mlp.fc1.weight = torch.nn.Parameter(torch.full_like(mlp.fc1.weight, number), requires_grad=False)
            assert torch.equal(mlp.fc1(x), torch.nn.functional.linear(x, mlp.fc1.weight, mlp.fc1.bias))


@packed
def test_a_model_that_has_packed_can_be_copied_and_pickled(dtype):
    mlp, x = quick_mlp(dtype)
    pack(mlp)
    with torch.inference_mode():
        expected = mlp(x)
        for copied in (copy.deepcopy(mlp), pickle.loads(pickle.dumps(mlp))):
            assert torch.equal(copied(x), expected)


@no_x86
def test_what_packed_weights_cannot_do_is_done_the_plain_way():
    mlp, x = quick_mlp(torch.float32)
    expected = mlp(x)
    pack(mlp)
    with torch.inference_mode():
        mlp(x)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(mlp(x).float(), expected, atol=0.05 * float(expected.abs().max()), rtol=0)
        torch.testing.assert_close(mlp.double()(x.double()).float(), expected)


@packed
def test_a_model_packs_all_of_it(dtype):
    model = load_encoder("mini", device="cpu", dtype=dtype).model
    assert all(module.packs for module in model.modules() if isinstance(module, Linear))


def test_a_half_precision_model_packs_nothing():
    mlp, _ = quick_mlp(torch.float16)
    pack(mlp)
    assert not mlp.fc1.packs


@pytest.mark.parametrize("lacking", ["library", "family"])
def test_where_the_products_are_not_served_nothing_is_packed(monkeypatch, lacking):
    mlp, x = quick_mlp(torch.float32)
    if lacking == "library":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    else:
        monkeypatch.setattr(blocks, "is_x86", lambda: False)
    pack(mlp)
    with torch.inference_mode():
        mlp(x)
    assert mlp.fc1._packed is None


# attention in parts


def heads(shape, *, dtype=torch.float32, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("part_bytes", [1, 4 * 9, 4 * 9 * 7, 4 * 9 * 7 * 2, 2**22])  # rows, a head, two heads, all
@pytest.mark.parametrize("batch", [1, 2])
def test_attention_in_parts_is_attention(part_bytes, batch):
    q, k, v = heads((batch, 3, 7, 8)), heads((batch, 3, 9, 8), seed=4), heads((batch, 3, 9, 8), seed=5)
    expected = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v
    got = attend_in_parts(q, k, v, part_bytes=part_bytes)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_attention_in_parts_rounds_scores_and_shares_and_no_more():
    q, k, v = (heads((2, 4, 300, 64), dtype=torch.bfloat16, seed=seed) for seed in range(3))
    exact = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    fused = (torch.nn.functional.scaled_dot_product_attention(q, k, v) - exact).norm()
    parts = (attend_in_parts(q, k, v) - exact).norm()
    assert parts < 2.5 * fused  # which rounds the shares alone


def attention(dtype):
    module = Attention(TowerConfig(64, heads=2, layers=1, mlp_width=8, activation="gelu", epsilon=1e-5)).to(dtype)
    for number, parameter in enumerate(module.parameters()):
        parameter.data = heads(parameter.shape, dtype=dtype, seed=number) / 8
    return module.requires_grad_(False)


@no_bfloat16
@pytest.mark.parametrize("unit", [True, False])
def test_attention_is_in_parts_where_the_processor_has_no_matrix_unit(monkeypatch, unit):
    monkeypatch.setattr(blocks, "has_matrix_unit", lambda: unit)
    seen = []
    monkeypatch.setattr(blocks, "attend_in_parts", lambda q, k, v: seen.append(q.shape) or attend_in_parts(q, k, v))
    module, x = attention(torch.bfloat16), heads((1, PARTS_FROM, 64), dtype=torch.bfloat16)
    expected = module(x).float()
    pack(module)
    with torch.inference_mode():
        got = module(x).float()
    torch.testing.assert_close(got, expected, atol=2**-6 * float(expected.abs().max()), rtol=0)
    assert len(seen) == (not unit)


@pytest.mark.parametrize("case", ["few", "masked", "causal", "float32", "gradients", "autocast"])
def test_attention_is_torchs_own_where_parts_would_not_serve(monkeypatch, case):
    monkeypatch.setattr(blocks, "attend_in_parts", None)  # not to be called
    dtype = torch.float32 if case in {"float32", "autocast"} else torch.bfloat16
    module = attention(dtype)
    module.in_parts = True
    rows = PARTS_FROM - 1 if case == "few" else PARTS_FROM
    x, mask = heads((1, rows, 64), dtype=dtype), torch.ones(rows, rows, dtype=torch.bool)
    with torch.set_grad_enabled(case == "gradients"), torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        module(x, mask=mask if case == "masked" else None, causal=case == "causal")
