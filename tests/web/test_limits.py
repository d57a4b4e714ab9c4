"""What the server accepts, and the messages of its errors."""

import pytest

from fgseg.errors import ImageError, OptionError, PromptError, WeightsError
from fgseg.web.limits import (
    BusyError,
    GoneError,
    LimitError,
    Limits,
    SegmentationRequest,
    explain,
    prompt_lines,
    status_of,
)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (SegmentationRequest(("red",) * 33), "prompts: expected at most 32, got 33; send the rest separately"),
        (SegmentationRequest(("red",), ("blue",) * 33), "negatives: expected at most 32, got 33"),
        (
            SegmentationRequest(("red", "b" * 201)),
            "prompts: expected at most 200 characters per line, got 201 in line 2",
        ),
        (
            SegmentationRequest((",".join("a" * 60),) * 3),
            r"prompts: expected at most 128 words with synonyms and negatives, got 180",
        ),
    ],
)
def test_too_many_or_too_long_prompts_are_refused(wrong, message):
    with pytest.raises(LimitError, match=message):
        Limits().check_request(wrong)


def test_prompts_at_the_limits_are_accepted():
    Limits().check_request(SegmentationRequest(tuple("b" * 200 for _ in range(32)), ("a",) * 32))


def test_the_error_of_a_large_upload_says_both_sizes():
    limits = Limits(upload_bytes=2_000_000)
    limits.check_upload(2_000_000)
    with pytest.raises(LimitError, match=r"image: expected a file of at most 2 MB, got 2\.1 MB; save a smaller file"):
        limits.check_upload(2_100_000)


def test_a_limit_below_one_is_refused():
    with pytest.raises(OptionError, match="in_flight: expected a number from 1"):
        Limits(in_flight=0)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "both"},
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"propagate": "all"},
        {"guide": "facebook/dino-vitb8"},
        {"recipe": "best"},
        {"region_map": "regions.png"},
    ],
)
def test_a_request_refuses_what_it_cannot_take_and_files_of_this_machine(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        SegmentationRequest(("red",), **options)


def test_prompt_lines_drop_white_space_and_empty_lines_and_refuse_other_types():
    assert prompt_lines(" red \r\n\r\n blue, navy\n") == ("red", "blue, navy")
    with pytest.raises(OptionError, match="prompts: expected text with one prompt per line, got list"):
        prompt_lines(["red"])


def test_messages_about_the_request_are_shown_and_others_are_not():
    assert explain(PromptError("prompt 'x'")) == "prompt 'x'"
    assert "log" in explain(WeightsError("/models/secret"))
    statuses = [status_of(e) for e in (LimitError(), BusyError(), GoneError(), ImageError(), KeyError())]
    assert statuses == [413, 503, 404, 400, 500]
