"""Texts as trees of their beginnings: what a tree holds, and that the tower computes from it what it does from rows."""

from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny_models import CLIP, FG_CLIP, golden_encoder, with_tokenizer

from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks.prefix_trees import plant, tree_runs
from fgseg.errors import OptionError, ShapeError, WeightsError

END = 9
ROWS = st.lists(st.lists(st.integers(1, 3), max_size=6).map(lambda row: [*row, END]), min_size=1, max_size=12)


def beginnings(rows):
    return {part for row in rows for part in accumulate((token,) for token in row)}


@given(ROWS, st.integers(1, 30))
def test_runs_hold_every_text_once_and_as_many_as_the_budget_takes(rows, budget):
    runs = list(tree_runs(rows, budget=budget))
    assert sorted(index for run in runs for index in run) == list(range(len(rows)))
    sizes = [len(beginnings([rows[index] for index in run])) for run in runs]
    assert all(size <= budget or len(run) == 1 for size, run in zip(sizes, runs, strict=True))
    for size, run, following in zip(sizes, runs, runs[1:], strict=False):
        with_next = len(beginnings([rows[index] for index in (*run, following[0])]))
        assert with_next > budget or size > budget  # a run ends where the next text would not fit


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_a_tree_holds_every_beginning_once_and_each_text_is_what_its_end_sees(groups):
    trees = plant(groups)
    places = iter(trees.ends.tolist())
    for number, rows in enumerate(groups):
        seen = trees.seen[number]
        real = len(beginnings(rows))
        assert real <= trees.tokens.shape[1] == max(len(beginnings(group)) for group in groups)
        assert bool(seen.diagonal()[:real].all())
        assert not bool(seen[:real, real:].any())  # nobody sees a filler
        assert bool(seen.any(1).all())  # and a filler sees something: a softmax over nothing is NaN
        for row in rows:
            tree, end = next(places)
            mine = seen[end].nonzero()[:, 0]
            assert tree == number
            assert trees.tokens[number, mine].tolist() == row
            assert trees.depths[number, mine].tolist() == list(range(len(row)))


@pytest.mark.parametrize(("name", "route"), [(CLIP, "region"), (FG_CLIP, "short"), (FG_CLIP, "long")])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
@torch.inference_mode()
def test_the_tower_gives_for_a_tree_what_it_gives_for_each_row(name, route, data):
    model = golden_encoder(name).model
    end = model.config.end_token
    body = st.lists(st.integers(0, 4), max_size=min(30, model.limit(route) - 1))
    rows = [[*row, end] for row in data.draw(st.lists(body, min_size=1, max_size=8))]
    runs = list(tree_runs(rows, budget=data.draw(st.integers(1, 60))))
    found = model.shared_text_features(plant([[rows[index] for index in run] for run in runs]), route=route)
    for feature, index in zip(found, (index for run in runs for index in run), strict=True):
        expected = model.text_features(torch.tensor([rows[index]]), route=route)[0]
        np.testing.assert_allclose(feature, expected, atol=1e-5)


def test_what_the_tower_cannot_take_is_refused():
    model = golden_encoder(FG_CLIP).model
    end = model.config.end_token
    with pytest.raises(ShapeError, match="expected at most 77 tokens on the short route, got 78"):
        model.shared_text_features(plant([[[*range(77), end]]]), route="short")
    with pytest.raises(OptionError, match="route: expected one of region, short, long, got 'box'"):
        model.shared_text_features(plant([[[end]]]), route="box")


def test_a_text_ends_at_its_first_end_token_and_a_tokenizer_without_one_is_refused(tmp_path, monkeypatch):
    encoder = load_encoder(with_tokenizer(tmp_path / "own", CLIP), device="cpu", dtype="float32")
    end = encoder.model.config.end_token
    monkeypatch.setattr(encoder.tokenizer, "encode", lambda texts: [[5, 6, end, 7, end], [5, 6, end]])
    once, again = encoder.encode_texts(["one", "two"])
    assert torch.equal(once, again)
    monkeypatch.setattr(encoder.tokenizer, "encode", lambda texts: [[5, 6]])
    with pytest.raises(WeightsError, match=rf"own: the tokenizer ends no text with token {end}, .*eos_token_id"):
        encoder.encode_texts(["one"])
