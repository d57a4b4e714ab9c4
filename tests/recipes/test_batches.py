import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fgseg.scenes.composition import Thing, is_held_out, phrase_truth, scene
from fgseg.scenes.vocabulary import (
    BASIC_COLORS,
    CLUTTER,
    PATTERNS,
    SHAPES,
    Phrase,
    words,
)
from recipes.mini import batches

RED = (0.9, 0.0, 0.0)


def thing(rgb=RED, second=None, pattern="plain", shape="circle"):
    return Thing(rgb, second or rgb, pattern, shape, Phrase("red", None, shape))


def test_no_phrase_of_a_batch_is_a_held_out_combination():
    phrases = {
        text
        for first in range(0, 40, 8)
        for text in batches.make_batch(batches.BatchSpec(range(first, first + 8), (64, 64))).phrases
    }
    held_out = {
        " ".join(filter(None, (color, None if pattern == "plain" else pattern, shape)))
        for color in BASIC_COLORS
        for pattern in PATTERNS
        for shape in SHAPES
        if is_held_out(color, pattern, shape)
    }
    plain = {text for text in held_out if len(text.split()) == 2}
    # "red circle" is also true of a red striped circle, which is not held out.
    assert not phrases & (held_out - plain)
    assert len(phrases) > 400


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 5_000))
def test_a_narrowed_phrase_is_true_and_of_words_of_the_vocabulary(seed):
    rng = np.random.default_rng(seed)
    item = next(item for item in reversed(scene(seed, (16, 16)).things) if item.shape != CLUTTER)
    phrases = [batches.narrow_phrase(rng, item) for _ in range(20)]
    assert (phrase_truth([item], phrases) == 1).all()
    assert {word for phrase in phrases for word in phrase.text.split()} <= set(words())


def test_the_labels_of_a_batch_are_things_of_the_same_image():
    batch = batches.make_batch(batches.BatchSpec(range(3), (32, 48)))
    assert batch.pixels.shape == (3, 32, 48, 3)
    assert batch.labels.shape == (3, 8 * 12)
    assert batch.phrase_rows.shape == (3, batches.PHRASES)
    assert batch.phrases[0] == "anything else"
    assert (batch.truth[:, 0] == -1).all()
    for row, places in zip(batch.things, batch.labels, strict=True):
        assert set(places.tolist()) <= set(row.tolist()) - {-1}


def test_a_shape_is_pooled_over_its_box_and_a_background_over_its_mask():
    drawn = next(
        one
        for seed in range(100)
        for one in [scene(seed, (64, 64), kind="shapes")]
        if [item.shape in SHAPES for item in one.things] == [False, True] and (one.labels == 1).any(1).sum() > 32
    )
    background, shape = batches._pooling_weights(drawn, 3)[:2].reshape(2, 8, 8)
    rows, columns = np.nonzero(drawn.labels == 1)
    assert shape.sum() == pytest.approx(1, abs=1e-5)
    assert background.sum() == pytest.approx(1, abs=1e-5)
    (top, bottom), (left, right) = (np.nonzero(shape.any(axis))[0][[0, -1]] for axis in (1, 0))
    assert (top, bottom) == (rows.min() // 8, rows.max() // 8)
    assert (left, right) == (columns.min() // 8, columns.max() // 8)
    inner = shape[top + 1 : bottom, left + 1 : right]
    assert inner.size
    assert np.ptp(inner) < 1e-6  # the same weight all over the box, whatever the shape


def test_odd_views_are_mirrored():
    plain, mirrored = (batches.make_batch(batches.BatchSpec(range(2), (16, 24), view)) for view in (0, 1))
    np.testing.assert_array_equal(plain.pixels.flip(2), mirrored.pixels)


def test_a_moved_view_is_mirrored_at_its_edges_and_has_only_visible_things():
    seeds, image_hw, most = range(6), (64, 72), batches.MAX_SHIFT
    batch = batches.make_batch(batches.BatchSpec(seeds, image_hw, 2))
    assert batch.pixels.shape == (6, *image_hw, 3)
    for seed, pixels, labels in zip(seeds, batch.pixels.numpy(), batch.labels, strict=True):
        drawn = scene(seed, image_hw)
        around = [(most, most), (most, most)]
        image, padded = np.pad(drawn.image, [*around, (0, 0)], "symmetric"), np.pad(drawn.labels, around, "symmetric")
        steps = [(y, x) for y in range(2 * most + 1) for x in range(2 * most + 1)]
        (at,) = [(y, x) for y, x in steps if (image[y : y + 64, x : x + 72] == pixels).all()]
        named = {drawn.things[index].phrase.text for index in np.unique(padded[at[0] :, at[1] :][:64, :72])}
        assert {batch.phrases[batch.name_rows[thing]] for thing in labels} <= named


def test_a_batch_of_sheets_has_many_shapes_and_no_captions():
    batch = batches.make_batch(batches.BatchSpec(range(4), (224, 224), kind="sheet"))
    assert batch.captions == ()
    assert (batch.things >= 0).sum(1).min() >= 5


def test_the_attribute_phrases_follow_the_rival():
    batch = batches.make_batch(batches.BatchSpec(range(1), (32, 32)))
    texts = [phrase.text for kind in batches.ATTRIBUTE_PHRASES.values() for phrase in kind]
    assert list(batch.phrases[1 : 1 + len(texts)]) == texts
    assert len(set(batch.phrases)) == len(batch.phrases)


def test_a_view_of_nothing_but_clutter_keeps_all_things():
    things = thing(), thing(shape=CLUTTER)
    labels, kept = batches._visible(np.ones((2, 2), np.int32), things)
    assert kept == things
    assert (labels == 1).all()
    labels, kept = batches._visible(np.zeros((2, 2), np.int32), things)
    assert kept == things[:1]
    labels, kept = batches._visible(np.ones((2, 2), np.int32), things[::-1])
    assert kept == things[:1]
    assert (labels == 0).all()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_each_scene_is_shown_in_every_view_by_one_worker(workers):
    schedule = batches.Schedule(720, 36, 4, 1e-3, workers, views=6, first_seed=100)
    views = {}
    for step, lot in enumerate(map(schedule.spec, range(756))):
        views.setdefault(lot.seeds[0], []).append((step % workers, lot.image_hw, len(lot.seeds), lot.kind, lot.view))
    for shown in views.values():
        assert [view for *_, view in shown] == list(range(6))
        assert len({one[:4] for one in shown}) == 1
    assert list(views) == list(range(100, 604, 4))
    kinds = [(one[0][3], one[0][1]) for one in views.values()]
    stages = [
        (batches.SMALL_STAGE, 0, 30), (batches.LARGE_STAGE, 30, 72),
        (batches.LAST_STAGE, 72, 120), (batches.ATTENTION_STAGE, 120, 126),
    ]  # fmt: skip
    assert kinds == [looks[index % len(looks)] for looks, first, stop in stages for index in range(first, stop)]
    assert [one[0][2] for one in views.values()] == [4 if hw == batches.SMALL else 2 for _, hw in kinds]


def test_the_rate_decays_by_steps_or_by_time_whichever_is_further():
    schedule = batches.Schedule(100, 1000, 4, 1.0)
    assert schedule.rate_at(9) == pytest.approx(0.1)
    assert schedule.rate_at(600) == pytest.approx(0.51)
    assert schedule.rate_at(600, done=0.2) == schedule.rate_at(600)
    assert schedule.rate_at(600, done=1.5) == pytest.approx(0.02)
