import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from fgseg.errors import OptionError, PromptError, ShapeError
from fgseg.similarity import ensemble, patch_scores, unit
from fgseg.types import DenseFeatures

SEEDS = st.integers(0, 2**32 - 1)


def unit_rows(rng, *shape):
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


# patch_scores


def test_scores_of_a_grid_are_the_dot_products_worked_by_hand():
    grid = np.array([[[1, 0], [0.6, 0.8]], [[0, -1], [0.8, 0.6]]])
    text = np.array([[0, 1], [1, 0], [0.6, 0.8]])
    expected = [[[0, 0.8], [-1, 0.6]], [[1, 0.6], [0, 0.8]], [[0.6, 1], [-0.8, 0.96]]]
    np.testing.assert_allclose(patch_scores(grid, text), expected, atol=1e-6)  # float32 of decimal fractions


@given(seed=SEEDS, gh=st.integers(1, 6), gw=st.integers(1, 6), prompts=st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_scores_equal_a_loop_over_prompts_rows_and_columns(seed, gh, gw, prompts):
    rng = np.random.RandomState(seed)
    grid, text = unit_rows(rng, gh, gw, 5), unit_rows(rng, prompts, 5)
    scores = patch_scores(grid, text)
    assert scores.shape == (prompts, gh, gw)
    for t, row, column in np.ndindex(scores.shape):
        expected = sum(float(a) * float(b) for a, b in zip(text[t], grid[row, column], strict=True))
        assert abs(scores[t, row, column] - expected) < 1e-6  # float32, 5 products
    assert np.abs(scores).max() <= 1


def test_scores_have_the_kind_of_the_features_and_are_float32():
    rng = np.random.RandomState(5)
    grid, text = unit_rows(rng, 3, 4, 8), unit_rows(rng, 2, 8)
    from_array = patch_scores(grid.astype(np.float16), torch.from_numpy(text))
    from_tensor = patch_scores(torch.from_numpy(grid).bfloat16(), text)
    from_features = patch_scores(DenseFeatures(torch.from_numpy(grid), (30, 40)), text)
    assert isinstance(from_array, np.ndarray)
    assert from_array.dtype == np.float32
    assert from_tensor.dtype == from_features.dtype == torch.float32
    np.testing.assert_allclose(from_features, patch_scores(grid, text), atol=1e-6)
    np.testing.assert_allclose(from_tensor, from_features, atol=2e-2)  # bfloat16 keeps 8 bits


def test_features_that_check_themselves_are_not_checked_again(monkeypatch):
    looked_at = []
    monkeypatch.setattr("fgseg.similarity._check_unit", lambda name, rows: looked_at.append(name))
    grid, text = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0.0, 1.0]])
    patch_scores(DenseFeatures(grid, (1, 1)), text)
    patch_scores(grid, text)
    assert looked_at == ["text", "features", "text"]


def test_read_only_features_are_accepted_and_not_changed():
    rng = np.random.RandomState(6)
    grid = unit_rows(rng, 2, 2, 3)
    grid.setflags(write=False)
    before = grid.copy()
    patch_scores(grid, unit_rows(rng, 1, 3))
    np.testing.assert_array_equal(grid, before)


def test_text_of_another_width_is_refused_with_what_to_do():
    grid, text = np.array([[[1.0, 0.0]]]), np.array([[1.0, 0.0, 0.0]])
    with pytest.raises(ShapeError, match=r"text: expected .* \(T, 2\), got .*\(1, 3\).*with the same model"):
        patch_scores(grid, text)


@pytest.mark.parametrize(
    ("grid", "text", "message"),
    [
        (np.ones((2, 2)), np.ones((1, 2)), r"features: expected .*\(Gh, Gw, D\)"),
        (np.ones((1, 1, 2)), np.array([[1.0, 0.0]]), r"features: .*unit length.*1 rows that are not.*unit"),
        (np.array([[[1.0, 0.0]]]), np.array([[3.0, 4.0]]), r"text: .*unit length"),
        (np.array([[[np.nan, 0.0]]]), np.array([[1.0, 0.0]]), r"features: .*unit length"),
        (np.array([[[1.0, 0.0]]]), np.ones((0, 2)), r"text: expected at least one row"),
    ],
)
def test_features_and_texts_that_are_not_unit_rows_are_refused(grid, text, message):
    with pytest.raises(ShapeError, match=message):
        patch_scores(grid, text)


# unit


@given(seed=SEEDS, axes=st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_unit_rows_have_length_one_and_keep_their_direction(seed, axes):
    rng = np.random.RandomState(seed)
    rows = rng.normal(size=[3] * axes) * 10 ** rng.uniform(-2, 3)
    result = unit(rows)
    assert result.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(result, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(result, rows / np.linalg.norm(rows, axis=-1, keepdims=True), atol=1e-6)


def test_unit_of_a_tensor_is_a_tensor_without_its_graph():
    result = unit(torch.tensor([[3.0, 4.0]], requires_grad=True))
    assert torch.equal(result, torch.tensor([[0.6, 0.8]]))
    assert not result.requires_grad


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "length 0|got 0 at row 1"),
        (np.array([[[1.0], [2.0]], [[0.0], [1.0]]]), r"row \(1, 0\)"),
        (np.array([[1.0, np.nan]]), "row 0"),
        (np.array([[1.0, np.inf]]), "row 0"),
        (np.float32(3), r"\(\.\.\., D\)"),
    ],
)
def test_a_vector_of_length_zero_is_refused_with_its_row(rows, message):
    with pytest.raises(ShapeError, match=message):
        unit(rows)


# ensemble


def test_templates_of_any_length_have_the_same_weight():
    quiet = ensemble(np.array([[1.0, 0.0], [0.0, 1.0]]), [0, 0])
    loud = ensemble(np.array([[1.0, 0.0], [0.0, 100.0]]), [0, 0])
    np.testing.assert_allclose(quiet, [[0.5**0.5, 0.5**0.5]], atol=1e-6)
    np.testing.assert_array_equal(loud, quiet)


def test_ensembles_are_of_unit_length_and_follow_their_groups_in_any_order():
    rng = np.random.RandomState(8)
    rows, groups = rng.normal(size=(7, 4)), np.array([2, 0, 1, 0, 2, 2, 1])
    result = ensemble(torch.from_numpy(rows), groups)
    for word in range(3):
        mean = np.mean([row / np.linalg.norm(row) for row in rows[groups == word]], axis=0)
        np.testing.assert_allclose(result[word], mean / np.linalg.norm(mean), atol=1e-6)


def test_templates_that_cancel_out_are_refused_with_their_word():
    with pytest.raises(PromptError, match="query word 1 cancel out"):
        ensemble(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -3.0]]), [0, 1, 1])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0], "groups: expected 2 indexes"),
        ([0, 2], "none for query word 1"),
        ([0, -1], "groups: expected 2 indexes from 0"),
        ([0.0, 1.0], "groups: expected 2 indexes"),
    ],
)
def test_groups_that_do_not_fit_the_rows_are_refused(groups, message):
    with pytest.raises(OptionError, match=message):
        ensemble(np.eye(2), groups)


def test_an_ensemble_of_a_row_without_length_names_it():
    with pytest.raises(ShapeError, match="row 1"):
        ensemble(np.array([[1.0, 0.0], [0.0, 0.0]]), [0, 0])
    with pytest.raises(ShapeError, match=r"rows: expected .*\(R, D\)"):
        ensemble(np.ones(3), [0, 0, 0])


def test_a_group_far_beyond_the_rows_is_a_word_without_a_row_and_takes_no_memory():
    with pytest.raises(OptionError, match="groups: expected a row for each query word, got none for query word 1"):
        ensemble(np.eye(2), [0, 10**12])
