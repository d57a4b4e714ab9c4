import pytest
import torch

from fgseg.encoders import load_encoder
from fgseg.encoders.base import has_fast_bfloat16
from fgseg.encoders.blocks import Mlp, TowerConfig, pack

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


packed = pytest.mark.skipif(not has_fast_bfloat16(), reason="this processor does not multiply bfloat16")


@packed
def test_packed_weights_give_what_plain_ones_give():
    mlp, x = quick_mlp(torch.bfloat16)
    expected = mlp(x).float()
    pack(mlp)
    with torch.inference_mode():
        got, linear = mlp(x).float(), mlp.fc1(x).float()
    torch.testing.assert_close(got, expected, atol=0.02 * float(expected.abs().max()), rtol=0)  # some of 2^-8 each
    plain = torch.nn.functional.linear(x, mlp.fc1.weight, mlp.fc1.bias).float()
    torch.testing.assert_close(linear, plain, atol=2**-8 * float(plain.abs().max()), rtol=0)


@packed
@pytest.mark.parametrize("change", ["in place", "by data", "replaced"])
def test_packed_weights_follow_the_plain_ones(change):
    mlp, x = quick_mlp(torch.bfloat16)
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
def test_a_bfloat16_model_packs_and_a_float32_model_does_not():
    for dtype, packs in (("bfloat16", True), ("float32", False)):
        linear = load_encoder("mini", device="cpu", dtype=dtype).model.visual_projection
        assert linear.packs is packs
