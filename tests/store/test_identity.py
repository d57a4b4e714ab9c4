"""Which settings make a run, and what differs between two."""

import pytest
from stores import CLASSES, identity

from fgseg.errors import OptionError
from fgseg.prompts.classes import PromptClass
from fgseg.store.identity import RunIdentity, Writer


def test_the_key_depends_on_the_settings_and_not_on_their_order_or_kind_of_list():
    one = RunIdentity({"mode": "exclusive", "classes": CLASSES, "words": ("a", "b")})
    other = RunIdentity({"words": ["a", "b"], "classes": CLASSES, "mode": "exclusive"})
    assert one == other
    assert one.key == other.key != identity().key
    assert one.key.startswith("r")
    assert len(one.key) == 12


def test_settings_that_differ_are_named_and_long_values_are_cut():
    now, stored = identity(threshold=0.4, background=["wall"] * 40), identity(dtype="float32")
    lines = now.differences(stored)
    assert lines[:2] == ['dtype: stored "float32", now null', "threshold: stored 0.5, now 0.4"]
    assert lines[2].startswith('background: stored null, now ["wall"')
    assert len(lines[2]) < 100
    assert now.differences(now) == []


def test_classes_come_back_with_their_words_and_colors():
    assert identity().classes == (PromptClass("cup", ("cup", "mug"), (255, 0, 0)), PromptClass("red", ("red",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "both", "classes": CLASSES}, "mode"),
        ({"mode": "exclusive", "classes": []}, "classes"),
        ({"mode": "exclusive", "classes": CLASSES, "threshold": float("nan")}, "JSON"),
        ({"mode": "exclusive", "classes": CLASSES, "device": object()}, "JSON"),
    ],
)
def test_settings_that_make_no_run_are_refused(settings, message):
    with pytest.raises(OptionError, match=message):
        RunIdentity(settings)


def test_a_writer_is_known_by_its_record():
    assert Writer({"host": "a"}).key == Writer({"host": "a"}).key != Writer({"host": "b"}).key
    with pytest.raises(OptionError, match="record: expected values that JSON holds"):
        Writer({"host": object()})
