from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import features

from fgseg.drawing import text as text_module
from fgseg.drawing.text import (
    font_size_for,
    font_size_within,
    line_height,
    printable,
    text_block,
    text_coverage,
    text_width,
    wrap_text,
)

LONG = "a very long prompt that describes a wooden table with a red saucer and a spoon"


@pytest.mark.parametrize("font_size", [13, 20, 64, 145])
def test_capitals_stand_on_the_baseline_and_the_deepest_and_tallest_letters_are_not_cut(font_size):
    baseline = text_module._baseline(font_size)
    capital = np.flatnonzero(text_coverage("A", font_size).any(axis=1))
    # Hinting moves an edge by a pixel at most.
    assert abs(capital[-1] + 1 - baseline) <= 1
    assert abs(len(capital) - 0.73 * font_size) <= 2
    for text in ["Ẳ", "Ễ", "gjpqy", "ڸ", "[|]"]:
        ink = text_coverage(text, font_size)
        assert ink.shape[0] == line_height(font_size)
        assert ink.any()
        assert not ink[0].any()
        assert not ink[-1].any()


def test_every_line_of_wrapped_text_fits_and_no_letter_is_lost():
    for width in [40, 90, 200, 1000]:
        lines = wrap_text(LONG, 16, width)
        assert all(text_width(line, 16) <= width for line in lines)
        assert "".join(lines).replace(" ", "") == LONG.replace(" ", "")


def test_a_word_longer_than_a_line_is_broken_and_starts_on_the_current_line():
    lines = wrap_text("7: " + "m" * 40, 16, 150)
    assert lines[0].startswith("7: m")
    assert "".join(lines) == "7: " + "m" * 40
    assert all(text_width(line, 16) <= 150 for line in lines)


def test_no_line_begins_or_ends_with_a_space():
    assert wrap_text("b mb wwwwww i", 16, 20) == ("b", "m", "b", "w", "w", "w", "w", "w", "w", "i")


def test_a_letter_wider_than_the_line_gets_a_line_of_its_own():
    assert wrap_text("mm", 40, 3) == ("m", "m")


def test_a_block_holds_all_the_ink_of_its_lines():
    block = text_block("a red cup", 20, 60)
    ink = sum(int((text_coverage(line, 20) > 0).sum()) for line in ("a red", "cup"))
    assert int((block[..., 0] < 255).sum()) == ink
    assert (block == block[..., :1]).all()


def test_characters_without_a_glyph_are_escaped_and_joiners_are_dropped():
    assert printable("हि") == "\\u0939\\u093f"
    assert printable("half \ud800") == "half \\ud800"
    assert printable("a\u200db ☂\ufe0f") == "ab ☂"
    assert printable("e\u0301mile\r\n\tis ") == "émile is"
    assert printable("") == ""


def test_chinese_is_drawn_by_opencv_5_and_escaped_with_opencv_4(monkeypatch):
    text_module._in_opencv.cache_clear()
    drawn = printable("red 红")
    assert drawn == ("red 红" if hasattr(cv2, "FontFace") else "red \\u7ea2")
    assert text_coverage(drawn, 20).shape[1] > text_width("red", 20)
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    text_module._in_opencv.cache_clear()
    assert printable("red 红") == "red \\u7ea2"
    text_module._in_opencv.cache_clear()


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow was built without Raqm")
def test_arabic_letters_are_joined_and_hebrew_runs_from_right_to_left():
    assert text_coverage("بب", 20).sum() != 2 * text_coverage("ب", 20).sum()
    assert text_coverage("אא", 20).sum() == 2 * text_coverage("א", 20).sum()
    alef, both = (text_coverage(text, 40) for text in ("א", "בא"))
    # The second letter is to the left of the first.
    np.testing.assert_array_equal(both[:, :20], alef[:, :20])


def test_the_font_grows_with_the_picture_and_never_falls_below_13_pixels():
    sizes = [font_size_for((side, side)) for side in (1, 64, 640, 1280, 8000)]
    assert sizes == [13, 13, 13, 23, 145]


def test_the_font_size_has_an_upper_limit():
    assert font_size_for((400, 300_000)) == 4096
    assert font_size_within((300_000, 300_000)) == 4096


@pytest.mark.parametrize(
    ("image_hw", "font_size"), [((100, 20_000), 25), ((400, 6000), 100), ((400, 300_000), 100), ((1, 10_000), 13)]
)
def test_the_font_size_of_a_panorama_depends_on_its_shorter_side(image_hw, font_size):
    assert font_size_within(image_hw) == font_size_within(image_hw[::-1]) == font_size


@pytest.mark.parametrize("ratio", [1, 4 / 3, 4, 10])
def test_the_shorter_side_has_no_effect_up_to_ten_times_as_long_as_high(ratio):
    for short in range(1, 4000):
        image_hw = short, int(ratio * short)
        assert font_size_within(image_hw) == font_size_within(image_hw[::-1]) == max(13, round(image_hw[1] / 55))


def test_threads_draw_the_same_letters_as_one_thread():
    texts = [f"class {index}" for index in range(16)]
    alone = [text_coverage(text, 20) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: text_coverage(text, 20), texts))
    for first, second in zip(alone, together, strict=True):
        np.testing.assert_array_equal(first, second)
