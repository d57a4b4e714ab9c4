import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fgseg.encoders import load_encoder
from fgseg.training import mini
from fgseg.training.captions import changed, long_caption, narrowed, random_phrase, short_caption
from fgseg.training.losses import info_nce, patch_choice, patch_presence
from fgseg.training.scenes import Thing, is_held_out, phrase_truth, scene, truth_table
from fgseg.training.vocabulary import BASIC_COLORS, COLOR_NAMES, NAMED_RGB, PATTERNS, SHAPES, Phrase, color_truth, words

RED, BLUE, WHITE = (0.9, 0.0, 0.0), (0.0, 0.0, 0.9), (1.0, 1.0, 1.0)
few = settings(deadline=None, max_examples=30)


def thing(rgb=RED, second=None, pattern="plain", shape="circle"):
    return Thing(rgb, second or rgb, pattern, shape, Phrase("red", None, shape))


# --- colours and words


def test_every_survey_colour_fits_its_own_name():
    names = list(COLOR_NAMES)
    truth = color_truth(np.array([NAMED_RGB[name] for name in names]), names)
    assert (np.diag(truth) == 1).all()


@pytest.mark.parametrize(
    ("rgb", "fits", "denied"),
    [(RED, "red", "green"), (BLUE, "blue", "red"), (WHITE, "white", "black"), ((0.4, 0.25, 0.1), "brown", "blue")],
)
def test_basic_terms_fit_what_people_call_so(rgb, fits, denied):
    assert color_truth(np.array([rgb]), [fits, denied]).tolist() == [[1, 0]]


def test_a_colour_between_two_terms_is_left_open_rather_than_denied():
    between = np.array([[0.8, 0.0, 0.0], [0.95, 0.45, 0.0]]).mean(0)
    assert color_truth(between[None], ["red", "orange"]).min() >= -1
    assert (color_truth(between[None], ["red", "orange"]) != 0).any()


def test_no_coarse_name_is_in_the_vocabulary():
    assert not {"poop", "puke", "vomit", "shit", "snot"} & set(words())


def test_every_phrase_and_caption_is_made_of_known_words():
    known, rng = set(words()), np.random.default_rng(11)
    for seed in range(20):
        drawn = scene(seed, (32, 32))
        texts = [short_caption(drawn), long_caption(drawn).replace(" .", "")]
        first = drawn.things[0]
        texts += [random_phrase(rng).text, narrowed(rng, first).text, changed(rng, first.phrase).text]
        assert not {word for text in texts for word in text.split()} - known


# --- scenes


@few
@given(seed=st.integers(0, 10_000), side=st.sampled_from([(32, 32), (24, 48), (48, 24)]))
def test_a_scene_is_the_same_for_the_same_seed_and_every_pixel_has_an_owner(seed, side):
    one, other = scene(seed, side), scene(seed, side)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.owners, other.owners)
    assert one.image.shape == (*side, 3)
    assert one.image.dtype == np.uint8
    assert 0 <= one.owners.min() <= one.owners.max() < len(one.things)


def test_held_out_combinations_are_never_drawn_for_training_and_always_when_asked_for():
    def held(item):
        return any(
            is_held_out(name, item.pattern, item.shape)
            for name in BASIC_COLORS
            if color_truth(np.array([item.rgb]), [name])[0, 0] == 1
        )

    assert not any(held(item) for seed in range(150) for item in scene(seed, (16, 16)).things)
    assert all(held(scene(seed, (16, 16), held_out=True).things[-1]) for seed in range(30))


def test_about_one_combination_in_twelve_is_held_out():
    every = [(c, p, s) for c in BASIC_COLORS for p in PATTERNS for s in SHAPES]
    assert 0.05 < np.mean([is_held_out(*one) for one in every]) < 0.12


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_somewhere(shape):
    areas = [
        (drawn.owners == index).mean()
        for seed in range(120)
        for drawn in [scene(seed, (32, 32))]
        for index, item in enumerate(drawn.things)
        if item.shape == shape
    ]
    assert max(areas) > 0.01


# --- what is true


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        (Phrase(color="red"), 1),
        (Phrase(color="blue"), 0),
        (Phrase(noun="circle"), 1),
        (Phrase(noun="shape"), 1),
        (Phrase(noun="background"), 0),
        (Phrase("red", "plain", "circle"), 1),
        (Phrase("red", "striped", "circle"), 0),
        (Phrase("red", None, "star"), 0),
    ],
)
def test_a_phrase_is_true_of_a_plain_red_circle(phrase, expected):
    assert phrase_truth([thing()], [phrase]).tolist() == [[expected]]


def test_the_second_colour_of_a_pattern_is_left_open():
    striped = thing(second=WHITE, pattern="striped")
    assert phrase_truth([striped], [Phrase(color="white"), Phrase(color="white", noun="star")]).tolist() == [[-1, 0]]


def test_truth_table_follows_the_owners():
    drawn = scene(5, (32, 32))
    phrases = [item.phrase for item in drawn.things]
    table = truth_table(drawn, phrases)
    assert table.shape == (len(phrases), 32, 32)
    for index in range(len(phrases)):
        assert (table[index][drawn.owners == index] == 1).all()


@few
@given(seed=st.integers(0, 5_000))
def test_narrowed_phrases_stay_true_and_changed_ones_are_not(seed):
    rng = np.random.default_rng(seed)
    item = scene(seed, (16, 16)).things[-1]
    assert phrase_truth([item], [narrowed(rng, item)])[0, 0] == 1
    other = changed(rng, item.phrase)
    assert other != item.phrase


# --- losses


def rows(count, width=5, seed=0):
    values = torch.from_numpy(np.random.RandomState(seed).randn(count, width))
    return torch.nn.functional.normalize(values, dim=-1)


def test_info_nce_equals_two_loops():
    left, right, scale = rows(4), rows(4, seed=1), torch.tensor(3.0)
    total = 0.0
    for n in range(4):
        across = [float(scale * left[n] @ right[m]) for m in range(4)]
        down = [float(scale * left[m] @ right[n]) for m in range(4)]
        total += np.log(np.exp(across).sum()) - across[n] + np.log(np.exp(down).sum()) - down[n]
    assert float(info_nce(left, right, scale)) == pytest.approx(total / 8, rel=1e-12)


def test_an_ignored_pair_is_no_negative_and_the_diagonal_cannot_be_ignored():
    left = rows(2)
    twins = torch.stack([left[0], left[0]])
    ignored = torch.ones(2, 2, dtype=torch.bool)
    assert float(info_nce(twins, twins, torch.tensor(5.0), ignored=ignored)) == pytest.approx(0.0)
    assert float(info_nce(twins, twins, torch.tensor(5.0))) == pytest.approx(np.log(2))


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


def test_patch_choice_equals_a_loop_over_patches():
    random = np.random.RandomState(3)
    cosine = torch.from_numpy(random.randn(2, 5, 4))
    truth = torch.from_numpy(random.randint(-1, 2, (2, 5, 4)))
    parts = []
    for b, n in np.ndindex(2, 5):
        weights = np.exp(2.0 * cosine[b, n].numpy())
        right = weights[(truth[b, n] == 1).numpy()].sum()
        if right:
            parts.append(-np.log(right / weights[(truth[b, n] >= 0).numpy()].sum()))
    assert float(patch_choice(cosine, truth, torch.tensor(2.0))) == pytest.approx(np.mean(parts), rel=1e-6)


# --- the recipe


def test_a_batch_says_of_each_patch_what_owns_it():
    batch = mini.make_batch(range(3), (32, 48))
    assert batch.pixels.shape == (3, 32, 48, 3)
    assert batch.owner.shape == (3, 4 * 6)
    assert batch.own.shape == (3, mini.PHRASES)
    assert batch.phrases[0] == "anything else"
    assert (batch.truth[torch.arange(len(batch.full)), batch.full] == 1).all()
    assert (batch.truth[:, 0] == -1).all()


def test_short_and_long_captions_take_turns():
    routes = [mini.make_batch(range(2 * k, 2 * k + 2), (16, 16)).route for k in range(4)]
    assert routes == ["short", "long", "short", "long"]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(mini, "WIDTH", 16)
    monkeypatch.setattr(mini, "TEXT_CONFIG", {**mini.TEXT_CONFIG, "hidden_size": 16, "intermediate_size": 32,
                                              "num_attention_heads": 2, "num_hidden_layers": 1})  # fmt: skip
    vision = {**mini.CONFIG["vision_config"], "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
              "num_hidden_layers": 2, "image_size": 32}  # fmt: skip
    monkeypatch.setattr(mini, "CONFIG", {**mini.CONFIG, "projection_dim": 16, "vision_config": vision})
    monkeypatch.setattr(mini, "EARLY_SIZES", ((16, 16),))
    monkeypatch.setattr(mini, "LATE_SIZES", ((32, 32),))
    monkeypatch.setattr(mini, "WORKERS", 0)


def test_training_lowers_the_loss_and_leaves_a_model_that_loads(tiny, tmp_path):
    folder = mini.train(tmp_path, images=160, batch_size=4, rate=3e-3)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["choice"] < lines[0]["choice"]
    encoder = load_encoder(str(folder), dtype="float32", device="cpu")
    assert encoder.default_background == ("anything else",)
    assert encoder.encode_texts(["red circle"]).shape == (1, 16)


class Killed(Exception):
    pass


def test_an_interrupted_run_goes_on_to_the_same_weights(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "CHECKPOINT_STEPS", 3)
    whole = mini.train(tmp_path / "whole", images=24, batch_size=4, rate=1e-3)
    steps = iter(range(5))

    def update_until_killed(*arguments, real=mini._update):
        if next(steps) == 4:
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(mini, "_update", update_until_killed)
        with pytest.raises(Killed):
            mini.train(tmp_path / "parts", images=24, batch_size=4, rate=1e-3)
    parts = mini.train(tmp_path / "parts", images=24, batch_size=4, rate=1e-3)
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
