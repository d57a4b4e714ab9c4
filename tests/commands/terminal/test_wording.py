"""Messages of the package in the words of the command line."""

import time

import pytest

from fgseg.commands import main as cli
from fgseg.commands.terminal.stopwatch import Stopwatch, duration
from fgseg.commands.terminal.wording import in_options

assert cli  # its import makes all options known


@pytest.mark.parametrize(
    ("message", "worded"),
    [
        ("min_area: expected a number", "--min-area: expected a number"),
        ("prompts: expected at least one", "--prompt: expected at least one"),
        ("prompts[0] and prompts[2]: given twice", "--prompt (number 1) and --prompt (number 3): given twice"),
        ("formats (of an image read by region): wrong", "--format (of an image read by region): wrong"),
        ("a: b; use device='auto'", "a: b; use --device auto"),
        ('a: b (or mode="independent")', "a: b (or --mode independent)"),
        ("a: b; use a smaller batch_size", "a: b; use a smaller --batch-size"),
    ],
)
def test_arguments_are_named_by_their_options(message, worded):
    assert in_options(message) == worded


@pytest.mark.parametrize(
    "message",
    [
        "photos/mode=x/max_hole.png: there is no such file",
        "classes.txt, line 3: expected a word",
        "pets: background: prompt 'giraffe': unknown",
        "model 'nosuch': expected a name",
        "the mode and the threshold fit; short_side=3 is no option",
    ],
)
def test_other_words_stay_as_they_are(message):
    assert in_options(message) == message


def test_a_stopwatch_adds_the_times_of_a_stage():
    clock = Stopwatch()
    for _ in range(2):
        with clock.during("wait"):
            time.sleep(0.01)
    assert list(clock.stages) == ["wait"]
    assert 0.02 <= clock.stages["wait"] <= clock.seconds
    assert str(clock).split()[0] == "wait"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (61.6, "1 min 2 s"), (3599.6, "1 h 0 min")],
)
def test_times_are_in_seconds_minutes_or_hours(seconds, words):
    assert duration(seconds) == words
