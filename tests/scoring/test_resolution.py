import pytest
from hypothesis import given, settings, strategies as st

from fgseg.errors import OptionError
from fgseg.scoring.resolution import Resolution, parse_resolution, short_side_hw, whole_image


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("squash", Resolution("squash")),
        ("squash:336", Resolution("squash", 336)),
        ("keep:448", Resolution("keep", 448)),
        ("slide", Resolution("slide")),
        ("slide:448", Resolution("slide", 448)),
        ("slide:448/224/112", Resolution("slide", 448, 224, 112)),
        ("slide:auto/224/112", Resolution("slide", None, 224, 112)),
        ("slide:448/auto/112", Resolution("slide", 448, None, 112)),
    ],
)
def test_a_resolution_is_read_as_on_the_command_line_and_written_the_same(text, expected):
    assert parse_resolution(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    ["", "slid", "slide:", "slide:448/224", "keep:448/224/112", "squash:-3", "slide:1/2/3/4", "keep:٣", "keep: 448"],
)
def test_other_texts_are_refused_with_an_example(text):
    with pytest.raises(OptionError, match=r"resolution: expected a mode and sizes.*slide:336/224/112"):
        parse_resolution(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "stretch"}, "mode: expected one of squash, keep, slide"),
        ({"mode": "keep", "short_side": 0}, "short_side: expected a whole number"),
        ({"mode": "keep", "short_side": 4.5}, "short_side: expected a whole number"),
        ({"mode": "keep", "crop": 224}, 'crop: expected windows only with mode "slide"'),
        ({"mode": "squash", "stride": 2}, 'crop: expected windows only with mode "slide"'),
        ({"mode": "slide", "crop": 4, "stride": 5}, "stride: expected at most the crop, 4, got 5; .*gaps"),
        ({"mode": "keep", "short_side": 500, "max_side": 400}, "short_side: expected at most max_side 400"),
    ],
)
def test_contradictory_resolutions_are_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        Resolution(**arguments)


def test_the_side_of_a_square_may_be_above_max_side():
    assert Resolution("squash", 2240).short_side == 2240


def test_missing_sizes_become_the_encoders_own_and_at_224_those_of_sclip_and_naclip():
    assert Resolution("slide").resolved(224) == Resolution("slide", 336, 224, 112)
    assert Resolution("slide", 448, 100).resolved(224) == Resolution("slide", 448, 100, 50)
    assert Resolution("slide", crop=1).resolved(224) == Resolution("slide", 1, 1, 1)
    assert Resolution("keep").resolved(224) == Resolution("keep", 224)
    assert Resolution("squash", 336).resolved(224) == Resolution("squash", 336)
    assert Resolution("keep", max_side=100).resolved(224) == Resolution("keep", 100, max_side=100)
    assert Resolution("slide", max_side=256).resolved(224) == Resolution("slide", 256, 224, 112, max_side=256)
    assert Resolution("squash", max_side=100).resolved(224) == Resolution("squash", 224, max_side=100)
    with pytest.raises(OptionError, match="native: expected a whole number"):
        Resolution("keep").resolved(0)
    with pytest.raises(OptionError, match="max_side: expected a whole number"):
        Resolution("keep", max_side=None)


# sizes


@pytest.mark.parametrize(
    ("image_hw", "short_side", "expected"),
    [
        ((375, 500), 336, (336, 448)),
        ((500, 375), 336, (448, 336)),
        ((333, 500), 336, (336, 505)),  # 504.50...: half up
        ((1024, 2048), 560, (560, 1120)),
        ((100, 1000), 336, (205, 2048)),  # the long side would pass 2048; 204.8
        ((1, 4000), 336, (1, 2048)),  # 0.512 rounds to 1
        ((1, 9000), 336, (1, 2048)),  # 0.227 rounds to 0, and a side is at least 1
        ((16, 16), 336, (336, 336)),
    ],
)
def test_sizes_are_those_of_the_protocol(image_hw, short_side, expected):
    assert short_side_hw(image_hw, short_side) == expected


@given(image_hw=st.tuples(st.integers(1, 5000), st.integers(1, 5000)), short_side=st.integers(1, 600))
@settings(deadline=None, max_examples=60)
def test_one_side_has_the_given_length_and_a_transposed_image_has_the_transposed_size(image_hw, short_side):
    height, width = short_side_hw(image_hw, short_side, 1000)
    assert min(height, width) == short_side or max(height, width) == 1000
    assert max(height, width) <= 1000
    assert short_side_hw(image_hw[::-1], short_side, 1000) == (width, height)


@pytest.mark.parametrize(
    ("resolution", "whole"),
    [
        ("squash", "squash"),
        ("keep", "keep"),
        ("keep:336", "keep:336"),
        ("slide", "squash"),
        ("slide:448/224/112", "squash"),
    ],
)
def test_a_whole_image_is_squashed_where_windows_would_suit_its_parts(resolution, whole):
    assert whole_image(resolution) == whole
