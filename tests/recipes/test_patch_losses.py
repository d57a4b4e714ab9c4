import math

import numpy as np
import pytest
import torch

from recipes.mini.patch_losses import one_of, patch_choice, patch_presence


@pytest.mark.parametrize(("truth", "expected"), [(1, math.log(2)), (0, 3 * math.log(2)), (-1, 0.0)])
def test_patch_presence_of_pairs_of_one_kind_is_their_mean(truth, expected):
    cosine = torch.zeros(1, 2, 3)
    loss = patch_presence(cosine, cosine[..., 0], torch.full((1, 2, 3), truth), torch.tensor(1.0), negative_weight=3.0)
    assert loss.item() == pytest.approx(expected)


def test_patch_presence_equals_a_loop_over_pairs():
    random = np.random.RandomState(2)
    cosine, rival = torch.from_numpy(random.randn(2, 3, 4)), torch.from_numpy(random.randn(2, 3))
    truth = torch.from_numpy(random.randint(-1, 2, (2, 3, 4)))
    missed, raised = [], []
    for b, n, p in np.ndindex(2, 3, 4):
        margin = 2.0 * float(cosine[b, n, p] - rival[b, n])
        if truth[b, n, p] == 1:
            missed.append(np.log1p(np.exp(-margin)))
        elif truth[b, n, p] == 0:
            raised.append(np.log1p(np.exp(margin)))
    expected = np.mean(missed) + 3.0 * np.mean(raised)
    loss = patch_presence(cosine, rival, truth, torch.tensor(2.0), negative_weight=3.0)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_patch_choice_equals_a_loop_over_points():
    random = np.random.RandomState(3)
    cosine, rival = torch.from_numpy(random.randn(2, 5, 4)), torch.from_numpy(random.randn(2, 5))
    truth = torch.from_numpy(random.randint(-1, 2, (2, 5, 4)))
    truth[0, 0], truth[0, 1] = 0, torch.tensor([0, -1, 0, 0])  # only the rival is right; nobody knows
    weight = torch.from_numpy(random.rand(2, 5))
    total = counted = 0.0
    for b, n in np.ndindex(2, 5):
        worth = {"rival": np.exp(2.0 * float(rival[b, n]))}
        worth |= {p: np.exp(2.0 * float(cosine[b, n, p])) for p in range(4) if truth[b, n, p] >= 0}
        right = [p for p in range(4) if truth[b, n, p] == 1]
        if not right and len(worth) < 5:
            continue
        total -= float(weight[b, n]) * np.log(sum(worth[p] for p in right or ["rival"]) / sum(worth.values()))
        counted += float(weight[b, n])
    loss = patch_choice(cosine, rival, truth, torch.tensor(2.0), weight=weight)
    assert float(loss) == pytest.approx(total / counted, rel=1e-6)


def test_the_scale_has_a_finite_gradient_with_phrases_that_are_not_counted():
    scale = torch.tensor(2.0, requires_grad=True)
    patch_choice(
        torch.ones(1, 1, 2), torch.zeros(1, 1), torch.tensor([[[1, -1]]]), scale, weight=torch.ones(1, 1)
    ).backward()
    assert torch.isfinite(scale.grad)


def test_one_of_equals_a_loop_over_rows():
    random = np.random.RandomState(5)
    cosine, truth = torch.from_numpy(random.randn(40, 4)), torch.from_numpy(random.randint(-1, 2, (40, 4)))
    weight = torch.from_numpy(random.rand(40))
    total = counted = 0.0
    for row in range(40):
        if (truth[row] == 1).sum() != 1:
            continue
        worth = [np.exp(2.0 * float(cosine[row, p])) * float(truth[row, p] >= 0) for p in range(4)]
        total -= float(weight[row]) * np.log(worth[truth[row].tolist().index(1)] / sum(worth))
        counted += float(weight[row])
    assert counted
    assert float(one_of(cosine, truth, torch.tensor(2.0), weight=weight)) == pytest.approx(total / counted, rel=1e-6)


def test_one_of_is_0_where_no_word_is_true():
    assert one_of(torch.ones(2, 3), torch.zeros(2, 3), torch.tensor(1.0), weight=torch.ones(2)) == 0
