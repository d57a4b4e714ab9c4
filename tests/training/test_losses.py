import math

import numpy as np
import pytest
import torch

from fgseg.errors import ShapeError
from fgseg.training.losses import HARD_WEIGHT, REGION_WEIGHT, hard_negative_loss, pair_loss, weighted_sum


def unit_rows(*shape, seed=0):
    values = torch.from_numpy(np.random.RandomState(seed).randn(*shape))
    return torch.nn.functional.normalize(values, dim=-1)


def looped_pair_loss(left, right, scale, ignored=()):
    """Both directions, pair by pair, in plain Python; `ignored` holds pairs (row of left, row of right)."""
    count, total = len(left), 0.0
    cosines = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in right] for one in left]
    for n in range(count):
        across = [scale * cosines[n][m] for m in range(count) if m == n or (n, m) not in ignored]
        down = [scale * cosines[m][n] for m in range(count) if m == n or (m, n) not in ignored]
        for logits in (across, down):
            total += math.log(sum(math.exp(value) for value in logits)) - scale * cosines[n][n]
    return total / (2 * count)


def looped_hard_loss(box, texts, scale):
    """Box by box, caption by caption, in plain Python; None stands for a missing caption."""
    total = 0.0
    for one, captions in zip(box, texts, strict=True):
        logits = [scale * sum(a * b for a, b in zip(one, text, strict=True)) for text in captions if text is not None]
        total += math.log(sum(math.exp(value) for value in logits)) - logits[0]
    return total / len(box)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_pair_loss_equals_two_loops(count):
    left, right = unit_rows(count, 5), unit_rows(count, 5, seed=1)
    loss = float(pair_loss(left, right, torch.tensor(9.0)))
    assert loss == pytest.approx(looped_pair_loss(left.tolist(), right.tolist(), 9.0), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("own", [None, slice(0, 2)])
def test_an_ignored_pair_is_not_a_negative_in_either_direction(own):
    left, right = unit_rows(4, 5), unit_rows(4, 5, seed=1)
    pairs = {(0, 1), (2, 0), (3, 3)}  # one way each; the diagonal cannot be ignored
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    for pair in pairs:
        ignored[pair] = True
    loss = float(pair_loss(left, right, torch.tensor(9.0), own=own, ignored=ignored))
    if own:  # with the share of the other rows
        loss += float(pair_loss(left, right, torch.tensor(9.0), own=slice(2, 4), ignored=ignored))
    assert loss == pytest.approx(looped_pair_loss(left.tolist(), right.tolist(), 9.0, pairs), rel=1e-12)
    assert loss < looped_pair_loss(left.tolist(), right.tolist(), 9.0)


def test_pair_loss_of_an_example_computed_by_hand():
    # Cosines [[1, 0], [0.6, 0.8]] at a temperature of 10.
    left, right = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    across = math.log(1 + math.exp(-10)) + math.log(1 + math.exp(-2))
    down = math.log(1 + math.exp(-4)) + math.log(1 + math.exp(-8))
    assert float(pair_loss(left, right, torch.tensor(10.0))) == pytest.approx((across + down) / 4, rel=1e-6)


def test_pair_loss_is_the_mean_of_two_different_directions():
    left, right = unit_rows(4, 3), unit_rows(4, 3, seed=5)
    scale = torch.tensor(20.0)
    logits, target = scale * left @ right.T, torch.arange(4)
    across, down = (float(torch.nn.functional.cross_entropy(side, target)) for side in (logits, logits.T))
    assert across != pytest.approx(down)
    assert float(pair_loss(left, right, scale)) == pytest.approx((across + down) / 2)


def test_uneven_shares_add_up_to_the_whole_in_value_and_gradient():
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    left, right = unit_rows(6, 4).requires_grad_(), unit_rows(6, 4, seed=1).requires_grad_()
    whole = torch.autograd.grad(pair_loss(left, right, scale.exp()), (left, right, scale))
    spans = (slice(0, 1), slice(1, 1), slice(1, 6))  # processes with one row, none and five rows
    shares = [pair_loss(left, right, scale.exp(), own=span) for span in spans]
    summed = torch.autograd.grad(sum(shares), (left, right, scale))
    torch.testing.assert_close(sum(shares), pair_loss(left, right, scale.exp()), rtol=1e-12, atol=0)
    for expected, got in zip(whole, summed, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


def test_the_temperature_has_the_gradient_of_finite_differences():
    left, right = unit_rows(3, 4), unit_rows(3, 4, seed=2)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: pair_loss(left, right, s), (scale,))


def test_hard_negatives_equal_a_loop_over_boxes_and_captions():
    box, texts = unit_rows(3, 6), unit_rows(3, 11, 6, seed=3)
    expected = looped_hard_loss(box.tolist(), texts.tolist(), 7.0)
    assert float(hard_negative_loss(box, texts, torch.tensor(7.0))) == pytest.approx(expected, rel=1e-12)


def test_a_missing_caption_is_not_counted():
    box, texts = unit_rows(2, 6), unit_rows(2, 4, 6, seed=3)
    is_text = torch.tensor([[True, True, True, True], [True, True, False, False]])
    listed = [texts[0].tolist(), [*texts[1, :2].tolist(), None, None]]
    loss = hard_negative_loss(box, texts, torch.tensor(7.0), is_text=is_text)
    assert float(loss) == pytest.approx(looped_hard_loss(box.tolist(), listed, 7.0), rel=1e-12)


def test_hard_negatives_of_an_example_computed_by_hand():
    # The true caption has cosine 0.6, ten false ones 0: log(1 + 10 exp(-6)).
    box = torch.tensor([[0.6, 0.8, 0.0]])
    texts = torch.tensor([[1.0, 0.0, 0.0]] + [[0.0, 0.0, 1.0]] * 10)[None]
    loss = hard_negative_loss(box, texts, torch.tensor(10.0))
    assert float(loss) == pytest.approx(math.log(1 + 10 * math.exp(-6)), rel=1e-4)  # 1 + x in float32


def test_hard_shares_divide_by_the_boxes_of_all_processes():
    box, texts = unit_rows(3, 6), unit_rows(3, 11, 6, seed=3)
    shares = [hard_negative_loss(box[a:b], texts[a:b], torch.tensor(7.0), total=3) for a, b in ((0, 1), (1, 1), (1, 3))]
    assert float(sum(shares)) == pytest.approx(float(hard_negative_loss(box, texts, torch.tensor(7.0))), rel=1e-12)


def test_a_batch_without_boxes_has_loss_0_and_gradients():
    scale = torch.tensor(2.0, requires_grad=True)
    box, texts = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 11, 4, requires_grad=True)
    loss = pair_loss(box, box, scale) + hard_negative_loss(box, texts, scale)
    loss.backward()
    assert loss.item() == 0
    assert float(scale.grad) == 0


def test_the_weights_are_the_published_ones():
    losses = {
        name: torch.tensor(value) for name, value in (("short", 1.0), ("long", 2.0), ("region", 4.0), ("hard", 8.0))
    }
    assert (REGION_WEIGHT, HARD_WEIGHT) == (0.1, 0.5)
    assert float(weighted_sum(losses)) == pytest.approx(1 + 2 + 0.4 + 4)
    assert float(weighted_sum({name: losses[name] for name in ("short", "long")})) == pytest.approx(3)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"right: expected an array of shape \(2, 3\)"):
        pair_loss(unit_rows(2, 3), unit_rows(3, 3), torch.tensor(1.0))
    with pytest.raises(ShapeError, match=r"texts: expected \(2, K, 3\)"):
        hard_negative_loss(unit_rows(2, 3), unit_rows(3, 11, 3), torch.tensor(1.0))
    with pytest.raises(ShapeError, match=r"is_text: expected an array of shape \(2, 11\)"):
        hard_negative_loss(
            unit_rows(2, 3), unit_rows(2, 11, 3), torch.tensor(1.0), is_text=torch.ones(2, 3, dtype=torch.bool)
        )
