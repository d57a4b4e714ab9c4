import numpy as np
from hypothesis import given, settings, strategies as st

from fgseg.scenes.captions import change_phrase, long_caption, random_phrase, short_caption
from fgseg.scenes.composition import scene
from fgseg.scenes.vocabulary import (
    CLUTTER,
    words,
)

few = settings(deadline=None, max_examples=30)


def test_phrases_and_captions_consist_of_words_of_the_vocabulary():
    known, rng = set(words()), np.random.default_rng(11)
    for seed in range(20):
        drawn = scene(seed, (32, 32))
        texts = [short_caption(drawn), long_caption(drawn).replace(" .", "")]
        texts += [random_phrase(rng).text, change_phrase(rng, drawn.things[0].phrase).text]
        assert not {word for text in texts for word in text.split()} - known


@few
@given(seed=st.integers(0, 5_000))
def test_a_changed_phrase_is_another(seed):
    rng = np.random.default_rng(seed)
    item = next(item for item in reversed(scene(seed, (16, 16)).things) if item.shape != CLUTTER)
    other = change_phrase(rng, item.phrase)
    assert other != item.phrase
