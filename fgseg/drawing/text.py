r"""Text as pixels: measured first, drawn second, so that no label is ever cut.

Pillow draws the letters of DejaVu Sans, a font that ships with matplotlib and covers Latin, Greek, Cyrillic,
Arabic, Hebrew, many symbols and some emoji. With Raqm, which Pillow's wheels include, Arabic letters are joined and
right-to-left text is reordered. The Unicode font that is built into OpenCV 5 draws Chinese, Japanese and Korean;
OpenCV 4 has no such font. A character that neither font holds is written as its escape (``\u7ea2``), never as a box
and without a warning.
"""

import math
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "SMALLEST_FONT",
    "font_size_for",
    "font_size_within",
    "line_height",
    "printable",
    "text_block",
    "text_width",
    "wrap_text",
]

DEJAVU = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
ASCENT, DESCENT = 1.12, 0.4
"""Space above and below the baseline in font sizes. DejaVu Sans reaches from -0.391 to 1.068; hinting adds a little."""
SMALLEST_FONT = 13
"""Pixels; the letters of DejaVu Sans run together at smaller sizes."""
LARGEST_FONT = 4096
"""Pixels; reached by a picture of 225,000 pixels."""
SIDE_PER_FONT = 55
"""A picture this many font sizes long shows letters of 18 px when it fills a window of 1,000 px."""
SHORT_SIDE_IN_FONTS = 4
"""A legend of one line takes 2.6 font sizes, less than the height of a picture this many font sizes high."""
INK = 32
"""Grey level of the letters."""


def font_size_for(image_hw: tuple[int, int]) -> int:
    """Font size in pixels that stays readable when a picture of this (height, width) is shown as a whole.

    The size depends on the longer side only; `font_size_within` also depends on the shorter side.

    >>> font_size_for((64, 64)), font_size_for((6000, 8000)), font_size_for((100, 20_000))
    (13, 145, 364)
    """
    return min(LARGEST_FONT, max(SMALLEST_FONT, round(max(image_hw) / SIDE_PER_FONT)))


def font_size_within(image_hw: tuple[int, int]) -> int:
    """As `font_size_for`, but at most a quarter of the shorter side, so that text is not higher than a panorama.

    The size is never below the smallest font size. The bound has no effect up to an aspect ratio of ten.

    >>> font_size_within((64, 64)), font_size_within((6000, 8000)), font_size_within((100, 20_000))
    (13, 145, 25)
    """
    return max(SMALLEST_FONT, min(font_size_for(image_hw), min(image_hw) // SHORT_SIDE_IN_FONTS))


def line_height(font_size: int) -> int:
    """Height in pixels of one line of text of this font size, including accents and descenders.

    >>> line_height(20)
    34
    """
    return _baseline(font_size) + math.ceil(DESCENT * font_size) + 1


def printable(text: str, has_glyph: Callable[[str], bool] | None = None) -> str:
    r"""The text as it will be drawn: one line, with composed characters and escapes for those without a glyph.

    Args:
        text: anything; runs of white space and line ends become one space, invisible joiners are dropped.
        has_glyph: whether a character can be drawn; None asks the fonts of this module.

    >>> printable(" red\n cup \U000e0042\x07")
    'red cup \\x07'
    """
    composed = " ".join(unicodedata.normalize("NFC", text).split())
    visible = [c for c in composed if unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f"]
    has_glyph = has_glyph or _has_glyph
    return "".join(c if has_glyph(c) else c.encode("unicode_escape").decode("ascii") for c in visible)


@lru_cache(maxsize=4096)
def text_width(text: str, font_size: int) -> int:
    """Width in pixels of one line of printable text at this font size.

    >>> text_width("wide", 20) < text_width("wider", 20)
    True
    """
    return int(text_coverage(text, font_size).shape[1])


def text_coverage(text: str, font_size: int) -> NDArray[np.uint8]:
    """Draw one line of text as coverage.

    Args:
        text: as `printable` returns it.
        font_size: in pixels.

    Returns:
        (line_height(font_size), W) uint8: 0 paper, 255 ink. The baseline is at the same row for every text.

    >>> text_coverage("cup", 20).shape[0] == line_height(20)
    True
    """
    runs = [np.zeros((line_height(font_size), 1), np.uint8)]
    for in_dejavu, characters in groupby(text, key=_in_dejavu):
        draw = _dejavu_ink if in_dejavu else _opencv_ink
        runs.append(draw("".join(characters), font_size))
    return np.hstack(runs)


def wrap_text(text: str, font_size: int, max_width: int) -> tuple[str, ...]:
    """Break text into lines no wider than `max_width`: at spaces, and inside a word that is wider than a line.

    Args:
        text: anything; it is passed through `printable`.
        font_size: in pixels.
        max_width: in pixels; a single character that is wider gets a line of its own.

    Returns:
        At least one line. Together the lines hold every character except the spaces at the breaks.

    >>> wrap_text("a red cup", 20, 60)
    ('a red', 'cup')
    """
    lines = [""]
    for word in printable(text).split(" "):
        # A word that is too long for any line starts on the current line and is broken inside.
        pieces = [word] if text_width(word, font_size) <= max_width else word
        space = " " if lines[-1] else ""
        for piece in pieces:
            joined = lines[-1] + space + piece
            if lines[-1] and text_width(joined, font_size) > max_width:
                lines.append(piece)
            else:
                lines[-1] = joined
            space = ""
    return tuple(lines)


def text_block(text: str, font_size: int, max_width: int) -> NDArray[np.uint8]:
    """Draw wrapped text in dark grey on white.

    Args:
        text: anything; wrapped by `wrap_text`.
        font_size: in pixels.
        max_width: in pixels.

    Returns:
        (H, W, 3) uint8 RGB, as large as the lines need.

    >>> text_block("a red cup", 20, 60).shape[0] == 2 * line_height(20)
    True
    """
    lines = [text_coverage(line, font_size) for line in wrap_text(text, font_size, max_width)]
    width = max(line.shape[1] for line in lines)
    ink = np.vstack([np.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines])
    grey = 255 - (ink.astype(np.uint16) * (255 - INK) + 127) // 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _baseline(font_size: int) -> int:
    """Rows of a line above the baseline."""
    return math.ceil(ASCENT * font_size) + 2


@cache
def _dejavu_characters() -> frozenset[int]:
    """The code points that DejaVu Sans holds; Pillow cannot tell."""
    return frozenset(FT2Font(str(DEJAVU)).get_charmap())


def _in_dejavu(character: str) -> bool:
    return ord(character) in _dejavu_characters()


def _has_glyph(character: str) -> bool:
    return _in_dejavu(character) or _in_opencv(character)


@cache
def _in_opencv(character: str) -> bool:
    """Whether OpenCV's built-in font holds the character; it draws a question mark in place of those it lacks."""
    # OpenCV 5.0 crashes the process on a lone surrogate.
    if not hasattr(cv2, "FontFace") or unicodedata.category(character) == "Cs":
        return False
    ink = _opencv_ink(character, 32)
    question = _opencv_ink("?", 32)
    return bool(ink.any()) and not np.array_equal(ink, question)


@lru_cache(maxsize=32)
def _dejavu(font_size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(DEJAVU, font_size)


def _dejavu_ink(text: str, font_size: int) -> NDArray[np.uint8]:
    font = _dejavu(font_size)
    # Letters such as j reach left of their origin. Spaces at the ends count in the length, not in the box.
    left, _, right, _ = font.getbbox(text, anchor="ls")
    width = max(right, math.ceil(font.getlength(text))) - min(left, 0)
    canvas = Image.new("L", (int(width), line_height(font_size)))
    ImageDraw.Draw(canvas).text((-min(left, 0), _baseline(font_size)), text, fill=255, font=font, anchor="ls")
    return np.asarray(canvas)


def _opencv_ink(text: str, font_size: int) -> NDArray[np.uint8]:
    font = cv2.FontFace("uni")
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), font, font_size)
    canvas = np.zeros((line_height(font_size), max(1, left + width) + 2), np.uint8)
    cv2.putText(canvas, text, (0, _baseline(font_size)), (255,), font, font_size)
    return canvas
