import pytest
import torch

from recipes.mini.muon import Muon


@pytest.mark.parametrize("shapes", [[(6, 4), (6, 4), (4, 6)], [(5, 5)] * 3])
def test_muon_updates_matrices_as_torch_does(shapes):
    torch.manual_seed(3)
    ours, theirs = ([torch.nn.Parameter(torch.randn(shape)) for shape in shapes] for _ in range(2))
    with torch.no_grad():
        for one, other in zip(ours, theirs, strict=True):
            other.copy_(one)
    optimizers = Muon(ours, 0.1, 0.05), torch.optim.Muon(theirs, 0.1, 0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_muon_does_not_change_a_matrix_without_gradient():
    still = torch.nn.Parameter(torch.ones(2, 2))
    Muon([still], 0.1, 0.05).step()
    assert (still == 1).all()
