"""Texts batched as prefix trees: what a tree holds, and that the tower computes from it what it computes from rows."""

from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny_models import CLIP, FG_CLIP, golden_encoder, with_tokenizer

from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks.prefix_trees import build_trees, group_texts
from fgseg.errors import WeightsError

END = 9
ROWS = st.lists(st.lists(st.integers(1, 3), max_size=6).map(lambda row: [*row, END]), min_size=1, max_size=12)


def prefixes(rows):
    return {prefix for row in rows for prefix in accumulate((token,) for token in row)}


@given(ROWS, st.integers(1, 30))
def test_groups_hold_every_text_once_and_as_many_as_the_budget_takes(rows, budget):
    groups = list(group_texts(rows, budget=budget))
    assert sorted(index for group in groups for index in group) == list(range(len(rows)))
    sizes = [len(prefixes([rows[index] for index in group])) for group in groups]
    assert all(size <= budget or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    for size, group, following in zip(sizes, groups, groups[1:], strict=False):
        with_next = len(prefixes([rows[index] for index in (*group, following[0])]))
        assert with_next > budget or size > budget  # a group ends where the next text would not fit


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_a_tree_holds_every_prefix_once_and_each_text_is_what_its_end_attends_to(groups):
    trees = build_trees(groups)
    places = iter(trees.ends.tolist())
    for number, rows in enumerate(groups):
        mask = trees.mask[number]
        real = len(prefixes(rows))
        assert real <= trees.tokens.shape[1] == max(len(prefixes(group)) for group in groups)
        assert bool(mask.diagonal()[:real].all())
        assert not bool(mask[:real, real:].any())  # nobody attends to padding
        assert bool(mask.any(1).all())  # and padding attends to something: a softmax over nothing is NaN
        for row in rows:
            tree, end = next(places)
            mine = mask[end].nonzero()[:, 0]
            assert tree == number
            assert trees.tokens[number, mine].tolist() == row
            assert trees.depths[number, mine].tolist() == list(range(len(row)))


@pytest.mark.parametrize(("name", "route"), [(CLIP, "region"), (FG_CLIP, "short"), (FG_CLIP, "long")])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
@torch.inference_mode()
def test_the_tower_gives_the_same_for_a_tree_as_for_each_row(name, route, data):
    model = golden_encoder(name).model
    end = model.config.end_token
    body = st.lists(st.integers(0, 4), max_size=min(30, model.limit(route) - 1))
    rows = [[*row, end] for row in data.draw(st.lists(body, min_size=1, max_size=8))]
    groups = list(group_texts(rows, budget=data.draw(st.integers(1, 60))))
    found = model.shared_text_features(build_trees([[rows[index] for index in group] for group in groups]), route=route)
    for feature, index in zip(found, (index for group in groups for index in group), strict=True):
        expected = model.text_features(torch.tensor([rows[index]]), route=route)[0]
        np.testing.assert_allclose(feature, expected, atol=1e-5)


def test_a_text_ends_at_its_first_end_token_and_a_tokenizer_without_an_end_token_is_refused(tmp_path, monkeypatch):
    encoder = load_encoder(with_tokenizer(tmp_path / "own", CLIP), device="cpu", dtype="float32")
    end = encoder.model.config.end_token
    monkeypatch.setattr(encoder.tokenizer, "encode", lambda texts: [[5, 6, end, 7, end], [5, 6, end]])
    once, again = encoder.encode_texts(["one", "two"])
    assert torch.equal(once, again)
    monkeypatch.setattr(encoder.tokenizer, "encode", lambda texts: [[5, 6]])
    with pytest.raises(WeightsError, match=rf"own: the tokenizer ends no text with token {end}, .*eos_token_id"):
        encoder.encode_texts(["one"])
